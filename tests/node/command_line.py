"""The command `hwc` run in the test's own process: what it answered, said and ended with."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import pytest

from hwc_node import cli
from tests.node.enrolled_home import PASSPHRASE, Home


@dataclass(frozen=True, slots=True)
class Ended:
    """What a command answered, said and ended with."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def shape(self) -> Any:
        return json.loads(self.out)


class Runner:
    """Runs commands in this process."""

    def __init__(self, capture: pytest.CaptureFixture[bytes]) -> None:
        self._capture = capture

    def __call__(self, *arguments: str) -> Ended:
        self._capture.readouterr()
        status = cli.run(arguments)
        out, err = self._capture.readouterr()
        return Ended(status, out.decode(), err.decode())


def point_at(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment point at this home, and nothing else of the shell's."""
    for name in [name for name in os.environ if name.startswith("HWC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HWC_HOME", str(home.config.home))
    monkeypatch.setenv("HWC_PASSPHRASE", PASSPHRASE)
