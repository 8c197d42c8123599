"""The selected task: what it got and gave, how it went, its metrics, events and log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.core import Pod
from headrace.components.pipelines.store.models import RuntimeState
from headrace.components.pipelines.ui.charts import SPECIAL, charts
from headrace.components.pipelines.ui.states import look_of_task
from headrace.components.pipelines.ui.timeline import LEAVES, began, ready_times, short
from headrace.machinery import look, podlook
from headrace.machinery.html import Child, Markup, el
from headrace.machinery.pages import LogSource

if TYPE_CHECKING:
    from headrace.components.pipelines.store.models import Artifact, RunRow, TaskRow, Values
    from headrace.machinery.component import Context
    from headrace.machinery.pages import PageRequest

CONTAINER = "main"
MAX_VALUE = 4000


class TaskDetail:
    """The right panel."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def render(self, request: PageRequest, row: RunRow, task: TaskRow) -> tuple[Markup, LogSource | None]:
        """The panel, and the log that it follows."""
        tab = request.query.get("tab", "overview")
        leaf = task.type in LEAVES
        kind, word = look_of_task(task)
        head = el(
            "div",
            el("h2", task.display_name or task.name),
            look.pill(kind, word),
            look.took(began(task), task.finished_at if task.state.final else None)
            if task.state is not RuntimeState.SKIPPED and not task.cached_from
            else None,
            class_="dhead row",
        )
        pods = await self._context.site.cache(Pod) if leaf else None
        pod = pods.get(f"{row.run.namespace}/{_attempt(request, task)}") if pods is not None else None
        events = await podlook.events(self._context.site, pod) if pod is not None else []
        given = _count(task.inputs) + _count(task.outputs)
        entries: list[tuple[str, str, bool, Child]] = [("Overview", request.link(tab=None), tab == "overview", None)]
        if leaf:
            entries.append(("Log", request.link(tab="log"), tab == "log", None))
        entries.append(("Inputs and outputs", request.link(tab="values"), tab == "values", given or None))
        if leaf:
            entries.append(("Events", request.link(tab="events"), tab == "events", len(events) or None))
        strip = look.tabs(entries, "About the task")
        log: LogSource | None = None
        if tab == "log" and leaf:
            body, log = await self._log(request, row, task, pod)
        elif tab == "values":
            both = _values("Inputs", task.inputs, row) + _values("Outputs", task.outputs, row)
            body = Markup(both or look.empty("This task has neither inputs nor outputs (yet)."))
        elif tab == "events" and leaf:
            gone = "The pod is gone, and its events with it." if task.pod_name else "There was no pod, so no events."
            body = podlook.event_table(events) if pod is not None else look.empty(gone)
        else:
            body = self._overview(request, row, task, pod)
        return el("div", head, strip, body, class_="detail"), log

    async def _log(
        self, request: PageRequest, row: RunRow, task: TaskRow, pod: Pod | None
    ) -> tuple[Markup, LogSource | None]:
        name = _attempt(request, task)
        if not name:
            if task.cached_from:
                return look.empty("Taken from the cache: nothing ran, so nothing was logged."), None
            return look.empty("No pod was started for this task, so there is no log."), None
        kept = [pod.metadata.uid] if pod is not None else self._context.logs.kept(row.run.namespace, name)
        if not kept:
            if task.state.final:
                return look.empty("The pod is gone and its log has been removed (logs are kept for 30 days)."), None
            return look.empty("The pod is being made."), None
        source = LogSource(row.run.namespace, name, CONTAINER, kept[0])
        names = _pods(task)
        links = [
            el(
                "a",
                f"attempt {index + 1}",
                href=request.link(attempt=each),
                class_="chip",
                aria_current="true" if each == name else None,
            )
            for index, each in enumerate(names)
        ]
        return await podlook.log_of(self._context, request, source, links if len(names) > 1 else None), source

    def _overview(self, request: PageRequest, row: RunRow, task: TaskRow, pod: Pod | None) -> Markup:
        parts: list[Markup] = []
        if task.error_message:
            title = "Why it did not run" if task.state is RuntimeState.SKIPPED else "Why it failed"
            parts.append(look.why(title, task.error_message))
        elif pod is not None and not task.state.final and podlook.trouble(pod):
            parts.append(look.why("Why it waits", podlook.trouble(pod)))
        parts.append(_metrics(task, row))
        image = pod.spec.containers[0].image if pod is not None and pod.spec.containers else ""
        waited = None
        ready, start = ready_times(row.tasks, row.spec.pipeline_spec).get(task.id), began(task)
        if ready is not None and start is not None and start > ready and task.pod_name:
            waited = f"{look.seconds((start - ready).total_seconds())} for its pod"
        parts.append(
            podlook.facts(
                [
                    ("Kind", _KINDS.get(task.type.value, task.type.value.lower())),
                    ("Started", look.moment(task.started_at)),
                    ("Ended", look.moment(task.finished_at)),
                    ("Waited", waited),
                    ("Cache", self._cache(task)),
                    ("Image", el("span", image, class_="mono") if image else None),
                    (
                        "Pod",
                        self._pod_link(row, task) if pod is not None else task.pod_name and f"{task.pod_name} (gone)",
                    ),
                    ("Attempts", len(_pods(task)) if len(_pods(task)) > 1 else None),
                    ("Path", el("span", task.path, class_="mono")),
                ]
            )
        )
        inputs = [(key, el("span", short(value), class_="mono")) for key, value in task.inputs.parameters.items()]
        outputs = [(key, el("span", short(value), class_="mono")) for key, value in task.outputs.parameters.items()]
        if inputs:
            parts += [el("h3", "Parameters", class_="subhead"), podlook.facts(inputs)]
        if outputs:
            parts += [el("h3", "Results", class_="subhead"), podlook.facts(outputs)]
        if task.pod_name and task.state is RuntimeState.FAILED:
            parts.append(el("a", "Read its log", href=request.link(tab="log"), class_="more"))
        return el("div", parts)

    def _pod_link(self, row: RunRow, task: TaskRow) -> Markup:
        return el("a", task.pod_name, href=f"/workloads?ns={row.run.namespace}&pod={task.pod_name}", class_="mono")

    def _cache(self, task: TaskRow) -> str | None:
        if task.cached_from:
            return "hit: an earlier task of this pipeline had the same inputs and the same code"
        if task.cache_key:
            return "miss: no earlier task with these inputs and this code had succeeded"
        return "off for this task" if task.pod_name else None


