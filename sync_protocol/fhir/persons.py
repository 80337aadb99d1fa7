"""Resources of people and places: a patient, a member of staff, a centre."""

from __future__ import annotations

from typing import Final

from sync_protocol.fhir import names
from sync_protocol.fhir.datatypes import codes, words_in
from sync_protocol.fhir.drafts import Draft, Sheet
from sync_protocol.fhir.taking import Source

SEXES: Final = {gender: sex for sex, gender in names.GENDERS.items()}
PRECISIONS: Final = {4: "year", 7: "month", 10: "day"}  # of a birth date, by how much of it is said


def patient(sheet: Sheet, source: Source) -> None:
    key = sheet.own(source) or sheet.key(source, "patient")
    if key.kind != "patient":
        source.refuse("is no part of a record of that kind", "identifier")
        return
    draft = sheet.draft(key, source)
    draft.patient = key.record
    _abha(draft, source)
    name_in(draft, source)
    _phone(draft, source)
    gender = source.look("gender")
    if isinstance(gender, str) and gender in SEXES:
        source.take("gender")
        draft.put("sex", SEXES[gender])
    born = source.look("birthDate")
    if isinstance(born, str) and (precision := PRECISIONS.get(len(born))) and born[:4].isascii() and born[:4].isdigit():
        source.take("birthDate")
        said = {"year": int(born)} if precision == "year" else {"date": born}
        draft.put("birth", {"precision": precision} | said)
    for name, part in (("address", "text"), ("village", "city")):
        if (words := source.text("address", 0, part)) is not None:
            draft.put(name, words)
    language = ("communication", 0, "language")
    spoken = source.text(*language, "text") or source.text(*language, "coding", 0, "code")
    if spoken is not None:
        source.take("communication", 0)
        draft.put("language", spoken)
    _guardian(draft, source)


def _abha(draft: Draft, source: Source) -> None:
    for at in source.rows("identifier"):
        if source.look("identifier", at, "system") in names.ABHA_SYSTEMS:
            value = source.text("identifier", at, "value")
            if value is not None and draft.put("abha", value):
                source.take("identifier", at)


def name_in(draft: Draft, source: Source, field: str = "name") -> None:
    """The official name, else the first, as one text."""
    at = next((row for row in source.rows("name") if source.look("name", row, "use") == "official"), 0)
    parts = [source.look("name", at, "prefix", 0)]
    parts += [source.look("name", at, "given", row) for row in range(min(source.count("name", at, "given"), 9))]
    parts.append(source.look("name", at, "family"))
    said = source.text("name", at, "text") or " ".join(part.strip() for part in parts if isinstance(part, str))
    if said.strip():
        source.take("name", at)
        draft.put(field, said)


def _phone(draft: Draft, source: Source) -> None:
    for at in source.rows("telecom"):
        if source.look("telecom", at, "system") in ("phone", "sms"):
            value = source.text("telecom", at, "value")
            if value is not None and draft.put("phone", value):
                source.take("telecom", at)
                return


def _guardian(draft: Draft, source: Source) -> None:
    for at in source.rows("contact"):
        for row in source.rows("contact", at, "relationship"):
            if names.GUARDIAN in codes(source, f"{names.TERMINOLOGY}v3-RoleCode", "contact", at, "relationship", row):
                said = source.text("contact", at, "name", "text")
                if said is not None and draft.put("guardian", said):
                    source.take("contact", at)
                    return


def practitioner(sheet: Sheet, source: Source) -> None:
    """A member of staff. One that our own document names in passing is no record of it."""
    if _in_passing(source, names.AUTHOR):
        return
    draft = sheet.draft(sheet.own(source) or sheet.key(source, "person"), source)
    name_in(draft, source)
    _phone(draft, source)
    for at in source.rows("identifier"):
        licence = "MD" in codes(source, f"{names.TERMINOLOGY}v2-0203", "identifier", at, "type")
        value = source.text("identifier", at, "value") if licence else None
        if value is not None and draft.put("registration_number", value):
            source.take("identifier", at)
    if (said := words_in(source, "qualification", 0, "code")) is not None:
        source.take("qualification", 0)
        draft.put("qualification", said)


def organization(sheet: Sheet, source: Source) -> None:
    """A centre. The directory of facilities is the hub's: what becomes of the line is the import's affair."""
    if _in_passing(source, names.FACILITY):
        return
    draft = sheet.draft(sheet.own(source) or sheet.key(source, "facility"), source)
    places = (("district", ("address", 0, "district")), ("state", ("address", 0, "state")))
    for name, path in (("name", ("name",)), *places):
        if (said := source.text(*path)) is not None:
            draft.put(name, said)


def _in_passing(source: Source, system: str) -> bool:
    if not any(source.look("identifier", at, "system") == system for at in source.rows("identifier")):
        return False
    for name in ("identifier", "name", "qualification"):
        source.take(name)
    return True
