"""The doctor's verbs: the queue's order, one doctor a referral, replies that say what had been seen, conflicts."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub_server import audit, charts, consults, extracts, people
from hub_server.charts import Chart, Conflict
from hub_server.consults import Correction, Done, LinesRefused
from hub_server.extracts import Wanted
from hub_server.people import Person, Role
from hub_server.store import Entry
from sync_protocol import documents, exports
from sync_protocol.canonical import Value
from sync_protocol.change import Change, FacilityCode, PersonId, RecordId, RecordKey
from sync_protocol.errors import HealthSyncError, InvalidValue, Malformed, NeedsPerson
from sync_protocol.referral import Status
from sync_protocol.schema import Writer
from tests.hub.bare_node import NOW_MS, BareNode
from tests.hub.hub_world import PATIENCE_S, HubWorld

ANSWER: dict[str, Any] = {
    "diagnosis": {"system": "icd10", "code": "J06.9", "text": "Acute upper respiratory infection"},
    "advice": "Drink boiled water.",
    "prescription": [{"drug": "Paracetamol 500 mg tablet", "dose": "1-1-1", "days": 3}],
    "mode": "text",
    "first": True,
}
LINE = {"dose": "1-0-1", "days": 5}


@dataclass
class Ward:
    """A hub with two centres and two doctors, and a clock that moves with each verb."""

    world: HubWorld
    doctors: dict[str, Person] = field(default_factory=dict)

    def tick(self) -> int:
        self.world.now_ms += 1000
        return self.world.now_ms

    def send(self, node: BareNode, *changes: Change) -> None:
        self.tick()
        self.world.exchange(node, [node.pack(changes).envelope.raw])
        self.world.admit()

    def refer(self, node: BareNode, urgency: str = "routine", specialty: str = "ent") -> tuple[RecordId, list[Change]]:
        patient = node.write("patient", {"name": "Asha Devi", "sex": "F"})
        case = node.write("case", {"history": "fever for 3 days"}, patient=patient.record)
        referral = node.write(
            "referral", {"case": case.record, "specialty": specialty, "urgency": urgency}, patient=patient.record
        )
        self.send(node, patient, case, referral)
        return referral.record, [patient, case, referral]

    def claim(self, login: str, name: RecordId, **more: bool) -> Done:
        random = os.urandom(consults.RANDOM_BYTES)
        return consults.claim(self.world.store, self.doctors[login], name, self.tick(), random, **more)

    def release(self, login: str, name: RecordId) -> Done:
        return consults.release(self.world.store, self.doctors[login], name, self.tick())

    def reply(self, login: str, name: RecordId, answer: dict[str, Any] | None = None, **more: Any) -> Done:
        writes = consults.parse_answer(msgspec.json.encode(answer or ANSWER))
        random = os.urandom(consults.RANDOM_BYTES)
        return consults.reply(self.world.store, self.doctors[login], name, writes, self.tick(), random, **more)

    def chart(self, name: RecordId) -> Chart:
        with self.world.database.transaction() as connection:
            return charts.chart(connection, self.world.store, name)

    def queue(self, **asked: Any) -> list[charts.Queued]:
        with self.world.database.transaction() as connection:
            return charts.queue(connection, **asked)

    def noted(self) -> list[tuple[str, str]]:
        with self.world.database.transaction() as connection:
            assert audit.verify(connection).broken_at is None
            return connection.execute("SELECT actor, verb FROM audit ORDER BY seq").fetchall()

    def received(self, node: BareNode) -> list[Change]:
        """What the hub and its doctors wrote, as far as this node has received it after one more exchange."""
        self.world.exchange(node)
        return [one.body for one in node.items if one.origin is not Writer.CENTRE and isinstance(one.body, Change)]


@pytest.fixture
def ward(database_url: str, tmp_path: Path) -> Ward:
    made = Ward(HubWorld.make(database_url, tmp_path / "keys"))
    made.world.facility("HWC1")
    made.world.facility("HWC2")
    for login in ("rao", "nair"):
        name = PersonId(people.fresh_id(NOW_MS, os.urandom(10)))
        doctor = Person(name, login, f"Dr. {login.title()}", Role.DOCTOR, (), "MBBS", f"KMC-{login}", NOW_MS)
        with made.world.database.transaction() as connection:
            made.doctors[login] = people.add(connection, doctor)
    return made


@pytest.fixture
def node(ward: Ward) -> BareNode:
    return ward.world.node("HWC1")


def code_of(caught: pytest.ExceptionInfo[HealthSyncError]) -> str:
    return caught.value.code


# -- the queue ---------------------------------------------------------------------------------------------------------


def test_the_queue_is_most_urgent_first_then_by_receipt_and_what_waits_stands_before_what_is_answered(
    ward: Ward, node: BareNode
) -> None:
    names = {word: ward.refer(node, word)[0] for word in ("routine", "emergency", "urgent")}
    second, _ = ward.refer(node, "urgent", "cardiology")
    order = [names["emergency"], names["urgent"], second, names["routine"]]
    assert [one.referral for one in ward.queue()] == order
    assert [one.referral for one in ward.queue(specialties=["cardiology"])] == [second]
    assert [one.referral for one in ward.queue(limit=2)] == order[:2]
    assert ward.queue(facility="HWC2") == []
    ward.reply("rao", names["emergency"])
    assert [one.referral for one in ward.queue()] == [*order[1:], names["emergency"]]
    assert [one.referral for one in ward.queue(statuses=["answered"])] == [names["emergency"]]


def test_a_referral_of_a_patient_in_two_feeds_stands_in_the_queue_once(ward: Ward, node: BareNode) -> None:
    other = ward.world.node("HWC2")
    _, (patient, _, _) = ward.refer(node)
    away = other.write("referral", {"specialty": "ent", "urgency": "urgent"}, patient=patient.record)
    ward.send(other, away)
    assert [one.referral for one in ward.queue()].count(away.record) == 1
    assert ward.chart(away.record).facility == "HWC2"
    done = ward.claim("rao", away.record)
    assert done.facility == "HWC2"
    assert [one.kind for one in ward.received(other)] == ["person", "claim"]
    assert [one.kind for one in ward.received(node)] == ["claim"]


# -- claiming ----------------------------------------------------------------------------------------------------------


def test_a_claim_is_written_once_and_belongs_to_one_doctor(ward: Ward, node: BareNode) -> None:
    name, _ = ward.refer(node)
    first = ward.claim("rao", name)
    assert first.verdict == "claimed"
    again = ward.claim("rao", name)
    assert (again.verdict, again.record, again.changes) == ("already_yours", first.record, ())
    with pytest.raises(NeedsPerson) as caught:
        ward.claim("nair", name)
    assert code_of(caught) == "E_CLAIMED"
    chart = ward.chart(name)
    assert (chart.progress.status, chart.progress.claimed_by) == (Status.CLAIMED, ward.doctors["rao"].id)
    assert ward.noted() == [("person rao", "claim")]


def test_what_was_released_can_be_claimed_and_a_claim_can_be_taken_over(ward: Ward, node: BareNode) -> None:
    name, _ = ward.refer(node)
    ward.claim("rao", name)
    with pytest.raises(NeedsPerson):
        ward.release("nair", name)
    assert ward.release("rao", name).verdict == "released"
    assert ward.release("rao", name).verdict == "already_released"
    assert ward.chart(name).progress.status is Status.RECEIVED
    ward.claim("nair", name)
    assert ward.claim("rao", name, take_over=True).verdict == "claimed"
    chart = ward.chart(name)
    assert chart.progress.claimed_by == ward.doctors["rao"].id
    assert sum(one.view().get("released") is not True for one in chart.about("claim")) == 1


def test_of_two_doctors_at_once_one_gets_it(ward: Ward, node: BareNode) -> None:
    names = [ward.refer(node)[0] for _ in range(4)]
    verdicts: list[str] = []
    barrier = threading.Barrier(2)

    def hurry(login: str) -> None:
        for name in names:
            barrier.wait(PATIENCE_S)
            try:
                verdicts.append(ward.claim(login, name).verdict)
            except NeedsPerson as error:
                verdicts.append(error.code)

    doctors = [threading.Thread(target=hurry, args=(login,)) for login in ("rao", "nair")]
    for doctor in doctors:
        doctor.start()
    for doctor in doctors:
        doctor.join(PATIENCE_S)
    assert sorted(verdicts) == ["E_CLAIMED"] * 4 + ["claimed"] * 4


def test_what_was_withdrawn_or_closed_or_is_unknown_is_not_claimed(ward: Ward, node: BareNode) -> None:
    name, (patient, _, _) = ward.refer(node)
    ward.send(node, node.write("referral", {"withdrawn": {"withdrawn": True}}, record=name, patient=patient.record))
    with pytest.raises(NeedsPerson) as caught:
        ward.claim("rao", name)
    assert code_of(caught) == "E_WITHDRAWN"
    closed, (patient, _, _) = ward.refer(node)
    ward.send(node, node.write("acknowledgement", {"referral": closed, "outcome": "went home"}, patient=patient.record))
    with pytest.raises(NeedsPerson) as caught:
        ward.claim("rao", closed)
    assert code_of(caught) == "E_CLOSED"
    with pytest.raises(InvalidValue) as unknown:
        ward.claim("rao", RecordId(os.urandom(16)))
    assert code_of(unknown) == "E_NO_SUCH_REFERRAL"
    assert ward.received(node) == []  # nobody was put into the directory for what was refused


def test_a_doctor_is_in_the_directory_of_each_centre_written_to_once(ward: Ward, node: BareNode) -> None:
    other = ward.world.node("HWC2")
    for _ in range(2):
        ward.claim("rao", ward.refer(node)[0])
    here = [one for one in ward.received(node) if one.kind == "person"]
    assert [one.writes for one in here] == [
        {"name": "Dr. Rao", "role": "doctor", "qualification": "MBBS", "registration_number": "KMC-rao"}
    ]
    assert {bytes(here[0].record), bytes(here[0].patient)} == {bytes(ward.doctors["rao"].id)}
    ward.claim("rao", ward.refer(other)[0])
    there = [one for one in ward.received(other) if one.kind == "person"]
    assert there == here  # the same change, so the same record everywhere
    assert [one for one in ward.received(node) if one.kind == "person"] == here


# -- replying ----------------------------------------------------------------------------------------------------------


def test_a_reply_claims_answers_and_says_who_and_what_had_been_seen(ward: Ward, node: BareNode) -> None:
    name, _ = ward.refer(node)
    head = ward.chart(name).heads
    done = ward.reply("rao", name)
    assert (done.verdict, len(done.changes)) == ("answered", 2)
    chart = ward.chart(name)
    assert (chart.progress.status, chart.progress.reply) == (Status.ANSWERED, done.record)
    assert chart.reply is not None
    view = chart.reply.view()
    assert view["doctor"] == "Dr. Rao"
    assert (view["registration_number"], view["qualification"]) == ("KMC-rao", "MBBS")
    assert view["prescription"][0]["drug"] == "Paracetamol 500 mg tablet"
    # the doctor's own entry in the directory came between the chart and the reply
    assert dict(view["seen_positions"]) == {"HWC1": head["HWC1"] + 1} == done.seen_positions
    assert [one.kind for one in ward.received(node)] == ["person", "claim", "reply"]
    assert ward.noted() == [("person rao", "reply")]


def test_what_arrived_after_the_position_was_not_seen(ward: Ward, node: BareNode) -> None:
    name, (patient, _, _) = ward.refer(node)
    page = dict(ward.chart(name).heads)  # the doctor opens the page …
    late = node.write("patient", {"allergies/penicillin": {"present": True}}, record=patient.record)
    ward.send(node, late)
    ward.reply("rao", name, seen_positions=page)  # … and answers from it
    unseen = ward.chart(name).unseen
    assert unseen is not None
    assert [(one.key.kind, one.field) for one in unseen] == [("patient", "allergies/penicillin")]


def test_the_same_reply_again_is_unchanged_and_another_needs_to_be_a_correction(ward: Ward, node: BareNode) -> None:
    name, _ = ward.refer(node)
    first = ward.reply("rao", name)
    again = ward.reply("rao", name)
    assert (again.verdict, again.record, again.changes) == ("unchanged", first.record, ())
    better = ANSWER | {"advice": "Rest for two days."}
    with pytest.raises(NeedsPerson) as caught:
        ward.reply("rao", name, better)
    assert code_of(caught) == "E_ANSWERED"
    assert first.record is not None
    why = Correction(first.record, "wrong advice")
    second = ward.reply("rao", name, better, correction=why)
    assert second.verdict == "corrected"
    assert ward.reply("rao", name, better, correction=why).verdict == "unchanged"
    view = ward.chart(name).reply
    assert view is not None
    assert (view.view()["advice"], view.view()["correction_reason"]) == ("Rest for two days.", "wrong advice")
    with pytest.raises(NeedsPerson) as caught:
        ward.reply("rao", name, ANSWER | {"advice": "Third."}, correction=why)
    assert code_of(caught) == "E_CORRECTED_ALREADY"


def test_a_correction_names_a_reply_of_this_referral_and_a_reason(ward: Ward, node: BareNode) -> None:
    name, _ = ward.refer(node)
    first = ward.reply("rao", name)
    assert first.record is not None
    for correction, code in (
        (Correction(RecordId(os.urandom(16)), "why"), "E_NO_SUCH_REPLY"),
        (Correction(first.record, " "), "E_NO_REASON"),
    ):
        with pytest.raises(InvalidValue) as caught:
            ward.reply("rao", name, ANSWER | {"advice": "x"}, correction=correction)
        assert code_of(caught) == code


@pytest.mark.parametrize("ended", ["closed", "withdrawn"])
def test_an_ended_referrals_answer_is_corrected_by_who_answered_and_by_nobody_else(
    ward: Ward, node: BareNode, ended: str
) -> None:
    name, (patient, _, _) = ward.refer(node)
    first = ward.reply("rao", name)
    assert first.record is not None
    if ended == "closed":
        told = {"referral": name, "reply": first.record, "seen": True, "outcome": "recovered"}
        ward.send(node, node.write("acknowledgement", told, patient=patient.record))
    else:
        ward.send(node, node.write("referral", {"withdrawn": {"withdrawn": True}}, record=name, patient=patient.record))
    why, better = Correction(first.record, "wrong dose"), ANSWER | {"advice": "Less."}
    with pytest.raises(NeedsPerson) as caught:
        ward.reply("nair", name, better, correction=why)
    assert code_of(caught) == f"E_{ended.upper()}"
    assert ward.reply("rao", name, better, correction=why).verdict == "corrected"


def test_a_reply_to_what_another_doctor_claimed_is_refused_whole(ward: Ward, node: BareNode) -> None:
    name, _ = ward.refer(node)
    ward.claim("nair", name)
    with pytest.raises(NeedsPerson) as caught:
        ward.reply("rao", name)
    assert code_of(caught) == "E_CLAIMED"
    assert ward.chart(name).about("reply") == []


def test_a_value_outside_the_schema_is_refused_and_nothing_is_claimed(ward: Ward, node: BareNode) -> None:
    name, _ = ward.refer(node)
    with pytest.raises(InvalidValue) as caught:
        ward.reply("rao", name, ANSWER | {"follow_up_days": 99_999})
    assert code_of(caught) == "E_INVALID_VALUE"
    assert ward.chart(name).progress.status is Status.RECEIVED


def test_a_reply_keeps_to_the_telemedicine_rules_whoever_calls(ward: Ward, node: BareNode) -> None:
    name, _ = ward.refer(node)

    def signed(*drugs: str, **more: Any) -> Done:
        return ward.reply("rao", name, ANSWER | {"prescription": [{"drug": one, **LINE} for one in drugs]} | more)

    with pytest.raises(LinesRefused) as caught:
        signed("Paracetamol", "Alprazolam 0.5 mg", "Enalapril")
    assert [(one.line, one.code) for one in caught.value.objections] == [
        (2, "E_DRUG_PROHIBITED"),
        (3, "E_DRUG_NEEDS_VIDEO"),
    ]
    assert str(caught.value).startswith("Line 2: Alprazolam cannot be prescribed by telemedicine")
    assert (caught.value.code, caught.value.field) == ("E_DRUG_PROHIBITED", "prescription")
    assert (ward.chart(name).progress.status, ward.received(node)) == (Status.RECEIVED, [])  # refused whole
    first = signed("Enalapril", mode="video")
    assert first.record is not None
    with pytest.raises(LinesRefused):
        ward.reply(
            "rao",
            name,
            ANSWER | {"prescription": [{"drug": "Tramadol", **LINE}]},
            correction=Correction(first.record, "for the pain"),
        )


def test_a_drug_that_the_patient_is_allergic_to_needs_a_reason_which_stays_with_the_line(
    ward: Ward, node: BareNode
) -> None:
    name, (patient, _, _) = ward.refer(node)
    allergic = {"allergies/penicillin": {"present": True, "details": {"text": "Penicillin, lips swelled"}}}
    ward.send(node, node.write("patient", allergic, record=patient.record))
    line: dict[str, Any] = {"drug": "Amoxicillin 500 mg", **LINE}
    with pytest.raises(LinesRefused) as caught:
        ward.reply("rao", name, ANSWER | {"mode": "video", "prescription": [line]})
    assert caught.value.code == "E_ALLERGY"
    assert "lips" not in f"{caught.value} {caught.value.next_step}"
    reasoned = line | {"allergy_reason": "Tolerated amoxicillin twice since."}
    ward.reply("rao", name, ANSWER | {"mode": "video", "prescription": [reasoned]})
    reply = ward.chart(name).reply
    assert reply is not None
    assert reply.view()["prescription"][0]["allergy_reason"] == "Tolerated amoxicillin twice since."


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "E_BAD_REPLY"),
        (b"[]", "E_BAD_REPLY"),
        (b"{", "E_BAD_REPLY"),
        (b"\xff", "E_BAD_REPLY"),
        (b"[" * 200_000, "E_BAD_REPLY"),
        (b'{"advice":"' + b"a" * consults.MAX_ANSWER_BYTES + b'"}', "E_BAD_REPLY"),
        (b'{"mode":"text","first":true,"advice":' + b'{"a":' * 20 + b"1" + b"}" * 20 + b"}", "E_BAD_REPLY"),
        (b'{"mode":"text","first":true}', "E_INCOMPLETE_REPLY"),
        (b'{"mode":"text","advice":"x"}', "E_INCOMPLETE_REPLY"),
        (b'{"first":true,"advice":"x"}', "E_INCOMPLETE_REPLY"),
        (b'{"mode":"text","first":true,"advise":"x"}', "E_UNKNOWN_FIELD"),
        (b'{"mode":"text","first":true,"advice":"x","doctor":"Dr. Who"}', "E_UNKNOWN_FIELD"),
        (b'{"mode":"text","first":true,"advice":"x","seen_positions":{}}', "E_UNKNOWN_FIELD"),
    ],
)
def test_what_is_no_reply_is_refused(raw: bytes, code: str) -> None:
    with pytest.raises((Malformed, InvalidValue)) as caught:
        consults.parse_answer(raw)
    assert code_of(caught) == code


# -- conflicts ---------------------------------------------------------------------------------------------------------


def in_conflict(ward: Ward, node: BareNode) -> tuple[RecordId, str]:
    """A case's plan, written by two nodes of one centre that did not see each other."""
    twin = ward.world.node("HWC1")
    _, (patient, case, _) = ward.refer(node)
    for writer, plan in ((node, "rest"), (twin, "drip")):
        ward.send(writer, writer.write("case", {"plan": plan}, record=case.record, patient=patient.record))
    return case.record, exports.conflict_id(RecordKey("case", case.record), "plan")


