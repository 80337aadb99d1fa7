"""Counts by day and place equal counting from scratch, whatever came late, was given back, moved or was erased."""

from __future__ import annotations

import os
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import quantiles

import psycopg
import pytest

from hub_server import consults, erasure, facilities, stats, subscriptions, tallies
from hub_server.consults import Correction
from hub_server.database import Connection
from hub_server.facilities import Facility
from hub_server.receiving import Incoming
from hub_server.stats import By, Wanted
from hub_server.tallies import DAY_MS, HOUR_MS, Key, Tally, day_of
from sync_protocol.change import Change, FacilityCode, PatientId, RecordId
from sync_protocol.errors import HealthSyncError
from sync_protocol.schema import Writer
from tests.hub.bare_node import BareNode
from tests.hub.hub_world import HubWorld
from tests.hub.migrating import bring
from tests.hub.test_consults import ANSWER, Ward
from tests.hub.test_hospitals import doctor

PLACES = {
    "HWC1": ("Madhya Pradesh", "Sehore"),
    "HWC2": ("Madhya Pradesh", "Bhopal"),
    "HWC3": ("Tamil Nadu", "Madurai"),
}


@dataclass
class Life(Ward):
    """A hub with three centres, whose days pass; what happens is drawn."""

    drawn: random.Random = field(default_factory=random.Random)
    steps_ms: tuple[int, ...] = (1, 60_000, HOUR_MS, 9 * HOUR_MS)
    nodes: dict[str, BareNode] = field(default_factory=dict)
    referrals: list[RecordId] = field(default_factory=list)
    patients: list[bytes] = field(default_factory=list)
    sent: list[tuple[str, Change, int]] = field(default_factory=list)

    def tick(self) -> int:
        self.world.now_ms += self.drawn.choice(self.steps_ms)
        return self.world.now_ms

    def bring(self, code: str, *changes: Change) -> None:
        self.send(self.nodes[code], *changes)
        self.sent += [(code, change, self.world.now_ms) for change in changes]
        subscriptions.settle(self.world.store, self.world.now_ms)

    @property
    def centre(self) -> str:
        return self.drawn.choice(list(self.nodes))

    def visit(self) -> None:
        code = self.centre
        node = self.nodes[code]
        patient = node.write("patient", {"name": "Asha Devi"})
        case = node.write("case", {"history": "fever"}, patient=patient.record)
        self.patients.append(patient.record)
        self.bring(code, patient, case, *self.referral(node, patient.record))

    def referral(self, node: BareNode, patient: bytes) -> list[Change]:
        made = node.write(
            "referral", {"specialty": "ent", "urgency": self.drawn.choice(["routine", "urgent"])}, patient=patient
        )
        self.referrals.append(made.record)
        return [made]

    def elsewhere(self) -> None:
        """A centre writes about whom another one registered, or about whom nobody has."""
        code = self.centre
        patient = self.drawn.choice([*self.patients, os.urandom(16)])
        case = self.nodes[code].write("case", {"history": "cough"}, patient=patient)
        self.patients.append(patient)
        self.bring(code, case, *self.referral(self.nodes[code], patient))

    def register(self) -> None:
        """A centre registers somebody whom the hub may know already: the home may move."""
        code, patient = self.centre, self.drawn.choice([*self.patients, os.urandom(16)])
        self.bring(code, self.nodes[code].write("patient", {"name": "Asha"}, record=patient))

    def correct(self) -> None:
        """A case is written again, another day."""
        known = [(code, one) for code, one, _ in self.sent if one.kind == "case"]
        if known:
            code, one = self.drawn.choice(known)
            node = self.nodes[code]
            shown = {"history": [bytes(one.id)]}
            self.bring(code, node.write("case", {"history": "x"}, record=one.record, patient=one.patient, shown=shown))

    def given_back(self) -> None:
        """What a hub that was put back had received before, with the receipt of then."""
        if self.sent:
            code, change, received_ms = self.drawn.choice(self.sent)
            earlier_ms = received_ms - self.drawn.choice([0, 1, DAY_MS, 3 * DAY_MS])
            incoming = Incoming(FacilityCode(code), change, Writer.CENTRE, earlier_ms, vouched=True)
            with self.world.database.transaction() as connection:
                self.world.store.receive(connection, [incoming], self.world.now_ms)
            subscriptions.settle(self.world.store, self.world.now_ms)

    def by_a_doctor(self) -> None:
        if self.referrals:
            name, login = self.drawn.choice(self.referrals), self.drawn.choice(list(self.doctors))
            random_bytes = os.urandom(consults.RANDOM_BYTES)
            store, who = self.world.store, self.doctors[login]
            verbs: list[Callable[[], object]] = [
                lambda: self.claim(login, name, take_over=True),
                lambda: self.reply(login, name),
                lambda: self.reply(login, name),
                lambda: self.correct_reply(login, name),
                lambda: self.release(login, name),
                lambda: consults.ask(store, who, name, "Since when?", self.tick(), random_bytes),
            ]
            with suppressed():
                self.drawn.choice(verbs)()

    def correct_reply(self, login: str, name: RecordId) -> None:
        wrong = self.chart(name).progress.reply
        if wrong is not None:
            better = ANSWER | {"advice": f"Not so: {self.drawn.random()}"}
            self.reply(login, name, better, correction=Correction(wrong, "wrong dose"))

    def closing(self) -> None:
        """The centre withdraws a referral."""
        known = [(code, one) for code, one, _ in self.sent if one.kind == "referral"]
        if known:
            code, one = self.drawn.choice(known)
            said = {"withdrawn": {"withdrawn": True}}
            self.bring(code, self.nodes[code].write("referral", said, record=one.record, patient=one.patient))

    def erase(self) -> None:
        with suppressed():
            patient = PatientId(self.drawn.choice([*self.patients, os.urandom(16)]))
            erasure.erase(self.world.store, patient, "operator", self.world.now_ms)

    def move(self) -> None:
        code, (state, district) = self.centre, self.drawn.choice(list(PLACES.values()))
        with self.world.database.transaction() as connection:
            wanted = Facility(code, f"Centre {code}", district, state)
            facilities.change(connection, self.world.vault, wanted, self.world.now_ms)

    def settle(self) -> None:
        tallies.settle(self.world.database)

    def deed(self) -> None:
        often = [self.visit, self.elsewhere, self.by_a_doctor, self.by_a_doctor, self.by_a_doctor]
        rare = [self.register, self.correct, self.given_back, self.closing, self.erase, self.move, *[self.settle] * 4]
        self.drawn.choice([*often, *rare])()


