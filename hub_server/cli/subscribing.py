"""`hub subscriptions`: centres that ask for another centre's patient, and who decides."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from hub_server import people, subscriptions
from hub_server.cli import console, opening
from hub_server.cli.opening import AsJson, time_words
from hub_server.subscriptions import Asked
from sync_protocol import documents
from sync_protocol.change import RecordId

RANDOM_BYTES = 10

Request = Annotated[str, typer.Argument(metavar="ID", help="From 'hub subscriptions list'.")]
Who = Annotated[str, typer.Option("--as", metavar="LOGIN", help="The login of the person who decides.")]
Said = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; the centres read it.")]


def list_requests(
    everything: Annotated[bool, typer.Option("--all", help="Also those that are decided.")] = False,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hub subscriptions list
      hub subscriptions list --all --json | jq -c .state

    List the requests that wait for a decision, the oldest first.
    """
    with opening.hub() as at, at.database.transaction() as connection:
        found = subscriptions.asked(connection, everything=everything)
    if as_json:
        for one in found:
            console.line(_shape(one))
        console.flush()
        return
    if not found:
        console.say("No requests.")
        return
    console.table(
        ("id", "who asks", "whose patient", "since", "state"),
        [
            (documents.id_text(one.record), one.facility, one.home, time_words(one.asked_ms), one.state.value)
            for one in found
        ],
    )


def show_request(identifier: Request, as_json: AsJson = False) -> None:
    """\b
    Examples:
      hub subscriptions show 01890a5d-ac96-774b-bcce-b302099a8057

    Show one request, with the reason that the centre gave. Noted in the audit.
    """
    with opening.hub() as at:
        with at.database.transaction() as connection:
            one = subscriptions.find(connection, _parsed(identifier))
        said = subscriptions.reason(at.store, one, opening.operator(), opening.now_ms())
    shape = _shape(one) | {"reason": said}
    if as_json:
        console.document("hub.subscription/1", shape)
    else:
        console.text(*(f"{name:<10} {value}" for name, value in shape.items()))


def grant(identifier: Request, who: Who, reason: Said = "", as_json: AsJson = False) -> None:
    """\b
    Examples:
      hub subscriptions grant 01890a5d-ac96-774b-bcce-b302099a8057 --as officer

    Let the centre have the patient's history and all that comes. Both centres see who decided.
    """
    _decide(identifier, who, True, reason, as_json)


def refuse(identifier: Request, who: Who, reason: Said = "", as_json: AsJson = False) -> None:
    """\b
    Examples:
      hub subscriptions refuse 01890a5d-ac96-774b-bcce-b302099a8057 --as officer --reason "not your patient"

    Refuse a request, or take back what was granted: what the centre has stays there, and nothing more comes.
    """
    _decide(identifier, who, False, reason, as_json)


def _decide(identifier: str, who: str, granted: bool, reason: str, as_json: bool) -> None:
    with opening.hub() as at:
        with at.database.transaction() as connection:
            person = people.working(connection, who)
        one = subscriptions.decide(
            at.store,
            _parsed(identifier),
            person,
            granted=granted,
            said=reason.strip(),
            now_ms=opening.now_ms(),
            randomness=os.urandom(RANDOM_BYTES),
        )
    if as_json:
        console.document("hub.subscription/1", _shape(one))
        return
    console.text(one.state.value)


def _parsed(identifier: str) -> RecordId:
    return RecordId(documents.parse_id(identifier))


def _shape(one: Asked) -> dict[str, Any]:
    return {
        "id": documents.id_text(one.record),
        "facility": one.facility,
        "home": one.home,
        "patient": documents.id_text(one.patient),
        "state": one.state.value,
        "asked_at": documents.time_text(one.asked_ms),
    }
