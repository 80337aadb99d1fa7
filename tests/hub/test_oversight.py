"""`hub audit` and `hub stats`: the chain of who read what, and the service in numbers."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from tests.hub.command_line import REPLY, Terminal, add_doctor, consultation, terminal


@pytest.fixture
def hub(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Terminal:
    return terminal(database_url, tmp_path, monkeypatch, capfdbinary)


def answered(hub: Terminal, url: str, folder: Path) -> None:
    _, referral, _ = consultation(hub, url)
    add_doctor(hub)
    file = folder / "reply.json"
    file.write_text(json.dumps(REPLY))
    assert hub("reply", referral, "--as", "dr.rao", "--file", str(file)).status == 0
    assert hub("export", "--facility", "HWC1").status == 0


def test_the_audit_is_verified_and_printed_without_patients_data(
    hub: Terminal, database_url: str, tmp_path: Path
) -> None:
    answered(hub, database_url, tmp_path)
    sound = hub("audit", "verify", "--json").json
    assert (sound["sound"], sound["broken_at"]) == (True, None)
    lines = hub("audit", "export").lines
    assert len(lines) == sound["rows"] > 1
    assert lines[-1]["hash"] == sound["head"]
    assert {one["actor"] for one in lines} >= {"person dr.rao"}
    assert [one["number"] for one in hub("audit", "export", "--after", "1").lines] == [
        one["number"] for one in lines[1:]
    ]
    assert "Asha" not in json.dumps(lines)
    assert hub("audit").out == hub("audit", "verify").out
    assert hub("audit", "--json").json == hub("audit", "verify", "--json").json


def test_an_altered_audit_is_found(hub: Terminal, database_url: str, tmp_path: Path) -> None:
    answered(hub, database_url, tmp_path)
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE audit SET actor = 'nobody' WHERE seq = 1")
    broken = hub("audit", "verify", "--json")
    assert (broken.status, broken.json["sound"], broken.json["broken_at"]) == (6, False, 1)
    assert "broken at entry 1" in hub("audit", "verify").out


@pytest.mark.parametrize("by", ["state", "district", "facility", "day"])
def test_stats_count_consultations_referrals_and_answers(
    hub: Terminal, database_url: str, tmp_path: Path, by: str
) -> None:
    empty = hub("stats", "--by", by, "--json").json
    assert empty["rows"] == []
    assert "Nothing has arrived" in hub("stats").err
    hub("facility", "add", "HWC1", "HWC Rampur", "--district", "Sehore", "--state", "Madhya Pradesh")
    answered(hub, database_url, tmp_path)
    rows = hub("stats", "--by", by, "--json").json["rows"]
    assert sum(row["consultations"] for row in rows) == sum(row["referrals"] for row in rows) == 1
    assert sum(row["answered"] for row in rows) == 1
    names = {"state": "Madhya Pradesh", "district": "Madhya Pradesh / Sehore", "facility": "HWC1", "day": "2023-11-15"}
    assert rows[0]["name"] == names[by]
    assert "Asha" not in hub("stats", "--by", by).out


def test_stats_begin_with_a_day_and_refuse_what_is_none(hub: Terminal, database_url: str, tmp_path: Path) -> None:
    answered(hub, database_url, tmp_path)
    assert hub("stats", "--since", "2020-01-01", "--json").json["rows"]
    assert hub("stats", "--since", "2090-01-01", "--json").json["rows"] == []
    bad = hub("stats", "--since", "yesterday")
    assert (bad.status, "E_BAD_DAY" in bad.err) == (1, True)
    assert hub("stats", "--by", "doctor").status == 2
