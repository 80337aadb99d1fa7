"""What each person signs in with: a password's hash and the secret of a second factor, both wrapped by the vault.

Each is bound to its person and its use, so that a row put in another's place opens nothing. Whatever replaces one ends
the person's sessions, and stands in the ledger (that it happened, never what): a hub that is put back to before it
forgets the old one, since it may have been replaced because somebody else knew it. The operator then gives a new one.
(So it is too where the ledger had its line and the database then broke off: better asked again than let in.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hub_server import audit
from hub_server.database import Connection
from hub_server.people import Person
from hub_server.sign_in import second_factor, sessions, tries
from hub_server.sign_in.passwords import Cost, Hashed
from hub_server.sign_in.refusals import wrong_code
from hub_server.sign_in.second_factor import NewFactor
from hub_server.vault import Vault
from sync_protocol.change import PersonId
from sync_protocol.errors import NeedsPerson
from sync_protocol.words import N_

ONE_TIME_MS: Final = 7 * 86_400_000  # a password on paper that is older was lost
PENDING_MS: Final = 5 * 60_000  # between the password and the code
MAX_CODES: Final = 5  # of one pending token
_PASSWORD: Final = b"password\x00"
_TOTP: Final = b"totp\x00"


@dataclass(frozen=True, slots=True)
class Known:
    """What is stored of a person who may sign in."""

    person: PersonId
    hashed: Hashed
    password_ms: int
    must_change: bool
    has_totp: bool

    def is_too_old(self, now_ms: int) -> bool:
        """Whether it is a one-time password that nobody used in time."""
        return self.must_change and now_ms - self.password_ms > ONE_TIME_MS


@dataclass(frozen=True, slots=True)
class Standing:
    """What a person has to sign in with, as they and the operator are shown it. must_change: it is a one-time password,
    and is_too_old says that it does not count any more. sessions: how many stand open."""

    has_password: bool = False
    must_change: bool = False
    is_too_old: bool = False
    has_second_factor: bool = False
    password_ms: int = 0
    second_factor_ms: int = 0
    sessions: int = 0


# -- passwords ---------------------------------------------------------------------------------------------------------


def set_password(
    connection: Connection,
    vault: Vault,
    person: Person,
    made: Hashed,
    actor: str,
    now_ms: int,
    *,
    must_change: bool = False,
) -> None:
    """From now on this is the password: all sessions end, and the tries are forgiven. must_change: at the first use."""
    connection.execute(
        "INSERT INTO credential (person, password, salt, memory_kib, iterations, lanes, password_ms, must_change)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (person) DO UPDATE SET password = EXCLUDED.password,"
        " salt = EXCLUDED.salt, memory_kib = EXCLUDED.memory_kib, iterations = EXCLUDED.iterations,"
        " lanes = EXCLUDED.lanes, password_ms = EXCLUDED.password_ms, must_change = EXCLUDED.must_change",
        (
            person.id,
            vault.wrap_credential(made.hash, _PASSWORD + person.id),
            made.salt,
            made.cost.memory_kib,
            made.cost.iterations,
            made.cost.lanes,
            now_ms,
            must_change,
        ),
    )
    sessions.end_sessions(connection, person.id)
    tries.forget(connection, tries.of_login(vault, person.login))
    tries.forget(connection, tries.of_second_factor(vault, person))
    vault.note(connection, "password_set", {"login": person.login}, now_ms)
    audit.note(connection, actor, "set password", "", person.id, now_ms)


def known(connection: Connection, vault: Vault, person: PersonId) -> Known | None:
    """None for somebody without a password. Raises BadSignature (``E_STORED_ALTERED``)."""
    row = connection.execute(
        "SELECT password, salt, memory_kib, iterations, lanes, password_ms, must_change, totp <> '' FROM credential"
        " WHERE person = %s AND password <> ''",
        (person,),
    ).fetchone()
    if row is None:
        return None
    wrapped, salt, memory_kib, iterations, lanes, password_ms, must_change, has_totp = row
    hashed = Hashed(
        vault.unwrap_credential(bytes(wrapped), _PASSWORD + person), bytes(salt), Cost(memory_kib, iterations, lanes)
    )
    return Known(person, hashed, password_ms, must_change, has_totp)


# -- the second factor -------------------------------------------------------------------------------------------------


def new_totp(connection: Connection, vault: Vault, person: Person, randomness: bytes) -> NewFactor:
    """A new second factor, which counts from `confirm_totp` on; until then the former one does. randomness:
    second_factor.SECRET_BYTES."""
    secret = randomness[: second_factor.SECRET_BYTES]
    connection.execute(
        "INSERT INTO credential (person, totp_next) VALUES (%s, %s)"
        " ON CONFLICT (person) DO UPDATE SET totp_next = EXCLUDED.totp_next",
        (person.id, vault.wrap_credential(secret, _TOTP + person.id)),
    )
    return second_factor.new_factor(secret, person.login)


def give_totp(
    connection: Connection, vault: Vault, person: Person, actor: str, now_ms: int, randomness: bytes
) -> NewFactor:
    """One that counts from now on, as for a telephone that was lost; all sessions end. randomness: SECRET_BYTES."""
    secret = randomness[: second_factor.SECRET_BYTES]
    set_totp(connection, vault, person, secret, 0, actor, now_ms)
    return second_factor.new_factor(secret, person.login)


def confirm_totp(
    connection: Connection, vault: Vault, person: Person, code: str, actor: str, now_ms: int, *, keep: bytes = b""
) -> None:
    """The new second factor counts from now on, since this code is of it; all sessions end but the one named by keep.

    Raises Refused (``E_WRONG_CODE``) or NeedsPerson (``E_NO_NEW_FACTOR``).
    """
    row = connection.execute(
        "SELECT totp_next FROM credential WHERE person = %s AND totp_next <> '' FOR UPDATE", (person.id,)
    ).fetchone()
    if row is None:
        raise NeedsPerson(N_("No new second factor waits to be confirmed. Begin again."), code="E_NO_NEW_FACTOR")
    secret = vault.unwrap_credential(bytes(row[0]), _TOTP + person.id)
    step = second_factor.step_of(secret, code, 0, now_ms)
    if step is None:
        raise wrong_code()
    set_totp(connection, vault, person, secret, step, actor, now_ms, keep=keep)


def set_totp(
    connection: Connection,
    vault: Vault,
    person: Person,
    secret: bytes,
    step: int,
    actor: str,
    now_ms: int,
    *,
    keep: bytes = b"",
) -> None:
    """This second factor counts from now on; all sessions end but the one named by keep. step: of its last used code."""
    connection.execute(
        "INSERT INTO credential (person, totp, totp_ms, totp_step) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (person) DO UPDATE SET totp = EXCLUDED.totp, totp_ms = EXCLUDED.totp_ms,"
        " totp_step = EXCLUDED.totp_step, totp_next = ''",
        (person.id, vault.wrap_credential(secret, _TOTP + person.id), now_ms, step),
    )
    _replaced_totp(connection, vault, person, actor, "set second factor", now_ms, keep)


def forget_totp(connection: Connection, vault: Vault, person: Person, actor: str, now_ms: int) -> None:
    """From now on there is none, so that with a one-time password the person sets up one; all sessions end."""
    connection.execute(
        "UPDATE credential SET totp = '', totp_next = '', totp_ms = %s, totp_step = 0 WHERE person = %s",
        (now_ms, person.id),
    )
    _replaced_totp(connection, vault, person, actor, "forget second factor", now_ms)


def _replaced_totp(
    connection: Connection, vault: Vault, person: Person, actor: str, verb: str, now_ms: int, keep: bytes = b""
) -> None:
    sessions.end_sessions(connection, person.id, keep)
    tries.forget(connection, tries.of_second_factor(vault, person))
    vault.note(connection, "second_factor_set", {"login": person.login}, now_ms)
    audit.note(connection, actor, verb, "", person.id, now_ms)


def hold(connection: Connection, person: PersonId) -> int:
    """Let nobody else use or replace this person's credential until the transaction ends; since when the password is."""
    row = connection.execute("SELECT password_ms FROM credential WHERE person = %s FOR UPDATE", (person,)).fetchone()
    return row[0] if row is not None else 0


