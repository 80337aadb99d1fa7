"""Hub hospitals: whose doctors see which referrals, whom a centre calls, and what a move and a restore make of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from hub_server import charts, consults, duty, facilities, hospitals, people, recovery
from hub_server.consults import Done
from hub_server.facilities import Facility
from hub_server.ledger import Ledger
from hub_server.people import Person, Role
from hub_server.vault import Vault
from sync_protocol.change import PersonId, RecordId
from sync_protocol.errors import InvalidValue, NotAllowed
from tests.hub.bare_node import NOW_MS
from tests.hub.command_line import Terminal, terminal
from tests.hub.hub_world import HubWorld
from tests.hub.migrating import bring
from tests.hub.test_consults import ANSWER, Ward

CENTRES = {"HWC-S": "SEHORE", "HWC-B": "BHOPAL", "HWC-N": ""}


def doctor(ward: Ward, login: str, hub: str = "", specialties: tuple[str, ...] = ()) -> Person:
    name = PersonId(people.fresh_id(NOW_MS, os.urandom(10)))
    made = Person(name, login, f"Dr. {login}", Role.DOCTOR, specialties, "MBBS", f"KMC-{login}", NOW_MS, hub=hub)
    with ward.world.database.transaction() as connection:
        ward.doctors[login] = people.add(connection, made)
    return made


@pytest.fixture
def ward(database_url: str, tmp_path: Path) -> Ward:
    """Two hospitals with a centre and a doctor each, a centre without a hospital, and a doctor of all."""
    made = Ward(HubWorld.make(database_url, tmp_path / "keys"))
    with made.world.database.transaction() as connection:
        hospitals.add(connection, "SEHORE", "District Hospital Sehore", NOW_MS)
        hospitals.add(connection, "BHOPAL", "Medical College Bhopal", NOW_MS)
    for centre, hub in CENTRES.items():
        made.world.facility(centre, "Sehore", "Madhya Pradesh", hub)
    doctor(made, "sehore", "SEHORE")
    doctor(made, "bhopal", "BHOPAL", ("ent",))
    doctor(made, "all")
    return made


def queued(ward: Ward, login: str) -> set[RecordId]:
    """What waits for a doctor, asked as their pages ask."""
    who = ward.doctors[login]
    return {
        one.referral for one in ward.queue(statuses=charts.WAITING, specialties=who.specialties, hub=who.hub, limit=50)
    }


# -- who sees what -----------------------------------------------------------------------------------------------------


def test_a_doctor_sees_the_referrals_of_their_hospitals_centres_and_of_those_that_have_none(ward: Ward) -> None:
    names = {centre: ward.refer(ward.world.node(centre))[0] for centre in CENTRES}
    heart = ward.refer(ward.world.node("HWC-B"), "emergency", "cardiology")[0]
    assert queued(ward, "sehore") == {names["HWC-S"], names["HWC-N"]}
    assert queued(ward, "bhopal") == {names["HWC-B"], names["HWC-N"]}, "and only in their specialties"
    assert queued(ward, "all") == {*names.values(), heart}
    assert [one.hub for one in ward.queue(facility="HWC-B")] == ["BHOPAL", "BHOPAL"]


def test_the_order_of_the_queue_is_kept_over_both_kinds_of_centre(ward: Ward) -> None:
    own, none = ward.world.node("HWC-S"), ward.world.node("HWC-N")
    wanted = [("routine", own), ("emergency", none), ("urgent", own), ("emergency", own), ("urgent", none)]
    sent = [(word, at, ward.refer(node, word)[0]) for at, (word, node) in enumerate(wanted)]
    rank = charts.URGENCY_WORDS.index
    order = [name for _, _, name in sorted(sent, key=lambda one: (rank(one[0]), one[1]))]
    found = ward.queue(statuses=charts.WAITING, hub="SEHORE", limit=50)
    assert [one.referral for one in found] == order
    assert [one.referral for one in ward.queue(statuses=charts.WAITING, hub="SEHORE", limit=3)] == order[:3]


def test_a_referral_goes_by_the_centre_that_referred_and_not_by_the_patients_home(ward: Ward) -> None:
    _, (patient, _, _) = ward.refer(ward.world.node("HWC-S"))
    other = ward.world.node("HWC-B")
    away = other.write("referral", {"specialty": "ent", "urgency": "urgent"}, patient=patient.record)
    ward.send(other, away)
    assert away.record in queued(ward, "bhopal")
    assert away.record not in queued(ward, "sehore")


def test_no_verb_serves_a_doctor_of_another_hospital(ward: Ward) -> None:
    name, _ = ward.refer(ward.world.node("HWC-S"))
    store, other = ward.world.store, ward.doctors["bhopal"]
    random = os.urandom(consults.RANDOM_BYTES)
    verbs: list[Callable[[], Done]] = [
        lambda: ward.claim("bhopal", name),
        lambda: ward.reply("bhopal", name, ANSWER),
        lambda: consults.ask(store, other, name, "Since when?", ward.tick(), random),
    ]
    for verb in verbs:
        with pytest.raises(NotAllowed) as caught:
            verb()
        assert caught.value.code == "E_NOT_YOURS"
    assert ward.claim("sehore", name).verdict == "claimed"
    assert ward.claim("all", ward.refer(ward.world.node("HWC-B"))[0]).verdict == "claimed"


# -- moving ------------------------------------------------------------------------------------------------------------


def test_a_centres_referrals_move_with_it_and_what_it_refers_next_too(ward: Ward) -> None:
    node = ward.world.node("HWC-S")
    before, (patient, _, _) = ward.refer(node)
    answered, _ = ward.refer(node)
    ward.reply("sehore", answered)
    with ward.world.database.transaction() as connection:
        there = facilities.find_all(connection, "HWC-S")[0]
        moved = Facility(there.code, there.name, there.district, there.state, "BHOPAL")
        assert facilities.change(connection, ward.world.vault, moved, NOW_MS) == "changed"
        assert facilities.change(connection, ward.world.vault, moved, NOW_MS) == "unchanged"
    after, _ = ward.refer(node)
    urgent = node.write("referral", {"specialty": "ent", "urgency": "urgent"}, patient=patient.record)
    ward.send(node, urgent)
    assert queued(ward, "sehore") == set()
    assert queued(ward, "bhopal") == {before, after, urgent.record}
    assert {one.hub for one in ward.queue()} == {"BHOPAL"}


def test_who_is_assigned_to_another_hospital_sees_that_ones(ward: Ward) -> None:
    name, _ = ward.refer(ward.world.node("HWC-S"))
    with ward.world.database.transaction() as connection:
        assert people.assign(connection, "bhopal", "SEHORE", ())
        assert not people.assign(connection, "bhopal", "SEHORE", ())
        ward.doctors["bhopal"] = people.find(connection, "bhopal")
        with pytest.raises(InvalidValue) as caught:
            people.assign(connection, "bhopal", "NOWHERE", ())
    assert caught.value.code == "E_UNKNOWN_HUB"
    assert queued(ward, "bhopal") == {name}


# -- whom a centre calls -----------------------------------------------------------------------------------------------


def test_a_hospitals_own_contacts_come_before_those_for_all_hospitals(ward: Ward) -> None:
    told = [
        ("", "", "State control room", "104"),
        ("", "cardiology", "Heart line", "1800 11 2233"),
        ("SEHORE", "ent", "Dr. Jain", "+91 98260 00001"),
        ("BHOPAL", "", "Casualty", "0755-2540222"),
    ]
    with ward.world.database.transaction() as connection:
        for hub, specialty, name, phone in told:
            duty.set_contact(connection, hub, specialty, name, phone, "operator", NOW_MS)
        asked = {
            (hub, specialty): duty.contact_in(duty.contacts_for(connection, hub), specialty)
            for hub in ("SEHORE", "BHOPAL", "")
            for specialty in ("ent", "cardiology", "surgery")
        }
        with pytest.raises(InvalidValue) as caught:
            duty.set_contact(connection, "NOWHERE", "", "X", "104", "operator", NOW_MS)
        assert duty.remove_contact(connection, "SEHORE", "ent", "operator", NOW_MS)
        assert not duty.remove_contact(connection, "SEHORE", "ent", "operator", NOW_MS)
        assert [one.name for one in duty.contacts(connection, "BHOPAL")] == ["Casualty"]
    assert caught.value.code == "E_UNKNOWN_HUB"
    assert {key: one.name for key, one in asked.items() if one is not None} == {
        ("SEHORE", "ent"): "Dr. Jain",
        ("SEHORE", "cardiology"): "Heart line",
        ("SEHORE", "surgery"): "State control room",
        ("BHOPAL", "ent"): "Casualty",
        ("BHOPAL", "cardiology"): "Casualty",
        ("BHOPAL", "surgery"): "Casualty",
        ("", "ent"): "State control room",
        ("", "cardiology"): "Heart line",
        ("", "surgery"): "State control room",
    }


def test_only_a_hospitals_own_doctors_are_on_duty_for_its_centres(ward: Ward) -> None:
    with ward.world.database.transaction() as connection:
        for who in ward.doctors.values():
            duty.go_on(connection, who, NOW_MS + 3_600_000, "operator", NOW_MS)
        on = {
            hub: {one.login for one in duty.on_duty(connection, "ent", hub, NOW_MS)} for hub in ("SEHORE", "BHOPAL", "")
        }
    assert on == {"SEHORE": {"sehore", "all"}, "BHOPAL": {"bhopal", "all"}, "": {"sehore", "bhopal", "all"}}


# -- the ledger and the migration --------------------------------------------------------------------------------------


def test_an_emptied_database_learns_hospitals_moves_and_assignments_from_the_ledger(
    database_url: str, tmp_path: Path
) -> None:
    world = HubWorld.make(database_url, tmp_path / "keys")
    identity = world.vault.identity
    vault = Vault(identity, ledger=Ledger(tmp_path / "ledger.txt", identity.signing, identity.environment))
    rao = Person(PersonId(b"p" * 16), "rao", "Dr. Rao", Role.DOCTOR, ("ent",), "MBBS", "KMC-1", NOW_MS)
    with world.database.transaction() as connection:
        old = {"facility": "HWC0", "name": "Rampur", "district": "", "state": ""}  # from before there were hospitals
        vault.note(connection, "facility", old, NOW_MS)
        said = people.as_noted(rao)
        vault.note(connection, "person", {key: text for key, text in said.items() if key != "hub"}, NOW_MS)
        hospitals.keep(connection, "SEHORE", "District Hospital", NOW_MS)
        vault.note(connection, "hospital", {"hub": "SEHORE", "name": "District Hospital"}, NOW_MS)
        facilities.add(connection, vault, Facility("HWC1", "Melur", "Sehore", "MP"), NOW_MS)
        facilities.change(connection, vault, Facility("HWC1", "Melur Kalan", "Sehore", "MP", "SEHORE"), NOW_MS)
        people.add(connection, rao)
        people.assign(connection, "rao", "SEHORE", ("cardiology",))
        vault.note(connection, "person_assigned", people.as_noted(people.find(connection, "rao")), NOW_MS)
        for table in ("feed", "facility", "person", "hospital", "setting"):
            connection.execute(f"DELETE FROM {table}".encode())
    for expected in (6, 0):
        assert recovery.replay(world.database, vault) == expected
    with world.database.transaction() as connection:
        assert [one.name for one in hospitals.find_all(connection)] == ["District Hospital"]
        assert [(one.code, one.name, one.hub) for one in facilities.find_all(connection)] == [
            ("HWC0", "Rampur", ""),
            ("HWC1", "Melur Kalan", "SEHORE"),
        ]
        assert (people.find(connection, "rao").hub, people.find(connection, "rao").specialties) == (
            "SEHORE",
            ("cardiology",),
        )


def refer_from_two_centres(ward: Ward) -> dict[bytes, str]:
    """Referral → centre, one of them of another centre's patient."""
    home, other = ward.world.node("HWC-S"), ward.world.node("HWC-B")
    first, (patient, _, _) = ward.refer(home)
    away = other.write("referral", {"specialty": "ent", "urgency": "urgent"}, patient=patient.record)
    ward.send(other, away)
    return {bytes(first): "HWC-S", bytes(away.record): "HWC-B"}


