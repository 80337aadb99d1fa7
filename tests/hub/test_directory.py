"""Centres are told of themselves: each knows what the hub knows of it, and nothing is written that says nothing new."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from hub_server import directory_due, duty, facilities, hospitals, nodes, registry
from hub_server.directory import ENTRIES_A_RUN, settle, settle_one
from hub_server.facilities import Facility
from hub_server.people import MAX_NAME_CHARS
from hub_server.scheduler import Clockwork
from sync_protocol import directory, merge
from sync_protocol.change import Change, FacilityCode
from sync_protocol.directory import Contact, Particulars
from sync_protocol.errors import InvalidValue
from sync_protocol.merge import Held
from sync_protocol.schema import Writer
from tests.hub.bare_node import NOW_MS, BareNode
from tests.hub.hub_world import HubWorld
from tests.hub.migrating import bring


@dataclass
class Land:
    """A hub with two hospitals, four centres and a node at three of them."""

    world: HubWorld
    nodes: dict[str, BareNode] = field(default_factory=dict)

    def contact(self, hub: str, specialty: str, phone: str, name: str = "Dr. Jain") -> None:
        with self.world.database.transaction() as connection:
            duty.set_contact(connection, hub, specialty, name, phone, "operator", NOW_MS)

    def no_contact(self, hub: str, specialty: str) -> None:
        with self.world.database.transaction() as connection:
            duty.remove_contact(connection, hub, specialty, "operator", NOW_MS)

    def change(self, code: str, **changed: str) -> None:
        with self.world.database.transaction() as connection:
            one = facilities.find_all(connection, code)[0]
            said = {"name": one.name, "hub": one.hub} | changed
            wanted = Facility(code, said["name"], one.district, one.state, said["hub"])
            facilities.change(connection, self.world.vault, wanted, NOW_MS)

    def settle(self, limit: int = ENTRIES_A_RUN) -> int:
        self.world.now_ms += 1000
        return settle(self.world.store, self.world.now_ms, limit)

    def entries(self, code: str) -> list[Held]:
        """The changes of its entry that a centre's node has received."""
        node = self.nodes[code]
        self.world.exchange(node)
        return [
            Held(one.body, one.receipt_ms, one.origin)
            for one in node.items
            if isinstance(one.body, Change) and one.body.kind == directory.KIND
        ]

    def known(self, code: str) -> Particulars:
        """What a centre has been told of itself."""
        held = self.entries(code)
        return directory.particulars_of(merge.fold(held[0].change.key, held))


@pytest.fixture
def land(database_url: str, tmp_path: Path) -> Land:
    world = HubWorld.make(database_url, tmp_path / "keys")
    with world.database.transaction() as connection:
        hospitals.add(connection, "SEHORE", "District Hospital Sehore", NOW_MS)
        hospitals.add(connection, "BHOPAL", "Medical College Bhopal", NOW_MS)
    made = Land(world)
    for code, hub in (("HWC-S", "SEHORE"), ("HWC-B", "BHOPAL"), ("HWC-N", ""), ("HWC-0", "SEHORE")):
        world.facility(code, "Sehore", "Madhya Pradesh", hub)
        if code != "HWC-0":
            made.nodes[code] = world.node(code)
    return made


def sizes(held: Iterable[Held]) -> list[set[str]]:
    return [set(one.change.writes) for one in held]


def test_a_centre_is_told_of_itself_once_it_has_a_node(land: Land) -> None:
    land.contact("SEHORE", "", "104", "Casualty")
    assert land.settle() == 3
    assert land.known("HWC-S") == Particulars(
        "Centre HWC-S",
        "Sehore",
        "Madhya Pradesh",
        "District Hospital Sehore",
        {directory.ANY: Contact("Casualty", "104")},
    )
    assert land.known("HWC-N") == Particulars("Centre HWC-N", "Sehore", "Madhya Pradesh", "", {})
    with land.world.database.transaction() as connection:
        assert connection.execute("SELECT position FROM feed WHERE facility = 'HWC-0'").fetchone() == (0,)
    (held,) = land.entries("HWC-S")
    assert (held.origin, held.change.facility, held.change.node) == (
        Writer.HUB,
        "HWC-S",
        land.world.vault.identity.hub,
    )
    assert land.settle() == 0


