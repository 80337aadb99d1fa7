"""What stands on a paper: a referral slip for the patient to carry, a doctor's answer as a prescription.

A prescription has what India's Telemedicine Practice Guidelines (25 March 2020, annexure 2) ask for: who the doctor is,
with qualification and registration number; who the patient is; date and mode; findings, diagnosis, drugs by their generic
names in capitals with form, strength, dose, route, frequency and duration; advice; a signature. An answer that was
withdrawn or replaced is never printed without saying so. Labels are in the spoken language, content as it was written.

It refuses to know how a paper looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hwc_node import directory, overview
from hwc_node.clinic import Clinic
from hwc_node.overview import PatientPage
from hwc_node.printing.paper import Code, Drug, Drugs, Facts, Heading, Mark, Paper, Part, Signature, Text
from hwc_node.store import KeptRecord, Store
from hwc_node.views import ReferralView
from sync_protocol import merge, schema, slip
from sync_protocol.canonical import Value
from sync_protocol.change import RecordId, RecordKey
from sync_protocol.directory import Particulars
from sync_protocol.documents import id_text, parse_id
from sync_protocol.errors import InvalidValue
from sync_protocol.merge import Record
from sync_protocol.pages import clinical, language
from sync_protocol.pages.language import said, spoken

Rows = Sequence[tuple[str, str]]

CHILD_YEARS: Final = 18  # below it a dose goes by weight, so that the guideline asks for it
MEASURED_TOGETHER_MS: Final = overview.DAY_MS  # before the newest: what is older is no finding of this illness
NAMED_DIGITS: Final = 8  # of an id in a file's name: its last ones, since the first only tell the hour
MAX_TIME_MS: Final = (1 << 47) - 1
SEXES: Final = frozenset("FMOU")
REPLY: Final = "reply"


@dataclass(frozen=True, slots=True)
class _Given:
    """What every paper is made of: the referral, its patient, and when. at_ms: the time that the paper speaks of."""

    store: Store
    clinic: Clinic
    view: ReferralView
    one: PatientPage
    centre: Particulars
    now_ms: int
    at_ms: int

    @property
    def shown(self) -> Mapping[str, Value]:
        return self.view.record.view()

    @property
    def case(self) -> Mapping[str, Value]:
        """The visit that the referral is of; empty where it is not here."""
        name = self.shown.get("case")
        return next((one.record.view() for one in self.one.cases if one.key.record == name), {})

    @property
    def vitals(self) -> list[KeptRecord]:
        """Of that visit; where it has none, those of before. The latest first."""
        name = self.shown.get("case")
        own = [one for one in self.one.vitals if one.record.view().get("case") == name]
        return own or [one for one in self.one.vitals if overview.when_ms(one) <= self.at_ms]

    @property
    def measured(self) -> dict[str, tuple[Value, int]]:
        """Of each measured field the last value with its time, as far as it is of the newest measuring."""
        return _of_newest(_last(self.vitals))


def _given(store: Store, clinic: Clinic, name: str, now_ms: int) -> _Given:
    view = clinic.referral(name)
    one, centre = overview.patient_page(store, view.record.patient), directory.particulars(store)
    return _Given(store, clinic, view, one, centre, now_ms, now_ms)


def _paper(given: _Given, kind: str, name: RecordId, title: str, parts: Sequence[Part]) -> Paper:
    member = given.store.membership
    short = id_text(name)[-NAMED_DIGITS:]
    return Paper(
        spoken().code,
        f"{kind}-{short}",
        ", ".join(part for part in (f"{given.centre.name} ({member.facility})", given.centre.district) if part),
        title,
        parts,
        said(
            "%(name)s · %(title)s %(number)s, printed %(time)s",
            name=_words(given.one.view.get("name")) or "–",
            title=title,
            number=short,
            time=spoken().time(given.now_ms),
        ),
        said("Page %(number)s of %(pages)s"),
        said("This paper was cut here. The rest is in the system."),
        given.now_ms,
    )


# -- the referral slip -------------------------------------------------------------------------------------------------


def referral_slip(store: Store, clinic: Clinic, name: str, now_ms: int) -> Paper:
    """The slip of a referral, with its signed code. Raises InvalidValue (``E_NO_SUCH_RECORD``, ``E_BAD_ID``)."""
    given = _given(store, clinic, name, now_ms)
    shown, record = given.shown, given.view.record
    begun = merge.first_change(record)
    urgency = [(clinical.label("urgency"), clinical.word(shown.get("urgency") or "")),
               (clinical.label("specialty"), clinical.specialty(shown.get("specialty")))]  # fmt: skip
    referred = [
        (said("Referred on"), spoken().time(_time_ms(shown.get("at"), given.view.progress.saved_ms))),
        (said("Referred by"), clinic.name_of(begun.change.person) or ""),
        *_hospital(given, _words(shown.get("to_hub"))),
    ]
    asked = [(clinical.label(field), _words(shown.get(field))) for field in ("reason", "question")]
    parts: list[Part] = [
        *_withdrawn(given),
        Facts(_said(urgency), strong=True),
        Facts(_said([*_who(given), *referred])),
        Heading(said("Why")),
        Facts(_said([*asked, *_findings(given)])),
        Heading(said("To know")),
        Facts(_said(_allergies(given)), strong=True),
        Facts(_said([_chronic(given)])),
        Code(slip_text(given), said("Signed summary for the hospital: scan it at the hub's page for slips.")),
        Text(said("Take this paper to the hospital. The whole record is sent by the system."), quiet=True),
    ]
    return _paper(given, "referral", record.key.record, said("Referral slip"), _filled(parts))


def slip_text(given: _Given) -> str:
    """The letters of the slip's code, signed by this node."""
    member, shown, view, measured = given.store.membership, given.shown, given.one.view, given.measured
    months, certain = clinical.age_months(view.get("birth"), language.india_day(given.at_ms)) or (None, False)
    sex, urgency = view.get("sex"), shown.get("urgency")
    summary = slip.Summary(
        slip.VERSION,
        given.view.record.key.record,
        given.view.record.patient,
        member.facility,
        member.node,
        min(max(given.now_ms, 0), MAX_TIME_MS),
        _words(view.get("name")),
        months,
        certain,
        sex if isinstance(sex, str) and sex in SEXES else None,
        urgency if isinstance(urgency, str) and urgency in schema.URGENCIES else "",
        _words(shown.get("specialty")),
        _words(shown.get("reason")) or _words(shown.get("question")),
        clinical.elements(view, "allergies") or ([] if view.get("allergies_status") == "none_known" else None),
        [_number(measured, name) for name in slip.MEASURED],
        max((ms for _, ms in measured.values()), default=None),
    )
    return slip.sign(slip.fitted(summary), member.identity, member.environment)


