"""The files that pages load from their own server: styles and scripts, as they were built at set-up.

Each is named by a part of its hash, so that a browser keeps it for good and yet never shows an old one. Nothing is read
from the disk while serving.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from sync_protocol.errors import OurFault
from sync_protocol.pages.guarding import KEPT_FOR_GOOD

NAMES: Final = {
    "pages.css": "text/css; charset=utf-8",
    "pages.js": "text/javascript; charset=utf-8",
    "htmx.min.js": "text/javascript; charset=utf-8",
}
_HASH_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Asset:
    """address: path below the server's root. zipped: the same, compressed by gzip."""

    address: str
    media_type: str
    body: bytes
    zipped: bytes


@cache
def assets() -> Mapping[str, Asset]:
    """By name. Raises OurFault (``E_NO_ASSETS``)."""
    folder = resources.files("sync_protocol.pages").joinpath("static")
    try:
        return {name: _read(name, folder.joinpath(name).read_bytes(), folder.joinpath(f"{name}.gz").read_bytes())
                for name in NAMES}  # fmt: skip
    except OSError:
        raise OurFault(
            "The pages' styles and scripts are not there.",
            code="E_NO_ASSETS",
            next_step="Build them where this program was installed from: make assets; then install again",
        ) from None


def _read(name: str, body: bytes, zipped: bytes) -> Asset:
    digest = hashlib.sha256(body).hexdigest()[:_HASH_DIGITS]
    return Asset(f"/static/{digest}/{name}", NAMES[name], body, zipped)


def address(name: str) -> str:
    """Where a page finds an asset."""
    return assets()[name].address


def at(path: str) -> Asset | None:
    """The asset at a path of the server, None where there is none."""
    return next((one for one in assets().values() if one.address == path), None)


def answer(path: str, accepted: str) -> tuple[int, bytes, dict[str, str]]:
    """(status, body, headers) for a path of the server. accepted: the request's Accept-Encoding."""
    found = at(path)
    if found is None:
        return 404, b"not found\n", {"content-type": "text/plain; charset=utf-8"}
    headers = {"content-type": found.media_type, "cache-control": KEPT_FOR_GOOD, "vary": "accept-encoding"}
    if "gzip" in accepted:
        return 200, found.zipped, headers | {"content-encoding": "gzip"}
    return 200, found.body, headers
