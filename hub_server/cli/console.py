"""Where a command's words go: what it found to stdout, what it says to stderr, how it ended to the exit status.

Rules: stdout carries the answer and nothing else, as UTF-8 whatever the locale; a closed pipe ends a command quietly.
Text from records is shown without control characters, so that no record can steer somebody's terminal. Errors take
one to three lines with their code. One function, `exit_status`, turns the error tree into the contract's statuses.

It refuses to know records, the database and the network.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import msgspec
import segno

from sync_protocol.errors import HealthSyncError, InvalidValue, NeedsPerson, NotAllowed, OurFault, TheirBytes


class Status(IntEnum):
    """What the exit status says; scripts rely on it."""

    DONE = 0
    ERROR = 1
    WRONG_USAGE = 2
    NEEDS_PERSON = 3
    NOT_ENROLLED_OR_REFUSED = 4
    UNREACHABLE = 5
    DOES_NOT_CHECK_OUT = 6
    INTERRUPTED = 130


UNREACHABLE_CODES: Final = frozenset({"E_PG_UNREACHABLE", "E_PG_BUSY"})
PERSONAL_CODES: Final = frozenset({"E_BAD_REPLY", "E_BAD_CSV", "E_NOT_JSON", "E_BAD_LINE"})
"""Errors about what somebody typed, though the tree counts them as bytes from outside."""
QR_BORDER: Final = 2  # modules; four are asked for on paper, two do on a screen
DRIVERS: Final = frozenset({"psycopg", "sqlalchemy"})


def exit_status(error: BaseException) -> Status:
    """The exit status of a command that ended with this error."""
    if isinstance(error, KeyboardInterrupt):
        return Status.INTERRUPTED
    if not isinstance(error, HealthSyncError):
        return Status.UNREACHABLE if "OperationalError" in _database_classes(error) else Status.ERROR
    if error.code in UNREACHABLE_CODES:
        return Status.UNREACHABLE
    if isinstance(error, NeedsPerson):
        return Status.NEEDS_PERSON
    if isinstance(error, TheirBytes) and not isinstance(error, InvalidValue | NotAllowed):
        return Status.ERROR if error.code in PERSONAL_CODES else Status.DOES_NOT_CHECK_OUT
    return Status.ERROR


def _database_classes(error: BaseException) -> set[str]:
    """The names of the database driver's classes that the error is of: asked by name, since its door is elsewhere."""
    return {one.__name__ for one in type(error).__mro__ if one.__module__.partition(".")[0] in DRIVERS}


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


def drawn_qr(words: str) -> list[str]:
    """The lines of a QR code, drawn in half blocks."""
    drawn = io.StringIO()
    segno.make(words, error="l", micro=False).terminal(drawn, compact=True, border=QR_BORDER)
    return drawn.getvalue().splitlines()


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


def _tell(lines: Iterable[str]) -> None:
    with suppress(OSError, ValueError):  # a closed stderr is nobody's loss
        sys.stderr.write("".join(plain(one) + "\n" for one in lines))
        sys.stderr.flush()


def misused(message: str) -> None:
    """Tell that a command was typed wrongly."""
    _tell([f"hub: {_sentence(' '.join(message.split()))} [E_USAGE]", "     Every command has --help, with examples."])


def complain(error: BaseException) -> Status:
    """Tell an error in one to three lines, and return the exit status. -q does not silence errors."""
    status = exit_status(error)
    if isinstance(error, KeyboardInterrupt):
        _tell(["hub: interrupted; what was told as done is done, and the command can be repeated."])
    elif isinstance(error, HealthSyncError):
        _tell([f"hub: {_sentence(error.message)} [{error.code}]"])
        if error.next_step:
            _tell([f"     {_sentence(error.next_step)}"])
    elif _database_classes(error):
        # The text of a database's error may quote a row: its class and state are enough, the rest is for -v.
        state = getattr(error, "sqlstate", None) or type(error).__name__
        _tell([f"hub: The database refused or broke off ({state}); nothing was done. [E_PG]", "     See 'hub doctor'."])
    elif isinstance(error, MemoryError):
        _tell(["hub: The machine ran out of memory. [E_NO_MEMORY]"])
    else:
        _tell([f"hub: Something that should not happen did ({type(error).__name__}). [E_BUG]"])
        _tell(["     What was told as done is done. Repeat with -v and report what it prints."])
    if manner.verbose and not isinstance(error, KeyboardInterrupt):
        with suppress(OSError, ValueError):
            traceback.print_exception(error, file=sys.stderr)
    return status


def _sentence(message: str) -> str:
    whole = message if message.startswith(("hub ", "hwc ")) else message[:1].upper() + message[1:]
    return whole if whole.endswith((".", "?", "!")) else whole + "."


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