def test_the_migration_keeps_all_data_on_its_way_there_and_back(ward: Ward, database_url: str) -> None:
    wanted = refer_from_two_centres(ward)
    with ward.world.database.transaction() as connection:
        duty.set_contact(connection, "", "ent", "Dr. Jain", "104", "operator", NOW_MS)
        duty.set_contact(connection, "SEHORE", "ent", "Dr. Rao", "105", "operator", NOW_MS)
    ward.world.database.close()
    bring(database_url, "0004")
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT specialty, name, phone FROM duty_contact").fetchall() == [
            ("ent", "Dr. Jain", "104")
        ]
        assert connection.execute("SELECT count(*) FROM referral").fetchone() == (3,)
    bring(database_url, "0005")
    with psycopg.connect(database_url) as connection:
        found = connection.execute("SELECT referral, centre, hub FROM referral").fetchall()
        assert {bytes(name): centre for name, centre, _ in found} == wanted
        assert {hub for _, _, hub in found} == {""}, "no centre has a hospital before one is given"
        assert connection.execute("SELECT hub, name FROM duty_contact").fetchall() == [("", "Dr. Jain")]
        assert connection.execute("SELECT count(*), max(hub) FROM person").fetchone() == (3, "")


# -- commands ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Terminal:
    return terminal(database_url, tmp_path, monkeypatch, capfdbinary)


