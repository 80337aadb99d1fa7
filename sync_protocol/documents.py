"""Clinical documents as people and scripts write them (JSON), to and from the writes of a change.

A document is ``{"kind", "id"?, "facility"?, "patient"?, "at"?, "person"?, "base"?, "fields": {…}}``. Older flat names
are taken too (`systolic_mmhg` + `diastolic_mmhg` → `blood_pressure`, `birth_year` → `birth`), lists become set
elements, and `{"remove": […]}` removes. Ids are UUIDs or the same 128 bits as 26 Crockford base32 characters; the
record of a line without one is named by the hash of facility and line, so that repeating an import repeats nothing.

Values are checked where a change is authored (`replica.check_writes`), not here. No message repeats a value.
"""

from __future__ import annotations

import hashlib
import unicodedata
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final

from sync_protocol import canonical, limits, schema
from sync_protocol.canonical import Value
from sync_protocol.change import ID_BYTES, PatientId, PersonId, RecordId
from sync_protocol.errors import InvalidValue, Malformed
from sync_protocol.schema import Field, FieldType

CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CROCKFORD_VALUE: Final = {letter: at for at, letter in enumerate(CROCKFORD)} | {"O": 0, "I": 1, "L": 1}
CROCKFORD_ID_CHARS: Final = 26
MAX_LINE_BYTES: Final = 256 * 1024  # a document of the longest texts in a three-byte script, as escaped JSON
LINE_KEYS: Final = frozenset("kind id facility patient at person base fields conflicts remarks sync".split())
"""What a line may have; the last three stand in the lines of an export and say nothing here."""

