"""`hwc print` and `hwc slip`: papers without a browser, and what a scanned slip says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from hwc_node import files
from hwc_node.cli import opening
from hwc_node.cli.opening import AsJson, ShowNames
from hwc_node.printing.paper import SIZES
from sync_protocol.errors import InvalidValue, OurFault

STREAM: Final = "-"
ENGLISH: Final = "en"
MAX_LETTERS: Final = 4_000  # of a slip, with line ends and what else a scanner adds

Out = Annotated[str, typer.Option("--out", metavar="FILE|-", help="Where to write it; - for stdout, as without it.")]
PaperSize = Annotated[str, typer.Option("--size", metavar="A5|A4", help="Of the paper in the printer.")]
Language = Annotated[str, typer.Option("--language", metavar="CODE", help="Of the labels: en, hi.")]
Overwrite = Annotated[bool, typer.Option("--yes", "-y", help="Replace a file of that name.")]


def print_referral(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="The referral's id.")],
    out: Out = STREAM,
    size: PaperSize = SIZES[0],
    words: Language = ENGLISH,
    yes: Overwrite = False,
) -> None:
    """\b
    Examples:
      hwc print referral 01890a5d-ac96-774b-bcce-b302099a8057 | lp
      hwc print referral 01890a5d-ac96-774b-bcce-b302099a8057 --out slip.pdf --size A4 --language hi

    Print a referral slip as a PDF: what the patient takes along, with a signed code that the hub can check.
    """
    _require_place(out, size, yes)
    with opening.desk() as at:
        from hwc_node.cli import paperwork  # words and codes take 5 MB, needed only after unlocking

        paper = paperwork.referral(at, identifier, words, opening.now_ms())
    paperwork.write(paper, out, size)


def print_prescription(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="The answer's id, or its referral's.")],
    out: Out = STREAM,
    size: PaperSize = SIZES[0],
    words: Language = ENGLISH,
    yes: Overwrite = False,
) -> None:
    """\b
    Examples:
      hwc print prescription 01890a5d-ac96-774b-bcce-b302099a8057 | lp
      hwc print prescription 01890a5d-ac96-774b-bcce-b302099a8057 --out prescription.pdf

    Print a doctor's answer as a prescription, a PDF. Of a referral it is the answer that holds.

    An answer that was corrected or withdrawn says so in its first lines.
    """
    _require_place(out, size, yes)
    with opening.desk() as at:
        from hwc_node.cli import paperwork  # as above

        paper = paperwork.prescription(at, identifier, words, opening.now_ms())
    paperwork.write(paper, out, size)


def _require_place(out: str, size: str, yes: bool) -> None:
    """Before the passphrase is asked for. Raises typer's error, or OurFault (``E_FILE_EXISTS``, ``E_TERMINAL``)."""
    if size not in SIZES:
        raise typer.BadParameter(f"one of {', '.join(SIZES)}", param_hint="--size")
    if out != STREAM and Path(out).exists() and not yes:
        raise OurFault("There is a file of this name already.", code="E_FILE_EXISTS", next_step="Give --yes.")
    if out == STREAM and sys.stdout.isatty():
        raise OurFault(
            "A PDF is nothing to be read at a terminal.", code="E_TERMINAL", next_step="Give --out FILE, or: | lp"
        )


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
        from hwc_node.cli import paperwork  # as above

        paperwork.slip(at, letters, as_json, show_names)


def _letters(file: str) -> str:
    try:
        if file == STREAM:
            return sys.stdin.readline(MAX_LETTERS)
        return files.read(Path(file), MAX_LETTERS).decode("ascii")
    except UnicodeDecodeError:
        raise InvalidValue("This is no code of a referral slip.", code="E_NO_SLIP") from None
