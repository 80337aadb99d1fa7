"""`hwc status` and `hwc doctor`: how this node is, without any patient's data."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from hwc_node import checkup, keystore, server_certificate, standing
from hwc_node.checkup import Check, Grade, Space
from hwc_node.cli import console, opening, words
from hwc_node.cli.opening import AsJson, Desk
from hwc_node.config import NodeConfig, storage_fault
from hwc_node.standing import Standing
from hwc_node.store import Store
from sync_protocol import documents, merge, schema
from sync_protocol.errors import OurFault

DISTRIBUTION: Final = "health-sync"
NOTICES_TOLD: Final = 5
MARKS: Final = {Grade.FINE: "ok", Grade.LOOK: "LOOK", Grade.BROKEN: "BROKEN"}


def version() -> str:
    """This program's version, as it was installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "not installed"


def status(
    check: Annotated[bool, typer.Option("--check", help="Exit with 3 if something needs a person.")] = False,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hwc status
      hwc status --check || mail -s "health centre" operator
      hwc status --json | jq .pending_changes

    Tell how this node is: what waits to be sent, when it last met the hub, what is in conflict, and its digest.

    Two replicas with the same digest hold the same. The certificate's letters (SHA-256) are what a phone has to show that
    installs it for the pages' safe address. Exit status with --check: 3 if something needs a person.
    """
    with opening.desk() as at:
        now = standing.standing(at.store)
        room = checkup.space(at.config, now)
        needed = checkup.needing(checkup.concerns(now, room, opening.now_ms()))
        if as_json:
            console.document("hwc.status/1", _status_json(at, now, room, needed))
        else:
            console.text(*status_lines(at.store, at.config, opening.now_ms()))
            standing.mark_notices_seen(at.store)
    if check and needed:
        raise typer.Exit(console.Status.NEEDS_PERSON)


def status_lines(store: Store, config: NodeConfig, now_ms: int) -> list[str]:
    """The status for people: the command's and the local page's."""
    now = standing.standing(store)
    room = checkup.space(config, now)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(now.pending_by_kind.items()))
    oldest = f", the oldest of {words.time(now.oldest_pending_ms)}" if now.oldest_pending_ms is not None else ""
    lines = [
        f"facility     {now.facility}  {now.facility_name}",
        f"node         {documents.id_text(now.node) if now.node else ''}",
        f"hub          {now.hub_url}",
        f"holds        {now.records} records, {now.changes} changes",
        f"pending      {now.pending_changes} changes" + (f" ({kinds}{oldest})" if now.pending_changes else ""),
        f"last sync    {words.time(now.last_success_ms)}",
        f"last try     {words.time(now.last_attempt_ms)}"
        + (f", ended with {now.last_error}" if now.last_error else ""),
        f"cursor       {now.cursor_position}" + (f" of {now.feed_position}" if now.feed_position is not None else ""),
        f"digest       {merge.digest_text(now.digest)}",
        f"conflicts    {now.conflicts_open}",
        f"quarantined  {now.set_aside}",
        f"storage      {room.database_bytes / 1e6:,.1f} MB, {room.free_bytes / 1e9:,.1f} GB free",
        f"backup       {words.time(now.last_backup_ms)}",
        f"key slots    {len(keystore.slots(config.slots_path))}",
        f"certificate  {server_certificate.fingerprint(store) or 'none yet: made by hwc serve'}",
        f"version      {version()}, schema {schema.SCHEMA_VERSION}, database {now.schema_version}",
    ]
    for one in checkup.needing(checkup.concerns(now, room, now_ms)):
        lines += ["", f"{MARKS[one.grade]}: {one.name}: {one.said}", f"  mend: {one.mend}"]
    told = [one for one in standing.notices(store, NOTICES_TOLD) if not one.seen]
    return (
        lines + ([""] if told else []) + [f"hub says, {words.time(one.at_ms)}: {one.kind}: {one.text}" for one in told]
    )


def _status_json(at: Desk, now: Standing, room: Space, needed: list[Check]) -> dict[str, Any]:
    hub_time = documents.time_text(now.hub_time_ms) if now.hub_time_ms is not None else None
    slots = keystore.slots(at.config.slots_path)
    return {
        "facility": now.facility,
        "facility_name": now.facility_name,
        "node": documents.id_text(now.node) if now.node else None,
        "hub": {"url": now.hub_url, "time": hub_time, "epoch": now.hub_epoch.hex()},
        "person": documents.id_text(at.person),
        "person_name": at.clinic.name_of(at.person),
        "pending_changes": now.pending_changes,
        "pending": {
            "by_kind": now.pending_by_kind,
            "oldest": _stamp(now.oldest_pending_ms),
            "unsent": now.unsent_changes,
        },
        "last_success": _stamp(now.last_success_ms),
        "last_attempt": _stamp(now.last_attempt_ms),
        "last_error": now.last_error or None,
        "cursor": now.cursor_position,
        "feed_head": now.feed_position,
        "digest": merge.digest_text(now.digest),
        "conflicts_open": now.conflicts_open,
        "quarantined": now.set_aside,
        "quarantine_reasons": now.set_aside_reasons,
        "unread_items": now.unread_items,
        "questioned": now.questioned,
        "records": now.records,
        "changes": now.changes,
        "storage": {"database_bytes": room.database_bytes, "free_bytes": room.free_bytes},
        "backup_age_s": _age_s(now.last_backup_ms, opening.now_ms()),
        "clock_error_ms": now.clock_error_ms,
        "certificate_fingerprint": server_certificate.fingerprint(at.store),
        "key_slots": [{"slot": one.slot_id, "kind": one.kind, "name": one.name} for one in slots],
        "version": version(),
        "schema_version": schema.SCHEMA_VERSION,
        "database_version": now.schema_version,
        "needs_person": [_check_json(one) for one in needed],
    }


def doctor(as_json: AsJson = False) -> None:
    """\b
    Examples:
      hwc doctor

    Check this node, its whole database included, and name the command that mends what is wrong.

    Exit status 3: something needs a person.
    """
    with opening.desk() as at:
        checks: list[Check] = []
        for one in checkup.checkup(at.config, at.store, opening.now_ms()):
            checks.append(one)
            if not as_json:
                console.text(f"{MARKS[one.grade]:<7} {one.name:<10} {one.said}")
                if one.mend:
                    console.text(f"{'':<7} {'':<10} mend: {one.mend}")
    needed = checkup.needing(checks)
    if as_json:
        console.document("hwc.doctor/1", {"sound": not needed, "checks": [_check_json(one) for one in checks]})
    if needed:
        raise typer.Exit(console.Status.NEEDS_PERSON)


def _check_json(one: Check) -> dict[str, Any]:
    return {"name": one.name, "grade": one.grade.value, "said": one.said, "mend": one.mend or None}


def _without_home(at: Desk, one: Check) -> dict[str, Any]:
    """A folder's name often is its owner's."""
    home = str(at.config.home)
    return _check_json(
        Check(one.name, one.grade, one.said.replace(home, "$HWC_HOME"), one.mend.replace(home, "$HWC_HOME"))
    )


def _age_s(ms: int | None, now_ms: int) -> int | None:
    return max(0, now_ms - ms) // 1000 if ms is not None else None


def _stamp(ms: int | None) -> str | None:
    return documents.time_text(ms) if ms is not None else None


def support(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Replace a file of that name.")] = False,
) -> None:
    """\b
    Examples:
      hwc support support.json
      hwc support - | less

    Write what whoever helps needs to know of this node: its standing, its checks, what the hub told. JSON, to be read
    before it is sent.

    It holds no patient's data, no name, no passphrase and no key.
    """
    with opening.desk() as at:
        now_ms = opening.now_ms()
        now = standing.standing(at.store)
        room = checkup.space(at.config, now)
        shape = _status_json(at, now, room, checkup.needing(checkup.concerns(now, room, now_ms)))
        shape |= {
            "written_at": documents.time_text(now_ms),
            "checks": [_without_home(at, one) for one in checkup.checkup(at.config, at.store, now_ms)],
            "notices": [
                {"at": documents.time_text(one.at_ms), "said": one.kind}
                for one in standing.notices(at.store, NOTICES_TOLD)
            ],
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
        }
        for named in ("person_name", "facility_name"):
            del shape[named]
        shape["key_slots"] = len(shape["key_slots"])
    if str(file) == "-":
        console.document("hwc.support/1", shape)
        return
    if file.exists() and not yes:
        raise OurFault("There is a file of this name already.", code="E_FILE_EXISTS", next_step="Give --yes.")
    try:
        file.write_bytes(msgspec.json.format(msgspec.json.encode({"schema": "hwc.support/1", **shape}), indent=2))
    except OSError as error:
        raise storage_fault(error, "The file cannot be written") from error
    console.text(f"written to {file}: read it before you send it; it holds no patient's data")
