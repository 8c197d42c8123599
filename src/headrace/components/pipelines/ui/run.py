"""One run: what happened, why, and where; left every task in time, right the selected one. The URL holds both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api.core import Event, Pod
from headrace.components.pipelines.store.models import RuntimeState, StorageState, TaskType
from headrace.components.pipelines.ui import timeline
from headrace.components.pipelines.ui.acts import RETRYABLE, VERBS
from headrace.components.pipelines.ui.recent import GROUP
from headrace.components.pipelines.ui.states import look_of, look_of_task
from headrace.components.pipelines.ui.task import TaskDetail
from headrace.components.pipelines.ui.timeline import LEAVES, began, short
from headrace.machinery import look
from headrace.machinery.html import Markup, el
from headrace.machinery.pages import Fragment, PageError, authorize, both, button
from headrace.machinery.words import _

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.components.pipelines.store.models import Run, RunRow, TaskRow
    from headrace.components.pipelines.ui.acts import RunActs
    from headrace.components.pipelines.ui.follow import FollowedRuns
    from headrace.machinery.component import Context
    from headrace.machinery.pages import PageRequest

PARAMETERS = 5
"""So many of the run's parameters are named beside its title."""


class RunPage:
    """The page `/runs/{run}`."""

    def __init__(self, context: Context, runs: FollowedRuns, acts: RunActs) -> None:
        self._context, self._runs, self._acts = context, runs, acts
        self._detail = TaskDetail(context)

    def follow(self, request: PageRequest, wake: Callable[[], None]) -> Callable[[], None]:
        """The run; for the task's panel also pods and events."""
        site = self._context.site
        ends = [self._runs.changed.subscribe(wake, request.parameters["run"])]
        if request.query.get("tab") in {"log", "events"}:
            ends += [site.changes(kind).subscribe(wake, request.namespace) for kind in (Pod, Event)]
        return both(*ends)

    async def render(self, request: PageRequest) -> Fragment:
        """The page."""
        row = await self._runs.load_run(request.parameters["run"])
        if row is None:
            raise PageError(404, "There is no such run", "It may have been deleted, or it belongs to another platform.")
        run = row.run
        await authorize(self._context.client, request, "get", "runs", group=GROUP, namespace=run.namespace)
        tasks = row.tasks
        chosen = _chosen(request, tasks)
        why = _why(request, run, tasks)
        view = request.query.get("view", "timeline")
        count = sum(1 for task in tasks if task.type in LEAVES)
        strip = look.tabs(
            [
                ("Timeline", request.link(view=None), view != "table", None),
                ("Table", request.link(view="table"), view == "table", count),
            ],
            "Tasks",
        )
        if not tasks:
            left = look.empty("No task has been started yet.")
        elif view == "table":
            left = _table(request, tasks, chosen)
        else:
            left = timeline.render(request, tasks, chosen, row.spec.pipeline_spec)
        right, log = (None, None) if chosen is None else await self._detail.render(request, row, chosen)
        split = el(
            "div",
            el("section", strip, left, class_="panel", aria_label="Tasks"),
            el("section", right, class_="panel", aria_label="The selected task") if right else None,
            class_="split" if right else "split one",
        )
        allowed = await self._acts.allowed(request, run.namespace, (*VERBS, "create"))
        body = el("div", _head(row, allowed), why, split, class_="page with-why" if why else "page")
        return Fragment(run.display_name, body, log=log, fill=True, namespace=run.namespace)


def _head(row: RunRow, allowed: frozenset[str]) -> Markup:
    run = row.run
    kind, word = look_of(run.state)
    leaves = [task for task in row.tasks if task.type in LEAVES]
    cached = sum(1 for task in leaves if task.cached_from)
    done = sum(1 for task in leaves if task.state.final)
    name = run.pipeline_name or "pipeline"
    given = [el("span", f"{key}={short(value)}", class_="chip") for key, value in run.parameters.items()]
    if len(given) > PARAMETERS:
        given[PARAMETERS:] = [el("span", f"{len(given) - PARAMETERS} more", class_="chip")]
    crumbs = el(
        "div",
        el("a", "Runs", href=f"/runs?ns={run.namespace}"),
        " / ",
        el("a", name, href=f"/runs?ns={run.namespace}&pipeline={name}"),
        class_="crumbs dim2",
    )
    title = el(
        "div",
        el("h1", run.display_name),
        look.pill(kind, word),
        look.took(run.created_at, run.finished_at),
        el("span", "started ", look.moment(run.created_at), class_="dim"),
        el("span", f"{cached} of {len(leaves)} from cache", class_="chip") if cached else None,
        el("span", f"{done} of {len(leaves)} tasks", class_="chip num") if not run.state.final and leaves else None,
        el("span", given, class_="chips"),
        _buttons(run, allowed),
        class_="row",
    )
    return el("div", crumbs, title, class_="head lines")


