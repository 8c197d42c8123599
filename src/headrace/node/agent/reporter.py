"""Events of pods, written behind the agent's back: nothing that starts a process waits for them.

In order, from one queue, all that wait in one transaction; when the API server is slower than the node, the queue's
end is dropped, as a kubelet does.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from headrace.api.meta import Object, ObjectMeta

log = logging.getLogger(__name__)

LIMIT = 5000
TOGETHER = 256
PATIENCE_SECONDS = 0.05
"""Events follow what they tell of: they leave the processor to it first, and go to the store together."""
NORMAL, WARNING = "Normal", "Warning"

_Event = tuple["Object", str, str, str]
"""About what, type, reason, message."""


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
        self._queue: asyncio.Queue[_Event] = asyncio.Queue(LIMIT)
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
        self._put(obj, NORMAL, reason, message)

    def warning(self, obj: Object, reason: str, message: str) -> None:
        """Something that a person should look at."""
        self._put(obj, WARNING, reason, message)

    def _put(self, obj: Object, type_: str, reason: str, message: str) -> None:
        try:
            self._queue.put_nowait((_named(obj), type_, reason, message))
        except asyncio.QueueFull:
            log.warning("event %s of %s dropped: too many events", reason, obj.key)

    async def _work(self) -> None:
        while True:
            waiting = [await self._queue.get()]
            await asyncio.sleep(PATIENCE_SECONDS)
            while not self._queue.empty() and len(waiting) < TOGETHER:
                waiting.append(self._queue.get_nowait())
            while waiting:
                different, waiting = _apart(waiting)
                await asyncio.gather(*(self._write(*event) for event in different))
                for _ in different:
                    self._queue.task_done()

    async def _write(self, obj: Object, type_: str, reason: str, message: str) -> None:
        try:
            await (self._recorder.warning if type_ == WARNING else self._recorder.normal)(obj, reason, message)
        except Exception:
            log.exception("event %s of %s was not written", reason, obj.key)


def _apart(events: list[_Event]) -> tuple[list[_Event], list[_Event]]:
    """The events that can be written at one moment, and those that repeat one of them, which has to be there to be
    counted.
    """
    first: dict[tuple[str, ...], _Event] = {}
    repeated = []
    for event in events:
        obj, *said = event
        if first.setdefault((obj.kind, obj.key, obj.metadata.uid, *said), event) is not event:
            repeated.append(event)
    return list(first.values()), repeated


def _named(obj: Object) -> Object:
    """What an event tells of its object, and no more: a busy node has thousands of events waiting, of pods that may be
    gone when their turn comes.
    """
    meta = obj.metadata
    named = ObjectMeta(name=meta.name, namespace=meta.namespace, uid=meta.uid, resource_version=meta.resource_version)
    return Object(api_version=obj.api_version, kind=obj.kind, metadata=named)
