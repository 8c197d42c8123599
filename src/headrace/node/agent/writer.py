"""Writes one pod's binding and status, behind the back of what runs it.

One write at a time; changes that come meanwhile go together into the next. A status patch carries the
resourceVersion that it was computed from, since it replaces lists; on a conflict it is computed again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from headrace.api import _wire
from headrace.api.core import Pod
from headrace.api.errors import Conflict, NotFound, StatusError
from headrace.machinery.diff import merge_patch

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.api.core import PodStatus
    from headrace.client.base import Client
    from headrace.machinery.clock import Clock

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
PATIENCE_SECONDS = 0.02
"""How long changes that nobody waits for are gathered into one write."""


class StatusWriter:
    """Keeps the stored pod as `compute` says; knows the newest version of the pod that anybody has seen."""

    def __init__(self, client: Client, clock: Clock, pod: Pod, compute: Callable[[Pod], PodStatus]) -> None:
        self._client, self._clock, self._compute = client, clock, compute
        self.pod = pod
        self._bind_to = ""
        self._dirty, self._urgent = asyncio.Event(), asyncio.Event()
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
        """Write spec.nodeName before the next status."""
        self._bind_to = node
        self.changed()

    def changed(self, *, soon: bool = False) -> None:
        """The status may have changed. With `soon`, others wait for it; otherwise what starts now goes first."""
        if self.gone.is_set():
            return
        self._settled.clear()
        self._dirty.set()
        if soon:
            self._urgent.set()

    async def settled(self) -> None:
        """Wait until everything known is written, or the pod is gone."""
        await self._settled.wait()

    async def run(self) -> None:
        """Write until cancelled or the pod is gone."""
        while not self.gone.is_set():
            await self._dirty.wait()
            if not self._urgent.is_set():
                patience = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._urgent.set)
                try:
                    await self._urgent.wait()
                finally:
                    patience.cancel()
            self._dirty.clear()
            self._urgent.clear()
            if self.gone.is_set():
                return
            try:
                await self._write()
            except Conflict:
                await self._reread()
                self._dirty.set()
            except NotFound:
                self._leave()
            except (StatusError, OSError) as error:
                log.warning("status of pod %s was not written (%s), again soon", self.pod.key, error)
                await self._clock.sleep(RETRY_SECONDS)
                self._dirty.set()
            if not self._dirty.is_set():
                self._settled.set()

    def leave(self) -> None:
        """The watch says that the pod is gone."""
        self._leave()
        self._dirty.set()
        self._urgent.set()

    async def _write(self) -> None:
        meta = self.pod.metadata
        if self._bind_to and not self.pod.spec.node_name:
            written = await self._client.patch(
                Pod,
                meta.name,
                {"spec": {"nodeName": self._bind_to}},
                meta.namespace,
                resource_version=meta.resource_version,
            )
            self.observe(written)
        status = self._compute(self.pod)
        before, after = _wire.to_builtins(self.pod.status), _wire.to_builtins(status)
        patch = merge_patch(before, after)
        if not patch:
            return
        written = await self._client.patch(
            Pod,
            meta.name,
            {"status": patch},
            meta.namespace,
            subresource="status",
            resource_version=self.pod.metadata.resource_version,
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
