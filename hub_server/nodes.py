"""Nodes and what they bring: enrolment by one-time code, sealed arrivals, quarantine, revocation.

A code is single use, expiring and bound to a facility; the hub keeps its hash. `keep` stores the segments of many
exchanges in one transaction, and never refuses one for its content. Nothing here opens a segment (`intake` does).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from hub_server import directory_due
from hub_server.database import Connection
from hub_server.vault import Vault
from sync_protocol import keys
from sync_protocol.change import FacilityCode, NodeId
from sync_protocol.envelope import Envelope, EnvelopeId
from sync_protocol.errors import InvalidValue, NotAllowed, UnknownSender, WrongRecipient
from sync_protocol.keys import Certificate, EnrolmentRequest, GrantId, Recipient, RecipientPublic, Verifier

KEPT: Final = "kept"
WAITING: Final = "waiting"
ADMITTED: Final = "admitted"
QUARANTINED: Final = "quarantined"

ENROL_INFO: Final = b"health-sync/1 enrolment\x00"
ANSWER_BEGINS: Final = b"\x94"  # of an answer to an enrolment: an array of four, in msgpack
MAX_NAME_CHARS: Final = 100
NONCE_BYTES: Final = 8
_KEPT_A_FETCH: Final = 32  # segments of up to 192 KiB read at once, while looking for a pass's worth


@dataclass(frozen=True, slots=True)
class KnownNode:
    """An enrolled node, ready to verify."""

    node: NodeId
    facility: FacilityCode
    name: str
    verifier: Verifier
    sealing_key: bytes
    revoked: bool


# -- codes -------------------------------------------------------------------------------------------------------------


def new_code(
    connection: Connection, vault: Vault, facility: str, url: str, *, valid_ms: int, now_ms: int
) -> keys.EnrolmentCode:
    """A one-time code for a node of this facility. Raises InvalidValue (``E_UNKNOWN_FACILITY``)."""
    if connection.execute("SELECT 1 FROM facility WHERE facility = %s", (facility,)).fetchone() is None:
        raise InvalidValue(
            "no facility has that code", code="E_UNKNOWN_FACILITY", next_step="hub facility list shows them"
        )
    secret = os.urandom(keys.CODE_SECRET_BYTES)
    connection.execute(
        "INSERT INTO enrolment_code (code_hash, facility, created_ms, expires_ms) VALUES (%s, %s, %s, %s)",
        (keys.code_hash(secret), facility, now_ms, now_ms + valid_ms),
    )
    return keys.EnrolmentCode(secret, keys.fingerprint(vault.identity.root.public), url)


def enrol(connection: Connection, vault: Vault, sealed: bytes, now_ms: int) -> bytes:
    """Answer a sealed enrolment request: msgpack of [certificate, key list, directory changes, facility's name].

    The same node asking again with the same code gets the same answer, for the first may have been lost. Raises
    WrongRecipient, Malformed, BadSignature, NotAllowed (``E_CODE_UNKNOWN``, ``E_CODE_USED``, ``E_CODE_EXPIRED``).
    """
    identity = vault.identity
    raw = _open_request(identity.ingest_keys, sealed, ENROL_INFO + identity.environment)
    claimed, body, signature = keys.read_document(raw, EnrolmentRequest)
    if len(claimed.node) != 16 or not claimed.name.strip() or len(claimed.name) > MAX_NAME_CHARS:
        raise InvalidValue("an enrolment has a node id of 16 bytes and a name", code="E_BAD_ENROLMENT")
    Verifier(claimed.signing_key).verify("enrolment", identity.environment, body, signature)
    RecipientPublic(claimed.sealing_key)
    row = connection.execute(
        "SELECT facility, expires_ms, used_by FROM enrolment_code WHERE code_hash = %s FOR UPDATE",
        (keys.code_hash(claimed.code_secret),),
    ).fetchone()
    if row is None:
        raise NotAllowed("the hub does not know this code", code="E_CODE_UNKNOWN", next_step=_NEW_CODE)
    facility, expires_ms, used_by = row
    certificate = _already(connection, claimed) if used_by == claimed.node else None
    if certificate is None:
        if used_by is not None:
            raise NotAllowed("the code was used already", code="E_CODE_USED", next_step=_NEW_CODE)
        if now_ms > expires_ms:
            raise NotAllowed("the code has expired", code="E_CODE_EXPIRED", next_step=_NEW_CODE)
        certificate = _register(connection, vault, claimed, facility, now_ms)
    name = _one(connection, "SELECT name FROM facility WHERE facility = %s", facility)
    return msgspec.msgpack.encode([certificate, identity.signed_keys(), [], name])


def certificate_in(answer: bytes) -> Certificate:
    """The certificate in an answer of `enrol`."""
    return keys.read_document(msgspec.msgpack.decode(answer)[0], Certificate)[0]


def _open_request(recipients: Sequence[Recipient], sealed: bytes, info: bytes) -> bytes:
    """By the newest ingest key, or one that was retired while the node asked. Raises WrongRecipient."""
    for one in recipients[:-1]:
        with suppress(WrongRecipient):
            return one.open(sealed, info)
    return recipients[-1].open(sealed, info)


_NEW_CODE: Final = "ask the hub's operator for a new one: hub enrol FACILITY"


def _one(connection: Connection, query: Any, *arguments: Any) -> Any:
    row = connection.execute(query, arguments).fetchone()
    return row[0] if row else None


def _already(connection: Connection, claimed: EnrolmentRequest) -> bytes | None:
    found = connection.execute(
        "SELECT certificate FROM node WHERE node = %s AND signing_key = %s AND sealing_key = %s",
        (claimed.node, claimed.signing_key, claimed.sealing_key),
    ).fetchone()
    return bytes(found[0]) if found else None


def _register(connection: Connection, vault: Vault, claimed: EnrolmentRequest, facility: str, now_ms: int) -> bytes:
    identity = vault.identity
    name = claimed.name.strip()
    signed = keys.sign_document(
        Certificate(
            1, identity.environment, claimed.node, facility, name, claimed.signing_key, claimed.sealing_key, now_ms
        ),
        identity.root,
        identity.environment,
    )
    added = connection.execute(
        "INSERT INTO node (node, facility, name, certificate, signing_key, sealing_key, enrolled_ms, revoked_reason,"
        " cursor_position, nonce) VALUES (%s, %s, %s, %s, %s, %s, %s, '', 0, '') ON CONFLICT DO NOTHING",
        (claimed.node, facility, name, signed, claimed.signing_key, claimed.sealing_key, now_ms),
    )
    if added.rowcount == 0:
        raise NotAllowed("a node of that id is enrolled already", code="E_NODE_EXISTS")
    connection.execute(
        "UPDATE enrolment_code SET used_ms = %s, used_by = %s WHERE code_hash = %s",
        (now_ms, claimed.node, keys.code_hash(claimed.code_secret)),
    )
    directory_due.mark(connection, facility)
    used = keys.code_hash(claimed.code_secret).hex()
    vault.note(connection, "node", {"certificate": signed.hex(), "code_hash": used}, now_ms)
    return signed


def register_again(connection: Connection, certificate: Certificate, signed: bytes, code_hash: bytes) -> None:
    """A node that was enrolled before this database was put back, by the certificate that it was given then."""
    connection.execute(
        "INSERT INTO node (node, facility, name, certificate, signing_key, sealing_key, enrolled_ms, revoked_reason,"
        " cursor_position, nonce) VALUES (%s, %s, %s, %s, %s, %s, %s, '', 0, '') ON CONFLICT DO NOTHING",
        (
            certificate.node,
            certificate.facility,
            certificate.name,
            signed,
            certificate.signing_key,
            certificate.sealing_key,
            certificate.issued_ms,
        ),
    )
    connection.execute(
        "UPDATE enrolment_code SET used_ms = %s, used_by = %s WHERE code_hash = %s AND used_by IS NULL",
        (certificate.issued_ms, certificate.node, code_hash),
    )
    directory_due.mark(connection, certificate.facility)


# -- who is who --------------------------------------------------------------------------------------------------------


def find(connection: Connection, node: NodeId) -> KnownNode:
    """Raises UnknownSender."""
    return known(find_all(connection, [node])[0])


def find_all(connection: Connection, wanted: Sequence[NodeId]) -> list[KnownNode | None]:
    """These nodes in this order; None for one that the hub does not know."""
    rows = connection.execute(
        "SELECT node, facility, name, signing_key, sealing_key, revoked_ms FROM node WHERE node = ANY(%b)",
        (list(wanted),),
        binary=True,
    ).fetchall()
    found = {
        node: KnownNode(NodeId(node), FacilityCode(facility), name, Verifier(signing), sealing, revoked_ms is not None)
        for node, facility, name, signing, sealing, revoked_ms in rows
    }
    return [found.get(node) for node in wanted]


def known(found: KnownNode | None) -> KnownNode:
    """Raises UnknownSender for none."""
    if found is None:
        raise UnknownSender("the hub does not know this node", next_step="enrol it: hub enrol FACILITY")
    return found


def revoke(connection: Connection, vault: Vault, node: NodeId, reason: str, now_ms: int) -> bool:
    """From now on what this node sends waits in quarantine for a person. False if it was revoked before, or unknown."""
    done = connection.execute(
        "UPDATE node SET revoked_ms = %s, revoked_reason = %s WHERE node = %s AND revoked_ms IS NULL",
        (now_ms, reason, node),
    )
    if done.rowcount:
        vault.note(connection, "revoked", {"node": node.hex(), "reason": reason}, now_ms)
    return done.rowcount == 1


# -- arrivals ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arrived:
    """A verified segment on its way into the database."""

    node: KnownNode
    envelope: Envelope
    received_ms: int


def keep(connection: Connection, arrived: Sequence[Arrived]) -> None:
    """Store sealed segments, of many exchanges together. One that is held already stays as it is.

    Whether a node is revoked is asked anew, since its request may have begun long ago, over a slow link. The segments
    are numbered as they came and stored in one order: another program may be storing the same ones (a courier's file).
    """
    ((drawn, revoked),) = connection.execute(
        "SELECT ARRAY(SELECT nextval('arrival_seq') FROM generate_series(1, %s)),"
        " ARRAY(SELECT node FROM node WHERE node = ANY(%b) AND revoked_ms IS NOT NULL)",
        (len(arrived), list({one.node.node for one in arrived})),
        binary=True,
    ).fetchall()
    numbered = sorted(zip(drawn, arrived, strict=True), key=lambda one: (one[1].node.node, one[1].envelope.id))
    connection.execute(
        "INSERT INTO arrival (seq, node, segment, facility, lane, grant_id, received_ms, state, reason, size_bytes, raw)"
        " SELECT * FROM unnest(%b::bigint[], %b::bytea[], %b::bytea[], %b::text[], %b::int[], %b::bytea[], %b::bigint[],"
        " %b::text[], %b::text[], %b::int[], %b::bytea[]) ON CONFLICT DO NOTHING",
        (
            [seq for seq, _ in numbered],
            [one.node.node for _, one in numbered],
            [one.envelope.id for _, one in numbered],
            [one.node.facility for _, one in numbered],
            [one.envelope.header.lane for _, one in numbered],
            [one.envelope.header.grant for _, one in numbered],
            [one.received_ms for _, one in numbered],
            [QUARANTINED if one.node.node in revoked else KEPT for _, one in numbered],
            ["E_REVOKED" if one.node.node in revoked else "" for _, one in numbered],
            [len(one.envelope.raw) for _, one in numbered],
            [one.envelope.raw for _, one in numbered],
        ),
    )
    for one in arrived:
        if one.node.node in revoked:
            connection.execute(
                "INSERT INTO quarantine (facility, node, segment, row, kind, reason, at_ms, verdict)"
                " SELECT %s, %s, %s, -1, '', 'E_REVOKED', %s, 'open' WHERE NOT EXISTS"
                " (SELECT 1 FROM quarantine WHERE node = %s AND segment = %s)",
                (
                    one.node.facility,
                    one.node.node,
                    one.envelope.id,
                    one.received_ms,
                    one.node.node,
                    one.envelope.id,
                ),
            )


@dataclass(frozen=True, slots=True)
class ArrivalState:
    """What became of a segment. rows: those in quarantine, with their reasons; -1 stands for all of it."""

    segment: EnvelopeId
    state: str
    grant: GrantId
    rows: tuple[tuple[int, str], ...]


def states(connection: Connection, asked: Sequence[tuple[NodeId, Sequence[EnvelopeId]]]) -> list[list[ArrivalState]]:
    """For each node, what the hub holds of these segments of it; one that it does not hold is left out."""
    pairs = [(node, segment) for node, segments in asked for segment in segments]
    found: dict[bytes, dict[bytes, tuple[str, bytes, list[tuple[int, str]]]]] = {}
    if pairs:
        rows = connection.execute(
            "SELECT a.node, a.segment, a.state, a.grant_id, q.row, q.reason"
            " FROM unnest(%b::bytea[], %b::bytea[]) AS named (n, s)"
            " JOIN arrival a ON a.node = n AND a.segment = s"
            " LEFT JOIN quarantine q ON q.node = a.node AND q.segment = a.segment AND q.verdict = 'open'",
            ([node for node, _ in pairs], [segment for _, segment in pairs]),
            binary=True,
        ).fetchall()
        for node, segment, state, grant, row, reason in rows:
            entry = found.setdefault(node, {}).setdefault(segment, (state, grant, []))
            if row is not None and (row, reason) not in entry[2]:
                entry[2].append((row, reason))
    return [
        [
            ArrivalState(EnvelopeId(name), state, GrantId(grant), tuple(sorted(bad)))
            for name, (state, grant, bad) in found.get(node, {}).items()
        ]
        for node, _ in asked
    ]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A row of the admitting worker's list."""

    seq: int
    node: NodeId
    segment: EnvelopeId
    facility: FacilityCode
    received_ms: int
    raw: bytes


def next_kept(connection: Connection, limit: int, size_bytes: int) -> list[Waiting]:
    """The next segments to admit, most urgent first, locked for this worker; another worker skips them.

    Read some at a time: what is beyond the size is neither fetched nor locked, so that others find it.
    """
    chosen: list[Waiting] = []
    total = 0
    with connection.cursor(name="next_kept") as rows:
        rows.itersize = _KEPT_A_FETCH
        rows.execute(
            "SELECT seq, node, segment, facility, received_ms, raw FROM arrival WHERE state = 'kept'"
            " ORDER BY lane, seq LIMIT %s FOR UPDATE SKIP LOCKED",
            (limit,),
            binary=True,
        )
        for seq, node, segment, facility, received_ms, raw in rows:
            total += len(raw)
            if chosen and total > size_bytes:
                break
            chosen.append(Waiting(seq, NodeId(node), EnvelopeId(segment), FacilityCode(facility), received_ms, raw))
    return chosen


def hold_kept(connection: Connection, one: Waiting) -> bool:
    """Lock a segment for this worker, as `next_kept` does; False where it is another's by now, or not kept any more."""
    row = connection.execute(
        "SELECT 1 FROM arrival WHERE node = %s AND segment = %s AND state = 'kept' FOR UPDATE SKIP LOCKED",
        (one.node, one.segment),
    ).fetchone()
    return row is not None


def set_state(connection: Connection, waiting: Sequence[Waiting], state: str, reason: str = "") -> None:
    if waiting:
        connection.execute(
            "UPDATE arrival SET state = %s, reason = %s FROM unnest(%b::bytea[], %b::bytea[]) AS named (n, s)"
            " WHERE node = n AND segment = s",
            (state, reason, [one.node for one in waiting], [one.segment for one in waiting]),
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """One entry for the quarantine. row: of the segment, -1 for all of it."""

    waiting: Waiting
    row: int
    change: bytes | None
    kind: str
    reason: str


def quarantine(connection: Connection, verdicts: Iterable[Verdict], now_ms: int) -> None:
    """Note what was set aside; an entry that stands already is left, and one that was released is open again."""
    each: dict[tuple[bytes, bytes, int], Verdict] = {}
    for one in verdicts:
        each.setdefault((one.waiting.node, one.waiting.segment, one.row), one)
    noted = list(each.values())
    connection.execute(
        "UPDATE quarantine SET verdict = 'open', reason = why, at_ms = %s"
        " FROM unnest(%b::bytea[], %b::bytea[], %b::int[], %b::text[]) AS aside (n, s, r, why)"
        " WHERE node = n AND segment = s AND row = r AND verdict = 'released'",
        (
            now_ms,
            [one.waiting.node for one in noted],
            [one.waiting.segment for one in noted],
            [one.row for one in noted],
            [one.reason for one in noted],
        ),
    )
    connection.execute(
        "INSERT INTO quarantine (facility, node, segment, row, change, kind, reason, at_ms, verdict)"
        " SELECT f, n, s, r, c, k, why, %s, 'open' FROM unnest(%b::text[], %b::bytea[], %b::bytea[], %b::int[],"
        " %b::bytea[], %b::text[], %b::text[]) WITH ORDINALITY AS aside (f, n, s, r, c, k, why, number)"
        " WHERE NOT EXISTS (SELECT 1 FROM quarantine WHERE node = n AND segment = s AND row = r) ORDER BY number",
        (
            now_ms,
            [one.waiting.facility for one in noted],
            [one.waiting.node for one in noted],
            [one.waiting.segment for one in noted],
            [one.row for one in noted],
            [one.change for one in noted],
            [one.kind for one in noted],
            [one.reason for one in noted],
        ),
    )


def release(connection: Connection, entry: int) -> bool:
    """Let a person's decision admit what was set aside: its segment is taken up again, this time without that check.

    False if there is no such open entry.
    """
    row = connection.execute(
        "UPDATE quarantine SET verdict = 'released' WHERE id = %s AND verdict = 'open' RETURNING node, segment",
        (entry,),
    ).fetchone()
    if row is None:
        return False
    connection.execute("UPDATE arrival SET state = 'kept', reason = '' WHERE node = %s AND segment = %s", row)
    return True


def released_rows(connection: Connection, waiting: Sequence[Waiting]) -> set[tuple[bytes, bytes, int]]:
    """(node, segment, row) of what people released; row -1 stands for the whole segment."""
    if not waiting:
        return set()
    rows = connection.execute(
        "SELECT node, segment, row FROM quarantine WHERE verdict = 'released' AND segment = ANY(%s)",
        ([one.segment for one in waiting],),
    ).fetchall()
    return {(bytes(node), bytes(segment), row) for node, segment, row in rows}
