"""What an operator does at the terminal so that somebody can sign in: each command, and the pages it leads to."""

from __future__ import annotations

import base64
import io
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hub_server.clock import wall_ms
from hub_server.sign_in.credentials import ONE_TIME_MS
from tests.hub.command_line import Answer, Terminal, add_doctor
from tests.hub.paged_hub import PagedHub, Somebody
from tests.hub.test_cli import hub as hub  # the fixture
from tests.pages.window import Window

OWN = "another quiet river song"


def pages_of(hub: Terminal, url: str) -> PagedHub:
    """The same hub's pages, at this moment."""
    world = hub.world(url)
    world.now_ms = wall_ms()
    return PagedHub(world)


def login_of(hub: Terminal, login: str) -> dict[str, Any]:
    (found,) = [one for one in hub("people", "list", "--json").json["people"] if one["login"] == login]
    return dict(found["sign_in"])


def set_up(pages: PagedHub, password: str) -> tuple[Window, Somebody]:
    """The first sign-in, whole."""
    window = pages.window()
    assert window.send("/sign-in", {"login": "dr.rao", "password": password}).headers["location"].endswith("set-up")
    letters = re.search(r'app-letters">([A-Z2-7 ]+)<', window.get("/sign-in/set-up").text)
    assert letters is not None
    somebody = Somebody(pages, None, base64.b32decode(letters[1].replace(" ", "")))  # type: ignore[arg-type]
    typed = {"password": OWN, "twice": OWN, "code": somebody.code()}
    assert window.send("/sign-in/set-up", typed).headers["location"] == "/"
    return window, somebody


def test_a_one_time_password_is_printed_once_and_leads_to_ones_own(hub: Terminal, database_url: str) -> None:
    add_doctor(hub)
    assert login_of(hub, "dr.rao")["has_password"] is False
    printed = hub("people", "password", "dr.rao")
    assert (printed.status, printed.out.count("\n")) == (0, 1)
    password = printed.out.strip()
    assert re.fullmatch(r"([a-z2-7]{4}-){3}[a-z2-7]{4}", password)
    assert password not in printed.err
    assert "/sign-in" in printed.err
    told = login_of(hub, "dr.rao")
    assert (told["has_password"], told["must_change"], told["has_second_factor"]) == (True, True, False)
    expires = datetime.fromisoformat(told["one_time_expires_at"])
    assert timedelta() < expires - datetime.now(UTC) <= timedelta(milliseconds=ONE_TIME_MS)
    window, _ = set_up(pages_of(hub, database_url), password)
    told = login_of(hub, "dr.rao")
    assert (told["must_change"], told["has_second_factor"], told["sessions"]) == (False, True, 1)
    listed = hub("people", "list").out
    assert "can sign in" in listed
    assert window.get("/account").status_code == 200


def test_a_password_of_ones_own_is_replaced_only_when_confirmed_and_ends_the_sessions(
    hub: Terminal, database_url: str
) -> None:
    add_doctor(hub)
    pages = pages_of(hub, database_url)
    window, _ = set_up(pages, hub("people", "password", "dr.rao", "--json").json["password"])
    asked = hub("people", "password", "dr.rao")
    assert (asked.status, "E_NOT_CONFIRMED" in asked.err, asked.out) == (3, True, "")
    assert window.get("/account").status_code == 200
    made = hub("people", "password", "dr.rao", "--yes", "--json").json
    assert (made["schema"], made["sets_up_second_factor"]) == ("hub.password/1", False)
    assert window.get("/account").headers["location"] == "/sign-in"
    fresh = pages.window()
    assert (
        fresh.send("/sign-in", {"login": "dr.rao", "password": made["password"]}).headers["location"].endswith("code")
    )


class _Piped(io.TextIOWrapper):
    """Stdin as a pipe gives it."""


def given(hub: Terminal, monkeypatch: pytest.MonkeyPatch, raw: bytes) -> Answer:
    monkeypatch.setattr(sys, "stdin", _Piped(io.BytesIO(raw)))
    return hub("people", "password", "dr.rao", "--given", "--json")


