"""Writes one pod's binding and status, behind the back of what runs it.

One write at a time; what changes meanwhile, or may wait a little, goes together into the next: a pod that starts at
once is written twice in its life, as running on this node and as ended. A status patch carries the resourceVersion that
it was computed from, since it replaces lists; on a conflict it is computed again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from headrace.api import _wire
from headrace.api.core import Pod
from headrace.api.errors import Conflict, NotFound, StatusError
from headrace.machinery.diff import merge_patch
from headrace.node.agent.owner import AT_ONCE, LATER

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.api.core import PodStatus
    from headrace.client.base import Client
    from headrace.machinery.clock import Clock

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.5


class StatusWriter:
    """Keeps the stored pod as `compute` says; knows the newest version of the pod that anybody has seen."""

    def __init__(self, client: Client, clock: Clock, pod: Pod, compute: Callable[[Pod], PodStatus]) -> None:
        self._client, self._clock, self._compute = client, clock, compute
        self.pod = pod
        self._bind_to = ""
        self._due: float | None = None
        """When the next write begins, by the event loop's clock; None when there is nothing to write."""
        self._due_sooner = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self.gone = asyncio.Event()
        """The pod is no longer in the store."""

    def observe(self, pod: Pod) -> bool:
        """A version from the watch; false when a newer one is known already."""
        if _older(pod, self.pod):
            return False
        self.pod = pod
        return True

    def bind(self, node: str) -> None:
        """Write spec.nodeName with the next status."""
        self._bind_to = node
        self.changed()

    def changed(self, *, within: float = LATER) -> None:
        """The status may have changed; it is written in so many seconds at the latest."""
        if self.gone.is_set():
            return
        self._settled.clear()
        self._want(within)

    def _want(self, within: float) -> None:
        due = asyncio.get_running_loop().time() + within
        if self._due is None or due < self._due:
            self._due = due
            self._due_sooner.set()

    async def settled(self) -> None:
        """Wait until everything known is written, or the pod is gone."""
        await self._settled.wait()

    async def run(self) -> None:
        """Write until cancelled or the pod is gone."""
        while not self.gone.is_set():
            await self._until_due()
            if self.gone.is_set():
                return
            try:
                await self._write()
            except Conflict:
                await self._reread()
                self._want(AT_ONCE)
            except NotFound:
                self._leave()
            except (StatusError, OSError) as error:
                log.warning("status of pod %s was not written (%s), again soon", self.pod.key, error)
                await self._clock.sleep(RETRY_SECONDS)
                self._want(AT_ONCE)
            if self._due is None:
                self._settled.set()

    async def _until_due(self) -> None:
        loop = asyncio.get_running_loop()
        while self._due is None or self._due > loop.time():
            self._due_sooner.clear()
            timer = loop.call_at(self._due, self._due_sooner.set) if self._due is not None else None
            try:
                await self._due_sooner.wait()
            finally:
                if timer is not None:
                    timer.cancel()
        self._due = None

    def leave(self) -> None:
        """The watch says that the pod is gone."""
        self._leave()
        self._want(AT_ONCE)

    async def _write(self) -> None:
        pod = self.pod
        before, after = _wire.to_builtins(pod.status), _wire.to_builtins(self._compute(pod))
        patch = {"status": merge_patch(before, after)}
        binds = bool(self._bind_to) and not pod.spec.node_name
        if binds:
            patch["spec"] = {"nodeName": self._bind_to}
        elif not patch["status"]:
            return
        written = await self._client.patch(
            Pod,
            pod.metadata.name,
            patch,
            pod.metadata.namespace,
            subresource="binding" if binds else "status",
            resource_version=pod.metadata.resource_version,
        )
        self.observe(written)

    async def _reread(self) -> None:
        meta = self.pod.metadata
        try:
            found = await self._client.get(Pod, meta.name, meta.namespace)
        except NotFound:
            self._leave()
            return
        except (StatusError, OSError):
            await self._clock.sleep(RETRY_SECONDS)
            return
        if found.metadata.uid != meta.uid:
            self._leave()
        else:
            self.pod = found

    def _leave(self) -> None:
        self.gone.set()
        self._settled.set()


def _older(one: Pod, other: Pod) -> bool:
    try:
        return int(one.metadata.resource_version) < int(other.metadata.resource_version)
    except ValueError:
        return False
