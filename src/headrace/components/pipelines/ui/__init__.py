"""The pages of pipelines: runs, one run, and what the dashboard's first page says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.machinery.pages import Page, Panel

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.components.pipelines.ui.follow import FollowedRuns
    from headrace.components.pipelines.ui.recent import Recent
    from headrace.components.pipelines.ui.run import RunPage
    from headrace.components.pipelines.ui.runs import RunsPage
    from headrace.machinery.component import Context
    from headrace.machinery.html import Markup
    from headrace.machinery.pages import Fragment, PageRequest
    from headrace.machinery.sql import Database


def pages_of(context: Context, database: Database, runs: FollowedRuns) -> tuple[tuple[Page, ...], tuple[Panel, ...]]:
    """The pages and the panels. What they need is imported when the first of them is asked for."""
    views = _Views(context, database, runs)
    pages = (
        Page("/runs", "Runs", views.list, views.follow_all, "Build"),
        Page("/runs/{run}", "Run", views.run, views.follow_run),
    )
    panels = (
        Panel("Running and recent", views.pipelines, views.follow_all),
        Panel("Recent failures", views.failures, views.follow_all, order=1),
    )
    return pages, panels


class _Views:
    """Imports and makes the pages when the first of them is asked for."""

    def __init__(self, context: Context, database: Database, runs: FollowedRuns) -> None:
        self._context, self._database, self._runs = context, database, runs
        self._made: tuple[RunsPage, RunPage, Recent] | None = None

    async def list(self, request: PageRequest) -> Fragment:
        return await self._views[0].render(request)

    async def run(self, request: PageRequest) -> Fragment:
        return await self._views[1].render(request)

    async def pipelines(self, request: PageRequest) -> Markup:
        return await self._views[2].pipelines(request)

    async def failures(self, request: PageRequest) -> Markup:
        return await self._views[2].failures(request)

    def follow_all(self, _request: PageRequest, wake: Callable[[], None]) -> Callable[[], None]:
        return self._runs.changed.subscribe(wake)

    def follow_run(self, request: PageRequest, wake: Callable[[], None]) -> Callable[[], None]:
        return self._views[1].follow(request, wake)

    @property
    def _views(self) -> tuple[RunsPage, RunPage, Recent]:
        if self._made is None:
            from headrace.components.pipelines.ui.data import RunLists  # noqa: PLC0415
            from headrace.components.pipelines.ui.recent import Recent  # noqa: PLC0415
            from headrace.components.pipelines.ui.run import RunPage  # noqa: PLC0415
            from headrace.components.pipelines.ui.runs import RunsPage  # noqa: PLC0415

            lists = RunLists(self._database)
            self._made = (
                RunsPage(self._context, lists),
                RunPage(self._context, self._runs),
                Recent(self._context, lists),
            )
        return self._made
