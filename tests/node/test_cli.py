"""The command `hwc`: answers on stdout, words on stderr, exit statuses and shapes as the contract says."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import places
from hwc_node import server_certificate
from hwc_node.cli import console
from hwc_node.sync import HubOutOfReach, RefusedByHub
from sync_protocol import documents, errors, exports, keys
from sync_protocol.schema import KINDS, Writer
from tests.node.command_line import Runner, point_at
from tests.node.enrolled_home import (
    FACILITY,
    NOW_MS,
    PASSPHRASE,
    PERSON,
    PERSON_NAME,
    Home,
    arrive,
    fresh_id,
    make_home,
    write,
)

ROOT = Path(__file__).parents[2]
PATIENT = fresh_id()
PLANTED = "Kumudini Planted"
PATIENCE_S = 120.0


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An enrolled home that the environment points at."""
    made = make_home(tmp_path)
    point_at(made, monkeypatch)
    return made


@pytest.fixture
def hwc(capfdbinary: pytest.CaptureFixture[bytes]) -> Runner:
    return Runner(capfdbinary)


def spawn(home: Home, *arguments: str, **streams: Any) -> subprocess.Popen[bytes]:
    """The command in a process of its own."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "HWC_HOME": str(home.config.home), "HWC_PASSPHRASE": PASSPHRASE}
    command = [str(places.BIN / "hwc"), *arguments]
    return subprocess.Popen(command, env=environ, **{"stderr": subprocess.PIPE, **streams})


def save_lines(folder: Path, *lines: Any) -> str:
    path = folder / "lines.jsonl"
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return str(path)


def cases(count: int, more: str = "") -> list[dict[str, Any]]:
    """Lines of as many cases."""
    patient = documents.id_text(PATIENT)
    return [{"kind": "case", "patient": patient, "fields": {"plan": f"{at}{more}"}} for at in range(count)]


def conflict(home: Home, field: str = "plan", here: str = "rest", there: str = "refer", kind: str = "case") -> str:
    with home.open() as store:
        key = write(store, PERSON, kind, {field: here}, patient=PATIENT)
        arrive(store, kind, {field: there}, 1, record=key.record, patient=PATIENT, now_ms=NOW_MS - 1)
    return exports.conflict_id(key, field)


# -- exit statuses and words -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.OurFault("the disk is full", code="E_DISK_FULL"), 1),
        (errors.InvalidValue("a value is outside"), 1),
        (errors.NotAllowed("not here"), 1),
        (errors.NeedsPerson("wrong passphrase", code="E_WRONG_PASSPHRASE"), 1),
        (errors.NeedsPerson("not enrolled", code="E_NOT_ENROLLED"), 4),
        (RefusedByHub("revoked", code="E_REVOKED"), 4),
        (RefusedByHub("used", code="E_CODE_USED"), 4),
        (HubOutOfReach("no link"), 5),
        (HubOutOfReach("a portal", code="E_NOT_OUR_ANSWER"), 5),
        (errors.BadSignature("does not verify"), 6),
        (errors.Malformed("cut"), 6),
        (errors.TheirBytes("damaged", code="E_DB_CORRUPT"), 6),
        (KeyboardInterrupt(), 130),
        (ValueError("a bug"), 1),
    ],
)
def test_every_error_has_its_exit_status_and_one_to_three_lines(
    error: BaseException, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert console.complain(error) == status
    told = capsys.readouterr()
    assert told.out == ""
    assert 1 <= len(told.err.splitlines()) <= 3
    if isinstance(error, errors.HealthSyncError):
        assert f"[{error.code}]" in told.err
    assert "a bug" not in told.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("imprt",),
        (),
        ("import",),
        ("export", "--kinds", "case"),
        ("sync", "--timeout", "soon"),
        ("conflicts", "resolve", "case/x/plan"),
        ("conflicts", "resolve", "case/x/plan", "--take", "1", "--value", "2"),
        ("enrol",),
    ],
)
def test_what_is_typed_wrongly_is_told_and_ends_with_2(home: Home, hwc: Runner, arguments: tuple[str, ...]) -> None:
    ended = hwc(*arguments)
    assert (ended.status, ended.out) == (2, "")
    assert "[E_USAGE]" in ended.err
    assert len(ended.err.splitlines()) <= 3


def test_help_starts_with_examples_everywhere(hwc: Runner) -> None:
    commands = "enrol import export schema sync status doctor serve".split()
    nested = [("conflicts", name) for name in ("list", "show", "resolve", "undo")]
    nested += [("referrals", name) for name in ("list", "show")]
    for arguments in [(), *((one,) for one in commands), ("conflicts",), ("referrals",), *nested]:
        ended = hwc(*arguments, "--help")
        assert ended.status == 0
        assert re.match(r"Usage: hwc.*\n(\s+.*\n)?\n  Examples:\n    hwc ", ended.out), arguments


def test_a_home_that_is_not_enrolled_ends_with_4(tmp_path: Path, home: Home, hwc: Runner) -> None:
    for arguments in (("status",), ("sync",), ("export",), ("doctor",), ("conflicts", "list")):
        ended = hwc(*arguments, "--home", str(tmp_path / "elsewhere"))
        assert (ended.status, ended.out) == (4, "")
        assert "[E_NOT_ENROLLED]" in ended.err
    assert not (tmp_path / "elsewhere").exists()


def test_a_wrong_passphrase_opens_nothing(home: Home, hwc: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWC_PASSPHRASE", "something else entirely")
    ended = hwc("status")
    assert (ended.status, ended.out) == (1, "")
    assert "[E_WRONG_PASSPHRASE]" in ended.err


def test_the_passphrase_may_come_from_a_descriptor(home: Home, hwc: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HWC_PASSPHRASE")
    reader, writer = os.pipe()
    os.write(writer, PASSPHRASE.encode() + b"\nmore")
    os.close(writer)
    monkeypatch.setenv("HWC_PASSPHRASE_FD", str(reader))
    assert hwc("status").status == 0
    monkeypatch.setenv("HWC_PASSPHRASE_FD", "no number")
    assert "[E_NO_PASSPHRASE]" in hwc("status").err


def test_flags_for_every_command_stand_before_or_after_its_name(home: Home, hwc: Runner, tmp_path: Path) -> None:
    lines = save_lines(tmp_path, {"kind": "patient", "fields": {"name": "Sunita"}})
    assert "created" in hwc("import", lines).err
    for arguments in (("-q", "import", lines), ("import", "-q", lines)):
        assert hwc(*arguments).err == ""
    for arguments in (("-v", "import", "none.jsonl"), ("import", "none.jsonl", "-v")):
        assert "Traceback" in hwc(*arguments).err
    assert "Traceback" not in hwc("import", "none.jsonl").err


# -- import and export -------------------------------------------------------------------------------------------------


def test_an_import_answers_every_line_and_ends_with_1_if_one_was_bad(home: Home, hwc: Runner, tmp_path: Path) -> None:
    good = {"kind": "patient", "id": documents.id_text(PATIENT), "fields": {"name": "सुनीता देवी"}}
    reply = {"kind": "reply", "patient": documents.id_text(PATIENT), "fields": {"advice": "rest"}}
    ended = hwc("import", save_lines(tmp_path, good, reply))
    assert (ended.status, [line["verdict"] for line in ended.lines]) == (0, ["created", "not_ours"])
    assert set(ended.lines[0]) >= {"line", "verdict", "kind", "id", "change"}
    ended = hwc("import", save_lines(tmp_path, good, {"kind": "patient", "fields": {"nam": "S"}}))
    assert (ended.status, [line["verdict"] for line in ended.lines]) == (1, ["unchanged", "refused"])
    assert "line 2" in ended.err
    [line] = [line for line in hwc("export", "--kind", "patient").lines if line["kind"] == "patient"]
    assert line["fields"] == {"name": "सुनीता देवी"}
    assert set(line) == {"kind", "id", "facility", "patient", "at", "fields", "conflicts", "remarks", "sync"}


def test_a_line_of_megabytes_is_refused_and_the_rest_is_taken(home: Home, hwc: Runner, tmp_path: Path) -> None:
    long = {"kind": "patient", "fields": {"name": "x" * 3_000_000}}
    ended = hwc("import", save_lines(tmp_path, long, {"kind": "patient", "fields": {"name": "Sunita"}}))
    assert [(line["line"], line["verdict"]) for line in ended.lines] == [(1, "refused"), (2, "created")]
    assert ended.lines[0]["error"] == "E_TOO_LARGE"


def test_windows_line_ends_a_mark_in_front_and_blank_lines_do_no_harm(home: Home, hwc: Runner, tmp_path: Path) -> None:
    path = tmp_path / "windows.jsonl"
    first, second = (json.dumps({"kind": "patient", "fields": {"name": name}}).encode() for name in "AB")
    path.write_bytes(b"\xef\xbb\xbf" + first + b"\r\n\r\n  " + second)
    told = [(line["line"], line["verdict"]) for line in hwc("import", str(path)).lines]
    assert told == [(1, "created"), (3, "created")]


def test_a_slow_writer_is_answered_line_by_line(home: Home) -> None:
    with spawn(home, "import", "-", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ran:
        assert ran.stdin is not None
        assert ran.stdout is not None
        for number in (1, 2):
            ran.stdin.write(json.dumps({"kind": "patient", "fields": {"name": f"P {number}"}}).encode() + b"\n")
            ran.stdin.flush()
            assert select.select([ran.stdout], [], [], PATIENCE_S)[0]
            assert json.loads(ran.stdout.readline())["line"] == number
        ran.stdin.close()
        assert ran.wait(PATIENCE_S) == 0


def test_an_import_that_is_killed_has_kept_every_line_it_told(home: Home, hwc: Runner, tmp_path: Path) -> None:
    lines = cases(20_000)
    path = save_lines(tmp_path, *lines)
    with spawn(home, "import", path, stdout=subprocess.PIPE) as ran:
        assert ran.stdout is not None
        told = [json.loads(ran.stdout.readline()) for _ in range(200)]
        ran.send_signal(signal.SIGKILL)
        rest = ran.stdout.read()  # not `communicate`, which would miss what `readline` has read ahead
        ran.wait(PATIENCE_S)
    told += [json.loads(line) for line in rest.splitlines(keepends=True) if line.endswith(b"\n")]
    kept = {line["id"] for line in hwc("export", "--kind", "case").lines}
    assert 200 <= len(kept) < len(lines)
    assert {line["id"] for line in told} <= kept


def test_an_interrupted_import_ends_with_130_and_can_be_repeated(home: Home, hwc: Runner, tmp_path: Path) -> None:
    lines = cases(20_000)
    path = save_lines(tmp_path, *lines)
    with spawn(home, "import", path, stdout=subprocess.PIPE) as ran:
        assert ran.stdout is not None
        ran.stdout.readline()
        ran.send_signal(signal.SIGINT)
        _, err = ran.communicate(timeout=PATIENCE_S)
    assert ran.returncode == 130
    assert b"interrupted" in err
    assert b"Traceback" not in err
    few = save_lines(tmp_path, *lines[:10])
    assert {line["verdict"] for line in hwc("import", few).lines} == {"unchanged"}


def test_a_reader_that_leaves_ends_an_export_quietly(home: Home, tmp_path: Path) -> None:
    with home.open() as store:
        for at in range(300):
            write(store, PERSON, "case", {"plan": f"{at}", "history": "long " * 500}, patient=PATIENT)
    with spawn(home, "export", stdout=subprocess.PIPE) as ran:
        assert ran.stdout is not None
        ran.stdout.readline()
        ran.stdout.close()
        assert ran.stderr is not None
        assert ran.stderr.read() == b""
        assert ran.wait(PATIENCE_S) == 0


def test_a_full_disk_is_told_and_what_was_told_as_saved_is_saved(home: Home, tmp_path: Path, hwc: Runner) -> None:
    lines = cases(5_000, " and much more" * 40)
    command = f"ulimit -f 3000; exec {sys.executable} -m hwc_node.cli import {save_lines(tmp_path, *lines)}"
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(["bash", "-c", command], env=environ, capture_output=True, timeout=PATIENCE_S, check=False)
    assert ran.returncode == 1, ran.stderr
    assert b"[E_DISK_FULL]" in ran.stderr
    told = {json.loads(line)["id"] for line in ran.stdout.splitlines()}
    assert {line["id"] for line in hwc("export", "--kind", "case").lines} >= told


# -- status, doctor, schema --------------------------------------------------------------------------------------------


def test_status_tells_what_scripts_rely_on(home: Home, hwc: Runner) -> None:
    conflict(home)
    shape = hwc("status", "--json").shape
    assert next(iter(shape)) == "schema"
    assert shape["schema"] == "hwc.status/1"
    assert shape["facility"] == FACILITY
    assert (shape["pending_changes"], shape["conflicts_open"], shape["quarantined"]) == (1, 1, 0)
    assert re.fullmatch("[0-9a-f]{32}", shape["digest"])
    assert shape["pending"]["oldest"].endswith("Z")
    assert shape["key_slots"][0]["name"] == PERSON_NAME
    assert shape["certificate_fingerprint"] is None  # a home from before there was one, which was not served since
    with home.open() as store:
        server_certificate.authority(store)
        made = server_certificate.fingerprint(store)
    assert hwc("status", "--json").shape["certificate_fingerprint"] == made
    assert f"certificate  {made}\n" in hwc("status").out
    ended = hwc("status")
    assert (ended.status, ended.err) == (0, "")
    assert f"facility     {FACILITY}" in ended.out


def test_status_check_and_doctor_end_with_3_if_something_needs_a_person(home: Home, hwc: Runner) -> None:
    never = hwc("status", "--check")  # this home was enrolled long ago
    assert (never.status, "hwc backup FILE" in never.out) == (3, True)
    assert hwc("backup", str(home.config.home.parent / "one.hwcbackup")).status == 0
    assert hwc("status", "--check").status == 0
    sound = hwc("doctor", "--json")
    assert (sound.status, sound.shape["sound"], sound.shape["schema"]) == (0, True, "hwc.doctor/1")
    conflict(home)
    assert hwc("status", "--check").status == 3
    assert hwc("status").status == 0
    ended = hwc("doctor")
    assert ended.status == 3
    assert "mend: hwc conflicts list" in ended.out


def test_doctor_sees_files_that_others_may_open(home: Home, hwc: Runner) -> None:
    home.config.slots_path.chmod(0o644)
    ended = hwc("doctor")
    assert ended.status == 3
    assert "chmod" in ended.out


def test_the_schema_tells_every_kind_and_field(home: Home, hwc: Runner) -> None:
    shape = hwc("schema", "--json").shape
    assert (shape["schema"], set(shape["kinds"])) == ("hwc.schema/1", set(KINDS))
    assert shape["kinds"]["referral"]["fields"]["urgency"]["cautious_order"] == ["routine", "urgent", "emergency"]
    assert shape["kinds"]["vitals"]["fields"]["pulse_bpm"]["unit"] == "/min"
    assert all(name in hwc("schema").out for name in KINDS)
    assert "did you mean vitals" in hwc("schema", "vital").err.lower()


# -- conflicts and referrals -------------------------------------------------------------------------------------------


def test_a_conflict_is_listed_shown_settled_and_reopened(home: Home, hwc: Runner) -> None:
    name = conflict(home)
    listed = hwc("conflicts", "list", "--json").shape
    assert (listed["schema"], [one["id"] for one in listed["conflicts"]]) == ("hwc.conflicts/1", [name])
    assert name in hwc("conflicts").out
    shown = hwc("conflicts", "show", name).out
    assert "rest" in shown
    assert "refer" in shown
    assert FACILITY in shown
    assert hwc("conflicts", "show", name, "--json").shape["values"][1]["value"] == "refer"
    settled = hwc("conflicts", "resolve", name, "--take", "2", "--note", "asked")
    assert settled.status == 0
    assert hwc("conflicts", "list", "--json").shape["conflicts"] == []
    assert hwc("conflicts", "resolve", name, "--take", "1").status == 1
    assert hwc("conflicts", "undo", name, "--json").shape["open"] is True
    assert [one["id"] for one in hwc("conflicts", "list", "--json").shape["conflicts"]] == [name]
    assert hwc("conflicts", "resolve", name, "--value", '"walk"', "--json").shape["open"] is False
    [line] = hwc("export", "--kind", "case").lines
    assert (line["fields"]["plan"], line["conflicts"]) == ("walk", {})


def test_resolve_ends_with_3_while_something_that_was_not_shown_is_live(home: Home, hwc: Runner) -> None:
    name = conflict(home)
    shown = [one["change"] for one in hwc("conflicts", "show", name, "--json").shape["values"]]
    ended = hwc("conflicts", "resolve", name, "--value", '"walk"', "--shown", shown[0])
    assert ended.status == 3
    assert hwc("conflicts", "resolve", name, "--value", "walk").status == 1  # not JSON
    assert hwc("conflicts", "resolve", name, "--value", '"walk"', "--shown", "7").status == 2


def test_a_patients_name_is_shown_only_when_asked(home: Home, hwc: Runner) -> None:
    name = conflict(home, "name", PLANTED, "Hari", kind="patient")
    with home.open() as store:
        write(store, PERSON, "patient", {"name": PLANTED}, record=PATIENT)
        write(store, PERSON, "referral", {"specialty": "ent", "urgency": "urgent"}, patient=PATIENT)
    quiet = [
        ("status",),
        ("status", "--json"),
        ("conflicts",),
        ("conflicts", "show", name),
        ("referrals",),
        ("doctor",),
    ]
    quiet += [("referrals", "--json"), ("sync", "--dry-run")]
    for arguments in quiet:
        ended = hwc(*arguments)
        assert PLANTED not in ended.out + ended.err, arguments
    for asked in (("conflicts", "show", name, "--show-names"), ("referrals", "--show-names")):
        assert PLANTED in hwc(*asked).out


def test_text_from_a_record_cannot_steer_the_terminal(home: Home, hwc: Runner) -> None:
    name = conflict(home, here="rest\x1b[2J\u202eevil\nnext", there="refer")
    shown = hwc("conflicts", "show", name).out
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "rest[2Jevil next" in shown


def test_referrals_are_lines_most_urgent_first(home: Home, hwc: Runner) -> None:
    with home.open() as store:
        for urgency in ("routine", "emergency", "urgent"):
            key = write(store, PERSON, "referral", {"specialty": "ent", "urgency": urgency}, patient=PATIENT)
        reply = {"referral": bytes(key.record), "advice": "rest", "seen_positions": {FACILITY: 3}}
        arrive(store, "reply", reply, 4, patient=PATIENT, origin=Writer.DOCTOR)
    lines = hwc("referrals", "list", "--json").lines
    assert [line["urgency"] for line in lines] == ["emergency", "urgent", "routine"]
    assert [line["status"] for line in lines] == ["saved", "answered", "saved"]
    assert lines[1]["reply"]["advice"] == "rest"
    assert [item["kind"] for item in lines[1]["not_seen_by_doctor"]] == ["referral"] * 2
    assert len(hwc("referrals", "list", "--status", "answered", "--json").lines) == 1
    shown = hwc("referrals", "show", lines[1]["id"]).out
    assert "had not seen" in shown
    assert hwc("referrals", "show", lines[1]["id"], "--json").shape["schema"] == "hwc.referral/1"
    assert hwc("referrals", "show", documents.id_text(PATIENT)).status == 1


# -- the hub -----------------------------------------------------------------------------------------------------------


def test_without_a_hub_a_sync_ends_with_5_and_keeps_everything(home: Home, hwc: Runner) -> None:
    conflict(home)
    ended = hwc("sync", "--json")
    assert ended.status == 5
    assert "[E_HUB_UNREACHABLE]" in ended.err
    assert (ended.shape["schema"], ended.shape["pending_changes"]) == ("hwc.sync/1", 1)
    planned = hwc("sync", "--dry-run", "--json").shape
    assert set(planned) >= {
        "sent_changes", "sent_segments", "received_changes", "conflicts_open", "bytes_up", "bytes_down", "requests",
        "seconds", "pending_changes", "notices",
    }  # fmt: skip
    assert hwc("status", "--json").shape["last_error"] == "E_HUB_UNREACHABLE"


def test_a_mistyped_code_is_told_before_anything_is_made(tmp_path: Path, home: Home, hwc: Runner) -> None:
    elsewhere = tmp_path / "elsewhere"
    ended = hwc("enrol", "7TZ2K-4M9QX@http://127.0.0.1:9", "--home", str(elsewhere))
    assert (ended.status, ended.out) == (1, "")
    assert "[E_CODE_MISTYPED]" in ended.err
    assert not elsewhere.exists()


def test_enrolling_without_a_hub_ends_with_5(
    tmp_path: Path, home: Home, hwc: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = keys.EnrolmentCode(os.urandom(keys.CODE_SECRET_BYTES), os.urandom(16), "http://127.0.0.1:9").text()
    monkeypatch.setenv("HWC_PERSON_NAME", PERSON_NAME)
    monkeypatch.setenv("HWC_ENROL_CODE", code)
    ended = hwc("enrol", "--home", str(tmp_path / "elsewhere"))
    assert (ended.status, ended.out) == (5, "")


@pytest.fixture
def served(home: Home) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    with spawn(home, "serve", "--port", "0", stdout=subprocess.PIPE) as ran:
        assert ran.stdout is not None
        address = ran.stdout.readline().decode().removeprefix("serving ").strip()
        try:
            yield ran, address
        finally:
            ran.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_shows_the_lock_screen_until_it_is_stopped(
    served: tuple[subprocess.Popen[bytes], str], number: signal.Signals, hwc: Runner
) -> None:
    ran, address = served
    assert _read(address + "healthz") == "ok\n"
    page = _read(address)
    assert "Passphrase" in page
    assert FACILITY not in page
    assert "[E_SERVE_RUNNING]" in hwc("serve", "--port", "0").err
    with pytest.raises(urllib.error.HTTPError):
        _read(address, host="elsewhere.example")
    ran.send_signal(number)
    assert ran.wait(PATIENCE_S) == 0
    assert ran.stderr is not None
    assert b"Traceback" not in ran.stderr.read()


def _read(address: str, host: str | None = None) -> str:
    asked = urllib.request.Request(address, headers={"Host": host} if host else {})
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=PATIENCE_S) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError:
            raise
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


STOPPED_EARLY = """
import os, signal, socket
from hwc_node.cli.serving import Servers

