"""Every page of the hub, found in its route table: axe finds nothing and a phone shows all, for each role that has it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from fastapi.routing import APIRoute

from hub_server import web
from tests.browser.conftest import Opening, Watched
from tests.browser.stage import Stage
from tests.browser.test_case import referral, send
from tests.browser.test_centre_pages import LONG, WIDTHS

ROLES = ("dr.rao", "officer")
SIGNING_IN = ("/sign-in", "/sign-in/code", "/sign-in/set-up")  # looked at where somebody comes in
STREAMS = ("/queue/events",)


def paths(name: str, conflict: str) -> Iterator[str]:
    for part in web.PARTS:
        for route in part.router.routes:
            if isinstance(route, APIRoute) and "GET" in (route.methods or ()) and route.path not in STREAMS:
                yield route.path.replace("{kind}/{name}", conflict).replace("{name}", name)


def looked_at(window: Watched, stage: Stage, every: list[str], role: str) -> set[str]:
    """Look at each page that this role has; the paths of those."""
    page, wide, seen = window.page, [], set()
    for path in every:
        answer = page.request.get(stage.hub.url + path, max_redirects=0)
        assert answer.status < 500, f"{path}: {answer.status}"
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
    return seen


def test_axe_finds_nothing_and_a_phone_shows_all_on_every_page(stage: Stage, opening: Opening) -> None:
    name, patient, lines = referral(f"Savitri {LONG}", village=LONG, allergies=["penicillin", LONG])
    case = next(one["id"] for one in lines if one["kind"] == "case")
    send(
        stage,
        *lines,
        {"kind": "case", "id": case, "patient": patient, "base": "shown", "fields": {"plan": f"{LONG} " * 9}},
    )
    conflict = f"case/{case}"
    every = list(dict.fromkeys(path for path in paths(name, conflict) if path not in SIGNING_IN))
    seen = set()
    for role in ROLES:
        window = opening(WIDTHS[0])
        window.sign_in(stage, role)
        seen |= looked_at(window, stage, every, role)
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
    assert f"/cases/{name}" in seen
