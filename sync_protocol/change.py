"""A change: an immutable set of field writes to one record by one person, named by the hash of its bytes.

Rules kept here (PROTOCOL.md §3): the id is the first 16 bytes of SHA-256 over the canonical bytes, so the same change
arriving twice is the same change and nobody can alter one and keep its id; bytes are kept as authored, with what this
program does not know. This module knows nothing of kinds, policies or who may write what.
"""

from __future__ import annotations

import hashlib
from typing import Any, NewType

import msgspec

from sync_protocol import canonical
from sync_protocol.canonical import Value
from sync_protocol.errors import Malformed, NotCanonical, TooLarge
from sync_protocol.hlc import MAX_TIME_MS

ChangeId = NewType("ChangeId", bytes)
"""16 bytes: the start of the SHA-256 of a change's canonical bytes."""
RecordId = NewType("RecordId", bytes)
"""16 bytes: a UUIDv7 made by the author."""
PatientId = NewType("PatientId", bytes)
"""16 bytes: the record id of a patient, or of a directory entry that is its own scope."""
NodeId = NewType("NodeId", bytes)
"""16 bytes: a node, or the hub."""
PersonId = NewType("PersonId", bytes)
"""16 bytes: a person, or a named source of imported lines."""
FacilityCode = NewType("FacilityCode", str)
"""A facility's code, such as HWC000001: 1 to 32 of A-Z a-z 0-9 . _ -"""

ID_BYTES = 16
MAX_CHANGE_BYTES = canonical.MAX_CANONICAL_BYTES
MAX_WRITES = 256  # the widest form has about 40 fields; a long list of complaints comes on top
MAX_SUPERSEDES = 1024  # each names one live write that a person was shown
MAX_FIELD_BYTES = 200  # a field's name, a set element's key included
MAX_KIND_BYTES = 40
MAX_FACILITY_BYTES = 32


class RecordKey(msgspec.Struct, frozen=True, order=True, gc=False):
    """What a write belongs to. A name in ``supersedes`` counts only for the same record."""

    kind: str
    record: RecordId


class _Body(msgspec.Struct, frozen=True, gc=False):
    """The canonical map, its fields in code point order. Keys that are not listed are kept in the bytes only."""

    after: int
    facility: str
    hlc: int
    kind: str
    node: bytes
    patient: bytes
    person: bytes
    record: bytes
    salt: bytes
    supersedes: dict[str, list[bytes]]
    writes: dict[str, Any]


class Change(msgspec.Struct, frozen=True, gc=False):
    """One change. ``raw`` are its bytes as authored; everything else is read from them.

    hlc: stamp of the author's clock. after: milliseconds, the hub's time that the author had last seen.
    writes: field → value. supersedes: field → ids of the changes whose write to that field the author was shown.
    """

    id: ChangeId
    raw: bytes
    after: int
    facility: FacilityCode
    hlc: int
    kind: str
    node: NodeId
    patient: PatientId
    person: PersonId
    record: RecordId
    salt: bytes
    supersedes: dict[str, list[ChangeId]]
    writes: dict[str, Value]

    @property
    def key(self) -> RecordKey:
        return RecordKey(self.kind, self.record)


_body_decoder = msgspec.msgpack.Decoder(_Body)
_encoder = msgspec.msgpack.Encoder(order="deterministic")


def change_id(raw: bytes) -> ChangeId:
    """The name of these bytes."""
    return ChangeId(hashlib.sha256(raw).digest()[:ID_BYTES])


def make(
    *,
    kind: str,
    record: RecordId,
    patient: PatientId,
    facility: FacilityCode,
    node: NodeId,
    person: PersonId,
    hlc: int,
    after: int,
    salt: bytes,
    writes: dict[str, Value],
    supersedes: dict[str, list[ChangeId]],
) -> Change:
    """A new change from values that need not be normal yet. Raises Malformed, NotCanonical or TooLarge."""
    body = _Body(
        after=after,
        facility=facility,
        hlc=hlc,
        kind=kind,
        node=node,
        patient=patient,
        person=person,
        record=record,
        salt=salt,
        supersedes={canonical.normalise(field): sorted(set(ids)) for field, ids in supersedes.items() if ids},
        writes=canonical.normalise(writes),
    )
    _check(body)
    return _encoded(body)


