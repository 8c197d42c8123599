"""The record of runs, as the engine and the reporting endpoint use it.

Invariants:
- one method is one transaction, durable when it returns, unless it says otherwise: a crash of the platform then loses
  nothing, a power cut what can be decided again;
- a run or task in a final state never changes again, so that "succeeded exactly once" is a property of the record;
  the one exception is a retry that a user asks for: it adds to the histories and takes nothing from them;
- every method may be repeated after a crash: creating tasks skips paths that exist, a report is recorded once;
- subscribers hear of what did not come from the engine (created, terminating, reported, deleted) after the commit.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from headrace.api import _wire
from headrace.components.pipelines.store import schema as t
from headrace.components.pipelines.store.followups import insert as insert_followups
from headrace.components.pipelines.store.kept import KeptTasks, Make
from headrace.components.pipelines.store.models import (
    FINAL,
    Again,
    Artifact,
    Change,
    ChangeKind,
    FollowUp,
    FollowUpKind,
    Report,
    Run,
    RunRow,
    RuntimeState,
    Spec,
    TaskRow,
    TaskUpdate,
)
from headrace.components.pipelines.store.rows import from_row, history_entry, parts, to_row
from headrace.components.pipelines.store.tasks import (
    begin_again,
    create_tasks,
    find_cached,
    namespace_of,
    note_waiting,
    record_outputs,
    task_of,
    tasks_of,
    update_task,
)
from headrace.machinery.sql import Durable

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Awaitable, Iterable

    from sqlalchemy.engine import Connection, RowMapping

    from headrace.machinery.clock import Clock
    from headrace.machinery.sql import Database

log = logging.getLogger(__name__)

SHOWN_SPECS = 8
SHOWN_TASKS = 4096
"""How many tasks stay in memory for those who look at runs."""
RENDERED_TASKS = 8192
"""And of those who want them as they are answered, which takes a quarter of the memory."""
REPORTING_RUNS = 64
_BY_ID = sa.select(t.runs).where(t.runs.c.id == sa.bindparam("run_id"))
_LOCKED = _BY_ID.with_for_update()
_RETRYABLE = frozenset({RuntimeState.FAILED, RuntimeState.CANCELED})
_NOT_FINAL = [s.value for s in RuntimeState if s not in FINAL]

R = TypeVar("R")
Render = Callable[[TaskRow, Mapping[str, Artifact], Sequence[str]], R]


class RunNotFound(LookupError):
    """No run, or task, of that id."""


class RunRepository:
    """Runs, tasks and artifacts in SQL."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock
        self._kept: list[KeptTasks[Any]] = []
        self._rows = self._keep(lambda _c, rows, _children: [from_row(TaskRow, row) for row in rows], SHOWN_TASKS)
        self._specs: dict[str, Spec] = {}
        database.on_undone(self._forget)
        self._reporting: dict[str, Run] = {}
        """Runs whose steps report, as they were read first; belongs to the database's thread."""
        self._subscribers: list[Callable[[Change], None]] = []

    def subscribe(self, callback: Callable[[Change], None]) -> Callable[[], None]:
        """Call `callback` on the event loop after each committed change from outside; the result unsubscribes."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def notify(self, change: Change) -> None:
        """Tell the subscribers."""
        for callback in tuple(self._subscribers):
            try:
                callback(change)
            except Exception:
                log.exception("a subscriber of pipeline changes failed on %s", change.kind)

    # Runs

    async def create_run(self, run: Run, spec: Spec) -> Run:
        """Record a new run with its spec and wake the engine. `created_at`, state and history are set here."""
        now = self._clock.precise()
        await self._database.run(lambda connection: insert_run(connection, now, run, spec))
        self.notify(Change(ChangeKind.CREATED, run.id))
        return run

    async def get_run(self, run_id: str) -> Run | None:
        """A run without its tasks."""
        return await self._database.run(lambda connection: _run(connection, run_id))

    async def load_run(self, run_id: str) -> RunRow | None:
        """A run with its spec, tasks and artifacts."""
        return await self._database.run(lambda connection: _load_run(connection, run_id, tasks_of, get_spec))

    async def show_run(self, run_id: str) -> RunRow | None:
        """As `load_run`, for those who only look: the tasks and the spec are shared and must not be changed."""
        return await self._database.run(
            lambda connection: _load_run(connection, run_id, self._rows.of_run, self._shown_spec)
        )

    def rendered(self, render: Render[R]) -> Callable[[str], Awaitable[tuple[Run, Spec, list[R]] | None]]:
        """What gives a run with its spec and each of its tasks as `render(row, artifacts, children)` makes it, in the
        database's thread and again only when the task has changed. All of it is shared and must not be changed.
        """

        def make(connection: Connection, rows: Sequence[RowMapping], children: Mapping[str, Sequence[str]]) -> list[R]:
            tasks = [from_row(TaskRow, row) for row in rows]
            sides = (side.artifacts.values() for task in tasks for side in (task.inputs, task.outputs))
            found = _artifacts_of(connection, {ident for side in sides for ids in side for ident in ids})
            return [render(task, found, children.get(task.id, ())) for task in tasks]

        kept = self._keep(make, RENDERED_TASKS)

        async def show(run_id: str) -> tuple[Run, Spec, list[R]] | None:
            def work(connection: Connection) -> tuple[Run, Spec, list[R]] | None:
                run = _run(connection, run_id)
                if run is None:
                    return None
                return run, self._shown_spec(connection, run.spec_digest), kept.of_run(connection, run_id)

            return await self._database.run(work, Durable.EVENTUALLY)  # it only reads

        return show

    def _keep(self, make: Make[R], size: int) -> KeptTasks[R]:
        kept = KeptTasks(make, size)
        self._kept.append(kept)
        return kept

    def _changed(self, task_id: str) -> None:
        for kept in self._kept:
            kept.changed(task_id)

    def _forget(self) -> None:
        for kept in self._kept:
            kept.forget()

    def _shown_spec(self, connection: Connection, digest: str) -> Spec:
        """In the database's thread: a spec never changes, and reading one of a thousand tasks takes a while."""
        spec = self._specs.get(digest)
        if spec is None:
            if len(self._specs) >= SHOWN_SPECS:
                self._specs.clear()
            spec = self._specs[digest] = get_spec(connection, digest)
        return spec

    async def unfinished_runs(self) -> list[str]:
        """Ids of the runs that are not in a final state, oldest first."""

        def work(connection: Connection) -> list[str]:
            query = sa.select(t.runs.c.id).where(t.runs.c.state.in_(_NOT_FINAL)).order_by(t.runs.c.created_at)
            return list(connection.scalars(query))

        return await self._database.run(work)

    async def start_run(self, run_id: str) -> bool:
        """PENDING to RUNNING; False when the run is not pending (any more)."""
        return await self._set_run_state(run_id, RuntimeState.RUNNING, {RuntimeState.PENDING})

    async def finish_run(
        self,
        run_id: str,
        state: RuntimeState,
        *,
        error_code: int = 0,
        error_message: str = "",
        followups: Sequence[FollowUp] = (),
    ) -> bool:
        """Set the final state of a run, and record what is to be done then; False when it has one already."""
        if state not in FINAL:
            raise ValueError(f"{state} is not a final state")
        return await self._set_run_state(
            run_id, state, None, error_code=error_code, error_message=error_message, followups=followups
        )

    async def request_termination(self, run_id: str) -> bool:
        """Ask the engine to cancel a run (state CANCELING); False when the run is in a final state."""
        applied = await self._set_run_state(
            run_id, RuntimeState.CANCELING, {RuntimeState.PENDING, RuntimeState.RUNNING, RuntimeState.PAUSED}
        )
        if applied:
            self.notify(Change(ChangeKind.TERMINATING, run_id))
            return True
        run = await self.get_run(run_id)
        if run is None:
            raise RunNotFound(run_id)
        return not run.state.final

    async def retry_run(self, seen: Run, again: Mapping[str, Again]) -> bool:
        """Let a failed or canceled run go on with these tasks (by path), and wake the engine.

        False when the run is not (any more) as it was `seen`. Attempts and histories go on where they were.
        """
        now = self._clock.precise()

        def work(connection: Connection) -> bool:
            run = _run(connection, seen.id, lock=True)
            if run is None or run.state not in _RETRYABLE or run.state_history != seen.state_history:
                return False
            query = sa.select(t.tasks).where(t.tasks.c.run_id == run.id)
            for row in connection.execute(query).mappings().all():
                if row["path"] in again:
                    self._changed(row["id"])
                    begin_again(connection, now, from_row(TaskRow, row), again[row["path"]])
            values = {
                "state": RuntimeState.PENDING.value,
                "state_history": [*run.state_history, history_entry(now, RuntimeState.PENDING)],
                "error_code": 0,
                "error_message": "",
                "finished_at": None,
            }
            connection.execute(t.runs.update().where(t.runs.c.id == run.id).values(values))
            cleaning = t.followups.c.kind == FollowUpKind.CLEAN.value
            connection.execute(t.followups.delete().where(t.followups.c.run_id == run.id, cleaning))
            return True

        applied = await self._database.run(work)
        if applied:
            self.notify(Change(ChangeKind.RETRIED, seen.id))
        return applied

    async def delete_run(self, run_id: str) -> bool:
        """Forget a run, its tasks and its artifacts' records, and tell the engine; False when there is none."""
        found = await self._database.run(lambda connection: delete_runs(connection, [run_id])) > 0
        if found:
            self.notify(Change(ChangeKind.DELETED, run_id))
        return found

    async def _set_run_state(
        self,
        run_id: str,
        state: RuntimeState,
        expect: set[RuntimeState] | None,
        *,
        error_code: int = 0,
        error_message: str = "",
        followups: Sequence[FollowUp] = (),
    ) -> bool:
        now = self._clock.precise()

        recurring = False

        def work(connection: Connection) -> bool:
            nonlocal recurring
            run = _run(connection, run_id, lock=True)
            if run is None or run.state.final or (expect is not None and run.state not in expect):
                return False
            recurring = bool(run.recurring_run_id)
            entry = history_entry(now, state, error_code, error_message)
            values: dict[str, Any] = {"state": state.value, "state_history": [*run.state_history, entry]}
            if state.final:
                values |= {"finished_at": now, "error_code": error_code, "error_message": error_message}
            connection.execute(t.runs.update().where(t.runs.c.id == run_id).values(values))
            insert_followups(connection, now, followups)
            return True

        applied = await self._database.run(work)
        if applied and (recurring or followups) and state.final:
            self.notify(Change(ChangeKind.FINISHED, run_id))
        return applied

    # Tasks

    async def create_tasks(self, run_id: str, tasks: Sequence[TaskRow]) -> list[TaskRow]:
        """Record tasks; where the run has a task of that path already, that one is returned instead.

        A task may be recorded in any state, also a final one (a skipped branch). Not durable: a decision that a power
        cut forgets is taken again, with the same result.
        """
        now = self._clock.precise()

        def work(connection: Connection) -> list[TaskRow]:
            for kept in self._kept:
                kept.created(run_id, ((task.id, task.parent_id) for task in tasks))
            return create_tasks(connection, now, run_id, tasks)

        return await self._database.run(work, Durable.EVENTUALLY)

    async def get_task(self, task_id: str) -> TaskRow | None:
        """One task."""
        return await self._database.run(lambda connection: task_of(connection, task_id))

    async def update_tasks(self, updates: Sequence[TaskUpdate]) -> list[bool]:
        """Compare-and-set each task, all in one transaction; which of them applied. Not durable, like creation."""
        now = self._clock.precise()

        def work(connection: Connection) -> list[bool]:
            for update in updates:
                self._changed(update.task_id)
            return [update_task(connection, now, update) for update in updates]

        return await self._database.run(work, Durable.EVENTUALLY)

    async def note_waiting(self, run_id: str, tasks: Sequence[TaskRow], message: str) -> None:
        """What these tasks of a run wait for, which may be a thousand: those that are pending, at these attempts. Not
        durable.
        """
        by_attempt: dict[int, list[str]] = {}
        for task in tasks:
            by_attempt.setdefault(task.attempt, []).append(task.id)

        def work(connection: Connection) -> None:
            for attempt, ids in by_attempt.items():
                for ident in ids:
                    self._changed(ident)
                note_waiting(connection, run_id, attempt, ids, message)

        await self._database.run(work, Durable.EVENTUALLY)

    async def record_outputs(self, task_id: str, report: Report) -> bool:
        """Record what an attempt of a task came to, once, and wake the engine.

        SUCCEEDED finishes the task with these outputs. Any other state is kept in `task.report` together with the
        outputs that there are, for the engine to decide (retry, fail, cancel). False when nothing was recorded: the
        task is finished, is at another attempt, or has this attempt's report. Raises RunNotFound.
        """
        now = self._clock.precise()

        def work(connection: Connection) -> TaskRow | None:
            task = task_of(connection, task_id, lock=True)
            if task is None:
                raise RunNotFound(task_id)
            self._changed(task_id)
            return record_outputs(connection, now, task, namespace_of(connection, task.run_id), report)

        return self._reported(await self._database.run(work))

    async def record_report(
        self, run_id: str, task_id: str, report: Report, check: Callable[[Run | None, TaskRow | None], None]
    ) -> bool:
        """As `record_outputs`, after `check` has seen the run and the task, all in one transaction. What `check`
        raises is raised. On disk milliseconds after it returns: the next step begins without waiting for that.

        The run may be shown as it was earlier: whose it is stays, its state does not.
        """
        now = self._clock.precise()

        def work(connection: Connection) -> TaskRow | None:
            task = task_of(connection, task_id, lock=True)
            # A task goes with its run: where there is one, what never changes of the other need not be read again.
            run = self._reporting.get(run_id) if task is not None and task.run_id == run_id else None
            if run is None and (run := _run(connection, run_id)) is not None:
                if len(self._reporting) >= REPORTING_RUNS:
                    self._reporting.clear()
                self._reporting[run_id] = run
            check(run, task)
            if run is None or task is None:
                raise RunNotFound(task_id)
            self._changed(task_id)
            return record_outputs(connection, now, task, run.namespace, report)

        return self._reported(await self._database.run(work, Durable.SOON))

    def _reported(self, task: TaskRow | None) -> bool:
        if task is None:
            return False
        self.notify(Change(ChangeKind.REPORTED, task.run_id, task))
        return True

    async def find_cached(self, namespace: str, pipeline_name: str, cache_key: str) -> TaskRow | None:
        """The newest task that succeeded by running itself under this cache key, in the same pipeline's scope."""
        return (await self.find_all_cached(namespace, pipeline_name, [cache_key])).get(cache_key)

    async def find_all_cached(
        self, namespace: str, pipeline_name: str, cache_keys: Iterable[str]
    ) -> dict[str, TaskRow]:
        """The same for many keys at once, by key; keys without such a task are absent."""
        keys = sorted(set(cache_keys))
        return await self._database.run(
            lambda connection: find_cached(connection, namespace, pipeline_name, keys), Durable.EVENTUALLY
        )

    # Artifacts

    async def artifacts(self, ids: Iterable[str]) -> dict[str, Artifact]:
        """Artifacts by id; ids that do not exist are absent."""
        wanted = set(ids)
        return await self._database.run(lambda connection: _artifacts_of(connection, wanted))


