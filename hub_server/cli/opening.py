"""What every command starts with: its settings, the opened hub, and who is working.

Commands open the database themselves, so they work while ``hub serve`` runs and when it does not; the private
PostgreSQL is started for as long as somebody needs it. ``-q``, ``-v`` and ``--home`` may stand before or after the
command's name. This is the only place that reads the environment and the clock.
"""

from __future__ import annotations

import inspect
import os
import pwd
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from hub_server import config as settings
from hub_server import people, postgres, recovery
from hub_server.cli import console
from hub_server.clock import wall_ms
from hub_server.config import HubConfig, make_folders
from hub_server.database import Database
from hub_server.ledger import Ledger
from hub_server.people import Person
from hub_server.store import Store
from hub_server.vault import Vault, load_or_make
from sync_protocol import documents
from sync_protocol.errors import InvalidValue, NeedsPerson, OurFault

PANEL: Final = "Everywhere"
MAX_INPUT_BYTES: Final = 64 * 1024 * 1024  # the largest file that any command reads whole
ADDRESS_FILE: Final = "serve.address"
MAX_ADDRESS_CHARS: Final = 300
_DURATION: Final = re.compile(r"([0-9]{1,4})([mhd])")
_UNIT_MS: Final = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}

Home = Annotated[
    Path | None, typer.Option("--home", help="The hub's folder [HUB_HOME].", rich_help_panel=PANEL, metavar="FOLDER")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say only errors.", rich_help_panel=PANEL)]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say more; errors with all details.", rich_help_panel=PANEL)
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
ShowNames = Annotated[bool, typer.Option("--show-names", help="Show patients' names.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
As = Annotated[str, typer.Option("--as", metavar="DOCTOR", help="The login of the doctor who does this.")]
OfFacility = Annotated[str | None, typer.Option("--facility", metavar="CODE", help="Only this facility.")]


@dataclass(frozen=True, slots=True)
class _Given:
    """The flags that stood before the command's name."""

    home: Path | None = None
    quiet: bool = False
    verbose: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """A hub that is ready to work. private: its PostgreSQL is the hub's own, and server_log that one's log."""

    config: HubConfig
    store: Store
    private: bool
    server_version: int
    url: str = field(repr=False)
    server_log: Path | None = None

    @property
    def database(self) -> Database:
        return self.store.database

    def doctor(self, login: str) -> Person:
        """Raises InvalidValue (``E_UNKNOWN_PERSON``, ``E_NOT_A_DOCTOR``) or NeedsPerson (``E_PERSON_DISABLED``)."""
        with self.database.transaction() as connection:
            return people.doctor(connection, login)


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


def command(app: typer.Typer, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command that also takes the flags of `everywhere`."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def run(*, home: Path | None, quiet: bool, verbose: bool, **own: Any) -> None:
            everywhere(home, quiet, verbose)
            function(**own)

        own = inspect.signature(function, eval_str=True)
        added = inspect.signature(everywhere, eval_str=True).parameters.values()
        keywords = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own.parameters.values(), *added)]
        run.__signature__ = own.replace(parameters=keywords)  # type: ignore[attr-defined]  # what typer reads
        run.__annotations__ = {one.name: one.annotation for one in keywords}
        app.command(name, short_help=_purpose(function))(run)
        return function

    return register


def _purpose(function: Callable[..., None]) -> str:
    """The first sentence behind the examples, for the list of commands."""
    _, _, rest = inspect.cleandoc(function.__doc__ or "").partition("\n\n")
    return " ".join(rest.partition("\n\n")[0].split()).partition(". ")[0].rstrip(".")


def now_ms() -> int:
    """The wall clock."""
    return wall_ms()


def configured(**flags: str | int | bool | Path | None) -> HubConfig:
    return settings.load(_Everywhere.given.home, os.environ, flags)


@contextmanager
def hub(config: HubConfig | None = None) -> Iterator[Opened]:
    """The hub, its database reached and of this program's version. Raises OurFault or NeedsPerson."""
    chosen = config or configured()
    make_folders(chosen)
    with postgres.ensure_running(chosen) as running:
        identity = load_or_make(chosen.keys_folder, now_ms())
        database = Database(running.url)
        try:
            database.migrate()
            vault = Vault(
                identity,
                ledger=Ledger(chosen.ledger_file, identity.signing, identity.environment, identity.retired_verifiers),
            )
            recovery.replay(database, vault)
            store, own = Store(database, vault), running.cluster
            log = own.log_file if own is not None else None
            yield Opened(chosen, store, own is not None, running.server_version, running.url, log)
        finally:
            database.close()


def remember_address(config: HubConfig, address: str) -> None:
    """Where this program serves, for the commands beside it; with its number, so that a dead one is not believed."""
    (config.locks_folder / ADDRESS_FILE).write_text(f"{os.getpid()} {address}\n")


def forget_address(config: HubConfig) -> None:
    (config.locks_folder / ADDRESS_FILE).unlink(missing_ok=True)


def address(config: HubConfig) -> str:
    """What nodes are told: the public URL, else where a hub of this home serves now, else where it would."""
    if config.public_url is None:
        try:
            number, _, serving = (config.locks_folder / ADDRESS_FILE).read_text()[:MAX_ADDRESS_CHARS].partition(" ")
            os.kill(int(number), 0)
            return serving.strip()
        except (OSError, ValueError):
            pass
    return config.url


def operator() -> str:
    """Who is at this terminal, as the audit names them: the system's user."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return f"operator {name[:80]}"


def randomness(size_bytes: int) -> bytes:
    return os.urandom(size_bytes)


def confirm(question: str, yes: bool) -> None:
    """Ask before what cannot simply be repeated. Raises NeedsPerson (``E_NOT_CONFIRMED``)."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise NeedsPerson(
            "This asks for a confirmation, and there is no terminal.", code="E_NOT_CONFIRMED", next_step="Give --yes"
        )
    sys.stderr.write(f"{console.plain(question)} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise NeedsPerson("Nothing was done.", code="E_NOT_CONFIRMED")


def read_input(name: str, limit_bytes: int = MAX_INPUT_BYTES) -> bytes:
    """A file, or stdin for ``-``: one byte more than allowed where it is too long. Raises OurFault (``E_NO_FILE``)."""
    try:
        if name == "-":
            return sys.stdin.buffer.read(limit_bytes + 1)
        with Path(name).open("rb") as opened:
            return opened.read(limit_bytes + 1)
    except OSError as error:
        raise OurFault(
            f"{name} cannot be read: {error.strerror}.",
            code="E_NO_FILE",
            next_step="Check the name, or use - for stdin",
        ) from None


def duration_ms(text: str, most_ms: int) -> int:
    """``30m``, ``72h`` or ``3d``. Raises typer's error of wrong usage."""
    found = _DURATION.fullmatch(text.strip())
    length = int(found[1]) * _UNIT_MS[found[2]] if found else 0
    if not 0 < length <= most_ms:
        raise typer.BadParameter(
            f"a time like 30m, 72h or 3d, at most {most_ms // _UNIT_MS['d']}d", param_hint="--valid"
        )
    return length


def parsed_id(text: str, what: str) -> bytes:
    """A UUID (or 26 Crockford characters) as 16 bytes. Raises InvalidValue (``E_BAD_ID``)."""
    try:
        return documents.parse_id(text, what)
    except InvalidValue:
        raise InvalidValue(f"That is no id of a {what}: ids are UUIDs.", field=what, code="E_BAD_ID") from None


def time_words(ms: int | None) -> str:
    """A time as a person reads it, empty for none."""
    return documents.time_text(ms)[:16].replace("T", " ") + "Z" if ms is not None else ""
