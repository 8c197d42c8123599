"""The pages of pipelines: runs, one run, and what the dashboard's first page says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.machinery.late import Late
from headrace.machinery.pages import Page, Panel

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.components.pipelines.ui.follow import FollowedRuns
    from headrace.machinery.component import Context
    from headrace.machinery.pages import PageRequest
    from headrace.machinery.sql import Database

RUN_ACTIONS = ("terminate", "retry", "archive", "unarchive", "delete")


def pages_of(
    context: Context, database: Database, runs: FollowedRuns, app: Any
) -> tuple[tuple[Page, ...], tuple[Panel, ...]]:
    """The pages and the panels; `app` is the REST API. What they need is imported when the first is asked for."""

    def make() -> dict[str, Any]:
        from headrace.components.pipelines.store.catalog import Catalog  # noqa: PLC0415
        from headrace.components.pipelines.store.lineage import Lineage  # noqa: PLC0415
        from headrace.components.pipelines.ui.acts import RunActs  # noqa: PLC0415
        from headrace.components.pipelines.ui.calls import Calls  # noqa: PLC0415
        from headrace.components.pipelines.ui.data import RunLists  # noqa: PLC0415
        from headrace.components.pipelines.ui.recent import Recent  # noqa: PLC0415
        from headrace.components.pipelines.ui.run import RunPage  # noqa: PLC0415
        from headrace.components.pipelines.ui.runs import RunsPage  # noqa: PLC0415

        lists = RunLists(database)
        acts = RunActs(context, Catalog(database, context.clock), runs)
        lineage = Lineage(database, context.clock)
        return {
            "list": RunsPage(context, lists, acts),
            "run": RunPage(context, runs, acts, Calls(app), lineage),
            "recent": Recent(context, lists),
            "acts": acts,
        }

    def follow_all(_request: PageRequest, wake: Callable[[], None]) -> Callable[[], None]:
        return runs.changed.subscribe(wake)

    views = Late(make)
    pages = (
        Page("/runs", "Runs", views.call("list"), follow_all, "Build", views.calls("acts", "compare", *RUN_ACTIONS)),
        Page("/runs/{run}", "Run", views.call("run"), views.follow("run"), actions=views.calls("acts", *RUN_ACTIONS)),
    )
    panels = (
        Panel("Running and recent", views.call("recent", "pipelines"), follow_all),
        Panel("Recent failures", views.call("recent", "failures"), follow_all, order=1),
    )
    return pages, panels
