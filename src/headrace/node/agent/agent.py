"""The agent: one worker for each pod of the node, fed by the informers' caches and the runtime's exits.

A pod's change reaches its worker in the same turn of the event loop in which the cache learns of it; there is
no queue between, because a worker decides by state, not by event. The runtime is started before the agent and
stopped after it; pods begin when the manager that has `controllers()` runs. `stop` leaves what runs running.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from headrace.api.core import ConfigMap, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret
from headrace.api.errors import StatusError
from headrace.machinery.controller import Controller, Result
from headrace.node import machine
from headrace.node.agent import status
from headrace.node.agent.addresses import AddressPool
from headrace.node.agent.departures import Departures
from headrace.node.agent.evictor import Evictor
from headrace.node.agent.heartbeat import Heartbeat
from headrace.node.agent.host import CACHED, Caches, Host, Room
from headrace.node.agent.hostports import HostPorts
from headrace.node.agent.reporter import Reporter
from headrace.node.agent.worker import PodWorker
from headrace.node.devices import Devices
from headrace.node.folders import PodFolders
from headrace.node.logs import NodeLogs
from headrace.node.streaming import NodeStreams
from headrace.node.usage import NodeUsages

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.api.meta import Object
    from headrace.client.base import Client
    from headrace.machinery.clock import Clock
    from headrace.machinery.controller import AnyController
    from headrace.machinery.informer import Informer
    from headrace.machinery.settings import Settings
    from headrace.node.agent.reporter import Recorder
    from headrace.node.images.service import Images
    from headrace.node.runtime.base import ContainerState, Runtime

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
STATUS_SECONDS = 300.0
"""How often the Node's own status is looked at."""


class NodeController(Controller[Node]):
    """Keeps the status of this machine's Node; also says which caches the agent reads."""

    name: ClassVar[str] = "node"
    kind = Node
    reads = (Pod, *CACHED)
    workers = 1

    def __init__(self, settings: Settings, clock: Clock, runtime: Runtime, devices: Devices) -> None:
        self._settings, self._clock, self._runtime, self._devices = settings, clock, runtime, devices
        self.caches_filled = asyncio.Event()
        """Set by the first reconcile: the manager runs, and every cache that this controller names is filled."""
        self.pressures: Callable[[], frozenset[str]] = frozenset

    def describe(self, before: Node | None) -> Node:
        """The machine as it is now."""
        now, isolation = self._clock.now(), self._runtime.isolation
        gpus = self._devices.refresh()
        return machine.describe(self._settings, isolation, now, before, pressures=self.pressures(), gpus=gpus)

    async def reconcile(self, obj: Node) -> Result:
        """See Controller."""
        self.caches_filled.set()
        if obj.metadata.name != self._settings.node_name:
            return Result()
        obj.status = self.describe(obj).status
        return Result(after=STATUS_SECONDS)