def insert_run(connection: Connection, now: dt.datetime, run: Run, spec: Spec) -> None:
    """Record a new run with its spec."""
    run.created_at = run.created_at or now
    run.scheduled_at = run.scheduled_at or run.created_at
    run.state_history = [history_entry(now, run.state)]
    run.spec_digest = put_spec(connection, spec)
    connection.execute(t.runs.insert().values(to_row(run)))
    of_experiment = t.experiments.c.id == run.experiment_id
    connection.execute(t.experiments.update().where(of_experiment).values(last_run_created_at=run.created_at))


def put_spec(connection: Connection, spec: Spec) -> str:
    """Record a spec under its content's digest, once; the digest."""
    raw = _wire.encode([spec.pipeline_spec, spec.platform_spec])
    digest = hashlib.sha256(raw).hexdigest()
    if connection.scalar(sa.select(t.specs.c.digest).where(t.specs.c.digest == digest)) is None:
        connection.execute(
            t.specs.insert().values(digest=digest, pipeline_spec=spec.pipeline_spec, platform_spec=spec.platform_spec)
        )
    return digest


def drop_unused_specs(connection: Connection, digests: Iterable[str]) -> None:
    """Forget those specs that no run, recurring run or version names any more."""
    used = sa.or_(
        sa.exists().where(t.runs.c.spec_digest == t.specs.c.digest),
        sa.exists().where(t.versions.c.spec_digest == t.specs.c.digest),
        sa.exists().where(t.recurring_runs.c.spec_digest == t.specs.c.digest),
    )
    connection.execute(t.specs.delete().where(t.specs.c.digest.in_(set(digests)), sa.not_(used)))


