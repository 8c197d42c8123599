"""Rows of the pipelines database as plain values, without SQL: what the engine and the REST API exchange with it.

Invariants: a state in FINAL never changes again unless a user retries the run; a task is identified within its run by
its `path`; moments are aware UTC datetimes; ids are UUIDs as text (the forms that clients see).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping, Sequence


class RuntimeState(enum.StrEnum):
    """The state of a run or a task, in the API's words."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"
    CANCELING = "CANCELING"
    CANCELED = "CANCELED"
    PAUSED = "PAUSED"

    @property
    def final(self) -> bool:
        """Whether nothing follows this state."""
        return self in FINAL


DEFAULT_SERVICE_ACCOUNT = "default-editor"
"""Whose rights a run's pods have unless it asks for another service account of its namespace."""

FINAL = frozenset({RuntimeState.SUCCEEDED, RuntimeState.SKIPPED, RuntimeState.FAILED, RuntimeState.CANCELED})


class StorageState(enum.StrEnum):
    """Whether a run or an experiment is shown in the ordinary lists."""

    AVAILABLE = "AVAILABLE"
    ARCHIVED = "ARCHIVED"


class TaskType(enum.StrEnum):
    """What a task stands for (the task types of upstream's native model)."""

    ROOT = "ROOT"
    RUNTIME = "RUNTIME"
    CONDITION = "CONDITION"
    CONDITION_BRANCH = "CONDITION_BRANCH"
    LOOP = "LOOP"
    EXIT_HANDLER = "EXIT_HANDLER"
    IMPORTER = "IMPORTER"
    DAG = "DAG"


class Direction(enum.StrEnum):
    """Which side of a task an artifact is on."""

    INPUT = "INPUT"
    OUTPUT = "OUTPUT"


class Values(msgspec.Struct, omit_defaults=True):
    """Inputs or outputs of a task: parameter values (plain JSON) and, by name, the ids of artifacts."""

    parameters: dict[str, Any] = {}
    artifacts: dict[str, list[str]] = {}


class StatusEntry(TypedDict, total=False):
    """One entry of a state history, as the API shows it."""

    update_time: str
    state: str
    error: dict[str, Any]


@dataclass(slots=True)
class Experiment:
    """A named group of runs within a namespace."""

    id: str
    namespace: str
    display_name: str
    description: str = ""
    storage_state: StorageState = StorageState.AVAILABLE
    created_at: dt.datetime | None = None
    last_run_created_at: dt.datetime | None = None


@dataclass(slots=True)
class Pipeline:
    """A named series of versions. The empty namespace means shared by all."""

    id: str
    namespace: str
    name: str
    display_name: str = ""
    description: str = ""
    created_at: dt.datetime | None = None
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Spec:
    """A compiled pipeline as the client sent it: the IR and, when there is one, the platform part."""

    pipeline_spec: dict[str, Any]
    platform_spec: dict[str, Any] | None = None

    @property
    def document(self) -> dict[str, Any]:
        """As the API has it: bare, or both parts under their names."""
        if not self.platform_spec:
            return self.pipeline_spec
        return {"pipeline_spec": self.pipeline_spec, "platform_spec": self.platform_spec}


