"""Tasks of a run on one axis of time: loops and conditions are groups that fold; a thin line is waiting, a bar is work.

Positions are percentages in SVG attributes, because the pages' policy allows no styles in the markup. The bar of a
task that runs carries where it began and how long the axis is, so that the browser lets it grow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.components.pipelines.store.models import RuntimeState, TaskType
from headrace.components.pipelines.ui import window
from headrace.components.pipelines.ui.states import look_of_task, widths
from headrace.machinery import look
from headrace.machinery.html import Markup, el
from headrace.machinery.words import _

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Mapping, Sequence

    from headrace.components.pipelines.store.models import TaskRow
    from headrace.machinery.pages import PageRequest

LEAVES = frozenset({TaskType.RUNTIME, TaskType.IMPORTER})
FOLD_ABOVE = 100
"""With more tasks than this, groups begin folded."""
FOLD_GROUP = 8
LABEL_SPACE = 0.78
"""A bar that ends later has its label inside, or at its left when it is shorter than that."""
INSIDE = 0.22


@dataclass(slots=True)
class Node:
    """A task and what is within it."""

    task: TaskRow
    children: list[Node] = field(default_factory=list)
    hint: str = ""
    """What tells an iteration from its neighbours."""

    @property
    def leaf(self) -> bool:
        """Whether nothing can be within it."""
        return self.task.type in LEAVES

    @property
    def label(self) -> str:
        """The name that a person gave."""
        return self.task.display_name or self.task.name

    def leaves(self) -> Iterator[TaskRow]:
        """The steps within it."""
        if self.leaf:
            yield self.task
        for child in self.children:
            yield from child.leaves()


@dataclass(frozen=True, slots=True)
class Axis:
    """Where the time begins and how many seconds are shown."""

    start: dt.datetime
    span: float
    ready: Mapping[str, dt.datetime] = field(default_factory=dict)
    """When each task could have begun, by id."""

    def place(self, moment: dt.datetime) -> float:
        """0 to 1."""
        return min(max((moment - self.start).total_seconds() / self.span, 0.0), 1.0)


def tree(tasks: Sequence[TaskRow]) -> list[Node]:
    """The tasks below the root. An iteration that holds a single step is shown as that step."""
    nodes = {task.id: Node(task) for task in tasks}
    roots: list[Node] = []
    for task in tasks:
        if task.type is TaskType.ROOT:
            continue
        parent = nodes.get(task.parent_id or "")
        if parent is None or parent.task.type is TaskType.ROOT:
            roots.append(nodes[task.id])
        else:
            parent.children.append(nodes[task.id])
    return [_simple(node) for node in roots]


def _simple(node: Node) -> Node:
    if node.task.type is TaskType.LOOP:
        node.children.sort(key=lambda child: child.task.iteration_index or 0)
    node.children = [_simple(child) for child in node.children]
    if node.task.iteration_index is None or node.task.type is TaskType.LOOP:
        return node
    node.hint = iteration(node.task)
    if len(node.children) == 1 and node.children[0].leaf:
        only = node.children[0]
        only.hint = node.hint
        return only
    return node


def iteration(task: TaskRow) -> str:
    """The value of a loop's iteration, short."""
    for key, value in task.inputs.parameters.items():
        if "loop-item" in key:
            return short(value)
    return f"#{task.iteration_index}"


def short(value: Any) -> str:
    """A value in few characters."""
    if isinstance(value, dict):
        text = ", ".join(f"{key}={short(part)}" for key, part in value.items())
    elif isinstance(value, str):
        text = value
    else:
        text = _wire.encode(whole(value)).decode()
    return text if len(text) <= 60 else f"{text[:59]}…"


