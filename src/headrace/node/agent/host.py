"""What every pod worker shares: the node, its parts, and who has how much of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import headrace
from headrace.api.core import ConfigMap, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Secret, Service
from headrace.node.agent import preemption, scheduling, variables
from headrace.node.agent.waiting import Pulse
from headrace.node.images.catalogue import PROGRAMS
from headrace.node.images.real import RealImages
from headrace.node.runtime.base import Mount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headrace.api.core import Pod
    from headrace.api.meta import Object
    from headrace.client.base import Client
    from headrace.machinery.clock import Clock
    from headrace.machinery.informer import Informer
    from headrace.machinery.settings import Settings
    from headrace.node.agent.addresses import AddressPool
    from headrace.node.agent.hostports import HostPorts
    from headrace.node.agent.reporter import Reporter
    from headrace.node.devices import Devices
    from headrace.node.folders import PodFolders
    from headrace.node.images.service import Images
    from headrace.node.runtime.base import Runtime

CACHED: tuple[type[Object], ...] = (
    ConfigMap,
    Secret,
    Service,
    Namespace,
    PersistentVolumeClaim,
    PersistentVolume,
    Node,
)


class Caches:
    """See node.lookup.Lookup: the informers' objects."""

    def __init__(self, cache: Callable[[type[Object]], Informer[Object]]) -> None:
        self._cache = cache

    def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        """See Lookup."""
        found = self._cache(ConfigMap).get(f"{namespace}/{name}")
        return found if isinstance(found, ConfigMap) else None

    def secret(self, namespace: str, name: str) -> Secret | None:
        """See Lookup."""
        found = self._cache(Secret).get(f"{namespace}/{name}")
        return found if isinstance(found, Secret) else None

    def claim(self, namespace: str, name: str) -> PersistentVolumeClaim | None:
        """See Lookup."""
        found = self._cache(PersistentVolumeClaim).get(f"{namespace}/{name}")
        return found if isinstance(found, PersistentVolumeClaim) else None

    def volume(self, name: str) -> PersistentVolume | None:
        """See Lookup."""
        found = self._cache(PersistentVolume).get(name)
        return found if isinstance(found, PersistentVolume) else None

    def services(self) -> Iterable[Service]:
        """All services."""
        return (s for s in self._cache(Service).all() if isinstance(s, Service))

    def namespaces(self) -> list[str]:
        """The names of all namespaces."""
        return [n.metadata.name for n in self._cache(Namespace).all()]

    def node(self, name: str) -> Node | None:
        """The Node object."""
        found = self._cache(Node).get(name)
        return found if isinstance(found, Node) else None


class Room:
    """Who has how much of the node. `changed` beats when there may be room again."""

    def __init__(self) -> None:
        self._pods: dict[str, Pod] = {}
        self._asked: dict[str, scheduling.Amounts] = {}
        """What each of them asks for: every pod that waits is compared with all of them whenever one goes."""
        self._waiting: dict[str, Pod] = {}
        self._leaving: set[str] = set()
        self.changed = Pulse()

    def reasons(self, pod: Pod, node: Node) -> list[str]:
        """Why the pod does not fit now; empty when it does."""
        used: scheduling.Amounts = {}
        for uid, asked in self._asked.items():
            if uid != pod.metadata.uid:
                for name, amount in asked.items():
                    used[name] = used.get(name, scheduling.NONE) + amount
        return scheduling.reasons(pod, node, self.others(pod), used)

    def others(self, pod: Pod) -> list[Pod]:
        """The pods that are here beside this one."""
        return [p for uid, p in self._pods.items() if uid != pod.metadata.uid]

    def wait(self, pod: Pod) -> bool:
        """The pod wants to come, and nothing but room may keep it away; whether others wait too."""
        self._waiting[pod.metadata.uid] = pod
        return len(self._waiting) > 1

    def give_up(self, pod: Pod) -> None:
        """The pod cannot come now, whatever room there is."""
        self._waiting.pop(pod.metadata.uid, None)

    def is_next(self, pod: Pod, node: Node) -> bool:
        """Whether no more important pod that waits could come now in its place."""
        mine = pod.spec.priority or 0
        ahead = [p for p in self._waiting.values() if (p.spec.priority or 0) > mine and not p.spec.scheduling_gates]
        return not any(not self.reasons(other, node) for other in ahead)

    def preempt(self, pod: Pod, node: Node) -> list[str]:
        """The pods that are to leave for this one; none when some leave already, or when it would not help."""
        others = self.others(pod)
        if any(preemption.priority(p) < preemption.priority(pod) and p.metadata.uid in self._leaving for p in others):
            return []
        found = [p.metadata.uid for p in preemption.victims(pod, node, others)]
        self._leaving.update(found)
        return found

    def take(self, pod: Pod) -> None:
        """The pod has its requests."""
        self._waiting.pop(pod.metadata.uid, None)
        self._pods[pod.metadata.uid] = pod
        self._asked[pod.metadata.uid] = scheduling.requests(pod)

    def arrived(self, pod: Pod) -> None:
        """Less important pods that had to let this one go first may look again."""
        if any((p.spec.priority or 0) < (pod.spec.priority or 0) for p in self._waiting.values()):
            self.changed.beat()

    def give_back(self, uid: str) -> None:
        """The pod has ended."""
        self._waiting.pop(uid, None)
        self._leaving.discard(uid)
        self._asked.pop(uid, None)
        if self._pods.pop(uid, None) is not None:
            self.changed.beat()


@dataclass(frozen=True, slots=True)
class Host:
    """The parts of the node that pod workers use."""

    settings: Settings
    client: Client
    clock: Clock
    runtime: Runtime
    images: Images
    reporter: Reporter
    caches: Caches
    room: Room
    addresses: AddressPool
    folders: PodFolders
    ports: HostPorts
    devices: Devices
    send_away: Callable[[str, str, str], None]
    """Have a pod (uid) of this node deleted, for a reason and with a message."""
    node: Callable[[], Node]
    """The Node as the agent describes it."""

    @property
    def real_images(self) -> RealImages | None:
        """Where images as they are come from; None where nothing could run them."""
        isolation = self.runtime.isolation
        if not isolation.images:
            return None
        return RealImages(self.images.engines, first=isolation.mode == "container")

    def log_folder(self, pod: Pod) -> Path:
        """Where a pod's logs lie, also after its end."""
        meta = pod.metadata
        return self.settings.logs / "pods" / f"{meta.namespace}_{meta.name}_{meta.uid}"

    def network_variables(self, pod: Pod) -> dict[str, str]:
        """Variables of services that the pod may use."""
        return variables.service_links(
            pod.metadata.namespace,
            self.caches.services(),
            all_of_namespace=pod.spec.enable_service_links is not False,
        )

    def proxy_variables(self, pod: Pod) -> dict[str, str]:
        """How the pod reaches what lies outside the pod network."""
        settings = self.settings
        own = [s.metadata.name for s in self.caches.services() if s.metadata.namespace == pod.metadata.namespace]
        cidrs = (settings.pod_cidr, settings.service_cidr)
        return variables.outbound(settings.node_ip, cidrs, self.caches.namespaces(), own)


def programs() -> Mount:
    """The platform's own programs for pods, as every container sees them."""
    return Mount(PROGRAMS, Path(headrace.__file__).parent / "images", read_only=True, everywhere=True)