def test_an_open_conflict_is_listed_and_shown_with_who_wrote_what(ward: Ward, node: BareNode) -> None:
    record, name = in_conflict(ward, node)
    found = list(charts.conflicts(ward.world.store, "operator root", ward.tick()))
    assert [(one.record.key.record, one.field) for one in found] == [(record, "plan")]
    one = charts.find_conflict(ward.world.store, "person rao", name, ward.tick())
    assert {held.change.writes["plan"] for held in one.shown.live} == {"rest", "drip"}
    assert ward.noted() == [("operator root", "read conflict"), ("person rao", "read conflict")]
    with pytest.raises(InvalidValue) as caught:
        charts.find_conflict(ward.world.store, "person rao", f"case/{documents.id_text(os.urandom(16))}/plan", 1)
    assert code_of(caught) == "E_NO_CONFLICT"


def test_what_the_centre_writes_the_centre_decides(ward: Ward, node: BareNode) -> None:
    _, name = in_conflict(ward, node)
    with pytest.raises(NeedsPerson) as caught:
        consults.resolve(ward.world.store, ward.doctors["rao"], name, lambda one: "rest", "", ward.tick())
    assert code_of(caught) == "E_NOT_OURS"
    assert len(list(charts.conflicts(ward.world.store, "operator root", ward.tick()))) == 1


