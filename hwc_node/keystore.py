"""The key slots: who may open this node's database, and with what (DESIGN §7).

The database is encrypted under one random 256-bit key. The key sits in *slots*, each of which holds it wrapped under
something that a person has. A passphrase slot belongs to one person: who unlocks is the author of what they write.

    passphrase --Argon2id(salt, cost)--> wrapping key --AES-256-GCM-SIV(nonce, header as AAD)--> wrapped database key

Rules. The header (whose slot, which name, which cost) is authenticated: nobody can turn one person's slot into
another's. The file is read as hostile: its size, the number of slots and the cost they ask for are bounded before any
work is done. A wrong passphrase, an unknown name and a slot that was tampered with are one error that takes the same
kind of work, so that trying tells nothing. The file is replaced as a whole, durably, and changed under a lock. Slots
of kinds that this program does not know are kept as they are. Removing a slot does not change the database key:
whoever has an older copy of the file and the old passphrase still opens what they copied.

It refuses to know SQL, the network, and the node's private identity, which lives inside of the encrypted database.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NewType

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from hwc_node import files
from hwc_node.config import FILE_MODE, storage_fault
from sync_protocol.change import PersonId
from sync_protocol.errors import InvalidValue, NeedsPerson, OurFault, TheirBytes, Unsupported

DatabaseKey = NewType("DatabaseKey", bytes)
"""32 random bytes: the raw key of the database. Never logged, never written but wrapped."""
SlotId = NewType("SlotId", str)
"""32 hex digits, random."""

SCHEMA: Final = "hwc.slots/1"
PASSPHRASE_KIND: Final = "passphrase"
KEY_BYTES: Final = 32
SALT_BYTES: Final = 16
NONCE_BYTES: Final = 12
WRAPPED_BYTES: Final = KEY_BYTES + 16  # the key and the tag of AES-GCM-SIV
ID_BYTES: Final = 16

# What a new slot costs: some 100 ms on a laptop, 400 ms on a Raspberry Pi 4, and 19 MiB that a graphics card has to
# find for each guess it makes at once. The work (memory times passes) is that of RFC 9106's second choice, 64 MiB and 3
# passes; the memory is little, and OWASP's least, since people unlock the pages of a program that has to stay below
# 150 MB on a 1 GB laptop.
NEW_MEMORY_KIB: Final = 19 * 1024
NEW_ITERATIONS: Final = 11
NEW_LANES: Final = 4
# What a slot of the file may ask for: some times that memory and those lanes, and a pass more, so that a hostile file cannot
# take the machine's memory or its afternoon.
MAX_MEMORY_KIB: Final = 256 * 1024
MAX_ITERATIONS: Final = 12
MAX_LANES: Final = 16
MIN_MEMORY_KIB_PER_LANE: Final = 8  # RFC 9106

MAX_FILE_BYTES: Final = 64 * 1024  # 32 slots take 16 KiB
MAX_SLOTS: Final = 32  # the people of a centre are some ten; trying them all takes seconds
MAX_NAME_CHARACTERS: Final = 64
MIN_PASSPHRASE_CHARACTERS: Final = 8
MIN_DIGITS_ONLY: Final = 12  # 40 bits; fewer digits are a PIN, a birth date or a phone number
MIN_DISTINCT_CHARACTERS: Final = 4
MAX_PASSPHRASE_BYTES: Final = 1024
LOCK_TRIES: Final = 100  # with the pause below some 10 s: one change of the file takes 100 to 400 ms
LOCK_PAUSE_S: Final = 0.1

WRAP_LABEL: Final = b"hwc key slot 1\0"
CHECK_LABEL: Final = b"hwc database key check 1\0"
HEX: Final = re.compile(r"(?:[0-9a-f]{2})*")


@dataclass(frozen=True, slots=True)
class Slot:
    """What may be shown of a slot. ``person`` and ``name`` are None for kinds that this program does not know."""

    slot_id: SlotId
    kind: str
    person: PersonId | None
    name: str | None


@dataclass(frozen=True, slots=True)
class Unlocked:
    """The database key, and the person whose slot gave it: the author of what is written from now on."""

    key: DatabaseKey = field(repr=False)
    person: PersonId
    slot: Slot


@dataclass(frozen=True, slots=True)
class _PassphraseSlot:
    """A passphrase slot as the file holds it. ``cost`` is (memory in KiB, iterations, lanes)."""

    shown: Slot
    person: PersonId
    cost: tuple[int, int, int]
    salt: bytes
    nonce: bytes
    wrapped: bytes


def create(path: Path, person: PersonId, name: str, passphrase: str) -> DatabaseKey:
    """Draw a new database key and write ``path`` with one slot for ``person``. Durable on return.

    Raises ``OurFault`` (``E_ALREADY_ENROLLED``: there is such a file, ``E_DISK_FULL``, ``E_READ_ONLY``, ``E_BUSY``)
    and ``InvalidValue`` (``E_WEAK_PASSPHRASE``, ``E_BAD_NAME``).
    """
    name, secret = checked_name(name), checked_passphrase(passphrase, name)
    key = DatabaseKey(secrets.token_bytes(KEY_BYTES))
    with _locked(path):
        if path.exists():
            raise OurFault(
                "This home has its key slots already.",
                code="E_ALREADY_ENROLLED",
                next_step="Use 'hwc key add' for another person, or another home.",
            )
        _, stored = _wrap(key, SlotId(secrets.token_hex(ID_BYTES)), person, name, secret)
        _write(path, {"schema": SCHEMA, "key_check": _key_check(key), "slots": [stored]})
    return key


def unlock(path: Path, passphrase: str, name: str | None = None) -> Unlocked:
    """Open the slot called ``name``, or without a name the one slot that the passphrase opens.

    Without a name all slots are tried, each time: at most ``MAX_SLOTS`` times the cost of one. Raises ``NeedsPerson``
    (``E_WRONG_PASSPHRASE``; ``E_SEVERAL_PEOPLE``: two people chose the same passphrase, so the name must be given;
    ``E_NOT_ENROLLED``: no such file) and ``TheirBytes`` (``E_SLOTS_CORRUPT``).
    """
    document = _read(path)
    secret = _normalised(passphrase)
    tried = [slot for slot in _passphrase_slots(document) if name is None or _is_called(slot, name)]
    opened = [(slot, key) for slot in tried if (key := _unwrap(slot, secret)) is not None]
    if not tried:  # the same work for a name that nobody has
        _derive(secret, secrets.token_bytes(SALT_BYTES), (NEW_MEMORY_KIB, NEW_ITERATIONS, NEW_LANES))
    if not opened:
        raise NeedsPerson(
            "This name and passphrase open nothing here.",
            code="E_WRONG_PASSPHRASE",
            next_step="Check the name, the keyboard's language and Caps Lock, and try again.",
        )
    if len(opened) > 1:
        raise NeedsPerson(
            "More than one person uses this passphrase, so it does not tell who is writing.",
            code="E_SEVERAL_PEOPLE",
            next_step="Give the name as well, and choose another passphrase with 'hwc key change'.",
        )
    slot, key = opened[0]
    if not hmac.compare_digest(_key_check(key), str(document.get("key_check", ""))):
        raise _corrupt("a slot opens with the key of another database")
    return Unlocked(key=key, person=slot.person, slot=slot.shown)


def is_key_of(path: Path, key: DatabaseKey) -> bool:
    """Whether these slots hold this key, told without a passphrase. Raises as ``slots`` does."""
    return hmac.compare_digest(_key_check(key), str(_read(path).get("key_check", "")))


def slots(path: Path) -> tuple[Slot, ...]:
    """All slots in the file's order, unknown kinds included. Raises as ``unlock`` does."""
    return tuple(_shown(entry) for entry in _read(path)["slots"])


