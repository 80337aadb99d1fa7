"""How often somebody tried, and when they may try again: by login, by address, and for the second factor by person.

A few tries are free; each one more doubles the wait, up to 15 minutes. Tries are forgotten one by one with time. A try is
counted before it is made and taken back if it succeeds, so that many at once gain nothing. A row holds a keyed hash of
whom it is about (people type passwords where the login goes) and one time: when all is forgotten. There are at most
`MAX_SUBJECTS`; beyond, those that are forgotten soonest go first, and never the one that has just tried.

What this costs: who keeps trying a login from elsewhere makes its owner wait up to 15 minutes. `hub people password`
lets them in at once.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hub_server.database import Connection
from hub_server.people import Person
from hub_server.sign_in.refusals import TryLater
from hub_server.vault import Vault

MAX_WAIT_MS: Final = 15 * 60_000
FIRST_WAIT_MS: Final = 1_000
MOST_DOUBLINGS: Final = 10  # 1 s doubled ten times is more than 15 minutes
MAX_SUBJECTS: Final = 20_000
MAX_TEXT_CHARS: Final = 100  # of a login or an address that came
_HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Limit:
    """free: tries without a wait. forget_ms: one try is forgotten after that time, all of them one after another."""

    purpose: bytes
    free: int
    forget_ms: int

    def wait_ms(self, tries: int) -> int:
        """How long to wait after so many."""
        over = tries - self.free
        return min(FIRST_WAIT_MS << min(over - 1, MOST_DOUBLINGS), MAX_WAIT_MS) if over > 0 else 0

    @property
    def most(self) -> int:
        """More are not remembered: the wait is the longest already."""
        return self.free + MOST_DOUBLINGS + 1


LOGIN: Final = Limit(b"sign-in login", 5, _HOUR_MS)
ADDRESS: Final = Limit(b"sign-in address", 30, _HOUR_MS // 4)  # a whole hospital may be behind one
SECOND_FACTOR: Final = Limit(b"sign-in second factor", 5, _HOUR_MS)


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a try is about. name: 32 bytes."""

    name: bytes
    limit: Limit


def of_login(vault: Vault, login: str) -> Subject:
    """Also for a login that nobody has."""
    return _subject(vault, LOGIN, login[:MAX_TEXT_CHARS].encode("utf-8", "replace"))


def of_address(vault: Vault, address: str) -> Subject:
    """Of IPv6 the network of 64 bits: who has one address has all of those."""
    text = address[:MAX_TEXT_CHARS]
    try:
        one = ipaddress.ip_address(text)
        if isinstance(one, ipaddress.IPv6Address):
            mapped = one.ipv4_mapped
            text = str(mapped) if mapped else str(ipaddress.ip_network((int(one), 64), strict=False).network_address)
    except ValueError:
        pass  # whatever names the other side, it is counted
    return _subject(vault, ADDRESS, text.encode("utf-8", "replace"))


def of_second_factor(vault: Vault, person: Person) -> Subject:
    """Only who knows the password, or holds a session, comes so far: nobody else can make the person wait here."""
    return _subject(vault, SECOND_FACTOR, person.id)


def _subject(vault: Vault, limit: Limit, text: bytes) -> Subject:
    return Subject(vault.keyed_hash(limit.purpose, text), limit)


def count(connection: Connection, subjects: Sequence[Subject], now_ms: int) -> None:
    """Count a try that is about to be made. Raises TryLater; then nothing was counted."""
    ordered = sorted(subjects, key=lambda one: one.name)
    # one statement, since a row that one has found may be forgotten before a second has locked it
    rows = connection.execute(
        "INSERT INTO sign_in_try AS known (subject, forgotten_ms, again_ms)"
        " SELECT name, %s, 0 FROM unnest(%s::bytea[]) AS fresh (name)"
        " ON CONFLICT (subject) DO UPDATE SET again_ms = known.again_ms RETURNING subject, forgotten_ms, again_ms",
        (now_ms, [one.name for one in ordered]),
    ).fetchall()
    stored = {bytes(name): (forgotten_ms, again_ms) for name, forgotten_ms, again_ms in rows}
    wait_ms = max((stored[one.name][1] - now_ms for one in ordered), default=0)
    if 0 < wait_ms <= MAX_WAIT_MS:  # a longer one was never given: this machine's clock was put back
        raise TryLater(-(-wait_ms // 1000))
    for one in ordered:
        debt_ms = min(max(stored[one.name][0] - now_ms, 0), one.limit.most * one.limit.forget_ms) + one.limit.forget_ms
        tries = -(-debt_ms // one.limit.forget_ms)
        connection.execute(
            "UPDATE sign_in_try SET forgotten_ms = %s, again_ms = %s WHERE subject = %s",
            (now_ms + debt_ms, now_ms + one.limit.wait_ms(tries), one.name),
        )
    if (now_ms, 0) in stored.values():  # a new row
        _bound(connection, ordered)


def _bound(connection: Connection, just_counted: Sequence[Subject]) -> None:
    row = connection.execute("SELECT count(*) FROM sign_in_try").fetchone()
    if row is not None and row[0] > MAX_SUBJECTS:
        connection.execute(
            "DELETE FROM sign_in_try WHERE subject IN (SELECT subject FROM sign_in_try WHERE subject <> ALL(%s)"
            " ORDER BY forgotten_ms LIMIT %s FOR UPDATE SKIP LOCKED)",
            ([one.name for one in just_counted], row[0] - MAX_SUBJECTS),
        )


def hold(connection: Connection, subjects: Sequence[Subject]) -> None:
    """For who is about to change several: those who count them wait, in the same order."""
    connection.execute(
        "SELECT FROM sign_in_try WHERE subject = ANY(%s) ORDER BY subject FOR UPDATE", ([one.name for one in subjects],)
    )


def take_back(connection: Connection, subject: Subject) -> None:
    """The last try was right, or none: it is as if it had not been made, and those before still count."""
    connection.execute(
        "UPDATE sign_in_try SET forgotten_ms = forgotten_ms - %s, again_ms = 0 WHERE subject = %s",
        (subject.limit.forget_ms, subject.name),
    )


def forget(connection: Connection, subject: Subject) -> None:
    """All is forgiven."""
    connection.execute("DELETE FROM sign_in_try WHERE subject = %s", (subject.name,))


def drop_forgotten(connection: Connection, now_ms: int) -> int:
    """Remove the rows that say nothing any more; how many."""
    return connection.execute(
        "DELETE FROM sign_in_try WHERE subject IN (SELECT subject FROM sign_in_try"
        " WHERE forgotten_ms < %s AND again_ms < %s FOR UPDATE SKIP LOCKED)",
        (now_ms, now_ms),
    ).rowcount
