"""What the engine's decisions are made from and what they come to, and the names that follow from a task's place.

Invariant: everything here follows from the spec and the record, so that a restart decides the same again.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headrace.components.pipelines.store.models import RuntimeState, TaskRow, TaskType, TaskUpdate, Values

if TYPE_CHECKING:
    import datetime as dt

    from headrace.components.pipelines.policy.resolve import RunConstants
    from headrace.components.pipelines.store.models import Artifact, NewArtifact, Run
    from headrace.components.pipelines.types.ir import ComponentSpec, PipelineSpec, TaskSpec

ROOT = "root"
FAILED_PRECONDITION, INTERNAL, CANCELLED, DEADLINE_EXCEEDED, UNAVAILABLE = 9, 13, 1, 4, 14
"""Codes of google.rpc.Status. A task that failed with FAILED_PRECONDITION is not retried: it would fail again."""

_TASK_IDS = uuid.UUID("a4f3f0a2-2f8c-4d6e-8f21-65cf0d2f5b11")
_NOT_A_NAME = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class CacheHit:
    """An earlier task that succeeded under the same key."""

    task_id: str
    outputs: Values


@dataclass(frozen=True, slots=True)
class Step:
    """A task of a DAG with what is the same for every row of it."""

    name: str
    task: TaskSpec
    type: TaskType
    shown: str
    upstream: tuple[str, ...]


@dataclass(slots=True)
class Loop:
    """A loop that runs."""

    items: list[Any]
    left: list[int]
    """Its iterations without those that are on record as ended: nothing happens to them any more."""


@dataclass(slots=True)
class RunView:
    """A run as it is recorded; `tasks` by path, `artifacts` by id."""

    spec: PipelineSpec
    run: Run
    tasks: dict[str, TaskRow]
    artifacts: dict[str, Artifact]
    constants: RunConstants
    steps: dict[int, list[Step]] = field(default_factory=dict)
    """By the identity of a DAG of `spec`: its tasks in the order in which they are looked at."""
    loops: dict[str, Loop] = field(default_factory=dict)
    """By path, worked out once for a view, like `steps`."""


@dataclass(frozen=True, slots=True)
class Finish:
    """How the run ends."""

    state: RuntimeState
    code: int = 0
    message: str = ""


@dataclass(slots=True)
class Plan:
    """Everything that can be decided now. `rows` are the tasks as they are once `create` and `updates` are recorded."""

    create: list[TaskRow] = field(default_factory=list)
    updates: list[TaskUpdate] = field(default_factory=list)
    rows: dict[str, TaskRow] = field(default_factory=dict)
    start: list[str] = field(default_factory=list)
    """Paths of tasks whose pod is to be created."""
    imports: list[tuple[str, NewArtifact]] = field(default_factory=list)
    """Paths of importers, and the artifact that each brings in."""
    lookups: dict[str, str] = field(default_factory=dict)
    """Path to cache key: the decision needs to know whether there is a hit."""
    stop: list[str] = field(default_factory=list)
    """Names of pods that must end."""
    wake_at: dt.datetime | None = None
    """When a retry is due."""
    finish: Finish | None = None


def resource_name(pipeline: str, run_id: str) -> str:
    """The name of a run as a Kubernetes object would have it (upstream: the Argo Workflow's)."""
    return f"{pipeline}-{run_id[:5]}"


def pod_name(run: Run, path: str, attempt: int) -> str:
    """The pod of an attempt: the same one each time it is asked for, so that a restart cannot start it twice."""
    digest = hashlib.sha256(f"{run.id}/{path}".encode()).hexdigest()[:8]
    task = path.rsplit("/", 1)[-1]
    readable = "-".join(p for p in (_label(run.pipeline_name, 20), run.id[:5], _label(task, 20)) if p)
    return f"{readable}-{digest}-{attempt}"


def task_id(run_id: str, path: str) -> str:
    """The id of a task follows from its place in the run."""
    return str(uuid.uuid5(_TASK_IDS, f"{run_id}/{path}"))


def task_type(spec: PipelineSpec, task: TaskSpec) -> TaskType:
    """What a task of a DAG stands for."""
    component = spec.component_of(task)
    if component.dag is None:
        return TaskType.IMPORTER if spec.executor_of(component).importer is not None else TaskType.RUNTIME
    if task.parameter_iterator is not None:
        return TaskType.LOOP
    name = task.component_ref.name.removeprefix("comp-")
    if name.startswith("condition-branches-"):
        return TaskType.CONDITION_BRANCH
    if name.startswith("exit-handler-"):
        return TaskType.EXIT_HANDLER
    return TaskType.CONDITION if task.trigger_policy.condition else TaskType.DAG


def find_task(spec: PipelineSpec, path: str) -> tuple[ComponentSpec, TaskSpec | None]:
    """The component and the task spec behind a path; iterations have the loop's. Raises KeyError."""
    component, task = spec.root, None
    in_loop = False
    for part in path.split("/")[1:]:
        if in_loop:
            in_loop = False
            continue
        if component.dag is None:
            raise KeyError(path)
        task = component.dag.tasks[part]
        component = spec.component_of(task)
        in_loop = task.parameter_iterator is not None
    return component, task


def _label(text: str, size: int) -> str:
    return _NOT_A_NAME.sub("-", text.lower())[:size].strip("-")
