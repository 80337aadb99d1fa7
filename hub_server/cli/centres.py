"""`hub hospital` and `hub facility`: the hub hospitals that this installation serves, and the health centres."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import typer

from hub_server import facilities, hospitals
from hub_server.cli import console, opening
from hub_server.cli.opening import AsJson
from hub_server.database import Connection
from hub_server.facilities import Facility
from sync_protocol import documents
from sync_protocol.errors import TooLarge

Code = Annotated[str, typer.Argument(metavar="CODE", help="Such as HWC000001.")]
HospitalCode = Annotated[str, typer.Argument(metavar="CODE", help="Such as DH-SEHORE.")]

# -- hospitals ---------------------------------------------------------------------------------------------------------


HospitalName = Annotated[str, typer.Argument(metavar="NAME", help="As people know it.")]


def add_hospital(code: HospitalCode, name: HospitalName, as_json: AsJson = False) -> None:
    """\b
    Examples:
      hub hospital add DH-SEHORE "District Hospital Sehore"

    Register a hub hospital. The same again changes nothing.

    Centres belong to it by 'hub facility add --hub' or 'hub facility change --hub', doctors by 'hub people add --hub'.
    """
    _keep_hospital(code, name, hospitals.add, as_json)


def rename_hospital(code: HospitalCode, name: HospitalName, as_json: AsJson = False) -> None:
    """\b
    Examples:
      hub hospital rename DH-SEHORE "Civil Hospital Sehore"

    Give a hub hospital another name; its code is for good.
    """
    _keep_hospital(code, name, hospitals.rename, as_json)


def _keep_hospital(code: str, name: str, verb: Callable[[Connection, str, str, int], str], as_json: bool) -> None:
    at_ms = opening.now_ms()
    with opening.hub() as at, at.database.transaction() as connection:
        verdict = verb(connection, code, name, at_ms)
        if verdict != "unchanged":
            at.store.vault.note(connection, "hospital", {"hub": code, "name": name.strip()}, at_ms)
    if as_json:
        console.document("hub.hospital/1", {"verdict": verdict, "hub": code, "name": name.strip()})
    else:
        console.text(f"{code} {verdict}")


def list_hospitals(as_json: AsJson = False) -> None:
    """\b
    Examples:
      hub hospital list

    List the hub hospitals.
    """
    with opening.hub() as at, at.database.transaction() as connection:
        found = hospitals.find_all(connection)
    if as_json:
        shapes = [
            {"hub": one.code, "name": one.name, "created_at": documents.time_text(one.created_ms)} for one in found
        ]
        console.document("hub.hospitals/1", {"hospitals": shapes})
        return
    console.table(("hub", "name"), [(one.code, one.name) for one in found])


# -- facilities --------------------------------------------------------------------------------------------------------

OfHub = Annotated[str, typer.Option("--hub", metavar="CODE", help="The hospital it belongs to; none: all doctors'.")]


def add_facility(
    code: Code,
    name: Annotated[str, typer.Argument(metavar="NAME", help="As people know it.")],
    district: Annotated[str, typer.Option("--district", metavar="NAME")] = "",
    state: Annotated[str, typer.Option("--state", metavar="NAME")] = "",
    hub: OfHub = hospitals.ALL,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hub facility add HWC000001 "HWC Rampur"
      hub facility add HWC000002 "HWC Melur" --district Madurai --state "Tamil Nadu" --hub DH-MADURAI

    Register a facility. The same again changes nothing.
    """
    wanted = Facility(code, name.strip(), district, state, hub)
    with opening.hub() as at, at.database.transaction() as connection:
        verdict = facilities.add(connection, at.store.vault, wanted, opening.now_ms())
    _tell("hub.facility/1", verdict, wanted, as_json)


def change_facility(
    code: Code,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="As people know it.")] = None,
    district: Annotated[str | None, typer.Option("--district", metavar="NAME")] = None,
    state: Annotated[str | None, typer.Option("--state", metavar="NAME")] = None,
    hub: Annotated[
        str | None, typer.Option("--hub", metavar="CODE", help="The hospital it belongs to; '' for none.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hub facility change HWC000001 --hub DH-SEHORE
      hub facility change HWC000001 --name "HWC Rampur Kalan" --district Sehore

    Change a facility's particulars; its code is for good.

    Which hospital it belongs to decides whose doctors see what it refers, and has referred.
    """
    with opening.hub() as at, at.database.transaction() as connection:
        there = facilities.held(connection, code)
        wanted = replace(
            there,
            name=there.name if name is None else name.strip(),
            district=there.district if district is None else district.strip(),
            state=there.state if state is None else state.strip(),
            hub=there.hub if hub is None else hub,
        )
        verdict = facilities.change(connection, at.store.vault, wanted, opening.now_ms())
    _tell("hub.facility/1", verdict, wanted, as_json)


def _tell(schema: str, verdict: str, one: Facility, as_json: bool) -> None:
    if as_json:
        console.document(schema, {"verdict": verdict, "facility": one.code, "name": one.name, "hub": one.hub or None})
    else:
        console.text(f"{one.code} {verdict}")


def import_facilities(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="CSV: facility, name, district?, state?, hub?")],
    change: Annotated[bool, typer.Option("--change", help="Also change those that are there.")] = False,
) -> None:
    """\b
    Examples:
      hub facility import centres.csv
      hub facility import --change hospitals.csv

    Register many facilities from CSV, and answer each with a line of JSON.

    The first line names the columns. A bad line is told and stops no other; the exit status is then 1. With --change,
    one that is there takes the particulars of its line, for the columns that the file has.
    """
    raw = opening.read_input(file, facilities.MAX_IMPORT_BYTES)
    if len(raw) > facilities.MAX_IMPORT_BYTES:
        raise TooLarge(f"The file is larger than {facilities.MAX_IMPORT_BYTES >> 20} MiB.")
    lines = facilities.read_list(raw)
    refused = 0
    with opening.hub() as at:
        for one in facilities.take_list(at.database, at.store.vault, lines, opening.now_ms(), changing=change):
            shape: dict[str, Any] = {"line": one.line, "verdict": one.verdict, "facility": one.facility}
            if one.error is not None:
                refused += 1
                shape["error"] = {"code": one.error.code, "message": one.error.message}
            console.line(shape)
        console.flush()
    console.say(f"{len(lines)} lines, {refused} refused")
    if refused:
        raise typer.Exit(console.Status.ERROR)


def list_facilities(as_json: AsJson = False) -> None:
    """\b
    Examples:
      hub facility list
      hub facility list --json | jq -r '.facilities[].facility'

    List the facilities.
    """
    with opening.hub() as at, at.database.transaction() as connection:
        found = facilities.find_all(connection)
    if as_json:
        shapes = [
            {
                "facility": one.code,
                "name": one.name,
                "district": one.district,
                "state": one.state,
                "hub": one.hub or None,
                "created_at": documents.time_text(one.created_ms),
            }
            for one in found
        ]
        console.document("hub.facilities/1", {"facilities": shapes})
        return
    console.table(
        ("facility", "name", "district", "state", "hub"),
        [(one.code, one.name, one.district, one.state, one.hub) for one in found],
    )
