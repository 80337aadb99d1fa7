"""Collects the texts of the pages from templates and code, and brings the catalogues up to date with them.

    python -m tests.words        # rewrites sync_protocol/pages/locale/*.po: new texts empty, gone ones dropped

Translations that are there are kept. A test holds the catalogues to what is collected.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.pofile import read_po, write_po

ROOT: Final = Path(__file__).resolve().parent.parent
LOCALES: Final = ROOT / "sync_protocol" / "pages" / "locale"
PACKAGES: Final = ("sync_protocol", "hwc_node", "hub_server")
METHODS: Final = [("**.py", "python"), ("**.jinja", "jinja2")]
OPTIONS: Final = {
    "**.jinja": {
        "trimmed": "true",
        "newstyle_gettext": "true",
        "silent": "false",
        "trim_blocks": "true",
        "lstrip_blocks": "true",
    }
}
KEYWORDS: Final[dict[str, Any]] = {**DEFAULT_KEYWORDS, "N_": None, "said": None}
COMPUTED: Final = ("%(num)s day", "%(num)s hour", "%(num)s minute")
"""Texts with a plural that stand in a table of code (`language._UNITS`), where nothing marks them."""


def collected() -> Catalog:
    """Every text that a page may show, with where it stands."""
    found = Catalog(charset="utf-8")
    for package in PACKAGES:
        for file, line, message, comments, context in _extracted(ROOT / package):
            found.add(message, None, [(f"{package}/{file}", line)], auto_comments=comments, context=context)
    for one in COMPUTED:
        found.add((one, f"{one}s"), None, [("sync_protocol/pages/language.py", 1)])
    return found


def _extracted(folder: Path) -> Iterator[tuple[Any, ...]]:
    return extract_from_dir(str(folder), METHODS, OPTIONS, KEYWORDS)


def catalogue(code: str) -> Catalog:
    """A language's catalogue as it is."""
    with (LOCALES / f"{code}.po").open("rb") as opened:
        return read_po(opened, locale=code)


def updated(code: str, found: Catalog) -> bytes:
    """A language's catalogue with just the texts that were found, sorted by where they stand."""
    now = catalogue(code)
    made = Catalog(
        locale=code, charset="utf-8", project="health-sync", fuzzy=False, header_comment="# Texts of the pages."
    )
    for message in sorted((one for one in found if one.id), key=lambda one: (one.locations[0][0], str(one.id))):
        before = now.get(message.id)
        empty: Any = ("",) * made.num_plurals if isinstance(message.id, tuple | list) else ""
        translated = before.string if before is not None and not before.fuzzy else empty
        places = sorted({(file, 0) for file, _ in message.locations})
        made.add(message.id, translated, places, flags={one for one in message.flags if one == "python-format"})
    buffer = io.BytesIO()
    write_po(buffer, made, width=120, include_lineno=False, omit_header=False, sort_output=False)
    lines = buffer.getvalue().decode().splitlines()
    dated = (
        "POT-Creation-Date",
        "PO-Revision-Date",
        "Last-Translator",
        "Language-Team",
        "Generated-By",
        "Report-Msgid",
    )
    return (
        "\n".join(line for line in lines if not line.startswith(tuple(f'"{name}' for name in dated))) + "\n"
    ).encode()


def untranslated(code: str) -> list[str]:
    """The texts that a language lacks."""
    every = [one for one in catalogue(code) if one.id]
    return [
        str(one.id) for one in every if not (all(one.string) if isinstance(one.string, tuple | list) else one.string)
    ]


def main() -> None:
    found = collected()
    for file in sorted(LOCALES.glob("*.po")):
        file.write_bytes(updated(file.stem, found))
        sys.stderr.write(f"{file.name}: {len(untranslated(file.stem))} texts without a translation\n")


if __name__ == "__main__":
    main()
