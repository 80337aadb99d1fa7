"""PROTOCOL.md agrees with the code: its numbers, tables and examples are read out of it and compared.

Where the text gives a formula, it is carried out here from the text alone, with a library's primitives and none of
ours, against the test vectors.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib
import json
import re
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given

import sync_protocol
from sync_protocol import change as changes
from sync_protocol import codec, envelope, feed_page, keys, referral, schema, slip, wire
from sync_protocol.change import Change
from sync_protocol.schema import Field, Kind, Writer
from tests.make_vectors import FOLDER, GRANT, GRANT_SECRET, INGEST_SEEDS, NODE_SEED
from tests.protocol.test_vectors import READERS, WORDS
from tests.strategies import NODE, batches

ROOT: Final = Path(__file__).resolve().parent.parent.parent
PACKAGES: Final = ("sync_protocol", "hwc_node", "hub_server")
TEXT: Final = (ROOT / "sync_protocol" / "PROTOCOL.md").read_text(encoding="utf-8")
IN_EVERY_KIND: Final = frozenset("at resolution_note entered_in_error corrects correction_reason".split())
WIRE_SHAPES: Final[dict[str, type[msgspec.Struct]]] = {"hello": wire.Hello, "heads": wire.Heads, "notice": wire.Notice}


def table(name: str) -> list[list[str]]:
    """The cells of the table behind ``<!-- name -->``, without its two lines of heading."""
    behind = TEXT.split(f"<!-- {name} -->\n", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in behind.splitlines()[2:]]


def code(cell: str) -> str:
    """The one name in backticks."""
    return re.fullmatch(r"`([^`]+)`", cell).group(1)  # type: ignore[union-attr]  # a cell of another form fails here


def example(name: str) -> list[str]:
    """The lines of the example behind its mark."""
    return TEXT.split(f"<!-- example: {name} -->\n```\n", 1)[1].split("\n```", 1)[0].splitlines()


def hex_of(lines: list[str]) -> bytes:
    """The bytes that stand before the remarks: groups of an even number of hexadecimal digits."""
    groups = (re.match(r"\s*((?:(?:[0-9a-f]{2})+(?:\s+|$))+)", line) for line in lines)
    return bytes.fromhex("".join(re.sub(r"\s", "", found.group(1)) for found in groups if found))


def vector(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return read


# -- sections ----------------------------------------------------------------------------------------------------------


def test_the_sections_stand_in_order() -> None:
    assert [int(one) for one in re.findall(r"^## §(\d+) ", TEXT, re.MULTILINE)] == list(range(1, 17))


def test_every_section_that_the_code_cites_exists() -> None:
    there = set(re.findall(r"^##+ §([\d.]+) ", TEXT, re.MULTILINE))
    cited = {
        (file.name, section)
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        for group in re.findall(r"PROTOCOL\.md ((?:§[\d.]*\d(?:,? and |, )?)+)", file.read_text(encoding="utf-8"))
        for section in re.findall(r"§([\d.]*\d)", group)
    }
    own = {("the text itself", one) for one in re.findall(r"§(\d+(?:\.\d+)?)", TEXT)}
    assert len(cited) > 10
    assert {one for one in cited | own if one[1] not in there} == set()


def test_the_map_of_the_package_names_every_module() -> None:
    folder = ROOT / "sync_protocol"
    named = re.findall(r"^    ([a-z_]+) {2,}\S", sync_protocol.__doc__ or "", re.MULTILINE)
    rooms = [file.stem for file in folder.glob("*.py") if file.stem != "__init__"]
    rooms += [file.parent.name for file in folder.glob("*/__init__.py")]
    assert sorted(named) == sorted(rooms)


# -- tables ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", table("limits"), ids=lambda row: str(row[0]).strip("`"))
def test_a_limit_has_the_value_that_the_code_has(row: list[str]) -> None:
    module, _, name = code(row[0]).rpartition(".")
    found = getattr(importlib.import_module(module if module.startswith(PACKAGES) else f"sync_protocol.{module}"), name)
    assert row[1] == (", ".join(map(str, found)) if isinstance(found, tuple) else str(found))
    assert row[2] in ("format", "ours")
    assert row[3]


def test_every_limit_of_the_protocol_is_in_the_table() -> None:
    told = {code(row[0]) for row in table("limits")} | {"wire.MAX_PAYLOAD_BYTES"}  # which is the table of frames
    there = {
        f"{file.stem}.{name}"
        for file in (ROOT / "sync_protocol").glob("*.py")
        for name in re.findall(r"^(_?(?:MAX|MIN)_[A-Z_]+)\b", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert there - told == set()


def test_the_frames_have_their_numbers_and_limits() -> None:
    told = {code(row[1]): (int(row[0]), int(row[4])) for row in table("frames")}
    assert told == {one.name: (one.value, wire.MAX_PAYLOAD_BYTES[one]) for one in wire.FrameType}


def test_the_notices_have_their_numbers() -> None:
    assert {code(row[1]): int(row[0]) for row in table("notices")} == {one.name: one.value for one in wire.NoticeKind}


@pytest.mark.parametrize(("name", "required"), [("hello", 10), ("heads", 8), ("notice", 2)])
def test_a_signed_structure_has_its_elements_in_order(name: str, required: int) -> None:
    rows, fields = table(name), msgspec.structs.fields(WIRE_SHAPES[name])
    assert [(int(row[0]), code(row[1])) for row in rows] == list(enumerate(field.name for field in fields))
    assert sum(field.required for field in fields) == required


@pytest.mark.parametrize(
    ("told", "shape", "words"),
    [
        ("Certificate", keys.Certificate, "version environment node facility name signing_key sealing_key issued_ms"),
        (
            "HubKeys",
            keys.HubKeys,
            "version environment hub root_key signing_key recipients serial issued_ms",
        ),
        ("EnrolmentRequest", keys.EnrolmentRequest, "version code_secret node name signing_key sealing_key"),
    ],
)
def test_a_document_has_its_elements(told: str, shape: type[msgspec.Struct], words: str) -> None:
    """Their order is the code's; the text names as many."""
    assert [field.name for field in msgspec.structs.fields(shape)] == words.split()
    row = re.search(rf"^\| {told} \| (.*) \|$", TEXT, re.MULTILINE)
    assert row is not None
    assert len(re.sub(r"\([^)]*\)|`[^`]*`", "", row.group(1)).split(",")) == len(words.split())


