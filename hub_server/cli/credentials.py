"""`hub people password`, `second-factor` and `sign-out`: what an operator does so that somebody can sign in, or no longer.

No secret is ever an argument or a flag: those stand in the shell's history and in the list of processes. What is drawn
here is printed once and stands nowhere else.
"""

from __future__ import annotations

import getpass
import sys
from typing import Annotated, Any, Final

import typer

from hub_server import people, sign_in
from hub_server.cli import console, opening
from hub_server.cli.opening import AsJson, Opened, Yes, time_words
from hub_server.people import Person
from hub_server.sign_in import ONE_TIME_MS, Standing
from sync_protocol import documents
from sync_protocol.errors import InvalidValue, NeedsPerson

MAX_PASSWORD_BYTES: Final = 4 * 1024  # of a line of stdin; what is too long for a password is then told
RANDOM_BYTES: Final = 32  # what the most demanding of these verbs takes

Login = Annotated[str, typer.Argument(metavar="LOGIN", help="Whose.")]


def give_password(
    login: Login,
    given: Annotated[
        bool, typer.Option("--given", help="Take it from stdin, or ask for it at the terminal, instead of drawing one.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hub people password dr.rao
      hub people password dr.rao --yes --json | jq -r .password
      hub people password dr.rao --given <password.txt

    Give somebody a one-time password, printed once: with it they sign in at the pages and choose their own.

    It counts for 7 days. Whoever has no second factor yet sets up their authenticator with it, alone; so it is all that
    is needed, and whoever else gets it first is taken for its owner. Hand it over in person, or by a call to a number
    that you know. If its owner finds it used already, give another one at once: that signs the stranger out.

    The person is signed out everywhere, and waits after too many tries are over.
    """
    with opening.hub() as at:
        person, before = _somebody(at, login)
        if before.has_password and not before.must_change:
            opening.confirm(f"Replace the password of {login}, who is signed out everywhere?", yes)
        password = _asked() if given else sign_in.one_time_password(opening.randomness(RANDOM_BYTES))
        made = sign_in.make_password(password, person, opening.randomness(RANDOM_BYTES))
        at_ms = opening.now_ms()
        with at.database.transaction() as connection:
            sign_in.set_password(connection, at.store.vault, person, made, opening.operator(), at_ms, must_change=True)
        url = f"{opening.address(at.config)}/sign-in"
    if as_json:
        shape: dict[str, Any] = {"login": login} | ({} if given else {"password": password})
        expires = documents.time_text(at_ms + ONE_TIME_MS)
        shape |= {"expires_at": expires, "sets_up_second_factor": not before.has_second_factor, "url": url}
        console.document("hub.password/1", shape)
        return
    console.text("the password is set" if given else password)
    console.say(
        f"For {login}, once, until {time_words(at_ms + ONE_TIME_MS)}, at {url}",
        "They choose their own there."
        if before.has_second_factor
        else "They choose their own there, and set up their authenticator.",
    )


def give_second_factor(
    login: Login,
    forget: Annotated[
        bool,
        typer.Option("--forget", help="Give none: with a one-time password the person sets up their own."),
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hub people second-factor dr.rao
      hub people second-factor dr.rao --forget && hub people password dr.rao
      hub people second-factor dr.rao --yes --json | jq -r .uri

    Give somebody a new second factor, printed once, as a QR code for their authenticator and in letters.

    It counts from now on and the old one no longer; the person is signed out everywhere. Better, where a telephone was
    lost: --forget and a one-time password, with which the person sets up a new one, so that nobody else ever sees it.
    """
    with opening.hub() as at:
        person, before = _somebody(at, login)
        if before.has_second_factor:
            opening.confirm(f"Replace the second factor of {login}, who is signed out everywhere?", yes)
        vault, actor, at_ms = at.store.vault, opening.operator(), opening.now_ms()
        with at.database.transaction() as connection:
            if forget:
                sign_in.forget_totp(connection, vault, person, actor, at_ms)
                factor = None
            else:
                random = opening.randomness(RANDOM_BYTES)
                factor = sign_in.give_totp(connection, vault, person, actor, at_ms, random)
    if factor is None:
        if as_json:
            console.document("hub.second-factor/1", {"login": login, "forgotten": before.has_second_factor})
        else:
            console.text("forgotten" if before.has_second_factor else "there was none")
        return
    if as_json:
        secret = factor.letters.replace(" ", "")
        console.document("hub.second-factor/1", {"login": login, "uri": factor.uri, "secret": secret})
        return
    console.text(*console.drawn_qr(factor.uri), "", factor.letters)
    console.say(f"For the authenticator of {login}: scan it, or type the letters as a key that is based on time.")


def sign_out(login: Login, as_json: AsJson = False) -> None:
    """\b
    Examples:
      hub people sign-out dr.rao

    Sign somebody out everywhere. They can sign in again: to keep them out, 'hub people disable'.
    """
    with opening.hub() as at, at.database.transaction() as connection:
        person = people.find(connection, login)
        ended = sign_in.sign_out_everywhere(connection, person, opening.operator(), opening.now_ms())
    if as_json:
        console.document("hub.sign-out/1", {"login": login, "sessions": ended})
    else:
        console.text(f"{login} is signed out; sessions that ended: {ended}")


def standing_words(one: Standing) -> str:
    """As the list of people shows it."""
    if not one.has_password:
        return "cannot sign in"
    if one.is_too_old:
        return "one-time password too old"
    if one.must_change:
        return "one-time password"
    return "can sign in" if one.has_second_factor else "no second factor"


def standing_json(one: Standing) -> dict[str, Any]:
    expires = documents.time_text(one.password_ms + ONE_TIME_MS) if one.must_change else None
    return {
        "has_password": one.has_password,
        "must_change": one.must_change,
        "one_time_expires_at": expires,
        "has_second_factor": one.has_second_factor,
        "sessions": one.sessions,
    }


def _somebody(at: Opened, login: str) -> tuple[Person, Standing]:
    """Raises InvalidValue (``E_UNKNOWN_PERSON``) or NeedsPerson (``E_PERSON_DISABLED``)."""
    with at.database.transaction() as connection:
        person = people.working(connection, login)
        return person, sign_in.standings(connection, opening.now_ms()).get(person.id, Standing())


def _asked() -> str:
    """From the terminal, twice and unseen, else the first line of stdin. Raises InvalidValue or NeedsPerson."""
    if not sys.stdin.isatty():
        line = sys.stdin.buffer.readline(MAX_PASSWORD_BYTES)
        try:
            text = line.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            text = ""
        if not text:
            raise NeedsPerson("Stdin has no line of text.", code="E_NO_PASSWORD", next_step="Write the password there")
        return text
    try:
        first = getpass.getpass("A one-time password: ")
        if getpass.getpass("The same again: ") != first:
            raise InvalidValue("The two passwords differ.", field="password", code="E_PASSWORDS_DIFFER")
    except EOFError:
        raise KeyboardInterrupt from None
    return first