def test_hospitals_are_registered_renamed_and_listed(hub: Terminal) -> None:
    assert hub("hospital", "add", "DH-1", "District Hospital", "--json").json["verdict"] == "created"
    assert hub("hospital", "add", "DH-1", "District Hospital", "--json").json["verdict"] == "unchanged"
    assert "E_HUB_EXISTS" in hub("hospital", "add", "DH-1", "Another").err
    assert "E_BAD_HUB" in hub("hospital", "add", "DH 1", "Another").err
    assert "E_UNKNOWN_HUB" in hub("hospital", "rename", "DH-2", "Another").err
    assert hub("hospital", "rename", "DH-1", "Civil Hospital").out == "DH-1 renamed\n"
    assert [(one["hub"], one["name"]) for one in hub("hospital", "list", "--json").json["hospitals"]] == [
        ("DH-1", "Civil Hospital")
    ]


def test_centres_and_people_are_given_to_a_hospital(hub: Terminal, tmp_path: Path) -> None:
    hub("hospital", "add", "DH-1", "District Hospital")
    assert "E_UNKNOWN_HUB" in hub("facility", "add", "HWC1", "Rampur", "--hub", "DH-9").err
    assert hub("facility", "add", "HWC1", "Rampur", "--hub", "DH-1", "--json").json["hub"] == "DH-1"
    assert hub("facility", "change", "HWC1", "--hub", "", "--district", "Sehore", "--json").json["hub"] is None
    assert "E_UNKNOWN_FACILITY" in hub("facility", "change", "HWC9", "--hub", "DH-1").err
    file = tmp_path / "centres.csv"
    file.write_text("facility,name,hub\nHWC2,Melur,DH-1\nHWC1,Rampur Kalan,DH-1\nHWC3,Sitapur,DH-9\n\0,x,\n")
    first = [one["verdict"] for one in hub("facility", "import", str(file)).lines]
    assert first == ["created", "refused", "refused", "refused"], "one that is there is left alone"
    again = hub("facility", "import", "--change", str(file)).lines
    assert [one["verdict"] for one in again] == ["unchanged", "changed", "refused", "refused"]
    assert again[2]["error"]["code"] == "E_UNKNOWN_HUB"
    listed = {one["facility"]: one for one in hub("facility", "list", "--json").json["facilities"]}
    assert (listed["HWC1"]["name"], listed["HWC1"]["district"], listed["HWC1"]["hub"]) == (
        "Rampur Kalan",
        "Sehore",
        "DH-1",
    )
    rao = ("people", "add", "rao", "--name", "Dr. Rao", "--registration-number", "K-1")
    assert "E_UNKNOWN_HUB" in hub(*rao, "--hub", "DH-9").err
    assert hub(*rao, "--hub", "DH-1", "--json").json["hub"] == "DH-1"
    assigned = hub("people", "assign", "rao", "--hub", "", "--specialty", "ent", "--json").json
    assert (assigned["verdict"], assigned["hub"], assigned["specialties"]) == ("assigned", None, ["ent"])
    assert hub("people", "assign", "rao", "--specialty", "", "--json").json["specialties"] == []
    assert hub("people", "assign", "rao", "--json").json["verdict"] == "unchanged"


