"""The selected task: how it went and why, what it got and gave, its log, events and the object of its pod."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api import _wire
from headrace.api.core import Pod
from headrace.api.errors import StatusError
from headrace.components.pipelines.store.models import RuntimeState
from headrace.components.pipelines.ui import specs, why
from headrace.components.pipelines.ui.charts import SPECIAL, charts
from headrace.components.pipelines.ui.previews import Previews, numbers
from headrace.components.pipelines.ui.states import cost, look_of_task
from headrace.components.pipelines.ui.timeline import LEAVES, began, ready_times, short
from headrace.components.pipelines.ui.values import ValuesTab, artifacts_of, count
from headrace.machinery import look, podlook
from headrace.machinery.html import Child, Markup, el
from headrace.machinery.pages import LogSource, authorize
from headrace.machinery.words import _, told

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.api.core import Event
    from headrace.components.pipelines.store.lineage import Lineage
    from headrace.components.pipelines.store.models import RunRow, TaskRow
    from headrace.components.pipelines.ui.calls import Calls
    from headrace.components.pipelines.ui.follow import FollowedRuns
    from headrace.machinery.component import Context
    from headrace.machinery.pages import PageRequest

CONTAINER = "main"
TAIL_LINES = 60
MAX_TAIL = 1 << 18


class TaskDetail:
    """The right panel."""

    def __init__(self, context: Context, runs: FollowedRuns, calls: Calls, lineage: Lineage) -> None:
        self._context, self._runs = context, runs
        self._values = ValuesTab(Previews(context, calls), lineage)

    async def render(self, request: PageRequest, row: RunRow, task: TaskRow) -> tuple[Markup, LogSource | None]:
        """The panel, and the log that it follows."""
        tab = request.query.get("tab", "overview")
        leaf = task.type in LEAVES
        kind, word = look_of_task(task)
        ran = task.state is not RuntimeState.SKIPPED and not task.cached_from
        head = el(
            "div",
            el("h2", task.display_name or task.name),
            look.pill(kind, word),
            look.took(began(task), task.finished_at if task.state.final else None) if ran else None,
            class_="dhead row",
        )
        pods = await self._context.site.cache(Pod) if leaf else None
        pod = pods.get(f"{row.run.namespace}/{_attempt(request, task)}") if pods is not None else None
        events = await podlook.events(self._context.site, pod) if pod is not None else []
        strip = look.tabs(_tabs(request, task, tab, leaf=leaf, events=len(events)), _("About the task"))
        log: LogSource | None = None
        if tab == "log" and leaf:
            body, log = await self._log(request, row, task, pod)
        elif tab == "values":
            body = await self._values.render(request, row, task)
        elif tab == "events" and leaf:
            gone = _("The pod is gone, and its events with it.")
            body = Markup(
                self._attempts(request, task)
                + (
                    podlook.event_table(events)
                    if pod is not None
                    else look.empty(gone if task.pod_name else _("There was no pod, so no events."))
                )
            )
        elif tab == "yaml" and leaf:
            body = await self._yaml(request, row, task, pod)
        else:
            body = await self._overview(request, row, task, pod, events)
        return el("div", head, strip, body, class_="detail"), log

    async def _log(
        self, request: PageRequest, row: RunRow, task: TaskRow, pod: Pod | None
    ) -> tuple[Markup, LogSource | None]:
        name = _attempt(request, task)
        if not name:
            if task.cached_from:
                return look.empty(_("Taken from the cache: nothing ran, so nothing was logged.")), None
            return look.empty(_("No pod was started for this task, so there is no log.")), None
        kept = [pod.metadata.uid] if pod is not None else self._context.logs.kept(row.run.namespace, name)
        if not kept:
            if task.state.final:
                return look.empty(_("The pod is gone and its log has been removed (logs are kept for 30 days).")), None
            return look.empty(_("The pod is being made.")), None
        source = LogSource(row.run.namespace, name, CONTAINER, kept[0])
        chips = self._attempts(request, task) or None
        return await podlook.log_of(self._context, request, source, chips), source

    def _attempts(self, request: PageRequest, task: TaskRow) -> Markup:
        """Links to each attempt's part of this tab; nothing when there was one."""
        names = _pods(task)
        if len(names) < 2:
            return Markup()
        here = _attempt(request, task)
        links = [
            el(
                "a",
                _("attempt {n}", n=index + 1),
                href=request.link(attempt=each),
                class_="chip",
                aria_current="true" if each == here else None,
            )
            for index, each in enumerate(names)
        ]
        return el("div", links, class_="chips attempts")

    async def _yaml(self, request: PageRequest, row: RunRow, task: TaskRow, pod: Pod | None) -> Markup:
        """The pod as the API has it, for who may get it there."""
        await authorize(self._context.client, request, "get", "pods", namespace=row.run.namespace)
        chips = self._attempts(request, task)
        if pod is None:
            gone = _("The pod is gone, and its object with it.")
            return Markup(chips + look.empty(gone if task.pod_name else _("There was no pod for this task.")))
        shown = _wire.to_builtins(pod)
        shown.get("metadata", {}).pop("managedFields", None)
        lines = specs.lines_of(shown)
        copy = el("button", _("Copy"), class_="copy", type="button", data_copy="\n".join(lines))
        bar = el(
            "div", chips, self._pod_link(row, pod.metadata.name), el("span", copy, class_="push"), class_="toolbar"
        )
        return el("div", bar, specs.shown(lines))

    async def _overview(
        self, request: PageRequest, row: RunRow, task: TaskRow, pod: Pod | None, events: list[Event]
    ) -> Markup:
        parts: list[Markup] = []
        if task.state is RuntimeState.FAILED:
            parts.append(_failure(why.of(task, pod, events, await self._tail(request, row, task, pod))))
        elif task.error_message:
            titles = {RuntimeState.SKIPPED: _("Why it did not run"), RuntimeState.PENDING: _("Why it waits")}
            title = titles.get(task.state) or _("What went wrong")
            parts.append(look.why(title, told(task.error_message)))
        elif pod is not None and not task.state.final and podlook.trouble(pod):
            parts.append(look.why(_("Why it waits"), podlook.trouble(pod)))
        if task.pod_name and task.state is RuntimeState.FAILED:
            parts.append(el("a", _("Read its log"), href=request.link(tab="log"), class_="more"))
        parts.append(_metrics(task, row))
        image = pod.spec.containers[0].image if pod is not None and pod.spec.containers else ""
        waited = None
        ready, start = ready_times(row.tasks, row.spec.pipeline_spec).get(task.id), began(task)
        if ready is not None and start is not None and start > ready and task.pod_name:
            waited = _("{took} for its pod", took=look.seconds((start - ready).total_seconds()))
        gone = task.pod_name and _("{name} (gone)", name=task.pod_name)
        attempts = self._attempts(request, task)
        parts.append(
            podlook.facts(
                [
                    (_("Kind"), _kinds().get(task.type.value, task.type.value.lower())),
                    (_("Started"), look.moment(task.started_at)),
                    (_("Ended"), look.moment(task.finished_at)),
                    (_("Waited"), waited),
                    (_("Cost"), cost(below(task, row.tasks))),
                    (_("Cache"), await self._cache(task)),
                    (_("Image"), el("span", image, class_="mono") if image else None),
                    (_("Pod"), self._pod_link(row, pod.metadata.name) if pod is not None else gone),
                    (_("Attempts"), attempts or None),
                    (_("Path"), el("span", task.path, class_="mono")),
                ]
            )
        )
        for title, values in ((_("Parameters"), task.inputs), (_("Results"), task.outputs)):
            facts = [(key, el("span", short(value), class_="mono")) for key, value in values.parameters.items()]
            if facts:
                parts += [el("h3", title, class_="subhead"), podlook.facts(facts)]
        return el("div", parts)

    def _pod_link(self, row: RunRow, name: str) -> Markup:
        return el("a", name, href=f"/workloads?ns={row.run.namespace}&pod={name}", class_="mono")

    async def _cache(self, task: TaskRow) -> Child:
        """Whether the cache was asked, and what it said; where the outputs come from when it had them."""
        said = told(str(task.detail.get("cache", "")))
        if not task.cached_from:
            return said or None
        origin = await self._runs.get_task(task.cached_from)
        words = said or _("Its outputs were taken from an earlier task with the same inputs and the same code.")
        if origin is None:
            return words
        link = el("a", _("The task that made them"), href=f"/runs/{origin.run_id}?task={origin.id}")
        return Markup(el("span", words) + " " + link)

    async def _tail(self, request: PageRequest, row: RunRow, task: TaskRow, pod: Pod | None) -> str:
        """The end of the log, for who may read it; nothing when it is gone."""
        name, namespace = _attempt(request, task), row.run.namespace
        if not name or not await self._context.client.review_access(
            request.user, "get", resource="pods", subresource="log", namespace=namespace
        ):
            return ""
        kept = [pod.metadata.uid] if pod is not None else self._context.logs.kept(namespace, name)
        if not kept:
            return ""
        raw = bytearray()
        try:
            async for chunk in self._context.logs.stream(namespace, name, CONTAINER, uid=kept[0], tail=TAIL_LINES):
                raw += chunk
                del raw[:-MAX_TAIL]
        except (StatusError, OSError):
            return ""
        return raw.decode("utf-8", "replace")


