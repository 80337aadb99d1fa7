"""Who is subscribed to a patient, derived from the patient's records; and the card that proves a visit (PROTOCOL.md §10.2).

Pure and shared. The centre asks, by the secret on the patient's card or with a reason; the hub decides where only a
reason was given; everybody who holds the patient sees both. Nothing else makes a subscription, so a hub that was put
back derives them anew.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from sync_protocol import keys
from sync_protocol.change import Change, FacilityCode, PatientId, RecordId
from sync_protocol.errors import InvalidValue
from sync_protocol.merge import Record, first_change, is_visible
from sync_protocol.schema import Writer

SECRET_BYTES: Final = 10  # tried online only, against an enrolled centre's name
PATIENT_BYTES: Final = 16
CHECK_BYTES: Final = 2
_CARD_BYTES: Final = PATIENT_BYTES + SECRET_BYTES + CHECK_BYTES
KINDS: Final = frozenset({"patient_card", "subscription", "subscription_decision", "patient_link"})
"""Kinds that say who is subscribed, beside a patient's registration."""


class State(str, Enum):
    """What became of a request."""

    BY_CARD = "by_card"
    GRANTED = "granted"
    ASKED = "asked"
    REFUSED = "refused"
    ENDED = "ended"

    @property
    def holds(self) -> bool:
        return self in (State.BY_CARD, State.GRANTED)


@dataclass(frozen=True, slots=True)
class Request:
    """A centre's request to receive what is written about a patient. asked_ms: its receipt, else the author's stamp."""

    record: RecordId
    facility: FacilityCode
    state: State
    reason: str
    asked_ms: int


# -- the card ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Card:
    """What a patient carries: who it is, and a secret that only somebody who saw the card knows."""

    patient: PatientId
    secret: bytes = field(repr=False)

    def text(self) -> str:
        """45 letters in groups of five."""
        body = self.patient + self.secret
        return keys.base32_text(body + _check(body))

    @property
    def secret_text(self) -> str:
        """As the records hold it."""
        return keys.base32_text(self.secret).replace("-", "")


def _check(body: bytes) -> bytes:
    return hashlib.sha256(b"health-sync/1 card\x00" + body).digest()[:CHECK_BYTES]


def parse_card(text: str) -> Card:
    """Raises InvalidValue (``E_CARD_MISTYPED``) for what is no card, or one with a letter wrong."""
    raw = keys.base32_bytes(text.strip(), _CARD_BYTES)
    body = raw[:-CHECK_BYTES] if raw else b""
    if raw is None or not hmac.compare_digest(_check(body), raw[-CHECK_BYTES:]):
        raise InvalidValue(
            "the card's letters are mistyped or cut short",
            code="E_CARD_MISTYPED",
            next_step="type them again as they stand on the card, or ask with a reason",
        )
    return Card(PatientId(body[:PATIENT_BYTES]), body[PATIENT_BYTES:])


# -- who is subscribed -------------------------------------------------------------------------------------------------


def requests(records: Sequence[Record]) -> list[Request]:
    """Each centre's requests about a patient, the oldest first. records: all of the patient's."""
    visible = [one for one in records if is_visible(one)]
    valid = [text.encode() for text in secrets(records)]
    decided: dict[object, Record] = {}
    for one in visible:
        if one.key.kind == "subscription_decision":
            name = one.view().get("subscription")
            if isinstance(name, bytes) and (
                name not in decided or first_change(decided[name]).order < first_change(one).order
            ):
                decided[name] = one
    found = [_request(one, valid, decided.get(one.key.record)) for one in records if one.key.kind == "subscription"]
    return sorted(found, key=lambda one: (one.asked_ms, one.record))


def secrets(records: Sequence[Record]) -> list[str]:
    """The letters of the secrets on a patient's valid cards."""
    said = [one.view().get("secret") for one in records if one.key.kind == "patient_card" and is_visible(one)]
    return [secret for secret in said if isinstance(secret, str)]


def secret_of(text: str) -> bytes | None:
    """The secret that a record's letters stand for; None where they are none of a card's."""
    return keys.base32_bytes(text, SECRET_BYTES)


def _request(record: Record, valid: Sequence[bytes], decision: Record | None) -> Request:
    view = record.view()
    card, reason, first = view.get("card"), view.get("reason"), first_change(record)
    shown = card.encode() if isinstance(card, str) else b""
    granted = decision.view().get("granted") if decision is not None else None
    if view.get("ended") is True or not is_visible(record):
        state = State.ENDED
    elif any(hmac.compare_digest(shown, secret) for secret in valid):
        state = State.BY_CARD
    elif granted is True:
        state = State.GRANTED
    else:
        state = State.REFUSED if decision is not None else State.ASKED
    asked_ms = first.receipt_ms if first.receipt_ms is not None else first.change.hlc >> 16
    said = reason if isinstance(reason, str) else ""
    return Request(record.key.record, first.change.facility, state, said, asked_ms)


def subscribers(records: Sequence[Record]) -> set[FacilityCode]:
    """The facilities that a patient's own records subscribe, beside its home."""
    asked = {one.facility for one in requests(records) if one.state.holds}
    registered = {
        held.change.facility
        for one in records
        if one.key.kind == "patient"
        for held in one.changes.values()
        if held.origin is Writer.CENTRE and registers(held.change)
    }
    return asked | registered


def registered_at(records: Sequence[Record]) -> FacilityCode | None:
    """The facility that began the patient's own record; None where nobody registered the patient yet."""
    begun = [first_change(one) for one in records if one.key.kind == "patient"]
    return begun[0].change.facility if begun else None


def registers(change: Change) -> bool:
    """Whether this is how a patient's record begins: who registers a patient is subscribed to it."""
    return change.kind == "patient" and "name" in change.writes and not change.supersedes.get("name")


def linked(records: Sequence[Record]) -> set[PatientId]:
    """The patients that these records say are the same person."""
    said = [one for one in records if one.key.kind == "patient_link" and is_visible(one)]
    others = [view.get("other") for one in said if (view := one.view()).get("relation") == "same_person"]
    return {PatientId(other) for other in others if isinstance(other, bytes) and len(other) == PATIENT_BYTES}
