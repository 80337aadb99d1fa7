"""`hub referrals`, `hub claim`, `hub reply` and `hub conflicts`: the doctor's verbs, for scripts and emergencies.

Who reads a patient's data is noted in the audit: the doctor that `--as` names, else the system's user.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

import msgspec
import typer

from hub_server import charts, consults, hospitals
from hub_server.charts import Chart, Conflict, Queued
from hub_server.cli import console, opening
from hub_server.cli.opening import As, AsJson, OfFacility, Opened, ShowNames, time_words
from hub_server.consults import Correction, Done, Settled
from sync_protocol import canonical, documents, exports, schema
from sync_protocol.canonical import Value
from sync_protocol.change import PersonId, RecordId
from sync_protocol.errors import InvalidValue, NotAllowed
from sync_protocol.referral import Status

HIDDEN: Final = "(a name; --show-names shows it)"
LONGEST_CELL: Final = 60  # characters of a value in a list; `show` has all of it
SHOWN_KINDS: Final = ("patient", "case", "vitals", "consent")  # of a patient, beside the referral

ReferralArgument = Annotated[str, typer.Argument(metavar="ID", help="The referral's id.")]
ConflictArgument = Annotated[str, typer.Argument(metavar="ID", help="kind/uuid/field, as the list shows it.")]
Reader = Annotated[str | None, typer.Option("--as", metavar="DOCTOR", help="The login of the doctor who reads.")]


def _actor(at: Opened, login: str | None) -> str:
    return at.doctor(login).actor if login is not None else opening.operator()


def _said(value: Any) -> str:
    """A value as a person reads it."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and value and all(not isinstance(part, dict | list) for part in value.values()):
        return ", ".join(f"{name} {_said(part)}" for name, part in value.items())
    return json.dumps(value, ensure_ascii=False)


def _cell(words: str) -> str:
    return words if len(words) <= LONGEST_CELL else words[: LONGEST_CELL - 1] + "…"


# -- referrals ---------------------------------------------------------------------------------------------------------


def list_referrals(
    status: Annotated[list[Status] | None, typer.Option("--status", help="Only these; may be repeated.")] = None,
    specialty: Annotated[
        list[str] | None, typer.Option("--specialty", metavar="NAME", help="Only these; may be repeated.")
    ] = None,
    facility: OfFacility = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many.")] = None,
    reader: Reader = None,
    as_json: AsJson = False,
    show_names: ShowNames = False,
) -> None:
    """\b
    Examples:
      hub referrals list
      hub referrals list --status received --specialty cardiology
      hub referrals list --json --as dr.rao | head -1 | jq -r .id

    List the referrals: those that wait for a doctor first, the most urgent first, then by the time of receipt.

    With --as, those of a doctor's own hospital and specialties. The list itself opens no patient's data; --json and
    --show-names do, and are noted in the audit.
    """
    with opening.hub() as at:
        doctor = at.doctor(reader) if reader is not None else None
        wanted = list(specialty or ())
        if doctor is not None:
            if not all(doctor.sees(one, doctor.hub) for one in wanted):
                raise NotAllowed("That is no specialty of this doctor.", code="E_NOT_YOURS")
            wanted = wanted or list(doctor.specialties)
        with at.database.transaction() as connection:
            rows = charts.queue(
                connection,
                facility=facility,
                statuses=[one.value for one in status or ()],
                specialties=wanted,
                hub=doctor.hub if doctor is not None else hospitals.ALL,
                limit=limit,
            )
        actor = doctor.actor if doctor is not None else opening.operator()
        if as_json:
            for chart in charts.read_charts(at.store, rows, actor, opening.now_ms()):
                shape = _referral_json(at, chart)
                console.line(shape | ({"patient_name": _patient_name(chart)} if show_names else {}))
            console.flush()
            return
        if not rows:
            console.say("No referrals.")
            return
        opened = charts.read_charts(at.store, rows, actor, opening.now_ms()) if show_names else None
        names = {one.referral.key.record: _patient_name(one) or "" for one in opened or ()}
        heads = ("id", "urgency", "status", "specialty", "facility", "received", *(["patient"] if show_names else []))
        console.table(heads, [_row(one, names if show_names else None) for one in rows])


def _row(one: Queued, names: dict[RecordId, str] | None) -> tuple[str, ...]:
    row = (
        documents.id_text(one.referral),
        charts.URGENCY_WORDS[one.urgency],
        one.status,
        _cell(one.specialty),
        one.feed,
        time_words(one.received_ms),
    )
    return (*row, names.get(one.referral, "")) if names is not None else row