@dataclass(slots=True)
class PipelineVersion:
    """A compiled pipeline under a name."""

    id: str
    pipeline_id: str
    name: str
    display_name: str = ""
    description: str = ""
    created_at: dt.datetime | None = None
    package_url: str = ""
    code_source_url: str = ""
    spec: Spec | None = None
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class TaskRow:
    """One task of a run: a leaf (RUNTIME, IMPORTER) or a scope (all other types).

    `path` is unique within the run and holds loop indices, e.g. `root/train-loop/2/fit`; the root's is `root`.
    """

    id: str
    run_id: str
    path: str
    name: str
    type: TaskType
    parent_id: str | None = None
    display_name: str = ""
    state: RuntimeState = RuntimeState.PENDING
    iteration_index: int | None = None
    attempt: int = 0
    """Which try is on now, from 0; a report for another attempt is not recorded."""
    pod_name: str = ""
    inputs: Values = field(default_factory=Values)
    outputs: Values = field(default_factory=Values)
    cache_key: str = ""
    cached_from: str = ""
    """The task whose outputs were taken from the cache; empty when the task ran itself."""
    error_code: int = 0
    error_message: str = ""
    report: dict[str, Any] | None = None
    """What the launcher reported of the current attempt: `{attempt, state, exit_code, error, used}`."""
    detail: dict[str, Any] = field(default_factory=dict)
    """The engine's own notes; `failed_pods` (a list of names) is shown as executor_detail.failed_main_jobs."""
    state_history: list[StatusEntry] = field(default_factory=list)
    created_at: dt.datetime | None = None
    started_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None

    @property
    def used(self) -> dict[str, float]:
        """What all its attempts cost so far; `detail` keeps that of those before this one."""
        return total_use([self.detail.get("used"), (self.report or {}).get("used")])


def total_use(parts: Iterable[Mapping[str, float] | None]) -> dict[str, float]:
    """Processor time together, the highest of the peaks; empty when nobody counted any."""
    found = [part for part in parts if part]
    if not found:
        return {}
    return {
        "cpu_seconds": sum(part.get("cpu_seconds", 0.0) for part in found),
        "peak_bytes": max(part.get("peak_bytes", 0) for part in found),
    }


class TaskChanges(TypedDict, total=False):
    """Fields of a task that an update sets; a state that differs is added to the history by the repository."""

    state: RuntimeState
    attempt: int
    pod_name: str
    inputs: Values
    outputs: Values
    cache_key: str
    cached_from: str
    error_code: int
    error_message: str
    report: dict[str, Any] | None
    detail: dict[str, Any]
    started_at: dt.datetime
    finished_at: dt.datetime


@dataclass(frozen=True, slots=True)
class TaskUpdate:
    """A compare-and-set on one task. It applies only when the task is not in a final state, is in one of `expect`
    (when given) and is at `expect_attempt` (when given).

    `started_at` (first RUNNING) and `finished_at` (final state) are set by the repository unless given.
    """

    task_id: str
    changes: TaskChanges
    expect: frozenset[RuntimeState] | None = None
    expect_attempt: int | None = None


class Again(enum.StrEnum):
    """What a retry does to a task."""

    RESET = "reset"
    """As if it had never begun, at its next attempt."""
    REOPEN = "reopen"
    """A scope goes on: with its inputs, without its outcome."""


@dataclass(slots=True)
class Artifact:
    """An artifact: a typed reference to bytes in an object store, with metadata. Metrics are artifacts too."""

    id: str
    namespace: str
    type: str
    """The schema title, e.g. `system.Model`."""
    name: str
    uri: str
    metadata: dict[str, Any] = field(default_factory=dict)
    run_id: str = ""
    task_id: str = ""
    """The task that produced it."""
    schema_version: str = ""
    created_at: dt.datetime | None = None
    number: int = 0
    """The number under which int64 fields of the API name it; given by the database."""


@dataclass(frozen=True, slots=True)
class NewArtifact:
    """An artifact that a task made, by the name of the output; a list output has several of the same name."""

    output: str
    name: str
    type: str
    uri: str
    metadata: dict[str, Any] = field(default_factory=dict)
    schema_version: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What a task's attempt came to. SUCCEEDED finishes the task; with any other state the engine decides."""

    attempt: int
    state: RuntimeState
    parameters: dict[str, Any] = field(default_factory=dict)
    artifacts: Sequence[NewArtifact] = ()
    exit_code: int | None = None
    error_code: int = 0
    error_message: str = ""
    used: dict[str, float] = field(default_factory=dict)
    """What the attempt cost: `cpu_seconds`, `peak_bytes`; empty where nobody counted."""
    started_at: dt.datetime | None = None
    """When its program began, if it did."""


