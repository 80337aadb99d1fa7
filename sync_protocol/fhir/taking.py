"""One resource, walked without trust, that knows which of its elements nobody took.

Whoever reads an element takes it by its path; what is left when all have read is listed, never dropped in silence. An
element of a wrong type is simply not found, and so is listed. Nothing here recurses deeper than the paths that were
asked for. Lists name resources and paths, never values: what stands in a file may be a patient's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Step = str | int
Path = tuple[Step, ...]

NAME: Final = re.compile(r"_?[A-Za-z][A-Za-z0-9]{0,63}")  # of an element or a type; anything else is not repeated
MAX_LISTED: Final = 50  # names, telephones, dosages, reasons of one resource that are looked at
MAX_LEFT: Final = 200  # of one resource; a list of more is for no person
FURNITURE: Final = frozenset({"resourceType", "id", "meta", "language", "implicitRules"})
"""What says nothing of a patient. A generated narrative repeats what the elements say and belongs to it."""
NARRATIVES: Final = frozenset({"generated", "empty"})
NO_PLACE: Final = "has no place in our records"


@dataclass(frozen=True, slots=True)
class NotTaken:
    """What was not taken. resource: its type. path: within the resource, empty for all of it. entry: of the Bundle."""

    resource: str
    path: str
    reason: str
    entry: int | None = None


class Source:
    """One resource. entry: its number in the Bundle, from 0. url: its fullUrl there."""

    __slots__ = ("_reasons", "_taken", "body", "entry", "refused", "type", "url")

    def __init__(self, body: Mapping[str, Any], entry: int | None = None, url: str | None = None) -> None:
        self.body = body
        self.entry = entry
        self.url = url
        kind = body.get("resourceType")
        self.type = kind if isinstance(kind, str) and NAME.fullmatch(kind) else "unknown"
        self.refused: str | None = None  # why nothing of it was taken
        self._taken: set[Path] = set()
        self._reasons: dict[Path, str] = {}

    def look(self, *path: Step) -> Any:
        """What stands there, or None."""
        found: Any = self.body
        for step in path:
            if isinstance(step, str):
                found = found.get(step) if isinstance(found, dict) else None
            else:
                found = found[step] if isinstance(found, list) and step < len(found) else None
        return found

    def take(self, *path: Step) -> Any:
        """The same, and nobody needs to be told of it."""
        self._taken.add(path)
        return self.look(*path)

    def text(self, *path: Step) -> str | None:
        """Taken if it is text that says something."""
        found = self.look(*path)
        if not isinstance(found, str) or not found.strip():
            return None
        self._taken.add(path)
        return found

    def count(self, *path: Step) -> int:
        """The length of the list that stands there."""
        found = self.look(*path)
        return len(found) if isinstance(found, list) else 0

    def rows(self, *path: Step) -> range:
        """The places of the list that stands there, as many as are looked at."""
        return range(min(self.count(*path), MAX_LISTED))

    def leave(self, reason: str, *path: Step) -> None:
        """Say why an element is not taken."""
        self._taken.discard(path)
        self._reasons[path] = reason

    def refuse(self, reason: str, *path: Step) -> None:
        """Say that nothing of the resource is taken; path: the element that is the reason, if it is one."""
        self.refused = reason
        self._reasons = {path: reason}

    def left(self) -> Iterator[NotTaken]:
        """What nobody took."""
        if self.refused is not None:
            (path, reason), *_ = self._reasons.items()
            yield NotTaken(self.type, path_text(path), reason, self.entry)
            return
        inner = {path[:at] for path in (*self._taken, *self._reasons) for at in range(len(path))} | {()}
        for number, path in enumerate(self._walk(self.body, (), inner)):
            if number == MAX_LEFT:
                yield NotTaken(self.type, "", "there is more that has no place", self.entry)
                return
            yield NotTaken(self.type, path_text(path), self._reasons.get(path, NO_PLACE), self.entry)

    def _walk(self, value: Any, path: Path, inner: set[Path]) -> Iterator[Path]:
        if value is None or path in self._taken or (len(path) == 1 and self._is_furniture(path[0], value)):
            return
        if path in inner and isinstance(value, dict):
            for name, below in value.items():
                yield from self._walk(below, (*path, name), inner)
        elif path in inner and isinstance(value, list):
            for at, below in enumerate(value):
                yield from self._walk(below, (*path, at), inner)
        elif path:
            yield path

    @staticmethod
    def _is_furniture(name: Step, value: Any) -> bool:
        if name == "text":
            status = value.get("status") if isinstance(value, dict) else None
            return isinstance(status, str) and status in NARRATIVES
        return name in FURNITURE


def path_text(path: Path) -> str:
    """A path as people write it: ``content[0].attachment``. Names that are no elements' are not repeated."""
    said = ""
    for step in path:
        if isinstance(step, int):
            said += f"[{step}]"
        else:
            said += ("." if said else "") + (step if NAME.fullmatch(step) else "?")
    return said
