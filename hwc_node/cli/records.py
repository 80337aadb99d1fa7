"""`hwc import`, `hwc export` and `hwc schema`: records in and out as lines of JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO

import typer
from rich.progress import Progress

from hwc_node import views
from hwc_node.cli import console, opening, reading, words
from hwc_node.cli.opening import AsJson, Desk
from hwc_node.line_import import BATCH_LINES, ImportRules, LineImport, LineResult, Verdict
from sync_protocol import documents, schema
from sync_protocol.change import PatientId
from sync_protocol.errors import InvalidValue, OurFault
from sync_protocol.schema import Field, Kind

TOLD_REFUSALS = 5  # on stderr; stdout has them all
ORDER_OF_TELLING = (Verdict.CREATED, Verdict.CHANGED, Verdict.UNCHANGED, Verdict.NOT_OURS, Verdict.REFUSED)


def import_command(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A file of lines, - for stdin.")],
    source: Annotated[
        str | None, typer.Option("--source", metavar="NAME", help="Whose writes these are, for all lines.")
    ] = None,
    any_facility: Annotated[bool, typer.Option("--any-facility", help="Take lines of other facilities too.")] = False,
) -> None:
    """\b
    Examples:
      hwc import visits.jsonl
      hwc import - --source register < register.jsonl
      hwc export --kind patient | jq -c '.fields.village="Rampur" | .base="shown"' | hwc import -

    Take in records, one a line, and answer each with a line.

    A line is {"kind", "id"?, "patient"?, "at"?, "person"?, "base"?, "fields": {...}}. A known id is an edit: only
    what differs is written. A bad line is told by its number and stops no other; the exit status is then 1. A line
    whose answer was printed is saved. Repeating an import repeats nothing.
    """
    counts: Counter[Verdict] = Counter()
    with opening.desk() as at, reading.open_input(file) as opened, console.progress() as bar:
        try:
            _take_all(at, opened, bar, ImportRules(source, any_facility), counts)
        except console.OutputClosed:
            raise OurFault(
                "The answers could not be printed: nobody reads them any more.",
                code="E_OUTPUT",
                next_step="Repeat the import; what is saved already is not saved twice",
            ) from None
        finally:
            bar.stop()
            _tell_counts(counts)
    if counts[Verdict.REFUSED]:
        raise typer.Exit(console.Status.ERROR)


def _take_all(at: Desk, opened: BinaryIO, bar: Progress, rules: ImportRules, counts: Counter[Verdict]) -> None:
    lines = LineImport(at.store, at.person, rules)
    total = reading.size_bytes(opened)
    task = bar.add_task("importing", total=total, said="")
    for batch, end_bytes in _batches(opened):
        results = lines.take(batch, opening.now_ms())
        for result in results:
            _tell_refusal(result, counts)
            counts[result.verdict] += 1
            console.line(result.as_json())
        console.flush()
        bar.update(task, completed=end_bytes, said=f"{counts.total()} lines")


def _batches(opened: BinaryIO) -> Iterator[tuple[list[tuple[int, bytes | None]], int]]:
    """(lines, how far they reach), blank lines left out: full batches, and what there is where the writer pauses."""
    batch: list[tuple[int, bytes | None]] = []
    end_bytes = 0
    for item in reading.lines(opened):
        if isinstance(item, reading.InputLine):
            end_bytes = item.end_bytes
            if item.raw is None or item.raw.strip():
                batch.append((item.number, item.raw))
        if batch and (isinstance(item, reading.Pause) or len(batch) >= BATCH_LINES):
            yield batch, end_bytes
            batch = []
    if batch:
        yield batch, end_bytes


def _tell_refusal(result: LineResult, counts: Counter[Verdict]) -> None:
    if result.verdict is not Verdict.REFUSED or result.error is None:
        return
    if counts[Verdict.REFUSED] < TOLD_REFUSALS:
        console.say(f"line {result.line}: {result.error.message} [{result.error.code}]")
    elif counts[Verdict.REFUSED] == TOLD_REFUSALS:
        console.say("further refused lines are told on stdout only")


def _tell_counts(counts: Counter[Verdict]) -> None:
    said = [f"{counts[verdict]} {verdict.value.replace('_', ' ')}" for verdict in ORDER_OF_TELLING if counts[verdict]]
    console.say(f"{words.count(counts.total(), 'line')}: {', '.join(said)}" if said else "no lines")


def export_command(
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Only records of this kind.")] = None,
    patient: Annotated[str | None, typer.Option("--patient", metavar="ID", help="Only this patient's records.")] = None,
    changes: Annotated[bool, typer.Option("--changes", help="The raw history: every change ever made.")] = False,
) -> None:
    """\b
    Examples:
      hwc export > records.jsonl
      hwc export --kind referral --patient 01890a5d-ac96-774b-bcce-b302099a8057
      hwc export --changes | grep '"receipt":null'

    Print what this node holds, a record a line, patients' data included.

    `fields` is what is shown, `conflicts` lists every live value of a field that a person must decide, `sync` says how
    far the record has travelled: saved, sent, held, admitted, or quarantined. The lines can be imported again.
    """
    if kind is not None and kind not in schema.KINDS:
        meant = schema.nearest(kind, list(schema.KINDS))
        raise InvalidValue(
            "There is no such kind of record.",
            field="kind",
            code="E_UNKNOWN_KIND",
            next_step=f"did you mean {meant}?" if meant else "'hwc schema' lists the kinds",
        )
    of = PatientId(documents.parse_id(patient, "patient")) if patient is not None else None
    with opening.desk() as at:
        if changes:
            for change in at.store.changes(kind=kind, patient=of):
                console.line(views.change_line(change))
        else:
            for kept in at.store.records(kind=kind, patient=of):
                console.line(views.export_line(kept))
        console.flush()


def schema_command(
    kind: Annotated[str | None, typer.Argument(metavar="KIND", help="Only this kind.")] = None,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hwc schema
      hwc schema vitals
      hwc schema --json | jq '.kinds.referral.fields.urgency'

    Print the table of kinds: fields, types, units, limits, what is shown where several values are live, who writes.
    """
    if kind is not None and kind not in schema.KINDS:
        meant = schema.nearest(kind, list(schema.KINDS))
        raise InvalidValue(
            "There is no such kind of record.",
            field="kind",
            code="E_UNKNOWN_KIND",
            next_step=f"did you mean {meant}?" if meant else "'hwc schema' lists the kinds",
        )
    chosen = {name: row for name, row in schema.KINDS.items() if kind in (None, name)}
    if as_json:
        kinds = {name: _kind_json(row) for name, row in chosen.items()}
        console.document("hwc.schema/1", {"version": schema.SCHEMA_VERSION, "kinds": kinds})
        return
    console.text(f"schema version {schema.SCHEMA_VERSION}")
    for name, row in chosen.items():
        once = "; saved once, corrected by another record" if row.immutable else ""
        console.text("", f"{name}  (written by {', '.join(_writers(row))}{once})")
        console.table(
            ("  field", "type", "unit", "shows", "limits"),
            [
                (f"  {_field_name(one)}", one.type.value, one.unit, one.policy.value, _limits(one))
                for one in row.fields.values()
            ],
        )


