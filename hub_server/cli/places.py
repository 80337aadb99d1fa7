"""`hub enrol`, `hub nodes` and `hub quarantine`: what an operator sets up and looks after."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from hub_server import directory, files, nodes, registry
from hub_server.cli import console, opening
from hub_server.cli.opening import AsJson, OfFacility, Yes, time_words
from hub_server.registry import Node, Quarantined
from sync_protocol import documents, keys
from sync_protocol.change import FacilityCode, NodeId
from sync_protocol.errors import TooLarge
from sync_protocol.exports import time_or_none

MAX_VALID_MS: Final = 30 * 86_400_000  # a code on paper that is older was lost
MAX_REASON_CHARS: Final = 500

# -- enrolment ---------------------------------------------------------------------------------------------------------


def enrol(
    facility: Annotated[
        str, typer.Argument(metavar="FACILITY|ANSWER", help="The facility's code; with --answer the file to write.")
    ],
    valid: Annotated[str, typer.Option("--valid", metavar="TIME", help="How long: 30m, 72h, 3d.")] = "72h",
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Write the code and the hub's keys, to be carried.")
    ] = None,
    answer: Annotated[
        str, typer.Option("--answer", metavar="REQUEST", help="Answer the request that 'hwc enrol --offline' wrote.")
    ] = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """\b
    Examples:
      hub enrol HWC000001
      hub enrol HWC000001 --valid 2h --json | jq -r .code
      hub enrol HWC000001 --valid 14d --file code.hubcode
      hub enrol --answer code.hubrequest code.hubanswer

    Print a one-time code that enrols one node of this facility, and its QR.

    The code carries the hub's address (public_url, else where it serves now, else the host and port of the settings)
    and the fingerprint of its root key. It works once, until it expires.

    A centre without a link is enrolled by files: --file writes the code with the hub's keys, 'hwc enrol --offline'
    makes a request of it there, --answer answers that one here, and 'hwc enrol --offline' takes the answer. The same
    request again gets the same answer.
    """
    if answer:
        if file is not None:
            raise typer.BadParameter("--file begins an enrolment, --answer ends it", param_hint="--answer")
        files.refuse_other(Path(facility), nodes.ANSWER_BEGINS, yes)
        _answer_enrolment(answer, Path(facility), as_json)
        return
    if file is not None:
        files.refuse_other(file, keys.CODE_FILE_BEGINS, yes)
    valid_ms = opening.duration_ms(valid, MAX_VALID_MS)
    at_ms = opening.now_ms()
    with opening.hub() as at, at.database.transaction() as connection:
        made = nodes.new_code(
            connection, at.store.vault, facility, opening.address(at.config), valid_ms=valid_ms, now_ms=at_ms
        )
        signed = at.store.vault.identity.signed_keys()
    expires = documents.time_text(at_ms + valid_ms)
    if file is not None:
        files.replace(file.absolute(), keys.code_file(made, signed))
    if as_json:
        shape = {"code": made.text(), "facility": facility, "expires_at": expires}
        console.document("hub.enrol/1", shape | ({"file": str(file)} if file is not None else {}))
        return
    if file is not None:
        console.text(f"wrote {file}")
        console.say(f"For one node of {facility}, until {time_words(at_ms + valid_ms)}:")
        console.say(
            f"  hwc enrol --offline {file.name}", "Keep it as you would keep the code: who has it can enrol once."
        )
        return
    console.text(made.text(), "", *console.drawn_qr(made.text()))
    console.say(f"For one node of {facility}, until {time_words(at_ms + valid_ms)}:", "  hwc enrol CODE")


def _answer_enrolment(request: str, target: Path, as_json: bool) -> None:
    """As POST /v1/enrol answers, from file to file."""
    from hub_server import sync_api  # FastAPI takes a third of every command's start

    sealed = opening.read_input(request, sync_api.MAX_ENROL_BYTES)
    if len(sealed) > sync_api.MAX_ENROL_BYTES:
        raise TooLarge("The file is larger than a request can be.")
    with opening.hub() as at:
        with at.database.transaction() as connection:
            made = nodes.enrol(connection, at.store.vault, sealed, opening.now_ms())
        files.replace(target.absolute(), made)  # only once the node stands in the database
        certificate = nodes.certificate_in(made)
        directory.settle_one(at.store, FacilityCode(certificate.facility), opening.now_ms())
    if as_json:
        told = {"node": documents.id_text(certificate.node), "facility": certificate.facility, "file": str(target)}
        console.document("hub.enrol-answer/1", told)
        return
    console.text(f"enrolled node {documents.id_text(certificate.node)} at {certificate.facility}, wrote {target}")
    console.say(f"Carry it back to the centre, for: hwc enrol --offline {target.name}")


# -- nodes -------------------------------------------------------------------------------------------------------------

NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="The node's id.")]


def list_nodes(facility: OfFacility = None, as_json: AsJson = False) -> None:
    """\b
    Examples:
      hub nodes list
      hub nodes list --facility HWC000001 --json

    List the nodes: when each was last seen, how far it was behind its feed then, and how wrong its clock is.

    What it was sent the last time counts as missing until it asks again: only then does it say what arrived.
    """
    with opening.hub() as at, at.database.transaction() as connection:
        found = registry.list_nodes(connection, facility)
    if as_json:
        console.document("hub.nodes/1", {"nodes": [node_json(one) for one in found]})
        return
    console.table(NODE_HEADS, [node_row(one) for one in found])


NODE_HEADS: Final = ("node", "facility", "name", "last seen", "behind by", "clock", "state")


def node_row(one: Node) -> tuple[str, ...]:
    clock = "" if one.clock_error_ms is None else f"{one.clock_error_ms / 1000:+.1f} s"
    state = "quarantine" if one.quarantined else "twins" if one.twins_ms is not None else "ok"
    state = "revoked" if one.revoked_ms is not None else state
    seen = time_words(one.last_seen_ms) or "never"
    return (documents.id_text(one.node), one.facility, one.name, seen, str(one.behind_by), clock, state)


def node_json(one: Node) -> dict[str, Any]:
    return {
        "node": documents.id_text(one.node),
        "facility": one.facility,
        "name": one.name,
        "enrolled_at": documents.time_text(one.enrolled_ms),
        "last_seen": time_or_none(one.last_seen_ms),
        "cursor": one.cursor_position,
        "behind_by": one.behind_by,
        "clock_error_ms": one.clock_error_ms,
        "pending_segments": one.waiting,
        "quarantined": one.quarantined,
        "twins_at": time_or_none(one.twins_ms),
        "revoked_at": time_or_none(one.revoked_ms),
        "revoked_reason": one.revoked_reason or None,
    }


def show_node(node: NodeArgument, as_json: AsJson = False) -> None:
    """\b
    Examples:
      hub nodes show 01890a5d-ac96-774b-bcce-b302099a8057

    Show one node.
    """
    name = NodeId(opening.parsed_id(node, "node"))
    with opening.hub() as at, at.database.transaction() as connection:
        shape = node_json(registry.list_nodes(connection, node=name)[0])
    if as_json:
        console.document("hub.node/1", shape)
    else:
        console.text(*(f"{key:<17} {'' if said is None else said}" for key, said in shape.items()))


def revoke_node(
    node: NodeArgument,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; no patient's data.")] = "",
    yes: Yes = False,
) -> None:
    """\b
    Examples:
      hub nodes revoke 01890a5d-ac96-774b-bcce-b302099a8057 --reason "stolen"

    Shut a node out. What arrives from it later waits in quarantine for a person; what arrived before counts.
    """
    name = NodeId(opening.parsed_id(node, "node"))
    with opening.hub() as at:
        with at.database.transaction() as connection:
            one = registry.list_nodes(connection, node=name)[0]
        opening.confirm(f"Shut out node {one.name} of {one.facility}?", yes)
        with at.database.transaction() as connection:
            done = nodes.revoke(connection, at.store.vault, name, reason[:MAX_REASON_CHARS], opening.now_ms())
    console.text("revoked" if done else "revoked before")


def release_node(node: NodeArgument, yes: Yes = False) -> None:
    """\b
    Examples:
      hub nodes release 01890a5d-ac96-774b-bcce-b302099a8057

    Take a revocation back: the node may sync again, and what waited from it in quarantine is admitted.
    """
    name = NodeId(opening.parsed_id(node, "node"))
    with opening.hub() as at:
        with at.database.transaction() as connection:
            one = registry.list_nodes(connection, node=name)[0]
        opening.confirm(f"Let node {one.name} of {one.facility} in again, with all that it sent meanwhile?", yes)
        with at.database.transaction() as connection:
            was_revoked, segments = registry.take_back_revocation(connection, at.store.vault, name, opening.now_ms())
    console.text(f"{'released' if was_revoked else 'was not revoked'}; {segments} segments will be admitted")


# -- quarantine --------------------------------------------------------------------------------------------------------

EntryArgument = Annotated[int, typer.Argument(metavar="ID", min=1, help="The entry's number.")]


def list_quarantine(
    everything: Annotated[bool, typer.Option("--all", help="Also what was released.")] = False, as_json: AsJson = False
) -> None:
    """\b
    Examples:
      hub quarantine list

    List what could not be admitted, and why. It blocks nothing behind it.
    """
    with opening.hub() as at, at.database.transaction() as connection:
        found = registry.quarantine(connection, everything=everything)
    if as_json:
        console.document("hub.quarantine/1", {"entries": [_entry_json(one) for one in found]})
        return
    if not found:
        console.say("The quarantine is empty.")
        return
    console.table(
        ("id", "since", "facility", "reason", "what", "state"),
        [
            (
                str(one.id),
                time_words(one.at_ms),
                one.facility,
                one.reason,
                "a whole segment" if one.row < 0 else f"a {one.kind or 'change'}",
                one.verdict,
            )
            for one in found
        ],
    )


def _entry_json(one: Quarantined) -> dict[str, Any]:
    return {
        "id": one.id,
        "facility": one.facility,
        "node": documents.id_text(one.node),
        "segment": one.segment.hex(),
        "row": one.row if one.row >= 0 else None,
        "change": one.change.hex() if one.change is not None else None,
        "kind": one.kind or None,
        "reason": one.reason,
        "at": documents.time_text(one.at_ms),
        "verdict": one.verdict,
        "size_bytes": one.size_bytes,
        "received_at": time_or_none(one.received_ms),
    }


def show_quarantined(entry: EntryArgument, as_json: AsJson = False) -> None:
    """\b
    Examples:
      hub quarantine show 12

    Show one entry: where it came from and why it waits.
    """
    with opening.hub() as at, at.database.transaction() as connection:
        shape = _entry_json(registry.quarantine(connection, entry=entry)[0])
    if as_json:
        console.document("hub.quarantined/1", shape)
    else:
        console.text(*(f"{key:<12} {'' if said is None else said}" for key, said in shape.items()))


def release_quarantined(entry: EntryArgument, yes: Yes = False) -> None:
    """\b
    Examples:
      hub quarantine release 12 --yes

    Admit what waits: its segment is taken up again, this time without the check that set it aside.

    What cannot be opened or read at all comes back.
    """
    with opening.hub() as at:
        with at.database.transaction() as connection:
            one = registry.quarantine(connection, entry=entry)[0]
        if one.verdict == "open":
            opening.confirm(f"Admit what {one.facility} sent, in spite of {one.reason}?", yes)
        with at.database.transaction() as connection:
            done = nodes.release(connection, entry)
    console.text("released" if done else "released before")
