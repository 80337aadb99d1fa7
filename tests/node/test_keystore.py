"""Key slots: what opens them, what does not, and what a hostile, cut or newer file can do (DESIGN §7)."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwc_node import keystore
from hwc_node.keystore import DatabaseKey
from sync_protocol.change import PersonId
from sync_protocol.errors import HealthSyncError, InvalidValue, NeedsPerson, OurFault, TheirBytes, Unsupported
from tests.beside import BESIDE

ASHA = PersonId(bytes(range(16)))
RAVI = PersonId(bytes(range(16, 32)))
ASHA_WORDS = "lamp river seven mango"
RAVI_WORDS = "quiet brick yellow boat"
REAL_MEMORY_KIB, REAL_ITERATIONS = keystore.NEW_MEMORY_KIB, keystore.NEW_ITERATIONS  # the tests make theirs cheap


@pytest.fixture(scope="module")
def two_people(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, DatabaseKey]:
    """The bytes of a file with Asha's and Ravi's slots, and the key: made once."""
    path = tmp_path_factory.mktemp("slots") / "slots.json"
    key = keystore.create(path, ASHA, "Asha", ASHA_WORDS)
    keystore.add_slot(path, key, RAVI, "Ravi", RAVI_WORDS)
    return path.read_bytes(), key


@pytest.fixture
def path(two_people: tuple[bytes, DatabaseKey], tmp_path: Path) -> Path:
    (tmp_path / "slots.json").write_bytes(two_people[0])
    return tmp_path / "slots.json"


def _code(call: Callable[[], object], kind: type[HealthSyncError] = HealthSyncError) -> str:
    with pytest.raises(kind) as caught:
        call()
    return caught.value.code


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_a_new_slot_costs_the_work_of_rfc_9106_and_the_memory_of_owasp() -> None:
    assert REAL_MEMORY_KIB * REAL_ITERATIONS >= 64 * 1024 * 3
    assert REAL_MEMORY_KIB >= 19 * 1024


def test_each_person_opens_the_same_key_and_is_named(path: Path, two_people: tuple[bytes, DatabaseKey]) -> None:
    asha = keystore.unlock(path, ASHA_WORDS, "Asha")
    ravi = keystore.unlock(path, RAVI_WORDS)  # no name: the passphrase tells who
    assert asha.key == ravi.key == two_people[1] and len(asha.key) == 32
    assert (asha.person, ravi.person) == (ASHA, RAVI)
    assert (asha.slot.name, ravi.slot.name, asha.slot.kind) == ("Asha", "Ravi", "passphrase")
    assert keystore.slots(path) == (asha.slot, ravi.slot)


def test_capitals_and_blanks_of_the_name_do_not_matter(path: Path) -> None:
    assert keystore.unlock(path, ASHA_WORDS, " aSHA ").person == ASHA


def test_the_file_holds_no_key_and_no_passphrase_and_is_private(path: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh" / "slots.json"
    fresh.parent.mkdir()
    key = keystore.create(fresh, ASHA, "Asha", ASHA_WORDS)
    raw = fresh.read_bytes()
    assert bytes(key) not in raw and key.hex().encode() not in raw and b"mango" not in raw
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o600
    assert {entry.name for entry in fresh.parent.iterdir()} == {"slots.json", "slots.json.lock"}
    shown = repr(keystore.unlock(fresh, ASHA_WORDS))
    assert key.hex() not in shown and repr(key) not in shown


def test_a_wrong_passphrase_a_wrong_name_and_another_persons_passphrase_look_the_same(path: Path) -> None:
    errors = []
    for passphrase, name in [("wrong words here", "Asha"), (ASHA_WORDS, "Nobody"), (ASHA_WORDS, "Ravi"), ("", None)]:
        with pytest.raises(NeedsPerson) as caught:
            keystore.unlock(path, passphrase, name)
        errors.append((caught.value.code, caught.value.message, caught.value.next_step))
    assert len(set(errors)) == 1 and errors[0][0] == "E_WRONG_PASSPHRASE"


@pytest.mark.parametrize("passphrase", ["x" * 100_000, "\udcff\udcfe not text", ASHA_WORDS + " ", ASHA_WORDS.upper()])
def test_what_can_be_no_passphrase_is_a_wrong_one(path: Path, passphrase: str) -> None:
    assert _code(lambda: keystore.unlock(path, passphrase, "Asha"), NeedsPerson) == "E_WRONG_PASSPHRASE"


def test_the_same_text_in_another_unicode_form_opens(tmp_path: Path) -> None:
    path = tmp_path / "slots.json"
    keystore.create(path, ASHA, "José क\u200dष", "caf\u00e9 நன்றி क\u093c")
    assert keystore.unlock(path, "cafe\u0301 நன்றி \u0958", "JOSE\u0301 क\u200dष").person == ASHA


@pytest.mark.parametrize(
    ("passphrase", "reason"),
    [
        ("123456", "it|graphics card"),
        ("12345678", "graphics card"),
        ("9876543210", "graphics card"),
        ("१२३४५६", "graphics card"),
        ("", "at least 8"),
        ("short", "at least 8"),
        ("abababababab", "different"),
        ("Sunita Devi", "name"),
        ("ab cd " * 2000, "bytes"),
        ("abcdefgh\udcff", "text"),
    ],
)
def test_a_weak_passphrase_is_refused_with_its_reason(tmp_path: Path, passphrase: str, reason: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        keystore.create(tmp_path / "slots.json", ASHA, "sunita devi", passphrase)
    assert caught.value.code == "E_WEAK_PASSPHRASE" and caught.value.field == "passphrase"
    assert any(part in caught.value.message for part in reason.split("|"))
    assert not any(tmp_path.iterdir())


def test_a_passphrase_of_words_or_of_many_digits_is_fit() -> None:
    for passphrase in ("மாம்பழம் ஆறு விளக்கு", "293847561029", "abcdefgh"):
        assert keystore.checked_passphrase(passphrase) == passphrase.encode()


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x00", "x" * 65])
def test_a_name_that_nobody_can_type_is_refused(tmp_path: Path, name: str) -> None:
    assert _code(lambda: keystore.create(tmp_path / "s", ASHA, name, ASHA_WORDS), InvalidValue) == "E_BAD_NAME"


def test_creating_twice_keeps_the_first(path: Path) -> None:
    before = path.read_bytes()
    assert _code(lambda: keystore.create(path, RAVI, "Ravi", RAVI_WORDS), OurFault) == "E_ALREADY_ENROLLED"
    assert path.read_bytes() == before


def test_without_a_file_the_node_is_not_enrolled(tmp_path: Path) -> None:
    assert _code(lambda: keystore.unlock(tmp_path / "slots.json", ASHA_WORDS), NeedsPerson) == "E_NOT_ENROLLED"


def test_a_name_is_given_once_and_a_foreign_key_is_not_added(path: Path) -> None:
    key = keystore.unlock(path, ASHA_WORDS, "Asha").key
    assert _code(lambda: keystore.add_slot(path, key, RAVI, "ASHA", "some other words")) == "E_NAME_TAKEN"
    foreign = DatabaseKey(os.urandom(32))
    assert _code(lambda: keystore.add_slot(path, foreign, RAVI, "Meera", "some other words")) == "E_WRONG_KEY"
    assert _code(lambda: keystore.add_slot(path, key, PersonId(b"x"), "Meera", "some other words")) == "E_OUR_FAULT"
    assert len(keystore.slots(path)) == 2


def test_one_passphrase_of_two_people_needs_the_name(path: Path) -> None:
    key = keystore.unlock(path, ASHA_WORDS, "Asha").key
    keystore.add_slot(path, key, PersonId(b"m" * 16), "Meera", ASHA_WORDS)
    assert _code(lambda: keystore.unlock(path, ASHA_WORDS), NeedsPerson) == "E_SEVERAL_PEOPLE"
    assert keystore.unlock(path, ASHA_WORDS, "Meera").person == b"m" * 16


def test_a_removed_slot_opens_nothing_and_the_last_one_stays(path: Path) -> None:
    asha, ravi = keystore.slots(path)
    assert keystore.remove_slot(path, asha.slot_id) == asha
    assert _code(lambda: keystore.unlock(path, ASHA_WORDS)) == "E_WRONG_PASSPHRASE"
    assert _code(lambda: keystore.remove_slot(path, asha.slot_id), OurFault) == "E_NO_SUCH_SLOT"
    assert _code(lambda: keystore.remove_slot(path, ravi.slot_id), OurFault) == "E_LAST_SLOT"
    assert keystore.unlock(path, RAVI_WORDS).person == RAVI


def test_a_changed_passphrase_replaces_the_old_one_only(path: Path, two_people: tuple[bytes, DatabaseKey]) -> None:
    before = keystore.slots(path)
    keystore.change_passphrase(path, "asha", ASHA_WORDS, "new words for asha")
    assert keystore.slots(path) == before
    assert keystore.unlock(path, "new words for asha", "Asha").key == two_people[1]
    assert _code(lambda: keystore.unlock(path, ASHA_WORDS, "Asha")) == "E_WRONG_PASSPHRASE"
    assert keystore.unlock(path, RAVI_WORDS, "Ravi").key == two_people[1]
    assert _code(lambda: keystore.change_passphrase(path, "asha", ASHA_WORDS, "x y z again")) == "E_WRONG_PASSPHRASE"
    assert _code(lambda: keystore.change_passphrase(path, "ravi", RAVI_WORDS, "654321")) == "E_WEAK_PASSPHRASE"


def test_slots_of_unknown_kinds_are_kept_as_they_are(path: Path) -> None:
    newer = {"slot_id": "ab" * 16, "kind": "recovery", "sealed": {"to": ["hub", 1.5, None]}, "more": "नया"}
    _edit(path, lambda document: document["slots"].insert(1, newer) or document.update(later={"x": 1}))
    _edit(path, lambda document: document["slots"][0].update(hint="kept too"))
    shown = keystore.slots(path)[1]
    assert (shown.kind, shown.person, shown.name) == ("recovery", None, None)
    key = keystore.unlock(path, ASHA_WORDS, "Asha").key
    keystore.add_slot(path, key, PersonId(b"m" * 16), "Meera", "meera has her own words")
    keystore.change_passphrase(path, "Asha", ASHA_WORDS, "new words for asha")
    document = json.loads(path.read_text())
    assert document["slots"][1] == newer and document["later"] == {"x": 1}
    assert document["slots"][0]["hint"] == "kept too"
    keystore.remove_slot(path, keystore.slots(path)[3].slot_id)
    keystore.remove_slot(path, keystore.slots(path)[2].slot_id)
    last = keystore.slots(path)[0].slot_id  # the recovery slot is no reason to remove the last passphrase
    assert _code(lambda: keystore.remove_slot(path, last)) == "E_LAST_SLOT"


def test_a_file_of_a_newer_program_is_told_apart_from_a_corrupt_one(path: Path) -> None:
    _edit(path, lambda document: document.update(schema="hwc.slots/2"))
    assert _code(lambda: keystore.unlock(path, ASHA_WORDS), Unsupported) == "E_UNSUPPORTED"


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "100 GiB": lambda document: document["slots"][0]["kdf"].update(memory_kib=100 * 1024 * 1024),
    "a billion rounds": lambda document: document["slots"][0]["kdf"].update(iterations=10**9),
    "no memory": lambda document: document["slots"][0]["kdf"].update(memory_kib=0),
    "many lanes": lambda document: document["slots"][0]["kdf"].update(lanes=2**31),
    "a cost that is true": lambda document: document["slots"][0]["kdf"].update(iterations=True),
    "another derivation": lambda document: document["slots"][0]["kdf"].update(algorithm="md5"),
    "no cost": lambda document: document["slots"][0].pop("kdf"),
    "33 slots": lambda document: document.update(slots=document["slots"][:1] * 33),
    "no slots": lambda document: document.update(slots=[]),
    "a slot twice": lambda document: document.update(slots=document["slots"][:1] * 2),
    "slots are text": lambda document: document.update(slots="x"),
    "a slot is a number": lambda document: document["slots"].append(7),
    "a short key": lambda document: document["slots"][0].update(wrapped="00"),
    "a salt that is no hex": lambda document: document["slots"][0].update(salt="z" * 32),
    "a name that is a list": lambda document: document["slots"][0].update(name=["Asha"]),
    "another schema": lambda document: document.update(schema="something"),
    "no schema": lambda document: document.pop("schema"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_refused_before_any_work(path: Path, case: str) -> None:
    _edit(path, HOSTILE[case])
    assert _code(lambda: keystore.unlock(path, ASHA_WORDS, "Asha"), TheirBytes) == "E_SLOTS_CORRUPT"


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"\xff\xfe", b"null", b"[" * 60_000, b" " * 70_000, b'{"schema": ' + b"9" * 5_000],
    ids=["empty", "a list", "no text", "null", "nested", "huge", "a huge number"],
)
def test_a_file_that_is_no_slots_is_corrupt(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    assert _code(lambda: keystore.slots(path), TheirBytes) == "E_SLOTS_CORRUPT"


def test_every_cut_of_the_file_is_corrupt(path: Path) -> None:
    raw = path.read_bytes().rstrip()
    for size in range(0, len(raw), 37):
        path.write_bytes(raw[:size])
        assert _code(lambda: keystore.slots(path), TheirBytes) == "E_SLOTS_CORRUPT"


@pytest.mark.parametrize("field", ["person", "name", "slot_id", "salt", "nonce", "wrapped", "kdf"])
def test_any_changed_part_of_a_slot_opens_nothing(path: Path, field: str) -> None:
    """The file says that Asha's slot is Ravi's, or costs less: the passphrase is right, and still it does not open."""
    others = {"person": RAVI.hex(), "name": "Ashok", "kdf": {"algorithm": "argon2id", "memory_kib": 1024,
              "iterations": 1, "lanes": 1}}  # fmt: skip

    def change(document: dict[str, Any]) -> None:
        slot = document["slots"][0]
        flipped = f"{int(str(slot[field])[:2], 16) ^ 1:02x}" + slot[field][2:] if field not in others else None
        slot[field] = flipped or others[field]

    _edit(path, change)
    name = "Ashok" if field == "name" else "Asha"
    assert _code(lambda: keystore.unlock(path, ASHA_WORDS, name), NeedsPerson) == "E_WRONG_PASSPHRASE"


def test_a_slot_copied_from_another_home_is_noticed(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    keystore.create(other, RAVI, "Stranger", RAVI_WORDS)
    foreign = json.loads(other.read_text())["slots"][0]
    _edit(path, lambda document: document["slots"].append(foreign))
    assert _code(lambda: keystore.unlock(path, RAVI_WORDS, "Stranger"), TheirBytes) == "E_SLOTS_CORRUPT"
    assert keystore.unlock(path, RAVI_WORDS, "Ravi").person == RAVI


def _add(path: str, key: bytes, number: int) -> None:
    keystore.add_slot(
        Path(path), DatabaseKey(key), PersonId(bytes([number]) * 16), f"P{number}", f"words of {number} p"
    )


def test_two_programs_adding_at_once_lose_no_slot(path: Path, two_people: tuple[bytes, DatabaseKey]) -> None:
    programs = [BESIDE.Process(target=_add, args=(str(path), two_people[1], number)) for number in (1, 2, 3)]
    for program in programs:
        program.start()
    for program in programs:
        program.join(120)
    assert [program.exitcode for program in programs] == [0, 0, 0]
    assert {slot.name for slot in keystore.slots(path)} == {"Asha", "Ravi", "P1", "P2", "P3"}


def _add_on_a_full_disk(path: str, key: bytes, answers: Any) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write beyond the limit fails as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    try:
        _add(path, key, 1)
    except HealthSyncError as error:
        answers.put(error.code)


def test_a_write_that_fails_leaves_the_old_file_whole(path: Path, two_people: tuple[bytes, DatabaseKey]) -> None:
    before = path.read_bytes()
    answers = BESIDE.SimpleQueue()
    program = BESIDE.Process(target=_add_on_a_full_disk, args=(str(path), two_people[1], answers))
    program.start()
    program.join(120)
    assert program.exitcode == 0 and answers.get() == "E_DISK_FULL"
    assert path.read_bytes() == before
    assert {entry.name for entry in path.parent.iterdir()} == {"slots.json", "slots.json.lock"}