def _tabs(
    request: PageRequest, task: TaskRow, tab: str, *, leaf: bool, events: int
) -> list[tuple[str, str, bool, Child]]:
    given = count(task.inputs) + count(task.outputs)
    known = {"values", *(("log", "events", "yaml") if leaf else ())}
    entries: list[tuple[str, str, bool, Child]] = [
        (_("Overview"), request.link(tab=None), tab not in known, None),
    ]
    if leaf:
        entries.append((_("Log"), request.link(tab="log"), tab == "log", None))
    entries.append((_("Inputs and outputs"), request.link(tab="values"), tab == "values", given or None))
    if leaf:
        entries.append((_("Events"), request.link(tab="events"), tab == "events", events or None))
        entries.append((_("YAML"), request.link(tab="yaml"), tab == "yaml", None))
    return entries


def _failure(found: why.Why) -> Markup:
    """The sentence, then what it is drawn from."""
    message = told(found.message) or found.raised or found.ended or _("It gave no reason.")
    more = [part for part in (found.raised, found.ended) if part and part != message]
    facts: list[tuple[str, Child]] = [(reason, told(text)) for reason, text in found.events]
    box = look.why(_("Why it failed"), message, [el("span", part, class_="dim") for part in more])
    lines = "\n".join(found.lines)
    return Markup(
        box
        + (podlook.facts(facts) if facts else "")
        + (
            el("h3", _("The last lines of its log"), class_="subhead") + el("pre", lines, class_="tail")
            if lines
            else ""
        )
    )


