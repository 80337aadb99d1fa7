"""A centre that serves its pages over HTTP and HTTPS, as a program of its own, and a browser that asks over real TLS."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import places
from bench.places import free_port
from tests.node.enrolled_home import PASSPHRASE, PERSON_NAME, Home
from tests.node.served_centre import ROOT

PATIENCE_S = 120.0


@dataclass
class Served:
    """A centre that serves. told: what it says on stderr."""

    program: subprocess.Popen[bytes]
    plain: str
    encrypted: str
    told: Path

    def certificate(self) -> bytes:
        return read(f"{self.plain}certificate/centre.crt")

    def trusting(self) -> ssl.SSLContext:
        """A browser with this centre's certificate, and no other."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.certificate())
        return context

    def stopped(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.program.send_signal(number)
        return self.program.wait(PATIENCE_S)


@contextmanager
def serving(home: Home, *words: str, port: int | None = None, **environ: str) -> Iterator[Served]:
    """`hwc serve` at a port of its own, its pages answering. port: of HTTPS."""
    chosen = {"HWC_HOME": str(home.config.home), "HWC_PASSPHRASE": PASSPHRASE, "HWC_PERSON_NAME": PERSON_NAME}
    told, secure = home.config.home.parent / "told", port or free_port()
    with told.open("wb") as errors:
        program = subprocess.Popen(
            [str(places.BIN / "hwc"), "serve", "--port", "0", "--https-port", str(secure), *words],
            env={**os.environ, **chosen, **environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    assert program.stdout is not None
    try:
        plain = program.stdout.readline().decode().removeprefix("serving ").strip()
        yield Served(program, plain.replace("0.0.0.0", "127.0.0.1"), f"https://127.0.0.1:{secure}/", told)
    finally:
        program.kill()
        program.wait(PATIENCE_S)
        program.stdout.close()


def read(address: str, context: ssl.SSLContext | None = None, headers: dict[str, str] | None = None) -> bytes:
    """What is there; waited for while nothing answers yet."""
    no_proxy, until_s = urllib.request.ProxyHandler({}), time.monotonic() + PATIENCE_S
    opener = urllib.request.build_opener(no_proxy, urllib.request.HTTPSHandler(context=context))
    while True:
        try:
            with opener.open(urllib.request.Request(address, headers=headers or {}), timeout=PATIENCE_S) as answer:
                return bytes(answer.read())
        except urllib.error.URLError as error:
            refused = isinstance(error.reason, ConnectionRefusedError | ConnectionResetError)
            if not refused or time.monotonic() > until_s:
                raise
            time.sleep(0.1)
