"""What `hwc print` and `hwc slip` do: loaded once the database is open, for what words and codes take.

Rules: a PDF holds a patient's data, so it goes to stdout or into a file that only its owner reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
import typer

from hwc_node import files
from hwc_node.cli import console
from hwc_node.cli.opening import Desk
from hwc_node.printing import composing, making, scanned
from hwc_node.printing.paper import SIZES, Paper
from hwc_node.printing.scanned import Scanned
from sync_protocol import documents
from sync_protocol.change import RecordId, RecordKey
from sync_protocol.errors import NeedsPerson
from sync_protocol.pages import language, slips

STREAM: Final = "-"
NAME_ROW: Final = 0  # of `slips.rows`


def referral(at: Desk, identifier: str, words: str, now_ms: int) -> Paper:
    """The slip. Raises what `composing` does."""
    with language.speaking(_words(words)):
        return composing.referral_slip(at.store, at.clinic, identifier, now_ms)


def prescription(at: Desk, identifier: str, words: str, now_ms: int) -> Paper:
    """The answer with that id, or the one that holds for the referral with that id."""
    with language.speaking(_words(words)):
        name, reply = _answer(at, identifier)
        return composing.prescription(at.store, at.clinic, name, reply, now_ms)


def _words(code: str) -> language.Words:
    if code not in language.LANGUAGES:
        raise typer.BadParameter(f"one of {', '.join(language.LANGUAGES)}", param_hint="--language")
    return language.words_of(code)


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


def write(paper: Paper, out: str, size: str) -> None:
    """As a PDF, to stdout or into a file. Raises what `making.pdf` and `files.replace` do."""
    raw = making.pdf(paper, next(one for one in SIZES if one == size))
    if out == STREAM:
        console.octets(raw)
        return
    files.replace(Path(out).absolute(), raw)
    console.say(f"wrote {len(raw):,} bytes; it holds a patient's data: remove it when it is printed")


def slip(at: Desk, letters: str, as_json: bool, show_names: bool) -> None:
    """What a slip says. Raises what `scanned.read` does."""
    found = scanned.read(at.store, letters)
    if as_json:
        console.document("hwc.slip/1", _shape(found, show_names))
    else:
        console.text(*_lines(found, show_names))


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
