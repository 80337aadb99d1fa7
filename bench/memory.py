"""`memory`: the most that each process held: real programs, each of its own, looked at while they run.

A node's commands, at a node with a long backlog and one that is pulled anew, and at one with 100,000 records. The hubs of
`ingest`, `pull`, `grow` and `exchange` are looked at where those run: each benchmark tells its hub's peak (`of_hub`).
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from bench.backlogs import PASSPHRASE, RECORDS_A_CONSULTATION
from bench.figures import Figure
from bench.peaks import peak_mb
from bench.places import INSTALLED, PEAKS_FILE, HubPlace, Place, hold, running_hub
from bench.visits import Visits

RECORDS: Final = 12_500
LARGE_RECORDS: Final = 100_000
NEW_RECORDS: Final = 50
FIRST: Final = 600
SEED: Final = 9
LOOK_S: Final = 0.005  # what a program takes in its very last moment is not seen
HUB_LIMIT_MB: Final = 300.0
NODE_LIMIT_MB: Final = 150.0


@dataclass
class _Node:
    """A node whose commands are watched. peaks_mb: by what was done."""

    place: Place
    peaks_mb: dict[str, float]

    def run(self, what: str, *words: str, given: Path | None = None) -> None:
        peak = run_to_its_end([str(INSTALLED / "hwc"), *words], self.place.environment, given)
        self.peaks_mb[what] = max(peak, self.peaks_mb.get(what, 0.0))


def run(folder: Path, records: int = RECORDS, large: int = LARGE_RECORDS) -> list[Figure]:
    peaks: dict[str, float] = {}
    with running_hub(folder) as hub:
        first = _node(hub, folder, FIRST, "first", peaks)
        first.run(f"import of {records:,} records", "import", "-", given=_lines(folder, FIRST, records))
        first.run(f"ingest: {records:,} records sent", "sync")
        second = _node(hub, folder, FIRST, "second", peaks)
        second.run(f"pull: {records:,} records received", "sync")
        largest = _node(hub, folder, FIRST + 1, "largest", peaks)
        largest.run(f"import of {large:,} records", "import", "-", given=_lines(folder, FIRST + 1, large))
        largest.run(f"ingest: {large:,} records sent", "sync")
        largest.run("grow: a small import", "import", "-", given=_lines(folder, FIRST + 1, NEW_RECORDS, large))
        largest.run(f"grow: a sync at {large:,} records", "sync")
        largest.run(f"grow: all referrals listed at {large:,} records", "referrals")
    return [Figure("memory", f"node, {name}", peak, "MB", NODE_LIMIT_MB, "limit") for name, peak in peaks.items()]


def _node(hub: HubPlace, folder: Path, number: int, name: str, peaks: dict[str, float]) -> _Node:
    """A new node; its facility's first makes the facility too."""
    facility = f"HWC{number:06d}"
    if name != "second":
        hub.run("facility", "add", facility, f"Centre {facility}")
    place = Place(
        "hwc",
        {
            "HWC_HOME": str(folder / name),
            "HWC_PASSPHRASE": PASSPHRASE,
            "HWC_PERSON_NAME": "Sunita Devi",
        },
    )
    place.run("enrol", hub.ask("enrol", facility)["code"])
    return _Node(place, peaks)


def _lines(folder: Path, number: int, records: int, behind: int = 0) -> Path:
    """A file of about so many made-up records, those behind others that were taken before."""
    visits: list[dict[str, Any]] = []
    documents = Visits(number, SEED).documents(10 + round((records + behind) / RECORDS_A_CONSULTATION))
    visits += islice(documents, behind, None)
    file = folder / f"visits-{number}-{records}.jsonl"
    file.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in visits))
    return file


def run_to_its_end(words: list[str], environment: Mapping[str, str], given: Path | None = None) -> float:
    """Run a program and watch it: its peak in MB. given: a file for its stdin. Raises StepFailed if it fails."""
    with (given or Path("/dev/null")).open("rb") as taken:
        program = subprocess.Popen(
            words,
            env=os.environ | environment,
            stdin=taken,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        peak = 0.0
        while program.poll() is None:
            peak = max(peak, peak_mb(program.pid))
            time.sleep(LOOK_S)
    hold(program.returncode == 0, f"hwc {words[1]} ended with {program.returncode}")
    hold(peak > 0, f"hwc {words[1]} was over before it was seen")
    return peak


def of_hub(name: str, folder: Path) -> list[Figure]:
    """What the programs of a benchmark's hubs held at most, and the largest of their PostgreSQL's processes."""
    told = [json.loads(file.read_text()) for file in folder.glob(f"**/{PEAKS_FILE}")]
    if not told:
        return []
    hub, worker, postgres = (max(one[part] for one in told) for part in ("hub_mb", "worker_mb", "postgres_mb"))
    return [
        Figure("memory", f"hub, {name}", hub, "MB", HUB_LIMIT_MB, "limit"),
        Figure("memory", f"hub's admitting program, {name}", worker, "MB", HUB_LIMIT_MB, "limit"),
        Figure("memory", f"PostgreSQL's largest process, {name}", postgres, "MB"),
    ]
