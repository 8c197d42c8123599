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

    def now(self) -> dt.datetime:
        """See Clock."""
        return dt.datetime.now(dt.UTC).replace(microsecond=0)

    def precise(self) -> dt.datetime:
        """See Clock."""
        return dt.datetime.now(dt.UTC)

    def monotonic(self) -> float:
        """See Clock."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """See Clock."""
        await asyncio.sleep(seconds)
