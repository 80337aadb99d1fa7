"""`ingest`: nodes with long backlogs send 50,000 records at once; until all are admitted and readable.

Beside it, in the same rounds on the same PostgreSQL: a bare binary COPY of the rows of all tables that the hub wrote,
with their indexes, and the plain hub of `bench.plain_hub` with the same documents. In turns with it, the same at a
second hub that has many records already: those of other centres, sent and admitted like any.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

from bench import crowd
from bench.backlogs import Backlog, backlogs
from bench.figures import Figure, of_rounds
from bench.knocks import knock
from bench.places import HubPlace, database_url, free_port, hold, running_hub, wait_until_ready
from hwc_node import sync

NODES: Final = 4
RECORDS: Final = 50_000
STORED: Final = 200_000  # already, for the second hub: a million takes some minutes to make (--stored 1000000)
STORED_A_NODE: Final = 12_500  # what a centre of 5,000 people writes in some months
STORED_FIRST: Final = 50_000
BATCH_DOCUMENTS: Final = 500  # a request to the plain hub: what it does best with
TABLES: Final = ("item", "patient", "subscription", "referral", "arrival", "conflicted")
COPIES: Final = 3
LOOK_S: Final = 0.02
PATIENCE_S: Final = 300

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Round:
    """Records a second of each; None where it was not compared."""

    hub: float
    copy: float | None
    plain: float | None
    body_bytes_a_record: float


def run(folder: Path, rounds: int, records: int = RECORDS, stored: int = STORED) -> list[Figure]:
    beside = folder / "stored"
    beside.mkdir(mode=0o711)
    done, again = [], []
    with running_hub(folder) as hub, running_hub(beside) as full:
        store_many(full, stored)
        for number in range(rounds):  # in turns, so that a slow moment of the machine meets both
            done.append(_round(hub, folder, number, records))
            again.append(_round(full, beside, number, records, alone=True))
    rates = [one.hub for one in done]
    copied = [one.copy for one in done if one.copy is not None]
    plain = [one.plain for one in done if one.plain is not None]
    behind = [one.hub for one in again]
    return [
        of_rounds("ingest", "admitted and readable", "records/s", rates, copied, "binary COPY"),
        of_rounds("ingest", "admitted and readable", "records/s", rates, plain, "plain hub"),
        of_rounds("ingest", f"behind {stored:,} records", "records/s", behind, rates, "empty hub"),
        of_rounds("ingest", "sent, envelopes included", "bytes/record", [one.body_bytes_a_record for one in done]),
    ]


def _round(hub: HubPlace, folder: Path, number: int, records: int, *, alone: bool = False) -> Round:
    waiting = list(backlogs(hub, folder, 100 * (number + 1), NODES, records))
    total = sum(one.records for one in waiting)
    with database_url(hub) as url, psycopg.connect(url, autocommit=True) as connection:
        facilities = [one.facility for one in waiting]
        seconds = _send_all(hub, connection, waiting, facilities)
        _check_readable(waiting)
        copied = None if alone else total / _copy_seconds(connection, facilities)
        documents = sum(len(one.documents) for one in waiting)
        plain = None if alone else documents / _plain_seconds(url, folder, waiting)
    bytes_a_record = sum(one.segment_bytes for one in waiting) / total
    for one in waiting:
        one.store.close()
    return Round(total / seconds, copied, plain, bytes_a_record)


def store_many(hub: HubPlace, records: int) -> None:
    """Other centres' records, sealed, sent and admitted: so many at the hub when this returns."""
    each = max(1, min(STORED_A_NODE, records))
    with (
        crowd.opened_hub(hub) as (database, vault),
        database_url(hub) as url,
        psycopg.connect(url, autocommit=True) as connection,
        ThreadPoolExecutor(1) as pool,
    ):
        others = crowd.enrol(database, vault, range(STORED_FIRST, STORED_FIRST + records // each))
        sending = [pool.submit(knock, hub.port, "/v1/sync", [one.long_request(each)], 1) for one in others]
        for sent in sending:
            sent.result()
        facilities = [str(one.facility) for one in others]
        _until_positions(connection, facilities, each * len(others))
        # A hub did not get its records a moment ago: what PostgreSQL tidies up behind such a load would else be measured.
        connection.execute("VACUUM (ANALYZE)")


# -- the hub -----------------------------------------------------------------------------------------------------------


def _send_all(hub: HubPlace, connection: Connection, waiting: Sequence[Backlog], facilities: list[str]) -> float:
    """Seconds from the first byte sent until every record has a position on its feed."""
    wanted = _positions(connection, facilities) + sum(one.records for one in waiting)
    began = time.perf_counter()
    with ThreadPoolExecutor(len(waiting)) as pool:
        sending = [pool.submit(_post, hub.port, "/v1/sync", "application/octet-stream", one.body) for one in waiting]
        _until_positions(connection, facilities, wanted)
        seconds = time.perf_counter() - began
        hold(all(one.result() == 200 for one in sending), "a request was refused")
    return seconds


def _until_positions(connection: Connection, facilities: list[str], wanted: int) -> None:
    began = time.perf_counter()
    while _positions(connection, facilities) < wanted:
        hold(time.perf_counter() - began < PATIENCE_S, "the hub has not admitted everything in five minutes")
        time.sleep(LOOK_S)


def _positions(connection: Connection, facilities: list[str]) -> int:
    row = connection.execute("SELECT sum(position) FROM feed WHERE facility = ANY(%s)", (facilities,)).fetchone()
    return int(row[0]) if row and row[0] is not None else 0


def _post(port: int, path: str, kind: str, body: bytes) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("POST", path, body, {"Content-Type": kind})
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def _check_readable(waiting: Sequence[Backlog]) -> None:
    """Each node syncs, and then has a position for everything it wrote."""
    for one in waiting:
        told = sync.run(one.store)
        hold(told.pending_changes == 0, f"{one.facility} still has something to send")


# -- the same rows by COPY ---------------------------------------------------------------------------------------------


def _copy_seconds(connection: Connection, facilities: list[str]) -> float:
    """Seconds of a bare binary COPY of the rows that these facilities have in all tables, into tables alike: the best
    of a few, so that the comparison is not with a slow moment."""
    rows: dict[str, bytes] = {}
    for table in TABLES:
        query = f"COPY (SELECT * FROM {table} WHERE facility = ANY(%s)) TO STDOUT (FORMAT binary)"
        with connection.cursor() as cursor, cursor.copy(query, (facilities,)) as copy:
            rows[table] = b"".join(bytes(block) for block in copy)
    return min(_copy_once(connection, rows) for _ in range(COPIES))


def _copy_once(connection: Connection, rows: dict[str, bytes]) -> float:
    for table in rows:
        connection.execute(f"CREATE TABLE copied_{table} (LIKE {table} INCLUDING ALL)")
    began = time.perf_counter()
    for table, content in rows.items():
        with connection.cursor() as cursor, cursor.copy(f"COPY copied_{table} FROM STDIN (FORMAT binary)") as copy:
            copy.write(content)
    seconds = time.perf_counter() - began
    for table in rows:
        connection.execute(f"DROP TABLE copied_{table}")
    return seconds


# -- the plain hub -----------------------------------------------------------------------------------------------------


def _plain_seconds(url: str, folder: Path, waiting: Sequence[Backlog]) -> float:
    with plain_hub(url, folder) as port, ThreadPoolExecutor(len(waiting)) as pool:
        bodies = [_batches(one.documents) for one in waiting]
        began = time.perf_counter()
        for sent in [pool.submit(_post_all, port, one) for one in bodies]:
            sent.result()
        return time.perf_counter() - began


def _batches(documents: list[dict[str, Any]]) -> list[bytes]:
    starts = range(0, len(documents), BATCH_DOCUMENTS)
    return [json.dumps(documents[at : at + BATCH_DOCUMENTS]).encode() for at in starts]


def _post_all(port: int, bodies: Sequence[bytes]) -> None:
    for body in bodies:
        hold(_post(port, "/documents", "application/json", body) == 200, "the plain hub refused a request")


@contextmanager
def plain_hub(url: str, folder: Path) -> Iterator[int]:
    """The plain hub's port, while it runs as a process of its own with empty tables."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS plain_document")
    port, log = free_port(), folder / "plain.log"
    with log.open("ab") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "bench.plain_hub", str(port)],
            env=os.environ | {"DATABASE_URL": url},
            stdout=out,
            stderr=out,
        )
    try:
        wait_until_ready(f"http://127.0.0.1:{port}/readyz", server, log)
        yield port
    finally:
        server.terminate()
        server.wait()