def test_a_password_may_be_given_on_stdin_and_is_then_not_printed(
    hub: Terminal, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_doctor(hub)
    answer = given(hub, monkeypatch, b"one time river song\nand more\n")
    assert (answer.status, "one time" in answer.out + answer.err, "password" in answer.json) == (0, False, False)
    set_up(pages_of(hub, database_url), "one time river song")
    for raw, code in ((b"", "E_NO_PASSWORD"), (b"\xff\xfe\n", "E_NO_PASSWORD"), (b"dr.rao\n", "E_WEAK_PASSWORD")):
        add = hub("people", "add", "dr.b", "--name", "B", "--registration-number", "K")
        assert add.status == 0
        monkeypatch.setattr(sys, "stdin", _Piped(io.BytesIO(raw)))
        refused = hub("people", "password", "dr.b", "--given")
        assert (refused.status != 0, code in refused.err, refused.out) == (True, True, "")


def test_a_new_second_factor_is_drawn_and_counts_at_once(hub: Terminal, database_url: str) -> None:
    add_doctor(hub)
    pages = pages_of(hub, database_url)
    window, rao = set_up(pages, hub("people", "password", "dr.rao", "--json").json["password"])
    printed = hub("people", "second-factor", "dr.rao", "--yes")
    assert sum("█" in line for line in printed.out.splitlines()) > 15
    letters = printed.out.splitlines()[-1]
    assert re.fullmatch(r"([A-Z2-7]{4} ){7}[A-Z2-7]{4}", letters)
    assert letters not in printed.err
    assert window.get("/account").headers["location"] == "/sign-in"
    signing = pages.window()
    signing.send("/sign-in", {"login": "dr.rao", "password": OWN})
    assert "E_WRONG_CODE" in signing.send("/sign-in/code", {"code": rao.code()}).text
    rao.secret, rao.used = base64.b32decode(letters.replace(" ", "")), 0
    assert signing.send("/sign-in/code", {"code": rao.code()}).headers["location"] == "/"
    shape = hub("people", "second-factor", "dr.rao", "--yes", "--json").json
    assert shape["uri"].startswith("otpauth://totp/Health%20Sync:dr.rao?")
    assert f"secret={shape['secret']}" in shape["uri"]


def test_a_lost_telephone_leads_to_the_first_sign_in_again(hub: Terminal, database_url: str) -> None:
    add_doctor(hub)
    pages = pages_of(hub, database_url)
    set_up(pages, hub("people", "password", "dr.rao", "--json").json["password"])
    assert hub("people", "second-factor", "dr.rao", "--forget").status == 3
    assert hub("people", "second-factor", "dr.rao", "--forget", "--yes").out == "forgotten\n"
    assert login_of(hub, "dr.rao")["has_second_factor"] is False
    assert "no second factor" in hub("people", "list").out
    set_up(pages, hub("people", "password", "dr.rao", "--yes", "--json").json["password"])


def test_somebody_is_signed_out_everywhere_and_whoever_is_disabled_is_out(hub: Terminal, database_url: str) -> None:
    add_doctor(hub)
    pages = pages_of(hub, database_url)
    window, rao = set_up(pages, hub("people", "password", "dr.rao", "--json").json["password"])
    assert hub("people", "sign-out", "dr.rao", "--json").json["sessions"] == 1
    assert window.get("/account").headers["location"] == "/sign-in"
    pages.people["dr.rao"] = rao
    again = pages.signed_in("dr.rao", OWN)
    assert hub("people", "disable", "dr.rao", "--yes").status == 0
    assert again.get("/account").headers["location"] == "/sign-in"
    assert login_of(hub, "dr.rao")["sessions"] == 0
    for words in (["password", "dr.rao"], ["second-factor", "dr.rao"]):
        refused = hub("people", *words)
        assert (refused.status, "E_PERSON_DISABLED" in refused.err) == (3, True)
    for words in (["password", "nobody"], ["second-factor", "nobody"], ["sign-out", "nobody"]):
        assert "E_UNKNOWN_PERSON" in hub("people", *words).err


def test_no_secret_is_found_in_the_database_the_ledger_or_the_audit(
    hub: Terminal, database_url: str, tmp_path: Path
) -> None:
    add_doctor(hub)
    password = hub("people", "password", "dr.rao", "--json").json["password"]
    factor = hub("people", "second-factor", "dr.rao", "--json").json["secret"]
    raw = base64.b32decode(factor)
    with hub.world(database_url).database.transaction() as connection:
        rows = connection.execute("SELECT * FROM credential").fetchall()
        audit = connection.execute("SELECT * FROM audit").fetchall()
    stored = b"".join(bytes(cell) if isinstance(cell, bytes) else repr(cell).encode() for row in rows for cell in row)
    files = b"".join(one.read_bytes() for one in hub.home.rglob("*") if one.is_file())
    for place in (stored, files, repr(audit).encode()):
        for secret in (password.encode(), factor.encode(), raw, raw.hex().encode()):
            assert secret not in place


def test_after_a_restore_everybody_signs_in_again_and_a_password_replaced_since_is_none(
    hub: Terminal, database_url: str, tmp_path: Path
) -> None:
    """It may have been replaced because somebody else knew it; the ledger, which is in no backup, says that it was."""
    add_doctor(hub)
    pages = pages_of(hub, database_url)
    _, rao = set_up(pages, hub("people", "password", "dr.rao", "--json").json["password"])
    assert hub("backup", str(tmp_path / "saved")).status == 0
    since = hub("people", "password", "dr.rao", "--yes", "--json").json["password"]
    pages.world.database.close()
    assert hub("restore", str(tmp_path / "saved"), "--yes").status == 0
    told = login_of(hub, "dr.rao")
    assert (told["has_password"], told["has_second_factor"], told["sessions"]) == (False, True, 0)
    pages = pages_of(hub, database_url)
    for password in (OWN, since):
        assert "E_SIGN_IN_REFUSED" in pages.window().send("/sign-in", {"login": "dr.rao", "password": password}).text
    pages.people["dr.rao"] = Somebody(pages, rao.person, rao.secret, rao.used)
    fresh = hub("people", "password", "dr.rao", "--json").json
    assert fresh["sets_up_second_factor"] is False
    assert pages.signed_in("dr.rao", fresh["password"]).get("/account").headers["location"] == "/password"
