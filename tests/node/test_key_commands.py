"""`hwc key`: a slot for each person, opened by their own passphrase; whoever unlocks is the author."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hwc_node import keystore
from sync_protocol import documents
from tests.node.command_line import Runner, point_at
from tests.node.enrolled_home import PASSPHRASE, PERSON_NAME, Home, make_home

THEIRS = "a lantern under the bridge"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    made = make_home(tmp_path)
    point_at(made, monkeypatch)
    return made


@pytest.fixture
def hwc(capfdbinary: pytest.CaptureFixture[bytes]) -> Runner:
    return Runner(capfdbinary)


def added(hwc: Runner, monkeypatch: pytest.MonkeyPatch, name: str = "Ramesh Kumar") -> str:
    monkeypatch.setenv("HWC_NEW_PASSPHRASE", THEIRS)
    ended = hwc("key", "add", name, "--json")
    assert ended.status == 0, ended.err
    return str(ended.shape["slots"][0]["id"])


def test_slots_are_listed_without_a_passphrase(home: Home, hwc: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HWC_PASSPHRASE")
    for words in (("key",), ("key", "list")):
        ended = hwc(*words, "--json")
        assert ended.status == 0
        assert ended.shape["schema"] == "hwc.key/1"
        assert [one["name"] for one in ended.shape["slots"]] == [PERSON_NAME]
    assert PERSON_NAME in hwc("key", "list").out


def test_another_person_unlocks_with_their_own_passphrase_and_is_the_author(
    home: Home, hwc: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    added(hwc, monkeypatch)
    monkeypatch.setenv("HWC_PASSPHRASE", THEIRS)
    line = tmp_path / "line.jsonl"
    line.write_text(json.dumps({"kind": "patient", "fields": {"name": "Sunita", "sex": "F"}}) + "\n")
    assert hwc("import", str(line)).status == 0
    authors = {one["person"] for one in hwc("export", "--changes", "--kind", "patient").lines}
    unlocked = keystore.unlock(home.config.slots_path, THEIRS)
    assert authors == {documents.id_text(unlocked.person)}
    names = [one["fields"]["name"] for one in hwc("export", "--kind", "person").lines]
    assert "Ramesh Kumar" in names


def test_a_pin_is_refused_with_the_reason(home: Home, hwc: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWC_NEW_PASSPHRASE", "482913")
    for words in (("key", "add", "Ramesh Kumar"), ("key", "change")):
        ended = hwc(*words)
        assert ended.status == 1
        assert "[E_WEAK_PASSPHRASE]" in ended.err
        assert "graphics card" in ended.err
    assert hwc("status").status == 0


def test_a_name_that_is_taken_is_refused(home: Home, hwc: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWC_NEW_PASSPHRASE", THEIRS)
    ended = hwc("key", "add", PERSON_NAME)
    assert ended.status == 1
    assert "[E_NAME_TAKEN]" in ended.err


def test_a_removed_person_unlocks_nothing_any_more(home: Home, hwc: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    slot = added(hwc, monkeypatch)
    asked = hwc("key", "remove", slot)
    assert asked.status == 1
    assert "[E_NOT_CONFIRMED]" in asked.err
    ended = hwc("key", "remove", "ramesh kumar", "--yes", "--json")
    assert ended.status == 0
    assert ended.shape["removed"]["id"] == slot
    monkeypatch.setenv("HWC_PASSPHRASE", THEIRS)
    assert "[E_WRONG_PASSPHRASE]" in hwc("status").err


def test_the_last_slot_stays_and_an_unknown_one_is_said_to_be(home: Home, hwc: Runner) -> None:
    assert "[E_LAST_SLOT]" in hwc("key", "remove", PERSON_NAME, "--yes").err
    assert "[E_NO_SUCH_SLOT]" in hwc("key", "remove", "Nobody", "--yes").err
    assert hwc("status").status == 0


def test_a_passphrase_is_changed(home: Home, hwc: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWC_NEW_PASSPHRASE", THEIRS)
    ended = hwc("key", "change")
    assert ended.status == 0, ended.err
    assert PASSPHRASE not in ended.out + ended.err
    assert THEIRS not in ended.out + ended.err
    assert "[E_WRONG_PASSPHRASE]" in hwc("status").err
    monkeypatch.setenv("HWC_PASSPHRASE", THEIRS)
    assert hwc("status").status == 0


@pytest.mark.parametrize("words", [("key", "add", "X"), ("key", "change"), ("key", "remove", "X", "--yes")])
def test_the_wrong_passphrase_changes_nothing(
    home: Home, hwc: Runner, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    before = home.config.slots_path.read_bytes()
    monkeypatch.setenv("HWC_PASSPHRASE", "not the one at all")
    monkeypatch.setenv("HWC_NEW_PASSPHRASE", THEIRS)
    ended = hwc(*words)
    assert ended.status == 1
    assert re.search(r"\[E_WRONG_PASSPHRASE\]", ended.err)
    assert home.config.slots_path.read_bytes() == before
