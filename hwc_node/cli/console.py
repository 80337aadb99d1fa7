"""Where a command's words go: what it found to stdout, what it says to stderr, how it ended to the exit status.

Rules: stdout carries the answer and nothing else, as UTF-8 whatever the locale; a closed pipe ends a command quietly.
Text from records is shown without control characters, so that no record can steer somebody's terminal. Errors take
one to three lines with their code. One table, here, turns the error tree into the exit statuses of the contract.

It refuses to know records and the store.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec

from hwc_node.sync import HubOutOfReach, RefusedByHub
from sync_protocol.errors import HealthSyncError, InvalidValue, NotAllowed, OurFault, TheirBytes

if TYPE_CHECKING:
    from rich.progress import Progress


class Status(IntEnum):
    """What the exit status says; scripts rely on it."""

    DONE = 0
    ERROR = 1
    WRONG_USAGE = 2
    NEEDS_PERSON = 3
    NOT_ENROLLED_OR_REFUSED = 4
    HUB_UNREACHABLE = 5
    DOES_NOT_CHECK_OUT = 6
    INTERRUPTED = 130


NOT_ENROLLED_CODES: Final = frozenset({"E_NOT_ENROLLED", "E_NO_DATABASE", "E_REVOKED", "E_UNKNOWN_NODE"})
BAR_COLUMNS: Final = 12  # of a terminal of 80: what is told in words takes the rest
PERSONAL_CODES: Final = frozenset({"E_BAD_LINE", "E_NOT_JSON", "E_CODE_MISTYPED"})
"""Errors about what somebody typed, though the tree counts them as bytes from outside."""


def exit_status(error: BaseException) -> Status:
    """The exit status of a command that ended with this error."""
    if isinstance(error, KeyboardInterrupt):
        return Status.INTERRUPTED
    if not isinstance(error, HealthSyncError):
        return Status.ERROR
    if isinstance(error, RefusedByHub) or error.code in NOT_ENROLLED_CODES:
        return Status.NOT_ENROLLED_OR_REFUSED
    if isinstance(error, HubOutOfReach):
        return Status.HUB_UNREACHABLE
    if isinstance(error, TheirBytes) and not isinstance(error, InvalidValue | NotAllowed):
        return Status.ERROR if error.code in PERSONAL_CODES else Status.DOES_NOT_CHECK_OUT
    return Status.ERROR


class OutputClosed(Exception):
    """Whoever read stdout went away (``| head``)."""


@dataclass(slots=True)
class Manner:
    """How much to say; set once from the flags before a command runs."""

    quiet: bool = False
    verbose: bool = False


manner = Manner()


def line(value: Any) -> None:
    """One JSON value as one line on stdout. Not flushed: see `flush`."""
    _write(msgspec.json.encode(value) + b"\n")


def document(schema_name: str, value: dict[str, Any]) -> None:
    """The one object of a command's ``--json``, its schema first."""
    _write(msgspec.json.format(msgspec.json.encode({"schema": schema_name, **value}), indent=2) + b"\n")
    flush()


def octets(raw: bytes) -> None:
    """A file on stdout."""
    _write(raw)
    flush()


def text(*lines: str) -> None:
    """Lines for people on stdout, made harmless for a terminal."""
    _write("".join(plain(one) + "\n" for one in lines).encode("utf-8", "replace"))
    flush()


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as what stands in them. No frames and no colour: it is as often piped as read."""
    every = [list(map(plain, row)) for row in (heads, *rows)]
    widths = [max(map(_columns, column)) for column in zip(*every, strict=True)]
    for row in every:
        cells = [cell + " " * (width - _columns(cell)) for cell, width in zip(row, widths, strict=True)]
        text("  ".join(cells).rstrip())


def plain(words: str) -> str:
    """The text without control characters, line ends and what reverses the direction of writing."""
    if words.isascii() and words.isprintable():
        return words
    return "".join(" " if letter in "\n\r\t" else letter for letter in words if not _steers(letter))


def _steers(letter: str) -> bool:
    # Joiners (U+200C, U+200D) are part of how Indian scripts are written; they steer nothing.
    category = unicodedata.category(letter)
    return category in ("Cc", "Cf", "Cs", "Zl", "Zp") and letter not in "\n\r\t\u200c\u200d"


def _columns(words: str) -> int:
    """How many columns of a terminal the text takes: marks take none, wide letters two."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in words)
    marks = sum(unicodedata.category(letter) in ("Mn", "Me", "Cf") for letter in words)
    return len(words) + wide - marks


