"""The hub's settings and paths: one frozen value, read once, passed down.

Rules: a flag wins over the environment, the environment over ``config.toml`` in the home folder, that over the
default. An unknown or malformed setting is a coded error that names the setting and never repeats its value (it may
hold a password). The hub listens on loopback only, unless told that a TLS proxy stands in front. Folders that hold
secrets have mode 0700.

It refuses to know what the settings are used for: it opens no database, no socket and no key.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import platformdirs

from sync_protocol.errors import OurFault

APPLICATION: Final = "health-sync-hub"
CONFIG_FILE_NAME: Final = "config.toml"
DEFAULT_PORT: Final = 8460
PRIVATE_MODE: Final = 0o700
MAX_CONFIG_FILE_BYTES: Final = 64 * 1024  # a few lines of settings; more is some other file put there by mistake
MAX_CLAIM_MINUTES: Final = 24 * 60  # a shift has passed
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
TRUE_WORDS: Final = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS: Final = frozenset({"0", "false", "no", "off"})
ENVIRONMENT_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class HubConfig:
    """All settings of one hub. ``home`` is absolute; everything the hub keeps for itself lies below it.

    ``environment`` is part of every signature and seal (DESIGN §4): a test hub cannot take production's records.
    ``pg_bin`` and ``pg_folder`` say where the private PostgreSQL's programs and files are, if not at the usual place.
    ``claim_minutes``: after how long without activity a doctor's claim no longer keeps others away.
    """

    home: Path
    database_url: str | None = field(default=None, repr=False)
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    behind_tls_proxy: bool = False
    public_url: str | None = None
    environment: str = "trial"
    log_level: str = "info"
    pg_bin: Path | None = None
    pg_folder: Path | None = None
    claim_minutes: int = 30

    @property
    def claim_lapse_ms(self) -> int:
        return self.claim_minutes * 60_000

    @property
    def config_file(self) -> Path:
        return self.home / CONFIG_FILE_NAME

    @property
    def keys_folder(self) -> Path:
        return self.home / "keys"

    @property
    def ledger_file(self) -> Path:
        """Outside of the database and its backups: what a restored hub must not have forgotten."""
        return self.home / "ledger" / "ledger.txt"

    @property
    def blobs_folder(self) -> Path:
        return self.home / "blobs"

    @property
    def locks_folder(self) -> Path:
        return self.home / "locks"

    @property
    def postgres_folder(self) -> Path:
        """Where the private cluster lies when the hub does not run as root (see ``postgres.py``)."""
        return self.home / "postgres"

    @property
    def serve_lock(self) -> Path:
        return self.locks_folder / "serve.lock"

    @property
    def postgres_lock(self) -> Path:
        """Held while the private cluster is made, started or stopped."""
        return self.locks_folder / "postgres.lock"

    @property
    def postgres_users_lock(self) -> Path:
        """Held shared by each program that uses the private cluster: the last one out stops it."""
        return self.locks_folder / "postgres-users.lock"

    @property
    def url(self) -> str:
        """The address nodes are told at enrolment."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url or f"http://{host}:{self.port}"


def load(
    home: Path | None, environ: Mapping[str, str], flags: Mapping[str, str | int | bool | Path | None] | None = None
) -> HubConfig:
    """Settings from ``flags`` (None: not given), then ``environ`` (``HUB_PORT``, …), then ``config.toml``.

    ``home`` is the flag for the home folder. Nothing is created. Raises ``OurFault`` (``E_SETTING``).
    """
    folder = _home(home, environ)
    chosen: dict[str, object] = _from_file(folder / CONFIG_FILE_NAME)
    chosen |= {name: environ[key] for name in PARSERS if environ.get(key := f"HUB_{name.upper()}", "") != ""}
    for name, value in (flags or {}).items():
        _known(name, "flag")
        if value is not None:
            chosen[name] = value
    values: dict[str, object] = {name: PARSERS[name](name, value, folder) for name, value in chosen.items()}
    config = HubConfig(home=folder, **values)  # type: ignore[arg-type]  # each parser returns its field's type
    if not config.behind_tls_proxy and not _is_loopback(config.host):
        raise OurFault(
            "The hub listens on loopback only, so that nothing crosses a network unencrypted.",
            code="E_NOT_LOOPBACK",
            next_step="Put a TLS proxy in front and set behind_tls_proxy, or use host 127.0.0.1.",
        )
    return config


def make_folders(config: HubConfig) -> None:
    """Create the home and what lies in it, mode 0700; tighten ``keys`` if someone widened it."""
    try:
        config.home.mkdir(mode=PRIVATE_MODE, parents=True, exist_ok=True)
        for folder in (config.keys_folder, config.blobs_folder, config.locks_folder):
            folder.mkdir(mode=PRIVATE_MODE, exist_ok=True)
        if stat.S_IMODE(config.keys_folder.stat().st_mode) & 0o077:
            config.keys_folder.chmod(PRIVATE_MODE)
    except OSError as error:
        raise OurFault(
            f"The hub's home {config.home} cannot be used: {error.strerror}.",
            code="E_HOME",
            next_step="Give this user that folder, or choose another with HUB_HOME.",
        ) from error


