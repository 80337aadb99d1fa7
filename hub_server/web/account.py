"""One's own account: change the password, another authenticator, where one is signed in, the language.

The secret of a new authenticator is the answer to one form, sent with a code of the old one; no address shows it again.
"""

from __future__ import annotations

import os
from typing import Final

from fastapi import APIRouter, Response

from hub_server import hospitals, sign_in
from hub_server.people import Person, Role
from hub_server.sign_in import IDLE_MS, NewFactor, Standing
from hub_server.web import drawing, faults
from hub_server.web.desk import RANDOM_BYTES, Anyone, Desk, Posted
from sync_protocol.errors import HealthSyncError
from sync_protocol.pages import clinical, language
from sync_protocol.pages.forms import Form
from sync_protocol.pages.language import said
from sync_protocol.words import N_

ROLE_WORDS: Final = {
    Role.DOCTOR: N_("Doctor"),
    Role.DISTRICT_OFFICER: N_("District officer"),
    Role.OPERATOR: N_("Operator"),
}
ACCOUNT: Final = "/account"
FACTOR: Final = "/account/second-factor"
CONFIRM: Final = "/account/second-factor/confirm"
DONE: Final = {
    "factor": N_("The new authenticator counts from now on."),
    "elsewhere": N_("You are signed out everywhere else."),
}

router = APIRouter()


@router.get(ACCOUNT)
def account(desk: Anyone) -> Response:
    with desk.store.database.transaction() as connection:
        standing = sign_in.standings(connection, desk.now_ms).get(desk.person.id, Standing())
        sessions = sign_in.sessions_of(connection, desk.person.id, desk.now_ms)
        hospital = hospitals.lookup(connection, desk.person.hub)
    with language.speaking(desk.words):
        particulars = _particulars(desk.person, hospital.name if hospital is not None else said("all"))
        done = said(DONE.get(desk.request.query_params.get("done", ""), "")) or ""
    return desk.page(
        "account",
        particulars=particulars,
        standing=standing,
        sessions=sessions,
        own=desk.signed.session,
        idle_minutes=IDLE_MS // 60_000,
        done=done,
    )


def _particulars(person: Person, hospital: str) -> list[tuple[str, str]]:
    """What the hub knows of somebody who works with it, in the spoken language."""
    found = [
        (said("Name"), person.name),
        (said("Login"), person.login),
        (said("Role"), said(ROLE_WORDS[person.role])),
    ]
    if person.role is Role.DOCTOR:
        specialties = ", ".join(map(clinical.specialty, person.specialties)) or said("all")
        found += [
            (said("Hospital"), hospital),
            (said("Specialties"), specialties),
            (said("Qualification"), person.qualification),
            (said("Registration number"), person.registration_number),
        ]
    return [(label, value) for label, value in found if value]


@router.post("/account/sign-out-elsewhere")
def sign_out_elsewhere(desk: Anyone, _form: Posted) -> Response:
    with desk.store.database.transaction() as connection:
        sign_in.sign_out_everywhere(connection, desk.person, desk.person.actor, desk.now_ms, keep=desk.signed.session)
    return desk.go(f"{ACCOUNT}?done=elsewhere")


# -- another authenticator ---------------------------------------------------------------------------------------------


@router.get(FACTOR)
def begin_page(desk: Anyone) -> Response:
    return _factor_screen(desk, Form())


def _factor_screen(
    desk: Desk, form: Form, status: int = 200, *, confirming: bool = False, factor: NewFactor | None = None
) -> Response:
    return desk.page(
        "second_factor",
        form=form,
        status=status,
        confirming=confirming,
        path=CONFIRM if confirming else FACTOR,
        **(drawing.shown(factor) if factor is not None else {}),
    )


@router.post(FACTOR)
def begin(desk: Anyone, form: Posted) -> Response:
    code = _code_of(desk, form)
    if form.errors:
        return _factor_screen(desk, form, 422)
    try:
        factor = desk.place.sign_in.begin_replacing(desk.token, code, desk.now_ms, os.urandom(RANDOM_BYTES))
    except HealthSyncError as error:
        return _refused(desk, form, error)
    return _factor_screen(desk, Form(), confirming=True, factor=factor)


@router.get(CONFIRM)
def confirm_page(desk: Anyone) -> Response:
    """Without the secret: whoever did not see it begins again."""
    return _factor_screen(desk, Form(), confirming=True)


@router.post(CONFIRM)
def confirm(desk: Anyone, form: Posted) -> Response:
    code = _code_of(desk, form)
    if form.errors:
        return _factor_screen(desk, form, 422, confirming=True)
    try:
        desk.place.sign_in.replace(desk.token, code, desk.now_ms)
    except HealthSyncError as error:
        return _refused(desk, form, error, confirming=True)
    return desk.go(f"{ACCOUNT}?done=factor")


def _code_of(desk: Desk, form: Form) -> str:
    """Read once, and not shown again."""
    with language.speaking(desk.words):
        code = form.required("code", said("Enter the code"))
    form.given.pop("code", None)
    return code


def _refused(desk: Desk, form: Form, error: HealthSyncError, *, confirming: bool = False) -> Response:
    with language.speaking(desk.words):
        form.wrong("code", faults.said_of(error))
    response = _factor_screen(desk, form, faults.status_of_sign_in(error), confirming=confirming)
    return faults.with_retry(response, error)
