"""What each type of resource means for a record: the way in. One function a type, in one table at the end.

A resource that carries our own identifier tells of that record. One of somebody else's becomes a record of a kind that
a centre may write; one resource tells of one record wherever it can, so that the next document takes nothing back that
an earlier one said. What a centre may not write (a facility) is left to the import's own rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sync_protocol import documents
from sync_protocol.fhir import names, ordering, persons
from sync_protocol.fhir.datatypes import Json, coded_in, codes, element_in, time_in
from sync_protocol.fhir.drafts import Draft, Sheet
from sync_protocol.fhir.measuring import observation
from sync_protocol.fhir.taking import Source

Arrival = Callable[[Sheet, Source], None]

VERIFICATION: Final = f"{names.TERMINOLOGY}allergyintolerance-verification"
CONDITION_VERIFICATION: Final = f"{names.TERMINOLOGY}condition-ver-status"
CONDITION_CATEGORY: Final = f"{names.TERMINOLOGY}condition-category"
ROLE_OF_CATEGORY: Final = {"problem-list-item": "chronic_conditions", "encounter-diagnosis": "provisional_diagnosis"}
KIND_OF_ROLE: Final = {"chronic_conditions": "patient", "diagnosis": "reply"}  # all others: a case's
FAMILIES: Final = frozenset({"complaints", "danger_signs", "chronic_conditions"})


def sort_out(sheet: Sheet) -> None:
    """Before all else: which visit and which role the visits and the sections of a document give to a resource."""
    for source in sheet.sources:
        if source.type == "Encounter":
            visit = sheet.own(source) or sheet.key(source, "case")
            for at in source.rows("diagnosis"):
                there = sheet.source_of(source.look("diagnosis", at, "condition"))
                if there is not None:
                    use = next(iter(codes(source, names.SNOMED, "diagnosis", at, "use")), "")
                    sheet.place(there, names.ROLE_OF_USE.get(use, "provisional_diagnosis"), visit)
                    source.take("diagnosis", at)
    for source in sheet.sources:
        if source.type == "Composition":
            _composition(sheet, source)


def _composition(sheet: Sheet, source: Source) -> None:
    """A document's first page: its sections and its time. It is no record."""
    for name in ("identifier", "status", "type", "subject", "encounter", "author", "title", "custodian"):
        source.take(name)
    source.take("confidentiality")
    if time_in(source.look("date")) is not None:
        sheet.written_at = source.take("date")
    visit = sheet.target(source, "encounter")
    for at in range(source.count("section")):
        code = next(iter(codes(source, names.SNOMED, "section", at, "code")), "")
        for entry in range(source.count("section", at, "entry")):
            there = sheet.source_of(source.take("section", at, "entry", entry))
            if there is not None:
                sheet.place(there, names.ROLE_OF_SECTION.get(code), visit)
        for name in ("title", "code", "mode", "orderedBy", "emptyReason"):
            source.take("section", at, name)
        if source.look("section", at, "text", "status") in ("generated", "empty"):
            source.take("section", at, "text")
        elif source.look("section", at, "text") is not None:
            source.leave("is written for reading only", "section", at, "text")


# -- what is wrong with a patient --------------------------------------------------------------------------------------


def _allergy(sheet: Sheet, source: Source) -> None:
    named = sheet.target(source, "patient")
    key = sheet.own(source) or named
    if key is None or key.kind != "patient":
        source.refuse("names no patient that can be told", "patient")
        return
    verified = codes(source, VERIFICATION, "verificationStatus")
    if "entered-in-error" in verified:
        source.refuse("is marked as entered in error where it comes from", "verificationStatus")
        return
    draft = sheet.draft(key, source)
    draft.patient = key.record
    source.take("verificationStatus")
    refuted = "refuted" in verified
    if names.NO_KNOWN_ALLERGY in codes(source, names.SNOMED, "code") and not refuted:
        source.take("code")
        source.take("clinicalStatus")
        draft.put("allergies_status", "none_known")
        return
    _element(draft, source, "allergies", refuted)


def _condition(sheet: Sheet, source: Source) -> None:
    own = sheet.own(source)
    role = _role(sheet, source)
    if own is not None and own.kind != KIND_OF_ROLE.get(role, "case"):
        source.refuse("is no part of a record of that kind", "identifier")
        return
    verified = codes(source, CONDITION_VERIFICATION, "verificationStatus")
    if "entered-in-error" in verified or ("refuted" in verified and role not in FAMILIES):
        source.refuse("is said not to be so where it comes from", "verificationStatus")
        return
    of_patient = sheet.target(source, "subject")
    if of_patient is None or of_patient.kind != "patient":
        source.refuse("names no patient that can be told", "subject")
        return
    visit = sheet.visit_of(source)
    if role == "chronic_conditions":
        draft = sheet.draft(own or of_patient, source)
        draft.patient = draft.key.record
    else:
        draft = sheet.draft(own or visit or sheet.key(source, "case"), source)
        draft.patient = draft.patient or of_patient.record
        if own is None and visit is None:
            sheet.happened(draft, source, ("onsetDateTime",), ("recordedDate",))
            draft.at = draft.at or sheet.document_time()
    source.take("verificationStatus")
    if role in FAMILIES:
        _element(draft, source, role, "refuted" in verified)
    else:
        _diagnosis(draft, source, role)


