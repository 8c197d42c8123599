"""A work queue of keys: a key is in it once, is never worked on twice at a time, and failures come back later.

After client-go's workqueue: a key added while it is being processed is processed again afterwards.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.machinery.clock import Clock

BASE_DELAY = 0.005
MAX_DELAY = 60.0


class WorkQueue:
    """Keys to reconcile, with delays and per-key exponential backoff."""

    def __init__(self, clock: Clock, *, base_delay: float = BASE_DELAY, max_delay: float = MAX_DELAY) -> None:
        self._clock = clock
        self._base, self._max = base_delay, max_delay
        self._ready: dict[str, None] = {}
        self._processing: set[str] = set()
        self._dirty: set[str] = set()
        self._failures: dict[str, int] = {}
        self._delayed: list[tuple[float, int, str]] = []
        self._due: dict[str, float] = {}
        self._counter = itertools.count()
        self._wake = asyncio.Event()
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
        elif key not in self._ready:
            self._ready[key] = None
            self._wake.set()

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
        self._wake.set()

    def retry(self, key: str) -> float:
        """Process again after this key's backoff, which doubles each time; returns the delay in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(self._base * 2.0**failures, self._max)
        self.add_after(key, delay)
        return delay

    def forget(self, key: str) -> None:
        """The key succeeded: its backoff starts anew."""
        self._failures.pop(key, None)

    async def get(self) -> str | None:
        """The next key, marked as being processed; None when the queue is closed."""
        while not self._closed:
            self._promote()
            if self._ready:
                key = next(iter(self._ready))
                del self._ready[key]
                self._processing.add(key)
                return key
            self._wake.clear()
            timeout = self._delayed[0][0] - self._clock.monotonic() if self._delayed else None
            if timeout is None:
                await self._wake.wait()
            else:
                await self._wait(max(timeout, 0.0))
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
        self._wake.set()

    def _promote(self) -> None:
        now = self._clock.monotonic()
        while self._delayed and self._delayed[0][0] <= now:
            due, _, key = heapq.heappop(self._delayed)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)

    async def _wait(self, seconds: float) -> None:
        waiter = asyncio.ensure_future(self._wake.wait())
        sleeper = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait({waiter, sleeper}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()
            sleeper.cancel()
