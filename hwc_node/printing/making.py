"""A paper to its PDF, by a program of its own that lives as long as it takes: what shapes letters stays out of the server.

It is given the paper on stdin and nothing else: no arguments, no settings, no passphrase from the environment. Nothing is
written to the disk. One paper is drawn at a time.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Final

import msgspec
import structlog

from hwc_node.printing.limits import MAX_PAPER_BYTES, MAX_PDF_BYTES, PATIENCE_S, WAIT_S
from hwc_node.printing.paper import Order, Paper, Size
from sync_protocol.errors import OurFault
from sync_protocol.words import N_

PROGRAM: Final = (
    "-P",
    "-m",
    "hwc_node.printing",
)  # -P: modules come from where this program is, not from where it stands
ENVIRONMENT: Final = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
BEGINS: Final = b"%PDF-"

_drawing = threading.Lock()
log = structlog.get_logger("hwc.printing")


def pdf(paper: Paper, size: Size) -> bytes:
    """The PDF of a paper. Raises OurFault (``E_PRINT``, ``E_NO_FONTS``, ``E_BUSY``); the page prints all the same."""
    raw = msgspec.json.encode(Order(paper, size))
    if len(raw) > MAX_PAPER_BYTES:
        raise _failed("too_large")
    if not _drawing.acquire(timeout=WAIT_S):
        raise OurFault(N_("Another paper is being made. Try again in a moment."), code="E_BUSY")
    try:
        ended = subprocess.run(
            [sys.executable, *PROGRAM], input=raw, capture_output=True, check=False, timeout=PATIENCE_S, env=ENVIRONMENT
        )
    except subprocess.TimeoutExpired:
        raise _failed("too_slow") from None
    except OSError:
        raise _failed("not_begun") from None
    finally:
        _drawing.release()
    if ended.stderr == b"E_NO_FONTS":
        raise OurFault(
            N_("A part of this program is missing. Ask whoever installed it to run: make assets"), code="E_NO_FONTS"
        )
    if ended.returncode != 0 or not ended.stdout.startswith(BEGINS) or len(ended.stdout) > MAX_PDF_BYTES:
        raise _failed(f"status_{ended.returncode}")
    return ended.stdout


def _failed(why: str) -> OurFault:
    log.error("not_drawn", code="E_PRINT", why=why)
    return OurFault(
        N_("The PDF could not be made. Print the page itself, from the browser."),
        code="E_PRINT",
        next_step="Print the page itself, from the browser; on a small machine, close other programs first",
    )
