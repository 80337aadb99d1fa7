"""The command `hub`: what scripts rely on. Most commands run in this process against a real database."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import typer.main

from bench import places
from hub_server import backup, cli
from hub_server.cli import console
from hub_server.cli.console import Status, exit_status
from hub_server.clock import wall_ms
from hub_server.database import Database
from hub_server.postgres import Running
from hub_server.registry import DAY_MS
from sync_protocol import documents, errors, keys
from tests.hub.command_line import REPLY, Terminal, add_doctor, consultation, terminal

START_TIMEOUT_S = 180.0


@pytest.fixture
def hub(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Terminal:
    return terminal(database_url, tmp_path, monkeypatch, capfdbinary)


# -- setting up --------------------------------------------------------------------------------------------------------


def test_a_facility_is_added_once_and_listed(hub: Terminal) -> None:
    assert (
        hub("facility", "add", "HWC000001", "HWC Rampur", "--district", "Sitapur", "--json").json["verdict"]
        == "created"
    )
    again = hub("facility", "add", "HWC000001", "HWC Rampur", "--district", "Sitapur", "--json")
    assert (again.status, again.json["verdict"]) == (0, "unchanged")
    other = hub("facility", "add", "HWC000001", "HWC Melur")
    assert (other.status, "E_FACILITY_EXISTS" in other.err) == (1, True)
    listed = hub("facility", "list", "--json").json["facilities"]
    assert [(one["facility"], one["name"], one["district"]) for one in listed] == [
        ("HWC000001", "HWC Rampur", "Sitapur")
    ]
    assert hub("facility", "add", "no code!", "X").status == 1


def test_facilities_are_imported_from_csv_and_a_bad_line_stops_no_other(hub: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "centres.csv"
    file.write_text("﻿facility,name,state\nHWC1,Rampur,Bihar\nbad code,Melur,\nHWC1,Rampur,Bihar\nHWC2,सीतापुर,\n")
    answer = hub("facility", "import", str(file))
    assert answer.status == 1
    assert [(one["line"], one["verdict"]) for one in answer.lines] == [
        (2, "created"),
        (3, "refused"),
        (4, "unchanged"),
        (5, "created"),
    ]
    assert answer.lines[1]["error"]["code"] == "E_BAD_FACILITY"
    file.write_bytes(b"\xff\xfe")
    assert "E_BAD_CSV" in hub("facility", "import", str(file)).err
    assert "E_NO_FILE" in hub("facility", "import", str(tmp_path / "none")).err


def test_an_enrolment_code_carries_the_address_and_the_roots_fingerprint(
    hub: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub("facility", "add", "HWC1", "HWC Rampur")
    monkeypatch.setenv("HUB_PUBLIC_URL", "https://hub.example.org")
    made = hub("enrol", "HWC1", "--json").json
    code = keys.parse_code(made["code"])
    assert (code.url, made["facility"], made["schema"]) == ("https://hub.example.org", "HWC1", "hub.enrol/1")
    printed = hub("enrol", "HWC1", "--valid", "30m")
    first, *rest = printed.out.splitlines()
    assert keys.parse_code(first).root_fingerprint == code.root_fingerprint
    assert sum("█" in line for line in rest) > 15
    assert hub("enrol", "HWC9").status == 1
    for wrong in ("0h", "72", "99d", "-1h"):
        assert hub("enrol", "HWC1", f"--valid={wrong}").status == Status.WRONG_USAGE


def test_people_are_added_listed_and_disabled(hub: Terminal) -> None:
    add_doctor(hub)
    assert "E_NO_REGISTRATION" in hub("people", "add", "dr.b", "--name", "B").err
    assert hub("people", "add", "op", "--name", "Op", "--role", "operator").status == 0
    assert [one["login"] for one in hub("people", "list", "--json").json["people"]] == ["dr.rao", "op"]
    asked = hub("people", "disable", "op")
    assert (asked.status, "E_NOT_CONFIRMED" in asked.err) == (3, True)
    assert hub("people", "disable", "op", "--yes").out == "disabled\n"
    assert hub("people", "disable", "op", "--yes").out == "disabled before\n"


# -- the doctor's verbs ------------------------------------------------------------------------------------------------


def test_a_referral_is_listed_claimed_and_answered(hub: Terminal, database_url: str, tmp_path: Path) -> None:
    _, referral, patient = consultation(hub, database_url)
    add_doctor(hub)
    (line,) = hub("referrals", "--json").lines
    assert (line["id"], line["patient"], line["status"], line["urgency"]) == (referral, patient, "received", "urgent")
    assert "reply" not in line
    claimed = hub("claim", referral, "--as", "dr.rao", "--json").json
    assert (claimed["verdict"], claimed["facility"]) == ("claimed", "HWC1")
    file = tmp_path / "reply.json"
    file.write_text(json.dumps(REPLY))
    answered = hub("reply", referral, "--as", "dr.rao", "--file", str(file), "--json").json
    assert (answered["schema"], answered["verdict"]) == ("hub.reply/1", "answered")
    assert answered["seen_positions"]["HWC1"] >= 3
    assert hub("reply", referral, "--as", "dr.rao", "--file", str(file), "--json").json["verdict"] == "unchanged"
    (line,) = hub("referrals", "list", "--json").lines
    assert (line["status"], line["claimed_by_name"], line["reply"]["advice"]) == ("answered", "Dr. Rao", "Rest.")
    assert line["not_seen_by_doctor"] == []
    shown = hub("referrals", "show", referral, "--as", "dr.rao")
    assert "fever" in shown.out
    assert "Rest." in shown.out


def test_names_are_shown_only_on_request(hub: Terminal, database_url: str) -> None:
    _, referral, _ = consultation(hub, database_url)
    for words in (
        ["referrals"],
        ["referrals", "--json"],
        ["referrals", "show", referral],
        ["conflicts", "list"],
        ["conflicts", "--json"],
    ):
        assert "Asha" not in hub(*words).out
    for words in (["referrals"], ["referrals", "--json"], ["referrals", "show", referral]):
        assert "Asha Devi" in hub(*words, "--show-names").out
    assert "Asha" not in hub("status").out


def test_a_doctors_refusals_have_their_exit_statuses(hub: Terminal, database_url: str, tmp_path: Path) -> None:
    _, referral, _ = consultation(hub, database_url)
    add_doctor(hub)
    add_doctor(hub, "dr.nair")
    hub("people", "add", "op", "--name", "Op", "--role", "operator")
    hub("claim", referral, "--as", "dr.rao")
    taken = hub("claim", referral, "--as", "dr.nair")
    assert (taken.status, "E_CLAIMED" in taken.err, taken.out) == (3, True, "")
    file = tmp_path / "reply.json"
    file.write_text("{")
    for words, status, code in (
        (["claim", referral, "--as", "nobody"], 1, "E_UNKNOWN_PERSON"),
        (["claim", referral, "--as", "op"], 1, "E_NOT_A_DOCTOR"),
        (["claim", "not-an-id", "--as", "dr.rao"], 1, "E_BAD_ID"),
        (["claim", documents.id_text(os.urandom(16)), "--as", "dr.rao"], 1, "E_NO_SUCH_REFERRAL"),
        (["reply", referral, "--as", "dr.rao", "--file", str(file)], 1, "E_BAD_REPLY"),
        (["claim", referral], 2, "E_USAGE"),
        (["conflicts", "resolve", "case/x", "--as", "dr.rao", "--take", "1"], 1, "E_BAD_ID"),
        (["conflicts", "resolve", f"case/{referral}/plan", "--as", "dr.rao", "--take", "1"], 3, "E_NOT_OURS"),
        (["conflicts", "resolve", f"case/{referral}/plan", "--as", "dr.rao"], 2, "E_USAGE"),
        (["conflicts", "show", f"case/{referral}/plan"], 1, "E_NO_CONFLICT"),
    ):
        answer = hub(*words)
        assert (answer.status, code in answer.err, answer.out) == (status, True, ""), words
        assert "Traceback" not in answer.err
        assert answer.err.count("\n") <= 3


def problems(hub: Terminal) -> set[str]:
    checks = hub("doctor", "--deep", "--json").json["checks"]
    return {one["check"] for one in checks if one["state"] == "problem"}


# -- looking -----------------------------------------------------------------------------------------------------------


def test_an_export_prints_lines_and_refuses_what_it_does_not_know(hub: Terminal, database_url: str) -> None:
    _, referral, patient = consultation(hub, database_url)
    lines = hub("export").lines
    assert [line["kind"] for line in lines if line["id"] == referral] == ["referral"]
    assert set(lines[0]) == {"kind", "id", "facility", "patient", "at", "fields", "conflicts", "remarks", "sync"}
    assert len(hub("export", "--changes", "--facility", "HWC1", "--patient", patient).lines) == 3
    assert len(hub("export", "--kind", "case", "--format", "json").lines) == 1
    assert "Did you mean vitals" in hub("export", "--kind", "vital").err
    assert hub("export", "--facility", "HWC9").status == 1
    assert hub("export", "--format", "xml").status == Status.WRONG_USAGE
    assert problems(hub) == {"postgresql"}  # the tests' own server does not sync its disk, and is told of


def test_the_status_tells_the_digest_and_the_nodes(hub: Terminal, database_url: str) -> None:
    node, _, _ = consultation(hub, database_url)
    found = hub("status", "--facility", "HWC1", "--json").json
    (standing,) = found["facilities"]
    assert (standing["feed_head"], len(standing["digest"]), standing["referrals_waiting"]) == (3, 32, 1)
    assert int(standing["digest"], 16) > 0
    assert [(one["node"], one["behind_by"]) for one in standing["nodes"]] == [(documents.id_text(node.node), 3)]
    assert (found["pending_to_admit"], found["quarantined"]) == (0, 0)
    assert hub("status", "--check").status == 0
    assert "HWC1" in hub("status").out


def test_a_revoked_nodes_segments_wait_until_it_is_released(hub: Terminal, database_url: str) -> None:
    node, _, _ = consultation(hub, database_url)
    name = documents.id_text(node.node)
    assert hub("nodes", "revoke", name, "--reason", "stolen").status == 3
    assert hub("nodes", "revoke", name, "--reason", "stolen", "--yes").out == "revoked\n"
    assert hub("nodes", "show", name, "--json").json["revoked_reason"] == "stolen"
    world = hub.world(database_url)
    world.exchange(node, [node.pack([node.write("patient", {"name": "Later"})]).envelope.raw])
    assert world.admit() == 0
    (entry,) = hub("quarantine", "list", "--json").json["entries"]
    assert (entry["reason"], entry["row"]) == ("E_REVOKED", None)
    assert hub("status", "--check").status == 3
    assert hub("doctor").status == 3
    assert "1 segments will be admitted" in hub("nodes", "release", name, "--yes").out
    assert hub("quarantine", "list", "--json").json["entries"] == []
    assert hub("quarantine", "show", str(entry["id"]), "--json").json["verdict"] == "released"
    assert hub("quarantine", "release", str(entry["id"])).out == "released before\n"
    assert world.admit() == 1
    assert hub("quarantine", "show", "999").status == 1


def test_the_doctor_finds_a_touched_audit_and_a_broken_feed(hub: Terminal, database_url: str) -> None:
    _, _, _ = consultation(hub, database_url)
    hub("export")
    assert problems(hub) == {"postgresql"}
    world = hub.world(database_url)
    with world.database.transaction() as connection:
        connection.execute("UPDATE audit SET actor = 'nobody'")
        connection.execute("UPDATE item SET tag = '\\x0000000000000000' WHERE position = 2")
    assert problems(hub) == {"postgresql", "audit", "hashes"}
    assert hub("doctor").status == 3


# -- the contract of all commands --------------------------------------------------------------------------------------


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    whole: Any = typer.main.get_command(cli.app) if group is None else group
    for name, one in whole.commands.items():
        if hasattr(one, "commands"):
            yield (*path, name)
            yield from commands(one, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", sorted(commands()), ids=" ".join)
def test_every_help_begins_with_examples(path: tuple[str, ...], capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert cli.run([*path, "--help"]) == 0
    told = capfdbinary.readouterr().out.decode()
    head, _, rest = told.partition("Examples:")
    assert head.startswith("Usage: hub")
    assert head.count("\n") <= 3
    assert rest.lstrip().startswith("hub ") or rest.lstrip().startswith("echo ")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt(), 130),
        (errors.OurFault("x"), 1),
        (errors.OurFault("x", code="E_PG_UNREACHABLE"), 5),
        (psycopg.OperationalError("x"), 5),
        (psycopg.DataError("x"), 1),
        (errors.InvalidValue("x"), 1),
        (errors.NotAllowed("x"), 1),
        (errors.NeedsPerson("x"), 3),
        (errors.BadSignature("x"), 6),
        (errors.Malformed("x"), 6),
        (errors.Malformed("x", code="E_BAD_REPLY"), 1),
        (ZeroDivisionError(), 1),
    ],
)
def test_errors_have_their_exit_statuses(error: BaseException, status: int) -> None:
    assert exit_status(error) == status


def test_an_unforeseen_error_is_told_without_its_text(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    console.manner.verbose = False
    console.complain(ValueError("the name Asha Devi"))
    told = capfdbinary.readouterr().err.decode()
    assert "E_BUG" in told
    assert "Asha" not in told


def test_a_database_that_is_away_is_a_coded_error(hub: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_DATABASE_URL", "postgresql://hub:secret@127.0.0.1:1/hub")
    answer = hub("status")
    assert answer.status == 5
    assert "E_PG_UNREACHABLE" in answer.err
    assert "secret" not in answer.err


def test_wrong_usage_is_status_2_and_the_version_is_told(hub: Terminal) -> None:
    assert hub().status == 2
    assert hub("nosuch").status == 2
    assert hub("status", "--nosuch").status == 2
    assert hub("--version").out.startswith("hub ")


# -- serving -----------------------------------------------------------------------------------------------------------


def _serve(home: Path, url: str) -> subprocess.Popen[bytes]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HUB_")}
    environment |= {"HUB_HOME": str(home), "HUB_DATABASE_URL": url}
    command = [str(places.BIN / "hub"), "serve", "--port", "0", "--json"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_a_serving_hub_answers_lets_commands_work_and_stops_cleanly(
    hub: Terminal, database_url: str, ending: signal.Signals
) -> None:
    with _serve(hub.home, database_url) as serving:
        timer = threading.Timer(START_TIMEOUT_S, serving.kill)
        timer.start()
        try:
            assert serving.stdout is not None
            told = json.loads(serving.stdout.readline())
            with urllib.request.urlopen(f"{told['url']}/readyz", timeout=START_TIMEOUT_S) as answer:
                assert answer.read() == b"ready\n"
            assert hub("facility", "add", "HWC1", "HWC Rampur").status == 0
            assert keys.parse_code(hub("enrol", "HWC1", "--json").json["code"]).url == told["url"]
            twice = hub("serve", "--port", "0")
            assert (twice.status, "E_SERVING" in twice.err) == (1, True)
            serving.send_signal(ending)
            _, log = serving.communicate(timeout=START_TIMEOUT_S)
            assert serving.returncode == 0
        finally:
            timer.cancel()
            serving.kill()
    assert keys.parse_code(hub("enrol", "HWC1", "--json").json["code"]).url == "http://127.0.0.1:8460"
    events = [json.loads(line)["event"] for line in log.decode().splitlines() if line.startswith("{")]
    assert events[0] == "started"
    assert events[-1] == "stopped"


def test_a_port_in_use_and_a_host_that_is_no_loopback_are_coded_errors(hub: Terminal, database_url: str) -> None:
    with _serve(hub.home, database_url) as serving:
        try:
            assert serving.stdout is not None
            port = json.loads(serving.stdout.readline())["url"].rsplit(":", 1)[1]
            other = hub("--home", str(hub.home.with_name("other")), "serve", "--port", port)
            assert (other.status, "E_PORT_IN_USE" in other.err) == (1, True)
        finally:
            serving.kill()
    assert "E_NOT_LOOPBACK" in hub("serve", "--host", "0.0.0.0").err


def test_a_restored_databases_predecessor_stays_however_long_their_name(
    postgres_cluster: Running,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    """PostgreSQL cuts names off after 63 bytes: of a time that is cut off it would look as if it were long ago."""
    name = "hub_of_the_district_" + "x" * 30
    url = urlsplit(postgres_cluster.url)._replace(path=f"/{name}").geturl()
    with psycopg.connect(postgres_cluster.url, autocommit=True) as owner:
        owner.execute(f"CREATE DATABASE {name}".encode())
        try:
            hub = terminal(url, tmp_path, monkeypatch, capfdbinary)
            assert hub("facility", "add", "HWC1", "HWC Rampur").status == 0
            assert hub("backup", str(tmp_path / "saved")).status == 0
            kept = hub("restore", str(tmp_path / "saved"), "--yes", "--json").json["kept"]
            database = Database(url)
            assert backup.drop_set_aside(database, wall_ms()) == 0
            assert owner.execute("SELECT 1 FROM pg_database WHERE datname = %s", [kept]).fetchone()
            assert backup.drop_set_aside(database, wall_ms() + 36 * DAY_MS) == 1
            database.close()
        finally:
            found = owner.execute("SELECT datname FROM pg_database WHERE starts_with(datname, left(%s, 40))", [name])
            for (one,) in found.fetchall():
                owner.execute(f"DROP DATABASE {one} WITH (FORCE)".encode())
