"""The small shapes of FHIR, to and from ours: coded values, elements of a set, times, references, our own extension.

Each pair stands together, in and out. What does not fit FHIR's rules for text or codes gives nothing here; `writing`
then sees that it would not come back and sends it along exactly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from sync_protocol import documents
from sync_protocol.errors import InvalidValue, Malformed
from sync_protocol.fhir import names
from sync_protocol.fhir.taking import NAME, Source, Step

Json = dict[str, Any]

_TEXT: Final = re.compile(r"[^\x00-\x08\x0b\x0c\x0e-\x1f]*")  # what FHIR allows in text
_CODE: Final = re.compile(r"[^\s\x00-\x1f]+( [^\s\x00-\x1f]+)*")
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_KIND: Final = re.compile(r"[a-z0-9_]{1,40}")
_TO_SHORT: Final = {uri: short for short, uri in names.SYSTEMS.items()}
MAX_EXACT_CHARS: Final = 400_000  # of one field in our extension: more than a change can carry, in JSON's escapes


@dataclass(frozen=True, slots=True)
class Key:
    """A record of ours: its kind and id."""

    kind: str
    record: bytes


def fits(text: Any) -> bool:
    """Whether FHIR allows this as a string."""
    return isinstance(text, str) and bool(text.strip()) and _TEXT.fullmatch(text) is not None


# -- coded values ------------------------------------------------------------------------------------------------------


def concept(text: str, system: str = "", code: str = "", display: str = "") -> Json:
    """A CodeableConcept; of no code, its text alone."""
    coding = {"system": system, "code": code, "display": display or text}
    return {"coding": [coding], "text": text} if code else {"text": text}


def coded_out(value: Any) -> Json | None:
    """``{system, code, text}`` as a CodeableConcept, as far as FHIR can say it."""
    if not isinstance(value, Mapping):
        return None
    system, code, text = (value.get(part) for part in ("system", "code", "text"))
    made: Json = {}
    if isinstance(code, str) and _CODE.fullmatch(code):
        coding: Json = {"code": code}
        if isinstance(system, str):
            uri = names.SYSTEMS.get(system, system)
            if not _URI.fullmatch(uri):
                return {"text": text} if fits(text) else None
            coding = {"system": uri, "code": code}
        made["coding"] = [coding | ({"display": text} if fits(text) else {})]
    if fits(text):
        made["text"] = text
    return made or None


def coded_in(source: Source, *path: Step) -> Json | None:
    """A CodeableConcept as ``{system?, code?, text?}``: its first coding, and its text or what the code means."""
    found: Json = {}
    code = source.text(*path, "coding", 0, "code")
    if code is not None:
        system = source.text(*path, "coding", 0, "system")
        if system is not None:
            found["system"] = _TO_SHORT.get(system, system)
        found["code"] = code
        source.take(*path, "coding", 0, "version")
        source.take(*path, "coding", 0, "userSelected")
    display = source.text(*path, "coding", 0, "display")
    text = source.text(*path, "text") or display
    return found | ({"text": text} if text is not None else {}) or None


def words_in(source: Source, *path: Step) -> str | None:
    """What a CodeableConcept says to a person: its text, else the displays of its codings."""
    said = source.text(*path, "text")
    shown = [source.text(*path, "coding", at, "display") for at in range(min(source.count(*path, "coding"), 5))]
    if said is None:
        said = ", ".join(one for one in shown if one) or None
    if said is not None:
        source.take(*path)
    return said


def codes(source: Source, system: str, *path: Step) -> list[str]:
    """The codes of a system that a CodeableConcept has."""
    found = []
    for at in source.rows(*path, "coding"):
        code = source.look(*path, "coding", at, "code")
        if source.look(*path, "coding", at, "system") == system and isinstance(code, str):
            found.append(code)
    return found


def element_in(coded: Json, details: Json) -> tuple[str, Json] | None:
    """A coded value and what else is known of it as (key, element) of a set; None where it cannot be a key."""
    for item in ({**coded}, coded.get("text")):
        try:
            key = documents.element_key(item)
        except (InvalidValue, Malformed):
            continue
        said = {**coded, **details}
        plain = set(said) == {"text"} and said["text"] == key
        return key, {"present": True} | ({} if plain else {"details": said})
    return None


def element_out(key: str, value: Any) -> tuple[Json, Json, bool] | None:
    """An element of a set as (CodeableConcept, its details, whether it is there); None where it is no element, or no
    CodeableConcept would be read as this key: two elements must never meet in one."""
    if not isinstance(value, Mapping) or type(value.get("present")) is not bool:
        return None
    given = value.get("details")
    details = dict(given) if isinstance(given, Mapping) else {}
    said = coded_out({part: details[part] for part in ("system", "code", "text") if part in details})
    for made in (said, {"text": key} if fits(key) else None):
        coded = coded_in(Source({"code": made}), "code") if made else None
        found = element_in(coded, {}) if coded else None
        if made and found is not None and found[0] == key:
            return made, details, value["present"]
    return None


# -- times -------------------------------------------------------------------------------------------------------------


def time_in(text: Any) -> int | None:
    """A date, dateTime or instant as milliseconds since 1970; None for one that names no day."""
    if not isinstance(text, str) or not _DAY.match(text):
        return None
    try:
        parsed = datetime.fromisoformat(text)
        aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
        return round(aware.timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def day_in(text: Any) -> str | None:
    """The day of a date, dateTime or instant, as it is where it was said."""
    return text[:10] if time_in(text) is not None else None


# -- references and identifiers ----------------------------------------------------------------------------------------


def record_identifier(key: Key, facility: str) -> Json:
    """What names a record of ours in every resource that tells of it."""
    made: Json = {"system": names.RECORD, "value": f"{key.kind}/{documents.id_text(key.record)}"}
    if fits(facility):
        made["assigner"] = {"identifier": {"system": names.FACILITY, "value": facility}}
    return made


def key_in(identifier: Any) -> Key | None:
    """The record of ours that an Identifier names."""
    if not isinstance(identifier, dict) or identifier.get("system") != names.RECORD:
        return None
    value = identifier.get("value")
    kind, _, record = value.partition("/") if isinstance(value, str) else ("", "", "")
    try:
        return Key(kind, documents.parse_id(record)) if _KIND.fullmatch(kind) else None
    except InvalidValue:
        return None


def foreign_name(identifier: Any) -> str | None:
    """``system|value`` of somebody else's Identifier."""
    if not isinstance(identifier, dict):
        return None
    system, value = identifier.get("system"), identifier.get("value")
    if not (isinstance(system, str) and isinstance(value, str) and system.strip() and value.strip()):
        return None
    return None if system.startswith("urn:health-sync:") else f"{system}|{value}"


