"""What is tried at the hub's pages from elsewhere (guessing, planting, injecting, leading away), and what answers carry."""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import httpx2
import pytest
import structlog
import uvicorn
from fastapi.testclient import TestClient

from hub_server.sign_in import tries
from hub_server.sign_in.passwords import Turns
from hub_server.web.cookies import SESSION
from tests.hub.hub_world import HubWorld
from tests.hub.paged_hub import BEHIND_PROXY, PASSWORD, PagedHub
from tests.pages.window import Window

GUARDS = {
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
WRONG = "not this one at all"
SECRET_TEXT = "Savitri broke it"
START_S = 120.0


@pytest.fixture(scope="module")
def shared(module_database_url: str, module_folder: Path) -> PagedHub:
    made = PagedHub(HubWorld.make(module_database_url, module_folder / "keys"))
    made.world.facility("HWC1")
    made.app.add_api_route("/broken", broken)
    return made


def broken() -> None:
    """A page with a mistake in it."""
    raise RuntimeError(SECRET_TEXT)


@pytest.fixture
def hub(shared: PagedHub) -> PagedHub:
    shared.empty()
    return shared


@pytest.fixture
def proxied(hub: PagedHub) -> PagedHub:
    """The same hub behind a TLS proxy."""
    made = PagedHub(hub.world, secure=True)
    made.app.add_api_route("/broken", broken)
    return made


def try_password(window: Window, login: str, password: str = WRONG, **headers: str) -> tuple[int, str, int]:
    """(status, code, seconds to wait)."""
    answer = window.post("/sign-in", {"login": login, "password": password}, **headers)
    code = re.search(r"\[(E_[A-Z_]+)\]", answer.text)
    return answer.status_code, code[1] if code else "", int(answer.headers.get("retry-after", "0"))


# -- what each answer carries ------------------------------------------------------------------------------------------


def test_every_answer_is_guarded_and_kept_by_nobody(hub: PagedHub) -> None:
    hub.add("dr.rao")
    window, referral = hub.window_of("dr.rao"), hub.refer("ent", node=hub.world.node("HWC1"))
    answers = [window.get(path) for path in ("/", "/account", f"/cases/{referral}", "/cases/x", "/none", "/broken")]
    answers += [window.get("/sign-in"), window.get("/sign-in", host="evil.example"), hub.window().get("/")]
    answers += [window.post("/sign-out", {}), window.post("/sign-in", {}), window.post("/none", {})]
    answers += [window.post("/sign-in", {}, sec_fetch_site="cross-site")]
    assert {one.status_code for one in answers} == {200, 303, 403, 404, 421, 422, 500}
    for one in answers:
        assert {name: one.headers.get(name) for name in GUARDS} == GUARDS, one.request.url
        policy = one.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert "*" not in policy


class _Marks(HTMLParser):
    """What a strict policy forbids: scripts and styles inside of a page; and each script's nonce."""

    def __init__(self) -> None:
        super().__init__()
        self.forbidden: list[str] = []
        self.nonces: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "style" or "style" in given or any(name.startswith("on") for name in given):
            self.forbidden.append(str(self.get_starttag_text()))
        if tag == "script":
            self.nonces.add(given.get("nonce") or "")
            if not (given.get("src") or "").startswith("/static/"):
                self.forbidden.append(str(self.get_starttag_text()))


def test_a_page_runs_the_scripts_of_its_own_nonce_alone(hub: PagedHub) -> None:
    rao = hub.add("dr.rao")
    window, referral = hub.window_of("dr.rao"), hub.refer(node=hub.world.node("HWC1"))
    paths = (
        "/",
        "/account",
        f"/cases/{referral}",
        "/service",
        "/centres",
        "/password",
        "/account/second-factor",
        "/none",
    )
    answers = [window.get(path) for path in paths] + [hub.window().get("/sign-in")]
    answers.append(window.send("/account/second-factor", {"code": rao.code()}))
    seen = set()
    for one in answers:
        marks = _Marks()
        marks.feed(one.text)
        (nonce,) = marks.nonces
        assert f"script-src 'nonce-{nonce}'" in one.headers["content-security-policy"]
        assert marks.forbidden == []
        seen.add(nonce)
    assert len(seen) == len(answers)


def test_what_breaks_a_page_is_told_to_nobody(hub: PagedHub) -> None:
    with structlog.testing.capture_logs() as logged:
        answer = hub.window().get("/broken")
    assert "E_BUG" in answer.text
    assert SECRET_TEXT not in answer.text + repr(logged)
    assert {"event": "broken", "code": "E_BUG", "type": "RuntimeError"}.items() <= logged[0].items()


# -- cookies -----------------------------------------------------------------------------------------------------------


def cookies_set(answer: httpx2.Response) -> dict[str, set[str]]:
    """Name → what the header says of it, in small letters."""
    lines = [line.split("; ") for line in answer.headers.get_list("set-cookie")]
    return {value.partition("=")[0]: {one.lower() for one in said} for value, *said in lines}


def test_cookies_are_for_this_server_and_no_script_and_behind_a_proxy_for_https_only(
    hub: PagedHub, proxied: PagedHub
) -> None:
    for one, name in ((hub, "hub_{}"), (proxied, "__Host-hub_{}")):
        one.add("dr.rao" if one is hub else "dr.nair")
        (login,) = one.people
        window = one.window()
        first = cookies_set(window.send("/sign-in", {"login": login, "password": PASSWORD}))
        second = cookies_set(window.send("/sign-in/code", {"code": one.people[login].code()}))
        third = cookies_set(window.post("/language", {"language": "hi", "to": "/"}))
        out = cookies_set(window.send("/sign-out", {}, "/account"))
        assert (set(first), set(out)) == ({name.format("pending")}, {name.format("session")})
        assert (set(second), set(third)) == ({name.format("pending"), name.format("session")}, {"language"})
        for said in (*first.values(), *second.values(), *third.values(), *out.values()):
            assert {"httponly", "samesite=strict", "path=/"} <= said
            assert ("secure" in said) == one.secure
            assert not any(part.startswith("domain") for part in said)
        assert "max-age=300" in first[name.format("pending")]
        assert not any(part.startswith("max-age") for part in second[name.format("session")])


def test_a_session_that_a_neighbour_planted_is_none_and_the_one_before_ends(hub: PagedHub, proxied: PagedHub) -> None:
    """Fixation: whoever plants a token that they know must not share the session that begins with it."""
    hub.add("mallory")
    hub.add("dr.rao")
    planted = hub.window_of("mallory").client.cookies["hub_session"]
    window = hub.window()
    hub.bring(window, SESSION, planted)
    window.send("/sign-in", {"login": "dr.rao", "password": PASSWORD}, "/sign-in")
    window.send("/sign-in/code", {"code": hub.people["dr.rao"].code()})
    assert "Name of dr.rao" in window.get("/account").text
    assert window.client.cookies["hub_session"] != planted
    other = hub.window()
    hub.bring(other, SESSION, planted)
    assert other.get("/account").status_code == 303
    behind = proxied.window()
    behind.client.cookies.set("hub_session", window.client.cookies["hub_session"], domain="hub.example", path="/")
    assert behind.get("/account").status_code == 303


# -- from another site -------------------------------------------------------------------------------------------------


def test_a_form_of_another_sites_page_does_nothing(hub: PagedHub) -> None:
    hub.add("dr.rao")
    window = hub.window_of("dr.rao")
    secret = window.csrf
    for site in ("cross-site", "same-site", "anything"):
        for path in ("/sign-in", "/sign-in/code", "/sign-in/set-up", "/language", "/password", "/sign-out"):
            answer = window.post(path, {"csrf": secret, "login": "dr.rao", "password": PASSWORD}, sec_fetch_site=site)
            assert (answer.status_code, "set-cookie" in answer.headers) == (403, False), path
        assert window.get("/account", sec_fetch_site=site).status_code == 200
    assert window.post("/sign-out", {"csrf": secret}, sec_fetch_site="same-origin").status_code == 303
    assert window.get("/account").status_code == 303


def test_another_host_is_refused_but_where_a_proxy_vouches(hub: PagedHub, proxied: PagedHub) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "", "localhost.evil.example:8460"):
        assert hub.window().get("/sign-in", host=host).status_code == 421
    assert proxied.window().get("/sign-in", host="any.example").status_code == 200


