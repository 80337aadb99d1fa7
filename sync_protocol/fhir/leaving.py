"""A record as resources: the way out. What these elements do not give back exactly, `writing` sends along beside them.

Each record has one carrier, the resource that stands for it and takes its extensions, and perhaps parts: a set's
elements, a prescription's lines, single measurements. All of them name the record. Values are the shown ones; those of
a wrong type, which may have arrived by sync, are simply not said here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

from sync_protocol import documents
from sync_protocol.errors import InvalidValue
from sync_protocol.fhir import names
from sync_protocol.fhir.datatypes import Json, Key, coded_out, concept, element_out, fits, record_identifier
from sync_protocol.fhir.measuring import measurements
from sync_protocol.fhir.names import Section
from sync_protocol.schema import SET_SEPARATOR

LABEL: Final = "fhir resource"
_DATE: Final = re.compile(r"[0-9]{4}(-[0-9]{2}){0,2}")


@dataclass(frozen=True, slots=True)
class Entry:
    """A record as an export shows it. fields: the line's. saved_at: the time of its first change. author: who began it,
    empty where nobody knows."""

    key: Key
    facility: str
    patient: Key
    at: str | None
    fields: Mapping[str, Any]
    saved_at: str
    author: str = ""


@dataclass(slots=True)
class Leaf:
    """A resource on its way out. section: where a document lists it, None for what it only refers to."""

    body: Json
    section: Section | None = None

    @property
    def url(self) -> str:
        return f"urn:uuid:{self.body['id']}"


@dataclass(slots=True)
class Page:
    """A document in the making: what its records may refer to. carriers: record -> the resource that stands for it."""

    patient: Key
    author: Leaf
    carriers: dict[Key, Leaf] = field(default_factory=dict)

    def reference(self, key: Key, kind_there: str) -> Json:
        """A record as a Reference: to its resource in this document, else by its name alone."""
        there = self.carriers.get(key)
        if there is not None:
            return {"reference": there.url, "type": kind_there}
        return {"type": kind_there, "identifier": record_identifier(key, "")}

    @property
    def subject(self) -> Json:
        return self.reference(self.patient, "Patient")


def resource(kind_there: str, profile: str, name: bytes) -> Json:
    """The beginning of each resource. name: 16 bytes."""
    meta = {"meta": {"profile": [names.PROFILES + profile]}} if profile else {}
    return {"resourceType": kind_there, "id": documents.id_text(name), **meta}


def carrier(entry: Entry) -> Leaf:
    """The empty resource that stands for a record."""
    kind_there, profile, section = CARRIERS.get(entry.key.kind, ("Basic", "", names.OTHER))
    body = resource(kind_there, profile, documents.derived_id(LABEL, entry.key.kind, entry.key.record))
    return Leaf(body | {"identifier": [record_identifier(entry.key, entry.facility)]}, section)


def fill(page: Page, entry: Entry) -> list[Leaf]:
    """Say in its carrier what the record says, and return its parts."""
    leaf = page.carriers[entry.key]
    return FILLINGS.get(entry.key.kind, _basic)(page, entry, leaf)


def _part(entry: Entry, kind_there: str, profile: str, what: str, section: Section | None) -> Leaf:
    name = documents.derived_id(LABEL, entry.key.kind, entry.key.record, what)
    body = resource(kind_there, profile, name)
    return Leaf(body | {"identifier": [record_identifier(entry.key, entry.facility)]}, section)


def _say(body: Json, name: str, value: Any, shape: Callable[[str], Any] | None = None) -> None:
    """An element of text, where there is a text that FHIR allows."""
    if fits(value):
        body[name] = shape(value) if shape is not None else value


def _referred(page: Page, entry: Entry, name: str, kind: str, kind_there: str) -> Json | None:
    try:
        return page.reference(Key(kind, documents.parse_id(entry.fields.get(name))), kind_there)
    except InvalidValue:
        return None


def _hidden(entry: Entry) -> bool:
    """Whether the record is marked as entered in error."""
    mark = entry.fields.get("entered_in_error")
    return isinstance(mark, Mapping) and mark.get("hidden") is True


# -- the patient -------------------------------------------------------------------------------------------------------


def _patient(page: Page, entry: Entry, leaf: Leaf) -> list[Leaf]:
    body, fields = leaf.body, entry.fields
    if fits(fields.get("abha")):
        kind = concept("Medical record number", f"{names.TERMINOLOGY}v2-0203", "MR")
        body["identifier"].append({"type": kind, "system": names.ABHA, "value": fields["abha"]})
    _say(body, "name", fields.get("name"), lambda text: [{"text": text}])
    _say(body, "telecom", fields.get("phone"), lambda text: [{"system": "phone", "value": text, "use": "home"}])
    sex = fields.get("sex")
    body["gender"] = names.GENDERS.get(sex, "unknown") if isinstance(sex, str) else "unknown"
    if (born := _birth_date(fields.get("birth"))) is not None:
        body["birthDate"] = born
    address: Json = {}
    _say(address, "text", fields.get("address"))
    _say(address, "city", fields.get("village"))
    if address:
        body["address"] = [address]
    guardian = concept("guardian", f"{names.TERMINOLOGY}v3-RoleCode", names.GUARDIAN)
    _say(body, "contact", fields.get("guardian"), lambda text: [{"relationship": [guardian], "name": {"text": text}}])
    _say(body, "communication", fields.get("language"), lambda text: [{"language": {"text": text}}])
    parts = [_allergy(page, entry, key, value) for key, value in _family(fields, "allergies")]
    if fields.get("allergies_status") == "none_known":
        parts.append(_no_allergy(page, entry))
    parts += _conditions(page, entry, "chronic_conditions", names.HISTORY)
    return [part for part in parts if part is not None]


def _birth_date(birth: Any) -> str | None:
    """The birth as FHIR's date, which says by its length how much of it is known. An age alone says none."""
    if not isinstance(birth, Mapping):
        return None
    day, year = birth.get("date"), birth.get("year")
    if isinstance(day, str) and _is_date(day):
        return day
    return f"{year:04d}" if type(year) is int and 1 <= year <= 9999 else None


