"""What a doctor looks at: the queue, a referral with everything that is known of its patient, a field in conflict.

The queue's rows hold no patient's data and are read as they are. A chart does: whoever asks for one through
`read_charts`, `conflicts` or `find_conflict` is noted in the audit first, in a transaction that is committed before
anything is opened. A patient is read from the feed of its home, which holds all of it.

It refuses to know what a doctor may do with it (`consults`) and how it is displayed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hub_server import audit, hospitals, people
from hub_server.claim_locks import Lock
from hub_server.database import Connection
from hub_server.store import Store
from sync_protocol import exports, merge, referral
from sync_protocol.canonical import Value
from sync_protocol.change import ChangeId, FacilityCode, PatientId, PersonId, RecordId, RecordKey
from sync_protocol.errors import InvalidValue
from sync_protocol.exports import Unseen
from sync_protocol.merge import Held, Record, Shown
from sync_protocol.referral import Progress, Status

NEWS_KINDS: Final = frozenset(
    {"patient", "case", "vitals", "referral", "message", "reply", "follow_up", "acknowledgement", "attachment"}
)
CHARTS_A_READ: Final = 50  # opened at a time: bounds the memory of a list
WAITING: Final = (Status.RECEIVED.value, Status.CLAIMED.value)
URGENCY_WORDS: Final = ("emergency", "urgent", "routine")  # by rank, as the queue keeps it


@dataclass(frozen=True, slots=True)
class Queued:
    """A row of the queue. feed: whose it was read from. urgency: 0 emergency, 1 urgent, 2 routine. answered_ms: of the first
    answer. centre: the facility that referred, which need not be the patient's home. hub: of the hospital that the centre
    belongs to, empty for none. lock: whom it waits for, and when whoever claimed it last did something about it."""

    feed: FacilityCode
    referral: RecordId
    patient: PatientId
    specialty: str
    urgency: int
    status: str
    received_ms: int
    claimed_by: PersonId | None
    claimed_ms: int | None
    answered_ms: int | None
    centre: FacilityCode
    hub: str
    lock: Lock

    def held_by(self, now_ms: int, lapse_ms: int) -> PersonId | None:
        """Whose it is, so that others leave it: who claimed it and has not let the claim lapse, or was handed it."""
        if self.status == Status.CLAIMED.value and self.claimed_ms is not None:
            return None if self.lock.has_lapsed(self.claimed_ms, now_ms, lapse_ms) else self.claimed_by
        return self.lock.waits_for(now_ms, lapse_ms) if self.status == Status.RECEIVED.value else None


@dataclass(frozen=True, slots=True)
class Chart:
    """A referral and all records of its patient, as one feed holds them.

    facility: of the centre that referred, hub: of its hospital, empty for none. positions: of each change in that feed.
    heads: for each feed that the patient stands in, the position behind which this chart may lack something.
    """

    feed: FacilityCode
    facility: FacilityCode
    patient: PatientId
    specialty: str
    hub: str
    referral: Record
    records: tuple[Record, ...]
    positions: Mapping[ChangeId, int]
    heads: Mapping[str, int]
    progress: Progress
    lock: Lock

    def about(self, kind: str) -> list[Record]:
        """The records of a kind that name this referral, first to last."""
        name = self.referral.key.record
        found = [one for one in self.records if one.key.kind == kind and one.view().get("referral") == name]
        return sorted(found, key=lambda one: _first(one).order)

    @property
    def own(self) -> dict[str, Value]:
        """What the patient's own record shows; empty where it has not arrived."""
        found = (one for one in self.records if one.key.kind == "patient" and one.key.record == bytes(self.patient))
        return next((one.view() for one in found), {})

    @property
    def reply(self) -> Record | None:
        """The reply that counts."""
        return next((one for one in self.about("reply") if one.key.record == self.progress.reply), None)

    def newer(self, positions: Mapping[str, int], but_of: PersonId) -> tuple[Unseen, ...]:
        """What somebody else wrote behind the positions of a page that was opened before; nothing where those do not say
        for this feed."""
        looked_at = positions.get(self.feed)
        if looked_at is None:
            return ()
        found = []
        for one in (record for record in self.records if record.key.kind in NEWS_KINDS):
            for field in one.fields:
                for name, held in one.live[field].items():
                    late = self.positions.get(name, looked_at) > looked_at and held.change.person != but_of
                    if late and field not in exports.BOOKKEEPING:
                        found.append(Unseen(one.key, field, held.change.writes[field], exports.at_ms(held)))
        return tuple(sorted(found, key=lambda item: (item.at_ms, item.key.kind, item.key.record, item.field)))

    @property
    def unseen(self) -> tuple[Unseen, ...] | None:
        """What was written before the reply reached the centre and the doctor had not seen; None if unknown."""
        reply = self.reply
        if reply is None:
            return None
        return exports.unseen_by_doctor(self.referral, reply, self.records, self.positions, self.feed)