def _referral_json(at: Opened, chart: Chart) -> dict[str, Any]:
    staff = {one for one in (chart.progress.claimed_by, chart.progress.answered_by) if one is not None}
    names: dict[PersonId, str] = {}
    if staff:
        with at.database.transaction() as connection:
            names = charts.names(connection, at.store, chart.feed, staff)
    shape = exports.referral_json(chart.referral, chart.progress, chart.reply, chart.unseen, names.get)
    now_ms, lapse_ms = opening.now_ms(), at.config.claim_lapse_ms
    waits_for = chart.lock.waits_for(now_ms, lapse_ms) if chart.progress.status is Status.RECEIVED else None
    lapses_ms = None
    if chart.progress.status is Status.CLAIMED and chart.progress.claimed_ms is not None:
        lapses_ms = chart.lock.lapses_ms(chart.progress.claimed_ms, lapse_ms)
    return shape | {
        "claim_lapses_at": exports.time_or_none(lapses_ms),
        "waits_for": documents.id_text(waits_for) if waits_for is not None else None,
    }


def _patient_name(chart: Chart) -> str | None:
    for one in chart.records:
        if one.key.kind == "patient" and bytes(one.key.record) == bytes(chart.patient):
            name = one.view().get("name")
            return name if isinstance(name, str) else None
    return None


def show_referral(
    identifier: ReferralArgument, reader: Reader = None, as_json: AsJson = False, show_names: ShowNames = False
) -> None:
    """\b
    Examples:
      hub referrals show 01890a5d-ac96-774b-bcce-b302099a8057 --as dr.rao

    Show one referral with what is known of its patient: the case, the vitals, the reply, and what was written since.
    """
    name = RecordId(opening.parsed_id(identifier, "referral"))
    with opening.hub() as at:
        doctor = at.doctor(reader) if reader is not None else None
        actor = doctor.actor if doctor is not None else opening.operator()
        with at.database.transaction() as connection:
            row = (
                charts.find_queued(connection, name)
                if doctor is None
                else consults.seen_row(connection, doctor, name, opening.now_ms())
            )
        chart = charts.read_chart(at.store, row, actor, opening.now_ms())
        shape = _referral_json(at, chart)
        records = [_record_json(one, show_names) for one in chart.records if one.key.kind in SHOWN_KINDS]
        about = _record_json(chart.referral, show_names)
        if as_json:
            extra = {"patient_name": _patient_name(chart)} if show_names else {}
            console.document("hub.referral/1", {**shape, **extra, "fields": about["fields"], "records": records})
            return
    for key in ("id", "patient", "facility", "status", "urgency", "specialty", "received_at", "claimed_by_name"):
        console.text(f"{key:<16} {'' if shape[key] is None else shape[key]}")
    for one in [about, *sorted(records, key=lambda one: SHOWN_KINDS.index(one["kind"]))]:
        console.text("", f"{one['kind']} {one['id']}  {one['at'] or ''}")
        console.text(*(f"  {field:<28} {_said(value)}" for field, value in one["fields"].items()))
        console.text(*(f"  {field:<28} IN CONFLICT" for field in one["conflicts"]))
    _tell_reply(shape, show_names)


def _record_json(record: Any, show_names: bool) -> dict[str, Any]:
    line = exports.export_line(record, "admitted")
    if not show_names:
        for field in [one for one in line["fields"] if exports.names_a_person(line["kind"], one)]:
            line["fields"][field] = HIDDEN
            line["conflicts"].pop(field, None)
    return line


def _tell_reply(shape: dict[str, Any], show_names: bool) -> None:
    if (answer := shape.get("reply")) is None:
        return
    console.text("", f"reply {answer['id']} by {answer['person_name'] or answer['person']}, {shape['answered_at']}")
    for field in consults.ANSWER_FIELDS:
        if field in answer:
            value = answer[field]
            for item in value if isinstance(value, list) else [value]:
                console.text(f"  {field:<28} {_said(item)}")
    if shape["not_seen_by_doctor"]:
        console.text("", "Written before the hub knew, or since the reply:")
        for one in shape["not_seen_by_doctor"]:
            console.text(f"  {one['kind']} {one['field']}: {_value(one, one['value'], show_names)}, {one['at']}")


# -- claim and reply ---------------------------------------------------------------------------------------------------


