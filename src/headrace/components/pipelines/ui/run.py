"""One run: what happened, why, and where; left every task, right the selected one. The URL holds both.

Left is a timeline, a drawing or a table of the same tasks, or of those that a selection means; right what `task` says
of the selected one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api.core import Event, Pod
from headrace.components.pipelines.policy.view import build_view
from headrace.components.pipelines.store.models import RuntimeState, StorageState, TaskType
from headrace.components.pipelines.types.ir import SpecError
from headrace.components.pipelines.ui import rungraph, select, timeline, window
from headrace.components.pipelines.ui.acts import RETRYABLE, VERBS
from headrace.components.pipelines.ui.recent import GROUP
from headrace.components.pipelines.ui.states import cost, cpu_seconds, look_of, look_of_task
from headrace.components.pipelines.ui.task import TaskDetail
from headrace.components.pipelines.ui.timeline import LEAVES, began, short
from headrace.machinery import look, podlook
from headrace.machinery.html import Markup, el
from headrace.machinery.pages import Fragment, PageError, authorize, both, button
from headrace.machinery.words import _, told

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.components.pipelines.store.lineage import Lineage
    from headrace.components.pipelines.store.models import Run, RunRow, TaskRow
    from headrace.components.pipelines.types.ir import PipelineSpec
    from headrace.components.pipelines.ui.acts import RunActs
    from headrace.components.pipelines.ui.calls import Calls
    from headrace.components.pipelines.ui.follow import FollowedRuns
    from headrace.machinery.component import Context
    from headrace.machinery.pages import PageRequest

PARAMETERS = 5
"""So many of the run's parameters are named beside its title."""
LIVE_TABS = frozenset({"log", "events", "yaml"})


class RunPage:
    """The page `/runs/{run}`."""

    def __init__(self, context: Context, runs: FollowedRuns, acts: RunActs, calls: Calls, lineage: Lineage) -> None:
        self._context, self._runs, self._acts = context, runs, acts
        self._detail = TaskDetail(context, runs, calls, lineage)

    def follow(self, request: PageRequest, wake: Callable[[], None]) -> Callable[[], None]:
        """The run; for the task's panel also pods and events."""
        site = self._context.site
        ends = [self._runs.changed.subscribe(wake, request.parameters["run"])]
        if request.query.get("tab") in LIVE_TABS:
            ends += [site.changes(kind).subscribe(wake, request.namespace) for kind in (Pod, Event)]
        return both(*ends)

    async def render(self, request: PageRequest) -> Fragment:
        """The page."""
        row = await self._runs.show_run(request.parameters["run"])
        if row is None:
            words = _("It may have been deleted, or it belongs to another platform.")
            raise PageError(404, _("There is no such run"), words)
        run = row.run
        await authorize(self._context.client, request, "get", "runs", group=GROUP, namespace=run.namespace)
        spec = _spec(row)
        chosen = _chosen(request, row.tasks)
        right, log = (None, None) if chosen is None else await self._detail.render(request, row, chosen)
        split = el(
            "div",
            el("section", _left(request, row, spec, chosen), class_="panel", aria_label=_("Tasks")),
            el("section", right, class_="panel", aria_label=_("The selected task")) if right else None,
            class_="split" if right else "split one",
        )
        allowed = await self._acts.allowed(request, run.namespace, (*VERBS, "create"))
        why = _why(request, run, row.tasks)
        body = el("div", _head(row, allowed), why, split, class_="page with-why" if why else "page")
        return Fragment(run.display_name, body, log=log, fill=True, namespace=run.namespace)


def _spec(row: RunRow) -> PipelineSpec | None:
    """The run's pipeline; None for one that is too broken to be drawn."""
    try:
        return build_view(row).spec
    except SpecError:
        return None


def _left(request: PageRequest, row: RunRow, spec: PipelineSpec | None, chosen: TaskRow | None) -> Markup:
    """The tasks, in one of three views."""
    view = request.query.get("view", "")
    count = sum(1 for task in row.tasks if task.type in LEAVES)
    strip = look.tabs(
        [
            (_("Timeline"), request.link(view=None, **_FIRST), view not in {"graph", "table"}, None),
            (_("Graph"), request.link(view="graph", **_FIRST), view == "graph", None),
            (_("Table"), request.link(view="table", **_FIRST), view == "table", count),
        ],
        _("Tasks"),
    )
    if not row.tasks:
        return Markup(strip + look.empty(_("No task has been started yet.")))
    query, tasks, only, trouble = request.query.get("q", ""), row.tasks, None, ""
    if query.strip():
        try:
            meant = select.chosen(query, row.tasks, select.edges(row.tasks, spec))
            only = select.with_scopes(meant, row.tasks)
            tasks = [task for task in row.tasks if task.id in only or task.type is TaskType.ROOT]
            found = sum(1 for task in tasks if task.type in LEAVES)
            trouble = _("{n} of {all} tasks", n=found, all=count)
        except select.SelectionError as error:
            trouble = str(error)
    parts = [strip, _selection(request, trouble)]
    if only is not None and len(tasks) <= 1:
        parts.append(look.empty(_("No task of this run is meant by that.")))
    elif view == "table":
        parts.append(_table(request, tasks, chosen))
    elif view == "graph":
        parts.append(rungraph.render(request, tasks, chosen, spec, only))
    else:
        parts.append(timeline.render(request, tasks, chosen, row.spec.pipeline_spec))
    return Markup("".join(parts))


