"""Who may see which page of the hub: walked from the route table itself, by everybody who could come.

A route that stands in none of the tables fails: say there who may see it. Each visitor asks for each route with the id
of a referral that not everybody may see, with one that exists nowhere, and with what is no id at all.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest
from fastapi.routing import APIRoute
from starlette.types import Message

from hub_server import hospitals, people
from hub_server.people import Role
from hub_server.sign_in import sessions
from hub_server.web.desk import SIGN_IN
from sync_protocol.documents import id_text
from tests.hub.bare_node import NOW_MS
from tests.hub.hub_world import HubWorld
from tests.hub.paged_hub import COMPLAINT, HERE, PATIENT_NAME, PagedHub
from tests.pages.window import Window

Route = tuple[str, str]  # method, path

# What is asked for by programs, and the files that pages load: no pages.
APART: Final = {"/v1/sync", "/v1/enrol", "/v1/keys", "/healthz", "/readyz", "/metrics", "/static/{digest}/{name}"}

PUBLIC: Final[set[Route]] = {
    ("GET", "/sign-in"),
    ("POST", "/sign-in"),
    ("GET", "/sign-in/code"),
    ("POST", "/sign-in/code"),
    ("GET", "/sign-in/set-up"),
    ("POST", "/sign-in/set-up"),
    ("POST", "/language"),
}
ANYBODY_SIGNED_IN: Final[set[Route]] = {
    ("GET", "/"),
    ("GET", "/service"),
    ("GET", "/conflicts"),  # ids alone
    ("GET", "/account"),
    ("POST", "/account/sign-out-elsewhere"),
    ("GET", "/account/second-factor"),
    ("POST", "/account/second-factor"),
    ("GET", "/account/second-factor/confirm"),
    ("POST", "/account/second-factor/confirm"),
    ("GET", "/password"),
    ("POST", "/password"),
    ("POST", "/sign-out"),
}
EVERY_DOCTOR: Final[set[Route]] = {
    ("POST", "/duty"),
    ("POST", "/duty/off"),
    ("POST", "/cases/{name}/open"),  # with a reason, which is reviewed
    ("POST", "/cases/{name}/open/draft"),
    ("GET", "/queue/rows"),
    ("GET", "/queue/events"),
    ("GET", "/slip"),
    ("POST", "/slip"),
}
# Of the referral that the path names: the doctors of its hospital and specialty.
ITS_DOCTORS: Final[set[Route]] = {
    ("GET", "/cases/{name}"),
    ("POST", "/cases/{name}/ask"),
    ("POST", "/cases/{name}/reply"),
    ("POST", "/cases/{name}/claim"),
    ("POST", "/cases/{name}/release"),
    ("POST", "/cases/{name}/hand-over"),
    ("POST", "/cases/{name}/ask/draft"),
    ("POST", "/cases/{name}/draft"),
    ("POST", "/cases/{name}/draft/drop"),
    ("GET", "/cases/{name}/news"),
}
EVERY_REVIEWER: Final[set[Route]] = {
    ("GET", "/openings"),
    ("GET", "/service/sheet"),
    ("GET", "/states"),
    ("GET", "/states/sheet"),
    ("GET", "/centres"),
    ("GET", "/centres/sheet"),
    ("GET", "/quarantine"),
    ("GET", "/quarantine/sheet"),
    ("GET", "/conflicts/sheet"),
}
# Of the opening that the path names; of a referral's id there is none.
ITS_REVIEWERS: Final[set[Route]] = {("POST", "/openings/{name}/reviewed")}
# Of the conflict that the path names; of a referral's id there is none.
ITS_SETTLERS: Final[set[Route]] = {("GET", "/conflicts/{kind}/{name}"), ("POST", "/conflicts/{kind}/{name}")}
TABLES: Final = (PUBLIC, ANYBODY_SIGNED_IN, EVERY_DOCTOR, ITS_DOCTORS, EVERY_REVIEWER, ITS_REVIEWERS, ITS_SETTLERS)

RIGHT: Final = "doctor"
OTHER_DOCTORS: Final = ("other.specialty", "other.hospital")
NO_DOCTORS: Final = ("officer", "operator")
MAY_SEE: Final[dict[str, set[Route]]] = {
    RIGHT: ANYBODY_SIGNED_IN | EVERY_DOCTOR | ITS_DOCTORS,
    **dict.fromkeys(OTHER_DOCTORS, ANYBODY_SIGNED_IN | EVERY_DOCTOR),
    **dict.fromkeys(NO_DOCTORS, ANYBODY_SIGNED_IN | EVERY_REVIEWER),
}
NO_IDS: Final = ("x", "0", "..%2f..%2fetc", "%00", "9" * 400, "' OR 1=1 --", "%F0%9F%92%8A", "%3Cscript%3E")


@pytest.fixture(scope="module")
def hub(module_database_url: str, module_folder: Path) -> PagedHub:
    """Two hospitals, and of the first a centre with one referral to its ear, nose and throat doctors."""
    world = HubWorld.make(module_database_url, module_folder / "keys")
    made = PagedHub(world)
    with world.database.transaction() as connection:
        for code in ("DH-1", "DH-2"):
            hospitals.add(connection, code, f"Hospital {code}", NOW_MS)
    world.facility("HWC1", hub="DH-1")
    made.add(RIGHT, Role.DOCTOR, "ent", hub="DH-1")
    made.add("other.specialty", Role.DOCTOR, "cardiology", hub="DH-1")
    made.add("other.hospital", Role.DOCTOR, "ent", hub="DH-2")
    made.add("officer", Role.DISTRICT_OFFICER)
    made.add("operator", Role.OPERATOR)
    made.add("disabled", Role.DOCTOR, "ent", hub="DH-1")
    return made


@pytest.fixture
def referral(hub: PagedHub) -> str:
    """One that nobody has touched yet."""
    return hub.refer("ent", node=hub.world.node("HWC1"))


def routes(hub: PagedHub) -> set[Route]:
    """All that the application has, of pages."""
    every = {(method, one.path) for one in _routes(hub.app.routes) for method in (one.methods or set()) - {"HEAD"}}
    return {(method, path) for method, path in every if path not in APART}


def _routes(every: Sequence[object]) -> Iterator[APIRoute]:
    """Those of the application, and of the routers that it includes."""
    for one in every:
        included = getattr(one, "original_router", None)
        if included is not None:
            yield from _routes(included.routes)
        elif isinstance(one, APIRoute):
            yield one


def filled(path: str, name: str) -> str:
    """The path of a route with this in each of its places."""
    return re.sub(r"\{[^}]*\}", name, path)


def ask(hub: PagedHub, window: Window, route: Route, name: str, secret: str = "") -> tuple[int, str, str]:
    """(status, where it leads, everything that was answered). A list that stays open is left once it has begun."""
    method, path = route
    cookies = "; ".join(f"{one.name}={one.value}" for one in window.client.cookies.jar)
    body = f"csrf={secret}&code=000000&old=x&password=x&twice=x&text=x&to=/".encode() if method == "POST" else b""
    sent: list[Message] = []
    given: list[Message] = [{"type": "http.request", "body": body}]

    async def receive() -> Message:
        while not given and not any(message.get("body") for message in sent):
            await asyncio.sleep(0.001)
        return given.pop() if given else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": filled(path, name).replace("%00", "\0").replace("%2f", "/"),
        "raw_path": filled(path, name).encode(),
        "query_string": b"",
        "headers": [
            (b"host", HERE.rpartition("/")[2].encode()),
            (b"cookie", cookies.encode()),
            (b"content-type", b"application/x-www-form-urlencoded"),
        ],
        "client": ("127.0.0.1", 1),
        "app": hub.app,
    }
    asyncio.run(hub.app(scope, receive, send))
    headers = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
    text = repr(headers) + b"".join(message.get("body", b"") for message in sent).decode()
    return sent[0]["status"], headers.get("location", ""), text


def discloses_nothing(text: str) -> bool:
    return PATIENT_NAME not in text and COMPLAINT not in text and "Traceback" not in text


def written(hub: PagedHub) -> list[object]:
    """How much the hub holds that a page could have written."""
    with hub.world.database.transaction() as connection:
        counts = "SELECT (SELECT count(*) FROM item), (SELECT count(*) FROM credential WHERE password_ms > %s)"
        return list(connection.execute(counts, (NOW_MS,)).fetchall())


def test_every_route_stands_in_one_table_and_no_other_does(hub: PagedHub) -> None:
    told = [route for table in TABLES for route in table]
    assert sorted(routes(hub)) == sorted(told), "say in this file's tables who may see it"
    assert {path.split("/")[1] for _, path in told} >= {"", "sign-in", "queue", "cases", "service", "account"}


def nobody(hub: PagedHub) -> Window:
    return hub.window()


def somebody_disabled(hub: PagedHub) -> Window:
    window = hub.window_of("disabled")
    with hub.world.database.transaction() as connection:
        people.disable(connection, "disabled", hub.world.now_ms)
    return window


def somebody_whose_session_ended(hub: PagedHub) -> Window:
    window = hub.window_of(RIGHT)
    hub.world.now_ms += sessions.IDLE_MS + 1
    return window


def somebody_with_a_made_up_session(hub: PagedHub) -> Window:
    window = hub.window()
    hub.bring(window, "hub_session", sessions.make_token(os.urandom(32)))
    return window


@pytest.mark.parametrize(
    "visitor", [nobody, somebody_disabled, somebody_whose_session_ended, somebody_with_a_made_up_session]
)
def test_who_is_not_signed_in_sees_and_does_nothing(hub: PagedHub, referral: str, visitor: object) -> None:
    assert callable(visitor)
    window, before = visitor(hub), written(hub)
    for route in sorted(routes(hub) - PUBLIC):
        for name in (referral, "x"):
            status, location, text = ask(hub, window, route, name, "0" * 64)
            assert (status, location) == (303, SIGN_IN), route
            assert discloses_nothing(text), route
    for route in sorted(PUBLIC):
        status, location, text = ask(hub, window, route, referral)
        assert status in (200, 303, 422, 429), route
        assert "://" not in location
        assert discloses_nothing(text), route
    assert written(hub) == before


def test_a_form_without_its_own_sessions_secret_does_nothing(hub: PagedHub, referral: str) -> None:
    before = written(hub)
    for login, seen in MAY_SEE.items():
        window, other = hub.window_of(login), hub.window_of(login).csrf
        for route in sorted(seen):
            if route[0] == "POST":
                for secret in ("", "0" * 64, other):
                    status, location, text = ask(hub, window, route, referral, secret)
                    assert (status, location) == (303, SIGN_IN), (login, route)
                    assert discloses_nothing(text), (login, route)
        assert window.get("/account").status_code == 200
    assert written(hub) == before


@pytest.mark.parametrize("login", [*OTHER_DOCTORS, *NO_DOCTORS])
def test_what_is_not_for_somebody_is_refused_and_tells_nothing(hub: PagedHub, referral: str, login: str) -> None:
    window, before = hub.window_of(login), written(hub)
    secret = window.csrf
    theirs = MAY_SEE[login] | (ITS_REVIEWERS if login in NO_DOCTORS else ITS_SETTLERS)
    for route in sorted(routes(hub) - PUBLIC - theirs):
        status, _, text = ask(hub, window, route, referral, secret)
        assert (status, "E_NOT_YOURS" in text) == (403, True), (login, route)
        assert discloses_nothing(text), (login, route)
        assert 'href="/account"' in text, "the refusal stands in the frame of who is signed in"
        for name in (id_text(os.urandom(16)), *NO_IDS):
            status, _, text = ask(hub, window, route, name, secret)
            assert status in (403, 404), (login, route, name)
            assert discloses_nothing(text), (login, route, name)
    assert written(hub) == before


@pytest.mark.parametrize("login", list(MAY_SEE))
def test_what_is_for_somebody_is_shown_and_an_id_that_is_none_is_no_page(
    hub: PagedHub, referral: str, login: str
) -> None:
    for route in sorted(MAY_SEE[login]):
        window = hub.window_of(login)
        secret, has_id = window.csrf, "{" in route[1]
        for name in (id_text(os.urandom(16)), *NO_IDS) if has_id else ():
            status, _, text = ask(hub, window, route, name, secret)
            assert status == 404, (login, route, name)
            assert discloses_nothing(text), (login, route, name)
        status, location, text = ask(hub, window, route, referral, secret)
        assert status in (200, 303, 409, 422), (login, route, status)
        assert location != SIGN_IN or route == ("POST", "/sign-out"), (login, route)
        if login != RIGHT:
            assert discloses_nothing(text), (login, route)


@pytest.mark.parametrize("login", NO_DOCTORS)
def test_an_opening_that_is_none_is_no_page(hub: PagedHub, referral: str, login: str) -> None:
    window = hub.window_of(login)
    for name in (referral, id_text(os.urandom(16)), *NO_IDS):
        status, _, text = ask(hub, window, ("POST", "/openings/{name}/reviewed"), name, window.csrf)
        assert status == 404, name
        assert discloses_nothing(text), name


@pytest.mark.parametrize("login", [RIGHT, *OTHER_DOCTORS])
def test_a_conflict_that_is_none_is_no_page(hub: PagedHub, referral: str, login: str) -> None:
    window = hub.window_of(login)
    for route in sorted(ITS_SETTLERS):
        for name in (referral, id_text(os.urandom(16)), *NO_IDS):
            status, _, text = ask(hub, window, route, name, window.csrf)
            assert status == 404, (route, name)
            assert discloses_nothing(text), (route, name)


def test_the_right_doctor_is_shown_what_the_others_are_not(hub: PagedHub, referral: str) -> None:
    """Else nothing above would say anything."""
    window = hub.window_of(RIGHT)
    for path in ("/", "/queue/rows", f"/cases/{referral}"):
        assert PATIENT_NAME in window.get(path).text
    assert COMPLAINT in window.get(f"/cases/{referral}").text
    assert hub.noted("read referral") >= 2
