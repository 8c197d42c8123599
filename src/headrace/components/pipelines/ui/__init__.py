"""The pages of pipelines: runs, one run, and what the dashboard's first page says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.machinery.pages import Page, Panel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headrace.components.pipelines.ui.acts import RunActs
    from headrace.components.pipelines.ui.follow import FollowedRuns
    from headrace.components.pipelines.ui.recent import Recent
    from headrace.components.pipelines.ui.run import RunPage
    from headrace.components.pipelines.ui.runs import RunsPage
    from headrace.machinery.component import Context
    from headrace.machinery.html import Markup
    from headrace.machinery.pages import Action, Done, Form, Fragment, PageRequest
    from headrace.machinery.sql import Database

RUN_ACTIONS = ("terminate", "retry", "archive", "unarchive", "delete")


def pages_of(
    context: Context, database: Database, runs: FollowedRuns, app: Any
) -> tuple[tuple[Page, ...], tuple[Panel, ...]]:
    """The pages and the panels; `app` is the REST API. What they need is imported when the first is asked for."""
    views = _Views(context, database, runs, app)
    pages = (
        Page("/runs", "Runs", views.list, views.follow_all, "Build", views.actions("compare", *RUN_ACTIONS)),
        Page("/runs/{run}", "Run", views.run, views.follow_run, actions=views.actions(*RUN_ACTIONS)),
    )
    panels = (
        Panel("Running and recent", views.pipelines, views.follow_all),
        Panel("Recent failures", views.failures, views.follow_all, order=1),
    )
    return pages, panels


class _Views:
    """Imports and makes the pages when the first of them is asked for."""

    def __init__(self, context: Context, database: Database, runs: FollowedRuns, app: Any) -> None:
        self._context, self._database, self._runs, self._app = context, database, runs, app
        self._made: tuple[RunsPage, RunPage, Recent, RunActs] | None = None

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

    def actions(self, *names: str) -> Mapping[str, Action]:
        """Actions of the pages by their names; each is found when it is first asked for."""

        def named(name: str) -> Action:
            async def act(request: PageRequest, form: Form) -> Done:
                action: Action = getattr(self._views[3], name)
                return await action(request, form)

            return act

        return {name: named(name) for name in names}

    @property
    def _views(self) -> tuple[RunsPage, RunPage, Recent, RunActs]:
        if self._made is None:
            from headrace.components.pipelines.store.catalog import Catalog  # noqa: PLC0415
            from headrace.components.pipelines.store.lineage import Lineage  # noqa: PLC0415
            from headrace.components.pipelines.ui.acts import RunActs  # noqa: PLC0415
            from headrace.components.pipelines.ui.calls import Calls  # noqa: PLC0415
            from headrace.components.pipelines.ui.data import RunLists  # noqa: PLC0415
            from headrace.components.pipelines.ui.recent import Recent  # noqa: PLC0415
            from headrace.components.pipelines.ui.run import RunPage  # noqa: PLC0415
            from headrace.components.pipelines.ui.runs import RunsPage  # noqa: PLC0415

            lists = RunLists(self._database)
            acts = RunActs(self._context, Catalog(self._database, self._context.clock), self._runs)
            lineage = Lineage(self._database, self._context.clock)
            self._made = (
                RunsPage(self._context, lists, acts),
                RunPage(self._context, self._runs, acts, Calls(self._app), lineage),
                Recent(self._context, lists),
                acts,
            )
        return self._made