def _home(flag: Path | None, environ: Mapping[str, str]) -> Path:
    if flag is not None:
        chosen = flag
    elif environ.get("HUB_HOME"):
        chosen = Path(environ["HUB_HOME"])
    else:
        chosen = platformdirs.user_data_path(APPLICATION, appauthor=False)
    try:
        return chosen.expanduser().resolve()  # links resolved, so that one home has one name
    except (OSError, RuntimeError, ValueError) as error:
        raise OurFault("The hub's home is no usable path.", code="E_HOME", next_step="Set HUB_HOME.") from error


def _from_file(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            text = opened.read(MAX_CONFIG_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise _bad(f"{path} cannot be read: {error.strerror}.") from error
    if len(text) > MAX_CONFIG_FILE_BYTES:
        raise _bad(f"{path} is larger than {MAX_CONFIG_FILE_BYTES} bytes.")
    try:
        found: dict[str, object] = tomllib.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        raise _bad(f"{path} is not TOML.") from None  # the parser's message may quote a password
    for name in found:
        _known(name, "setting in config.toml")
    if "database_url" in found and mode & 0o077:
        raise _bad(f"{path} holds a database URL and others may read it.", f"chmod 600 {path}")
    return found


def _known(name: str, what: str) -> None:
    if name not in PARSERS:
        near = difflib.get_close_matches(name, PARSERS, n=1)
        raise _bad(f"{name!r} is no known {what}.", f"Did you mean {near[0]!r}?" if near else "")


def _bad(message: str, next_step: str = "") -> OurFault:
    return OurFault(message, code="E_SETTING", next_step=next_step)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _text(name: str, value: object, home: Path) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise _bad(f"The setting {name} has to be a line of text.")
    return value


def _minutes(name: str, value: object, home: Path) -> int:
    minutes = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,4}", value) else value
    if not isinstance(minutes, int) or isinstance(minutes, bool) or not 1 <= minutes <= MAX_CLAIM_MINUTES:
        raise _bad(f"The setting {name} has to be a number of minutes, 1 to {MAX_CLAIM_MINUTES}.")
    return minutes


def _port(name: str, value: object, home: Path) -> int:
    port = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,5}", value) else value
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= 65535:
        raise _bad(f"The setting {name} has to be a port, 0 to 65535.")
    return port


def _switch(name: str, value: object, home: Path) -> bool:
    word = str(value).lower() if isinstance(value, (str, bool)) else ""
    if word not in TRUE_WORDS | FALSE_WORDS:
        raise _bad(f"The setting {name} has to be true or false.")
    return word in TRUE_WORDS


def _path(name: str, value: object, home: Path) -> Path:
    text = str(value) if isinstance(value, Path) else _text(name, value, home)
    try:
        return (home / Path(text).expanduser()).resolve()
    except (OSError, RuntimeError, ValueError):
        raise _bad(f"The setting {name} is no usable path.") from None


def _log_level(name: str, value: object, home: Path) -> str:
    level = _text(name, value, home).lower()
    if level not in LOG_LEVELS:
        raise _bad(f"The setting {name} has to be one of {', '.join(LOG_LEVELS)}.")
    return level


def _environment(name: str, value: object, home: Path) -> str:
    text = _text(name, value, home)
    if not ENVIRONMENT_NAME.fullmatch(text):
        raise _bad(f"The setting {name} has to be 1 to 32 of a-z, 0-9 and '-'.")
    return text


def _database_url(name: str, value: object, home: Path) -> str:
    """``postgresql://`` whatever the spelling: SQLAlchemy 2.1 takes that for psycopg 3, and libpq knows it."""
    scheme, separator, rest = _text(name, value, home).partition("://")
    if not separator or not rest or scheme not in {"postgres", "postgresql", "postgresql+psycopg"}:
        raise _bad(f"The setting {name} has to look like postgresql://user@host/database.")
    return f"postgresql://{rest}"


def _public_url(name: str, value: object, home: Path) -> str:
    text = _text(name, value, home).rstrip("/")
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.query and not parts.fragment
        usable = usable and parts.username is None and parts.port != 0  # .port raises on a malformed one
    except ValueError:
        usable = False
    if not usable:
        raise _bad(f"The setting {name} has to look like https://hub.example.org.")
    return text


PARSERS: Final[Mapping[str, Callable[[str, object, Path], object]]] = {
    "database_url": _database_url,
    "host": _text,
    "port": _port,
    "behind_tls_proxy": _switch,
    "public_url": _public_url,
    "environment": _environment,
    "log_level": _log_level,
    "pg_bin": _path,
    "pg_folder": _path,
    "claim_minutes": _minutes,
}
