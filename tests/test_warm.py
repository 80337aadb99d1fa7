"""The programs that start at once: one that is not asked whole, or that its caller leaves, keeps nobody else waiting."""

from __future__ import annotations

import array
import json
import os
import socket
import subprocess
from pathlib import Path

ASKED = json.dumps(["hwc", ["--version"], {}, "/"]).encode()


def ask(folder: Path, asked: bytes, size: int) -> None:
    """Ask for a program in so many bytes, of which these come, and go away."""
    with socket.socket(socket.AF_UNIX) as link, open(os.devnull, "r+b") as nothing:
        link.connect(str(folder / "socket"))
        streams = array.array("i", [nothing.fileno()] * 3)
        link.sendmsg([size.to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
        link.sendall(asked)


def test_whoever_is_killed_while_asking_or_waiting_keeps_nobody_from_being_served(warm_folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(warm_folder / "socket"))
    for asked in (b"", ASKED[:9], ASKED):
        ask(warm_folder, asked, len(ASKED))
    ended = subprocess.run([warm_folder / "hwc", "--version"], capture_output=True, check=True, text=True)
    assert ended.stdout.startswith("hwc ")
