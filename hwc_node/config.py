"""The node's settings and paths: one frozen value, read once, passed down.

Rules: a flag wins over the environment, the environment over ``config.toml`` in the home folder, that over the
default. An unknown or malformed setting is a coded error that names the setting and never repeats its value. The
local pages listen on loopback only, unless told that they are for the centre's own Wi-Fi (then at every address of this
machine, and encrypted beside), or that a TLS proxy stands in front. The home has mode 0700, its files 0600: the health
workers share one device with whoever else uses it.

No secret is a setting: the passphrase comes from a prompt, ``HWC_PASSPHRASE`` or a file descriptor, and only ``cli``
reads it. This file refuses to know what the settings are used for: it opens no database, no socket and no key.
"""

from __future__ import annotations

import difflib
import errno
import ipaddress
import re
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import platformdirs

from sync_protocol.errors import OurFault

APPLICATION: Final = "health-sync-node"
CONFIG_FILE_NAME: Final = "config.toml"
LOOPBACK_HOST: Final = "127.0.0.1"
EVERY_ADDRESS: Final = "0.0.0.0"  # noqa: S104  # only where open_to_lan says that the pages are for the centre's Wi-Fi
DEFAULT_PORT: Final = 8090
DEFAULT_HTTPS_PORT: Final = 8453
FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
OTHERS: Final = 0o077  # the permission bits of everyone but the owner
MAX_CONFIG_FILE_BYTES: Final = 64 * 1024  # a few lines of settings; more is some other file put there by mistake
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
TRUE_WORDS: Final = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS: Final = frozenset({"0", "false", "no", "off"})
LOCAL_PLAIN_HOSTS: Final = frozenset({"localhost"})

# Bounds of the times in seconds. An interval under 10 s would fill a 2G link with HELLOs; more than a day looks like
# a node that is broken. A request may last up to an hour: 32 kbit/s carry 14 MB in that time.
INTERVAL_BOUNDS_S: Final = (10.0, 86_400.0)
TIMEOUT_BOUNDS_S: Final = (0.1, 3_600.0)
LOCK_BOUNDS_S: Final = (30.0, 4 * 3_600.0)  # shorter interrupts every entry; longer than a shift half is no lock

DISK_FULL_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
READ_ONLY_ERRNOS: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """All settings of one node. ``home`` is absolute; everything the node keeps lies below it.

    ``hub_url`` overrides the address that the enrolment code carried. ``connect_timeout_s`` and ``answer_timeout_s``
    bound the silence of the network, not the length of a transfer: 2G has round trips of 800 ms and pauses of tens of
    seconds. ``sync_retry_cap_s`` is the longest pause of the exponential back-off. ``lock_after_s``: when the pages
    lock themselves if nobody touches them. ``open_to_lan``: the pages are for the phones on the centre's own Wi-Fi
    too, without TLS if need be; the operator says so, since whoever is on that network sees what passes.
    ``https_port``: where the same pages are encrypted; 0 nowhere, None as `secure_port` says.
    """

    home: Path
    host: str = LOOPBACK_HOST
    port: int = DEFAULT_PORT
    https_port: int | None = None
    behind_tls_proxy: bool = False
    open_to_lan: bool = False
    log_level: str = "info"
    hub_url: str | None = None
    sync_interval_s: float = 300.0
    sync_retry_cap_s: float = 3_600.0
    connect_timeout_s: float = 30.0
    answer_timeout_s: float = 120.0
    lock_after_s: float = 600.0

    @property
    def secure_port(self) -> int:
        """Where HTTPS is served; 0 for nowhere. By default only on the centre's own Wi-Fi, and not behind a proxy."""
        if self.https_port is not None:
            return self.https_port
        return DEFAULT_HTTPS_PORT if self.open_to_lan and not self.behind_tls_proxy else 0

    @property
    def https_path(self) -> Path:
        """The pages' own key and certificate: outside of the database, since the lock screen comes before unlocking."""
        return self.home / "https.pem"

    @property
    def config_file(self) -> Path:
        return self.home / CONFIG_FILE_NAME

    @property
    def database_path(self) -> Path:
        """The encrypted database; SQLite keeps ``-wal`` and ``-shm`` beside it."""
        return self.home / "node.db"

    @property
    def slots_path(self) -> Path:
        """The key slots: outside of the database, since they hold what opens it."""
        return self.home / "slots.json"

    @property
    def lock_path(self) -> Path:
        """Held while the home is made, migrated or restored."""
        return self.home / "node.lock"

    @property
    def sync_lock_path(self) -> Path:
        """Held during an exchange: one sync at a time across all programs of this home."""
        return self.home / "sync.lock"

    @property
    def serve_lock_path(self) -> Path:
        """Held by the one ``hwc serve`` of this home."""
        return self.home / "serve.lock"


