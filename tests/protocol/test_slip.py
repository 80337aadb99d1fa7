"""A slip's letters: what was signed comes out, whatever else is refused, and what is too long is cut in its order."""

from __future__ import annotations

import unicodedata
from typing import Any, Final

import msgspec
import pytest
import segno
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol import slip
from sync_protocol.errors import BadSignature, Malformed, TheirBytes, TooLarge
from sync_protocol.slip import Summary
from tests.make_vectors import SUMMARY
from tests.strategies import ENVIRONMENT, NODE_IDENTITY, OTHER_ENVIRONMENT, OTHER_IDENTITY

LARGEST_MODULES: Final = 97
MARKS: Final = ("Mn", "Mc", "Me", "Cf")

words = st.text(st.sampled_from("aé क्षिंखகொ నే🙂\u200d\u0301 "), max_size=120)
numbers = st.none() | st.integers(0, 400) | st.floats(0, 400).filter(lambda number: not number.is_integer())
summaries = st.builds(
    Summary,
    st.just(1),
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=16, max_size=16),
    st.sampled_from(["HWC1", "H" * 32]),
    st.binary(min_size=16, max_size=16),
    st.integers(0, (1 << 47) - 1),
    words,
    st.none() | st.integers(0, 1_500),
    st.booleans(),
    st.none() | st.sampled_from("FMOU"),
    st.sampled_from(["routine", "urgent", "emergency"]),
    words,
    words,
    st.none() | st.lists(words, max_size=12),
    st.lists(numbers, min_size=10, max_size=10),
    st.none() | st.integers(0, (1 << 47) - 1),
)


def signed(summary: Summary) -> str:
    return slip.sign(slip.fitted(summary), NODE_IDENTITY, ENVIRONMENT)


TEXT: Final = signed(SUMMARY)


@given(summaries)
def test_whatever_is_to_be_said_fits_and_comes_out_as_it_was_signed(summary: Summary) -> None:
    fitted = slip.fitted(summary)
    text = slip.sign(fitted, NODE_IDENTITY, ENVIRONMENT)
    assert slip.parse(text).verify(NODE_IDENTITY.verifier, ENVIRONMENT) == fitted
    assert slip.parse(f" {text.lower()}\r\n").verify(NODE_IDENTITY.verifier, ENVIRONMENT) == fitted
    code = segno.make(text, error="m", boost_error=False)
    assert code.mode == "alphanumeric"
    assert code.symbol_size(border=0)[0] <= LARGEST_MODULES


@given(summaries)
def test_what_is_cut_says_so_and_parts_no_mark_from_its_letter(summary: Summary) -> None:
    fitted = slip.fitted(summary)
    pairs = [(summary.name, fitted.name), (summary.specialty, fitted.specialty), (summary.reason, fitted.reason)]
    pairs += list(zip(summary.allergies or (), fitted.allergies or (), strict=False))[: slip.MAX_ALLERGIES - 1]
    for before, after in pairs:
        whole = unicodedata.normalize("NFC", before)
        if after != whole:
            assert after.endswith(slip.CUT)
            kept = after.removesuffix(slip.CUT)
            assert whole.startswith(kept)
            behind = whole[len(kept) :].lstrip()
            assert unicodedata.category(behind[0]) not in MARKS or whole[len(kept)] == " "
    assert (fitted.allergies is None) == (summary.allergies is None)
    if summary.allergies is not None and len(summary.allergies) > slip.MAX_ALLERGIES:
        assert fitted.allergies is not None
        assert fitted.allergies[-1] == slip.CUT


def test_the_reason_is_cut_before_anything_that_is_within_its_limit() -> None:
    long = msgspec.structs.replace(SUMMARY, reason="बुखार और साँस फूलना " * 40)
    fitted = slip.fitted(long)
    assert fitted.reason.endswith(slip.CUT)
    assert fitted == msgspec.structs.replace(long, reason=fitted.reason)
    assert len(signed(long)) > slip.MAX_TEXT_CHARS - 24


@given(st.integers(0, len(TEXT) - 1), st.sampled_from(slip._LETTERS))
def test_any_changed_letter_is_refused(at: int, letter: str) -> None:
    changed = TEXT[:at] + letter + TEXT[at + 1 :]
    if changed == TEXT:
        return
    with pytest.raises(TheirBytes):
        slip.parse(changed).verify(NODE_IDENTITY.verifier, ENVIRONMENT)


