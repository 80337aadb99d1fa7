"""`pages`: how soon pages answer, at a node of 20,000 patients and 100,000 records, and at a hub of 1,000,000 records.

Real servers, asked over one connection that is kept, one page after another: from the request to the last byte of the
answer. Beside them, in turns with them, what the same server takes to say "ok", which is what HTTP alone costs here. And
what `hwc serve` held at most while it did all that, unlocking among it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Final

from bench import find, ingest
from bench.backlogs import PASSPHRASE, enrolled
from bench.browsing import Answer, Browser, hidden
from bench.figures import Figure
from bench.peaks import peak_mb
from bench.places import HubPlace, Place, Served, hold, running_hub
from bench.sign_ins import Doctor, let_in, signed_in
from bench.visits import COMPLAINTS, HISTORY, SPECIALTIES
from hwc_node.enrolment import time_ordered_id
from hwc_node.store import Store, WriteRequest
from sync_protocol.canonical import Value
from sync_protocol.change import PatientId, PersonId, RecordId, RecordKey
from sync_protocol.documents import id_text

PATIENTS: Final = 20_000
RECORDS: Final = 100_000
STORED: Final = 1_000_000
TURNS: Final = 300
CASES: Final = 1_000  # of those that wait, to ask for
SHOWN: Final = 25  # on the queue's first page
BATCH: Final = 1_000
SEED: Final = 9
FACILITY: Final = "HWC000800"
PERSON: Final = "Sunita Devi"
HEALTH: Final = "/healthz"
AGAINST: Final = "GET /healthz"
MEMORY_LIMIT_MB: Final = 150.0
DAY_MS: Final = 86_400_000
OTHERS: Final = {"home": "/", "referrals": "/referrals", "today": "/today", "report": "/report"}
"""Pages of the centre that are asked for in every third turn."""


@dataclass
class Times:
    """Milliseconds of each page, and of what is asked between them."""

    pages: dict[str, list[float]] = field(default_factory=dict)
    plain: list[float] = field(default_factory=list)

    def take(self, browser: Browser, what: str, ask: Callable[[], Answer], status: int = 200) -> None:
        began = time.perf_counter()
        answer = ask()
        self.pages.setdefault(what, []).append((time.perf_counter() - began) * 1000)
        hold(answer.status == status, f"{what} answered {answer.status}")
        began = time.perf_counter()
        browser.get(HEALTH)
        self.plain.append((time.perf_counter() - began) * 1000)

    def figures(self, where: str) -> list[Figure]:
        plain = (_at(self.plain, 50), _at(self.plain, 99))
        found = []
        for what, times in self.pages.items():
            found.append(Figure("pages", f"{what}, median, {where}", _at(times, 50), "ms", plain[0], AGAINST))
            found.append(Figure("pages", f"{what}, 99 of 100, {where}", _at(times, 99), "ms", plain[1], AGAINST))
        return found


def run(
    folder: Path, patients: int = PATIENTS, records: int = RECORDS, stored: int = STORED, turns: int = TURNS
) -> list[Figure]:
    with running_hub(folder) as hub:
        return [*_centre(hub, folder, patients, records, turns), *_hub(hub, stored, turns)]


# -- the centre --------------------------------------------------------------------------------------------------------


def _centre(hub: HubPlace, folder: Path, patients: int, records: int, turns: int) -> list[Figure]:
    chance = random.Random(SEED)
    store, person = enrolled(hub, folder, FACILITY)
    names = [find.made_up_name(chance) for _ in range(patients)]
    filled = _fill(store, PersonId(person), names, records, chance)
    store.close()
    home = {"HWC_HOME": str(folder / FACILITY.lower()), "HWC_PASSPHRASE": PASSPHRASE}
    Place("hwc", home).run("sync")  # what a centre has of three years was sent long ago
    with _serving(folder / FACILITY.lower(), folder) as served, Browser(served.url) as browser:
        browser.send("/unlock", {"name": PERSON, "passphrase": PASSPHRASE})
        times = Times()
        csrf = hidden(browser.get("/").text)["csrf"]
        for turn in range(turns):
            patient = f"/patients/{id_text(chance.choice(filled))}"
            typed = find.half_typed(chance, chance.choice(names))
            asked = {"csrf": csrf, "typed": typed}
            times.take(browser, "find", partial(browser.post, "/find", asked, script=True))
            times.take(browser, "patient", partial(browser.get, patient))
            times.take(browser, "visit's form", partial(browser.get, f"{patient}/visit"))
            form = hidden(browser.get(f"{patient}/visit").text) | _typed_visit(chance)
            times.take(browser, "save", partial(browser.post, f"{patient}/visit", form), 303)
            if turn % 3 == 0:
                for what, path in OTHERS.items():
                    times.take(browser, what, partial(browser.get, path))
        browser.send("/lock", {"csrf": csrf}, page="/")
        browser.send("/unlock", {"name": PERSON, "passphrase": PASSPHRASE})  # again, with all of it loaded
        peak = peak_mb(served.server.pid) if served.server is not None else 0.0
    where = f"{patients:,} patients, {records:,} records"
    return [*times.figures(where), Figure("pages", "hwc serve, the most it held", peak, "MB", MEMORY_LIMIT_MB, "limit")]


def _fill(store: Store, person: PersonId, names: Sequence[str], records: int, chance: random.Random) -> list[PatientId]:
    """So many patients, and visits of them until there are so many records: spread over the last three years."""
    patients = []
    for begin in range(0, len(names), BATCH):
        requests = []
        for name in names[begin : begin + BATCH]:
            patient = PatientId(time_ordered_id(_now_ms()))
            phone = "9" + "".join(chance.choices("0123456789", k=9))
            writes: dict[str, Value] = {"name": name, "phone": phone, "village": "Rampur", "sex": chance.choice("FM")}
            requests.append(WriteRequest(RecordKey("patient", RecordId(patient)), patient, writes))
            patients.append(patient)
        store.write(person, requests, _now_ms())
    waiting: list[WriteRequest] = []
    left = records - len(patients)
    while left > 0:
        visit = list(_visit(chance.choice(patients), chance))[:left]
        waiting += visit
        left -= len(visit)
        if len(waiting) >= BATCH or left <= 0:
            store.write(person, waiting, _now_ms())
            waiting = []
    return patients


def _visit(patient: PatientId, chance: random.Random) -> Iterator[WriteRequest]:
    at_ms = _now_ms() - chance.randrange(1_000) * DAY_MS
    case = RecordId(time_ordered_id(_now_ms()))

    def one(kind: str, writes: dict[str, Value], record: RecordId | None = None) -> WriteRequest:
        return WriteRequest(RecordKey(kind, record or RecordId(time_ordered_id(_now_ms()))), patient, writes)

    history = chance.choice(HISTORY).format(n=chance.randint(2, 9))
    yield one(
        "case", {"at": at_ms, f"complaints/{chance.choice(COMPLAINTS)}": {"present": True}, "history": history}, case
    )
    yield one("vitals", {"at": at_ms, "case": case, "pulse_bpm": chance.randint(60, 110), "temperature_c": 37.2})
    if chance.random() < 0.25:
        yield one("referral", {"at": at_ms, "case": case, "specialty": chance.choice(SPECIALTIES), "urgency": "routine",
                               "question": "Which medicine?"})  # fmt: skip
    if chance.random() < 0.25:
        yield one("follow_up", {"case": case, "due": time.strftime("%Y-%m-%d", time.gmtime(at_ms / 1000 + 604_800))})


def _typed_visit(chance: random.Random) -> dict[str, str]:
    return {
        "complaints": ", ".join(chance.sample(COMPLAINTS, 2)),
        "systolic_mmhg": str(chance.randint(100, 150)),
        "diastolic_mmhg": str(chance.randint(60, 95)),
        "temperature_c": "37.4",
        "history": chance.choice(HISTORY).format(n=3),
        "return_days": "7",
    }


@contextmanager
def _serving(home: Path, folder: Path) -> Iterator[Served]:
    """`hwc serve` of this home, unlocked by nobody yet."""
    node = Place("hwc", {"HWC_HOME": str(home), "HWC_SYNC_INTERVAL_S": "86400"})
    served = Served.start(node, folder, "--locked")
    try:
        yield served
    finally:
        served.stop()


# -- the hub -----------------------------------------------------------------------------------------------------------


def _hub(hub: HubPlace, stored: int, turns: int) -> list[Figure]:
    ingest.store_many(hub, stored)
    rao = _doctor(hub, "dr.rao", "Dr Kavita Rao")
    shah = _doctor(hub, "dr.shah", "Dr Neha Shah", "--specialty", SPECIALTIES[-1])
    chance = random.Random(SEED)
    waiting = [
        one["id"] for one in hub.lines("referrals", "list", "--status", "received", "--limit", str(CASES), "--json")
    ]
    hold(waiting, "no referral waits at the hub")
    times = Times()
    with signed_in(hub, rao) as browser, signed_in(hub, shah) as specialist:
        csrf = hidden(browser.get("/").text)["csrf"]
        for turn in range(turns):
            times.take(browser, "queue", partial(browser.get, "/"))
            times.take(specialist, "a specialist's queue", partial(specialist.get, "/"))
            times.take(browser, "case", partial(browser.get, f"/cases/{chance.choice(waiting)}"))
            if turn % 3 == 0:
                times.take(browser, "the service by state", partial(browser.get, "/service"))
                path = (
                    f"/cases/{chance.choice(waiting[:SHOWN])}"  # of the first page, so that the queue is another then
                )
                times.take(browser, "claim", partial(browser.post, f"{path}/claim", {"csrf": csrf}), 303)
                times.take(browser, "give back", partial(browser.post, f"{path}/release", {"csrf": csrf}), 303)
    return times.figures(f"hub of {stored:,} records")


def _doctor(hub: HubPlace, login: str, name: str, *more: str) -> Doctor:
    hub.run("people", "add", login, "--name", name, "--registration-number", "KMC 51234", *more)
    made = Doctor(login, name, PASSPHRASE)
    let_in(hub, made)
    return made


def _at(times: Sequence[float], percent: int) -> float:
    return quantiles(times, n=100)[percent - 1] if len(times) > 1 else times[0]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
