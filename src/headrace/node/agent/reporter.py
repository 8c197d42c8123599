"""Events of pods, written behind the agent's back: nothing that starts a process waits for them.

In order, from one queue; when the API server is slower than the node, the queue's end is dropped, as a
kubelet does.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from headrace.api.meta import Object, ObjectMeta

log = logging.getLogger(__name__)

LIMIT = 5000
PATIENCE_SECONDS = 0.05
"""Events follow what they tell of: they leave the processor to it first."""


class Recorder(Protocol):
    """Writes events; machinery.events.EventRecorder is one."""

    async def normal(self, obj: Object, reason: str, message: str) -> None:
        """Something expected happened."""
        ...

    async def warning(self, obj: Object, reason: str, message: str) -> None:
        """Something that a person should look at."""
        ...


class Reporter:
    """Takes events at once and writes them soon."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._queue: asyncio.Queue[tuple[Object, bool, str, str]] = asyncio.Queue(LIMIT)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._work(), name="pod events")

    async def stop(self) -> None:
        """Write what is queued, then end."""
        if self._task is None:
            return
        await self._queue.join()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None

    def normal(self, obj: Object, reason: str, message: str) -> None:
        """Something expected happened."""
        self._put(obj, reason, message, warning=False)

    def warning(self, obj: Object, reason: str, message: str) -> None:
        """Something that a person should look at."""
        self._put(obj, reason, message, warning=True)

    def _put(self, obj: Object, reason: str, message: str, *, warning: bool) -> None:
        try:
            self._queue.put_nowait((_named(obj), warning, reason, message))
        except asyncio.QueueFull:
            log.warning("event %s of %s dropped: too many events", reason, obj.key)

    async def _work(self) -> None:
        while True:
            obj, warning, reason, message = await self._queue.get()
            if self._queue.empty():
                await asyncio.sleep(PATIENCE_SECONDS)
            try:
                await (self._recorder.warning if warning else self._recorder.normal)(obj, reason, message)
            except Exception:
                log.exception("event %s of %s was not written", reason, obj.key)
            finally:
                self._queue.task_done()


def _named(obj: Object) -> Object:
    """What an event tells of its object, and no more: a busy node has thousands of events waiting, of pods that may be
    gone when their turn comes.
    """
    meta = obj.metadata
    named = ObjectMeta(name=meta.name, namespace=meta.namespace, uid=meta.uid, resource_version=meta.resource_version)
    return Object(api_version=obj.api_version, kind=obj.kind, metadata=named)
