"""Every page of the centre, found in its route table: axe finds nothing, a cheap phone shows all, in each language; and the
first load is small."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from fastapi.routing import APIRoute

from hwc_node import web
from sync_protocol.pages.language import LANGUAGES
from tests.browser.conftest import Opening, Watched
from tests.browser.stage import CHO, Stage
from tests.browser.walking import Walk

HOME_BYTES = 120 * 1024
LONG = "Venkatanarasimharajuvaripeta"
PUBLIC = ("/unlock", "/certificate")
WIDTHS = (360, 320)  # a cheap phone; 1280 px at 400 %


@dataclass
class Filled:
    """A window whose centre has something to show on each page."""

    window: Watched
    walk: Walk
    places: dict[str, str]


@pytest.fixture(scope="module")
def places() -> dict[str, str]:
    """Filled once for the module."""
    return {}


@pytest.fixture
def filled(stage: Stage, opening: Opening, places: dict[str, str]) -> Filled:
    window = opening()
    window.unlock(stage.node_url, CHO)
    walk = Walk(window.page, stage.node_url)
    if not places:
        patient = walk.register(f"Lakshmi {LONG}", village=LONG, guardian=LONG, allergies=f"Penicillin, {LONG}")
        case = walk.visit(patient, history=f"{LONG} " * 30, weight_kg="50", systolic_mmhg="120", diastolic_mmhg="80",
                          return_days="1", provisional_diagnosis=LONG)  # fmt: skip
        walk.visit(patient, temperature_c="39")
        referral = walk.refer(patient, case, urgency="urgent", reason=f"{LONG} " * 10)
        walk.send(f"{referral}/message", {"text": f"{LONG} " * 20}, at=referral)
        walk.send(f"{patient}/card", {})
        shown = walk.get(patient).text()
        measured = re.search(r"/vitals/([0-9a-f-]+)/correct", shown)
        assert measured is not None
        places |= {
            "patient": patient.rpartition("/")[2],
            "case": case,
            "referral": referral.rpartition("/")[2],
            "vitals": measured[1],
        }
    return Filled(window, walk, places)


def paths(places: dict[str, str]) -> Iterator[str]:
    """Every page that is asked for, with ids of what is there."""
    for part in web.PARTS:
        for route in part.router.routes:
            if isinstance(route, APIRoute) and "GET" in (route.methods or ()):
                yield filled_in(route.path, places)


def filled_in(path: str, places: dict[str, str]) -> str:
    of_kind = "referral" if path.startswith("/referrals/") else "patient"
    for name, value in (
        ("{name}", places[of_kind]),
        ("{case}", places["case"]),
        ("{kind}", "vitals" if "{kind}/{record}/error" in path else "patient"),
        ("{record}", places["vitals"] if "vitals" in path or "error" in path else places["patient"]),
        ("{field:path}", "name"),
    ):
        path = path.replace(name, value)
    return path


def is_page(walk: Walk, path: str) -> bool:
    """Not a piece of one, a file or a way to another page."""
    answer = walk.get(path)
    assert answer.status in (200, 204, 303, 404), f"{path}: {answer.status}"
    return answer.status == 200 and "text/html" in answer.headers["content-type"] and "<html" in answer.text()


def test_axe_finds_nothing_and_a_phone_shows_all_on_every_page(filled: Filled) -> None:
    page, wide = filled.window.page, []
    looked = [path for path in dict.fromkeys(paths(filled.places)) if path not in PUBLIC and is_page(filled.walk, path)]
    assert len(looked) > 15
    for path in looked:
        assert "{" not in path, f"the walk does not know what to put into {path}"
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 740})
            if width == WIDTHS[0]:
                page.goto(filled.walk.url + path)
                filled.window.look("centre-small" + re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", path).replace("/", "-"))
            wide += [f"{path} at {width} px: {one}" for one in filled.window.too_wide()]
    assert wide == []


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_a_page_is_whole_in_each_language(stage: Stage, opening: Opening, filled: Filled, language: str) -> None:
    window = opening(720, language=language)
    window.unlock(stage.node_url, CHO)
    patient = f"/patients/{filled.places['patient']}"
    for path in ("/", patient, f"{patient}/visit", f"/referrals/{filled.places['referral']}", "/sync", "/register"):
        window.page.goto(stage.node_url + path)
        assert window.page.get_attribute("html", "lang") == language
        kind = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", path).replace("/", "-")
        window.look(f"centre-{language}{kind}")
        assert window.too_wide() == []


def test_the_first_load_of_the_centres_home_is_small(stage: Stage, opening: Opening) -> None:
    """All bytes over the wire, headers among them, with nothing kept from before."""
    window = opening()
    window.unlock(stage.node_url, CHO)
    session = window.page.context.new_cdp_session(window.page)
    session.send("Network.enable")
    session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    received: list[float] = []
    session.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    window.page.goto(stage.node_url, wait_until="networkidle")
    assert len(received) >= 4, "the page, its styles and its two scripts"
    assert sum(received) <= HOME_BYTES
