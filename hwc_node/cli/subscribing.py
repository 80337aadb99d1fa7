"""`hwc card` and `hwc subscriptions`: patients of other centres, by their card or by a request."""

from __future__ import annotations

import os
from typing import Annotated, Any, Final

import typer

from hwc_node import enrolment, subscribing
from hwc_node.cli import console, opening, words
from hwc_node.cli.opening import AsJson
from hwc_node.subscribing import Asked
from sync_protocol import documents, subscription
from sync_protocol.change import PatientId, RecordId
from sync_protocol.subscription import SECRET_BYTES, State

CARD_VARIABLE: Final = "HWC_CARD"
SAID: Final = {
    State.BY_CARD: "subscribed, by card",
    State.GRANTED: "subscribed, granted",
    State.ASKED: "asked; a person at the hub decides",
    State.REFUSED: "refused",
    State.ENDED: "ended",
}

Patient = Annotated[str, typer.Argument(metavar="PATIENT", help="The patient's id.")]


def card(patient: Patient, as_json: AsJson = False) -> None:
    """\b
    Examples:
      hwc card 01890a5d-ac96-774b-bcce-b302099a8057
      hwc card 01890a5d-ac96-774b-bcce-b302099a8057 --json | jq -r .card

    Print the letters of a patient's card: whoever the patient shows it to can ask for the patient's history.

    Asked for again they are the same. A card that was lost is made invalid by marking its record as entered in error.
    """
    with opening.desk() as at:
        now_ms = opening.now_ms()
        name, fresh = PatientId(documents.parse_id(patient)), RecordId(enrolment.time_ordered_id(now_ms))
        made = subscribing.card(at.store, at.person, name, fresh, os.urandom(SECRET_BYTES), now_ms)
    if as_json:
        console.document("hwc.card/1", {"patient": documents.id_text(made.patient), "card": made.text()})
        return
    console.text(made.text())


def ask(
    patient: Annotated[str | None, typer.Option("--patient", metavar="ID", help="Who, where there is no card.")] = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why this centre needs the history.")] = "",
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hwc subscriptions ask
      HWC_CARD_FD=3 hwc subscriptions ask 3<card.txt
      hwc subscriptions ask --patient 01890a5d-ac96-774b-bcce-b302099a8057 --reason "moved here with her son"

    Ask for the history of another centre's patient, and for all that comes: by the letters on the patient's card, or
    with a reason, which a person at the hub decides about.

    The request leaves with the next sync. The patient's own centre sees it.
    """
    if patient is not None and not reason.strip():
        raise typer.BadParameter("say why: without a card a person decides", param_hint="--reason")
    with opening.desk() as at:
        shown = None
        if patient is None:
            letters = opening.passphrase("The letters on the card: ", variable=CARD_VARIABLE, what="card")
            shown = subscription.parse_card(letters)
        name = shown.patient if shown is not None else PatientId(documents.parse_id(patient or ""))
        now_ms = opening.now_ms()
        fresh = RecordId(enrolment.time_ordered_id(now_ms))
        asked = subscribing.ask(at.store, at.person, name, fresh, now_ms, card=shown, reason=reason.strip())
    _tell(asked, as_json, "asked; it leaves with the next sync")


def end(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="From 'hwc subscriptions list'.")],
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hwc subscriptions end 01890a5d-ac96-774b-bcce-b302099a8057

    Receive nothing more of that patient. What is here stays.
    """
    with opening.desk() as at:
        ended = subscribing.end(at.store, at.person, RecordId(documents.parse_id(identifier)), opening.now_ms())
    _tell(ended, as_json, "ended; it takes effect with the next sync")


def list_subscriptions(as_json: AsJson = False) -> None:
    """\b
    Examples:
      hwc subscriptions list
      hwc subscriptions list --json | jq -c 'select(.ours | not)'

    List for which patients this centre asked, and which centres asked for patients that are here.
    """
    with opening.desk() as at:
        found = subscribing.everything(at.store)
    if as_json:
        for one in found:
            console.line(_shape(one))
        console.flush()
        return
    if not found:
        console.say("No subscriptions.")
        return
    console.table(
        ("id", "patient", "who asks", "since", "state"),
        [
            (
                documents.id_text(one.request.record),
                documents.id_text(one.patient),
                "this centre" if one.ours else one.request.facility,
                words.time(one.request.asked_ms),
                SAID[one.request.state],
            )
            for one in found
        ],
    )


def _tell(one: Asked, as_json: bool, said: str) -> None:
    if as_json:
        console.document("hwc.subscription/1", _shape(one))
        return
    console.text(f"{documents.id_text(one.request.record)}: {said}")


def _shape(one: Asked) -> dict[str, Any]:
    return {
        "id": documents.id_text(one.request.record),
        "patient": documents.id_text(one.patient),
        "facility": one.request.facility,
        "ours": one.ours,
        "state": one.request.state.value,
        "asked_at": documents.time_text(one.request.asked_ms),
    }