def test_a_slip_has_its_elements_in_order() -> None:
    told = [(int(row[0]), code(row[1])) for row in table("slip")]
    assert told == list(enumerate(field.name for field in msgspec.structs.fields(slip.Summary)))


def test_the_block_has_its_elements_in_order() -> None:
    told = [(int(row[0]), row[1]) for row in table("block")]
    assert told == list(enumerate(field.name for field in msgspec.structs.fields(codec._Block)))


def test_the_purposes_are_those_that_are_signed() -> None:
    told = {name for row in table("purposes") for name in re.findall(r"`([a-z ]+)`", row[0])}
    assert told == {*keys._PURPOSE.values(), *wire._PURPOSE.values(), envelope._PURPOSE, slip.PURPOSE}


def test_the_kinds_have_their_writers() -> None:
    def told(kind: Kind) -> list[str]:
        writers = ", ".join(sorted(one.value for one in kind.writers))
        return [f"`{kind.name}`", writers, *("yes" if one else "no" for one in (kind.immutable, kind.opens_scope))]

    assert table("kinds") == [told(kind) for kind in schema.KINDS.values()]
    assert [writer.value for writer in Writer] == re.findall(r"^\| `(\w+)` \| [012] \| ", TEXT, re.MULTILINE)
    assert tuple(feed_page._ORIGINS) == tuple(Writer)


def test_the_fields_have_their_types_policies_and_limits() -> None:
    told: dict[tuple[str, str], tuple[bool, str, str, str]] = {}
    for kind, names, *rest in table("fields"):
        for name, required in re.findall(r"`(\w+)`(!?)", names):
            told[code(kind), name] = (bool(required), rest[0], rest[1], rest[2])
    there = {(kind.name, name): row for kind in schema.KINDS.values() for name, row in kind.fields.items()}
    assert set(told) == {key for key in there if key[1] not in IN_EVERY_KIND}
    for key, (required, type_, policy, limits) in told.items():
        row = there[key]
        assert (required, type_, policy) == (row.required, row.type.value, row.policy.value), key
        assert limits == _limits(row), key


