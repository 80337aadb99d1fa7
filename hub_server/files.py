"""Files for others to carry: replaced as a whole, so that a power cut leaves the old one or the new one.

It refuses to know what is in them.
"""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from sync_protocol.errors import OurFault

_FILE_MODE: Final = 0o600
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def replace(path: Path, raw: bytes) -> None:
    """Durable on return. Raises OurFault (``E_DISK_FULL``, ``E_STORAGE``)."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _FILE_MODE)
        with os.fdopen(file, "wb") as out:
            out.write(raw)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)  # without it the new name may be gone after a power cut
        finally:
            os.close(folder)
    except OSError as error:
        code = "E_DISK_FULL" if error.errno in _FULL else "E_STORAGE"
        raise OurFault(f"The file {path} cannot be written: {error.strerror}.", code=code) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def refuse_other(path: Path, begins: bytes, yes: bool) -> None:
    """Raise OurFault (``E_FILE_EXISTS``) where a file is there that begins otherwise. An older one of its kind, or an
    empty one, is replaced, so that a command can be repeated."""
    try:
        with path.open("rb") as opened:
            begin = opened.read(len(begins))
    except FileNotFoundError:
        return
    except OSError as error:
        raise OurFault(f"The file {path} cannot be replaced: {error.strerror}.", code="E_STORAGE") from error
    if not yes and not begins.startswith(begin):
        raise OurFault(
            "There is another file of this name already.",
            code="E_FILE_EXISTS",
            next_step="Choose another, or give --yes",
        )
