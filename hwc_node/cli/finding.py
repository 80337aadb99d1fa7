"""`hwc find`: a patient by a name however it is spelt, or by digits of a phone or ABHA number."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from hwc_node.cli import console, opening, words
from hwc_node.cli.opening import AsJson, ShowNames
from sync_protocol import documents

if TYPE_CHECKING:
    from hwc_node.finding import Found

MOST: Final = 20  # what a person looks through
MAX_LINE_CHARS: Final = 1_000
HIDDEN: Final = "(--show-names shows it)"


def find(
    typed: Annotated[
        list[str], typer.Argument(metavar="TEXT", help="A name, a phone number, an ABHA number; - for stdin.")
    ],
    most: Annotated[int, typer.Option("--most", metavar="N", min=1, max=MOST, help="How many are listed.")] = MOST,
    as_json: AsJson = False,
    show_names: ShowNames = False,
) -> None:
    """\b
    Examples:
      hwc find Lakshmi Devi
      hwc find 98450
      hwc find -
      hwc find --json लक्ष्मी | jq -r .patient

    Find patients, the nearest first: Lakshmi finds Laxmi and लक्ष्मी, and half a name or the end of a number is enough.

    Names are shown with --show-names only. What is typed behind the command stays in the shell's history; what - reads
    does not.
    """
    text = sys.stdin.readline(MAX_LINE_CHARS) if typed == ["-"] else " ".join(typed)
    with opening.desk() as at:
        from hwc_node import finding  # what compares words takes memory, needed only after unlocking

        found = finding.find(at.store, text, most)
        if as_json:
            for one in found:
                console.line(_shape(one, show_names))
            console.flush()
            return
        if not found:
            console.say("Nobody is found. Try a part of the name, or the phone number.")
            return
        console.table(
            ("patient", "name", "sex", "born", "village", "last visit"), [_row(one, show_names) for one in found]
        )


def _shape(one: Found, show_names: bool) -> dict[str, Any]:
    shape = {
        "patient": documents.id_text(one.patient),
        "nearness": round(one.nearness, 3),
        "sex": one.view.get("sex"),
        "birth": one.view.get("birth"),
        "village": one.view.get("village"),
        "last_visit_at": documents.time_text(one.last_visit_ms) if one.last_visit_ms is not None else None,
    }
    return shape | ({"name": one.view.get("name"), "phone": one.view.get("phone")} if show_names else {})


def _row(one: Found, show_names: bool) -> tuple[str, ...]:
    birth = one.view.get("birth")
    born = str(birth.get("year", "")) if isinstance(birth, dict) else ""
    return (
        documents.id_text(one.patient),
        words.cell(str(one.view.get("name", ""))) if show_names else HIDDEN,
        str(one.view.get("sex", "")),
        born,
        words.cell(str(one.view.get("village", ""))),
        words.time(one.last_visit_ms),
    )