def add_slot(path: Path, key: DatabaseKey, person: PersonId, name: str, passphrase: str) -> Slot:
    """Give ``person`` a slot of their own for the database that ``key`` opens. Durable on return.

    Raises as ``create`` and ``unlock`` do, ``OurFault``: ``E_NAME_TAKEN``, ``E_TOO_MANY_SLOTS``, and ``NeedsPerson``:
    ``E_WRONG_KEY`` (the key is not this file's).
    """
    name, secret = checked_name(name), checked_passphrase(passphrase, name)
    with _locked(path):
        document = _read(path)
        if not is_key_of(path, key):
            raise NeedsPerson(
                "The key is not that of these key slots.",
                code="E_WRONG_KEY",
                next_step="Check that node.db and slots.json belong together.",
            )
        if len(document["slots"]) >= MAX_SLOTS:
            raise OurFault(
                f"There are {MAX_SLOTS} key slots already.",
                code="E_TOO_MANY_SLOTS",
                next_step="Remove one that nobody uses with 'hwc key remove'.",
            )
        if any(_is_called(slot, name) for slot in _passphrase_slots(document)):
            raise OurFault("A slot with this name exists.", code="E_NAME_TAKEN", next_step="Choose another name.")
        slot, stored = _wrap(key, SlotId(secrets.token_hex(ID_BYTES)), person, name, secret)
        _write(path, document | {"slots": [*document["slots"], stored]})
    return slot


