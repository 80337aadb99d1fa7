"""The health worker's verbs: conflicts are found, settled and reopened; a referral tells where it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwc_node import edits, views
from hwc_node.clinic import Clinic, parsed_value
from hwc_node.store import Store
from sync_protocol import change as changes
from sync_protocol import documents, exports, merge
from sync_protocol.canonical import Value
from sync_protocol.change import ChangeId, NodeId, PatientId, PersonId, RecordId, RecordKey
from sync_protocol.errors import HealthSyncError, InvalidValue, NeedsPerson
from sync_protocol.merge import Record
from sync_protocol.schema import Writer
from tests.node.enrolled_home import (
    ELSEWHERE,
    FACILITY,
    NOW_MS,
    PERSON,
    arrive,
    fresh_id,
    give_positions,
    make_home,
    write,
)

PATIENT = fresh_id()
DOCTOR = PersonId(b"doctor of a hub:")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with make_home(tmp_path).open() as opened:
        yield opened


@pytest.fixture
def clinic(store: Store) -> Clinic:
    return Clinic(store, PERSON)


def code(action: Callable[[], object]) -> str:
    with pytest.raises(HealthSyncError) as caught:
        action()
    return caught.value.code


def choosing(take: str) -> Callable[[Record, str], Value]:
    return lambda record, field: edits.taken(record, field, take).change.writes[field]


def plan_conflict(store: Store) -> tuple[RecordKey, str]:
    """A plan written here and another one written elsewhere, neither knowing of the other."""
    key = write(store, PERSON, "case", {"plan": "rest", "history": "fever"}, patient=PATIENT)
    arrive(store, "case", {"plan": "refer"}, 1, record=key.record, patient=PATIENT, now_ms=NOW_MS - 1_000)
    return key, exports.conflict_id(key, "plan")


# -- saving ------------------------------------------------------------------------------------------------------------


def test_a_form_saves_what_differs_and_supersedes_what_it_showed(clinic: Clinic, store: Store) -> None:
    key = RecordKey("patient", RecordId(PATIENT))
    first = clinic.save(key, PatientId(PATIENT), {"name": "Sunita", "village": "Rampur"}, None, NOW_MS)
    assert first is not None
    base = {"village": [bytes(first.id)]}
    second = clinic.save(key, PatientId(PATIENT), {"name": "Sunita", "village": "Melur"}, base, NOW_MS)
    assert second is not None
    assert (dict(second.writes), second.supersedes) == ({"village": "Melur"}, {"village": [first.id]})
    assert clinic.save(key, PatientId(PATIENT), {"village": "Melur"}, "shown", NOW_MS) is None


def test_what_arrived_while_a_form_was_open_is_not_erased_by_it(clinic: Clinic, store: Store) -> None:
    key = write(store, PERSON, "case", {"plan": "rest"}, patient=PATIENT)
    shown = store.record(key)
    assert shown is not None
    seen = {"plan": [bytes(name) for name in shown.record.live["plan"]]}
    arrive(store, "case", {"plan": "refer"}, 1, record=key.record, patient=PATIENT)
    clinic.save(key, PatientId(PATIENT), {"plan": "walk"}, seen, NOW_MS)
    now = store.record(key)
    assert now is not None
    assert {held.change.writes["plan"] for held in now.record.live["plan"].values()} == {"refer", "walk"}


VALUES = st.sampled_from(["rest", "refer", "walk"])
PEOPLE = st.sampled_from([PersonId(bytes([number]) * 16) for number in range(3)])
SAVES = st.lists(st.tuples(PEOPLE, VALUES, st.sampled_from([None, "shown"])), max_size=8)


@given(SAVES, PEOPLE, VALUES, st.sampled_from([None, "shown"]))
def test_saying_the_same_twice_says_it_once(
    saves: list[tuple[PersonId, str, str | None]], person: PersonId, value: str, base: str | None
) -> None:
    record = Record(RecordKey("case", RecordId(PATIENT)))
    for number, (who, what, how) in enumerate([*saves, (person, value, base)]):
        record = _saved(record, who, what, how, number)
    assert edits.edit(record, {"plan": value}, person, base).writes == {}


@given(SAVES, PEOPLE, VALUES)
def test_who_was_shown_nothing_supersedes_nobody_elses_write(
    saves: list[tuple[PersonId, str, str | None]], person: PersonId, value: str
) -> None:
    record = Record(RecordKey("case", RecordId(PATIENT)))
    for number, (who, what, how) in enumerate(saves):
        record = _saved(record, who, what, how, number)
    others = {name for name, held in record.live.get("plan", {}).items() if held.change.person != person}
    after = _saved(record, person, value, None, len(saves))
    assert others <= set(after.live.get("plan", {}))


def _saved(record: Record, person: PersonId, value: str, base: str | None, number: int) -> Record:
    from_here = record if record.changes else None
    edit = edits.edit(from_here, {"plan": value}, person, base)
    if not edit.writes:
        return record
    change = changes.make(
        kind=record.key.kind,
        record=record.key.record,
        patient=PatientId(PATIENT),
        facility=FACILITY,
        node=NodeId(bytes(16)),
        person=person,
        hlc=(NOW_MS << 16) + number,
        after=0,
        salt=bytes(16),
        writes=edit.writes,
        supersedes=edit.shown,
    )
    return merge.join(record, [merge.Held(change)])


# -- conflicts ---------------------------------------------------------------------------------------------------------


def test_a_conflict_tells_who_where_when_and_what_was_replaced(clinic: Clinic, store: Store) -> None:
    _, name = plan_conflict(store)
    [one] = clinic.conflicts()
    assert one.id == name
    assert one.open
    assert [(sibling.value, sibling.person, sibling.facility, sibling.timed) for sibling in one.values] == [
        ("rest", PERSON, FACILITY, False),
        ("refer", ELSEWHERE, FACILITY, True),
    ]
    assert one.since_ms == NOW_MS
    shape = views.conflict_json(one, clinic.name_of)
    assert (shape["kind"], shape["field"], shape["shown"], shape["policy"]) == ("case", "plan", "rest", "review")
    assert set(shape) >= {"id", "kind", "record", "field", "policy", "shown", "values", "since"}
    assert set(shape["values"][0]) >= {"change", "value", "person", "facility", "at", "replaced"}


def test_a_resolution_settles_it_and_names_both(clinic: Clinic, store: Store) -> None:
    _, name = plan_conflict(store)
    both = {sibling.change for sibling in clinic.conflict(name).values}
    settled = clinic.resolve(name, choosing("2"), "seen by both", NOW_MS)
    assert settled.left is None
    assert set(settled.change.supersedes["plan"]) == both
    assert dict(settled.change.writes) == {"plan": "refer", "resolution_note": "seen by both"}
    assert list(clinic.conflicts()) == []
    [only] = clinic.conflict(name).values
    assert {item.change.writes["plan"] for item in only.replaced if isinstance(item, merge.Held)} == {"rest", "refer"}


def test_a_value_is_taken_by_number_or_by_its_change(clinic: Clinic, store: Store) -> None:
    _, name = plan_conflict(store)
    second = clinic.conflict(name).values[1]
    for wrong in ("0", "3", "-1", "two", "", "9" * 40):
        assert code(lambda wrong=wrong: clinic.resolve(name, choosing(wrong), None, NOW_MS)) == "E_NO_SUCH_VALUE"  # type: ignore[misc]
    settled = clinic.resolve(name, choosing(second.change.hex()[:10]), None, NOW_MS)
    assert settled.change.writes["plan"] == "refer"


def test_another_value_is_checked_like_any_other(clinic: Clinic, store: Store) -> None:
    _, name = plan_conflict(store)
    with pytest.raises(InvalidValue):
        clinic.resolve(name, lambda *_: 7, None, NOW_MS)
    assert [one.id for one in clinic.conflicts()] == [name]
    assert clinic.resolve(name, lambda *_: "walk", None, NOW_MS).left is None


def test_what_was_not_shown_stays_live_and_the_conflict_open(clinic: Clinic, store: Store) -> None:
    key, name = plan_conflict(store)
    shown = frozenset(sibling.change for sibling in clinic.conflict(name).values)
    arrive(store, "case", {"plan": "operate"}, 2, record=key.record, patient=PATIENT)
    settled = clinic.resolve(name, lambda *_: "rest", None, NOW_MS, shown)
    assert settled.left is not None
    assert {sibling.value for sibling in settled.left.values} == {"rest", "operate"}


def test_undoing_brings_back_every_value_as_a_conflict(clinic: Clinic, store: Store) -> None:
    key, name = plan_conflict(store)
    settled = clinic.resolve(name, choosing("1"), None, NOW_MS)
    made = clinic.undo(name, "wrong patient", NOW_MS)
    again = clinic.conflict(name)
    assert again.open
    assert {sibling.value for sibling in again.values} == {"rest", "refer"}
    assert all(settled.change.id in change.supersedes["plan"] for change in made)
    kept = store.record(key)
    assert kept is not None
    assert kept.record.view()["resolution_note"] == "wrong patient"
    assert code(lambda: clinic.undo(name, None, NOW_MS)) == "E_NOT_RESOLVED"
    assert clinic.resolve(name, choosing("2"), None, NOW_MS).left is None
    assert len(clinic.undo(name, None, NOW_MS)) == 2


def test_a_measurement_that_two_copies_imported_is_decided_and_undone(clinic: Clinic, store: Store) -> None:
    key = write(store, PERSON, "vitals", {"pulse_bpm": 80}, patient=PATIENT)
    arrive(store, "vitals", {"pulse_bpm": 90}, 1, record=key.record, patient=PATIENT)
    [one] = clinic.conflicts()
    assert code(lambda: clinic.resolve(one.id, lambda *_: 85, None, NOW_MS)) == "E_IMMUTABLE"
    assert clinic.resolve(one.id, choosing("2"), "the second one was typed from the slip", NOW_MS).left is None
    assert list(clinic.conflicts()) == []
    assert len(clinic.undo(one.id, None, NOW_MS)) == 2
    assert [again.id for again in clinic.conflicts()] == [one.id]


def test_what_is_not_in_conflict_is_not_resolved_and_not_undone(clinic: Clinic, store: Store) -> None:
    key = write(store, PERSON, "case", {"plan": "rest"}, patient=PATIENT)
    name = exports.conflict_id(key, "plan")
    assert code(lambda: clinic.resolve(name, choosing("1"), None, NOW_MS)) == "E_NOT_IN_CONFLICT"
    assert code(lambda: clinic.undo(name, None, NOW_MS)) == "E_NOT_RESOLVED"


def test_an_element_of_a_set_has_a_name_of_its_own(clinic: Clinic, store: Store) -> None:
    key = write(store, PERSON, "patient", {"allergies/a/b": {"present": True}}, record=PATIENT)
    other: dict[str, Any] = {"allergies/a/b": {"present": True, "details": {"text": "rash"}}}
    arrive(store, "patient", other, 1, record=PATIENT)
    [one] = clinic.conflicts()
    assert exports.parse_conflict_id(one.id) == (key, "allergies/a/b")
    assert clinic.resolve(one.id, choosing("2"), None, NOW_MS).left is None


@pytest.mark.parametrize("name", ["", "case", "case/", "case/seven/plan", "case//plan", "case/" + "0" * 32 + "/"])
def test_a_name_that_is_none_is_refused(clinic: Clinic, name: str) -> None:
    assert code(lambda: clinic.conflict(name)) == "E_BAD_ID"


def test_a_conflict_that_does_not_exist_is_not_found(clinic: Clinic, store: Store) -> None:
    key, _ = plan_conflict(store)
    for missing in (
        exports.conflict_id(key, "outcome"),
        exports.conflict_id(RecordKey("case", RecordId(PATIENT)), "plan"),
    ):
        assert code(lambda missing=missing: clinic.conflict(missing)) == "E_NO_SUCH_RECORD"  # type: ignore[misc]


def test_a_reference_from_json_becomes_its_bytes() -> None:
    assert parsed_value("vitals", "case", documents.id_text(PATIENT)) == PATIENT
    with pytest.raises(HealthSyncError):
        parsed_value("vitals", "case", "seven")


# -- referrals ---------------------------------------------------------------------------------------------------------


def refer(store: Store) -> tuple[RecordKey, RecordKey]:
    case = write(store, PERSON, "case", {"plan": "rest"}, patient=PATIENT)
    fields = {"case": bytes(case.record), "specialty": "ent", "urgency": "urgent"}
    return case, write(store, PERSON, "referral", fields, patient=PATIENT)


def only(clinic: Clinic) -> dict[str, Any]:
    [view] = clinic.referrals()
    return views.referral_json(view, clinic.name_of)


def test_a_referrals_status_is_what_its_records_say(clinic: Clinic, store: Store) -> None:
    _, key = refer(store)
    assert only(clinic)["status"] == "saved"
    give_positions(store, key, 1)
    assert only(clinic)["status"] == "received"
    about: dict[str, Any] = {"referral": bytes(key.record)}
    arrive(store, "person", {"name": "Dr Rao", "role": "doctor"}, 3, record=DOCTOR, origin=Writer.HUB)
    arrive(store, "claim", about, 4, patient=PATIENT, origin=Writer.DOCTOR, person=DOCTOR)
    line = only(clinic)
    assert (line["status"], line["claimed_by_name"]) == ("claimed", "Dr Rao")
    reply = about | {"advice": "rest", "seen_positions": {FACILITY: 4}}
    said = arrive(store, "reply", reply, 5, patient=PATIENT, origin=Writer.DOCTOR, person=DOCTOR)
    line = only(clinic)
    assert (line["status"], line["reply"]["advice"], line["reply"]["person_name"]) == ("answered", "rest", "Dr Rao")
    seen = about | {"reply": bytes(said.record), "seen": True}
    acknowledgement = write(store, PERSON, "acknowledgement", seen, patient=PATIENT)
    assert only(clinic)["status"] == "seen"
    write(store, PERSON, "acknowledgement", {"outcome": "well"}, record=acknowledgement.record, patient=PATIENT)
    assert only(clinic)["status"] == "closed"
    write(store, PERSON, "referral", {"withdrawn": {"withdrawn": True}}, record=key.record, patient=PATIENT)
    line = only(clinic)
    assert (line["status"], line["withdrawn"], line["reply"]["advice"]) == ("withdrawn", True, "rest")
    assert set(line) >= {
        "id", "patient", "case", "facility", "specialty", "urgency", "status", "saved_at", "received_at", "claimed_by",
        "claimed_at", "answered_at", "seen_at", "not_seen_by_doctor",
    }  # fmt: skip


def test_what_the_doctor_had_not_seen_is_what_had_no_position_where_the_doctor_looked(
    clinic: Clinic, store: Store
) -> None:
    patient = write(store, PERSON, "patient", {"name": "Sunita"}, record=PATIENT)
    case, key = refer(store)
    for at, one in enumerate((patient, case, key), 1):
        give_positions(store, one, at)
    arrive(store, "case", {"history": "fever"}, 5, record=case.record, patient=PATIENT)
    write(store, PERSON, "patient", {"allergies/penicillin": {"present": True}}, record=PATIENT)
    pulse = {"case": bytes(case.record), "pulse_bpm": 90, "at": NOW_MS}
    late = write(store, PERSON, "vitals", pulse, patient=PATIENT)
    write(store, PERSON, "vitals", {"case": fresh_id(), "pulse_bpm": 60}, patient=PATIENT)  # of another case
    write(store, PERSON, "case", {"plan": "another visit"}, patient=PATIENT)
    reply = {"referral": bytes(key.record), "advice": "rest", "seen_positions": {FACILITY: 4}}
    arrive(store, "reply", reply, 6, patient=PATIENT, origin=Writer.DOCTOR, person=DOCTOR)
    unseen = only(clinic)["not_seen_by_doctor"]
    assert {(item["kind"], item["field"], str(item["value"])) for item in unseen} == {
        ("case", "history", "fever"),
        ("patient", "allergies/penicillin", "{'present': True}"),
        ("vitals", "pulse_bpm", "90"),
    }
    assert set(unseen[0]) == {"kind", "id", "field", "value", "at"}
    give_positions(store, late, 4)  # it was there after all
    assert {item["kind"] for item in only(clinic)["not_seen_by_doctor"]} == {"case", "patient"}


def test_a_reply_that_does_not_say_what_was_seen_leaves_it_unknown(clinic: Clinic, store: Store) -> None:
    _, key = refer(store)
    arrive(store, "reply", {"referral": bytes(key.record)}, 9, patient=PATIENT, origin=Writer.DOCTOR, person=DOCTOR)
    line = only(clinic)
    assert (line["not_seen_known"], line["not_seen_by_doctor"]) == (False, [])


def test_a_referral_whose_patient_has_not_arrived_is_shown_all_the_same(clinic: Clinic, store: Store) -> None:
    key = arrive(store, "referral", {"specialty": "ent"}, 1, patient=PATIENT)
    view = clinic.referral(documents.id_text(key.record))
    assert view.progress.status.value == "received"
    assert clinic.patient_name(view.record.patient) is None


def test_a_referral_that_does_not_exist_is_not_found(clinic: Clinic) -> None:
    assert code(lambda: clinic.referral("00000000-0000-7000-8000-000000000001")) == "E_NO_SUCH_RECORD"
    assert code(lambda: clinic.referral("seven")) == "E_BAD_ID"


def test_undoing_needs_two_values_to_bring_back(clinic: Clinic, store: Store) -> None:
    key = write(store, PERSON, "case", {"plan": "rest"}, patient=PATIENT)
    kept = store.record(key)
    assert kept is not None
    names: list[ChangeId] = list(kept.record.live["plan"])
    write(store, PERSON, "case", {"plan": "walk"}, record=key.record, patient=PATIENT, shown={"plan": names})
    with pytest.raises(NeedsPerson):
        clinic.undo(exports.conflict_id(key, "plan"), None, NOW_MS)
