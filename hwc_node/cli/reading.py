"""Lines from a file or a pipe, each bounded, with a word where the writer pauses.

Rules: no line longer than its limit is ever held whole, and it costs no other line. What is there is given at once:
where nothing more has come for a moment, a pause is given, so that the reader can save and answer what it has.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from sync_protocol.documents import MAX_LINE_BYTES
from sync_protocol.errors import OurFault

PIECE_BYTES: Final = 256 * 1024
MAX_VALUE_LINES: Final = (
    300_000  # of one value over several lines: 28 bytes each, and what holds a line has five times that
)
PAUSE_S: Final = 0.05  # a writer that is silent for so long is waiting for its answer
RESOURCE_TYPE: Final = b'"resourceType"'
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"  # what Windows' editors put in front


@dataclass(frozen=True, slots=True)
class InputLine:
    """One line. number: 1 is the first. raw: without its end, None where it is longer than allowed."""

    number: int
    raw: bytes | None
    end_bytes: int


class Pause:
    """Nothing more has come for a moment."""


PAUSE: Final = Pause()


def open_input(name: str) -> BinaryIO:
    """The file, or stdin for ``-``, unbuffered. Raises OurFault (``E_NO_FILE``)."""
    try:
        if name == "-":
            return os.fdopen(os.dup(0), "rb", buffering=0)
        return Path(name).open("rb", buffering=0)
    except OSError as error:
        raise OurFault(
            f"The file {name} cannot be read: {error.strerror}.",
            code="E_NO_FILE",
            next_step="Check the name, or use - for stdin.",
        ) from None


def size_bytes(opened: BinaryIO) -> int | None:
    """How much there is to read, None for a pipe."""
    found = os.fstat(opened.fileno())
    return found.st_size or None


def lines(opened: BinaryIO, limit_bytes: int = MAX_LINE_BYTES) -> Iterator[InputLine | Pause]:
    """All lines, blank ones too, the last with or without its end."""
    waiting = bytearray()
    number, read_bytes, too_long = 0, 0, False
    while True:
        if (piece := _piece(opened, PAUSE_S)) is None:
            yield PAUSE
            piece = _piece(opened, None)
        if not piece:
            break
        if read_bytes == 0 and piece.startswith(BYTE_ORDER_MARK):
            read_bytes, piece = len(BYTE_ORDER_MARK), piece[len(BYTE_ORDER_MARK) :]
        *whole, rest = piece.split(b"\n")
        for part in whole:
            number += 1
            read_bytes += len(part) + 1
            fits = not too_long and len(waiting) + len(part) <= limit_bytes
            yield InputLine(number, bytes(waiting) + part if fits else None, read_bytes)
            waiting.clear()
            too_long = False
        read_bytes += len(rest)
        if too_long or len(waiting) + len(rest) > limit_bytes:
            waiting.clear()
            too_long = True
        else:
            waiting += rest
    if waiting or too_long:
        yield InputLine(number + 1, None if too_long else bytes(waiting), read_bytes)


def values(opened: BinaryIO, limit_bytes: int) -> Iterator[InputLine | Pause]:
    """JSON values: one a line, or the whole input as one over several lines. What a line holds decides.

    A value over several lines has the number 1; one of more than MAX_VALUE_LINES is as one that is too long. Blank lines
    are left out.
    """
    waiting: list[InputLine] = []
    one_a_line, too_long, size, end_bytes = False, False, 0, 0
    for item in lines(opened, limit_bytes):
        if isinstance(item, Pause):
            if one_a_line:
                yield item
            continue
        end_bytes = item.end_bytes
        if item.raw is not None and not item.raw.strip():
            continue
        if not one_a_line and not too_long and _stands_alone(item.raw, first=not waiting):
            one_a_line = True
            yield from waiting
            waiting.clear()
        if one_a_line:
            yield item
            continue
        size += len(item.raw or b"") + 1
        too_long = too_long or item.raw is None or size > limit_bytes or len(waiting) >= MAX_VALUE_LINES
        if too_long:
            waiting.clear()
        else:
            waiting.append(item)
    if too_long:
        yield InputLine(1, None, end_bytes)
    elif waiting:
        yield InputLine(1, b"\n".join(one.raw or b"" for one in waiting), end_bytes)


def _stands_alone(raw: bytes | None, *, first: bool) -> bool:
    """Whether a line is a JSON value by itself; behind the first line: a resource, since parts of one may be values."""
    if raw is None or not (first or (raw.startswith(b"{") and RESOURCE_TYPE in raw)):
        return False
    try:
        msgspec.json.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True


def _piece(opened: BinaryIO, timeout_s: float | None) -> bytes | None:
    """What is there, b"" at the end, None where nothing comes in time."""
    try:
        ready, _, _ = select.select([opened], [], [], timeout_s)
        return opened.read(PIECE_BYTES) if ready else None
    except OSError as error:
        raise OurFault(f"The input cannot be read: {error.strerror}.", code="E_NO_FILE") from None
