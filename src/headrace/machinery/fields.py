"""Forms of pages: labelled fields, a form that posts an action, and refusals in words for the person who pressed.

Every field has a visible label that belongs to it; what a form does is one of its page's actions.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from headrace.api.errors import StatusError
from headrace.machinery.html import Child, Markup, el
from headrace.machinery.pages import PageError
from headrace.machinery.words import _

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def field(label: str, name: str, *, kind: str = "text", value: str = "", hint: str = "", **attributes: Any) -> Markup:
    """A field with its label, and a hint below it."""
    entry = el("input", type=kind, name=name, value=value or None, autocomplete="off", **attributes)
    return el("label", el("span", label), entry, el("small", hint) if hint else None, class_="field")


def select(label: str, name: str, options: Iterable[tuple[str, str]], *, chosen: str = "") -> Markup:
    """A choice of one: values and words."""
    entries = [el("option", words, value=value, selected=value == chosen) for value, words in options]
    return el("label", el("span", label), el("select", entries, name=name), class_="field")


def checks(legend: str, name: str, options: Iterable[tuple[str, str, str]], *, chosen: Iterable[str] = ()) -> Markup:
    """A choice of several: values, words, what each means."""
    picked = frozenset(chosen)
    boxes = [
        el(
            "label",
            el("input", type="checkbox", name=name, value=value, checked=value in picked),
            el("span", el("b", words), el("small", " ", meaning)),
        )
        for value, words, meaning in options
    ]
    return el("fieldset", el("legend", legend), boxes, class_="field checks")


def form(
    action: str,
    *children: Child,
    submit: str,
    kind: str = "primary",
    confirm: str = "",
    to: str = "",
    row: bool = False,
    **hidden: str,
) -> Markup:
    """A form of this page (or of the page at `to`) that posts one of its actions; in a `row` where it is short."""
    more = [el("input", type="hidden", name=name, value=value) for name, value in hidden.items()]
    press = el("button", submit, type="submit", name="action", value=action, class_=f"btn {kind}".strip())
    return el(
        "form",
        more,
        children,
        el("div", press),
        method="post",
        action=to or None,
        class_="form row" if row else "form",
        data_confirm=confirm or None,
    )


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """What an API or a policy refuses is said on the page, with the same status and in the same words."""
    try:
        yield
    except StatusError as error:
        raise PageError(error.code, _("That was refused"), _sentence(error.message)) from error
    except ValueError as error:
        raise PageError(400, _("That was refused"), _sentence(str(error))) from error


def _sentence(words: str) -> str:
    stopped = words if words.endswith((".", "!", "?")) else f"{words}."
    return stopped[:1].upper() + stopped[1:]
