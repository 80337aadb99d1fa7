"""`numbers`: the pages of the service's numbers at a hub with a million records, and what counting them costs.

The hub really serves; its tables are filled by SQL with what a year of 2,000 centres leaves, sealed contents apart, which
these pages never open. Each page is asked for by an officer's browser, one after the other, and timed with its way over
loopback. Beside it: counting everything from scratch, as the pages would have to without the kept counts.
"""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import quantiles
from typing import Any, Final

import psycopg

from bench import crowd
from bench.figures import Figure
from bench.places import HubPlace, database_url, hold, running_hub
from hub_server import people, tallies
from hub_server.people import Person, Role
from hub_server.sign_in import sessions
from hub_server.web.cookies import SESSION, Cookies
from sync_protocol.change import PersonId
from sync_protocol.states import STATES

RECORDS: Final = 1_000_000
CENTRES: Final = 2_000
DAYS: Final = 60
RECORDS_A_CASE: Final = 4
DOCTORS: Final = 400
TURNS: Final = 40
PAGES: Final = {
    "the service by state, a week": "/service?days=7",
    "by state, 30 days": "/service?days=30",
    "by district, 30 days": "/service?by=district&days=30",
    "a state's centres, 30 days": "/service?by=facility&days=30&state=Madhya+Pradesh",
    "by day, 30 days": "/service?by=day&days=30",
    "map and league": "/states",
    "centres out of touch": "/centres?silence=day",
    "not admitted": "/quarantine",
    "conflicts": "/conflicts",
}

Connection = psycopg.Connection[tuple[Any, ...]]


def run(folder: Path, records: int = RECORDS) -> list[Figure]:
    with running_hub(folder) as hub, crowd.opened_hub(hub) as (database, _vault), database_url(hub) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            fill(connection, records)
            scratch_ms = _ms(lambda: connection.execute(FROM_SCRATCH).fetchall())
            began = time.perf_counter()
            counted = tallies.settle(database, budget_s=3_600)
            settled_s = time.perf_counter() - began
            connection.execute("VACUUM (ANALYZE)")
        with database.transaction() as connection:
            officer = Person(
                PersonId(os.urandom(16)), "officer", "An Officer", Role.DISTRICT_OFFICER, created_ms=_now_ms()
            )
            people.add(connection, officer)
            token = sessions.open_session(connection, officer.id, _now_ms(), os.urandom(32))
        times = {name: _times(hub, path, token) for name, path in PAGES.items()}
    every = [one for taken in times.values() for one in taken]
    figures = [
        Figure("numbers", f"{name}, median at {records:,}", _at(taken, 50), "ms", scratch_ms, "from scratch, SQL alone")
        for name, taken in times.items()
    ]
    return [
        *figures,
        Figure("numbers", "all of these pages, median", _at(every, 50), "ms"),
        Figure("numbers", "all of these pages, 99 of 100", _at(every, 99), "ms"),
        Figure("numbers", "centres' days counted from scratch", counted / settled_s, "days/s"),
    ]


def _times(hub: HubPlace, path: str, token: str) -> list[float]:
    """Milliseconds of each; the first ones, which fill the caches of a server that has just begun, are left out."""
    connection = http.client.HTTPConnection("127.0.0.1", hub.port)
    taken = [_ms(lambda: _ask(connection, path, token)) for _ in range(TURNS + 5)]
    connection.close()
    return taken[5:]


def _ask(connection: http.client.HTTPConnection, path: str, token: str) -> None:
    connection.request("GET", path, headers={"Cookie": f"{Cookies(False).name_of(SESSION)}={token}"})
    answer = connection.getresponse()
    body = answer.read()
    hold(answer.status == 200 and b"<table" in body, f"{path} answered {answer.status}")


def _ms(deed: Callable[[], object]) -> float:
    began = time.perf_counter()
    deed()
    return (time.perf_counter() - began) * 1000


def _at(times: list[float], percent: int) -> float:
    return quantiles(times, n=100)[percent - 1]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


# -- what the tables hold ----------------------------------------------------------------------------------------------

