"""The log of the hub's own PostgreSQL stays within its bound while the server writes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import psycopg
import pytest

from hub_server.cli import opening
from hub_server.config import load
from hub_server.pg_programs import KEPT_LOG_BYTES, MAX_LOG_BYTES, bound_log
from hub_server.postgres import Running
from hub_server.scheduler import Clockwork
from tests.hub.hub_world import HubWorld

NOW_MS: Final = 1_770_000_000_000
LIMIT_BYTES: Final = 10_000
PATIENCE_S: Final = 120.0


def complain(url: str, words: str, times: int) -> None:
    """Let the server write that many warnings."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            f"DO $$ BEGIN FOR n IN 1..{times} LOOP RAISE WARNING '{words} % .', n; END LOOP; END $$".encode()
        )


def test_a_log_that_grew_is_emptied_under_the_running_server_and_its_newest_part_kept(
    postgres_cluster: Running, database_url: str
) -> None:
    assert postgres_cluster.cluster is not None
    log = postgres_cluster.cluster.log_file
    complain(database_url, "early", 400)
    assert bound_log(log, LIMIT_BYTES)
    assert b"early" not in log.read_bytes(), "it is empty, but for what the server has to say of something else"
    older = log.with_suffix(".log.1")
    assert "early 400 ." in older.read_text()
    assert older.stat().st_mode & 0o777 == 0o600

    complain(database_url, "late", 3)
    written = log.read_bytes()
    assert b"late 3 ." in written
    assert b"\0" not in written, "the server goes on where the file ends now"
    assert not bound_log(log, LIMIT_BYTES)
    assert log.read_bytes().startswith(written)


def test_the_kept_part_is_bounded_too_and_no_link_is_followed(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    assert not bound_log(log)
    log.write_bytes(b"x" * (MAX_LOG_BYTES + 1))
    assert bound_log(log)
    assert log.with_suffix(".log.1").stat().st_size == KEPT_LOG_BYTES
    precious = tmp_path / "precious"
    precious.write_bytes(b"x" * (MAX_LOG_BYTES + 1))
    log.unlink()
    log.symlink_to(precious)
    with pytest.raises(OSError, match="symbolic"):
        bound_log(log)
    assert precious.stat().st_size == MAX_LOG_BYTES + 1


def test_the_clockwork_of_a_serving_hub_looks_after_it(database_url: str, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(b"x" * (MAX_LOG_BYTES + 1))
    world = HubWorld.make(database_url, tmp_path / "keys")
    clockwork = Clockwork(world.store, lambda: NOW_MS, log)
    clockwork.start()
    deadline_s = time.monotonic() + PATIENCE_S
    while log.stat().st_size:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    clockwork.stop()
    world.database.close()


def test_a_hub_with_its_own_postgresql_names_that_log_and_one_with_another_names_none(
    hub_folder: Path, database_url: str
) -> None:
    with opening.hub(load(hub_folder / "one", {}, {"pg_folder": hub_folder / "pg"})) as at:
        assert at.private
        assert at.server_log is not None
        assert os.path.samefile(at.server_log.parent, hub_folder / "pg")
        assert at.server_log.is_file()
    with opening.hub(load(hub_folder / "two", {}, {"database_url": database_url})) as at:
        assert at.server_log is None
