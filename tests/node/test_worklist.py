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
from tests.node.enrolled_home import NOW_MS, PERSON, arrive, fresh_id, give_positions, make_home, write

URGENCIES = ("emergency", "urgent", "routine", "odd")
steps = st.lists(
    st.tuples(
        st.sampled_from(["referral", "urgency", "claim", "release", "reply", "seen", "outcome", "withdrawn", "hidden",
                         "follow_up", "done", "received"]),
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
            referrals.add((one.key.record, patient, section, rank, now.status.value, *times, specialty))
        if one.key.kind == "follow_up":
            due.add((one.key.record, patient, view.get("due", ""), int(view.get("done") is True)))
    return referrals, due


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(steps)
def test_the_rows_are_what_the_records_say(store: Store, given_steps: list[tuple[str, int, str]]) -> None:
    patient, position = fresh_id(), 1
    names = [fresh_id() for _ in range(3)]
    claims, due = [fresh_id() for _ in range(3)], [fresh_id() for _ in range(3)]
    for number, (what, which, urgency) in enumerate(given_steps):
        now_ms = NOW_MS + number
        about: dict[str, object] = {"referral": names[which]}
        if what in ("referral", "urgency"):
            write(store, PERSON, "referral", {"urgency": urgency, "specialty": "ent"} if urgency != "odd" else
                  {"specialty": "ent"}, record=names[which], patient=patient, now_ms=now_ms)  # fmt: skip
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
            arrive(store, "reply", about | {"mode": "text"}, position, patient=patient, now_ms=now_ms)
        elif what in ("seen", "outcome"):
            said: dict[str, object] = {"seen": True} if what == "seen" else {"outcome": "well"}
            write(store, PERSON, "acknowledgement", about | said, patient=patient, now_ms=now_ms)
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
