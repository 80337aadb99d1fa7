"""The made-up visits: the same arguments give the same documents, and the schema takes every one of them."""

from __future__ import annotations

from collections import Counter

from bench.visits import Visits
from sync_protocol import documents, schema
from sync_protocol.canonical import Value
from sync_protocol.schema import Writer

CONSULTATIONS = 150


def test_the_same_seed_gives_the_same_documents_and_another_seed_others() -> None:
    first = list(Visits(1, seed=7).documents(CONSULTATIONS, replies=True))
    assert list(Visits(1, seed=7).documents(CONSULTATIONS, replies=True)) == first
    assert list(Visits(1, seed=8).documents(CONSULTATIONS, replies=True)) != first
    assert list(Visits(2, seed=7).documents(CONSULTATIONS, replies=True)) != first


def test_every_document_is_one_that_the_schema_takes() -> None:
    for line in Visits(3, seed=1).documents(CONSULTATIONS, replies=True):
        document = documents.parse(line, facility=line["facility"])
        writer = Writer.DOCTOR if document.kind == "reply" else Writer.CENTRE
        assert schema.may_write(document.kind, writer)
        assert document.writes


def test_a_consultation_is_a_case_with_vitals_and_a_referral() -> None:
    counts = Counter(line["kind"] for line in Visits(4, seed=1).documents(CONSULTATIONS, replies=True))
    assert counts["case"] == counts["vitals"] == counts["referral"] == counts["reply"] == CONSULTATIONS
    assert 0 < counts["patient"] < CONSULTATIONS


def test_ids_are_unique_and_references_point_at_what_came_before() -> None:
    seen: set[str] = set()
    for line in Visits(5, seed=1).documents(CONSULTATIONS, replies=True):
        assert line["id"] not in seen
        seen.add(line["id"])
        assert line["patient"] in seen
        for name in ("case", "referral"):
            assert line["fields"].get(name, line["id"]) in seen


def test_the_text_is_in_three_scripts() -> None:
    def scripts(value: Value) -> set[str]:
        if isinstance(value, dict):
            return set[str]().union(*map(scripts, value.values()))
        text = value if isinstance(value, str) else ""
        blocks = {"latin": (0x41, 0x7A), "devanagari": (0x900, 0x97F), "tamil": (0xB80, 0xBFF)}
        return {name for name, (low, high) in blocks.items() if any(low <= ord(one) <= high for one in text)}

    found = set[str]().union(*(scripts(line["fields"]) for line in Visits(6, seed=1).documents(CONSULTATIONS)))
    assert found == {"latin", "devanagari", "tamil"}
