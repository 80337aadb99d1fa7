"""`hwc support`: what a person who helps from afar needs to know, and nothing of any patient."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.node.command_line import Runner, point_at
from tests.node.enrolled_home import PASSPHRASE, PERSON_NAME, Home, make_home

PATIENT = {"name": "Sunita Devi", "sex": "F", "phone": "9876501234", "village": "Rampur Khas"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    made = make_home(tmp_path)
    point_at(made, monkeypatch)
    return made


@pytest.fixture
def hwc(capfdbinary: pytest.CaptureFixture[bytes]) -> Runner:
    return Runner(capfdbinary)


def test_a_bundle_tells_the_nodes_standing_and_no_patients_data(home: Home, hwc: Runner, tmp_path: Path) -> None:
    line = tmp_path / "line.jsonl"
    line.write_text(json.dumps({"kind": "patient", "fields": PATIENT}) + "\n")
    assert hwc("import", str(line)).status == 0
    file = tmp_path / "support.json"
    assert hwc("support", str(file)).status == 0
    written = file.read_text()
    told = json.loads(written)
    assert told["schema"] == "hwc.support/1"
    assert (told["records"], told["key_slots"]) == (1, 1)
    assert {one["name"] for one in told["checks"]} >= {"database"}
    for secret in (*PATIENT.values(), PERSON_NAME, PASSPHRASE, str(tmp_path)):
        if len(secret) > 1:
            assert secret not in written


def test_a_file_that_is_there_is_replaced_only_when_told_so(home: Home, hwc: Runner, tmp_path: Path) -> None:
    file = tmp_path / "support.json"
    file.write_text("mine")
    ended = hwc("support", str(file))
    assert ended.status == 1
    assert "E_FILE_EXISTS" in ended.err
    assert file.read_text() == "mine"
    assert hwc("support", str(file), "--yes").status == 0
    assert json.loads(file.read_text())["schema"] == "hwc.support/1"


def test_a_dash_writes_to_stdout_and_a_folder_that_is_not_there_is_said(
    home: Home, hwc: Runner, tmp_path: Path
) -> None:
    assert hwc("support", "-").shape["schema"] == "hwc.support/1"
    ended = hwc("support", str(tmp_path / "nowhere" / "support.json"))
    assert ended.status == 1
    assert "E_STORAGE" in ended.err