def load(
    home: Path | None, environ: Mapping[str, str], flags: Mapping[str, str | int | float | bool | None] | None = None
) -> NodeConfig:
    """Settings from ``flags`` (None: not given), then ``environ`` (``HWC_PORT``, …), then ``config.toml``.

    ``home`` is the flag for the home folder; without it ``HWC_HOME``, then the platform's place for user data.
    Nothing is created. Raises ``OurFault``: ``E_SETTING``, ``E_HOME``, ``E_NOT_LOOPBACK``.
    """
    folder = _home(home, environ)
    chosen: dict[str, object] = _from_file(folder / CONFIG_FILE_NAME)
    chosen |= {name: environ[key] for name in PARSERS if environ.get(key := f"HWC_{name.upper()}", "") != ""}
    for name, value in (flags or {}).items():
        _known(name, "flag")
        if value is not None:
            chosen[name] = value
    values: dict[str, object] = {name: PARSERS[name](name, value) for name, value in chosen.items()}
    if values.get("open_to_lan") and not values.get("behind_tls_proxy"):
        values.setdefault("host", EVERY_ADDRESS)
    config = NodeConfig(home=folder, **values)  # type: ignore[arg-type]  # each parser returns its field's type
    if not config.behind_tls_proxy and not config.open_to_lan and not _is_loopback(config.host):
        raise OurFault(
            "The node's pages listen on loopback only, so that nothing crosses a network unencrypted.",
            code="E_NOT_LOOPBACK",
            next_step="For the phones on the centre's own Wi-Fi: HWC_OPEN_TO_LAN=1, or open_to_lan = true in config.toml."
            " Behind a TLS proxy: behind_tls_proxy.",
        )
    return config


def make_folders(config: NodeConfig) -> None:
    """Create the home with mode 0700, or tighten the one that is there. Raises ``OurFault``.

    Codes: ``E_DISK_FULL``, ``E_READ_ONLY``, ``E_HOME``.
    """
    try:
        config.home.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        if stat.S_IMODE(config.home.stat().st_mode) & OTHERS:
            config.home.chmod(FOLDER_MODE)
    except OSError as error:
        raise storage_fault(error, f"The node's home {config.home} cannot be used", other_code="E_HOME") from error


def storage_fault(error: OSError, what: str, *, other_code: str = "E_STORAGE") -> OurFault:
    """The coded error for an ``OSError`` met on a file of the home; ``what`` begins the sentence.

    ``E_DISK_FULL`` (no space, quota, file size limit), ``E_READ_ONLY`` (read-only card, no permission), else
    ``other_code``.
    """
    reason = error.strerror or type(error).__name__
    if error.errno in DISK_FULL_ERRNOS:
        code, step = "E_DISK_FULL", "Free some space on this disk and repeat; nothing that was saved is lost."
    elif error.errno in READ_ONLY_ERRNOS:
        code, step = "E_READ_ONLY", "Check that the card is not read-only and that the folder belongs to this user."
    else:
        code, step = other_code, "Check the disk, or choose another folder with HWC_HOME."
    return OurFault(f"{what}: {reason}.", code=code, next_step=step)


