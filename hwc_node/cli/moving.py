"""`hwc enrol`, `hwc sync` and `hwc serve`: what talks with the hub."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final

import typer
import uvicorn

from hwc_node import enrolment, standing, sync, web
from hwc_node.cli import console, looking, opening
from hwc_node.cli.opening import CODE_VARIABLE, AsJson, Desk
from hwc_node.config import FILE_MODE, NodeConfig, storage_fault
from hwc_node.scheduler import BackgroundSync, Outcome
from hwc_node.sync import Progress, SyncResult
from sync_protocol import documents, keys
from sync_protocol.errors import HealthSyncError, OurFault

MAX_CODE_CHARS: Final = 1_000  # the code is 46 letters, its address may be long
GRACE_S: Final = 3  # a page that is being read when the program is told to stop may end
LAST_EXCHANGE_S: Final = 5.0  # an exchange on the way may end; what is cut is repeated, so leaving it loses nothing
SYNC_TURN_S: Final = 900.0  # one turn of the background sync; what is left is the next turn's


def enrol(
    code: Annotated[
        str | None, typer.Argument(metavar="CODE", help=f"The one-time code, - for stdin, or {CODE_VARIABLE}.")
    ] = None,
    hub: Annotated[str | None, typer.Option("--hub", metavar="URL", help="Another address than the code's.")] = None,
    node_name: Annotated[
        str, typer.Option("--node-name", metavar="NAME", help="What the operator calls this box.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hwc enrol 4M9QX-…-7TZ2K@https://hub.example.org
      HWC_PERSON_NAME="Asha Devi" HWC_PASSPHRASE_FD=3 hwc enrol - 3<passphrase <code

    Make this node's database and keys, and enrol with the one-time code that the hub's operator gave.

    Asks for the first person's name and passphrase. Safe to repeat when the link broke.
    """
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
            if isinstance(done, SyncResult):
                _tell_result(done, as_json, error.code)
            raise
        _tell_result(result, as_json)


def _exchange(at: Desk, max_bytes: int | None, timeout_s: float | None) -> SyncResult:
    with console.progress() as bar:
        task = bar.add_task("syncing", total=None, said="")

        def moved(now: Progress) -> None:
            total = now.sent_changes + now.pending_changes
            said = f"{now.sent_changes} sent, {now.received_changes} received, {now.pending_changes} wait"
            bar.update(task, completed=now.sent_changes, total=total or None, said=said)

        return sync.run(at.store, max_bytes=max_bytes, timeout_s=timeout_s, on_progress=moved)


def _tell_plan(at: Desk, as_json: bool) -> None:
    plan = sync.plan(at.store)
    if as_json:
        conflicts = standing.conflicts_open(at.store)
        nothing = SyncResult(0, 0, 0, conflicts, 0, 0, 0, 0.0, plan.pending_changes, [])
        estimates = {"estimated_segments": plan.estimated_segments, "estimated_bytes": plan.estimated_bytes}
        console.document("hwc.sync/1", {**nothing.as_json(), "dry_run": True, **estimates})
        return
    console.text(
        f"{plan.pending_changes} changes would be sent, in some {plan.estimated_segments} segments"
        f" and {plan.estimated_bytes:,} bytes"
    )


def _tell_result(done: SyncResult, as_json: bool, failed: str = "") -> None:
    if as_json:
        shape: dict[str, Any] = done.as_json()
        console.document("hwc.sync/1", shape | ({"error": failed} if failed else {}))
        return
    console.text(
        f"sent {done.sent_changes} changes in {done.sent_segments} segments, received {done.received_changes}",
        f"{done.bytes_up:,} bytes up, {done.bytes_down:,} down, {done.requests} requests, {done.seconds:.1f} s",
    )
    for notice in done.notices:
        console.text(f"hub says: {notice}")
    if done.pending_changes:
        console.text(f"{done.pending_changes} changes wait for the next sync")
    if done.conflicts_open:
        console.say(f"{done.conflicts_open} conflicts are open: 'hwc conflicts list'")


# -- serve -------------------------------------------------------------------------------------------------------------


def serve(
    host: Annotated[str | None, typer.Option("--host", metavar="ADDRESS", help="Loopback, unless behind TLS.")] = None,
    port: Annotated[int | None, typer.Option("--port", metavar="N", min=0, max=65535, help="0: any free one.")] = None,
) -> None:
    """\b
    Examples:
      hwc serve
      hwc serve --port 8099

    Sync in the background, and show a status page to this machine's browsers, until stopped (Ctrl-C, SIGTERM).
    """
    with opening.desk(host=host, port=port) as at, _only_one(at.config), _listening(at.config) as listener:
        address = f"http://{at.config.host}:{listener.getsockname()[1]}/"
        background = BackgroundSync(
            lambda: _background_turn(at),
            interval_s=at.config.sync_interval_s,
            cap_s=at.config.sync_retry_cap_s,
            asked_s=sync.retry_after_s,
        )
        app = web.make_app(lambda: looking.status_lines(at.store, at.config, opening.now_ms()))
        console.text(f"serving {address}")
        console.say("Stop with Ctrl-C. The status page shows no patients' data.")
        background.start()
        try:
            _serve_until_stopped(app, listener)
        finally:
            ended = background.stop(LAST_EXCHANGE_S)
            console.say("stopped")
    if not ended:  # a thread waits for a slow answer; everything it had is kept, and the next sync repeats the rest
        console.flush()
        os._exit(console.Status.DONE)


def _background_turn(at: Desk) -> Outcome:
    done = sync.run(at.store, timeout_s=SYNC_TURN_S)
    return Outcome(more=done.pending_changes > 0 and done.sent_changes > 0)


def _serve_until_stopped(app: Any, listener: socket.socket) -> None:
    settings = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=GRACE_S,
    )
    # Once it has stopped, uvicorn raises the signal again for whoever handled it before: that is us, and we are done.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(settings).run(sockets=[listener])


@contextmanager
def _only_one(config: NodeConfig) -> Iterator[None]:
    """One `hwc serve` a home. The lock's file stays; the system frees it with its owner."""
    try:
        lock = os.open(config.serve_lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        raise storage_fault(error, "The node's home cannot be used") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OurFault(
                "Another 'hwc serve' runs for this home.", code="E_SERVE_RUNNING", next_step="Stop that one first."
            ) from None
        yield
    finally:
        os.close(lock)


@contextmanager
def _listening(config: NodeConfig) -> Iterator[socket.socket]:
    """A socket that is bound before anything is started, so that a taken port is told at once."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((config.host, config.port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            raise OurFault(
                f"Port {config.port} of {config.host} cannot be used: {error.strerror}.",
                code="E_PORT_TAKEN" if taken else "E_ADDRESS",
                next_step="Choose another with --port.",
            ) from None
        yield listener
