"""The floors and the doors of the house, held with plain `ast`, and the manners that a machine can hold.

A module imports only from lower floors, and openly; the node and the hub never import each other; each dependency has
its named door; the protocol reads no clock, file, socket or randomness of its own. Files and functions stay of a size
that a person reads in one sitting. A new module is put on its floor here first. Each test names every place at once.
"""

from __future__ import annotations

import ast
import graphlib
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
ME: Final = "tests/test_house.py"

# A room imports only from rooms of its package with a smaller number; tens are HOUSE.md's floors, digits what fits between.
FLOORS: Final[dict[str, dict[str, int]]] = {
    "sync_protocol": {
        "errors": 10,
        "words": 10,
        "sheets": 10,
        "canonical": 12,
        "hlc": 20,
        "schema": 20,
        "keys": 20,
        "limits": 25,
        "telemedicine": 26,
        "unusual": 26,
        "change": 30,
        "codec": 35,
        "documents": 35,
        "merge": 40,
        "envelope": 45,
        "replica": 50,
        "directory": 50,
        "referral": 50,
        "subscription": 50,
        "segment": 50,
        "remarks": 50,
        "exports": 55,
        "fhir": 56,
        "feed_page": 60,
        "ahead_page": 62,
        "wire": 60,
        "session": 70,
        "pages": 70,
        "slip": 55,
        "states": 20,
    },
    "hwc_node": {
        "config": 10,
        "turns": 10,
        "names": 10,
        "tables": 10,
        "files": 20,
        "lan": 20,
        "lean": 20,
        "keystore": 30,
        "engine": 40,
        "migrations": 45,
        "lexicon": 42,
        "worklist": 42,
        "directory": 71,
        "ledger": 60,
        "membership": 60,
        "store": 70,
        "outbox": 72,
        "erasing": 73,
        "questioning": 74,
        "inbox": 75,
        "answer": 76,
        "standing": 76,
        "edits": 76,
        "views": 76,
        "finding": 77,
        "server_certificate": 77,
        "overview": 81,
        "line": 82,
        "visiting": 81,
        "drafts": 72,
        "reporting": 82,
        "printing": 83,
        "local_ca": 30,
        "line_import": 78,
        "fhir_import": 79,
        "clinic": 80,
        "decided": 80,
        "subscribing": 80,
        "sync": 80,
        "courier": 80,
        "enrolment": 82,
        "backup": 82,
        "checkup": 85,
        "scheduler": 90,
        "web": 92,
        "cli": 100,
        "start": 110,
    },
    "hub_server": {
        "config": 10,
        "clock": 10,
        "tables": 10,
        "pg_programs": 10,
        "files": 10,
        "logs": 10,
        "gate": 15,
        "together": 15,
        "migrations": 15,
        "postgres": 20,
        "database": 20,
        "audit": 25,
        "feed": 25,
        "directory_due": 22,
        "tallies": 24,
        "hospitals": 24,
        "people": 25,
        "sign_in": 45,
        "drafts": 62,
        "glass": 62,
        "duty": 62,
        "claim_locks": 62,
        "dashboards": 72,
        "queue": 25,
        "ledger": 30,
        "vault": 40,
        "twins": 30,
        "rotation": 50,
        "grants": 52,
        "nodes": 50,
        "facilities": 50,
        "ahead": 70,
        "answers": 55,
        "records": 55,
        "receiving": 58,
        "store": 60,
        "charts": 65,
        "glances": 66,
        "directory": 65,
        "subscriptions": 65,
        "intake": 70,
        "slips": 70,
        "keeper": 70,
        "workers": 72,
        "pages": 72,
        "registry": 70,
        "stats": 70,
        "erasure": 72,
        "recovery": 75,
        "backup": 80,
        "consults": 75,
        "sync_api": 80,
        "extracts": 80,
        "checkup": 80,
        "scheduler": 85,
        "admitting": 85,
        "web": 85,
        "app": 90,
        "cli": 100,
        "start": 110,
    },
}

