"""India's states and territories: each has one tile and one code, and is known however it is written."""

from __future__ import annotations

import pytest

from sync_protocol import states
from sync_protocol.states import STATES


def test_there_are_36_with_one_place_code_and_name_each() -> None:
    assert len(STATES) == 36
    for of in ("lgd", "letters", "name"):
        assert len({getattr(one, of) for one in STATES}) == 36
    places = {(one.column, one.row) for one in STATES}
    assert len(places) == 36
    assert all(1 <= column <= states.MOST_COLUMNS and 1 <= row <= states.MOST_ROWS for column, row in places)
    assert sum(one.territory for one in STATES) == 8


def test_each_is_known_by_its_name_letters_and_code_in_any_writing() -> None:
    for one in STATES:
        for said in (one.name, one.name.upper(), f"  {one.name.lower()} ", f"THE {one.name}", one.letters, *one.others):
            assert states.recognised(said) is one, said
        assert states.recognised(str(one.lgd)) is one
        assert states.recognised(f"{one.lgd:02}") is one
        assert states.tidy(one.name.upper()) == one.name


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Jammu & Kashmir", "JK"),
        ("ANDAMAN & NICOBAR ISLANDS", "AN"),
        ("Orissa", "OD"),
        ("Pondicherry", "PY"),
        ("NCT of Delhi", "DL"),
        ("Tamil-Nadu", "TN"),
        ("Daman & Diu", "DH"),
        ("chhattīsgarh", "CG"),
    ],
)
def test_older_and_uneven_names_are_known(said: str, meant: str) -> None:
    found = states.recognised(said)
    assert found is not None
    assert found.letters == meant


@pytest.mark.parametrize("said", ["", " ", "Nowhere", "99", "0", "the", "&", "मध्य प्रदेश", "M" * 10_000, "=1+1"])
def test_what_is_no_state_stays_as_it_was_written(said: str) -> None:
    assert states.recognised(said) is None
    assert states.tidy(f" {said}  ") == " ".join(said.split())
