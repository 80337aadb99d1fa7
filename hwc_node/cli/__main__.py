"""``python -m hwc_node.cli``: the command `hwc` where it is not installed on the path."""

from __future__ import annotations

from hwc_node.cli import main

main()
