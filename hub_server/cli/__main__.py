"""``python -m hub_server.cli``: the command `hub` where it is not installed on the path."""

from __future__ import annotations

from hub_server.cli import main

main()
