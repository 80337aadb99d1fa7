"""What every command starts with: its settings, the passphrase, the opened database and who is writing.

Rules: a secret comes from a prompt, the environment or a file descriptor, never from a flag. ``-q``, ``-v`` and
``--home`` may stand before or after the command's name. This is the only place that reads the environment.
"""

from __future__ import annotations

import getpass
import inspect
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from hwc_node import config as settings
from hwc_node import keystore
from hwc_node.cli import console
from hwc_node.clinic import Clinic
from hwc_node.config import NodeConfig
from hwc_node.keystore import MAX_PASSPHRASE_BYTES, Unlocked
from hwc_node.store import Store
from sync_protocol.change import PersonId
from sync_protocol.errors import InvalidValue, NeedsPerson

PASSPHRASE_VARIABLE: Final = "HWC_PASSPHRASE"
FD_SUFFIX: Final = "_FD"
PERSON_VARIABLE: Final = "HWC_PERSON_NAME"
CODE_VARIABLE: Final = "HWC_ENROL_CODE"
PANEL: Final = "Everywhere"

Home = Annotated[
    Path | None, typer.Option("--home", help="The node's folder [HWC_HOME].", rich_help_panel=PANEL, metavar="FOLDER")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say only errors.", rich_help_panel=PANEL)]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say more; errors with all details.", rich_help_panel=PANEL)
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
ShowNames = Annotated[bool, typer.Option("--show-names", help="Show patients' names.")]


@dataclass(frozen=True, slots=True)
class _Given:
    """The flags that stood before the command's name."""

    home: Path | None = None
    quiet: bool = False
    verbose: bool = False


@dataclass(frozen=True, slots=True)
class Desk:
    """An opened node, and who works at it."""

    config: NodeConfig
    store: Store
    person: PersonId
    clinic: Clinic
    unlocked: Unlocked


class _Everywhere:
    given = _Given()


def everywhere(home: Home = None, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Remember the flags that every command takes; a command's own are added to them."""
    before = _Everywhere.given
    _Everywhere.given = _Given(home or before.home, quiet or before.quiet, verbose or before.verbose)
    console.manner.quiet, console.manner.verbose = _Everywhere.given.quiet, _Everywhere.given.verbose


def forget() -> None:
    """Start anew: for a process that runs more than one command."""
    _Everywhere.given = _Given()
    everywhere()


def command(app: typer.Typer, name: str, purpose: str) -> Callable[[Callable[..., None]], None]:
    """Register a command that also takes the flags of `everywhere`. purpose: one line for the list of commands."""
    return lambda function: _registered(app.command(name, short_help=purpose), function)


def group(app: typer.Typer) -> Callable[[Callable[..., None]], None]:
    """Register what a group of commands does without one of them; it takes the flags of `everywhere` as well."""
    return lambda function: _registered(app.callback(invoke_without_command=True), function)


def _registered(register: Callable[[Callable[..., None]], object], function: Callable[..., None]) -> None:
    @wraps(function)
    def run(*, home: Path | None, quiet: bool, verbose: bool, **own: Any) -> None:
        everywhere(home, quiet, verbose)
        function(**own)

    own = inspect.signature(function, eval_str=True)
    added = inspect.signature(everywhere, eval_str=True).parameters.values()
    keywords = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own.parameters.values(), *added)]
    run.__signature__ = own.replace(parameters=keywords)  # type: ignore[attr-defined]  # what typer reads
    run.__annotations__ = {one.name: one.annotation for one in keywords}
    register(run)


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


def configured(**flags: str | int | float | bool | None) -> NodeConfig:
    return settings.load(_Everywhere.given.home, os.environ, flags)


@contextmanager
def desk(**flags: str | int | float | bool | None) -> Iterator[Desk]:
    """Unlock and open the node. Raises NeedsPerson (``E_NOT_ENROLLED``, ``E_WRONG_PASSPHRASE``, …) or OurFault."""
    config = configured(**flags)
    unlocked = _unlock(config)
    with Store.open(config, unlocked.key) as store:
        yield Desk(config, store, unlocked.person, Clinic(store, unlocked.person), unlocked)


def _unlock(config: NodeConfig) -> Unlocked:
    keystore.slots(config.slots_path)  # not enrolled: say so before asking for a passphrase
    name = os.environ.get(PERSON_VARIABLE) or None
    return keystore.unlock(config.slots_path, passphrase("Passphrase: "), name)


def passphrase(
    question: str, *, twice: bool = False, variable: str = PASSPHRASE_VARIABLE, what: str = "passphrase"
) -> str:
    """From the environment, a file descriptor, or the terminal. Raises NeedsPerson (``E_NO_PASSPHRASE``).

    variable: of the environment; the one with ``_FD`` behind its name holds the number of a descriptor. what: the
    secret that is asked for, if it is no passphrase.
    """
    if (given := os.environ.get(variable)) is not None:
        return given
    if (descriptor := os.environ.get(variable + FD_SUFFIX)) is not None:
        return _from_descriptor(descriptor, variable + FD_SUFFIX)
    _require_terminal(what, variable, f"E_NO_{what.upper()}")
    first = _ask_secretly(question)
    if twice and _ask_secretly("The same again: ") != first:
        raise InvalidValue("The two passphrases differ.", field="passphrase", code="E_PASSPHRASES_DIFFER")
    return first


def person_name() -> str:
    """The first person's name, from the environment or the terminal. Raises NeedsPerson (``E_NO_NAME``)."""
    if given := os.environ.get(PERSON_VARIABLE):
        return given
    _require_terminal("person's name", PERSON_VARIABLE, "E_NO_NAME")
    sys.stderr.write("Your name, as colleagues know you: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def confirm(question: str) -> None:
    """Ask at the terminal; anything but yes raises NeedsPerson (``E_NOT_CONFIRMED``), and so does having no terminal."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise NeedsPerson(
            "This asks for a confirmation, and there is no terminal.", code="E_NOT_CONFIRMED", next_step="Give --yes"
        )
    sys.stderr.write(f"{console.plain(question)} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().casefold() not in ("y", "yes"):
        raise NeedsPerson("Nothing was changed.", code="E_NOT_CONFIRMED")


def _require_terminal(what: str, variable: str, code: str) -> None:
    if not _has_terminal():
        raise NeedsPerson(f"There is no terminal to ask for the {what}.", code=code, next_step=f"Set {variable}.")


def _has_terminal() -> bool:
    """Whether somebody can be asked, also where stdin is a pipe: getpass asks the terminal itself."""
    if sys.stdin is not None and sys.stdin.isatty():
        return True
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _ask_secretly(question: str) -> str:
    try:
        return getpass.getpass(question)
    except EOFError:
        raise KeyboardInterrupt from None


def _from_descriptor(text: str, variable: str) -> str:
    """One line from a file descriptor that the caller opened, such as ``HWC_PASSPHRASE_FD=3 hwc sync 3<file``."""
    try:
        with os.fdopen(int(text), "rb") as opened:
            return opened.readline(MAX_PASSPHRASE_BYTES + 2).decode().rstrip("\r\n")
    except (ValueError, OSError):
        raise NeedsPerson(
            "The passphrase cannot be read from the file descriptor.",
            code="E_NO_PASSPHRASE",
            next_step=f"{variable} is the number of an open descriptor with a line of text.",
        ) from None