@pytest.mark.parametrize(
    "to",
    [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "\\/evil.example",
        "/\t/evil.example",
        "/\r\nlocation: https://evil.example",
        "javascript:alert(1)",
        "/" + "x" * 300,
        "/\u2044evil.example",
        "",
    ],
)
def test_no_form_leads_to_another_server_or_writes_a_header(hub: PagedHub, to: str) -> None:
    answer = hub.window().post("/language", {"language": "hi\r\nx-planted: 1", "to": to})
    assert answer.headers["location"] == "/"
    assert "set-cookie" not in answer.headers
    assert "x-planted" not in answer.headers


def test_what_comes_in_cookies_and_headers_is_no_more_than_words(hub: PagedHub) -> None:
    window = hub.window()
    for value in ("x" * 5_000, "a\x00b", "%0d%0aset-cookie: a=b", "'; DROP TABLE session; --", "é" * 43, "=" * 43):
        sent = f"hub_session={value}; hub_pending={value}; language={value}"
        headers = [(b"cookie", sent.encode()), (b"accept-language", value.encode())]
        for path in ("/account", "/sign-in", "/sign-in/set-up"):
            answer = window.client.get(path, headers=headers)
            assert answer.status_code in (200, 303)
        refused = window.client.post("/sign-in/code", data={"code": value}, headers=headers)
        assert (refused.status_code, "E_BEGIN_AGAIN" in refused.text) == (422, True)