MAX_ELEMENT_KEY_CHARS: Final = 60  # a set element's key becomes part of a field's name


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed document. record and patient are None where the line did not say; base: field → change ids, "shown"
    for what is live now, or None. notes: what was ignored, in plain words. flags: what looks odd but was taken."""

    kind: str
    record: RecordId
    patient: PatientId | None
    facility: str | None
    person: str | None
    writes: dict[str, Value]
    base: dict[str, list[bytes]] | str | None
    extra: tuple[Document, ...] = ()
    notes: tuple[str, ...] = ()
    flags: tuple[str, ...] = field(default=())


def parse_id(text: Any, what: str = "id") -> bytes:
    """A UUID or 26 Crockford characters as 16 bytes. Raises InvalidValue (``E_BAD_ID``)."""
    if isinstance(text, str):
        if len(text) == CROCKFORD_ID_CHARS:
            number = 0
            for letter in text.upper():
                value = _CROCKFORD_VALUE.get(letter)
                if value is None:
                    break
                number = number << 5 | value
            else:
                if number < 1 << 128:
                    return number.to_bytes(ID_BYTES, "big")
        else:
            try:
                return uuid.UUID(text).bytes
            except ValueError:
                pass
    raise InvalidValue(f"{what} is neither a UUID nor 26 Crockford characters", field=what, code="E_BAD_ID")


def id_text(raw: bytes) -> str:
    """16 bytes as a UUID string."""
    return str(uuid.UUID(bytes=raw))


def derived_id(*parts: str | bytes) -> bytes:
    """16 bytes named by a hash, in the form of a UUID of version 8: the same parts give the same id everywhere."""
    hashed = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        hashed.update(len(raw).to_bytes(4, "big") + raw)
    number = int.from_bytes(hashed.digest()[:ID_BYTES], "big")
    number = number & ~(0xF << 76) | 0x8 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    return number.to_bytes(ID_BYTES, "big")


def person_id(text: str, facility: str) -> PersonId:
    """The id of a person as an import names one: a UUID stands for itself, a name is a source of that facility."""
    try:
        return PersonId(uuid.UUID(text).bytes)
    except ValueError:
        return PersonId(derived_id("person", facility, unicodedata.normalize("NFC", text).strip()))


def element_key(item: Any) -> str:
    """The key of a set element: ``system|code``, else its text, NFC, casefolded and trimmed. Raises InvalidValue."""
    if isinstance(item, Mapping):
        system, code = item.get("system"), item.get("code")
        text = f"{system}|{code}" if isinstance(system, str) and isinstance(code, str) else item.get("text")
    else:
        text = item
    if not isinstance(text, str) or not text.strip():
        raise InvalidValue("an element of a list is neither text nor {system, code, text}")
    key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).strip().casefold())
    if len(key) > MAX_ELEMENT_KEY_CHARS:
        raise InvalidValue(f"an element of a list is longer than {MAX_ELEMENT_KEY_CHARS} characters")
    return key


def parse(line: Any, *, facility: str, source_text: str = "", now_ms: int | None = None) -> Document:
    """A JSON object as a document. ``source_text`` (the line) names a record without an id, together with the facility.

    now_ms: the reader's clock, for the flags of odd times. Raises InvalidValue or Malformed (``E_BAD_LINE``).
    """
    if not isinstance(line, Mapping):
        raise Malformed("the line is not a JSON object", code="E_BAD_LINE")
    kind, fields = line.get("kind"), line.get("fields", {})
    if not isinstance(kind, str) or not isinstance(fields, Mapping):
        raise Malformed('the line lacks "kind", or "fields" is not an object', code="E_BAD_LINE")
    unknown = set(line) - LINE_KEYS
    if unknown:
        raise Malformed(f"the line has a key this program does not know: {min(unknown)[:40]}", code="E_BAD_LINE")
    record = RecordId(parse_id(line["id"]) if line.get("id") is not None else derived_id(facility, source_text))
    table = schema.KINDS.get(kind)
    patient: PatientId | None = None
    if line.get("patient") is not None:
        patient = PatientId(parse_id(line["patient"], "patient"))
    elif table is not None and table.opens_scope:
        patient = PatientId(record)
    writes, notes = _writes(kind, fields)
    flags: list[str] = []
    if line.get("at") is not None:
        writes["at"] = _time(line["at"])
        if odd := limits.odd_time(writes["at"], now_ms):
            flags.append(f"at {odd}: is the clock right?")
    _check_birth(kind, writes, now_ms)
    extra: list[Document] = []
    if kind == "patient" and fields.get("consent") is not None:
        extra.append(_consent(line, record, facility, fields["consent"], writes.get("at")))
    person = line.get("person")
    if person is not None and not (isinstance(person, str) and person.strip()):
        raise InvalidValue("person must be text", field="person")
    if person is not None:
        canonical.normalise(person)  # refuses half a character, which no hash can name
    home = line.get("facility")
    return Document(
        kind,
        record,
        patient,
        home if isinstance(home, str) else None,
        person,
        writes,
        _base(line.get("base")),
        tuple(extra),
        tuple(notes),
        tuple(flags),
    )


def _base(base: Any) -> dict[str, list[bytes]] | str | None:
    if base is None or base == "shown":
        return base if base is None else "shown"
    if not isinstance(base, Mapping):
        raise InvalidValue('base must be "shown" or field → change ids', field="base")
    named: dict[str, list[bytes]] = {}
    for name, ids in base.items():
        try:
            named[str(name)] = [bytes.fromhex(text) for text in ([ids] if isinstance(ids, str) else ids)]
        except (ValueError, TypeError):
            raise InvalidValue("base names something that is no change id", field="base") from None
        if any(len(raw) != ID_BYTES for raw in named[str(name)]):
            raise InvalidValue("a change id has 32 hex digits", field="base")
    return named


def _writes(kind: str, fields: Mapping[str, Any]) -> tuple[dict[str, Value], list[str]]:
    writes: dict[str, Value] = {}
    notes: list[str] = []
    rest = dict(fields)
    if rest.pop("status", None) is not None:
        notes.append("status is derived and was not taken")
    if kind == "patient":
        rest.pop("consent", None)
        if "birth_year" in rest:
            writes["birth"] = {"year": rest.pop("birth_year"), "precision": "year"}
    if kind == "vitals" and ("systolic_mmhg" in rest or "diastolic_mmhg" in rest):
        pressure = {name: rest.pop(name, None) for name in ("systolic_mmhg", "diastolic_mmhg")}
        if any(value is not None for value in pressure.values()):
            writes["blood_pressure"] = pressure
    for name, value in rest.items():
        if name in writes:
            raise InvalidValue(f"{name} is there in both of its forms", field=name, code="E_KEY_TWICE")
        row = schema.KINDS[kind].fields.get(name) if kind in schema.KINDS else None
        if row is not None and row.type is FieldType.ELEMENT:
            writes.update(_elements(name, value))
        else:
            known = schema.field_of(kind, name)
            writes[name] = from_json(known, value) if known else value
    return canonical.normalise(writes), notes


def _elements(family: str, value: Any) -> dict[str, Value]:
    if isinstance(value, Mapping) and set(value) == {"remove"} and isinstance(value["remove"], list):
        return {f"{family}/{element_key(item)}": {"present": False} for item in value["remove"]}
    if not isinstance(value, list):
        raise InvalidValue(f'{family} must be a list, or {{"remove": [...]}}', field=family)
    if len(value) > schema.MAX_LINES:
        raise InvalidValue(f"{family} must have at most {schema.MAX_LINES} elements", field=family)
    writes: dict[str, Value] = {}
    for item in value:
        element: dict[str, Value] = {"present": True}
        if isinstance(item, Mapping):
            element["details"] = dict(item)
        elif isinstance(item, str) and element_key(item) != item:
            element["details"] = {"text": item}
        writes[f"{family}/{element_key(item)}"] = element
    return writes


def _consent(line: Mapping[str, Any], patient: RecordId, facility: str, given: Any, at: Value) -> Document:
    writes: dict[str, Value] = {"given": given} if not isinstance(given, Mapping) else dict(given)
    if at is not None:
        writes["at"] = at
    record = RecordId(derived_id("consent", facility, patient))
    return Document("consent", record, PatientId(patient), facility, line.get("person"), writes, None)


def _time(value: Any) -> int:
    """Milliseconds since 1970 from an integer or an ISO 8601 text."""
    if type(value) is int and abs(value) < 1 << 47:
        return value
    if isinstance(value, str):
        try:
            parsed = datetime.fromisoformat(value)
        except ValueError:
            parsed = None
        if parsed is not None:
            aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
            return round(aware.timestamp() * 1000)
    raise InvalidValue("at must be milliseconds since 1970, or a time in ISO 8601", field="at")


def _check_birth(kind: str, writes: Mapping[str, Value], now_ms: int | None) -> None:
    """A birth in the future is refused: it cannot be, and no clock is in doubt here but by two days."""
    birth = writes.get("birth")
    if kind != "patient" or not isinstance(birth, Mapping) or now_ms is None:
        return
    latest = datetime.fromtimestamp((now_ms + limits.PLAUSIBLE_AHEAD_MS) / 1000, UTC).date()
    year, day = birth.get("year"), birth.get("date")
    if type(year) is int and year > latest.year:
        raise InvalidValue("the birth is in the future", field="birth", code="E_BIRTH_IN_FUTURE")
    if isinstance(day, str):
        whole = day + "-01" * (2 - day.count("-"))
        try:
            born = date.fromisoformat(whole)
        except ValueError:
            raise InvalidValue("birth date is not a day that exists", field="birth") from None
        if born > latest:
            raise InvalidValue("the birth is in the future", field="birth", code="E_BIRTH_IN_FUTURE")


def from_json(row: Field, value: Any) -> Value:
    """A field's value from JSON: references and change ids become bytes; the rest is checked later."""
    if row.type is FieldType.REFERENCE and value is not None:
        return parse_id(value, row.name)
    if row.type is FieldType.TIME:
        return _time(value)
    if row.type is FieldType.CHANGES and isinstance(value, list):
        try:
            return [bytes.fromhex(item) if isinstance(item, str) else item for item in value]
        except ValueError:
            raise InvalidValue(f"{row.name} names something that is no change id", field=row.name) from None
    if row.type is FieldType.OBJECT and isinstance(value, Mapping):
        rows = {part.name: part for part in row.parts}
        return {name: from_json(rows[name], inner) if name in rows else inner for name, inner in value.items()}
    return value


def to_json(row: Field | None, value: Value) -> Any:
    """A value as JSON: references as UUID strings, other bytes as hex, everything else as it is."""
    if isinstance(value, bytes):
        is_reference = row is not None and row.type is FieldType.REFERENCE and len(value) == ID_BYTES
        return id_text(value) if is_reference else value.hex()
    if isinstance(value, dict):
        rows = {part.name: part for part in row.parts} if row is not None else {}
        return {name: to_json(rows.get(name), inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [to_json(None, inner) for inner in value]
    return value


def writes_to_json(kind: str, writes: Mapping[str, Value]) -> dict[str, Any]:
    """Field → JSON value, sorted by field."""
    return {name: to_json(schema.field_of(kind, name), writes[name]) for name in sorted(writes)}


def time_text(ms: int) -> str:
    """Milliseconds since 1970 as UTC ISO 8601 with Z, to the millisecond. Years that Python cannot say are clipped."""
    clipped = min(max(ms, -62_135_596_800_000), 253_402_300_799_999)
    seconds, rest = divmod(clipped, 1000)
    # not strftime, which writes the year 999 in three digits
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat() + f".{rest:03d}Z"
