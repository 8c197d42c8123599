"""Time as a dependency, so that tests step it."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from typing import Protocol


class Clock(Protocol):
    """Wall time, monotonic time and sleep."""

    def now(self) -> dt.datetime:
        """Wall time in UTC, whole seconds, as Kubernetes writes it."""
        ...

    def precise(self) -> dt.datetime:
        """Wall time in UTC with microseconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's clock."""

    def __init__(self) -> None:
        self._second, self._now = 0, dt.datetime.fromtimestamp(0, dt.UTC)

    def now(self) -> dt.datetime:
        """See Clock. Asked several times a request: within a second it is the same moment, made once."""
        second = int(time.time())
        if second != self._second:
            self._second, self._now = second, dt.datetime.fromtimestamp(second, dt.UTC)
        return self._now

    def precise(self) -> dt.datetime:
        """See Clock."""
        return dt.datetime.now(dt.UTC)

    def monotonic(self) -> float:
        """See Clock."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """See Clock."""
        await asyncio.sleep(seconds)
