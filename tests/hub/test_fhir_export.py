"""`hub export --format fhir`: documents of what the hub holds, valid, audited, and unchanged when they come back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fhir.resources.R4B.bundle import Bundle

from sync_protocol import documents
from sync_protocol.fhir import names
from sync_protocol.fhir.reading import Reader
from tests.hub.command_line import REPLY, Terminal, add_doctor, consultation, terminal


@pytest.fixture
def hub(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Terminal:
    return terminal(database_url, tmp_path, monkeypatch, capfdbinary)


@pytest.fixture
def answered(hub: Terminal, database_url: str, tmp_path: Path) -> tuple[str, str]:
    """(referral, patient) of a visit that a doctor answered."""
    _, referral, patient = consultation(hub, database_url)
    add_doctor(hub)
    file = tmp_path / "reply.json"
    file.write_text(json.dumps(REPLY))
    assert hub("claim", referral, "--as", "dr.rao").status == 0
    assert hub("reply", referral, "--as", "dr.rao", "--file", str(file)).status == 0
    return referral, patient


def profile(bundle: dict[str, Any]) -> str:
    said: str = bundle["entry"][0]["resource"]["meta"]["profile"][0]
    return said.removeprefix(names.PROFILES)


def test_an_answered_referral_has_a_document_of_its_own(hub: Terminal, answered: tuple[str, str]) -> None:
    ended = hub("export", "--format", "fhir")
    assert ended.status == 0, ended.err
    for bundle in ended.lines:
        Bundle.model_validate(bundle)
    by_profile = {profile(bundle): bundle for bundle in ended.lines}
    assert by_profile.keys() == {"OPConsultRecord", "PrescriptionRecord"}
    assert len(ended.lines) == 2
    inside = [one["resource"] for one in by_profile["PrescriptionRecord"]["entry"]]
    [doctor] = [one for one in inside if one["resourceType"] == "Practitioner"]
    assert (doctor["name"][0]["text"], doctor["identifier"][1]["value"]) == ("Dr. Rao", "KMC-1")
    [medicine] = [one for one in inside if one["resourceType"] == "MedicationRequest"]
    assert medicine["medicationCodeableConcept"]["text"] == "ORS"


def test_what_goes_out_comes_back_as_the_lines_of_a_plain_export(hub: Terminal, answered: tuple[str, str]) -> None:
    said = {line["id"]: line for line in hub("export").lines if line["kind"] not in ("person", "facility")}
    back: dict[str, dict[str, Any]] = {}
    for bundle in hub("export", "--format", "fhir").lines:
        read = Reader("HWC1").read(bundle)
        assert read.not_taken == ()
        back |= {line["id"]: line for line in read.lines}
    assert back.keys() == said.keys()
    for name, line in back.items():
        for key in ("kind", "facility", "patient", "fields"):
            assert line[key] == said[name][key], (key, said[name]["kind"])
        assert line.get("at") == said[name]["at"]


def test_it_is_narrowed_audited_and_refuses_what_it_cannot_say(
    hub: Terminal, answered: tuple[str, str], database_url: str
) -> None:
    _, patient = answered
    assert len(hub("export", "--format", "fhir", "--patient", patient).lines) == 2
    assert len(hub("export", "--format", "fhir", "--facility", "HWC1").lines) == 2
    other = hub("export", "--format", "fhir", "--patient", documents.id_text(bytes(16)))
    assert (other.status, "E_UNKNOWN_PATIENT" in other.err) == (1, True)
    for more in (("--changes",), ("--kind", "case")):
        assert hub("export", "--format", "fhir", *more).status == 2
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT count(*) FROM audit WHERE verb = 'export fhir'").fetchone()
    assert rows == (2,)
