"""Signing in at the hub's pages: the steps, the first time, the account, and when a session ends."""

from __future__ import annotations

import base64
import html
import re
import uuid
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from hub_server import people, recovery, sign_in
from hub_server.ledger import Line
from hub_server.people import Role
from hub_server.sign_in import sessions
from hub_server.sign_in.credentials import ONE_TIME_MS, PENDING_MS
from hub_server.sign_in.first import SET_UP_MS
from hub_server.web.cookies import PENDING, SESSION
from tests.hub.hub_world import HubWorld
from tests.hub.paged_hub import PASSWORD, PagedHub, code_of
from tests.pages.window import Window

OWN = "another quiet river song"
WRONG = "not this one at all"


@pytest.fixture(scope="module")
def shared(module_database_url: str, module_folder: Path) -> PagedHub:
    return PagedHub(HubWorld.make(module_database_url, module_folder / "keys"))


@pytest.fixture
def hub(shared: PagedHub) -> PagedHub:
    shared.empty()
    return shared


def secret_on(page: str) -> bytes:
    """Of the second factor that the page shows."""
    letters = re.search(r'<code class="app-letters">([A-Z2-7 ]+)</code>', page)
    assert letters is not None
    return base64.b32decode(letters[1].replace(" ", ""))


def goes_to(window: Window, path: str = "/account") -> str:
    """Where a page sends this browser; empty where it is shown."""
    answer = window.get(path)
    assert answer.status_code in (200, 303)
    return str(answer.headers.get("location", ""))


# -- the steps ---------------------------------------------------------------------------------------------------------


def test_a_password_and_a_code_open_a_session_and_signing_out_ends_it(hub: PagedHub) -> None:
    hub.add("dr.rao")
    window = hub.signed_in("dr.rao")
    assert "Name of dr.rao" in window.get("/").text
    token = window.client.cookies["hub_session"]
    assert window.post("/sign-out", {"csrf": window.csrf}).headers["location"] == "/sign-in"
    assert "hub_session" not in window.client.cookies
    hub.bring(window, SESSION, token)
    assert goes_to(window) == "/sign-in"
    assert (hub.noted("sign in"), hub.noted("sign out")) == (1, 1)


def test_an_unknown_login_a_wrong_password_and_a_disabled_person_are_one_answer(hub: PagedHub) -> None:
    hub.add("dr.rao")
    hub.add("dr.gone")
    with hub.world.database.transaction() as connection:
        people.disable(connection, "dr.gone", hub.world.now_ms)
    pages = []
    for login, password in (("dr.rao", WRONG), ("nobody", WRONG), ("dr.gone", PASSWORD), ("no login!", PASSWORD)):
        answer = hub.window().send("/sign-in", {"login": login, "password": password})
        assert answer.status_code == 422
        assert "set-cookie" not in answer.headers
        assert password not in answer.text
        pages.append(re.sub(r'nonce="[^"]*"', "", answer.text).replace(html.escape(login), "LOGIN"))
    assert len(set(pages)) == 1
    assert "E_SIGN_IN_REFUSED" in pages[0]


def test_no_code_works_twice_and_no_pending_sign_in(hub: PagedHub) -> None:
    rao = hub.add("dr.rao")
    first, second = hub.window(), hub.window()
    for window in (first, second):
        window.send("/sign-in", {"login": "dr.rao", "password": PASSWORD})
    pending, code = first.client.cookies["hub_pending"], rao.code()
    assert first.send("/sign-in/code", {"code": code}).status_code == 303
    answer = second.send("/sign-in/code", {"code": code})
    assert (answer.status_code, "E_WRONG_CODE" in answer.text, code in answer.text) == (422, True, False)
    third = hub.window()
    hub.bring(third, PENDING, pending)
    assert "E_BEGIN_AGAIN" in third.post("/sign-in/code", {"code": rao.code()}).text


