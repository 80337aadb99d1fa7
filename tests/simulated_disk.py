"""What the simulated machines share: commits between which the power fails, planted faults, keys made once.

A disk is a plain object; it is altered by `Power.commit` only, as a whole. The power may fail before a commit (it is
lost) or behind it (it is durable, and nobody was told). Everything in memory is then gone. Randomness comes from the
world's generator only.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final

from sync_protocol.change import NodeId
from sync_protocol.errors import WrongRecipient
from sync_protocol.keys import SEALED_SECRET_BYTES, EnvironmentId, Identity, Recipient, RecipientPublic

ENVIRONMENT: Final = EnvironmentId(b"simulated world.")
HUB: Final = NodeId(b"a simulated hub.")
NO_DICTIONARY: Final = 0


class PowerCut(Exception):
    """The machine stops here; what was committed is there when it starts again."""


class Fault(Enum):
    """Mistakes that can be planted, to see that the simulator finds them."""

    FORGETS_WHAT_IS_HELD = "the node forgets a change once the hub said that it holds its segment"
    SUPERSEDES_UNSEEN = "a save supersedes what the database holds, not what the form had shown"
    CURSOR_FIRST = "the node moves its cursor in a commit of its own, before the page is applied"
    ACKNOWLEDGES_FIRST = "the hub says held before the segment is committed"
    LATEST_RECEIPT = "the hub alters a receipt when a change arrives again"
    RETRIES_FOREVER = "the node never sets a refused change aside"
    SKIPS_A_POSITION = "the hub's page leaves out what has been committed last but one"
    GIVES_BACK_UNVOUCHED = "the node gives back what a restored hub lost without the hub's tags"
    FIRST_RECEIPT_STAYS = "the hub keeps the receipt that it gave anew, though a node shows the one of before"
    TAKES_THE_LATER_RECEIPT = "the node takes a later receipt from the feed than the one it has"
    NO_LEDGER = "a restored hub has forgotten enrolments, revocations and subscriptions"


@dataclass(slots=True)
class Power:
    """One machine's electricity. cut_chance: of failing at each side of a commit."""

    chance: random.Random
    cut_chance: float = 0.0

    def commit(self, apply: Callable[[], None]) -> None:
        self._flicker()
        apply()
        self._flicker()

    def _flicker(self) -> None:
        if self.cut_chance and self.chance.random() < self.cut_chance:
            raise PowerCut


@lru_cache
def identity(number: int) -> Identity:
    return Identity(number.to_bytes(32, "big"))


class SimulatedRecipient(Recipient):
    """Opens what `simulated_seal` sealed. Real keys, so that key ids and sizes are real; no real sealing."""

    __slots__ = ()

    def open(self, sealed: bytes, info: bytes) -> bytes:
        secret = _mask(self.public, info, sealed[:32])
        if sealed != simulated_seal(self.public, secret, info):
            raise WrongRecipient("this was not sealed to this key")
        return secret


@lru_cache
def recipient(number: int) -> SimulatedRecipient:
    return SimulatedRecipient(number.to_bytes(64, "big"), number.to_bytes(32, "big"))


def simulated_seal(to: RecipientPublic, plain: bytes, info: bytes) -> bytes:
    """In the place of HPKE: deterministic, quick, of the same size, and opened only with the same key and info."""
    body = _mask(to, info, plain)
    tag = hashlib.shake_256(b"tag" + to.key_id + info + plain).digest(SEALED_SECRET_BYTES - len(body))
    return body + tag


def _mask(to: RecipientPublic, info: bytes, text: bytes) -> bytes:
    stream = hashlib.shake_256(b"mask" + to.key_id + info).digest(len(text))
    return bytes(left ^ right for left, right in zip(text, stream, strict=True))
