"""Takes in FHIR R4: what `hwc import --format fhir` does with resources and Bundles, without reading or printing anything.

What a resource means is the protocol's affair (`sync_protocol.fhir`): it comes as lines of an import, and they are
taken as all lines are, with the same rules and the same answers. What has no place here is answered too, by resource
and path, so that nobody believes it was taken.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hwc_node.line_import import BATCH_LINES, NOT_TAKEN, ImportRules, LineImport, LineResult, Verdict, parse_json
from hwc_node.store import Store
from sync_protocol.change import PersonId
from sync_protocol.errors import HealthSyncError, Malformed, TooLarge
from sync_protocol.fhir.reading import MAX_BYTES, Reader
from sync_protocol.fhir.taking import NotTaken


@dataclass(frozen=True, slots=True)
class Left:
    """The answer to what was not taken of a line."""

    line: int
    what: NotTaken

    def as_json(self) -> dict[str, Any]:
        """The contract's shape; path is empty where the whole resource was left."""
        entry = {} if self.what.entry is None else {"entry": self.what.entry}
        shape = {"resource": self.what.resource, "path": self.what.path, "reason": self.what.reason}
        return {"line": self.line, "verdict": NOT_TAKEN, **entry, **shape}


Answer = LineResult | Left


@dataclass(frozen=True, slots=True)
class _Said:
    """What a value says of one record, as a line of an import."""

    line: int
    raw: bytes


class FhirImport:
    """One import. Give it batches of (number, value); a value is None where it was longer than allowed."""

    def __init__(self, store: Store, person: PersonId, rules: ImportRules) -> None:
        self._lines = LineImport(store, person, rules)
        self._reader = Reader(store.membership.facility)

    def take(self, batch: Sequence[tuple[int, bytes | None]], now_ms: int) -> list[Answer]:
        """The answers in the values' order, once everything they say is on the disk."""
        read = [one for number, raw in batch for one in self._read(number, raw)]
        said = [(at, one.raw) for at, one in enumerate(read) if isinstance(one, _Said)]  # the place tells them apart
        taken: dict[int, LineResult] = {}
        for at in range(0, len(said), BATCH_LINES):
            for result in self._lines.take(said[at : at + BATCH_LINES], now_ms):
                taken[result.line] = result
        return [replace(taken[at], line=one.line) if isinstance(one, _Said) else one for at, one in enumerate(read)]

    def _read(self, number: int, raw: bytes | None) -> Iterator[_Said | Answer]:
        """A value as lines of an import, followed by what was not taken of it."""
        try:
            if raw is None:
                raise TooLarge(f"it is longer than {MAX_BYTES >> 20} MiB", next_step="split the Bundle")
            read = self._reader.read(parse_json(raw))
            said = [_Said(number, _encoded(line)) for line in read.lines]
        except HealthSyncError as error:
            yield LineResult(number, Verdict.REFUSED, error=error)
            return
        yield from said
        for one in read.not_taken:
            yield Left(number, one)


def _encoded(line: dict[str, Any]) -> bytes:
    """Raises Malformed (``E_NOT_FHIR``): an extension of ours may hold JSON of any depth."""
    try:
        return json.dumps(line).encode()
    except RecursionError:
        raise Malformed("an extension is nested too deeply", code="E_NOT_FHIR") from None
