"""`pull`: a fresh node of a facility takes everything that the hub holds of it, applied and readable."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from bench.backlogs import PASSPHRASE, QUICK_LINK, enrolled, fill
from bench.figures import Figure, of_rounds
from bench.places import HubPlace, hold, running_hub
from hwc_node import config as settings
from hwc_node import enrolment, membership, standing, sync
from hwc_node.engine import begin_write
from hwc_node.store import Store

RECORDS: Final = 12_500
NUMBER: Final = 300
FACILITY: Final = f"HWC{NUMBER:06d}"


def run(folder: Path, rounds: int) -> list[Figure]:
    rates, downs = [], []
    with running_hub(folder) as hub:
        store, person = enrolled(hub, folder, FACILITY)
        fill(store, person, NUMBER, RECORDS)
        _quick(store)
        hold(sync.run(store).pending_changes == 0, "the first node still has something to send")
        for number in range(rounds):
            with _fresh(hub, folder / f"fresh-{number}") as fresh:
                _quick(fresh)
                began = time.perf_counter()
                told = sync.run(fresh)
                seconds = time.perf_counter() - began
                records = sum(1 for _ in fresh.records()) - 1  # but its own person's
                hold(records >= RECORDS * 0.95, "the fresh node lacks something")
                hold(told.pending_changes == 0, "the fresh node still has something to send")
                rates.append(records / seconds)
                downs.append(told.bytes_down / records)
                sync.run(fresh)  # its own person's entry gets its position
                sync.run(store)
                hold(standing.digest(fresh) == standing.digest(store), "the two nodes differ")
        store.close()
    return [
        of_rounds("pull", f"{RECORDS:,} records, applied", "records/s", rates),
        of_rounds("pull", "received", "bytes/record", downs),
    ]


def _fresh(hub: HubPlace, folder: Path) -> Store:
    config = settings.load(folder, {})
    made = enrolment.enrol(
        config,
        hub.ask("enrol", FACILITY)["code"],
        person_name="Ramesh Kumar",
        passphrase=PASSPHRASE,
        now_ms=time.time_ns() // 1_000_000,
    )
    return Store.open(config, made.store_key)


def _quick(store: Store) -> None:
    with begin_write(store.engine) as connection:
        membership.put(connection, membership.link_values(QUICK_LINK))
