"""One Hypothesis vocabulary of values, changes, histories and segments, shared by all laws.

Small pools on purpose: two changes of a history often touch the same record and field, name each other, or name what
has not arrived. Ids are hashes, so a change can only name those made before it, or invented names (dangling).
Builds everything through the product's own constructors; knows nothing of storage or of the network.
"""

from __future__ import annotations

import unicodedata
from functools import cache, partial
from typing import Any, Final

from hypothesis import strategies as st

from sync_protocol import canonical
from sync_protocol import change as changes
from sync_protocol.canonical import Value
from sync_protocol.change import Change, ChangeId, FacilityCode, NodeId, PatientId, PersonId, RecordId, RecordKey
from sync_protocol.hlc import MAX_HLC, MAX_TIME_MS
from sync_protocol.keys import TO_HUB, TO_NODE, EnvironmentId, Grant, Identity
from sync_protocol.merge import Held
from sync_protocol.schema import URGENCIES, Writer

ENVIRONMENT: Final = EnvironmentId(b"test environment")
OTHER_ENVIRONMENT: Final = EnvironmentId(b"some environment")
NODE: Final = NodeId(b"the first node..")
OTHER_NODE: Final = NodeId(b"the second node.")
HUB: Final = NodeId(b"the hub itself..")
NODE_IDENTITY: Final = Identity(b"n" * 32)
OTHER_IDENTITY: Final = Identity(b"o" * 32)
HUB_IDENTITY: Final = Identity(b"h" * 32)
GRANT: Final = Grant(b"g" * 32, TO_HUB, ENVIRONMENT)
OTHER_GRANT: Final = Grant(b"G" * 32, TO_HUB, ENVIRONMENT)
HUB_GRANT: Final = Grant(b"H" * 32, TO_NODE, ENVIRONMENT)
NONCE: Final = b"nonce nonce."

FACILITIES: Final = tuple(FacilityCode(code) for code in ("HWC000001", "HWC000002"))
RECORDS: Final = tuple(RecordId(bytes([0x19, 0x90, 0, 0, 0, at]) + b"record" + bytes([at]) * 4) for at in range(3))
PERSONS: Final = tuple(PersonId(b"person" + bytes([at]) * 10) for at in range(2))
NODES: Final = (NODE, OTHER_NODE)
SALTS: Final = (b"salt" * 4, b"SALT" * 4)

TIME_NOW_MS: Final = 1_700_000_000_000
ODD_TIMES_MS: Final = (0, 1, TIME_NOW_MS, TIME_NOW_MS + 1, 4_070_908_800_000, MAX_TIME_MS)  # 1970 … 2098 … 6429


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


texts = st.text(st.characters(codec="utf-8"), max_size=20).map(_nfc)
floats = st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: not number.is_integer())
scalars: st.SearchStrategy[Value] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(canonical.MIN_INT, canonical.MAX_INT),
    st.integers(-200, 200),
    floats,
    st.integers(-9_999, 9_999).map(lambda number: number / 8).filter(lambda number: not number.is_integer()),
    st.sampled_from([36.6, 37.5, 100.1, 0.001]),
    texts,
    st.binary(max_size=20),
    st.sampled_from(RECORDS),
)


def _nested(inner: st.SearchStrategy[Value]) -> st.SearchStrategy[Value]:
    return st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)


values: st.SearchStrategy[Value] = st.recursive(scalars, _nested, max_leaves=8).map(canonical.normalise)
"""Normal values of every type, nested a few levels."""

wild: st.SearchStrategy[Any] = st.recursive(
    st.one_of(scalars, st.floats(), st.text(max_size=8), st.integers(), st.just(1 + 2j)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.one_of(texts, st.integers(), st.text(max_size=4)), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=8,
)
"""Python values of which many have no canonical form."""

json_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
"""What a JSON parser may hand over: lone surrogates, huge numbers and NaN included."""

FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "patient": ("name", "phone", "village", "sex", "allergies_status", "allergies/penicillin", "allergies/latex"),
    "case": ("provisional_diagnosis", "plan", "complaints/cough", "outcome", "entered_in_error", "later_field"),
    "vitals": ("temperature_c", "blood_pressure", "pulse_bpm", "case"),
    "referral": ("urgency", "specialty", "case", "withdrawn"),
    "reply": ("advice", "referral"),
    "a_kind_of_2030": ("hope", "hope/deep"),
}

