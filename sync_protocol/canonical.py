"""Canonical msgpack: each value has exactly one encoding, so that equal values have equal bytes and a hash names them.

The rules (PROTOCOL.md §1): maps have unique text keys in code point order; integers take their shortest form; a float
stands only where its value is not integral, and is never NaN, infinite or negative zero; text is NFC; no extension
types; nesting is bounded. Values are equal when their canonical bytes are: never compare values with ``==``
(in Python ``1 == True`` and ``37 == 37.0``).
"""

from __future__ import annotations

import math
import unicodedata
from typing import Any, TypeAlias

import msgspec

from sync_protocol.errors import Malformed, NotCanonical, TooLarge

Value: TypeAlias = Any
"""None, bool, int, float, str, bytes, list of values, or dict of str to value."""

MAX_DEPTH = 8  # a clinical value needs three levels; deeper is an attack on somebody's stack
MAX_CANONICAL_BYTES = 64 * 1024  # one change: a long history of 20,000 characters in a three-byte script fits
MIN_INT = -(1 << 63)
MAX_INT = (1 << 64) - 1

_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder = msgspec.msgpack.Decoder()


def normalise(value: Value) -> Value:
    """The value with its text in NFC and integral floats as integers. Raises Malformed for what has no canonical form."""
    return _normalise(value, MAX_DEPTH)


def _normalise(value: Value, depth: int) -> Value:
    kind = type(value)
    if kind is str:
        return _text(value)
    if kind is bool or value is None or kind is bytes:
        return value
    if kind is int:
        if not MIN_INT <= value <= MAX_INT:
            raise Malformed("a number is outside of 64 bits")
        return value
    if kind is float:
        if not math.isfinite(value):
            raise Malformed("a number is not finite")
        if value.is_integer():
            if abs(value) > 2**63:
                raise Malformed("a number is outside of 64 bits")
            return int(value)
        return value
    if depth == 0:
        raise Malformed(f"values are nested deeper than {MAX_DEPTH} levels")
    if kind is list or kind is tuple:
        return [_normalise(item, depth - 1) for item in value]
    if kind is dict:
        normal = {}
        for key, item in value.items():
            if type(key) is not str:
                raise Malformed("a map has a key that is not text")
            normal[_text(key)] = _normalise(item, depth - 1)
        if len(normal) != len(value):
            raise Malformed("a map has two keys that are equal once normalised")
        return normal
    raise Malformed(f"a value of type {kind.__name__} has no canonical form")


def _text(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Malformed("text holds a half of a character (a lone surrogate)") from None
    return unicodedata.normalize("NFC", text)


def encode(value: Value) -> bytes:
    """The canonical bytes of a value that is already normal (see `normalise`)."""
    return _encoder.encode(value)


def check_normal(value: Value, depth: int = MAX_DEPTH) -> None:
    """Raise NotCanonical unless text is NFC, floats are not integral and nesting is bounded.

    What re-encoding shows by itself (order, duplicates, lengths) is not looked at here.
    """
    kind = type(value)
    if kind is str:
        if not value.isascii() and not unicodedata.is_normalized("NFC", value):
            raise NotCanonical("text is not in NFC")
    elif kind is dict:
        if depth == 0:
            raise NotCanonical(f"values are nested deeper than {MAX_DEPTH} levels")
        for key, item in value.items():
            if type(key) is not str:
                raise NotCanonical("a map has a key that is not text")
            if not key.isascii() and not unicodedata.is_normalized("NFC", key):
                raise NotCanonical("text is not in NFC")
            check_normal(item, depth - 1)
    elif kind is list:
        if depth == 0:
            raise NotCanonical(f"values are nested deeper than {MAX_DEPTH} levels")
        for item in value:
            check_normal(item, depth - 1)
    elif kind is float:
        if not math.isfinite(value) or value.is_integer():
            raise NotCanonical("a float is integral or not finite")
    elif value is not None and kind is not int and kind is not bool and kind is not bytes:
        raise NotCanonical("an extension type is not allowed")


def decode_any(raw: bytes, limit_bytes: int = MAX_CANONICAL_BYTES) -> Value:
    """msgpack bytes as a value, canonical or not. Raises TooLarge or Malformed, and nothing else."""
    if len(raw) > limit_bytes:
        raise TooLarge(f"{len(raw)} bytes where at most {limit_bytes} are allowed")
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError, ValueError, MemoryError, TypeError) as error:
        # msgspec raises RecursionError on deep nesting, TypeError on an unhashable map key, ValueError on bad UTF-8
        raise Malformed(f"the bytes are not msgpack ({type(error).__name__})") from None


def decode(raw: bytes, limit_bytes: int = MAX_CANONICAL_BYTES) -> Value:
    """Canonical bytes as a value. Raises TooLarge, Malformed or NotCanonical, and nothing else."""
    value = decode_any(raw, limit_bytes)
    check_normal(value)
    if _encoder.encode(value) != raw:
        raise NotCanonical("the bytes are not the canonical encoding of their value")
    return value


def equal(left: Value, right: Value) -> bool:
    """Whether two normal values are the same value, by their bytes."""
    return _encoder.encode(left) == _encoder.encode(right)
