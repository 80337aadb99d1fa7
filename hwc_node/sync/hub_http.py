"""HTTP to the hub: the only `httpx`, which is loaded when a link is opened (see `connecting`).

Rules. Certificates are verified; `http` is for this machine itself, unless the settings say otherwise. No redirect is
followed. Answers are read as a stream, and whoever reads sets the limit. Errors carry no bytes of an answer, but a
refusal in the hub's own form, whose code and sentence are checked for form first. It refuses to know what is carried.
"""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

import httpx

from hwc_node.config import NodeConfig
from hwc_node.sync.link import LINK_BROKE, Body, HubOutOfReach, RefusedByHub
from sync_protocol.errors import NotOurAnswer, OurFault, TheirBytes, TooLarge

MEDIA_TYPE: Final = "application/octet-stream"
READ_BYTES: Final = 16 * 1024  # a piece of the answer: on 2G four seconds, so that progress is seen
MAX_REFUSAL_BYTES: Final = 4 * 1024  # a refusal is three short texts
MAX_RETRY_AFTER_S: Final = 3_600.0
_CODE: Final = re.compile(r"E_[A-Z0-9_]{1,40}")
_NOT_ENROLLED: Final = frozenset(
    "E_UNKNOWN_NODE E_OTHER_ENVIRONMENT E_REVOKED E_CODE_UNKNOWN E_CODE_USED E_CODE_EXPIRED E_NODE_EXISTS".split()
)


class HubClient:
    """A connection to one hub, kept open between requests. Of one thread."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._link: Any = None

    @contextmanager
    def post(self, path: str, body: Body) -> Iterator[Iterator[bytes]]:
        """Send, check the status, give the answer piece by piece. Raises HubOutOfReach, RefusedByHub, TheirBytes."""
        headers = {"Content-Type": MEDIA_TYPE, "Content-Length": str(body.size_bytes)}
        with self._answer("POST", path, body, content=iter(body), headers=headers) as response:
            yield response.iter_raw(READ_BYTES)

    def post_document(self, path: str, document: bytes, limit_bytes: int) -> bytes:
        """One small document for another."""
        with self.post(path, Body([document])) as pieces:
            return _whole(pieces, limit_bytes)

    def get_document(self, path: str, limit_bytes: int) -> bytes:
        with self._answer("GET", path, Body([])) as response:
            return _whole(response.iter_raw(READ_BYTES), limit_bytes)

    @contextmanager
    def _answer(self, method: str, path: str, body: Body, **request: Any) -> Iterator[httpx.Response]:
        """An answer with status 200, which ends in bounded time.

        The client's timeouts bound each silence, so an answer that drips would go on for ever: its link is cut.
        """
        watch = threading.Timer(body.left_s, self._cut)
        watch.daemon = True
        watch.start()
        extensions = {"trace": self._note_link}
        try:
            with _translated(body), self._client.stream(method, path, extensions=extensions, **request) as response:
                _check_status(response)
                yield response
        finally:
            watch.cancel()

    def _note_link(self, event: str, told: Mapping[str, Any]) -> None:
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._link = told["return_value"]

    def _cut(self) -> None:
        with suppress(OSError, AttributeError):  # closed a moment ago, or not open yet, which has its own timeout
            self._link.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


def _whole(pieces: Iterator[bytes], limit_bytes: int) -> bytes:
    whole = bytearray()
    for piece in pieces:
        whole += piece
        if len(whole) > limit_bytes:
            raise TooLarge("The hub's answer is larger than it can be.")
    return bytes(whole)


@contextmanager
def open_hub(config: NodeConfig, url: str, timeout_s: float | None = None) -> Iterator[HubClient]:
    """A client for the hub at that address. timeout_s: of all silence, if shorter than the settings say.

    The environment's proxies are used for other machines only. Raises OurFault (``E_HUB_ADDRESS``).
    """
    address = hub_address(config, url)
    silence_s, connect_s = config.answer_timeout_s, config.connect_timeout_s
    if timeout_s is not None:
        silence_s, connect_s = min(silence_s, max(timeout_s, 0.1)), min(connect_s, max(timeout_s, 0.1))
    parsed = httpx.URL(address)
    with httpx.Client(
        base_url=address,
        verify=_trusted(parsed),
        timeout=httpx.Timeout(silence_s, connect=connect_s),
        follow_redirects=False,
        trust_env=not _is_loopback(parsed.host),
        headers={"Accept-Encoding": "identity", "User-Agent": "hwc/1"},
    ) as client:
        yield HubClient(client)


def _trusted(url: httpx.URL) -> ssl.SSLContext | bool:
    """Whose certificates are taken: where none is asked for nobody's, since reading all of them takes a while."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if url.scheme == "http" else True


