"""`hwc conflicts`, `hwc referrals` and `hwc news`: what a person looks at and decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from hwc_node import edits, questioning, views
from hwc_node.cli import console, opening, words
from hwc_node.cli.opening import AsJson, Desk, ShowNames
from hwc_node.clinic import Settled, parsed_value
from hwc_node.views import Conflict, ReferralView, Sibling
from sync_protocol import documents, exports, referral
from sync_protocol.canonical import Value
from sync_protocol.change import ChangeId, PatientId, PersonId
from sync_protocol.errors import InvalidValue
from sync_protocol.merge import Held, Record

Identifier = Annotated[str, typer.Argument(metavar="ID", help="kind/uuid/field, as the list shows it.")]
Note = Annotated[str | None, typer.Option("--note", metavar="TEXT", help="Why; kept with the decision.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
WantedStatus = Annotated[referral.Status | None, typer.Option("--status", help="Only those that stand here.")]
HIDDEN = "(a name; --show-names shows it)"
REPLY_FIELDS = ("diagnosis", "advice", "prescription", "follow_up_days", "mode", "refer_onward")
Told = TypeVar("Told")
FINISHED = (referral.Status.CLOSED, referral.Status.WITHDRAWN)


# -- conflicts ---------------------------------------------------------------------------------------------------------


def list_conflicts(as_json: AsJson = False, show_names: ShowNames = False) -> None:
    """\b
    Examples:
      hwc conflicts list
      hwc conflicts list --json | jq -r '.conflicts[].id'

    List the fields for which two people wrote different values without seeing each other's.
    """
    with opening.desk() as at:
        found = list(at.clinic.conflicts())
        found.sort(key=lambda one: (one.since_ms, one.id))
        if as_json:
            shapes = [views.conflict_json(one, at.clinic.name_of) for one in found]
            console.document("hwc.conflicts/1", {"conflicts": shapes})
            return
        if not found:
            console.say("No conflicts are open.")
            return
        rows = [
            (one.id, str(len(one.values)), words.time(one.since_ms), words.cell(_value(one, one.values[0], show_names)))
            for one in found
        ]
        console.table(("id", "values", "since", "shown meanwhile"), rows)
        console.say("", "'hwc conflicts show ID' tells who wrote what; 'hwc conflicts resolve ID --take N' settles it.")


def show_conflict(identifier: Identifier, as_json: AsJson = False, show_names: ShowNames = False) -> None:
    """\b
    Examples:
      hwc conflicts show case/01890a5d-ac96-774b-bcce-b302099a8057/provisional_diagnosis

    Show every live value of a field: who wrote it, where, when, and what it replaced.
    """
    with opening.desk() as at:
        one = at.clinic.conflict(identifier)
        if as_json:
            console.document("hwc.conflict/1", views.conflict_json(one, at.clinic.name_of))
            return
        console.text(f"{one.key.kind} {documents.id_text(one.key.record)}", f"field     {one.field}")
        console.text(f"patient   {_patient(at, one.patient, show_names)}")
        console.text("a person must decide" if one.open else "not in conflict", "")
        for number, sibling in enumerate(one.values, 1):
            console.text(*_sibling_lines(at, one, number, sibling, show_names))
        if one.open:
            console.say(
                "", "Settle it with 'hwc conflicts resolve ID --take N', or --value JSON; --note TEXT says why."
            )


def _sibling_lines(at: Desk, one: Conflict, number: int, sibling: Sibling, show_names: bool) -> list[str]:
    timed = "" if sibling.timed else ", not yet timed by the hub"
    shown = "   <- shown meanwhile" if number == 1 and one.open else ""
    lines = [
        f"{number:>3}  {_value(one, sibling, show_names)}{shown}",
        f"     by {_who(at, sibling.person)} at {sibling.facility}, {words.time(sibling.at_ms)}{timed}",
        f"     change {sibling.change.hex()}",
    ]
    for item in sibling.replaced:
        if not isinstance(item, Held):
            lines.append(f"     replaced a write that is not here: {item.hex()}")
            continue
        value = item.change.writes.get(one.field)
        hidden = exports.names_a_person(one.key.kind, one.field) and not show_names
        said = HIDDEN if hidden else words.said(one.key.kind, one.field, value)
        lines.append(f"     replaced {said} by {_who(at, item.change.person)}, {words.time(exports.at_ms(item))}")
    return lines


def resolve_conflict(
    identifier: Identifier,
    take: Annotated[
        str | None, typer.Option("--take", metavar="N", help="The value with this number, or change id, in `show`.")
    ] = None,
    value: Annotated[str | None, typer.Option("--value", metavar="JSON", help="Another value.")] = None,
    note: Note = None,
    shown: Annotated[
        list[str] | None,
        typer.Option("--shown", metavar="CHANGE", help="A change that was shown; without it: all that are live now."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hwc conflicts resolve case/01890a5d-ac96-774b-bcce-b302099a8057/plan --take 2 --note "seen by both"
      hwc conflicts resolve patient/01890a5d-ac96-774b-bcce-b302099a8057/sex --value '"F"'

    Settle a conflict: one value takes the place of all that were shown. The others stay in the history.

    Exit status 3: the field is still in conflict, by a value that arrived and was not among those shown.
    """
    if (take is None) == (value is None):
        raise typer.BadParameter("give either --take N or --value JSON", param_hint="--take")
    named = frozenset(map(_change_id, shown)) if shown else None
    with opening.desk() as at:
        settled = at.clinic.resolve(identifier, _chooser(take, value), note, opening.now_ms(), named)
        _tell_settled(identifier, settled, as_json)
    if settled.left is not None:
        raise typer.Exit(console.Status.NEEDS_PERSON)


