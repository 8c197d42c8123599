"""Wakes a worker for each run that is not finished, and hands it what concerns it.

Nothing is polled: a worker is woken by a change of the record (a run created, a step's report, a termination) and by a
change of a pod. All state is in the database; after a restart the unfinished runs are read from it, and their pods,
which went on running, are found by their names.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from headrace.components.pipelines.controller import claims
from headrace.components.pipelines.controller.gate import Gate
from headrace.components.pipelines.controller.pods import FINISHED, StepPods
from headrace.components.pipelines.controller.worker import RunWorker
from headrace.components.pipelines.policy.podstatus import has_begun
from headrace.components.pipelines.render.step import RUN_LABEL
from headrace.components.pipelines.store.models import ChangeKind

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from headrace.api.core import Pod
    from headrace.client.base import Client
    from headrace.components.pipelines.controller.afterwards import Afterwards
    from headrace.components.pipelines.store.models import Change
    from headrace.components.pipelines.store.repository import RunRepository
    from headrace.machinery.clock import Clock
    from headrace.machinery.component import Usages

log = logging.getLogger(__name__)


class Engine:
    """Runs pipelines."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        repository: RunRepository,
        *,
        pods: StepPods | None = None,
        afterwards: Afterwards | None = None,
        usages: Usages | None = None,
    ) -> None:
        self._afterwards, self._usages = afterwards, usages
        self._client, self._clock, self._repository = client, clock, repository
        self._pods = pods or StepPods(client, clock)
        self._gate = Gate(client, clock)
        self._workers: dict[str, RunWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._unsubscribe: Callable[[], None] | None = None
        self._pruning = False

    async def start(self) -> None:
        """See what there is, then continue every unfinished run."""
        self._unsubscribe = self._repository.subscribe(self._on_change)
        await self._pods.start()
        await self._gate.start()
        unfinished = await self._repository.unfinished_runs()
        known = set(unfinished)
        for pod in self._pods.all():
            run_id = pod.metadata.labels.get(RUN_LABEL, "")
            if run_id in known and pod.status.phase not in FINISHED:
                self._gate.hold_pod(run_id, pod)
        for run_id in unfinished:
            self._ensure(run_id)
        for pod in self._pods.all():
            orphan = pod.metadata.labels.get(RUN_LABEL, "") not in self._workers
            if orphan and pod.status.phase not in FINISHED:
                self._spawn(self._pods.delete(pod.metadata.namespace, pod.metadata.name))
        self._pods.on_change(self._on_pod)

    async def stop(self) -> None:
        """Let go of everything; pods go on."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        self._gate.close()
        tasks = [*self._tasks.values(), *self._background]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()
        self._tasks.clear()
        await self._gate.stop()
        await self._pods.stop()

    @property
    def active(self) -> frozenset[str]:
        """Ids of the runs that are being worked on."""
        return frozenset(self._workers)

    def _on_change(self, change: Change) -> None:
        if change.kind in {ChangeKind.FINISHED, ChangeKind.SCHEDULE}:
            return
        if change.kind is ChangeKind.DELETED:
            self._forget(change.run_id)
        elif change.kind is ChangeKind.REPORTED and change.task is not None:
            self._let_next(change.task.pod_name)
            self._ensure(change.run_id).reported(change.task)
        else:
            self._ensure(change.run_id).run_changed()

    def _let_next(self, pod_name: str) -> None:
        """A step has reported. Its pod is about to end, and until then the node has no room for the next one."""
        ask = self._gate.steps.inside(pod_name)
        pod = self._pods.get(ask.namespace, pod_name) if ask is not None else None
        if pod is None or pod.status.phase in FINISHED:
            self._gate.steps.leave(pod_name)

    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        pod = new or old
        if pod is None:
            return
        if new is None or new.status.phase in FINISHED:
            self._gate.steps.leave(pod.metadata.name)
        elif has_begun(new):
            self._gate.steps.begun(pod.metadata.name)
        worker = self._workers.get(pod.metadata.labels.get(RUN_LABEL, ""))
        if worker is not None:
            worker.pod_changed(pod, gone=new is None)
        if new is not None and new.status.phase in FINISHED and not self._pruning:
            self._pruning = True
            self._spawn(self._prune())

    async def _prune(self) -> None:
        try:
            await self._pods.prune(self._may_go)
        finally:
            self._pruning = False

    def _may_go(self, pod: Pod) -> bool:
        """Whether nothing waits for what this finished pod has to say."""
        worker = self._workers.get(pod.metadata.labels.get(RUN_LABEL, ""))
        return worker is None or worker.is_done_with(pod)

    def _ensure(self, run_id: str) -> RunWorker:
        worker = self._workers.get(run_id)
        if worker is None:
            given = (self._repository, self._pods, self._client, self._clock)
            worker = RunWorker(run_id, *given, gate=self._gate, afterwards=self._afterwards, usages=self._usages)
            self._workers[run_id] = worker
            self._tasks[run_id] = asyncio.create_task(self._work(worker), name=f"run {run_id}")
        return worker

    async def _work(self, worker: RunWorker) -> None:
        try:
            await worker.work()
        finally:
            if self._workers.get(worker.run_id) is worker:
                del self._workers[worker.run_id]
                self._tasks.pop(worker.run_id, None)
                self._gate.leave_run(worker.run_id)
        if worker.wanted:
            self._ensure(worker.run_id)

    def _forget(self, run_id: str) -> None:
        """The run's record is gone: its pods go too."""
        self._gate.leave_run(run_id)
        worker = self._workers.pop(run_id, None)
        task = self._tasks.pop(run_id, None)
        if worker is not None and task is not None:
            task.cancel()
            worker.close()
        for pod in self._pods.of_run(run_id):
            self._spawn(self._pods.delete(pod.metadata.namespace, pod.metadata.name))
        self._spawn(claims.drop_workspace_of(self._client, run_id))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
