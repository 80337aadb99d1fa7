"""Writes the test vectors of `tests/vectors`: one scenario a file, for whoever writes a second implementation.

A file has a header: `scenario` (a sentence), `of` (what is read), `must` ("ok", or the word of the error that must be
raised), and then `input` and `expect`, with bytes as hex. What a compressor or a sealing made is not repeatable
(`repeats: false`): such a file is written once and kept, so that old bytes stay readable; `--anew` writes all.
Everything else is made the same each time, and `test_vectors.py` holds that it is.

    python -m tests.make_vectors [--anew]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from sync_protocol import canonical, codec, envelope, feed_page, keys, merge, segment, slip, wire
from sync_protocol import change as changes
from sync_protocol.canonical import Value
from sync_protocol.change import Change, FacilityCode, NodeId, PatientId, PersonId, RecordId, RecordKey
from sync_protocol.envelope import EnvelopeId, Header
from sync_protocol.feed_page import Cursor, Item, Position, Reference
from sync_protocol.keys import TO_HUB, TO_NODE, EnvironmentId, Grant, Identity, Recipient
from sync_protocol.merge import Held
from sync_protocol.schema import Writer
from sync_protocol.segment import Voucher
from sync_protocol.wire import Frame, FrameType, Heads, Hello, Notice, NoticeKind

FOLDER: Final = Path(__file__).resolve().parent / "vectors"

ENVIRONMENT: Final = EnvironmentId(bytes(range(16)))
NODE: Final = NodeId(b"\x11" * 16)
HUB: Final = NodeId(b"\x22" * 16)
NODE_SEED: Final = b"\x01" * 32
HUB_SEED: Final = b"\x02" * 32
GRANT_SECRET: Final = b"\x03" * 32
INGEST_SEEDS: Final = b"\x04" * 96
OTHER_SEEDS: Final = b"\x05" * 96
NONCE: Final = bytes(range(12))
PATIENT: Final = PatientId(bytes.fromhex("018f00000000700080000000000000aa"))
CASE: Final = RecordId(bytes.fromhex("018f00000001700080000000000000bb"))
VITALS: Final = RecordId(bytes.fromhex("018f00000002700080000000000000cc"))
PERSON: Final = PersonId(b"\x33" * 16)
SALT: Final = b"\x44" * 16
TIME_MS: Final = 1_700_000_000_000
YEAR_2098_MS: Final = 4_070_908_800_000

NODE_KEY: Final = Identity(NODE_SEED)
HUB_KEY: Final = Identity(HUB_SEED)
GRANT: Final = Grant(GRANT_SECRET, TO_HUB, ENVIRONMENT)
HUB_GRANT: Final = Grant(GRANT_SECRET, TO_NODE, ENVIRONMENT)


@dataclass(frozen=True, slots=True)
class Vector:
    """One file. must: "ok" or an error's word (`test_vectors.WORDS`)."""

    name: str
    scenario: str
    of: str
    must: str
    input: dict[str, Any]
    expect: Any = None
    repeats: bool = True

    def text(self) -> str:
        shown = {name: getattr(self, name) for name in ("scenario", "of", "must", "repeats", "input", "expect")}
        if self.must != "ok":
            del shown["expect"]
        return json.dumps(shown, indent=1, ensure_ascii=False) + "\n"


