"""Which tasks of a failed or canceled run begin again when the run is retried: a pure function of spec and record.

Semantics (upstream: Argo Workflows' FormulateRetryWorkflow):
- a step that failed or was canceled begins again, and so does everything downstream of it, also what had run although
  it failed (exit tasks run again, because what they clean up or announce has changed);
- every other task that succeeded, or that a false condition skipped, stays as it is;
- a scope around tasks that begin again is opened again with the inputs that it had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.components.pipelines.policy.plan import ROOT, find_task
from headrace.components.pipelines.store.models import Again, RuntimeState, TaskType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.components.pipelines.store.models import TaskRow
    from headrace.components.pipelines.types.ir import PipelineSpec

_BROKEN = frozenset({RuntimeState.FAILED, RuntimeState.CANCELED})


def rerun(spec: PipelineSpec, tasks: Mapping[str, TaskRow]) -> dict[str, Again]:
    """By path. Empty when no task has been recorded: the run then begins from its root."""
    children: dict[str, list[TaskRow]] = {}
    for row in tasks.values():
        if row.path != ROOT:
            children.setdefault(row.path.rpartition("/")[0], []).append(row)
    found: dict[str, Again] = {}
    if ROOT in tasks:
        _scope(spec, tasks[ROOT], children, found)
    return found


def _scope(spec: PipelineSpec, row: TaskRow, children: Mapping[str, list[TaskRow]], found: dict[str, Again]) -> None:
    """A scope that is not to stay as it is; without children it failed before it opened."""
    inside = children.get(row.path, [])
    found[row.path] = Again.REOPEN if inside else Again.RESET
    broken = {child.name: child for child in inside if child.state in _BROKEN}
    if row.type is TaskType.LOOP:
        for child in inside:
            if child.state in _BROKEN:
                _scope(spec, child, children, found)
        return
    downstream = _downstream(spec, row, set(broken))
    for child in inside:
        if child.name in downstream:
            _reset(child, children, found)
        elif child.name in broken and child.type not in {TaskType.RUNTIME, TaskType.IMPORTER}:
            _scope(spec, child, children, found)
        elif child.name in broken:
            found[child.path] = Again.RESET


def _reset(row: TaskRow, children: Mapping[str, list[TaskRow]], found: dict[str, Again]) -> None:
    found[row.path] = Again.RESET
    for child in children.get(row.path, []):
        _reset(child, children, found)


def _downstream(spec: PipelineSpec, scope: TaskRow, names: set[str]) -> set[str]:
    """Names of the tasks of a scope that depend on one of these."""
    component, _ = find_task(spec, scope.path)
    if component.dag is None:
        return set()
    upstream = {name: task.upstream() for name, task in component.dag.tasks.items()}
    found: set[str] = set()
    while True:
        more = {name for name, needs in upstream.items() if name not in found and needs & (names | found)}
        if not more:
            return found
        found |= more
