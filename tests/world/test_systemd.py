"""The systemd units that are shipped: their command lines are real ones, run in such an environment, and end in peace.

systemd itself is not on every machine that tests. What it would do is done here: the unit's own environment and
nothing of the shell's, ``/`` as the folder, the unit's umask, the credential in a folder, SIGTERM to the main program.
"""

from __future__ import annotations

import configparser
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.command_tree import find
from tests.databases import throwaway_folder
from tests.node.enrolled_home import PASSPHRASE, make_home

ROOT: Final = Path(__file__).resolve().parents[2]
PROGRAMS: Final = Path(sys.executable).parent
INSTALLED: Final = "/usr/local/bin/"
SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # what systemd gives a service
START_PATIENCE_S: Final = 180.0
HARDENED: Final = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "CapabilityBoundingSet": "",
    "Restart": "on-failure",
    "Type": "exec",
    "UMask": "0077",
    "StateDirectoryMode": "0700",
}


@dataclass(frozen=True, slots=True)
class Unit:
    name: str
    service: Mapping[str, str]

    @property
    def environment(self) -> dict[str, str]:
        pairs = (word.partition("=") for word in shlex.split(self.service["Environment"]))
        return {name: value for name, _, value in pairs}

    @property
    def command(self) -> list[str]:
        """ExecStart as systemd runs it: ``$$`` is how it writes a dollar."""
        return [word.replace("$$", "$") for word in shlex.split(self.service["ExecStart"])]

    @property
    def called(self) -> list[str]:
        """The program of ours and its words, also where a shell is between."""
        words = shlex.split(self.command[2]) if self.command[:2] == ["/bin/sh", "-c"] else self.command
        assert words[0] in ("exec", f"{INSTALLED}{self.name}"), "without exec, SIGTERM would meet the shell"
        own = [word for word in words if word != "exec" and "<" not in word]
        return [own[0].removeprefix(INSTALLED), *own[1:]]

    @property
    def stop_within_s(self) -> float:
        return float(self.service["TimeoutStopSec"])


def unit(name: str) -> Unit:
    (path,) = ROOT.glob(f"h*/systemd/{name}.service")
    parsed = configparser.ConfigParser(strict=False, interpolation=None, comment_prefixes=("#",), delimiters=("=",))
    parsed.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names have capitals
    parsed.read_string(path.read_text(encoding="utf-8"))
    assert parsed["Install"]["WantedBy"] == "multi-user.target"
    return Unit(name, parsed["Service"])


@pytest.mark.parametrize("name", ["hwc", "hub"])
def test_a_unit_runs_a_command_that_the_program_takes_and_is_hardened(name: str) -> None:
    shipped = unit(name)
    assert {key: shipped.service[key] for key in HARDENED} == HARDENED
    command, rest = find(shipped.called)
    command.accept(rest)
    assert command.name == f"{name} serve"
    assert shipped.environment[f"{name.upper()}_HOME"] == f"/var/lib/{shipped.service['StateDirectory']}"


@contextmanager
def run_as_a_service(shipped: Unit, own: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The unit's command, its program taken from this virtual environment."""
    command = [word.replace(INSTALLED, f"{PROGRAMS}/") for word in shipped.command]
    environment = {"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", **shipped.environment, **own}
    with log.open("wb") as written:
        started = subprocess.Popen(
            command,
            env=environment,
            cwd="/",
            umask=int(shipped.service["UMask"], 8),
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
            start_new_session=True,
        )
    try:
        yield started
    finally:
        if started.poll() is None:
            started.kill()
        started.wait()


def wait_for(words: str, log: Path, started: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + START_PATIENCE_S
    while words not in log.read_text():
        assert started.poll() is None, log.read_text()
        assert time.monotonic() < deadline_s, log.read_text()
        time.sleep(0.05)


def is_running(number: int) -> bool:
    """A program that has ended, and whose parent has not looked yet, has no command line."""
    try:
        return bool(Path(f"/proc/{number}/cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_nodes_unit_serves_with_the_credential_and_stops_on_sigterm(tmp_path: Path) -> None:
    shipped, home = unit("hwc"), make_home(tmp_path).config.home
    (home / "config.toml").write_text("port = 0\n")
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    named, _, _ = shipped.service["LoadCredential"].partition(":")
    (credentials / named).write_text(f"{PASSPHRASE}\n")
    log = tmp_path / "service.log"
    own = {"HWC_HOME": str(home), "CREDENTIALS_DIRECTORY": str(credentials)}
    with run_as_a_service(shipped, own, log) as started:
        wait_for("serving http://127.0.0.1:", log, started)
        about = Path(f"/proc/{started.pid}")
        assert b"serve" in (about / "cmdline").read_bytes()
        for open_to_see in ("cmdline", "environ"):
            assert PASSPHRASE.encode() not in (about / open_to_see).read_bytes()
        started.send_signal(signal.SIGTERM)
        assert started.wait(shipped.stop_within_s) == 0
    assert "stopped" in log.read_text()
    assert PASSPHRASE not in log.read_text()


def test_the_hubs_unit_serves_with_its_own_postgresql_and_stops_both_on_sigterm() -> None:
    shipped = unit("hub")
    assert shipped.service["KillMode"] == "mixed"  # the signal is the hub's alone
    with throwaway_folder() as folder:
        home = folder / "home"
        home.mkdir(mode=0o700)
        (home / "config.toml").write_text(f'port = 0\npg_folder = "{folder / "pg"}"\n')
        log = folder / "service.log"
        with run_as_a_service(shipped, {"HUB_HOME": str(home)}, log) as started:
            wait_for("The hub listens on http://127.0.0.1:", log, started)
            (postmaster,) = folder.rglob("postmaster.pid")
            server = int(postmaster.read_text().splitlines()[0])
            assert is_running(server)
            started.send_signal(signal.SIGTERM)
            assert started.wait(shipped.stop_within_s) == 0
        assert not postmaster.exists()
        assert not is_running(server)
        assert "stopped" in log.read_text()
