"""`hwc` as it is, in a program that ends itself at a chosen moment of its work on the disk.

Run as ``python -m tests.node.killing_node``. SQLAlchemy's commit and the replacing of a file are wrapped from outside,
the product has no hook: the moments are those just before and just after each. At the chosen one the program is killed
as by a power cut, SIGKILL and nothing else.

Each line on stdin is one life: the environment, the commands, and after how many moments it is killed (0: never). It
is lived by a fork of this program, which has imported everything already. The answer's line tells how it ended, and
through which moments it went. What the commands print goes to the file OUT, what they say to ERR.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from sqlalchemy.engine.default import DefaultDialect

from hwc_node import cli, keystore
from hwc_node.cli import console
from tests import warm
from tests.costs import CHEAP

BEFORE, AFTER = "before", "after"


class Fuse:
    """Counts moments, and writes each down before it may be the last."""

    def __init__(self, moments: int, log: int) -> None:
        self.command = ""
        self._left, self._log = moments, log

    def moment(self, which: str, work: str) -> None:
        os.write(self._log, f"{self.command} {which} {work}\n".encode())
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def wrap(fuse: Fuse) -> None:
    """Put moments around what makes work durable."""
    commit, replace = DefaultDialect.do_commit, os.replace

    def committing(self: Any, connection: Any) -> None:
        fuse.moment(BEFORE, "commit")
        commit(self, connection)  # type: ignore[no-untyped-call]
        fuse.moment(AFTER, "commit")

    def replacing(*names: Any, **places: Any) -> None:
        fuse.moment(BEFORE, "replace")
        replace(*names, **places)
        fuse.moment(AFTER, "replace")

    DefaultDialect.do_commit = committing  # type: ignore[method-assign]
    os.replace = replacing


def live(life: dict[str, Any], log: int) -> int:
    """The commands one after another, until one fails; its status."""
    os.environ.clear()
    os.environ.update(life["environment"])
    for number, name in ((1, life["out"]), (2, life["err"])):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    vars(keystore).update(NEW_MEMORY_KIB=CHEAP.memory_kib, NEW_ITERATIONS=CHEAP.iterations)
    fuse = Fuse(life["moments"], log)
    wrap(fuse)
    for command in life["commands"]:
        fuse.command = command[0]
        status = cli.run(command)
        console.close()
        if status:
            return int(status)
    return 0


def main() -> None:
    warm.load(*warm.NODES)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        moments, log = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(moments)
            os._exit(live(json.loads(line), log))
        os.close(log)
        with os.fdopen(moments) as passed:
            told = passed.read().splitlines()
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        answers.write(json.dumps({"ended": ended, "moments": told}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