def test_a_form_too_large_is_refused(hub: PagedHub) -> None:
    window = hub.window()
    assert window.post("/sign-in", {"login": "x" * 400_000, "password": "x"}).status_code == 413
    assert window.post("/sign-in", {f"f{number}": "x" for number in range(1_000)}).status_code == 413
    assert (
        window.client.post("/sign-in", content=b"{}", headers={"content-type": "application/json"}).status_code == 422
    )


# -- how often ---------------------------------------------------------------------------------------------------------


def test_who_tries_a_login_too_often_waits_ever_longer_and_others_do_not(hub: PagedHub) -> None:
    for login in ("dr.rao", "dr.nair"):
        hub.add(login)
    window, waits = hub.window(), []
    for _ in range(5):
        assert try_password(window, "dr.rao") == (422, "E_SIGN_IN_REFUSED", 0)
    for _ in range(12):
        assert try_password(window, "dr.rao")[:2] == (422, "E_SIGN_IN_REFUSED")
        status, code, wait_s = try_password(window, "dr.rao", PASSWORD)  # not even the right one
        assert (status, code) == (429, "E_TRY_LATER")
        waits.append(wait_s)
        hub.world.now_ms += wait_s * 1000
    assert waits == sorted(waits)
    assert waits[:4] == [1, 2, 4, 8]
    assert waits[-1] == tries.MAX_WAIT_MS // 1000
    hub.world.now_ms -= 61_000
    told = window.post("/sign-in", {"login": "dr.rao", "password": PASSWORD})
    assert "Try again in 2 minutes." in told.text
    hub.world.now_ms += 61_000
    assert try_password(window, "dr.nair", PASSWORD)[0] == 303
    assert try_password(window, "dr.rao", PASSWORD)[0] == 303
    assert try_password(window, "dr.rao") == (422, "E_SIGN_IN_REFUSED", 0)  # it is forgiven


def test_who_tries_many_logins_waits_by_address_whatever_they_say_they_are(hub: PagedHub) -> None:
    hub.add("dr.rao")
    window = hub.window()
    found = [
        try_password(window, login, x_forwarded_for=f"192.0.2.{number}", forwarded="for=1.2.3.4")[1]
        for number, login in enumerate(many_people(hub, 34))
    ]
    assert found[:30] == ["E_SIGN_IN_REFUSED"] * 30
    assert "E_TRY_LATER" in found[30:]


def many_people(hub: PagedHub, count: int) -> list[str]:
    """Their logins. An unknown one would be refused as well, after more work: only how often is looked at."""
    return [hub.add(f"person{number}", factor=False).person.login for number in range(count)]


def test_behind_a_proxy_its_last_word_says_whence_a_request_comes(proxied: PagedHub) -> None:
    *logins, other, last = many_people(proxied, 34)
    window = proxied.window()
    found = [
        try_password(window, login, x_forwarded_for=f"198.51.100.{number}, 192.0.2.7")[1]
        for number, login in enumerate(logins)
    ]
    assert "E_TRY_LATER" in found
    assert try_password(window, other, x_forwarded_for="192.0.2.8")[1] == "E_SIGN_IN_REFUSED"
    twice = [("x-forwarded-for", "192.0.2.9"), ("x-forwarded-for", "192.0.2.7")]
    answer = window.client.post("/sign-in", data={"login": last, "password": WRONG}, headers=twice)
    assert "E_TRY_LATER" in answer.text


