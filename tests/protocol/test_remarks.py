"""What is odd about a record is told beside its values, whatever arrived; nothing is altered by it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from sync_protocol import change as changes
from sync_protocol import exports, merge, remarks, replica
from sync_protocol.change import Change, PatientId, RecordKey
from sync_protocol.errors import NotAllowed
from sync_protocol.hlc import Hlc
from sync_protocol.merge import Held
from sync_protocol.replica import Author
from sync_protocol.schema import Writer
from tests import strategies
from tests.strategies import FACILITIES, NODE, PERSONS, RECORDS, SALTS, TIME_NOW_MS

PATIENT = PatientId(RECORDS[0])
DAY_MS = 86_400_000


def _arrived(kind: str, writes: dict[str, Any], hlc_ms: int = TIME_NOW_MS, receipt_ms: int = TIME_NOW_MS) -> Held:
    made = changes.make(
        kind=kind, record=RECORDS[0], patient=PATIENT, facility=FACILITIES[0], node=NODE, person=PERSONS[0],
        hlc=hlc_ms << 16, after=0, salt=SALTS[0], writes=writes, supersedes={},
    )  # fmt: skip
    return Held(made, receipt_ms)


def _said(kind: str, writes: dict[str, Any], **options: int) -> list[tuple[str, str]]:
    record = merge.fold(RecordKey(kind, RECORDS[0]), [_arrived(kind, writes, **options)])
    return [(one.field, one.said) for one in remarks.remarks(record)]


def test_values_out_of_limits_that_arrived_are_kept_and_told() -> None:
    ((field, said),) = _said(
        "vitals", {"blood_pressure": {"systolic_mmhg": 900, "diastolic_mmhg": 80}, "pulse_bpm": 80}
    )
    assert field == "blood_pressure"
    assert "systolic_mmhg must be from 20 to 350 mmHg" in said
    assert "900" not in said


def test_no_allergies_known_beside_an_allergy_is_a_contradiction() -> None:
    there, gone = {"present": True}, {"present": False}
    known = {"allergies_status": "none_known"}
    assert _said("patient", known | {"allergies/penicillin": there}) == [
        ("allergies_status", "says that none is known, beside penicillin")
    ]
    assert _said("patient", known | {"allergies/penicillin": gone}) == []
    assert _said("patient", {"allergies_status": "listed", "allergies/penicillin": there}) == []


@pytest.mark.parametrize("written_ms", [0, 1_000, TIME_NOW_MS + 3 * DAY_MS, 4_070_908_800_000])
def test_a_device_whose_clock_was_wrong_is_told(written_ms: int) -> None:
    ((field, said),) = _said("case", {"plan": "rest"}, hlc_ms=written_ms)
    assert field == ""
    assert "clock was wrong" in said
    ((field, _),) = _said("case", {"at": written_ms})
    assert field == "at"


def test_a_clock_that_is_a_day_ahead_is_nothing_to_speak_of() -> None:
    assert _said("case", {"plan": "rest", "at": TIME_NOW_MS + DAY_MS}, hlc_ms=TIME_NOW_MS + DAY_MS) == []


def test_what_a_later_program_wrote_is_not_judged() -> None:
    assert _said("case", {"later_field": 7}) == []
    assert _said("a_kind_of_2030", {"hope": 7}) == []


@given(strategies.histories())
def test_remarks_stand_whatever_arrives(history: list[Held]) -> None:
    record = merge.fold(history[0].change.key, history)
    line = exports.export_line(record, "admitted")
    assert [one["said"] for one in line["remarks"]] == [one.said for one in remarks.remarks(record)]


# -- a measurement that is another patient's ---------------------------------------------------------------------------


def _author(writes: dict[str, Any], existing: merge.Record | None = None) -> Change:
    by = Author(Writer.CENTRE, FACILITIES[0], NODE, PERSONS[0], Hlc(TIME_NOW_MS << 16), 0, SALTS[0])
    return replica.author(by, RecordKey("vitals", RECORDS[0]), PATIENT, writes, existing=existing)


def test_an_immutable_record_can_be_marked_as_entered_in_error_and_not_changed() -> None:
    first = Held(_author({"pulse_bpm": 80}), TIME_NOW_MS)
    record = merge.fold(first.change.key, [first])
    marked = _author({"entered_in_error": {"hidden": True, "shown": [first.change.id]}}, record)
    hiding = merge.hiding(merge.fold(first.change.key, [first, Held(marked)]))
    assert hiding is not None
    assert not hiding.changed_since
    with pytest.raises(NotAllowed) as caught:
        _author({"entered_in_error": {"hidden": True}, "pulse_bpm": 90}, record)
    assert caught.value.code == "E_IMMUTABLE"
