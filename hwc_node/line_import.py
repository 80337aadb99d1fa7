"""Takes in lines of JSON, a record each: what `hwc import` does with them, without reading or printing anything.

Rules: a batch of lines is one transaction, and their verdicts are given once it is on the disk, so a line whose result
was told is saved. A bad line costs no other line. The same line again changes nothing. What a line means is the
protocol's affair (`documents.parse`), what it really writes is `edits`', who may write what is `replica`'s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import msgspec

from hwc_node import edits
from hwc_node.store import Store, Writing
from sync_protocol import canonical, documents, replica, schema
from sync_protocol.change import Change, ChangeId, PatientId, PersonId, RecordId, RecordKey
from sync_protocol.documents import Document
from sync_protocol.errors import HealthSyncError, InvalidValue, Malformed, NotAllowed, TooLarge
from sync_protocol.merge import Record
from sync_protocol.schema import Writer

BATCH_LINES: Final = 64  # one fsync for all of them; at 2,000 lines/s a batch waits for 30 ms
NOT_TAKEN: Final = "not_taken"  # the verdict of what has no place here, beside those of records
CONSENT: Final = "consent"
REPEATABLE: Final = re.compile(r"[a-z_]{1,40}")  # the form of a kind: what else stands there is not repeated


class Verdict(str, Enum):
    """What became of a line."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    NOT_OURS = "not_ours"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class LineResult:
    """The answer to one line. also: records that the line made besides its own, such as a consent."""

    line: int
    verdict: Verdict
    kind: str | None = None
    record: RecordId | None = None
    change: ChangeId | None = None
    error: HealthSyncError | None = None
    also: tuple[tuple[str, RecordId, ChangeId], ...] = ()
    notes: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The contract's shape."""
        shape: dict[str, Any] = {
            "line": self.line,
            "verdict": self.verdict.value,
            "kind": self.kind,
            "id": documents.id_text(self.record) if self.record else None,
            "change": self.change.hex() if self.change else None,
        }
        if self.error is not None:
            shape["error"] = self.error.code
            shape["message"] = "; ".join(filter(None, (self.error.message, self.error.next_step)))
            if isinstance(self.error, InvalidValue) and self.error.field:
                shape["field"] = self.error.field
        if self.also:
            shape["also"] = [
                {"kind": kind, "id": documents.id_text(record), "change": change.hex()}
                for kind, record, change in self.also
            ]
        shape |= {name: list(said) for name, said in (("notes", self.notes), ("flags", self.flags)) if said}
        return shape


