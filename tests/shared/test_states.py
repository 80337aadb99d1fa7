"""The Local Government Directory's own list, capitals and all: every state of it is known, and no other is ours."""

from __future__ import annotations

import csv

from sync_protocol import states
from sync_protocol.states import STATES
from tests.conftest import SHARED

LGD = SHARED / "data" / "lgd"


def test_every_state_of_the_directory_is_known_by_its_own_code() -> None:
    with (LGD / "states.csv").open(encoding="utf-8-sig", newline="") as opened:
        rows = [(int(row[1]), row[3], row[7]) for row in list(csv.reader(opened))[1:]]
    assert len(rows) == 36
    for code, name, kind in rows:
        found = states.recognised(name)
        assert found is not None, name
        assert (found.lgd, found.territory) == (code, kind == "U"), name
    assert {code for code, _, _ in rows} == {one.lgd for one in STATES}


def test_every_districts_state_is_known_and_a_district_named_like_a_state_lies_in_it() -> None:
    with (LGD / "districts.csv").open(encoding="utf-8-sig", newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert len(rows) > 700
    for row in rows:
        state, alike = states.recognised(row["State Name"]), states.recognised(row["District Name"])
        assert state is not None, row
        assert alike in (None, state), row
