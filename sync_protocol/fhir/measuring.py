"""Observations: measurements to and from a record of vitals, one table of codes and units for both ways.

One Observation of somebody else's is one record: measurements are immutable, so a later document that groups them
otherwise must not alter what is there. Units are converted only where the sender's differ from ours, and told apart by
their UCUM code, else by the word that stands in its place; a value without a unit that we know is not taken.
"""

from __future__ import annotations

from typing import Any, Final

from sync_protocol import documents, schema
from sync_protocol.fhir import names
from sync_protocol.fhir.datatypes import Json, codes, concept
from sync_protocol.fhir.drafts import Sheet
from sync_protocol.fhir.names import Unit, Vital
from sync_protocol.fhir.taking import Source, Step
from sync_protocol.schema import FieldType

DECIMALS: Final = 1  # of a converted value: more would claim what nobody measured
MAX_VALUE: Final = 1e12  # beyond it is nothing that anybody measures, and no float of ours
ABSENT: Final = f"{names.TERMINOLOGY}data-absent-reason"
PRESSURE_ROW: Final = schema.BLOOD_PRESSURE
_NOT_KNOWN: Final = object()


def observation(sheet: Sheet, source: Source) -> None:
    """Take a measurement; our own panel and its members are one record."""
    own = sheet.own(source)
    if own is not None and own.kind != "vitals":
        source.refuse("is no part of a record of that kind", "identifier")
        return
    if source.look("status") in ("cancelled", "unknown"):
        source.refuse("was not measured in the end", "status")
        return
    measured = _measured(source)
    if isinstance(measured, str) and own is None:
        source.refuse(measured)
        return
    draft = sheet.draft(own or sheet.key(source, "vitals"), source)
    if not sheet.of_patient(draft, source, "subject"):
        return
    visit = sheet.target(source, "encounter") if own is not None else sheet.visit_of(source)
    if visit is not None and visit.kind == "case":
        draft.put("case", documents.id_text(visit.record))
    times = (("effectiveDateTime",), ("effectiveInstant",), ("effectivePeriod", "start"), ("issued",))
    sheet.happened(draft, source, *times)
    for name in ("status", "category", "code"):
        source.take(name)
    if own is not None:
        source.take("hasMember")
    for name, value in measured.items() if isinstance(measured, dict) else ():
        if not draft.put(name, value):
            source.refuse("says a second value of one measurement")
            return


def _measured(source: Source) -> Json | str:
    """Field -> value; where there is none, why."""
    paths: list[tuple[Step, ...]] = [(), *(("component", at) for at in source.rows("component"))]
    found: Json = {}
    why = "is a measurement that has no field in our records"
    for path in paths:
        vital = _vital(source, *path)
        if vital is None:
            continue
        value = _value(source, vital, *path)
        if isinstance(value, str):
            why = value
        else:
            found[vital.field] = None if value is _NOT_KNOWN else value
            if path:
                source.take(*path, "code")
    parts = {name: found.pop(name) for name in list(found) if name in names.PRESSURE_PARTS}
    if len(parts) == len(names.PRESSURE_PARTS):
        found[PRESSURE_ROW.name] = None if None in parts.values() else parts
    elif parts:
        why = "is half of a blood pressure"
    return found or why


def _vital(source: Source, *path: Step) -> Vital | None:
    known = [code for code in codes(source, names.LOINC, *path, "code") if code in names.VITAL_OF_CODE]
    return names.VITAL_OF_CODE[known[0]] if known else None


def _value(source: Source, vital: Vital, *path: Step) -> Any:
    """The value in our unit; a reason in words where it cannot be told."""
    if names.ASKED_UNKNOWN in codes(source, ABSENT, *path, "dataAbsentReason"):
        source.take(*path, "dataAbsentReason")
        return _NOT_KNOWN
    value = source.look(*path, "valueQuantity", "value")
    if (type(value) is not int and type(value) is not float) or not abs(value) < MAX_VALUE:
        return "has no number"
    if source.look(*path, "valueQuantity", "comparator") is not None:
        return "is known only as more or less than a number"
    unit = _unit(source, vital, *path)
    if unit is None:
        return "is in a unit that we do not know"
    if (unit.factor, unit.offset) != (1.0, 0.0):
        value = round(value * unit.factor + unit.offset, DECIMALS)
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int and _row(vital).type is FieldType.INTEGER:
        return "is no whole number"
    source.take(*path, "valueQuantity")
    return value


def _unit(source: Source, vital: Vital, *path: Step) -> Unit | None:
    for name in ("code", "unit"):
        said = source.look(*path, "valueQuantity", name)
        for unit in vital.units:
            if said == unit.code or said in unit.words:
                return unit
    return None


def _row(vital: Vital) -> schema.Field:
    parts = {part.name: part for part in PRESSURE_ROW.parts}
    return parts.get(vital.field) or schema.KINDS["vitals"].fields[vital.field]


# -- out ---------------------------------------------------------------------------------------------------------------


def measurements(fields: Json) -> list[Json]:
    """The Observations of a record's fields, without what they share."""
    made = []
    for vital in names.VITALS:
        if vital.field in fields and (said := _said(vital, fields[vital.field])) is not None:
            made.append(_shape(vital.profile, concept(vital.display, names.LOINC, vital.codes[0])) | said)
    pressure = fields.get(PRESSURE_ROW.name)
    if isinstance(pressure, dict):
        parts = [(vital, _said(vital, pressure.get(vital.field))) for vital in names.PRESSURE]
        if all(said is not None and "valueQuantity" in said for _, said in parts):
            components = [
                {"code": concept(vital.display, names.LOINC, vital.codes[0])} | (said or {}) for vital, said in parts
            ]
            code, display = names.PRESSURE_PANEL
            panel = _shape("ObservationVitalSigns", concept(display, names.LOINC, code))
            made.append(panel | {"component": components})
    return made


def _said(vital: Vital, value: Any) -> Json | None:
    """A value as it would be read again; None for one that would not be, such as a fraction where we count."""
    if value is None:
        return {"dataAbsentReason": concept("Asked But Unknown", ABSENT, names.ASKED_UNKNOWN)}
    whole = _row(vital).type is FieldType.INTEGER
    if type(value) is not int and (whole or type(value) is not float):
        return None
    if not abs(value) < MAX_VALUE:
        return None
    unit = vital.units[0]
    return {"valueQuantity": {"value": value, "unit": unit.code, "system": names.UCUM, "code": unit.code}}


def _shape(profile: str, code: Json) -> Json:
    category = concept("Vital Signs", f"{names.TERMINOLOGY}observation-category", "vital-signs")
    return {
        "resourceType": "Observation",
        "meta": {"profile": [names.PROFILES + profile]},
        "status": "final",
        "category": [category],
        "code": code,
    }