@dataclass(frozen=True, slots=True)
class ImportRules:
    """source: whose writes these are, where the line's own ``person`` is not to count. any_facility: take all."""

    source: str | None = None
    any_facility: bool = False


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A line that was read and may be written here."""

    line: int
    document: Document


class LineImport:
    """One import. Give it batches of (number, line); a line is None where it was longer than allowed."""

    def __init__(self, store: Store, person: PersonId, rules: ImportRules) -> None:
        self._store = store
        self._person_here = person
        self._rules = rules
        self._facility = store.membership.facility
        self._sources: dict[str, PersonId] = {}
        self._introduced: set[PersonId] = set()

    def take(self, batch: Sequence[tuple[int, bytes | None]], now_ms: int) -> list[LineResult]:
        """The results in the lines' order, once everything they say is on the disk."""
        read = [self._read(number, raw, now_ms) for number, raw in batch]
        prepared = [one for one in read if isinstance(one, _Prepared)]
        written: dict[int, LineResult] = {}
        introduced: set[PersonId] = set()
        if prepared:
            with self._store.writing(now_ms) as tx:
                tx.records(_keys(prepared))  # one query for all of them
                for one in prepared:
                    written[one.line] = self._write(tx, one, introduced)
            self._introduced |= introduced
        return [one if isinstance(one, LineResult) else written[one.line] for one in read]

    # -- reading a line ------------------------------------------------------------------------------------------------

    def _read(self, number: int, raw: bytes | None, now_ms: int) -> _Prepared | LineResult:
        kind: str | None = None
        record: RecordId | None = None
        try:
            value = parse_json(raw)
            kind, record = _named(value)
            self._check_facility(value)
            if kind is not None and kind in schema.KINDS and not schema.may_write(kind, Writer.CENTRE):
                return _not_ours(number, kind, record)
            text = raw.decode().strip() if raw is not None else ""
            document = documents.parse(value, facility=self._facility, source_text=text, now_ms=now_ms)
            for one in (document, *document.extra):
                replica.check_writes(Writer.CENTRE, one.kind, one.writes)
            return _Prepared(number, document)
        except HealthSyncError as error:
            return LineResult(number, Verdict.REFUSED, kind, record, error=error)

    def _check_facility(self, value: Any) -> None:
        home = value.get("facility") if isinstance(value, dict) else None
        if home is not None and home != self._facility and not self._rules.any_facility:
            raise NotAllowed(
                "the line is of another facility",
                code="E_OTHER_FACILITY",
                next_step=f"this is {self._facility}; --any-facility takes such lines all the same",
            )

    # -- writing it ----------------------------------------------------------------------------------------------------

    def _write(self, tx: Writing, one: _Prepared, introduced: set[PersonId]) -> LineResult:
        document = one.document
        try:
            person = self._person(document)
            verdict, change = self._write_document(tx, document, person)
            also = []
            for extra in document.extra:
                if (made := _write_consent(tx, extra, person)) is not None:
                    also.append((made.kind, made.record, made.id))
        except (InvalidValue, NotAllowed, Malformed, TooLarge) as error:
            return LineResult(one.line, Verdict.REFUSED, document.kind, document.record, error=error)
        if change is not None or also:
            self._introduce(tx, document, person, introduced)
        flags = document.flags
        if verdict is Verdict.CREATED:
            flags += _missing(document)
        return LineResult(
            one.line,
            verdict,
            document.kind,
            document.record,
            change.id if change else None,
            also=tuple(also),
            notes=document.notes,
            flags=flags,
        )

    def _write_document(self, tx: Writing, document: Document, person: PersonId) -> tuple[Verdict, Change | None]:
        key = RecordKey(document.kind, document.record)
        record = tx.record(key)
        patient = _patient(document, record)
        edit = edits.edit(record, document.writes, person, document.base)
        if not edit.writes and record is not None:
            return Verdict.UNCHANGED, None
        change = tx.author(person, key, patient, edit.writes, edit.shown)
        return (Verdict.CREATED if record is None else Verdict.CHANGED), change

    def _person(self, document: Document) -> PersonId:
        """Who writes: the source, else the line's person, else who unlocked this node."""
        named = self._rules.source or document.person
        if named is None:
            return self._person_here
        if named not in self._sources:
            self._sources[named] = documents.person_id(named, self._facility)
        return self._sources[named]

    def _introduce(self, tx: Writing, document: Document, person: PersonId, introduced: set[PersonId]) -> None:
        """The first time a source is named here, it enters the directory, so that people can read who it is."""
        named = self._rules.source or document.person
        if named is None or person in self._introduced or person in introduced or _is_id(named):
            return
        introduced.add(person)
        key = RecordKey("person", RecordId(person))
        if tx.record(key) is None:
            name = canonical.normalise(named).strip()[: schema.SHORT_CHARS]
            tx.author(person, key, PatientId(person), {"name": name, "role": "source"})


def parse_json(raw: bytes | None) -> Any:
    """The JSON of a line. Raises TooLarge (``E_TOO_LARGE``) or Malformed (``E_NOT_JSON``, ``E_KEY_TWICE``)."""
    if raw is None:
        raise TooLarge(f"the line is longer than {documents.MAX_LINE_BYTES // 1024} KiB", next_step="shorten its texts")
    try:
        value = msgspec.json.decode(raw)
        json.loads(raw, object_pairs_hook=_refuse_twice)
    except (msgspec.MsgspecError, ValueError, RecursionError, MemoryError):
        raise Malformed(_why_not_json(raw), code="E_NOT_JSON") from None
    return value


