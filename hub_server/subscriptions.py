"""Subscriptions: brought in line with what a patient's records say, asked for by centres and decided by people.

Who is subscribed is derived (`sync_protocol.subscription`, PROTOCOL.md §10.2), so nothing here is remembered that the
records do not say. Admission marks the patients that are concerned; `settle` takes them one by one, each step in a
transaction of its own that may fail and be repeated:

    stage 0   fold the patient's records: requests, own subscribers, links, home
    stage 1   all patients that are linked, directly or not, share what each has of its own

Locks are taken in the one order: patients by id, then feeds by code. One program settles at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hub_server import audit, feed
from hub_server.database import Connection
from hub_server.people import Person, fresh_id
from hub_server.store import Entry, Store
from sync_protocol import merge, subscription
from sync_protocol.change import FacilityCode, PatientId, RecordId, RecordKey
from sync_protocol.errors import InvalidValue, NeedsPerson
from sync_protocol.merge import Record
from sync_protocol.schema import Writer
from sync_protocol.subscription import State

MAX_LINKED: Final = 64  # patients that are said to be one person: beyond that somebody's program errs
MOST_A_TURN: Final = 500  # patients settled before the caller looks at its other work again
_LOCK_KEY: Final = 7_461_006  # advisory lock: one program settles at a time
_DERIVE: Final = 0
_SHARE: Final = 1
_ACTOR: Final = "hub"


@dataclass(frozen=True, slots=True)
class Asked:
    """A centre's request, without what it says. home: the patient's own facility."""

    record: RecordId
    facility: FacilityCode
    home: FacilityCode
    patient: PatientId
    state: State
    asked_ms: int


# -- what people see and decide ----------------------------------------------------------------------------------------


def asked(connection: Connection, *, everything: bool = False) -> list[Asked]:
    """The requests that wait for a decision, the oldest first; ``everything``: the decided and ended ones too."""
    rows = connection.execute(
        "SELECT r.subscription, r.facility, p.facility, r.patient, r.state, r.asked_ms FROM subscription_request r"
        " JOIN patient p ON p.patient = r.patient WHERE %s OR r.state = %s ORDER BY r.asked_ms, r.subscription",
        (everything, State.ASKED.value),
    ).fetchall()
    return [_asked(row) for row in rows]


def _asked(row: Sequence[object]) -> Asked:
    record, facility, home, patient, state, asked_ms = row
    return Asked(
        RecordId(bytes(record)),  # type: ignore[call-overload]
        FacilityCode(str(facility)),
        FacilityCode(str(home)),
        PatientId(bytes(patient)),  # type: ignore[call-overload]
        State(str(state)),
        int(asked_ms),  # type: ignore[call-overload]
    )


def find(connection: Connection, record: RecordId) -> Asked:
    """Raises InvalidValue (``E_NO_SUCH_RECORD``)."""
    row = connection.execute(
        "SELECT r.subscription, r.facility, p.facility, r.patient, r.state, r.asked_ms FROM subscription_request r"
        " JOIN patient p ON p.patient = r.patient WHERE r.subscription = %s",
        (record,),
    ).fetchone()
    if row is None:
        raise InvalidValue(
            "no centre asked for a subscription under that id",
            code="E_NO_SUCH_RECORD",
            next_step="'hub subscriptions list --all' shows them",
        )
    return _asked(row)


def reason(store: Store, one: Asked, actor: str, now_ms: int) -> str:
    """Why the centre asks, in its words. Noted in the audit: it is about a patient."""
    with store.database.transaction() as connection:
        records = store.patient_records(connection, one.home, one.patient)
        audit.note(connection, actor, "read subscription", one.facility, one.record, now_ms)
    return next((each.reason for each in subscription.requests(records) if each.record == one.record), "")


def decide(
    store: Store, record: RecordId, person: Person, *, granted: bool, said: str, now_ms: int, randomness: bytes
) -> Asked:
    """Grant or refuse a request, and settle it at once. Repeating it repeats nothing. randomness: 10 bytes.

    Raises InvalidValue (``E_NO_SUCH_RECORD``), or NeedsPerson (``E_BY_CARD``: the card decided, ``E_ENDED``).
    """
    wanted = State.GRANTED if granted else State.REFUSED
    with store.database.transaction() as connection:
        _hold(connection, [find(connection, record).patient])
        one = find(connection, record)
        if one.state is State.ENDED:
            raise NeedsPerson("the centre has ended this subscription", code="E_ENDED")
        if one.state is State.BY_CARD:
            raise NeedsPerson(
                "the patient's card decided this: the centre holds it",
                code="E_BY_CARD",
                next_step="the home centre can make the card invalid",
            )
        if one.state is not wanted:
            writes = {"subscription": record, "granted": granted} | ({"reason": said} if said else {})
            name = RecordKey("subscription_decision", RecordId(fresh_id(now_ms, randomness)))
            entry = Entry(name, one.patient, writes)
            store.write_in(connection, one.facility, [entry], person=person.id, writer=Writer.HUB, now_ms=now_ms)
            verb = "grant subscription" if granted else "refuse subscription"
            audit.note(connection, person.actor, verb, one.facility, one.patient, now_ms)
    settle(store, now_ms, waiting=True)
    with store.database.transaction() as connection:
        return find(connection, record)


# -- bringing them in line ---------------------------------------------------------------------------------------------


def settle(store: Store, now_ms: int, most: int = MOST_A_TURN, *, waiting: bool = False) -> int:
    """Settle what is due; how many steps were done, 0 when nothing is due or another program is at it. waiting: for
    each of that one's steps, so that what was due before is settled on return."""
    done = 0
    while done < most and _settle_one(store, now_ms, waiting=waiting):
        done += 1
    return done


