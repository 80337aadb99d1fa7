"""Real nodes in this process and a hub that really serves, for stories of machines that lie."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.places import HubPlace
from hwc_node import config as settings
from hwc_node import enrolment, keystore, standing, sync
from hwc_node.line_import import ImportRules, LineImport
from hwc_node.store import Store
from sync_protocol import documents, merge
from sync_protocol.change import ChangeId, PersonId

FACILITY = "HWC000001"
PASSPHRASE = "monsoon lamp river stone"


@dataclass
class Centre:
    """A real node."""

    store: Store
    person: PersonId

    def take(self, *lines: dict[str, Any]) -> list[str]:
        """Import; the ids."""
        importing = LineImport(self.store, self.person, ImportRules())
        raw = [(at, json.dumps(line).encode()) for at, line in enumerate(lines, 1)]
        results = importing.take(raw, now_ms())
        assert all(one.error is None for one in results)
        return [documents.id_text(one.record) for one in results if one.record is not None]

    def visit(self, name: str) -> str:
        """A patient with a case and a referral; the referral's id."""
        (patient,) = self.take({"kind": "patient", "fields": {"name": name, "sex": "F"}})
        (case,) = self.take({"kind": "case", "patient": patient, "fields": {"history": f"{name}: fever"}})
        fields = {"case": case, "specialty": "ent", "urgency": "urgent", "question": name}
        return self.take({"kind": "referral", "patient": patient, "fields": fields})[0]

    def sync(self) -> sync.SyncResult:
        return sync.run(self.store)

    @property
    def receipts(self) -> dict[ChangeId, int | None]:
        return {one.held.change.id: one.held.receipt_ms for one in self.store.changes()}

    @property
    def digest(self) -> str:
        return merge.digest_text(standing.digest(self.store))


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@contextmanager
def serving(folder: Path, database_url: str) -> Iterator[HubPlace]:
    """A hub with a facility and a doctor. It admits in its own threads: another program each would take a while to begin."""
    place = HubPlace.below(folder, "--workers", "0", database_url=database_url)
    place.start()
    try:
        place.run("facility", "add", FACILITY, "Rampur")
        place.run("people", "add", "doc", "--name", "Dr Kavita Rao", "--registration-number", "KMC 51234")
        yield place
    finally:
        place.stop()


def copied(of: Centre, folder: Path) -> Centre:
    """The same disk a second time, as it is now: a node of the same name and keys."""
    of.store.engine.dispose()  # closed while it is copied: another descriptor of the file would drop SQLite's locks
    shutil.copytree(of.store.config.home, folder)
    config = settings.load(folder, {})
    return Centre(Store.open(config, keystore.unlock(config.slots_path, PASSPHRASE).key), of.person)


def put_back(of: Centre, copy: Centre) -> Centre:
    """The disk of a node as it was when the copy was made."""
    config = of.store.config
    of.store.close()
    copy.store.close()
    shutil.rmtree(config.home)
    shutil.copytree(copy.store.config.home, config.home)
    return Centre(Store.open(config, keystore.unlock(config.slots_path, PASSPHRASE).key), of.person)


def hub_digest(hub: HubPlace, facility: str = FACILITY) -> str:
    (found,) = hub.ask("status", "--facility", facility)["facilities"]
    return str(found["digest"])


def centre(hub: HubPlace, folder: Path, name: str, code: str = "") -> Centre:
    made = enrolment.enrol(
        settings.load(folder / name, {}),
        code or hub.ask("enrol", FACILITY)["code"],
        person_name=name,
        passphrase=PASSPHRASE,
        now_ms=now_ms(),
        node_name=name,
    )
    return Centre(Store.open(settings.load(folder / name, {}), made.store_key), made.person)
