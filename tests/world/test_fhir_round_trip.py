"""Visits of a real centre, answered by a doctor of a real hub, go out as FHIR documents and come back unchanged."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from fhir.resources.R4B.bundle import Bundle

from bench.places import HubPlace
from bench.visits import Visits
from hwc_node.fhir_import import FhirImport
from hwc_node.line_import import ImportRules
from tests.hub.command_line import REPLY
from tests.world.centres import FACILITY, Centre, centre, now_ms

VISITS = 10
ANSWERED = 2


def take(node: Centre, documents: str) -> Counter[str]:
    """What became of each line of these documents."""
    raw = list(enumerate((line.encode() for line in documents.splitlines()), 1))
    answers = FhirImport(node.store, node.person, ImportRules()).take(raw, now_ms())
    return Counter(str(answer.as_json()["verdict"]) for answer in answers)


def test_documents_of_answered_visits_change_nothing_where_they_come_from(hub: HubPlace, folder: Path) -> None:
    node = centre(hub, folder, "rampur")
    lines = [line for line in Visits(1, seed=7).documents(VISITS) if line["facility"] == FACILITY]
    node.take(*lines)
    node.sync()
    file = folder / "reply.json"
    file.write_text(json.dumps(REPLY))
    referrals = [one["id"] for one in hub.lines("referrals", "list", "--json")]
    assert len(referrals) == VISITS
    for referral in referrals[:ANSWERED]:
        hub.run("claim", referral, "--as", "doc")
        hub.run("reply", referral, "--as", "doc", "--file", str(file))
    node.sync()
    before, digest = node.receipts, node.digest
    documents = hub.run("export", "--format", "fhir")
    bundles = [json.loads(line) for line in documents.splitlines()]
    for bundle in bundles:
        Bundle.model_validate(bundle)
    profiles = Counter(one["entry"][0]["resource"]["meta"]["profile"][0].rpartition("/")[2] for one in bundles)
    assert profiles["OPConsultRecord"] == VISITS
    assert profiles["PrescriptionRecord"] == ANSWERED
    verdicts = take(node, documents)
    assert verdicts.keys() == {"unchanged", "not_ours"}  # a claim and a reply are the doctor's
    assert verdicts["not_ours"] == 2 * ANSWERED
    assert (node.receipts, node.digest) == (before, digest)

    other = centre(hub, folder, "second")  # of the same facility, and it has never synced
    assert take(other, documents).keys() <= {"created", "unchanged", "not_ours"}
    assert take(other, documents).keys() <= {"unchanged", "not_ours"}
