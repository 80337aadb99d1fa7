"""`find`: patients by what is typed, at a node of 20,000, beside a plain LIKE over the same words."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Final

from bench.backlogs import enrolled
from bench.figures import Figure
from bench.places import hold, running_hub
from bench.visits import FAMILY, GIVEN, VILLAGES
from hwc_node import finding
from hwc_node.engine import begin_read
from hwc_node.enrolment import time_ordered_id
from hwc_node.store import Store, WriteRequest
from sync_protocol.change import PatientId, PersonId, RecordId, RecordKey

PATIENTS: Final = 20_000
SEARCHES: Final = 300
BATCH: Final = 1_000
SEED: Final = 9
SYLLABLES: Final = "ra ma la sha vi ni ta ku di pra na ja ga bha su man dev kri ven sa mi chan go pal".split()
MADE_UP_SHARE: Final = 0.5  # of the names: from syllables, so that there are as many words as a district's people have


def run(folder: Path, patients: int = PATIENTS, searches: int = SEARCHES) -> list[Figure]:
    chance = random.Random(SEED)
    with running_hub(folder) as hub:
        store, person = enrolled(hub, folder, "HWC000700")
    said = [made_up_name(chance) for _ in range(patients)]
    _register(store, person, said, chance)
    typed = [half_typed(chance, chance.choice(said)) for _ in range(searches)]
    found = _times(lambda one: len(finding.find(store, one)), typed)
    liked = _times(lambda one: _like(store, one), typed)
    exact = [one for one in said[:searches] if not finding.nearest(store, one)]
    hold(not exact, "somebody is not found by their own name")
    store.close()
    return [
        Figure("find", f"median among {patients:,}", _at(found, 50), "ms", _at(liked, 50), "LIKE"),
        Figure("find", f"99 of 100 among {patients:,}", _at(found, 99), "ms", _at(liked, 99), "LIKE"),
    ]


def made_up_name(chance: random.Random) -> str:
    given = chance.choice(GIVEN)
    if chance.random() < MADE_UP_SHARE:
        given = "".join(chance.choices(SYLLABLES, k=chance.randint(2, 4))).title()
    return f"{given} {chance.choice(FAMILY)}"


def half_typed(chance: random.Random, name: str) -> str:
    """What somebody types of a name: all of it, its first word, half of that, or with a letter too few."""
    first = name.split()[0]
    at = chance.randrange(1, len(first)) if len(first) > 2 else 1
    return chance.choice((name, first, first[: max(3, len(first) // 2)], first[:at] + first[at + 1 :]))


def _register(store: Store, person: bytes, names: Sequence[str], chance: random.Random) -> None:
    for begin in range(0, len(names), BATCH):
        requests = []
        for name in names[begin : begin + BATCH]:
            patient = time_ordered_id(_now_ms())
            phone = "9" + "".join(chance.choices("0123456789", k=9))
            writes = {"name": name, "phone": phone, "village": chance.choice(VILLAGES), "sex": "F"}
            requests.append(WriteRequest(RecordKey("patient", RecordId(patient)), PatientId(patient), writes))
        store.write(PersonId(person), requests, _now_ms())


def _like(store: Store, typed: str) -> int:
    query = "SELECT DISTINCT patient FROM patient_word WHERE word LIKE ? LIMIT 20"
    with begin_read(store.engine) as connection:
        return len(connection.exec_driver_sql(query, (f"%{typed.split()[0].lower()}%",)).fetchall())


def _times(search: Callable[[str], int], typed: Sequence[str]) -> list[float]:
    """Milliseconds of each."""
    taken = []
    for one in typed:
        began = time.perf_counter()
        search(one)
        taken.append((time.perf_counter() - began) * 1000)
    return taken


def _at(times: list[float], percent: int) -> float:
    return quantiles(times, n=100)[percent - 1]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
