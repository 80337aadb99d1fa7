"""The program that draws one paper: JSON on stdin, a PDF on stdout, a code on stderr where it cannot.

It limits itself before it reads: so much memory, so many seconds of work. What befalls it befalls no server.
"""

from __future__ import annotations

import logging
import resource
import sys
from contextlib import suppress

import msgspec

from hwc_node.printing import drawing
from hwc_node.printing.limits import MAX_MEMORY_BYTES, MAX_PAPER_BYTES, MAX_WORK_S
from hwc_node.printing.paper import Order
from sync_protocol.errors import HealthSyncError


def main() -> int:
    for what, most in (
        (resource.RLIMIT_AS, MAX_MEMORY_BYTES),
        (resource.RLIMIT_CPU, MAX_WORK_S),
        (resource.RLIMIT_CORE, 0),  # a dump would be a paper on the disk
    ):
        with suppress(ValueError, OSError):  # where the system knows no such limit, or has a lower one
            resource.setrlimit(what, (most, most))
    logging.disable()  # the libraries quote the letters that they miss
    order = msgspec.json.decode(sys.stdin.buffer.read(MAX_PAPER_BYTES + 1), type=Order)
    try:
        made = drawing.draw(order.paper, order.size)
    except HealthSyncError as error:
        sys.stderr.write(error.code)
        return 1
    sys.stdout.buffer.write(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
