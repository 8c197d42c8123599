"""A work queue of keys: a key is in it once, is never worked on twice at a time, and failures come back later.

After client-go's workqueue: a key added while it is being processed is processed again afterwards. An idle queue
costs nothing: getters wait for futures, and one timer waits for the earliest delayed key.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.machinery.clock import Clock

BASE_DELAY = 0.005
MAX_DELAY = 60.0
MAX_DOUBLINGS = 64
"""More would overflow a float long before anybody looks at a key that has failed for days."""


class WorkQueue:
    """Keys to reconcile, with delays and per-key exponential backoff."""

    def __init__(self, clock: Clock, *, base_delay: float = BASE_DELAY, max_delay: float = MAX_DELAY) -> None:
        self._clock = clock
        self._base, self._max = base_delay, max_delay
        self._ready: deque[str] = deque()
        self._queued: set[str] = set()
        self._processing: set[str] = set()
        self._dirty: set[str] = set()
        self._failures: dict[str, int] = {}
        self._delayed: list[tuple[float, int, str]] = []
        self._due: dict[str, float] = {}
        self._counter = itertools.count()
        self._getters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.Task[None] | None = None
        self._timer_due = 0.0
        self._closed = False

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def idle(self) -> bool:
        """Nothing ready and nothing being processed (delayed keys do not count)."""
        return not self._ready and not self._processing

    def add(self, key: str) -> None:
        """Process this key soon."""
        if key in self._processing:
            self._dirty.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.append(key)
            self._wake_one()

    def add_after(self, key: str, seconds: float) -> None:
        """Process this key after a delay; an earlier pending delay wins."""
        if seconds <= 0:
            self.add(key)
            return
        due = self._clock.monotonic() + seconds
        if self._due.get(key, float("inf")) <= due:
            return
        self._due[key] = due
        heapq.heappush(self._delayed, (due, next(self._counter), key))
        if self._getters:
            self._arm()

    def retry(self, key: str) -> float:
        """Process again after this key's backoff, which doubles each time; returns the delay in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(self._base * 2.0 ** min(failures, MAX_DOUBLINGS), self._max)
        self.add_after(key, delay)
        return delay

    def forget(self, key: str) -> None:
        """The key succeeded: its backoff starts anew."""
        self._failures.pop(key, None)

    async def get(self) -> str | None:
        """The next key, marked as being processed; None when the queue is closed.

        Everything else that is ready to run goes first: ten thousand keys do not freeze the event loop.
        """
        await asyncio.sleep(0)
        while not self._closed:
            self._promote(self._clock.monotonic())
            if self._ready:
                key = self._ready.popleft()
                self._queued.discard(key)
                self._processing.add(key)
                return key
            await self._wait()
        return None

    def done(self, key: str) -> None:
        """Processing ended; if the key was added meanwhile it is ready again."""
        self._processing.discard(key)
        if key in self._dirty:
            self._dirty.discard(key)
            self.add(key)

    def close(self) -> None:
        """Wake every waiter; `get` returns None from now on."""
        self._closed = True
        self._disarm()
        while self._getters:
            self._wake_one()

    async def _wait(self) -> None:
        """Until there is something to take, or the queue is closed; sometimes in vain."""
        getter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._getters.append(getter)
        self._arm()
        try:
            await getter
        except asyncio.CancelledError:
            if getter in self._getters:
                self._getters.remove(getter)
            elif self._ready:
                self._wake_one()  # a key woke this getter, which is going away: another one must take the key
            raise
        finally:
            if not self._getters:
                self._disarm()  # whoever takes a key looks at the delayed ones first

    def _wake_one(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return

    def _promote(self, now: float) -> None:
        while self._delayed and self._delayed[0][0] <= now:
            due, _, key = heapq.heappop(self._delayed)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)

    def _arm(self) -> None:
        """One sleeper, until the earliest delayed key is due."""
        if not self._delayed:
            return
        due = self._delayed[0][0]
        if self._timer is not None and not self._timer.done():
            if self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = asyncio.get_running_loop().create_task(self._sleep_until(due), name="work queue timer")

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _sleep_until(self, due: float) -> None:
        await self._clock.sleep(due - self._clock.monotonic())
        self._timer = None
        # Some event loops wake a little early: the clock that was slept on decides, or this would spin until `due`.
        self._promote(max(due, self._clock.monotonic()))
        if self._getters:
            self._arm()
