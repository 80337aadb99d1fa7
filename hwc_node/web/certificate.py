"""The page by which a phone comes to trust this centre's encrypted pages: what it is, how, and what to compare.

Nobody needs to be in: the certificate is no secret, and a phone needs it before its first passphrase. What the page tells
is only as true as the network that it came by; so the fingerprint is compared with the one on the centre's own computer.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from hwc_node.lan import LOCALHOST
from hwc_node.web import addresses
from hwc_node.web.cards import drawn
from hwc_node.web.desk import premises_of, words_of
from hwc_node.web.premises import Https
from sync_protocol.pages import language
from sync_protocol.pages.language import said

PAGE: Final = "/certificate"
FILE: Final = f"{PAGE}/centre.crt"  # phones call what they download by the end of its address
FILE_TYPE: Final = "application/x-x509-ca-cert"
MAX_CODES: Final = 3  # of addresses to open on a phone: Wi-Fi, cable, tethering

router = APIRouter()


@router.get(PAGE)
def page(request: Request) -> Response:
    premises, words = premises_of(request), words_of(request)
    https = premises.https
    names = [] if https is None else _reached_at(request, https)
    openings = [(name, addresses.at(name, premises.port, PAGE, "http")) for name in names]
    with language.speaking(words):
        codes = [drawn(address, said("The address of this page as a code")) for _, address in openings]
    shown = request.app.state.renderer.page(
        "certificate",
        words,
        nonce=request.state.nonce,
        path=PAGE,
        groups=https.issued.fingerprint.split(" ") if https is not None else [],
        file=FILE,
        here=addresses.is_this_computer(addresses.hostname_of(request)),
        encrypted=addresses.is_encrypted(request),
        openings=[(address, code) for (_, address), code in zip(openings, codes, strict=True)],
        safe=[addresses.at(name, https.port, "/") for name in names] if https is not None else [],
    )
    return HTMLResponse(shown)


def _reached_at(request: Request, https: Https) -> list[str]:
    """The names by which phones reach this computer: the one that this page was asked for by, else all addresses."""
    asked = addresses.hostname_of(request)
    every = sorted((str(name) for name in https.issued.names), key=lambda name: (":" in name, name))
    if not addresses.is_this_computer(asked):
        return [asked] if asked in every else []
    distant = [name for name in every if not addresses.is_this_computer(name) and name != LOCALHOST]
    return [name for name in distant if not name.endswith(".local")][:MAX_CODES]


@router.get(FILE)
def download(request: Request) -> Response:
    """The authority's certificate as DER, which every system takes, and whose SHA-256 is the fingerprint.

    Not as an attachment: iPhones and Firefox offer to install it only where it is shown.
    """
    https = premises_of(request).https
    if https is None:
        raise HTTPException(404)
    return Response(https.issued.authority, media_type=FILE_TYPE)