# Who may import a dependency: rooms, or "package.*" for a whole package. One that is not here is imported by nobody.
_NODE_SQL: Final = frozenset(
    f"hwc_node.{room}"
    for room in "tables engine migrations ledger membership store outbox erasing questioning inbox standing courier"
    " checkup finding overview line drafts reporting worklist lexicon".split()
)
_HUB_SQL: Final = frozenset({"hub_server.tables", "hub_server.database", "hub_server.migrations"})
_EVERYWHERE: Final = frozenset({"sync_protocol.*", "hwc_node.*", "hub_server.*"})
_HTTP_SERVED: Final = frozenset({"hwc_node.web", "hub_server.web", "hub_server.sync_api", "hub_server.app"})
DOORS: Final[dict[str, frozenset[str]]] = {
    "msgspec": _EVERYWHERE,
    "structlog": frozenset({"hwc_node.*", "hub_server.*"}),
    "httpx": frozenset({"hwc_node.sync"}),
    "rapidfuzz": frozenset({"hwc_node.finding"}),
    "apscheduler": frozenset({"hwc_node.scheduler", "hub_server.scheduler"}),
    "typer": frozenset({"hwc_node.cli", "hub_server.cli"}),
    "rich": frozenset({"hwc_node.cli", "hub_server.cli"}),
    "segno": frozenset({"hwc_node.printing", "hwc_node.web", "hub_server.cli", "hub_server.web"}),
    "jinja2": frozenset({"sync_protocol.pages"}),
    "markupsafe": frozenset({"sync_protocol.pages"}),
    "babel": frozenset({"sync_protocol.pages"}),
    "fpdf": frozenset({"hwc_node.printing"}),
    "platformdirs": frozenset({"hwc_node.config", "hub_server.config"}),
    "fastapi": _HTTP_SERVED,
    "anyio": frozenset({"hwc_node.cli"}),
    "starlette": _HTTP_SERVED,
    "uvicorn": frozenset({"hwc_node.web", "hwc_node.cli", "hub_server.cli", "hub_server.app"}),
    "prometheus_client": frozenset({"hub_server.app"}),
    "cryptography": frozenset(
        {
            "sync_protocol.keys",
            "sync_protocol.envelope",
            "hwc_node.keystore",
            "hwc_node.local_ca",
            "hub_server.sign_in",
            "hub_server.vault",
            "hub_server.people",
        }
    ),
    "zstandard": frozenset({"sync_protocol.segment"}),
    "sqlcipher3": frozenset({"hwc_node.engine"}),
    "sqlalchemy": _NODE_SQL | _HUB_SQL,
    "sqlmodel": _NODE_SQL | _HUB_SQL,
    "alembic": frozenset({"hwc_node.migrations", "hub_server.migrations"}),
    "psycopg": frozenset(
        f"hub_server.{room}"
        for room in "postgres database audit feed people queue nodes grants store intake backup".split()
    ),
}
COMES_WITH: Final = {
    "sqlalchemy": "sqlmodel",
    "starlette": "fastapi",
    "anyio": "fastapi",
    "fpdf": "fpdf2",
    "markupsafe": "jinja2",
}  # what is imported -> what declares it
EXTRAS: Final = {"sync_protocol": [], "hwc_node": ["node"], "hub_server": ["hub"]}

# The whole of the standard library that the pure package may import: nothing here reads anything from outside.
PURE: Final = frozenset(
    "__future__ abc base64 bisect collections contextlib contextvars copy dataclasses datetime decimal difflib enum "
    "functools hashlib heapq hmac importlib ipaddress itertools json math numbers operator re string struct textwrap "
    "types typing unicodedata uuid".split()
)
PURE_NAMES: Final = frozenset({"urllib.parse.parse_qsl"})  # of a module whose other half opens connections
# Who reads files of the package itself: the dictionaries, as they were released; catalogues and assets of pages.
PACKAGED_FILES: Final = ("sync_protocol/segment.py", "sync_protocol/pages/")
DRAWS: Final = frozenset("now utcnow today uuid1 uuid4 uuid7 generate generate_key read_text read_bytes".split())
READS: Final = frozenset({"open", "input", "print", "eval", "exec"})
SQLITE_OF_ITS_OWN: Final = frozenset({"sqlite3", "_sqlite3"})  # two copies of SQLite in a process corrupt the file

# Who asks what time it is; all others are told. (A monotonic clock, for waiting, is anybody's.)
CLOCK_ROOMS: Final = frozenset(
    {f"hwc_node.{room}" for room in ("web", "cli", "scheduler", "sync")}
    | {f"hub_server.{room}" for room in ("web", "cli", "scheduler", "clock")}
)
CLOCKS: Final = frozenset({"time.time", "time.time_ns", "now", "utcnow", "today"})

MAX_MODULE_LINES: Final = 500
MAX_TEST_LINES: Final = 800
MAX_FUNCTION_LINES: Final = 70  # a screen
MAX_TEXT_BYTES: Final = 2_000_000

