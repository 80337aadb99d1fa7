"""The baseline of `exchange`: what nobody who keeps signed segments can do without, behind the same HTTP server.

It reads a request, verifies the two Ed25519 signatures, and writes the sealed bytes by COPY, the segments of all
exchanges that came meanwhile in one commit with fsync; then it says "kept". It looks up no cursor and no nonce, signs
nothing, opens nothing, admits nothing. `DATABASE_URL` names its database, which has the hub's nodes.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any, Final

import psycopg
import uvicorn
from starlette.types import Receive, Scope, Send

from sync_protocol.keys import EnvironmentId, Verifier
from sync_protocol.session import HelloArrived, HubSession, SegmentArrived

KEPT: Final = b"kept"
BACKLOG: Final = 512  # as the hub's

Row = tuple[bytes, bytes, bytes]


class Skeleton:
    def __init__(self, url: str, environment: EnvironmentId) -> None:
        self._environment = environment
        self._connection = psycopg.connect(url)
        rows = self._connection.execute("SELECT node, signing_key FROM node").fetchall()
        self._connection.execute("CREATE TABLE skeleton (node bytea, segment bytea, raw bytea)")
        self._connection.commit()
        self._verifiers = {bytes(node): Verifier(bytes(key)) for node, key in rows}
        self._waiting: list[tuple[Row, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/readyz":
            await _answer(send, b"ready")
            return
        body, more = bytearray(), True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        session = HubSession(self._environment)
        kept: list[asyncio.Future[None]] = []
        for event in session.read(bytes(body)):
            if isinstance(event, HelloArrived):
                node = event.hello.node
                for one in session.identify(self._verifiers[node]):
                    if isinstance(one, SegmentArrived):
                        kept.append(self._keep((node, one.envelope.id, one.envelope.raw)))
        session.finish()
        await asyncio.gather(*kept)
        await _answer(send, KEPT)

    def _keep(self, row: Row) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write())
        return done

    async def _write(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            await asyncio.to_thread(self._copy, [row for row, _ in group])
            for _, done in group:
                done.set_result(None)

    def _copy(self, rows: list[Row]) -> None:
        with self._connection.cursor() as cursor, cursor.copy("COPY skeleton FROM STDIN (FORMAT binary)") as copy:
            for row in rows:
                copy.write_row(row)
        self._connection.commit()


async def _answer(send: Send, body: bytes) -> None:
    headers: list[Any] = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    uvicorn.run(
        Skeleton(os.environ["DATABASE_URL"], EnvironmentId(bytes.fromhex(os.environ["ENVIRONMENT_ID"]))),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        lifespan="off",
        log_level="error",
        access_log=False,
        backlog=BACKLOG,
        server_header=False,
        date_header=False,
    )