def _limits(row: Field) -> str:
    said = []
    if row.choices:
        said.append("from least to most cautious " * bool(row.order) + " ".join(f"`{one}`" for one in row.choices))
    if row.low is not None and row.high is not None:
        high = f"{row.high:g}" if row.high < 1e6 else str(row.high)
        said.append(f"{row.low:g} to {high} {row.unit}".strip())
    characters = {"text": "{} characters", "coded": "{} characters a part", "element": "details {} characters"}
    if row.type.value in characters:
        said.append(characters[row.type.value].format(row.max_chars))
    parts = []
    for part in row.parts:
        inner = _limits(part)
        parts.append(f"`{part.name}`{'!' * part.required} ({part.type.value}{': ' * bool(inner)}{inner})")
    return "; ".join([*said, *([", ".join(parts)] if parts else [])])


def test_the_statuses_stand_in_their_precedence() -> None:
    assert [code(row[0]) for row in table("statuses")] == [one.value for one in referral.Status]


def test_the_vectors_are_described() -> None:
    assert {code(row[0]) for row in table("of")} == set(READERS)
    words = {code(row[0]): re.findall(r"`(E_\w+)`", row[1]) for row in table("words")}
    assert set(words) == set(WORDS)
    for word, error in WORDS.items():
        assert word == "bad seal" or error.default_code in words[word], word


def test_the_dictionary_is_the_one_that_the_text_names() -> None:
    raw = (ROOT / "sync_protocol" / "dictionaries" / "1.zdict").read_bytes()
    assert f"SHA-256 `{hashlib.sha256(raw).hexdigest()}`" in TEXT
    assert f"{len(raw):,}" in TEXT.replace("\n", " ")


# -- examples and formulas, from the text alone ------------------------------------------------------------------------


def test_the_example_of_a_change_is_the_vector() -> None:
    raw = hex_of(example("change"))
    assert raw.hex() == vector("change-plain")["input"]["bytes"]
    assert f"{len(raw)} bytes" in TEXT
    assert f"`{hashlib.sha256(raw).hexdigest()[:32]}`" in TEXT
    assert changes.parse(raw).raw == raw


def test_the_example_of_a_header_is_the_vector() -> None:
    header = hex_of(example("envelope header"))
    assert header.hex() == vector("segment-dictionary-1")["input"]["envelope"][: 2 * 53]
    assert len(header) == envelope.HEADER_BYTES


def _extract(salt: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), secret, "sha256")


def _expand(key: bytes, info: bytes, size: int) -> bytes:
    """HKDF's expansion to at most 32 bytes."""
    return hmac.digest(key, info + b"\x01", "sha256")[:size]


def test_an_envelope_made_by_hand_from_the_text_opens() -> None:
    given = vector("segment-dictionary-1")["input"]
    raw, environment = bytes.fromhex(given["envelope"]), bytes.fromhex(given["environment"])
    grant = hashlib.sha256(b"health-sync/1 grant\0" + GRANT_SECRET).digest()[:16]
    info = b"health-sync/1 segment key\0" + environment + b"to-hub" + b"\0" + grant
    cipher = AESGCMSIV(_expand(_extract(b"", GRANT_SECRET), info, 32))
    nonce = bytes(range(12))
    header = bytes([1, 1, 2]) + (1).to_bytes(2, "big") + b"\x11" * 16 + grant + (682).to_bytes(4, "big") + nonce
    associated = b"health-sync/1 segment seal\0" + environment + header
    compressed = cipher.decrypt(nonce, raw[53:-64], associated)
    body = header + cipher.encrypt(nonce, compressed, associated)
    signer = Ed25519PrivateKey.from_private_bytes(NODE_SEED)
    made = body + signer.sign(b"health-sync/1 segment\0" + environment + body)
    assert made == raw
    assert envelope.parse(made).id == hashlib.sha256(made).digest()[:8]


