"""Every page of the centre, found in its route table: axe finds nothing, a cheap phone shows all, in each language; and the
first load is small.

The pages are served by this process, over real HTTP, from a centre that has something to show on each: an answer and a
question of a doctor, a conflict, what the hub refused, an emergency that it has not received.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import uvicorn
from fastapi.routing import APIRoute
from playwright.sync_api import expect

from hwc_node import web
from hwc_node.engine import begin_write
from hwc_node.overview import EMERGENCY_WAITS_MS
from sync_protocol.documents import id_text
from sync_protocol.pages.language import LANGUAGES
from sync_protocol.schema import Writer
from tests.browser.conftest import Opening, Watched
from tests.browser.stage import CHO, Stage
from tests.browser.walking import Walk
from tests.node.enrolled_home import FACILITY, PASSPHRASE, PERSON_NAME, arrive
from tests.node.paged_centre import Centre
from tests.node.referred import REPLY

HOME_BYTES = 120 * 1024
LONG = "Venkatanarasimharajuvaripeta"
PUBLIC = ("/unlock", "/certificate", "/certificate/centre.crt")  # looked at in the story, and where HTTPS is offered
WIDTHS = (360, 320)  # a cheap phone; 1280 px at 400 %
STOP_S = 120


@dataclass
class Filled:
    """A centre with something to show on each page. path: what stands for a part of a page's address."""

    centre: Centre
    url: str
    path: dict[str, str]

    def opened(self, opening: Opening, width: int = 900, language: str = "en-IN") -> Watched:
        """A window of who is in."""
        window = opening(width, language=language)
        window.unlock(self.url, PERSON_NAME, PASSPHRASE)
        return window


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    centre = Centre.begin(tmp_path_factory.mktemp("pages"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(centre.app, log_config=None, proxy_headers=False, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield Filled(centre, f"http://127.0.0.1:{listener.getsockname()[1]}", fill(centre))
        server.should_exit = True
        thread.join(STOP_S)
        assert not thread.is_alive()


def fill(centre: Centre) -> dict[str, str]:
    """A patient whose records have long words everywhere; see the head of this file."""
    window = centre.window_of()
    patient = window.register(f"Lakshmi {LONG}", village=LONG, guardian=LONG, allergies=f"Penicillin, {LONG}")
    case = window.visit(patient, history=f"{LONG} " * 30, weight_kg="50", systolic_mmhg="120", diastolic_mmhg="80",
                        return_days="1", provisional_diagnosis=LONG, plan="rest")  # fmt: skip
    window.visit(patient, temperature_c="39")
    window.refer(patient, case, urgency="emergency", reason=f"{LONG} " * 10)
    referral = window.refer(patient, case, urgency="urgent", reason=f"{LONG} " * 10)
    window.saved(f"{referral}/message", {"text": f"{LONG} " * 20}, page=referral)
    window.saved(f"{patient}/card", {}, page=patient)
    measured = re.search(r"/vitals/([0-9a-f-]+)/correct", window.get(patient).text)
    assert measured is not None
    asked = next(one for one in centre.records("referral") if id_text(one.key.record) in referral)
    about, now_ms = {"referral": asked.key.record}, centre.clock.now_ms + 60_000
    said = about | {"text": f"Pulse? {LONG} " * 9, "at": now_ms}
    arrive(centre.store, "message", said, 5, patient=asked.patient, origin=Writer.DOCTOR, now_ms=now_ms)
    answered = REPLY | about | {"seen_positions": {FACILITY: 4}, "advice": f"{LONG} " * 9}
    reply = arrive(centre.store, "reply", answered, 6, patient=asked.patient, origin=Writer.DOCTOR, now_ms=now_ms)
    contact = {"present": True, "details": {"name": f"Dr {LONG}", "phone": "9845012345"}}
    arrive(centre.store, "facility", {"name": "Rampur", "duty_contacts/any": contact}, 7, origin=Writer.HUB)
    seen = next(one for one in centre.records("case") if id_text(one.key.record) == case)
    arrive(centre.store, "case", {"plan": f"{LONG} " * 9}, 8, record=seen.key.record, patient=asked.patient)
    with begin_write(centre.store.engine) as connection:
        connection.exec_driver_sql("UPDATE change SET state = 1, reason = 'E_NOT_ALLOWED' WHERE kind = 'consent'")
    centre.clock.now_ms += EMERGENCY_WAITS_MS
    return {
        "{reply}": id_text(reply.record),
        "{case}": case,
        "{record}": measured[1],
        "/decisions/{kind}/{record}/{field:path}": f"/decisions/case/{case}/plan",
        "{kind}": "vitals",
        "/referrals/{name}": referral,
        "/patients/{name}": patient,
    }


def paths(places: dict[str, str]) -> Iterator[str]:
    """Every page that is asked for, with ids of what is there."""
    for part in web.PARTS:
        for route in part.router.routes:
            if isinstance(route, APIRoute) and "GET" in (route.methods or ()):
                path = route.path
                for name in sorted(places, key=len, reverse=True):
                    path = path.replace(name, places[name])
                assert "{" not in path, f"the walk does not know what to put into {path}"
                yield path


def is_page(walk: Walk, path: str) -> bool:
    """Not a piece of one, a file or a way to another page. What is not there fails."""
    answer = walk.get(path)
    assert answer.status in (200, 204, 303), f"{path}: {answer.status}"
    return answer.status == 200 and "text/html" in answer.headers["content-type"] and "<html" in answer.text()


def test_axe_finds_nothing_and_a_phone_shows_all_on_every_page(filled: Filled, opening: Opening) -> None:
    window, wide = filled.opened(opening), []
    page, walk = window.page, Walk(window.page, filled.url)
    looked = [path for path in dict.fromkeys(paths(filled.path)) if path not in PUBLIC and is_page(walk, path)]
    assert len(looked) > 15
    assert sum("/prescription/" in path for path in looked) == 1
    for path in looked:
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 740})
            if width == WIDTHS[0]:
                page.goto(filled.url + path)
                window.look("centre-small" + re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", path).replace("/", "-"))
            wide += [f"{path} at {width} px: {one}" for one in window.too_wide()]
    assert wide == []


def test_what_is_told_without_being_asked_is_seen_on_a_phone(filled: Filled, opening: Opening) -> None:
    """The emergency comes to a page that is open, and stands above the line; what a doctor said is counted."""
    filled.centre.clock.now_ms -= EMERGENCY_WAITS_MS
    window = filled.opened(opening, WIDTHS[0])
    page = window.page
    page.goto(f"{filled.url}/today")
    alarm = page.get_by_role("alert")
    expect(alarm).to_have_text("")
    filled.centre.clock.now_ms += EMERGENCY_WAITS_MS
    page.evaluate(  # what the page does by itself every 15 seconds
        """() => { const line = document.querySelector(".app-sync-line");
             return htmx.ajax("GET", line.getAttribute("hx-get"), {target: line, swap: "outerHTML"}) }"""
    )
    expect(alarm).to_contain_text("The hub has not received this emergency. Phone now.")
    expect(alarm.get_by_role("link", name=re.compile("9845012345"))).to_be_visible()
    window.look("centre-alarm")
    page.goto(filled.url)
    expect(page.get_by_role("link", name="1 answer of a doctor is not read")).to_be_visible()
    expect(page.get_by_role("link", name="A doctor asks about 1 referral")).to_be_visible()
    expect(page.get_by_role("heading", name="1 emergency has not reached the hub. Phone.")).to_be_visible()
    window.look("centre-home-alarm")
    page.goto(f"{filled.url}/referrals")
    expect(page.get_by_role("region", name="The doctor asks").get_by_text("Pulse?")).to_be_visible()
    window.look("centre-asked")
    assert window.too_wide() == []


def test_what_a_form_answers_is_readable_on_a_phone(filled: Filled, opening: Opening) -> None:
    """What is wrong in it, who is perhaps registered already, and values that are unusual."""
    window = filled.opened(opening, WIDTHS[0])
    page, wide = window.page, []
    page.goto(f"{filled.url}/register")
    page.get_by_role("button", name="Save", exact=True).last.click()
    expect(page.locator(".nhsuk-error-summary")).to_be_focused()
    window.look("centre-refused")
    wide += window.too_wide()
    page.locator("#name").fill(f"Lakshmi {LONG}")
    page.get_by_label("Female").check()
    page.locator("#age").fill("34")
    page.locator("#village").fill(LONG)
    page.locator("#given").check()
    page.get_by_role("button", name="Save", exact=True).last.click()
    expect(page.get_by_role("heading", name="Perhaps registered already")).to_be_visible()
    window.look("centre-perhaps-registered")
    wide += window.too_wide()
    page.goto(f"{filled.url}{filled.path['/patients/{name}']}/visit")
    page.locator("#complaints").fill("headache")
    page.locator("#systolic_mmhg").fill("60")
    page.locator("#diastolic_mmhg").fill("40")
    page.get_by_role("button", name="Save", exact=True).last.click()
    expect(page.get_by_role("heading", name="Unusual values: are they right?")).to_be_visible()
    window.look("centre-unusual")
    wide += window.too_wide()
    assert wide == []


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_a_page_is_whole_in_each_language(filled: Filled, opening: Opening, language: str) -> None:
    window = filled.opened(opening, 720, language)
    patient = filled.path["/patients/{name}"]
    for path in ("/", patient, f"{patient}/visit", filled.path["/referrals/{name}"], "/sync", "/register"):
        window.page.goto(filled.url + path)
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
