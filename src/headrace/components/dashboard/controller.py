"""What the machine and its pods used over the last hour: one sample in half a minute, kept in memory.

A sample is a few reads of /proc, whether somebody looks or not, so that the first look shows an hour already. Nothing
is written to disk: after a restart the hour begins anew.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.machinery.clock import Clock
    from headrace.machinery.component import Usages

log = logging.getLogger(__name__)

SECONDS = 30.0
FRESH_SECONDS = 2.0
"""Looks that are closer together share a measurement: over less time it says nothing."""
KEPT = 3 * 3600 // int(SECONDS)
"""Three hours: the longest that the central dashboard's API can be asked for."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Shares are from 0 to 1; pods' are cores and bytes, of all pods together."""

    at: float
    """Seconds since the epoch."""
    cpu: float
    memory: float
    disk: float
    pods_cpu: float = 0.0
    pods_memory: float = 0.0


class History:
    """See the module."""

    def __init__(self, clock: Clock, folder: Path, usages: Usages | None) -> None:
        self._clock, self._folder, self._usages = clock, folder, usages
        self._samples: collections.deque[Sample] = collections.deque(maxlen=KEPT)
        self._busy: dict[bool, tuple[float, float]] = {}
        """Processor seconds, all and idle, at the last sample (True) and at the last look (False)."""
        self._looked: tuple[float, Sample] | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to sample."""
        self._task = asyncio.create_task(self._run(), name="usage-history")

    async def stop(self) -> None:
        """No more samples."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def since(self, seconds: float) -> list[Sample]:
        """The samples of the last so many seconds, the oldest first."""
        start = self._clock.precise().timestamp() - seconds
        return [sample for sample in self._samples if sample.at >= start]

    async def look(self) -> Sample:
        """How it is now, without keeping it; CPU is of the time since the look before, of whomever."""
        now = self._clock.monotonic()
        if self._looked is None or now - self._looked[0] >= FRESH_SECONDS:
            self._looked = now, await self._measure(pods=False)
        return self._looked[1]

    async def take(self) -> Sample:
        """One more sample, of now."""
        sample = await self._measure(pods=True)
        self._samples.append(sample)
        return sample

    async def _measure(self, *, pods: bool) -> Sample:
        import psutil  # noqa: PLC0415 - not while the platform starts

        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        total = sum(times[:8])  # guests' time is within users' already
        before = self._busy.get(pods, (0.0, 0.0))
        self._busy[pods] = (total, idle)
        passed = total - before[0]
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(existing(self._folder)))
        pods_cpu = pods_memory = 0.0
        if pods and self._usages is not None:
            used = await self._usages.usage()
            containers = [c for pod in used.pods.values() for c in pod]
            pods_cpu = sum(c.cpu_cores for c in containers)
            pods_memory = float(sum(c.memory_bytes for c in containers))
        return Sample(
            at=self._clock.precise().timestamp(),
            cpu=min(max(1 - (idle - before[1]) / passed, 0.0), 1.0) if passed > 0 else 0.0,
            memory=memory.percent / 100,
            disk=disk.percent / 100,
            pods_cpu=pods_cpu,
            pods_memory=pods_memory,
        )

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(SECONDS)
            try:
                await self.take()
            except Exception:
                log.exception("what the machine uses could not be read: the chart has a gap")


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    with contextlib.suppress(OSError):
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
    return folder