def _home(flag: Path | None, environ: Mapping[str, str]) -> Path:
    if flag is not None:
        chosen = flag
    elif environ.get("HWC_HOME"):
        chosen = Path(environ["HWC_HOME"])
    else:
        chosen = platformdirs.user_data_path(APPLICATION, appauthor=False)
    try:
        return chosen.expanduser().resolve()  # links resolved, so that one home has one name
    except (OSError, RuntimeError, ValueError) as error:
        raise OurFault("The node's home is no usable path.", code="E_HOME", next_step="Set HWC_HOME.") from error


def _from_file(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as opened:
            text = opened.read(MAX_CONFIG_FILE_BYTES + 1)
    except FileNotFoundError:
        return {}
    except NotADirectoryError as error:
        raise storage_fault(error, f"The node's home {path.parent} cannot be used", other_code="E_HOME") from error
    except OSError as error:
        raise _bad(f"{path} cannot be read: {error.strerror}.") from error
    if len(text) > MAX_CONFIG_FILE_BYTES:
        raise _bad(f"{path} is larger than {MAX_CONFIG_FILE_BYTES} bytes.")
    try:
        found: dict[str, object] = tomllib.loads(text.decode("utf-8"))
    except (ValueError, RecursionError, AttributeError):  # not UTF-8, not TOML, an odd date or key
        raise _bad(f"{path} is not TOML.") from None  # the parser's message may quote what stands there
    for name in found:
        _known(name, "setting in config.toml")
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
        return host in LOCAL_PLAIN_HOSTS


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise _bad(f"The setting {name} has to be a line of text.")
    return value


def _port(name: str, value: object) -> int:
    digits = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    if not re.fullmatch(r"[0-9]{1,5}", digits) or int(digits) > 65535:
        raise _bad(f"The setting {name} has to be a port, 0 to 65535.")
    return int(digits)


def _switch(name: str, value: object) -> bool:
    word = str(value).lower() if isinstance(value, (str, bool)) else ""
    if word not in TRUE_WORDS | FALSE_WORDS:
        raise _bad(f"The setting {name} has to be true or false.")
    return word in TRUE_WORDS


def _log_level(name: str, value: object) -> str:
    level = _text(name, value).lower()
    if level not in LOG_LEVELS:
        raise _bad(f"The setting {name} has to be one of {', '.join(LOG_LEVELS)}.")
    return level


def _seconds(bounds_s: tuple[float, float]) -> Callable[[str, object], float]:
    low_s, high_s = bounds_s

    def parse(name: str, value: object) -> float:
        text = str(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""
        number_s = float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) else -1.0
        if not low_s <= number_s <= high_s:
            raise _bad(f"The setting {name} has to be seconds, {low_s:g} to {high_s:g}.")
        return number_s

    return parse


def _hub_url(name: str, value: object) -> str:
    text = _text(name, value).rstrip("/")
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.query and not parts.fragment
        usable = usable and parts.username is None and parts.port != 0  # .port raises on a malformed one
    except ValueError:
        usable = False
    if not usable:
        raise _bad(f"The setting {name} has to look like https://hub.example.org.")
    return text


PARSERS: Final[Mapping[str, Callable[[str, object], object]]] = {
    "host": _text,
    "port": _port,
    "https_port": _port,
    "behind_tls_proxy": _switch,
    "open_to_lan": _switch,
    "log_level": _log_level,
    "hub_url": _hub_url,
    "sync_interval_s": _seconds(INTERVAL_BOUNDS_S),
    "sync_retry_cap_s": _seconds(INTERVAL_BOUNDS_S),
    "connect_timeout_s": _seconds(TIMEOUT_BOUNDS_S),
    "answer_timeout_s": _seconds(TIMEOUT_BOUNDS_S),
    "lock_after_s": _seconds(LOCK_BOUNDS_S),
}
