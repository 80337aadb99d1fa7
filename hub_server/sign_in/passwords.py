"""Passwords: what makes a good one, its Argon2id hash, and how much of that work is done at once.

The cost stands beside each hash, so that it can be raised; what is read is bounded, so that an altered row cannot take
the hub's memory. The work for a login that nobody has is the same as for one that somebody has.
"""

from __future__ import annotations

import base64
import hmac
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from hub_server.people import Person
from hub_server.sign_in.refusals import SignInBusy
from sync_protocol.errors import BadSignature, InvalidValue
from sync_protocol.words import N_

HASH_BYTES: Final = 32
SALT_BYTES: Final = 16
ONE_TIME_RANDOM_BYTES: Final = 10
MIN_CHARACTERS: Final = 8  # with a second factor beside it, and few tries
MIN_DIGITS_ONLY: Final = 12  # fewer are a birth date or a phone number
MIN_DISTINCT_CHARACTERS: Final = 4
MAX_PASSWORD_BYTES: Final = 1024
# Each piece of this work takes 64 MiB and all cores of a small machine for a sixth of a second.
MAX_AT_ONCE: Final = 1
MAX_WAITING: Final = 8
MAX_WAIT_S: Final = 3.0
RETRY_AFTER_S: Final = 3


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one hash. memory_kib: in KiB."""

    memory_kib: int
    iterations: int
    lanes: int

    @property
    def is_bearable(self) -> bool:
        """At most four times that of a new one in each respect, and what Argon2 takes at all (RFC 9106)."""
        most = (self.memory_kib <= 256 * 1024, self.iterations <= 12, self.lanes <= 16)
        return all(most) and self.lanes >= 1 and self.iterations >= 1 and self.memory_kib >= 8 * self.lanes


NEW_COST: Final = Cost(memory_kib=64 * 1024, iterations=3, lanes=4)  # RFC 9106's second choice


@dataclass(frozen=True, slots=True)
class Hashed:
    """hash: 32 bytes, never stored but wrapped."""

    hash: bytes = field(repr=False)
    salt: bytes
    cost: Cost


def make_password(password: str, person: Person, randomness: bytes) -> Hashed:
    """The hash of a new password. randomness: SALT_BYTES. Raises InvalidValue (``E_WEAK_PASSWORD``)."""
    check(password, person)
    salt = randomness[:SALT_BYTES]
    return Hashed(_derive(_bytes_of(password), salt, NEW_COST), salt, NEW_COST)


def matches(password: str, stored: Hashed | None) -> bool:
    """Whether this is the password. None, for nobody: the same work, and False. Raises BadSignature for a cost that
    no program wrote (``E_STORED_ALTERED``)."""
    if stored is None:
        _derive(_bytes_of(password), bytes(SALT_BYTES), NEW_COST)
        return False
    if not stored.cost.is_bearable or len(stored.salt) != SALT_BYTES:
        raise BadSignature("a stored password's cost was altered", code="E_STORED_ALTERED")
    return hmac.compare_digest(_derive(_bytes_of(password), stored.salt, stored.cost), stored.hash)


def one_time_password(randomness: bytes) -> str:
    """80 bits to be read out over a telephone, as four groups of a-z and 2-7. randomness: ONE_TIME_RANDOM_BYTES."""
    text = base64.b32encode(randomness[:ONE_TIME_RANDOM_BYTES]).decode().lower()
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))


def check(password: str, person: Person) -> None:
    """Raises InvalidValue (``E_WEAK_PASSWORD``)."""
    text = unicodedata.normalize("NFC", password[: MAX_PASSWORD_BYTES + 1])
    names = {person.login.casefold(), person.login.partition("@")[0].casefold(), person.name.casefold()}
    reason = ""
    if text.isdecimal() and len(text) < MIN_DIGITS_ONLY:
        reason = N_("Digits alone are too weak, unless there are at least 12.")
    elif len(text) < MIN_CHARACTERS:
        reason = N_("A password needs at least 8 characters.")
    elif len(set(text)) < MIN_DISTINCT_CHARACTERS:
        reason = N_("A password needs at least 4 different characters.")
    elif text.casefold() in names:
        reason = N_("The password must not be the name.")
    elif not _bytes_of(password):
        reason = N_("A password is text of at most 1024 bytes.")
    if reason:
        raise InvalidValue(
            reason,
            field="password",
            code="E_WEAK_PASSWORD",
            next_step=N_("Take four or more unrelated words; they are easy to remember and type."),
        )


def _bytes_of(password: str) -> bytes:
    """What is hashed: NFC, as UTF-8. What can be no password becomes the empty one, which nobody has."""
    if len(password) > MAX_PASSWORD_BYTES:
        return b""
    try:
        raw = unicodedata.normalize("NFC", password).encode("utf-8")
    except UnicodeEncodeError:
        return b""
    return raw if len(raw) <= MAX_PASSWORD_BYTES else b""


# OpenSSL has one set of threads for the lanes of all: two such works at once wait for each other for ever, or fail.
_ALONE: Final = threading.Lock()


def _derive(password: bytes, salt: bytes, cost: Cost) -> bytes:
    kdf = Argon2id(
        salt=salt, length=HASH_BYTES, iterations=cost.iterations, lanes=cost.lanes, memory_cost=cost.memory_kib
    )
    with _ALONE:
        return kdf.derive(password)


class Turns:
    """Lets few do this work at once, so that signing in cannot starve the hub: some wait a little, others come again."""

    def __init__(self, at_once: int = MAX_AT_ONCE, waiting: int = MAX_WAITING, wait_s: float = MAX_WAIT_S) -> None:
        self._here = threading.BoundedSemaphore(at_once + waiting)
        self._working = threading.BoundedSemaphore(at_once)
        self._wait_s = wait_s

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Raises SignInBusy."""
        if not self._here.acquire(blocking=False):
            raise SignInBusy(RETRY_AFTER_S)
        try:
            if not self._working.acquire(timeout=self._wait_s):
                raise SignInBusy(RETRY_AFTER_S)
            try:
                yield
            finally:
                self._working.release()
        finally:
            self._here.release()
