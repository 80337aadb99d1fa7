"""The way to PostgreSQL: its condition told in the project's words, the schema as written down, no table read through."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlmodel import SQLModel

from hub_server import charts, tables
from hub_server.cli import console
from hub_server.cli.console import Status, exit_status
from hub_server.database import HEAD, STEPS, Database, DatabaseAway
from sync_protocol import documents
from sync_protocol.errors import OurFault
from tests.hub.command_line import Terminal
from tests.hub.test_cli import hub as hub  # the fixture
from tests.hub.test_consults import Ward
from tests.hub.test_consults import ward as ward

SECRET = "Savitri"


def raising(state: str) -> str:
    """A statement that fails as the server would, with words that nobody may see."""
    return f"DO $$ BEGIN RAISE EXCEPTION '{SECRET}' USING ERRCODE = '{state}'; END $$"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url, pool_size=1, pool_wait_s=0.2)
    made.migrate()
    yield made
    made.close()


# -- the server's condition --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "code", "status"),
    [
        ("53100", "E_DISK_FULL", Status.ERROR),
        ("53200", "E_PG_BUSY", Status.UNREACHABLE),
        ("53300", "E_PG_BUSY", Status.UNREACHABLE),
        ("40001", "E_PG_BUSY", Status.UNREACHABLE),
        ("40P01", "E_PG_BUSY", Status.UNREACHABLE),
        ("55P03", "E_PG_BUSY", Status.UNREACHABLE),
        ("57014", "E_PG_BUSY", Status.UNREACHABLE),
        ("57P01", "E_PG_UNREACHABLE", Status.UNREACHABLE),
        ("57P03", "E_PG_UNREACHABLE", Status.UNREACHABLE),
        ("08006", "E_PG_UNREACHABLE", Status.UNREACHABLE),
        ("58030", "E_PG_UNREACHABLE", Status.UNREACHABLE),
        ("25006", "E_PG_READ_ONLY", Status.ERROR),
    ],
)
def test_what_befalls_the_server_is_a_coded_error_with_a_next_step(
    database: Database, capfd: pytest.CaptureFixture[str], state: str, code: str, status: Status
) -> None:
    with pytest.raises(DatabaseAway) as caught, database.transaction() as connection:
        connection.execute(raising(state).encode())
    error = caught.value
    assert (error.code, exit_status(error)) == (code, status)
    assert isinstance(error, OurFault)
    assert isinstance(error, psycopg.OperationalError)  # what waits for the driver's own waits for it too
    assert SECRET not in error.message
    console.complain(error)
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 2
    assert told[0].startswith("hub: ")
    assert told[0].endswith(f". [{code}]")
    assert SECRET not in "".join(told)
    with database.transaction() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_an_error_of_the_statement_is_not_the_servers_condition(database: Database) -> None:
    for statement, kind in (
        ("SELECT 1/0", psycopg.errors.DivisionByZero),
        (raising("54000"), psycopg.errors.ProgramLimitExceeded),
        (raising("23505"), psycopg.errors.UniqueViolation),
    ):
        with pytest.raises(kind) as caught, database.transaction() as connection:
            connection.execute(statement.encode())
        assert not isinstance(caught.value, DatabaseAway)


def test_a_connection_that_breaks_off_is_told_and_the_next_one_works(database: Database) -> None:
    with pytest.raises(DatabaseAway) as caught, database.transaction() as connection:
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert caught.value.code == "E_PG_UNREACHABLE"
    assert database.is_ready()


def test_a_connection_that_broke_while_idle_is_not_noticed(database: Database, database_url: str) -> None:
    assert database.is_ready()
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert database.is_ready()


def test_all_connections_in_use_is_told_as_busy(database: Database) -> None:
    with (
        database.transaction(),
        database.transaction(),
        pytest.raises(DatabaseAway) as caught,
        database.transaction(),
    ):
        pass
    assert caught.value.code == "E_PG_BUSY"


def test_a_server_that_takes_no_more_connections_is_told_as_busy(empty_database_url: str) -> None:
    database_url = empty_database_url
    name = database_url.rsplit("/", 1)[1].partition("?")[0]
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 1".encode())
        database = Database(database_url)
        with pytest.raises(DatabaseAway) as caught, database.transaction():
            pass
        assert caught.value.code == "E_PG_BUSY"
        with pytest.raises(DatabaseAway):
            database.migrate()
        assert not database.is_ready()
        owner.execute(f"ALTER DATABASE {name} CONNECTION LIMIT -1".encode())
    assert Database(database_url).is_ready() is False  # it has no table yet
    database.migrate()
    assert database.is_ready()
    database.close()


def test_a_command_on_a_full_disk_says_so_and_can_be_repeated(hub: Terminal, database_url: str) -> None:
    assert hub("facility", "list").status == 0
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(failing_table("facility", "53100").encode())
        answer = hub("facility", "add", "HWC1", "HWC Rampur")
        assert answer.status == 1
        assert answer.err.startswith(
            "hub: The disk that holds the hub's database is full. [E_DISK_FULL]\n     Make room"
        )
        assert SECRET not in answer.err
        owner.execute("DROP TRIGGER failing ON facility")
    assert hub("facility", "add", "HWC1", "HWC Rampur").status == 0


def failing_table(table: str, state: str) -> str:
    """Statements after which each new row of the table fails with that state."""
    return (
        f"CREATE OR REPLACE FUNCTION failing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" RAISE EXCEPTION '{SECRET}' USING ERRCODE = '{state}'; END $$;"
        f"CREATE TRIGGER failing BEFORE INSERT ON {table} EXECUTE FUNCTION failing()"
    )


# -- the schema --------------------------------------------------------------------------------------------------------


def test_the_migrations_make_the_tables_that_are_written_down(database: Database, database_url: str) -> None:
    ours = {getattr(one, "__tablename__", None) for one in vars(tables).values() if isinstance(one, type)}

    def is_ours(_object: Any, name: str | None, kind: str, reflected: bool, _other: Any) -> bool:
        return kind != "table" or name in ours or (reflected and name != "alembic_version")

    engine = create_engine(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": is_ours, "compare_type": False})
        assert compare_metadata(context, SQLModel.metadata) == []
        assert context.get_current_revision() == HEAD
    engine.dispose()
    steps = Config()
    steps.set_main_option("script_location", str(STEPS))
    assert ScriptDirectory.from_config(steps).get_heads() == [HEAD]


FILL = """
INSERT INTO facility SELECT 'F' || n, 'x', '', '', 0, '' FROM generate_series(1, 3000) n;
INSERT INTO feed SELECT 'F' || n, 20, '' FROM generate_series(1, 3000) n;
INSERT INTO patient SELECT uuid_send(md5(n::text)::uuid), 'F' || n % 3000, '', 0 FROM generate_series(1, 20000) n;
INSERT INTO subscription SELECT facility, patient, '', true, 0 FROM patient;
INSERT INTO item SELECT facility, row_number() OVER (PARTITION BY facility), patient, patient, patient, 'case', 0, 0,
    '', '', '', 0, '' FROM patient;
