"""Fields that two people wrote without seeing each other's values: the list, and the decision of a doctor.

The list names records by their ids; which fields they are stands only in the sealed changes. Only a doctor who may see
the patient opens one, which is noted in the audit. What the centre writes the centre decides.
"""

from __future__ import annotations

import re
from typing import Any, Final

from fastapi import APIRouter, Response

from hub_server import consults, dashboards
from hub_server.charts import Conflict
from hub_server.people import Role
from hub_server.web.desk import Anyone, Desk, Doctor, Posted, Reviewer, record_in
from hub_server.web.service import DOCTORS_KINDS, MOST_SHEET_ROWS, ROWS_A_PAGE, as_sheet, india_time, page_of
from sync_protocol import exports
from sync_protocol.canonical import Value
from sync_protocol.change import ChangeId, RecordKey
from sync_protocol.documents import id_text
from sync_protocol.errors import InvalidValue
from sync_protocol.pages import clinical, language
from sync_protocol.pages.forms import Form
from sync_protocol.pages.language import said

SHOWN: Final = "shown"
_CHANGE: Final = re.compile("[0-9a-f]{32}")

router = APIRouter()


@router.get("/conflicts")
def conflicts(desk: Anyone) -> Response:
    """All of them for who looks after the service; for a doctor those that a doctor of their hospital decides."""
    page = page_of(desk.request.query_params)
    mine = desk.person.role is Role.DOCTOR
    with desk.store.database.transaction() as connection:
        rows, total = dashboards.conflicting(
            connection,
            kinds=DOCTORS_KINDS if mine else None,
            hub=desk.person.hub if mine else "",
            limit=ROWS_A_PAGE,
            offset=(page - 1) * ROWS_A_PAGE,
        )
    return desk.page(
        "conflicts",
        rows=rows,
        total=total,
        page=page,
        pages=-(-total // ROWS_A_PAGE),
        turn=lambda page: f"/conflicts?page={page}",
        doctors_kinds=DOCTORS_KINDS,
    )


@router.get("/conflicts/sheet")
def conflicts_sheet(desk: Reviewer) -> Response:
    with desk.store.database.transaction() as connection:
        rows, _total = dashboards.conflicting(connection, limit=MOST_SHEET_ROWS)
    with language.speaking(desk.words):
        heads = [
            said("Centre"),
            said("Name"),
            said("What"),
            said("Record"),
            said("Fields"),
            said("Since"),
            said("Who decides"),
        ]
        who = {True: said("a doctor"), False: said("the centre")}
        cells = [
            [
                one.facility,
                one.name,
                one.kind,
                id_text(one.record),
                one.fields,
                india_time(one.since_ms),
                who[one.kind in DOCTORS_KINDS],
            ]
            for one in rows
        ]
    return as_sheet("conflicts", [heads, *cells])


@router.get("/conflicts/{kind}/{name}")
def conflict(desk: Doctor, kind: str, name: str) -> Response:
    return _show(desk, kind, name, Form())


def _show(desk: Desk, kind: str, name: str, form: Form, status: int = 200) -> Response:
    found = consults.conflicts_of(desk.store, desk.person, _key(kind, name), desk.now_ms)
    return desk.page(
        "deciding",
        form=form,
        kind=kind,
        found=found,
        ours=kind in DOCTORS_KINDS,
        labels={one.field: clinical.label(one.field) for one in found},
        values_of=_values,
        status=status,
    )


def _key(kind: str, name: str) -> RecordKey:
    """Raises InvalidValue (``E_BAD_ID``) for what is no record's name."""
    return RecordKey(kind, record_in(name))


def _values(one: Conflict) -> list[dict[str, Any]]:
    """Each live value: who wrote it, where, when, and what it replaced."""
    return [
        {
            "change": held.change.id.hex(),
            "said": clinical.value(one.field, held.change.writes[one.field]),
            "by": one.names.get(held.change.person, ""),
            "facility": held.change.facility,
            "at_ms": held.change.hlc >> 16,
            "replaced": [
                clinical.value(one.field, old.change.writes[one.field])
                for old in (one.record.changes.get(name) for name in held.change.supersedes.get(one.field, ()))
                if old is not None and one.field in old.change.writes
            ],
        }
        for held in one.shown.live
    ]


@router.post("/conflicts/{kind}/{name}")
def decide(desk: Doctor, kind: str, name: str, form: Posted) -> Response:
    key = _key(kind, name)
    found = consults.conflicts_of(desk.store, desk.person, key, desk.now_ms)
    with language.speaking(desk.words):
        take = form.required("take", said("Choose what is to hold"))
    field = form.value("field")
    shown = frozenset(ChangeId(bytes.fromhex(one)) for one in form.all(SHOWN) if _CHANGE.fullmatch(one))

    def chosen(one: Conflict) -> Value:
        for held in one.shown.live:
            if held.change.id in shown and held.change.id.hex() == take:
                return held.change.writes[one.field]
        raise InvalidValue("Choose one of the values that are shown.", field="take", code="E_NO_SUCH_VALUE")

    def settle() -> None:
        consults.resolve(
            desk.store,
            desk.person,
            exports.conflict_id(key, field),
            chosen,
            form.value("note"),
            desk.now_ms,
            shown=shown,
        )

    if not desk.saved(form, settle):
        return _show(desk, kind, name, form, 422)
    return desk.go("/conflicts" if len(found) == 1 else f"/conflicts/{kind}/{name}")
