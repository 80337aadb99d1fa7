"""The shared stream of clinical documents goes in as it is, and the project's own visits have its shapes."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bench.visits import Visits
from hwc_node import views
from hwc_node.line_import import ImportRules, LineImport, Verdict
from hwc_node.store import Store
from sync_protocol import documents
from tests.conftest import SHARED
from tests.node.enrolled_home import FACILITY, NOW_MS, PERSON, make_home

CONSULTATIONS = 200


@pytest.fixture(scope="module")
def clinic() -> ModuleType:
    """`../shared/workload/clinic.py` as a module."""
    spec = importlib.util.spec_from_file_location("shared_clinic", SHARED / "workload" / "clinic.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with make_home(tmp_path).open() as opened:
        yield opened


def _taken(store: Store, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    importing = LineImport(store, PERSON, ImportRules())
    numbered = iter([(at, json.dumps(line, ensure_ascii=False).encode()) for at, line in enumerate(lines, 1)])
    answers: list[dict[str, Any]] = []
    while batch := list(islice(numbered, 64)):
        answers += [one.as_json() for one in importing.take(batch, NOW_MS)]
    return answers


def test_the_documents_are_taken_as_they_are(clinic: ModuleType, store: Store) -> None:
    lines = list(clinic.Clinic(1, 1).documents(CONSULTATIONS))
    assert {line["facility"] for line in lines} == {FACILITY}
    answers = _taken(store, lines)
    for line, answer in zip(lines, answers, strict=True):
        expected = Verdict.NOT_OURS if line["kind"] == "reply" else Verdict.CREATED
        assert answer["verdict"] == expected.value, answer
        assert answer["kind"] == line["kind"]
    again = _taken(store, lines)
    assert {one["verdict"] for one in again} == {"unchanged", "not_ours"}


def test_what_was_said_comes_out_again(clinic: ModuleType, store: Store) -> None:
    lines = list(clinic.Clinic(1, 2).documents(50))
    _taken(store, lines)
    out = {line["id"]: line for line in map(views.export_line, store.records())}
    for line in lines:
        if line["kind"] == "reply":
            continue
        shown, said = out[documents.id_text(documents.parse_id(line["id"]))], line["fields"]
        fields = shown["fields"]
        for name in ("name", "phone", "village", "guardian", "history", "examination", "reason", "question", "urgency"):
            assert fields.get(name) == said.get(name)
        if line["kind"] == "vitals":
            pressure = {name: said[name] for name in ("systolic_mmhg", "diastolic_mmhg")}
            assert fields["blood_pressure"] == pressure
        for family in ("complaints", "allergies"):
            present = {name.partition("/")[2] for name in fields if name.startswith(f"{family}/")}
            assert present == {one.casefold() for one in said.get(family, [])}


def _shape(value: Any) -> Any:
    """The names and types of a document, without what it says; lists by what their elements are."""
    if isinstance(value, dict):
        return {name: _shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return "list"
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def test_the_projects_own_visits_have_the_same_shapes(clinic: ModuleType) -> None:
    def shapes(lines: Iterator[dict[str, Any]]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for line in lines:
            found.setdefault(line["kind"], set()).add(json.dumps(_shape(line), sort_keys=True))
        return found

    ours = shapes(Visits(1, seed=1).documents(CONSULTATIONS, replies=True))
    assert ours == shapes(clinic.Clinic(1, 1).documents(CONSULTATIONS))