def _buttons(run: Run, allowed: frozenset[str]) -> Markup:
    """What this person may do with the run as it is."""
    archived = run.storage_state is StorageState.ARCHIVED
    stop = _("Stop this run? Its steps are ended.")
    forget = _("Delete this run and what it recorded? It cannot be undone.")
    again = el(
        "a",
        _("Run again…"),
        href=f"/runs/new?clone={run.id}",
        class_="btn small",
        title=_("With the same or with other parameters"),
    )
    offered = [
        ("terminate", not run.state.final, button(_("Stop"), "terminate", kind="small", confirm=stop)),
        (
            "retry",
            run.state in RETRYABLE,
            button(_("Retry from the failed step"), "retry", kind="small primary"),
        ),
        ("create", True, again),
        ("archive", not archived, button(_("Archive"), "archive", kind="small")),
        ("unarchive", archived, button(_("Restore"), "unarchive", kind="small")),
        ("delete", run.state.final, button(_("Delete"), "delete", kind="small danger", confirm=forget)),
    ]
    return el("span", [made for verb, fits, made in offered if fits and verb in allowed], class_="acts push")


def _why(request: PageRequest, run: Run, tasks: Sequence[TaskRow]) -> Markup | None:
    """The reason of a failure, where it happened, and what that meant for the rest."""
    if run.state is not RuntimeState.FAILED:
        return None
    leaves = [task for task in tasks if task.type in LEAVES]
    failed = [task for task in leaves if task.state is RuntimeState.FAILED]
    if not failed:
        return look.why("Why it failed", run.error_message or "It gave no reason.")
    first = min(failed, key=lambda task: task.finished_at.timestamp() if task.finished_at else 0.0)
    succeeded = sum(1 for task in leaves if task.state is RuntimeState.SUCCEEDED)
    skipped = sum(1 for task in leaves if task.state is RuntimeState.SKIPPED)
    rest = [f"{len(failed) - 1} more failed"] if len(failed) > 1 else []
    rest += [f"{succeeded} task{'' if succeeded == 1 else 's'} succeeded"] if succeeded else []
    rest += [f"{skipped} did not start"] if skipped else []
    name = first.display_name or first.name
    where = request.link(task=first.id, tab="log" if first.pod_name else None)
    message = (first.error_message or run.error_message or "it gave no reason").strip()
    return look.why(
        "Why it failed",
        el("a", name, href=where),
        ": ",
        message,
        el("span", f"{', '.join(rest)}.", class_="dim") if rest else None,
    )


def _chosen(request: PageRequest, tasks: Sequence[TaskRow]) -> TaskRow | None:
    """The task that the URL names, else the one that a person came for: what failed, what runs, what came last."""
    asked = request.query.get("task")
    if asked:
        return next((task for task in tasks if task.id == asked), None)
    leaves = [task for task in tasks if task.type in LEAVES]
    for state in (RuntimeState.FAILED, RuntimeState.RUNNING):
        for task in leaves:
            if task.state is state:
                return task
    measured = [task for task in leaves if any("metric" in key.lower() for key in task.outputs.artifacts)]
    if measured:
        return measured[-1]
    return leaves[-1] if leaves else None


def _table(request: PageRequest, tasks: Sequence[TaskRow], chosen: TaskRow | None) -> Markup:
    rows = []
    for task in tasks:
        if task.type is TaskType.ROOT:
            continue
        kind, word = look_of_task(task)
        start = None if task.state is RuntimeState.SKIPPED else began(task)
        selected = chosen is not None and chosen.id == task.id
        rows.append(
            el(
                "tr",
                el("td", look.pill(kind, word)),
                el(
                    "td",
                    el("a", task.path.removeprefix("root/"), href=request.link(task=task.id), data_row=True),
                    class_="wrap-any",
                ),
                el("td", look.took(start, task.finished_at if task.state.final else None), class_="nowrap"),
                el("td", look.moment(start, date=False), class_="dim nowrap num"),
                id=f"row-{task.id}",
                class_="sel" if selected else None,
            )
        )
    head = el("tr", [el("th", name) for name in ("State", "Task", "Took", "Started")])
    return el("table", el("thead", head), el("tbody", rows))
