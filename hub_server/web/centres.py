"""Centres that were not heard of, and what of them could not be admitted: for officers and operators, by ids alone."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from fastapi import APIRouter, Response

from hub_server import dashboards
from hub_server.dashboards import Centres, Silence
from hub_server.web.desk import Desk, Reviewer
from hub_server.web.service import MOST_SHEET_ROWS, ROWS_A_PAGE, as_sheet, india_time, page_of, place_in
from sync_protocol.pages import language
from sync_protocol.pages.language import said
from sync_protocol.words import N_

SILENCES: Final = {
    Silence.ANY: N_("All centres"),
    Silence.DAY: N_("Silent for a day"),
    Silence.THREE_DAYS: N_("Silent for 3 days"),
    Silence.WEEK: N_("Silent for a week"),
    Silence.NEVER: N_("Never in touch"),
}
# Why something waits in quarantine, and what a person does about it.
REASONS: Final = {
    "E_REVOKED": (
        N_("It came from a device that was shut out."),
        N_("Ask the centre who sent it. If the device is in good hands again: hub nodes release NODE. Else leave it."),
    ),
    "E_NOT_ALLOWED": (
        N_("The centre wrote what only a doctor or the hub may write."),
        N_("Ask whoever looks after the centre's computer: it may have been tampered with. Do not release it."),
    ),
    "E_OTHER_FACILITY": (
        N_("It is written in the name of another centre."),
        N_("Ask whoever looks after the centre's computer: it may have been tampered with. Do not release it."),
    ),
    "E_OTHER_AUTHOR": (
        N_("It is written in the name of another device."),
        N_("Ask whoever looks after the centre's computer: it may have been tampered with. Do not release it."),
    ),
}
UNREADABLE: Final = (
    N_("It could not be read."),
    N_("After an upgrade of the hub, release it: hub quarantine release NUMBER. What still cannot be read comes back."),
)

router = APIRouter()


@router.get("/centres")
def centres(desk: Reviewer) -> Response:
    """Those longest out of touch first."""
    page = page_of(desk.request.query_params)
    silence, state, district = _asked(desk)
    found = _found(desk, ROWS_A_PAGE, (page - 1) * ROWS_A_PAGE)
    with desk.store.database.transaction() as connection:
        places = dashboards.places(connection)

    def address(path: str = "/centres", **changed: str | int) -> str:
        kept = {"silence": silence.value, "state": state, "district": district} | changed
        return f"{path}?{urlencode({name: one for name, one in kept.items() if one is not None})}"

    return desk.page(
        "centres",
        rows=found.rows,
        counts=found.counts,
        silence=silence,
        silences=SILENCES,
        state=state,
        district=district,
        states=sorted({one for one, _ in places if one}),
        districts=[one for there, one in places if there == state and one],
        page=page,
        pages=-(-found.counts[silence] // ROWS_A_PAGE),
        address=address,
        turn=lambda page: address(page=page),
    )


@router.get("/centres/sheet")
def centres_sheet(desk: Reviewer) -> Response:
    with language.speaking(desk.words):
        heads = [
            said("Centre"),
            said("Name"),
            said("State"),
            said("District"),
            said("Last in touch"),
            said("Silent for, days"),
            said("Conflicts"),
            said("Could not be admitted"),
        ]
    rows = [
        [
            one.facility,
            one.name,
            one.state,
            one.district,
            india_time(one.last_seen_ms),
            None if one.last_seen_ms is None else max(0, desk.now_ms - one.last_seen_ms) // 86_400_000,
            one.conflicts,
            one.quarantined,
        ]
        for one in _found(desk, MOST_SHEET_ROWS).rows
    ]
    return as_sheet("centres", [heads, *rows])


def _asked(desk: Desk) -> tuple[Silence, str | None, str | None]:
    """What stands in the address; an empty place is none."""
    asked = desk.request.query_params
    silence = next((one for one in Silence if one.value == asked.get("silence")), Silence.ANY)
    state = place_in(asked, "state") or None
    return silence, state, (place_in(asked, "district") or None) if state is not None else None


def _found(desk: Desk, limit: int, offset: int = 0) -> Centres:
    silence, state, district = _asked(desk)
    with desk.store.database.transaction() as connection:
        return dashboards.centres(
            connection, desk.now_ms, silence, state=state, district=district, limit=limit, offset=offset
        )


# -- quarantine --------------------------------------------------------------------------------------------------------


@router.get("/quarantine")
def quarantine(desk: Reviewer) -> Response:
    """What could not be admitted and waits for a person; never what is in it."""
    page = page_of(desk.request.query_params)
    with desk.store.database.transaction() as connection:
        rows, total = dashboards.set_aside(connection, ROWS_A_PAGE, (page - 1) * ROWS_A_PAGE)
    why = {one.reason: REASONS.get(one.reason, UNREADABLE) for one in rows}
    return desk.page(
        "quarantine",
        rows=rows,
        total=total,
        why=why,
        page=page,
        pages=-(-total // ROWS_A_PAGE),
        turn=lambda page: f"/quarantine?page={page}",
    )


@router.get("/quarantine/sheet")
def quarantine_sheet(desk: Reviewer) -> Response:
    with desk.store.database.transaction() as connection:
        rows, _total = dashboards.set_aside(connection, MOST_SHEET_ROWS)
    with language.speaking(desk.words):
        heads = [said("Number"), said("Centre"), said("Name"), said("What"), said("Reason"), said("Since")]
        cells = [
            [
                one.entry,
                one.facility,
                one.name,
                one.kind,
                f"{said(REASONS.get(one.reason, UNREADABLE)[0])} [{one.reason}]",
                india_time(one.since_ms),
            ]
            for one in rows
        ]
    return as_sheet("quarantine", [heads, *cells])
