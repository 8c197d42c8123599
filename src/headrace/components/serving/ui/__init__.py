"""The pages of serving: the models of a namespace, and what the dashboard's first page says of them.

What they need is imported when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.machinery.late import Late
from headrace.machinery.pages import Page, Panel

if TYPE_CHECKING:
    from headrace.machinery.component import Context
    from headrace.machinery.offers import Finder


def pages_of(context: Context) -> tuple[tuple[Page, ...], tuple[Panel, ...], Finder]:
    """The page, the panel, and what the search finds."""

    def make() -> dict[str, Any]:
        from headrace.components.serving.ui.models import ModelsPage  # noqa: PLC0415

        return {"models": ModelsPage(context)}

    views = Late(make)
    follow = views.follow("models")
    return (
        (Page("/models", "Models", views.call("models"), follow, "Ship"),),
        (Panel("Served models", views.call("models", "panel"), follow, side=True),),
        views.call("models", "find"),
    )
