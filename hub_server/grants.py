"""Grants: the nodes' own, which open what they send, and the hub's, by which it seals pages to each node.

PROTOCOL.md §7.3. A node's grant comes sealed to an ingest key, the newest or a retired one; its secret is kept wrapped
by the key-encryption key. A copy that is sealed to the recovery key is kept as it came: the hub cannot open it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from hub_server.database import Connection
from hub_server.nodes import KnownNode
from hub_server.vault import ROLE_SIGNING, Vault
from sync_protocol import keys
from sync_protocol.change import NodeId
from sync_protocol.errors import NotAllowed
from sync_protocol.keys import Grant, GrantId, RecipientPublic


def keep(connection: Connection, vault: Vault, node: KnownNode, payload: bytes, now_ms: int) -> Grant | None:
    """Store a node's grant, and wake the segments that waited for it. None for a copy sealed to the recovery key.

    Raises Malformed, BadSignature or WrongRecipient.
    """
    environment = vault.identity.environment
    frame = keys.verify_document(payload, keys.GrantFrame, node.verifier, environment)
    if frame.direction != keys.TO_HUB or frame.maker != node.node or len(frame.grant) != keys.GRANT_ID_BYTES:
        raise NotAllowed("a grant of another direction or maker, or without a name")
    if frame.role == keys.ROLE_RECOVERY:
        _store(connection, frame.grant + b"R", node.node, frame.role, b"", payload, now_ms)
        return None
    named = [one for one in vault.identity.ingest_keys if one.public.key_id == frame.key_id]
    grant = keys.open_grant(payload, node.verifier, (*named, vault.identity.ingest)[0], environment)
    wrapped = vault.wrap_secret(grant.secret, grant.id)
    if _store(connection, grant.id, node.node, grant.direction, wrapped, b"", now_ms):
        connection.execute(  # whoever takes one up just now may have looked before the grant was here: then it waits
            "SELECT FROM arrival WHERE state = 'kept' AND grant_id = %s AND node = %s ORDER BY seq FOR UPDATE",
            (grant.id, node.node),
        )
    connection.execute(
        "UPDATE arrival SET state = 'kept' WHERE state = 'waiting' AND grant_id = %s AND node = %s",
        (grant.id, node.node),
    )
    return grant


def _store(
    connection: Connection, name: bytes, node: bytes, direction: str, secret: bytes, frame: bytes, now_ms: int
) -> bool:
    """Whether it is new."""
    done = connection.execute(
        "INSERT INTO grant_key (grant_id, node, direction, secret, frame, created_ms) VALUES (%s, %s, %s, %s, %s, %s)"
        " ON CONFLICT DO NOTHING",
        (name, node, direction, secret, frame, now_ms),
    )
    return done.rowcount == 1


def of_nodes(connection: Connection, vault: Vault, names: Iterable[GrantId]) -> dict[GrantId, tuple[NodeId, Grant]]:
    """Grant id → (the node that made it, the grant), for those the hub holds."""
    rows = connection.execute(
        "SELECT grant_id, node, secret FROM grant_key WHERE grant_id = ANY(%s) AND direction = %s",
        (list(names), keys.TO_HUB),
    ).fetchall()
    environment = vault.identity.environment
    return {
        GrantId(name): (NodeId(node), Grant(vault.unwrap_secret(secret, name), keys.TO_HUB, environment))
        for name, node, secret in rows
    }


def to_node(connection: Connection, vault: Vault, node: KnownNode, now_ms: int) -> tuple[Grant, bytes]:
    """The grant by which the hub seals pages to this node, and its frame. Made on first use, and anew once the hub has
    another signing key: the frame is signed by it."""
    identity = vault.identity
    row = connection.execute(
        "SELECT grant_id, secret, frame FROM grant_key WHERE node = %s AND direction = %s AND created_ms >= %s"
        " ORDER BY created_ms DESC LIMIT 1",
        (node.node, keys.TO_NODE, identity.made_ms.get(ROLE_SIGNING, 0)),
    ).fetchone()
    if row is not None:
        return Grant(vault.unwrap_secret(row[1], row[0]), keys.TO_NODE, identity.environment), bytes(row[2])
    grant = Grant(os.urandom(keys.SECRET_BYTES), keys.TO_NODE, identity.environment)
    frame = keys.seal_grant(
        grant,
        identity.hub,
        identity.signing,
        RecipientPublic(node.sealing_key),
        keys.ROLE_NODE,
        now_ms,
        keys.hpke_seal,
    )
    secret = vault.wrap_secret(grant.secret, grant.id)
    _store(connection, grant.id, node.node, grant.direction, secret, frame, now_ms)
    return grant, frame