_elements = st.one_of(
    st.sampled_from([{"present": True}, {"present": False}, {"present": True, "details": {"text": "rash"}}]), values
)
_VALUE_OF: Final[dict[str, st.SearchStrategy[Value]]] = {
    "urgency": st.sampled_from([*URGENCIES, "at once"]),
    "allergies_status": st.sampled_from(["none_known", "not_asked", "listed"]),
    "temperature_c": st.one_of(st.integers(340, 420).map(lambda number: canonical.normalise(number / 10)), scalars),
    "blood_pressure": st.just({"systolic_mmhg": 120, "diastolic_mmhg": 80}),
    "case": st.sampled_from([*RECORDS, None]),
    "referral": st.sampled_from(RECORDS),
    "entered_in_error": st.one_of(st.fixed_dictionaries({"hidden": st.booleans()}, optional={"shown": values}), values),
}
_any_values: Final = st.sampled_from(["a", "b"]) | values


def values_of(name: str) -> st.SearchStrategy[Value]:
    """Plausible and implausible values of a field."""
    return _elements if "/" in name else _VALUE_OF.get(name, _any_values)


stamps = st.one_of(
    st.sampled_from(ODD_TIMES_MS).map(lambda ms: ms << 16),
    st.integers(0, 3).map(lambda more: (TIME_NOW_MS << 16) + more),
    st.integers(0, MAX_HLC),
)
receipts = st.sampled_from([0, 1, TIME_NOW_MS, TIME_NOW_MS + 5, MAX_TIME_MS])
kinds = st.sampled_from(sorted(FIELDS))
record_keys = st.builds(RecordKey, kinds, st.sampled_from(RECORDS))


# Made once: a strategy that is made for each draw is looked through anew each time.
_names_of: Final = {
    kind: st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True) for kind, names in FIELDS.items()
}
_patients: Final = st.sampled_from(RECORDS).map(PatientId)
_facilities: Final = st.sampled_from(FACILITIES)
_nodes: Final = st.sampled_from(NODES)
_persons: Final = st.sampled_from(PERSONS)
_salts: Final = st.sampled_from(SALTS)
_afters: Final = st.sampled_from(ODD_TIMES_MS)
_some: Final = st.integers(0, 59)  # of as many, or of fewer
_superseded: Final = st.dictionaries(_some, st.lists(_some, max_size=3), max_size=2)
_receipts_of_one: Final = st.lists(st.none() | receipts, min_size=1, max_size=2)
_INVENTED: Final = tuple(ChangeId(b"never arrives " + bytes([at, at])) for at in range(2))


def _writes(draw: st.DrawFn, kind: str) -> dict[str, Value]:
    """To a few fields of a kind."""
    return {name: draw(values_of(name)) for name in draw(_names_of[kind])}


def _change(draw: st.DrawFn, key: RecordKey, before: list[Change]) -> Change:
    """A change to a record. It may name writes of the changes before it, and names that were never made."""
    written = _writes(draw, key.kind)
    names = [*(one.id for one in before), *_INVENTED]
    fields = [*sorted(written), *FIELDS[key.kind]]
    supersedes = {
        fields[field % len(fields)]: [names[at % len(names)] for at in named]
        for field, named in draw(_superseded).items()
    }
    return changes.make(
        kind=key.kind,
        record=key.record,
        patient=draw(_patients),
        facility=draw(_facilities),
        node=draw(_nodes),
        person=draw(_persons),
        hlc=draw(stamps),
        after=draw(_afters),
        salt=draw(_salts),
        writes=written,
        supersedes=supersedes,
    )


_counts: Final = cache(partial(st.integers, 1))


@st.composite
def batches(draw: st.DrawFn, max_size: int = 8) -> list[Change]:
    """Changes to several records, as a segment carries them."""
    made: list[Change] = []
    for _ in range(draw(_counts(max_size))):
        key = draw(record_keys)
        made.append(_change(draw, key, [one for one in made if one.key == key]))
    return made


@st.composite
def histories(draw: st.DrawFn, max_size: int = 7) -> list[Held]:
    """The changes of one record as replicas hold them, some twice: with no receipt, with one, with a later one.

    A change has one origin wherever it is held: origins are given once, by the hub or by being written here.
    """
    key = draw(record_keys)
    made: list[Change] = []
    held: list[Held] = []
    for _ in range(draw(_counts(max_size))):
        made.append(_change(draw, key, made))
        for receipt in draw(_receipts_of_one):
            held.append(Held(made[-1], receipt, Writer.CENTRE))
    return held