def test_a_pending_sign_in_takes_five_codes_and_five_minutes(hub: PagedHub) -> None:
    rao = hub.add("dr.rao")
    window = hub.window()
    window.send("/sign-in", {"login": "dr.rao", "password": PASSWORD})
    for _ in range(4):
        assert "E_WRONG_CODE" in window.send("/sign-in/code", {"code": "000000"}).text
    assert "E_BEGIN_AGAIN" in window.send("/sign-in/code", {"code": "000000"}).text
    assert "E_BEGIN_AGAIN" in window.send("/sign-in/code", {"code": rao.code()}).text
    hub.world.now_ms += 3_600_000
    window.send("/sign-in", {"login": "dr.rao", "password": PASSWORD})
    hub.world.now_ms += PENDING_MS + 1
    assert "E_BEGIN_AGAIN" in window.send("/sign-in/code", {"code": rao.code()}).text


def test_a_login_is_taken_as_a_telephone_writes_it_and_a_code_in_indias_digits(hub: PagedHub) -> None:
    rao = hub.add("dr.rao")
    window = hub.window()
    window.send("/sign-in", {"login": " Dr.Rao ", "password": PASSWORD})
    written = rao.code().translate({ord("0") + digit: chr(0x966 + digit) for digit in range(10)})
    assert window.send("/sign-in/code", {"code": f" {written[:3]} {written[3:]} "}).status_code == 303


# -- the first time ----------------------------------------------------------------------------------------------------


def test_the_first_time_somebody_chooses_a_password_and_sets_up_an_authenticator_alone(hub: PagedHub) -> None:
    rao = hub.add("dr.rao", one_time=True, factor=False)
    window = hub.window()
    answer = window.send("/sign-in", {"login": "dr.rao", "password": PASSWORD})
    assert answer.headers["location"] == "/sign-in/set-up"
    page = window.get("/sign-in/set-up").text
    rao.secret = secret_on(page)
    assert 'src="data:image/svg+xml' in page
    assert window.get("/sign-in/set-up").text.count("app-letters") == 1
    assert secret_on(window.get("/sign-in/set-up").text) == rao.secret
    answer = window.send("/sign-in/set-up", {"password": OWN, "twice": OWN, "code": rao.code()})
    assert answer.headers["location"] == "/"
    assert "Name of dr.rao" in window.get("/").text
    assert goes_to(hub.signed_in("dr.rao", OWN)) == ""
    old = hub.window().send("/sign-in", {"login": "dr.rao", "password": PASSWORD})
    assert "E_SIGN_IN_REFUSED" in old.text
    assert (hub.noted("set password"), hub.noted("set second factor")) == (2, 1)


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ({"password": PASSWORD, "twice": PASSWORD}, "E_SAME_PASSWORD"),
        ({"password": "short", "twice": "short"}, "E_WEAK_PASSWORD"),
        ({"password": "name OF dr.rao", "twice": "name OF dr.rao"}, "E_WEAK_PASSWORD"),
        ({"password": "12345678901", "twice": "12345678901"}, "E_WEAK_PASSWORD"),
        ({"password": OWN, "twice": WRONG}, "The two passwords differ"),
        ({"password": "", "twice": ""}, "Enter a new password"),
        ({"password": OWN, "twice": OWN, "code": "000000"}, "E_WRONG_CODE"),
        ({"password": OWN, "twice": OWN, "code": ""}, "Enter the code"),
    ],
)
def test_what_is_wrong_the_first_time_is_told_and_shown_again_without_the_password(
    hub: PagedHub, typed: dict[str, str], code: str
) -> None:
    rao = hub.add("dr.rao", one_time=True, factor=False)
    window = hub.window()
    window.send("/sign-in", {"login": "dr.rao", "password": PASSWORD})
    rao.secret = secret_on(window.get("/sign-in/set-up").text)
    answer = window.send("/sign-in/set-up", {"code": rao.code(), **typed})
    assert answer.status_code == 422
    assert code in answer.text
    assert secret_on(answer.text) == rao.secret
    assert not typed["password"] or typed["password"] not in answer.text
    assert goes_to(window) == "/sign-in"
    assert window.send("/sign-in/set-up", {"password": OWN, "twice": OWN, "code": rao.code()}).status_code == 303


