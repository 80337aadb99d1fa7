"""nhsuk-frontend's components, each drawn once for all its uses: a form of twenty fields would else take longer than all
that the page reads.

What differs from use to use (what stands in a field, its hint, what is wrong with it) is left open while a component is
drawn, and filled in each time, escaped: so what is kept holds our own words alone, and nothing that somebody typed. A
component whose texts are not ours says so, and is drawn anew each time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from jinja2 import Environment
from markupsafe import Markup, escape

MACROS: Final = {
    "input": "input",
    "textarea": "textarea",
    "radios": "radios",
    "select": "select",
    "checkboxes": "checkboxes",
    "button": "button",
    "error-summary": "errorSummary",
}
"""A component's folder → the name of its macro."""
_INSIDE: Final = ("caption", "error-message", "fieldset", "heading", "hint", "label", "legend")
TEMPLATES: Final = (
    *(f"nhsuk/components/{name}/{part}.jinja" for name in (*MACROS, *_INSIDE) for part in ("macro", "template")),
    "nhsuk/macros/attributes.jinja",
    "nhsuk/macros/icon.jinja",
)
"""All that these components are made of."""
MAX_KEPT: Final = 2_000  # drawings of some 600 bytes: those of all pages in two languages are a few hundred
_OPEN: Final = {"value": "\U000f0001", "hint": "\U000f0002", "errorMessage": "\U000f0003"}
_PLACES: Final = re.compile("[\U000f0001-\U000f0003]")
_WITH_VALUE: Final = frozenset({"input", "textarea"})
_TOLD: Final = ("hint", "errorMessage")


class Components:
    """Draws components of one environment. Threads may share it."""

    def __init__(self, environment: Environment, shown: Callable[[Any], Any]) -> None:
        """shown: text from outside as it may be shown."""
        self._environment = environment
        self._shown = shown
        self._drawn: dict[str, str] = {}

    def __call__(self, name: str, params: Mapping[str, Any], kept: bool = True) -> Markup:
        """The component with these parameters. kept: its texts are ours, so that its drawing may be used again."""
        if not kept:
            return Markup(self._draw(name, params))  # noqa: S704  # the component escaped what it was given
        params, filling = self._opened(name, params)
        key = f"{name} {params!r}"
        drawn = self._drawn.get(key)
        if drawn is None:
            drawn = self._draw(name, params)
            if len(self._drawn) >= MAX_KEPT:
                self._drawn.clear()
            self._drawn[key] = drawn
        return Markup(_PLACES.sub(lambda place: filling[place[0]], drawn))  # noqa: S704  # each filling is escaped

    def _draw(self, name: str, params: Mapping[str, Any]) -> str:
        module: Any = self._environment.get_template(f"nhsuk/components/{name}/macro.jinja").module
        return str(getattr(module, MACROS[name])(params))

    def _opened(self, name: str, params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """(the parameters with what differs left open, what each open place is filled with)."""
        opened, filling = dict(params), dict.fromkeys(_OPEN.values(), "")
        if name in _WITH_VALUE and opened.get("value"):
            filling[_OPEN["value"]] = str(escape(self._shown(opened["value"])))
            opened["value"] = _OPEN["value"]
        for part in _TOLD:
            told = opened.get(part)
            if isinstance(told, Mapping):
                filling[_OPEN[part]] = str(escape(self._shown(told["text"])))
                opened[part] = {**told, "text": _OPEN[part]}
        if "items" in opened and name != "error-summary":
            known = {str(item["value"]) for item in opened["items"]}
            if "value" in opened:
                opened["value"] = opened["value"] if str(opened["value"]) in known else ""
            if "values" in opened:
                opened["values"] = [value for value in opened["values"] if value in known]
        return opened, filling
