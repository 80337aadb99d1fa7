"""The pages' encrypted port: its certificate, made anew while the pages are served, and what is told of it.

Rules. HTTPS never stands in the way of HTTP: whatever prevents it is told once under its code, and the pages go on without
it. It begins when there is a certificate: at once where the database is open or the home has one, else when somebody has
unlocked. A new certificate is taken by the next connection; those that are open keep theirs.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from hwc_node import server_certificate
from hwc_node.local_ca import Issued
from hwc_node.web.premises import Https, Premises
from sync_protocol.errors import HealthSyncError, OurFault

LOOK_S: Final = 60.0  # how soon another address of this machine has its certificate
UNLOCKED_LOOK_S: Final = 1.0  # until somebody unlocked: they wait

log = structlog.get_logger("hwc.https")


@dataclass
class Encrypted:
    """The port that was taken for HTTPS, and the certificate that is shown there; none yet where `ready` is false."""

    premises: Premises
    listener: socket.socket
    context: ssl.SSLContext = field(default_factory=lambda: new_context())
    _told: str = ""

    @property
    def host(self) -> str:
        """The address that was taken, also where a name was asked for."""
        return str(self.listener.getsockname()[0])

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    @property
    def ready(self) -> bool:
        return self.premises.https is not None

    def look(self) -> None:
        """Take the certificate that holds now; what prevents a new one is told, and the old one is kept."""
        premises = self.premises
        try:
            if premises.store is not None:
                names = server_certificate.names_of(self.host)
                self._take(server_certificate.current(premises.store, names, premises.now_ms()))
            elif (found := server_certificate.on_disk(premises.config)) is not None:
                self._take(found)
        except HealthSyncError as error:
            self._tell(error.code)
        else:
            self._told = ""

    def _take(self, issued: Issued) -> None:
        if self.premises.https is not None and self.premises.https.issued == issued:
            return
        try:
            self.context.load_cert_chain(self.premises.config.https_path)
        except (OSError, ssl.SSLError):
            raise OurFault("The pages' certificate cannot be used.", code="E_CERTIFICATE") from None
        self.premises.https = Https(self.port, issued)

    def _tell(self, code: str) -> None:
        if code != self._told:
            log.warning("certificate_not_made", code=code)
        self._told = code

    async def watch(self, begin: Callable[[], None]) -> None:
        """Look now and then, until cancelled. begin: called once, when there is a certificate."""
        begun = False
        while True:
            await asyncio.to_thread(self.look)
            if self.ready and not begun:
                begin()
                begun = True
            await asyncio.sleep(LOOK_S if self.premises.store is not None else UNLOCKED_LOOK_S)


def new_context() -> ssl.SSLContext:
    """TLS 1.2 and later, with what this Python and its OpenSSL hold for safe."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
