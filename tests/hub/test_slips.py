"""A slip at the hub: checked by the key of the computer that signed it, noted before it is shown, never more than paper."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from hub_server import nodes, slips
from hub_server.people import Role
from sync_protocol import slip
from sync_protocol.documents import id_text, parse_id
from sync_protocol.errors import BadSignature, TheirBytes, UnknownSender
from sync_protocol.slip import Summary
from tests.hub.bare_node import NOW_MS, BareNode
from tests.hub.command_line import Terminal, consultation, terminal
from tests.hub.hub_world import HubWorld
from tests.hub.paged_hub import PagedHub
from tests.make_vectors import SUMMARY

NAME, REASON = "Kumudini Planted", "planted reason"
DOCTOR = "person dr.rao"


@pytest.fixture(scope="module")
def world(module_database_url: str, module_folder: Path) -> HubWorld:
    made = HubWorld.make(module_database_url, module_folder / "keys")
    made.facility("HWC1")
    made.facility("HWC2")
    return made


@pytest.fixture(scope="module")
def hub(world: HubWorld) -> PagedHub:
    made = PagedHub(world)
    made.add("dr.rao")
    made.add("officer", Role.DISTRICT_OFFICER)
    return made


@pytest.fixture(scope="module")
def node(world: HubWorld) -> BareNode:
    return world.node("HWC1")


def said(node: BareNode, referral: bytes = b"r" * 16, facility: str = "HWC1") -> Summary:
    return msgspec.structs.replace(
        SUMMARY, referral=referral, facility=facility, node=node.node, name=NAME, reason=REASON
    )


def letters(node: BareNode, referral: bytes = b"r" * 16, facility: str = "HWC1") -> str:
    return slip.sign(said(node, referral, facility), node.identity, node.vault.identity.environment)


def test_a_slip_is_checked_and_noted_before_its_referral_arrives(hub: PagedHub, node: BareNode) -> None:
    before = hub.noted("read slip")
    found = slips.read(hub.world.store, letters(node), DOCTOR, NOW_MS)
    assert found.summary == said(node)
    assert (found.centre, found.computer, found.revoked_ms, found.referral) == ("Centre HWC1", "laptop", None, None)
    assert hub.noted("read slip") == before + 1


def test_once_the_referral_has_arrived_the_slip_leads_to_the_case(hub: PagedHub, node: BareNode) -> None:
    name = hub.refer(node=node)
    window = hub.window_of("dr.rao")
    page = window.send("/slip", {"letters": letters(node, parse_id(name)).lower() + "\r\n"}).text
    assert NAME in page
    assert f'href="/cases/{name}"' in page
    assert window.get(f"/cases/{name}").status_code == 200
    assert f'href="/cases/{name}"' not in window.send("/slip", {"letters": letters(node)}).text


def test_what_is_altered_or_signed_by_others_is_refused_and_shows_nothing(hub: PagedHub, node: BareNode) -> None:
    window, whole = hub.window_of("dr.rao"), letters(node)
    stranger = BareNode(hub.world.vault, node.facility)
    other = hub.world.node("HWC2")
    wrong = {
        "E_NO_SLIP": "9845012345",
        "E_MALFORMED": whole[:-4],
        "E_BAD_SIGNATURE": slip.sign(said(node), other.identity, node.vault.identity.environment),
        "E_UNKNOWN_NODE": letters(stranger),
        "E_OTHER_FACILITY": letters(other, facility="HWC1"),
        "E_UNSUPPORTED": "HSR2:" + whole[5:],
    }
    noted = hub.noted("read slip")
    for code, text in wrong.items():
        answer = window.send("/slip", {"letters": text})
        assert answer.status_code == 422, code
        assert code in answer.text
        assert NAME not in answer.text
        with pytest.raises(TheirBytes):
            slips.read(hub.world.store, text, DOCTOR, NOW_MS)
    assert hub.noted("read slip") == noted
    assert window.send("/slip", {"letters": " "}).status_code == 422


def test_a_slip_of_another_deployment_is_refused(hub: PagedHub, node: BareNode) -> None:
    with pytest.raises(BadSignature):
        slips.read(hub.world.store, slip.sign(said(node), node.identity, bytes(16)), DOCTOR, NOW_MS)  # type: ignore[arg-type]
    with pytest.raises(UnknownSender):
        slips.read(hub.world.store, letters(BareNode(hub.world.vault, node.facility)), DOCTOR, NOW_MS)


def test_a_computer_that_was_shut_out_is_told(hub: PagedHub) -> None:
    lost = hub.world.node("HWC1")
    with hub.world.database.transaction() as connection:
        nodes.revoke(connection, hub.world.vault, lost.node, "stolen", NOW_MS + 1)
    assert slips.read(hub.world.store, letters(lost), DOCTOR, NOW_MS).revoked_ms == NOW_MS + 1
    assert "shut out on 15 Nov 2023" in hub.window_of("dr.rao").send("/slip", {"letters": letters(lost)}).text


def test_only_a_doctor_reads_slips_and_only_by_a_form(hub: PagedHub, node: BareNode) -> None:
    officer, doctor = hub.window_of("officer"), hub.window_of("dr.rao")
    assert officer.get("/slip").status_code == 403
    assert officer.post("/slip", {"csrf": officer.csrf, "letters": letters(node)}).status_code == 403
    assert doctor.post("/slip", {"letters": letters(node)}).headers.get("location") == "/sign-in"
    assert NAME not in doctor.get(f"/slip?letters={letters(node)}").text
    assert doctor.get("/slip").headers["cache-control"] == "no-store"


def test_hostile_words_on_a_slip_are_inert(hub: PagedHub, node: BareNode) -> None:
    hostile = msgspec.structs.replace(said(node), name="<b>x</b>\u202eabc", allergies=["<script>"])
    text = slip.sign(hostile, node.identity, node.vault.identity.environment)
    page = hub.window_of("dr.rao").send("/slip", {"letters": text}).text
    assert "<b>x" not in page
    assert "\u202e" not in page
    assert "<script>" not in page.replace("<script nonce", "")


def test_the_command_checks_a_slip_and_shows_the_name_only_when_asked(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    hub = terminal(database_url, tmp_path, monkeypatch, capfdbinary)
    node, referral, _ = consultation(hub, database_url)
    file = tmp_path / "slip.txt"
    file.write_text(letters(node, parse_id(referral)))
    shown = hub("slip", str(file))
    assert shown.status == 0
    assert "holds: laptop of HWC Rampur (HWC1)" in shown.out
    assert REASON in shown.out
    assert NAME not in shown.out
    assert NAME in hub("slip", str(file), "--show-names").out
    shape = hub("slip", str(file), "--json").json
    assert (shape["arrived"], shape["status"], shape["referral"]) == (True, "received", referral)
    assert "name" not in shape
    assert shape["vitals"]["systolic_mmhg"] == SUMMARY.vitals[0]
    assert NAME not in json.dumps(hub("audit", "export").lines)
    assert hub("nodes", "revoke", id_text(node.node), "--reason", "stolen", "--yes").status == 0
    assert hub("slip", str(file)).status == 3
    file.write_text(letters(node)[:-4])
    refused = hub("slip", str(file))
    assert (refused.status, "E_MALFORMED" in refused.err) == (6, True)
    file.write_bytes(b"\xff")
    assert "E_NO_SLIP" in hub("slip", str(file)).err
    assert "E_NO_SLIP" in _typed(hub, "hello", file)


def _typed(hub: Terminal, text: str, file: Path) -> str:
    file.write_text(text)
    return hub("slip", str(file)).err
