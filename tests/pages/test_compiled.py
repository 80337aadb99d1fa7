"""Templates that were compiled at set-up: all are there, a start compiles none, and another text's is never used."""

from __future__ import annotations

import pickle
from typing import Any

import jinja2
import pytest
from jinja2.bccache import Bucket, bc_magic

import build_assets
from sync_protocol.pages import compiled, components
from sync_protocol.pages.compiled import Compiled
from sync_protocol.pages.rendering import Renderer


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The templates that are compiled from now on, in a program that has just started: nothing is in memory."""
    done: list[str] = []
    compile_one = jinja2.Environment.compile

    def noted(self: jinja2.Environment, source: Any, name: str, *more: Any, **others: Any) -> Any:
        done.append(name)
        return compile_one(self, source, name, *more, **others)

    monkeypatch.setattr(jinja2.Environment, "compile", noted)
    monkeypatch.setattr(Compiled, "code", {})
    return done


@pytest.mark.parametrize("site", build_assets.SITES)
def test_a_start_compiles_nothing(site: str, worked: list[str]) -> None:
    environment = Renderer(site, {})._environment
    own = [name for name in environment.list_templates() if not name.startswith("nhsuk/")]
    assert len(own) > 20
    for name in own:
        environment.get_template(name)
    text = {"text": "x"}
    asked: dict[str, Any] = {
        "name": "a",
        "idPrefix": "a",
        "id": "a",
        "label": text,
        "text": "x",
        "hint": text,
        "errorMessage": text,
    }
    asked |= {
        "fieldset": {"legend": text},
        "items": [{"value": "1", "text": "x"}],
        "titleText": "x",
        "errorList": [text],
    }
    for name in components.MACROS:
        drawn: Any = environment.globals["component"]
        assert f"nhsuk-{name}" in drawn(name, asked, kept=False)
    assert worked == []


def code_in(environment: jinja2.Environment, body: bytes) -> Any:
    """The bytes of equal code can differ: they say which constants the program that wrote them shared."""
    bucket = Bucket(environment, "", "")
    bucket.checksum = pickle.loads(body[len(bc_magic) :])  # our own file; what it was built from is in its name too
    bucket.bytecode_from_string(body)
    return bucket.code


@pytest.mark.parametrize("site", build_assets.SITES)
def test_what_is_built_is_what_the_templates_say_now(site: str) -> None:
    assert build_assets.is_up_to_date(build_assets.READY_STAMP, build_assets.templates_made_of()), "make assets"
    environment = Renderer(site, {})._environment
    for name, body in Renderer(site, {}).built().items():
        there = (build_assets.READY / name).read_bytes()
        assert code_in(environment, there) == code_in(environment, body) is not None
        assert str(build_assets.ROOT).encode() not in body  # whoever installs it has another


def test_what_was_built_from_another_text_is_not_used(monkeypatch: pytest.MonkeyPatch, worked: list[str]) -> None:
    def environment(text: str) -> jinja2.Environment:
        return jinja2.Environment(loader=jinja2.DictLoader({"page": text}), bytecode_cache=Compiled(), autoescape=True)

    name, body = compiled.built(environment("first"), "page")
    monkeypatch.setattr(compiled, "_read", {name: body}.get)
    worked.clear()
    assert environment("first").get_template("page").render() == "first"
    assert worked == []
    assert environment("second").get_template("page").render() == "second"
    assert worked == ["page"]


@pytest.mark.parametrize("damage", [b"", b"x", b"j2\0" * 1000])
def test_what_does_not_look_like_code_is_compiled(
    monkeypatch: pytest.MonkeyPatch, worked: list[str], damage: bytes
) -> None:
    environment = Renderer("hub_server.web", {})._environment
    name, _ = compiled.built(environment, "queue.jinja")
    monkeypatch.setattr(compiled, "_read", {name: damage}.get)
    worked.clear()
    environment.get_template("queue.jinja")
    assert worked == ["queue.jinja"]
