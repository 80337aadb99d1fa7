"""The store: what is saved is saved whole, what is read is one moment's truth, and what was computed stays true."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import given
from hypothesis import strategies as st

from hwc_node import config as settings
from hwc_node import ledger, migrations, standing
from hwc_node.engine import PAGE_BYTES, begin_read, begin_write
from hwc_node.ledger import Arrived
from hwc_node.store import Store, SyncState, WriteRequest
from hwc_node.tables import NodeRow
from sync_protocol import merge
from sync_protocol.change import Change, PatientId, RecordId, RecordKey
from sync_protocol.errors import HealthSyncError, InvalidValue, NeedsPerson, NotAllowed
from sync_protocol.feed_page import Position
from sync_protocol.hlc import MAX_TIME_MS
from sync_protocol.merge import Held
from tests import strategies as some
from tests.node.enrolled_home import put_empty_database
from tests.node.paper_hub import NOW_MS, PaperHub
from tests.node.paper_node import DATABASE_KEY, PERSON, PaperNode


@pytest.fixture
def node(tmp_path: Path) -> Iterator[PaperNode]:
    made = PaperNode.make(PaperHub(), tmp_path)
    yield made
    made.store.close()


def _patient(name: bytes) -> RecordKey:
    return RecordKey("patient", RecordId(name))


# -- writing -----------------------------------------------------------------------------------------------------------


def test_what_is_saved_is_there_after_the_program_ended(node: PaperNode) -> None:
    saved = node.write("patient", {"name": "सीता", "village": "Rampur"})
    node.store.close()
    with Store.open(node.store.config, DATABASE_KEY) as again:
        found = again.record(saved.key)
        assert found is not None and found.record.view() == {"name": "सीता", "village": "Rampur"}
        assert (found.sync, found.sent, found.patient) == (SyncState.SAVED, False, saved.patient)
        assert [one.held.change for one in again.changes()] == [saved]


def test_stamps_never_go_back_whatever_the_clock_does(node: PaperNode) -> None:
    stamps = []
    for now_ms in (NOW_MS, 0, -5, MAX_TIME_MS, NOW_MS, 1):
        node.now_ms = now_ms
        stamps.append(node.write().hlc)
        node.store.close()
        node.store = Store.open(node.store.config, DATABASE_KEY)
    assert stamps == sorted(set(stamps))


def test_a_salt_is_drawn_once_for_each_session_and_patient(node: PaperNode) -> None:
    patient = node.write()
    same = node.write("case", {"history": "x"}, patient=patient.record)
    other = node.write()
    assert patient.salt == same.salt != other.salt
    node.store.close()
    node.store = Store.open(node.store.config, DATABASE_KEY)
    assert node.write("case", {"history": "x"}, patient=patient.record).salt != patient.salt


def test_a_refused_request_spoils_no_other(node: PaperNode) -> None:
    patient = PatientId(os.urandom(16))
    vitals = RecordKey("vitals", RecordId(os.urandom(16)))
    asked = [
        WriteRequest(_patient(patient), patient, {"name": "Sita"}),
        WriteRequest(RecordKey("reply", RecordId(os.urandom(16))), patient, {"advice": "rest"}),
        WriteRequest(vitals, patient, {"pulse_bpm": 80}),
        WriteRequest(vitals, patient, {"pulse_bpm": 90}),
        WriteRequest(_patient(patient), patient, {"naem": "Gita"}),
        WriteRequest(_patient(patient), patient, {"village": "Rampur"}),
    ]
    results = node.store.write(PERSON, asked, NOW_MS)
    codes = [one.code if isinstance(one, HealthSyncError) else one.kind for one in results]
    assert codes == ["patient", "E_NOT_OURS", "vitals", "E_IMMUTABLE", "E_UNKNOWN_FIELD", "patient"]
    assert [one.held.change for one in node.store.changes()] == [one for one in results if isinstance(one, Change)]
    with pytest.raises(NotAllowed), node.store.writing(NOW_MS) as block:
        block.author(PERSON, RecordKey("reply", RecordId(os.urandom(16))), patient, {"advice": "rest"})


def test_a_block_left_by_an_error_keeps_nothing(node: PaperNode) -> None:
    def half() -> None:
        with node.store.writing(NOW_MS) as block:
            block.author(PERSON, _patient(b"p" * 16), PatientId(b"p" * 16), {"name": "Sita"})
            raise InvalidValue("the form was left")

    with pytest.raises(InvalidValue):
        half()
    assert list(node.store.changes()) == [] and list(node.store.records()) == []


def test_a_block_sees_what_it_wrote_itself(node: PaperNode) -> None:
    key, patient = _patient(b"p" * 16), PatientId(b"p" * 16)
    with node.store.writing(NOW_MS) as block:
        assert block.records([key, _patient(b"q" * 16)]) == {}
        first = block.author(PERSON, key, patient, {"name": "Sita"})
        seen = block.record(key)
        assert seen is not None and seen.view() == {"name": "Sita"}
        block.author(PERSON, key, patient, {"name": "Gita"}, {"name": [first.id]})
    found = node.store.record(key)
    assert found is not None and found.record.view() == {"name": "Gita"} and not found.record.conflicts()


def test_two_programs_write_at_once_and_both_are_kept(node: PaperNode) -> None:
    with Store.open(node.store.config, DATABASE_KEY) as other:
        for at in range(5):
            for store in (node.store, other):
                store.write(PERSON, [WriteRequest(_patient(bytes([at]) * 16), PatientId(b"p" * 16), {"name": "S"})], at)
    changes = [one.held.change for one in node.store.changes()]
    assert len(changes) == 10 and len({one.hlc for one in changes}) == 10


# -- reading -----------------------------------------------------------------------------------------------------------


def test_streams_are_whole_in_order_and_by_patient_and_kind(node: PaperNode) -> None:
    patients = node.write_many(450)
    of_one = [node.write("case", {"history": f"{at}"}, patient=patients[7].record) for at in range(3)]
    everything = [*patients, *of_one]
    assert [one.held.change for one in node.store.changes()] == everything
    assert [one.held.change for one in node.store.changes(kind="case")] == of_one
    assert [one.held.change for one in node.store.changes(patient=patients[7].patient)] == [patients[7], *of_one]
    keys = [one.key for one in node.store.records()]
    assert keys == sorted({one.key for one in everything}, key=lambda key: (key.kind, key.record))
    assert [one.key for one in node.store.records(kind="case", patient=patients[8].patient)] == []
    assert len(node.store.patient_records(patients[7].patient)) == 4
    assert node.store.keys_of(patients[7].record) == [patients[7].key]
    assert node.store.record(_patient(b"nobody" + bytes(10))) is None


def test_conflicts_are_found_and_counted_until_one_write_names_both(node: PaperNode) -> None:
    case = RecordId(os.urandom(16))
    one = node.write("case", {"plan": "rest"}, record=case)
    two = node.write("case", {"plan": "refer"}, record=case)
    assert [each.key for each in node.store.conflicts()] == [one.key] and standing.conflicts_open(node.store) == 1
    node.write("case", {"plan": "refer"}, record=case, shown={"plan": [one.id, two.id]})
    assert list(node.store.conflicts()) == [] and standing.conflicts_open(node.store) == 0


def test_a_record_entered_in_error_is_hidden_in_its_row(node: PaperNode) -> None:
    case = node.write("case", {"plan": "rest"})
    shown = {"hidden": True, "shown": [case.id]}
    node.write("case", {"entered_in_error": shown}, record=case.record)
    with begin_read(node.store.engine) as connection:
        assert connection.exec_driver_sql("SELECT hidden FROM record").scalar() == 1
    node.write("case", {"history": "late"}, record=case.record)
    with begin_read(node.store.engine) as connection:
        assert connection.exec_driver_sql("SELECT hidden FROM record").scalar() == 0


def test_odd_times_are_kept_and_only_the_columns_are_clipped(node: PaperNode) -> None:
    node.now_ms = 1 << 80
    for at_ms in (-(1 << 63), 0, (1 << 64) - 1):
        found = node.kept(node.write("case", {"history": "x", "at": at_ms}))
        assert found.at_ms == at_ms
    assert standing.standing(node.store).oldest_pending_ms == MAX_TIME_MS


# -- what is computed --------------------------------------------------------------------------------------------------


class _Shelf:
    """One store for many examples: emptied before each."""

    def __init__(self, folder: Path) -> None:
        config = settings.load(folder, {})
        settings.make_folders(config)
        put_empty_database(config, DATABASE_KEY)
        self.store = Store.open(config, DATABASE_KEY)

    def keep(self, batch: list[Held], position: int) -> None:
        with begin_write(self.store.engine) as connection:
            keys = [held.change.key for held in batch]
            arrived = [
                Arrived(held, Position(position + at) if held.receipt_ms is not None else None, bytes(8))
                for at, held in enumerate(batch)
            ]
            ledger.keep(connection, ledger.load(connection, keys), arrived)

    def empty(self) -> None:
        with begin_write(self.store.engine) as connection:
            for table in ("change", "record", "patient_digest"):
                connection.exec_driver_sql(f"DELETE FROM {table}")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Shelf]:
    made = _Shelf(tmp_path_factory.mktemp("shelf"))
    yield made
    made.store.close()


@given(st.lists(some.histories(), min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_rows_and_digests_are_what_folding_everything_gives(
    shelf: _Shelf, histories: list[list[Held]], random: Random
) -> None:
    shelf.empty()
    everything = [held for history in histories for held in history]
    random.shuffle(everything)
    for at, batch in enumerate((everything[::2], everything[1::2], everything[:3])):
        shelf.keep(batch, at * 100 + 1)
    digests: dict[bytes, int] = {}
    for key in {held.change.key for held in everything}:
        record = merge.fold(key, (held for held in everything if held.change.key == key))
        for patient, part in merge.digests_by_patient(key, record.changes.values()).items():
            digests[patient] = digests.get(patient, 0) + part
        found = shelf.store.record(key)
        assert found is not None
        assert found.record.changes == record.changes and found.record.live == record.live
        _assert_row(shelf, record)
    with begin_read(shelf.store.engine) as connection:
        rows = connection.exec_driver_sql("SELECT patient, digest FROM patient_digest")
        stored: dict[bytes, bytes] = {row[0]: row[1] for row in rows}
    wanted = {patient: value % (1 << 128) for patient, value in digests.items()}
    assert {patient: int.from_bytes(raw, "big") for patient, raw in stored.items() if any(raw)} == {
        patient: value for patient, value in wanted.items() if value
    }


def _assert_row(shelf: _Shelf, record: merge.Record) -> None:
    with begin_read(shelf.store.engine) as connection:
        patient, conflicts, hidden = connection.exec_driver_sql(
            "SELECT patient, conflicts, hidden FROM record WHERE kind = ? AND record = ?",
            (record.key.kind, record.key.record),
        ).one()
    assert (patient, conflicts) == (record.patient, len(record.conflicts()))
    assert bool(hidden) == ledger.is_hidden(record)


def test_integrity_finds_a_digest_and_bytes_that_are_not_true(node: PaperNode) -> None:
    node.write()
    assert standing.integrity(node.store) == [] and standing.dangling(node.store) == 0
    with begin_write(node.store.engine) as connection:
        connection.exec_driver_sql("UPDATE change SET id = ?", (b"not its hash ...",))
        connection.exec_driver_sql("INSERT INTO patient_digest VALUES (?, ?)", (b"p" * 16, b"d" * 16))
    assert [one.code for one in standing.integrity(node.store)] == ["E_DB_CORRUPT", "E_DIGEST"]


def test_integrity_finds_a_flipped_bit_on_any_page_in_use(node: PaperNode) -> None:
    node.write_many(60)
    path, config = node.store.config.database_path, node.store.config
    node.store.close()
    raw = path.read_bytes()
    for page in range(20, len(raw) // PAGE_BYTES, 7):
        path.write_bytes(raw)
        with Store.open(config, DATABASE_KEY) as store:
            assert standing.integrity(store) == []  # so that the page was read once and is in memory
            flipped = bytearray(raw)
            flipped[page * PAGE_BYTES - 500] ^= 1
            path.write_bytes(flipped)
            assert [one.code for one in standing.integrity(store)] == ["E_DB_CORRUPT"], page


# -- the schema --------------------------------------------------------------------------------------------------------


def test_the_tables_are_what_the_migrations_make(node: PaperNode) -> None:
    with begin_read(node.store.engine) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        assert compare_metadata(context, NodeRow.metadata) == []
        assert migrations.version(connection) == migrations.HEAD
    steps = Config()
    steps.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(steps).get_heads() == [migrations.HEAD]


def test_a_database_newer_than_the_program_is_refused_and_left_alone(node: PaperNode) -> None:
    saved = node.write()
    with begin_write(node.store.engine) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    before = [tuple(row) for row in _schema(node.store)]
    with pytest.raises(NeedsPerson) as refused:
        Store.open(node.store.config, DATABASE_KEY)
    assert refused.value.code == "E_DB_NEWER"
    assert [tuple(row) for row in _schema(node.store)] == before
    with begin_write(node.store.engine) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = ?", (migrations.HEAD,))
    with Store.open(node.store.config, DATABASE_KEY) as again:
        assert again.record(saved.key) is not None


def _schema(store: Store) -> list[tuple[object, ...]]:
    with begin_read(store.engine) as connection:
        query = "SELECT name, sql FROM sqlite_schema UNION SELECT version_num, '' FROM alembic_version"
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def test_a_home_that_is_not_enrolled_says_so(tmp_path: Path) -> None:
    config = settings.load(tmp_path, {})
    settings.make_folders(config)
    with Store.open(config, DATABASE_KEY, create=True) as store:
        with pytest.raises(NeedsPerson) as refused, store.writing(NOW_MS):
            pass
        assert refused.value.code == "E_NOT_ENROLLED"
        now = standing.standing(store)
        assert (now.node, now.hub_url, now.pending_changes, now.digest) == (None, "", 0, 0)
