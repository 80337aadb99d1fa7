"""`hwc enrol`, `hwc sync` and `hwc serve`: what talks with the hub."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from hwc_node import enrolment, files, lean, standing, sync
from hwc_node.cli import console, opening, words
from hwc_node.cli.opening import CODE_VARIABLE, AsJson, Desk
from hwc_node.enrolment import Enrolled
from hwc_node.sync import Progress, SyncResult
from sync_protocol import documents, keys
from sync_protocol.errors import HealthSyncError

REQUEST_SUFFIX: Final = ".hubrequest"
MAX_CODE_CHARS: Final = 1_000  # the code is 45 letters, its address may be long


def enrol(
    code: Annotated[
        str | None, typer.Argument(metavar="CODE", help=f"The one-time code, - for stdin, or {CODE_VARIABLE}.")
    ] = None,
    hub: Annotated[str | None, typer.Option("--hub", metavar="URL", help="Another address than the code's.")] = None,
    node_name: Annotated[
        str, typer.Option("--node-name", metavar="NAME", help="What the operator calls this box.")
    ] = "",
    offline: Annotated[
        Path | None,
        typer.Option("--offline", metavar="FILE", help="By files: the hub's code file, then the hub's answer."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hwc enrol 4M9QX-…-7TZ2K@https://hub.example.org
      hwc enrol --offline /media/usb/code.hubcode
      HWC_PERSON_NAME="Asha Devi" HWC_PASSPHRASE_FD=3 hwc enrol - 3<passphrase <code

    Make this node's database and keys, and enrol with the one-time code that the hub's operator gave.

    Asks for the first person's name and passphrase. Safe to repeat when the link broke.

    \b
    Without a link, files are carried; each step may be repeated:
      hub enrol FACILITY --file code.hubcode         at the hub
      hwc enrol --offline code.hubcode               here: writes code.hubrequest beside it
      hub enrol --answer code.hubrequest ANSWER      at the hub
      hwc enrol --offline ANSWER                     here
    """
    if offline is not None:
        if code is not None:
            raise typer.BadParameter("give either a code or --offline FILE", param_hint="CODE")
        _enrol_offline(offline.absolute(), hub, node_name, as_json)
        return
    text = _code(code)
    keys.parse_code(text)  # mistyped: say so before asking anything
    config = opening.configured()
    again = config.slots_path.exists()
    name = opening.person_name()
    made = enrolment.enrol(
        config,
        text,
        person_name=name,
        passphrase=opening.passphrase("Passphrase, four words or more: ", twice=not again),
        now_ms=opening.now_ms(),
        node_name=node_name,
        hub_url=hub,
    )
    _tell_enrolled(made, as_json)


def _enrol_offline(file: Path, hub: str | None, node_name: str, as_json: bool) -> None:
    raw = files.read(file, enrolment.MAX_ANSWER_BYTES)
    config = opening.configured()
    if not enrolment.is_code_file(raw):
        enrolment.expect_request(config, raw)  # before anything is asked
        passphrase = opening.passphrase("Passphrase: ")
        _tell_enrolled(enrolment.complete(config, raw, passphrase=passphrase, now_ms=opening.now_ms()), as_json)
        return
    keys.read_code_file(raw)
    again = config.slots_path.exists()
    name = opening.person_name()
    asked = enrolment.ask(
        config,
        raw,
        person_name=name,
        passphrase=opening.passphrase("Passphrase, four words or more: ", twice=not again),
        now_ms=opening.now_ms(),
        node_name=node_name,
        hub_url=hub,
    )
    request = file.with_suffix(REQUEST_SUFFIX)
    files.replace(request, asked.sealed)
    if as_json:
        told = {"node": documents.id_text(asked.node), "hub": asked.hub_url, "request": str(request)}
        console.document("hwc.enrol-request/1", told)
        return
    console.text(f"wrote {request}")
    console.say(
        "It is not enrolled yet. Carry that file to the hub, where this answers it:",
        f"  hub enrol --answer {request.name} ANSWER",
        "Bring the answer back, for: hwc enrol --offline ANSWER",
    )


def _tell_enrolled(made: Enrolled, as_json: bool) -> None:
    if as_json:
        told = {"facility": made.facility, "facility_name": made.facility_name, "hub": made.hub_url}
        console.document("hwc.enrol/1", {"node": documents.id_text(made.node), **told})
        return
    console.text(f"enrolled at {made.facility}, {made.facility_name}", f"node {documents.id_text(made.node)}")
    console.say("'hwc sync' brings what the hub holds of this centre.")


def _code(given: str | None) -> str:
    code = given if given is not None else os.environ.get(CODE_VARIABLE)
    if code is None:
        raise typer.BadParameter(f"give the code, - to read it from stdin, or set {CODE_VARIABLE}", param_hint="CODE")
    return sys.stdin.readline(MAX_CODE_CHARS).strip() if code == "-" else code


