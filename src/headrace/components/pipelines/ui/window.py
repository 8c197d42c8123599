"""A part of long lists: how many rows a page holds is bounded, whatever a run has; the address says where it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.machinery.html import Markup, el
from headrace.machinery.words import _

if TYPE_CHECKING:
    from headrace.machinery.pages import PageRequest

ROWS = 250
PARAMETER = "from"


def begins(request: PageRequest, count: int, selected: int | None) -> int:
    """The first row that is shown: as the address says, else so that the selected one is among them."""
    if count <= ROWS:
        return 0
    asked = request.query.get(PARAMETER, "")
    if asked.isdecimal() and len(asked) < 9:
        return min(int(asked), max(count - 1, 0)) // ROWS * ROWS
    return (selected or 0) // ROWS * ROWS


def turn(request: PageRequest, count: int, first: int) -> Markup:
    """Links to the parts before and after."""
    if count <= ROWS:
        return Markup()
    last = min(first + ROWS, count)
    parts = [el("span", _("{a} to {b} of {n}", a=first + 1, b=last, n=count), class_="dim num")]
    if first:
        parts.append(el("a", _("Earlier"), href=request.link(**{PARAMETER: str(first - ROWS)})))
    if last < count:
        parts.append(el("a", _("Further"), href=request.link(**{PARAMETER: str(last)})))
    return el("div", parts, class_="toolbar turn")
