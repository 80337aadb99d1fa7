"""Many requests to one server, each on a new TCP connection, so many at a time: as cheap as a client can be.

One thread, sockets that do not block, nothing parsed but the end of the answer. What it costs is measured with it, since
on a small machine the client takes its share of the cores.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.places import hold

READ_BYTES: Final = 256 * 1024
PATIENCE_S: Final = 120.0
_HEAD_END: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Knocked:
    """What came of it. answers: bodies, in the order of the requests. seconds: from the first connect to the last byte.

    latencies_s: of each request, from its connect to its last byte. client_s: the client's own time on a processor.
    busy: how often a request was told to come again later.
    """

    answers: list[bytes]
    latencies_s: list[float]
    seconds: float
    client_s: float
    busy: int

    @property
    def a_second(self) -> float:
        return len(self.answers) / self.seconds


@dataclass(slots=True)
class _Knock:
    """One request under way."""

    number: int
    began_s: float
    rest: memoryview
    read: bytearray


def knock(port: int, path: str, bodies: Sequence[bytes], at_once: int) -> Knocked:
    """Send each body, never more than so many at a time. Raises StepFailed unless all are answered with success.

    A request that is told that the hub is busy is sent again: it counts as one request that took longer.
    """
    wanted = deque(range(len(bodies)))
    answers: list[bytes] = [b""] * len(bodies)
    latencies: list[float] = [0.0] * len(bodies)
    busy = 0
    heads = [
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/octet-stream\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        for body in bodies
    ]
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    under_way = 0
    with selectors.DefaultSelector() as selector:
        while wanted or under_way:
            while wanted and under_way < at_once:
                _begin(selector, port, wanted.popleft(), heads, bodies)
                under_way += 1
            ready = selector.select(PATIENCE_S)
            hold(ready, "a server has not answered for two minutes")
            for key, _ in ready:
                one: _Knock = key.data
                if not _go_on(selector, key.fileobj, one):  # type: ignore[arg-type]  # they are all sockets
                    continue
                under_way -= 1
                latencies[one.number] += time.perf_counter() - one.began_s
                status, body = _parsed(bytes(one.read))
                if status == 503:
                    busy += 1
                    wanted.append(one.number)
                else:
                    hold(status == 200, f"a request was answered with {status}")
                    answers[one.number] = body
    seconds, client_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    return Knocked(answers, latencies, seconds, client_s, busy)


def _begin(
    selector: selectors.BaseSelector, port: int, number: int, heads: Sequence[bytes], bodies: Sequence[bytes]
) -> None:
    began_s = time.perf_counter()
    connection = socket.socket()
    connection.setblocking(False)
    connection.connect_ex(("127.0.0.1", port))
    rest = memoryview(heads[number] + bodies[number])
    selector.register(connection, selectors.EVENT_WRITE, _Knock(number, began_s, rest, bytearray()))


def _go_on(selector: selectors.BaseSelector, connection: socket.socket, one: _Knock) -> bool:
    """Send or read some more; whether the answer has ended."""
    if one.rest:
        one.rest = one.rest[connection.send(one.rest) :]
        if not one.rest:
            selector.modify(connection, selectors.EVENT_READ, one)
        return False
    piece = connection.recv(READ_BYTES)
    if piece:
        one.read += piece
        return False
    selector.unregister(connection)
    connection.close()
    return True


def _parsed(whole: bytes) -> tuple[int, bytes]:
    head, found, body = whole.partition(_HEAD_END)
    hold(found, "an answer broke off")
    if b"transfer-encoding: chunked" in head.lower():
        body = _unchunked(body)
    return int(head[9:12]), body


def _unchunked(body: bytes) -> bytes:
    parts: list[bytes] = []
    at = 0
    while True:
        line = body.index(b"\r\n", at)
        size_bytes = int(body[at:line], 16)
        if not size_bytes:
            return b"".join(parts)
        parts.append(body[line + 2 : line + 2 + size_bytes])
        at = line + 4 + size_bytes
