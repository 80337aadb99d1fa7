"""The test vectors hold: each file is read, and what its header says must happen happens.

They are for a second implementation, and keep this one from changing the format unseen: what is repeatable is made
anew and compared byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest

from sync_protocol import canonical, codec, envelope, feed_page, keys, segment, slip, wire
from sync_protocol import change as changes
from sync_protocol.change import Change, RecordId, RecordKey
from sync_protocol.envelope import Envelope
from sync_protocol.errors import (
    BadSignature,
    Malformed,
    MissingGrant,
    NotCanonical,
    NotOurAnswer,
    TheirBytes,
    TooLarge,
    Truncated,
    Unsupported,
    WrongRecipient,
)
from sync_protocol.keys import EnvironmentId, Grant, Recipient, Verifier
from sync_protocol.merge import Held
from sync_protocol.wire import FrameReader, Heads, Hello, Notice
from tests.make_vectors import FOLDER, Vector, every, told, told_change, told_page, told_record

Given = dict[str, Any]

WORDS: Final[dict[str, type[TheirBytes]]] = {
    "not canonical": NotCanonical,
    "malformed": Malformed,
    "too large": TooLarge,
    "truncated": Truncated,
    "bad signature": BadSignature,
    "bad seal": BadSignature,
    "unsupported": Unsupported,
    "missing grant": MissingGrant,
    "wrong recipient": WrongRecipient,
    "not our answer": NotOurAnswer,
}


def _read_canonical(given: Given) -> Any:
    if "bytes" in given:
        return told(canonical.decode(bytes.fromhex(given["bytes"])))
    values = json.loads((FOLDER / "canonical-values.json").read_text())["expect"]
    return [
        {"bytes": canonical.encode(value).hex(), "value": told(value)}
        for value in (canonical.decode(bytes.fromhex(one["bytes"])) for one in values)
    ]


def _read_change(given: Given) -> Any:
    return told_change(changes.parse(bytes.fromhex(given["bytes"])))


def _read_merge(given: Given) -> Any:
    held = [Held(changes.parse(bytes.fromhex(one["bytes"])), one["receipt"]) for one in given["changes"]]
    key = RecordKey(given["kind"], RecordId(bytes.fromhex(given["record"])))
    assert told_record(key, held) == told_record(key, held[::-1])
    return told_record(key, held)


def _read_block(given: Given) -> Any:
    outcomes = codec.unpack(bytes.fromhex(given["block"]), bytes.fromhex(given["sender"]))
    return [one.raw.hex() if isinstance(one, Change) else one.code for one in outcomes]


def _opened(given: Given) -> tuple[Envelope, Grant]:
    environment = EnvironmentId(bytes.fromhex(given["environment"]))
    sealed = envelope.parse(bytes.fromhex(given["envelope"]))
    envelope.verify(sealed, Verifier(bytes.fromhex(given["sender_key"])), environment)
    return sealed, Grant(bytes.fromhex(given["grant_secret"]), given["direction"], environment)


def _read_segment(given: Given) -> Any:
    contents = segment.unpack(*_opened(given))
    vouchers = {str(row): [one.receipt_ms, one.origin, one.tag.hex()] for row, one in contents.vouchers.items()}
    ids = [one.id.hex() if isinstance(one, Change) else one.code for one in contents.outcomes]
    return {"changes": ids, "vouchers": vouchers}


def _read_grant(given: Given) -> Any:
    grant = keys.open_grant(
        bytes.fromhex(given["frame"]),
        Verifier(bytes.fromhex(given["maker_key"])),
        Recipient.from_seeds(bytes.fromhex(given["recipient_seeds"])),
        EnvironmentId(bytes.fromhex(given["environment"])),
    )
    key = grant.key.hex()
    return {"grant": grant.id.hex(), "secret": grant.secret.hex(), "direction": grant.direction, "segment_key": key}


def _read_signed(given: Given) -> Any:
    shapes: dict[str, type[Any]] = {"hello": Hello, "heads": Heads, "notice": Notice}
    key, environment = Verifier(bytes.fromhex(given["key"])), EnvironmentId(bytes.fromhex(given["environment"]))
    message = wire.verify_signed(bytes.fromhex(given["payload"]), shapes[given["shape"]], key, environment)
    return {part: told(value) for part, value in msgspec.structs.asdict(message).items()}


def _read_stream(given: Given) -> Any:
    reader = FrameReader()
    frames = reader.feed(bytes.fromhex(given["stream"]))
    reader.finish()
    return [[int(frame.type), frame.payload.hex()] for frame in frames]


def _read_page(given: Given) -> Any:
    return told_page(feed_page.decode(bytes.fromhex(given["plain"])))


def _read_sealed_page(given: Given) -> Any:
    return told_page(feed_page.open_(*_opened(given)))


def _read_slip(given: Given) -> Any:
    key, environment = Verifier(bytes.fromhex(given["key"])), EnvironmentId(bytes.fromhex(given["environment"]))
    summary = slip.parse(given["text"]).verify(key, environment)
    return {name: told(value) for name, value in msgspec.structs.asdict(summary).items()}


READERS: Final[dict[str, Callable[[Given], Any]]] = {
    "canonical": _read_canonical,
    "change": _read_change,
    "merge": _read_merge,
    "block": _read_block,
    "segment": _read_segment,
    "grant": _read_grant,
    "signed": _read_signed,
    "stream": _read_stream,
    "page": _read_page,
    "sealed page": _read_sealed_page,
    "slip": _read_slip,
}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_a_vector_holds(path: Any) -> None:
    vector = json.loads(path.read_text())
    read = READERS[vector["of"]]
    if vector["must"] == "ok":
        assert read(vector["input"]) == vector["expect"]
        return
    with pytest.raises(WORDS[vector["must"]]) as caught:
        read(vector["input"])
    assert (caught.value.code == "E_BAD_SEAL") == (vector["must"] == "bad seal")


@pytest.mark.parametrize("vector", every(), ids=lambda vector: vector.name)
def test_a_vector_is_there_and_what_repeats_is_made_the_same(vector: Vector) -> None:
    """A difference here means that the format has changed: is that meant? Then: python -m tests.make_vectors"""
    text = (FOLDER / f"{vector.name}.json").read_text()
    if vector.repeats:
        assert text == vector.text()


def test_every_vector_has_its_scenario_in_the_script() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == {vector.name for vector in every()}
