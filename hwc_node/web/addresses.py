"""Which of its addresses a page was asked for at: encrypted or not, on this computer or over the Wi-Fi.

Rules. Over HTTPS a session's cookie has a name that a browser takes only from HTTPS, for this host and no other
(``__Host-``, RFC 6265bis §4.1.3.2); over HTTP it has another, so that neither stands in the other's way. HTTPS is
offered and never demanded: no answer says Strict-Transport-Security, which would shut out phones without the certificate.
"""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from typing import Final

from fastapi import Request

from hwc_node.lan import LOCALHOST
from hwc_node.web.premises import Premises
from sync_protocol.pages.guarding import host_name

PLAIN_COOKIE: Final = "hwc_session"
ENCRYPTED_COOKIE: Final = "__Host-hwc_session"
HTTPS: Final = "https"
HTTPS_PORT: Final = 443


def is_encrypted(request: Request) -> bool:
    return request.scope.get("scheme") == HTTPS


def hostname_of(request: Request) -> str:
    """The name or address that this request was sent to, without a port."""
    return host_name(request.headers.get("host", ""))


def cookie_of(request: Request) -> str:
    """What the session's cookie is called, the way that this request came."""
    return ENCRYPTED_COOKIE if is_encrypted(request) else PLAIN_COOKIE


def token_of(request: Request) -> str:
    """The token that this browser holds for the way it came; empty without one."""
    return request.cookies.get(cookie_of(request), "")


def is_this_computer(hostname: str) -> bool:
    """Whether a browser that names this host runs on the centre's computer itself. hostname: without a port."""
    with suppress(ValueError):
        return ipaddress.ip_address(hostname).is_loopback
    return hostname == LOCALHOST


def is_trusted(scheme: str, hostname: str) -> bool:
    """Whether a browser trusts the origin of a page, and lets it have a camera (W3C Secure Contexts §3.1)."""
    return scheme == HTTPS or is_this_computer(hostname)


def safe_address(request: Request, path: str) -> str:
    """The encrypted address of a page that was asked for over the Wi-Fi without encryption; empty where there is none.

    path: of a page that can be asked for (GET). Only a name that the server's certificate has is offered.
    """
    premises: Premises = request.app.state.premises
    hostname = hostname_of(request)
    if premises.https is None or is_encrypted(request) or is_this_computer(hostname):
        return ""
    if hostname not in {str(name) for name in premises.https.issued.names}:
        return ""
    return at(hostname, premises.https.port, path)


def at(hostname: str, port: int, path: str, scheme: str = HTTPS) -> str:
    """An address of these pages. hostname: a name or an address, of IPv6 without its brackets."""
    host = f"[{hostname}]" if ":" in hostname else hostname
    return f"{scheme}://{host}{'' if port == HTTPS_PORT and scheme == HTTPS else f':{port}'}{path}"
