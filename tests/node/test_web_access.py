"""Who may see a page, and what nobody can do from elsewhere: walked from the route table itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from fastapi.routing import APIRoute

from hwc_node import drafts, keystore, overview, standing
from hwc_node.web.desk import page_of
from sync_protocol.documents import id_text
from sync_protocol.schema import Writer
from tests.node.enrolled_home import NOW_MS, PASSPHRASE, PERSON, PERSON_NAME, arrive, fresh_id
from tests.node.paged_centre import SECOND_NAME, SECOND_PASSPHRASE, Centre

PUBLIC = {
    ("GET", "/unlock"),
    ("POST", "/unlock"),
    ("POST", "/language"),
    ("GET", "/healthz"),
    ("GET", "/certificate"),  # a phone needs the certificate before its first passphrase; it is no secret
    ("GET", "/certificate/centre.crt"),
}
STATIC = "/static/{digest}/{name}"
GUARDS = ("content-security-policy", "referrer-policy", "x-content-type-options", "x-frame-options")


@pytest.fixture
def centre(tmp_path: Path) -> Centre:
    return Centre.begin(tmp_path)


def routes(centre: Centre, of: Mapping[str, str] = MappingProxyType({})) -> list[tuple[str, str]]:
    """(method, a path of the route) of all that the pages have. of: first part of a path → the name that it has there."""
    found = []
    for route in _routes(centre.app.routes):
        path = route.path.replace("{kind}", "case").replace("{field:path}", "history")
        path = path.replace("{name}", of.get(path.split("/")[1], "{name}"))
        for name in ("name", "case", "due", "record", "reply", "other"):
            path = path.replace(f"{{{name}}}", id_text(fresh_id()))
        assert "{" not in path or route.path == STATIC, f"the walk does not know what to put into {route.path}"
        found += [(method, path) for method in sorted((route.methods or set()) - {"HEAD"}) if route.path != STATIC]
    return found


def _routes(every: Sequence[object]) -> list[APIRoute]:
    """Those of the application, and of the routers that it includes."""
    found: list[APIRoute] = []
    for one in every:
        included = getattr(one, "original_router", None)
        if included is not None:
            found += _routes(included.routes)
        elif isinstance(one, APIRoute):
            found.append(one)
    return found


def test_the_walk_sees_every_part_of_the_pages(centre: Centre) -> None:
    paths = {path.split("/")[1] for _, path in routes(centre)}
    assert {"", "unlock", "patients", "referrals", "decisions", "sync", "register", "find", "draft"} <= paths


def test_who_is_not_in_sees_and_does_nothing(centre: Centre) -> None:
    window, before = centre.window(), standing.standing(centre.store).changes
    for method, path in routes(centre):
        if (method, path) in PUBLIC:
            continue
        answer = window.get(path) if method == "GET" else window.post(path, {"csrf": "guessed"})
        assert (answer.status_code, answer.headers.get("location")) == (303, "/unlock"), f"{method} {path}"
    assert standing.standing(centre.store).changes == before


def test_a_form_without_the_sessions_secret_does_nothing(centre: Centre) -> None:
    window = centre.window_of()
    other = centre.window_of().csrf
    for method, path in routes(centre):
        if method == "POST" and (method, path) not in PUBLIC:
            for fields in ({}, {"csrf": ""}, {"csrf": "guessed"}, {"csrf": other}):
                assert window.post(path, fields).headers.get("location") == "/unlock", path
    assert standing.standing(centre.store).changes == 0


def test_what_is_not_there_is_no_page_and_no_error_of_ours(centre: Centre) -> None:
    window = centre.window_of()
    secret = window.csrf
    for method, path in routes(centre):
        answer = window.get(path) if method == "GET" else window.post(path, {"csrf": secret})
        assert answer.status_code < 500, f"{method} {path}"
        if path == "/lock":
            window = centre.window_of()
            secret = window.csrf
    for path in ("/patients/x", "/patients/..%2f..", "/decisions/case/x/y", f"/referrals/{'9' * 400}", "/none"):
        assert window.get(path).status_code == 404, path


def test_what_another_centre_did_waits_for_nobody_here_and_is_not_ours_to_acknowledge_or_withdraw(
    centre: Centre,
) -> None:
    """Of a patient who came with a card: the records of both centres are here."""
    there: dict[str, Any] = {"facility": "HWC000002"}
    who = arrive(centre.store, "patient", {"name": "Kamala Elsewhere"}, 1, **there).record
    case = arrive(centre.store, "case", {"at": NOW_MS, "history": "fever"}, 2, patient=who, **there).record
    asked: dict[str, Any] = {"at": NOW_MS, "specialty": "ent", "urgency": "emergency", "case": case}
    referred = arrive(centre.store, "referral", asked, 3, patient=who, **there).record
    said: dict[str, Any] = {"referral": referred, "mode": "text", "advice": "Fluids."}
    reply = arrive(centre.store, "reply", said, 4, patient=who, origin=Writer.DOCTOR, **there)
    arrive(centre.store, "follow_up", {"due": "2026-02-01", "case": case}, 5, patient=who, **there)
    window = centre.window_of()
    counted = overview.counts(centre.store, "2026-02-02")
    assert (counted.overdue, counted.unread, counted.waiting) == (0, 0, 0)
    named = {"patients": id_text(who), "referrals": id_text(referred)}
    sent = {"csrf": window.csrf, "reply": id_text(reply.record), "why": "gone", "text": "How is she?"}
    ours = {("POST", f"/referrals/{named['referrals']}/{verb}") for verb in ("read", "withdraw")}
    before, walked = standing.standing(centre.store).changes, set()
    for method, path in routes(centre, named):
        if path.startswith("/referrals/") and method == "POST" and not path.endswith("/message"):
            answer = window.post(path, sent)
            assert (answer.status_code in (403, 422), "E_OTHER_CENTRES" in answer.text) == (True, True), path
            walked.add((method, path))
        elif method == "GET" and not path.startswith("/patients/") and "/prescription/" not in path:
            answer = window.get(path)
            assert ("Kamala" in answer.text) is path.startswith("/referrals/") or "pdf" in path, path
    assert walked == ours
    assert standing.standing(centre.store).changes == before
    page, patient = (window.get(f"/{part}/{name}").text for part, name in reversed(named.items()))
    assert "from elsewhere: HWC000002" in page
    assert "Fluids." in page
    assert "I have read the answer" not in page
    assert "/withdraw" not in page
    assert f"/referrals/{named['referrals']}" in patient


def test_every_answer_is_guarded_and_kept_by_nobody(centre: Centre) -> None:
    for window in (centre.window(), centre.window_of()):
        for method, path in routes(centre):
            if method == "GET":
                answer = window.get(path)
                assert all(name in answer.headers for name in GUARDS), path
                assert answer.headers["cache-control"] == "no-store", path
                assert "unsafe" not in answer.headers["content-security-policy"]


def test_another_host_is_refused(centre: Centre) -> None:
    window = centre.window()
    for host in ("evil.example", "127.0.0.1.evil.example", "", "localhost.evil.example:8090"):
        assert window.client.get("/unlock", headers={"host": host}).status_code == 421
    for host in ("127.0.0.1:8090", "localhost", "192.168.1.10:8090", "[::1]:8090", "centre.local"):
        assert window.client.get("/unlock", headers={"host": host}).status_code == 200


def test_a_cookie_is_for_this_server_and_no_script(centre: Centre) -> None:
    answer = centre.window().post("/unlock", {"name": PERSON_NAME, "passphrase": PASSPHRASE})
    said = answer.headers["set-cookie"].lower()
    assert "httponly" in said
    assert "samesite=strict" in said


def test_a_wrong_passphrase_opens_nothing_and_trying_gets_slow(centre: Centre) -> None:
    window = centre.window()
    for _ in range(4):
        answer = window.post("/unlock", {"name": PERSON_NAME, "passphrase": "not this one at all"})
        assert answer.status_code == 422
        assert "E_WRONG_PASSPHRASE" in answer.text
        assert "not this one at all" not in answer.text
    assert "E_TRY_LATER" in window.post("/unlock", {"name": PERSON_NAME, "passphrase": PASSPHRASE}).text
    centre.clock.s += 1_000
    assert window.post("/unlock", {"name": PERSON_NAME, "passphrase": PASSPHRASE}).status_code == 303


def test_a_session_rests_and_is_locked_and_the_line_does_not_keep_it_awake(centre: Centre) -> None:
    window = centre.window_of()
    for _ in range(4):
        centre.clock.s += centre.home.config.lock_after_s / 4 + 1
        window.get("/sync/line")
    assert window.get("/").headers.get("location") == "/unlock"
    assert window.client.get("/sync/line", headers={"hx-request": "true"}).headers["hx-redirect"] == "/unlock"


def test_who_locks_shows_nothing_more(centre: Centre) -> None:
    window = centre.window_of()
    assert window.post("/lock", {"csrf": window.csrf}).headers["location"] == "/unlock"
    assert window.get("/today").headers.get("location") == "/unlock"
    assert PERSON_NAME in window.get("/unlock").text


def test_what_was_typed_when_the_page_locked_itself_is_found_on_a_page(centre: Centre) -> None:
    """Of every form, and of what a page sends by itself while somebody types."""
    found_again = set()
    for path in [path for method, path in routes(centre) if method == "POST"]:
        window, kept = centre.window_of(), f"typed into {path}"
        secret = window.csrf
        window.post("/lock", {"csrf": secret})
        window.post(path, {"csrf": secret, "text": kept, "name": PERSON_NAME, "passphrase": "none", "at": "/sync"})
        window = centre.window_of()
        for draft in drafts.of_person(centre.store, PERSON):
            assert draft.place == (draft.place if path == "/draft" else path)
            assert draft.fields["text"] == [kept]
            page = page_of(draft.place)
            assert f'href="{page}"' in window.get("/").text, path
            assert window.get(page).status_code in (200, 404), page
            found_again.add(path.rpartition("/")[2] or path)
            window.post("/draft/drop", {"csrf": window.csrf, "at": page})
        assert drafts.of_person(centre.store, PERSON) == []
    entries = {"register", "visit", "edit", "correct", "refer", "error", "message", "read", "withdraw", "history"}
    assert found_again >= entries | {"elsewhere", "draft"}, entries - found_again
    window, visit = centre.window_of(), f"/patients/{id_text(fresh_id())}/visit"
    secret = window.csrf
    window.post("/lock", {"csrf": secret})
    window.post("/draft", {"csrf": secret, "at": visit, "history": "since yesterday"})
    found = drafts.find(centre.store, PERSON, visit)
    assert found is not None
    assert found.fields == {"history": ["since yesterday"]}


def test_whose_key_slot_is_removed_is_out(centre: Centre) -> None:
    centre.add_second()
    window = centre.window_of(SECOND_NAME, SECOND_PASSPHRASE)
    assert window.get("/").status_code == 200
    (slot,) = [one for one in keystore.slots(centre.home.config.slots_path) if one.name == SECOND_NAME]
    keystore.remove_slot(centre.home.config.slots_path, slot.slot_id)
    assert window.get("/").headers.get("location") == "/unlock"


def test_after_unlocking_one_is_where_one_was_and_nowhere_else(centre: Centre) -> None:
    window = centre.window()
    window.get("/referrals")
    answer = window.post("/unlock", {"name": PERSON_NAME, "passphrase": PASSPHRASE})
    assert answer.headers["location"] == "/referrals"
    centre.clock.s += centre.home.config.lock_after_s + 1
    page = f"/patients/{id_text(fresh_id())}/visit"
    for at, back in (
        (f"http://127.0.0.1{page}?all=1", page),
        ("http://127.0.0.1/nothing", "/"),
        ("//evil.example", "/"),
    ):
        polled = window.get("/sync/line", hx_request="true", hx_current_url=at)
        assert polled.headers["hx-redirect"] == "/unlock"
        answer = window.post("/unlock", {"name": PERSON_NAME, "passphrase": PASSPHRASE})
        assert answer.headers["location"] == back
        window.post("/lock", {"csrf": window.csrf})
    for odd in ("//evil.example/x", "/\\evil.example", "https://evil.example", "/a\nb"):
        fresh = centre.window()
        fresh.client.cookies.set("back", odd.replace("\n", "%0a"))
        answer = fresh.post("/unlock", {"name": PERSON_NAME, "passphrase": PASSPHRASE})
        assert answer.headers["location"].startswith("/")
        assert not answer.headers["location"].startswith(("//", "/\\"))
        assert "evil" not in centre.window().post("/language", {"language": "hi", "to": odd}).headers["location"]


def test_a_form_too_large_is_refused(centre: Centre) -> None:
    window = centre.window_of()
    answer = window.post("/find", {"csrf": window.csrf, "typed": "x" * 400_000})
    assert answer.status_code == 413
    many = {f"f{number}": "x" for number in range(1_000)}
    assert window.post("/find", {**many, "csrf": window.csrf}).status_code == 413


def test_another_sites_form_is_refused_and_a_browser_that_says_nothing_is_not(centre: Centre) -> None:
    window = centre.window_of()
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 303), ("none", 303)):
        answer = window.client.post("/language", data={"language": "en"}, headers={"sec-fetch-site": site})
        assert answer.status_code == status, site
    assert window.post("/language", {"language": "en"}).status_code == 303
    assert window.client.get("/today", headers={"sec-fetch-site": "cross-site"}).status_code == 200


def test_a_page_that_fails_is_told_without_its_text_and_guarded_like_any(
    centre: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = centre.window_of()

    def fails(*_: object) -> object:
        raise RuntimeError("Lakshmi Devi has a fever")

    monkeypatch.setattr(overview, "visits", fails)
    answer = window.get("/today")
    assert answer.status_code == 500
    assert "[E_BUG]" in answer.text
    assert "Lakshmi" not in answer.text
    assert all(name in answer.headers for name in GUARDS)
    assert answer.headers["cache-control"] == "no-store"


def test_choosing_a_language_leads_back_to_a_page_that_there_is(centre: Centre) -> None:
    window = centre.window_of()
    name = id_text(fresh_id())
    for at, back in (
        ("/today", "/today"),
        (f"/referrals/{name}/message", f"/referrals/{name}"),
        ("/find", "/"),
        ("/draft/drop", "/"),
        ("/nothing/here", "/"),
    ):
        assert window.post("/language", {"language": "hi", "to": at}).headers["location"] == back
