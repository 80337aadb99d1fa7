"""The doctor's queue: emergencies first, live without reloading; who is on duty, and whom to call when nobody is."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Final

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from hub_server import charts, drafts, duty, glances, sign_in
from hub_server.charts import Queued
from hub_server.database import Connection
from hub_server.people import Person, Role
from hub_server.web import attending
from hub_server.web.desk import Anyone, Desk, Doctor, DoctorWatching, Place, Posted
from sync_protocol.errors import HealthSyncError
from sync_protocol.pages import clinical, language
from sync_protocol.pages.forms import Form

ROWS_SHOWN: Final = 25  # the most urgent; who wants to see more asks for them
MOST_ROWS: Final = 200
LOOK_S: Final = 3.0  # how soon a doctor sees that something came; costs two queries of small indexes
LIVE_S: Final = 600.0  # then the browser asks anew
BEAT_LOOKS: Final = 5  # looks without news until something is sent, so that a dead connection is found out

router = APIRouter()


def many(asked: str) -> int:
    """How many rows an address asks for."""
    return min(max(int(asked), ROWS_SHOWN), MOST_ROWS) if asked.isdecimal() and len(asked) < 4 else ROWS_SHOWN


def rows_of(connection: Connection, doctor: Person, most: int = ROWS_SHOWN) -> list[Queued]:
    """What waits for a doctor of this hospital and these specialties; one more than asked for, where there are more."""
    return charts.queue(
        connection,
        statuses=charts.WAITING,
        specialties=doctor.specialties,
        hub=doctor.hub,
        limit=most + 1,
    )


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
    most = many(asked)
    with desk.store.database.transaction() as connection:
        found = rows_of(connection, desk.person, most)
        more = len(found) > most
        found = found[:most]
        values = attending.duty_values(connection, desk.person, found, desk.now_ms)
        names = attending.names_of(connection, found)
        begun = drafts.begun(connection, desk.person.id)
        noted = glances.note(connection, found, desk.person.actor, desk.now_ms)
    with language.speaking(desk.words):
        items = [{"value": one, "text": clinical.specialty(one)} for one in desk.person.specialties]
    return desk.page(
        template,
        form=form,
        rows=found,
        glances=desk.place.glances.read(noted, desk.now_ms),
        names=names,
        begun=begun,
        lapse_ms=desk.place.claim_lapse_ms,
        words_of_rank=charts.URGENCY_WORDS,
        many=most,
        most=min(2 * most, MOST_ROWS) if more else 0,
        specialty_items=items,
        status=status,
        **values,
    )


# -- live --------------------------------------------------------------------------------------------------------------


@router.get("/queue/events")
def events(desk: DoctorWatching, rows: str = "") -> StreamingResponse:
    """Server-sent events: ``changed`` whenever the queue is another than before. Nothing of a patient is in them. They end
    when the session does."""
    return StreamingResponse(news(desk.place, desk.token, many(rows)), media_type="text/event-stream")


async def news(place: Place, token: str, most: int = ROWS_SHOWN) -> AsyncIterator[bytes]:
    """The stream itself: one look every LOOK_S seconds."""
    seen = await run_in_threadpool(_look, place, token, most)
    yield b"retry: 5000\n\n"
    for look in range(int(LIVE_S / LOOK_S)):
        await asyncio.sleep(LOOK_S)
        now = await run_in_threadpool(_look, place, token, most)
        if now is None:
            return
        if now != seen:
            seen = now
            yield b"event: changed\ndata: 1\n\n"
        elif look % BEAT_LOOKS == 0:
            yield b": still here\n\n"


def _look(place: Place, token: str, most: int) -> bytes | None:
    """What the page would show, as a hash: two lists with the same show the same. None where nobody is there any more, or
    the database does not answer: then the browser asks anew."""
    now_ms = place.now_ms()
    try:
        with place.store.database.transaction() as connection:
            signed = sign_in.session_of(connection, token, now_ms, touch=False)
            if signed is None:
                return None
            found = rows_of(connection, signed.person, most)
            held = [row.held_by(now_ms, place.claim_lapse_ms) for row in found]
            present = [(one.doctor.id, one.until_ms) for one in duty.everyone_on_duty(connection, now_ms)]
    except HealthSyncError:
        return None
    return hashlib.sha256(repr((found, held, present)).encode()).digest()
