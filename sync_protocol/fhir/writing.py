"""The records of a patient as FHIR R4 Bundles of type document, after NRCeS's profiles.

A consultation (OPConsultRecord) for each case, with its vitals, its referrals and what was said about them; a
prescription (PrescriptionRecord) for each answer of a doctor; a wellness record for vitals without a case and for all
else that belongs to no document of its own. Every record stands in one of them at least.

A document is read again before it leaves (`reading`), and what its standard elements do not give back exactly goes
along as an extension of the record's carrier. Nothing here draws ids or asks the time: the same records give the same
bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sync_protocol import documents
from sync_protocol.errors import InvalidValue
from sync_protocol.fhir import names
from sync_protocol.fhir.datatypes import Exact, Json, concept, exact_out, fits
from sync_protocol.fhir.drafts import AT
from sync_protocol.fhir.leaving import Entry, Leaf, Page, carrier, fill, resource
from sync_protocol.fhir.names import Section
from sync_protocol.fhir.reading import Reader

LABEL: Final = "fhir document"
LEFT_OUT: Final = frozenset(
    {
        *("person", "facility"),  # the directory of staff
        *("patient_card", "subscription", "subscription_decision", "erasure"),  # who may see what; a card is a secret
    }
)
"""Kinds that stand in no patient's document."""
NOTES: Final = ("history", "examination", "plan", "advice", "refer_onward")  # told to who reads the document itself
_XML: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_NO_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


@dataclass(frozen=True, slots=True)
class Form:
    """A kind of document. code: SNOMED's, empty where NRCeS gives none."""

    profile: str
    title: str
    code: str


CONSULTATION: Final = Form("OPConsultRecord", "Clinical consultation report", "371530004")
PRESCRIPTION: Final = Form("PrescriptionRecord", "Prescription record", "440545006")
WELLNESS: Final = Form("WellnessRecord", "Wellness Record", "")


def bundles(entries: Iterable[Entry]) -> Iterator[Json]:
    """The documents of one patient. Entries of the directory of staff, and those that say nothing, are passed over."""
    every = sorted(
        (one for one in entries if one.key.kind not in LEFT_OUT and (one.fields or one.at is not None)),
        key=lambda one: (one.saved_at, one.key.kind, one.key.record),
    )
    patient = [one for one in every if one.key.kind == "patient"]
    left = {one.key: one for one in every if one.key.kind != "patient"}
    of_case, of_referral = _naming(left.values(), "case"), _naming(left.values(), "referral")
    for case in [one for one in left.values() if one.key.kind == "case"]:
        near = [case, *(one for one in of_case.get(case.key.record, ()) if one.key.kind != "case")]
        referrals = [one.key.record for one in near if one.key.kind == "referral"]
        far = [one for record in referrals for one in of_referral.get(record, ())]
        about = [one for one in (*near, *far) if one.key.kind != "reply" and left.pop(one.key, None) is not None]
        yield _document(CONSULTATION, case, [*patient, *about])
    for reply in [one for one in left.values() if one.key.kind == "reply"]:
        del left[reply.key]
        yield _document(PRESCRIPTION, reply, [*patient, reply])
    rest = list(left.values())
    if rest or (patient and len(every) == len(patient)):
        yield _document(WELLNESS, (rest or patient)[0], [*patient, *rest])


def _naming(entries: Iterable[Entry], field: str) -> dict[bytes, list[Entry]]:
    """The records that name another in this field, by whom they name."""
    found: dict[bytes, list[Entry]] = {}
    for one in entries:
        try:
            found.setdefault(documents.parse_id(one.fields.get(field)), []).append(one)
        except InvalidValue:
            continue
    return found


# -- one document ------------------------------------------------------------------------------------------------------


def _document(form: Form, main: Entry, entries: Sequence[Entry]) -> Json:
    """A document about ``main``, with all of these records."""
    page = Page(main.patient, _author(form, main))
    for entry in entries:
        page.carriers[entry.key] = carrier(entry)
    leaves: list[Leaf] = []
    for entry in entries:
        leaves += [page.carriers[entry.key], *fill(page, entry)]
    place = _place(main)
    first = _composition(form, main, page, place, leaves)
    bundle = _bundle(form, main, [first, page.author, place, *leaves])
    _send_along(bundle, page, entries)
    return bundle


def _author(form: Form, main: Entry) -> Leaf:
    """Who answers for the document: the doctor by name, degree and registration, else who began the record."""
    name = main.fields.get("doctor") if form is PRESCRIPTION else None
    said = name if fits(name) else main.author if fits(main.author) else "not named"
    number = main.fields.get("registration_number") if form is PRESCRIPTION else None
    body = resource("Practitioner", "Practitioner", documents.derived_id(LABEL, "author", main.key.record, form.title))
    body["identifier"] = [{"system": names.AUTHOR, "value": body["id"]}]
    if fits(number):
        licence = concept("Medical License number", f"{names.TERMINOLOGY}v2-0203", "MD")
        body["identifier"].append({"type": licence, "system": names.REGISTRATION, "value": number})
    degree = main.fields.get("qualification") if form is PRESCRIPTION else None
    if fits(degree):
        body["qualification"] = [{"code": {"text": degree}}]
    return Leaf(body | {"name": [{"text": said}]})