def _is_date(text: str) -> bool:
    """YYYY, YYYY-MM or YYYY-MM-DD of a day that exists."""
    if _DATE.fullmatch(text) is None:
        return False
    try:
        date.fromisoformat(text + "-01" * (2 - text.count("-")))
    except ValueError:
        return False
    return True


def _family(fields: Mapping[str, Any], family: str) -> list[tuple[str, Any]]:
    before = family + SET_SEPARATOR
    return [(name.removeprefix(before), value) for name, value in fields.items() if name.startswith(before)]


def _allergy(page: Page, entry: Entry, key: str, value: Any) -> Leaf | None:
    made = element_out(key, value)
    if made is None:
        return None
    code, details, present = made
    leaf = _part(entry, "AllergyIntolerance", "AllergyIntolerance", f"allergies/{key}", names.ALLERGIES)
    leaf.body |= _status("allergyintolerance", "verification", present) | {"code": code, "patient": page.subject}
    if details.get("criticality") in ("low", "high", "unable-to-assess"):
        leaf.body["criticality"] = details["criticality"]
    _say(leaf.body, "note", details.get("note"), lambda text: [{"text": text}])
    return leaf


def _no_allergy(page: Page, entry: Entry) -> Leaf:
    leaf = _part(entry, "AllergyIntolerance", "AllergyIntolerance", "allergies_status", names.ALLERGIES)
    code = concept("No known allergy", names.SNOMED, names.NO_KNOWN_ALLERGY)
    leaf.body |= _status("allergyintolerance", "verification", True) | {"code": code, "patient": page.subject}
    return leaf


def _status(what: str, verification: str, present: bool) -> Json:
    """clinicalStatus and verificationStatus, which stand together."""
    code, display = ("active", "Active") if present else ("inactive", "Inactive")
    clinical = {"system": f"{names.TERMINOLOGY}{what}-clinical", "code": code, "display": display}
    code, display = ("confirmed", "Confirmed") if present else ("refuted", "Refuted")
    verified = {"system": f"{names.TERMINOLOGY}{what}-{verification}", "code": code, "display": display}
    return {"clinicalStatus": {"coding": [clinical]}, "verificationStatus": {"coding": [verified]}}


# -- conditions --------------------------------------------------------------------------------------------------------


def _conditions(page: Page, entry: Entry, family: str, section: Section) -> list[Leaf | None]:
    return [_condition(page, entry, family, key, value, section) for key, value in _family(entry.fields, family)]


def _condition(page: Page, entry: Entry, role: str, key: str, value: Any, section: Section) -> Leaf | None:
    made = element_out(key, value)
    if made is None:
        return None
    code, details, present = made
    leaf = _part(entry, "Condition", "Condition", f"{role}/{key}", section)
    leaf.body |= _status("condition", "ver-status", present)
    leaf.body |= {"category": [concept(role, names.ROLE, role)], "code": code, "subject": page.subject}
    _say(leaf.body, "note", details.get("note"), lambda text: [{"text": text}])
    return leaf


