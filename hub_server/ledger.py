"""What a restored hub must not have forgotten: hospitals, facilities, enrolments, revocations, people, erasures; and that
a password or second factor was replaced. Append-only.

A signed file, outside of the database and of its backups (PROTOCOL.md §11): a hub that is put back to before a node was
revoked would else take in what a thief sends. Each line names the hash of the line before it and is signed by the hub,
so that a line taken out, altered or put in shows. A line is durable before the database commits what it says; one whose
transaction then failed does no harm, since what it says was asked for and repeating it changes nothing.

It refuses to know the database, and holds nothing of patients.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sync_protocol.errors import BadSignature, NeedsPerson, OurFault
from sync_protocol.keys import EnvironmentId, Identity, Verifier

PURPOSE: Final = "ledger"
MAX_LINE_BYTES: Final = 32 * 1024  # a certificate with a hybrid key is 3 KiB as hex
FIRST_HASH: Final = "0" * 64
_TAIL_BYTES: Final = 2 * MAX_LINE_BYTES


@dataclass(frozen=True, slots=True)
class Line:
    """seq: from 1, without a gap. kind: hospital, facility, facility_changed, node, revoked, reinstated, person,
    person_assigned, person_disabled, password_set, second_factor_set, erased, erasure_held, erasure_released."""

    seq: int
    at_ms: int
    kind: str
    body: dict[str, Any]


class Ledger:
    """One hub's ledger. Several programs may append to it."""

    def __init__(
        self, path: Path, signer: Identity, environment: EnvironmentId, retired: Sequence[Verifier] = ()
    ) -> None:
        """retired: of the signing keys before this one, whose lines still stand."""
        self._path = path
        self._signer = signer
        self._verifiers = (signer.verifier, *retired)
        self._environment = environment

    def append(self, kind: str, body: dict[str, Any], now_ms: int) -> int:
        """A line, durable on return; its number. Raises OurFault (``E_DISK_FULL``), NeedsPerson (``E_LEDGER_DAMAGED``)."""
        try:
            with self._locked() as descriptor:
                seq, before = self._tail(descriptor)
                said = {"seq": seq + 1, "at_ms": now_ms, "kind": kind, "body": body, "before": before}
                raw = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
                signature = self._signer.sign(PURPOSE, self._environment, raw)
                line = raw + b" " + signature.hex().encode() + b"\n"
                if len(line) > MAX_LINE_BYTES:
                    raise OurFault("a line of the ledger would be too long")
                os.write(descriptor, line)
                os.fsync(descriptor)
                return seq + 1
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise OurFault(f"the hub's ledger cannot be written ({reason})", code="E_DISK_FULL") from None

    def lines(self, after: int = 0) -> Iterator[Line]:
        """The lines behind a number, in order; all are verified. Raises NeedsPerson (``E_LEDGER_DAMAGED``)."""
        if not self._path.exists():
            return
        before, seq = FIRST_HASH, 0
        with self._path.open("rb") as opened:
            while raw := opened.readline(MAX_LINE_BYTES + 1):
                if not raw.endswith(b"\n"):
                    return  # a power cut: nothing was committed that depends on it, and it is written over
                line, before = self._read(raw, before, seq)
                seq = line.seq
                if seq > after:
                    yield line

    @property
    def last(self) -> int:
        """The number of the last line, 0 for none. Only the end of the file is read."""
        if not self._path.exists():
            return 0
        with self._locked() as descriptor:
            return self._tail(descriptor)[0]

    def _read(self, raw: bytes, before: str, seq: int) -> tuple[Line, str]:
        try:
            said, _, signature = raw.rstrip(b"\n").rpartition(b" ")
            self._verify(said, bytes.fromhex(signature.decode("ascii")))
            shape = json.loads(said)
            line = Line(int(shape["seq"]), int(shape["at_ms"]), str(shape["kind"]), dict(shape["body"]))
        except (BadSignature, ValueError, KeyError, TypeError, RecursionError):
            raise _damaged(seq + 1) from None
        if line.seq != seq + 1 or shape["before"] != before:
            raise _damaged(seq + 1)
        return line, hashlib.sha256(raw).hexdigest()

    def _verify(self, said: bytes, signature: bytes) -> None:
        *others, last = self._verifiers
        for one in others:
            with suppress(BadSignature):
                one.verify(PURPOSE, self._environment, said, signature)
                return
        last.verify(PURPOSE, self._environment, said, signature)

    def _tail(self, descriptor: int) -> tuple[int, str]:
        """(number, hash) of the last whole line; what a power cut left behind it is cut off."""
        size = os.lseek(descriptor, 0, os.SEEK_END)
        begin = max(0, size - _TAIL_BYTES)
        raw = os.pread(descriptor, size - begin, begin)
        whole, _, rest = raw.rpartition(b"\n")
        if rest:
            os.ftruncate(descriptor, size - len(rest))
        if not whole:
            if size > len(rest):
                raise _damaged(0)
            return 0, FIRST_HASH
        last = whole.rpartition(b"\n")[2] + b"\n"
        try:
            seq = int(json.loads(last.rpartition(b" ")[0])["seq"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise _damaged(0) from None
        os.lseek(descriptor, 0, os.SEEK_END)
        return seq, hashlib.sha256(last).hexdigest()

    @contextmanager
    def _locked(self) -> Iterator[int]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def _damaged(seq: int) -> NeedsPerson:
    where = f" at line {seq}" if seq else ""
    return NeedsPerson(
        f"the hub's ledger is damaged{where}; nothing was changed",
        code="E_LEDGER_DAMAGED",
        next_step="put it back from its copy: without it a restored hub may trust a node that was revoked",
    )