def _place(main: Entry) -> Leaf:
    """The centre."""
    code = main.facility if fits(main.facility) else "not named"
    body = resource("Organization", "Organization", documents.derived_id(LABEL, "place", code))
    number = concept("Provider number", f"{names.TERMINOLOGY}v2-0203", "PRN")
    return Leaf(body | {"identifier": [{"type": number, "system": names.FACILITY, "value": code}], "name": code})


def _composition(form: Form, main: Entry, page: Page, place: Leaf, leaves: Sequence[Leaf]) -> Leaf:
    name = documents.derived_id(LABEL, form.title, main.key.kind, main.key.record)
    body = resource("Composition", form.profile, name)
    body |= {
        "language": "en-IN",
        "identifier": {"system": names.DOCUMENT, "value": documents.id_text(name)},
        "status": "final",
        "type": concept(form.title, names.SNOMED, form.code),
        "subject": page.subject,
        "date": main.at or main.saved_at,
        "author": [{"reference": page.author.url}],
        "title": form.title,
        "custodian": {"reference": place.url},
    }
    if main.key.kind in ("case", "reply"):
        body["encounter"] = {"reference": page.carriers[main.key].url}
    body["section"] = list(_sections(form, main, leaves))
    return Leaf(body)


def _sections(form: Form, main: Entry, leaves: Sequence[Leaf]) -> Iterator[Json]:
    listed: dict[Section, list[Leaf]] = {}
    for leaf in leaves:
        if leaf.section is not None:
            wellness = form is WELLNESS and leaf.section == names.EXAMINATION
            listed.setdefault(names.VITAL_SIGNS if wellness else leaf.section, []).append(leaf)
    for section, rows in listed.items():
        entry = [{"reference": leaf.url, "type": leaf.body["resourceType"]} for leaf in rows]
        yield _titled(section) | {"entry": entry}
    notes = [(name, main.fields[name]) for name in NOTES if fits(main.fields.get(name))]
    if notes or not listed:
        yield _titled(names.NOTES) | {"text": _narrative(notes)}


def _titled(section: Section) -> Json:
    coding = {"system": names.SNOMED, "code": section.code, "display": section.display}
    return {"title": section.title} | ({"code": {"coding": [coding]}} if section.code else {})


def _narrative(notes: Sequence[tuple[str, str]]) -> Json:
    """The long texts for who reads the document; a generated narrative is not read back."""
    said = "".join(
        f"<p><b>{name.replace('_', ' ')}</b>: {_NO_CONTROL.sub('', text).translate(_XML)}</p>" for name, text in notes
    )
    div = f'<div xmlns="http://www.w3.org/1999/xhtml">{said or "<p>Nothing more was written.</p>"}</div>'
    return {"status": "generated", "div": div}


def _bundle(form: Form, main: Entry, leaves: Sequence[Leaf]) -> Json:
    name = documents.id_text(documents.derived_id(LABEL, "bundle", form.title, main.key.kind, main.key.record))
    return {
        "resourceType": "Bundle",
        "id": name,
        "meta": {"profile": [f"{names.PROFILES}DocumentBundle"], "lastUpdated": main.saved_at},
        "identifier": {"system": names.DOCUMENT, "value": name},
        "type": "document",
        "timestamp": main.saved_at,
        "entry": [{"fullUrl": leaf.url, "resource": leaf.body} for leaf in leaves],
    }


# -- what the standard cannot say --------------------------------------------------------------------------------------


def _send_along(bundle: Json, page: Page, entries: Sequence[Entry]) -> None:
    """Read the document as another would, and add to each carrier what does not come back exactly."""
    read = {(line["kind"], line["id"]): line for line in Reader("").read(bundle).lines}
    for entry in entries:
        line = read.get((entry.key.kind, documents.id_text(entry.key.record)), {})
        given = _with_time(line.get("fields", {}), line.get(AT))
        meant = _with_time(entry.fields, entry.at)
        missing = {name: value for name, value in meant.items() if name not in given or _differ(value, given[name])}
        extensions = [exact_out(Exact(name, value)) for name, value in missing.items()]
        extensions += [exact_out(Exact(name, None, absent=True)) for name in given if name not in meant]
        if extensions:
            page.carriers[entry.key].body["extension"] = extensions


def _with_time(fields: Any, at: str | None) -> Json:
    return dict(fields) | ({AT: at} if at is not None else {})


def _differ(left: Any, right: Any) -> bool:
    """By their JSON: in Python True == 1 and 37 == 37.0."""
    return json.dumps(left, sort_keys=True) != json.dumps(right, sort_keys=True)