def author(record: Record) -> PersonId:
    """Who began the record."""
    return _first(record).change.person


def _first(record: Record) -> Held:
    return min(record.changes.values(), key=lambda held: held.order)


# -- the queue ---------------------------------------------------------------------------------------------------------

_QUEUED: Final = (
    "SELECT r.facility, r.referral, r.patient, r.specialty, r.urgency, r.status, r.received_ms, r.claimed_by,"
    " r.claimed_ms, r.answered_ms, r.centre, r.hub, coalesce(l.touched_ms, 0), l.handed_to, l.handed_by,"
    " coalesce(l.handed_ms, 0)"
    " FROM referral r CROSS JOIN LATERAL (SELECT p.facility FROM patient p WHERE p.patient = r.patient {} OFFSET 0) AS home"
    " LEFT JOIN claim_lock l ON l.facility = home.facility AND l.referral = r.referral"
)
# OFFSET 0: each referral's patient is looked up by itself. PostgreSQL expects few referrals to stand in their patient's
# home, where nearly all do, and would join, and then sort, all that wait for the sake of the first.
_ANYWHERE: Final = _QUEUED.format("")
_AT_HOME: Final = _QUEUED.format("AND p.facility = r.facility")

_ORDER: Final = "r.urgency, r.received_ms, r.referral"


def queue(
    connection: Connection,
    *,
    facility: str | None = None,
    statuses: Sequence[str] = (),
    specialties: Sequence[str] = (),
    hub: str = hospitals.ALL,
    limit: int | None = None,
) -> list[Queued]:
    """Referrals, those that wait for a doctor first, then most urgent first, then in the order of their receipt.

    Each stands there once, by its patient's home; ``facility`` asks for those in that facility's feed. hub: those of a
    hospital's centres, and of the centres that have none.
    """
    rows_of = _AT_HOME if facility is None else _ANYWHERE
    conditions = ["r.facility = %(facility)s"] if facility is not None else []
    conditions.append("(cardinality(%(specialties)s::text[]) = 0 OR r.specialty = ANY(%(specialties)s))")
    order = f"ORDER BY r.status <> ALL(%(waiting)s), {_ORDER} LIMIT %(limit)s"
    if statuses:
        conditions.append("r.status = ANY(%(statuses)s)")
    if statuses and set(statuses) <= set(WAITING):  # as the indexes have it: the doctors' pages ask so all day
        conditions.append("r.status IN ('received', 'claimed')")
        order = f"ORDER BY {_ORDER} LIMIT %(limit)s"
    places = ["r.hub = %(hub)s", "r.hub = ''"] if hub != hospitals.ALL else ["true"]  # each goes by the index
    parts = [f"({rows_of} WHERE {' AND '.join([*conditions, place])} {order})" for place in places]
    rows = connection.execute(
        f"SELECT * FROM ({' UNION ALL '.join(parts)}) AS r {order}".encode(),
        {
            "facility": facility,
            "statuses": list(statuses),
            "specialties": list(specialties),
            "hub": hub,
            "waiting": list(WAITING),
            "limit": limit,
        },
    ).fetchall()
    return [_queued(row) for row in rows]


def _queued(row: Sequence[object]) -> Queued:
    return Queued(*row[:12], Lock(*row[12:]))  # type: ignore[call-arg, arg-type]  # the columns of _QUEUED


# -- charts ------------------------------------------------------------------------------------------------------------


def find_queued(connection: Connection, name: RecordId) -> Queued:
    """A referral's row, by its patient's home. Raises InvalidValue (``E_NO_SUCH_REFERRAL``)."""
    row = connection.execute(
        f"{_ANYWHERE} WHERE r.referral = %s ORDER BY r.facility = home.facility DESC LIMIT 1", (name,)
    ).fetchone()
    if row is None:
        raise _no_referral()
    return _queued(row)


def _no_referral() -> InvalidValue:
    return InvalidValue(
        "The hub has no such referral.",
        code="E_NO_SUCH_REFERRAL",
        next_step="'hub referrals' lists them; what has just arrived takes a moment",
    )


def chart(connection: Connection, store: Store, name: RecordId, *, hold: bool = False) -> Chart:
    """One referral's chart, for a verb that notes itself. hold: nothing of this patient is admitted until the commit.

    Raises InvalidValue (``E_NO_SUCH_REFERRAL``).
    """
    found = find_queued(connection, name)
    if hold:
        connection.execute("SELECT 1 FROM patient WHERE patient = %s FOR UPDATE", (found.patient,))
        found = find_queued(connection, name)  # as it is now that nobody else does anything about it
    return _only(_open(connection, store, [found]))


