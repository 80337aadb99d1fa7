"""`hub hand-over`, `hub duty` and `hub glass`: who takes a referral, who is on duty and who is called when nobody is, and
who opened a patient that was not theirs to see."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hub_server import consults, duty, glass, hospitals, people
from hub_server.cli import console, doctors, opening
from hub_server.cli.doctors import ReferralArgument
from hub_server.cli.opening import As, AsJson, time_words
from hub_server.duty import Contact, OnDuty
from hub_server.glass import Opening
from hub_server.people import Person, Role
from sync_protocol import documents
from sync_protocol.change import RecordId
from sync_protocol.errors import NotAllowed
from sync_protocol.exports import time_or_none

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


# -- breaking the glass ------------------------------------------------------------------------------------------------

HIDDEN_REASON = "(a reason; --show-reasons shows it)"


def list_glass(
    reviewed: Annotated[bool, typer.Option("--reviewed", help="Those that were reviewed, instead.")] = False,
    show_reasons: Annotated[
        bool, typer.Option("--show-reasons", help="Show the reasons; they tell of patients.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hub glass list
      hub glass list --reviewed --json

    List the patients whom a doctor of another specialty or hospital opened with a reason, and that wait for a review.

    Reading the list is noted in the audit.
    """
    with opening.hub() as at:
        found = glass.listed(at.store, opening.operator(), hospitals.ALL, opening.now_ms(), reviewed=reviewed)
        with at.database.transaction() as connection:
            ids = {one.person for one in found} | {one.reviewed_by for one in found if one.reviewed_by is not None}
            who = people.by_id(connection, ids)
    if as_json:
        shapes = [_glass_json(one, {key: one.login for key, one in who.items()}, show_reasons) for one in found]
        console.document("hub.glass/1", {"openings": shapes})
        return
    if not found:
        console.say("Nothing was reviewed." if reviewed else "Nothing waits for a review.")
        return
    heads = ("id", "doctor", "centre", "opened", "reviewed", "reason")
    console.table(heads, [_glass_row(one, who.get(one.person), show_reasons) for one in found])


def _glass_row(one: Opening, doctor: Person | None, show_reasons: bool) -> tuple[str, ...]:
    return (
        documents.id_text(one.name),
        doctor.login if doctor is not None else "",
        one.facility,
        time_words(one.opened_ms),
        time_words(one.reviewed_ms),
        one.reason if show_reasons else HIDDEN_REASON,
    )


def _glass_json(one: Opening, logins: dict[Any, str], show_reasons: bool) -> dict[str, Any]:
    return {
        "id": documents.id_text(one.name),
        "doctor": logins.get(one.person),
        "facility": one.facility,
        "patient": documents.id_text(one.patient),
        "referral": documents.id_text(one.referral),
        "opened_at": documents.time_text(one.opened_ms),
        "until_at": documents.time_text(one.until_ms),
        "reviewed_at": time_or_none(one.reviewed_ms),
        "reviewed_by": logins.get(one.reviewed_by),
        **({"reason": one.reason} if show_reasons else {}),
    }


def review_glass(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="As the list shows it.")],
    login: Annotated[str, typer.Option("--as", metavar="LOGIN", help="Of the officer or operator who reviewed it.")],
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hub glass review 01890a5d-ac96-774b-bcce-b302099a8057 --as officer

    Say that an opening was reviewed. The same again changes nothing. No doctor reviews.
    """
    name = opening.parsed_id(identifier, "opening")
    with opening.hub() as at:
        with at.database.transaction() as connection:
            reviewer = people.working(connection, login)
        if reviewer.role is Role.DOCTOR:
            raise NotAllowed("A doctor reviews no opening.", code="E_NOT_YOURS")
        done = glass.review(at.store, reviewer, name, opening.now_ms())
    verdict = "reviewed" if done else "reviewed_before"
    if as_json:
        console.document("hub.review/1", {"verdict": verdict, "id": documents.id_text(name)})
    else:
        console.text(verdict.replace("_", " "))
