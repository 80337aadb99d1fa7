"""The commands that say who takes a referral and who is on duty."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hub_server import glass, people
from hub_server.clock import wall_ms
from sync_protocol.change import RecordId
from sync_protocol.documents import parse_id
from tests.hub.command_line import REPLY, Terminal, add_doctor, consultation, terminal
from tests.hub.hub_world import hours_away


@pytest.fixture
def hub(
    database_url: str, hub_folder: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Terminal:
    return terminal(database_url, hub_folder, monkeypatch, capfdbinary)


def test_a_referral_is_handed_over_and_waits_for_who_got_it(hub: Terminal, database_url: str) -> None:
    for login in ("dr.rao", "dr.nair"):
        add_doctor(hub, login)
    _, name, _ = consultation(hub, database_url)
    assert hub("claim", name, "--as", "dr.rao").status == 0
    (claimed,) = hub("referrals", "list", "--json").lines
    assert claimed["claim_lapses_at"] > claimed["claimed_at"]
    answer = hub("hand-over", name, "--as", "dr.rao", "--to", "dr.nair", "--json").json
    assert (answer["schema"], answer["verdict"]) == ("hub.claim/1", "handed_over")
    (line,) = hub("referrals", "list", "--json").lines
    assert (line["status"], line["claim_lapses_at"]) == ("received", None)
    assert line["waits_for"] in hub("people", "list", "--json").out
    refused = hub("claim", name, "--as", "dr.rao")
    assert (refused.status, "E_HANDED_OVER" in refused.err) == (3, True)
    assert hub("claim", name, "--as", "dr.nair").status == 0


def test_a_prohibited_drug_is_refused_by_the_command_too(hub: Terminal, database_url: str, tmp_path: Path) -> None:
    add_doctor(hub)
    _, name, _ = consultation(hub, database_url)
    file = tmp_path / "reply.json"
    file.write_text(json.dumps(REPLY | {"prescription": [{"drug": "Alprazolam", "dose": "1", "days": 2}]}))
    refused = hub("reply", name, "--as", "dr.rao", "--file", str(file))
    assert refused.status == 1
    assert "Line 1: Alprazolam cannot be prescribed by telemedicine: it is a psychotropic substance" in refused.err
    assert "E_DRUG_PROHIBITED" in refused.err


def test_duty_is_said_and_listed(hub: Terminal) -> None:
    add_doctor(hub)
    assert "Nobody is on duty" in hub("duty", "list").err
    said = hub("duty", "on", "--as", "dr.rao", "--until", hours_away(), "--json").json
    assert (said["verdict"], said["doctor"]) == ("on_duty", "dr.rao")
    assert [one["doctor"] for one in hub("duty", "--json").json["on_duty"]] == ["dr.rao"]
    assert "dr.rao" in hub("duty", "list").out
    assert hub("duty", "off", "--as", "dr.rao").out == "dr.rao off duty\n"
    assert hub("duty", "off", "--as", "dr.rao", "--json").json["verdict"] == "off_duty_before"
    bad = hub("duty", "on", "--as", "dr.rao", "--until", "six")
    assert (bad.status, "E_BAD_TIME" in bad.err) == (1, True)


def test_a_contact_is_set_replaced_and_removed(hub: Terminal) -> None:
    assert hub("duty", "contact", "Emergency ward", "+91 755 255 1234").status == 0
    assert (
        hub("duty", "contact", "Dr. Iyer", "9845000000", "--specialty", "obstetrics", "--json").json["verdict"] == "set"
    )
    contacts = hub("duty", "list", "--json").json["contacts"]
    assert [(one["specialty"], one["name"]) for one in contacts] == [
        (None, "Emergency ward"),
        ("obstetrics", "Dr. Iyer"),
    ]
    assert "Emergency ward" in hub("duty").out
    removing = ("duty", "contact", "--specialty", "obstetrics", "--remove", "--json")
    assert [hub(*removing).json["verdict"] for _ in range(2)] == ["removed", "unchanged"]
    assert hub("duty", "contact", "Dr. Iyer").status == 2
    assert "E_BAD_PHONE" in hub("duty", "contact", "Dr. Iyer", "call me").err
    assert "E_UNKNOWN_HUB" in hub("duty", "contact", "Dr. Iyer", "112", "--hub", "NOWHERE").err


def test_an_opening_is_listed_and_reviewed_by_an_officer(hub: Terminal, database_url: str) -> None:
    _, name, _ = consultation(hub, database_url)
    hub("people", "add", "skin", "--name", "Dr. S", "--registration-number", "K", "--specialty", "dermatology")
    hub("people", "add", "officer", "--name", "Ravi", "--role", "district_officer")
    refused = hub("referrals", "show", name, "--as", "skin")
    assert (refused.status, "E_NOT_YOURS" in refused.err) == (1, True)
    world = hub.world(database_url)
    with world.database.transaction() as connection:
        doctor = people.find(connection, "skin")
    glass.break_glass(
        world.store, doctor, RecordId(parse_id(name)), "planted reason", wall_ms(), os.urandom(glass.RANDOM_BYTES)
    )
    assert hub("referrals", "show", name, "--as", "skin").status == 0
    answer = hub("glass", "--json")
    (one,) = answer.json["openings"]
    assert (one["doctor"], one["referral"], one["reviewed_at"], "planted" in answer.out) == ("skin", name, None, False)
    assert "planted reason" in hub("glass", "list", "--show-reasons").out
    assert hub("glass", "review", one["id"], "--as", "skin").status == 1
    reviewing = ("glass", "review", one["id"], "--as", "officer", "--json")
    assert [hub(*reviewing).json["verdict"] for _ in range(2)] == ["reviewed", "reviewed_before"]
    assert "Nothing waits" in hub("glass").err
    (reviewed,) = hub("glass", "list", "--reviewed", "--json").json["openings"]
    assert reviewed["reviewed_by"] == "officer"
