"""The health centres that the hub knows: added one by one or from a list, and their particulars changed later.

A code is for good; name, district, state and hospital may change. Which hospital a centre belongs to decides whose
doctors see what it refers: its referrals follow it, the answered ones too. All of it is noted in the ledger.

It refuses to know nodes, records and people.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from hub_server import directory_due, feed, hospitals, queue, tallies
from hub_server.database import Connection, Database
from hub_server.vault import Vault
from sync_protocol import states
from sync_protocol.change import FacilityCode, is_facility_code
from sync_protocol.errors import HealthSyncError, InvalidValue, Malformed

MAX_NAME_CHARS: Final = 100
MAX_IMPORT_BYTES: Final = 64 * 1024 * 1024  # 155,000 centres are 10 MB
_LINES_A_COMMIT: Final = 500  # of an import: what is held of the feeds meanwhile is soon let go
_PARTICULARS: Final = ("name", "district", "state", "hub")


@dataclass(frozen=True, slots=True)
class Facility:
    """hub: the code of the hospital it belongs to, empty for none: then every doctor sees its referrals."""

    code: str
    name: str
    district: str = ""
    state: str = ""
    hub: str = hospitals.ALL
    created_ms: int = 0

    @property
    def particulars(self) -> tuple[str, ...]:
        """What may change."""
        return (self.name, self.district, self.state, self.hub)


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of one facility of a list. verdict: created, changed, unchanged or refused."""

    line: int
    verdict: str
    facility: str
    error: HealthSyncError | None = None


def find_all(connection: Connection, facility: str | None = None) -> list[Facility]:
    """All, by code, or the one asked for. Raises InvalidValue (``E_UNKNOWN_FACILITY``)."""
    rows = connection.execute(
        "SELECT facility, name, district, state, hub, created_ms FROM facility"
        " WHERE %(facility)s::text IS NULL OR facility = %(facility)s ORDER BY facility",
        {"facility": facility},
    ).fetchall()
    if facility is not None and not rows:
        raise InvalidValue(
            "No facility has that code.", code="E_UNKNOWN_FACILITY", next_step="'hub facility list' shows them"
        )
    return [Facility(*row) for row in rows]


def held(connection: Connection, facility: str) -> Facility:
    """One that is about to be changed: nobody else changes it until the transaction ends. Raises InvalidValue
    (``E_UNKNOWN_FACILITY``)."""
    connection.execute("SELECT 1 FROM facility WHERE facility = %s FOR NO KEY UPDATE", (facility,))
    return find_all(connection, facility)[0]


def add(connection: Connection, vault: Vault, wanted: Facility, now_ms: int) -> str:
    """``created``, with an empty feed; ``unchanged`` for one that is there with the same particulars.

    Raises InvalidValue (``E_BAD_FACILITY``, ``E_UNKNOWN_HUB``, ``E_FACILITY_EXISTS``).
    """
    wanted = _tidied(wanted)
    _check(connection, wanted)
    added = connection.execute(
        "INSERT INTO facility (facility, name, district, state, hub, created_ms, wrapped_key)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        (wanted.code, *wanted.particulars, now_ms, vault.new_facility_key(FacilityCode(wanted.code))),
    )
    if added.rowcount == 0:
        if find_all(connection, wanted.code)[0].particulars != wanted.particulars:
            raise InvalidValue(
                "A facility of that code exists already, with other particulars.",
                code="E_FACILITY_EXISTS",
                next_step="'hub facility list' shows it, 'hub facility change' changes it",
            )
        return "unchanged"
    connection.execute("INSERT INTO feed (facility, position, hash) VALUES (%s, 0, %s)", (wanted.code, bytes(16)))
    vault.note(connection, "facility", as_noted(wanted), now_ms)
    return "created"


def change(connection: Connection, vault: Vault, wanted: Facility, now_ms: int) -> str:
    """``changed`` to these particulars, or ``unchanged``.

    Raises InvalidValue (``E_UNKNOWN_FACILITY``, ``E_BAD_FACILITY``, ``E_UNKNOWN_HUB``).
    """
    there, wanted = held(connection, wanted.code), _tidied(wanted)
    if there.particulars == wanted.particulars:
        return "unchanged"
    _check(connection, wanted)
    connection.execute(
        "UPDATE facility SET name = %s, district = %s, state = %s, hub = %s WHERE facility = %s",
        (*wanted.particulars, wanted.code),
    )
    directory_due.mark(connection, wanted.code)
    vault.note(connection, "facility_changed", as_noted(wanted), now_ms)  # before feeds are locked, as all who note do
    if there.particulars[1:] != wanted.particulars[1:]:
        feed.lock(connection, {FacilityCode(wanted.code)})  # what came until now stands there, as of where it was
        queue.move(connection, wanted.code, wanted.hub)
        tallies.mark_moved(connection, wanted.code, there.state, there.district)
    return "changed"


