"""The pages on which people author work: pipelines, the form of runs, schedules, comparisons, artifacts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.machinery.pages import Page

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headrace.components.pipelines.api.fetch import Packages
    from headrace.components.pipelines.store.recurring import RecurringRuns
    from headrace.components.pipelines.ui.follow import FollowedRuns
    from headrace.machinery.component import Context
    from headrace.machinery.pages import Action, Done, Form, Fragment, PageRequest
    from headrace.machinery.sql import Database


def authoring_pages(
    context: Context, database: Database, runs: FollowedRuns, recurring: RecurringRuns, *, packages: Packages, app: Any
) -> tuple[Page, ...]:
    """The pages; `app` is the application of v2beta1. What they need is imported when the first is asked for."""
    views = _Views(context, database, runs, recurring, packages=packages, app=app)

    def page(path: str, title: str, name: str, section: str = "", *, live: bool = False, **actions: str) -> Page:
        return Page(
            path,
            title,
            views.render(name),
            views.follow_runs if live else _never,
            section,
            actions={key.replace("_", "-"): views.act(name, method) for key, method in actions.items()},
        )

    return (
        page("/runs/new", "Run a pipeline", "launch", start="start"),
        page("/pipelines", "Pipelines", "pipelines", "Build", live=True),
        page("/pipelines/new", "Upload a pipeline", "upload", look="look", save="save"),
        page(
            "/pipelines/{id}",
            "Pipeline",
            "pipeline",
            live=True,
            delete="delete",
            delete_version="delete_version",
            edit="edit",
            edit_version="edit_version",
        ),
        page("/pipelines/{id}/run", "Run a pipeline", "launch", start="start"),
        page(
            "/experiments",
            "Experiments",
            "experiments",
            "Build",
            live=True,
            make="make",
            archive="archive",
            restore="restore",
        ),
        page(
            "/schedules",
            "Schedules",
            "schedules",
            "Build",
            live=True,
            enable="enable",
            disable="disable",
            delete="delete",
        ),
        page("/schedules/new", "Schedule a pipeline", "plan", start="start"),
        page("/artifacts", "Artifacts", "artifacts", "Data", upload="upload", delete="delete"),
        page("/artifacts/{id}", "Artifact", "artifact"),
        Page("/compare", "Compare runs", views.render("compare"), views.follow("compare")),
    )


def _never(_request: PageRequest, _wake: Callable[[], None]) -> Callable[[], None]:
    """A form is not made anew while somebody fills it in."""
    return lambda: None


class _Views:
    """Imports and makes the pages when the first of them is asked for."""

    def __init__(
        self,
        context: Context,
        database: Database,
        runs: FollowedRuns,
        recurring: RecurringRuns,
        *,
        packages: Packages,
        app: Any,
    ) -> None:
        self._context, self._database, self._runs = context, database, runs
        self._recurring, self._packages, self._app = recurring, packages, app
        self._made: dict[str, Any] | None = None

    def render(self, name: str) -> Callable[[PageRequest], Awaitable[Fragment]]:
        """What renders the page of this name."""

        async def work(request: PageRequest) -> Fragment:
            fragment: Fragment = await self._page(name).render(request)
            return fragment

        return work

    def act(self, name: str, method: str) -> Action:
        """An action of the page of this name."""

        async def work(request: PageRequest, form: Form) -> Done:
            done: Done = await getattr(self._page(name), method)(request, form)
            return done

        return work

    def follow(self, name: str) -> Callable[[PageRequest, Callable[[], None]], Callable[[], None]]:
        """What follows for the page of this name."""

        def work(request: PageRequest, wake: Callable[[], None]) -> Callable[[], None]:
            end: Callable[[], None] = self._page(name).follow(request, wake)
            return end

        return work

    def follow_runs(self, _request: PageRequest, wake: Callable[[], None]) -> Callable[[], None]:
        """Runs begin and end."""
        return self._runs.changed.subscribe(wake)

    def _page(self, name: str) -> Any:
        if self._made is None:
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

            calls, shelves = Calls(self._app), Shelves(self._database)
            self._made = {
                "pipelines": PipelinesPage(self._context, calls, shelves),
                "pipeline": PipelinePage(self._context, calls, shelves),
                "upload": UploadPage(self._context, calls, Drafts(), self._packages),
                "launch": LaunchPage(calls, self._runs),
                "plan": LaunchPage(calls, self._runs, recurring=self._recurring),
                "experiments": ExperimentsPage(self._context, calls, shelves),
                "schedules": SchedulesPage(self._context, calls, shelves, self._recurring),
                "artifacts": ArtifactsPage(self._context.client, calls),
                "artifact": ArtifactPage(calls, Lineage(self._database, self._context.clock)),
                "compare": ComparePage(self._context, self._runs),
            }
        return self._made[name]
