"""The doctor's queue: emergencies first, live without reloading; claim, release, take over."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Final

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from hub_server import charts, consults
from hub_server.charts import Queued
from hub_server.people import Person, Role
from hub_server.store import Store
from hub_server.web.desk import Anyone, Desk, Doctor, DoctorWatching, Posted, record_in

ROWS_SHOWN: Final = 50
LOOK_S: Final = 3.0  # how soon a doctor sees that something came; costs one query of the queue's index
LIVE_S: Final = 600.0  # then the browser asks anew, and the session is looked at again
BEAT_LOOKS: Final = 5  # looks without news until something is sent, so that a dead connection is found out

router = APIRouter()


def rows_of(store: Store, doctor: Person) -> list[Queued]:
    """What waits for a doctor of this hospital and these specialties."""
    with store.database.transaction() as connection:
        return charts.queue(
            connection,
            statuses=charts.WAITING,
            specialties=doctor.specialties,
            hub=doctor.hub,
            limit=ROWS_SHOWN,
        )


@router.get("/")
def first_page(desk: Anyone) -> Response:
    """A doctor's queue; for all others the service in numbers."""
    return _show(desk, "queue") if desk.person.role is Role.DOCTOR else desk.go("/service")


@router.get("/queue/rows")
def rows(desk: DoctorWatching) -> Response:
    """The list alone, for a page that is open."""
    return _show(desk, "queue_rows")


def _show(desk: Desk, template: str) -> Response:
    found = rows_of(desk.store, desk.person)
    glances = charts.glances(desk.store, found, desk.person.actor, desk.now_ms)
    with desk.store.database.transaction() as connection:
        holders = {
            row.claimed_by: name
            for row in found
            if row.claimed_by is not None
            for name in charts.names(connection, desk.store, row.feed, {row.claimed_by}).values()
        }
    return desk.page(
        template, rows=found, glances=glances, holders=holders, words_of_rank=charts.URGENCY_WORDS, limit=ROWS_SHOWN
    )


@router.get("/queue/events")
def events(desk: DoctorWatching) -> StreamingResponse:
    """Server-sent events: ``changed`` whenever the queue is another than before. Nothing of a patient is in them."""
    return StreamingResponse(_events(desk.store, desk.person), media_type="text/event-stream")


async def _events(store: Store, doctor: Person) -> AsyncIterator[bytes]:
    seen = await run_in_threadpool(lambda: fingerprint(rows_of(store, doctor)))
    yield b"retry: 5000\n\n"
    looks = int(LIVE_S / LOOK_S)
    for look in range(looks):
        await asyncio.sleep(LOOK_S)
        now = await run_in_threadpool(lambda: fingerprint(rows_of(store, doctor)))
        if now != seen:
            seen = now
            yield b"event: changed\ndata: 1\n\n"
        elif look % BEAT_LOOKS == 0:
            yield b": still here\n\n"


def fingerprint(found: Sequence[Queued]) -> bytes:
    """Two lists with the same show the same."""
    return hashlib.sha256(repr(list(found)).encode()).digest()


@router.post("/cases/{name}/claim")
def claim(desk: Doctor, name: str, form: Posted) -> Response:
    consults.claim(
        desk.store,
        desk.person,
        record_in(name),
        desk.now_ms,
        desk.randomness()[: consults.RANDOM_BYTES],
        take_over=form.value("take_over") == "yes",
        lapse_ms=desk.place.claim_lapse_ms,
    )
    return desk.go(f"/cases/{name}")


@router.post("/cases/{name}/release")
def release(desk: Doctor, name: str, _form: Posted) -> Response:
    consults.release(desk.store, desk.person, record_in(name), desk.now_ms)
    return desk.go("/")
