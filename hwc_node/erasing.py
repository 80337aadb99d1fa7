"""The hub's order to erase a patient, obeyed (PROTOCOL.md §10.4).

All changes of the patient go, unsent ones too, with their records and their digest, in the transaction that moves the
cursor over the order. Envelopes that held any of them are dropped; what else was in these is sent anew. Nothing is
written about the patient from then on. What stands in backups of this node is not reached: they are to be made anew.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from hwc_node import lexicon, outbox, worklist
from sync_protocol.change import PatientId
from sync_protocol.envelope import EnvelopeId
from sync_protocol.merge import Held
from sync_protocol.schema import Writer

KIND = "erasure"
ID_BYTES = 16


def orders(arrived: Iterable[Held]) -> list[PatientId]:
    """The patients that these changes order to erase. Only the hub itself may."""
    found = [one.change.writes.get("erased") for one in arrived if one.change.kind == KIND and one.origin is Writer.HUB]
    return [PatientId(name) for name in found if isinstance(name, bytes) and len(name) == ID_BYTES]


def obey(connection: Connection, patient: PatientId, now_ms: int) -> int:
    """Erase a patient; how many changes went. Repeating it does no more."""
    connection.exec_driver_sql(
        "INSERT INTO erased_patient (patient, at_ms) VALUES (?, ?) ON CONFLICT DO NOTHING", (patient, now_ms)
    )
    segments = connection.exec_driver_sql(
        "SELECT DISTINCT segment FROM change WHERE patient = ? AND segment IS NOT NULL", (patient,)
    ).fetchall()
    outbox.drop(connection, [EnvelopeId(name) for (name,) in segments])
    gone = connection.exec_driver_sql("DELETE FROM change WHERE patient = ?", (patient,)).rowcount
    connection.exec_driver_sql("DELETE FROM record WHERE patient = ?", (patient,))
    connection.exec_driver_sql("DELETE FROM patient_digest WHERE patient = ?", (patient,))
    lexicon.forget(connection, patient)
    worklist.forget(connection, patient)
    connection.exec_driver_sql("DELETE FROM draft WHERE patient = ?", (patient,))
    return gone
