"""The pages on which people author work: pipelines, the form of runs, schedules, comparisons, artifacts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.machinery.late import Late
from headrace.machinery.pages import Page

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.components.pipelines.api.fetch import Packages
    from headrace.components.pipelines.store.recurring import RecurringRuns
    from headrace.components.pipelines.ui.follow import FollowedRuns
    from headrace.machinery.component import Context
    from headrace.machinery.pages import PageRequest
    from headrace.machinery.sql import Database


def authoring_pages(
    context: Context, database: Database, runs: FollowedRuns, recurring: RecurringRuns, *, packages: Packages, app: Any
) -> tuple[Page, ...]:
    """The pages; `app` is the application of v2beta1. What they need is imported when the first is asked for."""

    def make() -> dict[str, Any]:
        from headrace.components.pipelines.store.lineage import Lineage  # noqa: PLC0415
        from headrace.components.pipelines.ui.artifacts import ArtifactPage, ArtifactsPage  # noqa: PLC0415
        from headrace.components.pipelines.ui.calls import Calls  # noqa: PLC0415
        from headrace.components.pipelines.ui.catalogue import PipelinePage, PipelinesPage  # noqa: PLC0415
        from headrace.components.pipelines.ui.compare import ComparePage  # noqa: PLC0415
        from headrace.components.pipelines.ui.drafts import Drafts  # noqa: PLC0415
        from headrace.components.pipelines.ui.experiments import ExperimentsPage  # noqa: PLC0415
        from headrace.components.pipelines.ui.launcher import LaunchPage  # noqa: PLC0415
        from headrace.components.pipelines.ui.schedules import SchedulesPage  # noqa: PLC0415
        from headrace.components.pipelines.ui.shelves import Shelves  # noqa: PLC0415
        from headrace.components.pipelines.ui.upload import UploadPage  # noqa: PLC0415

        calls, shelves = Calls(app), Shelves(database)
        return {
            "pipelines": PipelinesPage(context, calls, shelves),
            "pipeline": PipelinePage(context, calls, shelves),
            "upload": UploadPage(context, calls, Drafts(), packages),
            "launch": LaunchPage(calls, runs),
            "plan": LaunchPage(calls, runs, recurring=recurring),
            "experiments": ExperimentsPage(context, calls, shelves),
            "schedules": SchedulesPage(context, calls, shelves, recurring),
            "artifacts": ArtifactsPage(context.client, calls),
            "artifact": ArtifactPage(calls, Lineage(database, context.clock)),
            "compare": ComparePage(context, runs),
        }

    views = Late(make)

    def follow_runs(_request: PageRequest, wake: Callable[[], None]) -> Callable[[], None]:
        return runs.changed.subscribe(wake)

    def page(path: str, title: str, name: str, *actions: str, section: str = "", live: bool = False) -> Page:
        follow = follow_runs if live else _never
        return Page(path, title, views.call(name), follow, section, actions=views.calls(name, *actions))

    changes = ("delete", "delete_version", "edit", "edit_version")
    return (
        page("/runs/new", "Run a pipeline", "launch", "start"),
        page("/pipelines", "Pipelines", "pipelines", section="Build", live=True),
        page("/pipelines/new", "Upload a pipeline", "upload", "look", "save"),
        page("/pipelines/{id}", "Pipeline", "pipeline", *changes, live=True),
        page("/pipelines/{id}/run", "Run a pipeline", "launch", "start"),
        page("/experiments", "Experiments", "experiments", "make", "archive", "restore", section="Build", live=True),
        page("/schedules", "Schedules", "schedules", "enable", "disable", "delete", section="Build", live=True),
        page("/schedules/new", "Schedule a pipeline", "plan", "start"),
        page("/artifacts", "Artifacts", "artifacts", "upload", "delete", section="Data"),
        page("/artifacts/{id}", "Artifact", "artifact"),
        Page("/compare", "Compare runs", views.call("compare"), views.follow("compare")),
    )


def _never(_request: PageRequest, _wake: Callable[[], None]) -> Callable[[], None]:
    """A form is not made anew while somebody fills it in."""
    return lambda: None