def remove_slot(path: Path, slot_id: SlotId) -> Slot:
    """Remove a slot and return it. Never the last that a passphrase opens (``OurFault``, ``E_LAST_SLOT``).

    Raises as ``slots`` does, and ``OurFault`` (``E_NO_SUCH_SLOT``). The database key stays the same.
    """
    with _locked(path):
        document = _read(path)
        gone = next((entry for entry in document["slots"] if _shown(entry).slot_id == slot_id), None)
        if gone is None:
            raise OurFault("There is no such key slot.", code="E_NO_SUCH_SLOT", next_step="See 'hwc key list'.")
        kept = [entry for entry in document["slots"] if entry is not gone]
        if not any(_shown(entry).kind == PASSPHRASE_KIND for entry in kept):
            raise OurFault(
                "This is the last slot that a passphrase opens; without it the database is lost.",
                code="E_LAST_SLOT",
                next_step="Add another person first with 'hwc key add'.",
            )
        _write(path, document | {"slots": kept})
    return _shown(gone)


def change_passphrase(path: Path, name: str | None, old_passphrase: str, new_passphrase: str) -> Unlocked:
    """Wrap the key of one slot anew under ``new_passphrase``; slot id, person and name stay. Durable on return.

    Raises as ``unlock`` does for the old passphrase and as ``create`` does for the new one.
    """
    with _locked(path):
        unlocked = unlock(path, old_passphrase, name)
        own_name = unlocked.slot.name or ""
        secret = checked_passphrase(new_passphrase, own_name)
        _, stored = _wrap(unlocked.key, unlocked.slot.slot_id, unlocked.person, own_name, secret)
        document = _read(path)
        changed = [
            entry | stored if _shown(entry).slot_id == unlocked.slot.slot_id else entry for entry in document["slots"]
        ]
        _write(path, document | {"slots": changed})
    return unlocked


def checked_passphrase(passphrase: str, name: str = "") -> bytes:
    """The passphrase as NFC UTF-8, fit for a new slot. Raises ``InvalidValue`` (``E_WEAK_PASSPHRASE``)."""
    text = unicodedata.normalize("NFC", passphrase[: MAX_PASSPHRASE_BYTES + 1])  # a megabyte need not be read
    reason = ""
    if text.isdecimal() and len(text) < MIN_DIGITS_ONLY:
        reason = f"Fewer than {MIN_DIGITS_ONLY} digits alone are too weak: a PIN falls in minutes to one graphics card."
    elif len(text) < MIN_PASSPHRASE_CHARACTERS:
        reason = f"A passphrase needs at least {MIN_PASSPHRASE_CHARACTERS} characters."
    elif len(set(text)) < MIN_DISTINCT_CHARACTERS:
        reason = f"A passphrase needs at least {MIN_DISTINCT_CHARACTERS} different characters."
    elif name and text.casefold() == name.casefold():
        reason = "A passphrase must not be the name."
    elif _encoded(text) is None:
        reason = f"A passphrase is text of at most {MAX_PASSPHRASE_BYTES} bytes."
    if reason:
        raise InvalidValue(
            reason,
            field="passphrase",
            code="E_WEAK_PASSPHRASE",
            next_step="Take four or more unrelated words; they are easy to remember and type.",
        )
    return _normalised(text)


def checked_name(name: str) -> str:
    """The name a person types to unlock: NFC, trimmed, one line. Raises ``InvalidValue`` (``E_BAD_NAME``)."""
    text = unicodedata.normalize("NFC", name).strip()
    # Joiners (U+200C, U+200D) are part of how names are written in Indian scripts, though they are not "printable".
    if not 1 <= len(text) <= MAX_NAME_CHARACTERS or not re.sub("[\u200c\u200d]", "", text).isprintable():
        raise InvalidValue(
            f"A name is one line of 1 to {MAX_NAME_CHARACTERS} characters.", field="name", code="E_BAD_NAME"
        )
    return text