def test_a_doctor_reads_at_the_terminal_what_they_see_at_the_pages(hub: Terminal, database_url: str) -> None:
    for code in ("DH-1", "DH-2"):
        hub("hospital", "add", code, f"Hospital {code}")
    hub("facility", "add", "HWC1", "Rampur", "--hub", "DH-1")
    for login, code in (("one", "DH-1"), ("two", "DH-2")):
        hub("people", "add", login, "--name", "Dr", "--registration-number", login, "--hub", code, "--specialty", "ent")
    ward = Ward(hub.world(database_url))
    name, _ = ward.refer(ward.world.node("HWC1"))
    referral = str(ward.queue()[0].referral.hex())
    assert [one["id"].replace("-", "") for one in hub("referrals", "list", "--json", "--as", "one").lines] == [referral]
    assert hub("referrals", "list", "--json", "--as", "two").lines == []
    assert hub("referrals", "show", name.hex(), "--as", "one").status == 0
    refused = hub("referrals", "show", name.hex(), "--as", "two")
    assert (refused.status, "E_NOT_YOURS" in refused.err, "Asha" in refused.out + refused.err) == (1, True, False)
    assert "E_NOT_YOURS" in hub("referrals", "list", "--as", "one", "--specialty", "cardiology").err
    assert json.loads(hub("claim", name.hex(), "--as", "one", "--json").out)["verdict"] == "claimed"
