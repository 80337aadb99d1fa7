"""QR codes as pictures inside of a page: the content security policy takes them from nowhere else."""

from __future__ import annotations

from typing import Final

import segno

BORDER: Final = 4  # modules of white around it, as the standard asks for


def qr_address(text: str) -> str:
    """A ``data:`` address of an SVG that scales with its page."""
    drawn = segno.make(text, error="m", micro=False)
    return str(drawn.svg_data_uri(border=BORDER, light="#fff", omitsize=True))