def test_a_grant_opened_by_hand_from_the_text_is_the_secret() -> None:
    given = vector("grant-opens")["input"]
    environment = bytes.fromhex(given["environment"])
    _, direction, maker, role, key_id, grant, _, sealed = msgspec.msgpack.decode(bytes.fromhex(given["frame"])[64:])
    parts = (direction.encode(), maker, role.encode(), key_id, grant)
    info = b"health-sync/1 grant info\0" + environment
    info += b"".join(len(part).to_bytes(2, "big") + part for part in parts)
    assert _hpke_open(sealed, info) == GRANT_SECRET
    assert grant == GRANT.id


def _hpke_open(sealed: bytes, info: bytes) -> bytes:
    """X-Wing, then RFC 9180's key schedule in base mode, for the suite 647a, 1, 2."""
    ml_kem = MLKEM768PrivateKey.from_seed_bytes(INGEST_SEEDS[:64])
    x25519 = X25519PrivateKey.from_private_bytes(INGEST_SEEDS[64:])
    public = x25519.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    point = sealed[1088:1120]
    shared = ml_kem.decapsulate(sealed[:1088]) + x25519.exchange(X25519PublicKey.from_public_bytes(point))
    secret = hashlib.sha3_256(shared + point + public + rb"\.//^" + b"\\").digest()
    suite = b"HPKE" + bytes.fromhex("647a00010002")

    def extract(salt: bytes, label: bytes, given: bytes) -> bytes:
        return _extract(salt, b"HPKE-v1" + suite + label + given)

    context = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    key = extract(secret, b"secret", b"")

    def expand(label: bytes, size: int) -> bytes:
        return _expand(key, size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + context, size)

    return AESGCM(expand(b"key", 32)).decrypt(expand(b"base_nonce", 12), sealed[1120:], b"")


@pytest.mark.parametrize("name", ["merge-conflict", "merge-resolved", "merge-dead-on-arrival", "merge-present"])
def test_a_digest_made_by_hand_from_the_text_is_the_vectors(name: str) -> None:
    read = vector(name)
    total = 0
    for one in read["input"]["changes"]:
        raw, receipt_ms = bytes.fromhex(one["bytes"]), one["receipt"]
        fields = _dead_fields(read, raw)
        if fields is None or receipt_ms is None:
            continue
        hashed = b"health-sync digest 1\0" + hashlib.sha256(raw).digest()[:16] + receipt_ms.to_bytes(8, "big")
        hashed += b"".join(len(field).to_bytes(2, "big") + field for field in fields)
        total += int.from_bytes(hashlib.sha256(hashed).digest()[:16], "big")
    assert f"{total % 2**128:032x}" == read["expect"]["digest"]


def _dead_fields(read: dict[str, Any], raw: bytes) -> list[bytes] | None:
    """The fields of a change that the vector does not list as live; None where none is."""
    name, body = hashlib.sha256(raw).hexdigest()[:32], msgspec.msgpack.decode(raw)
    live = {field for field, shown in read["expect"]["fields"].items() if name in shown["live"]}
    return sorted(field.encode() for field in body["writes"] if field not in live) if live else None


def test_a_code_has_the_form_of_the_text() -> None:
    secret, root = bytes(range(10)), b"\x07" * 32
    mark = hashlib.sha256(b"health-sync/1 fingerprint\0" + root).digest()[:16]
    check = hashlib.sha256(b"health-sync/1 code\0" + secret + mark).digest()[:2]
    number, letters = int.from_bytes(secret + mark + check, "big"), ""
    for _ in range(45):
        letters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"[number & 31] + letters
        number >>= 5
    grouped = "-".join(letters[at : at + 5] for at in range(0, 45, 5))
    text = keys.EnrolmentCode(secret, keys.fingerprint(root), "https://hub.example").text()
    assert text == f"{grouped}@https://hub.example"
    assert keys.code_hash(secret) == hashlib.sha256(b"health-sync/1 code secret\0" + secret).digest()


# -- a second reader of blocks, from §6.1 alone ------------------------------------------------------------------------


