"""HTML by plain functions, so that escaping is what happens when nobody thinks of it.

Invariants: a string that is not `Markup` is escaped wherever it stands; an address that would run a script never
becomes a link; there is no way to write a style or an event handler, because the pages' content security policy
would refuse them.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})
"""Elements of HTML without an end; those of SVG have one, because the parser would nest them."""
_LINKS = frozenset({"href", "src", "action"})
_SAFE = ("/", "?", "#", "http://", "https://")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = Any
"""A string (escaped), Markup, a number, None or False (nothing), or an iterable of these."""


def text(value: Child) -> Markup:
    """A child as HTML."""
    if isinstance(value, Markup):
        return value
    if isinstance(value, str):
        return Markup(html.escape(value))
    if value is None or value is False:
        return Markup()
    if isinstance(value, Iterable):
        return Markup("".join(text(part) for part in value))
    return Markup(html.escape(str(value)))


def el(name: str, /, *children: Child, **attributes: Any) -> Markup:
    """An element. `class_` and `for_` lose their underscore, other underscores become hyphens; an attribute that is
    None or False is left out, True has no value. Raises ValueError for a style or a handler.
    """
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        if attribute == "style" or attribute.startswith("on"):
            raise ValueError(f"pages have no {attribute!r} attributes: use a class, or a module in static/")
        if value is True:
            parts.append(f" {attribute}")
            continue
        if attribute in _LINKS and not str(value).startswith(_SAFE):
            value = "#"  # noqa: PLW2901 - what is written instead
        parts.append(f' {attribute}="{html.escape(str(value))}"')
    inner = text(children)
    if name in VOID:
        return Markup("".join(parts) + ">")
    return Markup(f"{''.join(parts)}>{inner}</{name}>")
