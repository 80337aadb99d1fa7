"""`hwc print` and `hwc slip`: papers without a browser, and what a scanned slip says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from hwc_node import files
from hwc_node.cli import console, opening
from hwc_node.cli.opening import AsJson, Desk, ShowNames
from hwc_node.printing import composing, making, scanned
from hwc_node.printing.paper import SIZES, Paper
from hwc_node.printing.scanned import Scanned
from sync_protocol import documents
from sync_protocol.change import RecordId, RecordKey
from sync_protocol.errors import InvalidValue, NeedsPerson, OurFault
from sync_protocol.pages import language, slips

STREAM: Final = "-"
MAX_LETTERS: Final = 4_000  # of a slip, with line ends and what else a scanner adds
NAME_ROW: Final = 0  # of `slips.rows`

Out = Annotated[str, typer.Option("--out", metavar="FILE|-", help="Where to write it; - for stdout, as without it.")]
PaperSize = Annotated[str, typer.Option("--size", metavar="A5|A4", help="Of the paper in the printer.")]
Language = Annotated[
    str, typer.Option("--language", metavar="CODE", help=f"Of the labels: {', '.join(language.LANGUAGES)}.")
]
Overwrite = Annotated[bool, typer.Option("--yes", "-y", help="Replace a file of that name.")]


def print_referral(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="The referral's id.")],
    out: Out = STREAM,
    size: PaperSize = SIZES[0],
    words: Language = language.ENGLISH,
    yes: Overwrite = False,
) -> None:
    """\b
    Examples:
      hwc print referral 01890a5d-ac96-774b-bcce-b302099a8057 | lp
      hwc print referral 01890a5d-ac96-774b-bcce-b302099a8057 --out slip.pdf --size A4 --language hi

    Print a referral slip as a PDF: what the patient takes along, with a signed code that the hub can check.
    """
    _require_place(out, size, words, yes)
    with opening.desk() as at, language.speaking(language.words_of(words)):
        paper = composing.referral_slip(at.store, at.clinic, identifier, opening.now_ms())
    _write(paper, out, size)


def print_prescription(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="The answer's id, or its referral's.")],
    out: Out = STREAM,
    size: PaperSize = SIZES[0],
    words: Language = language.ENGLISH,
    yes: Overwrite = False,
) -> None:
    """\b
    Examples:
      hwc print prescription 01890a5d-ac96-774b-bcce-b302099a8057 | lp
      hwc print prescription 01890a5d-ac96-774b-bcce-b302099a8057 --out prescription.pdf

    Print a doctor's answer as a prescription, a PDF. Of a referral it is the answer that holds.

    An answer that was corrected or withdrawn says so in its first lines.
    """
    _require_place(out, size, words, yes)
    with opening.desk() as at, language.speaking(language.words_of(words)):
        referral, reply = _answer(at, identifier)
        paper = composing.prescription(at.store, at.clinic, referral, reply, opening.now_ms())
    _write(paper, out, size)


def _answer(at: Desk, identifier: str) -> tuple[str, str]:
    """(referral, reply) of an id that is either's. Raises InvalidValue, or NeedsPerson (``E_NOT_ANSWERED``)."""
    kept = at.store.record(RecordKey(composing.REPLY, RecordId(documents.parse_id(identifier))))
    if kept is not None and isinstance(referral := kept.record.view().get("referral"), bytes):
        return documents.id_text(referral), documents.id_text(kept.key.record)
    reply = at.clinic.referral(identifier).progress.reply
    if reply is None:
        raise NeedsPerson(
            "No doctor has answered this referral yet.",
            code="E_NOT_ANSWERED",
            next_step=f"Where it stands: hwc referrals show {identifier}",
        )
    return identifier, documents.id_text(reply)


def _require_place(out: str, size: str, words: str, yes: bool) -> None:
    """Before the passphrase is asked for. Raises typer's error, or OurFault (``E_FILE_EXISTS``, ``E_TERMINAL``)."""
    if size not in SIZES:
        raise typer.BadParameter(f"one of {', '.join(SIZES)}", param_hint="--size")
    if words not in language.LANGUAGES:
        raise typer.BadParameter(f"one of {', '.join(language.LANGUAGES)}", param_hint="--language")
    if out != STREAM and Path(out).exists() and not yes:
        raise OurFault("There is a file of this name already.", code="E_FILE_EXISTS", next_step="Give --yes.")
    if out == STREAM and sys.stdout.isatty():
        raise OurFault(
            "A PDF is nothing to be read at a terminal.", code="E_TERMINAL", next_step="Give --out FILE, or: | lp"
        )


def _write(paper: Paper, out: str, size: str) -> None:
    raw = making.pdf(paper, next(one for one in SIZES if one == size))
    if out == STREAM:
        console.octets(raw)
        return
    files.replace(Path(out).absolute(), raw)
    console.say(f"wrote {len(raw):,} bytes; it holds a patient's data: remove it when it is printed")


# -- slips -------------------------------------------------------------------------------------------------------------


def slip_command(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="The slip's letters; - for stdin.")],
    as_json: AsJson = False,
    show_names: ShowNames = False,
) -> None:
    """\b
    Examples:
      hwc slip -
      hwc slip letters.txt --show-names
      zbarcam --raw -1 | hwc slip - --json | jq .referral

    Tell what the code of a referral slip says, as a scanner types it.

    One that this computer signed is checked. Another centre's cannot be checked here; the hub can: hub slip. Exit
    status 6: it is no slip, not whole, or altered.
    """
    letters = _letters(file)
    with opening.desk() as at:
        found = scanned.read(at.store, letters)
    if as_json:
        console.document("hwc.slip/1", _shape(found, show_names))
        return
    console.text(*_lines(found, show_names))


def _letters(file: str) -> str:
    try:
        if file == STREAM:
            return sys.stdin.readline(MAX_LETTERS)
        return files.read(Path(file), MAX_LETTERS).decode("ascii")
    except UnicodeDecodeError:
        raise InvalidValue("This is no code of a referral slip.", code="E_NO_SLIP") from None


def _lines(found: Scanned, show_names: bool) -> list[str]:
    facility = found.summary.facility
    checked = "signed by this computer" if found.checked else f"says that {facility} signed it: not checked here"
    here = f"here: hwc referrals show {documents.id_text(found.summary.referral)}" if found.is_here else "not here"
    rows = slips.rows(found.summary)[0 if show_names else NAME_ROW + 1 :]
    return [f"{'signature':<16}{checked}", f"{'referral':<16}{here}", *(f"{label:<16}{text}" for label, text in rows)]


def _shape(found: Scanned, show_names: bool) -> dict[str, Any]:
    said = msgspec.structs.asdict(found.summary)
    shape = {
        "checked": found.checked,
        "is_here": found.is_here,
        **{name: documents.id_text(said.pop(name)) for name in ("referral", "patient", "node")},
        "made_at": documents.time_text(said.pop("made_ms")),
        **said,
        "vitals": found.summary.measured,
    }
    return shape if show_names else {name: value for name, value in shape.items() if name != "name"}
