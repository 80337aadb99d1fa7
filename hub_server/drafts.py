"""What a doctor has typed into a case's forms and not sent yet: it survives a reload, a sign-out and another machine.

A draft belongs to one doctor and one referral; nobody else is shown it. It is sealed under the patient's key, so it is
erased with the patient, and opens for nobody who has the database alone. It goes when the reply is signed and by itself
when it is old; sizes and numbers are bounded. It refuses to know what the fields mean and who may write it (`consults`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from hub_server.database import Connection
from hub_server.store import Store
from sync_protocol.change import PatientId, PersonId, RecordId
from sync_protocol.errors import InvalidValue, TooLarge
from sync_protocol.words import N_

MAX_DRAFT_BYTES: Final = 128 * 1024  # a prescription of forty lines and two long texts, in a script of three bytes
MAX_DRAFTS: Final = 60  # of one doctor: then the oldest goes
KEPT_MS: Final = 14 * 86_400_000  # a fortnight: who has not come back to it by then begins anew
_LABEL: Final = b"draft\x00"

Fields = Mapping[str, Sequence[str]]
_FIELDS: Final = msgspec.msgpack.Decoder(dict[str, list[str]])


@dataclass(frozen=True, slots=True)
class Draft:
    """fields: as the form had them. at_ms: when it was kept last."""

    fields: dict[str, list[str]]
    at_ms: int


def keep(
    store: Store,
    connection: Connection,
    doctor: PersonId,
    name: RecordId,
    fields: Fields,
    now_ms: int,
    nonce: bytes,
    *,
    is_of_form: Callable[[str], bool] = lambda _field: True,
) -> None:
    """Keep what a form says now in the place of what it said before; no draft where nothing is said. nonce: 12 random
    bytes. is_of_form: whether a field is one of this form: what the page's others said stays.

    Raises InvalidValue (``E_NO_SUCH_REFERRAL``: also of a patient who was erased) or TooLarge (``E_DRAFT_TOO_LARGE``).
    """
    held = connection.execute(  # neither is the patient erased meanwhile, nor another form kept
        "SELECT facility, patient FROM patient WHERE wrapped_key <> '' AND patient ="
        " (SELECT patient FROM referral WHERE referral = %s LIMIT 1) FOR NO KEY UPDATE",
        (name,),
    ).fetchone()
    if held is None:
        raise InvalidValue("The hub has no such referral.", code="E_NO_SUCH_REFERRAL")
    home, patient = held[0], PatientId(bytes(held[1]))
    before = find(store, connection, doctor, name)
    others = {field: values for field, values in before.fields.items() if not is_of_form(field)} if before else {}
    whole = others | {field: list(values) for field, values in fields.items()}
    raw = msgspec.msgpack.encode(whole)
    if len(raw) > MAX_DRAFT_BYTES:
        raise TooLarge(N_("This draft is too long to be kept."), code="E_DRAFT_TOO_LARGE")
    if not whole:
        drop(connection, doctor, name)
        return
    key = store.keys_of(connection, [patient])[patient]
    sealed = store.vault.seal_text(key, raw, _LABEL + doctor + name, nonce)
    connection.execute("DELETE FROM draft WHERE person = %s AND referral = %s AND facility <> %s", (doctor, name, home))
    connection.execute(
        "INSERT INTO draft (facility, person, referral, patient, sealed, at_ms) VALUES (%s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (facility, person, referral) DO UPDATE SET sealed = EXCLUDED.sealed, at_ms = EXCLUDED.at_ms",
        (home, doctor, name, patient, sealed, now_ms),
    )
    connection.execute(  # with its time: one that is kept anew at this moment is none of the oldest any more
        "DELETE FROM draft WHERE person = %s AND (referral, at_ms) IN"
        " (SELECT referral, at_ms FROM draft WHERE person = %s ORDER BY at_ms DESC, referral OFFSET %s)",
        (doctor, doctor, MAX_DRAFTS),
    )


def find(store: Store, connection: Connection, doctor: PersonId, name: RecordId) -> Draft | None:
    """This doctor's draft of a reply to this referral. Raises BadSignature (``E_STORED_ALTERED``)."""
    row = connection.execute(
        "SELECT patient, sealed, at_ms FROM draft WHERE person = %s AND referral = %s ORDER BY at_ms DESC LIMIT 1",
        (doctor, name),
    ).fetchone()
    if row is None:
        return None
    patient = PatientId(bytes(row[0]))
    key = store.keys_of(connection, [patient]).get(patient)
    if key is None:
        return None
    return Draft(_FIELDS.decode(store.vault.open_text(key, bytes(row[1]), _LABEL + doctor + name)), row[2])


def begun(connection: Connection, doctor: PersonId) -> dict[RecordId, int]:
    """Referral → when this doctor's draft was kept last. Opens nothing."""
    rows = connection.execute("SELECT referral, at_ms FROM draft WHERE person = %s", (doctor,)).fetchall()
    return {RecordId(bytes(name)): at_ms for name, at_ms in rows}


def drop(connection: Connection, doctor: PersonId, name: RecordId) -> bool:
    """The reply was signed, or its doctor does not want the draft any more. False where there was none."""
    return connection.execute("DELETE FROM draft WHERE person = %s AND referral = %s", (doctor, name)).rowcount > 0


def drop_old(connection: Connection, now_ms: int) -> int:
    """Remove what nobody came back to; how many. One that somebody comes back to at this moment stays."""
    return connection.execute(
        "DELETE FROM draft WHERE (facility, person, referral) IN"
        " (SELECT facility, person, referral FROM draft WHERE at_ms < %s FOR UPDATE SKIP LOCKED)",
        (now_ms - KEPT_MS,),
    ).rowcount
