"""A run drawn as its pipeline: the boxes of `graph` with the states of the run's tasks, groups and loops folded.

What the pipeline has and the run has not come to yet is drawn as waiting. A loop begins folded, whatever its size: one
box with a bar of its steps' states. Pure.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from headrace.components.pipelines.store.models import RuntimeState, TaskType
from headrace.components.pipelines.ui import graph
from headrace.components.pipelines.ui.graph import Box, Links
from headrace.components.pipelines.ui.states import look_of_task
from headrace.components.pipelines.ui.timeline import LEAVES, began, iteration
from headrace.machinery import look
from headrace.machinery.html import Markup, el
from headrace.machinery.words import _

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from headrace.components.pipelines.store.models import TaskRow
    from headrace.components.pipelines.types.ir import ComponentSpec, PipelineSpec
    from headrace.machinery.pages import PageRequest

PARAMETER = "open"
MAX_DRAWN = 300
"""So many boxes side by side: more are not read as a drawing, and cost a browser seconds."""
_ORDER = (look.OK, look.HIT, look.RUN, look.WARN, look.BAD, look.WAIT)


def boxes(tasks: Sequence[TaskRow], spec: PipelineSpec | None, only: frozenset[str] | None = None) -> list[Box]:
    """The run's boxes; with `only` those of these tasks (by id) alone, and what has not been recorded left out."""
    drawing = _Drawing(tasks, only)
    root = next((task for task in tasks if task.type is TaskType.ROOT), None)
    return drawing.scope(root, "root", spec.root if spec is not None else None, spec, 0)


def render(
    request: PageRequest,
    tasks: Sequence[TaskRow],
    chosen: TaskRow | None,
    spec: PipelineSpec | None,
    only: frozenset[str] | None = None,
) -> Markup:
    """The drawing, its links in the page's address."""
    every = boxes(tasks, spec, only)
    drawn = every[:MAX_DRAWN]
    ids = {task.path: task.id for task in tasks}
    toggled = set(filter(None, request.query.get(PARAMETER, "").split(",")))
    many = graph.begins_shut(every)
    loops = {task.path for task in tasks if task.type is TaskType.LOOP}

    def shut(box: Box) -> bool:
        return (many or box.key in loops or box.note == _("loop")) != (_short(box.key) in toggled)

    links = Links(
        task=lambda box: request.link(task=ids[box.key]) if box.key in ids else "",
        toggle=lambda box: request.link(**{PARAMETER: ",".join(sorted(toggled ^ {_short(box.key)}))}),
        shut=shut,
        chosen=_visible(drawn, chosen.path, shut) if chosen is not None else "",
    )
    if not drawn:
        return look.empty(_("No task is left to draw."))
    for box in _opened(drawn, shut):
        del box.children[MAX_DRAWN:]
    told = _("The first {n} of {all} tasks are drawn: choose fewer above.", n=MAX_DRAWN, all=len(every))
    more = look.empty(told) if len(every) > MAX_DRAWN else ""
    return Markup(el("div", graph.draw(drawn, links, _("Tasks of the run")), class_="dagbox") + more)


def _opened(drawn: Sequence[Box], shut: Callable[[Box], bool]) -> Iterator[Box]:
    for box in drawn:
        if box.children and not shut(box):
            yield box
            yield from _opened(box.children, shut)


def _visible(drawn: Sequence[Box], path: str, shut: Callable[[Box], bool]) -> str:
    """The box that shows the task of this path: its own, or the folded group that it is in."""
    for box in drawn:
        if box.key == path:
            return box.key
        if path.startswith(f"{box.key}/"):
            closed = not box.children or shut(box)
            return box.key if closed else _visible(box.children, path, shut)
    return ""


def _short(key: str) -> str:
    return f"{zlib.crc32(key.encode()):08x}"


class _Drawing:
    def __init__(self, tasks: Sequence[TaskRow], only: frozenset[str] | None) -> None:
        self._only = only
        self._children: dict[str | None, list[TaskRow]] = {}
        for task in tasks:
            self._children.setdefault(task.parent_id, []).append(task)

    def scope(
        self, row: TaskRow | None, path: str, component: ComponentSpec | None, spec: PipelineSpec | None, depth: int
    ) -> list[Box]:
        """The boxes within a group: as the pipeline orders them, what only the record has after them."""
        if depth > graph.MAX_DEPTH:
            return []
        mine = {task.name: task for task in self._children.get(row.id, ())} if row is not None else {}
        found: list[Box] = []
        if component is not None and component.dag is not None and spec is not None:
            for name, task in component.dag.tasks.items():
                known = mine.pop(name, None)
                if not self._wanted(known):
                    continue
                inner = spec.components.get(task.component_ref.name)
                box = self._box(known, f"{path}/{name}", task.task_info.name or name, inner, spec, depth)
                box.after = [f"{path}/{before}" for before in sorted(task.upstream())]
                if known is None and task.parameter_iterator is not None:
                    box.note = _("loop")
                found.append(box)
        found += [
            self._box(task, task.path, task.name, None, spec, depth) for task in mine.values() if self._wanted(task)
        ]
        return found

    def _wanted(self, row: TaskRow | None) -> bool:
        return self._only is None or (row is not None and row.id in self._only)

    def _box(  # noqa: PLR0917 - the parts of one place
        self,
        row: TaskRow | None,
        path: str,
        label: str,
        component: ComponentSpec | None,
        spec: PipelineSpec | None,
        depth: int,
    ) -> Box:
        if row is not None and row.type is TaskType.LOOP:
            rounds = sorted(self._children.get(row.id, ()), key=lambda task: task.iteration_index or 0)
            children = [self._round(task, component, spec, depth) for task in rounds if self._wanted(task)]
        else:
            children = self.scope(row, path, component, spec, depth + 1)
        if row is None:
            shares = {look.WAIT: sum(child.count() for child in children)} if children else {}
            return Box(path, label, _("not started"), look.WAIT, _("not started"), (), children, shares)
        kind, word = look_of_task(row)
        return Box(path, row.display_name or label, _note(row, word), kind, word, (), children, self._shares(row))

    def _round(self, row: TaskRow, component: ComponentSpec | None, spec: PipelineSpec | None, depth: int) -> Box:
        """An iteration; one that holds a single step is drawn as that step."""
        children = self.scope(row, row.path, component, spec, depth + 2)
        label = iteration(row)
        if len(children) == 1 and not children[0].children:
            only = children[0]
            only.label, only.after = label, ()
            return only
        kind, word = look_of_task(row)
        return Box(row.path, label, word, kind, word, (), children, self._shares(row))

    def _shares(self, row: TaskRow) -> dict[str, int]:
        counts: dict[str, int] = {}
        left = list(self._children.get(row.id, ()))
        while left:
            task = left.pop()
            inside = self._children.get(task.id, ())
            if task.type in LEAVES or (not inside and task.type is not TaskType.LOOP):
                kind = look_of_task(task)[0]
                counts[kind] = counts.get(kind, 0) + 1
            left += inside
        return {kind: counts[kind] for kind in _ORDER if kind in counts}


def _note(row: TaskRow, word: str) -> str:
    if row.type is TaskType.LOOP:
        return _("loop")
    start = began(row)
    if row.state.final and row.state is not RuntimeState.SKIPPED and not row.cached_from and start and row.finished_at:
        return f"{word}, {look.seconds((row.finished_at - start).total_seconds())}"
    return word
