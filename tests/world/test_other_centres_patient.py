"""A patient of another centre, with real nodes and a real hub: by the card, by a request, and no longer."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.places import HubPlace, Place
from tests.world.centres import open_folder, serving

PASSPHRASE = "monsoon lamp river stone"
HOME, GUEST = "HWC000001", "HWC000002"
PATIENCE_S = 20


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


@pytest.fixture(scope="module")
def hub(folder: Path) -> Iterator[HubPlace]:
    with serving(folder) as place:
        place.run("facility", "add", GUEST, "Sitapur")
        place.run("people", "add", "officer", "--name", "An Officer", "--role", "district_officer")
        yield place


def enrolled(hub: HubPlace, folder: Path, facility: str) -> Place:
    environment = {"HWC_HOME": str(folder / facility), "HWC_PASSPHRASE": PASSPHRASE, "HWC_PERSON_NAME": "Asha"}
    place = Place("hwc", {name: text for name, text in os.environ.items() if name == "PATH"} | environment)
    place.run("enrol", hub.ask("enrol", facility)["code"])
    return place


@pytest.fixture(scope="module")
def home(hub: HubPlace, folder: Path) -> Place:
    return enrolled(hub, folder, HOME)


@pytest.fixture(scope="module")
def guest(hub: HubPlace, folder: Path) -> Place:
    return enrolled(hub, folder, GUEST)


def registered(home: Place, name: str) -> str:
    """A patient with a case; the patient's id."""
    told = home.run("import", "-", given=json.dumps({"kind": "patient", "fields": {"name": name, "sex": "F"}}) + "\n")
    patient = str(json.loads(told)["id"])
    case = {"kind": "case", "patient": patient, "fields": {"plan": "rest"}}
    home.run("import", "-", given=json.dumps(case) + "\n")
    home.run("sync")
    return patient


def kinds(node: Place, patient: str) -> list[str]:
    return sorted(one["kind"] for one in node.lines("export", "--patient", patient))


def sync_until(node: Place, patient: str, wanted: list[str]) -> None:
    """The hub's worker brings subscriptions in line on its own time."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        node.run("sync")
        if kinds(node, patient) == wanted:
            return
    assert kinds(node, patient) == wanted


def test_the_card_brings_the_history_and_the_home_centre_sees_who_asked(home: Place, guest: Place) -> None:
    patient = registered(home, "Sita with a card")
    card = home.ask("card", patient)
    assert home.ask("card", patient) == card | {"schema": "hwc.card/1"}
    home.run("sync")
    mistyped = guest.environment | {"HWC_CARD": card["card"][:-1] + ("0" if card["card"][-1] != "0" else "1")}
    Place("hwc", mistyped).run("subscriptions", "ask", expect=1)
    asked = Place("hwc", guest.environment | {"HWC_CARD": card["card"].lower()}).ask("subscriptions", "ask")
    assert (asked["state"], asked["patient"], asked["ours"]) == ("asked", patient, True)
    assert kinds(guest, patient) == ["subscription"]
    sync_until(guest, patient, ["case", "patient", "patient_card", "subscription"])
    (known,) = guest.lines("subscriptions", "list", "--json")
    assert known["state"] == "by_card"
    home.run("sync")
    (seen,) = [one for one in home.lines("subscriptions", "list", "--json") if one["patient"] == patient]
    assert (seen["facility"], seen["ours"], seen["state"]) == (GUEST, False, "by_card")
    note = {"kind": "case", "patient": patient, "fields": {"plan": "seen at Sitapur"}}
    guest.run("import", "-", given=json.dumps(note) + "\n")
    guest.run("sync")
    sync_until(home, patient, ["case", "case", "patient", "patient_card", "subscription"])


def test_a_request_is_granted_and_ended(hub: HubPlace, home: Place, guest: Place) -> None:
    patient = registered(home, "Meena without a card")
    guest.run("subscriptions", "ask", "--patient", patient, expect=2)
    asked = guest.ask("subscriptions", "ask", "--patient", patient, "--reason", "lives here now")
    again = guest.ask("subscriptions", "ask", "--patient", patient, "--reason", "lives here now")
    assert again == asked
    guest.run("sync")
    deadline = time.monotonic() + PATIENCE_S
    waiting: list[dict[str, str]] = []
    while not waiting and time.monotonic() < deadline:
        waiting = hub.lines("subscriptions", "list", "--json")
    assert [(one["id"], one["home"], one["facility"]) for one in waiting] == [(asked["id"], HOME, GUEST)]
    assert hub.ask("subscriptions", "show", asked["id"])["reason"] == "lives here now"
    hub.run("subscriptions", "grant", asked["id"], "--as", "nobody", expect=1)
    assert hub.ask("subscriptions", "grant", asked["id"], "--as", "officer")["state"] == "granted"
    whole = ["case", "patient", "subscription", "subscription_decision"]
    sync_until(guest, patient, whole)
    assert hub.run("subscriptions", "list") == ""

    assert guest.ask("subscriptions", "end", asked["id"])["state"] == "ended"
    guest.run("sync")
    deadline = time.monotonic() + PATIENCE_S
    while hub.ask("subscriptions", "show", asked["id"])["state"] != "ended" and time.monotonic() < deadline:
        pass
    note = {"kind": "case", "patient": patient, "fields": {"plan": "at home"}}
    home.run("import", "-", given=json.dumps(note) + "\n")
    home.run("sync")
    guest.run("sync")
    assert kinds(guest, patient) == whole
    assert len(kinds(home, patient)) == len(whole) + 1
    guest.run("subscriptions", "end", "00000000-0000-7000-8000-000000000000", expect=1)
