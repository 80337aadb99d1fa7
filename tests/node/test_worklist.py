"""The rows of the lists say what the records say, whatever came in which order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwc_node import worklist
from hwc_node.engine import begin_read, begin_write
from hwc_node.store import Store
from sync_protocol import merge, referral
from sync_protocol.change import PatientId
from sync_protocol.merge import Record
from sync_protocol.schema import Writer
from tests.node.enrolled_home import NOW_MS, PERSON, arrive, fresh_id, give_positions, make_home, write

URGENCIES = ("emergency", "urgent", "routine", "odd")
steps = st.lists(
    st.tuples(
        st.sampled_from(["referral", "urgency", "claim", "release", "reply", "seen", "outcome", "withdrawn", "hidden",
                         "follow_up", "done", "received", "ended", "asked", "said"]),
        st.integers(0, 2),
        st.sampled_from(URGENCIES),
    ),
    max_size=14,
)  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with make_home(Path(tmp_path_factory.mktemp("worklist"))).open() as opened:
        yield opened


def rows(store: Store, table: str, patient: bytes) -> set[tuple[object, ...]]:
    with begin_read(store.engine) as connection:
        return {
            tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table} WHERE patient = ?", (patient,))
        }


def wanted(store: Store, patient: bytes) -> tuple[set[tuple[object, ...]], set[tuple[object, ...]]]:
    """The same, from the records alone."""
    records = [one.record for one in store.patient_records(PatientId(patient))]
    referrals: set[tuple[object, ...]] = set()
    due: set[tuple[object, ...]] = set()
    for one in records:
        if not merge.is_visible(one):
            continue
        view = one.view()
        if one.key.kind == "referral":
            now = referral.progress(one, [other for other in records if other is not one], sent=False)
            section = {"answered": 0, "seen": 2, "closed": 3, "withdrawn": 3}.get(now.status.value, 1)
            rank = {"emergency": 0, "urgent": 1, "routine": 2}.get(str(view.get("urgency")), 1)
            times = (now.saved_ms, now.received_ms, now.answered_ms)
            specialty = view.get("specialty", "")
            asked = referral.unanswered(one, [other for other in records if other is not one]) if section < 3 else None
            told = (one.key.record, patient, section, rank, now.status.value, *times, specialty)
            referrals.add((*told, "HWC000001", now.first_answered_ms, became(one, records), asked))
        if one.key.kind == "follow_up":
            due.add((one.key.record, patient, view.get("due", ""), int(view.get("done") is True), "HWC000001"))
    return referrals, due


def became(one: Record, records: list[Record]) -> str:
    cases = [other.view().get("outcome") for other in records if other.key.record == one.view().get("case")]
    said = [other for other in records if other.key.kind == "acknowledgement" and other.view().get("outcome")]
    words = "in_words" if any(other.view().get("referral") == one.key.record for other in said) else ""
    return next((str(found) for found in cases if found), words)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(steps)
def test_the_rows_are_what_the_records_say(store: Store, given_steps: list[tuple[str, int, str]]) -> None:
    patient, position = fresh_id(), 1
    names = [fresh_id() for _ in range(3)]
    case, latest = fresh_id(), dict[bytes, bytes]()
    claims, due = [fresh_id() for _ in range(3)], [fresh_id() for _ in range(3)]
    for number, (what, which, urgency) in enumerate(given_steps):
        now_ms = NOW_MS + number
        about: dict[str, object] = {"referral": names[which]}
        if what in ("referral", "urgency"):
            asked: dict[str, object] = {"specialty": "ent", "case": case}
            if urgency != "odd":
                asked["urgency"] = urgency
            write(store, PERSON, "referral", asked, record=names[which], patient=patient, now_ms=now_ms)
        elif what == "claim":
            arrive(store, "claim", about, position, record=claims[which], patient=patient, now_ms=now_ms)
        elif what == "release":
            arrive(
                store,
                "claim",
                about | {"released": True},
                position,
                record=claims[which],
                patient=patient,
                now_ms=now_ms,
            )
        elif what == "reply":
            reply = arrive(store, "reply", about | {"mode": "text"}, position, patient=patient, now_ms=now_ms)
            latest[names[which]] = reply.record
        elif what == "asked":
            arrive(store, "message", about | {"text": "Pulse?"}, position, patient=patient, now_ms=now_ms,
                   origin=Writer.DOCTOR)  # fmt: skip
        elif what == "said":
            write(store, PERSON, "message", about | {"text": "72"}, patient=patient, now_ms=now_ms)
        elif what in ("seen", "outcome"):
            said: dict[str, object] = {"seen": True} if what == "seen" else {"outcome": "well"}
            if names[which] in latest:
                said["reply"] = latest[names[which]]
            write(store, PERSON, "acknowledgement", about | said, patient=patient, now_ms=now_ms)
        elif what == "ended":
            chosen = ("recovered", "died", "under_care")[which]
            write(store, PERSON, "case", {"outcome": chosen}, record=case, patient=patient, now_ms=now_ms)
        elif what in ("withdrawn", "hidden"):
            field = {"withdrawn": {"withdrawn": {"withdrawn": True}}, "hidden": {"entered_in_error": {"hidden": True}}}
            write(store, PERSON, "referral", field[what], record=names[which], patient=patient, now_ms=now_ms)
        elif what in ("follow_up", "done"):
            said = {"due": f"2026-02-0{which + 1}"} if what == "follow_up" else {"done": True}
            write(store, PERSON, "follow_up", said, record=due[which], patient=patient, now_ms=now_ms)
        else:
            for kept in store.patient_records(PatientId(patient)):
                give_positions(store, kept.key, position)
                position += len(kept.kept)
        position += 1
    assert (rows(store, "referral_work", patient), rows(store, "follow_up_work", patient)) == wanted(store, patient)
    with begin_write(store.engine) as connection:
        worklist.forget(connection, PatientId(patient))
    assert not rows(store, "referral_work", patient)
    with begin_write(store.engine) as connection:
        worklist.refresh(connection, [PatientId(patient)])
    assert (rows(store, "referral_work", patient), rows(store, "follow_up_work", patient)) == wanted(store, patient)


@pytest.mark.parametrize("closed", [False, True])
def test_a_correction_that_comes_after_the_answer_was_read_is_unread_also_where_it_was_closed(
    store: Store, closed: bool
) -> None:
    patient, referred = fresh_id(), fresh_id()
    about: dict[str, object] = {"referral": referred}

    def section() -> tuple[object, object, object]:
        (row,) = rows(store, "referral_work", patient)
        return row[2], row[4], row[7]

    def acknowledge(reply: bytes, said: dict[str, object], now_ms: int) -> None:
        write(store, PERSON, "acknowledgement", about | {"reply": reply} | said, patient=patient, now_ms=now_ms)

    write(store, PERSON, "referral", {"specialty": "ent", "urgency": "urgent"}, record=referred, patient=patient)
    first = arrive(store, "reply", about | {"mode": "text"}, 1, patient=patient, now_ms=NOW_MS + 10)
    acknowledge(first.record, {"seen": True} | ({"outcome": "well"} if closed else {}), NOW_MS + 20)
    read = (worklist.FINISHED, "closed", NOW_MS + 10) if closed else (worklist.READ, "seen", NOW_MS + 10)
    assert section() == read
    wrong = {"mode": "text", "corrects": first.record, "correction_reason": "wrong dose"}
    second = arrive(store, "reply", about | wrong, 2, patient=patient, now_ms=NOW_MS + 30)
    assert section() == (worklist.UNREAD, "answered", NOW_MS + 30)
    acknowledge(first.record, {"seen": True}, NOW_MS + 40)
    assert section() == (worklist.UNREAD, "answered", NOW_MS + 30), "the page that was read showed the first answer"
    acknowledge(second.record, {"seen": True}, NOW_MS + 50)
    assert section() == (read[0], read[1], NOW_MS + 30)