def test_whoever_enrols_is_told_at_once_and_no_other(land: Land) -> None:
    store = land.world.store
    assert settle_one(store, FacilityCode("HWC-S"), NOW_MS)
    assert not settle_one(store, FacilityCode("HWC-S"), NOW_MS)
    assert len(land.entries("HWC-S")) == 1
    assert land.entries("HWC-B") == []


def test_only_what_has_changed_is_written_and_it_replaces_what_stood_there(land: Land) -> None:
    land.contact("SEHORE", "ent", "104")
    land.contact("SEHORE", "surgery", "105")
    land.settle()
    land.contact("SEHORE", "ent", "106")
    assert land.settle() == 1, "it is no business of the other hospital's centres"
    land.no_contact("SEHORE", "surgery")
    land.change("HWC-S", name="Centre Rampur")
    land.settle()
    begun, number, rest = land.entries("HWC-S")
    assert sizes([number, rest]) == [{"duty_contacts/ent"}, {"duty_contacts/surgery", "name"}]
    assert number.change.supersedes == {"duty_contacts/ent": [begun.change.id]}
    known = land.known("HWC-S")
    assert (known.name, known.contacts) == ("Centre Rampur", {"ent": Contact("Dr. Jain", "106")})
    land.contact("SEHORE", "surgery", "105")
    land.settle()
    assert land.known("HWC-S").contacts["surgery"].phone == "105"


def test_a_number_for_all_and_a_hospitals_new_name_reach_every_centre_one_at_a_time(land: Land) -> None:
    land.settle()
    land.contact("", "", "108", "State control room")
    assert [land.settle(limit=2), land.settle(limit=2), land.settle()] == [2, 1, 0]
    assert {one.contacts[directory.ANY].phone for one in map(land.known, land.nodes)} == {"108"}
    with land.world.database.transaction() as connection:
        hospitals.rename(connection, "BHOPAL", "Hamidia Hospital", NOW_MS)
    assert land.settle() == 1
    assert land.known("HWC-B").hub_name == "Hamidia Hospital"


def test_who_moves_to_another_hospital_calls_that_ones_number(land: Land) -> None:
    land.contact("SEHORE", "", "104")
    land.contact("BHOPAL", "ent", "105")
    land.settle()
    land.change("HWC-S", hub="BHOPAL")
    assert land.settle() == 1
    known = land.known("HWC-S")
    assert (known.hub_name, known.contact_for("ent"), known.contact_for("surgery")) == (
        "Medical College Bhopal",
        Contact("Dr. Jain", "105"),
        None,
    )


def test_a_centre_whose_nodes_are_revoked_is_told_when_one_is_let_in_again(land: Land) -> None:
    land.settle()
    node = land.nodes["HWC-S"].node
    with land.world.database.transaction() as connection:
        nodes.revoke(connection, land.world.vault, node, "stolen", NOW_MS)
    land.change("HWC-S", name="Centre Rampur")
    assert land.settle() == 0
    with land.world.database.transaction() as connection:
        registry.take_back_revocation(connection, land.world.vault, node, NOW_MS)
    assert land.settle() == 1
    assert land.known("HWC-S").name == "Centre Rampur"