def take_code(connection: Connection, vault: Vault, person: PersonId, code: str, now_ms: int) -> bool:
    """Whether the code counts; then neither it nor an earlier one does again. The credential must be held."""
    row = connection.execute("SELECT totp, totp_step FROM credential WHERE person = %s", (person,)).fetchone()
    if row is None or not row[0]:
        return False
    secret = vault.unwrap_credential(bytes(row[0]), _TOTP + person)
    step = second_factor.step_of(secret, code, row[1], now_ms)
    if step is None:
        return False
    connection.execute("UPDATE credential SET totp_step = %s WHERE person = %s", (step, person))
    return True


# -- looking after them ------------------------------------------------------------------------------------------------


def standings(connection: Connection, now_ms: int) -> Mapping[PersonId, Standing]:
    """Of everybody who has anything."""
    opened = sessions.count_open(connection, now_ms)
    rows = connection.execute(
        "SELECT person, password <> '', must_change, totp <> '', password_ms, totp_ms FROM credential ORDER BY person"
    ).fetchall()
    found = {}
    for name, has_password, must_change, has_totp, password_ms, totp_ms in rows:
        person, one_time = PersonId(bytes(name)), must_change and has_password
        found[person] = Standing(
            has_password,
            one_time,
            one_time and now_ms - password_ms > ONE_TIME_MS,
            has_totp,
            password_ms,
            totp_ms,
            opened.get(person, 0),
        )
    return found


def forget_password_before(connection: Connection, login: str, at_ms: int) -> None:
    """A password that was replaced at that time, in a database that does not know it."""
    connection.execute(
        "UPDATE credential SET password = '', must_change = false WHERE password_ms < %s"
        " AND person = (SELECT person FROM person WHERE login = %s)",
        (at_ms, login),
    )


def forget_totp_before(connection: Connection, login: str, at_ms: int) -> None:
    """The same for a second factor."""
    connection.execute(
        "UPDATE credential SET totp = '', totp_next = '' WHERE totp_ms < %s"
        " AND person = (SELECT person FROM person WHERE login = %s)",
        (at_ms, login),
    )


def rewrap(connection: Connection, vault: Vault) -> int:
    """Wrap all of it anew under the newest key-encryption key; how many secrets that were."""
    done = 0
    rows = connection.execute(
        "SELECT person, password, totp, totp_next FROM credential ORDER BY person FOR UPDATE"
    ).fetchall()
    for person, *wrapped in rows:
        fresh = [
            vault.rewrap_credential(bytes(one), use + bytes(person)) if one else b""
            for one, use in zip(wrapped, (_PASSWORD, _TOTP, _TOTP), strict=True)
        ]
        connection.execute(
            "UPDATE credential SET password = %s, totp = %s, totp_next = %s WHERE person = %s", (*fresh, person)
        )
        done += sum(map(bool, fresh))
    return done