def test_a_doctor_settles_a_conflict_on_what_doctors_write(ward: Ward, node: BareNode) -> None:
    name, (patient, _, _) = ward.refer(node)
    other, _ = ward.refer(node)
    done = ward.claim("rao", name)
    assert done.record is not None
    key = RecordKey("claim", done.record)
    writes: dict[str, Value] = {"referral": other}
    ward.world.store.write(  # as after a hub was put back: a second write that had seen nothing of the first
        FacilityCode("HWC1"), [Entry(key, patient.patient, writes)], person=ward.doctors["nair"].id,
        writer=Writer.DOCTOR, now_ms=ward.tick(),
    )  # fmt: skip
    identifier = exports.conflict_id(key, "referral")
    seen: list[Conflict] = []

    def choose(one: Conflict) -> Value:
        seen.append(one)
        return name

    settled = consults.resolve(ward.world.store, ward.doctors["rao"], identifier, choose, "mine", ward.tick())
    assert settled.left is None
    assert set(settled.change.supersedes["referral"]) == set(seen[0].shown.names)
    assert list(charts.conflicts(ward.world.store, "operator root", ward.tick())) == []


def test_a_resolution_that_was_not_shown_everything_leaves_the_rest_open(ward: Ward, node: BareNode) -> None:
    name, (patient, _, _) = ward.refer(node)
    other, _ = ward.refer(node)
    done = ward.claim("rao", name)
    assert done.record is not None
    key = RecordKey("claim", done.record)
    ward.world.store.write(
        FacilityCode("HWC1"), [Entry(key, patient.patient, {"referral": other})], person=ward.doctors["nair"].id,
        writer=Writer.DOCTOR, now_ms=ward.tick(),
    )  # fmt: skip
    shown = frozenset({done.changes[-1].id})
    identifier = exports.conflict_id(key, "referral")
    settled = consults.resolve(
        ward.world.store, ward.doctors["rao"], identifier, lambda one: name, "", ward.tick(), shown=shown
    )
    assert settled.left is not None


