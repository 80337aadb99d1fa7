"""Loads libraries without what they take along wherever it is there: a laptop of 1 GB has better uses for the memory.

Rule: only for what a library asks for in a ``try`` of its own, and does without.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*packages: str) -> Iterator[None]:
    """What is loaded meanwhile does not find those packages, unless they are loaded already."""
    absent = [package for package in packages if package not in sys.modules]
    for package in absent:
        sys.modules[package] = None  # type: ignore[assignment]  # the import system's own word for "not there"
    try:
        yield
    finally:
        for package in absent:
            sys.modules.pop(package, None)
