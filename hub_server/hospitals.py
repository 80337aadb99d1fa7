"""The hub hospitals that one installation serves: a code and a name each.

A centre belongs to a hospital, and so does a doctor; either may belong to none, which stands for all (`people.sees`).
A code is for good. Who adds one notes it in the ledger; who renames one has its centres told (`directory`).

It refuses to know centres and people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hub_server import directory_due
from hub_server.database import Connection
from sync_protocol.change import is_facility_code
from sync_protocol.errors import InvalidValue

MAX_NAME_CHARS: Final = 100  # as a centre's
ALL: Final = ""  # of a person: all hospitals; of a centre: whichever has a doctor


@dataclass(frozen=True, slots=True)
class Hospital:
    """code: 1 to 32 letters, digits, . _ or -, as a centre's."""

    code: str
    name: str
    created_ms: int


def find_all(connection: Connection) -> list[Hospital]:
    """All, by code."""
    rows = connection.execute("SELECT hub, name, created_ms FROM hospital ORDER BY hub").fetchall()
    return [Hospital(*row) for row in rows]


def lookup(connection: Connection, code: str) -> Hospital | None:
    row = connection.execute("SELECT hub, name, created_ms FROM hospital WHERE hub = %s", (code,)).fetchone()
    return Hospital(*row) if row is not None else None


def require(connection: Connection, code: str) -> None:
    """Raises InvalidValue (``E_UNKNOWN_HUB``) unless it is a hospital's code, or ALL."""
    if code != ALL and lookup(connection, code) is None:
        raise InvalidValue(
            "no hospital has that code", field="hub", code="E_UNKNOWN_HUB", next_step="'hub hospital list' shows them"
        )


def add(connection: Connection, code: str, name: str, now_ms: int) -> str:
    """``created``, or ``unchanged`` for one that is there. Raises InvalidValue (``E_BAD_HUB``, ``E_HUB_EXISTS``)."""
    name = _checked(code, name)
    added = connection.execute(
        "INSERT INTO hospital (hub, name, created_ms) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", (code, name, now_ms)
    )
    if added.rowcount == 1:
        return "created"
    there = lookup(connection, code)
    if there is None or there.name != name:
        raise InvalidValue(
            "a hospital of that code exists already, with another name",
            code="E_HUB_EXISTS",
            next_step="'hub hospital list' shows it, 'hub hospital rename' renames it",
        )
    return "unchanged"


def rename(connection: Connection, code: str, name: str, now_ms: int) -> str:
    """``renamed``, or ``unchanged``. Raises InvalidValue (``E_BAD_HUB``, ``E_UNKNOWN_HUB``)."""
    require(connection, code)
    return keep(connection, code, name, now_ms)


def keep(connection: Connection, code: str, name: str, now_ms: int) -> str:
    """It is there from now on, under this name: ``created``, ``renamed`` or ``unchanged``. Raises InvalidValue
    (``E_BAD_HUB``)."""
    name = _checked(code, name)
    there = lookup(connection, code)
    if there is not None and there.name == name:
        return "unchanged"
    connection.execute(
        "INSERT INTO hospital (hub, name, created_ms) VALUES (%s, %s, %s)"
        " ON CONFLICT (hub) DO UPDATE SET name = EXCLUDED.name",
        (code, name, now_ms),
    )
    if there is None:
        return "created"
    directory_due.mark_hospital(connection, code)
    return "renamed"


def _checked(code: str, name: str) -> str:
    """The name, tidied."""
    name = name.strip()
    if not is_facility_code(code) or not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable():
        raise InvalidValue(
            f"a hospital has a code of 1 to 32 letters, digits, . _ or -, and a name of at most {MAX_NAME_CHARS}"
            " printable characters",
            code="E_BAD_HUB",
        )
    return name
