"""Centres that never have a link: enrolled by files, and exchanging by files that people carry. Real programs."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from bench.places import HubPlace, Place, StepFailed
from tests.world.centres import FACILITY, PASSPHRASE

PATIENCE_S = 120


def home(folder: Path, name: str) -> Place:
    """A node's program, with a way to nowhere: port 9 answers nobody."""
    environment = {"HWC_HOME": str(folder / name), "HWC_PASSPHRASE": PASSPHRASE, "HWC_PERSON_NAME": name}
    return Place("hwc", environment | {"HWC_HUB_URL": "http://127.0.0.1:9"})


def enrolled(hub: HubPlace, folder: Path, name: str) -> Place:
    node = home(folder, name)
    stick = folder / f"stick-{name}"
    stick.mkdir()
    hub.run("enrol", FACILITY, "--file", str(stick / "code.hubcode"))
    node.run("enrol", "--offline", str(stick / "code.hubcode"))
    hub.run("enrol", "--answer", str(stick / "code.hubrequest"), str(stick / "answer"))
    node.run("enrol", "--offline", str(stick / "answer"))
    return node


def error_of(place: Place, *words: str, expect: int) -> str:
    """The code with which a command fails, and its exit status held."""
    with pytest.raises(StepFailed) as told:
        place.run(*words, expect=-1)
    assert f"ended with {expect}," in str(told.value), str(told.value)
    return str(told.value).rpartition("[")[2].partition("]")[0]


def take(node: Place, *lines: dict[str, Any]) -> list[str]:
    told = node.run("import", "-", given="".join(json.dumps(line) + "\n" for line in lines))
    return [json.loads(line)["id"] for line in told.splitlines()]


def test_a_centre_exchanges_by_files_alone(hub: HubPlace, folder: Path) -> None:
    one = enrolled(hub, folder, "Meena")
    assert one.ask("status")["certificate_fingerprint"]  # its own authority, made with the answer
    stick = folder / "round"
    stick.mkdir()
    out, back = str(stick / "out.courier"), str(stick / "answer.courier")
    (patient,) = take(one, {"kind": "patient", "fields": {"name": "Sita", "sex": "F"}})
    (case,) = take(one, {"kind": "case", "patient": patient, "fields": {"history": "fever"}})
    fields = {"case": case, "specialty": "ent", "urgency": "urgent"}
    (referral,) = take(one, {"kind": "referral", "patient": patient, "fields": fields})

    written = one.ask("courier", "write", out)
    assert written["changes"] == written["pending_changes"] > 3
    assert error_of(one, "courier", "read", out, expect=6) == "E_NOT_OUR_ANSWER"
    taken = hub.ask("courier", out, back)
    assert taken["held_segments"] == taken["admitted_segments"] == written["segments"]
    came = one.ask("courier", "read", back)
    assert (came["sent_changes"], came["pending_changes"]) == (written["changes"], 0)
    assert one.ask("courier", "read", back)["nothing_new"] is True

    reply = stick / "reply.json"
    reply.write_text(json.dumps({"advice": "Rest.", "mode": "text", "first": True}))
    hub.run("claim", referral, "--as", "doc")
    hub.run("reply", referral, "--as", "doc", "--file", str(reply))
    one.run("courier", "write", out)
    hub.run("courier", out, back)
    one.run("courier", "read", back)
    (seen,) = one.lines("referrals", "list", "--json")
    assert (seen["id"], seen["status"]) == (referral, "answered")
    assert one.ask("status")["digest"] == hub.ask("status", "--facility", FACILITY)["facilities"][0]["digest"]

    # Anybody with internet hands it in, as `curl --data-binary` does; and once more at the hub while nothing serves.
    take(one, {"kind": "patient", "fields": {"name": "Gita", "sex": "F"}})
    one.run("courier", "write", out)
    asked = urllib.request.Request(
        f"{hub.url}/v1/sync", Path(out).read_bytes(), {"Content-Type": "application/octet-stream"}, method="POST"
    )
    with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answered:
        Path(back).write_bytes(answered.read())
    assert one.ask("courier", "read", back)["sent_changes"] == 1
    hub.stop()
    cut, nothing = stick / "cut.courier", stick / "none"
    cut.write_bytes(Path(out).read_bytes()[:-5])
    assert error_of(hub, "courier", str(cut), str(nothing), expect=6) == "E_TRUNCATED"
    assert not nothing.exists()
    hub.run("courier", out, back)
    assert one.ask("courier", "read", back)["pending_changes"] == 0
    (known,) = hub.ask("nodes", "list")["nodes"]
    assert (known["twins_at"], known["clock_error_ms"], known["quarantined"]) == (None, None, 0)