@contextmanager
def suppressed() -> Iterator[None]:
    """What a verb refuses changes nothing."""
    with suppress(HealthSyncError):
        yield


@pytest.fixture
def life(database_url: str, tmp_path: Path) -> Life:
    made = Life(HubWorld.make(database_url, tmp_path / "keys"))
    for code, (state, district) in PLACES.items():
        made.world.facility(code, district, state)
        made.nodes[code] = made.world.node(code)
    for login in ("rao", "nair"):
        doctor(made, login)
    return made


def first_answers(life: Life, connection: Connection) -> dict[bytes, int]:
    """Referral → the receipt of the first reply to it, from the changes themselves."""
    found: dict[bytes, int] = {}
    for feed in PLACES:
        rows = connection.execute("SELECT patient FROM item WHERE facility = %s AND kind = 'reply'", (feed,)).fetchall()
        patients = sorted({PatientId(bytes(name)) for (name,) in rows})
        for _, held in life.world.store.changes(connection, FacilityCode(feed), patients):
            about = held.change.writes.get("referral")
            if held.change.kind == "reply" and isinstance(about, bytes) and held.receipt_ms is not None:
                found[about] = min(held.receipt_ms, found.get(about, held.receipt_ms))
    return found


def from_scratch(life: Life) -> dict[Key, Tally]:
    """The counts, by reading everything and remembering what was seen."""
    found: dict[Key, Tally] = defaultdict(Tally)
    with life.world.database.transaction() as connection:
        homes = {
            bytes(patient): home
            for patient, home, wrapped in connection.execute("SELECT patient, facility, wrapped_key FROM patient")
            if wrapped
        }
        first: dict[tuple[str, bytes], int] = {}
        for code, patient, record, received_ms in connection.execute(
            "SELECT facility, patient, record, receipt_ms FROM item WHERE kind = 'case'"
        ):
            if homes.get(bytes(patient)) == code:
                first[code, record] = min(received_ms, first.get((code, record), received_ms))
        for (code, _), received_ms in first.items():
            found[code, day_of(received_ms)].consultations += 1
        answered = first_answers(life, connection)
        for code, name, patient, status, received_ms in connection.execute(
            "SELECT facility, referral, patient, status, received_ms FROM referral"
        ):
            if homes.get(bytes(patient)) == code:
                one = found[code, day_of(received_ms)]
                one.referrals += 1
                if bytes(name) in answered:
                    one.answer(answered[bytes(name)] - received_ms)
                if status in ("received", "claimed"):
                    one.open += 1
                    one.oldest_ms = min(one.oldest_ms or received_ms, received_ms)
        numbers = dict(connection.execute("SELECT login, number FROM person").fetchall())
        for code, at_ms, actor in connection.execute(
            "SELECT facility, at_ms, actor FROM audit WHERE verb IN ('claim', 'reply', 'message')"
        ):
            found[code, day_of(at_ms)].doctors |= 1 << numbers[actor.removeprefix("person ")]
    return {key: one for key, one in found.items() if one != Tally()}


