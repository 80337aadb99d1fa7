"""Templates to pages: one environment a side, with the words and the numbers of the language that is spoken.

Everything that a template shows is escaped unless it was made here or by a macro. Invisible characters that turn the
direction of text or hide it are shown as what they are: a patient's name cannot rearrange a page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from jinja2 import ChainableUndefined, ChoiceLoader, Environment, PackageLoader, select_autoescape
from markupsafe import Markup, escape

from sync_protocol.pages import compiled, language
from sync_protocol.pages.components import TEMPLATES, Components
from sync_protocol.pages.language import Words

SHARED: Final = "sync_protocol.pages"
COMPONENTS: Final = "nhsuk_frontend_jinja"
_TURNING: Final = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]")
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufff9-\ufffb]")


class Renderer:
    """package: whose ``templates`` folder has the pages."""

    def __init__(self, package: str, common: Mapping[str, Any]) -> None:
        """common: what every template may use."""
        self._own = ChoiceLoader([PackageLoader(package), PackageLoader(SHARED)])
        self._environment = _environment(self._own)
        self._environment.globals.update(common)

    def built(self) -> dict[str, bytes]:
        """All that pages are made of, compiled: file name → body, for set-up to write (see `compiled`)."""
        names = (*self._own.list_templates(), *TEMPLATES)
        return dict(compiled.built(self._environment, name) for name in names)

    def page(self, template: str, words: Words, **values: Any) -> str:
        """The page as HTML. template: its name without the ending."""
        with language.speaking(words):
            return self._environment.get_template(f"{template}.jinja").render(words=words, **values)


def _environment(own: ChoiceLoader) -> Environment:
    environment = Environment(
        loader=ChoiceLoader([own, PackageLoader(COMPONENTS)]),
        autoescape=select_autoescape(default=True, default_for_string=True),
        finalize=_shown,
        undefined=ChainableUndefined,  # the components ask for parts of what was not given
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        bytecode_cache=compiled.Compiled(),
    )
    environment.install_gettext_callables(  # type: ignore[attr-defined]  # the extension adds it
        lambda text: language.spoken().gettext(text),
        lambda one, many, number: language.spoken().ngettext(one, many, number),
        newstyle=True,
    )
    # ``_`` is the same as ``gettext``: the extension's own finds that one anew at each call, on a page hundreds of times.
    environment.globals |= {"_": _gettext, "gettext": _gettext, "ngettext": _ngettext}
    environment.globals["component"] = Components(environment, _shown)
    environment.policies["ext.i18n.trimmed"] = True
    environment.filters |= {
        "number": lambda value, places=None: language.spoken().number(value, places),
        "short_number": lambda value: language.spoken().short_number(value),
        "day": lambda when: language.spoken().day(when),
        "written_day": lambda text: language.spoken().written_day(text),
        "short_day": lambda when: language.spoken().short_day(when),
        "clock": lambda ms: language.spoken().clock(ms),
        "time": lambda ms: language.spoken().time(ms),
        "ago": lambda ms, now_ms: language.spoken().ago(ms, now_ms),
        "translated": lambda text: language.spoken().gettext(str(text)),
        "plain": plain,
        "lines": lines,
    }
    return environment


def _gettext(text: str, **places: Any) -> Markup:
    """A sentence in the spoken language. What fills its places is text from outside, as `_shown` has it."""
    return _fill(language.spoken().gettext(text), places)


def _ngettext(one: str, many: str, number: int, **places: Any) -> Markup:
    """The same of a number; ``num`` is that number as the language writes it."""
    places = {"num": language.spoken().number(number)} | {name: it for name, it in places.items() if name != "num"}
    return _fill(language.spoken().ngettext(one, many, number), places)


def _fill(sentence: str, places: Mapping[str, Any]) -> Markup:
    filling = {name: escape(_shown(value)) for name, value in places.items()}
    return Markup(sentence % filling)  # noqa: S704  # our own sentence, and each filling is escaped


def _shown(value: Any) -> Any:
    """Whatever a template puts out passes here: text that is not ours yet as it may be shown. (What stands in a field is
    `Typed`: it is sent again, and turns nothing outside of its field.)"""
    return plain(value) if type(value) is str else value


def plain(text: object) -> str:
    """Text from outside as it may be shown: what would turn or hide its neighbours is shown as a mark."""
    text = str(text)
    if text.isascii() and text.isprintable():  # nearly all, and quicker to see than to search
        return text
    return _CONTROL.sub("\ufffd", _TURNING.sub("\ufffd", text))


def drawing(svg: str) -> Markup:
    """A drawing that this project made, as a page holds it. Never of text from outside, unless it was escaped before."""
    return Markup(svg)  # noqa: S704


def lines(text: object) -> Markup:
    """Text of several lines, as written."""
    return Markup("<br>").join(escape(line) for line in plain(text).splitlines())
