"""The ledger: what a restored hub must not have forgotten. Altered, cut or lengthened by another, it is not believed."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from hub_server import facilities, nodes, people, recovery, registry
from hub_server.database import Database
from hub_server.facilities import Facility
from hub_server.ledger import Ledger
from hub_server.people import Person, Role
from hub_server.vault import Vault, load_or_make
from sync_protocol.change import FacilityCode, NodeId, PersonId
from sync_protocol.errors import NeedsPerson
from sync_protocol.keys import EnvironmentId, Identity
from tests.hub.bare_node import NOW_MS, BareNode

SIGNER = Identity(b"l" * 32)
ENVIRONMENT = EnvironmentId(b"tests of ledgers")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger" / "ledger.txt"


@pytest.fixture
def ledger(path: Path) -> Ledger:
    return Ledger(path, SIGNER, ENVIRONMENT)


def filled(ledger: Ledger, count: int = 5) -> list[int]:
    return [ledger.append("revoked", {"node": f"{at:032x}", "reason": "stolen"}, NOW_MS + at) for at in range(count)]


def damage(ledger: Ledger) -> str:
    with pytest.raises(NeedsPerson) as caught:
        list(ledger.lines())
    return caught.value.code


def test_lines_come_back_in_order_and_only_those_asked_for(ledger: Ledger, path: Path) -> None:
    assert ledger.last == 0
    assert list(ledger.lines()) == []
    assert filled(ledger) == [1, 2, 3, 4, 5]
    assert [line.seq for line in ledger.lines()] == [1, 2, 3, 4, 5]
    assert [line.body["node"] for line in ledger.lines(after=3)] == [f"{3:032x}", f"{4:032x}"]
    assert ledger.last == 5
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_line_altered_taken_out_put_in_or_moved_is_found(ledger: Ledger, path: Path) -> None:
    filled(ledger)
    lines = path.read_bytes().splitlines(keepends=True)
    other = Ledger(path.with_name("other.txt"), Identity(b"o" * 32), ENVIRONMENT)
    filled(other)
    foreign = path.with_name("other.txt").read_bytes().splitlines(keepends=True)
    for changed in (
        [lines[0].replace(b"stolen", b"stolem"), *lines[1:]],
        lines[1:],
        [*lines[:2], *lines[3:]],
        [lines[1], lines[0], *lines[2:]],
        [*lines[:2], lines[1], *lines[2:]],
        [*lines[:2], foreign[2], *lines[3:]],
        [b"not a line at all\n", *lines],
        [b"[" * 10_000 + b"\n"],
    ):
        path.write_bytes(b"".join(changed))
        assert damage(ledger) == "E_LEDGER_DAMAGED"
    path.write_bytes(b"".join(lines))
    assert len(list(ledger.lines())) == 5


def test_a_last_line_that_a_power_cut_left_half_is_written_over(ledger: Ledger, path: Path) -> None:
    filled(ledger, 2)
    whole = path.read_bytes()
    for size in (1, 40, 200):
        path.write_bytes(whole + whole[:size])
        assert [line.seq for line in ledger.lines()] == [1, 2]
        assert ledger.append("revoked", {"node": "", "reason": ""}, NOW_MS) == 3
        assert [line.seq for line in ledger.lines()] == [1, 2, 3]
        path.write_bytes(whole)


def test_several_writers_make_one_chain(path: Path) -> None:
    def write() -> None:
        own = Ledger(path, SIGNER, ENVIRONMENT)
        for _ in range(25):
            own.append("revoked", {"node": os.urandom(16).hex(), "reason": ""}, NOW_MS)

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [line.seq for line in Ledger(path, SIGNER, ENVIRONMENT).lines()] == list(range(1, 101))


# -- replayed ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def database(database_url: str) -> Database:
    made = Database(database_url)
    made.migrate()
    return made


@pytest.fixture
def vault(tmp_path: Path, path: Path) -> Vault:
    identity = load_or_make(tmp_path / "keys", NOW_MS)
    return Vault(identity, ledger=Ledger(path, identity.signing, identity.environment))


def life(database: Database, vault: Vault) -> tuple[BareNode, BareNode]:
    """A facility, a doctor who was disabled, a node that works and one that was revoked, with notes in the ledger."""
    rao = Person(PersonId(b"p" * 16), "dr.rao", "Dr Rao", Role.DOCTOR, ("ent",), "MBBS", "KMC 1", NOW_MS)
    with database.transaction() as connection:
        facilities.add(connection, vault, Facility("HWC1", "Rampur", "Sehore", "MP"), NOW_MS)
        people.add(connection, rao)
        vault.note(connection, "person", people.as_noted(rao), NOW_MS)
        people.disable(connection, "dr.rao", NOW_MS + 1)
        vault.note(connection, "person_disabled", {"login": "dr.rao"}, NOW_MS + 1)
    working, stolen = (BareNode(vault, FacilityCode("HWC1")) for _ in range(2))
    for node in (working, stolen):
        node.enrol(database)
    with database.transaction() as connection:
        assert nodes.revoke(connection, vault, stolen.node, "stolen", NOW_MS + 2)
    return working, stolen


def standing(database: Database) -> list[list[object]]:
    queries = (
        "SELECT facility, name, district, state FROM facility",
        "SELECT node, facility, certificate, revoked_ms IS NULL, revoked_reason FROM node ORDER BY node",
        "SELECT person, login, role, specialties, disabled_ms FROM person",
        "SELECT facility, position FROM feed",
    )
    with database.transaction() as connection:
        return [list(connection.execute(query.encode()).fetchall()) for query in queries]


def emptied(database: Database) -> None:
    with database.transaction() as connection:
        for table in ("node", "enrolment_code", "feed", "facility", "person", "setting"):
            connection.execute(f"DELETE FROM {table}".encode())


def test_an_empty_database_learns_everything_and_once(database: Database, vault: Vault) -> None:
    working, stolen = life(database, vault)
    before = standing(database)
    assert recovery.replay(database, vault) == 0
    emptied(database)
    assert recovery.replay(database, vault) == 6
    assert standing(database) == before
    assert recovery.replay(database, vault) == 0
    with database.transaction() as connection:
        assert not nodes.find(connection, working.node).revoked
        assert nodes.find(connection, stolen.node).revoked
    assert vault.ledger is not None
    assert vault.ledger.last == 6, "replaying is no news"


def test_what_is_there_already_is_left_as_it_is(database: Database, vault: Vault) -> None:
    life(database, vault)
    before = standing(database)
    with database.transaction() as connection:
        connection.execute("DELETE FROM setting WHERE key = 'ledger'")
    assert recovery.replay(database, vault) == 6
    assert standing(database) == before


def test_a_revocation_that_was_taken_back_stays_so(database: Database, vault: Vault) -> None:
    _, stolen = life(database, vault)
    with database.transaction() as connection:
        assert registry.take_back_revocation(connection, vault, NodeId(stolen.node), NOW_MS + 3)[0]
    emptied(database)
    recovery.replay(database, vault)
    with database.transaction() as connection:
        assert not nodes.find(connection, stolen.node).revoked


def test_a_line_of_a_newer_program_is_not_passed_over(database: Database, vault: Vault) -> None:
    assert vault.ledger is not None
    vault.ledger.append("moved", {"patient": "x"}, NOW_MS)
    with pytest.raises(NeedsPerson) as caught:
        recovery.replay(database, vault)
    assert caught.value.code == "E_LEDGER_NEWER"
