"""Processes beside the test's own that share nothing with it and need not load the program each time."""

from __future__ import annotations

import multiprocessing
from typing import Final

BESIDE: Final = multiprocessing.get_context("forkserver")
BESIDE.set_forkserver_preload(["hwc_node.store", "hwc_node.server_certificate", "hypothesis", "pytest"])