def _chooser(take: str | None, value: str | None) -> Callable[[Record, str], Value]:
    if take is not None:
        wanted = take
        return lambda record, field: edits.taken(record, field, wanted).change.writes[field]
    try:
        parsed = msgspec.json.decode((value or "").encode())
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise InvalidValue(
            "The value is not JSON.", field="value", code="E_NOT_JSON", next_step="""a text is written '"like this"'"""
        ) from None
    return lambda record, field: parsed_value(record.key.kind, field, parsed)


def _tell_settled(identifier: str, settled: Settled, as_json: bool) -> None:
    if as_json:
        told = {"id": identifier, "change": settled.change.id.hex(), "open": settled.left is not None}
        console.document("hwc.resolution/1", told)
    elif settled.left is None:
        console.text(f"resolved by change {settled.change.id.hex()}")
        console.say("'hwc conflicts undo ID' brings the earlier values back.")
    else:
        console.text(f"saved as change {settled.change.id.hex()}, and still in conflict")
        console.say("A value that was not shown is live too: 'hwc conflicts show ID'.")


def undo_resolution(identifier: Identifier, note: Note = None, as_json: AsJson = False) -> None:
    """\b
    Examples:
      hwc conflicts undo case/01890a5d-ac96-774b-bcce-b302099a8057/plan --note "wrong patient"

    Undo a resolution: the values it replaced are live again, and the conflict is open again.
    """
    with opening.desk() as at:
        changes = at.clinic.undo(identifier, note, opening.now_ms())
    if as_json:
        console.document("hwc.undo/1", {"id": identifier, "changes": [one.id.hex() for one in changes], "open": True})
        return
    console.text(f"undone; {len(changes)} values are live again and wait for a decision")


def _change_id(text: str) -> ChangeId:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != 16:
        raise typer.BadParameter("a change id has 32 hex digits", param_hint="--shown")
    return ChangeId(raw)


# -- referrals ---------------------------------------------------------------------------------------------------------


def list_referrals(
    status: WantedStatus = None,
    as_json: AsJson = False,
    show_names: ShowNames = False,
) -> None:
    """\b
    Examples:
      hwc referrals list
      hwc referrals list --status answered
      hwc referrals list --json | jq -c 'select(.not_seen_by_doctor != [])'

    List the referrals and where they stand, most urgent first, those that are closed last.
    """
    with opening.desk() as at:
        wanted = (one for one in at.clinic.referrals() if status in (None, one.progress.status))
        if as_json:
            for line in _sorted((one, msgspec.json.encode(_referral_json(at, one, show_names))) for one in wanted):
                console.line(msgspec.Raw(line))
            console.flush()
            return
        rows = _sorted((one, _referral_row(at, one, show_names)) for one in wanted)
        if not rows:
            console.say("No referrals.")
            return
        console.table(("id", "status", "urgency", "specialty", "patient", "saved", "unseen by doctor"), rows)


def _sorted(told: Iterable[tuple[ReferralView, Told]]) -> list[Told]:
    """What is told of each, most urgent first. Only that is held: the records of all patients would be too much."""
    found = [(*_by_urgency(one), one.record.key.record, said) for one, said in told]
    found.sort(key=lambda one: one[:-1])
    return [one[-1] for one in found]


def _by_urgency(one: ReferralView) -> tuple[bool, int, int]:
    urgency = one.record.shown("urgency")
    rank = referral.urgency_rank(urgency.value if urgency is not None else None)
    return one.progress.status in FINISHED, rank, one.progress.saved_ms


def _referral_json(at: Desk, one: ReferralView, show_names: bool) -> dict[str, Any]:
    shape = views.referral_json(one, at.clinic.name_of)
    return shape | ({"patient_name": at.clinic.patient_name(one.record.patient)} if show_names else {})


def _referral_row(at: Desk, one: ReferralView, show_names: bool) -> tuple[str, ...]:
    view = one.record.view()
    unseen = "" if one.reply is None else "not known" if one.unseen is None else str(len(one.unseen))
    return (
        documents.id_text(one.record.key.record),
        _status_words(one),
        str(view.get("urgency", "")),
        words.cell(str(view.get("specialty", ""))),
        _patient(at, one.record.patient, show_names),
        words.time(one.progress.saved_ms),
        unseen,
    )


