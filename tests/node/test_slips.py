"""A slip at a centre: one's own leads to the referral, another's is shown for what it is worth; papers by command."""

from __future__ import annotations

import io
import stat
import sys
from pathlib import Path

import msgspec
import pytest

from hwc_node import cli, keystore
from hwc_node.printing import making
from hwc_node.store import Store
from sync_protocol import slip
from sync_protocol.keys import EnvironmentId, Identity
from sync_protocol.slip import Summary
from tests.make_vectors import SUMMARY
from tests.node.command_line import Runner, point_at
from tests.node.enrolled_home import ENVIRONMENT, FACILITY, Home, make_home
from tests.node.paged_centre import Centre
from tests.node.referred import Referred

OTHER = Identity(b"o" * 32)
NAME = "Kumudini Planted"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(keystore, "NEW_MEMORY_KIB", 64)
    monkeypatch.setattr(keystore, "NEW_ITERATIONS", 1)
    made = make_home(tmp_path)
    point_at(made, monkeypatch)
    return made


@pytest.fixture
def hwc(capfdbinary: pytest.CaptureFixture[bytes]) -> Runner:
    return Runner(capfdbinary)


def said(store: Store, **other: object) -> Summary:
    """Of this computer, unless told otherwise."""
    member = store.membership
    return msgspec.structs.replace(SUMMARY, **{"facility": FACILITY, "node": member.node, "name": NAME, **other})


def letters(store: Store, signer: Identity | None = None, **other: object) -> str:
    return slip.sign(said(store, **other), signer or store.membership.identity, EnvironmentId(ENVIRONMENT))


# -- the find box ------------------------------------------------------------------------------------------------------


def test_ones_own_slip_leads_to_its_referral(home: Home) -> None:
    centre = Centre(home)
    referred = Referred.make(centre.store)
    window, text = centre.window_of(), letters(centre.store, referral=referred.referral.record)
    answer = window.post("/find", {"csrf": window.csrf, "typed": text})
    assert answer.headers["location"] == f"/referrals/{referred.name}"
    live = window.client.post(
        "/find", data={"csrf": window.csrf, "typed": text.lower()}, headers={"hx-request": "true"}
    )
    assert live.headers["hx-redirect"] == f"/referrals/{referred.name}"


def test_another_centres_slip_is_shown_as_unchecked_and_leads_to_the_referral_if_that_is_here(home: Home) -> None:
    centre = Centre(home)
    window = centre.window_of()
    theirs = {"facility": "HWC2", "node": b"n" * 16}
    page = window.post("/find", {"csrf": window.csrf, "typed": letters(centre.store, OTHER, **theirs)}).text
    assert NAME in page
    assert "Signed by a computer of HWC2: it cannot be checked here." in page
    ours = window.post("/find", {"csrf": window.csrf, "typed": letters(centre.store, OTHER, node=b"n" * 16)}).text
    assert "Signed by another computer of this centre" in ours
    referred = Referred.make(centre.store)
    here = letters(centre.store, OTHER, referral=referred.referral.record, **theirs)
    assert window.post("/find", {"csrf": window.csrf, "typed": here}).headers["location"].endswith(referred.name)


def test_a_slip_that_claims_to_be_of_this_computer_and_is_not_is_refused(home: Home) -> None:
    centre = Centre(home)
    window = centre.window_of()
    for text, code in (
        (letters(centre.store, OTHER), "E_BAD_SIGNATURE"),
        (letters(centre.store)[:-4], "E_MALFORMED"),
        ("HSR9:ABC", "E_UNSUPPORTED"),
    ):
        page = window.post("/find", {"csrf": window.csrf, "typed": text}).text
        assert code in page
        assert NAME not in page
    assert "Signed by this computer" in window.post("/find", {"csrf": window.csrf, "typed": letters(centre.store)}).text


# -- commands ----------------------------------------------------------------------------------------------------------


def test_a_slip_is_read_at_a_terminal(home: Home, hwc: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with home.open() as store:
        text, forged = letters(store), letters(store, OTHER)
    monkeypatch.setattr(sys, "stdin", io.StringIO(text + "\n"))
    shown = hwc("slip", "-")
    assert shown.status == 0
    assert "signed by this computer" in shown.out
    assert NAME not in shown.out
    file = tmp_path / "slip.txt"
    file.write_text(text)
    assert NAME in hwc("slip", str(file), "--show-names").out
    shape = hwc("slip", str(file), "--json").shape
    assert (shape["checked"], shape["is_here"], shape["facility"]) == (True, False, FACILITY)
    assert "name" not in shape
    file.write_text(forged)
    ended = hwc("slip", str(file))
    assert (ended.status, "E_BAD_SIGNATURE" in ended.err) == (6, True)


def test_papers_are_printed_without_a_browser(home: Home, hwc: Runner, tmp_path: Path) -> None:
    with home.open() as store:
        referred = Referred.make(store)
    unanswered = hwc("print", "prescription", referred.name)
    assert (unanswered.status, "E_NOT_ANSWERED" in unanswered.err) == (1, True)
    with home.open() as store:
        reply = Referred(store, referred.patient, referred.case, referred.vitals, referred.referral).answered()
    out = tmp_path / "paper.pdf"
    ended = hwc("print", "prescription", reply, "--out", str(out), "--size", "A4", "--language", "hi")
    assert (ended.status, ended.out) == (0, "")
    assert out.read_bytes().startswith(b"%PDF-")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert "E_FILE_EXISTS" in hwc("print", "prescription", referred.name, "--out", str(out)).err
    assert hwc("print", "referral", referred.name, "--size", "A3").status == 2
    assert hwc("print", "referral", referred.name, "--language", "xx").status == 2


def test_a_paper_goes_to_stdout_whole(
    home: Home, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with home.open() as store:
        referred = Referred.make(store)
    monkeypatch.setattr(making, "PROGRAM", ("-c", "print('%PDF-1.4')"))
    capfdbinary.readouterr()
    assert cli.run(["print", "referral", referred.name]) == 0
    assert capfdbinary.readouterr()[0] == b"%PDF-1.4\n"