def _last(vitals: Sequence[KeptRecord]) -> dict[str, tuple[Value, int]]:
    last: dict[str, tuple[Value, int]] = {}
    for one in vitals:
        if 0 <= (when_ms := overview.when_ms(one)) <= MAX_TIME_MS:
            for name, value in one.record.view().items():
                if name in clinical.VITALS:
                    last.setdefault(name, (value, when_ms))
    return last


def _of_newest(last: Mapping[str, tuple[Value, int]]) -> dict[str, tuple[Value, int]]:
    newest_ms = max((ms for _, ms in last.values()), default=0)
    return {name: pair for name, pair in last.items() if pair[1] >= newest_ms - MEASURED_TOGETHER_MS}


def _number(measured: Mapping[str, tuple[Value, int]], name: str) -> float | int | None:
    value = measured[name][0] if name in measured else None
    if name in ("systolic_mmhg", "diastolic_mmhg"):
        pressure = measured.get("blood_pressure", (None, 0))[0]
        value = pressure.get(name) if isinstance(pressure, dict) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


# -- the prescription --------------------------------------------------------------------------------------------------


def prescription(store: Store, clinic: Clinic, name: str, reply: str, now_ms: int) -> Paper:
    """A doctor's answer to a referral. reply: its id. Raises InvalidValue (``E_NO_SUCH_RECORD``, ``E_BAD_ID``)."""
    given = _given(store, clinic, name, now_ms)
    every = answers(store, given.view)
    wanted = parse_id(reply)
    found = next((one for one in every if one.key.record == wanted), None)
    if found is None:
        raise InvalidValue("There is no such answer here.", code="E_NO_SUCH_RECORD")
    signed_ms = _signed_ms(found)
    given = replace(given, at_ms=signed_ms)
    answer, doctor = found.view(), _doctor(given, found)
    consultation = [
        (said("Date"), spoken().time(signed_ms)),
        (clinical.label("mode"), clinical.word(answer["mode"]) if answer.get("mode") else ""),
        (said("Consultation"), _first(answer.get("first"))),
    ]
    held = [(clinical.label("diagnosis"), clinical.coded(answer.get("diagnosis")))]
    advised = [
        (clinical.label("advice"), _words(answer.get("advice"))),
        (clinical.label("refer_onward"), _words(answer.get("refer_onward"))),
        (clinical.label("follow_up_days"), _words(answer.get("follow_up_days"))),
    ]
    parts: list[Part] = [
        *_withdrawn(given),
        *_replaced(found, every),
        Facts(_said(doctor)),
        Facts(_said(consultation)),
        Heading(said("Patient")),
        Facts(_said([*_who(given), *_weight(given)])),
        Facts(_said(_allergies(given)), strong=True),
        Heading(said("Findings")),
        Facts(_said([*_findings(given), *held])),
        Heading(clinical.label("prescription")),
        Drugs(_drugs(answer.get("prescription"))),
        Facts(_said(advised)),
        Signature(_signed(doctor[0][1], _words(answer.get("registration_number")), signed_ms)),
        Text(said("This prescription was made in a teleconsultation."), quiet=True),
    ]
    return _paper(given, "prescription", found.key.record, said("Prescription"), _filled(parts))


