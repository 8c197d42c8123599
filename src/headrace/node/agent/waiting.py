"""Waiting for one of several things on the platform's clock, so that tests can step it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.machinery.clock import Clock


async def first(clock: Clock, seconds: float | None, *events: asyncio.Event) -> bool:
    """Wait until one of the events is set (true) or the time is over (false)."""
    if any(event.is_set() for event in events):
        return True
    tasks: set[asyncio.Task[object]] = {asyncio.create_task(event.wait()) for event in events}
    sleeper: asyncio.Task[None] | None = None
    if seconds is not None:
        sleeper = asyncio.create_task(clock.sleep(seconds))
        tasks.add(sleeper)
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    return any(task is not sleeper for task in done) or any(event.is_set() for event in events)


class Pulse:
    """Wakes everyone who waits at this moment; whoever comes later waits for the next one."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def beat(self) -> None:
        """Wake the waiters."""
        self._event.set()
        self._event = asyncio.Event()

    @property
    def next(self) -> asyncio.Event:
        """Set by the next beat."""
        return self._event
