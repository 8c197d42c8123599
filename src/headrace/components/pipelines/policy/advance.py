"""What a run does next: a pure function of its spec and of the record of its tasks.

`advance` goes through the tasks of every open scope in topological order and follows each change to its end, so that
one plan holds everything that can be decided now: rows to record, pods to start, cache keys to look up, and the run's
end. Nothing is decided twice: what is decided shows in the rows.

Semantics (upstream: compiler/argocompiler/dag.go, driver/dag.go, driver/container.go):
- a task begins when all its upstream tasks have ended; unless its trigger says otherwise it is skipped when one of
  them did not succeed, a skipped one included;
- a failed task fails its scope when everything else in the scope has ended; branches that do not depend on it go on;
- a false condition skips a task; a scope whose tasks were skipped by conditions succeeds; in pipelines of kfp 1 what
  comes after a branch that was not taken runs all the same, as in Argo;
- a task without a retry policy has that of the scope around it.

Not upstream's: a step that was running when the platform or the machine went down begins again, whatever its retry
policy. On a cluster a lost node is an accident; here people switch their machines off.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from headrace.components.pipelines.policy import cache, expressions, platform, resolve, workspace
from headrace.components.pipelines.policy.deadline import deadline_seconds, run_deadline
from headrace.components.pipelines.policy.ordering import topological
from headrace.components.pipelines.policy.plan import (
    CANCELLED,
    DEADLINE_EXCEEDED,
    FAILED_PRECONDITION,
    INTERNAL,
    ROOT,
    UNAVAILABLE,
    CacheHit,
    Finish,
    Loop,
    Plan,
    RunView,
    Step,
    find_task,
    pod_name,
    task_id,
    task_type,
)
from headrace.components.pipelines.policy.retry import next_attempt
from headrace.components.pipelines.policy.values import ResolveError, to_text
from headrace.components.pipelines.store.models import (
    NewArtifact,
    RuntimeState,
    TaskRow,
    TaskType,
    TaskUpdate,
    Values,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from headrace.components.pipelines.store.models import TaskChanges
    from headrace.components.pipelines.types.ir import ComponentSpec, DagSpec, RetryPolicy, TaskSpec
NOT_TAKEN = "ConditionFalse"
"""Why a task was skipped whose own condition was false, or which came after such a one."""
MAX_LOST = 5
"""How often a step that the platform or the machine lost while it ran begins again."""
_OPERATION = "argostub/"
"""Images that stand for an operation on the cluster: what it did may have been undone, so it is not cached."""
_SETTABLE = ("state", "attempt", "pod_name", "inputs", "outputs", "cache_key", "cached_from", "error_code")


def advance(
    view: RunView,
    now: dt.datetime,
    hits: Mapping[str, CacheHit | None] | None = None,
    touched: frozenset[str] | None = None,
) -> Plan:
    """The plan. `hits` are the results of the lookups of the previous plan, by path.

    `touched` (see `with_scopes`) says what has changed since the plan before; scopes without a change are not looked
    into. None, as after a restart and when a time has come, means everything.
    """
    planner = _Planner(view, now, hits or {}, touched)
    planner.decide()
    return planner.plan


def with_scopes(paths: Iterable[str]) -> frozenset[str]:
    """Paths and all scopes around them: what `advance` must look at when these tasks have changed."""
    found: set[str] = set()
    for changed in paths:
        path = changed
        while path and path not in found:
            found.add(path)
            path = path.rpartition("/")[0]
    return frozenset(found)


class _Planner:
    def __init__(
        self, view: RunView, now: dt.datetime, hits: Mapping[str, CacheHit | None], touched: frozenset[str] | None
    ) -> None:
        self.view, self.now, self.hits, self.touched = view, now, hits, touched
        self.plan = Plan()
        self.created: set[str] = set()

    def decide(self) -> None:
        root = self._own(ROOT) if ROOT in self.view.tasks else None
        if self.view.run.state is RuntimeState.CANCELING:
            self._end_all(RuntimeState.CANCELED, CANCELLED, "The run was terminated.")
            self.plan.finish = Finish(RuntimeState.CANCELED, CANCELLED, "The run was terminated.")
        elif root is not None and root.state.final:
            self.plan.finish = self._finish_of(root)
        elif (deadline := run_deadline(self.view)) is not None and deadline <= self.now:
            message = f"The run took longer than its deadline of {deadline_seconds(self.view.spec)} s."
            self._end_all(RuntimeState.FAILED, DEADLINE_EXCEEDED, message)
            self.plan.finish = Finish(RuntimeState.FAILED, DEADLINE_EXCEEDED, message)
        else:
            self.plan.wake_at = deadline
            root = root or self._create(ROOT, None, TaskType.ROOT, ROOT)
            if root.state is RuntimeState.PENDING:
                self._open(root, lambda: resolve.root_inputs(self.view.spec, self.view.run.parameters))
            if root.state is RuntimeState.RUNNING:
                self._dag(root, self.view.spec.root, None)
            if root.state.final:
                self.plan.finish = self._finish_of(root)
                self._leave_nothing_pending()
        self._record()

    def _leave_nothing_pending(self) -> None:
        """What a retry was to run again and that was not come to, such as the last iterations of a loop that has fewer
        items now.
        """
        for path, known in self.view.tasks.items():
            if not (self.plan.rows.get(path) or known).state.final:
                row = self._own(path)
                row.state = RuntimeState.SKIPPED
                row.detail = {**row.detail, "reason": "NotReached"}

    def _finish_of(self, root: TaskRow) -> Finish:
        return Finish(root.state, root.error_code, root.error_message)

    # Rows

    def _peek(self, path: str) -> TaskRow | None:
        """A task as it stands, to look at."""
        return self.plan.rows.get(path) or self.view.tasks.get(path)

    def _own(self, path: str) -> TaskRow:
        """A task to change: a copy, for the view is not ours."""
        found = self.plan.rows.get(path)
        if found is None:
            found = self.plan.rows[path] = dataclasses.replace(self.view.tasks[path])
        return found

    def _asleep(self, row: TaskRow) -> bool:
        """Whether nothing can have changed inside a scope that was open before."""
        if self.touched is None or row.path in self.touched:
            return False
        before = self.view.tasks.get(row.path)
        return before is not None and before.state is RuntimeState.RUNNING

    def _create(self, path: str, parent: TaskRow | None, kind: TaskType, name: str, **fields: Any) -> TaskRow:
        row = TaskRow(
            id=task_id(self.view.run.id, path),
            run_id=self.view.run.id,
            path=path,
            name=name,
            type=kind,
            parent_id=parent.id if parent else None,
            **fields,
        )
        self.plan.rows[path] = row
        self.created.add(path)
        return row

    def _record(self) -> None:
        changed: dict[str, TaskRow] = {}
        for path, row in self.plan.rows.items():
            if path in self.created:
                self.plan.create.append(row)
                changed[path] = row
                continue
            before = self.view.tasks[path]
            changes: TaskChanges = {}
            for name in (*_SETTABLE, "error_message", "detail", "started_at"):
                if getattr(before, name) != getattr(row, name):
                    changes[name] = getattr(row, name)  # type: ignore[literal-required]
            if changes:
                self.plan.updates.append(TaskUpdate(row.id, changes, expect_attempt=before.attempt))
                changed[path] = row
        self.plan.rows = changed

    # Scopes

    def _open(self, row: TaskRow, inputs: Callable[[], Values]) -> None:
        try:
            row.inputs = inputs()
        except ResolveError as error:
            self._fail(row, FAILED_PRECONDITION, str(error))
        else:
            row.state, row.error_message = RuntimeState.RUNNING, ""

    def _dag(self, row: TaskRow, component: ComponentSpec, inherited: RetryPolicy | None) -> None:
        if component.dag is None:
            self._fail(row, INTERNAL, f"Task {row.name!r} is no DAG.")
            return
        steps = self._steps(component.dag)
        children: dict[str, TaskRow] = {}
        for step in steps:
            path = f"{row.path}/{step.name}"
            children[step.name] = self._peek(path) or self._create(
                path, row, step.type, step.name, display_name=step.shown
            )
        for step in steps:
            child = children[step.name]
            if not self._waits(child, step, children):
                child = children[step.name] = self._own(child.path)
                self._task(child, step, row, children, step.task.retry_policy or inherited)
        if all(child.state.final for child in children.values()):
            in_order = [children[name] for name in component.dag.tasks]
            self._close(row, in_order, resolve.dag_outputs(component, children))

    def _steps(self, dag: DagSpec) -> list[Step]:
        """The tasks of a DAG, upstream first; worked out once for a run."""
        found = self.view.steps.get(id(dag))
        if found is None:
            found = self.view.steps[id(dag)] = [
                Step(
                    name,
                    dag.tasks[name],
                    task_type(self.view.spec, dag.tasks[name]),
                    dag.tasks[name].task_info.name or name,
                    tuple(sorted(dag.tasks[name].upstream())),
                )
                for name in topological(dag)
            ]
        return found

    def _waits(self, row: TaskRow, step: Step, sisters: Mapping[str, TaskRow]) -> bool:
        """Whether there is nothing to decide about a task now."""
        if row.state.final:
            return True
        if row.pod_name and "retry_at" not in row.detail:
            return row.report is None
        if row.state is RuntimeState.RUNNING:
            return self._asleep(row)
        return not all(sisters[name].state.final for name in step.upstream)

    def _loop(self, row: TaskRow, task: TaskSpec, retry: RetryPolicy | None) -> None:
        component = self.view.spec.component_of(task)
        try:
            loop = self._loop_of(row, task)
        except ResolveError as error:
            self._fail(row, FAILED_PRECONDITION, str(error))
            return
        recorded, prefix, touched = self.view.tasks, f"{row.path}/", self.touched
        left: list[int] = []
        iterations: dict[int, TaskRow] = {}
        for index in loop.left:
            path = f"{prefix}{index}"
            known = recorded.get(path)
            if known is None:
                shown = f"{row.display_name or row.name} {index}"
                known = self._create(path, row, TaskType.DAG, row.name, display_name=shown, iteration_index=index)
            elif known.state is RuntimeState.RUNNING:
                if touched is None or path in touched:
                    known = self._own(path)
                    self._dag(known, component, retry)
            elif known.state.final:
                continue
            left.append(index)
            iterations[index] = known
        loop.left = left
        limit = task.iterator_policy.parallelism_limit or len(loop.items)
        active = sum([i.state is RuntimeState.RUNNING for i in iterations.values()])
        pending = [i for i in left if _is(iterations[i], RuntimeState.PENDING)] if active < limit else []
        for index in pending:
            if active >= limit:
                break
            iteration = iterations[index] = self._own(iterations[index].path)
            self._open(iteration, partial(resolve.iteration_inputs, component, task, row.inputs, loop.items[index]))
            if _is(iteration, RuntimeState.RUNNING):
                self._dag(iteration, component, retry)
            active += _is(iteration, RuntimeState.RUNNING)
        if all(iteration.state.final for iteration in iterations.values()):
            ended = [iterations.get(index) or recorded[f"{prefix}{index}"] for index in range(len(loop.items))]
            self._close(row, ended, resolve.loop_outputs(self.view.spec, component, ended))

    def _loop_of(self, row: TaskRow, task: TaskSpec) -> Loop:
        """What a loop runs over; kept once its start is on record, for then its inputs stay. Raises ResolveError."""
        found = self.view.loops.get(row.path)
        if found is None:
            items = resolve.loop_items(task, row.inputs)
            found = Loop(items, list(range(len(items))))
            before = self.view.tasks.get(row.path)
            if before is not None and before.state is RuntimeState.RUNNING:
                self.view.loops[row.path] = found
        return found

    def _close(self, row: TaskRow, children: list[TaskRow], outputs: Values) -> None:
        row.outputs = outputs
        failed = [child for child in children if child.state is RuntimeState.FAILED]
        if not failed:
            row.state = RuntimeState.SUCCEEDED
            return
        first, more = failed[0], len(failed) - 1
        reason = first.error_message or "it failed."
        shown = first.display_name or first.name
        self._fail(row, first.error_code, reason if _is_about(reason) else f"Task {shown!r}: {reason}")
        if more:
            row.error_message += f" ({more} more failed.)"

    # Tasks

    def _task(
        self,
        row: TaskRow,
        step: Step,
        scope: TaskRow,
        sisters: Mapping[str, TaskRow],
        retry: RetryPolicy | None,
    ) -> None:
        if row.type in {TaskType.RUNTIME, TaskType.IMPORTER}:
            if row.pod_name or "retry_at" in row.detail:
                self._continue(row, retry)
            else:
                self._begin(row, step, scope, sisters)
            return
        if _is(row, RuntimeState.PENDING):
            self._begin(row, step, scope, sisters)
        if _is(row, RuntimeState.RUNNING):
            if row.type is TaskType.LOOP:
                self._loop(row, step.task, retry)
            else:
                self._dag(row, self.view.spec.component_of(step.task), retry)

    def _begin(self, row: TaskRow, step: Step, scope: TaskRow, sisters: Mapping[str, TaskRow]) -> None:
        """All upstream tasks have ended: skip, or resolve the inputs and start."""
        task, upstream = step.task, [sisters[name] for name in step.upstream]
        if not task.trigger_policy.after_completion:
            for other in upstream:
                if other.state is RuntimeState.SUCCEEDED:
                    continue
                if task.trigger_policy.past_branches and _not_taken(other):
                    continue
                self._skip(row, other)
                return
        component = self.view.spec.component_of(task)
        around = resolve.Surroundings(
            inputs=scope.inputs,
            sisters=sisters,
            constants=self.view.constants.of_task(row.name, row.id),
            resource_name=self.view.constants.resource_name,
        )
        try:
            inputs = resolve.task_inputs(component, task, around)
            wanted = not task.trigger_policy.condition or expressions.condition(
                task.trigger_policy.condition, inputs.parameters, self._shown(inputs)
            )
            config = platform.resolve_config(self.view.spec.kubernetes_of(component), around) if wanted else {}
        except ResolveError as error:
            self._fail(row, FAILED_PRECONDITION, str(error))
            return
        row.inputs = inputs
        if config:
            row.detail = {**row.detail, "kubernetes": config}
        if not wanted:
            row.state = RuntimeState.SKIPPED
            row.detail = {**row.detail, "reason": NOT_TAKEN}
        elif row.type is TaskType.IMPORTER:
            self._import(row, component)
        elif row.type is TaskType.RUNTIME:
            self._run(row, task, component)
        else:
            row.state = RuntimeState.RUNNING

    def _run(self, row: TaskRow, task: TaskSpec, component: ComponentSpec) -> None:
        container = self.view.spec.executor_of(component).container
        if container is not None and not task.caching_options.enable_cache:
            row.detail = {**row.detail, "cache": "It was not looked for in the cache: caching is off for this task."}
        elif container is not None and not container.image.startswith(_OPERATION):
            if task.caching_options.cache_key:
                row.cache_key = cache.custom_key(task.component_ref.name, task.caching_options.cache_key)
            else:
                row.cache_key = cache.fingerprint(
                    component,
                    container,
                    row.inputs.parameters,
                    {name: self._identities(ids) for name, ids in row.inputs.artifacts.items()},
                    self._claims(row),
                )
            if row.path not in self.hits:
                self.plan.lookups[row.path] = row.cache_key
                row.inputs, row.cache_key = Values(), ""
                return
            hit = self.hits[row.path]
            if hit is not None and _has_all(component, hit.outputs):
                row.state, row.outputs, row.cached_from = RuntimeState.SUCCEEDED, hit.outputs, hit.task_id
            row.detail = {**row.detail, "cache": _cache_sentence(task, hit, taken=bool(row.cached_from))}
            if row.cached_from:
                return
        self._start(row)

    def _start(self, row: TaskRow) -> None:
        row.pod_name = pod_name(self.view.run, row.path, row.attempt)
        row.detail = {name: value for name, value in row.detail.items() if name != "retry_at"}
        row.started_at = row.started_at or self.now
        self.plan.start.append(row.path)

    def _continue(self, row: TaskRow, retry: RetryPolicy | None) -> None:
        due = row.detail.get("retry_at")
        if due is not None:
            moment = dt.datetime.fromisoformat(due)
            if moment <= self.now:
                self._start(row)
            else:
                self.plan.wake_at = min(moment, self.plan.wake_at or moment)
            return
        if row.report is None or row.report.get("attempt") != row.attempt:
            return
        error: dict[str, Any] = row.report.get("error") or {}
        code, message = int(error.get("code") or INTERNAL), str(error.get("message") or "The step failed.")
        first, before = row.started_at or self.now, row.detail.get("first_attempt", 0)
        moment_or_none = (
            None if code == FAILED_PRECONDITION else next_attempt(retry, row.attempt - before, first, self.now)
        )
        lost = row.detail.get("lost", 0)
        if code == UNAVAILABLE and lost < MAX_LOST:
            # It is not the step that failed: another attempt takes nothing from those that its policy allows.
            row.detail = {**row.detail, "lost": lost + 1, "first_attempt": before + 1}
            moment_or_none = self.now
        if moment_or_none is None:
            self._fail(row, code, message)
            return
        failed_pods = [*row.detail.get("failed_pods", []), row.pod_name]
        row.detail = {**row.detail, "failed_pods": failed_pods, "retry_at": moment_or_none.isoformat()}
        if row.used:
            row.detail["used"] = row.used
        row.state, row.attempt, row.pod_name, row.report = RuntimeState.PENDING, row.attempt + 1, "", None
        row.outputs = Values()
        self._continue(row, retry)

    def _import(self, row: TaskRow, component: ComponentSpec) -> None:
        importer = self.view.spec.executor_of(component).importer
        names = list(component.output_definitions.artifacts)
        if importer is None or len(names) != 1:
            self._fail(row, FAILED_PRECONDITION, f"The importer {row.name!r} must have one output artifact.")
            return
        if importer.download_to_workspace:
            if not self.view.constants.workspace:
                message = "The importer downloads to the run's workspace, but the pipeline asks for none; give it one"
                self._fail(row, FAILED_PRECONDITION, f"{message} (dsl.PipelineConfig) or drop download_to_workspace.")
                return
            row.detail = {**row.detail, "in_workspace": True}
        uri = importer.artifact_uri.value
        if uri is UNSET:
            uri = row.inputs.parameters.get(importer.artifact_uri.runtime_parameter)
        if not uri:
            self._fail(row, FAILED_PRECONDITION, f"The importer {row.name!r} has no artifact URI.")
            return
        metadata = {key: resolve.substitute(value, row.inputs.parameters) for key, value in importer.metadata.items()}
        kind = importer.type_schema
        new = NewArtifact(names[0], names[0], kind.schema_title, to_text(uri), metadata, kind.schema_version)
        self.plan.imports.append((row.path, new))

    # Endings

    def _skip(self, row: TaskRow, because: TaskRow) -> None:
        row.state = RuntimeState.SKIPPED
        reason = "UpstreamFailed" if because.state is not RuntimeState.SKIPPED else because.detail.get("reason")
        row.detail = {**row.detail, "reason": reason or "UpstreamSkipped"}
        if reason == "UpstreamFailed":
            shown = because.display_name or because.name
            row.error_message = f"Not run, because task {shown!r} {_how(because)}."

    def _fail(self, row: TaskRow, code: int, message: str) -> None:
        row.state, row.error_code, row.error_message = RuntimeState.FAILED, code, message

    def _end_all(self, state: RuntimeState, code: int, message: str) -> None:
        for path, known in self.view.tasks.items():
            if known.state.final:
                continue
            row = self._own(path)
            if row.pod_name:
                self.plan.stop.append(row.pod_name)
            row.state, row.error_code, row.error_message = state, code, message

    def _claims(self, row: TaskRow) -> list[str]:
        """The claims that a step mounts; as a workspace is its run's own, what uses it is never taken from a cache."""
        shared = [workspace.claim_name(row.run_id)] if workspace.is_used(self.view, row) else []
        return platform.claim_names(row.detail.get("kubernetes", {})) + shared

    # Artifacts

    def _identities(self, ids: list[str]) -> list[str]:
        """Names of artifacts for the cache key. One that was imported is known by what it refers to: importing it
        again in the next run gives the same name (upstream finds the earlier artifact instead).
        """
        return [self._identity(artifact_id) for artifact_id in ids]

    def _identity(self, artifact_id: str) -> str:
        artifact = self.view.artifacts.get(artifact_id)
        producer = next((t for t in self.view.tasks.values() if artifact and t.id == artifact.task_id), None)
        if artifact is None or producer is None or producer.type is not TaskType.IMPORTER:
            return artifact_id
        component, _ = find_task(self.view.spec, producer.path)
        importer = self.view.spec.executor_of(component).importer
        if importer is None or importer.reimport:
            return artifact_id
        return cache.digest({"uri": artifact.uri, "type": artifact.type, "metadata": artifact.metadata})

    def _shown(self, inputs: Values) -> dict[str, Any]:
        known = self.view.artifacts
        return {
            name: {
                "artifacts": [
                    {"name": i, "uri": known[i].uri, "metadata": known[i].metadata} for i in ids if i in known
                ]
            }
            for name, ids in inputs.artifacts.items()
        }


