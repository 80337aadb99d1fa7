"""A QR code: its modules, and as a drawing inside of a page."""

from __future__ import annotations

from typing import Final

import segno

MARGIN_MODULES: Final = 4  # as ISO 18004 asks
LEVEL: Final = "m"


def modules(letters: str) -> list[bytes]:
    """Rows of modules, 1 where dark, without their margin."""
    return [bytes(one & 1 for one in row) for row in _made(letters).matrix]


def svg(letters: str, title: str) -> str:
    """As SVG without styles or scripts; title: what it is, for who cannot see it. The letters have no markup in them."""
    drawn = _made(letters).svg_inline(
        omitsize=True, border=MARGIN_MODULES, svgclass="app-qr", title=title, lineclass=None
    )
    return drawn.replace("<svg ", '<svg role="img" ', 1)


def _made(letters: str) -> segno.QRCode:
    return segno.make(letters, error=LEVEL, boost_error=False, micro=False)