_FIRST = {window.PARAMETER: None}


def _selection(request: PageRequest, told: str) -> Markup:
    """Where tasks are chosen by a query."""
    keep = tuple(key for key in request.query if key not in {"q", window.PARAMETER})
    field = podlook.search(request, _("Choose tasks: train+  +evaluate  state:failed"), keep=keep)
    note = el("span", told, class_="dim num", role="status") if told else None
    clear = el("a", _("Show all"), href=request.link(q=None, **_FIRST)) if request.query.get("q") else None
    return el("div", field, note, clear, class_="toolbar choose")


def _head(row: RunRow, allowed: frozenset[str]) -> Markup:
    run = row.run
    kind, word = look_of(run.state)
    leaves = [task for task in row.tasks if task.type in LEAVES]
    cached = sum(1 for task in leaves if task.cached_from)
    done = sum(1 for task in leaves if task.state.final)
    name = run.pipeline_name or _("pipeline")
    given = [el("span", f"{key}={short(value)}", class_="chip") for key, value in run.parameters.items()]
    if len(given) > PARAMETERS:
        given[PARAMETERS:] = [el("span", _("{n} more", n=len(given) - PARAMETERS), class_="chip")]
    crumbs = el(
        "div",
        el("a", _("Runs"), href=f"/runs?ns={run.namespace}"),
        " / ",
        el("a", name, href=f"/runs?ns={run.namespace}&pipeline={name}"),
        class_="crumbs dim2",
    )
    told_cached = _("{n} of {all} from cache", n=cached, all=len(leaves))
    told_done = _("{n} of {all} tasks", n=done, all=len(leaves))
    title = el(
        "div",
        el("h1", run.display_name),
        look.pill(kind, word),
        look.took(run.created_at, run.finished_at),
        _cost(row.tasks),
        el("span", _("started"), " ", look.moment(run.created_at), class_="dim"),
        el("span", _("archived"), class_="chip") if run.storage_state is StorageState.ARCHIVED else None,
        el("span", told_cached, class_="chip") if cached else None,
        el("span", told_done, class_="chip num") if not run.state.final and leaves else None,
        el("span", given, class_="chips"),
        _buttons(run, allowed),
        class_="row",
    )
    return el("div", crumbs, title, class_="head lines")


def _cost(tasks: Sequence[TaskRow]) -> Markup | None:
    spent = cpu_seconds(tasks)
    if spent is None:
        return None
    return el("span", _("{time} of CPU", time=look.seconds(spent)), class_="dim num", title=cost(tasks))


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
        return look.why(_("Why it failed"), told(run.error_message) or _("It gave no reason."))
    first = min(failed, key=lambda task: task.finished_at.timestamp() if task.finished_at else 0.0)
    succeeded = sum(1 for task in leaves if task.state is RuntimeState.SUCCEEDED)
    skipped = sum(1 for task in leaves if task.state is RuntimeState.SKIPPED)
    rest = [_("{n} more failed", n=len(failed) - 1)] if len(failed) > 1 else []
    if succeeded:
        rest.append(_("1 task succeeded") if succeeded == 1 else _("{n} tasks succeeded", n=succeeded))
    rest += [_("{n} did not start", n=skipped)] if skipped else []
    name = first.display_name or first.name
    where = request.link(task=first.id, tab="log" if first.pod_name else None)
    message = told((first.error_message or run.error_message).strip()) or _("It gave no reason.")
    return look.why(
        _("Why it failed"),
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
    listed = [task for task in tasks if task.type is not TaskType.ROOT]
    at = next((index for index, task in enumerate(listed) if chosen is not None and task.id == chosen.id), None)
    first = window.begins(request, len(listed), at)
    rows = []
    for task in listed[first : first + window.ROWS]:
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
                el("td", look.seconds(task.used["cpu_seconds"]) if task.used else None, class_="nowrap num hide-s"),
                el("td", look.moment(start, date=False), class_="dim nowrap num"),
                id=f"row-{task.id}",
                class_="sel" if selected else None,
            )
        )
    titles = (_("State"), _("Task"), _("Took"), _("CPU"), _("Started"))
    head = el("tr", [el("th", name, class_="hide-s" if n == 3 else None) for n, name in enumerate(titles)])
    return Markup(el("table", el("thead", head), el("tbody", rows)) + window.turn(request, len(listed), first))
