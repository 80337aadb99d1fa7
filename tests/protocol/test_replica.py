"""The two verbs that move state: `author` refuses what a side may not write, `receive` joins in any order and batching."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol import merge, replica
from sync_protocol.change import Change, ChangeId, PatientId, RecordKey
from sync_protocol.errors import HealthSyncError, InvalidValue, Malformed, NotAllowed
from sync_protocol.hlc import Hlc
from sync_protocol.merge import Held
from sync_protocol.replica import Author
from sync_protocol.schema import KINDS, Writer
from tests import naive_merge, strategies
from tests.strategies import FACILITIES, NODE, PERSONS, RECORDS, SALTS, TIME_NOW_MS

CASE = RecordKey("case", RECORDS[0])
PATIENT = PatientId(RECORDS[1])


def _by(writer: Writer = Writer.CENTRE, stamp: int = TIME_NOW_MS << 16, person: int = 0) -> Author:
    return Author(writer, FACILITIES[0], NODE, PERSONS[person], Hlc(stamp), 0, SALTS[0])


def _author(writes: dict[str, Any], key: RecordKey = CASE, **options: Any) -> Change:
    by, patient = options.pop("by", _by()), options.pop("patient", PATIENT)
    return replica.author(by, key, patient, writes, options.pop("shown", None), **options)


# -- receive -----------------------------------------------------------------------------------------------------------


@given(st.lists(strategies.histories(max_size=4), min_size=1, max_size=3), st.data())
def test_any_order_repetition_and_batching_gives_the_same_records_and_digest(
    histories: list[list[Held]], data: st.DataObject
) -> None:
    """Law 1: as a store runs it, with the changes held of each touched record and a digest adjusted by differences."""
    everything = [held for history in histories for held in history]
    chance = data.draw(st.randoms(use_true_random=False))
    arriving = [*everything, *chance.choices(everything, k=3)]
    chance.shuffle(arriving)
    store: dict[RecordKey, list[Held]] = {}
    total = 0
    for batch in _batches(arriving, chance):
        for joined in replica.receive({one.change.key: store.get(one.change.key, []) for one in batch}, batch):
            total = merge.add_digests((total, joined.digest_delta))
            news = [one for one in batch if one.change.key == joined.key]
            known = [*store.get(joined.key, []), *news]
            scratch = merge.fold(joined.key, [one for one in known if one.change.patient == joined.patient])
            assert set(joined.conflicts) == set(scratch.conflicts())
            assert joined.record is None or joined.record == scratch
        for one in batch:
            held = [*store.get(one.change.key, []), one]
            store[one.change.key] = list(merge.fold(one.change.key, held).changes.values())
    assert total == naive_merge.digest(everything)


def _batches(arriving: list[Held], chance: random.Random) -> list[list[Held]]:
    batches = []
    while arriving:
        size = chance.randint(1, len(arriving))
        batches.append(arriving[:size])
        arriving = arriving[size:]
    return batches


@given(strategies.histories())
def test_redelivery_changes_nothing(history: list[Held]) -> None:
    """Law 5."""
    key = history[0].change.key
    held = list(merge.fold(key, history).changes.values())
    for again in replica.receive({key: held}, history):
        same = [one for one in held if one.change.patient == again.patient]
        assert again.digest_delta == 0 and again.record == merge.fold(key, same)


def test_a_replica_that_holds_one_of_two_patients_has_its_digest_right() -> None:
    """The hub loads whole patients: what a change of another patient supersedes does not change this one's digest."""
    mine = _author({"plan": "rest"})
    theirs = _author({"plan": "walk"}, patient=PatientId(RECORDS[1]))
    decided = _author({"plan": "sleep"}, shown={"plan": [mine.id, theirs.id]})
    everything = [Held(one, 5) for one in (mine, theirs, decided)]
    at_node = {one.patient: one.digest_delta for one in replica.receive({}, everything)}
    for patient in at_node:
        own = [one for one in everything if one.change.patient == patient]
        (at_hub,) = replica.receive({}, own)
        assert at_hub.digest_delta == at_node[patient]


def test_a_receipt_that_arrives_later_times_the_change_and_is_never_altered() -> None:
    change = _author({"plan": "rest"})
    (timed,) = replica.receive({CASE: [Held(change)]}, [Held(change, 500)])
    assert timed.record is not None and timed.record.changes[change.id].receipt_ms == 500
    (later,) = replica.receive({CASE: [Held(change, 500)]}, [Held(change, 900), Held(change)])
    assert later.record is not None and later.record.changes[change.id].receipt_ms == 500
    assert later.digest_delta == 0


