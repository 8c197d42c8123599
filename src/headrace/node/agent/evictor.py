"""Looks at the machine every ten seconds: tells pressure in the Node, and ends pods before the machine suffers.

Where the disk is nearly full, environments that nobody uses go first. One pod a look, so that what its end gives back
counts before the next one is chosen. A condition stays for a while after the pressure has gone, as the kubelet's does,
so that pods do not come back only to be evicted again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from typing import TYPE_CHECKING

from headrace.api import _wire
from headrace.api.core import Node
from headrace.api.errors import StatusError
from headrace.node import machine
from headrace.node.agent import pressure, status
from headrace.node.agent.pressure import DISK, MEMORY, PIDS, Amount, Candidate
from headrace.node.agent.waiting import first

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from headrace.machinery.settings import Settings
    from headrace.node.agent.host import Host
    from headrace.node.agent.worker import PodWorker

log = logging.getLogger(__name__)

EVERY_SECONDS = 10.0
TRANSITION_SECONDS = 300.0
REASON = "Evicted"
GRACE_SECONDS = 1.0
_PATIENCE_SECONDS = 30.0
_TAINTS = {signal.condition: signal.taint for signal in pressure.SIGNALS.values()}


class Evictor:
    """`workers` are the pods of this node; `look_at` gives how much of each thing is left."""

    def __init__(
        self,
        host: Host,
        workers: Callable[[], Iterable[PodWorker]],
        look_at: Callable[[Settings], dict[str, Amount]] | None = None,
    ) -> None:
        self._host, self._workers = host, workers
        self.look_at = look_at or observe
        self._thresholds = pressure.thresholds(host.settings.eviction_hard)
        self._seen: dict[str, float] = {}
        """Condition to when its threshold was last found crossed."""
        self._told: frozenset[str] | None = None

    @property
    def pressures(self) -> frozenset[str]:
        """The conditions that are true now."""
        now = self._host.clock.monotonic()
        return frozenset(name for name, at in self._seen.items() if now - at < TRANSITION_SECONDS)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("looking at the machine failed, again in %.0f s", EVERY_SECONDS)
            await self._host.clock.sleep(EVERY_SECONDS)

    async def look(self) -> None:
        """Once."""
        host = self._host
        seen = await asyncio.to_thread(self.look_at, host.settings)
        crossed = pressure.crossings(self._thresholds, seen)
        for crossing in crossed:
            self._seen[crossing.signal.condition] = host.clock.monotonic()
        if self.pressures != self._told:
            await self._tell(self.pressures)
        await self._check_limits()
        for crossing in crossed:
            if crossing.signal is DISK and await self._make_room():
                return  # what that gave back counts before a pod is chosen
            chosen = pressure.first_to_go(crossing.signal, await self._candidates(crossing.signal))
            if chosen is not None:
                await self._evict(chosen.pod.metadata.uid, pressure.message(crossing, chosen))
                return

    async def _make_room(self) -> bool:
        """Environments that no pod uses go before a pod has to; whether there were any."""
        host = self._host
        live = [w.as_known() for w in self._workers() if not w.finished]
        gone = await host.images.make_room([pod for pod in live if pod.status.phase not in status.FINISHED])
        stored = host.caches.node(host.settings.node_name)
        if gone and stored is not None:
            host.reporter.normal(stored, "ImageGCUnderDiskPressure", f"The disk is nearly full: removed {gone}")
        return bool(gone)

    async def _tell(self, active: frozenset[str]) -> None:
        """Conditions and taints of the Node."""
        host, name = self._host, self._host.settings.node_name
        stored = host.caches.node(name)
        if stored is None:
            return
        status_now = machine.describe(
            host.settings, host.runtime.isolation, host.clock.now(), stored, pressures=active
        ).status
        own = set(_TAINTS.values())
        taints = [t for t in stored.spec.taints if t.get("key") not in own]
        taints += [{"key": _TAINTS[c], "effect": "NoSchedule"} for c in sorted(active)]
        try:
            if taints != stored.spec.taints:
                await host.client.patch(Node, name, {"spec": {"taints": taints}})
            conditions = _wire.to_builtins(status_now)["conditions"]
            await host.client.patch(Node, name, {"status": {"conditions": conditions}}, subresource="status")
        except StatusError as error:
            log.warning("the pressure of node %s was not told: %s", name, error)
            return
        for condition in sorted(active - (self._told or frozenset())):
            host.reporter.warning(stored, f"NodeHas{condition}", f"Node {name} status is now: NodeHas{condition}")
        self._told = active

    def _running(self) -> list[PodWorker]:
        return [w for w in self._workers() if w.facts.sandboxed and w.pod.status.phase not in status.FINISHED]

    async def _candidates(self, signal: pressure.Signal) -> list[Candidate]:
        workers = self._running()
        used: dict[str, dict[str, int]] = {w.uid: {} for w in workers}
        if signal is MEMORY:
            for one in await self._host.runtime.usage():
                if one.pod_uid in used:
                    name = one.id.rpartition("-")[0]
                    used[one.pod_uid][name] = used[one.pod_uid].get(name, 0) + one.memory_bytes
        elif signal is DISK:
            for worker in workers:
                _, total = await asyncio.to_thread(self._on_disk, worker)
                used[worker.uid] = {"": total}
        found = []
        for worker in workers:
            held = used[worker.uid]
            named = tuple(sorted((name, n) for name, n in held.items() if name))
            found.append(Candidate(worker.pod, sum(held.values()), named))
        return found

    async def _check_limits(self) -> None:
        for worker in self._running():
            if pressure.has_storage_limit(worker.pod):
                volumes, total = await asyncio.to_thread(self._on_disk, worker)
                problem = pressure.storage_problem(worker.pod, volumes, total)
                if problem:
                    await self._evict(worker.uid, problem)

    def _on_disk(self, worker: PodWorker) -> tuple[dict[str, int], int]:
        """Bytes in each emptyDir, and everything that the pod has written but for its claims."""
        host, pod = self._host, worker.pod
        volumes = host.folders.disk(worker.uid) / "volumes"
        held = {v.name: used_bytes(volumes / v.name) for v in pod.spec.volumes if v.empty_dir is not None}
        rest = used_bytes(host.log_folder(pod)) + used_bytes(host.settings.run / "pods" / worker.uid)
        return held, sum(held.values()) + rest

    async def _evict(self, uid: str, message: str) -> None:
        worker = next((w for w in self._workers() if w.uid == uid), None)
        if worker is None or worker.finished:
            return
        self._host.reporter.warning(worker.pod, REASON, message)
        worker.end(REASON, message, GRACE_SECONDS, disruption="TerminationByKubelet")
        await first(self._host.clock, _PATIENCE_SECONDS, worker.over)


def observe(settings: Settings) -> dict[str, Amount]:
    """How much of everything is left."""
    disk = shutil.disk_usage(machine.existing(settings.home))
    found = {DISK.name: Amount(disk.free, disk.total)}
    found[MEMORY.name] = Amount(machine.memory_available(), machine.memory())
    used, most = machine.read("/proc/loadavg").partition("/")[2].split(" ")[0], machine.read("/proc/sys/kernel/pid_max")
    if used.isdigit() and most.isdigit():
        found[PIDS.name] = Amount(int(most) - int(used), int(most))
    return found


def used_bytes(folder: Path) -> int:
    """What a folder and all below it occupy; other file systems that are mounted there are not its own."""
    total = 0
    try:
        device = folder.lstat().st_dev
    except OSError:
        return 0
    todo = [str(folder)]
    while todo:
        try:
            entries = list(os.scandir(todo.pop()))
        except OSError:
            continue
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if found.st_dev != device:
                continue
            total += found.st_blocks * 512
            if entry.is_dir(follow_symlinks=False):
                todo.append(entry.path)
    return total
