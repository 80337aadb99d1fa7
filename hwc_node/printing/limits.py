"""What drawing a paper may take: bytes, memory, time. The same for who asks and for who draws."""

from __future__ import annotations

from typing import Final

MAX_PAPER_BYTES: Final = 1024 * 1024  # of JSON: an answer's change has 64 KiB, its patient's and visit's as much each
MAX_PDF_BYTES: Final = 8 * 1024 * 1024  # 60 pages with all fonts have 1 MiB
MAX_MEMORY_BYTES: Final = 768 * 1024 * 1024  # of addresses; 70 MiB of them are in use
MAX_WORK_S: Final = 60  # of a processor: the longest paper takes some 10 s on a slow one
PATIENCE_S: Final = 90.0  # for the whole of it, on a machine that does other things beside
WAIT_S: Final = 20.0  # for another paper that is being drawn: one at a time, for their memory
