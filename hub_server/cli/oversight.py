"""`hub audit` and `hub stats`: who read and wrote what, and how the service does."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from hub_server import audit, stats, tallies
from hub_server.cli import console, opening
from hub_server.cli.opening import AsJson
from hub_server.stats import By
from sync_protocol import documents
from sync_protocol.errors import InvalidValue


def verify_audit(as_json: AsJson = False) -> None:
    """\b
    Examples:
      hub audit verify
      hub audit verify --json | jq -r .head

    Recompute the whole chain of the audit. Note the head somewhere else: whoever rewrites the chain changes it.

    Exit status 6: a row was altered, taken out or put in.
    """
    with opening.hub() as at, at.database.transaction() as connection:
        found = audit.verify(connection)
    if as_json:
        shape = {"sound": found.broken_at is None, "rows": found.rows, "head": found.head.hex()}
        console.document("hub.audit/1", shape | {"broken_at": found.broken_at})
    elif found.broken_at is None:
        console.text(f"{found.rows} entries, the chain holds", f"head {found.head.hex()}")
    else:
        console.text(f"the chain is broken at entry {found.broken_at}; {found.rows} entries before it hold")
    if found.broken_at is not None:
        raise typer.Exit(console.Status.DOES_NOT_CHECK_OUT)


def export_audit(
    after: Annotated[int, typer.Option("--after", metavar="N", min=0, help="Only entries behind this number.")] = 0,
) -> None:
    """\b
    Examples:
      hub audit export > audit.jsonl
      hub audit export --after 1200 | jq -r .actor | sort | uniq -c

    Print the audit, an entry a line: who did what, when, to which id. It holds no patient's data.
    """
    with opening.hub() as at, at.database.transaction() as connection:
        for one in audit.entries(connection, after):
            console.line(
                {
                    "number": one.number,
                    "at": documents.time_text(one.at_ms),
                    "actor": one.entry.actor,
                    "verb": one.entry.verb,
                    "facility": one.entry.facility or None,
                    "subject": documents.id_text(one.entry.subject) if len(one.entry.subject) == 16 else None,
                    "hash": one.hash.hex(),
                }
            )
        console.flush()


def show_stats(
    by: Annotated[By, typer.Option("--by", help="What the rows are.")] = By.FACILITY,
    since: Annotated[str | None, typer.Option("--since", metavar="YYYY-MM-DD", help="From this day on.")] = None,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hub stats
      hub stats --by day --since 2026-01-01
      hub stats --by state --json | jq '.rows[] | {name, referrals}'

    Consultations, referrals, answers and how long they took; which doctors were at work, and what waits. Counted from
    statuses and times; no record is opened. The waiting times' median is read out of classes.
    """
    since_ms = _midnight_ms(since) if since is not None else 0
    with opening.hub() as at:
        tallies.settle(at.database)
        with at.database.transaction() as connection:
            found = stats.rows(connection, by, since_ms)
    if as_json:
        console.document("hub.stats/1", {"by": by.value, "since": since, "rows": [_row_json(one) for one in found]})
        return
    if not found:
        console.say("Nothing has arrived yet.")
        return
    heads = (
        by.value,
        "consultations",
        "referrals",
        "answered",
        "in an hour",
        "in a day",
        "waiting (median)",
        "doctors",
        "open",
    )
    console.table(heads, [_row(one) for one in found])


def _row(one: stats.Row) -> tuple[str, ...]:
    counts: tuple[Any, ...] = (one.consultations, one.referrals, one.answered, one.within_hour, one.within_day)
    waiting = "" if one.waiting_minutes is None else f"{one.waiting_minutes:,.0f} min"
    return (one.name, *map(str, counts), waiting, str(one.doctors), str(one.open))


def _row_json(one: stats.Row) -> dict[str, Any]:
    """state, district, facility: null where the row is of no single one."""
    said = asdict(one)
    oldest = documents.time_text(one.oldest_ms) if one.oldest_ms is not None else None
    places = {name: said.pop(name) or None for name in ("state", "district", "facility")}
    kept = {name: said[name] for name in said if name not in ("day", "oldest_ms")}
    return {"name": one.name, **places, **kept, "oldest_open_since": oldest}


def _midnight_ms(day: str) -> int:
    """The beginning of a day in India. Raises InvalidValue (``E_BAD_DAY``)."""
    try:
        begun = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise InvalidValue("A day is written YYYY-MM-DD.", field="since", code="E_BAD_DAY") from None
    return int(begun.timestamp() * 1000) - 5 * 3_600_000 - 30 * 60_000