def delete_runs(connection: Connection, run_ids: Sequence[str]) -> int:
    """Delete runs and all that hangs on them; how many there were."""
    digests = list(connection.scalars(sa.select(t.runs.c.spec_digest).where(t.runs.c.id.in_(run_ids))))
    links, made = t.artifact_tasks.c, t.artifacts.c
    candidates = set(connection.scalars(sa.select(links.artifact_id).where(links.run_id.in_(run_ids))))
    candidates.update(connection.scalars(sa.select(made.id).where(made.run_id.in_(run_ids))))
    connection.execute(t.artifact_tasks.delete().where(links.run_id.in_(run_ids)))
    connection.execute(t.tasks.delete().where(t.tasks.c.run_id.in_(run_ids)))
    connection.execute(t.run_metrics.delete().where(t.run_metrics.c.run_id.in_(run_ids)))
    # Its messages go out: they say what happened, not what there is.
    cleaning = t.followups.c.kind == FollowUpKind.CLEAN.value
    connection.execute(t.followups.delete().where(t.followups.c.run_id.in_(run_ids), cleaning))
    count = connection.execute(t.runs.delete().where(t.runs.c.id.in_(run_ids))).rowcount
    # By caching, an artifact of one run may be named by others: it goes with the last of them.
    needed = sa.or_(sa.exists().where(links.artifact_id == made.id), sa.exists().where(t.runs.c.id == made.run_id))
    for some in parts(sorted(candidates)):
        connection.execute(t.artifacts.delete().where(made.id.in_(some), sa.not_(needed)))
    drop_unused_specs(connection, digests)
    return int(count)