def _diagnosis(page: Page, entry: Entry, role: str) -> Leaf | None:
    """A coded diagnosis of a visit or a reply."""
    code = coded_out(entry.fields.get(role))
    if code is None:
        return None
    leaf = _part(entry, "Condition", "Condition", role, None)
    leaf.body |= {"category": [concept(role, names.ROLE, role)], "code": code, "subject": page.subject}
    return leaf


# -- the visit and what belongs to it ----------------------------------------------------------------------------------


def _case(page: Page, entry: Entry, leaf: Leaf) -> list[Leaf]:
    distant = entry.fields.get("mode") in ("text", "audio", "video")
    leaf.body |= _encounter(page, entry, names.VIRTUAL if distant else names.IN_PERSON)
    complaints = [
        *_conditions(page, entry, "complaints", names.COMPLAINTS),
        *_conditions(page, entry, "danger_signs", names.COMPLAINTS),
    ]
    parts = [part for part in complaints if part is not None]
    uses = [(part, "Chief complaint", names.CHIEF_COMPLAINT_USE) for part in parts]
    diagnosis = _diagnosis(page, entry, "provisional_diagnosis")
    if diagnosis is not None:
        parts.append(diagnosis)
        uses.append((diagnosis, "Preliminary diagnosis", names.PRELIMINARY_USE))
    if uses:
        leaf.body["diagnosis"] = [
            {"condition": {"reference": part.url}, "use": concept(said, names.SNOMED, code)}
            for part, said, code in uses
        ]
    return parts


def _encounter(page: Page, entry: Entry, code: str) -> Json:
    display = "ambulatory" if code == names.IN_PERSON else "virtual"
    body: Json = {
        "status": "entered-in-error" if _hidden(entry) else "finished",
        "class": {"system": f"{names.TERMINOLOGY}v3-ActCode", "code": code, "display": display},
        "subject": page.subject,
    }
    return body | ({"period": {"start": entry.at}} if entry.at is not None else {})


def _vitals(page: Page, entry: Entry, leaf: Leaf) -> list[Leaf]:
    code, display = names.VITALS_PANEL
    category = concept("Vital Signs", f"{names.TERMINOLOGY}observation-category", "vital-signs")
    shared: Json = {"subject": page.subject, "status": "entered-in-error" if _hidden(entry) else "final"}
    if entry.at is not None:
        shared["effectiveDateTime"] = entry.at
    if (visit := _referred(page, entry, "case", "case", "Encounter")) is not None:
        shared["encounter"] = visit
    parts = []
    for made in measurements(dict(entry.fields)):
        part = _part(entry, "Observation", "", made["code"]["coding"][0]["code"], leaf.section)
        part.body = part.body | made | shared
        parts.append(part)
    leaf.body |= {"category": [category], "code": concept(display, names.LOINC, code), **shared}
    if parts:
        leaf.body["hasMember"] = [{"reference": part.url} for part in parts]
    return parts


def _referral(page: Page, entry: Entry, leaf: Leaf) -> list[Leaf]:
    fields, urgency = entry.fields, entry.fields.get("urgency")
    withdrawn = fields.get("withdrawn")
    revoked = isinstance(withdrawn, Mapping) and withdrawn.get("withdrawn") is True
    referral = concept("Patient referral", names.SNOMED, names.PATIENT_REFERRAL)
    leaf.body |= {
        "status": "entered-in-error" if _hidden(entry) else "revoked" if revoked else "active",
        "intent": "order",
        "category": [referral],
        "priority": names.URGENCIES.get(urgency, "routine") if isinstance(urgency, str) else "routine",
        "code": referral,
        "subject": page.subject,
        "authoredOn": entry.at or entry.saved_at,
        "requester": {"display": entry.author} if fits(entry.author) else {"reference": page.author.url},
    }
    if (visit := _referred(page, entry, "case", "case", "Encounter")) is not None:
        leaf.body["encounter"] = visit
    _say(leaf.body, "performerType", fields.get("specialty"), lambda text: {"text": text})
    _say(leaf.body, "reasonCode", fields.get("reason"), lambda text: [{"text": text}])
    _say(leaf.body, "note", fields.get("question"), lambda text: [{"text": text}])
    return []


