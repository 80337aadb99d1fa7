"""The command `hwc`: a health centre's node from a terminal. The only module of the node that knows typer.

Rules: the contract of the commands is kept (names, exit statuses, JSON shapes); answers go to stdout, words for people
to stderr; no error shows a traceback without ``-v``. What a command does is decided below, in the clinic's verbs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated, Any

import typer

from hwc_node.cli import (
    carrying,
    console,
    deciding,
    finding,
    keeping,
    looking,
    moving,
    opening,
    papers,
    records,
    reports,
    slots,
    subscribing,
)
from hwc_node.cli.console import Status

PROGRAM = "hwc"


def _group(*, completion: bool = False) -> typer.Typer:
    both = {"help_option_names": ["-h", "--help"]}
    return typer.Typer(rich_markup_mode=None, add_completion=completion, context_settings=both)


app = _group(completion=True)  # --install-completion; completing ends the program before a command is called
conflicts = _group()
referrals = _group()
key = _group()
subscriptions = _group()
news = _group()
courier = _group()
printing = _group()


@opening.group(app)
def main_group(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """\b
    Examples:
      hwc enrol CODE              make this node's database and enrol it at the hub
      hwc import visits.jsonl     take in records
      hwc sync                    send and receive
      hwc referrals               where the referrals stand
      hwc status                  how this node is

    A health centre's node: records that are kept here, also without a network, and exchanged with the hub.

    \b
    Exit status: 0 done, 1 error, 2 wrong usage, 3 something needs a person, 4 not enrolled or refused by the hub,
    5 the hub cannot be reached, 6 data or a signature does not check out, 130 interrupted.
    """
    if version:
        console.text(f"{PROGRAM} {looking.version()}")
    elif context.invoked_subcommand is None:
        raise typer.BadParameter("a command is missing; 'hwc --help' lists them", param_hint="COMMAND")


@opening.group(conflicts)
def conflicts_group(
    context: typer.Context, as_json: opening.AsJson = False, show_names: opening.ShowNames = False
) -> None:
    """\b
    Examples:
      hwc conflicts list
      hwc conflicts show ID
      hwc conflicts resolve ID --take 2 --note "asked the patient"

    Fields for which two people wrote different values without seeing each other's.
    """
    if context.invoked_subcommand is None:
        deciding.list_conflicts(as_json, show_names)


@opening.group(referrals)
def referrals_group(
    context: typer.Context,
    status: deciding.WantedStatus = None,
    as_json: opening.AsJson = False,
    show_names: opening.ShowNames = False,
) -> None:
    """\b
    Examples:
      hwc referrals
      hwc referrals show ID

    Referrals to the hub's doctors, and where they stand.
    """
    if context.invoked_subcommand is None:
        deciding.list_referrals(status, as_json, show_names)


@opening.group(key)
def key_group(context: typer.Context, as_json: opening.AsJson = False) -> None:
    """\b
    Examples:
      hwc key list
      hwc key add "Ramesh Kumar"
      hwc key change

    Who can unlock this node: a slot for each person, opened by their own passphrase.
    """
    if context.invoked_subcommand is None:
        slots.list_slots(as_json)


@opening.group(subscriptions)
def subscriptions_group(context: typer.Context, as_json: opening.AsJson = False) -> None:
    """\b
    Examples:
      hwc subscriptions list
      hwc subscriptions ask
      hwc subscriptions end ID

    Patients of other centres whose history this centre receives, by their card or by a request.
    """
    if context.invoked_subcommand is None:
        subscribing.list_subscriptions(as_json)


@opening.group(news)
def news_group(context: typer.Context, as_json: opening.AsJson = False) -> None:
    """\b
    Examples:
      hwc news
      hwc news accept
      hwc news refuse

    News that was put aside, since it would hide or erase much of what is here.
    """
    if context.invoked_subcommand is None:
        deciding.list_news(as_json)


@opening.group(courier)
def courier_group(context: typer.Context) -> None:
    """\b
    Examples:
      hwc courier write /media/usb/rampur.courier
      hwc courier read /media/usb/answer.courier

    The exchange with the hub by a file, for where there is no link.

    \b
    'write' makes the file. Whoever carries it hands it in wherever there is internet, and brings back the answer:
      curl --data-binary @rampur.courier -H 'Content-Type: application/octet-stream' \\
          https://HUB/v1/sync > answer.courier
    At the hub itself: hub courier rampur.courier answer.courier
    """
    if context.invoked_subcommand is None:
        raise typer.BadParameter("say write or read; 'hwc courier --help' tells of both", param_hint="COMMAND")


@opening.group(printing)
def printing_group(context: typer.Context) -> None:
    """\b
    Examples:
      hwc print referral ID | lp
      hwc print prescription ID --out prescription.pdf

    Papers as PDFs, each with every script shaped: a referral slip, a doctor's prescription.
    """
    if context.invoked_subcommand is None:
        raise typer.BadParameter("say referral or prescription; 'hwc print --help' tells of both", param_hint="COMMAND")


opening.command(app, "enrol", "Make this node's database and enrol it at the hub.")(moving.enrol)
opening.command(app, "import", "Take in records, one a line.")(records.import_command)
opening.command(app, "export", "Print what this node holds, a record a line.")(records.export_command)
opening.command(app, "find", "Find patients by name, phone or ABHA number.")(finding.find)
opening.command(app, "schema", "Print the table of kinds and fields.")(records.schema_command)
opening.command(app, "sync", "Send what the hub lacks, receive what is new.")(moving.sync_command)
opening.command(courier, "write", "Write a file for somebody to carry to the hub.")(carrying.write)
opening.command(courier, "read", "Take in the answer that somebody brought.")(carrying.read)
app.add_typer(courier, name="courier", short_help="The exchange by a file that somebody carries.")
opening.command(app, "status", "Tell how this node is.")(looking.status)
opening.command(conflicts, "list", "List the fields that a person must decide.")(deciding.list_conflicts)
opening.command(conflicts, "show", "Show every live value of a field.")(deciding.show_conflict)
opening.command(conflicts, "resolve", "Settle a conflict.")(deciding.resolve_conflict)
opening.command(conflicts, "undo", "Undo a resolution.")(deciding.undo_resolution)
app.add_typer(conflicts, name="conflicts", short_help="Fields that a person must decide.")
opening.command(referrals, "list", "List the referrals, most urgent first.")(deciding.list_referrals)
opening.command(referrals, "show", "Show one referral, its reply, and what the doctor had not seen.")(
    deciding.show_referral
)
app.add_typer(referrals, name="referrals", short_help="Where the referrals stand.")
opening.command(printing, "referral", "Print a referral slip.")(papers.print_referral)
opening.command(printing, "prescription", "Print a doctor's answer.")(papers.print_prescription)
app.add_typer(printing, name="print", short_help="Papers as PDFs.")
opening.command(app, "report", "Count a month.")(reports.report)
opening.command(app, "slip", "Tell what a scanned referral slip says.")(papers.slip_command)
opening.command(news, "list", "Tell of news that was put aside.")(deciding.list_news)
opening.command(news, "accept", "Obey it.")(deciding.accept_news)
opening.command(news, "refuse", "Keep it put aside.")(deciding.refuse_news)
app.add_typer(news, name="news", short_help="News that would hide much of what is here.")
opening.command(app, "card", "Print a patient's card.")(subscribing.card)
opening.command(subscriptions, "list", "List who asked for which patient.")(subscribing.list_subscriptions)
opening.command(subscriptions, "ask", "Ask for another centre's patient.")(subscribing.ask)
opening.command(subscriptions, "end", "Receive nothing more of a patient.")(subscribing.end)
app.add_typer(subscriptions, name="subscriptions", short_help="Patients of other centres.")
opening.command(key, "list", "List who can unlock this node.")(slots.list_slots)
opening.command(key, "add", "Give another person a slot.")(slots.add)
opening.command(key, "remove", "Take a person's slot away.")(slots.remove)
opening.command(key, "change", "Change your own passphrase.")(slots.change)
app.add_typer(key, name="key", short_help="Who can unlock this node.")
opening.command(app, "backup", "Copy everything into one encrypted file.")(keeping.write_backup)
opening.command(app, "restore", "Put a backup back.")(keeping.restore)
opening.command(app, "doctor", "Check this node, and name what mends it.")(looking.doctor)
opening.command(app, "support", "Write what whoever helps needs to know.")(looking.support)
opening.command(app, "serve", "Sync in the background, and serve the centre's pages.")(moving.serve)


@cache
def _parser() -> Callable[..., Any]:
    """What parses all commands and calls one: made once, where a process runs more than one."""
    return typer.main.get_command(app).main


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit status."""
    opening.forget()
    try:
        ended = _parser()(args=list(arguments), prog_name=PROGRAM, standalone_mode=False)
        console.flush()
        if ended == Status.INTERRUPTED:  # typer has made a status of Ctrl-C already
            return console.complain(KeyboardInterrupt())
        return int(ended) if isinstance(ended, int) else Status.DONE
    except console.OutputClosed:
        console.leave_quietly()
        return Status.DONE
    except typer.TyperException as error:
        console.misused(error.format_message())
        return Status.WRONG_USAGE
    except typer.Abort:
        return console.complain(KeyboardInterrupt())
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # the one place where every error becomes words
        return console.complain(error)


def main() -> None:
    """The entry point of `hwc`."""
    status = run(sys.argv[1:])
    console.close()
    sys.exit(status)
