"""The doctor's queue: emergencies first, live without reloading; who is on duty, and whom to call when nobody is."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from hub_server import charts, drafts, duty, glances, sign_in
from hub_server.charts import Queued
from hub_server.database import Connection
from hub_server.duty import OnDuty
from hub_server.people import Person, Role
from hub_server.web import attending
from hub_server.web.desk import Anyone, Desk, Doctor, DoctorWatching, Place, Posted
from sync_protocol.errors import HealthSyncError
from sync_protocol.pages import clinical, language
from sync_protocol.pages.forms import Form

ROWS_SHOWN: Final = 25  # the most urgent; who wants to see more asks for them
MOST_ROWS: Final = 1_000
ROWS_LOOKED_AT: Final = 200  # at least, for what nobody is on duty for, and for how many wait
LOOK_S: Final = 3.0  # how soon a doctor sees that something came; costs two queries of small indexes
LIVE_S: Final = 600.0  # then the browser asks anew
BEAT_LOOKS: Final = 5  # looks without news until something is sent, so that a dead connection is found out

router = APIRouter()


def rows_asked(asked: str) -> int:
    """How many rows an address asks for."""
    return min(max(int(asked), ROWS_SHOWN), MOST_ROWS) if asked.isdecimal() and len(asked) < 5 else ROWS_SHOWN


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for a doctor of this hospital and these specialties, as far as it was looked at. shown: the first of
    them. more: whether still more wait."""

    all: list[Queued]
    shown: list[Queued]
    more: bool

    @property
    def many(self) -> int:
        return len(self.all)


def waiting(connection: Connection, doctor: Person, most: int = ROWS_SHOWN) -> Waiting:
    """most: how many are shown."""
    looked_at = max(most, ROWS_LOOKED_AT)
    found = charts.queue(
        connection,
        statuses=charts.WAITING,
        specialties=doctor.specialties,
        hub=doctor.hub,
        limit=looked_at + 1,
    )
    return Waiting(found[:looked_at], found[:most], len(found) > looked_at)


@router.get("/")
def first_page(desk: Anyone, rows: str = "") -> Response:
    """A doctor's queue; for all others the service in numbers."""
    return _show(desk, "queue", Form(), rows) if desk.person.role is Role.DOCTOR else desk.go("/service")


@router.get("/queue/rows")
def part(desk: DoctorWatching, rows: str = "") -> Response:
    """The list alone, for a page that is open."""
    return _show(desk, "queue_rows", Form(), rows)


@router.post("/duty")
def on_duty(desk: Doctor, form: Posted) -> Response:
    return desk.go("/") if attending.take_duty(desk, form) else _show(desk, "queue", form, status=422)


def _show(desk: Desk, template: str, form: Form, asked: str = "", *, status: int = 200) -> Response:
    most, now_ms = rows_asked(asked), desk.now_ms
    with desk.store.database.transaction() as connection:
        found = waiting(connection, desk.person, most)
        present = duty.everyone_on_duty(connection, now_ms)
        values = attending.duty_values(connection, desk.person, found.all, present)
        names = attending.names_of(connection, found.shown)
        begun = drafts.begun(connection, desk.person.id)
        noted = glances.note(connection, found.shown, desk.person.actor, now_ms)
    with language.speaking(desk.words):
        items = [{"value": one, "text": clinical.specialty(one)} for one in desk.person.specialties]
    return desk.page(
        template,
        form=form,
        waiting=found,
        rows=found.shown,
        glances=desk.place.glances.read(noted, now_ms),
        names=names,
        begun=begun,
        lapse_ms=desk.place.claim_lapse_ms,
        words_of_rank=charts.URGENCY_WORDS,
        most=most,
        next_most=min(2 * most, MOST_ROWS),
        seen=_print_of(desk.place, noted, found, present, now_ms),
        specialty_items=items,
        status=status,
        **values,
    )


# -- live --------------------------------------------------------------------------------------------------------------


@router.get("/queue/events")
def events(desk: DoctorWatching, request: Request, rows: str = "", seen: str = "") -> StreamingResponse:
    """Server-sent events: ``changed`` whenever the queue is another than the page shows, or was told of last. Nothing of a
    patient is in them. They end when the session does. seen: what the page showed, as `_print_of` has it."""
    last = request.headers.get("last-event-id") or seen  # the header is what a browser sends that connects anew
    return StreamingResponse(news(desk.place, desk.token, rows_asked(rows), last), media_type="text/event-stream")


async def news(place: Place, token: str, most: int = ROWS_SHOWN, seen: str = "") -> AsyncIterator[bytes]:
    """The stream itself: one look every LOOK_S seconds, the first at once."""
    yield b"retry: 5000\n\n"
    for look in range(int(LIVE_S / LOOK_S)):
        now = await run_in_threadpool(_look, place, token, most)
        if now is None:
            return
        if now != seen:
            seen = now
            yield f"event: changed\nid: {now}\ndata: 1\n\n".encode()
        elif look % BEAT_LOOKS == 0:
            yield b": still here\n\n"
        await asyncio.sleep(LOOK_S)


def _look(place: Place, token: str, most: int) -> str | None:
    """What the page would show, as `_print_of` has it. None where nobody is there any more, or the database does not answer:
    then the browser asks anew."""
    now_ms = place.now_ms()
    try:
        with place.store.database.transaction() as connection:
            signed = sign_in.session_of(connection, token, now_ms, touch=False)
            if signed is None:
                return None
            found = waiting(connection, signed.person, most)
            present = duty.everyone_on_duty(connection, now_ms)
            seen = glances.Noted(tuple(found.shown), glances.digests(connection, found.shown))
    except HealthSyncError:
        return None
    return _print_of(place, seen, found, present, now_ms)


def _print_of(place: Place, seen: glances.Noted, found: Waiting, present: Sequence[OnDuty], now_ms: int) -> str:
    """What a page shows, as a hash: two lists with the same show the same."""
    held = [row.held_by(now_ms, place.claim_lapse_ms) for row in seen.rows]
    digests = [seen.digests.get((row.feed, row.patient)) for row in seen.rows]
    on_duty = [(one.doctor.id, one.specialties, one.until_ms) for one in present]
    shown = repr((seen.rows, digests, held, found.many, found.more, on_duty))
    return hashlib.sha256(shown.encode()).hexdigest()
