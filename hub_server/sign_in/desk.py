"""The steps of signing in, each one transaction (or two, with Argon2's work between them and none open).

    begin    count the try, hash, and on the right password hand out a pending token: 5 minutes, 5 codes, one purpose
    finish   a code of the second factor turns it into a session
    set_up   the first time (`first`): their own password and a code of their new second factor do
    again    a code, when the last one is too old for what somebody is about to do
    change   another password: all other sessions end, and this one goes on under a new token
    replace  another second factor: a code of the old one, then one of the new one; all other sessions end

A refusal is returned from its transaction and raised behind it, so that what was counted and noted stays. Locks are
taken in one order: the credential, the pending row, the sessions, the tries, the audit. Verdicts are words (`right`,
`signed_in`, `set_up`, `refused`, `wrong_code`, `again`, `changed`, `replaced`, `too_soon`, `busy`), each logged and
counted; no login and no address is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

import structlog

from hub_server import audit, people
from hub_server.database import Connection, Database
from hub_server.sign_in import credentials, first, passwords, refusals, second_factor, sessions, tries
from hub_server.sign_in.credentials import MAX_CODES, PENDING_MS, Known
from hub_server.sign_in.first import SetUp
from hub_server.sign_in.passwords import Turns
from hub_server.sign_in.refusals import Refused, SignInBusy, TryLater
from hub_server.sign_in.second_factor import NewFactor
from hub_server.sign_in.sessions import SignedIn
from hub_server.sign_in.tries import Subject
from hub_server.vault import Vault
from sync_protocol.change import PersonId
from sync_protocol.errors import HealthSyncError
from sync_protocol.words import N_

MAX_PENDING: Final = 4  # of one person
RANDOM_BYTES: Final = sessions.TOKEN_BYTES + max(passwords.SALT_BYTES, second_factor.SECRET_BYTES)
NOBODY: Final = "sign-in"  # as the audit names who is not known yet
MAX_NOTED: Final = 1_000  # refusals an hour that stand in the audit; beyond, they are only counted
_HOUR_MS: Final = 3_600_000

Outcome = TypeVar("Outcome")

log = structlog.get_logger("hub.sign_in")


@dataclass(frozen=True, slots=True)
class Pending:
    """The password was right. token: for `finish` alone, or where it is the first time for `set_up` alone."""

    token: str = field(repr=False)
    expires_ms: int
    is_first: bool = False


class SignIn:
    """One for a program. Thread-safe. counted: is called with each verdict."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        counted: Callable[[str], None] = lambda verdict: None,
        turns: Turns | None = None,
    ) -> None:
        self._database = database
        self._vault = vault
        self._counted = counted
        self._turns = turns or Turns()
        self._noted = (0, 0)  # (hour, refusals noted in it); two threads at once may note one more

    def begin(self, login: str, password: str, address: str, now_ms: int, randomness: bytes) -> Pending:
        """The first step. address: whence it comes, to count tries by. randomness: RANDOM_BYTES.

        Raises Refused (``E_SIGN_IN_REFUSED``, ``E_TRY_LATER``, ``E_NO_SECOND_FACTOR``, ``E_ONE_TIME_TOO_OLD``),
        SignInBusy (``E_SIGN_IN_BUSY``).
        """
        named = login.strip().lower()  # a telephone's keyboard begins with a capital
        subjects = (tries.of_login(self._vault, named), tries.of_address(self._vault, address))
        with self._verdict("right"):
            with self._database.transaction() as connection:  # first, so that who may not try takes nobody's turn
                person, found = self._somebody(connection, named)
                tries.count(connection, subjects, now_ms)
            with self._taking_turns(subjects):
                right = passwords.matches(password, found.hashed if found else None)
            with self._database.transaction() as connection:
                if found is None or not right:
                    self._note_refusal(connection, "refuse sign-in", person, now_ms)
                    outcome: Pending | Refused = refusals.wrong_password()
                else:
                    outcome = self._pending(connection, found, now_ms, randomness)
                    tries.hold(connection, subjects)
                    tries.forget(connection, subjects[0])
                    tries.take_back(connection, subjects[1])
            return _or_raise(outcome)

    def finish(self, pending: str, code: str, now_ms: int, randomness: bytes) -> str:
        """The second step: a session's token. randomness: RANDOM_BYTES.

        Raises Refused (``E_WRONG_CODE``, ``E_BEGIN_AGAIN``, ``E_TRY_LATER``).
        """
        with self._verdict("signed_in"):
            with self._database.transaction() as connection:
                outcome = self._finish(connection, pending, code, now_ms, randomness)
            return _or_raise(outcome)

    def setting_up(self, pending: str, now_ms: int) -> SetUp:
        """What the first sign-in shows. Raises Refused (``E_BEGIN_AGAIN``)."""
        with self._database.transaction() as connection:
            found = first.find(connection, self._vault, pending, now_ms)
        return _or_raise(found or refusals.begin_again())

    def set_up(self, pending: str, password: str, code: str, now_ms: int, randomness: bytes) -> str:
        """Their own password, and a code of the second factor that was shown: a session's token. randomness:
        RANDOM_BYTES.

        Raises Refused (``E_WRONG_CODE``, ``E_BEGIN_AGAIN``), InvalidValue (``E_WEAK_PASSWORD``, ``E_SAME_PASSWORD``),
        SignInBusy.
        """
        with self._verdict("set_up"):
            person = self.setting_up(pending, now_ms).person
            passwords.check(password, person)
            with self._database.transaction() as connection:
                found = credentials.known(connection, self._vault, person.id)
            with self._taking_turns():
                if passwords.matches(password, found.hashed if found else None):
                    raise refusals.same_password()
                made = passwords.make_password(password, person, randomness[sessions.TOKEN_BYTES :])
            with self._database.transaction() as connection:
                outcome = first.complete(connection, self._vault, pending, made, code, now_ms, randomness)
                if isinstance(outcome, Refused):
                    self._note_refusal(connection, "refuse second factor", person.id, now_ms)
            return _or_raise(outcome)

    def again(self, token: str, code: str, now_ms: int) -> None:
        """The second factor once more. Raises Refused (``E_WRONG_CODE``, ``E_SIGNED_OUT``, ``E_TRY_LATER``)."""
        with self._verdict("again"):
            with self._database.transaction() as connection:
                outcome = self._again(connection, token, code, now_ms)
            _or_raise(outcome)

    def begin_replacing(self, token: str, code: str, now_ms: int, randomness: bytes) -> NewFactor:
        """A new second factor, for whoever gives a code of the old one; it counts from `replace` on. randomness:
        RANDOM_BYTES. Raises what `again` does."""
        self.again(token, code, now_ms)
        with self._database.transaction() as connection:
            here = self._signed_in(connection, token, now_ms)
            return credentials.new_totp(connection, self._vault, here.person, randomness)

    def replace(self, token: str, code: str, now_ms: int) -> None:
        """The new second factor counts from now on, since this code is of it. The old one must have been given in the
        last minutes. Raises Refused (``E_WRONG_CODE``, ``E_BEGIN_AGAIN``, ``E_SIGNED_OUT``, ``E_TRY_LATER``) or
        NeedsPerson (``E_NO_NEW_FACTOR``)."""
        with self._verdict("replaced"):
            with self._database.transaction() as connection:
                outcome = self._replace(connection, token, code, now_ms)
            _or_raise(outcome)

    def change_password(self, token: str, old: str, new: str, now_ms: int, randomness: bytes) -> str:
        """Another password, by who is signed in; the token under which this session goes on, alone. randomness:
        RANDOM_BYTES.

        Raises Refused (``E_SIGNED_OUT``, ``E_WRONG_OLD_PASSWORD``, ``E_TRY_LATER``), InvalidValue
        (``E_WEAK_PASSWORD``, ``E_SAME_PASSWORD``), SignInBusy.
        """
        with self._verdict("changed"):
            with self._database.transaction() as connection:
                here = self._signed_in(connection, token, now_ms)
                passwords.check(new, here.person)  # what is refused for itself is no try
                if new == old:
                    raise refusals.same_password()
                found = credentials.known(connection, self._vault, here.person.id)
                subject = tries.of_second_factor(self._vault, here.person)
                tries.count(connection, [subject], now_ms)
            with self._taking_turns([subject]):
                right = passwords.matches(old, found.hashed if found else None)
                made = passwords.make_password(new, here.person, randomness[sessions.TOKEN_BYTES :]) if right else None
            if made is None:
                with self._database.transaction() as connection:
                    if self._is_over(connection, token, now_ms):
                        raise refusals.signed_out()  # somebody else changed it: what was given may have been right
                    self._note_refusal(connection, "refuse password", here.person.id, now_ms)
                raise Refused(N_("The old password is not right."), code="E_WRONG_OLD_PASSWORD")
            with self._database.transaction() as connection:
                held_ms = credentials.hold(connection, here.person.id)
                if found is None or held_ms != found.password_ms or self._is_over(connection, token, now_ms):
                    raise refusals.signed_out()  # somebody else changed it in between
                credentials.set_password(connection, self._vault, here.person, made, here.person.actor, now_ms)
                given_ms = here.second_factor_ms
                return sessions.open_session(connection, here.person.id, now_ms, randomness, given_ms)

    @contextmanager
    def _taking_turns(self, subjects: Sequence[Subject] = ()) -> Iterator[None]:
        """For the work of hashing. Where there is no turn, what was counted is taken back: nothing was tried."""
        try:
            with self._turns.turn():
                yield
        except SignInBusy:
            with self._database.transaction() as connection:
                tries.hold(connection, subjects)
                for one in subjects:
                    tries.take_back(connection, one)
            raise

    # -- within a transaction

    def _somebody(self, connection: Connection, login: str) -> tuple[bytes, Known | None]:
        """(whose login it is, or nothing; what they sign in with, if they may). Nobody's login asks the same questions."""
        person = people.lookup(connection, login if people.is_login(login) else "")
        found = credentials.known(connection, self._vault, person.id if person else PersonId(bytes(16)))
        if person is None:
            return b"", None
        return person.id, found if person.disabled_ms is None else None

    def _pending(self, connection: Connection, found: Known, now_ms: int, randomness: bytes) -> Pending | Refused:
        if found.is_too_old(now_ms):
            return refusals.one_time_too_old()
        is_first = first.applies(found)
        if not found.has_totp and not is_first:
            return refusals.no_second_factor()
        token, secret = sessions.make_token(randomness), b""
        if is_first:
            secret = first.wrapped_secret(self._vault, found.person, token, randomness[sessions.TOKEN_BYTES :])
        connection.execute(
            "DELETE FROM pending_sign_in WHERE token_hash IN (SELECT token_hash FROM pending_sign_in WHERE person = %s"
            " ORDER BY created_ms DESC OFFSET %s)",
            (found.person, MAX_PENDING - 1),
        )
        connection.execute(
            "INSERT INTO pending_sign_in (token_hash, person, password_ms, created_ms, tries, totp_next)"
            " VALUES (%s, %s, %s, %s, 0, %s)",
            (sessions.hash_of(token), found.person, found.password_ms, now_ms, secret),
        )
        return Pending(token, now_ms + (first.SET_UP_MS if is_first else PENDING_MS), is_first)

    def _finish(self, connection: Connection, pending: str, code: str, now_ms: int, randomness: bytes) -> str | Refused:
        name = sessions.hash_of(pending)
        row = connection.execute("SELECT person FROM pending_sign_in WHERE token_hash = %s", (name,)).fetchone()
        if row is None:
            return refusals.begin_again()
        owner = PersonId(bytes(row[0]))
        password_ms = credentials.hold(connection, owner)
        row = connection.execute(
            "UPDATE pending_sign_in SET tries = tries + 1 WHERE token_hash = %s AND password_ms = %s AND tries < %s"
            " AND totp_next = '' AND created_ms BETWEEN %s AND %s RETURNING tries",
            (name, password_ms, MAX_CODES, now_ms - PENDING_MS, now_ms + sessions.SKEW_MS),
        ).fetchone()
        person = people.by_id(connection, [owner]).get(owner)
        if row is None or person is None or person.disabled_ms is not None:
            connection.execute("DELETE FROM pending_sign_in WHERE token_hash = %s", (name,))
            return refusals.begin_again()
        subject = tries.of_second_factor(self._vault, person)
        tries.count(connection, [subject], now_ms)
        if not credentials.take_code(connection, self._vault, owner, code, now_ms):
            self._note_refusal(connection, "refuse second factor", owner, now_ms)
            return refusals.wrong_code() if row[0] < MAX_CODES else refusals.begin_again()
        connection.execute("DELETE FROM pending_sign_in WHERE token_hash = %s", (name,))
        token = sessions.open_session(connection, owner, now_ms, randomness)
        tries.forget(connection, subject)
        audit.note(connection, person.actor, "sign in", "", owner, now_ms)
        return token

    def _again(self, connection: Connection, token: str, code: str, now_ms: int) -> Refused | None:
        here = self._signed_in(connection, token, now_ms)
        credentials.hold(connection, here.person.id)
        subject = tries.of_second_factor(self._vault, here.person)
        tries.count(connection, [subject], now_ms)
        if not credentials.take_code(connection, self._vault, here.person.id, code, now_ms):
            self._note_refusal(connection, "refuse second factor", here.person.id, now_ms)
            return refusals.wrong_code()
        sessions.given_again(connection, here.session, now_ms)
        tries.forget(connection, subject)
        audit.note(connection, here.person.actor, "give second factor", "", here.person.id, now_ms)
        return None

    def _replace(self, connection: Connection, token: str, code: str, now_ms: int) -> Refused | None:
        here = self._signed_in(connection, token, now_ms)
        if not here.is_fresh(now_ms):
            return refusals.begin_again()
        credentials.hold(connection, here.person.id)
        tries.count(connection, [tries.of_second_factor(self._vault, here.person)], now_ms)
        try:
            credentials.confirm_totp(
                connection, self._vault, here.person, code, here.person.actor, now_ms, keep=here.session
            )
        except Refused as refused:
            self._note_refusal(connection, "refuse second factor", here.person.id, now_ms)
            return refused
        return None

    def _signed_in(self, connection: Connection, token: str, now_ms: int) -> SignedIn:
        here = sessions.session_of(connection, token, now_ms, touch=False)
        if here is None:
            raise refusals.signed_out()
        return here

    def _is_over(self, connection: Connection, token: str, now_ms: int) -> bool:
        return sessions.session_of(connection, token, now_ms, touch=False) is None

    # -- telling

    def _note_refusal(self, connection: Connection, verb: str, subject: bytes, now_ms: int) -> None:
        """Known or not: the same work. Bounded, so that nobody can fill the audit from outside."""
        hour, noted = self._noted
        hour, noted = (hour, noted) if hour == now_ms // _HOUR_MS else (now_ms // _HOUR_MS, 0)
        self._noted = (hour, noted + 1)
        if noted < MAX_NOTED:
            audit.note(connection, NOBODY, verb, "", subject, now_ms)

    @contextmanager
    def _verdict(self, done: str) -> Iterator[None]:
        verdict = done
        try:
            yield
        except SignInBusy:
            verdict = "busy"
            raise
        except TryLater:
            verdict = "too_soon"
            raise
        except HealthSyncError as error:
            verdict = "wrong_code" if error.code == "E_WRONG_CODE" else "refused"
            raise
        finally:
            log.info("sign_in", verdict=verdict)
            self._counted(verdict)


def _or_raise(outcome: Outcome | Refused) -> Outcome:
    if isinstance(outcome, Refused):
        raise outcome
    return outcome


def drop_stale(connection: Connection, now_ms: int) -> int:
    """Remove sessions and pending tokens that are over, and tries that are forgotten; how many sessions."""
    first.drop_over(connection, now_ms)
    tries.drop_forgotten(connection, now_ms)
    return sessions.drop_over(connection, now_ms)
