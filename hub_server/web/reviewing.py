"""Patients whom a doctor of another specialty or hospital opened: for officers and operators, who mark them as reviewed."""

from __future__ import annotations

from fastapi import APIRouter, Response

from hub_server import glass, people
from hub_server.web.desk import Posted, Reviewer, record_in

router = APIRouter()


@router.get("/openings")
def openings(desk: Reviewer) -> Response:
    """Those that wait, the oldest first; behind them the latest that were reviewed."""
    actor, hub = desk.person.actor, desk.person.hub
    waiting = glass.listed(desk.store, actor, hub, desk.now_ms)
    reviewed = glass.listed(desk.store, actor, hub, desk.now_ms, reviewed=True)
    every = [*waiting, *reviewed]
    with desk.store.database.transaction() as connection:
        staff = {one.person for one in every} | {one.reviewed_by for one in every if one.reviewed_by is not None}
        names = people.names(connection, staff)
    return desk.page("openings", waiting=waiting, reviewed=reviewed, names=names)


@router.post("/openings/{name}/reviewed")
def mark_reviewed(desk: Reviewer, name: str, _form: Posted) -> Response:
    glass.review(desk.store, desk.person, record_in(name), desk.now_ms)
    return desk.go("/openings")
