"""`hub serve`: the hub as a running program.

The socket is taken before anything is promised, so that a port that is in use is a coded error; the address is printed
once requests are answered there. SIGINT and SIGTERM end it cleanly: requests are finished, workers end their pass, the
private PostgreSQL stops with its last user. A second one ends it at once; nothing that was acknowledged is lost.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Final

import typer

from hub_server import logs
from hub_server.cli import console, opening
from hub_server.cli.opening import AsJson
from hub_server.config import HubConfig, make_folders
from sync_protocol.errors import OurFault

MAX_WORKERS: Final = 8  # each holds a connection; more do not help, since feeds are locked while they are written


def serve(
    host: Annotated[str | None, typer.Option("--host", metavar="ADDRESS", help="Where to listen.")] = None,
    port: Annotated[
        int | None, typer.Option("--port", metavar="N", min=0, max=65535, help="0 for any free port.")
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            metavar="N",
            min=0,
            max=MAX_WORKERS,
            help="Programs that admit what was kept; 0: none, it is done beside the answers, which"
            " needs 100 MB less memory.",
        ),
    ] = 1,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hub serve
      hub serve --port 8470 --workers 2
      HUB_DATABASE_URL=postgresql://hub@db/hub hub serve

    Run the hub: the sync edge and the workers that admit what it keeps. Ctrl-C stops it.

    With no database given it starts a PostgreSQL of its own. It listens on loopback only, unless behind_tls_proxy says
    that a TLS proxy stands in front; such a proxy passes on everything but /metrics, and adds
    to X-Forwarded-For whence a request comes: tries to sign in are counted by it. The log goes to stderr, as JSON.
    """
    config = opening.configured(host=host, port=port)
    signal.signal(signal.SIGTERM, _as_interrupt)
    make_folders(config)
    with alone(config), _listening(config) as taken:
        level = "error" if console.manner.quiet else config.log_level
        logs.configure(level)
        from hub_server.cli import program  # what serves takes a third of every command's start

        try:
            program.run(config, taken, workers, level, as_json)
        except KeyboardInterrupt:
            console.say("hub: stopped")


def _as_interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _listening(config: HubConfig) -> Iterator[socket.socket]:
    """The socket, bound. Raises OurFault (``E_PORT_IN_USE``, ``E_HOST``)."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        taken = socket.socket(family, kind, protocol)
    except OSError as error:
        raise OurFault(f"The host {config.host} is no address of this machine.", code="E_HOST") from error
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(where)
        yield taken
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
            raise
        raise OurFault(
            f"The hub cannot listen on port {config.port} of {config.host}: {error.strerror}.",
            code="E_PORT_IN_USE" if error.errno == errno.EADDRINUSE else "E_HOST",
            next_step="Choose another with --port",
        ) from None
    finally:
        taken.close()


@contextmanager
def alone(config: HubConfig) -> Iterator[None]:
    """One serving program for a home. Raises OurFault (``E_SERVING``)."""
    descriptor = os.open(config.serve_lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OurFault(
                "A hub serves this home already.",
                code="E_SERVING",
                next_step="Stop it first, or use another home; --workers gives it more programs",
            ) from None
        yield
    finally:
        os.close(descriptor)