def standing_reply(connection: Connection, store: Store, name: RecordId) -> Record | None:
    """The reply that counts; None where there is none. Nobody answers until the commit. What is opened is shown to nobody.

    Raises InvalidValue (``E_NO_SUCH_REFERRAL``).
    """
    row = find_queued(connection, name)
    # not FOR SHARE: who keeps a draft then asks for this very lock, and two who shared it would wait for each other
    connection.execute("SELECT 1 FROM patient WHERE patient = %s FOR NO KEY UPDATE", (row.patient,))
    row = find_queued(connection, name)
    return _only(_open(connection, store, [row])).reply if row.answered_ms is not None else None


def _only(opened: Sequence[Chart]) -> Chart:
    if not opened:
        raise _no_referral()
    return opened[0]


def read_chart(store: Store, row: Queued, actor: str, now_ms: int) -> Chart:
    """The chart of one row, noted as read by ``actor``. Raises InvalidValue (``E_NO_SUCH_REFERRAL``): also of a patient
    who was erased since the row was read."""
    return _only(list(read_charts(store, [row], actor, now_ms)))


def read_charts(store: Store, rows: Sequence[Queued], actor: str, now_ms: int) -> Iterator[Chart]:
    """The charts of these rows, noted as read by ``actor``, some at a time; none of a patient who was erased since."""
    for at in range(0, len(rows), CHARTS_A_READ):
        group = rows[at : at + CHARTS_A_READ]
        with store.database.transaction() as connection:
            audit.note_all(
                connection, [audit.Entry(actor, "read referral", row.feed, row.referral) for row in group], now_ms
            )
        with store.database.transaction() as connection:
            opened = _open(connection, store, group)
        yield from opened


def newest(connection: Connection, feed: str, patient: PatientId) -> int:
    """The position of the newest change of a patient in a feed. Opens nothing."""
    row = connection.execute(
        "SELECT max(position) FROM item WHERE facility = %s AND patient = %s", (feed, patient)
    ).fetchone()
    return int(row[0] or 0) if row is not None else 0


def last_seen_ms(connection: Connection, facility: str) -> int | None:
    """When a centre was last in touch; None for never."""
    row = connection.execute(
        "SELECT max(last_seen_ms) FROM node WHERE facility = %s AND revoked_ms IS NULL", (facility,)
    ).fetchone()
    return row[0] if row else None


def _open(connection: Connection, store: Store, rows: Sequence[Queued]) -> list[Chart]:
    patients = sorted({row.patient for row in rows})
    heads = _heads(connection, patients)  # before the records: what came in between counts as not seen
    opened: list[Chart] = []
    for feed in sorted({row.feed for row in rows}):
        wanted = sorted({row.patient for row in rows if row.feed == feed})
        records: dict[PatientId, dict[RecordKey, list[Held]]] = {}
        positions: dict[PatientId, dict[ChangeId, int]] = {}
        for position, held in store.changes(connection, feed, wanted):
            patient = held.change.patient
            records.setdefault(patient, {}).setdefault(held.change.key, []).append(held)
            positions.setdefault(patient, {})[held.change.id] = position
        for row in rows:
            if row.feed == feed and RecordKey("referral", row.referral) in records.get(row.patient, {}):
                folded = [merge.fold(key, held) for key, held in records[row.patient].items()]
                opened.append(_chart(row, folded, positions.get(row.patient, {}), heads.get(row.patient, {})))
    order = {(row.feed, row.referral): at for at, row in enumerate(rows)}
    return sorted(opened, key=lambda one: order[one.feed, one.referral.key.record])


def _chart(row: Queued, folded: Sequence[Record], positions: Mapping[ChangeId, int], heads: Mapping[str, int]) -> Chart:
    about = next(one for one in folded if one.key == RecordKey("referral", row.referral))
    others = [one for one in folded if one.key != about.key]
    progress = referral.progress(about, others, sent=True)
    facility = FacilityCode(exports.facility_of(about))
    return Chart(
        row.feed,
        facility,
        row.patient,
        row.specialty,
        row.hub,
        about,
        tuple(folded),
        positions,
        heads,
        progress,
        row.lock,
    )


def _heads(connection: Connection, patients: Sequence[PatientId]) -> dict[PatientId, dict[str, int]]:
    found: dict[PatientId, dict[str, int]] = {}
    for patient, facility, position in connection.execute(
        "SELECT s.patient, s.facility, f.position FROM subscription s JOIN feed f ON f.facility = s.facility"
        " WHERE s.patient = ANY(%s)",
        (list(patients),),
    ).fetchall():
        found.setdefault(PatientId(bytes(patient)), {})[facility] = position
    return found


# -- conflicts ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Conflict:
    """A field with several live writes. names: of the people who wrote them, as far as the directory knows them."""

    feed: FacilityCode
    record: Record
    field: str
    shown: Shown
    names: Mapping[PersonId, str]