def _has_all(component: ComponentSpec, outputs: Values) -> bool:
    """Whether a cached task has every output that the component promises (it may be of an older version)."""
    wanted = component.output_definitions
    return wanted.parameters.keys() <= outputs.parameters.keys() and wanted.artifacts.keys() <= outputs.artifacts.keys()


def _cache_sentence(task: TaskSpec, hit: CacheHit | None, *, taken: bool) -> str:
    """Why a step was taken from the cache, or ran."""
    same = "cache key" if task.caching_options.cache_key else "image, command line, inputs, outputs and mounted claims"
    if taken:
        return f"Its outputs are those of an earlier task of this pipeline with the same {same}."
    if hit is not None:
        return f"It ran: an earlier task has the same {same}, but not all of the outputs."
    return f"It ran: no task of this pipeline that succeeded in this namespace before has the same {same}."


def _is(row: TaskRow, state: RuntimeState) -> bool:
    return row.state is state


def _not_taken(row: TaskRow) -> bool:
    return row.state is RuntimeState.SKIPPED and row.detail.get("reason") == NOT_TAKEN


def _is_about(message: str) -> bool:
    return message.startswith("Task '")


def _how(row: TaskRow) -> str:
    return {RuntimeState.FAILED: "failed", RuntimeState.CANCELED: "was canceled"}.get(row.state, "did not run")
