"""One run from where its record stands to its end.

A worker is one task: it takes what happened, asks `policy.advance` what follows, records that in one transaction
while the pods that follow are being created, and waits for the next event. The record is what counts: whenever it
does not say what the worker thought, the worker reads it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from headrace.api.errors import InternalError, ServiceUnavailable, StatusError, Timeout, TooManyRequests
from headrace.components.pipelines.controller import claims
from headrace.components.pipelines.policy.advance import advance, with_scopes
from headrace.components.pipelines.policy.configuration import configuration
from headrace.components.pipelines.policy.plan import (
    FAILED_PRECONDITION,
    INTERNAL,
    ROOT,
    UNAVAILABLE,
    CacheHit,
    Finish,
    Plan,
    RunView,
    find_task,
    task_id,
)
from headrace.components.pipelines.policy.podstatus import Phase, observe
from headrace.components.pipelines.policy.values import ResolveError
from headrace.components.pipelines.policy.view import build_view
from headrace.components.pipelines.render.step import ATTEMPT_LABEL, TASK_LABEL, requested, step_pod
from headrace.components.pipelines.store.models import Report, RuntimeState, TaskRow, TaskType, TaskUpdate
from headrace.components.pipelines.types.ir import SpecError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Awaitable, Coroutine, Mapping

    from headrace.api.core import Pod
    from headrace.client.base import Client
    from headrace.components.pipelines.controller.afterwards import Afterwards
    from headrace.components.pipelines.controller.gate import Gate
    from headrace.components.pipelines.controller.pods import StepPods
    from headrace.components.pipelines.store.models import Run
    from headrace.components.pipelines.store.repository import RunRepository
    from headrace.components.pipelines.types.ir import ComponentSpec, ContainerSpec, PipelineSpec
    from headrace.machinery.clock import Clock
    from headrace.machinery.component import Usages

log = logging.getLogger(__name__)

GRACE_SECONDS = 2
AGAIN_SECONDS, AGAIN_LONGEST = 0.5, 30.0
SAY_AFTER_SECONDS = 1.0
NOTE_SECONDS = 0.1
"""After which a step's start is put on record."""
_TRANSIENT = (TooManyRequests, InternalError, ServiceUnavailable, Timeout)


