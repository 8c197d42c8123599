"""Fields of forms, made of the types of a pipeline's parameters, and what a person wrote in them as values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from headrace.machinery.html import Child, Markup, el
from headrace.machinery.pages import PageError
from headrace.machinery.words import _

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from headrace.components.pipelines.types.ir import InputParameter
    from headrace.machinery.pages import Form

PREFIX = "p."
"""Before the names of parameters, so that none is taken for a field of ours."""
NOT_GIVEN = ""
_NUMBERS = {"NUMBER_INTEGER": "1", "NUMBER_DOUBLE": "any"}
_STRUCTURED = {"LIST", "STRUCT"}
LONG = 60


def words_of(kind: str) -> str:
    """A parameter's type as a person says it."""
    return {
        "NUMBER_DOUBLE": _("number"),
        "NUMBER_INTEGER": _("whole number"),
        "STRING": _("text"),
        "BOOLEAN": _("true or false"),
        "LIST": _("list, as JSON"),
        "STRUCT": _("object, as JSON"),
    }.get(kind, kind)


def row(label: Child, field: Markup, ident: str, hint: Child = "") -> Markup:
    """A labelled field."""
    said = el("small", hint, class_="dim") if hint else None
    return el("div", el("label", label, for_=ident), el("div", field, said), class_="field")


def choice(name: str, options: Iterable[tuple[str, str]], value: str) -> Markup:
    """A select of (value, words)."""
    shown = [el("option", words, value=each, selected=each == value) for each, words in options]
    return el("select", shown, name=name, id=f"f-{name}", class_="btn")


def line(name: str, value: str = "", *, kind: str = "text", **more: Any) -> Markup:
    """One line of text."""
    return el("input", type=kind, name=name, id=f"f-{name}", value=value, **more)


def parameter(name: str, wanted: InputParameter, given: Mapping[str, Any]) -> Markup:
    """The field of a parameter: what was given before, else its default."""
    has = name in given
    value = given[name] if has else (wanted.default_value if wanted.has_default else None)
    field = _field(PREFIX + name, wanted, value)
    hints = [words_of(wanted.kind)]
    if wanted.required:
        hints.append(_("needed"))
    elif not wanted.has_default:
        hints.append(_("may be left out"))
    hint = el("span", " · ".join(hints))
    if wanted.description:
        hint = Markup(hint + el("span", f" · {wanted.description}"))
    return row(name, field, f"f-{PREFIX}{name}", hint)


def _field(name: str, wanted: InputParameter, value: Any) -> Markup:
    text = _written(value)
    if wanted.literals:
        options = [(_written(literal), _written(literal)) for literal in wanted.literals]
        return choice(name, options if wanted.required or wanted.has_default else [(NOT_GIVEN, "—"), *options], text)
    if wanted.kind == "BOOLEAN":
        options = [("true", _("true")), ("false", _("false"))]
        loose = not wanted.has_default
        return choice(name, [(NOT_GIVEN, "—"), *options] if loose else options, text)
    if wanted.kind in _NUMBERS:
        return line(name, text, kind="number", step=_NUMBERS[wanted.kind], required=wanted.required)
    if wanted.kind in _STRUCTURED or "\n" in text or len(text) > LONG:
        lines = min(max(text.count("\n") + 1, 3), 12)
        return el("textarea", text, name=name, id=f"f-{name}", rows=lines, spellcheck="false", class_="mono")
    return line(name, text)


def _written(value: Any) -> str:
    if value is None:
        return NOT_GIVEN
    if isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, indent=1 if len(json.dumps(value)) > LONG else None)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return json.dumps(value)


def values_of(definitions: Mapping[str, InputParameter], form: Form) -> dict[str, Any]:
    """What was written, as values. An empty field of what may be left out is left out. Raises PageError."""
    found: dict[str, Any] = {}
    for name, wanted in definitions.items():
        if not form.all(PREFIX + name):
            continue
        text = form.text(PREFIX + name).replace("\r\n", "\n")
        if wanted.kind == "STRING":
            if text or wanted.has_default or wanted.required:
                found[name] = text
            continue
        if text.strip():
            found[name] = _value(name, wanted, text.strip())
    return found


def _value(name: str, wanted: InputParameter, text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError as error:
        said = _("{name} must be a {kind}: {error}", name=name, kind=words_of(wanted.kind), error=error)
        raise PageError(422, _("That does not fit"), said) from error
    if wanted.kind == "NUMBER_INTEGER" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def as_json(value: Any) -> str:
    """A filter as the API takes it."""
    return json.dumps(value)