def kept(life: Life) -> dict[Key, Tally]:
    with life.world.database.transaction() as connection:
        rows = connection.execute(
            f"SELECT facility, day, {tallies.COUNTS} FROM facility_day WHERE day > {tallies.NOW}".encode()
        ).fetchall()
    found = {(str(code), int(day)): tallies.tally_of(row, tallies.of_list) for code, day, *row in rows}
    return {key: one for key, one in found.items() if one != Tally()}


def summed(life: Life, counted: dict[Key, Tally], by: By) -> dict[str, stats.Row]:
    """What the rows must say, by name: the centres' days added up as the centres lie now."""
    with life.world.database.transaction() as connection:
        places = {one.code: one for one in facilities.find_all(connection)}
    found: dict[tuple[str, str, str], Tally] = defaultdict(Tally)
    for (code, day), one in counted.items():
        place = places[code]
        key = {
            By.STATE: (place.state, "", ""),
            By.DISTRICT: (place.state, place.district, ""),
            By.FACILITY: (place.state, place.district, code),
            By.DAY: ("", "", str(day)),
        }[by]
        found[key].add(one)
    rows = [stats._row(by, key, one) for key, one in found.items()]
    return {row.name: row for row in rows if row.consultations + row.referrals + row.open}


@pytest.mark.parametrize("seed", range(6))
def test_what_is_kept_equals_counting_from_scratch(life: Life, seed: int) -> None:
    life.drawn = random.Random(seed)
    for _ in range(2):
        for _ in range(45):
            life.deed()
        tallies.settle(life.world.database)
        counted = from_scratch(life)
        assert kept(life) == counted
        for by in By:
            with life.world.database.transaction() as connection:
                found = {row.name: row for row in stats.rows(connection, by)}
            assert found == summed(life, counted, by)
    assert sum(one.consultations for one in counted.values()) > 0
    assert tallies.settle(life.world.database) == 0


# -- single stories ----------------------------------------------------------------------------------------------------


def rows(life: Life, by: By = By.FACILITY, wanted: Wanted | None = None) -> list[stats.Row]:
    tallies.settle(life.world.database)
    with life.world.database.transaction() as connection:
        return list(stats.page(connection, by, wanted or Wanted()).rows)