def flush() -> None:
    try:
        sys.stdout.buffer.flush()
    except OSError as error:
        raise _output_fault(error) from None


def _write(raw: bytes) -> None:
    try:
        sys.stdout.buffer.write(raw)
    except OSError as error:
        raise _output_fault(error) from None


def _output_fault(error: OSError) -> Exception:
    if error.errno in (errno.EPIPE, errno.ESHUTDOWN):
        return OutputClosed()
    return OurFault(f"The answer cannot be written: {error.strerror}.", code="E_OUTPUT", next_step="Free some space.")


def say(*lines: str) -> None:
    """Words for the person at the terminal, on stderr; none with -q."""
    if not manner.quiet:
        _tell(lines)


def detail(*lines: str) -> None:
    """Words for who asked for more with -v."""
    if manner.verbose:
        _tell(lines)


def _tell(lines: Iterable[str]) -> None:
    with suppress(OSError, ValueError):  # a closed stderr is nobody's loss
        sys.stderr.write("".join(plain(one) + "\n" for one in lines))
        sys.stderr.flush()


def complain(error: BaseException) -> Status:
    """Tell an error in one to three lines, and return the exit status. -q does not silence errors."""
    status = exit_status(error)
    if isinstance(error, KeyboardInterrupt):
        _tell(["hwc: interrupted; what was told as saved is saved, and the command can be repeated."])
    elif isinstance(error, HealthSyncError):
        _tell([f"hwc: {_sentence(error.message)} [{error.code}]", *([_next(error)] if error.next_step else [])])
    elif isinstance(error, MemoryError):
        _tell(["hwc: The machine ran out of memory; what was told as saved is saved. [E_NO_MEMORY]"])
    else:
        # The text of a foreign error may quote what a person wrote: its type is enough, the rest is for -v.
        _tell([f"hwc: Something that should not happen did ({type(error).__name__}). [E_BUG]"])
        _tell(["     What was told as saved is saved. Repeat with -v and report what it prints."])
    if manner.verbose and not isinstance(error, KeyboardInterrupt):
        with suppress(OSError, ValueError):
            traceback.print_exception(error, file=sys.stderr)
    return status


def _sentence(message: str) -> str:
    whole = message[:1].upper() + message[1:]
    return whole if whole.endswith((".", "?", "!")) else whole + "."


def _next(error: HealthSyncError) -> str:
    return "     " + error.next_step[:1].upper() + error.next_step[1:]  # no full stop: it may end with a command


def misused(message: str) -> None:
    """Tell that a command was typed wrongly."""
    _tell([f"hwc: {_sentence(' '.join(message.split()))} [E_USAGE]", "     Every command has --help, with examples."])


def close() -> None:
    """Write out what is buffered, so that the interpreter finds nothing to complain about when it ends."""
    try:
        flush()
    except (OutputClosed, OurFault):
        leave_quietly()


def leave_quietly() -> None:
    """Nobody reads stdout any more: what is still buffered goes nowhere, without a word at the interpreter's end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def progress() -> Progress:
    """A bar on stderr with the time left, only where stderr is a terminal. Use as a context, and `add_task` to it.

    said: a field of the task, what stands behind the bar: bytes, and how much of how much is done.
    """
    from rich.console import Console  # 6 MB, and a tenth of a command's start
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    watching = sys.stderr.isatty() and not manner.quiet
    columns = (
        TextColumn("{task.description}"),
        BarColumn(BAR_COLUMNS),
        TextColumn("{task.fields[said]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not watching)
