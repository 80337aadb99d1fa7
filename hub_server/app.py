"""Puts the hub's parts together: the web application, its admitting workers, its clockwork, health and metrics.

``/healthz`` says that the process answers, ``/readyz`` that the database does and every worker lives, ``/metrics`` what
Prometheus counts. They are for this machine: a request that a proxy passed on gets 404 for the metrics. No page of
documentation, no address, header or body of a request is logged; a route is counted by its name.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub_server import registry, web
from hub_server.claim_locks import DEFAULT_LAPSE_MS
from hub_server.clock import wall_ms
from hub_server.glances import Glances
from hub_server.intake import Admitted
from hub_server.scheduler import Clockwork
from hub_server.store import Store
from hub_server.sync_api import SyncEdge, make_router
from hub_server.web import guards
from hub_server.workers import Workers

ROUTES: Final = ("/v1/sync", "/v1/enrol", "/v1/keys", "/healthz", "/readyz", "/metrics")
API: Final = ("/v1/", "/healthz", "/readyz", "/metrics")  # what programs ask, not browsers
MAX_REQUEST_S: Final = (
    900.0  # the largest request on the slowest link takes a few minutes; nothing is waited for longer
)
_FORWARDED: Final = (b"forwarded", b"x-forwarded-for", b"x-real-ip")
_BUCKETS_S: Final = (0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300)  # 300 s: 64 KiB on the slowest link, with stalls

log = structlog.get_logger("hub.app")


@dataclass(frozen=True, slots=True)
class Hub:
    """What the application is made of. workers: who admits; server_log: of the hub's own PostgreSQL, if any.

    secure: a TLS proxy stands in front, so that pages' cookies are for HTTPS only. claim_lapse_ms: after how long a
    doctor's claim keeps nobody away.
    """

    store: Store
    workers: Workers
    now_ms: Callable[[], int] = wall_ms
    max_request_s: float = MAX_REQUEST_S
    server_log: Path | None = None
    secure: bool = False
    claim_lapse_ms: int = DEFAULT_LAPSE_MS


class _Standing(Collector):
    """Gauges read from the database when they are asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        if not self._store.database.is_ready():
            return  # /readyz tells it
        with self._store.database.transaction() as connection:
            counts = registry.counts(connection)
        for name, said, value in (
            ("hub_segments_pending", "Segments that wait to be admitted", counts.pending_to_admit),
            ("hub_segments_waiting_for_grant", "Segments whose key has not arrived", counts.waiting_for_grant),
            ("hub_quarantine_open", "Entries that wait for a person", counts.quarantined),
            ("hub_facilities", "Facilities", counts.facilities),
            ("hub_nodes", "Nodes that are not revoked", counts.nodes),
        ):
            yield GaugeMetricFamily(name, said, value=value)


class Metrics:
    """What is counted, under the words of the verdicts."""

    def __init__(self, store: Store) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Standing(store))
        self.segments = Counter("hub_segments_taken_up", "Segments taken up for admission", registry=self.registry)
        self.changes = Counter("hub_changes", "Changes by verdict", ["verdict"], registry=self.registry)
        self.failures = Counter(
            "hub_admission_failures", "Passes that failed as a whole", ["error"], registry=self.registry
        )
        self.sign_ins = Counter("hub_sign_ins", "Steps of signing in by verdict", ["verdict"], registry=self.registry)
        self.requests = Counter("hub_requests", "Requests", ["route", "status"], registry=self.registry)
        self.seconds = Histogram(
            "hub_request_seconds", "Time to answer", ["route"], buckets=_BUCKETS_S, registry=self.registry
        )

    def admitted(self, done: Admitted) -> None:
        self.segments.inc(done.segments)
        for verdict, count in (
            ("admitted", done.changes),
            ("already_held", done.already_held),
            ("quarantined", done.quarantined),
        ):
            self.changes.labels(verdict).inc(count)
        log.info(
            "admitted",
            segments=done.segments,
            changes=done.changes,
            already_held=done.already_held,
            quarantined=done.quarantined,
        )

    def signed_in(self, verdict: str) -> None:
        self.sign_ins.labels(verdict).inc()

    def failed(self, name: str) -> None:
        self.failures.labels(name).inc()
        log.warning("admission_failed", error=name)


class _Counting:
    """Counts, logs and bounds each request by its route; sees neither headers nor bodies."""

    def __init__(self, app: ASGIApp, metrics: Metrics, limit_s: float) -> None:
        self._app = app
        self._metrics = metrics
        self._limit_s = limit_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        route = scope["path"] if scope["path"] in ROUTES else "other"
        begun, status, begun_answer = time.perf_counter(), 500, False

        async def watch(message: Message) -> None:
            nonlocal status, begun_answer
            if message["type"] == "http.response.start":
                status, begun_answer = message["status"], True
            await send(message)

        try:
            async with asyncio.timeout(self._limit_s):
                await self._app(scope, receive, watch)
        except TimeoutError:
            log.warning("request_timed_out", route=route)
            if not begun_answer:
                await Response(status_code=408)(scope, receive, watch)
        finally:
            seconds = time.perf_counter() - begun
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            if route.startswith("/v1/") or status >= 500:
                log.info("request", route=route, status=status, ms=round(seconds * 1000))


def make_app(hub: Hub) -> FastAPI:
    """The application; its workers and its clockwork run while it does."""
    metrics = Metrics(hub.store)
    with hub.store.database.transaction() as connection:
        epoch = registry.epoch(connection)
    edge = SyncEdge(hub.store, hub.workers.wake, hub.now_ms, epoch)
    glances = Glances(hub.store)
    clockwork = Clockwork(hub.store, hub.now_ms, hub.server_log, glances)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(hub.workers.start, metrics.admitted, metrics.failed)
        clockwork.start()
        log.info("started")
        try:
            yield
        finally:
            await run_in_threadpool(edge.close)
            await run_in_threadpool(hub.workers.stop)
            await run_in_threadpool(clockwork.stop)
            log.info("stopped")

    app = FastAPI(title="hub", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.include_router(make_router(edge, hub.store))
    _add_health(app, hub, metrics)
    web.add_pages(
        app,
        hub.store,
        glances,
        hub.now_ms,
        secure=hub.secure,
        counted=metrics.signed_in,
        claim_lapse_ms=hub.claim_lapse_ms,
    )
    guards.add(app, web.broken, API, ("*",) if hub.secure else ())
    app.add_middleware(_Counting, metrics=metrics, limit_s=hub.max_request_s)
    return app


def _add_health(app: FastAPI, hub: Hub, metrics: Metrics) -> None:
    @app.get("/healthz")
    async def healthz() -> Response:
        return Response("alive\n", media_type="text/plain")

    @app.get("/readyz")
    async def readyz() -> Response:
        if not await run_in_threadpool(hub.store.database.is_ready):
            return Response("the database does not answer\n", 503, media_type="text/plain")
        if not hub.workers.alive:
            return Response("an admitting worker is not there\n", 503, media_type="text/plain")
        return Response("ready\n", media_type="text/plain")

    @app.get("/metrics")
    async def told(request: Request) -> Response:
        if any(name in _FORWARDED for name, _ in request.scope["headers"]):
            return Response(status_code=404)
        return Response(
            await run_in_threadpool(generate_latest, metrics.registry), headers={"content-type": CONTENT_TYPE_LATEST}
        )