class RunWorker:
    """Carries one run on."""

    def __init__(
        self,
        run_id: str,
        repository: RunRepository,
        pods: StepPods,
        client: Client,
        clock: Clock,
        *,
        gate: Gate,
        afterwards: Afterwards | None = None,
        usages: Usages | None = None,
    ) -> None:
        self.run_id, self._gate, self._afterwards = run_id, gate, afterwards
        self._usages = usages
        self._repository, self._pods, self._client, self._clock = repository, pods, client, clock
        self._view: RunView | None = None
        self._by_id: dict[str, str] = {}
        self._reports: deque[TaskRow] = deque()
        self._changed_pods: dict[str, tuple[Pod, bool]] = {}
        self._reload = True
        self._touched: frozenset[str] | None = None
        """What `advance` must look at next; None is everything, the empty set nothing."""
        self._wake = asyncio.Event()
        self._timer: asyncio.Task[None] | None = None
        self._timer_at: dt.datetime | None = None
        self._background: set[asyncio.Task[Any]] = set()
        self._finished = False
        self._has_workspace = False
        self._api_address = ""
        self._may_go_on = False
        self._says_soon = False

    # What happens to the run

    def run_changed(self) -> None:
        """The run's own record changed (created, terminating)."""
        self._reload = True
        self._wake.set()

    def reported(self, task: TaskRow) -> None:
        """A report was recorded; the row is as it stands after it."""
        self._reports.append(task)
        self._wake.set()

    def pod_changed(self, pod: Pod, *, gone: bool) -> None:
        """A pod of the run changed or was deleted."""
        self._changed_pods[pod.metadata.name] = (pod, gone)
        self._wake.set()

    def is_done_with(self, pod: Pod) -> bool:
        """Whether the record already has what this pod came to."""
        row = self._row_of(pod)
        return row is not None and (row.state.final or row.attempt != _attempt(pod))

    @property
    def wanted(self) -> bool:
        """Whether the run's record changed after this worker had finished it: it was retried at once."""
        return self._finished and self._reload

    def close(self) -> None:
        """Cancel what still runs on the side."""
        for task in (*self._background, *([self._timer] if self._timer else [])):
            task.cancel()

    # The work

    async def work(self) -> None:
        """Until the run is finished or gone."""
        delay = AGAIN_SECONDS
        while not self._finished:
            try:
                if self._reload:
                    await self._load()
                await self._turn()
                delay = AGAIN_SECONDS
            except Exception:
                log.exception("run %s: a turn failed, again in %.1f s", self.run_id, delay)
                self._reload = True
                await self._clock.sleep(delay)
                delay = min(delay * 2, AGAIN_LONGEST)
                continue
            if not self._done_now():
                await self._wake.wait()
        self.close()

    def _done_now(self) -> bool:
        """Whether there is something to do without waiting, or nothing ever again."""
        return self._finished or self._reload

    async def _load(self) -> None:
        self._reload, self._touched = False, None
        first = self._view is None
        record = await self._repository.load_run(self.run_id)
        if record is None or record.run.state.final:
            self._finished = True
            return
        try:
            self._view = build_view(record)
        except SpecError as error:
            end = Finish(RuntimeState.FAILED, FAILED_PRECONDITION, str(error))
            await self._finish(record.run, None, end)
            return
        self._by_id = {row.id: path for path, row in self._view.tasks.items()}
        self._api_address = await self._pods.api_address()
        if first:
            await self._adopt(self._view)

    async def _adopt(self, view: RunView) -> None:
        """After a restart: each pod that should be there is found, or created, or known to be lost."""
        for row in list(view.tasks.values()):
            if row.state.final or not row.pod_name or row.report is not None:
                continue
            pod = self._pods.get(view.run.namespace, row.pod_name)
            if pod is not None:
                self._changed_pods[row.pod_name] = (pod, False)
            elif row.state is RuntimeState.RUNNING:
                await self._record_failure(
                    row, "The step's pod disappeared while the control plane was away.", INTERNAL
                )
            else:
                await self._start(view, row)

    async def _turn(self) -> None:
        """Take in what happened, decide, carry out."""
        self._wake.clear()
        if self._view is None or self._finished:
            return
        if not self._may_go_on and not await self._enter(self._view):
            return
        await self._take_in_reports(self._view)
        await self._take_in_pods(self._view)
        touched, self._touched = self._touched, frozenset()
        if touched is not None and not touched:
            return
        hits: dict[str, CacheHit | None] = {}
        while True:
            plan = advance(self._view, self._clock.precise(), hits, touched)
            if not plan.lookups:
                break
            hits |= await self._look_up(self._view, plan.lookups)
        await self._carry_out(self._view, plan)

    async def _enter(self, view: RunView) -> bool:
        """Whether the run may go on, or waits because others do."""
        if view.run.state is not RuntimeState.PENDING:
            self._gate.hold_run(self.run_id, view.run.namespace)
        elif not self._gate.enter_run(self.run_id, view.run.namespace, self._let_in):
            if ROOT not in view.tasks:
                said = self._gate.run_reason(view.run.namespace)
                root = TaskRow(task_id(self.run_id, ROOT), self.run_id, ROOT, ROOT, TaskType.ROOT, error_message=said)
                [view.tasks[ROOT]] = await self._repository.create_tasks(self.run_id, [root])
            return self._may_go_on
        self._may_go_on = True
        return True

    def _let_in(self) -> None:
        self._may_go_on, self._touched = True, None
        self._wake.set()

    async def _take_in_reports(self, view: RunView) -> None:
        missing: set[str] = set()
        if self._reports and self._touched is not None:
            self._touched |= with_scopes(row.path for row in self._reports)
        while self._reports:
            row = self._reports.popleft()
            view.tasks[row.path] = row
            missing |= {i for ids in row.outputs.artifacts.values() for i in ids if i not in view.artifacts}
        if missing:
            view.artifacts |= await self._repository.artifacts(missing)

    async def _look_up(self, view: RunView, keys: Mapping[str, str]) -> dict[str, CacheHit | None]:
        """What the cache has for cache keys, by whatever they are given by."""
        known = await self._repository.find_all_cached(view.run.namespace, view.run.pipeline_name, keys.values())
        missing = {i for task in known.values() for i in _artifacts_of(task) if i not in view.artifacts}
        if missing:
            view.artifacts |= await self._repository.artifacts(missing)
        hits = {
            key: CacheHit(task.id, task.outputs)
            for key, task in known.items()
            if view.artifacts.keys() >= set(_artifacts_of(task))
        }
        return {path: hits.get(key) for path, key in keys.items()}

    async def _carry_out(self, view: RunView, plan: Plan) -> None:
        view.tasks |= plan.rows
        self._by_id |= {row.id: path for path, row in plan.rows.items()}
        starts = [self._start(view, view.tasks[path]) for path in plan.start]
        # The pods are created while the record is written: their names follow from the record, so that whichever of
        # the two a crash leaves undone is done again, once. The record is asked for first: what steps report at once
        # finds them there.
        await _all(self._record(view, plan), *starts)
        for name in plan.stop:
            self._spawn(self._pods.delete(view.run.namespace, name, grace_seconds=GRACE_SECONDS))
        for path, artifact in plan.imports:
            report = Report(view.tasks[path].attempt, RuntimeState.SUCCEEDED, artifacts=[artifact])
            await self._repository.record_outputs(view.tasks[path].id, report)
        if plan.finish is not None:
            await self._finish(view.run, view.spec, plan.finish)
        elif plan.wake_at is not None:
            self._arm(plan.wake_at)

    async def _finish(self, run: Run, spec: PipelineSpec | None, end: Finish) -> None:
        """Record the end, with all that is to be done after it."""
        followups = await self._afterwards.plan(run, spec, end) if self._afterwards is not None else []
        if spec is not None and configuration(spec).workspace is not None and end.state is RuntimeState.SUCCEEDED:
            # That of another run stays for its retry, until the run is deleted or its time to live is over.
            await claims.drop_workspace(self._client, run.namespace, run.id)
        await self._repository.finish_run(
            run.id, end.state, error_code=end.code, error_message=end.message, followups=followups
        )
        self._finished = True

    async def _record(self, view: RunView, plan: Plan) -> None:
        writes: list[Awaitable[Any]] = []
        if view.run.state is RuntimeState.PENDING:
            view.run.state = RuntimeState.RUNNING
            writes.append(self._repository.start_run(self.run_id))
        if plan.create:
            writes.append(self._create(view, plan))
        if plan.updates:
            writes.append(self._update(plan))
        await _all(*writes)

    async def _create(self, view: RunView, plan: Plan) -> None:
        for row, recorded in zip(
            plan.create, await self._repository.create_tasks(self.run_id, plan.create), strict=True
        ):
            if recorded is not row:
                self._reload = True  # it was recorded before a crash: what it says counts
            view.tasks[recorded.path] = recorded

    async def _update(self, plan: Plan) -> None:
        if not all(await self._repository.update_tasks(plan.updates)):
            self._reload = True

    # Pods

    async def _start(self, view: RunView, row: TaskRow) -> None:
        """Create the pod of a row's attempt when it may begin, or do what its image stands for."""
        component, _ = find_task(view.spec, row.path)
        container = view.spec.executor_of(component).container
        if container is None:
            self._spawn(self._record_failure(row, f"Task {row.name!r} has no container.", FAILED_PRECONDITION))
            return
        if container.image in claims.OPERATIONS:
            report = await claims.OPERATIONS[container.image](self._client, view.run.namespace, row)
            self._spawn(self._repository.record_outputs(row.id, report))
            return
        try:
            requests = requested(row, component, container)
        except ResolveError as error:
            self._spawn(self._record_failure(row, str(error), FAILED_PRECONDITION))
            return
        ask = self._gate.ask(
            row.pod_name, self.run_id, view.run.namespace, requests, lambda: self._spawn(self._begin(view, row))
        )
        if self._gate.enter_step(ask):
            await self._create_pod(view, row, component, container)
        elif not self._says_soon:
            self._says_soon = True
            self._spawn(self._say_waiting(view))

    async def _begin(self, view: RunView, row: TaskRow) -> None:
        """The turn of a step that waited has come."""
        current = view.tasks.get(row.path)
        component, _ = find_task(view.spec, row.path)
        container = view.spec.executor_of(component).container
        if current is None or current.state.final or current.pod_name != row.pod_name or container is None:
            self._gate.steps.leave(row.pod_name)
            return
        await self._create_pod(view, current, component, container)

    async def _create_pod(
        self, view: RunView, row: TaskRow, component: ComponentSpec, container: ContainerSpec
    ) -> None:
        """A failure becomes the step's."""
        try:
            rendered = step_pod(view, row, component, container, self._api_address)
            if view.constants.workspace and not self._has_workspace:
                await claims.ensure_workspace(self._client, view)
                self._has_workspace = True
            known = await self._pods.create(rendered)
            if known is not None:  # a crash came between pod and record: its end may have been seen already
                self.pod_changed(known, gone=False)
        except ResolveError as error:
            self._spawn(self._record_failure(row, str(error), FAILED_PRECONDITION))
        except _TRANSIENT as error:
            log.warning("run %s: pod %s could not be created (%s), again soon", self.run_id, row.pod_name, error)
            self._spawn(self._start_later(view, row))
        except StatusError as error:
            message = f"The step's pod could not be created: {error}"
            self._spawn(self._record_failure(row, message, FAILED_PRECONDITION))

    async def _say_waiting(self, view: RunView) -> None:
        """Tell of the steps that still wait after a moment; most do not."""
        await self._clock.sleep(SAY_AFTER_SECONDS)
        self._says_soon = False
        rows = {row.pod_name: row for row in view.tasks.values() if row.state is RuntimeState.PENDING}
        said: dict[str, list[TaskRow]] = {}
        for ask in self._gate.steps.waiting(self.run_id):
            row = rows.get(ask.key)
            if row is not None:
                row.error_message = self._gate.steps.reason(ask)
                said.setdefault(row.error_message, []).append(row)
        for message, of in said.items():
            await self._repository.note_waiting(self.run_id, of, message)

    async def _start_later(self, view: RunView, row: TaskRow) -> None:
        await self._clock.sleep(AGAIN_SECONDS)
        current = view.tasks.get(row.path)
        if current is not None and not current.state.final and current.pod_name == row.pod_name:
            await self._start(view, current)

    async def _take_in_pods(self, view: RunView) -> None:
        changed, self._changed_pods = self._changed_pods, {}
        for pod, gone in changed.values():
            row = self._row_of(pod)
            if row is None or row.state.final or row.attempt != _attempt(pod) or row.report is not None:
                continue
            await self._take_in_pod(view, row, pod, gone=gone)

    async def _take_in_pod(self, view: RunView, row: TaskRow, pod: Pod, *, gone: bool) -> None:
        seen = observe(pod)
        if seen.phase is Phase.LOST:
            await self._record_failure(row, seen.message, UNAVAILABLE)
        elif seen.phase in {Phase.SUCCEEDED, Phase.FAILED} or gone:
            # The launcher reports before its pod ends, so a report that is not here will not come.
            said = seen.message or (
                "The step's pod was deleted before it ended." if gone else "The step's pod ended without a report."
            )
            spent = self._usages.spent(pod.metadata.uid) if self._usages is not None else None
            used = {"cpu_seconds": spent.cpu_seconds, "peak_bytes": spent.peak_bytes} if spent is not None else {}
            await self._record_failure(row, said, INTERNAL, seen.exit_code, used)
        elif seen.phase is Phase.HOPELESS:
            await self._record_failure(row, seen.message, FAILED_PRECONDITION)
            self._spawn(self._pods.delete(view.run.namespace, row.pod_name, grace_seconds=0))
        elif seen.phase is Phase.RUNNING and row.state is RuntimeState.PENDING:
            self._gate.steps.put_aside(row.pod_name, aside=False)
            row.state, row.error_message = RuntimeState.RUNNING, ""
            changes: dict[str, Any] = {"state": row.state, "error_message": ""}
            # A pod's times are whole seconds: the moment of the decision is better unless the pod had to wait.
            if row.attempt == 0 and seen.started_at and (row.started_at is None or seen.started_at > row.started_at):
                row.started_at = changes["started_at"] = seen.started_at
            self._spawn(self._note_running(row, changes))
        elif seen.phase is Phase.PENDING and seen.message and row.error_message != seen.message:
            self._gate.steps.put_aside(row.pod_name, aside=seen.unplaced)
            self._gate.steps.begun(row.pod_name)
            row.error_message = seen.message
            self._note(row, {"error_message": seen.message})

    def _note(self, row: TaskRow, changes: Any) -> None:
        """Record something that no decision waits for."""
        update = TaskUpdate(row.id, changes, expect=frozenset({RuntimeState.PENDING}), expect_attempt=row.attempt)
        self._spawn(self._repository.update_tasks([update]))

    async def _note_running(self, row: TaskRow, changes: Any) -> None:
        """The reports of short steps say it themselves, and soon."""
        await self._clock.sleep(NOTE_SECONDS)
        if self._view is not None and self._view.tasks.get(row.path) is row and row.report is None:
            self._note(row, changes)

    async def _record_failure(
        self, row: TaskRow, message: str, code: int, exit_code: int | None = None, used: dict[str, float] | None = None
    ) -> None:
        """As the launcher would have reported it; nothing happens when it has."""
        report = Report(
            row.attempt,
            RuntimeState.FAILED,
            exit_code=exit_code,
            error_code=code,
            error_message=message,
            used=used or {},
        )
        with contextlib.suppress(LookupError):
            await self._repository.record_outputs(row.id, report)

    def _row_of(self, pod: Pod) -> TaskRow | None:
        path = self._by_id.get(pod.metadata.labels.get(TASK_LABEL, ""))
        return self._view.tasks.get(path) if self._view is not None and path is not None else None

    # Time

    def _arm(self, moment: dt.datetime) -> None:
        if self._timer is not None and not self._timer.done():
            if self._timer_at is not None and self._timer_at <= moment:
                return
            self._timer.cancel()
        self._timer_at = moment
        self._timer = asyncio.create_task(self._ring(moment))

    async def _ring(self, moment: dt.datetime) -> None:
        await self._clock.sleep(max((moment - self._clock.precise()).total_seconds(), 0.0))
        self._touched = None
        self._wake.set()

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("run %s: a side task failed", self.run_id, exc_info=task.exception())
            self._reload = True
            self._wake.set()


def _artifacts_of(task: TaskRow) -> list[str]:
    return [i for ids in task.outputs.artifacts.values() for i in ids]


def _attempt(pod: Pod) -> int:
    text = pod.metadata.labels.get(ATTEMPT_LABEL, "")
    return int(text) if text.isdigit() else -1


async def _all(*works: Awaitable[Any]) -> None:
    """Wait for all; then raise the first error that there was."""
    if len(works) == 1:
        await works[0]
        return
    results = await asyncio.gather(*works, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