INSERT INTO referral SELECT facility, patient, patient, 'ent', 1, 'closed', 0, NULL, NULL, NULL, facility, '' FROM patient;
INSERT INTO claim_lock SELECT facility, patient, patient, 0 FROM patient;
INSERT INTO conflicted SELECT facility, patient, 'case', patient, 1, 0 FROM patient;
INSERT INTO node SELECT patient, facility, '', '', '', '', 0, NULL, '', 0, 0, 0, '' FROM patient;
INSERT INTO handed_nonce SELECT patient, patient, '', false FROM patient;
INSERT INTO enrolment_code SELECT patient, facility, 0, 0 FROM patient;
INSERT INTO grant_key SELECT patient, patient, 'to-hub', '', '', 0 FROM patient;
INSERT INTO arrival SELECT patient, patient, 0, facility, 1, patient, 0, 'admitted', '', 0, '' FROM patient;
INSERT INTO quarantine SELECT nextval('quarantine_id_seq'), facility, patient, patient, 0, NULL, '', 'E', 0, 'open'
    FROM patient;
INSERT INTO person SELECT patient, encode(patient, 'hex'), '', '', '', '', '', 0, 0 FROM patient;
INSERT INTO audit (at_ms, actor, verb, facility, subject, hash) SELECT 0, '', '', '', '', '' FROM patient;
INSERT INTO draft SELECT facility, patient, patient, patient, '', 0 FROM patient;
INSERT INTO glass SELECT facility, patient, patient, patient, patient, '', 0, 0, NULL, NULL FROM patient;
ANALYZE
"""


class Overheard:
    """What the driver was asked to do, to be asked again how it would be done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.statements: dict[str, Any] = {}
        for kind in (psycopg.Cursor, psycopg.ServerCursor):
            monkeypatch.setattr(kind, "execute", self._listening(kind.execute))

    def _listening(self, execute: Any) -> Any:
        def executing(cursor: Any, query: Any, params: Any = None, **named: Any) -> Any:
            text = query.decode() if isinstance(query, bytes) else str(query)
            if text.startswith(("SELECT", "UPDATE", "DELETE", "INSERT")):
                self.statements.setdefault(text, params)
            return execute(cursor, query, params, **named)

        return executing

    def read_through(self, database: Database) -> list[str]:
        """The statements that read a table from end to end, with the table's name."""
        found = []
        heard = dict(self.statements)
        with database.transaction() as connection:
            for text, params in heard.items():
                row = connection.execute(f"EXPLAIN (FORMAT JSON) {text}".encode(), params).fetchone()
                assert row is not None
                found += [f"{table}: {text}" for table in scanned(row[0][0]["Plan"]) if table != "setting"]
        return found