def test_records_come_out_in_order_of_first_appearance() -> None:
    other = RecordKey("case", RECORDS[1])
    changes = [_author({"plan": "rest"}, other), _author({"plan": "rest"}), _author({"outcome": "died"}, other)]
    joined = replica.receive({}, [Held(change) for change in changes])
    assert [one.key for one in joined] == [other, CASE] and joined[0].patient == PATIENT


# -- author ------------------------------------------------------------------------------------------------------------


def test_only_what_was_shown_is_superseded() -> None:
    """Law 2: what arrived while the form was open lives."""
    first = _author({"plan": "rest"})
    shown = merge.fold(CASE, [Held(first)]).shown("plan")
    arrived = _author({"plan": "refer"}, by=_by(person=1))
    assert shown is not None
    saved = _author({"plan": "rest more"}, shown={"plan": shown.names, "outcome": [ChangeId(bytes(16))]})
    assert saved.supersedes == {"plan": [first.id]}
    record = merge.fold(CASE, [Held(first), Held(arrived), Held(saved)])
    assert set(record.live["plan"]) == {arrived.id, saved.id} and set(record.conflicts()) == {"plan"}


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("writer", list(Writer))
def test_each_side_authors_its_own_kinds_and_no_other(kind: str, writer: Writer) -> None:
    key = RecordKey(kind, RECORDS[0])
    if writer in KINDS[kind].writers:
        assert replica.allowed(replica.author(_by(writer), key, PATIENT, {"at": 5}), writer)
        return
    with pytest.raises(NotAllowed) as caught:
        replica.author(_by(writer), key, PATIENT, {"at": 5})
    assert caught.value.code == "E_NOT_OURS"


def test_a_reply_authored_by_a_centre_is_not_allowed_wherever_it_is_checked() -> None:
    reply = _author({"advice": "x"}, RecordKey("reply", RECORDS[0]), by=_by(Writer.DOCTOR))
    assert not replica.allowed(reply, Writer.CENTRE) and replica.allowed(reply, Writer.DOCTOR)


def test_an_immutable_record_is_corrected_by_another() -> None:
    key = RecordKey("vitals", RECORDS[0])
    first = _author({"pulse_bpm": 80}, key)
    with pytest.raises(NotAllowed) as caught:
        _author({"pulse_bpm": 90}, key, existing=merge.fold(key, [Held(first)]))
    assert caught.value.code == "E_IMMUTABLE" and "corrects" in caught.value.next_step
    other = RecordKey("vitals", RECORDS[1])
    assert _author({"pulse_bpm": 90, "corrects": RECORDS[0], "correction_reason": "typed wrong"}, other)


def test_a_value_of_an_immutable_record_that_has_two_is_chosen_and_not_made_up() -> None:
    key = RecordKey("vitals", RECORDS[0])
    here, there = _author({"pulse_bpm": 80}, key), _author({"pulse_bpm": 90}, key, by=_by(person=1))
    record = merge.fold(key, [Held(here), Held(there)])
    both = {"pulse_bpm": [here.id, there.id]}
    chosen = _author({"pulse_bpm": 90, "resolution_note": "measured again"}, key, shown=both, existing=record)
    assert merge.fold(key, [Held(here), Held(there), Held(chosen)]).view()["pulse_bpm"] == 90
    for writes, shown in (
        ({"pulse_bpm": 85}, both),
        ({"pulse_bpm": 90}, {}),
        ({"pulse_bpm": 90, "spo2_percent": 97}, both | {"spo2_percent": [here.id]}),
    ):
        with pytest.raises(NotAllowed) as caught:
            _author(writes, key, shown=shown, existing=record)
        assert caught.value.code == "E_IMMUTABLE"


