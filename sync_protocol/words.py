"""Marks a text that pages show, so that it is collected for translation where it is written.

The text itself stays English until a page shows it: who decides (a rule, a table) does not know who will read.
"""

from __future__ import annotations


def N_(text: str) -> str:  # noqa: N802  # gettext's own name, by which the texts are collected
    """The text as it is. The page translates it."""
    return text