def _status_words(one: ReferralView) -> str:
    """The status; a withdrawn referral that has an answer shows both."""
    words = one.progress.status.value
    return f"{words}, answered" if one.progress.withdrawn and one.reply is not None else words


def show_referral(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="The referral's id.")],
    as_json: AsJson = False,
    show_names: ShowNames = False,
) -> None:
    """\b
    Examples:
      hwc referrals show 01890a5d-ac96-774b-bcce-b302099a8057

    Show one referral: when it was received, claimed, answered and seen, the reply, and what the doctor had not seen.
    """
    with opening.desk() as at:
        one = at.clinic.referral(identifier)
        if as_json:
            console.document("hwc.referral/1", _referral_json(at, one, show_names))
            return
        shape = views.referral_json(one, at.clinic.name_of)
        console.text(f"referral  {shape['id']}", f"patient   {_patient(at, one.record.patient, show_names)}")
        console.text(
            f"status    {_status_words(one)}", f"urgency   {shape['urgency']}", f"specialty {shape['specialty']}"
        )
        for step in ("saved", "received", "claimed", "answered", "seen"):
            if (when := shape[f"{step}_at"]) is not None:
                by = f" by {_who(at, one.progress.claimed_by)}" if step == "claimed" and one.progress.claimed_by else ""
                console.text(f"{step:<9} {when}{by}")
        if one.reply is not None:
            _tell_reply(at, one, one.reply.view(), show_names)


def _tell_reply(at: Desk, one: ReferralView, view: Mapping[str, Value], show_names: bool) -> None:
    by = _who(at, one.progress.answered_by) if one.progress.answered_by else "unknown"
    console.text("", f"reply by {by}")
    for name in REPLY_FIELDS:
        for line in words.said_lines("reply", name, view.get(name)):
            console.text(f"  {name:<14} {line}")
    if one.unseen is None:
        console.text("", "What the doctor had seen is not known: the reply does not say.")
    elif one.unseen:
        console.text("", "Written before the hub knew, so the doctor had not seen:")
        for item in one.unseen:
            hidden = exports.names_a_person(item.key.kind, item.field) and not show_names
            value = HIDDEN if hidden else words.said(item.key.kind, item.field, item.value)
            console.text(f"  {item.key.kind} {item.field}: {value}, {words.time(item.at_ms)}")


# -- who and what ------------------------------------------------------------------------------------------------------


def _value(one: Conflict, sibling: Sibling, show_names: bool) -> str:
    if exports.names_a_person(one.key.kind, one.field) and not show_names:
        return HIDDEN
    return words.said(one.key.kind, one.field, sibling.value)


def _who(at: Desk, person: PersonId) -> str:
    return at.clinic.name_of(person) or f"person {documents.id_text(person)}"


def _patient(at: Desk, patient: PatientId, show_names: bool) -> str:
    name = at.clinic.patient_name(patient) if show_names else None
    return name or documents.id_text(patient)


# -- news that would hide much -----------------------------------------------------------------------------------------


def list_news(as_json: AsJson = False) -> None:
    """\b
    Examples:
      hwc news list
      hwc news list --json | jq .count

    Tell of news that was put aside since it would hide or erase much of what is here.

    A hub that errs could order records away. So where marks of error and orders to erase come to more than a fifth of
    the records within a day, a person at the centre decides. Sending and receiving go on meanwhile.
    """
    with opening.desk() as at:
        found = questioning.questioned(at.store)
    if as_json:
        shape = {
            "count": found.count,
            "erasures": found.erasures,
            "since": documents.time_text(found.since_ms) if found.since_ms is not None else None,
            "refused": found.refused,
        }
        console.document("hwc.news/1", shape)
        return
    if not found.count:
        console.say("No news waits for a decision." + (f" {found.refused} were refused." if found.refused else ""))
        return
    console.text(
        f"{found.count} pieces of news wait since {words.time(found.since_ms)}: they would hide records here"
        + (f", {found.erasures} of them erase a patient" if found.erasures else "")
    )
    console.say("Ask the hub's operator whether this is meant. Then: hwc news accept, or hwc news refuse")


def accept_news(yes: Yes = False, as_json: AsJson = False) -> None:
    """\b
    Examples:
      hwc news accept

    Obey the news that was put aside, refused or not. What it erases does not come back.
    """
    with opening.desk() as at:
        found = questioning.questioned(at.store)
        if found.count + found.refused and not yes:
            opening.confirm(f"Obey {found.count + found.refused} pieces of news that hide or erase records here?")
        done = questioning.accept(at.store, opening.now_ms())
    _tell_news("accepted", done, as_json)


def refuse_news(as_json: AsJson = False) -> None:
    """\b
    Examples:
      hwc news refuse

    Keep the news put aside, and ask no more. This node then shows what the hub hides, so their digests differ.
    """
    with opening.desk() as at:
        done = questioning.refuse(at.store)
    _tell_news("refused", done, as_json)


def _tell_news(verdict: str, count: int, as_json: bool) -> None:
    if as_json:
        console.document("hwc.news/1", {"verdict": verdict, "count": count})
        return
    console.text(f"{count} {verdict}")