async def app(scope, receive, send): ...

with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    servers = Servers(app, listener)
    os.kill(os.getpid(), signal.SIGTERM)
    servers.run()
print("ended")
"""


def test_a_signal_that_comes_before_serving_has_begun_is_not_lost() -> None:
    ended = subprocess.run([sys.executable, "-c", STOPPED_EARLY], capture_output=True, timeout=PATIENCE_S, check=False)
    assert (ended.returncode, ended.stdout) == (0, b"ended\n"), ended.stderr.decode()


def test_serve_listens_on_loopback_only(home: Home, hwc: Runner) -> None:
    ended = hwc("serve", "--host", "0.0.0.0")
    assert ended.status == 1
    assert "[E_NOT_LOOPBACK]" in ended.err
    assert "HWC_OPEN_TO_LAN=1" in ended.err


def test_a_passphrase_is_asked_for_at_a_terminal_and_not_shown(home: Home) -> None:
    ours, theirs = pty.openpty()
    environ = {name: value for name, value in os.environ.items() if name != "HWC_PASSPHRASE"} | {
        "PYTHONPATH": str(ROOT)
    }
    with subprocess.Popen(
        [sys.executable, "-m", "hwc_node.cli", "status"],
        env=environ, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    ) as ran:  # fmt: skip
        os.close(theirs)
        said = _until(ours, b"Passphrase: ")
        os.write(ours, PASSPHRASE.encode() + b"\n")
        said += _until(ours, b"version")
        assert ran.wait(PATIENCE_S) == 0
    os.close(ours)
    assert PASSPHRASE.encode() not in said


def _until(descriptor: int, wanted: bytes) -> bytes:
    said = b""
    while wanted not in said and select.select([descriptor], [], [], PATIENCE_S)[0]:
        try:
            said += os.read(descriptor, 4096)
        except OSError:
            break
    return said