# -- exports -----------------------------------------------------------------------------------------------------------


def test_an_export_has_each_record_once_is_noted_and_says_what_is_shown(ward: Ward, node: BareNode) -> None:
    other = ward.world.node("HWC2")
    record, _ = in_conflict(ward, node)
    name, (patient, _, _) = ward.refer(node)
    ward.send(other, other.write("vitals", {"pulse_bpm": 80}, patient=patient.record))
    ward.claim("rao", name)
    lines = list(extracts.lines(ward.world.store, Wanted(), "operator root", ward.tick()))
    assert len({line["id"] for line in lines}) == len(lines)
    assert {line["sync"] for line in lines} == {"admitted"}
    assert {line["kind"] for line in lines} == {"patient", "case", "referral", "claim", "person", "vitals"}
    case = next(line for line in lines if line["id"] == documents.id_text(record))
    assert {one["value"] for one in case["conflicts"]["plan"]} == {"rest", "drip"}
    only = Wanted(kind="vitals", patient=patient.patient)
    found = list(extracts.lines(ward.world.store, only, "operator root", ward.tick()))
    assert [(line["kind"], line["facility"]) for line in found] == [("vitals", "HWC2")]
    there = list(extracts.lines(ward.world.store, Wanted("HWC2"), "operator root", ward.tick()))
    assert {line["kind"] for line in there} == {"vitals"}  # what a centre wrote of a patient that is elsewhere
    assert [verb for _, verb in ward.noted()].count("export records") == 3