def sync_command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be sent, and send nothing.")] = False,
    max_bytes: Annotated[
        int | None, typer.Option("--max-bytes", min=1, metavar="N", help="Stop after so many.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0.1, metavar="S", help="Stop after so long.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hwc sync
      hwc sync --max-bytes 200000 --timeout 60
      hwc sync --dry-run

    Send what the hub lacks and receive what this centre lacks, until nothing is left or the budget is used.

    Safe to interrupt and to repeat. Exit status 5: the hub cannot be reached; everything is kept, try later.
    """
    with opening.desk() as at:
        if dry_run:
            _tell_plan(at, as_json)
            return
        try:
            result = _exchange(at, max_bytes, timeout)
        except HealthSyncError as error:
            done = getattr(error, "result", None)
            if isinstance(done, SyncResult) and (as_json or done.bytes_up or done.bytes_down):
                _tell_result(done, as_json, error.code)
            raise
        _tell_result(result, as_json)


def _exchange(at: Desk, max_bytes: int | None, timeout_s: float | None) -> SyncResult:
    with console.progress() as bar:
        task = bar.add_task("syncing", total=None, said="")

        def moved(now: Progress) -> None:
            sent_total, taken_total = now.sent_changes + now.left.unsent, now.taken_items + now.left.behind
            said = f"sent {now.sent_changes:,} of {sent_total:,}, {words.size(now.bytes_up)}"
            said += f"; got {now.taken_items:,} of {taken_total:,}, {words.size(now.bytes_down)}"
            bar.update(task, completed=now.done_steps, total=now.total_steps or None, said=said)

        watched = None if bar.disable else moved  # nobody watches: nothing is counted
        return sync.run(at.store, max_bytes=max_bytes, timeout_s=timeout_s, on_progress=watched)


def _tell_plan(at: Desk, as_json: bool) -> None:
    plan = sync.plan(at.store)
    if as_json:
        conflicts = standing.conflicts_open(at.store)
        nothing = SyncResult(0, 0, 0, conflicts, 0, 0, 0, 0.0, plan.pending_changes, [])
        estimates = {"estimated_segments": plan.estimated_segments, "estimated_bytes": plan.estimated_bytes}
        console.document("hwc.sync/1", {**nothing.as_json(), "dry_run": True, **estimates})
        return
    segments = words.count(plan.estimated_segments, "segment")
    console.text(
        f"would send {words.count(plan.pending_changes, 'change')}, in some {segments} and {plan.estimated_bytes:,} bytes"
    )


def _tell_result(done: SyncResult, as_json: bool, failed: str = "") -> None:
    if as_json:
        shape: dict[str, Any] = done.as_json()
        console.document("hwc.sync/1", shape | ({"error": failed} if failed else {}))
        return
    if console.manner.quiet:
        return
    sent = f"{words.count(done.sent_changes, 'change')} in {words.count(done.sent_segments, 'segment')}"
    console.text(
        f"sent {sent}, received {words.count(done.received_changes, 'change')}",
        f"{done.bytes_up:,} bytes up, {done.bytes_down:,} down, {words.count(done.requests, 'request')},"
        f" {done.seconds:.1f} s",
    )
    for notice in done.notices:
        console.text(f"hub says: {notice}")
    if done.pending_changes:
        console.text(f"waiting for the next sync: {words.count(done.pending_changes, 'change')}")
    if done.conflicts_open:
        console.say(f"{words.count(done.conflicts_open, 'open conflict')}: 'hwc conflicts list'")


def serve(
    host: Annotated[
        str | None, typer.Option("--host", metavar="ADDRESS", help="Loopback, unless open_to_lan or behind TLS.")
    ] = None,
    port: Annotated[int | None, typer.Option("--port", metavar="N", min=0, max=65535, help="0: any free one.")] = None,
    https_port: Annotated[
        int | None,
        typer.Option(
            "--https-port", metavar="N", min=0, max=65535, help="The same encrypted; 0: not. With open_to_lan 8453."
        ),
    ] = None,
    locked: Annotated[
        bool, typer.Option("--locked", help="Ask for no passphrase: whoever unlocks a page first opens the database.")
    ] = False,
) -> None:
    """\b
    Examples:
      hwc serve
      hwc serve --port 8099
      hwc serve --locked

    Sync in the background, and serve the centre's pages to this machine's browsers, until stopped (Ctrl-C, SIGTERM).

    For the phones on the centre's own Wi-Fi, HWC_OPEN_TO_LAN=1 or open_to_lan = true in config.toml: the pages are then
    at every address of this machine, and encrypted beside. What is printed tells where a phone installs the certificate.
    """
    # Imported here, since FastAPI, uvicorn and APScheduler take a third of the start of every other command.
    # structlog takes rich wherever it is there, for tracebacks in colour, which nobody asks for.
    with lean.without("rich"):
        from hwc_node.cli import serving

    serving.serve(host, port, https_port, locked=locked)