def _writers(row: Kind) -> list[str]:
    return sorted(writer.value for writer in row.writers)


def _field_name(row: Field) -> str:
    return row.name + ("/…" if row.type is schema.FieldType.ELEMENT else "") + (" *" if row.required else "")


def _limits(row: Field) -> str:
    if row.order:
        return " < ".join(row.order)
    if row.choices:
        return " | ".join(row.choices)
    if row.low is not None or row.high is not None:
        return f"{row.low:g} to {row.high:g}"
    if row.parts:
        return "{" + ", ".join(part.name + (f" {_limits(part)}" if _limits(part) else "") for part in row.parts) + "}"
    return f"at most {row.max_chars} characters" if row.type is schema.FieldType.TEXT else ""


def _kind_json(row: Kind) -> dict[str, Any]:
    return {
        "writers": _writers(row),
        "immutable": row.immutable,
        "fields": {one.name: _field_json(one) for one in row.fields.values()},
    }


def _field_json(row: Field) -> dict[str, Any]:
    shape: dict[str, Any] = {"type": row.type.value, "policy": row.policy.value, "required": row.required}
    shape |= {"unit": row.unit} if row.unit else {}
    shape |= {"low": row.low, "high": row.high} if row.low is not None or row.high is not None else {}
    shape |= {"choices": list(row.choices)} if row.choices else {}
    shape |= {"cautious_order": list(row.order)} if row.order else {}
    shape |= {"max_chars": row.max_chars} if row.type is schema.FieldType.TEXT else {}
    if row.parts:
        parts = {part.name: _field_json(part) for part in row.parts}
        shape["parts"] = {
            name: {key: said for key, said in part.items() if key != "policy"} for name, part in parts.items()
        }
    return shape