def test_the_history_has_every_change_and_what_is_not_there_is_an_error(ward: Ward, node: BareNode) -> None:
    _, (patient, case, referral) = ward.refer(node)
    wanted = Wanted(changes=True)
    lines = list(extracts.lines(ward.world.store, wanted, "operator root", ward.tick()))
    assert {line["id"] for line in lines} == {one.id.hex() for one in (patient, case, referral)}
    assert all(line["receipt"] and line["origin"] == "centre" for line in lines)
    for missing, code in (
        (Wanted(facility="HWC9"), "E_UNKNOWN_FACILITY"),
        (Wanted(patient=type(patient.patient)(os.urandom(16))), "E_UNKNOWN_PATIENT"),
        (Wanted(facility="HWC2", patient=patient.patient), "E_UNKNOWN_PATIENT"),
    ):
        with pytest.raises(InvalidValue) as caught:
            extracts.lines(ward.world.store, missing, "operator root", ward.tick())
        assert code_of(caught) == code


def test_a_doctor_asks_and_the_centre_receives_it(ward: Ward, node: BareNode) -> None:
    name, _ = ward.refer(node)
    done = consults.ask(
        ward.world.store, ward.doctors["rao"], name, "Since when?", ward.tick(), os.urandom(consults.RANDOM_BYTES)
    )
    assert done.verdict == "asked"
    asked = [one for one in ward.received(node) if one.kind == "message"]
    assert [one.writes["text"] for one in asked] == ["Since when?"]
    assert ("person rao", "message") in ward.noted()
    with pytest.raises(InvalidValue):
        consults.ask(ward.world.store, ward.doctors["rao"], name, " ", ward.tick(), os.urandom(20))


def test_a_doctor_of_another_specialty_is_refused(ward: Ward, node: BareNode) -> None:
    ward.refer(node, specialty="ent")
    (row,) = ward.queue()
    consults.require_specialty(ward.doctors["rao"], row)
    narrow = Person(PersonId(os.urandom(16)), "skin", "Dr. Skin", Role.DOCTOR, ("dermatology",))
    with pytest.raises(HealthSyncError, match="specialty"):
        consults.require_specialty(narrow, row)
