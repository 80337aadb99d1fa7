"""The node killed at each of its commits: what it told is there, and the same commands again bring everything about."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hwc_node import config as settings
from hwc_node import keystore, standing, views
from hwc_node.store import KeptRecord
from sync_protocol.schema import Writer
from tests.moments import some_of
from tests.node.enrolled_home import FACILITY, PASSPHRASE
from tests.node.killing_node import BEFORE
from tests.node.paper_hub import PaperHub
from tests.node.paper_node import by_hub
from tests.node.peer import Peer
from tests.node.served_centre import ROOT, Centre, environment, patients, save_lines

LINES = 66  # two transactions of the import
LONG_TEXT_BYTES = 100  # random, so that some segments are needed
REPLIES = 25
DEATHS = 10
MOST_MOMENTS = 40  # so that some lives end in the import, some in the sync, and some go through
FEWEST_COMMITS = 15  # of a sync with several segments and pages: that the moments are not found any more is found out


@dataclass
class Lives:
    """Lives of a node's commands, each in a process of its own."""

    driver: subprocess.Popen[str]

    def live(self, folder: Path, *commands: list[str], moments: int = 0) -> tuple[int, list[str]]:
        """How it ended, and the moments it went through."""
        life = {
            "environment": environment(folder / "home"),
            "commands": commands,
            "moments": moments,
            "out": str(folder / "out"),
            "err": str(folder / "err"),
        }
        assert self.driver.stdin is not None
        assert self.driver.stdout is not None
        self.driver.stdin.write(json.dumps(life) + "\n")
        self.driver.stdin.flush()
        told = json.loads(self.driver.stdout.readline())
        return told["ended"], told["moments"]


@pytest.fixture(scope="module")
def lives() -> Iterator[Lives]:
    streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-m", "tests.node.killing_node"], cwd=ROOT, **streams) as driver:
        yield Lives(driver)
        assert driver.stdin is not None
        driver.stdin.close()


@dataclass
class Work:
    """A fresh hub, a code for one node, and the lines that it imports."""

    folder: Path
    peer: Peer
    lives: Lives
    lines: list[dict[str, Any]]
    enrol: list[str] = field(default_factory=list)
    take: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        for number in range(REPLIES):
            self.peer.hub.publish(by_hub(self.peer.hub, "message", {"text": f"{number}"}), Writer.DOCTOR)
        self.enrol = ["enrol", self.peer.new_code(FACILITY)]
        self.take = ["import", save_lines(self.folder / "lines", self.lines)]

    def live(self, moments: int = 0, *, enrolled: bool = False) -> tuple[int, list[str]]:
        commands = [self.take, ["sync"]] if enrolled else [self.enrol, self.take, ["sync"]]
        return self.lives.live(self.folder, *commands, moments=moments)

    def again(self, *, enrolled: bool) -> None:
        """The same commands once more. Only the enrolment may say that it is through already."""
        if not enrolled:
            ended, _ = self.lives.live(self.folder, self.enrol)
            assert ended == 0 or "E_ALREADY_ENROLLED" in self.said, self.said
        assert self.live(enrolled=True)[0] == 0, self.said

    @property
    def said(self) -> str:
        return (self.folder / "err").read_text()[-2000:]

    def centre(self) -> Centre:
        config = settings.load(self.folder / "home", {})
        return Centre(self.peer, config, keystore.unlock(config.slots_path, PASSPHRASE).key)

    @property
    def told(self) -> set[str]:
        """The records that were told as saved."""
        lines = (self.folder / "out").read_text().splitlines(keepends=True)
        return {json.loads(one)["id"] for one in lines if one.startswith("{") and one.endswith("\n")}

    def check_told(self) -> None:
        """The database is sound, and everything that was told as saved is in it."""
        with self.centre().open() as store:
            assert standing.integrity(store) == []
            assert self.told <= {exported(one)["id"] for one in store.records()}

    def outcome(self) -> list[dict[str, Any]]:
        """What everything led to: the same for each way there."""
        centre = self.centre()
        centre.assert_in_step()
        seen = self.peer.hub.segments_seen
        assert max(seen.count(one) for one in seen) <= 3
        with centre.open() as store:
            assert standing.integrity(store) == []
            assert standing.standing(store).changes == len(self.lines) + REPLIES + 1  # and the person's entry
            return [exported(one) for one in store.records(kind="patient")]


def exported(kept: KeptRecord) -> dict[str, Any]:
    return dict(views.export_line(kept))


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    made = patients(1, LINES)
    for one in made:
        one["fields"]["address"] = os.urandom(LONG_TEXT_BYTES).hex()
    return made


@contextmanager
def work(folder: Path, lives: Lives, lines: list[dict[str, Any]]) -> Iterator[Work]:
    with Peer(PaperHub(items_a_page=30)).answering() as peer:
        yield Work(folder, peer, lives, lines)


def test_killed_at_any_commit_it_has_what_it_told_and_loses_nothing(
    tmp_path: Path, lives: Lives, lines: list[dict[str, Any]]
) -> None:
    with work(tmp_path / "whole", lives, lines) as whole:
        ended, moments = whole.live()
        assert ended == 0, whole.said
        expected = whole.outcome()
        assert len(whole.told) == LINES
    assert sum(moment == f"sync {BEFORE} commit" for moment in moments) > FEWEST_COMMITS
    for number in some_of(moments):
        enrolled = not moments[number - 1].startswith("enrol")
        with work(tmp_path / f"{number}", lives, lines) as one:
            ended, passed = one.live(number)  # a link that was told to be quicker may need fewer segments
            assert ended == -signal.SIGKILL or (ended == 0 and len(passed) < number), one.said
            assert passed == moments[: len(passed)]
            if enrolled:
                one.check_told()
            one.again(enrolled=enrolled)
            assert one.outcome() == expected, moments[number - 1]


def test_killed_again_and_again_it_gets_there_all_the_same(
    tmp_path: Path, lives: Lives, lines: list[dict[str, Any]]
) -> None:
    seed = random.randrange(1 << 32)
    draw = random.Random(seed)
    with work(tmp_path / "often", lives, lines) as one:
        assert lives.live(one.folder, one.enrol)[0] == 0, one.said
        for _ in range(DEATHS):
            ended, _ = one.live(draw.randint(1, MOST_MOMENTS), enrolled=True)
            assert ended in (0, -signal.SIGKILL), f"seed {seed}: {one.said}"
            one.check_told()
        one.again(enrolled=True)
        assert len(one.outcome()) == LINES, f"seed {seed}"