def type_in(reference: str) -> str:
    """The type that a literal reference names, empty where it names none."""
    parts = reference.split("/")
    return parts[-2] if len(parts) > 1 and NAME.fullmatch(parts[-2]) else ""


# -- our own extension -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Exact:
    """A field as it is in our record. absent: the standard elements seem to say it, and the record does not."""

    name: str
    value: Any
    absent: bool = False


def exact_out(exact: Exact) -> Json:
    """A field as an extension: text as text, all else as JSON."""
    name = ("name", exact.name) if fits(exact.name) else ("name_json", json.dumps(exact.name))
    inner: list[Json] = [{"url": name[0], "valueString": name[1]}]
    if exact.absent:
        inner.append({"url": "absent", "valueBoolean": True})
    elif fits(exact.value):
        inner.append({"url": "text", "valueString": exact.value})
    else:
        inner.append({"url": "json", "valueString": json.dumps(exact.value)})
    return {"url": names.FIELD, "extension": inner}


def exact_in(extension: Any) -> Exact | None:
    """The field of such an extension; None for any other."""
    if not isinstance(extension, dict) or extension.get("url") != names.FIELD:
        return None
    inner = extension.get("extension")
    said: Json = {}
    for one in inner[:4] if isinstance(inner, list) else ():
        url = one.get("url") if isinstance(one, dict) else None
        if isinstance(url, str):
            said[url] = one.get("valueString", one.get("valueBoolean"))
    try:
        name = said["name"] if "name" in said else _from_json(said["name_json"])
        if not isinstance(name, str):
            return None
        if said.get("absent") is True:
            return Exact(name, None, absent=True)
        if "text" in said:
            return Exact(name, said["text"]) if isinstance(said["text"], str) else None
        return Exact(name, _from_json(said["json"]))
    except (KeyError, Malformed):
        return None


def _from_json(text: Any) -> Any:
    if not isinstance(text, str) or len(text) > MAX_EXACT_CHARS:
        raise Malformed("an extension of ours is not JSON text")
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise Malformed("an extension of ours is not JSON") from None
