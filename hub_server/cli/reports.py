"""`hub export`, `hub status` and `hub doctor`: what the hub holds, and how it is."""

from __future__ import annotations

from enum import Enum
from importlib import metadata
from typing import Annotated, Any, Final

import typer

from hub_server import checkup, extracts, facilities, registry
from hub_server.checkup import Finding, State
from hub_server.cli import console, opening
from hub_server.cli.opening import AsJson, OfFacility, Opened, time_words
from hub_server.cli.places import NODE_HEADS, node_json, node_row
from hub_server.extracts import Wanted
from hub_server.registry import Counts, Standing
from sync_protocol import merge, schema
from sync_protocol.change import PatientId
from sync_protocol.errors import InvalidValue
from sync_protocol.exports import time_or_none

DISTRIBUTION: Final = "health-sync"
MARKS: Final = {State.FINE: "ok", State.WARNING: "LOOK", State.PROBLEM: "BROKEN"}


class Format(str, Enum):
    JSON = "json"
    FHIR = "fhir"


def version() -> str:
    """This program's version, as it was installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "not installed"


def export(
    facility: OfFacility = None,
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Only records of this kind.")] = None,
    patient: Annotated[str | None, typer.Option("--patient", metavar="ID", help="Only this patient's records.")] = None,
    changes: Annotated[bool, typer.Option("--changes", help="The raw history: every change ever made.")] = False,
    form: Annotated[Format, typer.Option("--format", help="The form of the lines.")] = Format.JSON,
    reader: Annotated[str | None, typer.Option("--as", metavar="DOCTOR", help="The doctor who reads.")] = None,
) -> None:
    """\b
    Examples:
      hub export --facility HWC000001 > records.jsonl
      hub export --kind referral --patient 01890a5d-ac96-774b-bcce-b302099a8057
      hub export --changes | wc -l
      hub export --format fhir --patient 01890a5d-ac96-774b-bcce-b302099a8057

    Print what the hub holds, a record a line, patients' data included. Noted in the audit.

    `fields` is what is shown, `conflicts` lists every live value of a field that a person must decide. Without
    --facility each patient stands there once; with it, all that stands in that facility's feed.

    With --format fhir a line is a FHIR R4 Bundle of type document: a consultation for each case, a prescription for
    each answer of a doctor, a wellness record for what belongs to neither. The directory of staff is not among them.
    """
    if form is Format.FHIR and (kind is not None or changes):
        raise typer.BadParameter("FHIR documents hold records of all kinds, not their history", param_hint="--format")
    if kind is not None and kind not in schema.KINDS:
        meant = schema.nearest(kind, list(schema.KINDS))
        raise InvalidValue(
            "There is no such kind of record.",
            field="kind",
            code="E_UNKNOWN_KIND",
            next_step=f"Did you mean {meant}?" if meant else f"The kinds are {', '.join(schema.KINDS)}",
        )
    of = PatientId(opening.parsed_id(patient, "patient")) if patient is not None else None
    wanted = Wanted(facility, kind, of, changes, form is Format.FHIR)
    with opening.hub() as at:
        actor = at.doctor(reader).actor if reader is not None else opening.operator()
        for line in extracts.lines(at.store, wanted, actor, opening.now_ms()):
            console.line(line)
        console.flush()


# -- status ------------------------------------------------------------------------------------------------------------


def status(
    facility: OfFacility = None,
    check: Annotated[bool, typer.Option("--check", help="Exit with 3 if something needs a person.")] = False,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hub status
      hub status --facility HWC000001 --json | jq -r '.facilities[0].digest'
      hub status --check || mail -s "hub" operator

    Tell how the hub is: what waits to be admitted, what is in quarantine, and per facility the head of its feed, the
    digest that a node in step shows, and its nodes.

    Exit status with --check: 3 if the quarantine is not empty or segments wait for long.
    """
    with opening.hub() as at:
        with at.database.transaction() as connection:
            chosen = facilities.find_all(connection, facility)
            counts = registry.counts(connection, facility)
            epoch = registry.epoch(connection)
        standings: list[Standing] = []
        for one in chosen:  # a transaction each: a feed stands still only for a moment
            with at.database.transaction() as connection:
                standings.append(registry.standing(connection, one))
    now_ms = opening.now_ms()
    if as_json:
        console.document("hub.status/1", _status_json(at, counts, epoch, standings))
    else:
        _tell_status(at, counts, standings)
    slow = counts.oldest_ms is not None and now_ms - counts.oldest_ms > checkup.SLOW_ADMISSION_MS
    if check and (counts.quarantined or slow):
        raise typer.Exit(console.Status.NEEDS_PERSON)


