"""A referral slip that somebody scans at the hub: checked by the key of the computer that signed it, and noted as read.

A slip may come before its referral, which then is a patient with a paper and nothing more. It opens nothing by itself: the
case is for who may see it. A computer that was shut out is told, since nobody knows whether it signed before or after.
"""

from __future__ import annotations

from dataclasses import dataclass

from hub_server import audit, charts, nodes
from hub_server.charts import Queued
from hub_server.database import Connection
from hub_server.store import Store
from sync_protocol import slip
from sync_protocol.errors import BadSignature, InvalidValue
from sync_protocol.slip import Signed, Summary


@dataclass(frozen=True, slots=True)
class Checked:
    """A slip whose signature holds. centre, computer: whose it is, by their names. revoked_ms: since when it is shut out.

    referral: its row in the queue, None where the referral has not arrived, or was erased.
    """

    summary: Summary
    centre: str
    computer: str
    revoked_ms: int | None
    referral: Queued | None


def read(store: Store, text: str, actor: str, now_ms: int) -> Checked:
    """Check a slip, and note in the audit that ``actor`` read it, before anything of it is handed out.

    Raises what `slip.parse` does, UnknownSender, BadSignature (also ``E_OTHER_FACILITY``).
    """
    found = slip.parse(text)
    with store.database.transaction() as connection:
        known = nodes.find(connection, found.node)
        found.verify(known.verifier, store.vault.identity.environment)
        if known.facility != found.facility:
            raise BadSignature("the computer that signed this slip is of another centre", code="E_OTHER_FACILITY")
        checked = _checked(connection, found, known.name)
        audit.note(connection, actor, "read slip", found.facility, found.referral, now_ms)
    return checked


def _checked(connection: Connection, found: Signed, computer: str) -> Checked:
    row = connection.execute(
        "SELECT f.name, n.revoked_ms FROM node n JOIN facility f ON f.facility = n.facility WHERE n.node = %s",
        (found.node,),
    ).fetchone()
    centre, revoked_ms = row if row is not None else (found.facility, None)
    try:
        referral = charts.find_queued(connection, found.referral)
    except InvalidValue:
        referral = None
    return Checked(found.summary, centre, computer, revoked_ms, referral)