class NodeAgent:
    """Runs the pods that are, or may be, on this node."""

    def __init__(  # noqa: PLR0917  # its parts, in the order of the layers
        self,
        settings: Settings,
        client: Client,
        clock: Clock,
        runtime: Runtime,
        images: Images,
        recorder: Recorder,
        *,
        root: Path = Path("/"),
    ) -> None:
        """`root` is where the machine's device files are looked for."""
        self._settings, self._client, self._clock = settings, client, clock
        self._runtime, self._images = runtime, images
        self._reporter = Reporter(recorder)
        self._folders = PodFolders(settings)
        self._devices = Devices(self._folders, root)
        self._controller = NodeController(settings, clock, runtime, self._devices)
        self._caches = Caches(self._controller.cache)
        self._room, self._addresses = Room(), AddressPool(settings.pod_cidr)
        self._ports = HostPorts(settings.host, runtime)
        self._heartbeat = Heartbeat(client, clock, settings.node_name)
        self._node = Node()
        self._host = Host(
            settings=settings,
            client=client,
            clock=clock,
            runtime=runtime,
            images=images,
            reporter=self._reporter,
            caches=self._caches,
            room=self._room,
            addresses=self._addresses,
            folders=self._folders,
            ports=self._ports,
            devices=self._devices,
            send_away=self._send_away,
            node=self._current_node,
        )
        self._departures = Departures(clock)
        self._leaving: set[asyncio.Task[None]] = set()
        self.evictor = Evictor(self._host, lambda: list(self._workers.values()))
        self._controller.pressures = lambda: self.evictor.pressures
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._found: dict[str, dict[str, ContainerState]] = {}
        """What the runtime knows of pods that have no worker."""
        self._background: list[asyncio.Task[None]] = []
        self._running = self._begun = False
        self.logs = NodeLogs(settings, clock, self._known_pod, self._attempt)
        self.streams = NodeStreams(runtime, self.logs, self._attempt)
        self.usages = NodeUsages(runtime, clock)

    def controllers(self) -> tuple[AnyController, ...]:
        """For the manager that keeps the agent's caches."""
        return (self._controller,)

    async def start(self) -> None:
        """Announce the node, and begin to run pods once the caches are filled."""
        self._runtime.on_exit(self.usages.ended)  # first: whoever hears of the end may ask what was used
        self._folders.begin()
        self._runtime.on_exit(self._exited)
        for observed in await self._runtime.containers():
            self._found.setdefault(observed.pod_uid, {})[observed.id] = observed
        await self._announce()
        self._reporter.start()
        self._running = True
        self._background = [
            asyncio.create_task(self._heartbeat.run(), name="node lease"),
            asyncio.create_task(self._begin(), name="node agent"),
            asyncio.create_task(self._watch_machine(), name="node pressure"),
        ]

    async def stop(self) -> None:
        """Let go of everything; what runs goes on running."""
        self._running = False
        await _cancel(self._background)
        await self._departures.stop()
        await _cancel(list(self._tasks.values()))
        self._tasks.clear()
        self._workers.clear()
        await self._ports.stop()
        await self._reporter.stop()
        await self._images.close()
        self._folders.close()

    async def _announce(self) -> None:
        self._node = self._controller.describe(None)
        wanted = Node(metadata=self._node.metadata, spec=self._node.spec)
        await self._client.apply(wanted)

    async def _begin(self) -> None:
        await self._controller.caches_filled.wait()
        self._hold_addresses()
        self._cache(Pod).on_change(self._pod_changed)
        self._begun = True
        self._cache(Node).on_change(self._node_changed)
        for kind in (ConfigMap, Secret, PersistentVolumeClaim):
            self._cache(kind).on_change(self._referenced(kind))
        self._cache(PersistentVolume).on_change(self._volume_changed)
        await self._remove_orphans()

    def _hold_addresses(self) -> None:
        """Before the first new pod gets one: addresses of pods that may still run."""
        for uid in self._folders.all():
            self._devices.hold(uid)
            with contextlib.suppress(OSError, ValueError):
                self._addresses.hold((self._folders.small(uid) / "ip").read_text())

    async def _remove_orphans(self) -> None:
        """What is left of pods that were deleted, or came to their end, while no agent was there."""
        for uid in {*self._found, *await self._runtime.pods()}:
            if uid not in self._workers:
                log.info("pod %s is gone: removing what is left of it", uid)
                self._found.pop(uid, None)
                await self._runtime.remove_pod(uid)
        known = {p.metadata.uid for p in self._cache(Pod).all()}
        for uid in self._folders.all() - known:
            self._folders.discard(uid)
        self._runtime.sweep(*self._folders.trash)
        await asyncio.to_thread(self.logs.prune, known)

    # Changes.

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            worker = self._workers.get(old.metadata.uid)
            if worker is not None:
                worker.gone()
        if new is None or new.spec.node_name not in {"", self._settings.node_name}:
            return
        worker = self._workers.get(new.metadata.uid)
        if worker is not None:
            worker.observe(new)
            self._departures.look(worker, self._taints())
        elif self._needs_worker(new):
            self._employ(new)

    def _needs_worker(self, pod: Pod) -> bool:
        over = pod.status.phase in status.FINISHED
        return not over or pod.metadata.deletion_timestamp is not None or pod.metadata.uid in self._found

    def _employ(self, pod: Pod) -> None:
        uid = pod.metadata.uid
        worker = PodWorker(self._host, pod, list(self._found.pop(uid, {}).values()))
        self._workers[uid] = worker
        task = self._tasks[uid] = asyncio.create_task(worker.run(), name=f"pod {pod.key}")
        task.add_done_callback(lambda done: self._retire(uid, pod.key, done))

    def _retire(self, uid: str, key: str, task: asyncio.Task[None]) -> None:
        self._workers.pop(uid, None)
        self._tasks.pop(uid, None)
        self._departures.forget(uid)
        if task.cancelled():
            return
        if task.exception() is None:
            self._look_again(uid, key)
            return
        log.error("pod %s: its worker failed, another one follows", key, exc_info=task.exception())
        task.get_loop().call_later(RETRY_SECONDS, self._look_again, uid, key)

    def _look_again(self, uid: str, key: str) -> None:
        """The pod may have changed after its worker's last look."""
        found = self._cached_pod(key)
        if self._running and found is not None and found.metadata.uid == uid and self._needs_worker(found):
            self._employ(found)

    def _node_changed(self, _old: Node | None, _new: Node | None) -> None:
        self._room.changed.beat()
        for worker in self._workers.values():
            self._departures.look(worker, self._taints())

    def _taints(self) -> list[dict[str, Any]]:
        return self._current_node().spec.taints

    def _send_away(self, uid: str, reason: str, message: str) -> None:
        worker = self._workers.get(uid)
        if worker is None:
            return
        self._reporter.normal(worker.pod, "Preempted", message)
        task = asyncio.create_task(worker.send_away(reason, message))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _watch_machine(self) -> None:
        await self._controller.caches_filled.wait()
        await self.evictor.run()

    def _referenced(self, kind: type[Object]) -> Callable[[Object | None, Object | None], None]:
        def changed(old: Object | None, new: Object | None) -> None:
            obj = new or old
            if obj is None:
                return
            reference = (kind.INFO.kind, obj.metadata.name)
            for worker in self._workers.values():
                if worker.pod.metadata.namespace == obj.metadata.namespace and reference in worker.references:
                    worker.object_changed()

        return changed

    def _volume_changed(self, _old: Object | None, _new: Object | None) -> None:
        for worker in self._workers.values():
            if any(kind == PersistentVolumeClaim.INFO.kind for kind, _ in worker.references):
                worker.object_changed()

    def _exited(self, observed: ContainerState) -> None:
        worker = self._workers.get(observed.pod_uid)
        if worker is not None:
            worker.exited(observed)
        elif not self._begun:
            self._found.setdefault(observed.pod_uid, {})[observed.id] = observed

    # Helpers.

    def _cache(self, kind: type[Object]) -> Informer[Any]:
        return self._controller.cache(kind)

    def _cached_pod(self, key: str) -> Pod | None:
        if not self._controller.caches_filled.is_set():
            return None
        found = self._cache(Pod).get(key)
        return found if isinstance(found, Pod) else None

    def _known_pod(self, key: str) -> Pod | None:
        """The pod, with what its worker knows of it already."""
        found = self._cached_pod(key)
        worker = self._workers.get(found.metadata.uid) if found is not None else None
        return worker.as_known() if worker is not None else found

    def _attempt(self, uid: str, container: str) -> int | None:
        worker = self._workers.get(uid)
        return worker.attempt(container) if worker is not None else None

    def _current_node(self) -> Node:
        stored = self._caches.node(self._settings.node_name)
        return stored if stored is not None and stored.status.allocatable else self._node


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    with contextlib.suppress(StatusError):
        await asyncio.gather(*tasks, return_exceptions=True)
