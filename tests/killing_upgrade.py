"""An upgrade of a database as it is, in a program that ends itself at a chosen moment of it.

Run as ``python -m tests.killing_upgrade``. SQLAlchemy's statements and commits and the replacing of a file are wrapped
from outside, the product has no hook: the moments are those just before and just after each. At the chosen one the
program is killed as by a power cut, SIGKILL and nothing else.

Each line on stdin is one life: ``{"side", "where", "steps", "head", "key", "moments"}``, lived by a fork of this
program, which has imported everything already. The answer's line tells how it ended, and which moments it passed; that
at which it was killed is the last. moments: after how many it is killed, 0 for never.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Engine, event
from sqlalchemy.engine.default import DefaultDialect

from hub_server.database import Database
from hwc_node import migrations
from hwc_node.engine import open_engine
from tests import warm

ROOT = Path(__file__).resolve().parent.parent


class Lives:
    """The program, from the side of a test. Use as a context."""

    def __enter__(self) -> Self:
        self._driver = subprocess.Popen(
            [sys.executable, "-m", "tests.killing_upgrade"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._driver.communicate()

    def moments(self, **life: Any) -> list[str]:
        """Those of a life that goes on to its end."""
        told = self._told(life | {"moments": 0})
        assert told["ended"] == 0, told
        return list(told["passed"])

    def live(self, **life: Any) -> str:
        """The moment at which it was killed, empty for one that went on to its end."""
        told = self._told(life)
        killed = told["ended"] == -signal.SIGKILL
        assert killed or told["ended"] == 0, told
        return str(told["passed"][-1]) if killed else ""

    def _told(self, life: dict[str, Any]) -> Any:
        assert self._driver.stdin is not None
        assert self._driver.stdout is not None
        self._driver.stdin.write(json.dumps(life) + "\n")
        self._driver.stdin.flush()
        return json.loads(self._driver.stdout.readline())


class _Fuse:
    def __init__(self, moments: int, told: int) -> None:
        self._left, self._told = moments, told

    def moment(self, what: str) -> None:
        os.write(self._told, f"{what}\n".encode())
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _wrap(fuse: _Fuse) -> None:
    commit, replace = DefaultDialect.do_commit, os.replace

    def committing(self: Any, connection: Any) -> None:
        fuse.moment("before commit")
        commit(self, connection)  # type: ignore[no-untyped-call]
        fuse.moment("after commit")

    def replacing(*names: Any, **places: Any) -> None:
        fuse.moment("before replace")
        replace(*names, **places)
        fuse.moment("after replace")

    def before(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        fuse.moment(f"before {statement.split()[0]}")

    def after(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        fuse.moment(f"after {statement.split()[0]}")

    DefaultDialect.do_commit = committing  # type: ignore[method-assign]
    os.replace = replacing
    event.listen(Engine, "before_cursor_execute", before)
    event.listen(Engine, "after_cursor_execute", after)


def _upgrade(life: dict[str, Any]) -> None:
    if life["side"] == "hub":
        Database(life["where"]).migrate(Path(life["steps"]), life["head"])
        return
    engine = open_engine(Path(life["where"]), bytes.fromhex(life["key"]), create=False)
    migrations.upgrade(engine, migrations.Steps(Path(life["steps"]), life["head"]))
    engine.dispose()


def _live(life: dict[str, Any]) -> dict[str, Any]:
    reading, telling = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _wrap(_Fuse(int(life["moments"]), telling))
            _upgrade(life)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(telling)
    with os.fdopen(reading) as told:
        passed = told.read().splitlines()
    return {"ended": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), "passed": passed}


def main() -> None:
    warm.load("hwc_node.migrations.running", "hub_server.migrations.running")
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_live(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