def test_two_hubs_at_once_tell_each_centre_once(land: Land) -> None:
    found: list[int] = []
    workers = [threading.Thread(target=lambda: found.append(settle(land.world.store, NOW_MS))) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sum(found) == 3
    assert [len(land.entries(code)) for code in land.nodes] == [1, 1, 1]


def test_a_mark_that_comes_while_a_centre_is_told_is_not_lost(land: Land) -> None:
    """Whoever marks waits for the telling to end, and the next one finds the mark."""
    marking: list[threading.Thread] = []
    with land.world.database.transaction() as connection:
        taken = directory_due.take_next(connection)
        assert taken is not None
        marking.append(threading.Thread(target=land.change, args=(taken,), kwargs={"name": "Renamed"}))
        marking[0].start()
        while marking[0].is_alive() and not land.world.somebody_waits():
            pass
    marking[0].join()
    land.settle()
    assert land.known(taken).name == "Renamed"


def test_a_number_that_changes_while_a_marked_centre_is_told_reaches_it(land: Land) -> None:
    """Its mark is there for others until the telling is committed, and is then taken away."""
    land.settle()
    land.change("HWC-S", name="Renamed")
    with land.world.database.transaction() as connection:
        assert directory_due.take_next(connection) == "HWC-S"
        changing = threading.Thread(target=land.contact, args=("", "", "108"))
        changing.start()
        while changing.is_alive() and not land.world.somebody_waits():
            pass
    changing.join()
    land.settle()
    assert land.known("HWC-S").contacts[directory.ANY].phone == "108"


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_changed_each_centre_comes_to_know_what_the_hub_knows(land: Land, seed: int) -> None:
    drawn = random.Random(seed)
    for _ in range(40):
        hub, specialty = drawn.choice(["", "SEHORE", "BHOPAL"]), drawn.choice(["", "ent", "surgery"])
        deed = drawn.randrange(5)
        if deed == 0:
            land.contact(hub, specialty, f"10{drawn.randrange(10)}")
        elif deed == 1:
            land.no_contact(hub, specialty)
        elif deed == 2:
            land.change(drawn.choice(list(land.nodes)), hub=hub, name=f"Centre {drawn.randrange(3)}")
        elif deed == 3 and hub:
            with land.world.database.transaction() as connection:
                hospitals.rename(connection, hub, f"Hospital {drawn.randrange(3)}", NOW_MS)
        else:
            land.settle(drawn.randrange(3))
    land.settle()
    for code in land.nodes:
        known = land.known(code)
        with land.world.database.transaction() as connection:
            there = facilities.find_all(connection, code)[0]
            hospital = hospitals.lookup(connection, there.hub)
            for specialty in ("ent", "surgery", "cardiology"):
                wanted = duty.contact_in(duty.contacts_for(connection, there.hub), specialty)
                told = known.contact_for(specialty)
                assert (told and told.phone) == (wanted and wanted.phone)
        assert (known.name, known.hub_name) == (there.name, hospital.name if hospital else "")
    assert land.settle() == 0


def test_more_contacts_than_a_change_has_fields_are_told_in_several(land: Land) -> None:
    for hub in ("", "SEHORE"):
        for at in range(duty.MAX_CONTACTS):
            land.contact(hub, f"specialty-{hub.lower()}-{at}", "104", "J" * MAX_NAME_CHARS)
    land.settle()
    assert len(land.known("HWC-S").contacts) == 2 * duty.MAX_CONTACTS
    assert len(land.entries("HWC-S")) == 2
    with pytest.raises(InvalidValue) as caught:
        land.contact("SEHORE", "one-more", "104")
    assert caught.value.code == "E_TOO_MANY_CONTACTS"


def test_no_specialty_is_called_as_the_contact_for_any(land: Land) -> None:
    with pytest.raises(InvalidValue) as caught:
        land.contact("SEHORE", directory.ANY, "104")
    assert caught.value.code == "E_BAD_SPECIALTY"


def test_an_exchange_with_nothing_to_do_is_as_small_as_before(land: Land) -> None:
    node = land.nodes["HWC-S"]
    land.world.exchange(node)
    before = len(land.world.answer(b"".join(node.session().request())))
    land.contact("SEHORE", "", "104")
    land.settle()
    land.world.exchange(node)
    assert len(land.world.answer(b"".join(node.session().request()))) == before


def test_the_clockwork_tells_them(land: Land) -> None:
    assert Clockwork(land.world.store, lambda: NOW_MS).tell_centres() == 3
    assert Clockwork(land.world.store, lambda: NOW_MS).tell_centres() == 0


def test_the_migration_marks_the_centres_that_have_a_node(land: Land, database_url: str) -> None:
    land.world.database.close()
    bring(database_url, "0007")
    bring(database_url, "head")
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT facility FROM facility WHERE entry_due ORDER BY facility").fetchall()
    assert [row[0] for row in rows] == ["HWC-B", "HWC-N", "HWC-S"]
