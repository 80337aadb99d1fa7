"""The admitting programs of a hub that serves: real processes, killed, woken and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
from fastapi.testclient import TestClient

from hub_server.admitting import FAILED, WRONG_USAGE
from hub_server.app import Hub, make_app
from hub_server.clock import wall_ms
from hub_server.intake import Admitted
from hub_server.workers import MODULE, Access, Programs
from tests.hub.bare_node import BareNode
from tests.hub.hub_world import HubWorld

MAX_WAIT_S = 120.0


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> HubWorld:
    made = HubWorld.make(database_url, tmp_path / "keys")
    made.facility("HWC1")
    return made


class Told:
    """What the programs told, and they themselves."""

    def __init__(self, access: Access, count: int) -> None:
        self.passes: list[Admitted] = []
        self.errors: list[str] = []
        self.programs = Programs(access, count)
        self.programs.start(self.passes.append, self.errors.append)

    @property
    def admitted(self) -> int:
        return sum(one.changes for one in self.passes)


@pytest.fixture
def access(world: HubWorld, database_url: str) -> Access:
    return Access(database_url, str(world.folder), str(world.folder / "ledger.txt"), "error")


@pytest.fixture
def told(access: Access) -> Iterator[Told]:
    made = Told(access, 1)
    yield made
    made.programs.stop()


def until(held: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + MAX_WAIT_S
    while not held():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def children(parent: int = os.getpid()) -> list[int]:  # this process stays this process
    """The admitting programs that a process started."""
    found = []
    for about in Path("/proc").glob("[0-9]*"):
        try:
            words = (about / "cmdline").read_bytes().split(b"\0")
            if MODULE.encode() in words and f"\nPPid:\t{parent}\n" in (about / "status").read_text():
                found.append(int(about.name))
        except OSError:
            continue
    return found


def is_running(program: int) -> bool:
    """One that has ended, and that its new parent has not looked at yet, has no command line."""
    try:
        return bool(Path(f"/proc/{program}/cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False


def send(world: HubWorld, node: BareNode, count: int) -> None:
    world.exchange(node, [node.pack([node.write("patient", {"name": "Asha Devi"}) for _ in range(count)]).envelope.raw])


def test_what_is_kept_is_admitted_by_a_program_of_its_own_as_soon_as_it_is_woken(world: HubWorld, told: Told) -> None:
    assert told.programs.alive
    assert len(children()) == 1
    send(world, world.node("HWC1"), 5)
    told.programs.wake()
    until(lambda: told.admitted == 5, "nothing was admitted")
    with world.database.transaction() as connection:
        assert world.store.head(connection, "HWC1").position == 5


def test_a_program_that_is_killed_is_started_again_and_goes_on_with_what_was_kept(world: HubWorld, told: Told) -> None:
    node = world.node("HWC1")
    for round_number in (1, 2):
        (program,) = children()
        os.kill(program, signal.SIGKILL)
        send(world, node, 3)
        told.programs.wake()  # nobody may be there to be woken
        until(lambda wanted=3 * round_number: told.admitted == wanted, "nobody goes on")  # type: ignore[misc]
        assert told.programs.alive
        assert program not in children()
    assert told.errors == ["E_WORKER_ENDED"] * 2


def test_two_programs_share_what_is_kept_and_admit_each_change_once(world: HubWorld, access: Access) -> None:
    told = Told(access, 2)
    try:
        assert len(children()) == 2
        nodes = [world.node("HWC1") for _ in range(6)]
        for node in nodes:
            send(world, node, 20)
            told.programs.wake()
        until(lambda: told.admitted == 120, "not everything was admitted")
        with world.database.transaction() as connection:
            assert world.store.head(connection, "HWC1").position == 120
    finally:
        told.programs.stop()
    assert not children()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_for_the_whole_group_is_left_to_the_program_that_serves(
    world: HubWorld, told: Told, number: signal.Signals
) -> None:
    before = children()
    os.kill(before[0], number)
    send(world, world.node("HWC1"), 3)
    told.programs.wake()
    until(lambda: told.admitted == 3, "it does not go on")
    assert children() == before
    told.programs.stop()
    assert not children()
    assert told.errors == []


SERVING = """
import sys, time
import msgspec
from hub_server.workers import Access, Programs

Programs(msgspec.json.decode(sys.stdin.buffer.readline(), type=Access), 1).start(print, print)
print("at work", flush=True)
time.sleep(600)
"""


def test_a_program_ends_when_the_one_that_serves_was_killed(access: Access) -> None:
    with subprocess.Popen([sys.executable, "-c", SERVING], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as serving:
        assert serving.stdin is not None
        assert serving.stdout is not None
        serving.stdin.write(msgspec.json.encode(access) + b"\n")
        serving.stdin.flush()
        assert serving.stdout.readline() == b"at work\n"
        (program,) = children(serving.pid)
        serving.kill()
    until(lambda: not is_running(program), "it outlives the program that served")


def test_the_databases_password_stands_in_no_programs_arguments(told: Told, access: Access) -> None:
    password = urlsplit(access.url).password
    assert password
    (program,) = children()
    assert password not in Path(f"/proc/{program}/cmdline").read_text()
    assert password not in Path(f"/proc/{program}/environ").read_text()


def test_started_by_hand_it_says_who_starts_it() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", MODULE], input=b"hello\n", capture_output=True, timeout=MAX_WAIT_S, check=False
    )
    assert ended.returncode == WRONG_USAGE
    assert b"hub serve" in ended.stderr


def test_what_ends_a_program_is_told_by_type_and_place_and_never_by_its_text(access: Access) -> None:
    """The text of an error may quote a row; here it quotes a URL."""
    told = msgspec.json.encode(msgspec.structs.replace(access, url="postgresql://hub@localhost:geheim/hub"))
    ended = subprocess.run(
        [sys.executable, "-m", MODULE], input=told + b"\n", capture_output=True, timeout=MAX_WAIT_S, check=False
    )
    assert ended.returncode == FAILED
    assert b"geheim" not in ended.stderr
    (line,) = (msgspec.json.decode(one) for one in ended.stderr.splitlines())
    assert (line["event"], line["error"], line["level"]) == ("admission_ended", "ValueError", "error")
    assert any("admitting.py" in place for place in line["places"])


def test_a_hub_is_ready_only_while_its_program_is_there(world: HubWorld, access: Access) -> None:
    with TestClient(make_app(Hub(world.store, Programs(access, 1), now_ms=wall_ms))) as client:
        assert client.get("/readyz").status_code == 200
        (program,) = children()
        os.kill(program, signal.SIGKILL)
        until(lambda: client.get("/readyz").status_code == 503, "nobody noticed")
        until(lambda: client.get("/readyz").status_code == 200, "it was not started again")
    assert not children()
