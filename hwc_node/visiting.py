"""The composed saves of a centre's day: register a patient, a visit, a referral, a message, what became of it.

Each is one transaction: everything a page calls saved is there, or nothing is. The ids of new records are drawn when a
form is first shown and come with it, so that the same form sent twice saves once. What a save supersedes is what the
person was shown. Nothing is deleted: a wrong measurement is corrected by another, a wrong record is marked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from hwc_node import edits
from hwc_node.edits import Base
from hwc_node.store import Store, Writing
from sync_protocol import exports
from sync_protocol.canonical import Value
from sync_protocol.change import ID_BYTES, Change, ChangeId, PatientId, PersonId, RecordId, RecordKey
from sync_protocol.errors import InvalidValue, NotAllowed
from sync_protocol.words import N_

RANDOM_BYTES: Final = 10
"""What a fresh id needs."""


def fresh_id(now_ms: int, randomness: bytes) -> RecordId:
    """A UUIDv7 of this moment (RFC 9562 §5.7). randomness: RANDOM_BYTES."""
    number = (now_ms & (1 << 48) - 1) << 80 | int.from_bytes(randomness[:RANDOM_BYTES], "big")
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    return RecordId(number.to_bytes(ID_BYTES, "big"))


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of a save. base: what the person was shown of it (`edits.Base`), None for a new one."""

    key: RecordKey
    writes: Mapping[str, Value]
    base: Base = None


@dataclass(frozen=True, slots=True)
class Visit:
    """A visit of a patient. vitals and follow_up are left out where there is nothing to say."""

    case: RecordId
    case_writes: Mapping[str, Value]
    vitals: RecordId | None = None
    vitals_writes: Mapping[str, Value] = field(default_factory=dict)
    follow_up: RecordId | None = None
    follow_up_writes: Mapping[str, Value] = field(default_factory=dict)
    base: Base = None