@dataclass(slots=True)
class Run:
    """A run without its parts, as lists show it."""

    id: str
    namespace: str
    experiment_id: str
    display_name: str
    description: str = ""
    storage_state: StorageState = StorageState.AVAILABLE
    state: RuntimeState = RuntimeState.PENDING
    service_account: str = DEFAULT_SERVICE_ACCOUNT
    pipeline_id: str = ""
    pipeline_version_id: str = ""
    pipeline_name: str = ""
    """`pipelineInfo.name` of the spec: what caching is scoped by."""
    parameters: dict[str, Any] = field(default_factory=dict)
    pipeline_root: str = ""
    error_code: int = 0
    error_message: str = ""
    state_history: list[StatusEntry] = field(default_factory=list)
    created_at: dt.datetime | None = None
    scheduled_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None
    spec_digest: str = ""
    recurring_run_id: str = ""


class Status(enum.StrEnum):
    """Whether a recurring run starts runs."""

    ENABLED = "ENABLED"
    DISABLED = "DISABLED"


@dataclass(slots=True)
class RecurringRun:
    """What starts runs by a schedule."""

    id: str
    namespace: str
    experiment_id: str
    display_name: str
    trigger: dict[str, Any]
    """In the API's words, with moments as text (see policy.schedule)."""
    description: str = ""
    status: Status = Status.ENABLED
    service_account: str = DEFAULT_SERVICE_ACCOUNT
    pipeline_id: str = ""
    pipeline_version_id: str = ""
    """Empty with a `pipeline_id`: the latest version at the time."""
    parameters: dict[str, Any] = field(default_factory=dict)
    pipeline_root: str = ""
    max_concurrency: int = 1
    no_catchup: int = 0
    error_code: int = 0
    error_message: str = ""
    """Why the last start failed."""
    last_index: int = 0
    """How many runs it has started."""
    last_triggered_at: dt.datetime | None = None
    """The scheduled time of the last start."""
    created_at: dt.datetime | None = None
    updated_at: dt.datetime | None = None
    spec_digest: str | None = None
    """What it was pinned to; None with the latest version."""


class FollowUpKind(enum.StrEnum):
    """What is done after a run has ended."""

    CLEAN = "clean"
    """Its objects have lived for as long as the pipeline says."""
    WEBHOOK = "webhook"
    EMAIL = "email"


@dataclass(slots=True)
class FollowUp:
    """One thing to do after a run has ended."""

    id: str
    run_id: str
    namespace: str
    kind: FollowUpKind
    due_at: dt.datetime
    payload: dict[str, Any] = field(default_factory=dict)
    attempts: int = 0
    """How often it has been tried."""
    error: str = ""
    """Why it failed last."""
    created_at: dt.datetime | None = None


@dataclass(slots=True)
class RunRow:
    """A run with everything that the engine needs to continue it."""

    run: Run
    spec: Spec
    tasks: list[TaskRow]
    """In the order of their creation."""
    artifacts: dict[str, Artifact]
    """By id: those that the tasks' inputs and outputs name."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that a node of a run came to."""

    name: str
    node_id: str
    number_value: float
    format: str = ""
    """RAW, PERCENTAGE or nothing."""


class ChangeKind(enum.StrEnum):
    """Why the engine should look at a run, or the scheduler at its schedules (the last two)."""

    CREATED = "created"
    TERMINATING = "terminating"
    REPORTED = "reported"
    DELETED = "deleted"
    RETRIED = "retried"
    FINISHED = "finished"
    """A run came to its end that a recurring run had started, or after which something is to be done."""
    SCHEDULE = "schedule"
    """A recurring run was made or changed; `run_id` is the recurring run's."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something committed that did not come from the engine. `task` is the row after a report."""

    kind: ChangeKind
    run_id: str
    task: TaskRow | None = None