def test_two_who_have_the_one_time_password_are_shown_different_secrets_and_one_of_them_gets_in(hub: PagedHub) -> None:
    rao = hub.add("dr.rao", one_time=True, factor=False)
    owner, stranger = hub.window(), hub.window()
    secrets = []
    for window in (owner, stranger):
        window.send("/sign-in", {"login": "dr.rao", "password": PASSWORD})
        secrets.append(secret_on(window.get("/sign-in/set-up").text))
    assert secrets[0] != secrets[1]
    typed = {"password": OWN, "twice": OWN}
    assert "E_WRONG_CODE" in owner.send("/sign-in/set-up", {**typed, "code": code_of(secrets[1], hub.step)}).text
    form = stranger.get("/sign-in/set-up").text
    csrf = re.search(r'name="csrf" value="([^"]+)"', form)
    assert csrf is not None
    forged = owner.post("/sign-in/set-up", {**typed, "csrf": csrf[1], "code": code_of(secrets[0], hub.step)})
    assert forged.headers["location"] == "/sign-in"
    assert owner.send("/sign-in/set-up", {**typed, "code": code_of(secrets[0], hub.step)}).status_code == 303
    late = stranger.post("/sign-in/set-up", {**typed, "csrf": csrf[1], "code": code_of(secrets[1], hub.step)})
    assert "E_BEGIN_AGAIN" in late.text
    assert goes_to(stranger, "/sign-in/set-up") == "/sign-in"
    rao.secret = secrets[0]
    assert goes_to(owner) == ""


def test_the_first_time_ends_after_half_an_hour_five_codes_and_what_the_operator_does(hub: PagedHub) -> None:
    hub.add("dr.rao", one_time=True, factor=False)
    typed = {"password": OWN, "twice": OWN, "code": "000000"}

    def begun() -> Window:
        window = hub.window()
        window.send("/sign-in", {"login": "dr.rao", "password": PASSWORD})
        assert window.get("/sign-in/set-up").status_code == 200
        return window

    window = begun()
    for _ in range(4):
        assert "E_WRONG_CODE" in window.send("/sign-in/set-up", typed).text
    assert "E_BEGIN_AGAIN" in window.send("/sign-in/set-up", typed).text
    assert goes_to(window, "/sign-in/set-up") == "/sign-in"
    window = begun()
    hub.world.now_ms += SET_UP_MS + 1
    assert goes_to(window, "/sign-in/set-up") == "/sign-in"
    window = begun()
    with hub.world.database.transaction() as connection:
        sign_in.give_totp(
            connection, hub.world.vault, hub.people["dr.rao"].person, "operator x", hub.world.now_ms, bytes(20)
        )
    assert goes_to(window, "/sign-in/set-up") == "/sign-in"


def test_nobody_sets_up_a_second_factor_with_their_own_password_alone(hub: PagedHub) -> None:
    rao = hub.add("dr.rao")
    with hub.world.database.transaction() as connection:
        sign_in.forget_totp(connection, hub.world.vault, rao.person, "operator x", hub.world.now_ms)
    window = hub.window()
    answer = window.send("/sign-in", {"login": "dr.rao", "password": PASSWORD})
    assert "E_NO_SECOND_FACTOR" in answer.text
    assert goes_to(window, "/sign-in/set-up") == "/sign-in"


def test_a_one_time_password_counts_for_seven_days(hub: PagedHub) -> None:
    hub.add("dr.rao", one_time=True, factor=False)
    hub.world.now_ms += ONE_TIME_MS + 1
    assert "E_ONE_TIME_TOO_OLD" in hub.window().send("/sign-in", {"login": "dr.rao", "password": PASSWORD}).text


def test_a_one_time_password_beside_a_second_factor_is_changed_before_anything_else(hub: PagedHub) -> None:
    hub.add("dr.rao", one_time=True)
    window = hub.signed_in("dr.rao")
    for path in ("/", "/account", "/service", "/account/second-factor"):
        assert goes_to(window, path) == "/password"
    window.home = "/password"
    refused = window.send("/password", {"old": PASSWORD, "password": PASSWORD, "twice": PASSWORD})
    assert "E_SAME_PASSWORD" in refused.text
    answer = window.send("/password", {"old": PASSWORD, "password": OWN, "twice": OWN})
    assert answer.headers["location"] == "/"
    assert goes_to(window) == ""
    assert goes_to(hub.signed_in("dr.rao", OWN)) == ""