def answers(store: Store, view: ReferralView) -> list[Record]:
    """Every answer to a referral, also those that were withdrawn, the latest first."""
    name = view.record.key.record
    beside = [one.record for one in store.patient_records(view.record.patient) if one.key.kind == REPLY]
    found = [one for one in beside if one.view().get("referral") == name]
    return sorted(found, key=lambda one: merge.first_change(one).order, reverse=True)


def _doctor(given: _Given, answer: Record) -> list[tuple[str, str]]:
    """As the answer says it, else as the directory does; the name first."""
    said_there, person = answer.view(), merge.first_change(answer).change.person
    entry = given.store.record(RecordKey("person", RecordId(person)))
    known: Mapping[str, Value] = entry.record.view() if entry is not None else {}

    def told(field: str, directory: str) -> str:
        return _words(said_there.get(field)) or _words(known.get(directory))

    return [
        (said("Doctor"), told("doctor", "name")),
        (said("Qualification"), told("qualification", "qualification")),
        (said("Registration number"), told("registration_number", "registration_number")),
        (said("Phone"), _words(known.get("phone"))),
        *_hospital(given),
    ]


def _hospital(given: _Given, to_hub: str = "") -> list[tuple[str, str]]:
    """The doctors' hospital, and whom to call there. to_hub: where the referral names one."""
    contact = given.centre.contact_for(_words(given.shown.get("specialty")))
    called = " · ".join(part for part in (contact.name, contact.phone) if part) if contact is not None else ""
    return [(said("Hospital"), to_hub or given.centre.hub_name), (said("To call there"), called)]


def _signed(doctor: str, number: str, signed_ms: int) -> list[str]:
    day = spoken().time(signed_ms)
    line = said("Digitally signed in the system by %(name)s on %(day)s", name=doctor or "–", day=day)
    return [line, *([said("registration number %(number)s", number=number)] if number else [])]


def _signed_ms(answer: Record) -> int:
    """When the hub took it in; before that, when it was written."""
    first = merge.first_change(answer)
    return first.receipt_ms if first.receipt_ms is not None else first.change.hlc >> 16


def _first(value: Value) -> str:
    if not isinstance(value, bool):
        return ""
    return said("first consultation") if value else said("follow-up")


def _replaced(answer: Record, every: Sequence[Record]) -> list[Part]:
    """What must be known of an answer that another corrects, or that corrects another, or that was withdrawn."""
    marks: list[Part] = []
    hidden = merge.hiding(answer)
    if hidden is not None and not hidden.changed_since:
        marks.append(
            Mark(_because(said("WITHDRAWN. This answer was entered in error and does not hold."), hidden.reason))
        )
    by_id = {bytes(one.key.record): one for one in every}
    for later in every:
        if later.view().get("corrects") == answer.key.record and merge.is_visible(later):
            day = spoken().time(_signed_ms(later))
            marks.append(Mark(said("REPLACED by the answer of %(day)s. Do not use this one.", day=day)))
    view = answer.view()
    if isinstance(before := view.get("corrects"), bytes):
        replaced = by_id.get(before)
        day = spoken().time(_signed_ms(replaced)) if replaced is not None else "–"
        text = said("This replaces the answer of %(day)s.", day=day)
        marks.append(Mark(_because(text, _words(view.get("correction_reason")))))
    return marks


def _withdrawn(given: _Given) -> list[Part]:
    hidden = merge.hiding(given.view.record)
    marks: list[Part] = []
    if hidden is not None and not hidden.changed_since:
        marks.append(Mark(_because(said("This referral was entered in error."), hidden.reason)))
    if given.view.progress.withdrawn:
        marks.append(
            Mark(_because(said("This referral was withdrawn."), clinical.value("withdrawn", given.shown["withdrawn"])))
        )
    return marks


