"""News that would hide or erase most of what is here: put aside and questioned, not obeyed (DESIGN §6).

A hub that errs, or somebody who has its keys, could order a centre's records away, one reasonable order at a time. A
change is *hiding* when it marks a record of this node as entered in error, or is the hub's order to erase a patient.
Within a day a few of them are everyday work; where they come to more than FREE and to more than a fifth of the
records, what goes beyond is put aside: the cursor moves on, sending goes on, and a person says whether to obey.
What was put aside and accepted is applied as if it had just come; refused, it stays put aside, and the digest says so.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from hwc_node import erasing, ledger, membership, migrations
from hwc_node.engine import begin_read, begin_write
from hwc_node.ledger import Arrived
from hwc_node.store import Store
from hwc_node.tables import ORIGINS
from sync_protocol import change as changes
from sync_protocol.change import ChangeId
from sync_protocol.feed_page import Position
from sync_protocol.merge import Held

FREE: Final = 20  # hiding changes a day that nobody is asked about: a bad morning's corrections
SHARE: Final = 5  # and one record in so many
DAY_MS: Final = 86_400_000
OPEN: Final = "open"
REFUSED: Final = "refused"


@dataclass(frozen=True, slots=True)
class Questioned:
    """What waits for a person. erasures: among them, orders to erase a patient. since_ms: when the first came."""

    count: int
    erasures: int
    since_ms: int | None
    refused: int


def sort_out(
    connection: Connection, arrived: Sequence[Arrived], here: Container[ChangeId], now_ms: int
) -> tuple[list[Arrived], list[Arrived]]:
    """(to be applied, to be put aside). Counts the hiding ones of this day. here: changes that are no news."""
    hiding = [one for one in arrived if _hides(one.held) and one.held.change.id not in here]
    if not hiding:
        return list(arrived), []
    began_ms, count = membership.get(connection, membership.HIDDEN_LATELY, (now_ms, 0))
    if not 0 <= now_ms - began_ms < DAY_MS:
        began_ms, count = now_ms, 0
    room = max(FREE, _records(connection) // SHARE) - count
    aside = {one.held.change.id for one in hiding[max(0, room) :]}
    membership.put(connection, {membership.HIDDEN_LATELY: (began_ms, count + len(hiding) - len(aside))})
    return (
        [one for one in arrived if one.held.change.id not in aside],
        [one for one in hiding if one.held.change.id in aside],
    )


def _hides(held: Held) -> bool:
    mark = held.change.writes.get("entered_in_error")
    return (type(mark) is dict and mark.get("hidden") is True) or bool(erasing.orders([held]))


def _records(connection: Connection) -> int:
    return int(connection.exec_driver_sql("SELECT count(*) FROM record").scalar() or 0)


def put_aside(connection: Connection, aside: Sequence[Arrived], now_ms: int) -> None:
    if aside:
        connection.exec_driver_sql(
            "INSERT INTO questioned (position, raw, receipt_ms, origin, tag, at_ms, verdict) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (position) DO NOTHING",
            [
                (
                    one.position,
                    one.held.change.raw,
                    one.held.receipt_ms,
                    ORIGINS.index(one.held.origin),
                    one.tag,
                    now_ms,
                    OPEN,
                )
                for one in aside
            ],
        )


def forget_beyond(connection: Connection, position: int) -> None:
    """The feed went back: what lay beyond comes again, if it comes."""
    connection.exec_driver_sql("DELETE FROM questioned WHERE position > ?", (position,))


def questioned(store: Store) -> Questioned:
    with begin_read(store.engine) as connection:
        rows = connection.exec_driver_sql(
            "SELECT raw, origin, receipt_ms, at_ms FROM questioned WHERE verdict = ? ORDER BY position", (OPEN,)
        ).fetchall()
        refused = connection.exec_driver_sql("SELECT count(*) FROM questioned WHERE verdict = ?", (REFUSED,)).scalar()
    held = [Held(changes.parse(raw), receipt_ms, ORIGINS[origin]) for raw, origin, receipt_ms, _ in rows]
    since_ms = min((row[3] for row in rows), default=None)
    return Questioned(len(rows), len(erasing.orders(held)), since_ms, int(refused or 0))


def accept(store: Store, now_ms: int) -> int:
    """Obey everything that was put aside, refused or not; how much it was."""
    with begin_write(store.engine) as connection:
        rows = connection.exec_driver_sql(
            "SELECT position, raw, receipt_ms, origin, tag FROM questioned ORDER BY position"
        ).fetchall()
        arrived = [
            Arrived(Held(changes.parse(raw), receipt_ms, ORIGINS[origin]), Position(position), tag)
            for position, raw, receipt_ms, origin, tag in rows
        ]
        ledger.keep(connection, ledger.load(connection, {one.held.change.key for one in arrived}), arrived)
        ordered = erasing.orders(one.held for one in arrived)
        for patient in ordered:
            erasing.obey(connection, patient, now_ms)
        if ordered:
            migrations.drop_copy(store.config.database_path)
        connection.exec_driver_sql("DELETE FROM questioned")
    return len(rows)


def refuse(store: Store) -> int:
    """Keep it put aside, and ask no more; how much it was."""
    with begin_write(store.engine) as connection:
        done = connection.exec_driver_sql("UPDATE questioned SET verdict = ? WHERE verdict = ?", (REFUSED, OPEN))
    return done.rowcount