# -- the account -------------------------------------------------------------------------------------------------------


def test_the_account_shows_ones_sessions_and_ends_all_others(hub: PagedHub) -> None:
    hub.add("dr.rao")
    hub.add("officer", Role.DISTRICT_OFFICER)
    here, there, other = hub.window_of("dr.rao"), hub.window_of("dr.rao"), hub.window_of("officer")
    page = here.get("/account").text
    assert page.count('data-label="Since"') == 2
    assert page.count("(here)") == 1
    assert here.send("/account/sign-out-elsewhere", {}, "/account").headers["location"].startswith("/account")
    assert goes_to(there) == "/sign-in"
    assert (goes_to(here), goes_to(other)) == ("", "")
    assert "sign-out-elsewhere" not in here.get("/account").text


def test_a_changed_password_ends_all_sessions_and_goes_on_under_a_new_one(hub: PagedHub) -> None:
    hub.add("dr.rao")
    here, there = hub.window_of("dr.rao"), hub.window_of("dr.rao")
    before = here.client.cookies["hub_session"]
    wrong = here.send("/password", {"old": WRONG, "password": OWN, "twice": OWN})
    assert (wrong.status_code, "E_WRONG_OLD_PASSWORD" in wrong.text) == (422, True)
    assert here.send("/password", {"old": PASSWORD, "password": OWN, "twice": OWN}).headers["location"] == "/"
    assert here.client.cookies["hub_session"] != before
    assert (goes_to(here), goes_to(there)) == ("", "/sign-in")
    hub.bring(here, SESSION, before)
    assert goes_to(here) == "/sign-in"
    assert goes_to(hub.signed_in("dr.rao", OWN)) == ""  # the new hash is one that the next sign-in takes


def test_another_authenticator_needs_a_code_of_the_old_one_and_is_shown_once(hub: PagedHub) -> None:
    rao = hub.add("dr.rao")
    here, there = hub.window_of("dr.rao"), hub.window_of("dr.rao")
    assert "E_WRONG_CODE" in here.send("/account/second-factor", {"code": "000000"}).text
    shown = here.send("/account/second-factor", {"code": rao.code()})
    secret, old = secret_on(shown.text), rao.secret
    for path in ("/account/second-factor", "/account/second-factor/confirm"):
        assert "app-letters" not in here.get(path).text
        assert "data:image" not in here.get(path).text
    rao.secret = secret
    wrong = here.send("/account/second-factor/confirm", {"code": "000000"})
    assert ("E_WRONG_CODE" in wrong.text, "app-letters" in wrong.text) == (True, False)
    assert goes_to(there) == ""
    answer = here.send("/account/second-factor/confirm", {"code": rao.code()})
    assert answer.headers["location"] == "/account?done=factor"
    assert (goes_to(here), goes_to(there)) == ("", "/sign-in")
    window = hub.window()
    window.send("/sign-in", {"login": "dr.rao", "password": PASSWORD})
    assert "E_WRONG_CODE" in window.send("/sign-in/code", {"code": code_of(old, hub.step)}).text
    assert window.send("/sign-in/code", {"code": rao.code()}).status_code == 303


def test_another_authenticator_is_confirmed_within_minutes_of_the_old_ones_code(hub: PagedHub) -> None:
    rao = hub.add("dr.rao")
    here = hub.window_of("dr.rao")
    rao.secret = secret_on(here.send("/account/second-factor", {"code": rao.code()}).text)
    hub.world.now_ms += sessions.FRESH_MS + 1
    assert "E_BEGIN_AGAIN" in here.send("/account/second-factor/confirm", {"code": rao.code()}).text


# -- when a session ends -----------------------------------------------------------------------------------------------