def _refuse_twice(pairs: list[tuple[str, Any]]) -> None:
    """JSON leaves open which of two equal keys counts, and parsers drop one without a word: only a person can say."""
    keys = [key for key, _ in pairs]
    if len(set(keys)) == len(keys):
        return
    key = next(key for key in keys if keys.count(key) > 1)
    name = key if REPEATABLE.fullmatch(key) else "one of its keys"
    raise Malformed(f"the line says {name} twice", code="E_KEY_TWICE", next_step="leave one of them out")


def _why_not_json(raw: bytes) -> str:
    """Where the line stops being JSON; the second parser says it better, and quotes nothing."""
    try:
        json.loads(raw)
    except json.JSONDecodeError as error:
        return f"the line is not JSON: {error.msg.lower()} at column {error.colno}"
    except UnicodeDecodeError:
        return "the line is not UTF-8"
    except (RecursionError, ValueError, MemoryError):
        return "the line is nested too deeply, or has a number without end"
    return "the line has what JSON allows and this program does not, such as NaN or half a character"


def _named(value: Any) -> tuple[str | None, RecordId | None]:
    """What a line says that it is, as far as that can be repeated in an answer."""
    if not isinstance(value, dict):
        return None, None
    kind, name = value.get("kind"), value.get("id")
    try:
        record = RecordId(documents.parse_id(name)) if name is not None else None
    except InvalidValue:
        record = None
    return kind if isinstance(kind, str) and REPEATABLE.fullmatch(kind) else None, record


def _not_ours(number: int, kind: str, record: RecordId | None) -> LineResult:
    who = " or ".join(sorted(side.value for side in schema.KINDS[kind].writers))
    return LineResult(number, Verdict.NOT_OURS, kind, record, notes=(f"a {kind} is written by the {who}",))


def _patient(document: Document, record: Record | None) -> PatientId:
    """The patient that the record is of; a line cannot move a record that exists."""
    if record is not None:
        if document.patient is not None and document.patient != record.patient:
            raise NotAllowed(
                "the record is of another patient",
                code="E_OTHER_PATIENT",
                next_step="a record stays with its patient; mark this one as entered in error and save a new one",
            )
        return record.patient
    if document.patient is None:
        raise InvalidValue(
            f"a new {document.kind} needs its patient", field="patient", code="E_NO_PATIENT", next_step="add patient"
        )
    return document.patient


def _write_consent(tx: Writing, extra: Document, person: PersonId) -> Change | None:
    """The consent that a patient's line speaks of, unless the same was said before; another answer is a new record."""
    patient = extra.patient
    if patient is None:
        return None
    for record_id in (extra.record, _second_id(extra)):
        key = RecordKey(CONSENT, record_id)
        record = tx.record(key)
        if record is None:
            return tx.author(person, key, patient, extra.writes)
        if not replica.differing(record, {"given": extra.writes.get("given")}):
            return None
    return None


def _second_id(extra: Document) -> RecordId:
    return RecordId(documents.derived_id(CONSENT, extra.record, canonical.encode(extra.writes)))


def _missing(document: Document) -> tuple[str, ...]:
    """What a new record should say and does not. It is taken: the rest may arrive from elsewhere."""
    rows = schema.KINDS[document.kind].fields.values()
    return tuple(f"{row.name} is missing" for row in rows if row.required and row.name not in document.writes)


def _is_id(text: str) -> bool:
    try:
        documents.parse_id(text)
    except InvalidValue:
        return False
    return True


def _keys(prepared: Sequence[_Prepared]) -> Iterator[RecordKey]:
    for one in prepared:
        for document in (one.document, *one.document.extra):
            yield RecordKey(document.kind, document.record)
            if document.kind == CONSENT:
                yield RecordKey(CONSENT, _second_id(document))
