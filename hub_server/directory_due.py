"""Which centres are to be told something new of themselves: marked by whoever changes it, settled by `directory`.

A mark is a flag of the facility's row, so that a number that 155,000 centres call is marked in one small statement and
told to one after the other. Only centres with a node are marked: nobody else would read it.
"""

from __future__ import annotations

from hub_server.database import Connection

_ENROLLED = "EXISTS (SELECT 1 FROM node n WHERE n.facility = f.facility AND n.revoked_ms IS NULL)"


def mark(connection: Connection, facility: str) -> None:
    """Something of this centre has changed, or its first node was enrolled."""
    connection.execute(f"UPDATE facility f SET entry_due = true WHERE facility = %s AND {_ENROLLED}", (facility,))


def mark_hospital(connection: Connection, hub: str) -> None:
    """Something of a hospital has changed that its centres are told. hub: empty for what all centres are told.

    Those that are marked are marked again: one that is being told now is only unmarked once that is committed.
    """
    connection.execute(
        "UPDATE facility SET entry_due = true WHERE facility IN (SELECT f.facility FROM facility f"
        f" WHERE (%(all)s OR f.hub = %(hub)s) AND {_ENROLLED}"
        " ORDER BY f.facility FOR UPDATE OF f)",  # in one order, so that two who mark do not wait for each other
        {"hub": hub, "all": not hub},
    )


def take_next(connection: Connection) -> str | None:
    """A marked centre, its mark taken away and its row held; one that somebody else holds is passed over."""
    row = connection.execute(
        "UPDATE facility SET entry_due = false WHERE facility = (SELECT facility FROM facility WHERE entry_due"
        " ORDER BY facility LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING facility"
    ).fetchone()
    return str(row[0]) if row is not None else None


def take(connection: Connection, facility: str) -> bool:
    """The same of one centre; whether it was marked."""
    done = connection.execute("UPDATE facility SET entry_due = false WHERE facility = %s AND entry_due", (facility,))
    return done.rowcount == 1
