"""`make bench`: the benchmarks, as a table, or with --json one object a line.

python -m bench [--json] [--rounds N] [--records N] [BENCH …]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench import exchange, find, grow, idle, ingest, memory, pages, pull, save, wire
from bench.figures import Figure, print_table
from bench.places import StepFailed

ROUNDS: Final = 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description="The benchmarks. See bench/README.md.")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of pull and ingest; the median is shown")
    parser.add_argument("--records", type=int, default=ingest.RECORDS, help="of a round of ingest")
    parser.add_argument(
        "--stored", type=int, default=ingest.STORED, help="records that the hub of ingest has before its second half"
    )
    parser.add_argument(
        "--pages-stored", type=int, default=pages.STORED, help="records that the hub of pages has; some minutes to make"
    )
    parser.add_argument("--keep", action="store_true", help="leave the folder with the logs")
    parser.add_argument(
        "bench",
        nargs="*",
        metavar="BENCH",
        help="wire, idle, save, find, pull, grow, memory, pages, exchange, ingest; without one all of them",
    )
    asked = parser.parse_args()
    known: dict[str, Callable[[Path], list[Figure]]] = {
        "wire": lambda _folder: wire.run(),
        "idle": idle.run,
        "save": save.run,
        "find": find.run,
        "pull": lambda folder: pull.run(folder, asked.rounds),
        "grow": grow.run,
        "memory": memory.run,
        "pages": lambda folder: pages.run(folder, stored=asked.pages_stored),
        "exchange": lambda folder: exchange.run(folder, asked.rounds),
        "ingest": lambda folder: ingest.run(folder, asked.rounds, asked.records, asked.stored),
    }
    if unknown := set(asked.bench) - set(known):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    figures: list[Figure] = []
    for name in asked.bench or known:
        folder = Path(tempfile.mkdtemp(prefix=f"health-sync-{name}-"))
        folder.chmod(0o711)  # PostgreSQL's own user has to pass through, when this runs as root
        print(f"{name} …", file=sys.stderr, flush=True)
        try:
            found = [*known[name](folder), *memory.of_hub(name, folder)]
        except StepFailed as failed:
            print(f"{name}: {failed}\nWhat it left is in {folder}", file=sys.stderr)
            return 1
        if not asked.keep:
            shutil.rmtree(folder, ignore_errors=True)
        figures += found
        if asked.json:
            for one in found:
                print(one.as_json(), flush=True)
    if not asked.json:
        print_table(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
