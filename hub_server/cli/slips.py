"""`hub slip`: what a patient's paper says, checked by the key of the computer that signed it."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
import typer

from hub_server import slips
from hub_server.cli import console, opening
from hub_server.cli.opening import AsJson, ShowNames, time_words
from hub_server.slips import Checked
from sync_protocol import documents
from sync_protocol.errors import InvalidValue
from sync_protocol.exports import time_or_none
from sync_protocol.pages import slips as slip_words

MAX_LETTERS: Final = 4_000  # of a slip, with line ends and what else a scanner adds
NAME_ROW: Final = 0  # of `rows`


def slip_command(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="The slip's letters; - for stdin.")],
    reader: Annotated[str | None, typer.Option("--as", metavar="DOCTOR", help="The doctor who reads.")] = None,
    as_json: AsJson = False,
    show_names: ShowNames = False,
) -> None:
    """\b
    Examples:
      hub slip -
      hub slip letters.txt --as dr.rao --show-names
      zbarcam --raw -1 | hub slip - --json | jq .arrived

    Check the code of a referral slip, and tell what it says. Noted in the audit.

    Exit status 6: it is no slip, not whole, altered, or signed by a computer that the hub does not know. 3: the
    computer that signed it was shut out.
    """
    raw = opening.read_input(file, MAX_LETTERS)
    try:
        letters = raw.decode("ascii")
    except UnicodeDecodeError:
        raise InvalidValue("This is no code of a referral slip.", code="E_NO_SLIP") from None
    with opening.hub() as at:
        actor = at.doctor(reader).actor if reader is not None else opening.operator()
        found = slips.read(at.store, letters, actor, opening.now_ms())
    if as_json:
        console.document("hub.slip/1", _shape(found, show_names))
    else:
        console.text(*_lines(found, show_names))
    if found.revoked_ms is not None:
        console.say("The computer that signed this was shut out: nobody knows whether it signed before or after.")
        raise typer.Exit(console.Status.NEEDS_PERSON)


def _lines(found: Checked, show_names: bool) -> list[str]:
    name = documents.id_text(found.summary.referral)
    arrived = f"{found.referral.status}: hub referrals show {name}" if found.referral else "has not arrived"
    signed = f"holds: {found.computer} of {found.centre} ({found.summary.facility})"
    since = f", shut out {time_words(found.revoked_ms)}" if found.revoked_ms is not None else ""
    rows = slip_words.rows(found.summary)[0 if show_names else NAME_ROW + 1 :]
    head = [("signature", signed + since), ("referral", arrived)]
    return [f"{label:<16}{text}" for label, text in (*head, *rows)]


def _shape(found: Checked, show_names: bool) -> dict[str, Any]:
    said = msgspec.structs.asdict(found.summary)
    shape = {
        "centre": found.centre,
        "computer": found.computer,
        "revoked_at": time_or_none(found.revoked_ms),
        "arrived": found.referral is not None,
        "status": found.referral.status if found.referral is not None else None,
        **{name: documents.id_text(said.pop(name)) for name in ("referral", "patient", "node")},
        "made_at": documents.time_text(said.pop("made_ms")),
        **said,
        "vitals": found.summary.measured,
    }
    return shape if show_names else {name: value for name, value in shape.items() if name != "name"}
