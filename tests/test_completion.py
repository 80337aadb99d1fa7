"""Shell completion: a Tab in a real bash, what zsh and fish are told, and that completing touches no home.

zsh and fish themselves are not on every machine that tests; what their scripts call is run here as they call it.
"""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

PROGRAMS: Final = Path(sys.executable).parent
FORGET_LINE: Final = "\x15"  # Ctrl-U. Not Ctrl-C, which is ignored in what was started in the background
PATIENCE_S: Final = 120.0  # some 0.8 s on an idle machine; the rest is for what else runs beside the tests

WATCHED: Final = """
import sys
home = sys.argv.pop(1)
def watch(event, arguments):
    if event == "import" and arguments[0] in LATE:
        print("touched", event, arguments[0])
    if event in ("open", "os.mkdir", "socket.connect", "subprocess.Popen") and (
        not event.startswith(("open", "os.")) or str(arguments[0]).startswith((home, "/dev/tty"))
    ):
        print("touched", event, arguments[0])
sys.addaudithook(watch)
from PACKAGE.cli import main
main()
"""


LATE: Final = {"hwc_node": ("fastapi", "alembic", "httpx"), "hub_server": ("fastapi", "alembic", "sqlmodel")}
"""What only some commands need, and load when they come to it: a Tab does not wait for it."""


def watched(package: str) -> str:
    return WATCHED.replace("PACKAGE", package).replace("LATE", repr(LATE[package]))


def shell_environment(**more: str) -> dict[str, str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("HWC_", "HUB_", "_"))}
    return bare | {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "TERM": "dumb"} | more


def shown(program: str, shell: str) -> str:
    """The script that a person puts into the shell's start, as `--show-completion` prints it in that shell."""
    asked = {f"_{program.upper()}_COMPLETE": f"source_{shell}"}
    return subprocess.run(
        [PROGRAMS / program], env=shell_environment(**asked), capture_output=True, text=True, check=True
    ).stdout


class Bash:
    """An interactive bash at a terminal of its own."""

    def __init__(self, home: Path) -> None:
        self._terminal, other = pty.openpty()
        self._bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"],
            stdin=other,
            stdout=other,
            stderr=other,
            env=shell_environment(PS1="> ", HWC_HOME=str(home), HUB_HOME=str(home), HOME=str(home)),
            start_new_session=True,
        )
        os.close(other)

    def type(self, keys: str, until: str) -> str:
        """What the terminal shows from now on, up to ``until``."""
        os.write(self._terminal, keys.encode())
        seen, deadline_s = "", time.monotonic() + PATIENCE_S
        while until not in seen:
            left_s = deadline_s - time.monotonic()
            assert left_s > 0 and select.select([self._terminal], [], [], left_s)[0], seen
            seen += os.read(self._terminal, 65_536).decode()
        return seen

    def close(self) -> None:
        self._bash.kill()
        self._bash.wait()
        os.close(self._terminal)


def test_a_tab_completes_in_a_real_bash(tmp_path: Path) -> None:
    script = tmp_path / "completion.sh"
    script.write_text(shown("hwc", "bash") + shown("hub", "bash"))
    home = tmp_path / "home"
    bash = Bash(home)
    try:
        bash.type(f"source {script}; echo rea''dy\n", "ready")
        for typed, completed in (
            ("hwc con", "hwc conflicts "),
            ("hwc sync --max", "hwc sync --max-bytes "),
            ("hub quarantine rel", "hub quarantine release "),
        ):
            bash.type(f"{typed}\t", completed)
            bash.type(f"{FORGET_LINE}echo fre''sh\n", "fresh")
    finally:
        bash.close()
    assert not home.exists()


def asked_by(shell: str, program: str, typed: str) -> dict[str, str]:
    """The environment in which the shell's script calls the program."""
    variable = f"_{program.upper()}_COMPLETE"
    if shell == "bash":
        return {variable: "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    more = {"_TYPER_COMPLETE_FISH_ACTION": "get-args"} if shell == "fish" else {}
    return {variable: f"complete_{shell}", "_TYPER_COMPLETE_ARGS": typed, **more}


@pytest.mark.parametrize(
    ("shell", "typed", "offered"),
    [
        ("bash", "hwc export --pat", "--patient"),
        ("bash", "hub stats --by ", "district"),
        ("zsh", "hwc conflicts und", "undo"),
        ("fish", "hub nodes rev", "revoke"),
    ],
)
def test_completing_touches_no_home_and_asks_nobody(shell: str, typed: str, offered: str, tmp_path: Path) -> None:
    program = typed.partition(" ")[0]
    package = {"hwc": "hwc_node", "hub": "hub_server"}[program]
    home = tmp_path / "home"
    home.mkdir()
    for name in ("node.db", "slots.json", "config.toml"):
        (home / name).write_text("none of this is read")
    environment = shell_environment(
        HWC_HOME=str(home), HUB_HOME=str(home), HUB_DATABASE_URL="postgresql://nobody@localhost:1/none"
    )
    ended = subprocess.run(
        [sys.executable, "-c", watched(package), str(home)],
        env=environment | asked_by(shell, program, typed),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        start_new_session=True,  # nobody can be asked: there is no terminal
    )
    assert ended.returncode == 0, ended.stderr
    assert offered in ended.stdout
    assert "touched" not in ended.stdout
    assert ended.stderr == ""
    assert len(list(home.iterdir())) == 3


def test_the_watch_sees_a_command_that_does_open_its_home(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", watched("hwc_node"), str(tmp_path), "status"],
        env=shell_environment(HWC_HOME=str(tmp_path), HWC_PASSPHRASE="x"),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 4
    assert "touched open" in ended.stdout


def test_installing_completion_writes_what_show_completion_shows(tmp_path: Path) -> None:
    """In the person's own shell, here a bash that calls the program."""
    environment = shell_environment(HOME=str(tmp_path))
    command = "hwc --show-completion; echo; hwc --install-completion; exit"
    told = subprocess.run(
        ["bash", "--norc", "--noprofile", "-c", command], env=environment, capture_output=True, text=True, check=True
    ).stdout
    written = (tmp_path / ".bash_completions" / "hwc.sh").read_text()
    assert written.strip() in told
    assert "complete -o default -F _hwc_completion hwc" in written
    assert str(tmp_path / ".bash_completions" / "hwc.sh") in (tmp_path / ".bashrc").read_text()
