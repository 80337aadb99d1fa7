"""`hwc courier write` and `hwc courier read`: the exchange by a file that somebody carries."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from hwc_node import courier, files, standing, sync
from hwc_node.cli import console, opening, words
from hwc_node.cli.opening import AsJson
from sync_protocol import documents
from sync_protocol.errors import TooLarge

SCHEMA: Final = "hwc.courier/1"
LOCK_WAIT_S: Final = 120.0  # an ordinary sync takes that long on a slow link
STREAM: Final = "-"


def write(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="Where to write it; - for stdout.")],
    max_bytes: Annotated[
        int,
        typer.Option(
            "--max-bytes",
            min=courier.MIN_BYTES,
            max=courier.MAX_BYTES,
            metavar="N",
            help="Of segments; the rest waits for the next file.",
        ),
    ] = courier.MAX_BYTES,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hwc courier write /media/usb/rampur.courier
      hwc courier write - > rampur.courier

    Write all that the hub lacks into one sealed file, for somebody to carry.

    \b
    Whoever has internet hands it in, and brings back what came:
      curl --data-binary @rampur.courier -H 'Content-Type: application/octet-stream' \\
          https://HUB/v1/sync > answer.courier
    At the hub itself: hub courier rampur.courier answer.courier

    Writing is no acknowledgement: all of it stays pending until the answer was read here, or a sync went through. The
    answers to the last 8 files can be read. An older courier file of that name is replaced.
    """
    if file == STREAM and as_json:
        raise typer.BadParameter("the file itself goes to stdout, and so would the JSON", param_hint="--json")
    now_ms = opening.now_ms()
    with opening.desk() as at, sync.one_at_a_time(at.config.sync_lock_path, LOCK_WAIT_S):
        if file == STREAM:
            made = courier.make(at.store, now_ms, max_bytes)
            courier.remember(at.store, made, now_ms)
            console.octets(made.raw)
        else:
            made = courier.write(at.store, Path(file).absolute(), now_ms, max_bytes)
        pending = standing.pending_changes(at.store)
        hub = at.store.membership.hub_url
    if as_json:
        shape = {"action": "write", "file": file, "bytes": len(made.raw), "segments": len(made.outgoing.segments)}
        counts = {"changes": made.changes, "left_changes": made.left, "pending_changes": pending}
        console.document(SCHEMA, shape | counts)
        return
    inside = f"{words.count(made.changes, 'change')} in {words.count(len(made.outgoing.segments), 'segment')}"
    console.say(f"wrote {inside}, {len(made.raw):,} bytes; they count as sent once the answer is read here")
    if made.left:
        console.say(f"for the next file: {words.count(made.left, 'change')}")
    name = "FILE" if file == STREAM else file
    console.say(
        "Hand it in wherever there is internet, and bring back answer.courier for 'hwc courier read answer.courier':",
        f"  curl --data-binary @{name} -H 'Content-Type: application/octet-stream' {hub}/v1/sync > answer.courier",
    )


def read(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="The hub's answer; - for stdin.")],
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hwc courier read /media/usb/answer.courier

    Take in the answer that somebody brought from the hub to a file of 'hwc courier write'.

    All of it is checked before anything is changed. An answer may be weeks old, and may be read twice: what is known
    already changes nothing. Exit status 6: it is cut short, of another node or hub, or no answer at all.
    """
    now_ms = opening.now_ms()
    with opening.desk() as at, sync.one_at_a_time(at.config.sync_lock_path, LOCK_WAIT_S):
        taken = courier.read(at.store, _bytes(file), now_ms)
        pending = standing.pending_changes(at.store)
        conflicts = standing.conflicts_open(at.store)
    done = taken.done
    if as_json:
        shape = {"action": "read", "file": file, "bytes": done.bytes_down, "nothing_new": taken.nothing_new}
        told = {"hub_time": documents.time_text(taken.hub_time_ms), "older_than_last_sync": taken.older}
        sent = {"sent_changes": done.sent_changes, "sent_segments": done.sent_segments}
        rest = {"received_changes": done.received_changes, "conflicts_open": conflicts, "pending_changes": pending}
        console.document(SCHEMA, shape | told | sent | rest | {"notices": done.notices})
        return
    if console.manner.quiet:
        return
    if taken.nothing_new:
        console.text("nothing new: " + ("this answer was read before" if taken.again else "all of it was known here"))
    else:
        arrived = f"{words.count(done.sent_changes, 'change')} reached it"
        console.text(
            f"the hub answered {words.time(taken.hub_time_ms)}: {arrived},"
            f" received {words.count(done.received_changes, 'change')}"
        )
    for notice in done.notices:
        console.text(f"hub says: {notice}")
    if pending:
        console.text(f"still pending: {words.count(pending, 'change')}")


def _bytes(file: str) -> bytes:
    if file != STREAM:
        return files.read(Path(file), courier.MAX_ANSWER_BYTES)
    raw = sys.stdin.buffer.read(courier.MAX_ANSWER_BYTES + 1)
    if len(raw) > courier.MAX_ANSWER_BYTES:
        raise TooLarge("What came is larger than an answer can be.")
    return raw
