"""What templates put out: text from outside is escaped, and turns or hides nothing of the page around it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import DictLoader
from markupsafe import Markup

from sync_protocol.pages import rendering
from sync_protocol.pages.forms import Form
from sync_protocol.pages.language import words_of
from sync_protocol.pages.rendering import Renderer

TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
TEMPLATES = {
    "plain.jinja": "<p>{{ text }}</p>",
    "sentence.jinja": '<p>{{ _("Visit of %(name)s", name=text) }}</p>',
    "trans.jinja": "<p>{% trans name=text %}Visit of {{ name }}{% endtrans %}</p>",
    "joined.jinja": '<p>{{ [text, text] | join(", ") }} {{ text ~ "!" }} {{ text | truncate(5) }}</p>',
    "lines.jinja": "<p>{{ text | lines }}</p>",
    "plural.jinja": "<p>{% trans num=number %}{{ num }} visit{% pluralize %}{{ num }} visits{% endtrans %}</p>",
    "macro.jinja": "{% macro show(it) %}<b>{{ it }}</b>{% endmacro %}<p>{{ show(text) }}</p>",
    "field.jinja": '{% import "fields.jinja" as f with context %}{{ f.text(form, "name", "Name") }}'
    '{{ f.area(form, "history", "History") }}',
}
SHOWING = ("plain", "sentence", "trans", "joined", "lines", "macro")


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    made = Renderer("sync_protocol.pages", {})
    loader = made._environment.loader
    assert loader is not None
    loader.loaders.insert(0, DictLoader(TEMPLATES))  # type: ignore[attr-defined]
    return made


def page(renderer: Renderer, template: str, **values: object) -> str:
    return renderer.page(template, words_of("en"), **values)


@given(st.text(max_size=60))
def test_text_from_outside_is_inert_however_it_is_put_out(renderer: Renderer, text: str) -> None:
    hostile = f"<script>{text}{TURNING}</script>\"'\x00\x1b[31m"
    for template in SHOWING:
        shown = page(renderer, template, text=hostile)
        assert "<script" not in shown, template
        assert not any(letter in shown for letter in TURNING + "\x00\x1b"), template


def test_what_stands_in_a_field_is_escaped_and_else_as_it_was_typed(renderer: Renderer) -> None:
    form = Form.of([("name", f'"><b>Asha{TURNING[4]}</b>'), ("history", "one\r\n</textarea><b>two")])
    shown = page(renderer, "field", form=form)
    assert "<b>" not in shown
    assert f"Asha{TURNING[4]}" in shown
    assert "one\n&lt;/textarea&gt;&lt;b&gt;two</textarea>" in shown


def test_numbers_in_sentences_are_the_languages(renderer: Renderer) -> None:
    assert page(renderer, "plural", number=1) == "<p>1 visit</p>"
    assert page(renderer, "plural", number=123_456) == "<p>1,23,456 visits</p>"


def test_our_own_drawings_are_put_out_as_they_are(renderer: Renderer) -> None:
    assert page(renderer, "plain", text=rendering.drawing("<svg></svg>")) == "<p><svg></svg></p>"
    assert page(renderer, "lines", text="a\nb & c") == "<p>a<br>b &amp; c</p>"
    assert isinstance(rendering.lines("a"), Markup)


def test_every_template_compiles() -> None:
    for package in ("hwc_node.web", "hub_server.web", "sync_protocol.pages"):
        made = Renderer(package, {})
        folder = Path(__file__).resolve().parents[2] / package.replace(".", "/") / "templates"
        for file in folder.glob("*.jinja"):
            made._environment.get_template(file.name)
