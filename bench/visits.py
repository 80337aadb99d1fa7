"""A deterministic stream of made-up visits: the same work for the demonstration and for every benchmark.

    python -m bench.visits --facilities 10 --per-facility 100 --seed 1 [--replies]

prints one document a line, in the shapes that `hwc import` takes: a patient (new in six visits of ten), a case, a set
of vitals, a referral, and with ``--replies`` the doctor's reply. Text is English, Hindi and Tamil. Every name, number
and sentence is drawn from the lists below; none is a person's. The same arguments give the same bytes on every machine.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from typing import Any

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
NEW_PATIENT_SHARE = 0.6
URGENCIES = ("routine",) * 22 + ("urgent",) * 2 + ("emergency",)

GIVEN = (
    "Aarti Bhavna Chitra Deepa Ekta Farida Gauri Hema Indu Jaya Kamala Lalita Madhuri Nirmala Padma Rekha Shanti Tara Uma "
    "Vimala Yamuna Zeenat Ajay Balu Chandan Devendra Ganesh Harish Ishwar Jagdish Kiran Lokesh Mahesh Naveen Omkar Pradeep "
    "Raghu Sanjay Tarun Umesh Varun Yusuf आरती कमला गीता पुष्पा सरिता अजय गणेश महेश राजू संजय ராணி செல்வி கமலா முத்து "
    "வேலு குமார்"
).split()
FAMILY = (
    "Bai Chaudhary Dutta Ghosh Gupta Hegde Iyer Jha Kaur Lal Mahato Menon Munda Nath Oram Pandey Prasad Rao Rathore Sahu "
    "Sarkar Sheikh Thakur Tudu Varghese Yadav चौधरी गुप्ता पांडेय प्रसाद ठाकुर"
).split()
VILLAGES = (
    "Amgaon Badanagar Chandpur Dharampur Erumapatti Fatehgarh Gopalpur Haripur Islampur Jagatpur Kalyanpur Lalpur "
    "Manikpur Nandgaon Ottapalayam Pipariya Raghunathpur Shivpuri Thiruvallam Udaynagar Vellore-East Yellapur"
).split()
COMPLAINTS = (
    "fever,cough,cold,sore throat,headache,body ache,vomiting,loose stools,stomach pain,chest pain,breathing difficulty,"
    "itching,skin patch,joint swelling,low back pain,burning on passing urine,dizziness,tiredness,ear discharge,eye redness,"
    "leg swelling,missed periods,toothache,poor appetite"
).split(",")
DIAGNOSES = (
    ("R50.9", "Fever, unspecified"),
    ("J20.9", "Acute bronchitis"),
    ("I10", "Essential hypertension"),
    ("E11.9", "Type 2 diabetes mellitus"),
    ("K29.7", "Gastritis"),
    ("B35.4", "Tinea corporis"),
    ("N39.0", "Urinary tract infection"),
    ("O14.9", "Pre-eclampsia, suspected"),
    ("D64.9", "Anaemia"),
    ("J45.9", "Asthma"),
    ("M17.9", "Osteoarthritis of knee"),
    ("H10.9", "Conjunctivitis"),
    ("A15.9", "Respiratory tuberculosis, suspected"),
    ("L30.9", "Dermatitis"),
)
SPECIALTIES = (
    "general-medicine obstetrics paediatrics dermatology ophthalmology ent psychiatry cardiology orthopaedics surgery"
).split()
HISTORY = (
    "began {n} days ago after a journey",
    "comes and goes, mostly in the evening",
    "took tablets from the village shop for {n} days without relief",
    "no one else in the family is ill",
    "sleeps badly since {n} nights",
    "works at a brick kiln",
    "is in the {n}th month of pregnancy",
    "was treated for the same last year at the block hospital",
    "drinks well but eats little",
    "the grandmother says the child is less active",
    "known diabetic for {n} years, medicines irregular",
    "walks with pain, cannot squat",
    "{n} दिन से तेज बुखार और बदन दर्द",
    "रात में खांसी बढ़ जाती है",
    "दवा लेने पर थोड़ा आराम मिलता है",
    "{n} நாட்களாக காய்ச்சல் மற்றும் இருமல்",
    "சாப்பிட முடியவில்லை, உடல் சோர்வு",
    "no fits, no loss of consciousness",
)
FINDINGS = (
    "alert, answers well",
    "looks pale",
    "tongue dry, skin turgor reduced",
    "throat red, no pus",
    "wheeze on both sides",
    "breath sounds reduced at the left base",
    "abdomen soft, no guarding",
    "tender below the ribs on the right",
    "pitting swelling of both feet",
    "round itchy patch of {n} cm on the arm",
    "knee warm, movement limited",
    "fetal heart heard, {n} weeks by fundal height",
    "no neck stiffness, no rash",
    "pupils equal, vision blurred on the left",
)
QUESTIONS = (
    "May we continue the same medicine?",
    "Is referral to the district hospital needed today?",
    "Which antibiotic and for how long?",
    "Should the dose be raised?",
    "Please advise on tests that we can send from here.",
    "क्या मरीज को आज ही भेजना होगा?",
    "மருந்தின் அளவை மாற்ற வேண்டுமா?",
)
ADVICE = (
    "Plenty of fluids; come back if fever lasts more than {n} days.",
    "Check blood pressure twice a week and write it down.",
    "Send blood for haemoglobin and sugar at the next outreach day.",
    "Go to the district hospital at once if breathing gets worse.",
    "Keep the skin dry; wash clothes in hot water.",
    "Review after {n} days at the centre.",
    "नमक कम लें और रोज टहलें।",
    "தினமும் மருந்தை உணவுக்குப் பின் எடுக்கவும்.",
)
DRUGS = (
    ("Paracetamol 650 mg tablet", "1-0-1"),
    ("Azithromycin 500 mg tablet", "1-0-0"),
    ("Telmisartan 40 mg tablet", "1-0-0"),
    ("Metformin 1000 mg tablet", "1-0-1"),
    ("Oral rehydration salts", "after each loose stool"),
    ("Pantoprazole 40 mg tablet", "1-0-0 before food"),
    ("Clotrimazole 1% cream", "twice a day on the patch"),
    ("Ferrous sulphate with folic acid tablet", "0-1-0"),
    ("Levocetirizine 5 mg tablet", "0-0-1"),
    ("Budesonide inhaler", "1 puff twice a day"),
)
ALLERGIES = ("penicillin", "sulfonamide", "aspirin", "ibuprofen", "egg", "peanut")


class Visits:
    """One facility's visits, in order. `documents` yields those of its next consultations."""

    def __init__(self, facility: int, seed: int, start_ms: int = 1_648_771_200_000) -> None:
        self._rng = random.Random(f"visits:{seed}:{facility}")
        self._now_ms = start_ms + self._rng.randrange(7_200_000)
        self._patients: list[str] = []
        self.facility = f"HWC{facility:06d}"

    def documents(self, consultations: int, replies: bool = False) -> Iterator[dict[str, Any]]:
        """The documents of so many consultations, each as `hwc import` takes it."""
        for _ in range(consultations):
            if not self._patients or self._rng.random() < NEW_PATIENT_SHARE:
                registered = self._patient()
                self._patients.append(registered["id"])
                yield registered
            patient = self._patients[-1] if self._rng.random() < 0.5 else self._rng.choice(self._patients)
            diagnosis = self._coded()
            case = self._case(patient, diagnosis)
            yield case
            yield self._vitals(patient, case["id"])
            referral = self._referral(patient, case["id"])
            yield referral
            if replies:
                yield self._reply(patient, referral["id"], diagnosis)

    def _document(self, kind: str, patient: str | None, fields: dict[str, Any]) -> dict[str, Any]:
        self._now_ms += self._rng.randint(15_000, 200_000)
        number = (self._now_ms << 80) | self._rng.getrandbits(80)
        name = "".join(ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))
        return {
            "kind": kind,
            "id": name,
            "facility": self.facility,
            "patient": patient or name,
            "at": self._now_ms,
            "fields": fields,
        }

    def _some(self, phrases: Sequence[str], low: int, high: int) -> str:
        chosen = self._rng.sample(phrases, self._rng.randint(low, high))
        return ", ".join(phrase.format(n=self._rng.randint(2, 9)) for phrase in chosen)

    def _name(self) -> str:
        return f"{self._rng.choice(GIVEN)} {self._rng.choice(FAMILY)}"

    def _coded(self) -> dict[str, str]:
        code, label = self._rng.choice(DIAGNOSES)
        return {"system": "ICD-10", "code": code, "text": label}

    def _patient(self) -> dict[str, Any]:
        rng = self._rng
        abha = "-".join(["91", *(f"{rng.randrange(10_000):04d}" for _ in range(3))])
        fields = {
            "name": self._name(),
            "sex": rng.choice("FFFMMO"),
            "birth_year": rng.randint(1938, 2021),
            "phone": f"+9198{rng.randrange(10**8):08d}",
            "village": rng.choice(VILLAGES),
            "abha": abha,
            "allergies": rng.sample(ALLERGIES, rng.choice([0, 0, 0, 0, 1, 1, 2])),
            "guardian": self._name(),
            "consent": True,
        }
        return self._document("patient", None, fields)

    def _case(self, patient: str, diagnosis: dict[str, str]) -> dict[str, Any]:
        fields = {
            "complaints": self._rng.sample(COMPLAINTS, self._rng.randint(1, 4)),
            "duration_days": self._rng.randint(1, 30),
            "history": self._some(HISTORY, 2, 5),
            "examination": self._some(FINDINGS, 2, 4),
            "provisional_diagnosis": diagnosis,
            "status": "open",
        }
        return self._document("case", patient, fields)

    def _vitals(self, patient: str, case: str) -> dict[str, Any]:
        rng = self._rng
        fields = {
            "case": case,
            "systolic_mmhg": rng.randint(88, 188),
            "diastolic_mmhg": rng.randint(52, 112),
            "pulse_bpm": rng.randint(56, 132),
            "temperature_c": round(rng.uniform(36.0, 40.0), 1),
            "spo2_percent": rng.randint(87, 100),
            "weight_kg": round(rng.uniform(7, 90), 1),
            "glucose_mg_dl": rng.choice([None, rng.randint(70, 310)]),
        }
        return self._document("vitals", patient, fields)

    def _referral(self, patient: str, case: str) -> dict[str, Any]:
        fields = {
            "case": case,
            "specialty": self._rng.choice(SPECIALTIES),
            "urgency": self._rng.choice(URGENCIES),
            "reason": self._some(HISTORY, 1, 2),
            "question": self._some(QUESTIONS, 1, 2),
            "status": "sent",
        }
        return self._document("referral", patient, fields)

    def _reply(self, patient: str, referral: str, diagnosis: dict[str, str]) -> dict[str, Any]:
        rng = self._rng
        lines = [
            {"drug": drug, "dose": dose, "days": rng.randint(3, 30)}
            for drug, dose in rng.sample(DRUGS, rng.randint(1, 4))
        ]
        fields = {
            "referral": referral,
            "diagnosis": diagnosis,
            "advice": self._some(ADVICE, 1, 3),
            "prescription": lines,
            "doctor": f"DOC{rng.randrange(17_000):05d}",
            "follow_up_days": rng.choice([None, 3, 7, 14, 30]),
        }
        return self._document("reply", patient, fields)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--facilities", type=int, default=1)
    parser.add_argument("--per-facility", type=int, default=100, help="consultations at each facility")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replies", action="store_true", help="the doctor's replies too")
    arguments = parser.parse_args()
    for facility in range(arguments.facilities):
        for document in Visits(facility, arguments.seed).documents(arguments.per_facility, arguments.replies):
            sys.stdout.write(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
