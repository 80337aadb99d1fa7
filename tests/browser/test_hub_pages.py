"""Every page of the hub, found in its route table: axe finds nothing and a phone shows all, for each role that has it.

Each has something to show, so none is passed over: a conflict that a doctor decides, what was not admitted, a slip.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from fastapi.routing import APIRoute
from playwright.sync_api import expect

from hub_server import config as hub_settings
from hub_server import postgres, web
from sync_protocol.change import FacilityCode
from sync_protocol.documents import id_text, parse_id
from tests.browser.conftest import Opening, Watched
from tests.browser.stage import FACILITY, Stage
from tests.browser.test_case import referral, send
from tests.browser.test_centre_pages import LONG, WIDTHS
from tests.hub.bare_node import BareNode
from tests.hub.hub_world import HubWorld
from tests.hub.test_slips import letters

ROLES = ("dr.rao", "officer")
SIGNING_IN = ("/sign-in", "/sign-in/code", "/sign-in/set-up")  # looked at where somebody comes in
STREAMS = ("/queue/events",)


def paths(name: str, conflict: str) -> Iterator[str]:
    for part in web.PARTS:
        for route in part.router.routes:
            if isinstance(route, APIRoute) and "GET" in (route.methods or ()) and route.path not in STREAMS:
                yield route.path.replace("{kind}/{name}", conflict).replace("{name}", name)


def filled(stage: Stage, referral: str, patient: str) -> tuple[str, str]:
    """(the conflict that a doctor decides, as paths have it; a slip's letters), from one more computer of the centre; and
    something of it that was not admitted."""
    config = hub_settings.load(None, stage.hub.environment)
    with postgres.ensure_running(config) as running:
        world = HubWorld.make(running.url, config.keys_folder)
        world.now_ms = time.time_ns() // 1_000_000
        node = BareNode(world.vault, FacilityCode(FACILITY), stamp=world.now_ms << 16)
        node.enrol(world.database)
        about, owner = parse_id(referral), parse_id(patient)
        told = {"referral": about, "text": f"{LONG} " * 9}
        message = node.write("message", told, patient=owner)
        rival = node.write("message", told | {"text": LONG}, record=message.record, patient=owner)
        world.exchange(node, [node.pack([message, rival]).envelope.raw])
        world.admit()
        with world.database.transaction() as connection:
            connection.execute(
                "INSERT INTO quarantine (facility, node, segment, row, kind, reason, at_ms, verdict)"
                " VALUES (%(facility)s, '', '', -1, 'case', 'E_OTHER_AUTHOR', %(at)s, 'open'),"
                " (%(facility)s, '', '', -2, '', 'E_SOMETHING_NEW', %(at)s, 'open')",
                {"facility": FACILITY, "at": world.now_ms},
            )
        return f"message/{id_text(message.record)}", letters(node, about, FACILITY)


def looked_at(window: Watched, stage: Stage, every: list[str], role: str) -> tuple[set[str], set[str]]:
    """Look at each page that this role has: (the paths of those, of all that was answered, pages or not)."""
    page, wide, seen, answered = window.page, [], set(), set()
    for path in every:
        answer = page.request.get(stage.hub.url + path, max_redirects=0)
        assert answer.status in (200, 303, 403), f"{path}: {answer.status}"
        if answer.status == 200:
            answered.add(path)
        if answer.status != 200 or "text/html" not in answer.headers["content-type"] or "<html" not in answer.text():
            continue
        page.goto(stage.hub.url + path)
        assert urlsplit(page.url).path == path
        seen.add(path)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 740})
            if width == WIDTHS[0]:
                kind = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", path).replace("/", "-")
                window.look(f"hub-small-{role}{kind}")
            wide += [f"{path} at {width} px: {one}" for one in window.too_wide()]
    assert wide == []
    return seen, answered


def slip_looked_at(window: Watched, stage: Stage, said: str) -> None:
    """A slip that was checked, on a phone."""
    page = window.page
    page.set_viewport_size({"width": WIDTHS[0], "height": 740})
    page.goto(f"{stage.hub.url}/slip")
    page.locator("#letters").fill(said)
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_role("heading", name="The signature holds")).to_be_visible()
    expect(page.get_by_role("link", name="Open the case")).to_be_visible()
    window.look("hub-small-slip-checked")
    assert window.too_wide() == []


def test_axe_finds_nothing_and_a_phone_shows_all_on_every_page(stage: Stage, opening: Opening) -> None:
    name, patient, lines = referral(f"Savitri {LONG}", village=LONG, allergies=["penicillin", LONG])
    case = next(one["id"] for one in lines if one["kind"] == "case")
    send(
        stage,
        *lines,
        {"kind": "case", "id": case, "patient": patient, "base": "shown", "fields": {"plan": f"{LONG} " * 9}},
    )
    with ThreadPoolExecutor(1) as beside:  # this thread has the browser's event loop
        conflict, said = beside.submit(filled, stage, name, patient).result()
    every = list(dict.fromkeys(path for path in paths(name, conflict) if path not in SIGNING_IN))
    seen: set[str] = set()
    answered: set[str] = set()
    for role in ROLES:
        window = opening(WIDTHS[0])
        window.sign_in(stage, role)
        pages, all_that_came = looked_at(window, stage, every, role)
        seen, answered = seen | pages, answered | all_that_came
        if role == "dr.rao":
            slip_looked_at(window, stage, said)
    assert set(every) == answered, "each is there for somebody"
    assert {
        "/",
        "/account",
        "/service",
        "/states",
        "/centres",
        "/quarantine",
        "/conflicts",
        "/openings",
        "/slip",
    } <= seen
    assert {f"/cases/{name}", f"/conflicts/{conflict}"} <= seen