def test_who_guesses_codes_waits_however_often_they_begin_again(hub: PagedHub) -> None:
    rao = hub.add("dr.rao")
    window, codes = hub.window(), []
    for _ in range(3):
        assert window.send("/sign-in", {"login": "dr.rao", "password": PASSWORD}).status_code == 303
        for _ in range(4):
            answer = window.post("/sign-in/code", {"code": "000000"})
            codes.append((answer.status_code, int(answer.headers.get("retry-after", "0"))))
            hub.world.now_ms += codes[-1][1] * 1000
    assert codes[:5] == [(422, 0)] * 5
    waits = [wait_s for status, wait_s in codes if status == 429]
    assert waits == sorted(waits)
    assert len(waits) >= 3
    hub.world.now_ms += tries.MAX_WAIT_MS
    window.send("/sign-in", {"login": "dr.rao", "password": PASSWORD})
    assert window.post("/sign-in/code", {"code": rao.code()}).status_code == 303


def test_where_too_many_sign_in_at_once_one_comes_again_in_a_moment(
    hub: PagedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("dr.rao")
    turns = Turns(at_once=1, waiting=0, wait_s=0.0)
    monkeypatch.setattr(hub.app.state.place.sign_in, "_turns", turns)
    with turns.turn():
        assert try_password(hub.window(), "dr.rao", PASSWORD) == (503, "E_SIGN_IN_BUSY", 3)
    assert try_password(hub.window(), "dr.rao", PASSWORD)[0] == 303


def test_verdicts_are_counted_and_logged_and_nobody_is_named(hub: PagedHub) -> None:
    hub.add("dr.rao")
    with structlog.testing.capture_logs() as logged:
        try_password(hub.window(), "dr.rao")
        hub.signed_in("dr.rao")
    assert [one["verdict"] for one in logged if one["event"] == "sign_in"] == ["refused", "right", "signed_in"]
    assert "rao" not in repr(logged)
    counted = TestClient(hub.app, base_url="http://127.0.0.1").get("/metrics").text
    assert 'hub_sign_ins_total{verdict="signed_in"}' in counted


# -- over a real connection --------------------------------------------------------------------------------------------


@contextmanager
def serving(hub: PagedHub) -> Iterator[int]:
    """The port at which these pages are served, as `hub serve` serves them."""
    server = uvicorn.Server(uvicorn.Config(hub.app, port=0, log_config=None, proxy_headers=False, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            thread.join(0.01)
        yield int(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(START_S)


def test_over_http_it_is_the_same(proxied: PagedHub) -> None:
    proxied.add("dr.rao")
    with serving(proxied) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_S)
        form = {"content-type": "application/x-www-form-urlencoded", "host": BEHIND_PROXY.rpartition("/")[2]}
        connection.request("POST", "/sign-in", f"login=dr.rao&password={PASSWORD.replace(' ', '+')}", form)
        answer = connection.getresponse()
        answer.read()
        assert (answer.status, answer.headers["location"]) == (303, "/sign-in/code")
        cookie = str(answer.headers["set-cookie"])
        assert re.match(
            r"__Host-hub_pending=[\w-]{43}; HttpOnly; Max-Age=300; Path=/; SameSite=strict; Secure$", cookie
        )
        assert {name: answer.headers[name] for name in GUARDS} == GUARDS
        code = proxied.people["dr.rao"].code()
        connection.request("POST", "/sign-in/code", f"code={code}", form | {"cookie": cookie.partition(";")[0]})
        answer = connection.getresponse()
        answer.read()
        session = next(one for one in answer.headers.get_all("set-cookie", []) if "hub_session" in one)
        connection.request("GET", "/account", headers={"cookie": session.partition(";")[0]})
        answer = connection.getresponse()
        assert b"Name of dr.rao" in answer.read()
        connection.request("GET", "/broken", headers={"cookie": session.partition(";")[0]})
        answer = connection.getresponse()
        assert (answer.status, answer.headers["cache-control"]) == (500, "no-store")
        assert SECRET_TEXT.encode() not in answer.read()
        connection.close()
