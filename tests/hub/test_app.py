"""The application as a whole: health, metrics, workers that admit what was kept, the clockwork, the log."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from fastapi.testclient import TestClient
from starlette.types import Message

from hub_server import logs, registry
from hub_server.app import Hub, make_app
from hub_server.registry import DAY_MS, SEALED_DAYS
from hub_server.scheduler import Clockwork
from hub_server.workers import Threads
from sync_protocol.envelope import HEADER_BYTES
from sync_protocol.errors import InvalidValue
from sync_protocol.keys import SIGNATURE_BYTES
from tests.hub.bare_node import NOW_MS
from tests.hub.hub_world import HubWorld

MAX_WAIT_S = 120.0


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> HubWorld:
    made = HubWorld.make(database_url, tmp_path / "keys")
    made.facility("HWC1")
    return made


@pytest.fixture
def client(world: HubWorld) -> Iterator[TestClient]:
    app = make_app(Hub(world.store, Threads(world.store, 2, lambda: NOW_MS), now_ms=lambda: NOW_MS))
    with TestClient(app, base_url="http://127.0.0.1", follow_redirects=False) as made:
        yield made


def metric(client: TestClient, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def test_a_running_hub_is_alive_and_ready_and_counts(client: TestClient) -> None:
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").text == "ready\n"
    assert metric(client, "hub_facilities ") == 1
    assert metric(client, 'hub_requests_total{route="/healthz",status="200"}') == 1


def test_metrics_are_not_for_who_comes_through_a_proxy_and_there_is_no_documentation(client: TestClient) -> None:
    assert client.get("/metrics", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 404
    for path in ("/docs", "/redoc", "/openapi.json", "/none"):
        assert client.get(path).status_code == 404


def test_a_page_is_for_who_signed_in_and_for_this_host_and_an_exchange_for_any(client: TestClient) -> None:
    answer = client.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    elsewhere = {"host": "hub.example"}
    assert client.get("/sign-in", headers=elsewhere).status_code == 421
    assert client.get("/healthz", headers=elsewhere).status_code == 200
    assert client.post("/v1/sync", content=b"", headers=elsewhere).status_code != 421


def test_what_is_sent_over_http_is_admitted_by_the_workers(world: HubWorld, client: TestClient) -> None:
    node = world.node("HWC1")
    packed = node.pack([node.write("patient", {"name": "Asha Devi"}) for _ in range(5)])
    asked = node.session()
    body = b"".join(asked.request([node.grant_frame()], [packed.envelope.raw]))
    answer = client.post("/v1/sync", content=body)
    assert answer.status_code == 200
    assert node.read(asked, answer.content).held == packed.envelope.id
    deadline = time.monotonic() + MAX_WAIT_S
    while metric(client, 'hub_changes_total{verdict="admitted"}') < 5:
        assert time.monotonic() < deadline, "the workers did not admit what was kept"
        time.sleep(0.05)
    with world.database.transaction() as connection:
        assert world.store.head(connection, "HWC1").position == 5
    assert metric(client, "hub_segments_pending ") == 0


def test_what_is_no_exchange_is_a_coded_refusal(client: TestClient) -> None:
    answer = client.post("/v1/sync", content=b"GET / HTTP/1.1")
    assert answer.status_code == 400
    assert answer.json()["code"] == "E_NOT_OUR_ANSWER"


def test_a_request_that_never_ends_is_given_up(world: HubWorld) -> None:
    app = make_app(Hub(world.store, Threads(world.store, 1, lambda: NOW_MS), now_ms=lambda: NOW_MS, max_request_s=0.3))
    sent: list[Message] = []

    async def exchange() -> None:
        async def stall() -> Message:
            await asyncio.sleep(MAX_WAIT_S)
            return {"type": "http.disconnect"}

        async def take(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v1/sync", "headers": [], "query_string": b"", "app": app}
        await app(scope, stall, take)

    asyncio.run(exchange())
    assert sent[0]["status"] == 408


def test_a_hub_whose_workers_have_stopped_is_not_ready(world: HubWorld) -> None:
    with TestClient(
        make_app(Hub(world.store, Threads(world.store, 1, lambda: NOW_MS), now_ms=lambda: NOW_MS))
    ) as client:
        assert client.get("/readyz").status_code == 200
    assert client.get("/readyz").status_code == 503


# -- the clockwork -----------------------------------------------------------------------------------------------------


def sent(world: HubWorld) -> bytes:
    node = world.node("HWC1")
    raw = node.pack([node.write("patient", {"name": "Asha Devi"})]).envelope.raw
    world.exchange(node, [raw])
    return raw


def raws(world: HubWorld) -> list[bytes]:
    with world.database.transaction() as connection:
        return [bytes(row[0]) for row in connection.execute("SELECT raw FROM arrival ORDER BY seq").fetchall()]


def test_sealed_bytes_of_admitted_segments_are_dropped_after_35_days_header_and_signature_stay(
    world: HubWorld,
) -> None:
    raw = sent(world)
    world.admit()
    later = NOW_MS + SEALED_DAYS * DAY_MS
    assert Clockwork(world.store, lambda: later).drop_sealed() == 0
    assert raws(world) == [raw]
    assert Clockwork(world.store, lambda: later + 1).drop_sealed() == 1
    assert raws(world) == [raw[:HEADER_BYTES] + raw[-SIGNATURE_BYTES:]]
    assert Clockwork(world.store, lambda: later + 1).drop_sealed() == 0


def test_what_is_not_admitted_or_waits_for_a_person_keeps_its_bytes(world: HubWorld) -> None:
    raw = sent(world)  # kept, never admitted
    much_later = NOW_MS + 400 * DAY_MS
    assert Clockwork(world.store, lambda: much_later).drop_sealed() == 0
    world.admit()
    with world.database.transaction() as connection:
        connection.execute(
            "INSERT INTO quarantine (facility, node, segment, row, kind, reason, at_ms, verdict)"
            " SELECT facility, node, segment, 0, '', 'E_NOT_ALLOWED', 0, 'open' FROM arrival"
        )
    assert Clockwork(world.store, lambda: much_later).drop_sealed() == 0
    assert raws(world) == [raw]


def test_the_clockwork_runs_at_the_start(world: HubWorld) -> None:
    sent(world)
    world.admit()
    clockwork = Clockwork(world.store, lambda: NOW_MS + 36 * DAY_MS)
    clockwork.start()
    deadline = time.monotonic() + MAX_WAIT_S
    while any(len(raw) > 200 for raw in raws(world)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    clockwork.stop()


def test_databases_that_a_restore_set_aside_are_dropped_after_35_days_and_no_other(world: HubWorld) -> None:
    now_ms = NOW_MS + 2 * SEALED_DAYS * DAY_MS
    with world.database.outside_transactions() as connection:
        row = connection.execute("SELECT current_database()").fetchone()
        assert row is not None
        name = str(row[0])
        old, young = f"{name}_before_{NOW_MS}", f"{name}_before_{now_ms - SEALED_DAYS * DAY_MS}"
        others = {f"{name}_before_monday", f"{name}x_before_{NOW_MS}"}
        for one in (old, young, *others):
            connection.execute(f"CREATE DATABASE {one} TEMPLATE template0".encode())
        try:
            assert Clockwork(world.store, lambda: now_ms).drop_set_aside() == 1
            assert Clockwork(world.store, lambda: now_ms).drop_set_aside() == 0
            left = {row[0] for row in connection.execute("SELECT datname FROM pg_database").fetchall()}
            assert left >= {name, young, *others}
            assert old not in left
        finally:
            for one in (old, young, *others):
                connection.execute(f"DROP DATABASE IF EXISTS {one}".encode())


def test_the_epoch_names_the_database(world: HubWorld) -> None:
    with world.database.transaction() as connection:
        first = registry.epoch(connection)
    with world.database.transaction() as connection:
        assert registry.epoch(connection) == first
    assert len(first) == 8


# -- the log -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    out = io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    before = (logging.getLogger().handlers[:], logging.getLogger().level)
    logs.configure("info")
    yield out
    logging.getLogger().handlers = before[0]
    logging.getLogger().setLevel(before[1])
    structlog.reset_defaults()


def test_the_log_is_json_and_tells_an_error_by_type_and_place_never_by_its_text(written: io.StringIO) -> None:
    log = structlog.get_logger("hub.test")
    try:
        raise InvalidValue("the name Asha Devi is too long", code="E_INVALID_VALUE")
    except InvalidValue:
        log.exception("refused", facility="HWC1")
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    text = written.getvalue()
    assert "Asha" not in text
    first, second = map(json.loads, text.splitlines())
    assert first["event"] == "refused"
    assert (first["error"], first["code"], first["facility"]) == ("InvalidValue", "E_INVALID_VALUE", "HWC1")
    assert first["places"][0].startswith("test_app.py:")
    assert second["error"] == "InvalidValue"


def test_what_is_below_the_level_is_not_written(written: io.StringIO) -> None:
    structlog.get_logger("hub.test").debug("detail")
    assert written.getvalue() == ""
