"""What the node and its pods use, measured when somebody asks (`kubectl top`), never in between.

Processor use is a difference of two looks. The look of the question before serves as the first one when it is
neither too fresh nor too old; else a second one follows after a moment.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.machinery.component import ContainerUsage, NodeUsage, Spent

if TYPE_CHECKING:
    from headrace.machinery.clock import Clock
    from headrace.node.runtime.base import ContainerState, Runtime, Usage

KEPT_PODS = 4096
"""What ended containers used is known of so many pods, the last ones."""
SHORTEST_SECONDS = 1.0
LONGEST_SECONDS = 60.0
MOMENT_SECONDS = 0.25
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at one moment."""

    at: float
    machine_seconds: float
    containers: dict[tuple[str, str], Usage]


class NodeUsages:
    """See machinery.component.Usages."""

    def __init__(self, runtime: Runtime, clock: Clock) -> None:
        self._runtime, self._clock = runtime, clock
        self._last: Look | None = None
        self._lock = asyncio.Lock()
        self._ended: dict[str, dict[str, ContainerState]] = {}

    def ended(self, observed: ContainerState) -> None:
        """A container has ended: remember what it used."""
        self._ended.setdefault(observed.pod_uid, {})[observed.id] = observed
        if len(self._ended) > KEPT_PODS:
            del self._ended[next(iter(self._ended))]

    def spent(self, pod_uid: str) -> Spent | None:
        """See Usages."""
        found = self._ended.get(pod_uid)
        if not found:
            return None
        return Spent(sum(c.cpu_seconds for c in found.values()), max(c.peak_bytes for c in found.values()))

    async def usage(self) -> NodeUsage:
        """See Usages."""
        async with self._lock:
            now = await self._look()
            before = self._last
            if before is None or not SHORTEST_SECONDS <= now.at - before.at <= LONGEST_SECONDS:
                before = now
                await self._clock.sleep(MOMENT_SECONDS)
                now = await self._look()
            self._last = now
            return used(before, now, _memory_used())

    async def _look(self) -> Look:
        found = await self._runtime.usage()
        return Look(self._clock.monotonic(), _busy_seconds(), {(u.pod_uid, u.id): u for u in found})


def used(before: Look, now: Look, memory_bytes: int) -> NodeUsage:
    """What was used between two looks; a container that began in between counts from its beginning."""
    window = max(now.at - before.at, 1e-3)
    pods: dict[str, list[ContainerUsage]] = {}
    for key, current in now.containers.items():
        earlier = before.containers.get(key)
        seconds = current.cpu_seconds - (earlier.cpu_seconds if earlier is not None else 0.0)
        name = current.id.rpartition("-")[0]
        pods.setdefault(current.pod_uid, []).append(
            ContainerUsage(name, max(seconds, 0.0) / window, current.memory_bytes)
        )
    return NodeUsage(
        window_seconds=window,
        cpu_cores=max(now.machine_seconds - before.machine_seconds, 0.0) / window,
        memory_bytes=memory_bytes,
        pods={uid: tuple(sorted(held, key=lambda c: c.container)) for uid, held in pods.items()},
    )


def _busy_seconds() -> float:
    """Since boot, of all cores: everything but idle and waiting for disks."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / _TICKS


def _memory_used() -> int:
    """Of the whole machine, without what can be given back at once."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    total, available = (int(lines[name].split()[0]) << 10 for name in ("MemTotal", "MemAvailable"))
    return total - available
