"""Changes: named by the hash of their bytes, kept as authored, refused when they are not canonical or too large."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol import canonical
from sync_protocol import change as changes
from sync_protocol.change import Change, ChangeId, PatientId
from sync_protocol.errors import HealthSyncError, Malformed, NotCanonical, TheirBytes, TooLarge
from sync_protocol.hlc import MAX_TIME_MS
from tests import strategies
from tests.strategies import FACILITIES, NODE, PERSONS, RECORDS, SALTS, TIME_NOW_MS

PLAIN = {
    "after": 5,
    "facility": "HWC000001",
    "hlc": TIME_NOW_MS << 16,
    "kind": "case",
    "node": NODE,
    "patient": RECORDS[0],
    "person": PERSONS[0],
    "record": RECORDS[1],
    "salt": SALTS[0],
    "supersedes": {},
    "writes": {"plan": "rest"},
}


def _raw(**altered: Any) -> bytes:
    return canonical.encode(PLAIN | altered)


def _one(batch: list[Change]) -> Change:
    return batch[0]


single = strategies.batches(1).map(_one)


@given(single)
def test_a_change_survives_its_bytes(change: Change) -> None:
    assert changes.parse(change.raw) == change
    assert change.id == hashlib.sha256(change.raw).digest()[:16] == changes.change_id(change.raw)
    assert canonical.encode(canonical.decode(change.raw)) == change.raw


@given(single, st.data())
def test_nobody_can_alter_a_change_and_keep_its_id(change: Change, data: st.DataObject) -> None:
    raw = bytearray(change.raw)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        other = changes.parse(bytes(raw))
    except TheirBytes:
        return
    assert other.id != change.id


@given(single, st.data())
def test_a_change_cut_short_anywhere_is_refused(change: Change, data: st.DataObject) -> None:
    with pytest.raises(TheirBytes):
        changes.parse(change.raw[: data.draw(st.integers(0, len(change.raw) - 1))])


@given(st.binary(max_size=80))
def test_any_bytes_are_a_change_or_refused(raw: bytes) -> None:
    with pytest.raises(TheirBytes):
        changes.parse(raw)


@given(st.sampled_from(sorted(PLAIN)), strategies.values)
def test_any_value_in_any_place_is_taken_as_it_is_or_refused(name: str, value: canonical.Value) -> None:
    raw = _raw(**{name: value})
    try:
        change = changes.parse(raw)
    except TheirBytes:
        return
    assert change.raw == raw
    assert canonical.equal(getattr(change, name), value), "a change shows exactly what its bytes say"


@given(st.dictionaries(strategies.texts.filter(lambda key: key not in PLAIN), strategies.scalars, min_size=1))
def test_keys_of_a_newer_author_survive(extra: dict[str, canonical.Value]) -> None:
    raw = _raw(**extra)
    change = changes.parse(raw)
    assert change.raw == raw and change.writes == {"plan": "rest"}


def test_keys_of_a_newer_author_must_be_canonical_too() -> None:
    raw = bytearray(_raw(zeta=1))
    assert changes.parse(bytes(raw)).raw == raw
    with pytest.raises(NotCanonical):
        changes.parse(bytes(raw[:-1]) + b"\xcc\x01")
    with pytest.raises(NotCanonical):
        changes.parse(b"\x8d" + raw[1:] + b"\xa4zeta\x01")


@pytest.mark.parametrize(
    "raw",
    [
        _raw(hlc=-1),
        _raw(after=-1),
        _raw(after=MAX_TIME_MS + 1),
        _raw(after=1.5),
        _raw(node=b"short"),
        _raw(node="sixteen letters."),
        _raw(salt=bytes(17)),
        _raw(facility=""),
        _raw(facility="a/b"),
        _raw(facility="x" * 33),
        _raw(facility="\u0967"),
        _raw(kind=""),
        _raw(kind="Fall\u00e9"),
        _raw(kind="a b"),
        _raw(kind="k" * 41),
        _raw(writes={}),
        _raw(writes={"": 1}),
        _raw(writes={"x" * 201: 1}),
        _raw(writes={"\u0967" * 67: 1}),
        _raw(writes={str(at): 1 for at in range(257)}),
        _raw(supersedes={"plan": []}),
        _raw(supersedes={"plan": [bytes(16), bytes(16)]}),
        _raw(supersedes={"plan": [b"b" * 16, b"a" * 16]}),
        _raw(supersedes={"plan": [b"short"]}),
        _raw(supersedes={"": [bytes(16)]}),
        _raw(supersedes={"plan": [at.to_bytes(16, "big") for at in range(1025)]}),
        canonical.encode({name: value for name, value in PLAIN.items() if name != "salt"}),
        canonical.encode([PLAIN]),
        msgspec.msgpack.encode(PLAIN | {"writes": {"b": 1, "a": 2}}),
        msgspec.msgpack.encode(dict(reversed(PLAIN.items()))),
        msgspec.msgpack.encode(PLAIN | {"writes": {"temperature_c": 37.0}}),
        msgspec.msgpack.encode(PLAIN | {"writes": {"name": "e\u0301"}}),
        msgspec.msgpack.encode(PLAIN | {"hlc": 5.0}),
        _raw(writes={"plan": "x" * 70_000}),
        _raw()[:-1] + b"\x91" * 100_000,
        _raw()[:-5] + b"\x91" * 60_000,
    ],
    ids=range(36),
)
def test_what_is_no_change_is_refused(raw: bytes) -> None:
    with pytest.raises((Malformed, NotCanonical, TooLarge)):
        changes.parse(raw)


@pytest.mark.parametrize("stamp", [0, (1 << 64) - 1, 4_070_908_800_000 << 16])
def test_no_clock_makes_a_change_refused(stamp: int) -> None:
    assert changes.parse(_raw(hlc=stamp)).hlc == stamp


@given(strategies.wild, strategies.wild)
def test_making_a_change_of_anything_gives_canonical_bytes_or_is_refused(value: Any, name: Any) -> None:
    try:
        change = _make({name if isinstance(name, str) else "field": value})
    except HealthSyncError:
        return
    assert changes.parse(change.raw) == change


def _make(writes: dict[str, Any], kind: str = "case", supersedes: dict[str, list[ChangeId]] | None = None) -> Change:
    return changes.make(
        kind=kind,
        record=RECORDS[1],
        patient=PatientId(RECORDS[0]),
        facility=FACILITIES[0],
        node=NODE,
        person=PERSONS[0],
        hlc=0,
        after=0,
        salt=SALTS[0],
        writes=writes,
        supersedes=supersedes or {},
    )


def test_a_kind_that_is_half_a_character_is_refused() -> None:
    with pytest.raises(HealthSyncError):
        _make({"plan": "rest"}, kind="\ud800")


def test_names_of_what_is_superseded_are_sorted_and_counted_once() -> None:
    late, early = ChangeId(b"z" * 16), ChangeId(b"a" * 16)
    change = _make({"plan": "rest"}, supersedes={"plan": [late, early, late], "outcome": []})
    assert change.supersedes == {"plan": [early, late]}
    assert changes.parse(change.raw) == change


def test_a_change_may_only_supersede() -> None:
    change = _make({}, supersedes={"plan": [ChangeId(bytes(16))]})
    assert changes.parse(change.raw) == change


@given(strategies.values, strategies.values)
def test_two_values_that_differ_make_two_names(left: canonical.Value, right: canonical.Value) -> None:
    same = _make({"plan": left}).id == _make({"plan": right}).id
    assert same == canonical.equal(left, right)