# Written so that this file does not hold what it looks for.
LEFT_OPEN: Final = re.compile(r"\b(T[O]DO|F[I]XME|X[X]X|H[A]CK)\b|Not[I]mplementedError")
MACHINE: Final = re.compile(
    r"(?<![\w.])/(work|root|opt|farm)/"  # a folder of one machine
    r"|https?[:]//[^\s\"']+/(simple|packages)/|--(extra-)?index[-]url|--find[-]links"
    r"|\b(pypi\.[o]rg|pythonhosted\.[o]rg|npmjs\.[o]rg|deb\.debian\.[o]rg)\b"
)
NOT_RUN: Final = re.compile(r"\bmark\.(s[k]ip|s[k]ipif|x[f]ail)\b|\bpytest\.(s[k]ip|x[f]ail|import[o]rskip)\(")
VAGUE: Final = frozenset("utils util helpers helper common manager base info process handle data misc".split())
LEFT_OUT: Final = frozenset("__pycache__ build demo node_modules".split())  # beside all that begin with a dot


def product() -> list[Path]:
    return [file for package in FLOORS for file in sorted((ROOT / package).rglob("*.py"))]


def path_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def room_of(file: Path) -> tuple[str, str]:
    """(package, room). A folder is one room; the package's own ``__init__`` stands above all and shows their names."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return parts[0], parts[1]


@cache
def nodes_of(file: Path) -> tuple[ast.AST, ...]:
    """Walked once: every rule asks about every module."""
    return tuple(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))


@cache
def imports(file: Path) -> tuple[tuple[int, str], ...]:
    """(line, name) of all that a module imports: ``from a import b`` is ``a.b``, ``from . import b`` is ``.b``."""
    found: list[tuple[int, str]] = []
    for node in nodes_of(file):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            before = "." * node.level + (f"{node.module}." if node.module else "")
            found += [(node.lineno, before + alias.name) for alias in node.names]
    return tuple(found)


def functions(file: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in nodes_of(file):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@cache
def calls(file: Path) -> tuple[tuple[int, str, str], ...]:
    """(line, dotted name as written, its last part) of all that a module calls."""
    written = ((node.lineno, ast.unparse(node.func)) for node in nodes_of(file) if isinstance(node, ast.Call))
    return tuple((line, name, name.rpartition(".")[2]) for line, name in written)


def is_at(place: str, allowed: frozenset[str]) -> bool:
    return place in allowed or f"{place.partition('.')[0]}.*" in allowed


def third_parties(file: Path) -> Iterator[tuple[int, str]]:
    for line, name in imports(file):
        top = name.partition(".")[0]
        if top and top not in FLOORS and top not in sys.stdlib_module_names:
            yield line, top


def holds(wrong: list[str]) -> None:
    assert not wrong, "\n" + "\n".join(sorted(wrong))


def test_every_module_stands_on_a_floor() -> None:
    rooms = {room_of(file) for file in product()}
    holds(
        [
            f"{package}/{room} stands on no floor: give it one in FLOORS of {ME}"
            for package, room in rooms
            if room != "__init__" and room not in FLOORS[package]
        ]
    )


def test_a_module_imports_only_from_lower_floors() -> None:
    wrong = []
    for file in product():
        package, room = room_of(file)
        floors = FLOORS[package]
        for line, name in imports(file):
            parts = name.split(".")
            if room not in floors or parts[0] != package or parts[1:2] == [room]:
                continue  # one without a floor is named by the test above
            below = parts[1] if len(parts) > 1 else ""
            if below not in floors:
                wrong.append(
                    f"{path_of(file)}:{line} imports {name}, which is no room (name the room, not the package)"
                )
            elif floors[below] >= floors[room]:
                wrong.append(f"{path_of(file)}:{line} {room} imports {below}, which is not below it")
    holds(wrong)


def test_the_steps_of_each_schema_are_one_chain() -> None:
    """Two that were made at the same time would have one number, or one before: the later one is renumbered."""
    wrong = []
    for package in ("hwc_node", "hub_server"):
        steps = sorted((ROOT / package / "migrations" / "versions").glob("[0-9]*.py"))
        for number, file in enumerate(steps, 1):
            said = dict(
                re.findall(r'^(revision|down_revision) = "?(\w+)"?$', file.read_text(encoding="utf-8"), re.MULTILINE)
            )
            before = f"{number - 1:04}" if number > 1 else "None"
            if (file.name[:4], said.get("revision"), said.get("down_revision")) != (
                f"{number:04}",
                file.name[:4],
                before,
            ):
                wrong.append(f"{path_of(file)} is not step {number:04} behind {before}")
    holds(wrong)


def test_there_are_no_circles() -> None:
    """Floors rule circles out between rooms; this holds for the modules inside a room too."""
    files = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in product()
    }
    graph: dict[str, set[str]] = {}
    for module, file in files.items():
        named = {name if name in files else name.rpartition(".")[0] for _, name in imports(file)}
        graph[module] = {name for name in named if name in files}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_the_node_and_the_hub_keep_to_themselves() -> None:
    wrong = []
    for file in product():
        package, _ = room_of(file)
        ours = {package, "sync_protocol"}
        for line, name in imports(file):
            if name.partition(".")[0] in {*FLOORS, "bench", "tests"} - ours:
                wrong.append(f"{path_of(file)}:{line} imports {name}")
    holds(wrong)


LATE: Final = {
    # FastAPI, uvicorn and APScheduler take a third of the start of every other command
    ("hwc_node/cli/moving.py", "serve"),
    # What draws a bar takes 6 MB, and a tenth of a command's start
    ("hwc_node/cli/console.py", "progress"),
    # FHIR's tables take 3 MB
    ("hwc_node/cli/records.py", "_taking"),
    # What speaks HTTP takes 7 MB, needed only after unlocking
    ("hwc_node/sync/connecting.py", "open_hub"),
    ("hwc_node/sync/connecting.py", "hub_address"),
    # What compares words takes memory, needed only after unlocking
    ("hwc_node/cli/finding.py", "find"),
    # What speaks languages and draws codes takes 5 MB, likewise
    ("hwc_node/cli/papers.py", "print_referral"),
    ("hwc_node/cli/papers.py", "print_prescription"),
    ("hwc_node/cli/papers.py", "slip_command"),
    # Alembic takes a fifth of it, and 10 MB: only an upgrade needs it
    ("hwc_node/migrations/__init__.py", "upgrade"),
    ("hwc_node/migrations/__init__.py", "require_known"),
    ("hub_server/database.py", "migrate"),
    # What serves takes a third of the start of the hub's commands
    ("hub_server/cli/serving.py", "serve"),
    ("hub_server/cli/carrying.py", "courier"),
    ("hub_server/cli/carrying.py", "_exchange"),
    ("hub_server/cli/places.py", "_answer_enrolment"),
}


def test_no_import_hides() -> None:
    """Neither in a function, nor behind dots, nor behind a name made at run time; but for what LATE names."""
    wrong = []
    for file in product():
        for function in functions(file):
            if (path_of(file), function.name) not in LATE and any(
                isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(function)
            ):
                wrong.append(f"{path_of(file)}:{function.lineno} {function.name} hides an import")
        for line, name in imports(file):
            if name.startswith("."):
                wrong.append(f"{path_of(file)}:{line} imports {name}: name it in full")
        for line, name, last in calls(file):
            if last in {"import_module", "__import__"}:
                wrong.append(f"{path_of(file)}:{line} imports by {name}")
    holds(wrong)


def test_dependencies_come_in_by_their_doors() -> None:
    wrong = []
    for file in product():
        place = ".".join(room_of(file))
        for line, name in third_parties(file):
            if not is_at(place, DOORS.get(name, frozenset())):
                wrong.append(
                    f"{path_of(file)}:{line} imports {name}; its doors: {sorted(DOORS.get(name, ())) or 'none'}"
                )
        for line, name in imports(file):
            if name.partition(".")[0] in SQLITE_OF_ITS_OWN:
                wrong.append(f"{path_of(file)}:{line} opens the other copy of SQLite")
    holds(wrong)


def test_the_protocol_reads_nothing_from_outside() -> None:
    wrong = []
    for file in (ROOT / "sync_protocol").rglob("*.py"):
        reads_package = path_of(file).startswith(PACKAGED_FILES)
        for line, name in imports(file):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names and top not in PURE and name not in PURE_NAMES:
                wrong.append(f"{path_of(file)}:{line} imports {name}")
            if top == "importlib" and not (reads_package and name == "importlib.resources"):
                wrong.append(f"{path_of(file)}:{line} reads a file of the package")
        for line, name, last in calls(file):
            packaged = reads_package and last == "read_bytes"
            if (last in DRAWS or name in READS) and not packaged:
                wrong.append(f"{path_of(file)}:{line} {name}: time, randomness and files are arguments")
    holds(wrong)


def test_only_the_edges_ask_what_time_it_is() -> None:
    wrong = []
    for file in product():
        if ".".join(room_of(file)) not in CLOCK_ROOMS:
            for line, name, last in calls(file):
                if name in CLOCKS or (last in CLOCKS and "." in name):
                    wrong.append(f"{path_of(file)}:{line} {name}: the time is an argument")
    holds(wrong)


def test_files_and_functions_are_read_in_one_sitting() -> None:
    wrong = []
    for file in product():
        lines = file.read_text(encoding="utf-8").count("\n")
        if lines > MAX_MODULE_LINES:
            wrong.append(f"{path_of(file)} has {lines} lines of {MAX_MODULE_LINES}")
        for function in functions(file):
            length = (function.end_lineno or function.lineno) - function.lineno + 1
            if length > MAX_FUNCTION_LINES:
                wrong.append(
                    f"{path_of(file)}:{function.lineno} {function.name} has {length} lines of {MAX_FUNCTION_LINES}"
                )
    for file in (ROOT / "tests").rglob("*.py"):
        lines = file.read_text(encoding="utf-8").count("\n")
        if lines > MAX_TEST_LINES:
            wrong.append(f"{path_of(file)} has {lines} lines of {MAX_TEST_LINES}")
    holds(wrong)


def test_a_file_opens_with_what_it_is_and_is_named_by_it() -> None:
    wrong = []
    for file in product():
        module = nodes_of(file)[0]
        if isinstance(module, ast.Module) and module.body and not ast.get_docstring(module):
            wrong.append(f"{path_of(file)} does not say what it is")
        if VAGUE & set(file.stem.split("_")):
            wrong.append(f"{path_of(file)} has a name that says nothing")
    holds(wrong)


def texts() -> Iterator[tuple[str, str]]:
    """(path, text) of all that a person wrote here."""
    for folder, folders, files in os.walk(ROOT):
        folders[:] = sorted(name for name in folders if name == ".ci" or not _is_made(name))
        for name in sorted(files):
            if name == ".gitignore" or not _is_made(name):
                file = Path(folder, name)
                content = file.read_bytes()
                if len(content) <= MAX_TEXT_BYTES and b"\x00" not in content:
                    yield path_of(file), content.decode("utf-8", errors="replace")


def _is_made(name: str) -> bool:
    """By a program, not by a person."""
    return name.startswith(".") or name in LEFT_OUT or name.endswith(".egg-info")


def test_nothing_is_left_open_and_no_machine_is_named() -> None:
    wrong = []
    rules = {
        LEFT_OPEN: "leaves something open",
        MACHINE: "names a machine's folder or a package index",
        NOT_RUN: "is a test that is not run",
    }
    for path, text in texts():
        for looked_for, what in rules.items():
            if looked_for is not NOT_RUN or path.startswith("tests/"):
                lines = {text.count("\n", 0, found.start()) + 1 for found in looked_for.finditer(text)}
                wrong += [f"{path}:{number} {what}" for number in lines]
    holds(wrong)


def test_each_package_declares_what_it_imports() -> None:
    """So that a centre's box, which installs the extra ``node`` alone, lacks nothing."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wrong = []
    for file in product():
        package, _ = room_of(file)
        declared = list(project["dependencies"])
        for extra in EXTRAS[package]:
            declared += project["optional-dependencies"][extra]
        names = {re.split(r"[\[<>=!~ ]", line, maxsplit=1)[0].replace("-", "_") for line in declared}
        for line, name in third_parties(file):
            if COMES_WITH.get(name, name) not in names:
                wrong.append(
                    f"{path_of(file)}:{line} imports {name}, which {EXTRAS[package] or 'the project'} does not name"
                )
    holds(wrong)


def test_the_lock_pins_all_that_is_declared_with_hashes() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    line_form = re.compile(r"[a-z0-9-]+==[^ ;]+( ; [^\\]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?")
    wrong = [
        f"requirements.lock:{number} {line}" for number, line in enumerate(lock, 1) if not line_form.fullmatch(line)
    ]
    locked = {line.partition("==")[0] for line in lock if not line.startswith(" ")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in sum(project["optional-dependencies"].values(), list(project["dependencies"])):
        name = re.split(r"[\[<>=!~ ]", line, maxsplit=1)[0]
        if name not in locked:
            wrong.append(f"pyproject.toml names {name}, which the lock does not pin: make lock")
    holds(wrong)
