"""Collects the texts of the pages from templates and code, and brings the catalogues up to date with them.

    python -m tests.words        # rewrites sync_protocol/pages/locale/*.po: new texts empty, gone ones dropped

Translations that are there are kept, and so are a catalogue's opening comment (its glossary) and its rule for plurals. A
test holds the catalogues to what is collected.

Code is read as Python reads it, so that a mark counts wherever it stands: also inside of another call or an f-string.
"""

from __future__ import annotations

import ast
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

ROOT: Final = Path(__file__).resolve().parent.parent
LOCALES: Final = ROOT / "sync_protocol" / "pages" / "locale"
PACKAGES: Final = ("sync_protocol", "hwc_node", "hub_server")
METHODS: Final = [("**.jinja", "jinja2")]
OPTIONS: Final = {
    "**.jinja": {
        "trimmed": "true",
        "newstyle_gettext": "true",
        "silent": "false",
        "trim_blocks": "true",
        "lstrip_blocks": "true",
    }
}
MARKS: Final = frozenset({"_", "gettext", "said", "N_"})
MARK_OF_PLURAL: Final = "ngettext"
COMPUTED: Final = ("%(num)s day", "%(num)s hour", "%(num)s minute")
"""Texts with a plural that stand in a table of code (`language._UNITS`), where nothing marks them."""


def collected() -> Catalog:
    """Every text that a page may show, with where it stands."""
    found = Catalog(charset="utf-8")
    for package in PACKAGES:
        for file, _, message, _, _ in extract_from_dir(str(ROOT / package), METHODS, OPTIONS):
            found.add(message, None, [(f"{package}/{file}", 1)])
        for path in sorted((ROOT / package).rglob("*.py")):
            for text in marked(ast.parse(path.read_text(encoding="utf-8"))):
                found.add(text, None, [(str(path.relative_to(ROOT)), 1)])
    for one in COMPUTED:
        found.add((one, f"{one}s"), None, [("sync_protocol/pages/language.py", 1)])
    return found


def marked(tree: ast.AST) -> Iterator[str | tuple[str, str]]:
    """The texts that code marks; of what has a plural, both."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        texts = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        if name in MARKS and len(texts) == 1:
            yield texts[0]
        elif name == MARK_OF_PLURAL and len(texts) == 2:
            yield texts[0], texts[1]


def catalogue(code: str) -> Catalog:
    """A language's catalogue as it is."""
    with (LOCALES / f"{code}.po").open("rb") as opened:
        return read_po(opened, locale=code)


def updated(code: str, found: Catalog) -> bytes:
    """A language's catalogue with just the texts that were found, sorted by where they stand."""
    now = catalogue(code)
    made = Catalog(locale=code, charset="utf-8", project="health-sync", fuzzy=False, header_comment=now.header_comment)
    made.mime_headers = [("Plural-Forms", f"nplurals={now.num_plurals}; plural={now.plural_expr}")]
    for message in sorted((one for one in found if one.id), key=lambda one: (min(one.locations), str(one.id))):
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
