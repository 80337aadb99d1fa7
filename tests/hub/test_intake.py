"""What bad segments come to: refused, set aside or taken, each with its code, and nothing behind them waits."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from hub_server import grants, nodes
from hub_server.store import Store
from sync_protocol import envelope, keys, segment
from sync_protocol.change import Change, FacilityCode
from sync_protocol.envelope import Envelope, Header
from sync_protocol.errors import HealthSyncError, NotAllowed, TooLarge, UnknownSender
from sync_protocol.wire import NoticeKind
from tests.hub.bare_node import NOW_MS, BareNode
from tests.hub.hub_world import HubWorld


@pytest.fixture
def hub(database_url: str, tmp_path: Path) -> HubWorld:
    world = HubWorld.make(database_url, tmp_path / "keys")
    world.facility("HWC1")
    world.facility("HWC2")
    return world


def patients(node: BareNode, count: int = 3) -> list[Change]:
    return [node.write("patient", {"name": f"P{number}"}) for number in range(count)]


def sealed(node: BareNode, plain: bytes, *, stated: int | None = None, compressed: bytes | None = None) -> Envelope:
    """An envelope by real keys around anything."""
    size = len(plain) if stated is None else stated
    header = Header(2, segment.NO_DICTIONARY, node.node, node.grant.id, size, os.urandom(12))
    return envelope.seal(header, compressed or segment.compress(plain, 0), node.grant, node.identity)


def reasons(node: BareNode, kind: NoticeKind) -> list[str]:
    return [notice.reason for notice in node.notices if notice.kind == kind]


def test_a_flipped_byte_is_refused_and_nothing_is_stored(hub: HubWorld) -> None:
    node = hub.node("HWC1")
    raw = node.pack(patients(node)).envelope.raw
    for at in (0, 30, 60, len(raw) // 2, len(raw) - 1):
        flipped = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        heads = hub.exchange(node, [flipped])
        assert heads.held == b""
    assert len(reasons(node, NoticeKind.REFUSED)) == 5
    assert hub.admit() == 0
    hub.exchange(node, [raw])
    assert hub.admit() == 3


def test_a_segment_signed_by_another_is_refused(hub: HubWorld) -> None:
    node, other = hub.node("HWC1"), hub.node("HWC1")
    hub.exchange(node, [other.pack(patients(other)).envelope.raw])
    assert reasons(node, NoticeKind.REFUSED) == ["E_UNKNOWN_NODE"]


def test_a_segment_cut_short_is_refused(hub: HubWorld) -> None:
    node = hub.node("HWC1")
    hub.exchange(node, [node.pack(patients(node)).envelope.raw[:100]])
    assert reasons(node, NoticeKind.REFUSED) == ["E_TRUNCATED"]


def test_an_unknown_node_is_refused_with_nothing_stored(hub: HubWorld) -> None:
    stranger = BareNode(hub.vault, FacilityCode("HWC1"))
    with pytest.raises(UnknownSender):
        hub.exchange(stranger, [stranger.pack(patients(stranger)).envelope.raw])
    with hub.database.transaction() as connection:
        assert connection.execute("SELECT count(*) FROM arrival").fetchone() == (0,)


def test_what_a_revoked_node_sends_waits_for_a_person(hub: HubWorld) -> None:
    node = hub.node("HWC1")
    hub.exchange(node, [node.pack(patients(node)).envelope.raw])
    hub.admit()
    with hub.database.transaction() as connection:
        assert nodes.revoke(connection, node.vault, node.node, "stolen", NOW_MS)
    hub.exchange(node, [node.pack(patients(node)).envelope.raw])
    assert reasons(node, NoticeKind.REVOKED) == ["E_REVOKED"]
    assert node.items == []
    assert hub.admit() == 0
    with hub.database.transaction() as connection:
        (entry,) = connection.execute("SELECT id FROM quarantine WHERE verdict = 'open'").fetchall()
        assert nodes.release(connection, entry[0])
    assert hub.admit() == 3


def test_a_bomb_is_refused_by_what_it_claims_and_by_what_it_is(hub: HubWorld) -> None:
    node = hub.node("HWC1")
    bomb = segment.compress(bytes(200_000_000), 0)
    assert len(bomb) < 20_000
    honest = sealed(node, b"", stated=200_000_000, compressed=bomb)
    hub.exchange(node, [honest.raw])
    assert reasons(node, NoticeKind.REFUSED) == ["E_TOO_LARGE"]
    liar = sealed(node, b"", stated=6_000, compressed=bomb)
    hub.exchange(node, [liar.raw])
    assert hub.admit() == 0
    hub.exchange(node, awaiting=[liar.id])
    assert reasons(node, NoticeKind.QUARANTINED) == ["E_MALFORMED"]


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b"\x91" * 100_000 + b"\x90",
        os.urandom(500),
        msgspec.msgpack.encode([b"\x91" * 100_000, []]),
        msgspec.msgpack.encode([b"", []]),
        msgspec.msgpack.encode({"block": 1}),
    ],
    ids=["empty", "nested 100,000 deep", "noise", "a nested block", "an empty block", "a map"],
)
def test_a_segment_that_cannot_be_read_blocks_nothing_behind_it(hub: HubWorld, plain: bytes) -> None:
    node = hub.node("HWC1")
    bad = sealed(node, plain)
    hub.exchange(node, [bad.raw, node.pack(patients(node)).envelope.raw])
    assert hub.admit() == 3
    hub.exchange(node, awaiting=[bad.id])
    assert reasons(node, NoticeKind.QUARANTINED) == ["E_MALFORMED"]


def raw_block(*raws: bytes) -> bytes:
    """A block whose rows all travel raw."""
    shapes = [[-1] * len(raws), 0, 0, 0, 0]
    count = len(raws)
    block = [count, [], [], [], [], [], [], shapes, [], b"", [[], b""], [0, b""], [[], 0], [], [], list(raws)]
    return msgspec.msgpack.encode([msgspec.msgpack.encode(block), []])


def test_a_row_that_is_not_canonical_is_set_aside_alone(hub: HubWorld) -> None:
    node = hub.node("HWC1")
    good, other = patients(node, 2)
    loose = other.raw.replace(b"\xa5after\x00", b"\xa5after\xcd\x00\x00")
    assert loose != other.raw
    bad = sealed(node, raw_block(loose, good.raw))
    hub.exchange(node, [bad.raw])
    assert hub.admit() == 1
    hub.exchange(node, awaiting=[bad.id])
    (notice,) = [one for one in node.notices if one.kind == NoticeKind.QUARANTINED]
    assert (notice.indexes, notice.reason) == ([0], "E_NOT_CANONICAL")


def test_a_change_of_another_facility_or_node_is_set_aside(hub: HubWorld) -> None:
    node, other, far = hub.node("HWC1"), hub.node("HWC1"), hub.node("HWC2")
    packed = node.pack([other.write("patient", {"name": "A"}), far.write("patient", {"name": "B"})])
    hub.exchange(node, [packed.envelope.raw])
    assert hub.admit() == 0
    hub.exchange(node, awaiting=[packed.envelope.id])
    assert sorted(reasons(node, NoticeKind.QUARANTINED)) == ["E_OTHER_AUTHOR", "E_OTHER_FACILITY"]


def test_segments_out_of_order_make_the_same_state(hub: HubWorld) -> None:
    """An edit that is admitted before what it supersedes: the earlier write arrives already named, and is dead."""
    node = hub.node("HWC1")
    first = node.write("patient", {"name": "A"})
    edit = node.write("patient", {"name": "B"}, record=first.record, shown={"name": [first.id]})
    for batch in ([edit], [first]):
        hub.exchange(node, [node.pack(batch).envelope.raw])
        hub.admit()
    with hub.database.transaction() as connection:
        (record,) = hub.store.patient_records(connection, "HWC1", first.patient)
        assert record.view() == {"name": "B"}
        assert record.conflicts() == {}


def test_a_segment_that_breaks_admission_stands_alone_in_quarantine(
    hub: HubWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that fails is split until the bad segment stands alone; the failure is planted in the store's input."""
    node = hub.node("HWC1")
    poison = patients(node, 1)
    for batch in (patients(node), poison, patients(node)):
        hub.exchange(node, [node.pack(batch).envelope.raw])
    real = Store.receive

    def failing(self: Store, connection: object, incoming: object, now_ms: int) -> object:
        if any(one.change.id == poison[0].id for one in incoming):  # type: ignore[attr-defined]
            raise ZeroDivisionError
        return real(self, connection, incoming, now_ms)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "receive", failing)
    assert hub.admit() == 6
    with hub.database.transaction() as connection:
        assert connection.execute("SELECT reason, row FROM quarantine").fetchall() == [("E_ADMISSION", -1)]


