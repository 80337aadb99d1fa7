"""`hub hand-over` and `hub duty`: who takes a referral, who is on duty, and who is called when nobody is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hub_server import consults, duty, hospitals
from hub_server.cli import console, doctors, opening
from hub_server.cli.doctors import ReferralArgument
from hub_server.cli.opening import As, AsJson, time_words
from hub_server.duty import Contact, OnDuty
from sync_protocol import documents
from sync_protocol.change import RecordId

Hospital = Annotated[str, typer.Option("--hub", metavar="CODE", help="Of this hospital; none: of all.")]


def hand_over(
    identifier: ReferralArgument,
    login: As,
    to: Annotated[str, typer.Option("--to", metavar="DOCTOR", help="The login of the doctor it is for.")],
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hub hand-over 01890a5d-ac96-774b-bcce-b302099a8057 --as dr.rao --to dr.nair

    Hand a referral over to another doctor by name. It waits for them, and after a while is everybody's again.

    One's own claim is released with it. Exit status 3: another doctor has it, or it was answered, closed or withdrawn.
    """
    name = RecordId(opening.parsed_id(identifier, "referral"))
    with opening.hub() as at:
        doctor, other = at.doctor(login), at.doctor(to)
        lapse_ms = at.config.claim_lapse_ms
        done = consults.hand_over(at.store, doctor, name, other, opening.now_ms(), lapse_ms=lapse_ms)
    doctors.tell_done("hub.claim/1", "claim", done, login, as_json)


# -- duty --------------------------------------------------------------------------------------------------------------


def list_duty(as_json: AsJson = False) -> None:
    """\b
    Examples:
      hub duty list
      hub duty list --json | jq -r '.on_duty[].doctor'

    List the doctors who are on duty, and who is called for a specialty when nobody is.
    """
    with opening.hub() as at, at.database.transaction() as connection:
        present = duty.everyone_on_duty(connection, opening.now_ms())
        contacts = duty.contacts(connection)
    if as_json:
        shapes = {"on_duty": [_duty_json(one) for one in present], "contacts": [_contact_json(one) for one in contacts]}
        console.document("hub.duty/1", shapes)
        return
    if not present:
        console.say("Nobody is on duty.")
    else:
        rows = [(one.doctor.login, one.doctor.name, _for(one), time_words(one.until_ms)) for one in present]
        console.table(("login", "name", "specialties", "until"), rows)
    if contacts:
        console.text("", "Called when nobody is on duty:")
        told = [(one.hub or "all", one.specialty or "any", one.name, one.phone) for one in contacts]
        console.table(("hub", "specialty", "name", "phone"), told)


def _for(one: OnDuty) -> str:
    return ", ".join(one.specialties or one.doctor.specialties) or "all"


def _duty_json(one: OnDuty) -> dict[str, Any]:
    return {
        "doctor": one.doctor.login,
        "name": one.doctor.name,
        "specialties": list(one.specialties or one.doctor.specialties),
        "since_at": documents.time_text(one.since_ms),
        "until_at": documents.time_text(one.until_ms),
    }


def _contact_json(one: Contact) -> dict[str, Any]:
    return {
        "hub": one.hub or None,
        "specialty": one.specialty or None,
        "name": one.name,
        "phone": one.phone,
        "set_at": documents.time_text(one.set_ms),
    }


def go_on_duty(
    login: As,
    until: Annotated[str, typer.Option("--until", metavar="HH:MM", help="Time of day in India, within a day.")],
    specialties: Annotated[
        list[str] | None, typer.Option("--specialty", metavar="NAME", help="May be repeated; none: all of theirs.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hub duty on --as dr.rao --until 18:00
      hub duty on --as dr.rao --until 6:00 --specialty cardiology

    Say that a doctor is on duty until then. Said again, it replaces what was said before.
    """
    with opening.hub() as at:
        doctor, now_ms = at.doctor(login), opening.now_ms()
        with at.database.transaction() as connection:
            ends_ms = duty.next_time(until, now_ms)
            made = duty.go_on(connection, doctor, ends_ms, doctor.actor, now_ms, specialties or ())
    if as_json:
        console.document("hub.on_duty/1", {"verdict": "on_duty", **_duty_json(made)})
    else:
        console.text(f"{login} on duty until {time_words(made.until_ms)}")


def go_off_duty(login: As, as_json: AsJson = False) -> None:
    """\b
    Examples:
      hub duty off --as dr.rao

    Say that a doctor is off duty. The same again changes nothing.
    """
    with opening.hub() as at:
        doctor = at.doctor(login)
        with at.database.transaction() as connection:
            done = duty.go_off(connection, doctor, doctor.actor, opening.now_ms())
    verdict = "off_duty" if done else "off_duty_before"
    if as_json:
        console.document("hub.off_duty/1", {"verdict": verdict, "doctor": login})
    else:
        console.text(f"{login} {verdict.replace('_', ' ')}")


def set_contact(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whom the centres call.")] = "",
    phone: Annotated[str, typer.Argument(metavar="PHONE", help="Such as +91 755 255 1234.")] = "",
    hub: Hospital = hospitals.ALL,
    specialty: Annotated[
        str, typer.Option("--specialty", metavar="NAME", help="For this one; none: for all others.")
    ] = duty.ANY,
    remove: Annotated[bool, typer.Option("--remove", help="Nobody is called for it any more.")] = False,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hub duty contact "Emergency ward" "+91 755 255 1234" --hub DH-SEHORE
      hub duty contact "Dr. Iyer" 9845000000 --specialty obstetrics
      hub duty contact --specialty obstetrics --remove

    Say who is called when nobody is on duty for a specialty: the hospital's own, else those for all hospitals.
    """
    if remove == bool(name or phone) or bool(name) != bool(phone):
        raise typer.BadParameter("give NAME and PHONE, or --remove", param_hint="NAME PHONE")
    actor, now_ms = opening.operator(), opening.now_ms()
    with opening.hub() as at, at.database.transaction() as connection:
        if remove:
            verdict = "removed" if duty.remove_contact(connection, hub, specialty, actor, now_ms) else "unchanged"
        else:
            duty.set_contact(connection, hub, specialty, name, phone, actor, now_ms)
            verdict = "set"
    if as_json:
        shape = {"verdict": verdict, "hub": hub or None, "specialty": specialty or None}
        console.document("hub.duty_contact/1", shape)
    else:
        console.text(f"{hub or 'all hospitals'}, {specialty or 'any specialty'}: {verdict}")