def _is_called(slot: _PassphraseSlot, name: str) -> bool:
    """Whether ``name``, as typed, means this slot: capitals and blanks around it do not matter."""
    own = unicodedata.normalize("NFC", slot.shown.name or "").casefold()
    return own == unicodedata.normalize("NFC", name).strip().casefold()


def _encoded(text: str) -> bytes | None:
    """UTF-8, or None if too long or no text (an environment variable may hold bytes that are not UTF-8)."""
    try:
        raw = text.encode("utf-8")
    except UnicodeEncodeError:
        return None
    return raw if len(raw) <= MAX_PASSPHRASE_BYTES else None


def _normalised(passphrase: str) -> bytes:
    """The bytes that are tried. What can be no passphrase becomes the empty one, which no slot has."""
    if len(passphrase) > MAX_PASSPHRASE_BYTES:
        return b""
    return _encoded(unicodedata.normalize("NFC", passphrase)) or b""


def _derive(secret: bytes, salt: bytes, cost: tuple[int, int, int]) -> bytes:
    memory_kib, iterations, lanes = cost
    kdf = Argon2id(salt=salt, length=KEY_BYTES, iterations=iterations, lanes=lanes, memory_cost=memory_kib)
    return kdf.derive(secret)


def _header(slot: Slot, cost: tuple[int, int, int], salt: bytes) -> bytes:
    """What the seal binds, as canonical JSON: sorted keys, no spaces, ASCII."""
    parts = {"slot_id": slot.slot_id, "kind": slot.kind, "person": (slot.person or b"").hex(), "name": slot.name,
             "cost": list(cost), "salt": salt.hex()}  # fmt: skip
    return WRAP_LABEL + json.dumps(parts, sort_keys=True, separators=(",", ":")).encode("ascii")


def _wrap(key: DatabaseKey, slot_id: SlotId, person: PersonId, name: str, secret: bytes) -> tuple[Slot, dict[str, Any]]:
    """A new slot, and how the file holds it. Salt and nonce are drawn here."""
    if len(person) != ID_BYTES or len(key) != KEY_BYTES:  # written down, it would be found corrupt by the next reader
        raise OurFault(f"A person is {ID_BYTES} bytes and a database key {KEY_BYTES}.")
    slot = Slot(slot_id=slot_id, kind=PASSPHRASE_KIND, person=person, name=name)
    cost = (NEW_MEMORY_KIB, NEW_ITERATIONS, NEW_LANES)
    salt, nonce = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES)
    wrapped = AESGCMSIV(_derive(secret, salt, cost)).encrypt(nonce, bytes(key), _header(slot, cost, salt))
    kdf = {"algorithm": "argon2id", "memory_kib": cost[0], "iterations": cost[1], "lanes": cost[2]}
    stored = {"slot_id": slot_id, "kind": slot.kind, "person": person.hex(), "name": name, "kdf": kdf,
              "salt": salt.hex(), "nonce": nonce.hex(), "wrapped": wrapped.hex()}  # fmt: skip
    return slot, stored


def _unwrap(slot: _PassphraseSlot, secret: bytes) -> DatabaseKey | None:
    wrapping_key = _derive(secret, slot.salt, slot.cost)
    try:
        return DatabaseKey(
            AESGCMSIV(wrapping_key).decrypt(slot.nonce, slot.wrapped, _header(slot.shown, slot.cost, slot.salt))
        )
    except InvalidTag:
        return None


def _key_check(key: bytes) -> str:
    """Tells whether a key belongs to a file. A hash of 256 random bits tells nothing else."""
    return hashlib.sha256(CHECK_LABEL + key).hexdigest()[: 2 * ID_BYTES]


