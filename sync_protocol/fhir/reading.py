"""A FHIR R4 resource, or a Bundle of any type, as lines of an import and a list of what was not taken.

Everything of the value is in one of the two. The lines are those of `hwc import`, so all of its rules hold: who may
write what, whose facility, what differs. Hostile values raise Malformed or TooLarge, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from sync_protocol.errors import Malformed, TooLarge
from sync_protocol.fhir import arriving
from sync_protocol.fhir.datatypes import Json, Key, foreign_name
from sync_protocol.fhir.drafts import RECORD_TYPES, Sheet
from sync_protocol.fhir.taking import NotTaken, Source

MAX_BYTES: Final = 8 * 1024 * 1024  # of one value: the largest example, with its scanned report, has half a megabyte
MAX_RESOURCES: Final = 5_000  # of one Bundle: a patient's life fits
MAX_REMEMBERED: Final = 100_000  # resources by themselves that later lines may refer to: some 30 MB


@dataclass(frozen=True, slots=True)
class Read:
    """What was read of one value. lines: of an import, a patient before what is told of them."""

    lines: tuple[Json, ...]
    not_taken: tuple[NotTaken, ...]


class Reader:
    """Reads values for one facility. It remembers who resources by themselves are, for those that refer to them."""

    def __init__(self, facility: str) -> None:
        self._facility = facility
        self._known: dict[str, Key] = {}

    def read(self, value: Any) -> Read:
        """Raises Malformed (``E_NOT_FHIR``) or TooLarge."""
        try:
            return self._read(value)
        except RecursionError:  # a resource without any name is named by all of its JSON, however deep
            raise Malformed("this is nested too deeply for a FHIR resource", code="E_NOT_FHIR") from None

    def _read(self, value: Any) -> Read:
        if not isinstance(value, dict) or not isinstance(value.get("resourceType"), str):
            raise Malformed(
                "this is no FHIR resource: it has no resourceType",
                code="E_NOT_FHIR",
                next_step="a Bundle or a resource as JSON, or one a line, is what --format fhir reads",
            )
        outer: list[Source] = []
        if value["resourceType"] == "Bundle":
            bundle, inner = _opened(value)
            outer = [bundle]
            sheet = Sheet(self._facility, inner, _scope(value), self._known)
        else:
            sheet = Sheet(self._facility, [Source(value)], "", self._known)
        arriving.sort_out(sheet)
        for source in sheet.sources:
            arriving.arrive(sheet, source)
        if not outer:
            self._remember(sheet)
        lines = tuple(_lines(sheet))
        left = [one for source in (*outer, *sheet.sources) for one in source.left()]
        return Read(lines, tuple(left))

    def _remember(self, sheet: Sheet) -> None:
        for source in sheet.sources:
            kind = RECORD_TYPES.get(source.type)
            if kind is not None and source.refused is None and len(self._known) < MAX_REMEMBERED:
                for url in sheet.urls(source):
                    self._known[url] = sheet.own(source) or sheet.key(source, kind)


def _opened(bundle: Json) -> tuple[Source, list[Source]]:
    """A Bundle's own elements, and its resources."""
    outer = Source(bundle)
    for name in ("type", "identifier", "timestamp", "total", "link"):
        outer.take(name)
    entries = bundle.get("entry")
    if isinstance(entries, list) and len(entries) > MAX_RESOURCES:
        raise TooLarge(f"a Bundle of {len(entries)} resources, at most {MAX_RESOURCES} are read", next_step="split it")
    inner: list[Source] = []
    for at in range(outer.count("entry")):
        resource, url = outer.look("entry", at, "resource"), outer.look("entry", at, "fullUrl")
        if isinstance(resource, dict):
            outer.take("entry", at)
            inner.append(Source(resource, at, url if isinstance(url, str) else None))
        else:
            outer.leave("has no resource", "entry", at)
    if entries == []:
        outer.take("entry")
    return outer, inner


def _scope(bundle: Json) -> str:
    """What names a Bundle: its identifier, else its id."""
    name = bundle.get("id")
    return foreign_name(bundle.get("identifier")) or (name if isinstance(name, str) else "")


def _lines(sheet: Sheet) -> Iterator[Json]:
    drafts = sorted(sheet.drafts.values(), key=lambda draft: draft.key.kind != "patient")  # stable
    for draft in drafts:
        if any(source.refused is None for source in draft.sources) and draft.says_something:
            yield draft.line()
        else:
            for source in draft.sources:
                if source.refused is None:
                    source.refuse("says nothing that has a place in our records")
