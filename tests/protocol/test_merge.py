"""Merging: the laws 1, 2 and 7 of DESIGN §9, and agreement with a naive second implementation."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from sync_protocol import canonical, merge
from sync_protocol import change as changes
from sync_protocol.change import Change, ChangeId, PatientId, RecordKey
from sync_protocol.hlc import MAX_TIME_MS
from sync_protocol.merge import Held, Record
from sync_protocol.schema import Policy
from tests import naive_merge, strategies
from tests.strategies import FACILITIES, NODE, PERSONS, RECORDS, SALTS, TIME_NOW_MS

KEY = RecordKey("case", RECORDS[0])


def _state(record: Record) -> object:
    """All of a record that a replica may ever show or send, in comparable form."""
    shown = {
        name: (canonical.encode(one.value), one.names, one.conflict, one.policy)
        for name in record.fields
        if (one := record.shown(name)) is not None
    }
    held = {name: one.receipt_ms for name, one in record.changes.items()}
    hiding = merge.hiding(record)
    return shown, held, record.named, record.dangling, merge.digest(record), hiding


def _edit(
    name: str,
    value: canonical.Value,
    *superseded: Change,
    hlc_ms: int = TIME_NOW_MS,
    after: int = 0,
    key: RecordKey = KEY,
) -> Change:
    return changes.make(
        kind=key.kind,
        record=key.record,
        patient=PatientId(RECORDS[2]),
        facility=FACILITIES[0],
        node=NODE,
        person=PERSONS[0],
        hlc=hlc_ms << 16,
        after=after,
        salt=SALTS[0],
        writes={name: value},
        supersedes={name: [one.id for one in superseded]},
    )


@given(strategies.histories(), st.randoms(use_true_random=False))
def test_join_is_commutative_and_idempotent(history: list[Held], chance: random.Random) -> None:
    key = history[0].change.key
    expected = _state(merge.fold(key, history))
    shuffled = history + chance.choices(history, k=3)
    chance.shuffle(shuffled)
    assert _state(merge.fold(key, shuffled)) == expected


@given(strategies.histories(), st.data())
def test_join_is_associative_and_incremental_equals_from_scratch(history: list[Held], data: st.DataObject) -> None:
    key = history[0].change.key
    cuts = sorted(data.draw(st.lists(st.integers(0, len(history)), max_size=3)))
    joined = merge.fold(key, ())
    for start, end in zip([0, *cuts], [*cuts, len(history)], strict=True):
        joined = merge.join(joined, history[start:end])
    assert _state(joined) == _state(merge.fold(key, history))


@given(strategies.histories(), strategies.histories())
def test_joining_alters_neither_side(left: list[Held], right: list[Held]) -> None:
    record = merge.fold(left[0].change.key, left)
    before = _state(record)
    merge.join(record, right)
    assert _state(record) == before


@given(st.lists(strategies.histories(max_size=5), min_size=1, max_size=3))
def test_the_naive_merge_agrees(histories: list[list[Held]]) -> None:
    everything = [held for history in histories for held in history]
    naive = naive_merge.state(everything)
    records = {key: merge.fold(key, everything) for key in merge.keys_of(held.change for held in everything)}
    assert {key: fields for key, fields in naive.items() if fields} == {
        key: {
            name: naive_merge.NaiveField(one.value, one.names, one.conflict)
            for name in record.fields
            if (one := record.shown(name)) is not None
        }
        for key, record in records.items()
        if record.fields
    }
    parts = [merge.digests_by_patient(key, record.changes.values()) for key, record in records.items()]
    total = merge.add_digests(part for of_patient in parts for part in of_patient.values())
    assert total == naive_merge.digest(everything)
    assert all(set(record.conflicts()) == _open(naive[key]) for key, record in records.items())


def _open(fields: dict[str, naive_merge.NaiveField]) -> set[str]:
    return {name for name, one in fields.items() if one.conflict}


@given(strategies.histories())
def test_a_write_disappears_only_if_a_write_names_it(history: list[Held]) -> None:
    record = merge.fold(history[0].change.key, history)
    for held in history:
        for name in held.change.writes:
            naming = [one for one in history if held.change.id in one.change.supersedes.get(name, ())]
            assert (held.change.id in record.live.get(name, {})) == (not naming)


@given(strategies.histories())
def test_what_is_shown_is_one_of_the_live_writes(history: list[Held]) -> None:
    record = merge.fold(history[0].change.key, history)
    for name in record.fields:
        shown = record.shown(name)
        assert shown is not None
        assert set(shown.names) == set(record.live[name]) and len(shown.names) == len(record.live[name])
        assert shown.value is shown.live[0].change.writes[name]


@given(st.sampled_from(strategies.ODD_TIMES_MS), st.sampled_from(strategies.ODD_TIMES_MS), strategies.receipts)
def test_a_causally_later_write_wins_whatever_the_clocks_say(first_ms: int, second_ms: int, receipt: int) -> None:
    first = _edit("outcome", "under_care", hlc_ms=first_ms)
    second = _edit("outcome", "died", first, hlc_ms=second_ms)
    for held in ([Held(first, receipt), Held(second)], [Held(second, receipt), Held(first)]):
        record = merge.fold(KEY, held)
        assert record.view() == {"outcome": "died"} and not record.conflicts()


def test_a_write_that_arrives_already_named_is_dead_on_arrival() -> None:
    first = _edit("plan", "rest")
    second = _edit("plan", "refer", first)
    record = merge.join(merge.fold(KEY, [Held(second)]), [Held(first)])
    assert record.view() == {"plan": "refer"} and record.dangling == 0


def test_a_name_counts_only_for_the_same_record_and_field() -> None:
    first = _edit("plan", "rest")
    other_field = _edit("outcome", "recovered", first)
    other_record = _edit("plan", "home", first, key=RecordKey("case", RECORDS[1]))
    record = merge.fold(KEY, [Held(first), Held(other_field), Held(other_record)])
    assert record.view() == {"outcome": "recovered", "plan": "rest"}


def test_dangling_names_are_counted_and_not_refused() -> None:
    first = _edit("plan", "rest")
    record = merge.fold(KEY, [Held(_edit("plan", "refer", first))])
    assert record.dangling == 1 and record.view() == {"plan": "refer"}


def test_a_resolution_settles_a_conflict_and_what_arrives_later_lives() -> None:
    left, right = _edit("plan", "rest"), _edit("plan", "refer")
    record = merge.fold(KEY, [Held(left), Held(right)])
    assert set(record.conflicts()) == {"plan"}
    settled = merge.join(record, [Held(_edit("plan", "refer today", left, right))])
    assert not settled.conflicts() and settled.view() == {"plan": "refer today"}
    assert set(merge.join(settled, [Held(_edit("plan", "wait"))]).conflicts()) == {"plan"}


def test_equal_values_are_no_conflict_but_look_alikes_are() -> None:
    assert not _conflicts("plan", "rest", "rest")
    assert _conflicts("future_field", 1, True)
    assert _conflicts("future_field", 37, 37.5)
    assert not _conflicts("future_field", 37, 37.0)


def _conflicts(name: str, *written: canonical.Value) -> bool:
    held = [Held(_edit(name, value, hlc_ms=at)) for at, value in enumerate(written)]
    return bool(merge.fold(KEY, held).conflicts())


def _shown(key: RecordKey, name: str, *written: canonical.Value) -> tuple[canonical.Value, bool, Policy]:
    """Written one millisecond after the other: the last is the latest."""
    held = [Held(_edit(name, value, hlc_ms=TIME_NOW_MS + at, key=key)) for at, value in enumerate(written)]
    shown = merge.fold(key, held).shown(name)
    assert shown is not None
    return shown.value, shown.conflict, shown.policy


def test_each_policy_shows_what_its_row_says() -> None:
    patient, referral = RecordKey("patient", RECORDS[0]), RecordKey("referral", RECORDS[0])
    there, gone = {"present": True}, {"present": False}
    rash = {"present": True, "details": {"text": "rash"}}
    assert _shown(patient, "phone", "1", "2") == ("2", False, Policy.LATEST)
    assert _shown(patient, "allergies/latex", there, gone) == (there, False, Policy.PRESENT)
    assert _shown(patient, "allergies/latex", gone, gone) == (gone, False, Policy.PRESENT)
    assert _shown(patient, "allergies/latex", rash, there, gone) == (there, True, Policy.PRESENT)
    assert _shown(referral, "urgency", "emergency", "urgent", "routine") == ("emergency", False, Policy.HIGHEST)
    assert _shown(referral, "urgency", "routine", "at once") == ("routine", False, Policy.HIGHEST)
    listed = ("listed", True, Policy.REVIEW)
    assert _shown(patient, "allergies_status", "listed", "none_known", "not_asked") == listed
    assert _shown(KEY, "plan", "rest", "refer") == ("refer", True, Policy.REVIEW)
    assert _shown(KEY, "a_field_of_2030", "rest", "refer") == ("refer", True, Policy.REVIEW)


def test_a_receipt_bounds_a_clock_of_the_future_and_after_lifts_one_of_the_past() -> None:
    key = RecordKey("patient", RECORDS[0])
    future = Held(_edit("phone", "from 2098", hlc_ms=4_070_908_800_000, key=key), TIME_NOW_MS)
    later = Held(_edit("phone", "later", hlc_ms=TIME_NOW_MS + 50, key=key), TIME_NOW_MS + 100)
    assert merge.fold(key, [future, later]).view()["phone"] == "later"
    past = Held(_edit("phone", "from 1970", hlc_ms=0, after=TIME_NOW_MS + 60, key=key), TIME_NOW_MS + 90)
    assert merge.fold(key, [later, past]).view()["phone"] == "from 1970"
    untimed = merge.fold(key, [Held(future.change)]).shown("phone")
    assert untimed is not None and untimed.not_yet_timed


def test_hiding_says_who_and_whether_something_was_written_since() -> None:
    first = _edit("plan", "rest")
    hidden = _edit("entered_in_error", {"hidden": True, "reason": "wrong patient", "shown": [first.id]})
    hiding = merge.hiding(merge.fold(KEY, [Held(first), Held(hidden)]))
    assert hiding is not None and not hiding.changed_since and hiding.by.change == hidden
    since = merge.hiding(merge.fold(KEY, [Held(first), Held(hidden), Held(_edit("outcome", "died"))]))
    assert since is not None and since.changed_since
    shown_again = _edit("entered_in_error", {"hidden": False}, hidden)
    assert merge.hiding(merge.fold(KEY, [Held(first), Held(hidden), Held(shown_again)])) is None


@given(strategies.values, strategies.values)
def test_hiding_stands_whatever_arrives(shown: canonical.Value, reason: canonical.Value) -> None:
    hidden = _edit("entered_in_error", {"hidden": True, "reason": reason, "shown": shown})
    assert merge.hiding(merge.fold(KEY, [Held(hidden)])) is not None


@given(strategies.histories())
def test_the_digest_counts_only_what_has_a_receipt(history: list[Held]) -> None:
    record = merge.fold(history[0].change.key, [Held(one.change) for one in history])
    assert merge.digest(record) == 0
    assert len(merge.digest_text(merge.digest(record))) == 32


def test_the_digest_tells_a_receipt_or_a_live_write_apart() -> None:
    first = _edit("plan", "rest")
    second = _edit("plan", "refer", first)
    held: list[Sequence[Held]] = [
        [Held(first, 5)],
        [Held(first, 6)],
        [Held(first, MAX_TIME_MS)],
        [Held(first, 5), Held(second)],
        [Held(first, 5), Held(second, 5)],
    ]
    digests = [merge.digest(merge.fold(KEY, one)) for one in held]
    assert digests[3] == 0 and len(set(digests)) == len(digests)


def test_replaced_by_names_what_a_change_superseded() -> None:
    first = _edit("plan", "rest")
    second = _edit("plan", "refer", first)
    record = merge.fold(KEY, [Held(first), Held(second)])
    assert record.replaced_by("plan", second.id) == (first.id,)
    assert record.replaced_by("plan", ChangeId(bytes(16))) == ()
    assert record.patient == PatientId(RECORDS[2])