def _status_json(at: Opened, counts: Counts, epoch: bytes, standings: list[Standing]) -> dict[str, Any]:
    return {
        "version": version(),
        "schema_version": schema.SCHEMA_VERSION,
        "environment": at.config.environment,
        "url": opening.address(at.config),
        "epoch": epoch.hex(),
        "database": {"private": at.private, "server_version": at.server_version},
        "pending_to_admit": counts.pending_to_admit,
        "oldest_pending": time_or_none(counts.oldest_ms),
        "waiting_for_grant": counts.waiting_for_grant,
        "quarantined": counts.quarantined,
        "facilities": [_standing_json(one) for one in standings],
    }


def _standing_json(one: Standing) -> dict[str, Any]:
    return {
        "facility": one.facility.code,
        "name": one.facility.name,
        "feed_head": one.position,
        "digest": merge.digest_text(one.digest),
        "conflicts_open": one.conflicts_open,
        "referrals_waiting": one.referrals_waiting,
        "nodes": [node_json(node) for node in one.nodes],
    }


def _tell_status(at: Opened, counts: Counts, standings: list[Standing]) -> None:
    oldest = f", the oldest of {time_words(counts.oldest_ms)}" if counts.oldest_ms is not None else ""
    console.text(
        f"environment   {at.config.environment}",
        f"address       {opening.address(at.config)}",
        f"database      {'private' if at.private else 'given'}, PostgreSQL {at.server_version // 10_000}",
        f"pending       {counts.pending_to_admit} segments to admit{oldest}",
        f"no grant yet  {counts.waiting_for_grant} segments",
        f"quarantined   {counts.quarantined}",
        f"version       {version()}, schema {schema.SCHEMA_VERSION}",
        "",
    )
    console.table(
        ("facility", "feed head", "digest", "conflicts", "waiting", "nodes"),
        [
            (
                one.facility.code,
                str(one.position),
                merge.digest_text(one.digest),
                str(one.conflicts_open),
                str(one.referrals_waiting),
                str(len(one.nodes)),
            )
            for one in standings
        ],
    )
    rows = [node_row(node) for one in standings for node in one.nodes]
    if rows:
        console.text("")
        console.table(NODE_HEADS, rows)


# -- doctor ------------------------------------------------------------------------------------------------------------


def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Read everything: hashes, contents, digests.")] = False,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hub doctor
      hub doctor --deep --json | jq '.checks[] | select(.state != "fine")'

    Check the hub, and name the command that mends what is wrong. Exit status 3: something needs a person.
    """
    with opening.hub() as at:
        found: list[Finding] = []
        for one in checkup.examine(at.store, at.config, opening.now_ms(), deep=deep):
            found.append(one)
            if not as_json:
                console.text(f"{MARKS[one.state]:<7} {one.check:<13} {one.said}")
                if one.mend:
                    console.text(f"{'':<7} {'':<13} mend: {one.mend}")
    wrong = [one for one in found if one.state is State.PROBLEM]
    if as_json:
        checks = [
            {"check": one.check, "state": one.state.value, "said": one.said, "mend": one.mend or None} for one in found
        ]
        console.document("hub.doctor/1", {"ok": not wrong, "checks": checks})
    if wrong:
        raise typer.Exit(console.Status.NEEDS_PERSON)
