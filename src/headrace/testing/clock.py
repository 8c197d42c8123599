"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import datetime as dt
import heapq
import itertools

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DIGITS = 9
"""Nanoseconds: without rounding, 0.1 + 0.2 would not reach a sleeper of 0.3."""


class FakeClock:
    """See `machinery.clock.Clock`. Sleepers wake when `step` passes their time."""

    def __init__(self, start: dt.datetime = START) -> None:
        self._start = start
        self._elapsed = 0.0
        self._counter = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> dt.datetime:
        """See Clock."""
        return self.precise().replace(microsecond=0)

    def precise(self) -> dt.datetime:
        """See Clock."""
        return self._start + dt.timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        """See Clock."""
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has been stepped this far."""
        due = round(self._elapsed + seconds, DIGITS)
        if due <= self._elapsed:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (due, next(self._counter), future))
        await future

    def step(self, seconds: float) -> None:
        """Move time forward and wake everyone whose time has come, in order."""
        self._elapsed = round(self._elapsed + seconds, DIGITS)
        while self._sleepers and self._sleepers[0][0] <= self._elapsed:
            _, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)

    @property
    def sleepers(self) -> int:
        """How many are waiting."""
        return sum(not future.done() for _, _, future in self._sleepers)