_KINDS = {
    "RUNTIME": "step",
    "IMPORTER": "importer",
    "LOOP": "loop",
    "CONDITION": "condition",
    "CONDITION_BRANCH": "branch of a condition",
    "EXIT_HANDLER": "exit handler",
    "DAG": "group",
}


def _pods(task: TaskRow) -> list[str]:
    failed = [str(name) for name in task.detail.get("failed_pods", [])]
    return list(dict.fromkeys(name for name in [*failed, task.pod_name] if name))


def _attempt(request: PageRequest, task: TaskRow) -> str:
    asked = request.query.get("attempt", "")
    return asked if asked in _pods(task) else task.pod_name


def _count(values: Values) -> int:
    return len(values.parameters) + len(values.artifacts)


def _artifacts(values: Values, row: RunRow) -> list[tuple[str, Artifact]]:
    return [
        (key, row.artifacts[ident]) for key, ids in values.artifacts.items() for ident in ids if ident in row.artifacts
    ]


def _metrics(task: TaskRow, row: RunRow) -> Markup:
    """Numbers first, then pictures."""
    tiles: list[Markup] = []
    pictures: list[tuple[str, Markup]] = []
    for _, artifact in _artifacts(task.outputs, row):
        if not artifact.type.endswith("Metrics"):
            continue
        for key, value in artifact.metadata.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and key not in SPECIAL:
                shown = f"{value:.4f}" if isinstance(value, float) and not value.is_integer() else f"{value:g}"
                tiles.append(el("div", el("b", shown), el("span", key)))
        pictures += charts(artifact.metadata)
    grid = el("div", tiles, class_="metrics") if tiles else Markup()
    shown_pictures = [el("h3", title, class_="subhead") + picture for title, picture in sorted(pictures)]
    return Markup(grid + "".join(shown_pictures))


def _values(title: str, values: Values, row: RunRow) -> Markup:
    if not _count(values):
        return Markup()
    rows: list[tuple[str, Child]] = [(key, _value(value)) for key, value in values.parameters.items()]
    makers = {task.id: task for task in row.tasks}
    parts = [el("h3", title, class_="subhead"), podlook.facts(rows) if rows else None]
    for key, artifact in _artifacts(values, row):
        maker = makers.get(artifact.task_id)
        plain = {k: v for k, v in artifact.metadata.items() if k not in SPECIAL and k != "display_name"}
        parts.append(
            el(
                "div",
                el(
                    "div",
                    el("b", key),
                    el("span", artifact.type.removeprefix("system."), class_="chip"),
                    el("span", "from ", maker.display_name or maker.name, class_="dim")
                    if maker and title == "Inputs"
                    else None,
                    class_="row",
                ),
                el("span", artifact.uri, class_="mono"),
                el("span", short(plain), class_="dim") if plain else None,
                class_="artifact",
            )
        )
    return el("div", parts)


def _value(value: Any) -> Markup:
    text = value if isinstance(value, str) else _wire.pretty(value)
    if len(text) > MAX_VALUE:
        text = f"{text[:MAX_VALUE]}… ({len(text)} characters)"
    return el("pre", text)
