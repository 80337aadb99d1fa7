"""A new second factor as a page shows it. Its QR code is a picture inside of the page: the content security policy takes
one from nowhere else."""

from __future__ import annotations

from typing import Final

import segno

from hub_server.sign_in import NewFactor

BORDER: Final = 4  # modules of white around it, as the standard asks for


def shown(factor: NewFactor) -> dict[str, str]:
    """For `new_factor.jinja`. Each of the three holds the secret."""
    drawn = segno.make(factor.uri, error="m", micro=False)
    return {
        "drawn": str(drawn.svg_data_uri(border=BORDER, light="#fff", omitsize=True)),
        "uri": factor.uri,
        "letters": factor.letters,
    }