def _follow_up(page: Page, entry: Entry, leaf: Leaf) -> list[Leaf]:
    """Proposed, since what is due on a day has no hour."""
    leaf.body["status"] = "entered-in-error" if _hidden(entry) else "proposed"
    leaf.body["participant"] = [{"actor": page.subject, "status": "needs-action"}]
    due = entry.fields.get("due")
    if isinstance(due, str) and len(due) == 10 and _is_date(due):
        leaf.body["requestedPeriod"] = [{"start": due}]
    if entry.at is not None:
        leaf.body["created"] = entry.at
    _say(leaf.body, "description", entry.fields.get("note"))
    return []


# -- the doctor's answer -----------------------------------------------------------------------------------------------


def _reply(page: Page, entry: Entry, leaf: Leaf) -> list[Leaf]:
    leaf.body |= _encounter(page, entry, names.VIRTUAL)
    leaf.body["participant"] = [{"individual": {"reference": page.author.url}}]
    if (referral := _referred(page, entry, "referral", "referral", "ServiceRequest")) is not None:
        leaf.body["basedOn"] = [referral]
    parts: list[Leaf] = []
    diagnosis = _diagnosis(page, entry, "diagnosis")
    if diagnosis is not None:
        parts.append(diagnosis)
        use = concept("Diagnosis", names.SNOMED, names.PRELIMINARY_USE)
        leaf.body["diagnosis"] = [{"condition": {"reference": diagnosis.url}, "use": use}]
    lines = entry.fields.get("prescription")
    for at, line in enumerate(lines if isinstance(lines, list) else []):
        if isinstance(line, Mapping):
            part = _part(entry, "MedicationRequest", "MedicationRequest", f"prescription/{at}", names.PRESCRIPTION)
            _medication(page, entry, part, line)
            part.body["encounter"] = {"reference": leaf.url}
            if diagnosis is not None:
                part.body["reasonReference"] = [{"reference": diagnosis.url}]
            parts.append(part)
    return parts


def _medication(page: Page, entry: Entry, leaf: Leaf, line: Mapping[str, Any]) -> None:
    drug = line.get("drug")
    leaf.body |= {
        "status": "entered-in-error" if _hidden(entry) else "active",
        "intent": "order",
        "medicationCodeableConcept": {"text": drug if fits(drug) else "told in an extension of the visit"},
        "subject": page.subject,
        "authoredOn": entry.at or entry.saved_at,
        "requester": {"reference": page.author.url},
        "dosageInstruction": [_dosage(line)],
    }


def _dosage(line: Mapping[str, Any]) -> Json:
    """How to take a drug. text: all of it again in words, since some programs show nothing else."""
    dose, days = line.get("dose"), line.get("days")
    words = [*(line.get(name) for name in ("dose", "form", "strength", "frequency", "route"))]
    words.append(f"for {days} days" if type(days) is int else None)
    dosage: Json = {"text": ", ".join(word for word in words if fits(word) and word) or "as told by the doctor"}
    if fits(dose):
        dosage["extension"] = [{"url": names.DOSE, "valueString": dose}]
    timing: Json = {}
    if type(days) is int:
        bounds = {"value": days, "unit": "day", "system": names.UCUM, "code": "d"}
        timing["repeat"] = {"boundsDuration": bounds}
    _say(timing, "code", line.get("frequency"), lambda text: {"text": text})
    if timing:
        dosage["timing"] = timing
    _say(dosage, "route", line.get("route"), lambda text: {"text": text})
    _say(dosage, "patientInstruction", line.get("advice"))
    return dosage


def _basic(page: Page, entry: Entry, leaf: Leaf) -> list[Leaf]:
    leaf.body["code"] = concept(entry.key.kind.replace("_", " "), names.KIND, entry.key.kind)
    leaf.body["subject"] = page.subject
    return []


Filling = Callable[[Page, Entry, Leaf], list[Leaf]]
CARRIERS: Final[Mapping[str, tuple[str, str, Section | None]]] = {
    "patient": ("Patient", "Patient", None),
    "case": ("Encounter", "Encounter", None),
    "vitals": ("Observation", "ObservationVitalSigns", names.EXAMINATION),
    "referral": ("ServiceRequest", "ServiceRequest", names.REFERRAL),
    "follow_up": ("Appointment", "Appointment", names.FOLLOW_UP),
    "reply": ("Encounter", "Encounter", None),
}
"""Kind -> the type of its carrier, its profile, and its section; all other kinds are a Basic."""
FILLINGS: Final[Mapping[str, Filling]] = {
    "patient": _patient,
    "case": _case,
    "vitals": _vitals,
    "referral": _referral,
    "follow_up": _follow_up,
    "reply": _reply,
}