def scanned(plan: dict[str, Any]) -> Iterator[str]:
    if plan["Node Type"] == "Seq Scan":
        yield plan["Relation Name"]
    for inner in plan.get("Plans", ()):
        yield from scanned(inner)


def test_an_exchange_admission_and_the_doctors_verbs_read_no_table_through(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ward.world.database.transaction() as connection:
        for statement in FILL.split(";"):
            connection.execute(statement.encode())
    overheard = Overheard(monkeypatch)
    node = ward.world.node("HWC1")
    name, (patient, _, _) = ward.refer(node)
    shown = {"name": [bytes(patient.id)]}
    rivals = [node.write("patient", {"name": text}, record=patient.record, shown=shown) for text in ("A", "B")]
    bad = node.write("patient", {"name": "C"}, record=patient.record)
    ward.send(node, *rivals)
    stranger = ward.world.node("HWC1")
    ward.send(stranger, bad)
    ward.received(node)
    ward.claim("rao", name)
    ward.release("rao", name)
    ward.reply("rao", name)
    store = ward.world.store
    list(charts.read_charts(store, ward.queue(statuses=["answered"], limit=20), "person rao", ward.tick()))
    conflict = f"patient/{documents.id_text(patient.record)}/name"
    charts.find_conflict(store, "person rao", conflict, ward.tick())
    assert len(overheard.statements) > 30
    assert any("state = 'kept' ORDER BY lane" in text for text in overheard.statements)
    assert overheard.read_through(ward.world.database) == []


def test_a_socket_in_a_folder_with_a_space_is_found_outside_of_transactions_too(
    database_url: str, hub_folder: Path
) -> None:
    """A home's name may have one, and the socket of the hub's own PostgreSQL lies there."""
    parts = urlsplit(database_url)
    named = parse_qs(parts.query)
    spaced = hub_folder / "the hub's home"
    spaced.symlink_to(named["host"][0])
    url = parts._replace(query=f"host={quote(str(spaced), safe='')}&port={named['port'][0]}").geturl()
    database = Database(url)
    with database.transaction() as connection, database.outside_transactions() as other:
        assert connection.info.dbname == other.info.dbname
    database.close()
