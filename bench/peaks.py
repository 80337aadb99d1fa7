"""The most memory that a process ever held: `VmHWM` of `/proc/PID/status`, as the kernel counts it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def peak_mb(pid: int) -> float:
    """In millions of bytes; 0 for a process that has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def peak_of_children_mb(parent: int) -> float:
    """The largest of a process's children; PostgreSQL's count what each touched of the shared buffers."""
    found = [0.0]
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            if f"\nPPid:\t{parent}\n" in status.read_text():
                found.append(peak_mb(int(status.parent.name)))
    return max(found)
