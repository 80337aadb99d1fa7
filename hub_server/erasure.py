"""Erasing a patient: the key is destroyed, the payloads go, every centre is told, and a restored hub does it again.

PROTOCOL.md §10.4. The ledger has it before anything is destroyed. Items keep place and tag, so that every feed stays
whole; a change of the patient that arrives later is not stored. Where the law wants the data kept, the order is held
until its date, and carried out by the clockwork.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hub_server import audit, feed, registry, tallies
from hub_server.database import Connection
from hub_server.people import fresh_id
from hub_server.store import Entry, Store
from sync_protocol.change import FacilityCode, PatientId, PersonId, RecordId, RecordKey
from sync_protocol.errors import InvalidValue, NeedsPerson
from sync_protocol.schema import Writer

KIND: Final = "erasure"
MAX_REASON_CHARS: Final = 1_000
_RANDOM_BYTES: Final = 10
_ABOUT_A_PATIENT: Final = (
    "referral", "claim_lock", "draft", "glass", "conflicted",
    "subscription", "subscription_request", "own_subscriber", "held_erasure",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Done:
    """verdict: erased, erased_before, held or released. facilities: those that are told. items: whose payload is gone."""

    verdict: str
    facilities: tuple[FacilityCode, ...] = ()
    items: int = 0


@dataclass(frozen=True, slots=True)
class HeldOrder:
    """An erasure that waits for its date."""

    patient: PatientId
    until_ms: int
    reason: str
    asked_ms: int


def erase(store: Store, patient: PatientId, actor: str, now_ms: int) -> Done:
    """Erase now. Raises InvalidValue (``E_UNKNOWN_PATIENT``) or NeedsPerson (``E_HELD``: the law wants it kept)."""
    with store.database.transaction() as connection:
        home = _held_for_update(connection, patient)
        order = _held_order(connection, patient)
        if order is not None and order.until_ms > now_ms:
            raise NeedsPerson(
                "this patient's erasure is held",
                code="E_HELD",
                next_step="'hub erase --held' shows until when and why; --release ends it",
            )
        if _is_erased(connection, patient):
            return Done("erased_before")
        store.vault.note(connection, "erased", {"patient": patient.hex(), "home": home}, now_ms)
        done = carry_out(connection, store, patient, now_ms)
        audit.note(connection, actor, "erase", home, patient, now_ms)
    store.vault.forget_patient(patient)
    return done


def hold(store: Store, patient: PatientId, until_ms: int, reason: str, actor: str, now_ms: int) -> Done:
    """Erase on a later day. Raises InvalidValue (``E_UNKNOWN_PATIENT``, ``E_INVALID_VALUE``)."""
    if until_ms <= now_ms or not 0 < len(reason) <= MAX_REASON_CHARS:
        raise InvalidValue("an erasure is held until a day to come, and for a reason", field="until")
    with store.database.transaction() as connection:
        home = _held_for_update(connection, patient)
        if _is_erased(connection, patient):
            return Done("erased_before")
        said = {"patient": patient.hex(), "home": home, "until_ms": until_ms, "reason": reason}
        store.vault.note(connection, "erasure_held", said, now_ms)
        keep_order(connection, HeldOrder(patient, until_ms, reason, now_ms))
        audit.note(connection, actor, "hold erasure", home, patient, now_ms)
    return Done("held")


def release(store: Store, patient: PatientId, actor: str, now_ms: int) -> Done:
    """The order is taken back: nothing is erased. Raises InvalidValue (``E_UNKNOWN_PATIENT``, ``E_NOT_HELD``)."""
    with store.database.transaction() as connection:
        home = _held_for_update(connection, patient)
        if _held_order(connection, patient) is None:
            raise InvalidValue("no erasure of this patient is held", code="E_NOT_HELD")
        store.vault.note(connection, "erasure_released", {"patient": patient.hex()}, now_ms)
        drop_order(connection, patient)
        audit.note(connection, actor, "release erasure", home, patient, now_ms)
    return Done("released")


def carry_out_due(store: Store, now_ms: int) -> int:
    """Erase those whose date has come; how many."""
    with store.database.transaction() as connection:
        due = [one.patient for one in held_orders(connection) if one.until_ms <= now_ms]
    for patient in due:
        erase(store, patient, "hub", now_ms)
    return len(due)


# -- what is held ------------------------------------------------------------------------------------------------------


def held_orders(connection: Connection) -> list[HeldOrder]:
    """By date."""
    rows = connection.execute(
        "SELECT patient, until_ms, reason, asked_ms FROM held_erasure ORDER BY until_ms, patient"
    ).fetchall()
    return [HeldOrder(PatientId(bytes(row[0])), row[1], row[2], row[3]) for row in rows]


def _held_order(connection: Connection, patient: PatientId) -> HeldOrder | None:
    return next((one for one in held_orders(connection) if one.patient == patient), None)


def keep_order(connection: Connection, order: HeldOrder) -> None:
    connection.execute(
        "INSERT INTO held_erasure (patient, until_ms, reason, asked_ms) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (patient) DO UPDATE SET until_ms = EXCLUDED.until_ms, reason = EXCLUDED.reason",
        (order.patient, order.until_ms, order.reason, order.asked_ms),
    )


def drop_order(connection: Connection, patient: PatientId) -> None:
    connection.execute("DELETE FROM held_erasure WHERE patient = %s", (patient,))


# -- erasing -----------------------------------------------------------------------------------------------------------


def _held_for_update(connection: Connection, patient: PatientId) -> FacilityCode:
    row = connection.execute("SELECT facility FROM patient WHERE patient = %s FOR UPDATE", (patient,)).fetchone()
    if row is None:
        raise InvalidValue("the hub does not have this patient", field="patient", code="E_UNKNOWN_PATIENT")
    return FacilityCode(row[0])


def _is_erased(connection: Connection, patient: PatientId) -> bool:
    row = connection.execute("SELECT wrapped_key = '' FROM patient WHERE patient = %s", (patient,)).fetchone()
    return row is not None and bool(row[0])


def remember_erased(connection: Connection, patient: PatientId, home: str, now_ms: int) -> None:
    """A patient that this database does not have, or no longer: nothing of it is ever stored."""
    connection.execute(
        "INSERT INTO patient (patient, facility, wrapped_key, created_ms) VALUES (%s, %s, '', %s)"
        " ON CONFLICT (patient) DO NOTHING",
        (patient, home, now_ms),
    )
    connection.execute("SELECT 1 FROM patient WHERE patient = %s FOR UPDATE", (patient,))


def carry_out(connection: Connection, store: Store, patient: PatientId, now_ms: int) -> Done:
    """Destroy what is here, and give the order to every centre that held the patient. The patient is held FOR UPDATE."""
    rows = connection.execute("SELECT facility FROM subscription WHERE patient = %s", (patient,)).fetchall()
    feeds = sorted(FacilityCode(row[0]) for row in rows)
    store.hold_stamp(connection)
    feed.lock(connection, feeds)
    tallies.mark_patient(connection, patient)
    segments = connection.execute(
        "SELECT DISTINCT segment FROM item WHERE facility = ANY(%s) AND patient = %s AND segment <> ''",
        (feeds, patient),
    ).fetchall()
    registry.drop_sealed_of(connection, [bytes(row[0]) for row in segments])
    emptied = connection.execute(
        "UPDATE item SET payload = '' WHERE facility = ANY(%s) AND patient = %s AND payload <> ''", (feeds, patient)
    )
    for table in _ABOUT_A_PATIENT:
        connection.execute(f"DELETE FROM {table} WHERE patient = %s".encode(), (patient,))
    connection.execute("DELETE FROM linked_patient WHERE patient = %s OR other = %s", (patient, patient))
    connection.execute("UPDATE patient SET wrapped_key = '' WHERE patient = %s", (patient,))
    _give_the_order(connection, store, patient, feeds, now_ms)
    return Done("erased", tuple(feeds), emptied.rowcount)


def _give_the_order(
    connection: Connection, store: Store, patient: PatientId, feeds: Sequence[FacilityCode], now_ms: int
) -> None:
    """A record in each feed, of a scope of its own: the patient's is gone."""
    hub = PersonId(store.vault.identity.hub)
    for facility in feeds:
        name = fresh_id(now_ms, os.urandom(_RANDOM_BYTES))
        entry = Entry(RecordKey(KIND, RecordId(name)), PatientId(name), {"erased": patient})
        store.write_in(connection, facility, [entry], person=hub, writer=Writer.HUB, now_ms=now_ms)
