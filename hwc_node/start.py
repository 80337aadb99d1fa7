"""The first module of `hwc`: runs it, or says in plain words that this installation was made without the node's part.

A wheel brings both programs, an extra the libraries of one: who installed ``[hub]`` alone finds a `hwc` that cannot
run, and is told so instead of being shown a traceback. It refuses to know anything else.
"""

from __future__ import annotations

import sys
from typing import Final

NOT_INSTALLED: Final = 1  # the contract's exit status for an error

try:
    from hwc_node.cli import main
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] in ("hwc_node", "sync_protocol", ""):
        raise  # ours is missing: that is no matter of extras
    sys.stderr.write(
        f"hwc: This installation is without the node's part: {error.name} is missing. [E_NOT_INSTALLED]\n"
        "     Install it with its extra, from a clone: pipx install --force '.[node]'\n"
    )
    sys.exit(NOT_INSTALLED)

__all__ = ["main"]
