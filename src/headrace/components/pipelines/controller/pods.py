"""The pods of steps: create them once, watch them, end them, keep the finished ones within bounds.

A pod's name follows from run, task and attempt, so that creating it again finds the one that there is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from headrace.api.core import ConfigMap, Pod, Service
from headrace.api.errors import AlreadyExists, NotFound, StatusError
from headrace.components.pipelines.render.step import API_NAMESPACE, API_SERVICE, COMPONENT_LABEL, RUN_LABEL
from headrace.machinery.informer import Informer

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.client.base import Client
    from headrace.components.pipelines.render.step import Rendered
    from headrace.machinery.clock import Clock

log = logging.getLogger(__name__)

KEEP_FINISHED = 200
"""Finished pods that stay to be looked at; the oldest go first."""
SLACK = 20
"""How many more there may be before some go."""
FINISHED = frozenset({"Succeeded", "Failed"})


class StepPods:
    """Every pod that is a step of a run."""

    def __init__(self, client: Client, clock: Clock, *, keep_finished: int = KEEP_FINISHED, slack: int = SLACK) -> None:
        self._client, self._keep, self._slack = client, keep_finished, slack
        self._informer: Informer[Pod] = Informer(client, clock, Pod, labels=f"{COMPONENT_LABEL}=true")
        self._task: asyncio.Task[None] | None = None

    def on_change(self, handler: Callable[[Pod | None, Pod | None], None]) -> None:
        """Call `handler(old, new)` on every change."""
        self._informer.on_change(handler)

    async def start(self) -> None:
        """Watch; returns when what there is has been seen."""
        self._task = asyncio.create_task(self._informer.run(), name="pipelines pods")
        waiter = asyncio.create_task(self._informer.synced.wait())
        await asyncio.wait({waiter, self._task}, return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        """Watch no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def get(self, namespace: str, name: str) -> Pod | None:
        """The pod as last seen."""
        return self._informer.get(f"{namespace}/{name}")

    def of_run(self, run_id: str) -> list[Pod]:
        """The pods of a run as last seen."""
        return [pod for pod in self._informer.all() if pod.metadata.labels.get(RUN_LABEL) == run_id]

    def all(self) -> list[Pod]:
        """Every pod as last seen."""
        return list(self._informer.all())

    async def api_address(self) -> str:
        """Where steps report; empty when that is not known, and a name server has to be asked."""
        try:
            service = await self._client.get(Service, API_SERVICE, API_NAMESPACE)
        except StatusError:
            return ""
        return service.spec.cluster_ip if service.spec.cluster_ip != "None" else ""

    async def create(self, rendered: Rendered) -> Pod | None:
        """Create the pod. None, or the pod as last seen when there was one already. Raises StatusError."""
        metadata, known = rendered.pod.metadata, None
        try:
            pod = await self._client.create(rendered.pod)
        except AlreadyExists:
            known = self.get(metadata.namespace, metadata.name)
            if rendered.document is None:
                return known
            pod = await self._client.get(Pod, metadata.name, metadata.namespace)
        document: ConfigMap | None = rendered.document
        if document is not None:
            document.metadata.owner_references = [pod.owner_reference()]
            with contextlib.suppress(AlreadyExists):
                await self._client.create(document)
        return known

    async def delete(self, namespace: str, name: str, *, grace_seconds: int | None = None) -> None:
        """Ask for the pod's end; fine when it is gone."""
        try:
            await self._client.delete(Pod, name, namespace, grace_period_seconds=grace_seconds)
        except NotFound:
            return
        except StatusError as error:
            log.warning("pod %s/%s could not be deleted: %s", namespace, name, error)

    async def prune(self, may_go: Callable[[Pod], bool]) -> None:
        """Delete the oldest finished pods beyond the bound, those that `may_go` allows."""
        finished = [p for p in self._informer.all() if p.status.phase in FINISHED]
        if len(finished) <= self._keep + self._slack:
            return
        finished.sort(key=lambda p: (p.metadata.creation_timestamp is not None, str(p.metadata.creation_timestamp)))
        for pod in finished[: len(finished) - self._keep]:
            if may_go(pod):
                await self.delete(pod.metadata.namespace, pod.metadata.name)
