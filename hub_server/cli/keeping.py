"""`hub backup`, `hub restore`: the whole database in one file, tried out, and the way back. `hub erase`: no way back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from hub_server import backup, erasure, postgres, recovery
from hub_server.backup import Manifest
from hub_server.cli import console, opening, reports
from hub_server.cli.opening import AsJson, Yes
from hub_server.cli.serving import alone
from hub_server.config import make_folders
from hub_server.vault import load_or_make
from sync_protocol import documents
from sync_protocol.change import PatientId


def write_backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hub backup /backups/hub-monday.hubbackup
      hub backup --yes /backups/hub.hubbackup

    Dump the database while the hub serves, restore the dump into a scratch database, compare, and keep the file.

    The keys and the ledger are not in it. Copy the folders keys and ledger of the hub's home apart from it, to another
    place: who has a backup and the keys reads everything, and who has a backup alone reads nothing. --yes replaces a
    file of that name.
    """
    with opening.hub() as at:
        server = backup.server(at.config, at.url, at.server_version)
        made = backup.write(
            server, at.store.vault.identity, file.absolute(), opening.now_ms(), replace=yes, program=reports.version()
        )
    if as_json:
        console.document("hub.backup/1", _shape(made) | {"file": str(file), "file_bytes": file.stat().st_size})
        return
    console.text(f"backed up {made.facilities} facilities, {made.items} items, into {file}: tried out and found whole")
    console.say(f"Copy these apart from it: {at.config.keys_folder} and {at.config.ledger_file.parent}")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that 'hub backup' wrote.")],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hub restore /backups/hub-monday.hubbackup

    Put a backup in the place of the hub's database, after trying all of it. The hub must not be serving.

    The database that is there now stays for 35 days, under another name. What the ledger says happened since (enrolments,
    revocations, people) is replayed. The nodes send again what the hub lost, with the times it had given it: they see
    by themselves that their place is not on its feeds.
    """
    config = opening.configured()
    made = backup.read_manifest(file)
    console.say(f"A backup of {documents.time_text(made.made_ms)}: {made.facilities} facilities, {made.items} items.")
    make_folders(config)
    with alone(config):
        opening.confirm(
            "Put it in the place of the hub's database? That one is kept for 35 days, under another name.", yes
        )
        with postgres.ensure_running(config) as running:
            server = backup.server(config, running.url, running.server_version)
            identity = load_or_make(config.keys_folder, opening.now_ms())
            made, kept = backup.restore(server, identity, file.absolute(), opening.now_ms())
            with opening.hub(config) as at, at.database.transaction() as connection:
                replayed = recovery.known(connection)
    if as_json:
        console.document("hub.restore/1", _shape(made) | {"kept": kept, "ledger_lines": replayed})
        return
    console.text(f"restored the hub as it was {documents.time_text(made.made_ms)}")
    console.text(f"the database that was here is kept as {kept} for 35 days; the ledger stands at line {replayed}")


def _shape(made: Manifest) -> dict[str, object]:
    shown = dict(backup.as_json(made))
    del shown["schema"]
    return shown | {"made_at": documents.time_text(made.made_ms)}


def erase(
    patient: Annotated[str | None, typer.Argument(metavar="PATIENT", help="The patient's id.")] = None,
    hold_until: Annotated[
        str | None, typer.Option("--hold-until", metavar="DATE", help="Not before that day, such as 2033-04-01.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why it is held: which law.")] = "",
    release: Annotated[bool, typer.Option("--release", help="Take a held erasure back.")] = False,
    held: Annotated[bool, typer.Option("--held", help="List the erasures that are held.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hub erase 01890a5d-ac96-774b-bcce-b302099a8057
      hub erase 01890a5d-ac96-774b-bcce-b302099a8057 --hold-until 2033-04-01 --reason "records are kept 7 years"
      hub erase --held

    Erase a patient for good: the key is destroyed, every centre that has the patient is ordered to do the same, and a
    hub that is restored does it again. There is no way back.

    It is complete once every centre has synced and the backups from before are gone. --hold-until only notes it: the
    hub erases on that day by itself.
    """
    if held:
        _list_held(as_json)
        return
    if patient is None:
        raise typer.BadParameter("which patient?", param_hint="PATIENT")
    if (hold_until is None) != (not reason.strip()):
        raise typer.BadParameter("an erasure is held until a day, for a reason: give both", param_hint="--hold-until")
    name, now_ms = PatientId(documents.parse_id(patient)), opening.now_ms()
    with opening.hub() as at:
        if release:
            done = erasure.release(at.store, name, opening.operator(), now_ms)
        elif hold_until is not None:
            done = erasure.hold(at.store, name, _day(hold_until), reason.strip(), opening.operator(), now_ms)
        else:
            opening.confirm("Erase this patient for good, here and at every centre?", yes)
            done = erasure.erase(at.store, name, opening.operator(), now_ms)
    if as_json:
        console.document(
            "hub.erase/1", {"verdict": done.verdict, "facilities": list(done.facilities), "items": done.items}
        )
        return
    told = f": {done.items} items; {len(done.facilities)} centres are told" if done.verdict == "erased" else ""
    console.text(done.verdict.replace("_", " ") + told)


def _day(text: str) -> int:
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        raise typer.BadParameter("a day is written as 2033-04-01", param_hint="--hold-until") from None


def _list_held(as_json: bool) -> None:
    with opening.hub() as at, at.database.transaction() as connection:
        found = erasure.held_orders(connection)
    if as_json:
        shapes = [
            {
                "patient": documents.id_text(one.patient),
                "until": documents.time_text(one.until_ms),
                "reason": one.reason,
                "asked_at": documents.time_text(one.asked_ms),
            }
            for one in found
        ]
        console.document("hub.erase/1", {"held": shapes})
        return
    if not found:
        console.say("No erasure is held.")
        return
    rows = [(documents.id_text(one.patient), opening.time_words(one.until_ms), one.reason) for one in found]
    console.table(("patient", "until", "reason"), rows)
