"""What every request to the pages passes and every answer gets, on both sides; each side's server carries it out.

A request names the machine it is meant for: another name would be a page of the internet that had its own name point
here (DNS rebinding). What changes something comes from these pages, as far as the browser says whence. An answer is kept
by nobody, loads nothing from elsewhere, and runs only the scripts that carry this answer's nonce.
"""

from __future__ import annotations

import ipaddress
from typing import Final

MAX_BODY_BYTES: Final = (
    256 * 1024
)  # all texts of a visit at their longest, in a script of three bytes, as a form sends it
FORM_TYPE: Final = "application/x-www-form-urlencoded"
NONCE_BYTES: Final = 16
HEADERS: Final = {
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
SEEING_HEADERS: Final = HEADERS | {"permissions-policy": "camera=(self), microphone=(), geolocation=()"}
"""Of pages that read codes with the camera."""
PLAIN_HEADERS: Final = {name: value for name, value in HEADERS.items() if name != "cross-origin-opener-policy"}
"""Of pages that come over a network without encryption: what a browser heeds only of an origin that it can trust, and
complains of where it cannot, is left out."""
NOT_KEPT: Final = "no-store"
READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
OWN_SITES: Final = frozenset({"", "same-origin", "none"})
"""What Sec-Fetch-Site says of requests that these pages, or a person, made; older browsers say nothing."""
KEPT_FOR_GOOD: Final = "public, max-age=31536000, immutable"


def policy(nonce: str) -> str:
    """The content security policy of an answer with this nonce."""
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def host_name(host: str) -> str:
    """What a Host header names: without its port and brackets, in small letters."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() and not host.endswith("]") else host
    return name.strip("[]").lower()


def is_here(host: str, known: frozenset[str] = frozenset()) -> bool:
    """Whether a Host header can mean this machine: an address, ``localhost``, a name in ``.local``, or one of these.

    known: further names; ``*`` for any.
    """
    name = host_name(host)
    if not name:
        return False
    if "*" in known or name in known or name == "localhost" or name.endswith(".local"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_ours(method: str, fetch_site: str) -> bool:
    """Whether a request may change something: no other site's page sent it. fetch_site: its Sec-Fetch-Site header.

    Beside each session's own secret, for the forms that have none yet: signing in, choosing a language.
    """
    return method in READING or fetch_site in OWN_SITES