def told(value: Value) -> Any:
    """A value in JSON that keeps its type: bytes as {"hex"}, floats as {"float"}, maps as {"map"}."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, float):
        return {"float": repr(value)}
    if isinstance(value, dict):
        return {"map": {name: told(inner) for name, inner in value.items()}}
    if isinstance(value, list):
        return [told(inner) for inner in value]
    return value


def told_change(change: Change) -> dict[str, Any]:
    """A change as its parts."""
    parts = {name: told(getattr(change, name)) for name in ("id", "kind", "record", "patient", "facility", "node")}
    parts |= {name: told(getattr(change, name)) for name in ("person", "hlc", "after", "salt")}
    supersedes = {name: [one.hex() for one in ids] for name, ids in change.supersedes.items()}
    return parts | {"writes": told(change.writes), "supersedes": supersedes}


def _change(
    key: RecordKey, writes: dict[str, Value], *superseded: Change, hlc_ms: int = TIME_MS, after: int = 0
) -> Change:
    return changes.make(
        kind=key.kind,
        record=key.record,
        patient=PATIENT,
        facility=FacilityCode("HWC000001"),
        node=NODE,
        person=PERSON,
        hlc=hlc_ms << 16,
        after=after,
        salt=SALT,
        writes=writes,
        supersedes={name: [one.id for one in superseded if name in one.writes] for name in writes},
    )


KEY: Final = RecordKey("case", CASE)
FIRST: Final = _change(KEY, {"plan": "rest", "complaints/cough": {"present": True}})
SECOND: Final = _change(KEY, {"plan": "refer"}, hlc_ms=TIME_MS + 1)
RESOLVED: Final = _change(KEY, {"plan": "refer today"}, FIRST, SECOND, hlc_ms=TIME_MS + 2, after=TIME_MS)
MEASURED: Final = _change(
    RecordKey("vitals", VITALS),
    {"case": CASE, "temperature_c": 38.4, "blood_pressure": {"systolic_mmhg": 120, "diastolic_mmhg": 80}},
)
NEWER: Final = changes.parse(canonical.encode(canonical.decode(FIRST.raw) | {"zz_of_2030": [1, "दवा"]}))
BATCH: Final = [FIRST, SECOND, RESOLVED, MEASURED, NEWER]


# -- values and changes ------------------------------------------------------------------------------------------------


def _canonical() -> Iterator[Vector]:
    values: list[Value] = [
        None,
        True,
        0,
        127,
        128,
        -1,
        -33,
        1 << 40,
        (1 << 64) - 1,
        -(1 << 63),
        0.1,
        -1.5,
        "",
        "é",
        "மருந்து",
        b"\x00\xff",
        [1, [2]],
        {"a": 1, "b": {"aa": 1, "é": 2}},
    ]
    pairs = [{"bytes": canonical.encode(value).hex(), "value": told(value)} for value in values]
    yield Vector("canonical-values", "each value has this one encoding", "canonical", "ok", {}, pairs)
    wrong = {
        "integral-float": ("a float whose value is integral", "cb4042800000000000"),
        "negative-zero": ("a negative zero", "cb8000000000000000"),
        "not-a-number": ("a float that is no number", "cb7ff8000000000000"),
        "long-integer": ("an integer that is longer than it has to be", "cc05"),
        "keys-out-of-order": ("a map whose keys are out of order", "82a16201a16102"),
        "key-twice": ("a map with a key twice", "82a16101a16102"),
        "key-no-text": ("a map with a key that is no text", "810102"),
        "not-nfc": ("text that is not in NFC", "a365cc81"),
        "extension": ("an extension type", "d6ff00000000"),
        "nested-deep": ("values nested nine levels deep", "91" * 9 + "01"),
    }
    for name, (scenario, raw) in wrong.items():
        yield Vector(f"canonical-{name}", scenario, "canonical", "not canonical", {"bytes": raw})
    yield Vector("canonical-cut-short", "bytes that end too early", "canonical", "malformed", {"bytes": "92a161"})


def _changes() -> Iterator[Vector]:
    for name, change, scenario in (
        ("plain", FIRST, "a change; its id is the hash of its bytes"),
        ("resolution", RESOLVED, "a change that supersedes two others"),
        ("newer", NEWER, "a change of a newer program: keys that are not known are kept in its bytes"),
    ):
        yield Vector(f"change-{name}", scenario, "change", "ok", {"bytes": change.raw.hex()}, told_change(change))
    plain = canonical.decode(FIRST.raw)
    wrong: dict[str, tuple[str, str, dict[str, Value]]] = {
        "short-id": ("malformed", "an id that is not 16 bytes", {"node": b"short"}),
        "no-facility": ("malformed", "a facility code with a slash", {"facility": "a/b"}),
        "nothing-written": ("malformed", "a change that says nothing", {"writes": {}}),
        "unsorted-names": (
            "not canonical",
            "superseded names out of order",
            {"supersedes": {"plan": [b"b" * 16, b"a" * 16]}},
        ),
        "too-many-fields": (
            "too large",
            "more fields than a change may write",
            {"writes": {str(at): 1 for at in range(257)}},
        ),
    }
    for name, (must, scenario, altered) in wrong.items():
        raw = canonical.encode(plain | altered)
        yield Vector(f"change-{name}", scenario, "change", must, {"bytes": raw.hex()})
    yield Vector(
        "change-cut-short", "a change that ends too early", "change", "malformed", {"bytes": FIRST.raw[:-1].hex()}
    )


# -- merging -----------------------------------------------------------------------------------------------------------


def told_record(key: RecordKey, held: list[Held]) -> dict[str, Any]:
    """What a record shows, and its part of the digest."""
    record = merge.fold(key, held)
    fields = {
        name: {
            "value": told(shown.value),
            "live": [one.hex() for one in shown.names],
            "conflict": shown.conflict,
            "policy": shown.policy.value,
        }
        for name in record.fields
        if (shown := record.shown(name)) is not None
    }
    return {"fields": fields, "dangling": record.dangling, "digest": merge.digest_text(merge.digest(record))}


def _merges() -> Iterator[Vector]:
    patient, referral = RecordKey("patient", RecordId(PATIENT)), RecordKey("referral", CASE)
    phones = [
        Held(_change(patient, {"phone": "1"}, hlc_ms=YEAR_2098_MS), TIME_MS),
        Held(_change(patient, {"phone": "2"}, hlc_ms=TIME_MS + 50), TIME_MS + 100),
        Held(_change(patient, {"phone": "3"}, hlc_ms=0, after=TIME_MS - 5), TIME_MS + 200),
    ]
    allergies = [
        Held(_change(patient, {"allergies/latex": {"present": True}}), 5),
        Held(_change(patient, {"allergies/latex": {"present": False}}, hlc_ms=TIME_MS + 1), 6),
        Held(_change(patient, {"allergies_status": "none_known"}, hlc_ms=TIME_MS + 2), 7),
        Held(_change(patient, {"allergies_status": "listed"}, hlc_ms=TIME_MS + 3)),
    ]
    urgencies = [
        Held(_change(referral, {"urgency": urgency}, hlc_ms=TIME_MS + at), TIME_MS + at)
        for at, urgency in enumerate(("emergency", "routine", "at once"))
    ]
    scenarios: list[tuple[str, str, RecordKey, list[Held]]] = [
        ("conflict", "two live writes under review that differ are a conflict", KEY, [Held(FIRST, 10), Held(SECOND, 11)]),
        ("resolved", "a change that names both settles it", KEY, [Held(RESOLVED, 12), Held(SECOND, 11), Held(FIRST, 10)]),
        ("dead-on-arrival", "what arrives already named does not live", KEY, [Held(RESOLVED), Held(FIRST, 10)]),
        ("repeated", "a change that arrives twice is one, with the earlier receipt", KEY,
         [Held(FIRST), Held(FIRST, 20), Held(FIRST, 10)]),
        ("clocks", "a receipt bounds a clock of 2098; the hub's time lifts one of 1970", patient, phones),
        ("present", "an element is there if any live write says so; the most cautious status is shown", patient, allergies),
        ("highest", "the highest urgency of the declared order is shown", referral, urgencies),
    ]  # fmt: skip
    for name, scenario, key, held in scenarios:
        given = [{"bytes": one.change.raw.hex(), "receipt": one.receipt_ms} for one in held]
        about = {"kind": key.kind, "record": key.record.hex(), "changes": given}
        yield Vector(f"merge-{name}", scenario, "merge", "ok", about, told_record(key, held))


# -- blocks, envelopes, segments ---------------------------------------------------------------------------------------


def _blocks() -> Iterator[Vector]:
    block = codec.pack(BATCH, NODE)
    expect = [one.raw.hex() for one in BATCH]
    given = {"block": block.hex(), "sender": NODE.hex()}
    yield Vector("block-changes", "changes in columns come back byte for byte", "block", "ok", given, expect)
    cut = given | {"block": block[:-1].hex()}
    yield Vector("block-cut-short", "a block that ends too early", "block", "malformed", cut)
    parts = msgspec.msgpack.decode(block)
    many = msgspec.msgpack.encode([codec.MAX_CHANGES + 1, *parts[1:]])
    yield Vector(
        "block-too-many", "a block that announces too much", "block", "too large", given | {"block": many.hex()}
    )
    torn = msgspec.msgpack.encode([*parts[:-2], [], parts[-1]])
    yield Vector("block-torn", "a block without its columns", "block", "malformed", given | {"block": torn.hex()})


def _opening(raw: bytes, **altered: Any) -> dict[str, Any]:
    """What a receiver of an envelope has."""
    opening = {
        "envelope": raw.hex(),
        "environment": ENVIRONMENT.hex(),
        "sender_key": NODE_KEY.public.hex(),
        "grant_secret": GRANT_SECRET.hex(),
        "direction": TO_HUB,
    }
    return opening | altered


def _seal(plain: bytes, dictionary: int = 0, plain_size: int | None = None) -> bytes:
    size = len(plain) if plain_size is None else plain_size
    header = Header(segment.LANE_REST, dictionary, NODE, GRANT.id, size, NONCE)
    return envelope.seal(header, segment.compress(plain, dictionary), GRANT, NODE_KEY).raw


def _segments() -> Iterator[Vector]:
    vouchers = {SECOND.id: Voucher(TIME_MS, 1, bytes(8))}
    expect = {"changes": [one.id.hex() for one in BATCH], "vouchers": {"1": [TIME_MS, 1, bytes(8).hex()]}}
    raws = {
        dictionary: segment.pack(
            BATCH, 1 << 16, lane=2, grant=GRANT, sender=NODE, signer=NODE_KEY, nonce=NONCE, dictionary=dictionary,
            vouchers=vouchers,
        ).envelope.raw
        for dictionary in (segment.NO_DICTIONARY, segment.CURRENT_DICTIONARY)
    }  # fmt: skip
    for dictionary, raw in raws.items():
        scenario = f"a segment with dictionary {dictionary}, and a voucher of the hub's"
        yield Vector(f"segment-dictionary-{dictionary}", scenario, "segment", "ok", _opening(raw), expect, False)
    raw = raws[0]
    at = len(raw) // 2
    flipped = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
    claim = raw[:37] + (200_000_000).to_bytes(4, "big") + raw[41:]
    wrong: list[tuple[str, str, str, dict[str, Any]]] = [
        ("flipped", "bad signature", "a segment with one bit flipped", _opening(flipped)),
        ("of-another", "bad signature", "a segment signed by another", _opening(raw, sender_key=HUB_KEY.public.hex())),
        ("environment", "bad signature", "a segment of another environment", _opening(raw, environment=bytes(16).hex())),
        ("cut-short", "bad signature", "a segment cut short", _opening(raw[:-1])),
        ("header-only", "truncated", "a segment cut within its header", _opening(raw[:30])),
        ("version", "unsupported", "an envelope of a later version", _opening(b"\x02" + raw[1:])),
        ("claim", "too large", "a header that claims 200 MB", _opening(claim)),
        ("grant", "missing grant", "a segment whose grant is not here", _opening(raw, grant_secret=bytes(32).hex())),
        ("direction", "bad seal", "a grant of the other direction", _opening(raw, direction=TO_NODE)),
        ("dictionary", "unsupported", "a dictionary that nobody has", _opening(_sealed_with_dictionary(999))),
        ("bomb", "malformed", "more bytes inside than the header states", _opening(_seal(bytes(3_000_000), plain_size=100))),
        ("nested", "malformed", "contents nested 100,000 deep", _opening(_seal(b"\x91" * 100_000 + b"\xc0"))),
    ]  # fmt: skip
    for name, must, scenario, given in wrong:
        yield Vector(f"segment-{name}", scenario, "segment", must, given, repeats=False)


def _sealed_with_dictionary(number: int) -> bytes:
    header = Header(segment.LANE_REST, number, NODE, GRANT.id, 5, NONCE)
    return envelope.seal(header, segment.compress(b"bytes", 0), GRANT, NODE_KEY).raw


# -- grants ------------------------------------------------------------------------------------------------------------


def _grants() -> Iterator[Vector]:
    """HPKE draws its own randomness: these bytes were made once."""
    ingest = Recipient.from_seeds(INGEST_SEEDS)
    frame = keys.seal_grant(GRANT, NODE, NODE_KEY, ingest.public, keys.ROLE_INGEST, TIME_MS, keys.hpke_seal)
    given = {
        "frame": frame.hex(),
        "environment": ENVIRONMENT.hex(),
        "maker_key": NODE_KEY.public.hex(),
        "recipient_seeds": INGEST_SEEDS.hex(),
    }
    expect = {
        "grant": GRANT.id.hex(),
        "secret": GRANT_SECRET.hex(),
        "direction": TO_HUB,
        "segment_key": GRANT.key.hex(),
    }
    yield Vector("grant-opens", "a grant, sealed to the hub's ingest key", "grant", "ok", given, expect, False)
    parts, _, _ = keys.read_document(frame, keys.GrantFrame)
    moved = keys.sign_document(msgspec.structs.replace(parts, role=keys.ROLE_RECOVERY), NODE_KEY, ENVIRONMENT)
    flipped = frame[:-1] + bytes([frame[-1] ^ 1])
    for name, must, scenario, altered in (
        ("recipient", "wrong recipient", "a grant for another key", {"recipient_seeds": OTHER_SEEDS.hex()}),
        ("moved", "wrong recipient", "a grant that its maker moved to another role", {"frame": moved.hex()}),
        ("flipped", "bad signature", "a grant with a bit flipped", {"frame": flipped.hex()}),
        ("environment", "bad signature", "a grant of another environment", {"environment": bytes(16).hex()}),
        ("cut-short", "malformed", "a grant that ends too early", {"frame": frame[:70].hex()}),
    ):
        yield Vector(f"grant-{name}", scenario, "grant", must, given | altered, repeats=False)


# -- frames and pages --------------------------------------------------------------------------------------------------

HELLO: Final = Hello(
    1,
    ENVIRONMENT,
    NODE,
    wire.feed_place(7, b"\x07" * 16),
    b"a nonce",
    b"envelope",
    GRANT.id,
    4096,
    TIME_MS,
    TIME_MS << 16,
)
HEADS: Final = Heads(
    1, b"\x08" * 16, b"envelope", b"", wire.feed_place(9, b"\x09" * 16), TIME_MS, b"fresh", b"an epoch"
)
NOTICE: Final = Notice(NoticeKind.QUARANTINED, b"\x08" * 16, b"envelope", [1, 3], "E_NOT_ALLOWED", 0)


def _frames() -> Iterator[Vector]:
    signed = (
        ("hello", HELLO, wire.sign(HELLO, NODE_KEY, ENVIRONMENT), NODE_KEY),
        ("heads", HEADS, wire.sign(HEADS, HUB_KEY, ENVIRONMENT), HUB_KEY),
        ("notice", NOTICE, wire.sign(NOTICE, HUB_KEY, ENVIRONMENT), HUB_KEY),
    )
    for name, message, frame, key in signed:
        payload = frame.payload
        given = {"shape": name, "payload": payload.hex(), "environment": ENVIRONMENT.hex(), "key": key.public.hex()}
        expect = {part: told(value) for part, value in msgspec.structs.asdict(message).items()}
        yield Vector(f"signed-{name}", f"a {name}, signed", "signed", "ok", given, expect)
        flipped = given | {"payload": (bytes([payload[0] ^ 1]) + payload[1:]).hex()}
        yield Vector(f"signed-{name}-flipped", f"a {name} with a bit flipped", "signed", "bad signature", flipped)
        cut = given | {"payload": payload[:60].hex()}
        yield Vector(f"signed-{name}-cut-short", f"a {name} cut short", "signed", "truncated", cut)
    frames = [Frame(FrameType.HELLO, b"hello"), Frame(FrameType.SEGMENT, bytes(200)), Frame(FrameType.FEED, b"")]
    later = b"\x63\x03abc"
    stream = wire.PREAMBLE + wire.encode(frames[0]) + later + b"".join(map(wire.encode, frames[1:]))
    read = [[int(frame.type), frame.payload.hex()] for frame in frames]
    scenario = "a stream of frames; a type of a later version is skipped"
    yield Vector("stream-frames", scenario, "stream", "ok", {"stream": stream.hex()}, read)
    portal = b"<!DOCTYPE html><title>Sign in</title>"
    for name, must, scenario, raw in (
        ("portal", "not our answer", "a captive portal's page", portal),
        ("cut-short", "truncated", "a stream cut within a frame", stream[:100]),
        ("too-large", "too large", "a segment's frame of a length over its limit", wire.PREAMBLE + b"\x03\xff\xff\x7f"),
        ("endless-length", "malformed", "a length of more than four bytes", wire.PREAMBLE + b"\x03" + b"\x80" * 5),
    ):
        yield Vector(f"stream-{name}", scenario, "stream", must, {"stream": raw.hex()})


def told_page(page: feed_page.Page) -> dict[str, Any]:
    items = []
    for item in page.items:
        body = {"change": item.body.id.hex()} if isinstance(item.body, Change) else _told_body(item.body)
        one = {
            "position": item.position,
            "receipt": item.receipt_ms,
            "origin": item.origin.value,
            "tag": item.tag.hex(),
        }
        items.append(body | one)
    before, after = page.before, page.after
    return {"before": [before.position, before.hash.hex()], "items": items, "after": [after.position, after.hash.hex()]}


def _told_body(body: object) -> dict[str, Any]:
    if isinstance(body, Reference):
        return {"segment": body.segment.hex(), "row": body.index}
    return {"error": type(body).__name__}


def _pages() -> Iterator[Vector]:
    start = Cursor(Position(6), b"\x07" * 16)
    bodies: list[Change | Reference] = [Reference(EnvelopeId(b"envelope"), row) for row in (0, 1)]
    bodies += [SECOND, RESOLVED]
    origins = [Writer.CENTRE, Writer.CENTRE, Writer.CENTRE, Writer.DOCTOR]
    items = [
        Item(Position(7 + at), body, TIME_MS + at // 2, origin, bytes([at] * 8))
        for at, (body, origin) in enumerate(zip(bodies, origins, strict=True))
    ]
    plain = feed_page.encode(start, items)
    expect = told_page(feed_page.decode(plain))
    yield Vector("page-plain", "two references and two full copies", "page", "ok", {"plain": plain.hex()}, expect)
    sealed = feed_page.seal(start, items, grant=HUB_GRANT, sender=HUB, signer=HUB_KEY, nonce=NONCE).raw
    given = _opening(sealed, sender_key=HUB_KEY.public.hex(), direction=TO_NODE)
    yield Vector("page-sealed", "the same page, sealed to a node", "sealed page", "ok", given, expect, False)
    yield Vector(
        "page-of-another", "a page that the hub did not sign", "sealed page", "bad signature",
        given | {"sender_key": NODE_KEY.public.hex()}, repeats=False,
    )  # fmt: skip
    yield Vector("page-cut-short", "a page cut short", "page", "malformed", {"plain": plain[:-1].hex()})
    first, before, runs = msgspec.msgpack.decode(plain)
    wrong = msgspec.msgpack.encode([0, before, runs])
    yield Vector("page-position-0", "a page that starts before its feed", "page", "malformed", {"plain": wrong.hex()})
    torn = msgspec.msgpack.encode([first, before, [[*runs[0][:3], 9, *runs[0][4:]]]])
    yield Vector("page-torn", "a page whose columns differ in length", "page", "malformed", {"plain": torn.hex()})


# -- slips -------------------------------------------------------------------------------------------------------------

SUMMARY: Final = slip.Summary(
    slip.VERSION,
    CASE,
    PATIENT,
    "HWC000001",
    NODE,
    TIME_MS,
    "आशा देवी",
    412,
    True,
    "F",
    "emergency",
    "obstetrics",
    "bleeding since morning",
    ["penicillin"],
    [90, 60, 118, 24, 37.4, 96, None, None, None, 8.1],
    TIME_MS - 600_000,
)


def _slip_of(said: list[Any], signer: Identity = NODE_KEY) -> str:
    body = msgspec.msgpack.encode(said)
    return slip.PREFIX + slip.base45(signer.sign(slip.PURPOSE, ENVIRONMENT, body) + body)


def _slips() -> Iterator[Vector]:
    text = slip.sign(SUMMARY, NODE_KEY, ENVIRONMENT)
    given = {"text": text, "environment": ENVIRONMENT.hex(), "key": NODE_KEY.public.hex()}
    expect = {name: told(value) for name, value in msgspec.structs.asdict(SUMMARY).items()}
    yield Vector("slip-plain", "a slip of a referral", "slip", "ok", given, expect)
    yield Vector("slip-typed", "the same in the other case", "slip", "ok", given | {"text": text.lower()}, expect)
    said = msgspec.to_builtins(SUMMARY, builtin_types=(bytes,))
    newer = {"text": _slip_of([*said, "of a later program"])}
    yield Vector("slip-newer", "a slip with an element more", "slip", "ok", given | newer, expect)
    wrong: dict[str, tuple[str, str, dict[str, str]]] = {
        "flipped": ("bad signature", "a slip with a letter of its signature changed", {"text": _next_letter(text, 8)}),
        "of-another": ("bad signature", "a slip signed by another", {"text": _slip_of(said, HUB_KEY)}),
        "environment": ("bad signature", "a slip of another environment", {"environment": bytes(16).hex()}),
        "cut-short": ("malformed", "a slip cut short", {"text": text[:-2]}),
        "no-slip": ("malformed", "a code of something else", {"text": f"HC1:{text[5:]}"}),
        "version": ("unsupported", "a slip of a later version", {"text": f"HSR2:{text[5:]}"}),
        "body-version": ("unsupported", "a summary of a later version", {"text": _slip_of([2, *said[1:]])}),
        "too-long": ("too large", "a slip with more letters than a slip has", {"text": text + "0" * 600}),
        "shape": ("malformed", "a summary whose name is no text", {"text": _slip_of([*said[:6], 7, *said[7:]])}),
        "not-canonical": (
            "not canonical",
            "a summary that is not canonical",
            {"text": _slip_of([*said[:14], [37.0], 0])},
        ),
    }
    for name, (must, scenario, altered) in wrong.items():
        yield Vector(f"slip-{name}", scenario, "slip", must, given | altered)


def _next_letter(text: str, at: int) -> str:
    return text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]


def every() -> list[Vector]:
    """All vectors, each made anew."""
    made = (_canonical(), _changes(), _merges(), _blocks(), _segments(), _grants(), _frames(), _pages(), _slips())
    return [vector for group in made for vector in group]


def main(arguments: list[str]) -> int:
    FOLDER.mkdir(exist_ok=True)
    for vector in every():
        path = FOLDER / f"{vector.name}.json"
        if vector.repeats or "--anew" in arguments or not path.exists():
            path.write_text(vector.text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
