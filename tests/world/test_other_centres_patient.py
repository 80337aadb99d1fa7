"""A patient of another centre, with real nodes and a real hub: by the card, by a request, and no longer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.places import HubPlace
from hwc_node import standing
from sync_protocol import documents
from sync_protocol.change import PatientId
from tests.node.command_line import Ended, Runner
from tests.world.centres import PASSPHRASE, Centre, centre, hub_digest, serving

HOME, GUEST = "HWC000001", "HWC000002"
PATIENCE_S = 120

Command = Callable[..., Ended]


@pytest.fixture(scope="module")
def hub(folder: Path, module_database_url: str) -> Iterator[HubPlace]:
    with serving(folder, module_database_url) as place:
        place.run("facility", "add", GUEST, "Sitapur")
        place.run("people", "add", "officer", "--name", "An Officer", "--role", "district_officer")
        yield place


@pytest.fixture(scope="module")
def home(hub: HubPlace, folder: Path) -> Centre:
    return centre(hub, folder, "home", hub.ask("enrol", HOME)["code"])


@pytest.fixture(scope="module")
def guest(hub: HubPlace, folder: Path) -> Centre:
    return centre(hub, folder, "guest", hub.ask("enrol", GUEST)["code"])


@pytest.fixture
def hwc(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    """A command at a centre, in this process."""
    run = Runner(capfdbinary)

    def command(at: Centre, *words: str, card: str = "") -> Ended:
        monkeypatch.setenv("HWC_HOME", str(at.store.config.home))
        monkeypatch.setenv("HWC_PASSPHRASE", PASSPHRASE)
        monkeypatch.setenv("HWC_CARD", card)
        return run(*words)

    return command


def registered(home: Centre, name: str) -> str:
    """A patient with a case, sent; the patient's id."""
    (patient,) = home.take({"kind": "patient", "fields": {"name": name, "sex": "F"}})
    home.take({"kind": "case", "patient": patient, "fields": {"plan": "rest"}})
    home.sync()
    return patient


def write(at: Centre, patient: str, plan: str) -> None:
    at.take({"kind": "case", "patient": patient, "fields": {"plan": plan}})
    at.sync()


def kinds(at: Centre, patient: str) -> list[str]:
    found = at.store.patient_records(PatientId(documents.parse_id(patient)))
    return sorted(kept.key.kind for kept in found)


def sync_until(at: Centre, patient: str, wanted: list[str]) -> None:
    """The hub's worker brings subscriptions in line on its own time."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        at.sync()
        if kinds(at, patient) == wanted:
            return
        time.sleep(0.1)
    assert kinds(at, patient) == wanted


def test_the_card_brings_the_history_and_the_home_centre_sees_who_asked(
    home: Centre, guest: Centre, hwc: Command
) -> None:
    patient = registered(home, "Sita with a card")
    card = hwc(home, "card", patient, "--json").shape
    assert hwc(home, "card", patient, "--json").shape == card
    assert hwc(guest, "card", patient).status == 1
    home.sync()
    letters = card["card"]
    mistyped = letters[:-1] + ("0" if letters[-1] != "0" else "1")
    refused = hwc(guest, "subscriptions", "ask", card=mistyped)
    assert refused.status == 1
    assert "E_CARD_MISTYPED" in refused.err
    asked = hwc(guest, "subscriptions", "ask", "--json", card=letters.lower()).shape
    assert (asked["state"], asked["patient"], asked["ours"]) == ("asked", patient, True)
    assert kinds(guest, patient) == ["subscription"]
    sync_until(guest, patient, ["case", "patient", "patient_card", "subscription"])
    (known,) = hwc(guest, "subscriptions", "list", "--json").lines
    assert known["state"] == "by_card"
    home.sync()
    (seen,) = [one for one in hwc(home, "subscriptions", "--json").lines if one["patient"] == patient]
    assert (seen["facility"], seen["ours"], seen["state"]) == (GUEST, False, "by_card")
    write(guest, patient, "seen at Sitapur")
    sync_until(home, patient, ["case", "case", "patient", "patient_card", "subscription"])


def test_a_request_is_granted_and_ended(hub: HubPlace, home: Centre, guest: Centre, hwc: Command) -> None:
    patient = registered(home, "Meena without a card")
    assert hwc(guest, "subscriptions", "ask", "--patient", patient).status == 2
    words = ("subscriptions", "ask", "--patient", patient, "--reason", "lives here now", "--json")
    asked = hwc(guest, *words).shape
    assert hwc(guest, *words).shape == asked
    guest.sync()
    waiting: list[dict[str, str]] = []
    deadline = time.monotonic() + PATIENCE_S
    while not waiting and time.monotonic() < deadline:
        waiting = hub.lines("subscriptions", "list", "--json")
    assert [(one["id"], one["home"], one["facility"]) for one in waiting] == [(asked["id"], HOME, GUEST)]
    assert hub.ask("subscriptions", "show", asked["id"])["reason"] == "lives here now"
    hub.run("subscriptions", "grant", asked["id"], "--as", "nobody", expect=1)
    assert hub.ask("subscriptions", "grant", asked["id"], "--as", "officer")["state"] == "granted"
    whole = ["case", "patient", "subscription", "subscription_decision"]
    sync_until(guest, patient, whole)

    assert hwc(guest, "subscriptions", "end", asked["id"], "--json").shape["state"] == "ended"
    guest.sync()
    deadline = time.monotonic() + PATIENCE_S
    while hub.ask("subscriptions", "show", asked["id"])["state"] != "ended" and time.monotonic() < deadline:
        pass
    write(home, patient, "at home")
    guest.sync()
    assert kinds(guest, patient) == whole
    assert len(kinds(home, patient)) == len(whole) + 1
    assert hwc(guest, "subscriptions", "end", "00000000-0000-7000-8000-000000000000").status == 1


def test_an_erased_patient_is_gone_from_every_centre(
    hub: HubPlace, home: Centre, guest: Centre, hwc: Command, tmp_path: Path
) -> None:
    patient = registered(home, "Radha who wants to be forgotten")
    write(guest, patient, "seen at Sitapur")
    home.sync()
    assert kinds(home, patient) == ["case", "case", "patient"]
    told = hub.ask("erase", patient, "--yes")
    assert (told["verdict"], told["facilities"]) == ("erased", [HOME, GUEST])
    guest.take({"kind": "case", "patient": patient, "fields": {"plan": "not yet told"}})
    line = tmp_path / "late.jsonl"
    line.write_text(f'{{"kind": "case", "patient": "{patient}", "fields": {{"plan": "told"}}}}\n')
    for at, facility in ((home, HOME), (guest, GUEST)):
        at.sync()
        assert kinds(at, patient) == []
        refused = hwc(at, "import", str(line))
        assert refused.status == 1
        assert "E_ERASED" in refused.out
        assert at.digest == hub_digest(hub, facility)
        assert standing.integrity(at.store) == []
