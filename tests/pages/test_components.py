"""A component that was kept is the component as it would be drawn anew, whatever is filled in; and keeps nothing of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol.pages import components
from sync_protocol.pages.components import Components
from sync_protocol.pages.forms import Typed
from sync_protocol.pages.language import speaking, words_of
from sync_protocol.pages.rendering import Renderer

texts = st.text(alphabet=st.characters(blacklist_categories=["Cs", "Co", "Cc"]), max_size=30).map(str.strip)
ITEMS = [{"value": "F", "text": "Female"}, {"value": "M", "text": "Male", "attributes": {"autofocus": ""}}]


@pytest.fixture(scope="module")
def drawing() -> Components:
    found = Renderer("sync_protocol.pages", {})._environment.globals["component"]
    assert isinstance(found, Components)
    return found


def params(name: str, value: str, hint: str, wrong: str) -> dict[str, Any]:
    made: dict[str, Any] = {"label": {"text": "Name"}}
    made["hint"] = {"text": hint} if hint else None
    if wrong:
        made["errorMessage"] = {"text": wrong}
    if name in ("input", "textarea"):
        return made | {"id": "name", "name": "name", "value": Typed(value), "attributes": {"autofocus": ""}}
    many = {"values": [value, "M"]} if name == "checkboxes" else {"value": value}
    fieldset = {"fieldset": {"legend": {"text": "Sex"}}}
    return made | many | fieldset | {"idPrefix": "sex", "id": "sex", "name": "sex", "items": ITEMS}


@given(
    st.sampled_from(["input", "textarea", "radios", "select", "checkboxes"]),
    texts | st.sampled_from("FM"),
    texts,
    texts,
)
def test_kept_is_drawn_anew(drawing: Components, name: str, value: str, hint: str, wrong: str) -> None:
    with speaking(words_of("en")):
        asked = params(name, value, hint, wrong)
        assert drawing(name, asked) == drawing(name, asked, kept=False)


def test_nothing_that_was_typed_is_kept(drawing: Components) -> None:
    with speaking(words_of("en")):
        for name in ("input", "radios", "checkboxes", "select", "textarea"):
            shown = drawing(name, params(name, "Lakshmi <Devi>", "last 120/80", "Lakshmi is wrong"))
            assert "Lakshmi is wrong" in shown
    assert "Lakshmi" not in repr(drawing._drawn)
    assert "120/80" not in repr(drawing._drawn)


def test_what_is_kept_is_bounded(drawing: Components, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "MAX_KEPT", 5)
    with speaking(words_of("en")):
        for number in range(30):
            assert f"Save {number}<" in drawing("button", {"text": f"Save {number}"}).replace("\n", "").replace(
                "  ", ""
            )
    assert len(drawing._drawn) <= 5
