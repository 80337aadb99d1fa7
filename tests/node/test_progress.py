"""Progress of long syncs and imports: bytes, done of total and the time left, on a terminal and nowhere else."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from bench import places
from hwc_node import outbox, sync
from hwc_node.cli import words
from hwc_node.sync import Progress
from tests.node.paper_hub import PaperHub
from tests.node.peer import Peer, Request
from tests.node.served_centre import Centre, environment, patients, save_lines

MANY: Final = 1_500
PATIENCE_S: Final = 120.0
ANSWER_PAUSE_S: Final = 0.15  # a link slow enough that the bar is drawn more than once
STEERING: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer(PaperHub(items_a_page=40)).answering() as answering:
        yield answering


@pytest.fixture
def centre(peer: Peer, tmp_path: Path) -> Centre:
    return Centre.enrol(peer, tmp_path / "home")


def slowly(request: Request) -> None:
    time.sleep(ANSWER_PAUSE_S)
    request.reply(200, request.honest())


def at_a_terminal(centre: Centre, *arguments: str) -> tuple[str, str]:
    """(stdout, what the terminal showed on stderr, without what moves the cursor) of a command that ended with 0."""
    ours, theirs = pty.openpty()
    shell = environment(centre.config.home) | {"TERM": "xterm", "COLUMNS": "100"}
    ran = subprocess.Popen(
        [str(places.BIN / "hwc"), *arguments],
        env=shell,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    assert ran.stdout is not None
    out, shown, deadline_s = b"", b"", time.monotonic() + PATIENCE_S
    sources = {ran.stdout.fileno(), ours}
    while sources:
        assert time.monotonic() < deadline_s, shown
        for source in select.select(list(sources), [], [], 1.0)[0]:
            try:
                piece = os.read(source, 65_536)
            except OSError:  # how a terminal ends on Linux
                piece = b""
            if not piece:
                sources.discard(source)
            elif source == ours:
                shown += piece
            else:
                out += piece
    assert ran.wait(PATIENCE_S) == 0, shown
    ran.stdout.close()
    os.close(ours)
    return out.decode(), STEERING.sub("", shown.decode())


def test_a_long_sync_shows_bytes_how_much_is_done_and_the_time_left(peer: Peer, centre: Centre, tmp_path: Path) -> None:
    file = save_lines(tmp_path / "visits.jsonl", patients(0, MANY))
    assert centre.spawn("import", file).communicate(timeout=PATIENCE_S)
    peer.trick = slowly
    out, shown = at_a_terminal(centre, "sync", "--json")
    told: dict[str, Any] = json.loads(out)
    sent = [(int(one.replace(",", "")), int(all_.replace(",", ""))) for one, all_ in SENT.findall(shown)]
    assert sent[0][0] < sent[-1][0] == sent[-1][1] == told["sent_changes"] > MANY
    assert len({done for done, _ in sent}) > 2, "it moved while it went on"
    assert f"of {told['sent_changes']:,}, {words.size(told['bytes_up'])}; got " in shown
    assert re.search(r"got [1-9][0-9,]* of [1-9][0-9,]*, [0-9.]+ [kM]B", shown)
    assert re.search(r"[0-9]:[0-9]{2}:[0-9]{2} left", shown)


SENT: Final = re.compile(r"sent ([0-9,]+) of ([0-9,]+), ")


def test_a_long_import_shows_bytes_of_the_file_and_the_time_left(centre: Centre, tmp_path: Path) -> None:
    file = save_lines(tmp_path / "visits.jsonl", patients(0, MANY))
    out, shown = at_a_terminal(centre, "import", file)
    assert len(out.splitlines()) == MANY
    whole = words.size(Path(file).stat().st_size)
    assert f"{MANY:,} lines, {whole} of {whole}" in shown
    assert re.search(r"[0-9]:[0-9]{2}:[0-9]{2} left", shown)


def test_what_is_no_terminal_gets_no_bar(peer: Peer, centre: Centre, tmp_path: Path) -> None:
    file = save_lines(tmp_path / "visits.jsonl", patients(0, 5))
    for arguments, said in ((["import", file], b"5 lines: 5 created\n"), (["sync"], b"")):
        ran = centre.spawn(*arguments)
        _, err = ran.communicate(timeout=PATIENCE_S)
        assert (ran.returncode, err) == (0, said)


def test_q_shows_no_bar_at_a_terminal(centre: Centre) -> None:
    _, shown = at_a_terminal(centre, "-q", "sync")
    assert shown == ""


def test_progress_goes_forward_by_pieces_and_ends_at_its_total(peer: Peer, centre: Centre, tmp_path: Path) -> None:
    file = save_lines(tmp_path / "visits.jsonl", patients(0, 300))
    assert centre.spawn("import", file).communicate(timeout=PATIENCE_S)
    seen: list[Progress] = []
    with centre.open() as store:
        before = outbox.way_left(store)
        assert before.unsent == before.pending > 300
        done = sync.run(store, on_progress=seen.append)
        assert outbox.way_left(store).unsent == outbox.way_left(store).pending == outbox.way_left(store).behind == 0
    for one, then in zip(seen, seen[1:], strict=False):
        assert one.bytes_up <= then.bytes_up
        assert one.bytes_down <= then.bytes_down
        assert one.done_steps <= then.done_steps <= then.total_steps
    assert len(seen) > 2 * done.requests, "it is told within an exchange too"
    assert (seen[-1].bytes_up, seen[-1].bytes_down) == (done.bytes_up, done.bytes_down)
    assert seen[-1].sent_changes == before.unsent == seen[-1].taken_items
    assert seen[-1].done_steps == seen[-1].total_steps


@pytest.mark.parametrize(
    ("size_bytes", "said"), [(0, "0 bytes"), (999, "999 bytes"), (43_900, "43.9 kB"), (1_234_567, "1.2 MB")]
)
def test_sizes_are_said_as_people_say_them(size_bytes: int, said: str) -> None:
    assert words.size(size_bytes) == said
