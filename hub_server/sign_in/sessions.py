"""Sessions: a random token of 256 bits, of which only the SHA-256 is stored, until 12 hours or 15 idle minutes are over.

What a page must carry against forged requests (CSRF) is derived from the token, so that nothing more is stored and
nobody without the token can make it. A session of a person who was disabled is none. Use is written down at most once
a minute, so an idle session may end up to a minute early.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import Final

from hub_server import audit, people
from hub_server.database import Connection
from hub_server.people import Person
from sync_protocol.change import PersonId

TOKEN_BYTES: Final = 32
SESSION_MS: Final = 12 * 3_600_000
IDLE_MS: Final = 15 * 60_000
TOUCH_MS: Final = 60_000
FRESH_MS: Final = 5 * 60_000  # how old the second factor may be when a doctor signs
SKEW_MS: Final = 60_000  # by which the clocks of two hubs on one database may differ
MAX_SESSIONS: Final = 8  # of one person; one more ends the one that was used longest ago
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_CSRF_LABEL: Final = b"hub session csrf 1"


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who is signed in. session: its name, which opens nothing. csrf: for forms. must_change: only the password."""

    person: Person
    session: bytes
    csrf: str = field(repr=False)
    created_ms: int
    used_ms: int
    second_factor_ms: int
    must_change: bool

    @property
    def ends_ms(self) -> int:
        """At the latest."""
        return self.created_ms + SESSION_MS

    def is_fresh(self, now_ms: int) -> bool:
        """Whether the second factor was given so lately that a doctor may sign."""
        return -SKEW_MS <= now_ms - self.second_factor_ms <= FRESH_MS

    def holds_csrf(self, given: str) -> bool:
        """Whether a form came from a page of this session."""
        return is_csrf(self.csrf, given)


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session as its owner and the operator are shown it."""

    session: bytes
    created_ms: int
    used_ms: int
    second_factor_ms: int

    @property
    def ends_ms(self) -> int:
        """At the latest."""
        return self.created_ms + SESSION_MS


def make_token(randomness: bytes) -> str:
    """randomness: TOKEN_BYTES."""
    return base64.urlsafe_b64encode(randomness[:TOKEN_BYTES]).rstrip(b"=").decode()


def csrf_of(token: str) -> str:
    """What a form carries to prove that it is of a page that this token opened."""
    return hmac.digest(token.encode(), _CSRF_LABEL, "sha256").hex()


def is_csrf(expected: str, given: str) -> bool:
    """In constant time."""
    return hmac.compare_digest(expected.encode(), given[:200].encode("utf-8", "replace"))


def hash_of(token: str) -> bytes | None:
    """By which a token is found; None for what can be none."""
    return hashlib.sha256(token.encode()).digest() if _TOKEN.fullmatch(token) else None


def open_session(
    connection: Connection, person: PersonId, now_ms: int, randomness: bytes, second_factor_ms: int | None = None
) -> str:
    """A new session's token. second_factor_ms: if it was not given just now."""
    token = make_token(randomness)
    given_ms = now_ms if second_factor_ms is None else second_factor_ms
    connection.execute(
        "DELETE FROM session WHERE token_hash IN"
        " (SELECT token_hash FROM session WHERE person = %s ORDER BY used_ms DESC OFFSET %s)",
        (person, MAX_SESSIONS - 1),
    )
    connection.execute(
        "INSERT INTO session (token_hash, person, created_ms, used_ms, second_factor_ms) VALUES (%s, %s, %s, %s, %s)",
        (hash_of(token), person, now_ms, now_ms, given_ms),
    )
    return token


_ALIVE: Final = (
    "s.created_ms BETWEEN %(now)s - %(session)s AND %(now)s + %(skew)s AND s.used_ms >= %(now)s - %(idle)s"
    " AND EXISTS (SELECT 1 FROM person p WHERE p.person = s.person AND p.disabled_ms IS NULL)"
)


def _limits(now_ms: int) -> dict[str, object]:
    return {"now": now_ms, "session": SESSION_MS, "idle": IDLE_MS, "skew": SKEW_MS}


