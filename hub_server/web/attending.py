"""Who has a referral, and who is on duty: claim, give back, take over, hand over by name; on duty until a time, off duty."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter, Response

from hub_server import consults, duty, hospitals, people
from hub_server.charts import Queued
from hub_server.database import Connection
from hub_server.duty import Contact, OnDuty
from hub_server.people import Person
from hub_server.web.desk import Desk, Doctor, Posted, record_in
from sync_protocol.change import PersonId
from sync_protocol.pages import language
from sync_protocol.pages.language import said

MOST_TAKERS: Final = 100

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Uncovered:
    """A specialty that waits and that nobody is on duty for. hospital: the name of the centre's, empty for none. contact:
    whom to call, if anybody was named."""

    specialty: str
    hospital: str
    contact: Contact | None


def uncovered(connection: Connection, rows: Iterable[Queued], present: Sequence[OnDuty]) -> list[Uncovered]:
    """Of what waits, each specialty of a hospital once, in the order of the list."""
    places = dict.fromkeys((row.specialty, row.hub) for row in rows)
    found = [one for one in places if not any(doctor.covers(*one) for doctor in present)]
    if not found:
        return []
    contacts = duty.contacts_of(connection, {hub for _, hub in found})
    names = {one.code: one.name for one in hospitals.find_all(connection)}
    return [
        Uncovered(specialty, names.get(hub, hub), duty.contact_in(contacts[hub], specialty)) for specialty, hub in found
    ]


def duty_values(
    connection: Connection, person: Person, rows: Sequence[Queued], everyone: Sequence[OnDuty]
) -> dict[str, Any]:
    """For the page: who is on duty of those that this doctor works with, their own duty, and what nobody at all covers."""
    present = [one for one in everyone if one.doctor.is_of(person.hub)]
    return {
        "present": present,
        "own_duty": next((one for one in present if one.doctor.id == person.id), None),
        "uncovered": uncovered(connection, rows, everyone),
    }


def names_of(connection: Connection, rows: Iterable[Queued]) -> dict[PersonId, str]:
    """Of the doctors who have these referrals, or gave or got them."""
    who = {one for row in rows for one in (row.claimed_by, row.lock.handed_to, row.lock.handed_by) if one is not None}
    return people.names(connection, who)


def takers(connection: Connection, row: Queued, but: Person, now_ms: int) -> list[tuple[Person, OnDuty | None]]:
    """The doctors to whom this referral can be handed, those on duty first; at most MOST_TAKERS of the others."""
    present = [one for one in duty.everyone_on_duty(connection, now_ms) if one.covers(row.specialty, row.hub)]
    found: dict[PersonId, tuple[Person, OnDuty | None]] = {one.doctor.id: (one.doctor, one) for one in present}
    for other in people.doctors_for(connection, row.specialty, row.hub, MOST_TAKERS):
        found.setdefault(other.id, (other, None))
    found.pop(but.id, None)
    return list(found.values())


# -- who has it --------------------------------------------------------------------------------------------------------


@router.post("/cases/{name}/claim")
def claim(desk: Doctor, name: str, form: Posted) -> Response:
    consults.claim(
        desk.store,
        desk.person,
        record_in(name),
        desk.now_ms,
        desk.randomness()[: consults.RANDOM_BYTES],
        take_over=form.value("take_over") == "yes",
        lapse_ms=desk.place.claim_lapse_ms,
    )
    return desk.go(f"/cases/{name}")


@router.post("/cases/{name}/release")
def release(desk: Doctor, name: str, _form: Posted) -> Response:
    consults.release(desk.store, desk.person, record_in(name), desk.now_ms)
    return desk.go("/")


@router.post("/cases/{name}/hand-over")
def hand_over(desk: Doctor, name: str, form: Posted) -> Response:
    record = record_in(name)
    with desk.store.database.transaction() as connection:
        consults.seen_row(connection, desk.person, record, desk.now_ms)
        to = people.lookup(connection, form.value("to"))
    if to is None:
        return desk.go(f"/cases/{name}")  # nobody was chosen
    lapse_ms = desk.place.claim_lapse_ms
    consults.hand_over(desk.store, desk.person, record, to, desk.now_ms, lapse_ms=lapse_ms)
    return desk.go("/")


# -- duty --------------------------------------------------------------------------------------------------------------


def take_duty(desk: Desk, form: Posted) -> bool:
    """On duty as the form says; whether that was done."""
    with language.speaking(desk.words):
        until = form.required("until", said("Say until when"))

    def go_on() -> None:
        with desk.store.database.transaction() as connection:
            ends_ms = duty.next_time(until, desk.now_ms)
            duty.go_on(connection, desk.person, ends_ms, desk.person.actor, desk.now_ms, form.all("specialties"))

    return desk.saved(form, go_on)


@router.post("/duty/off")
def off_duty(desk: Doctor, _form: Posted) -> Response:
    with desk.store.database.transaction() as connection:
        duty.go_off(connection, desk.person, desk.person.actor, desk.now_ms)
    return desk.go("/")
