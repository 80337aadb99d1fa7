"""What answers at a hub's address, over real HTTP on this machine: a paper hub, or somebody hostile in its place.

A trick takes the place of the honest answer to a sync: it gets the request and the hub, and writes to the link whatever
it likes. Without one the paper hub answers, enrolment included. Every request is counted by its path.
"""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.node.paper_hub import PaperHub

PATIENCE_S = 120.0
OCTETS = "application/octet-stream"
HTML = "text/html; charset=utf-8"
PORTAL = b"<!DOCTYPE html><html><title>Free Wi-Fi</title><form action=/login><input name=phone></form></html>"


class Request(BaseHTTPRequestHandler):
    """One request as it came, and the link that its answer goes to."""

    protocol_version = "HTTP/1.1"
    body = b""

    @property
    def peer(self) -> Peer:
        assert isinstance(self.server, _Server)
        return self.server.peer

    def do_GET(self) -> None:
        self.peer.counts[self.path] += 1
        if self.path == "/v1/keys":
            self.reply(200, self.peer.hub.keys_document())
        else:
            self.reply(200, PORTAL, HTML)

    def do_POST(self) -> None:
        self.peer.counts[self.path] += 1
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/enrol":
            self.reply(*self.peer.hub.enrol(self.body))
        elif self.peer.trick is None:
            self.reply(200, self.honest())
        else:
            self.peer.trick(self)

    def honest(self) -> bytes:
        """The paper hub's answer; what was sent is kept."""
        with self.peer.lock:
            answer = self.peer.last_answer = self.peer.hub.answer(self.body)
        return answer

    def reply(self, status: int, body: bytes = b"", kind: str = OCTETS, **headers: str) -> None:
        """A whole answer."""
        self.begin(status, kind, Content_Length=str(len(body)), **headers)
        self.put(body)

    def begin(self, status: int, kind: str = OCTETS, **headers: str) -> None:
        """The head of an answer; without a length it ends with its link."""
        self.close_connection = "Content_Length" not in headers
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def put(self, piece: bytes) -> bool:
        """Whether there was still somebody to take it."""
        with suppress(OSError):
            self.wfile.write(piece)
            self.wfile.flush()
            return True
        self.close_connection = True
        return False

    def break_off(self) -> None:
        """Cut the link as a cable does, without a word."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


Trick = Callable[[Request], None]


class Peer:
    """Answers at `url` until its block is left."""

    def __init__(self, hub: PaperHub) -> None:
        self.hub = hub
        self.trick: Trick | None = None
        self.lock = threading.Lock()
        self.leaving = threading.Event()
        self.counts: Counter[str] = Counter()
        self.last_answer = b""
        self._server = _Server(self)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def new_code(self, facility: str) -> str:
        return self.hub.new_code(facility, self.url)

    def refusal(self, code: str) -> Trick:
        """The hub's own way to refuse."""
        told = {"code": code, "message": "this is not to be", "next": ""}
        return lambda request: request.reply(403, json.dumps(told).encode(), "application/json")

    @contextmanager
    def answering(self) -> Iterator[Peer]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.leaving.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join(PATIENCE_S)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        super().__init__(("127.0.0.1", 0), Request)

    def handle_error(self, *_: Any) -> None:
        """A link that the other side cut: the tests look at what came of it."""