def test_a_correction_of_another_day_moves_no_waiting_time(life: Life, database_url: str) -> None:
    life.steps_ms = (1,)
    name, _ = life.refer(life.nodes["HWC1"])
    life.world.now_ms += 10 * 60_000
    life.reply("rao", name)
    first = rows(life)[0]
    assert (first.answered, first.within_hour, first.within_day) == (1, 1, 1)
    life.world.now_ms += DAY_MS
    life.correct_reply("nair", name)
    assert rows(life) == [replace(first, doctors=2)]
    life.world.database.close()
    bring(database_url, "0011")
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE referral SET answered_ms = %s", (life.world.now_ms,))  # as it was told before
        connection.execute("UPDATE facility_day SET within_hour = 0, within_day = 0")
    bring(database_url, "head")
    assert rows(life) == [replace(first, doctors=2)]


def test_a_day_begins_at_midnight_in_india(life: Life) -> None:
    midnight_ms = 19_676 * DAY_MS - 19_800_000  # 2023-11-15
    for at_ms in (midnight_ms - 1, midnight_ms):
        life.world.now_ms, life.steps_ms = at_ms - 1, (1,)
        life.visit()
    found = rows(life, By.DAY)
    assert [(row.name, row.consultations, row.referrals) for row in found] == [
        ("2023-11-15", 1, 1),
        ("2023-11-14", 1, 1),
    ]


def test_a_receipt_of_before_the_hub_was_put_back_moves_a_case_to_its_day(life: Life) -> None:
    life.steps_ms = (1,)
    life.visit()
    later = day_of(life.world.now_ms)
    assert [row.day for row in rows(life, By.DAY)] == [later]
    code, case, received_ms = next(one for one in life.sent if one[1].kind == "case")
    incoming = Incoming(FacilityCode(code), case, Writer.CENTRE, received_ms - 3 * DAY_MS, vouched=True)
    with life.world.database.transaction() as connection:
        life.world.store.receive(connection, [incoming], life.world.now_ms)
    assert [(row.day, row.consultations) for row in rows(life, By.DAY)] == [(later, 0), (later - 3, 1)]


def test_a_patient_who_turns_out_to_be_another_centres_counts_there(life: Life) -> None:
    patient = os.urandom(16)
    life.bring("HWC2", life.nodes["HWC2"].write("case", {"history": "cough"}, patient=patient))
    assert [(row.facility, row.consultations) for row in rows(life)] == [("HWC2", 1)]
    life.bring("HWC1", life.nodes["HWC1"].write("patient", {"name": "Asha"}, record=patient))
    assert [(row.facility, row.consultations) for row in rows(life)] == [("HWC1", 1)]


def test_who_was_erased_is_in_no_count(life: Life) -> None:
    name, (patient, _, _) = life.refer(life.nodes["HWC1"])
    life.refer(life.nodes["HWC1"])
    life.reply("rao", name)
    assert [(row.consultations, row.answered, row.doctors) for row in rows(life)] == [(2, 1, 1)]
    erasure.erase(life.world.store, PatientId(patient.record), "operator", life.world.now_ms)
    (row,) = rows(life)
    assert (row.consultations, row.referrals, row.answered, row.waiting_minutes) == (1, 1, 0, None)


def test_doctors_come_back_as_they_were_written() -> None:
    for numbers in ((), (0,), (1, 7, 8, 63), (3, 9_999), tuple(range(0, 4_000, 3))):
        doctors = sum(1 << number for number in numbers)
        assert tallies.of_list(tallies.listed(doctors)) == tallies.of_map(tallies.mapped(doctors)) == doctors
        assert len(tallies.listed(doctors)) == tallies.NUMBER_BYTES * len(numbers)


def test_waiting_times_are_read_out_of_their_classes() -> None:
    waits = [random.Random(at).randrange(10_000) for at in range(2_000)]
    one = Tally()
    for minutes in waits:
        one.answer(minutes * tallies.MINUTE_MS)
    cuts = quantiles(waits, n=10)
    for share, exact in ((0.5, cuts[4]), (0.9, cuts[8])):
        told = one.wait_minutes(share)
        assert told is not None
        edges = (0, *tallies.EDGES)
        at = max(number for number, edge in enumerate(edges) if edge <= exact)
        assert edges[at] <= told <= (*edges, float("inf"))[at + 1], "in the class where the exact one lies"
    assert Tally().wait_minutes(0.5) is None
    late = Tally()
    late.answer(40 * DAY_MS)
    assert late.wait_minutes(0.5) == tallies.EDGES[-1]
    early = Tally()
    early.answer(-5)
    assert early.wait_minutes(0.5) == 0.5, "an answer before its question took no time"


