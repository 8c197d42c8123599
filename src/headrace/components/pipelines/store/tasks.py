"""The rows of tasks, within a transaction: what happens for each step of each run, so with few statements.

The statements are built once, because building one costs more than carrying it out.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from headrace.components.pipelines.store import metrics
from headrace.components.pipelines.store import schema as t
from headrace.components.pipelines.store.models import (
    Again,
    Artifact,
    Direction,
    Report,
    RuntimeState,
    TaskRow,
    TaskUpdate,
    Values,
)
from headrace.components.pipelines.store.rows import from_row, history_entry, parts, to_row

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

_ARTIFACT_IDS = uuid.UUID("6b0d2b0e-6f0b-4e0e-9a44-2f1d6c1f7a10")
"""Namespace of artifact ids: an id follows from task, attempt and output, so that a repeated report makes none."""
_BY_ID = sa.select(t.tasks).where(t.tasks.c.id == sa.bindparam("task_id"))
_LOCKED = _BY_ID.with_for_update()
_OF_RUN = t.tasks.c.run_id == sa.bindparam("of_run")
_OF_PATHS = sa.select(t.tasks).where(_OF_RUN, t.tasks.c.path.in_(sa.bindparam("paths", expanding=True)))
_LAST = sa.select(sa.func.coalesce(sa.func.max(t.tasks.c.seq), 0)).where(_OF_RUN)
_ALL = sa.select(t.tasks).where(_OF_RUN).order_by(t.tasks.c.seq)
_CACHED = (
    sa.select(t.tasks)
    .join(t.runs, t.runs.c.id == t.tasks.c.run_id)
    .where(
        t.tasks.c.cache_key == sa.bindparam("key"),
        t.tasks.c.state == RuntimeState.SUCCEEDED.value,
        t.tasks.c.cached_from == "",
        t.runs.c.namespace == sa.bindparam("of_namespace"),
        t.runs.c.pipeline_name == sa.bindparam("of_pipeline"),
    )
    .order_by(t.tasks.c.finished_at.desc())
    .limit(1)
)
_KNOWN_KEYS = (
    sa.select(t.tasks.c.cache_key).distinct().where(t.tasks.c.cache_key.in_(sa.bindparam("keys", expanding=True)))
)
_NAMESPACE = sa.select(t.runs.c.namespace).where(t.runs.c.id == sa.bindparam("run_id"))
_INSERT = t.tasks.insert()
_UPDATE = t.tasks.update().where(t.tasks.c.id == sa.bindparam("task_id"))
_WAITS = (
    t.tasks.update()
    .where(
        _OF_RUN,
        t.tasks.c.id.in_(sa.bindparam("ids", expanding=True)),
        t.tasks.c.state == RuntimeState.PENDING.value,
        t.tasks.c.attempt == sa.bindparam("at"),
    )
    .values(error_message=sa.bindparam("said"))
)


def task_of(connection: Connection, task_id: str, *, lock: bool = False) -> TaskRow | None:
    """One task. `lock`: nobody else may change it until the transaction ends."""
    row = connection.execute(_LOCKED if lock else _BY_ID, {"task_id": task_id}).mappings().first()
    return from_row(TaskRow, row) if row else None


def tasks_of(connection: Connection, run_id: str) -> list[TaskRow]:
    """All tasks of a run."""
    return [from_row(TaskRow, row) for row in connection.execute(_ALL, {"of_run": run_id}).mappings()]


def namespace_of(connection: Connection, run_id: str) -> str:
    """The namespace of a run; empty when there is none."""
    found: str | None = connection.scalar(_NAMESPACE, {"run_id": run_id})
    return found or ""


def find_cached(connection: Connection, namespace: str, pipeline: str, keys: Sequence[str]) -> dict[str, TaskRow]:
    """By cache key, the newest task of a pipeline that succeeded by running itself under it."""
    scope = {"of_namespace": namespace, "of_pipeline": pipeline}
    result: dict[str, TaskRow] = {}
    for some in parts(keys):
        # Most keys of a wide loop are new: one question tells.
        for key in connection.scalars(_KNOWN_KEYS, {"keys": some}).all():
            row = connection.execute(_CACHED, {**scope, "key": key}).mappings().first()
            if row is not None:
                result[key] = from_row(TaskRow, row)
    return result


def create_tasks(connection: Connection, now: dt.datetime, run_id: str, tasks: Sequence[TaskRow]) -> list[TaskRow]:
    """Record tasks; where the run has a task of that path already, that one is returned instead."""
    given: dict[str, Any] = {"of_run": run_id, "paths": [task.path for task in tasks]}
    present = {row["path"]: from_row(TaskRow, row) for row in connection.execute(_OF_PATHS, given).mappings()}
    seq: int = connection.scalar(_LAST, {"of_run": run_id}) or 0
    new: list[TaskRow] = []
    result: list[TaskRow] = []
    for task in tasks:
        known = present.get(task.path)
        if known is not None:
            result.append(known)
            continue
        task.run_id = run_id
        task.created_at = task.created_at or now
        if task.state is not RuntimeState.PENDING:
            task.started_at = task.started_at or now
        if task.state.final:
            task.finished_at = task.finished_at or now
        task.state_history = [history_entry(now, task.state, task.error_code, task.error_message)]
        present[task.path] = task
        new.append(task)
        result.append(task)
    if new:
        connection.execute(_INSERT, [to_row(task) | {"seq": seq + n} for n, task in enumerate(new, 1)])
    for task in new:
        _link(connection, task, Direction.INPUT, Values(), task.inputs)
        _link(connection, task, Direction.OUTPUT, Values(), task.outputs)
    return result


def update_task(connection: Connection, now: dt.datetime, update: TaskUpdate) -> bool:
    """Compare and set; whether it applied."""
    task = task_of(connection, update.task_id, lock=True)
    if (
        task is None
        or task.state.final
        or (update.expect is not None and task.state not in update.expect)
        or (update.expect_attempt is not None and task.attempt != update.expect_attempt)
    ):
        return False
    values: dict[str, Any] = dict(update.changes)
    state = update.changes.get("state", task.state)
    again = update.changes.get("attempt", task.attempt) != task.attempt
    if again:
        values.setdefault("report", None)
    if state is not task.state or again:
        entry = history_entry(
            now, state, values.get("error_code", task.error_code), values.get("error_message", task.error_message)
        )
        values |= {"state": state.value, "state_history": [*task.state_history, entry]}
    if state is not RuntimeState.PENDING and task.started_at is None:
        values.setdefault("started_at", now)
    if state.final:
        values.setdefault("finished_at", now)
    if not values:
        return True
    connection.execute(_UPDATE, {**values, "task_id": task.id})
    _link(connection, task, Direction.INPUT, task.inputs, values.get("inputs"))
    _link(connection, task, Direction.OUTPUT, task.outputs, values.get("outputs"))
    return True


def note_waiting(connection: Connection, run_id: str, attempt: int, ids: Sequence[str], message: str) -> None:
    """What tasks of a run wait for, those of them that are pending at this attempt."""
    for some in parts(ids):
        connection.execute(_WAITS, {"of_run": run_id, "at": attempt, "ids": some, "said": message})


def begin_again(connection: Connection, now: dt.datetime, task: TaskRow, how: Again) -> None:
    """A task that goes on, or begins anew, when a user retries its run."""
    values: dict[str, Any] = {
        "state": RuntimeState.RUNNING.value,
        "outputs": Values(),
        "error_code": 0,
        "error_message": "",
        "finished_at": None,
    }
    if how is Again.RESET:
        # A pod's name follows from the attempt: what may have had one goes on with the next.
        attempt = task.attempt + (task.state is not RuntimeState.SKIPPED)
        detail: dict[str, Any] = {"first_attempt": attempt}
        failed = [*task.detail.get("failed_pods", []), *([task.pod_name] if task.pod_name else [])]
        if failed:
            detail["failed_pods"] = failed
        if task.used:
            detail["used"] = task.used
        values |= {
            "state": RuntimeState.PENDING.value,
            "attempt": attempt,
            "pod_name": "",
            "inputs": Values(),
            "cache_key": "",
            "cached_from": "",
            "report": None,
            "detail": detail,
            "started_at": None,
        }
    values["state_history"] = [*task.state_history, history_entry(now, RuntimeState(values["state"]))]
    connection.execute(_UPDATE, {**values, "task_id": task.id})
    _link(connection, task, Direction.INPUT, task.inputs, values.get("inputs"))
    _link(connection, task, Direction.OUTPUT, task.outputs, values["outputs"])


def _link(connection: Connection, task: TaskRow, direction: Direction, old: Values, values: Values | None) -> None:
    """Make the links of one side of a task, which were those of `old`, those that `values` names; None leaves them as
    they are.
    """
    if values is None or values.artifacts == old.artifacts:
        return
    links = {(artifact_id, key) for key, ids in values.artifacts.items() for artifact_id in ids}
    c = t.artifact_tasks.c
    mine = sa.and_(c.task_id == task.id, c.direction == direction.value)
    present = {(row.artifact_id, row.key) for row in connection.execute(sa.select(c.artifact_id, c.key).where(mine))}
    for artifact_id, key in present - links:
        connection.execute(t.artifact_tasks.delete().where(mine, c.artifact_id == artifact_id, c.key == key))
    new = [
        {"artifact_id": a, "task_id": task.id, "direction": direction.value, "key": key, "run_id": task.run_id}
        for a, key in sorted(links - present)
    ]
    if new:
        connection.execute(t.artifact_tasks.insert(), new)


def record_outputs(
    connection: Connection, now: dt.datetime, task: TaskRow, namespace: str, report: Report
) -> TaskRow | None:
    """Record what an attempt came to, once; the task as it is then, or None."""
    if task.state.final or task.attempt != report.attempt or task.report is not None:
        return None
    old = task.outputs
    task.outputs = Values(dict(report.parameters), {})
    for index, new in enumerate(report.artifacts):
        artifact = Artifact(
            id=str(uuid.uuid5(_ARTIFACT_IDS, f"{task.id}/{report.attempt}/{new.output}/{index}")),
            namespace=namespace,
            type=new.type,
            schema_version=new.schema_version,
            name=new.name,
            uri=new.uri,
            metadata=new.metadata,
            run_id=task.run_id,
            task_id=task.id,
            created_at=now,
        )
        connection.execute(t.artifacts.insert().values(to_row(artifact, "number")))
        metrics.record(connection, task.run_id, task.id, new.type, new.metadata)
        task.outputs.artifacts.setdefault(new.output, []).append(artifact.id)
    task.report = {"attempt": report.attempt, "state": report.state.value}
    if report.exit_code is not None:
        task.report["exit_code"] = report.exit_code
    if report.error_message:
        task.report["error"] = {"code": report.error_code, "message": report.error_message}
    if report.used:
        task.report["used"] = report.used
    values: dict[str, Any] = {"outputs": task.outputs, "report": task.report}
    if task.state is RuntimeState.PENDING and report.started_at is not None:
        # It was faster than the note that it runs. A pod's word for when counts only within what is possible.
        began = max(task.created_at or now, min(report.started_at, now))
        task.state, task.started_at = RuntimeState.RUNNING, task.started_at or began
        task.state_history = [*task.state_history, history_entry(began, task.state)]
        task.error_message = ""  # what it waited for
        values |= {
            "state": task.state.value,
            "started_at": task.started_at,
            "state_history": task.state_history,
            "error_message": "",
        }
    if report.state is RuntimeState.SUCCEEDED:
        task.state = report.state
        task.started_at, task.finished_at = task.started_at or now, now
        task.state_history = [*task.state_history, history_entry(now, task.state)]
        values |= {
            "state": task.state.value,
            "started_at": task.started_at,
            "finished_at": now,
            "state_history": task.state_history,
        }
    connection.execute(_UPDATE, {**values, "task_id": task.id})
    _link(connection, task, Direction.OUTPUT, old, task.outputs)
    return task
