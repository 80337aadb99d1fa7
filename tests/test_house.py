"""The floors and the doors of the house, held with plain `ast`.

A module imports only from lower floors; the node and the hub never import each other; each dependency has its named
door; the protocol reads no clock, file, socket or randomness of its own. Files and functions stay of a size that a
person reads in one sitting. A new module is put on its floor here first.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
MAX_MODULE_LINES: Final = 500
MAX_TEST_LINES: Final = 800
MAX_FUNCTION_LINES: Final = 70

FLOORS: Final[dict[str, dict[str, int]]] = {
    "sync_protocol": {
        "errors": 10,
        "canonical": 12,
        "hlc": 20,
        "schema": 20,
        "limits": 25,
        "change": 30,
        "keys": 30,
        "documents": 35,
        "codec": 40,
        "merge": 40,
        "envelope": 45,
        "replica": 50,
        "referral": 50,
        "exports": 55,
        "segment": 50,
        "feed_page": 60,
        "wire": 60,
        "session": 70,
    },
    "hwc_node": {
        "config": 10,
        "tables": 10,
        "migrations": 15,
        "keystore": 30,
        "engine": 40,
        "store": 70,
        "outbox": 72,
        "inbox": 74,
        "enrolment": 80,
        "sync": 80,
        "clinic": 80,
        "edits": 78,
        "views": 78,
        "line_import": 82,
        "checkup": 85,
        "scheduler": 90,
        "web": 92,
        "cli": 100,
    },
    "hub_server": {
        "config": 10,
        "tables": 10,
        "pg_programs": 10,
        "migrations": 15,
        "postgres": 20,
        "database": 20,
        "feed": 25,
        "audit": 25,
        "people": 25,
        "queue": 25,
        "vault": 40,
        "nodes": 50,
        "store": 60,
        "intake": 70,
        "consults": 75,
        "sync_api": 80,
        "checkup": 80,
        "scheduler": 85,
        "web": 85,
        "app": 90,
        "cli": 100,
    },
}

DOORS: Final[dict[str, set[str]]] = {
    "httpx": {"hwc_node.sync", "hwc_node.enrolment"},
    "apscheduler": {"hwc_node.scheduler", "hub_server.scheduler"},
    "typer": {"hwc_node.cli", "hub_server.cli"},
    "fastapi": {"hwc_node.web", "hub_server.web", "hub_server.sync_api", "hub_server.app"},
    "uvicorn": {"hwc_node.web", "hwc_node.cli", "hub_server.cli", "hub_server.app"},
    "cryptography": {
        "sync_protocol.keys",
        "sync_protocol.envelope",
        "hwc_node.keystore",
        "hub_server.vault",
        "hub_server.people",
        "hub_server.store",
    },
    "sqlcipher3": {"hwc_node.engine"},
    "prometheus_client": {"hub_server.app"},
    "zstandard": {"sync_protocol.segment"},
    "segno": {"hub_server.cli"},
}

FORBIDDEN_IN_PROTOCOL: Final = frozenset(
    "time os pathlib io socket ssl random secrets sqlite3 subprocess threading asyncio http urllib tempfile".split()
)
HIDDEN: Final = re.compile(r"\b(TODO|FIXME|XXX)\b|NotImplementedError")
PLACES: Final = re.compile(r"https?://[^\s\"']+/(simple|packages)/|--(extra-)?index-url|(?<![\w.])/(work|root)/")


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def room_of(file: Path) -> tuple[str, str]:
    """(package, room): the room of a module inside a room is that room."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return parts[0], parts[1] if len(parts) > 1 else "__init__"


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


EVERY: Final = [file for package in FLOORS for file in modules(package)]
NAMES: Final = [str(file.relative_to(ROOT)) for file in EVERY]


@pytest.mark.parametrize("file", EVERY, ids=NAMES)
def test_a_module_imports_only_from_lower_floors(file: Path) -> None:
    package, room = room_of(file)
    if room == "__init__":
        return
    floors = FLOORS[package]
    assert room in floors, f"{file.name} stands on no floor: add it to FLOORS in {Path(__file__).name}"
    for name in imports(ast.parse(file.read_text())):
        parts = name.split(".")
        if parts[0] == package and len(parts) > 1 and parts[1] in floors and parts[1] != room:
            assert floors[parts[1]] < floors[room] or room == "migrations", f"{room} imports {parts[1]}, not below it"


@pytest.mark.parametrize("file", EVERY, ids=NAMES)
def test_packages_keep_to_themselves_and_dependencies_to_their_doors(file: Path) -> None:
    package, room = room_of(file)
    others = set(FLOORS) - {package, "sync_protocol"}
    for name in imports(ast.parse(file.read_text())):
        top = name.split(".")[0]
        assert top not in others, f"{package} imports {top}"
        assert top not in {"tests", "bench"}
        if package == "sync_protocol":
            assert top not in FORBIDDEN_IN_PROTOCOL, f"the protocol imports {top}"
        if top in DOORS:
            assert f"{package}.{room}" in DOORS[top], f"{top} is imported by {package}.{room}, which is not its door"


@pytest.mark.parametrize("file", EVERY, ids=NAMES)
def test_no_import_hides_in_a_function(file: Path) -> None:
    for function in ast.walk(ast.parse(file.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = [node for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom)]
            assert not inner, f"{function.name} hides an import"


@pytest.mark.parametrize("file", EVERY, ids=NAMES)
def test_files_and_functions_are_read_in_one_sitting(file: Path) -> None:
    text = file.read_text()
    assert text.count("\n") <= MAX_MODULE_LINES
    for function in ast.walk(ast.parse(text)):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{function.name} has {lines} lines"


def texts() -> list[Path]:
    endings = {".py", ".md", ".toml", ".lock", ".json", ".mako", ".txt"}
    folders = ["sync_protocol", "hwc_node", "hub_server", "bench", "tests", ".ci"]
    found = [file for folder in folders for file in (ROOT / folder).rglob("*") if file.suffix in endings]
    return found + [
        file for file in ROOT.iterdir() if file.is_file() and (file.suffix in endings or file.name == "Makefile")
    ]


def test_nothing_left_open_and_no_machine_named() -> None:
    for file in texts():
        if file == Path(__file__).resolve() or "__pycache__" in file.parts or ".egg-info" in str(file):
            continue
        text = file.read_text(encoding="utf-8")
        if file.parts[len(ROOT.parts)] != "tests":
            assert not HIDDEN.search(text), f"{file.name} leaves something open"
        assert not PLACES.search(text), f"{file.name} names a machine's path or an index"


def test_tests_stay_readable() -> None:
    for file in (ROOT / "tests").rglob("*.py"):
        assert file.read_text().count("\n") <= MAX_TEST_LINES, f"{file.name} is too long"
