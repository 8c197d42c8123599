"""Pods that leave because of the node's NoExecute taints, at once or when their tolerations end."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from headrace.node.agent import scheduling, status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from headrace.api.core import Pod
    from headrace.machinery.clock import Clock
    from headrace.node.agent.worker import PodWorker

log = logging.getLogger(__name__)

NO_EXECUTE = "NoExecute"
REASON, MESSAGE = "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint"


def stays_for(pod: Pod, taints: Sequence[Mapping[str, Any]]) -> float | None:
    """Seconds that the pod may stay under these taints; None: for ever."""
    shortest: float | None = None
    for taint in taints:
        if taint.get("effect") != NO_EXECUTE:
            continue
        matching = [one for one in pod.spec.tolerations if scheduling.tolerates(one, taint)]
        if not matching:
            return 0.0
        for one in matching:
            seconds = one.get("tolerationSeconds")
            if seconds is not None:
                shortest = max(0.0, float(seconds)) if shortest is None else min(shortest, max(0.0, float(seconds)))
    return shortest


class Departures:
    """Timers of the pods that have to leave. Time counts from when the taint was first seen."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._leaving: dict[str, tuple[float, asyncio.Task[None]]] = {}

    def look(self, worker: PodWorker, taints: Sequence[Mapping[str, Any]]) -> None:
        """The pod or the taints may have changed."""
        pod = worker.pod
        over = pod.metadata.deletion_timestamp is not None or pod.status.phase in status.FINISHED
        seconds = None if over or not worker.facts.scheduled else stays_for(pod, taints)
        held = self._leaving.get(worker.uid)
        if held is not None and held[0] == seconds and not held[1].done():
            return
        if held is not None:
            held[1].cancel()
            del self._leaving[worker.uid]
        if seconds is not None:
            task = asyncio.create_task(self._leave(worker, seconds), name=f"departure of {pod.key}")
            self._leaving[worker.uid] = (seconds, task)

    def forget(self, uid: str) -> None:
        """The pod has gone."""
        held = self._leaving.pop(uid, None)
        if held is not None:
            held[1].cancel()

    async def stop(self) -> None:
        """Nobody leaves any more."""
        tasks = [task for _, task in self._leaving.values()]
        self._leaving.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _leave(self, worker: PodWorker, seconds: float) -> None:
        await self._clock.sleep(seconds)
        pod = worker.pod
        worker.host.reporter.normal(pod, "TaintManagerEviction", f"Marking for deletion Pod {pod.key}")
        await worker.send_away(REASON, MESSAGE)
