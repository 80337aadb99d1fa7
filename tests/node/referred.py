"""A patient who was examined and referred, and what a doctor answered: for tests of what is printed of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from hwc_node.store import Store
from sync_protocol.change import PersonId, RecordKey
from sync_protocol.documents import id_text
from sync_protocol.schema import Writer
from tests.node.enrolled_home import FACILITY, NOW_MS, PERSON, PERSON_NAME, arrive, fresh_id, write

DOCTOR: Final = PersonId(b"doctor of a hub:")
PATIENT: Final[dict[str, Any]] = {
    "name": "आशा Devi",
    "sex": "F",
    "birth": {"date": "1991-06-04", "precision": "day"},
    "phone": "9845012345",
    "village": "Rampur",
    "address": "House 4, near the well",
    "allergies_status": "listed",
    "allergies/penicillin": {"present": True, "details": {"text": "Penicillin"}},
}
CASE: Final[dict[str, Any]] = {
    "complaints/bleeding": {"present": True, "details": {"text": "Bleeding"}},
    "examination": "Pale. Abdomen soft.",
    "at": NOW_MS,
}
VITALS: Final[dict[str, Any]] = {
    "blood_pressure": {"systolic_mmhg": 90, "diastolic_mmhg": 60},
    "pulse_bpm": 118,
    "temperature_c": 37.4,
    "weight_kg": 52,
    "at": NOW_MS,
}
REFERRAL: Final[dict[str, Any]] = {
    "specialty": "obstetrics",
    "urgency": "emergency",
    "reason": "Bleeding since morning",
    "at": NOW_MS,
}
REPLY: Final[dict[str, Any]] = {
    "diagnosis": {"text": "Incomplete abortion"},
    "advice": "Send her at once.",
    "prescription": [
        {"drug": "Tranexamic acid", "form": "tablet", "strength": "500 mg", "dose": "1 tablet", "route": "by mouth",
         "frequency": "three times a day", "days": 5, "advice": "after food"},
        {"drug": "ओआरएस", "dose": "1 packet", "days": 2},
    ],
    "follow_up_days": 3,
    "mode": "video",
    "first": True,
    "doctor": "Dr Sunita Rao",
    "qualification": "MBBS, MD",
    "registration_number": "KMC-12345",
}  # fmt: skip


@dataclass(frozen=True)
class Referred:
    store: Store
    patient: bytes
    case: RecordKey
    vitals: RecordKey
    referral: RecordKey

    @classmethod
    def make(cls, store: Store, **patient: Any) -> Referred:
        write(store, PERSON, "person", {"name": PERSON_NAME, "role": "cho"}, record=PERSON, patient=PERSON)
        own = write(store, PERSON, "patient", PATIENT | patient).record
        case = write(store, PERSON, "case", CASE, patient=own)
        vitals = write(store, PERSON, "vitals", VITALS | {"case": case.record}, patient=own)
        referral = write(store, PERSON, "referral", REFERRAL | {"case": case.record}, patient=own)
        return cls(store, own, case, vitals, referral)

    @property
    def name(self) -> str:
        return id_text(self.referral.record)

    def answered(self, position: int = 5, **said: Any) -> str:
        """A doctor's answer arrives; its id."""
        writes = REPLY | {"referral": self.referral.record, "seen_positions": {FACILITY: 4}} | said
        key = arrive(
            self.store,
            "reply",
            writes,
            position,
            record=fresh_id(),
            patient=self.patient,
            origin=Writer.DOCTOR,
            person=DOCTOR,
            now_ms=NOW_MS + position * 60_000,
        )
        return id_text(key.record)