@given(batches())
def test_a_second_reader_made_from_the_text_reads_blocks(batch: list[Change]) -> None:
    assert _SecondReader(codec.pack(batch, NODE), NODE).changes() == [one.raw for one in batch]


def test_the_second_reader_reads_the_vector() -> None:
    read = vector("block-changes")
    block, sender = (bytes.fromhex(read["input"][name]) for name in ("block", "sender"))
    assert [raw.hex() for raw in _SecondReader(block, sender).changes()] == read["expect"]


class _SecondReader:
    """Reads what is well formed, and checks nothing."""

    def __init__(self, block: bytes, sender: bytes) -> None:
        names = [row[1] for row in table("block")]
        self.part: dict[str, Any] = dict(zip(names, msgspec.msgpack.decode(block), strict=True))
        self.sender = sender
        self.shape_of = self.column(self.part["columns"][0], self.part["count"])
        self.rows = [row for row, shape in enumerate(self.shape_of) if shape != -1]
        self.values = [[iter(column[1]) for column in columns] for columns in self.part["bodies"]]

    @staticmethod
    def column(column: list[int] | int, count: int) -> list[int]:
        return [column] * count if isinstance(column, int) else column

    def changes(self) -> list[bytes]:
        part, count = self.part, len(self.rows)
        nodes, persons, facilities, afters = (self.column(one, count) for one in part["columns"][1:])
        base = part["times"][0] if self.rows else 0
        tails = [part["tails"][at : at + 10] for at in range(0, 10 * count, 10)]
        times = list(accumulate(part["times"]))
        ids = [time.to_bytes(6, "big") + tail for time, tail in zip(times, tails, strict=True)]
        of_row = dict(zip(self.rows, ids, strict=True))
        patients = self.patients(ids)
        salts = self.salts(patients)
        milliseconds = list(accumulate(part["hlcs"][0], initial=base))[1:]
        counters = self.column(part["hlcs"][1], count)
        superseded = dict(part["supersedes"])
        raws, found, at = iter(part["raws"]), [], 0
        for row, shape in enumerate(self.shape_of):
            if shape == -1:
                found.append(next(raws))
                continue
            parts = {
                "after": part["afters"][afters[at]] + base,
                "facility": part["facilities"][facilities[at]],
                "hlc": milliseconds[at] * 2**16 + counters[at],
                "kind": part["kinds"][part["shapes"][shape][0]],
                "node": part["nodes"][nodes[at]] or self.sender,
                "patient": patients[at],
                "person": part["persons"][persons[at]],
                "record": ids[at],
                "salt": salts[at],
                "supersedes": superseded.get(row, {}),
                "writes": self.writes(row, shape, of_row),
            }
            found.append(msgspec.msgpack.encode(parts, order="deterministic"))
            at += 1
        return found

    def patients(self, ids: list[bytes]) -> list[bytes]:
        numbers, named = self.part["patients"]
        fresh: list[bytes] = []
        found = []
        for record, number in zip(ids, numbers, strict=True):
            if number == 1:
                fresh.append(named[:16])
                named = named[16:]
            elif number == 0:
                fresh.append(record)
            found.append(fresh[-1] if number < 2 else fresh[-(number - 1)])
        return found

    def salts(self, patients: list[bytes]) -> list[bytes]:
        column, salts = self.part["salts"]
        last: dict[bytes, bytes] = {}
        found = []
        for patient, is_fresh in zip(patients, self.column(column, len(patients)), strict=True):
            if is_fresh:
                last[patient], salts = salts[:16], salts[16:]
            found.append(last[patient])
        return found

    def writes(self, row: int, shape: int, of_row: dict[int, bytes]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        encodings = [column[0] for column in self.part["bodies"][shape]]
        for name, encoding, values in zip(self.part["shapes"][shape][1:], encodings, self.values[shape], strict=True):
            value = next(values)
            if encoding == 9 and isinstance(value, int):
                value = of_row[row - value]
            elif 1 <= encoding <= 3 and value is not None:
                whole, rest = divmod(value, 10**encoding)
                value = value / 10**encoding if rest else whole
            if name.endswith("/"):
                found |= {name + key: {"present": True} if one == 0 else one for key, one in value.items()}
            else:
                found[name] = value
        return found
