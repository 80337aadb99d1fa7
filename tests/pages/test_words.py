"""Every text of a page is marked for translation."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from jinja2 import Environment

from tests import words

ROOT: Final = words.ROOT
SHOWN_ATTRIBUTES: Final = re.compile(r'\b(?:aria-label|title|alt|placeholder|data-label|summary)="([^"]*)"')
WORD: Final = re.compile(r"[A-Za-z]{2,}")
NO_WORDS: Final = frozenset({"mmHg"})  # units are written alike
MARKING: Final = frozenset({"said", "N_", "gettext", "ngettext", "_", "PlainTextResponse"})
"""What is answered as plain text is for who came to the wrong place, before there is a language."""
PAGES: Final = ("hwc_node/web", "hub_server/web", "sync_protocol/pages")
SENTENCE: Final = re.compile(r"[A-Z][a-z]+ [a-z(]")


def templates() -> list[Path]:
    return [file for folder in PAGES for file in sorted((ROOT / folder / "templates").rglob("*.jinja"))]


def bare(source: str) -> Iterator[str]:
    """The words of a template that stand in it as they are."""
    environment = Environment(extensions=["jinja2.ext.i18n"], autoescape=True)
    text, inside = "", 0
    for _, kind, value in environment.lex(source):
        if kind == "name" and value in ("trans", "endtrans"):
            inside += 1 if value == "trans" else -1
        if kind == "data" and inside == 0:
            text += value
        elif kind in ("variable_begin", "block_begin"):
            text += "\x01"
    text = re.sub(r"<!--.*?-->|<!DOCTYPE[^>]*>", "", text, flags=re.DOTALL)
    for attribute in SHOWN_ATTRIBUTES.findall(text):
        yield from WORD.findall(attribute)
    text = re.sub(r"<[^>]*>", " ", text)
    yield from WORD.findall(re.sub(r'\b[a-z-]+="[^"]*"|\bnovalidate\b', " ", text))  # a macro's attributes of a tag


@pytest.mark.parametrize("file", templates(), ids=lambda file: str(file.relative_to(ROOT)))
def test_no_text_of_a_template_is_unmarked(file: Path) -> None:
    assert [one for one in bare(file.read_text(encoding="utf-8")) if one not in NO_WORDS] == []


def test_the_search_for_unmarked_text_finds_it() -> None:
    assert list(bare("<p>Hello {{ name }}</p>")) == ["Hello"]
    assert list(bare('<p aria-label="Close it">{{ _("Close") }}</p>')) == ["Close", "it"]
    assert list(bare("{% trans %}Hello{% endtrans %}<input name='x'>")) == []


def sentences(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Sentences in the code of a page that nothing marks: no docstring, no argument of a mark, none that is only logged."""
    marked = {id(part) for node in ast.walk(tree) if _marks(node) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            marked.add(id(node.value))
        if isinstance(node, ast.Raise):  # `faults` has the sentence of its code
            marked |= {id(part) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in marked:
            found = SENTENCE.search(node.value) is not None and "SELECT" not in node.value
            yield from [(node.lineno, node.value)] if found else []


def _marks(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name in MARKING or name.startswith(("warning", "error", "info"))


def test_no_sentence_of_a_pages_code_is_unmarked() -> None:
    wrong = []
    for folder in PAGES:
        for file in sorted((ROOT / folder).rglob("*.py")):
            for line, text in sentences(ast.parse(file.read_text(encoding="utf-8"))):
                wrong.append(f"{file.relative_to(ROOT)}:{line} {text!r}")
    assert wrong == []


def test_the_search_for_unmarked_sentences_finds_them() -> None:
    code = 'form.wrong("name", "Enter the name")\nform.wrong("x", said("Enter the day"))\n'
    assert [text for _, text in sentences(ast.parse(code))] == ["Enter the name"]
