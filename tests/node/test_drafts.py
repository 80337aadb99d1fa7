"""Entries under way: one person's, bounded, gone when they are old or their patient is erased."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwc_node import drafts, erasing
from hwc_node.engine import begin_write
from hwc_node.store import Store
from sync_protocol.change import PatientId
from sync_protocol.errors import TooLarge
from tests.node.enrolled_home import ELSEWHERE, NOW_MS, PERSON, fresh_id, make_home

fields = st.dictionaries(st.text(max_size=20), st.lists(st.text(max_size=40), max_size=3), max_size=6)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with make_home(tmp_path).open() as opened:
        yield opened


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(fields, fields)
def test_what_is_kept_last_comes_back_as_it_was(
    store: Store, first: dict[str, list[str]], last: dict[str, list[str]]
) -> None:
    for one in (first, last):
        drafts.keep(store, PERSON, "/register", one, NOW_MS)
    found = drafts.find(store, PERSON, "/register")
    assert found is not None
    assert found.fields == last
    assert drafts.find(store, ELSEWHERE, "/register") is None


def test_what_is_too_long_is_refused_and_what_was_kept_before_stays(store: Store) -> None:
    drafts.keep(store, PERSON, "/register", {"name": ["Asha"]}, NOW_MS)
    with pytest.raises(TooLarge) as caught:
        drafts.keep(store, PERSON, "/register", {"name": ["x" * drafts.MAX_DRAFT_BYTES]}, NOW_MS)
    assert caught.value.code == "E_DRAFT_TOO_LARGE"
    found = drafts.find(store, PERSON, "/register")
    assert found is not None
    assert found.fields == {"name": ["Asha"]}


def test_only_so_many_are_kept_and_none_for_long(store: Store) -> None:
    for number in range(drafts.MAX_DRAFTS + 5):
        drafts.keep(store, PERSON, f"/patients/{number}/visit", {}, NOW_MS + number)
    places = [one.place for one in drafts.of_person(store, PERSON)]
    assert len(places) == drafts.MAX_DRAFTS
    assert places[0] == f"/patients/{drafts.MAX_DRAFTS + 4}/visit"
    drafts.keep(store, ELSEWHERE, "/register", {}, NOW_MS + drafts.KEPT_MS + 1_000)
    assert drafts.of_person(store, PERSON) == []


def test_an_erased_patients_drafts_go(store: Store) -> None:
    patient = PatientId(fresh_id())
    drafts.keep(store, PERSON, "/patients/a/visit", {"history": ["secret"]}, NOW_MS, patient)
    drafts.keep(store, PERSON, "/register", {}, NOW_MS)
    with begin_write(store.engine) as connection:
        erasing.obey(connection, patient, NOW_MS)
    assert [one.place for one in drafts.of_person(store, PERSON)] == ["/register"]
