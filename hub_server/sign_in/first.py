"""The first sign-in: with a one-time password somebody chooses their own, and sets up their authenticator, alone.

Nobody else is needed, and the operator never sees what the person signs in with later. It begins only for whoever has a
one-time password and no second factor; the secret of the new one stands, wrapped, with the token of this very browser
(30 minutes, 5 codes), and counts once a code of it came back together with a good password.

What could go wrong, and what is done about it:

    somebody else gets the one-time password (a letter, a telephone call) and is first
                      nothing here can tell them apart. It counts for 7 days and once; its owner then finds that it does
                      not work, and the page tells them to call the operator, whose next one ends the stranger's sessions.
                      Both steps stand in the audit. Hand it over in person, or where the other side is known
    both begin        each browser has a secret of its own, which no other is shown: whoever is second cannot read off the
                      first one's, and whoever completes it makes all other attempts void
    a lost telephone  `hub people second-factor --forget` and a one-time password lead here again; only the operator can,
                      so that a password alone, however it became known, never sets up a second factor
    the operator      knows the one-time password, so it cannot be chosen again. An operator who signs in as somebody
                      else takes that person's access away by it, and it stands in the audit under the operator's name
    a screen behind   the secret is shown by one page that is kept nowhere, before it counts; changing it later needs a
    a shoulder        code of it
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from hub_server import audit, people
from hub_server.database import Connection
from hub_server.people import Person
from hub_server.sign_in import credentials, refusals, second_factor, sessions
from hub_server.sign_in.credentials import Known
from hub_server.sign_in.passwords import Hashed
from hub_server.sign_in.refusals import Refused
from hub_server.sign_in.second_factor import NewFactor
from hub_server.vault import Vault
from sync_protocol.change import PersonId

SET_UP_MS: Final = 30 * 60_000  # to find an authenticator and install it over a slow link
_FIRST_TOTP: Final = b"first totp\x00"


@dataclass(frozen=True, slots=True)
class SetUp:
    """What the page of the first sign-in shows. csrf: for its form."""

    person: Person
    factor: NewFactor
    csrf: str = field(repr=False)

    def holds_csrf(self, given: str) -> bool:
        """Whether a form came from a page that this token opened."""
        return sessions.is_csrf(self.csrf, given)


def applies(found: Known) -> bool:
    """Whether whoever gave this right password sets up a second factor now."""
    return found.must_change and not found.has_totp


def wrapped_secret(vault: Vault, person: PersonId, pending: str, randomness: bytes) -> bytes:
    """A new second factor's secret, as it stands with this token alone. randomness: second_factor.SECRET_BYTES."""
    return vault.wrap_credential(randomness[: second_factor.SECRET_BYTES], _context(person, pending))


def _context(person: PersonId, pending: str) -> bytes:
    return _FIRST_TOTP + person + (sessions.hash_of(pending) or b"")


def find(connection: Connection, vault: Vault, pending: str, now_ms: int) -> SetUp | None:
    """What this token sets up; None where it is unknown, over, or of a sign-in that has a second factor."""
    row = connection.execute(
        f"SELECT p.person, p.totp_next FROM pending_sign_in p WHERE p.token_hash = %(name)s AND {_ALIVE}",
        _limits(pending, now_ms),
    ).fetchone()
    if row is None:
        return None
    name = PersonId(bytes(row[0]))
    person = people.by_id(connection, [name])[name]
    secret = vault.unwrap_credential(bytes(row[1]), _context(name, pending))
    return SetUp(person, second_factor.new_factor(secret, person.login), sessions.csrf_of(pending))


_ALIVE: Final = (
    "p.totp_next <> '' AND p.tries < %(most)s AND p.created_ms BETWEEN %(from)s AND %(to)s"
    " AND EXISTS (SELECT 1 FROM credential c WHERE c.person = p.person AND c.password_ms = p.password_ms"
    " AND c.must_change AND c.totp = '')"
    " AND EXISTS (SELECT 1 FROM person w WHERE w.person = p.person AND w.disabled_ms IS NULL)"
)


def _limits(pending: str, now_ms: int) -> dict[str, object]:
    return {
        "name": sessions.hash_of(pending),
        "most": credentials.MAX_CODES,
        "from": now_ms - SET_UP_MS,
        "to": now_ms + sessions.SKEW_MS,
    }


def complete(
    connection: Connection, vault: Vault, pending: str, made: Hashed, code: str, now_ms: int, randomness: bytes
) -> str | Refused:
    """The first session's token, under the person's own password and second factor. A wrong code is counted."""
    name = sessions.hash_of(pending)
    row = connection.execute("SELECT person FROM pending_sign_in WHERE token_hash = %s", (name,)).fetchone()
    if row is None:
        return refusals.begin_again()
    owner = PersonId(bytes(row[0]))
    credentials.hold(connection, owner)
    row = connection.execute(
        f"UPDATE pending_sign_in p SET tries = tries + 1 WHERE p.token_hash = %(name)s AND {_ALIVE}"
        " RETURNING p.tries, p.totp_next",
        _limits(pending, now_ms),
    ).fetchone()
    if row is None:
        connection.execute("DELETE FROM pending_sign_in WHERE token_hash = %s", (name,))
        return refusals.begin_again()
    secret = vault.unwrap_credential(bytes(row[1]), _context(owner, pending))
    step = second_factor.step_of(secret, code, 0, now_ms)
    if step is None:
        return refusals.wrong_code() if row[0] < credentials.MAX_CODES else refusals.begin_again()
    person = people.by_id(connection, [owner])[owner]
    credentials.set_password(connection, vault, person, made, person.actor, now_ms)
    credentials.set_totp(connection, vault, person, secret, step, person.actor, now_ms)
    token = sessions.open_session(connection, owner, now_ms, randomness)
    audit.note(connection, person.actor, "sign in", "", owner, now_ms)
    return token


def drop_over(connection: Connection, now_ms: int) -> None:
    """Remove the tokens of both kinds that are over; one that somebody uses is left to them."""
    connection.execute(
        "DELETE FROM pending_sign_in WHERE token_hash IN (SELECT token_hash FROM pending_sign_in"
        " WHERE created_ms < CASE WHEN totp_next = '' THEN %s::bigint ELSE %s::bigint END FOR UPDATE SKIP LOCKED)",
        (now_ms - credentials.PENDING_MS, now_ms - SET_UP_MS),
    )
