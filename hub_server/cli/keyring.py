"""`hub keys`: which keys the hub has, and taking a new one into use."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

import typer

from hub_server import audit, rotation
from hub_server.cli import console, opening
from hub_server.cli.opening import AsJson, Yes, time_words
from hub_server.cli.serving import alone
from hub_server.rotation import Listed
from hub_server.vault import ROLE_KEK, Vault
from sync_protocol import documents
from sync_protocol.keys import ROLE_INGEST, ROLE_RECOVERY


class Role(str, Enum):
    SIGNING = "signing"
    INGEST = ROLE_INGEST
    KEK = ROLE_KEK
    RECOVERY = ROLE_RECOVERY


def list_keys(as_json: AsJson = False) -> None:
    """\b
    Examples:
      hub keys list
      hub keys list --json | jq .serial

    List the hub's keys: role, fingerprint, since when, and what was retired. Never a secret.
    """
    with opening.hub() as at:
        identity = at.store.vault.identity
    found = rotation.listed(identity)
    if as_json:
        console.document("hub.keys/1", {"serial": identity.serial, "keys": [_shape(one) for one in found]})
        return
    rows = [
        (
            one.role,
            one.name or "-",
            time_words(one.since_ms) if one.retired_ms is None else "",
            "in use" if one.retired_ms is None else f"retired {time_words(one.retired_ms)}",
        )
        for one in found
    ]
    console.table(("role", "fingerprint", "since", "state"), rows)


def _shape(one: Listed) -> dict[str, Any]:
    return {
        "role": one.role,
        "fingerprint": one.name or None,
        "since": documents.time_text(one.since_ms) if one.retired_ms is None else None,
        "retired_at": documents.time_text(one.retired_ms) if one.retired_ms is not None else None,
    }


def rotate(
    role: Annotated[Role, typer.Argument(metavar="ROLE", help="signing, ingest, kek or recovery.")],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hub keys rotate signing
      hub keys rotate kek --yes

    Take a new key of that role into use. The hub must not be serving; nodes learn of it with their next sync.

    What the old key signed, opens or wrapped is still read, so nothing has to be done at the centres. The former key
    file stays beside the new one. Copy the folder of keys to its safe place afterwards, and move a new recovery key's
    file away. The tag key and the root key cannot be rotated: receipts and enrolments stand on them.
    """
    with opening.hub() as at, alone(at.config):
        opening.confirm(f"Take a new {role.value} key into use?", yes)
        now_ms = opening.now_ms()
        identity = rotation.rotate(at.config.keys_folder, role.value, now_ms)
        rewrapped = 0
        with at.database.transaction() as connection:
            if role is Role.KEK:
                rewrapped = rotation.rewrap(connection, Vault(identity))
            audit.note(connection, opening.operator(), f"rotate {role.value} key", "", b"", now_ms)
    if as_json:
        console.document("hub.keys/1", {"rotated": role.value, "serial": identity.serial, "rewrapped": rewrapped})
        return
    console.text(f"a new {role.value} key is in use" + (f"; {rewrapped} keys are wrapped by it" if rewrapped else ""))
    console.say(f"Copy this folder to its safe place: {at.config.keys_folder}")
