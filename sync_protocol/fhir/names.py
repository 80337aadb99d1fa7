"""The tables of codes, each stated once: used where records leave, where resources arrive, and by the tests of FHIR.md.

Systems of our own are URNs: they name what no standard names, and nobody looks them up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PROFILES: Final = "https://nrces.in/ndhm/fhir/r4/StructureDefinition/"
SNOMED: Final = "http://snomed.info/sct"
LOINC: Final = "http://loinc.org"
UCUM: Final = "http://unitsofmeasure.org"
TERMINOLOGY: Final = "http://terminology.hl7.org/CodeSystem/"

RECORD: Final = "urn:health-sync:record"  # an identifier's value is kind/uuid
FACILITY: Final = "urn:health-sync:facility"  # an identifier's value is the facility's code
AUTHOR: Final = "urn:health-sync:author"  # who is named in passing, and is no record of the document
REGISTRATION: Final = "urn:health-sync:registration"  # a registration number of a medical council
DOCUMENT: Final = "urn:health-sync:document"
ROLE: Final = "urn:health-sync:role"  # which field a Condition is
KIND: Final = "urn:health-sync:kind"
FIELD: Final = "urn:health-sync:field"  # an extension with a field that has no standard place
DOSE: Final = "urn:health-sync:dose"

ABHA: Final = "https://healthid.ndhm.gov.in"
ABHA_SYSTEMS: Final = (ABHA, "https://healthid.abdm.gov.in")

SYSTEMS: Final = {"snomed": SNOMED, "icd10": "http://hl7.org/fhir/sid/icd-10", "loinc": LOINC}
"""Our short name of a code system -> its URI."""

GENDERS: Final = {"F": "female", "M": "male", "O": "other", "U": "unknown"}
IN_PERSON: Final = "AMB"
VIRTUAL: Final = "VR"  # our extension says by what
URGENCIES: Final = {"routine": "routine", "urgent": "urgent", "emergency": "stat"}
ASAP: Final = "asap"  # read as urgent

NO_KNOWN_ALLERGY: Final = "716186003"
PATIENT_REFERRAL: Final = "3457005"
REFERRALS: Final = frozenset({PATIENT_REFERRAL, "306206005", "308292007"})
GUARDIAN: Final = "GUARD"
ASKED_UNKNOWN: Final = "asked-unknown"  # a null of ours: asked, and not known
VITALS_PANEL: Final = ("85353-1", "Vital signs, weight, height, head circumference, oxygen saturation and BMI panel")
PRESSURE_PANEL: Final = ("85354-9", "Blood pressure panel with all children optional")

CHIEF_COMPLAINT_USE: Final = "33962009"
PRELIMINARY_USE: Final = "148006"


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a Composition. code: SNOMED's, empty for one of our own."""

    title: str
    code: str
    display: str


COMPLAINTS: Final = Section("Chief complaints", "422843007", "Chief complaint section")
EXAMINATION: Final = Section("Physical Examination", "425044008", "Physical exam section")
ALLERGIES: Final = Section("Allergies", "722446000", "Allergy record")
HISTORY: Final = Section("Medical History", "371529009", "History and physical report")
REFERRAL: Final = Section("Referral", "306206005", "Referral to service")
FOLLOW_UP: Final = Section("Follow Up", "736271009", "Outpatient care plan")
PRESCRIPTION: Final = Section("Prescription record", "440545006", "Prescription record")
VITAL_SIGNS: Final = Section("Vital Signs", "", "")
NOTES: Final = Section("Clinical notes", "", "")
OTHER: Final = Section("Other records", "", "")

ROLE_OF_SECTION: Final = {COMPLAINTS.code: "complaints", HISTORY.code: "chronic_conditions"}
ROLE_OF_USE: Final = {CHIEF_COMPLAINT_USE: "complaints"}  # any other use of a visit's diagnosis: the diagnosis
ROLES: Final = frozenset({"complaints", "danger_signs", "chronic_conditions", "provisional_diagnosis", "diagnosis"})


@dataclass(frozen=True, slots=True)
class Unit:
    """value in our unit = value * factor + offset. words: what senders write in the place of UCUM's code."""

    code: str
    words: tuple[str, ...] = ()
    factor: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class Vital:
    """A measurement. field: of `vitals`; for a part of the blood pressure its part. codes: LOINC's, the first is ours.
    units: the first is ours."""

    field: str
    codes: tuple[str, ...]
    display: str
    units: tuple[Unit, ...]
    profile: str = "ObservationVitalSigns"


_PER_MINUTE: Final = (Unit("/min", ("beats/minute", "breaths/minute", "bpm", "beats/min", "breaths/min")),)
_MMHG: Final = (Unit("mm[Hg]", ("mmHg",)),)
_GLUCOSE: Final = (Unit("mg/dL", ("mg/dl",)), Unit("mmol/L", ("mmol/l",), 18.0156))  # 180.156 g/mol

VITALS: Final = (
    Vital("pulse_bpm", ("8867-4",), "Heart rate", _PER_MINUTE),
    Vital("respiratory_rate", ("9279-1",), "Respiratory rate", _PER_MINUTE),
    Vital(
        "temperature_c",
        ("8310-5", "61008-9"),
        "Body temperature",
        (Unit("Cel", ("C", "°C", "degC")), Unit("[degF]", ("degF", "F", "°F"), 5 / 9, -160 / 9)),
    ),
    Vital("spo2_percent", ("2708-6", "59408-5"), "Oxygen saturation in Arterial blood", (Unit("%", ("percent",)),)),
    Vital(
        "weight_kg",
        ("29463-7", "3141-9"),
        "Body weight",
        (Unit("kg"), Unit("g", (), 0.001), Unit("[lb_av]", ("lbs", "lb"), 0.45359237)),
        "ObservationBodyMeasurement",
    ),
    Vital(
        "height_cm",
        ("8302-2",),
        "Body height",
        (Unit("cm"), Unit("m", (), 100), Unit("[in_i]", ("in", "[in_us]"), 2.54)),
        "ObservationBodyMeasurement",
    ),
    Vital(
        "glucose_mg_dl",
        ("2339-0", "41653-7", "2345-7", "15074-8"),
        "Glucose [Mass/volume] in Blood",
        _GLUCOSE,
        "ObservationGeneralAssessment",
    ),
    Vital(
        "haemoglobin_g_dl",
        ("718-7",),
        "Hemoglobin [Mass/volume] in Blood",
        (Unit("g/dL", ("g/dl",)), Unit("g/L", ("g/l",), 0.1)),
        "ObservationGeneralAssessment",
    ),
)
PRESSURE: Final = (
    Vital("systolic_mmhg", ("8480-6",), "Systolic blood pressure", _MMHG),
    Vital("diastolic_mmhg", ("8462-4",), "Diastolic blood pressure", _MMHG),
)
VITAL_OF_CODE: Final = {code: vital for vital in (*VITALS, *PRESSURE) for code in vital.codes}
PRESSURE_PARTS: Final = frozenset(vital.field for vital in PRESSURE)
