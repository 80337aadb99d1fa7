"""The command `hub`: the hub from a terminal. The only module of the hub that knows typer.

Rules: the contract of the commands is kept (names, exit statuses, JSON shapes); answers go to stdout, words for people
to stderr; no error shows a traceback without ``-v``. What a command does is decided below, in `consults`, `registry`,
`extracts` and `checkup`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated, Any

import typer

from hub_server.cli import (
    attending,
    carrying,
    centres,
    console,
    credentials,
    doctors,
    keeping,
    keyring,
    opening,
    oversight,
    places,
    reports,
    serving,
    slips,
    staff,
    subscribing,
)
from hub_server.cli.console import Status

PROGRAM = "hub"


def _group(*, completion: bool = False) -> typer.Typer:
    both = {"help_option_names": ["-h", "--help"]}
    return typer.Typer(rich_markup_mode=None, add_completion=completion, context_settings=both)


app = _group(completion=True)  # --install-completion; completing ends the program before a command is called
hospital = _group()
facility = _group()
nodes = _group()
people = _group()
quarantine = _group()
referrals = _group()
conflicts = _group()
audits = _group()
subscriptions = _group()
keys = _group()
duties = _group()
glasses = _group()


@app.callback(invoke_without_command=True)
def main_group(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    home: opening.Home = None,
    quiet: opening.Quiet = False,
    verbose: opening.Verbose = False,
) -> None:
    """\b
    Examples:
      hub serve                                    run the hub
      hub facility add HWC000001 "HWC Rampur"      register a centre
      hub enrol HWC000001                          a one-time code for its node
      hub people add dr.rao --name "Dr. Rao" --registration-number KMC-1
      hub referrals                                the doctors' queue
      hub status                                   how the hub is

    The hub: it keeps and admits what the centres send, and carries the doctors' answers back.

    \b
    Exit status: 0 done, 1 error, 2 wrong usage, 3 something needs a person, 5 the database cannot be reached,
    6 data or a signature does not check out, 130 interrupted.
    """
    opening.everywhere(home, quiet, verbose)
    if version:
        console.text(f"{PROGRAM} {reports.version()}")
    elif context.invoked_subcommand is None:
        raise typer.BadParameter("a command is missing; 'hub --help' lists them", param_hint="COMMAND")


@hospital.callback()
def hospital_group() -> None:
    """\b
    Examples:
      hub hospital add DH-SEHORE "District Hospital Sehore"
      hub hospital list

    The hub hospitals.
    """


@facility.callback()
def facility_group() -> None:
    """\b
    Examples:
      hub facility add HWC000001 "HWC Rampur"
      hub facility import centres.csv
      hub facility list

    The health centres.
    """


@nodes.callback()
def nodes_group() -> None:
    """\b
    Examples:
      hub nodes list
      hub nodes revoke NODE --reason "stolen"
      hub nodes release NODE

    The centres' enrolled devices.
    """


@people.callback()
def people_group() -> None:
    """\b
    Examples:
      hub people add dr.rao --name "Dr. Rao" --registration-number KMC-1
      hub people list
      hub people assign dr.rao --hub DH-SEHORE
      hub people disable dr.rao

    Doctors, district officers and operators.
    """


@quarantine.callback()
def quarantine_group() -> None:
    """\b
    Examples:
      hub quarantine list
      hub quarantine show 12
      hub quarantine release 12

    What could not be admitted and waits for a person.
    """


@referrals.callback(invoke_without_command=True)
def referrals_group(
    context: typer.Context, as_json: opening.AsJson = False, show_names: opening.ShowNames = False
) -> None:
    """\b
    Examples:
      hub referrals
      hub referrals list --status received --as dr.rao
      hub referrals show ID

    The doctors' queue: the most urgent first.
    """
    if context.invoked_subcommand is None:
        doctors.list_referrals(as_json=as_json, show_names=show_names)


@conflicts.callback(invoke_without_command=True)
def conflicts_group(
    context: typer.Context, as_json: opening.AsJson = False, show_names: opening.ShowNames = False
) -> None:
    """\b
    Examples:
      hub conflicts list
      hub conflicts show ID

    Fields for which two people wrote different values without seeing each other's.
    """
    if context.invoked_subcommand is None:
        doctors.list_conflicts(as_json=as_json, show_names=show_names)


@audits.callback(invoke_without_command=True)
def audit_group(context: typer.Context, as_json: opening.AsJson = False) -> None:
    """\b
    Examples:
      hub audit verify
      hub audit export > audit.jsonl

    Who read and wrote which patient's data, as a chain of hashes.
    """
    if context.invoked_subcommand is None:
        oversight.verify_audit(as_json)


@keys.callback(invoke_without_command=True)
def keys_group(context: typer.Context, as_json: opening.AsJson = False) -> None:
    """\b
    Examples:
      hub keys list
      hub keys rotate signing

    The hub's own keys.
    """
    if context.invoked_subcommand is None:
        keyring.list_keys(as_json)


@duties.callback(invoke_without_command=True)
def duty_group(context: typer.Context, as_json: opening.AsJson = False) -> None:
    """\b
    Examples:
      hub duty
      hub duty on --as dr.rao --until 18:00
      hub duty contact "Emergency ward" "+91 755 255 1234"

    Who is on duty, and who is called when nobody is.
    """
    if context.invoked_subcommand is None:
        attending.list_duty(as_json)


@glasses.callback(invoke_without_command=True)
def glass_group(context: typer.Context, as_json: opening.AsJson = False) -> None:
    """\b
    Examples:
      hub glass
      hub glass list --show-reasons
      hub glass review ID --as officer

    Patients whom a doctor of another specialty or hospital opened with a reason.
    """
    if context.invoked_subcommand is None:
        attending.list_glass(as_json=as_json)


@subscriptions.callback(invoke_without_command=True)
def subscriptions_group(context: typer.Context, as_json: opening.AsJson = False) -> None:
    """\b
    Examples:
      hub subscriptions list
      hub subscriptions show ID
      hub subscriptions grant ID --as officer

    Centres that ask for another centre's patient, where no card of the patient decides.
    """
    if context.invoked_subcommand is None:
        subscribing.list_requests(as_json=as_json)


opening.command(app, "serve")(serving.serve)
opening.command(hospital, "add")(centres.add_hospital)
opening.command(hospital, "rename")(centres.rename_hospital)
opening.command(hospital, "list")(centres.list_hospitals)
app.add_typer(hospital, name="hospital", short_help="The hub hospitals")
opening.command(facility, "add")(centres.add_facility)
opening.command(facility, "change")(centres.change_facility)
opening.command(facility, "import")(centres.import_facilities)
opening.command(facility, "list")(centres.list_facilities)
app.add_typer(facility, name="facility", short_help="The health centres")
opening.command(app, "enrol")(places.enrol)
opening.command(app, "courier")(carrying.courier)
opening.command(nodes, "list")(places.list_nodes)
opening.command(nodes, "show")(places.show_node)
opening.command(nodes, "revoke")(places.revoke_node)
opening.command(nodes, "release")(places.release_node)
app.add_typer(nodes, name="nodes", short_help="The centres' enrolled devices")
opening.command(people, "add")(staff.add_person)
opening.command(people, "assign")(staff.assign_person)
opening.command(people, "list")(staff.list_people)
opening.command(people, "disable")(staff.disable_person)
opening.command(people, "password")(credentials.give_password)
opening.command(people, "second-factor")(credentials.give_second_factor)
opening.command(people, "sign-out")(credentials.sign_out)
app.add_typer(people, name="people", short_help="Doctors, district officers and operators")
opening.command(referrals, "list")(doctors.list_referrals)
opening.command(referrals, "show")(doctors.show_referral)
app.add_typer(referrals, name="referrals", short_help="The doctors' queue: the most urgent first")
opening.command(app, "claim")(doctors.claim)
opening.command(app, "hand-over")(attending.hand_over)
opening.command(app, "reply")(doctors.reply)
opening.command(app, "slip")(slips.slip_command)
opening.command(duties, "list")(attending.list_duty)
opening.command(duties, "on")(attending.go_on_duty)
opening.command(duties, "off")(attending.go_off_duty)
opening.command(duties, "contact")(attending.set_contact)
opening.command(glasses, "list")(attending.list_glass)
opening.command(glasses, "review")(attending.review_glass)
app.add_typer(glasses, name="glass", short_help="Patients that a doctor of another specialty or hospital opened")
app.add_typer(duties, name="duty", short_help="Who is on duty, and who is called when nobody is")
opening.command(conflicts, "list")(doctors.list_conflicts)
opening.command(conflicts, "show")(doctors.show_conflict)
opening.command(conflicts, "resolve")(doctors.resolve_conflict)
app.add_typer(conflicts, name="conflicts", short_help="Fields that two people wrote without seeing each other's values")
opening.command(subscriptions, "list")(subscribing.list_requests)
opening.command(subscriptions, "show")(subscribing.show_request)
opening.command(subscriptions, "grant")(subscribing.grant)
opening.command(subscriptions, "refuse")(subscribing.refuse)
app.add_typer(subscriptions, name="subscriptions", short_help="Centres that ask for another centre's patient")
opening.command(app, "export")(reports.export)
opening.command(app, "status")(reports.status)
opening.command(quarantine, "list")(places.list_quarantine)
opening.command(quarantine, "show")(places.show_quarantined)
opening.command(quarantine, "release")(places.release_quarantined)
app.add_typer(quarantine, name="quarantine", short_help="What could not be admitted and waits for a person")
opening.command(audits, "verify")(oversight.verify_audit)
opening.command(audits, "export")(oversight.export_audit)
app.add_typer(audits, name="audit", short_help="Who read and wrote which patient's data")
opening.command(keys, "list")(keyring.list_keys)
opening.command(keys, "rotate")(keyring.rotate)
app.add_typer(keys, name="keys", short_help="The hub's own keys")
opening.command(app, "stats")(oversight.show_stats)
opening.command(app, "backup")(keeping.write_backup)
opening.command(app, "restore")(keeping.restore)
opening.command(app, "erase")(keeping.erase)
opening.command(app, "doctor")(reports.doctor)


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
    """The entry point of `hub`."""
    status = run(sys.argv[1:])
    console.close()
    sys.exit(status)