def _role(sheet: Sheet, source: Source) -> str:
    """Which field a Condition is: our own category says it, else the visit or section it stands in, else its category."""
    for at in source.rows("category"):
        for code in codes(source, names.ROLE, "category", at):
            if code in names.ROLES:
                source.take("category", at)
                return code
    if (role := sheet.roles.get(id(source))) is not None:
        return role
    for at in source.rows("category"):
        for code in codes(source, CONDITION_CATEGORY, "category", at):
            if code in ROLE_OF_CATEGORY:
                source.take("category", at)
                return ROLE_OF_CATEGORY[code]
    return "provisional_diagnosis"


def _diagnosis(draft: Draft, source: Source, role: str) -> None:
    if source.look("clinicalStatus", "coding", 0, "code") == "active":
        source.take("clinicalStatus")
    coded = coded_in(source, "code")
    if coded is None:
        source.refuse("says nothing of what it is", "code")
    elif not draft.put(role, coded):
        source.refuse("is a second diagnosis of its visit, which holds one", "code")


def _element(draft: Draft, source: Source, family: str, refuted: bool) -> None:
    """A Condition or an AllergyIntolerance as an element of a set."""
    coded = coded_in(source, "code")
    details: Json = {}
    status = source.text("clinicalStatus", "coding", 0, "code")
    if status is not None:
        source.take("clinicalStatus")
        details |= {"status": status} if status != "active" else {}
    for name, path in (("criticality", ("criticality",)), ("note", ("note", 0, "text"))):
        if (said := source.text(*path)) is not None:
            details[name] = said
    made = element_in(coded, details) if coded is not None else None
    if made is None:
        source.refuse("has neither a text nor a code that is short enough", "code")
    elif not draft.put(f"{family}/{made[0]}", {"present": False} if refuted else made[1]):
        source.refuse("says of the same thing what another resource says otherwise", "code")


# -- a visit -----------------------------------------------------------------------------------------------------------


def _encounter(sheet: Sheet, source: Source) -> None:
    own = sheet.own(source)
    draft = sheet.draft(own or sheet.key(source, "case"), source)
    if not sheet.of_patient(draft, source, "subject"):
        return
    sheet.happened(draft, source, ("period", "start"))
    source.take("status")
    if own is not None:
        source.take("class")
    if own is not None and own.kind == "reply":
        _answering(sheet, draft, source)
        return
    if source.look("class", "code") == names.IN_PERSON:
        source.take("class")
        draft.put("mode", "in_person")
    for at in source.rows("reasonCode"):
        coded = coded_in(source, "reasonCode", at)
        made = element_in(coded, {}) if coded is not None else None
        if made is not None:
            draft.put(f"complaints/{made[0]}", made[1])


def _answering(sheet: Sheet, draft: Draft, source: Source) -> None:
    """A hub doctor's reply, which is a visit at a distance."""
    referral = sheet.target(source, "basedOn", 0)
    if referral is not None:
        draft.put("referral", documents.id_text(referral.record))
    there = sheet.source_of(source.take("participant", 0, "individual"))
    if there is None:
        return
    persons.name_in(draft, there, "doctor")
    for at in there.rows("identifier"):
        if there.look("identifier", at, "system") == names.REGISTRATION:
            draft.put("registration_number", there.look("identifier", at, "value"))
    if isinstance(degree := there.look("qualification", 0, "code", "text"), str):
        draft.put("qualification", degree)


# -- all others --------------------------------------------------------------------------------------------------------


def _basic(sheet: Sheet, source: Source) -> None:
    """A record of ours of a kind that no resource is made for."""
    own = sheet.own(source)
    if own is None:
        source.refuse("does not say what it is in words of the standard", "code")
        return
    draft = sheet.draft(own, source)
    source.take("code")
    sheet.of_patient(draft, source, "subject")


def _document(_sheet: Sheet, source: Source) -> None:
    source.refuse("is an embedded document, which has no place in our records", "content", 0, "attachment")


def _binary(_sheet: Sheet, source: Source) -> None:
    source.refuse("is an embedded document, which has no place in our records", "data")


def _nothing(_sheet: Sheet, source: Source) -> None:
    source.refuse("is of a type that has no place in our records")


def _done(_sheet: Sheet, _source: Source) -> None:
    """Read before all else."""


ARRIVALS: Final[Mapping[str, Arrival]] = {
    "Composition": _done,
    "Patient": persons.patient,
    "Practitioner": persons.practitioner,
    "Organization": persons.organization,
    "Encounter": _encounter,
    "Condition": _condition,
    "AllergyIntolerance": _allergy,
    "Observation": observation,
    "ServiceRequest": ordering.service_request,
    "MedicationRequest": ordering.medication_request,
    "Appointment": ordering.appointment,
    "Basic": _basic,
    "DocumentReference": _document,
    "Binary": _binary,
}


def arrive(sheet: Sheet, source: Source) -> None:
    """Take what a resource says. One that says how it must not be read is left."""
    if source.look("modifierExtension") is not None:
        source.refuse("has an extension that alters what it means", "modifierExtension")
    elif source.look("status") == "entered-in-error" and sheet.own(source) is None:
        source.refuse("is marked as entered in error where it comes from", "status")
    else:
        ARRIVALS.get(source.type, _nothing)(sheet, source)