@given(st.binary(min_size=1, max_size=len(TEXT)), st.integers(0, 3))
def test_any_flipped_byte_is_refused(flips: bytes, at: int) -> None:
    raw = bytearray(slip.base45_bytes(TEXT[len(slip.PREFIX) :]))
    for step, flip in enumerate(flips):
        raw[(at + step * 7) % len(raw)] ^= flip
    if slip.base45(bytes(raw)) == TEXT[len(slip.PREFIX) :]:
        return
    with pytest.raises(TheirBytes):
        slip.parse(slip.PREFIX + slip.base45(bytes(raw))).verify(NODE_IDENTITY.verifier, ENVIRONMENT)


@given(
    st.text(max_size=60) | st.text(st.sampled_from(slip._LETTERS), max_size=300).map(lambda text: slip.PREFIX + text)
)
def test_whatever_is_scanned_raises_nothing_but_our_errors(text: str) -> None:
    with pytest.raises(TheirBytes):
        slip.parse(text)


def test_a_slip_of_another_key_or_environment_is_refused() -> None:
    read = slip.parse(TEXT)
    for key, environment in ((OTHER_IDENTITY, ENVIRONMENT), (NODE_IDENTITY, OTHER_ENVIRONMENT)):
        with pytest.raises(BadSignature):
            read.verify(key.verifier, environment)
    other = NODE_IDENTITY.sign("certificate", ENVIRONMENT, read.body)
    with pytest.raises(BadSignature):
        slip.parse(slip.PREFIX + slip.base45(other + read.body)).verify(NODE_IDENTITY.verifier, ENVIRONMENT)


@given(st.binary(max_size=80))
def test_base45_and_back_is_the_same_and_no_other_text_is(raw: bytes) -> None:
    text = slip.base45(raw)
    assert slip.base45_bytes(text) == raw
    assert not text.endswith(" ")


def test_base45_is_that_of_the_rfc() -> None:
    """RFC 9285 §4.3 and §4.4."""
    for raw, text in ((b"AB", "BB8"), (b"Hello!!", "%69 VD92EX0"), (b"base-45", "UJCLQE7W581"), (b"ietf!", "QED8WEX0")):
        assert slip.base45(raw) == text
        assert slip.base45_bytes(text) == raw
    for text in ("GGW", "GG", "A", "BB8B", "aa", ":::", "\u017f00"):
        with pytest.raises(Malformed):
            slip.base45_bytes(text)


def test_what_is_meant_to_be_a_slip_is_told_from_what_a_person_types() -> None:
    for text in (TEXT, TEXT.lower(), TEXT[:9], "HSR2:AB", "  hsr1:"):
        assert slip.is_slip(text)
    for text in ("Asha", "9845012345", "HSR", "HSRX:AB", "", "HSR1"):
        assert not slip.is_slip(text)


@pytest.mark.parametrize(
    ("at", "value"),
    [(1, b"short"), (3, "a/b"), (5, -1), (5, 1 << 47), (7, "34"), (13, ["x"] * 7), (14, [None] * 33), (14, ["120"])],
)
def test_a_summary_out_of_its_bounds_is_refused(at: int, value: Any) -> None:
    said = msgspec.to_builtins(SUMMARY, builtin_types=(bytes,))
    body = msgspec.msgpack.encode([*said[:at], value, *said[at + 1 :]])
    text = slip.PREFIX + slip.base45(NODE_IDENTITY.sign(slip.PURPOSE, ENVIRONMENT, body) + body)
    with pytest.raises(Malformed):
        slip.parse(text)


def test_what_does_not_fit_is_not_signed() -> None:
    with pytest.raises(TooLarge):
        slip.sign(msgspec.structs.replace(SUMMARY, reason="x" * 700), NODE_IDENTITY, ENVIRONMENT)


def test_what_was_measured_has_its_names() -> None:
    assert SUMMARY.measured == {
        "systolic_mmhg": 90,
        "diastolic_mmhg": 60,
        "pulse_bpm": 118,
        "respiratory_rate": 24,
        "temperature_c": 37.4,
        "spo2_percent": 96,
        "haemoglobin_g_dl": 8.1,
    }