def hub_address(config: NodeConfig, url: str) -> str:
    """The hub's address without a slash at its end. Raises OurFault (``E_HUB_ADDRESS``).

    ``http`` only to this machine itself, unless the settings allow it: frames are sealed, but who speaks is not secret.
    """
    try:
        parsed = httpx.URL(url.rstrip("/"))
        usable = parsed.scheme in ("http", "https") and bool(parsed.host) and not parsed.userinfo and not parsed.query
    except httpx.InvalidURL:
        usable = False
    if not usable:
        raise OurFault("The hub's address has to look like https://hub.example.org.", code="E_HUB_ADDRESS")
    allowed = getattr(config, "allow_insecure_hub", False)
    if parsed.scheme == "http" and not _is_loopback(parsed.host) and not allowed:
        raise OurFault(
            "The hub's address is http, which lets anyone on the way see who speaks with it.",
            code="E_HUB_ADDRESS",
            next_step="Use https, or set allow_insecure_hub where a VPN protects the way.",
        )
    return str(parsed)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _translated(body: Body) -> Iterator[None]:
    """The project's errors for those of the link."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
        if "CERTIFICATE" in str(error).upper():
            raise HubOutOfReach(
                "The certificate at the hub's address is not to be trusted.",
                next_step="Check the address and this device's date, or log in to the network first. All is kept.",
            ) from None
        raise HubOutOfReach("The hub cannot be reached.") from None
    except (httpx.HTTPError, httpx.StreamError):
        body.check_time()
        if body.begun:
            raise HubOutOfReach("The link broke during the exchange.", code=LINK_BROKE) from None
        raise HubOutOfReach("The hub cannot be reached.") from None


def _check_status(response: httpx.Response) -> None:
    """Raise unless the status is 200."""
    status = response.status_code
    if status == httpx.codes.OK:
        return
    if status in (httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.TOO_MANY_REQUESTS):
        asked = response.headers.get("Retry-After", "")
        wait_s = min(float(asked), MAX_RETRY_AFTER_S) if re.fullmatch(r"[0-9]{1,6}", asked) else 0.0
        step = f"Everything is kept here. Try again in {wait_s:.0f} seconds." if wait_s else ""
        raise HubOutOfReach("The hub is busy.", code="E_HUB_BUSY", next_step=step, retry_after_s=wait_s)
    if status == httpx.codes.REQUEST_TIMEOUT:
        raise HubOutOfReach("The link was so slow that the hub gave the exchange up.", code=LINK_BROKE)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise HubOutOfReach(f"The hub failed to answer (status {status}).", code="E_HUB_FAILED")
    code, message = _refusal(response)
    if not code:
        raise HubOutOfReach(
            f"Something between here and the hub answered in its place (status {status}).",
            code=NotOurAnswer.default_code,
            next_step="A network may want a login first. Everything is kept here.",
        )
    if code in _NOT_ENROLLED:
        raise RefusedByHub(message, code=code, next_step="Ask the hub's operator; everything is kept here.")
    raise TheirBytes(message, code=code)


def _refusal(response: httpx.Response) -> tuple[str, str]:
    """Code and sentence of a refusal in the hub's form; two empty texts for anything else."""
    whole = bytearray()
    with suppress(httpx.HTTPError, httpx.StreamError):
        for piece in response.iter_raw(MAX_REFUSAL_BYTES):
            whole += piece
            if len(whole) > MAX_REFUSAL_BYTES:
                return "", ""
    try:
        told: Any = json.loads(bytes(whole))
    except (ValueError, RecursionError):
        return "", ""
    code = told.get("code") if isinstance(told, dict) else None
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        return "", ""
    message = told.get("message")
    plain = isinstance(message, str) and message.isprintable() and 0 < len(message) <= 200
    return code, f"The hub refused: {message}" if plain else "The hub refused."