@pytest.mark.parametrize(
    ("kind", "writes", "code"),
    [
        ("cases", {"plan": "x"}, "E_UNKNOWN_KIND"),
        ("a_kind_of_2030", {"plan": "x"}, "E_UNKNOWN_KIND"),
        ("case", {"plann": "x"}, "E_UNKNOWN_FIELD"),
        ("case", {"complaints": {"present": True}}, "E_UNKNOWN_FIELD"),
        ("case", {"complaints/": {"present": True}}, "E_UNKNOWN_FIELD"),
        ("vitals", {"blood_pressure": {"systolic_mmhg": 900, "diastolic_mmhg": 80}}, "E_INVALID_VALUE"),
        ("vitals", {"blood_pressure": {"systolic_mmhg": 120}}, "E_INVALID_VALUE"),
        ("vitals", {"blood_pressure": [120, 80]}, "E_INVALID_VALUE"),
        ("vitals", {"temperature_c": "37"}, "E_INVALID_VALUE"),
        ("vitals", {"temperature_c": True}, "E_INVALID_VALUE"),
        ("vitals", {"pulse_bpm": 80.5}, "E_INVALID_VALUE"),
        ("vitals", {"case": "x"}, "E_INVALID_VALUE"),
        ("case", {"history": "x" * 1_000_000}, "E_INVALID_VALUE"),
        ("case", {"complaints/cough": {"present": 1}}, "E_INVALID_VALUE"),
        ("case", {"complaints/cough": {"present": True, "details": "x"}}, "E_INVALID_VALUE"),
        ("case", {"outcome": ["died"]}, "E_INVALID_VALUE"),
        ("patient", {"name": "  "}, "E_INVALID_VALUE"),
        ("patient", {"name": None}, "E_INVALID_VALUE"),
        ("patient", {"birth": {"date": "1990-13-01"}}, "E_INVALID_VALUE"),
        ("patient", {"birth": {"starsign": "x"}}, "E_INVALID_VALUE"),
        ("case", {"provisional_diagnosis": {}}, "E_INVALID_VALUE"),
        ("case", {"entered_in_error": {"hidden": True, "shown": ["x"]}}, "E_INVALID_VALUE"),
    ],
    ids=range(22),
)
def test_what_a_person_may_not_enter_is_refused_without_repeating_it(
    kind: str, writes: dict[str, Any], code: str
) -> None:
    with pytest.raises(InvalidValue) as caught:
        _author(writes, RecordKey(kind, RECORDS[0]))
    assert caught.value.code == code
    assert len(str(caught.value)) < 200 and "900" not in str(caught.value)


@given(st.sampled_from(sorted(KINDS)), st.data())
def test_any_value_in_any_field_is_authored_or_refused_with_our_own_error(kind: str, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([*KINDS[kind].fields, "allergies/x", "complaints/x", "\ud800", ""]))
    writer = next(iter(sorted(KINDS[kind].writers)))
    try:
        _author({name: data.draw(strategies.wild)}, RecordKey(kind, RECORDS[0]), by=_by(writer))
    except HealthSyncError:
        return


@pytest.mark.parametrize("at", [0, -5, 4_070_908_800_000])
def test_odd_times_are_accepted(at: int) -> None:
    assert _author({"at": at, "plan": "rest"}).writes["at"] == at


def test_a_change_that_says_nothing_is_refused() -> None:
    with pytest.raises(Malformed):
        _author({})


def test_an_edit_writes_only_what_differs_from_what_is_shown() -> None:
    record = merge.fold(CASE, [Held(_author({"plan": "rest", "duration_days": 3}))])
    assert replica.differing(record, {"plan": "rest", "duration_days": 3.0, "outcome": "died"}) == {"outcome": "died"}
    assert replica.differing(None, {"plan": "rest"}) == {"plan": "rest"}
    conflicting = merge.join(record, [Held(_author({"plan": "refer"}, by=_by(stamp=(TIME_NOW_MS + 1) << 16)))])
    assert replica.differing(conflicting, {"plan": "refer"}) == {"plan": "refer"}, "saying it again decides it"


def test_a_source_that_was_shown_nothing_supersedes_only_its_own_writes() -> None:
    mine, theirs = _author({"plan": "rest"}), _author({"plan": "refer"}, by=_by(person=1))
    record = merge.fold(CASE, [Held(mine), Held(theirs)])
    assert replica.own_writes(record, PERSONS[0], ["plan", "outcome"]) == {"plan": [mine.id], "outcome": []}
    assert replica.own_writes(None, PERSONS[0], ["plan"]) == {}


@given(strategies.batches(3))
def test_what_this_program_does_not_know_is_kept_and_judged_by_the_hub(batch: list[Change]) -> None:
    """Law 11, and the writers of kinds that are not in the table."""
    for change in batch:
        if change.kind not in KINDS:
            assert replica.allowed(change, Writer.CENTRE)
        (joined,) = replica.receive({}, [Held(change, 5)])
        record = joined.record or merge.fold(joined.key, [Held(change, 5)])
        assert set(record.view()) <= set(change.writes)
        assert {name for name in change.writes if change.id in record.live.get(name, {})} == set(record.live)
