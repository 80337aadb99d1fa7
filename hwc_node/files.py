"""Files that leave this machine or come to it: replaced as a whole, read up to a limit.

A power cut at any moment leaves the old file or the new one, and no half of either. It refuses to know what is in them.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hwc_node.config import FILE_MODE, storage_fault
from sync_protocol.errors import OurFault, TooLarge


def replace(path: Path, raw: bytes, before: Callable[[], None] = lambda: None, *, failed: str = "") -> None:
    """Write the file under another name, make it durable, and only then give it its own. before: just ahead of that.
    failed: how it is told that this could not be done.

    Raises OurFault (``E_DISK_FULL``, ``E_READ_ONLY``, ``E_STORAGE``).
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(file, "wb") as opened:
            opened.write(raw)
            opened.flush()
            os.fsync(opened.fileno())
        before()
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)  # without it the new name may be gone after a power cut
        finally:
            os.close(folder)
    except OSError as error:
        raise storage_fault(error, failed or f"The file {path} cannot be written") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def read(path: Path, limit_bytes: int) -> bytes:
    """Raises OurFault (``E_NO_FILE``) or TooLarge."""
    try:
        with path.open("rb") as opened:
            raw = opened.read(limit_bytes + 1)
    except OSError as error:
        raise OurFault(
            f"The file {path} cannot be read: {error.strerror}.", code="E_NO_FILE", next_step="Check its name."
        ) from error
    if len(raw) > limit_bytes:
        raise TooLarge(f"The file {path} is larger than such a file can be.")
    return raw


def refuse_other(path: Path, is_ours: Callable[[bytes], bool], first_bytes: int) -> None:
    """Raise OurFault (``E_FILE_EXISTS``) where a file of that name is there that is none of its kind.

    is_ours: told by its first bytes. An older one of its kind is replaced, so that a command can be repeated.
    """
    try:
        with path.open("rb") as opened:
            begin = opened.read(first_bytes)
    except FileNotFoundError:
        return
    except OSError as error:
        raise storage_fault(error, f"The file {path} cannot be replaced") from error
    if not is_ours(begin):
        raise OurFault(
            "There is another file of this name already.", code="E_FILE_EXISTS", next_step="Choose another name."
        )