def test_a_session_ends_after_fifteen_idle_minutes_and_after_twelve_hours(hub: PagedHub) -> None:
    hub.add("dr.rao")
    idle, busy = hub.window_of("dr.rao"), hub.window_of("dr.rao")
    begun = hub.world.now_ms
    for _ in range(sessions.SESSION_MS // (12 * 60_000)):
        assert goes_to(busy) == ""
        hub.world.now_ms += 12 * 60_000
        if hub.world.now_ms - begun == 24 * 60_000:
            assert goes_to(idle) == "/sign-in"
    assert goes_to(busy) == ""
    hub.world.now_ms = begun + sessions.SESSION_MS + 1
    assert goes_to(busy) == "/sign-in"


def again(hub: PagedHub, window: Window, login: str) -> str:
    """Sign in at a browser whose session is over; where it leads."""
    window.send("/sign-in", {"login": login, "password": PASSWORD})
    return str(window.send("/sign-in/code", {"code": hub.people[login].code()}).headers["location"])


def test_whoever_signs_in_again_is_back_where_they_were_and_nobody_else_is(hub: PagedHub) -> None:
    hub.add("dr.rao")
    hub.add("dr.shah")
    window = hub.signed_in("dr.rao")
    case = f"/cases/{uuid.uuid4()}"
    asked: tuple[tuple[Callable[[], httpx2.Response], str], ...] = (
        (lambda: window.get(case), case),
        (lambda: window.post(f"{case}/reply", {"advice": "typed-secret"}), case),
        (lambda: window.get("/queue/rows", hx_request="true", hx_current_url=f"http://127.0.0.1{case}?all=yes"), case),
        (lambda: window.get("/account", hx_request="true", hx_current_url="http://evil.example/\\evil"), "/"),
        (lambda: window.get("/"), "/"),
    )
    for ask, back in asked:
        hub.world.now_ms += sessions.IDLE_MS + 1
        answer = ask()
        assert "/sign-in" in (answer.headers.get("location"), answer.headers.get("hx-redirect"))
        assert "typed-secret" not in str(answer.headers)
        assert again(hub, window, "dr.rao") == back
    hub.world.now_ms += sessions.IDLE_MS + 1
    window.get(case)
    assert again(hub, window, "dr.shah") == "/"
    assert "hub_back" not in window.client.cookies
    window.post("/sign-out", {"csrf": window.csrf})
    assert goes_to(window, case) == "/sign-in"
    assert "hub_back" not in window.client.cookies


def test_what_an_open_page_asks_for_by_itself_keeps_no_session_alive(hub: PagedHub) -> None:
    hub.add("dr.rao")
    window = hub.window_of("dr.rao")
    for _ in range(5):
        hub.world.now_ms += sessions.IDLE_MS // 5 + 1
        answer = window.get("/queue/rows", hx_request="true")
    assert (answer.status_code, answer.headers["hx-redirect"]) == (204, "/sign-in")
    assert window.get("/queue/events", accept="text/event-stream").status_code == 204


def test_whoever_is_disabled_is_out_at_once(hub: PagedHub) -> None:
    rao = hub.add("dr.rao")
    window, pending = hub.window_of("dr.rao"), hub.window()
    pending.send("/sign-in", {"login": "dr.rao", "password": PASSWORD})
    with hub.world.database.transaction() as connection:
        people.disable(connection, "dr.rao", hub.world.now_ms)
    assert goes_to(window) == "/sign-in"
    assert "E_BEGIN_AGAIN" in pending.send("/sign-in/code", {"code": rao.code()}).text


def test_a_hub_that_is_put_back_forgets_what_was_replaced_since(hub: PagedHub) -> None:
    """The ledger says that it was; what the copy of the database still has may be known to somebody else."""
    rao = hub.add("dr.rao")
    hub.add("dr.nair")
    with hub.world.database.transaction() as connection:
        for kind in ("password_set", "second_factor_set"):
            line = Line(1, hub.world.now_ms + 1, kind, {"login": "dr.rao"})
            recovery._REPLAYED[kind](connection, hub.world.store, line)
        standing = sign_in.standings(connection, hub.world.now_ms)[rao.person.id]
    assert (standing.has_password, standing.has_second_factor) == (False, False)
    answer = hub.window().send("/sign-in", {"login": "dr.rao", "password": PASSWORD})
    assert "E_SIGN_IN_REFUSED" in answer.text
    assert goes_to(hub.signed_in("dr.nair")) == ""
