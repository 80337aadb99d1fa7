"""The command `hub` run in the test's own process against a real database: what it answered, said and ended with."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hub_server import cli
from sync_protocol import documents
from tests.hub.bare_node import BareNode
from tests.hub.hub_world import HubWorld

REPLY = {"advice": "Rest.", "mode": "text", "first": True, "prescription": [{"drug": "ORS", "dose": "1", "days": 2}]}


@dataclass(frozen=True)
class Answer:
    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        found = json.loads(self.out)
        assert next(iter(found)) == "schema"
        return found  # type: ignore[no-any-return]

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


class Terminal:
    """Runs commands of one hub."""

    def __init__(self, home: Path, capture: pytest.CaptureFixture[bytes]) -> None:
        self.home = home
        self._capture = capture

    def __call__(self, *words: str) -> Answer:
        self._capture.readouterr()
        status = cli.run(words)
        out, err = self._capture.readouterr()
        return Answer(status, out.decode(), err.decode())

    def world(self, url: str) -> HubWorld:
        """The same hub from inside, with its keys."""
        return HubWorld.make(url, self.home / "keys")


def terminal(
    url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[bytes]
) -> Terminal:
    """Commands of a hub in this folder, and of nothing else that the shell names."""
    for name in [one for one in os.environ if one.startswith("HUB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HUB_HOME", str(folder / "home"))
    monkeypatch.setenv("HUB_DATABASE_URL", url)
    return Terminal(folder / "home", capture)


def add_doctor(hub: Terminal, login: str = "dr.rao") -> None:
    assert hub("people", "add", login, "--name", "Dr. Rao", "--registration-number", "KMC-1").status == 0


def consultation(hub: Terminal, url: str, urgency: str = "urgent") -> tuple[BareNode, str, str]:
    """(node, referral, patient) of a centre's visit that the hub has admitted."""
    hub("facility", "add", "HWC1", "HWC Rampur")
    world = hub.world(url)
    node = world.node("HWC1")
    patient = node.write("patient", {"name": "Asha Devi", "sex": "F"})
    case = node.write("case", {"history": "fever"}, patient=patient.record)
    referral = node.write(
        "referral", {"case": case.record, "specialty": "ent", "urgency": urgency}, patient=patient.record
    )
    world.exchange(node, [node.pack([patient, case, referral]).envelope.raw])
    assert world.admit() == 3
    return node, documents.id_text(referral.record), documents.id_text(patient.record)
