"""`hwc import`, `hwc export` and `hwc schema`: records in and out as lines of JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Protocol

import typer

from hwc_node import views
from hwc_node.cli import console, opening, reading, words
from hwc_node.cli.opening import AsJson, Desk
from hwc_node.cli.reading import InputLine, Pause
from hwc_node.line_import import BATCH_LINES, NOT_TAKEN, ImportRules, LineImport, LineResult, Verdict
from sync_protocol import documents, schema
from sync_protocol.change import PatientId
from sync_protocol.errors import InvalidValue, OurFault

if TYPE_CHECKING:
    from rich.progress import Progress
from sync_protocol.schema import Field, Kind

TOLD_REFUSALS = 5  # on stderr; stdout has them all
BATCH_BYTES = 1024 * 1024  # then it is saved, however few the lines: bounds the memory of long ones
ORDER_OF_TELLING = (*(one.value for one in Verdict), NOT_TAKEN)


class Format(str, Enum):
    JSON = "json"
    FHIR = "fhir"


def import_command(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A file of lines, - for stdin.")],
    source: Annotated[
        str | None, typer.Option("--source", metavar="NAME", help="Whose writes these are, for all lines.")
    ] = None,
    any_facility: Annotated[bool, typer.Option("--any-facility", help="Take lines of other facilities too.")] = False,
    form: Annotated[Format, typer.Option("--format", help="What the file holds.")] = Format.JSON,
) -> None:
    """\b
    Examples:
      hwc import visits.jsonl
      hwc import --format fhir discharge.json
      hwc import - --source register < register.jsonl
      hwc export --kind patient | jq -c '.fields.village="Rampur" | .base="shown"' | hwc import -

    Take in records, one a line, and answer each with a line.

    A line is {"kind", "id"?, "patient"?, "at"?, "person"?, "base"?, "fields": {...}}. A known id is an edit: only
    what differs is written. A bad line is told by its number and stops no other; the exit status is then 1. A line
    whose answer was printed is saved. Repeating an import repeats nothing.

    With --format fhir the file is a FHIR R4 Bundle or resource, or one a line. Its records are answered as lines are,
    and what has no place here as "not_taken", with resource, path and reason.
    """
    counts: Counter[str] = Counter()
    with opening.desk() as at, reading.open_input(file) as opened, console.progress() as bar:
        try:
            _take_all(at, opened, bar, ImportRules(source, any_facility), form, counts)
        except console.OutputClosed:
            raise OurFault(
                "The answers could not be printed: nobody reads them any more.",
                code="E_OUTPUT",
                next_step="Repeat the import; what is saved already is not saved twice",
            ) from None
        finally:
            bar.stop()
            _tell_counts(counts)
    if counts[Verdict.REFUSED.value]:
        raise typer.Exit(console.Status.ERROR)


class Answer(Protocol):
    """What an import says of a line: what became of a record, or what was not taken."""

    def as_json(self) -> dict[str, Any]: ...


Taking = Callable[[Sequence[tuple[int, bytes | None]], int], Sequence[Answer]]


def _take_all(
    at: Desk, opened: BinaryIO, bar: Progress, rules: ImportRules, form: Format, counts: Counter[str]
) -> None:
    take, items = _taking(at, opened, rules, form)
    total = reading.size_bytes(opened)
    task = bar.add_task("importing", total=total, said="")
    for batch, end_bytes in _batches(items):
        for answer in take(batch, opening.now_ms()):
            _tell_refusal(answer, counts)
            told = answer.as_json()
            counts[told["verdict"]] += 1
            console.line(told)
        console.flush()
        whole = f" of {words.size(total)}" if total is not None else ""
        bar.update(
            task, completed=end_bytes, said=f"{words.count(counts.total(), 'line')}, {words.size(end_bytes)}{whole}"
        )


def _taking(at: Desk, opened: BinaryIO, rules: ImportRules, form: Format) -> tuple[Taking, Iterable[InputLine | Pause]]:
    if form is Format.JSON:
        return LineImport(at.store, at.person, rules).take, reading.lines(opened)
    from hwc_node.fhir_import import FhirImport  # its tables take 3 MB of every other command
    from sync_protocol.fhir.reading import MAX_BYTES

    return FhirImport(at.store, at.person, rules).take, reading.values(opened, MAX_BYTES)


def _batches(items: Iterable[InputLine | Pause]) -> Iterator[tuple[list[tuple[int, bytes | None]], int]]:
    """(lines, how far they reach), blank lines left out: full batches, and what there is where the writer pauses."""
    batch: list[tuple[int, bytes | None]] = []
    end_bytes, size = 0, 0
    for item in items:
        if isinstance(item, InputLine):
            end_bytes = item.end_bytes
            if item.raw is None or item.raw.strip():
                batch.append((item.number, item.raw))
                size += len(item.raw or b"")
        if batch and (isinstance(item, Pause) or len(batch) >= BATCH_LINES or size >= BATCH_BYTES):
            yield batch, end_bytes
            batch, size = [], 0
    if batch:
        yield batch, end_bytes


def _tell_refusal(answer: Answer, counts: Counter[str]) -> None:
    if not isinstance(answer, LineResult) or answer.verdict is not Verdict.REFUSED or answer.error is None:
        return
    told = counts[Verdict.REFUSED.value]
    if told < TOLD_REFUSALS:
        console.say(f"line {answer.line}: {answer.error.message} [{answer.error.code}]")
    elif told == TOLD_REFUSALS:
        console.say("further refused lines are told on stdout only")


def _tell_counts(counts: Counter[str]) -> None:
    said = [f"{counts[verdict]} {verdict.replace('_', ' ')}" for verdict in ORDER_OF_TELLING if counts[verdict]]
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
