"""Enrolling by files: both command lines, a real database on each side, and no network between them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from sync_protocol import keys
from tests.hub.command_line import Terminal, terminal
from tests.node.command_line import Ended, Runner
from tests.node.enrolled_home import PASSPHRASE

FACILITY = "HWC000001"


class Places:
    """A hub and homes of nodes; `at` says which home the next `hwc` is of."""

    def __init__(self, hub: Terminal, hwc: Runner, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.hub, self.hwc, self.folder, self._patch = hub, hwc, folder, patch
        self.stick = folder / "stick"
        self.stick.mkdir()

    def offline(self, name: str, file: Path, *words: str) -> Ended:
        self._patch.setenv("HWC_HOME", str(self.folder / name))
        return self.hwc("enrol", "--offline", str(file), *words)


@pytest.fixture
def places(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Places:
    hub = terminal(database_url, tmp_path, monkeypatch, capfdbinary)
    for name in [one for one in os.environ if one.startswith("HWC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HWC_PASSPHRASE", PASSPHRASE)
    monkeypatch.setenv("HWC_PERSON_NAME", "Asha Devi")
    assert hub("facility", "add", FACILITY, "Rampur").status == 0
    return Places(hub, Runner(capfdbinary), tmp_path, monkeypatch)


def ended(of: Any, status: int, code: str) -> None:
    assert of.status == status and f"[{code}]" in of.err, (of.status, of.err)


def test_each_step_may_be_repeated_and_gives_the_same(places: Places) -> None:
    code, request, answer = (places.stick / name for name in ("code.hubcode", "code.hubrequest", "answer"))
    told = places.hub("enrol", FACILITY, "--valid", "14d", "--file", str(code), "--json").json
    assert told["file"] == str(code) and code.stat().st_mode & 0o077 == 0
    first = places.offline("asha", code, "--json")
    asked = request.read_bytes()
    assert first.shape["schema"] == "hwc.enrol-request/1" and first.shape["request"] == str(request)
    request.unlink()
    code.write_bytes(code.read_bytes().replace(b"\n", b"\r\n"))  # somebody opened it on another machine
    assert places.offline("asha", code, "--json").shape == first.shape and request.read_bytes() == asked
    ended(places.hwc("courier", "write", str(places.stick / "out")), 4, "E_NOT_ENROLLED")

    made = places.hub("enrol", "--answer", str(request), str(answer), "--json").json
    assert (made["node"], made["facility"]) == (first.shape["node"], FACILITY)
    given = answer.read_bytes()
    assert places.hub("enrol", "--answer", str(request), str(answer)).status == 0
    assert answer.read_bytes() == given, "the first answer may have been lost"

    done = places.offline("asha", answer, "--json")
    assert (done.shape["facility"], done.shape["facility_name"]) == (FACILITY, "Rampur")
    assert places.offline("asha", answer, "--json").shape == done.shape
    assert places.hwc("export", "--kind", "person").lines[0]["fields"]["name"] == "Asha Devi"
    ended(places.offline("asha", code), 1, "E_ALREADY_ENROLLED")


def test_a_used_an_expired_and_an_unknown_code_have_the_codes_of_enrolling_online(places: Places) -> None:
    code, request, answer = (places.stick / name for name in ("code.hubcode", "code.hubrequest", "answer"))
    places.hub("enrol", FACILITY, "--file", str(code))
    places.offline("asha", code)
    assert places.hub("enrol", "--answer", str(request), str(answer)).status == 0
    again = shutil.copytree(places.stick, places.folder / "again")
    places.offline("ravi", again / code.name)
    ended(places.hub("enrol", "--answer", str(again / request.name), str(again / "new")), 1, "E_CODE_USED")
    assert not (again / "new").exists()
    ended(places.offline("ravi", answer), 6, "E_WRONG_CERTIFICATE")
    ended(places.offline("nobody", answer), 1, "E_NO_REQUEST")

    fresh = places.stick / "fresh.hubcode"
    places.hub("enrol", FACILITY, "--file", str(fresh))
    places.offline("ravi", fresh)
    asked = str(fresh.with_suffix(".hubrequest"))
    late = places.hub.world(os.environ["HUB_DATABASE_URL"])
    with late.database.transaction() as connection:
        connection.execute("UPDATE enrolment_code SET expires_ms = 0 WHERE used_by IS NULL")
    ended(places.hub("enrol", "--answer", asked, str(again / "new")), 1, "E_CODE_EXPIRED")
    with late.database.transaction() as connection:
        connection.execute("DELETE FROM enrolment_code WHERE used_by IS NULL")
    ended(places.hub("enrol", "--answer", asked, str(again / "new")), 1, "E_CODE_UNKNOWN")
    late.database.close()

    third = places.stick / "third.hubcode"  # a new code: the same home goes on
    places.hub("enrol", FACILITY, "--file", str(third))
    places.offline("ravi", third)
    assert places.hub("enrol", "--answer", str(third.with_suffix(".hubrequest")), str(again / "new")).status == 0
    assert places.offline("ravi", again / "new").status == 0


def test_what_does_not_check_out_makes_nothing(places: Places) -> None:
    code = places.stick / "code.hubcode"
    places.hub("enrol", FACILITY, "--file", str(code))
    whole = code.read_bytes()
    real, signed = keys.read_code_file(whole)
    wrong = {
        "E_WRONG_HUB": keys.code_file(keys.EnrolmentCode(real.secret, os.urandom(16), real.url), signed),
        "E_BAD_SIGNATURE": keys.code_file(real, signed[:-1] + bytes([signed[-1] ^ 1])),
        "E_MALFORMED": whole[:120],
        "E_TOO_LARGE": whole + b"A" * keys.MAX_CODE_FILE_BYTES,
    }
    for expected, raw in wrong.items():
        code.write_bytes(raw)
        ended(places.offline("asha", code), 6, expected)
        assert not (places.folder / "asha" / "slots.json").exists()
    code.write_bytes(b"no such file\n")
    ended(places.offline("asha", code), 6, "E_MALFORMED")
    ended(places.offline("asha", places.stick / "none"), 1, "E_NO_FILE")
    assert places.offline("asha", code, "CODE").status == 2

    rubbish = places.stick / "rubbish"
    rubbish.write_bytes(os.urandom(3_000))
    assert places.hub("enrol", "--answer", str(rubbish), str(places.stick / "answer")).status == 6
    assert not (places.stick / "answer").exists()
    ended(places.hub("enrol", FACILITY, "--file", str(rubbish)), 1, "E_FILE_EXISTS")
    assert places.hub("enrol", FACILITY, "--file", "a", "--answer", "b").status == 2