def claim(
    identifier: ReferralArgument,
    login: As,
    release: Annotated[bool, typer.Option("--release", help="Give it back instead.")] = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Also where another doctor has it, or it waits for one.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hub claim 01890a5d-ac96-774b-bcce-b302099a8057 --as dr.rao
      hub claim 01890a5d-ac96-774b-bcce-b302099a8057 --as dr.rao --release

    Say that this doctor answers the referral. The same again changes nothing.

    A claim keeps others away until its doctor has done nothing about it for claim_minutes (30 unless set otherwise).
    Exit status 3: another doctor has it, or it was answered, closed or withdrawn.
    """
    if release and take_over:
        raise typer.BadParameter("give either --release or --take-over", param_hint="--release")
    name = RecordId(opening.parsed_id(identifier, "referral"))
    with opening.hub() as at:
        doctor = at.doctor(login)
        if release:
            done = consults.release(at.store, doctor, name, opening.now_ms())
        else:
            random = opening.randomness(consults.RANDOM_BYTES)
            lapse_ms = at.config.claim_lapse_ms
            done = consults.claim(
                at.store, doctor, name, opening.now_ms(), random, take_over=take_over, lapse_ms=lapse_ms
            )
    tell_done("hub.claim/1", "claim", done, login, as_json)


def reply(
    identifier: ReferralArgument,
    login: As,
    file: Annotated[str, typer.Option("--file", metavar="REPLY.json|-", help="The reply.")],
    corrects: Annotated[str | None, typer.Option("--corrects", metavar="REPLY", help="The reply it corrects.")] = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why it is corrected.")] = "",
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hub reply 01890a5d-ac96-774b-bcce-b302099a8057 --as dr.rao --file reply.json
      echo '{"mode":"text","first":true,"advice":"Rest."}' | hub reply ID --as dr.rao --file -

    Answer a referral; claims it first where nobody has. The same again changes nothing.

    The reply is {"diagnosis": {"system", "code", "text"}, "advice", "prescription": [{"drug", "dose", "route"?,
    "frequency"?, "days"}], "follow_up_days"?, "mode": "text|audio|video", "first": true, "refer_onward"?}; mode, first
    and something said are needed. The doctor is taken to have seen what the hub has at this moment.

    Its drugs keep to the Telemedicine Practice Guidelines: list A needs video at a first consultation, list B a
    follow-up, and Schedule X, narcotic and psychotropic drugs are refused. A drug to which the patient is allergic needs
    "allergy_reason" in its line.
    """
    if corrects is None and reason:
        raise typer.BadParameter("--reason belongs to --corrects", param_hint="--reason")
    name = RecordId(opening.parsed_id(identifier, "referral"))
    correction = None
    if corrects is not None:
        correction = Correction(RecordId(opening.parsed_id(corrects, "reply")), reason)
    answer = consults.parse_answer(opening.read_input(file, consults.MAX_ANSWER_BYTES))
    with opening.hub() as at:
        doctor = at.doctor(login)
        random = opening.randomness(consults.RANDOM_BYTES)
        lapse_ms = at.config.claim_lapse_ms
        done = consults.reply(
            at.store, doctor, name, answer, opening.now_ms(), random, correction=correction, lapse_ms=lapse_ms
        )
    tell_done("hub.reply/1", "reply", done, login, as_json)


def tell_done(schema_name: str, record: str, done: Done, login: str, as_json: bool) -> None:
    if not as_json:
        console.text(
            f"{done.verdict.replace('_', ' ')}  {documents.id_text(done.record) if done.record else ''}".rstrip()
        )
        return
    shape: dict[str, Any] = {
        "verdict": done.verdict,
        "referral": documents.id_text(done.referral),
        record: documents.id_text(done.record) if done.record else None,
        "facility": done.facility,
        "doctor": login,
        "changes": [change.id.hex() for change in done.changes],
    }
    if done.seen_positions is not None:
        shape["seen_positions"] = dict(done.seen_positions)
    console.document(schema_name, shape)


# -- conflicts ---------------------------------------------------------------------------------------------------------


def list_conflicts(
    facility: OfFacility = None, reader: Reader = None, as_json: AsJson = False, show_names: ShowNames = False
) -> None:
    """\b
    Examples:
      hub conflicts list
      hub conflicts list --json | jq -r '.conflicts[].id'

    List the fields for which two people wrote different values without seeing each other's.
    """
    with opening.hub() as at:
        found = list(charts.conflicts(at.store, _actor(at, reader), opening.now_ms(), facility))
    shapes = [exports.conflict_json(one.record, one.field, one.shown, one.names.get) for one in found]
    if as_json:
        console.document("hub.conflicts/1", {"conflicts": shapes})
        return
    if not found:
        console.say("No conflicts are open.")
        return
    rows = [
        (one["id"], str(len(one["values"])), one["since"], _cell(_value(one, one["shown"], show_names)))
        for one in shapes
    ]
    console.table(("id", "values", "since", "shown meanwhile"), rows)


def _value(shape: dict[str, Any], value: Any, show_names: bool) -> str:
    return HIDDEN if exports.names_a_person(shape["kind"], shape["field"]) and not show_names else _said(value)


def show_conflict(
    identifier: ConflictArgument, reader: Reader = None, as_json: AsJson = False, show_names: ShowNames = False
) -> None:
    """\b
    Examples:
      hub conflicts show case/01890a5d-ac96-774b-bcce-b302099a8057/provisional_diagnosis

    Show every live value of a field: who wrote it, where, when, and what it replaced.
    """
    with opening.hub() as at:
        one = charts.find_conflict(at.store, _actor(at, reader), identifier, opening.now_ms())
    shape = exports.conflict_json(one.record, one.field, one.shown, one.names.get)
    if as_json:
        console.document("hub.conflict/1", shape)
        return
    console.text(f"{shape['kind']} {shape['record']}", f"field     {shape['field']}", f"patient   {shape['patient']}")
    console.text("a person must decide" if shape["open"] else "not in conflict", "")
    for number, value in enumerate(shape["values"], 1):
        who = value["person_name"] or f"person {value['person']}"
        console.text(
            f"{number:>3}  {_value(shape, value['value'], show_names)}",
            f"     by {who} at {value['facility']}, {value['at']}",
            f"     change {value['change']}",
            *(
                f"     replaced {_value(shape, old['value'], show_names)}"
                for old in value["replaced"]
                if "value" in old
            ),
        )
    if schema.may_write(one.record.key.kind, schema.Writer.CENTRE):
        console.say("", f"The centre decides: there, hwc conflicts resolve {shape['id']} --take N")


def resolve_conflict(
    identifier: ConflictArgument,
    login: As,
    take: Annotated[
        str | None, typer.Option("--take", metavar="N", help="The value with this number, or change id, in `show`.")
    ] = None,
    value: Annotated[str | None, typer.Option("--value", metavar="JSON", help="Another value.")] = None,
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="Why; kept with the decision.")] = "",
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hub conflicts resolve claim/01890a5d-ac96-774b-bcce-b302099a8057/referral --as dr.rao --take 1

    Settle a conflict on a record that doctors write: one value takes the place of all that are live now.

    What the centre writes (patients, cases, referrals) the centre decides: exit status 3, nothing is written. The same
    status where the field is still in conflict afterwards.
    """
    if (take is None) == (value is None):
        raise typer.BadParameter("give either --take N or --value JSON", param_hint="--take")
    with opening.hub() as at:
        doctor = at.doctor(login)
        settled = consults.resolve(
            at.store, doctor, identifier, lambda one: _chosen(one, take, value), note, opening.now_ms()
        )
    _tell_settled(identifier, settled, as_json)
    if settled.left is not None:
        raise typer.Exit(console.Status.NEEDS_PERSON)


def _chosen(one: Conflict, take: str | None, value: str | None) -> Value:
    if take is None:
        try:
            parsed = msgspec.json.decode((value or "").encode("utf-8", "surrogateescape"))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise InvalidValue(
                "The value is not JSON.", code="E_NOT_JSON", next_step="A text is written '\"so\"'"
            ) from None
        row = schema.field_of(one.record.key.kind, one.field)
        return canonical.normalise(documents.from_json(row, parsed) if row is not None else parsed)
    if take.isascii() and take.isdecimal() and len(take) <= 4:
        meant = [held for number, held in enumerate(one.shown.live, 1) if number == int(take)]
    else:
        meant = [held for held in one.shown.live if held.change.id.hex().startswith(take.lower())]
    if len(meant) != 1:
        raise InvalidValue(
            "The field has no such value.", code="E_NO_SUCH_VALUE", next_step="'hub conflicts show ID' numbers them"
        )
    return meant[0].change.writes[one.field]


def _tell_settled(identifier: str, settled: Settled, as_json: bool) -> None:
    if as_json:
        shape = {"id": identifier, "change": settled.change.id.hex(), "open": settled.left is not None}
        console.document("hub.resolution/1", shape)
    elif settled.left is None:
        console.text(f"settled  {settled.change.id.hex()}")
    else:
        console.text(f"written  {settled.change.id.hex()}", "still in conflict, by a value that was not shown")