def test_open_referrals_of_a_place_count_whenever_they_came(life: Life) -> None:
    life.refer(life.nodes["HWC1"])
    first_ms = life.world.now_ms
    life.world.now_ms += 10 * DAY_MS
    life.refer(life.nodes["HWC3"])
    today = Wanted(first_day=day_of(life.world.now_ms))
    assert [(row.name, row.referrals, row.open) for row in rows(life, By.STATE, today)] == [
        ("Tamil Nadu", 1, 1),
        ("Madhya Pradesh", 0, 1),
    ]
    with life.world.database.transaction() as connection:
        whole = stats.whole(connection, today)
    assert (whole.referrals, whole.open, whole.oldest_ms) == (1, 2, first_ms)
    assert [row.open for row in rows(life, By.DAY, today)] == [1]


def test_rows_are_of_the_wanted_place_and_come_in_pages(life: Life) -> None:
    for code, times in (("HWC1", 1), ("HWC2", 3), ("HWC3", 2)):
        for _ in range(times):
            life.refer(life.nodes[code])
    assert [row.facility for row in rows(life)] == ["HWC2", "HWC3", "HWC1"]
    within = Wanted(state="Madhya Pradesh")
    assert [row.facility for row in rows(life, By.FACILITY, within)] == ["HWC2", "HWC1"]
    assert [row.district for row in rows(life, By.DISTRICT, within)] == ["Bhopal", "Sehore"]
    there = Wanted(state="Madhya Pradesh", district="Sehore")
    assert [row.consultations for row in rows(life, By.DAY, there)] == [1]
    with life.world.database.transaction() as connection:
        pages = [stats.page(connection, By.FACILITY, Wanted(), 1, at) for at in range(3)]
        assert stats.whole(connection, there).consultations == 1
        sums = {state: one.consultations for state, one in stats.by_state(connection, Wanted()).items()}
        assert sums == {"Madhya Pradesh": 4, "Tamil Nadu": 2}
    assert [(one.total, one.rows[0].facility) for one in pages] == [(3, "HWC2"), (3, "HWC3"), (3, "HWC1")]


def test_states_written_unevenly_are_one(life: Life) -> None:
    for at, said in enumerate(("MADHYA  PRADESH", "madhya pradesh", "MP", "23")):
        life.world.facility(f"UNEVEN{at}", "Sehore", said)
        life.nodes[f"UNEVEN{at}"] = life.world.node(f"UNEVEN{at}")
        life.refer(life.nodes[f"UNEVEN{at}"])
    assert [(row.name, row.consultations) for row in rows(life, By.STATE)] == [("Madhya Pradesh", 4)]


def test_what_changes_while_days_are_counted_is_counted_the_next_time(life: Life, database_url: str) -> None:
    life.refer(life.nodes["HWC1"])
    with psycopg.connect(database_url) as other:
        other.execute("UPDATE facility_day SET marked = marked + 1")  # a transaction under way
        counting = threading.Thread(target=tallies._settle_some, args=(life.world.database,))
        counting.start()
        counting.join()  # it waits for nobody
        assert kept(life) == {}
    assert tallies.settle(life.world.database) == 1
    assert kept(life) == from_scratch(life)


def test_the_migration_marks_what_is_there_and_tidies_states(life: Life, database_url: str) -> None:
    life.drawn = random.Random(3)
    for _ in range(30):
        life.deed()
    counted = from_scratch(life)
    life.world.database.close()
    bring(database_url, "0008")
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE facility SET state = 'TAMILNADU' WHERE facility = 'HWC3'")
    bring(database_url, "head")
    tallies.settle(life.world.database)
    assert kept(life) == counted
    with life.world.database.transaction() as connection:
        assert facilities.find_all(connection, "HWC3")[0].state == "Tamil Nadu"
