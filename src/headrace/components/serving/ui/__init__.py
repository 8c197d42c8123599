"""The pages of serving: the models of a namespace, and what the dashboard's first page says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.machinery.pages import Page, Panel

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.components.serving.ui.models import ModelsPage
    from headrace.machinery.component import Context
    from headrace.machinery.html import Markup
    from headrace.machinery.offers import Finder, Hit
    from headrace.machinery.pages import Fragment, PageRequest


def pages_of(context: Context) -> tuple[tuple[Page, ...], tuple[Panel, ...], Finder]:
    """The page, the panel, and what the search finds."""
    views = _Views(context)
    return (
        (Page("/models", "Models", views.page, views.follow, "Ship"),),
        (Panel("Served models", views.panel, views.follow, side=True),),
        views.find,
    )


class _Views:
    """Imports and makes the page when it is asked for."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._made: ModelsPage | None = None

    async def page(self, request: PageRequest) -> Fragment:
        return await self._view.render(request)

    async def panel(self, request: PageRequest) -> Markup:
        return await self._view.panel(request)

    async def find(self, request: PageRequest, text: str) -> list[Hit]:
        return await self._view.find(request) if text else []

    def follow(self, request: PageRequest, wake: Callable[[], None]) -> Callable[[], None]:
        return self._view.follow(request, wake)

    @property
    def _view(self) -> ModelsPage:
        if self._made is None:
            from headrace.components.serving.ui.models import ModelsPage  # noqa: PLC0415

            self._made = ModelsPage(self._context)
        return self._made