def as_noted(facility: Facility) -> dict[str, str]:
    """For the ledger."""
    said = asdict(facility)
    return {"facility": facility.code, **{name: said[name] for name in _PARTICULARS}}


def noted(said: dict[str, Any]) -> Facility:
    """What `as_noted` wrote; lines from before there were hospitals have no hub."""
    return Facility(said["facility"], said["name"], said["district"], said["state"], said.get("hub", hospitals.ALL))


def _tidied(wanted: Facility) -> Facility:
    """With the state's name as the directory has it, so that a state is one however it is written."""
    name, district = wanted.name.strip(), " ".join(wanted.district.split())
    return replace(wanted, name=name, district=district, state=states.tidy(wanted.state))


def _check(connection: Connection, wanted: Facility) -> None:
    if not is_facility_code(wanted.code) or not wanted.name.strip():
        raise InvalidValue(
            "a facility has a code of 1 to 32 letters, digits, . _ or -, and a name", code="E_BAD_FACILITY"
        )
    if any(len(text) > MAX_NAME_CHARS or not text.isprintable() for text in wanted.particulars):
        raise InvalidValue(
            f"A facility's name, district and state are of at most {MAX_NAME_CHARS} printable characters.",
            code="E_BAD_FACILITY",
        )
    hospitals.require(connection, wanted.hub)


# -- from a list -------------------------------------------------------------------------------------------------------

Line = tuple[int, dict[str, str]]
"""A line's number, and what it says: column → text."""


def read_list(raw: bytes) -> list[Line]:
    """The lines of a CSV file with the columns ``facility``, ``name`` and optionally ``district``, ``state``, ``hub``.

    Raises Malformed (``E_BAD_CSV``) for what is no such file.
    """
    try:
        rows = csv.DictReader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True)
        names = [name.strip().lower() for name in rows.fieldnames or []]
        rows.fieldnames = names
        if not {"facility", "name"} <= set(names):
            raise Malformed("The file lacks the columns facility and name.", code="E_BAD_CSV")
        wanted = [name for name in ("facility", *_PARTICULARS) if name in names]
        return [(rows.line_num, {name: (row[name] or "").strip() for name in wanted}) for row in rows]
    except (csv.Error, UnicodeDecodeError):
        raise Malformed("The file is not CSV in UTF-8.", code="E_BAD_CSV") from None


def take_list(
    database: Database, vault: Vault, lines: Sequence[Line], now_ms: int, *, changing: bool = False
) -> Iterator[Kept]:
    """What became of each line; some at a time in a transaction, so that a list that was cut short is simply given
    again. changing: one that is there takes the particulars of its line; a column that the list lacks stays."""
    for at in range(0, len(lines), _LINES_A_COMMIT):
        group = lines[at : at + _LINES_A_COMMIT]
        codes = [said["facility"] for _, said in group if is_facility_code(said["facility"])]
        with database.transaction() as connection:
            there = {
                code: dict(zip(_PARTICULARS, row, strict=True))
                for code, *row in connection.execute(
                    "SELECT facility, name, district, state, hub FROM facility WHERE facility = ANY(%s) ORDER BY facility"
                    + (" FOR NO KEY UPDATE" if changing else ""),  # all, before the first is noted
                    (codes,),
                ).fetchall()
            }
            found = []
            for line in sorted(group, key=lambda line: line[1]["facility"]):  # as all who hold several feeds do
                before = there.get(line[1]["facility"], {}) if changing else {}
                found.append(_take(connection, vault, line, before, now_ms))
        yield from sorted(found, key=lambda one: one.line)


def _take(connection: Connection, vault: Vault, line: Line, before: dict[str, str], now_ms: int) -> Kept:
    number, said = line
    name, district, state, hub = (said.get(column, before.get(column, "")) for column in _PARTICULARS)
    wanted = Facility(said["facility"], name, district, state, hub)
    try:
        with connection.transaction():  # a savepoint: what is refused leaves the others alone
            verdict = (change if before else add)(connection, vault, wanted, now_ms)
    except InvalidValue as error:
        return Kept(number, "refused", wanted.code, error)
    return Kept(number, verdict, wanted.code)
