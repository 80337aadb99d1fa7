"""Who works at which browser: several people share the device, each with their own passphrase.

A session is a random token in a cookie; only its hash is kept, in memory, so that a restart locks everybody out. One
that was not used for a while is *locked*: it shows nothing, but still knows whose entry is under way, so that what they
send is kept for them (`drafts`). A session counts only the way it began, HTTP or HTTPS: a token that somebody overheard
on the Wi-Fi opens nothing that is encrypted, and nobody can slip one in there for another to work under. Trying
passphrases is made slow: each failure of a name doubles its next wait.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from sync_protocol.change import PersonId
from sync_protocol.errors import NeedsPerson
from sync_protocol.words import N_

TOKEN_BYTES: Final = 32
MAX_SESSIONS: Final = 64  # browsers of one centre; the one used longest ago goes
FORGOTTEN_S: Final = 16 * 3600.0  # a locked session still says whose draft it is until the next day's work
FREE_TRIES: Final = 4  # Caps Lock, the other language's keyboard
FIRST_WAIT_S: Final = 15.0
LONGEST_WAIT_S: Final = 900.0
MAX_SAVED: Final = 64  # forms of a session: a late word of one comes within seconds
MAX_NAMES: Final = 256  # names that are tried: bounds what a guesser can make us remember


@dataclass(slots=True)
class Session:
    """csrf: what each form of this session carries. used_s: by the monotonic clock. encrypted: begun over HTTPS.
    saved: the forms that were saved last, each by its path and which one of them it was."""

    person: PersonId
    name: str
    slot: str
    csrf: str
    used_s: float
    encrypted: bool = False
    locked: bool = False
    saved: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=MAX_SAVED))


class Sessions:
    def __init__(self, lock_after_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock_after_s = lock_after_s
        self._clock = clock
        self._held: dict[bytes, Session] = {}
        self._guard = threading.Lock()

    def begin(self, person: PersonId, name: str, slot: str, *, encrypted: bool = False) -> str:
        """A new session; its token."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        session = Session(person, name, slot, secrets.token_urlsafe(TOKEN_BYTES), self._clock(), encrypted)
        with self._guard:
            while len(self._held) >= MAX_SESSIONS:
                del self._held[min(self._held, key=lambda one: self._held[one].used_s)]
            self._held[_name(token)] = session
        return token

    def find(self, token: str, *, encrypted: bool = False, used: bool = True) -> Session | None:
        """The session of a token, locked if it rested too long. encrypted: how the token came. used: whether this
        counts as work."""
        if not token:
            return None
        now_s = self._clock()
        with self._guard:
            session = self._held.get(_name(token))
            if session is None or session.encrypted != encrypted:
                return None
            rested_s = now_s - session.used_s
            if rested_s > FORGOTTEN_S:
                del self._held[_name(token)]
                return None
            session.locked = session.locked or rested_s > self._lock_after_s
            if used and not session.locked:
                session.used_s = now_s
            return session

    def lock(self, token: str) -> None:
        with self._guard:
            if (session := self._held.get(_name(token))) is not None:
                session.locked = True

    def end(self, token: str) -> None:
        with self._guard:
            self._held.pop(_name(token), None)

    def end_without(self, slots: frozenset[str]) -> None:
        """Whoever's key slot is gone is out."""
        with self._guard:
            self._held = {name: one for name, one in self._held.items() if one.slot in slots}


def _name(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


class Patience:
    """How long the next try of a name has to wait, after failures."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: dict[str, tuple[int, float]] = {}
        self._guard = threading.Lock()

    def require(self, name: str) -> None:
        """Raises NeedsPerson (``E_TRY_LATER``)."""
        with self._guard:
            _, until_s = self._failures.get(name, (0, 0.0))
        if self._clock() < until_s:
            raise NeedsPerson(
                N_("Too many tries with a wrong passphrase. Wait a few minutes, then try again."), code="E_TRY_LATER"
            )

    def failed(self, name: str) -> None:
        with self._guard:
            count = self._failures.get(name, (0, 0.0))[0] + 1
            wait_s = min(FIRST_WAIT_S * 2.0 ** (count - FREE_TRIES), LONGEST_WAIT_S) if count >= FREE_TRIES else 0.0
            if len(self._failures) >= MAX_NAMES and name not in self._failures:
                del self._failures[min(self._failures, key=lambda one: self._failures[one][1])]
            self._failures[name] = (count, self._clock() + wait_s)

    def succeeded(self, name: str) -> None:
        with self._guard:
            self._failures.pop(name, None)