def get_spec(connection: Connection, digest: str) -> Spec:
    """The spec of a digest that a row names."""
    row = connection.execute(sa.select(t.specs).where(t.specs.c.digest == digest)).mappings().one()
    return Spec(row["pipeline_spec"], row["platform_spec"])


def _run(connection: Connection, run_id: str, *, lock: bool = False) -> Run | None:
    row = connection.execute(_LOCKED if lock else _BY_ID, {"run_id": run_id}).mappings().first()
    return from_row(Run, row) if row else None


def _artifacts(connection: Connection, condition: sa.ColumnElement[bool]) -> dict[str, Artifact]:
    rows = connection.execute(sa.select(t.artifacts).where(condition)).mappings()
    return {row["id"]: from_row(Artifact, row) for row in rows}


def _artifacts_of(connection: Connection, ids: Iterable[str]) -> dict[str, Artifact]:
    found: dict[str, Artifact] = {}
    for some in parts(sorted(ids)):
        found |= _artifacts(connection, t.artifacts.c.id.in_(some))
    return found


def _load_run(
    connection: Connection,
    run_id: str,
    read_tasks: Callable[[Connection, str], list[TaskRow]],
    read_spec: Callable[[Connection, str], Spec],
) -> RunRow | None:
    run = _run(connection, run_id)
    if run is None:
        return None
    linked = sa.select(t.artifact_tasks.c.artifact_id).where(t.artifact_tasks.c.run_id == run_id)
    return RunRow(
        run=run,
        spec=read_spec(connection, run.spec_digest),
        tasks=read_tasks(connection, run_id),
        artifacts=_artifacts(connection, t.artifacts.c.id.in_(linked)),
    )