def session_of(connection: Connection, token: str, now_ms: int, *, touch: bool = True) -> SignedIn | None:
    """Who this token signs in; None where it is unknown or over. touch: False for what no person did (a page that asks
    for news by itself), so that it keeps no session alive."""
    name = hash_of(token)
    if name is None:
        return None
    row = connection.execute(
        "SELECT s.person, s.created_ms, s.used_ms, s.second_factor_ms, coalesce(c.must_change, false) FROM session s"
        f" LEFT JOIN credential c ON c.person = s.person WHERE s.token_hash = %(name)s AND {_ALIVE}",
        {"name": name, **_limits(now_ms)},
    ).fetchone()
    if row is None:
        return None
    person, created_ms, used_ms, second_factor_ms, must_change = row
    if touch and now_ms - used_ms >= TOUCH_MS:
        connection.execute("UPDATE session SET used_ms = %s WHERE token_hash = %s", (now_ms, name))
    who = people.by_id(connection, [PersonId(bytes(person))])[PersonId(bytes(person))]
    return SignedIn(who, name, csrf_of(token), created_ms, used_ms, second_factor_ms, must_change)


def owner_of(connection: Connection, token: str) -> PersonId | None:
    """Whose session this token opens, or opened until it was over; None where nobody knows any more."""
    row = connection.execute("SELECT person FROM session WHERE token_hash = %s", (hash_of(token),)).fetchone()
    return PersonId(bytes(row[0])) if row else None


def sessions_of(connection: Connection, person: PersonId, now_ms: int) -> list[OpenSession]:
    """A person's open sessions, the one used last first."""
    rows = connection.execute(
        "SELECT s.token_hash, s.created_ms, s.used_ms, s.second_factor_ms FROM session s"
        f" WHERE s.person = %(person)s AND {_ALIVE} ORDER BY s.used_ms DESC, s.token_hash",
        {"person": person, **_limits(now_ms)},
    ).fetchall()
    return [OpenSession(bytes(name), *times) for name, *times in rows]


def count_open(connection: Connection, now_ms: int) -> dict[PersonId, int]:
    """How many sessions each person has open, of those who have any."""
    rows = connection.execute(
        f"SELECT s.person, count(*) FROM session s WHERE {_ALIVE} GROUP BY s.person", _limits(now_ms)
    ).fetchall()
    return {PersonId(bytes(person)): count for person, count in rows}


def given_again(connection: Connection, session: bytes, now_ms: int) -> None:
    """The second factor was given once more."""
    connection.execute(
        "UPDATE session SET second_factor_ms = %s, used_ms = %s WHERE token_hash = %s", (now_ms, now_ms, session)
    )


def sign_out(connection: Connection, token: str, now_ms: int) -> bool:
    """End this session. False where there was none."""
    found = session_of(connection, token, now_ms, touch=False)
    name = hash_of(token)
    if name is None or connection.execute("DELETE FROM session WHERE token_hash = %s", (name,)).rowcount != 1:
        return False
    if found is not None:
        audit.note(connection, found.person.actor, "sign out", "", found.person.id, now_ms)
    return True


def sign_out_everywhere(connection: Connection, person: Person, actor: str, now_ms: int, *, keep: bytes = b"") -> int:
    """End a person's sessions and what they began; how many sessions. keep: the name of one that stays."""
    ended = end_sessions(connection, person.id, keep)
    audit.note(connection, actor, "sign out everywhere", "", person.id, now_ms)
    return ended


def end_sessions(connection: Connection, person: PersonId, keep: bytes = b"") -> int:
    """The same for a verb that notes itself."""
    connection.execute("DELETE FROM pending_sign_in WHERE person = %s", (person,))
    return connection.execute("DELETE FROM session WHERE person = %s AND token_hash <> %s", (person, keep)).rowcount


def end_all(connection: Connection) -> None:
    """Everybody signs in again: for a database that is put back, where a session may have been ended since."""
    connection.execute("DELETE FROM pending_sign_in")
    connection.execute("DELETE FROM session")


def drop_over(connection: Connection, now_ms: int) -> int:
    """Remove the sessions that are over; how many. One that somebody is about to end is theirs."""
    return connection.execute(
        "DELETE FROM session WHERE token_hash IN"
        f" (SELECT s.token_hash FROM session s WHERE NOT ({_ALIVE}) FOR UPDATE OF s SKIP LOCKED)",
        _limits(now_ms),
    ).rowcount
