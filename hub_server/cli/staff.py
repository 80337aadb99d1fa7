"""`hub people`: doctors, district officers and operators."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hub_server import hospitals, people, sign_in
from hub_server.cli import console, credentials, opening
from hub_server.cli.opening import AsJson, Yes
from hub_server.people import Person, Role
from hub_server.sign_in import Standing
from sync_protocol import documents
from sync_protocol.change import PersonId
from sync_protocol.exports import time_or_none


def add_person(
    login: Annotated[str, typer.Argument(metavar="LOGIN", help="a-z 0-9 . _ @ -, for good.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="As patients know them.")],
    role: Annotated[Role, typer.Option("--role", help="What they do.")] = Role.DOCTOR,
    registration_number: Annotated[
        str, typer.Option("--registration-number", metavar="TEXT", help="A doctor's; each prescription carries it.")
    ] = "",
    qualification: Annotated[str, typer.Option("--qualification", metavar="TEXT", help="Such as MBBS, MD.")] = "",
    specialties: Annotated[
        list[str] | None, typer.Option("--specialty", metavar="NAME", help="May be repeated; none: all.")
    ] = None,
    hub: Annotated[
        str, typer.Option("--hub", metavar="CODE", help="The hospital they work for; none: all.")
    ] = hospitals.ALL,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hub people add dr.rao --name "Dr. Sunita Rao" --registration-number KMC-12345 --qualification "MBBS, MD"
      hub people add dr.nair --name "Dr. Anil Nair" --registration-number TCMC-77 --hub DH-SEHORE --specialty ent
      hub people add meena --name "Meena Pillai" --role operator

    Add a doctor, a district officer or an operator. The same again changes nothing.

    A doctor sees the referrals of their hospital's centres, in their specialties.
    """
    at_ms = opening.now_ms()
    person = Person(
        PersonId(people.fresh_id(at_ms, opening.randomness(10))),
        login,
        name.strip(),
        role,
        tuple(sorted(set(specialties or ()))),
        qualification.strip(),
        registration_number.strip(),
        at_ms,
        hub=hub,
    )
    with opening.hub() as at, at.database.transaction() as connection:
        there = people.add(connection, person)
        if there.id == person.id:
            at.store.vault.note(connection, "person", people.as_noted(person), at_ms)
    if as_json:
        verdict = "created" if there.id == person.id else "unchanged"
        console.document("hub.person/1", {"verdict": verdict, **_person_json(there)})
    else:
        console.text(f"{there.login} {documents.id_text(there.id)}")


def list_people(as_json: AsJson = False) -> None:
    """\b
    Examples:
      hub people list
      hub people list --json | jq -r '.people[] | select(.sign_in.must_change).login'

    List the doctors, officers and operators: who can sign in, who has still to choose a password, open sessions.
    """
    with opening.hub() as at, at.database.transaction() as connection:
        found = people.everyone(connection)
        standings = sign_in.standings(connection, opening.now_ms())
    if as_json:
        shapes = [
            _person_json(one) | {"sign_in": credentials.standing_json(standings.get(one.id, Standing()))}
            for one in found
        ]
        console.document("hub.people/1", {"people": shapes})
        return
    console.table(
        ("login", "name", "role", "hub", "specialties", "registration", "state", "sign-in", "sessions"),
        [
            (
                one.login,
                one.name,
                one.role.value,
                one.hub or "all",
                ", ".join(one.specialties) or "all",
                one.registration_number,
                "ok" if one.disabled_ms is None else "disabled",
                credentials.standing_words(standings.get(one.id, Standing())) if one.disabled_ms is None else "",
                str(standings.get(one.id, Standing()).sessions),
            )
            for one in found
        ],
    )


def _person_json(one: Person) -> dict[str, Any]:
    return {
        "id": documents.id_text(one.id),
        "login": one.login,
        "name": one.name,
        "role": one.role.value,
        "hub": one.hub or None,
        "specialties": list(one.specialties),
        "qualification": one.qualification,
        "registration_number": one.registration_number,
        "created_at": documents.time_text(one.created_ms),
        "disabled_at": time_or_none(one.disabled_ms),
    }


def assign_person(
    login: Annotated[str, typer.Argument(metavar="LOGIN")],
    hub: Annotated[
        str | None, typer.Option("--hub", metavar="CODE", help="The hospital they work for; '' for all.")
    ] = None,
    specialties: Annotated[
        list[str] | None, typer.Option("--specialty", metavar="NAME", help="May be repeated; '' for all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hub people assign dr.rao --hub DH-SEHORE
      hub people assign dr.rao --specialty cardiology --specialty general-medicine

    Say for which hospital, and in which specialties, a person works from now on.
    """
    at_ms = opening.now_ms()
    with opening.hub() as at, at.database.transaction() as connection:
        there = people.held(connection, login)
        chosen = there.specialties if specialties is None else tuple(sorted(set(filter(None, specialties))))
        done = people.assign(connection, login, there.hub if hub is None else hub, chosen)
        now = people.find(connection, login)
        if done:
            at.store.vault.note(connection, "person_assigned", people.as_noted(now), at_ms)
    verdict = "assigned" if done else "unchanged"
    if as_json:
        console.document("hub.person/1", {"verdict": verdict, **_person_json(now)})
    else:
        console.text(f"{login} {verdict}")


def disable_person(login: Annotated[str, typer.Argument(metavar="LOGIN")], yes: Yes = False) -> None:
    """\b
    Examples:
      hub people disable dr.rao

    From now on this person can do nothing here, and is signed out everywhere. What they wrote stays, and their login is
    not given away.
    """
    with opening.hub() as at:
        with at.database.transaction() as connection:
            person = people.find(connection, login)
        opening.confirm(f"Disable {login}?", yes)
        with at.database.transaction() as connection:
            sign_in.hold(connection, person.id)
            done = people.disable(connection, login, opening.now_ms())
            if done:
                at.store.vault.note(connection, "person_disabled", {"login": login}, opening.now_ms())
                sign_in.sign_out_everywhere(connection, person, opening.operator(), opening.now_ms())
    console.text("disabled" if done else "disabled before")
