"""The audit chain: it grows in order, also under many hands, and whoever touches a row is found."""

from __future__ import annotations

import threading

import pytest

from hub_server import audit
from hub_server.audit import Entry
from hub_server.database import Database
from sync_protocol.errors import OurFault

NOW_MS = 1_700_000_000_000


@pytest.fixture
def database(database_url: str) -> Database:
    made = Database(database_url)
    made.migrate()
    return made


def fill(database: Database, count: int = 5) -> None:
    for number in range(count):
        with database.transaction() as connection:
            audit.note(connection, "person dr.rao", "read referral", "HWC1", bytes([number]) * 16, NOW_MS + number)


def verified(database: Database) -> audit.Verified:
    with database.transaction() as connection:
        return audit.verify(connection)


def test_an_empty_chain_holds(database: Database) -> None:
    assert verified(database) == audit.Verified(0, None, audit.FIRST_HASH)


def test_entries_are_numbered_without_a_gap_and_the_chain_holds(database: Database) -> None:
    fill(database)
    with database.transaction() as connection:
        audit.note_all(connection, [Entry("operator root", "export", ""), Entry("operator root", "export", "HWC1")], 1)
        numbers = [row[0] for row in connection.execute("SELECT seq FROM audit ORDER BY seq").fetchall()]
    assert numbers == [1, 2, 3, 4, 5, 6, 7]
    found = verified(database)
    assert (found.rows, found.broken_at) == (7, None)
    with database.transaction() as connection:
        assert audit.head(connection) == (7, found.head)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'person dr.other' WHERE seq = 3",
        "UPDATE audit SET verb = 'read nothing' WHERE seq = 3",
        "UPDATE audit SET facility = 'HWC2' WHERE seq = 3",
        "UPDATE audit SET subject = '\\x00' WHERE seq = 3",
        "UPDATE audit SET at_ms = at_ms + 1 WHERE seq = 3",
        "UPDATE audit SET hash = sha256(hash) WHERE seq = 3",
        "UPDATE audit SET seq = 99 WHERE seq = 3",
        "DELETE FROM audit WHERE seq = 3",
        "INSERT INTO audit SELECT 0, at_ms, actor, verb, facility, subject, hash FROM audit WHERE seq = 3",
    ],
)
def test_a_touched_row_is_found(database: Database, statement: str) -> None:
    fill(database)
    with database.transaction() as connection:
        connection.execute(statement)
    assert verified(database).broken_at is not None


def test_many_hands_make_one_chain(database: Database) -> None:
    hands = [threading.Thread(target=fill, args=(database, 20)) for _ in range(4)]
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.join()
    assert verified(database) == audit.Verified(80, None, verified(database).head)


def test_what_was_rolled_back_leaves_no_gap(database: Database) -> None:
    fill(database, 2)
    with pytest.raises(RuntimeError), database.transaction() as connection:
        audit.note(connection, "person dr.rao", "claim", "HWC1", b"", NOW_MS)
        raise RuntimeError
    fill(database, 2)
    assert verified(database).rows == 4


def test_nobody_is_no_actor(database: Database) -> None:
    with pytest.raises(OurFault) as caught, database.transaction() as connection:
        audit.note(connection, "", "claim", "HWC1", b"", NOW_MS)
    assert caught.value.code == "E_NO_ACTOR"
