"""The service in numbers: by state, district and facility; centres that have not synced. Nothing of a single patient."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Final

from fastapi import APIRouter, Response

from hub_server import dashboards, stats
from hub_server.stats import By
from hub_server.web.desk import Overseer
from sync_protocol.pages import language
from sync_protocol.words import N_

PERIODS: Final = {1: N_("today"), 7: N_("7 days"), 30: N_("30 days")}
LEVELS: Final = {"state": By.STATE, "district": By.DISTRICT, "facility": By.FACILITY}
MOST_ROWS: Final = 500

router = APIRouter()


@router.get("/service")
def service(desk: Overseer) -> Response:
    asked = desk.request.query_params
    level = asked.get("by", "state") if asked.get("by", "state") in LEVELS else "state"
    days = int(asked["days"]) if asked.get("days") in {str(one) for one in PERIODS} else 7
    begun = datetime.combine(desk.today - timedelta(days=days - 1), time(), language.INDIA)
    with desk.store.database.transaction() as connection:
        rows = stats.rows(connection, LEVELS[level], int(begun.timestamp() * 1000))
    ranked = sorted(rows, key=lambda row: (-row.consultations, row.name))[:MOST_ROWS]
    return desk.page("service", rows=ranked, level=level, days=days, periods=PERIODS, levels=list(LEVELS))


@router.get("/centres")
def centres(desk: Overseer) -> Response:
    """Those longest out of touch first."""
    with desk.store.database.transaction() as connection:
        rows = dashboards.centres(connection, MOST_ROWS)
        total = dashboards.count_centres(connection)
    return desk.page("centres", rows=rows, total=total)
