"""What a person has typed into a form and not saved yet: it survives a lock, a reload and a restart.

A draft belongs to one person and one form; nobody else is shown it. It lies in the encrypted database, never travels,
goes when its form is saved, when its patient is erased, and by itself when it is old. Sizes and numbers are bounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from sqlalchemy import Connection

from hwc_node.engine import begin_read, begin_write
from hwc_node.store import Store
from sync_protocol.change import PatientId, PersonId
from sync_protocol.documents import parse_id
from sync_protocol.errors import InvalidValue, TooLarge

MAX_DRAFT_BYTES: Final = (
    256 * 1024
)  # whatever a form may send (`guarding.MAX_BODY_BYTES`): what can be saved can be kept
MAX_DRAFTS: Final = 40  # of one person: then the oldest goes
KEPT_MS: Final = 14 * 86_400_000  # a fortnight: who has not come back to it by then begins anew
MAX_PLACE_CHARS: Final = 200
MADE: Final[Mapping[str, str]] = {
    "case": "case",
    "vitals": "vitals",
    "follow_up": "follow_up",
    "patient": "patient",
    "consent": "consent",
    "referral": "referral",
    "correction": "vitals",
    "message_id": "message",
}
"""A form's field that holds the id of a record that the form makes → the record's kind."""

Fields = Mapping[str, Sequence[str]]
_FIELDS: Final = msgspec.msgpack.Decoder(dict[str, list[str]])


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry under way. place: the form's path. patient: whom it is about, if that is known."""

    place: str
    patient: PatientId | None
    fields: dict[str, list[str]]
    at_ms: int


def keep(
    store: Store, person: PersonId, place: str, fields: Fields, now_ms: int, patient: PatientId | None = None
) -> bool:
    """Keep what the form says now in the place of what it said before; False for a form that was saved meanwhile.

    Raises TooLarge (``E_DRAFT_TOO_LARGE``).
    """
    raw = msgspec.msgpack.encode({name: list(values) for name, values in fields.items()})
    if len(raw) > MAX_DRAFT_BYTES or len(place) > MAX_PLACE_CHARS:
        raise TooLarge("This entry is too long to be kept before it is saved.", code="E_DRAFT_TOO_LARGE")
    with begin_write(store.engine) as connection:
        if _is_saved(connection, fields):
            return False
        connection.exec_driver_sql(
            "INSERT INTO draft (person, place, patient, fields, at_ms) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (person, place) DO UPDATE SET patient = excluded.patient, fields = excluded.fields,"
            " at_ms = excluded.at_ms",
            (person, place, patient, raw, now_ms),
        )
        connection.exec_driver_sql("DELETE FROM draft WHERE at_ms < ?", (now_ms - KEPT_MS,))
        connection.exec_driver_sql(
            "DELETE FROM draft WHERE person = ? AND place NOT IN"
            " (SELECT place FROM draft WHERE person = ? ORDER BY at_ms DESC, place LIMIT ?)",
            (person, person, MAX_DRAFTS),
        )
    return True


def is_saved(store: Store, fields: Fields) -> bool:
    """Whether a record that this form makes is there already: a draft of it would bring back what was saved."""
    with begin_read(store.engine) as connection:
        return _is_saved(connection, fields)


def _is_saved(connection: Connection, fields: Fields) -> bool:
    for field, kind in MADE.items():
        for text in fields.get(field, ())[:1]:
            try:
                name = parse_id(text)
            except InvalidValue:
                continue
            query = "SELECT 1 FROM record WHERE kind = ? AND record = ?"
            if connection.exec_driver_sql(query, (kind, name)).first() is not None:
                return True
    return False


def find(store: Store, person: PersonId, place: str) -> Draft | None:
    """This person's draft of this form."""
    return next((one for one in of_person(store, person) if one.place == place), None)


def of_person(store: Store, person: PersonId) -> list[Draft]:
    """Their entries under way, the latest first."""
    with begin_read(store.engine) as connection:
        rows = connection.exec_driver_sql(
            "SELECT place, patient, fields, at_ms FROM draft WHERE person = ? ORDER BY at_ms DESC, place", (person,)
        ).fetchall()
    return [
        Draft(str(place), None if patient is None else PatientId(patient), _FIELDS.decode(fields), at_ms)
        for place, patient, fields, at_ms in rows
    ]


def drop(store: Store, person: PersonId, place: str) -> None:
    """The form was saved, or its person does not want it any more."""
    with begin_write(store.engine) as connection:
        connection.exec_driver_sql("DELETE FROM draft WHERE person = ? AND place = ?", (person, place))