@dataclass(frozen=True, slots=True)
class Visiting:
    """The verbs of one person at one node."""

    store: Store
    person: PersonId

    def save(self, patient: PatientId, entries: Sequence[Entry], now_ms: int) -> list[Change]:
        """Save all of these or none; the changes, none for what says nothing new. Raises what `replica.author` raises."""
        with self.store.writing(now_ms) as tx:
            return self._save_in(tx, patient, entries)

    def _save_in(self, tx: Writing, patient: PatientId, entries: Sequence[Entry]) -> list[Change]:
        held = tx.records(one.key for one in entries)
        saved = []
        for one in entries:
            edit = edits.edit(held.get(one.key), one.writes, self.person, one.base)
            if edit.writes:
                saved.append(tx.author(self.person, one.key, patient, edit.writes, edit.shown))
        return saved

    def register(
        self,
        patient: PatientId,
        writes: Mapping[str, Value],
        consent: RecordId,
        consent_writes: Mapping[str, Value],
        now_ms: int,
    ) -> list[Change]:
        """A new patient, with the consent that they gave or refused."""
        own = Entry(RecordKey("patient", RecordId(patient)), writes)
        return self.save(patient, [own, Entry(RecordKey("consent", consent), consent_writes)], now_ms)

    def visit(self, patient: PatientId, seen: Visit, now_ms: int) -> list[Change]:
        """A visit: the case, what was measured, when to come again."""
        entries = [Entry(RecordKey("case", seen.case), seen.case_writes, seen.base)]
        if seen.vitals is not None and seen.vitals_writes:
            entries.append(Entry(RecordKey("vitals", seen.vitals), {"case": seen.case, **seen.vitals_writes}))
        if seen.follow_up is not None and seen.follow_up_writes:
            entries.append(Entry(RecordKey("follow_up", seen.follow_up), {"case": seen.case, **seen.follow_up_writes}))
        return self.save(patient, entries, now_ms)

    def refer(self, patient: PatientId, referral: RecordId, writes: Mapping[str, Value], now_ms: int) -> list[Change]:
        """Ask a hub doctor."""
        return self.save(patient, [Entry(RecordKey("referral", referral), writes)], now_ms)

    def message(self, patient: PatientId, name: RecordId, referral: RecordId, text: str, now_ms: int) -> list[Change]:
        """Say something to the doctor about a referral."""
        writes: dict[str, Value] = {"referral": referral, "text": text, "at": now_ms}
        return self.save(patient, [Entry(RecordKey("message", name), writes)], now_ms)

    def acknowledge(
        self,
        patient: PatientId,
        name: RecordId,
        referral: RecordId,
        reply: RecordId | None,
        now_ms: int,
        outcome: str | None = None,
    ) -> list[Change]:
        """The answer was read, or without one what the doctor had said; with an outcome, the referral is closed. Raises
        NotAllowed (``E_OTHER_CENTRES``)."""
        writes: dict[str, Value] = {"referral": referral, "seen": True}
        if reply is not None:
            writes["reply"] = reply
        if outcome:
            writes["outcome"] = outcome
        with self.store.writing(now_ms) as tx:
            self._require_ours(tx, referral)
            return self._save_in(tx, patient, [Entry(RecordKey("acknowledgement", name), writes)])

    def withdraw(self, patient: PatientId, referral: RecordId, reason: str, base: Base, now_ms: int) -> list[Change]:
        """The referral is not needed any more. Raises InvalidValue where no reason is given, NotAllowed
        (``E_OTHER_CENTRES``)."""
        if not reason.strip():
            raise InvalidValue("A withdrawal says why.", field="reason", code="E_NO_REASON")
        writes: dict[str, Value] = {"withdrawn": {"withdrawn": True, "reason": reason}}
        with self.store.writing(now_ms) as tx:
            self._require_ours(tx, referral)
            return self._save_in(tx, patient, [Entry(RecordKey("referral", referral), writes, base)])

    def _require_ours(self, tx: Writing, referral: RecordId) -> None:
        """Whoever referred reads the answer and may withdraw: the centre that a patient comes to as well only looks on."""
        record = tx.record(RecordKey("referral", referral))
        if record is not None and exports.facility_of(record) != self.store.membership.facility:
            raise NotAllowed(
                N_("Another centre made this referral. It reads the answer there, and withdraws it there."),
                code="E_OTHER_CENTRES",
            )

    def follow_up_done(
        self,
        patient: PatientId,
        name: RecordId,
        note: str,
        base: Base,
        now_ms: int,
        following: Entry | None = None,
    ) -> list[Change]:
        """The patient came, or was reached. following: the next one, if there is to be one."""
        writes: dict[str, Value] = {"done": True}
        if note:
            writes["note"] = note
        entries = [Entry(RecordKey("follow_up", name), writes, base)]
        return self.save(patient, [*entries, *([following] if following is not None else [])], now_ms)

    def correct(
        self, patient: PatientId, kind: str, name: RecordId, corrects: RecordId, writes: Mapping[str, Value], reason: str,
        now_ms: int,
    ) -> list[Change]:  # fmt: skip
        """Another record in the place of one that cannot be changed. Raises InvalidValue where no reason is given."""
        if not reason.strip():
            raise InvalidValue("A correction says why.", field="correction_reason", code="E_NO_REASON")
        whole = {**writes, "corrects": corrects, "correction_reason": reason}
        return self.save(patient, [Entry(RecordKey(kind, name), whole)], now_ms)

    def entered_in_error(
        self, key: RecordKey, patient: PatientId, hidden: bool, reason: str, shown: Sequence[ChangeId], now_ms: int
    ) -> list[Change]:
        """Hide a record that should never have been, or show it again; shown: its changes that the person saw.

        Raises InvalidValue where no reason is given.
        """
        if not reason.strip():
            raise InvalidValue("Say why this was entered in error.", field="reason", code="E_NO_REASON")
        writes: dict[str, Value] = {"entered_in_error": {"hidden": hidden, "reason": reason, "shown": list(shown)}}
        return self.save(patient, [Entry(key, writes, edits.SHOWN)], now_ms)