_FILL: Final = """
INSERT INTO facility (facility, name, district, state, created_ms, wrapped_key)
    SELECT 'HWC' || lpad(n::text, 6, '0'), 'HWC number ' || n, 'District ' || n %% 20,
    (%(states)s::text[])[1 + floor(36 * power(mod(n * 0.618034, 1), 2))::int], 0, '' FROM generate_series(1, %(centres)s) n;
INSERT INTO feed SELECT facility, 0, '' FROM facility ON CONFLICT DO NOTHING;
INSERT INTO node (node, facility, name, certificate, signing_key, sealing_key, enrolled_ms, revoked_reason, last_seen_ms,
    cursor_position, nonce) SELECT uuid_send(gen_random_uuid()), facility, 'laptop', '', '', '', 0, '',
    CASE WHEN random() < 0.95 THEN %(now)s - (random() ^ 6 * 2592000000)::bigint END, 0, '' FROM facility;
CREATE TEMPORARY TABLE visit AS SELECT n, uuid_send(gen_random_uuid()) AS patient, uuid_send(gen_random_uuid()) AS record,
    uuid_send(gen_random_uuid()) AS referral, 'HWC' || lpad((1 + n %% %(centres)s)::text, 6, '0') AS facility,
    %(now)s - (random() * %(days)s * 86400000)::bigint AS at_ms, (-ln(random()) * 5400000)::bigint AS wait_ms,
    random() < 0.97 AS answered, 'doctor' || (random() * %(doctors)s)::int AS login FROM generate_series(1, %(cases)s) n;
INSERT INTO patient SELECT patient, facility, '\\x01', at_ms FROM visit;
INSERT INTO subscription SELECT facility, patient, '', true, at_ms FROM visit;
INSERT INTO item SELECT facility, row_number() OVER (PARTITION BY facility ORDER BY at_ms), uuid_send(gen_random_uuid()),
    patient, CASE kind WHEN 'case' THEN record WHEN 'referral' THEN referral ELSE uuid_send(gen_random_uuid()) END, kind,
    at_ms, CASE kind WHEN 'reply' THEN 1 ELSE 0 END, '', '', '', 0, '' FROM visit
    CROSS JOIN unnest(ARRAY['case', 'vitals', 'referral', 'reply']) AS kind;
INSERT INTO referral (facility, referral, patient, specialty, urgency, status, received_ms, answered_ms, centre)
    SELECT facility, referral, patient, 'ent', 2, CASE WHEN answered THEN 'seen' ELSE 'received' END, at_ms,
    CASE WHEN answered THEN at_ms + wait_ms END, facility FROM visit;
INSERT INTO person (person, login, name, role, specialties, qualification, registration_number, created_ms)
    SELECT uuid_send(gen_random_uuid()), 'doctor' || n, 'Doctor ' || n, 'doctor', '', '', 'K', 0
    FROM generate_series(0, %(doctors)s) n;
INSERT INTO audit (at_ms, actor, verb, facility, subject, hash) SELECT at_ms + wait_ms, 'person ' || login, verb, facility,
    referral, '' FROM visit CROSS JOIN unnest(ARRAY['claim', 'reply', 'read referral']) AS verb WHERE answered;
INSERT INTO conflicted SELECT facility, record, 'case', patient, 1, at_ms FROM visit WHERE n %% 100 = 0;
INSERT INTO quarantine (facility, node, segment, row, kind, reason, at_ms, verdict) SELECT facility, '', '', 0, 'case',
    'E_OTHER_AUTHOR', at_ms, 'open' FROM visit WHERE n %% 500 = 0;
INSERT INTO facility_day (facility, day, marked) SELECT facility, ((at_ms + 19800000) / 86400000)::integer, 1 FROM visit
    GROUP BY 1, 2;
VACUUM (ANALYZE)
"""

FROM_SCRATCH: Final = """
SELECT f.state, count(*), count(r.answered_ms), percentile_cont(0.5) WITHIN GROUP (ORDER BY r.answered_ms - r.received_ms)
FROM (SELECT i.facility, i.record FROM item i JOIN patient p ON p.patient = i.patient AND p.facility = i.facility
    WHERE i.kind = 'case' GROUP BY i.facility, i.record) AS c JOIN facility f ON f.facility = c.facility
LEFT JOIN (SELECT NULL::bytea AS record, 0 AS received_ms, 0 AS answered_ms) AS r ON r.record = c.record GROUP BY f.state
UNION ALL
SELECT f.state, count(*), count(r.answered_ms), percentile_cont(0.5) WITHIN GROUP (ORDER BY r.answered_ms - r.received_ms)
FROM referral r JOIN patient p ON p.patient = r.patient AND p.facility = r.facility
JOIN facility f ON f.facility = r.facility GROUP BY f.state
"""


def fill(connection: Connection, records: int) -> None:
    """Centres all over India, with cases of the last two months, most of them answered."""
    names = [one.name for one in STATES]
    Random(7).shuffle(names)
    given = {
        "states": names,
        "centres": CENTRES,
        "cases": records // RECORDS_A_CASE,
        "days": DAYS,
        "doctors": DOCTORS,
        "now": _now_ms(),
    }
    for statement in _FILL.split(";\n"):
        bare = statement.strip().startswith("VACUUM")
        connection.execute(statement.encode(), None if bare else given)