def parse(raw: bytes) -> Change:
    """The change that these bytes are. Raises TooLarge, Malformed or NotCanonical, and nothing else."""
    if len(raw) > MAX_CHANGE_BYTES:
        raise TooLarge(f"a change of {len(raw)} bytes where at most {MAX_CHANGE_BYTES} are allowed")
    try:
        body = _body_decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError, ValueError, TypeError, MemoryError) as error:
        raise Malformed(f"the bytes are not a change ({type(error).__name__})") from None
    canonical.check_normal(body.writes)
    _check(body)
    if _encoder.encode(body) != raw:
        canonical.decode(raw)  # a newer author may have added keys: then the bytes are canonical as a plain map
    return _change(raw, body)


def rebuild(body_fields: tuple[Any, ...]) -> Change:
    """A change from its body's values in `_Body` order, as the column codec brings them: canonical by construction.

    Raises Malformed, NotCanonical or TooLarge.
    """
    body = _Body(*body_fields)
    _check(body)  # sizes first: a block's rows may share one name of a megabyte, and encoding it costs for each row
    canonical.check_normal(body.writes)
    return _encoded(body)


def _encoded(body: _Body) -> Change:
    raw = _encoder.encode(body)
    if len(raw) > MAX_CHANGE_BYTES:
        raise TooLarge(f"a change of {len(raw)} bytes where at most {MAX_CHANGE_BYTES} are allowed")
    return _change(raw, body)


def _change(raw: bytes, body: _Body) -> Change:
    return Change(
        change_id(raw),
        raw,
        body.after,
        FacilityCode(body.facility),
        body.hlc,
        body.kind,
        NodeId(body.node),
        PatientId(body.patient),
        PersonId(body.person),
        RecordId(body.record),
        body.salt,
        body.supersedes,  # type: ignore[arg-type]  # its ids were checked to be 16 bytes
        body.writes,
    )


def _check(body: _Body) -> None:
    """Every limit but that of the whole, cheapest first, before anything is encoded."""
    if not (len(body.node) == len(body.patient) == len(body.person) == len(body.record) == len(body.salt) == ID_BYTES):
        raise Malformed("an id or salt of a change is not 16 bytes")
    if not (0 <= body.hlc < 1 << 64 and 0 <= body.after <= MAX_TIME_MS):
        raise Malformed("a time of a change is out of range")
    if not is_facility_code(body.facility):
        raise Malformed("a facility code is malformed")
    if not (body.kind.isascii() and 0 < len(body.kind) <= MAX_KIND_BYTES and body.kind.replace("_", "a").isalnum()):
        raise Malformed("a kind is malformed")
    if not body.writes and not body.supersedes:
        raise Malformed("a change writes nothing and supersedes nothing")
    if len(body.writes) > MAX_WRITES:
        raise TooLarge(f"a change writes more than {MAX_WRITES} fields")
    for field in body.writes:
        if not field or len(field) > MAX_FIELD_BYTES or (not field.isascii() and len(field.encode()) > MAX_FIELD_BYTES):
            raise Malformed("a field name is empty or too long")
    if body.supersedes:
        _check_supersedes(body.supersedes)


def _check_supersedes(supersedes: dict[str, list[bytes]]) -> None:
    canonical.check_normal(supersedes)
    total = 0
    for field, ids in supersedes.items():
        if not field or len(field.encode()) > MAX_FIELD_BYTES:
            raise Malformed("a field name is empty or too long")
        if not ids:
            raise NotCanonical("an empty list of superseded changes")
        total += len(ids)
        if any(len(name) != ID_BYTES for name in ids):
            raise Malformed("a superseded change's id is not 16 bytes")
        if any(ids[at] >= ids[at + 1] for at in range(len(ids) - 1)):
            raise NotCanonical("superseded changes are not in order")
    if total > MAX_SUPERSEDES:
        raise TooLarge(f"a change supersedes more than {MAX_SUPERSEDES} writes")


def is_facility_code(code: str) -> bool:
    """Whether the text has the form of a facility's code."""
    return (
        0 < len(code) <= MAX_FACILITY_BYTES
        and code.isascii()
        and code.replace("-", "a").replace("_", "a").replace(".", "a").isalnum()
    )
