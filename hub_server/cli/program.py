"""What `hub serve` runs, once it has its socket. Apart from the command, since FastAPI and what it needs load slowly."""

from __future__ import annotations

import os
import socket
from typing import Final

import uvicorn

from hub_server.app import Hub, make_app
from hub_server.cli import console, opening
from hub_server.clock import wall_ms
from hub_server.config import HubConfig
from hub_server.workers import Access, Programs, Threads, collect_seldom

BACKLOG: Final = 512  # a district's centres knocking at once after an outage
MAX_CONNECTIONS: Final = 800  # most of them idle; `gate` bounds requests, this keeps below the usual 1024 open files
KEEP_ALIVE_S: Final = 30  # a 2G link stalls; a request line a minute apart is another request
STOP_TIMEOUT_S: Final = 20  # for requests that are under way


def run(config: HubConfig, taken: socket.socket, workers: int, log_level: str, as_json: bool) -> None:
    """Serve on this socket until told to stop. workers: programs that admit."""
    with opening.hub(config) as at:
        access = Access(at.url, str(config.keys_folder), str(config.ledger_file), log_level)
        admitters = Programs(access, workers) if workers else Threads(at.store, 1, wall_ms)
        app = make_app(
            Hub(
                at.store,
                admitters,
                server_log=at.server_log,
                secure=config.behind_tls_proxy,
                claim_lapse_ms=config.claim_lapse_ms,
            )
        )
        collect_seldom()
        server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                limit_concurrency=MAX_CONNECTIONS,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=STOP_TIMEOUT_S,
            ),
            config,
            _address(taken),
            as_json,
        )
        try:
            server.run(sockets=[taken])
        finally:
            opening.forget_address(config)


class _Server(uvicorn.Server):
    """Prints the address when requests are answered there."""

    def __init__(self, config: uvicorn.Config, hub: HubConfig, address: str, as_json: bool) -> None:
        super().__init__(config)
        self._hub = hub
        self._address = address
        self._as_json = as_json

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            opening.remember_address(self._hub, self._address)
            if self._as_json:
                console.line({"schema": "hub.serve/1", "url": self._address, "pid": os.getpid()})
                console.flush()
            else:
                console.text(f"The hub listens on {self._address}")


def _address(taken: socket.socket) -> str:
    host, port = taken.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