def _kinds() -> dict[str, str]:
    return {
        "RUNTIME": _("step"),
        "IMPORTER": _("importer"),
        "LOOP": _("loop"),
        "CONDITION": _("condition"),
        "CONDITION_BRANCH": _("branch of a condition"),
        "EXIT_HANDLER": _("exit handler"),
        "DAG": _("group"),
    }


def _pods(task: TaskRow) -> list[str]:
    failed = [str(name) for name in task.detail.get("failed_pods", [])]
    return list(dict.fromkeys(name for name in [*failed, task.pod_name] if name))


def below(task: TaskRow, tasks: Iterable[TaskRow]) -> list[TaskRow]:
    """The task and what is within it."""
    within = f"{task.path}/"
    return [each for each in tasks if each is task or each.path.startswith(within)]


def _attempt(request: PageRequest, task: TaskRow) -> str:
    asked = request.query.get("attempt", "")
    return asked if asked in _pods(task) else task.pod_name


def _metrics(task: TaskRow, row: RunRow) -> Markup:
    """Numbers first, then pictures."""
    tiles: list[Markup] = []
    pictures: list[tuple[str, Markup]] = []
    for _key, artifact in artifacts_of(task.outputs, row):
        if not artifact.type.endswith("Metrics"):
            continue
        tiles.append(numbers({key: value for key, value in artifact.metadata.items() if key not in SPECIAL}))
        pictures += charts(artifact.metadata)
    shown = [el("h3", title, class_="subhead") + picture for title, picture in sorted(pictures)]
    return Markup("".join([*tiles, *shown]))