def _settle_one(store: Store, now_ms: int, *, waiting: bool) -> bool:
    with store.database.transaction() as connection:
        if waiting:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK_KEY,))
        locked = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK_KEY,)).fetchone()
        row = connection.execute("SELECT patient, stage FROM subscription_due ORDER BY seq LIMIT 1").fetchone()
        if row is None or locked is None or not locked[0]:
            return False
        patient = PatientId(bytes(row[0]))
        if row[1] == _DERIVE:
            _derive(connection, store, patient)
        else:
            _share(connection, store, patient, now_ms)
    return True


def _hold(connection: Connection, patients: Iterable[PatientId]) -> dict[PatientId, FacilityCode]:
    """Hold these patients, in order; each one's home. What is not here, or erased, is left out."""
    rows = connection.execute(
        "SELECT patient, facility FROM patient WHERE patient = ANY(%b) AND wrapped_key <> '' ORDER BY patient FOR UPDATE",
        (sorted(patients),),
    ).fetchall()
    return {PatientId(bytes(patient)): FacilityCode(home) for patient, home in rows}


def _derive(connection: Connection, store: Store, patient: PatientId) -> None:
    """What the patient's records say. Held for update, so that nothing of it is admitted meanwhile."""
    home = _hold(connection, [patient]).get(patient)
    history = store.history(connection, patient) if home is not None else []
    records = [merge.fold(key, history) for key in merge.keys_of(held.change for held in history)]
    before = _linked(connection, patient)
    _keep_requests(connection, patient, records)
    own = subscription.subscribers(records)
    _keep_own(connection, patient, own)
    if home is not None and home not in own and (registered := subscription.registered_at(records)) is not None:
        store.move_home(connection, patient, registered)
    _keep_links(connection, patient, subscription.linked(records) - {patient})
    connection.execute("DELETE FROM subscription_due WHERE patient = %s AND stage = %s", (patient, _DERIVE))
    feed.mark_due(connection, sorted({patient} | before), _SHARE)


def _keep_requests(connection: Connection, patient: PatientId, records: Sequence[Record]) -> None:
    found = subscription.requests(records)
    connection.execute("DELETE FROM subscription_request WHERE patient = %s", (patient,))
    connection.execute(
        "INSERT INTO subscription_request (facility, subscription, patient, state, asked_ms)"
        " SELECT f, r, %s, s, t FROM unnest(%b::text[], %b::bytea[], %b::text[], %b::bigint[]) AS asked (f, r, s, t)"
        " ON CONFLICT (facility, subscription) DO NOTHING",
        (
            patient,
            [one.facility for one in found],
            [one.record for one in found],
            [one.state.value for one in found],
            [one.asked_ms for one in found],
        ),
    )


def _keep_own(connection: Connection, patient: PatientId, facilities: set[FacilityCode]) -> None:
    connection.execute("DELETE FROM own_subscriber WHERE patient = %s", (patient,))
    connection.execute(
        "INSERT INTO own_subscriber (patient, facility) SELECT %s, facility FROM feed WHERE facility = ANY(%s)",
        (patient, sorted(facilities)),
    )


def _keep_links(connection: Connection, patient: PatientId, others: set[PatientId]) -> None:
    connection.execute("DELETE FROM linked_patient WHERE patient = %s", (patient,))
    connection.execute(
        "INSERT INTO linked_patient (patient, other) SELECT %s, other FROM unnest(%b::bytea[]) AS linked (other)",
        (patient, sorted(others)[:MAX_LINKED]),
    )


def _linked(connection: Connection, patient: PatientId) -> set[PatientId]:
    """All patients that are said to be this one, directly or not, itself among them."""
    found, fresh = {patient}, {patient}
    while fresh and len(found) < MAX_LINKED:
        rows = connection.execute(
            "SELECT other FROM linked_patient WHERE patient = ANY(%(fresh)s)"
            " UNION SELECT patient FROM linked_patient WHERE other = ANY(%(fresh)s)",
            {"fresh": sorted(fresh)},
        ).fetchall()
        fresh = {PatientId(bytes(row[0])) for row in rows} - found
        found |= fresh
    return found


def _standing_in(connection: Connection, patients: Iterable[PatientId]) -> set[FacilityCode]:
    """The feeds that anything of these patients stands in: their history goes to its authors' feeds too."""
    rows = connection.execute(
        "SELECT facility FROM subscription WHERE patient = ANY(%b)", (sorted(patients),)
    ).fetchall()
    return {FacilityCode(row[0]) for row in rows}


def _share(connection: Connection, store: Store, patient: PatientId, now_ms: int) -> None:
    """Each patient of the group goes to the feeds of all that any of them has of its own, and to no other."""
    group = sorted(_linked(connection, patient))
    homes = _hold(connection, group)
    wanted = set(homes.values())
    rows = connection.execute("SELECT facility FROM own_subscriber WHERE patient = ANY(%b)", (group,)).fetchall()
    wanted |= {FacilityCode(row[0]) for row in rows}
    there = feed.subscribers(connection, sorted(homes))
    feed.lock(connection, wanted | _standing_in(connection, homes))
    noted = []
    for one, home in homes.items():
        subscribed = set(there.get(one, ()))
        for facility in sorted(subscribed - wanted - {home}):
            feed.unsubscribe(connection, one, facility)
            noted.append(audit.Entry(_ACTOR, "unsubscribe", facility, one))
        for facility in sorted(wanted - subscribed):
            store.subscribe(connection, one, facility, now_ms)
            noted.append(audit.Entry(_ACTOR, "subscribe", facility, one))
    connection.execute("DELETE FROM subscription_due WHERE patient = ANY(%b) AND stage = %s", (group, _SHARE))
    audit.note_all(connection, noted, now_ms)