def _read(path: Path) -> dict[str, Any]:
    """The file's document, its frame and every slot checked; unknown parts as they are."""
    try:
        with path.open("rb") as opened:
            raw = opened.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise NeedsPerson(
            "This home holds no key slots.", code="E_NOT_ENROLLED", next_step="Enrol this node with 'hwc enrol CODE'."
        ) from None
    except OSError as error:
        raise storage_fault(error, "The key slots cannot be read") from error
    if len(raw) > MAX_FILE_BYTES:
        raise _corrupt(f"the file is larger than {MAX_FILE_BYTES} bytes")
    try:
        document = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        raise _corrupt("the file is no JSON") from None
    if not isinstance(document, dict) or not isinstance(document.get("schema"), str):
        raise _corrupt("the file does not say what it is")
    if document["schema"] != SCHEMA:
        if document["schema"].startswith("hwc.slots/"):
            raise Unsupported("The key slots were written by a newer program.", next_step="Update this program.")
        raise _corrupt("the file is something else")
    entries = document.get("slots")
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_SLOTS:
        raise _corrupt(f"it holds no list of 1 to {MAX_SLOTS} slots")
    if len({_shown(entry).slot_id for entry in entries}) != len(entries):
        raise _corrupt("two slots have one id")
    _passphrase_slots(document)
    return document


def _shown(entry: object) -> Slot:
    if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str):
        raise _corrupt("a slot does not say what it is")
    slot_id = SlotId(_hex(entry, "slot_id", ID_BYTES).hex())
    if entry["kind"] != PASSPHRASE_KIND:
        return Slot(slot_id=slot_id, kind=entry["kind"], person=None, name=None)
    name = entry.get("name")
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME_CHARACTERS:
        raise _corrupt("a slot's name is malformed")
    return Slot(slot_id=slot_id, kind=PASSPHRASE_KIND, person=PersonId(_hex(entry, "person", ID_BYTES)), name=name)


def _passphrase_slots(document: dict[str, Any]) -> list[_PassphraseSlot]:
    return [_stored(entry) for entry in document["slots"] if entry["kind"] == PASSPHRASE_KIND]


def _stored(entry: dict[str, Any]) -> _PassphraseSlot:
    kdf = entry.get("kdf")
    if not isinstance(kdf, dict) or kdf.get("algorithm") != "argon2id":
        raise _corrupt("a slot's key derivation is unknown")
    lanes = _whole(kdf, "lanes", 1, MAX_LANES)
    iterations = _whole(kdf, "iterations", 1, MAX_ITERATIONS)
    memory_kib = _whole(kdf, "memory_kib", MIN_MEMORY_KIB_PER_LANE * lanes, MAX_MEMORY_KIB)
    return _PassphraseSlot(
        shown=_shown(entry),
        person=PersonId(_hex(entry, "person", ID_BYTES)),
        cost=(memory_kib, iterations, lanes),
        salt=_hex(entry, "salt", SALT_BYTES),
        nonce=_hex(entry, "nonce", NONCE_BYTES),
        wrapped=_hex(entry, "wrapped", WRAPPED_BYTES),
    )


def _hex(entry: dict[str, Any], name: str, size_bytes: int) -> bytes:
    text = entry.get(name)
    if not isinstance(text, str) or len(text) != 2 * size_bytes or not HEX.fullmatch(text):
        raise _corrupt(f"a slot's {name} is malformed")
    return bytes.fromhex(text)


def _whole(entry: dict[str, Any], name: str, low: int, high: int) -> int:
    number = entry.get(name)
    if type(number) is not int or not low <= number <= high:  # a bool is an int to Python
        raise _corrupt(f"a slot's {name} is not from {low} to {high}")
    return number


def _corrupt(reason: str) -> TheirBytes:
    return TheirBytes(
        f"The key slots cannot be used: {reason}.",
        code="E_SLOTS_CORRUPT",
        next_step="Put slots.json back from a copy; the database stays as it is until then.",
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One change of the file at a time, across programs. The lock's file stays; the system frees it with its owner."""
    try:
        lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        raise storage_fault(error, "The key slots cannot be changed") from error
    try:
        for _ in range(LOCK_TRIES):
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(LOCK_PAUSE_S)
        else:
            raise OurFault("Another program is changing the key slots.", code="E_BUSY", next_step="Try again.")
        yield
    finally:
        os.close(lock)


def _write(path: Path, document: dict[str, Any]) -> None:
    """Replace the file as a whole: a power cut at any moment leaves the old one or the new one."""
    try:
        raw = json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False).encode("utf-8") + b"\n"
    except (ValueError, RecursionError):  # a part that this program does not know holds what JSON cannot
        raise _corrupt("it holds values that are no JSON") from None
    if len(raw) > MAX_FILE_BYTES:
        raise _corrupt(f"it would grow beyond {MAX_FILE_BYTES} bytes")
    files.replace(path, raw, failed="The key slots cannot be written")