def _because(text: str, reason: str) -> str:
    return f"{text}\n{reason}" if reason else text


def _drugs(lines: Value) -> list[Drug]:
    return [_drug(line) for line in lines if isinstance(line, dict)] if isinstance(lines, list) else []


def _drug(line: Mapping[str, Value]) -> Drug:
    parts = [_words(line.get(name)) for name in ("form", "strength", "dose", "route", "frequency")]
    if isinstance(days := line.get("days"), int):
        parts.append(spoken().ngettext("%(num)s day", "%(num)s days", days) % {"num": spoken().number(days)})
    return Drug(
        _words(line.get("drug")).upper(),
        " · ".join(part for part in parts if part),
        _words(line.get("advice")),
        clinical.in_spite(line),
    )


# -- the patient -------------------------------------------------------------------------------------------------------


def _who(given: _Given) -> list[tuple[str, str]]:
    view, today = given.one.view, language.india_day(given.at_ms)
    sex = view.get("sex")
    home = [_words(view.get(field)) for field in ("address", "village")]
    return [
        (clinical.label("name"), _words(view.get("name")) or said("Patient not arrived yet")),
        (said("Age and sex"), " · ".join(filter(None, (clinical.age(view.get("birth"), today), clinical.word(sex or ""))))),
        (clinical.label("guardian"), _words(view.get("guardian"))),
        (clinical.label("address"), ", ".join(part for part in home if part)),
        (clinical.label("phone"), _words(view.get("phone"))),
    ]  # fmt: skip


def _weight(given: _Given) -> list[tuple[str, str]]:
    """A child's, with its day: a dose goes by it."""
    years = clinical.age_years(given.one.view.get("birth"), language.india_day(given.at_ms))
    weight = _last([one for one in given.one.vitals if overview.when_ms(one) <= given.at_ms]).get("weight_kg")
    if weight is None or (years is not None and years[0] >= CHILD_YEARS):
        return []
    return [(clinical.label("weight_kg"), f"{clinical.value('weight_kg', weight[0])} ({spoken().day(weight[1])})")]


def _allergies(given: _Given) -> list[tuple[str, str]]:
    view = given.one.view
    found = clinical.elements(view, "allergies")
    text = ", ".join(found) if found else clinical.word(view.get("allergies_status") or "not_asked")
    return [(said("Allergies"), text)]


def _chronic(given: _Given) -> tuple[str, str]:
    return (said("Long-term conditions"), ", ".join(clinical.elements(given.one.view, "chronic_conditions")))


def _findings(given: _Given) -> list[tuple[str, str]]:
    """Complaints, history, examination and what was measured."""
    case = given.case
    rows = [
        (said("Complaints"), ", ".join(clinical.elements(case, "complaints"))),
        (said("Danger signs"), ", ".join(clinical.elements(case, "danger_signs"))),
        (clinical.label("history"), _words(case.get("history"))),
        (clinical.label("examination"), _words(case.get("examination"))),
        (clinical.label("provisional_diagnosis"), clinical.coded(case.get("provisional_diagnosis"))),
        (clinical.label("plan"), _words(case.get("plan"))),
    ]
    measured = given.measured
    values = [
        f"{clinical.label(name)} {clinical.value(name, measured[name][0])}"
        for name in clinical.VITALS
        if name in measured
    ]
    if values:
        newest = max(ms for _, ms in measured.values())
        rows.append((said("Measured on %(day)s", day=spoken().time(newest)), " · ".join(values)))
    missed = clinical.elements(given.vitals[0].record.view(), "not_measured") if given.vitals else []
    return [*rows, (clinical.label("not_measured"), ", ".join(missed))]


def _time_ms(value: Value, otherwise_ms: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise_ms


def _words(value: Value) -> str:
    """A field's text; of another type, as far as people can read it."""
    if value is None:
        return ""
    return value if isinstance(value, str) else clinical.value("", value)


def _said(rows: Rows) -> list[tuple[str, str]]:
    """The rows that say something."""
    return [(label, text) for label, text in rows if text]


def _filled(parts: Sequence[Part]) -> list[Part]:
    """Without what is empty, and headings with nothing below."""
    full = [part for part in parts if not _is_empty(part)]
    ends = [*full[1:], Heading("")]
    return [
        part
        for part, after in zip(full, ends, strict=True)
        if not (isinstance(part, Heading) and isinstance(after, Heading | Signature))
    ]


def _is_empty(part: Part) -> bool:
    return not (part.rows if isinstance(part, Facts) else part.lines if isinstance(part, Drugs) else True)
