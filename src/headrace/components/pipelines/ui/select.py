"""Which tasks of a run a person means: `train+`, `+evaluate`, `state:failed`, `fit*`.

Words with a space between them add up, words with a comma between them must hold together. A word is a name, a place
in the run or a pattern of either; a plus before it brings what it was made from, a plus behind it what was made from
it. A group stands for everything within it. Pure.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from headrace.components.pipelines.policy.plan import find_task
from headrace.components.pipelines.store.models import RuntimeState, TaskType
from headrace.machinery.words import _

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace.components.pipelines.store.models import TaskRow
    from headrace.components.pipelines.types.ir import PipelineSpec

MAX_QUERY = 500
MAX_WORDS = 20
_STATES = {
    **{state.value.lower(): {state} for state in RuntimeState},
    "waiting": {RuntimeState.PENDING},
    "stopped": {RuntimeState.CANCELED},
    "stopping": {RuntimeState.CANCELING},
}
_CACHED = "cached"
_TYPES = {kind.value.lower().replace("_", "-"): kind for kind in TaskType if kind is not TaskType.ROOT} | {
    "step": TaskType.RUNTIME,
    "group": TaskType.DAG,
}


class SelectionError(ValueError):
    """The query cannot be read; the message says which word and what would be."""


def edges(tasks: Sequence[TaskRow], spec: PipelineSpec | None) -> dict[str, list[str]]:
    """By a task's id the ids of its neighbours that it follows."""
    if spec is None:
        return {}
    by_id = {task.id: task for task in tasks}
    sisters = {(task.parent_id, task.name): task.id for task in tasks if task.iteration_index is None}
    known: dict[tuple[int, str], set[str]] = {}
    found: dict[str, list[str]] = {}
    for task in tasks:
        parent = by_id.get(task.parent_id or "")
        if parent is None or parent.type is TaskType.LOOP:
            continue
        try:
            component, _task = find_task(spec, parent.path)
        except KeyError:
            continue
        step = component.dag.tasks.get(task.name) if component.dag is not None else None
        if step is None:
            continue
        key = (id(component), task.name)
        if key not in known:
            known[key] = step.upstream()
        before = [sisters.get((task.parent_id, name)) for name in sorted(known[key])]
        found[task.id] = [ident for ident in before if ident is not None]
    return found


def chosen(query: str, tasks: Sequence[TaskRow], after: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """Ids of the tasks that the query means. Raises SelectionError."""
    if len(query) > MAX_QUERY:
        raise SelectionError(_("A selection has at most {n} characters.", n=MAX_QUERY))
    words = query.split()
    if len(words) > MAX_WORDS:
        raise SelectionError(_("A selection has at most {n} words.", n=MAX_WORDS))
    world = _World(tasks, after)
    found: set[str] = set()
    for word in words:
        parts = [world.word(part) for part in word.split(",") if part]
        if parts:
            found |= set.intersection(*parts)
    return frozenset(found)


def with_scopes(ids: Iterable[str], tasks: Sequence[TaskRow]) -> frozenset[str]:
    """These tasks and the groups that they stand in."""
    parents = {task.id: task.parent_id for task in tasks}
    found: set[str] = set()
    for ident in ids:
        at: str | None = ident
        while at is not None and at not in found:
            found.add(at)
            at = parents.get(at)
    return frozenset(found)


class _World:
    """The run's tasks, as the words are looked up in them."""

    def __init__(self, tasks: Sequence[TaskRow], after: Mapping[str, Sequence[str]]) -> None:
        self._tasks = [task for task in tasks if task.type is not TaskType.ROOT]
        self._by_id = {task.id: task for task in tasks}
        self._inside: dict[str, list[str]] = {}
        for task in self._tasks:
            if task.parent_id:
                self._inside.setdefault(task.parent_id, []).append(task.id)
        self._after = after
        self._before: dict[str, list[str]] = {}
        for ident, needs in after.items():
            for need in needs:
                self._before.setdefault(need, []).append(ident)

    def word(self, word: str) -> set[str]:
        up, down = word.startswith("+"), word.endswith("+") and len(word) > 1
        name = word.removeprefix("+").removesuffix("+") if down else word.removeprefix("+")
        if not name:
            raise SelectionError(_("A plus stands beside a name, as in `train+` or `+evaluate`."))
        start = self._matching(name)
        found = self._within(start)
        if up:
            found |= self._reached(start, self._after)
        if down:
            found |= self._reached(start, self._before)
        return found

    def _matching(self, name: str) -> set[str]:
        key, colon, value = name.partition(":")
        wanted = value.lower()
        if colon and key == "state":
            if wanted == _CACHED:
                return {task.id for task in self._tasks if task.cached_from}
            states = _STATES.get(wanted)
            if states is None:
                known = ", ".join(sorted({*_STATES, _CACHED}))
                raise SelectionError(_("There is no state {word}. States are {known}.", word=value, known=known))
            return {task.id for task in self._tasks if task.state in states and task.id not in self._inside}
        if colon and key == "type":
            kind = _TYPES.get(wanted)
            if kind is None:
                known = ", ".join(sorted(_TYPES))
                raise SelectionError(_("There is no kind {word}. Kinds are {known}.", word=value, known=known))
            return {task.id for task in self._tasks if task.type is kind}
        pattern = name.lower()
        return {
            task.id
            for task in self._tasks
            if any(
                fnmatchcase(text.lower(), pattern)
                for text in (task.name, task.display_name, task.path.removeprefix("root/"))
            )
        }

    def _within(self, ids: Iterable[str]) -> set[str]:
        found: set[str] = set()
        left = list(ids)
        while left:
            ident = left.pop()
            if ident not in found:
                found.add(ident)
                left += self._inside.get(ident, ())
        return found

    def _reached(self, ids: Iterable[str], ways: Mapping[str, Sequence[str]]) -> set[str]:
        """Along the arrows, also along those of the groups that a task stands in."""
        seen: set[str] = set()
        found: set[str] = set()
        left = list(ids)
        while left:
            ident = left.pop()
            if ident in seen:
                continue
            seen.add(ident)
            found.update(ways.get(ident, ()))
            left += ways.get(ident, ())
            task = self._by_id.get(ident)
            if task is not None and task.parent_id:
                left.append(task.parent_id)
        return self._within(found)