def whole(value: Any) -> Any:
    """Numbers as people write them: JSON's are all the same kind, and 3 comes back as 3.0."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    return [whole(part) for part in value] if isinstance(value, list) else value


def began(task: TaskRow) -> dt.datetime | None:
    """When it began. Kubernetes tells whole seconds, which may lie before the task was made."""
    if task.started_at is None or task.created_at is None:
        return task.started_at
    return max(task.started_at, task.created_at)


def ready_times(tasks: Sequence[TaskRow], spec: dict[str, Any]) -> dict[str, dt.datetime]:
    """When each task could have begun: it was known, and the tasks that it depends on had ended. Tasks whose
    dependencies have not ended are absent.
    """
    dags = [spec.get("root", {}), *spec.get("components", {}).values()]
    needs: dict[str, set[str]] = {}
    for dag in dags:
        for name, body in dag.get("dag", {}).get("tasks", {}).items():
            needs.setdefault(name, set()).update(body.get("dependentTasks", []))
    siblings: dict[str | None, dict[str, TaskRow]] = {}
    for task in tasks:
        siblings.setdefault(task.parent_id, {})[task.name] = task
    found = {}
    for task in tasks:
        before = [siblings[task.parent_id].get(name) for name in needs.get(task.name, ())]
        ends = [other.finished_at for other in before if other is not None]
        if task.created_at is not None and all(ends):
            found[task.id] = max([task.created_at, *(end for end in ends if end is not None)])
    return found


def axis_of(tasks: Sequence[TaskRow], now: dt.datetime, spec: dict[str, Any]) -> Axis:
    """From the first task to the last; with room to grow while something runs."""
    ready = ready_times(tasks, spec)
    starts = [moment for task in tasks for moment in (task.created_at, task.started_at) if moment is not None]
    start = min(starts, default=now)
    ends = [task.finished_at for task in tasks if task.finished_at is not None]
    end = max(ends, default=start)
    if any(not task.state.final for task in tasks):
        return Axis(start, max((max(now, end) - start).total_seconds() * 1.35, 4.0), ready)
    return Axis(start, max((end - start).total_seconds() * 1.02, 0.05), ready)


def render(request: PageRequest, tasks: Sequence[TaskRow], chosen: TaskRow | None, spec: dict[str, Any]) -> Markup:
    """The timeline, as much of it as `window` allows at once."""
    axis = axis_of(tasks, request.now, spec)
    folded = set(filter(None, request.query.get("fold", "").split(",")))
    many = sum(1 for task in tasks if task.type in LEAVES) > FOLD_ABOVE
    listed: list[tuple[Node, int, bool]] = []

    def add(node: Node, depth: int) -> None:
        begins = many and len(node.children) > FOLD_GROUP
        shut = begins != (node.task.id[:8] in folded)
        listed.append((node, depth, shut))
        if not shut:
            for child in node.children:
                add(child, depth + 1)

    for node in tree(tasks):
        add(node, 0)
    selected = next((i for i, (node, _d, _s) in enumerate(listed) if chosen and node.task.id == chosen.id), None)
    first = window.begins(request, len(listed), selected)
    rows: list[Markup] = []
    for node, depth, shut in listed[first : first + window.ROWS]:
        twist = el("span", class_="twist")
        if node.children:
            toggled = ",".join(sorted(folded ^ {node.task.id[:8]}))
            hint = _("Unfold {name}", name=node.label) if shut else _("Fold {name}", name=node.label)
            twist = el("a", "▸" if shut else "▾", href=request.link(fold=toggled), class_="twist", aria_label=hint)
        rows.append(_row(request, node, axis, chosen, depth=depth, twist=twist))
    return Markup(el("div", _scale(axis), rows, class_="gantt") + window.turn(request, len(listed), first))


def _row(request: PageRequest, node: Node, axis: Axis, chosen: TaskRow | None, *, depth: int, twist: Markup) -> Markup:
    task = node.task
    kind, word = look_of_task(task)
    words = el("span", node.label, el("span", " ", node.hint, class_="dim2") if node.hint else None)
    name = el(
        "a",
        look.dot(kind, word),
        words if task.state is not RuntimeState.SKIPPED else el("span", words, class_="dim"),
        href=request.link(task=task.id),
        class_="name",
        data_row=True,
        title=f"{node.label} {node.hint}".strip(),
    )
    selected = chosen is not None and chosen.id == task.id
    left = el("div", twist, name, _mix(node) if node.children else None, class_="cellname")
    return el(
        "div",
        left,
        _lane(node, axis, request.now),
        class_=f"g d{min(depth, 4)}{' sel' if selected else ''}",
        id=f"t-{task.id}",
    )


def _lane(node: Node, axis: Axis, now: dt.datetime) -> Markup:
    task = node.task
    parts: list[Markup] = []
    kind = look_of_task(task)[0]
    started = began(task)
    if task.state is RuntimeState.SKIPPED:
        return _svg([_label(axis, started, started, _("skipped"))])
    ready = axis.ready.get(task.id)
    if node.leaf and ready is not None:
        until = started or (now if not task.state.final else task.finished_at or ready)
        a, b = axis.place(ready), axis.place(until)
        if b - a > 0.002:
            parts.append(el("line", x1=_pct(a), x2=_pct(b), y1="15", y2="15", class_="wait-line"))
    if started is None:
        return _svg(parts)
    end = task.finished_at or now
    a, b = axis.place(started), axis.place(end)
    growing = not task.state.final
    parts.append(
        el(
            "rect",
            x=_pct(a),
            y="8",
            width=_pct(max(b - a, 0.009)),
            height="14",
            rx="4",
            class_=f"bar {kind}{'' if node.leaf else ' group'}",
            data_grow=f"{started.timestamp():.3f} {axis.span:.3f}" if growing else None,
        )
    )
    if node.leaf and not growing:
        told = _("cached") if task.cached_from else look.seconds((end - started).total_seconds())
        if task.attempt:
            told += " · " + _("attempt {n}", n=task.attempt + 1)
        if task.state is RuntimeState.FAILED:
            told = _("failed, {took}", took=told)
        parts.append(_label(axis, started, end, told))
    return _svg(parts)


def _label(axis: Axis, start: dt.datetime | None, end: dt.datetime | None, words: str) -> Markup:
    if start is None or end is None:
        return Markup()
    a, b = axis.place(start), axis.place(end)
    if b <= LABEL_SPACE:
        return el("text", words, x=_pct(b), dx="7", y="19")
    if b - a < INSIDE:
        return el("text", words, x=_pct(a), dx="-7", y="19", text_anchor="end")
    return el("text", words, x=_pct(b), dx="-8", y="19", text_anchor="end", class_="in")


def _mix(node: Node) -> Markup:
    """Shares of the states within a group."""
    kinds: dict[str, int] = {}
    words: dict[str, int] = {}
    for leaf in node.leaves():
        kind, word = look_of_task(leaf)
        kinds[kind] = kinds.get(kind, 0) + 1
        words[word] = words.get(word, 0) + 1
    if not kinds:
        return Markup()
    shares = widths(kinds)
    parts, at = [], 0.0
    for kind in (look.OK, look.HIT, look.RUN, look.WARN, look.BAD, look.WAIT):
        share = shares.get(kind, 0.0)
        if share:
            parts.append(el("rect", x=_pct(at), width=_pct(share), height="8", class_=kind))
            at += share
    told = ", ".join(f"{word}: {count}" for word, count in words.items())
    return el("svg", el("title", told), parts, class_="states", role="img", aria_label=told)


def _scale(axis: Axis) -> Markup:
    step = nice(axis.span / 5)
    count = int(axis.span / step + 1e-9)
    marks = []
    for index in range(count + 1):
        share = index * step / axis.span
        if share > 0.88:
            break
        marks.append(el("line", x1=_pct(share), x2=_pct(share), y1="0", y2="24", class_="grid"))
        marks.append(el("text", _tick(index * step), x=_pct(share), dx="4", y="16"))
    return el("div", el("div"), el("svg", marks, class_="lane", aria_hidden="true"), class_="g axis")


def nice(value: float) -> float:
    """A round number of seconds that is not smaller."""
    if value > 30:
        for step in (60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200):
            if step >= value:
                return float(step)
        return math.ceil(value / 86400) * 86400.0
    power: float = 10.0 ** math.floor(math.log10(max(value, 1e-3)))
    for factor in (1, 2, 5, 10):
        if factor * power >= value * 0.999:
            return factor * power
    return 10 * power


def _tick(value: float) -> str:
    if not value:
        return "0"
    if value >= 60:
        return look.seconds(value).removesuffix(" 0 s").removesuffix(" 0 m")
    return f"{value:g} s" if value >= 1 else f"{value * 1000:g} ms"


def _svg(parts: list[Markup]) -> Markup:
    return el("svg", parts, class_="lane", aria_hidden="true")


def _pct(share: float) -> str:
    return f"{share * 100:.2f}%"