def conflicts(store: Store, actor: str, now_ms: int, facility: str | None = None) -> Iterator[Conflict]:
    """All fields that wait for a person's decision, noted as read by ``actor``."""
    with store.database.transaction() as connection:
        rows = connection.execute(
            "SELECT c.facility, c.kind, c.record, c.patient FROM conflicted c JOIN patient p ON p.patient = c.patient"
            " WHERE CASE WHEN %(facility)s::text IS NULL THEN c.facility = p.facility ELSE c.facility = %(facility)s END"
            " ORDER BY c.since_ms, c.record",
            {"facility": facility},
        ).fetchall()
        audit.note_all(
            connection,
            [audit.Entry(actor, "read conflict", feed, bytes(record)) for feed, _, record, _ in rows],
            now_ms,
        )
    for feed, kind, name, patient in rows:
        with store.database.transaction() as connection:
            key = RecordKey(kind, RecordId(bytes(name)))
            record = store.record(connection, feed, PatientId(bytes(patient)), key)
            opened = _fields_in_conflict(connection, store, feed, record)
        yield from opened


def find_conflict(store: Store, actor: str, name: str, now_ms: int) -> Conflict:
    """The field that ``kind/uuid/field`` names. Raises InvalidValue (``E_BAD_ID``, ``E_NO_CONFLICT``)."""
    key, field = exports.parse_conflict_id(name)
    with store.database.transaction() as connection:
        feed, _ = place_of_conflict(connection, key)
        audit.note(connection, actor, "read conflict", feed, key.record, now_ms)
    with store.database.transaction() as connection:
        return conflict_in(connection, store, key, field)


def conflict_in(connection: Connection, store: Store, key: RecordKey, field: str, *, hold: bool = False) -> Conflict:
    """The same for a verb that notes itself. hold: nothing of this patient is admitted until the commit."""
    feed, patient = place_of_conflict(connection, key)
    if hold:
        connection.execute("SELECT 1 FROM patient WHERE patient = %s FOR UPDATE", (patient,))
    record = store.record(connection, feed, patient, key)
    shown = record.shown(field) if record is not None else None
    if record is None or shown is None:
        raise _no_conflict()
    return Conflict(feed, record, field, shown, _authors(connection, store, feed, shown))


def conflicts_of(store: Store, actor: str, key: RecordKey, now_ms: int) -> list[Conflict]:
    """All fields of a record that are in conflict. Raises InvalidValue (``E_NO_CONFLICT``)."""
    with store.database.transaction() as connection:
        feed, _ = place_of_conflict(connection, key)
        audit.note(connection, actor, "read conflict", feed, key.record, now_ms)
    with store.database.transaction() as connection:
        feed, patient = place_of_conflict(connection, key)
        record = store.record(connection, feed, patient, key)
        return _fields_in_conflict(connection, store, feed, record)


def _fields_in_conflict(
    connection: Connection, store: Store, feed: FacilityCode, record: Record | None
) -> list[Conflict]:
    found = record.conflicts() if record is not None else {}
    return [
        Conflict(feed, record, field, shown, _authors(connection, store, feed, shown))
        for field, shown in found.items()
        if record is not None
    ]


def place_of_conflict(connection: Connection, key: RecordKey) -> tuple[FacilityCode, PatientId]:
    """The feed that a record with a conflict is read from, and whose it is. Raises InvalidValue (``E_NO_CONFLICT``)."""
    row = connection.execute(
        "SELECT c.facility, c.patient FROM conflicted c JOIN patient p ON p.patient = c.patient"
        " WHERE c.record = %s AND c.kind = %s ORDER BY c.facility = p.facility DESC LIMIT 1",
        (key.record, key.kind),
    ).fetchone()
    if row is None:
        raise _no_conflict()
    return FacilityCode(row[0]), PatientId(bytes(row[1]))


def _no_conflict() -> InvalidValue:
    return InvalidValue(
        "Nothing is in conflict there.",
        code="E_NO_CONFLICT",
        next_step="'hub conflicts list' shows what is; this one may be settled already",
    )


# -- names of staff ----------------------------------------------------------------------------------------------------


def _authors(connection: Connection, store: Store, feed: str, shown: Shown) -> dict[PersonId, str]:
    return names(connection, store, feed, {held.change.person for held in shown.live})


def names(connection: Connection, store: Store, feed: str, wanted: Iterable[PersonId]) -> dict[PersonId, str]:
    """The names of members of staff: people of the hub, and those in a centre's directory."""
    asked = set(wanted)
    found = people.names(connection, asked)
    for person in asked - set(found):
        entry = store.record(connection, feed, PatientId(person), RecordKey("person", RecordId(person)))
        name = entry.view().get("name") if entry is not None else None
        if isinstance(name, str):
            found[person] = name
    return found