def test_what_was_released_and_fails_again_comes_back(hub: HubWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    node = hub.node("HWC1")
    hub.exchange(node, [node.pack(patients(node)).envelope.raw])
    with monkeypatch.context() as patch:
        patch.setattr(Store, "receive", lambda *_: 1 // 0)
        for _ in range(2):
            assert hub.admit() == 0
            with hub.database.transaction() as connection:
                (entry,) = connection.execute("SELECT id FROM quarantine WHERE verdict = 'open'").fetchone() or (0,)
                assert nodes.release(connection, entry)
    assert hub.admit() == 3


def test_only_the_segment_that_breaks_admission_is_set_aside_and_none_that_came_meanwhile(
    hub: HubWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An emergency that comes between the failure and the verdict is the first in the line by then."""
    node = hub.node("HWC1")
    (poison,) = patients(node, 1)
    emergency = node.write("referral", {"specialty": "ent", "urgency": "emergency"}, patient=poison.record)
    bad = node.pack([poison]).envelope
    hub.exchange(node, [bad.raw])
    failures: list[int] = []
    real = Store.receive

    def failing(self: Store, connection: object, incoming: object, now_ms: int) -> object:
        if any(one.change.id == poison.id for one in incoming):  # type: ignore[attr-defined]
            failures.append(now_ms)
            if len(failures) == 2:  # it has failed by itself
                hub.exchange(node, [node.pack([emergency]).envelope.raw])
            raise ZeroDivisionError
        return real(self, connection, incoming, now_ms)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "receive", failing)
    assert hub.admit() == 1
    with hub.database.transaction() as connection:
        assert connection.execute("SELECT segment, reason FROM quarantine").fetchall() == [(bad.id, "E_ADMISSION")]


def test_a_request_without_end_is_cut(hub: HubWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub_server.sync_api.MAX_BODY_BYTES", 50_000)
    node = hub.node("HWC1")
    raw = node.pack(patients(node, 200)).envelope.raw
    with pytest.raises(TooLarge):
        hub.exchange(node, [raw] * 100)


@pytest.mark.parametrize(
    "request_bytes", [b"", b"GET / HTTP/1.1", b"HSX1", b"HSX1\x02\x00", b"HSX1\x01\xff\xff\xff\xff"]
)
def test_a_request_that_is_none_is_refused(hub: HubWorld, request_bytes: bytes) -> None:
    with pytest.raises(HealthSyncError):
        hub.answer(request_bytes)


# -- enrolment


def test_a_code_works_once_for_one_node_and_expires(hub: HubWorld) -> None:
    node, thief = BareNode(hub.vault, FacilityCode("HWC1")), BareNode(hub.vault, FacilityCode("HWC1"))
    with hub.database.transaction() as connection:
        code = nodes.new_code(connection, hub.vault, "HWC1", "http://127.0.0.1:1", valid_ms=1000, now_ms=NOW_MS)
        late = nodes.new_code(connection, hub.vault, "HWC1", "http://127.0.0.1:1", valid_ms=1000, now_ms=NOW_MS)
        first = nodes.enrol(connection, hub.vault, node.enrolment(code.secret), NOW_MS)
        again = nodes.enrol(connection, hub.vault, node.enrolment(code.secret), NOW_MS + 5000)
        assert msgspec.msgpack.decode(first)[0] == msgspec.msgpack.decode(again)[0]
        for asked, expected in (
            (thief.enrolment(code.secret), "E_CODE_USED"),
            (thief.enrolment(late.secret), "E_CODE_EXPIRED"),
            (thief.enrolment(os.urandom(10)), "E_CODE_UNKNOWN"),
        ):
            with pytest.raises(NotAllowed) as refused:
                nodes.enrol(connection, hub.vault, asked, NOW_MS + 1001)
            assert refused.value.code == expected


def test_a_mistyped_code_is_found_before_it_is_sent(hub: HubWorld) -> None:
    with hub.database.transaction() as connection:
        code = nodes.new_code(connection, hub.vault, "HWC1", "http://127.0.0.1:1", valid_ms=1000, now_ms=NOW_MS)
    text = code.text()
    assert keys.parse_code(text.lower()) == code
    for at, letter in enumerate(text.partition("@")[0]):
        if letter != "-":
            wrong = text[:at] + ("2" if letter != "2" else "3") + text[at + 1 :]
            with pytest.raises(HealthSyncError, match="mistyped"):
                keys.parse_code(wrong)


# -- what is told of the quarantine, and grants that are not what they should be ---------------------------------------


def test_thousands_of_rows_in_quarantine_are_told_in_frames_that_can_be_read(hub: HubWorld) -> None:
    node = hub.node("HWC1")
    packed = node.pack(patients(node))
    hub.exchange(node, [packed.envelope.raw])
    with hub.database.transaction() as connection:
        (waiting,) = nodes.next_kept(connection, 1, 1)
        verdicts = [nodes.Verdict(waiting, row, None, "case", "E_NOT_ALLOWED") for row in range(8_192)]
        nodes.quarantine(connection, verdicts, NOW_MS)
    hub.exchange(node, awaiting=[packed.envelope.id])
    told = [notice for notice in node.notices if notice.kind == NoticeKind.QUARANTINED]
    assert sorted(row for notice in told for row in notice.indexes) == list(range(8_192))


def test_a_grant_for_the_recovery_key_is_kept_only_as_its_makers(hub: HubWorld) -> None:
    node, other = hub.node("HWC1"), hub.node("HWC1")
    recovery = hub.vault.identity.recovery
    for maker, direction in ((other.node, keys.TO_HUB), (node.node, keys.TO_NODE)):
        grant = keys.Grant(os.urandom(32), direction, hub.vault.identity.environment)
        frame = keys.seal_grant(grant, maker, node.identity, recovery, keys.ROLE_RECOVERY, NOW_MS, keys.hpke_seal)
        with hub.database.transaction() as connection, pytest.raises(NotAllowed):
            grants.keep(connection, hub.vault, nodes.find(connection, node.node), frame, NOW_MS)
    frame = keys.seal_grant(node.grant, node.node, node.identity, recovery, keys.ROLE_RECOVERY, NOW_MS, keys.hpke_seal)
    with hub.database.transaction() as connection:
        assert grants.keep(connection, hub.vault, nodes.find(connection, node.node), frame, NOW_MS) is None
