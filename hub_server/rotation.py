"""Rotating the hub's keys: a new key of a role takes over, and what the old one made goes on being read.

PROTOCOL.md §7.4. The key file is replaced whole and durably before anything depends on the new key; the former file
stays beside it under its serial. So a stop at any moment leaves one list or the other, and both can read everything:

    signing    the list's serial goes up; nodes fetch the list when an answer does not verify, or names a higher serial
    ingest     nodes seal new grants to the newest; grants to the retired ones still open
    kek        facility keys, grants' secrets, what people sign in with: wrapped anew; an old backup still opens
    recovery   a new pair; its private half is written to a file of its own, to be moved away

The tag key is never rotated: receipts that a restored hub is given back are proved by it. Nor is the root key: it is
what enrolment codes name, and another one would be another hub.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hub_server import sign_in
from hub_server.database import Connection
from hub_server.vault import (
    KEY_BYTES,
    KEYS_FILE,
    ROLE_KEK,
    ROLE_SIGNING,
    HubIdentity,
    Vault,
    load_or_make,
    write_new,
)
from sync_protocol.errors import OurFault
from sync_protocol.keys import (
    ML_KEM_SEED_BYTES,
    ROLE_INGEST,
    ROLE_RECOVERY,
    SEED_BYTES,
    Identity,
    Recipient,
    fingerprint,
)

ROLES: Final = (ROLE_SIGNING, ROLE_INGEST, ROLE_KEK, ROLE_RECOVERY)
_NAMES: Final = {ROLE_SIGNING: "signing", ROLE_INGEST: "ingest", ROLE_KEK: "kek", ROLE_RECOVERY: "recovery_public"}
_LISTED: Final = frozenset({ROLE_SIGNING, ROLE_INGEST, ROLE_RECOVERY})  # nodes know of these


@dataclass(frozen=True, slots=True)
class Listed:
    """A key as people are shown it. name: a fingerprint, never a secret; empty for one that has no public half."""

    role: str
    name: str
    since_ms: int
    retired_ms: int | None


def listed(identity: HubIdentity) -> list[Listed]:
    """The root key first, then each role's newest, then what was retired, the latest first."""
    found = [
        Listed("root", fingerprint(identity.root.public).hex(), identity.created_ms, None),
        Listed(ROLE_SIGNING, fingerprint(identity.signing.public).hex(), identity.born_ms(ROLE_SIGNING), None),
        Listed(ROLE_INGEST, identity.ingest.public.key_id.hex(), identity.born_ms(ROLE_INGEST), None),
        Listed(ROLE_RECOVERY, identity.recovery.key_id.hex(), identity.born_ms(ROLE_RECOVERY), None),
        Listed(ROLE_KEK, "", identity.born_ms(ROLE_KEK), None),
        Listed("tag", "", identity.created_ms, None),
    ]
    for one in identity.retired:
        if one.role == ROLE_SIGNING:
            name = fingerprint(one.key).hex()
        elif one.role == ROLE_INGEST:
            name = Recipient.from_seeds(one.key).public.key_id.hex()
        else:
            name = ""
        found.append(Listed(one.role, name, 0, one.at_ms))
    return found


def rotate(folder: Path, role: str, now_ms: int) -> HubIdentity:
    """Make a new key of that role and put it first; durable on return. Raises NeedsPerson, or OurFault (the disk's)."""
    identity = load_or_make(folder, now_ms)
    file = folder / KEYS_FILE
    stored: dict[str, Any] = json.loads(file.read_text())
    keys, name = stored["keys"], _NAMES[role]
    old = bytes.fromhex(keys[name])
    keys[name] = _fresh(folder, role, identity.serial + 1, now_ms).hex()
    kept = Identity(old).public if role == ROLE_SIGNING else old
    stored.setdefault("retired", []).append({"role": role, "key": kept.hex(), "at_ms": now_ms})
    stored.setdefault("made_ms", {})[role] = now_ms
    stored["serial"] = identity.serial + (1 if role in _LISTED else 0)
    _replace(file, stored, identity.serial)
    return load_or_make(folder, now_ms)


def _fresh(folder: Path, role: str, serial: int, now_ms: int) -> bytes:
    """A new key. Of the recovery key only the public half stays; the other goes to a file to be moved away."""
    if role == ROLE_SIGNING:
        return os.urandom(SEED_BYTES)
    if role == ROLE_KEK:
        return os.urandom(KEY_BYTES)
    pair = Recipient(os.urandom(ML_KEM_SEED_BYTES), os.urandom(SEED_BYTES))
    if role == ROLE_INGEST:
        return pair.seeds
    content = {"keys": {"recovery": pair.seeds.hex()}, "created_ms": now_ms}
    write_new(folder / f"recovery-key-{serial}.json", content)
    return pair.public.public


def _replace(file: Path, stored: dict[str, Any], serial: int) -> None:
    """The new file in the old one's place, whole and durable; the old one stays under its serial."""
    before = file.with_name(f"{file.stem}-{serial}.{os.urandom(3).hex()}.json")
    fresh = file.with_suffix(".next")
    try:
        os.link(file, before)
        fresh.unlink(missing_ok=True)
        write_new(fresh, stored)
        os.replace(fresh, file)
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise OurFault(f"the hub's keys cannot be written ({error.strerror})", code="E_DISK_FULL") from None


def rewrap(connection: Connection, vault: Vault) -> int:
    """Wrap everything anew under the newest key-encryption key, in the caller's transaction; how many keys that were.

    Repeating it harms nothing, so it is how a rotation that was cut off is finished.
    """
    facilities = connection.execute(
        "SELECT facility, wrapped_key FROM facility ORDER BY facility FOR UPDATE"
    ).fetchall()
    fresh = [(code, vault.rewrap_facility(code, bytes(wrapped))) for code, wrapped in facilities]
    _update(connection, "UPDATE facility SET wrapped_key = k FROM {} WHERE facility = i", "text", fresh)
    grants = connection.execute("SELECT grant_id, secret FROM grant_key WHERE secret <> '' FOR UPDATE").fetchall()
    secrets = [(bytes(name), vault.rewrap_secret(bytes(secret), bytes(name))) for name, secret in grants]
    _update(connection, "UPDATE grant_key SET secret = k FROM {} WHERE grant_id = i", "bytea", secrets)
    return len(facilities) + len(grants) + sign_in.rewrap(connection, vault)


def _update(connection: Connection, statement: str, kind: str, rows: Sequence[tuple[Any, bytes]]) -> None:
    if rows:
        given = f"unnest(%b::{kind}[], %b::bytea[]) AS fresh (i, k)"
        connection.execute(statement.format(given).encode(), ([one[0] for one in rows], [one[1] for one in rows]))
