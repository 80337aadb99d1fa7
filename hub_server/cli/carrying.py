"""`hub courier`: a centre's courier file that was brought to the hub's own machine, and its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Final

import typer

from hub_server import files, logs, nodes, registry, subscriptions
from hub_server.cli import console, opening
from hub_server.cli.opening import AsJson, Opened, Yes
from hub_server.intake import Admitter
from sync_protocol import documents, wire
from sync_protocol.wire import FrameReader, FrameType, Heads, Hello

ADMIT_WAIT_S: Final = 30.0  # for a worker of a serving hub that has some of it in hand; then the answer says held
_PAUSE_S: Final = 0.05
_PIECE_BYTES: Final = 64 * 1024


def courier(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="What 'hwc courier write' made; - for stdin.")],
    answer: Annotated[Path, typer.Argument(metavar="ANSWER", help="Where to write what goes back to the centre.")],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hub courier /media/usb/rampur.courier /media/usb/answer.courier

    Take in a courier file of a centre without a link, and write the answer that is carried back to it.

    The same as if it had come over the network, and it may come twice, in any order, and weeks late. What it brings is
    admitted first, so that the answer says so. Works while 'hub serve' runs and when it does not. --yes replaces a file
    that is no courier file.
    """
    logs.configure("warning" if console.manner.verbose else "error")  # or it would be written among the answer
    from hub_server import sync_api  # FastAPI takes a third of every command's start

    raw = opening.read_input(file, sync_api.MAX_BODY_BYTES)
    files.refuse_other(answer, wire.PREAMBLE, yes)
    with opening.hub() as at:
        made = _exchange(at, raw)
    files.replace(answer.absolute(), made)
    hello, heads = _hello(raw), _heads(made)
    held, admitted = len(wire.split_ids(heads.held)), len(wire.split_ids(heads.admitted))
    if as_json:
        shape = {"node": documents.id_text(wire.node_of(hello)), "file": file, "answer": str(answer)}
        counts = {"held_segments": held, "admitted_segments": admitted, "bytes_up": len(raw), "bytes_down": len(made)}
        console.document("hub.courier/1", shape | counts)
        return
    console.text(f"node {documents.id_text(wire.node_of(hello))}: {held} segments held, {admitted} of them admitted")
    console.say(f"Carry {answer} back to the centre, for: hwc courier read {answer.name}")


def _exchange(at: Opened, raw: bytes) -> bytes:
    """The real exchange over these bytes."""

    from hub_server import sync_api  # as in `courier`

    async def pieces() -> AsyncIterator[bytes]:
        for begin in range(0, len(raw), _PIECE_BYTES):
            yield raw[begin : begin + _PIECE_BYTES]

    with at.database.transaction() as connection:
        epoch = registry.epoch(connection)
    edge = sync_api.SyncEdge(at.store, lambda: None, opening.now_ms, epoch)
    try:
        return asyncio.run(edge.exchange(pieces(), settle=lambda: _admit(at, raw)))
    finally:
        edge.close()


def _admit(at: Opened, raw: bytes) -> None:
    """Admit what was kept; a worker of a serving hub may have taken some of it up already."""
    admitter = Admitter(at.store)
    give_up_s = time.monotonic() + ADMIT_WAIT_S
    while time.monotonic() < give_up_s:
        if admitter.admit_once(opening.now_ms()).segments:
            continue
        with at.database.transaction() as connection:
            facility = nodes.find(connection, wire.node_of(_hello(raw))).facility
            if not registry.counts(connection, facility).pending_to_admit:
                break
        time.sleep(_PAUSE_S)
    subscriptions.settle(at.store, opening.now_ms())


def _hello(raw: bytes) -> Hello:
    return wire.read_signed(_first(raw, FrameType.HELLO), Hello)


def _heads(raw: bytes) -> Heads:
    return wire.read_signed(_first(raw, FrameType.HEADS), Heads)


def _first(raw: bytes, kind: FrameType) -> bytes:
    """The payload of the first frame, which the exchange has found to be of this kind."""
    return next(one.payload for one in FrameReader().feed(raw[:_PIECE_BYTES]) if one.type == kind)
