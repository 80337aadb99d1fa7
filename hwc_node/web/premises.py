"""What the pages of one centre share: its settings, its opened database, who is in, and the background sync.

The database is opened by the first passphrase that opens it, at the command or at a page, and stays open, since the
background sync works while nobody looks. Unlocking takes one passphrase at a time: each costs 64 MiB of memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from hwc_node import keystore
from hwc_node.config import NodeConfig
from hwc_node.keystore import Unlocked
from hwc_node.local_ca import Issued
from hwc_node.store import Store
from hwc_node.web.sessions import Patience, Session, Sessions
from sync_protocol.errors import NeedsPerson, OurFault
from sync_protocol.words import N_

UNLOCK_PATIENCE_S: Final = 10.0  # how long one waits for another who unlocks at the same moment


class Syncing(Protocol):
    """The background sync, as the pages see it."""

    @property
    def running(self) -> bool: ...
    @property
    def next_in_s(self) -> float | None: ...
    @property
    def steps(self) -> tuple[int, int] | None:
        """How many are done, and of how many, while an exchange runs."""
        ...

    def hurry(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Https:
    """Where the same pages are encrypted, and the certificate that is shown there."""

    port: int
    issued: Issued


@dataclass
class Premises:
    """opening: opens the database with a key, and starts what needs it. store: None until somebody unlocked.

    port: of plain HTTP. https: None where it is not served, or not yet.
    """

    config: NodeConfig
    opening: Callable[[bytes], Store]
    now_ms: Callable[[], int]
    store: Store | None = None
    syncing: Syncing | None = None
    port: int = 0
    https: Https | None = None
    sessions: Sessions = field(init=False)
    patience: Patience = field(default_factory=Patience)
    trim: Callable[[], object] = lambda: None  # gives freed memory back to the system
    _unlocking: threading.Lock = field(default_factory=threading.Lock)
    _slots_changed_ns: int = -1

    def __post_init__(self) -> None:
        self.sessions = Sessions(self.config.lock_after_s)

    def people(self) -> list[str]:
        """The names of those who can unlock this node."""
        return [one.name for one in keystore.slots(self.config.slots_path) if one.name]

    def unlock(self, name: str, passphrase: str, *, encrypted: bool = False) -> tuple[Unlocked, str]:
        """Let a person in; their session's token. Raises as `keystore.unlock`, and NeedsPerson (``E_TRY_LATER``).

        encrypted: whether it is asked for over HTTPS, and so whether the session counts there or over HTTP.
        """
        known = name.strip().casefold()
        self.patience.require(known)
        if not self._unlocking.acquire(timeout=UNLOCK_PATIENCE_S):
            raise OurFault(N_("Somebody else is unlocking at this moment. Try again."), code="E_BUSY")
        try:
            self.give_back()
            unlocked = keystore.unlock(self.config.slots_path, passphrase, name or None)
            if self.store is None:
                self.store = self.opening(unlocked.key)
        except NeedsPerson:
            self.patience.failed(known)
            raise
        finally:
            self._unlocking.release()
        self.patience.succeeded(known)
        person, name, slot = unlocked.person, unlocked.slot.name or "", unlocked.slot.slot_id
        return unlocked, self.sessions.begin(person, name, slot, encrypted=encrypted)

    def give_back(self) -> None:
        """Before memory is needed: what the database's connections hold for pages to come goes back."""
        if self.store is not None:
            self.store.rest()
        self.trim()

    def session(self, token: str, *, encrypted: bool = False, used: bool = True) -> Session | None:
        """The session of a token. Whoever's key slot was removed meanwhile is out."""
        self._look_at_slots()
        return self.sessions.find(token, encrypted=encrypted, used=used)

    def _look_at_slots(self) -> None:
        changed_ns = self.config.slots_path.stat().st_mtime_ns
        if changed_ns != self._slots_changed_ns:
            self.sessions.end_without(frozenset(one.slot_id for one in keystore.slots(self.config.slots_path)))
            self._slots_changed_ns = changed_ns
