"""Which addresses and names lead to which pods: a view of Services, Endpoints and EndpointSlices, all decisions and
no I/O. Of slices only those count that say more than the Endpoints: those that no controller here has made.

An endpoint whose address is the node's own stands for a server of the platform on the host's loopback.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.api.core import EndpointAddress, EndpointPort, EndpointSubset
from headrace.api.discovery import MANAGER_LABEL, OWN_MANAGERS
from headrace.machinery.settings import CLUSTER_DOMAIN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.api.core import Endpoints, Service, ServicePort
    from headrace.api.discovery import EndpointSlice
    from headrace.machinery.informer import Informer

HEADLESS = "None"
TCP, UDP = "TCP", "UDP"
AFFINITY_SECONDS = 10800
_SUFFIX = f".svc.{CLUSTER_DOMAIN}"
_DASHED_IP = re.compile(r"\d{1,3}(-\d{1,3}){3}")


@dataclass(frozen=True, slots=True)
class Records:
    """What a name of the cluster has: addresses, or another name. A name may exist and have neither."""

    addresses: tuple[str, ...] = ()
    alias: str = ""


@dataclass(frozen=True, slots=True)
class Listener:
    """An address at which a service is to be reachable."""

    ip: str
    port: int
    service: str
    """`namespace/name`."""
    protocol: str = TCP


class ServiceIndex:
    """Questions about services, answered from informers' caches."""

    def __init__(
        self, services: Informer[Service], endpoints: Informer[Endpoints], slices: Informer[EndpointSlice]
    ) -> None:
        self._services, self._endpoints = services, endpoints
        self._by_ip: dict[str, str] = {}
        self._written: dict[str, dict[str, EndpointSubset]] = {}
        services.on_change(self._service_changed)
        slices.on_change(self._slice_changed)

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for one in (old, new):
            if one is None or not one.service or one.metadata.labels.get(MANAGER_LABEL) in OWN_MANAGERS:
                continue
            held = self._written.setdefault(one.service, {})
            if one is new:
                held[one.metadata.name] = _subset(one)
            else:
                held.pop(one.metadata.name, None)
            if not held:
                del self._written[one.service]

    def _subsets(self, key: str) -> Iterator[EndpointSubset]:
        endpoints = self._endpoints.get(key)
        if endpoints is not None:
            yield from endpoints.subsets
        yield from self._written.get(key, {}).values()

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        if old is not None:
            for ip in _ips(old):
                if self._by_ip.get(ip) == old.key:
                    del self._by_ip[ip]
        if new is not None:
            self._by_ip.update(dict.fromkeys(_ips(new), new.key))

    def at(self, ip: str) -> str | None:
        """The key of the service that has this address."""
        return self._by_ip.get(ip)

    def named(self, host: str) -> str | None:
        """The key of the service that `name.namespace`, `name.namespace.svc` or the full name stands for."""
        labels = _labels(host)
        if labels is None or len(labels) != 2:
            return None
        key = f"{labels[1]}/{labels[0]}"
        return key if self._services.get(key) is not None else None

    def listeners(self, key: str) -> frozenset[Listener]:
        """Where a service is to be reachable now: nowhere while nothing is behind it, so that it is refused."""
        service = self._services.get(key)
        if service is None:
            return frozenset()
        return frozenset(
            Listener(ip, port.port, key, port.protocol or TCP)
            for ip in _ips(service)
            for port in service.spec.ports
            if port.protocol in {"", TCP, UDP} and self.targets(key, port.port, port.protocol or TCP)
        )

    def affinity_seconds(self, key: str) -> int:
        """How long a client comes back to the endpoint that it had; 0 when each of its connections may go anywhere."""
        service = self._services.get(key)
        if service is None or service.spec.session_affinity != "ClientIP":
            return 0
        config = (service.spec.session_affinity_config or {}).get("clientIP") or {}
        return int(config.get("timeoutSeconds") or AFFINITY_SECONDS)

    def targets(self, key: str, port: int, protocol: str = TCP) -> list[tuple[str, int]]:
        """The ready endpoints behind a port of a service. A headless service passes any port on."""
        service = self._services.get(key)
        if service is None:
            return []
        wanted = next((p for p in service.spec.ports if p.port == port and (p.protocol or TCP) == protocol), None)
        found = []
        for subset in self._subsets(key):
            ports = [p for p in subset.ports if (p.protocol or TCP) == protocol]
            target = _target_port(wanted, ports, port, headless=service.spec.cluster_ip == HEADLESS)
            if target is not None:
                found += [(address.ip, target) for address in subset.addresses]
        return found

    def hosts(self, host: str) -> list[str]:
        """The addresses of one named pod of a service: `hostname.service.namespace…`."""
        labels = _labels(host)
        if labels is None or len(labels) != 3:
            return []
        return [a.ip for a in self._ready(f"{labels[2]}/{labels[1]}") if _host_name(a) == labels[0]]

    def lookup(self, name: str) -> Records | None:
        """DNS: what a name has; None when there is no such name in the cluster."""
        name = name.lower().rstrip(".")
        labels = _labels(name)
        if labels is None:
            return self._lookup_domain(name)
        if len(labels) == 1:
            return Records() if self._namespace_exists(labels[0]) else None
        if len(labels) == 2:
            return self._lookup_service(f"{labels[1]}/{labels[0]}")
        found = self.hosts(name)
        return Records(tuple(found)) if found else None

    def _lookup_domain(self, name: str) -> Records | None:
        if name in {CLUSTER_DOMAIN, f"svc.{CLUSTER_DOMAIN}"}:
            return Records()
        pod, _, rest = name.partition(".")
        if rest.endswith(f".pod.{CLUSTER_DOMAIN}") and _DASHED_IP.fullmatch(pod):
            return Records((pod.replace("-", "."),))
        return None

    def _lookup_service(self, key: str) -> Records | None:
        service = self._services.get(key)
        if service is None:
            return None
        if service.spec.type == "ExternalName":
            return Records(alias=service.spec.external_name.rstrip("."))
        if service.spec.cluster_ip == HEADLESS:
            addresses = tuple(dict.fromkeys(address.ip for address in self._ready(key)))
            return Records(addresses) if addresses else None
        return Records(_ips(service))

    def _ready(self, key: str) -> Iterator[EndpointAddress]:
        for subset in self._subsets(key):
            yield from subset.addresses

    def _namespace_exists(self, namespace: str) -> bool:
        return next(iter(self._services.all(namespace)), None) is not None


def in_cluster(name: str) -> bool:
    """Whether a name belongs to the cluster's domain, so that nobody else is to be asked."""
    name = name.lower().rstrip(".")
    return name == CLUSTER_DOMAIN or name.endswith(("." + CLUSTER_DOMAIN, ".svc"))


def is_address(host: str) -> bool:
    """Whether a host is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _subset(one: EndpointSlice) -> EndpointSubset:
    """The slice's ready addresses and its ports."""
    ready = [e for e in one.endpoints if (e.get("conditions") or {}).get("ready") is not False]
    return EndpointSubset(
        addresses=[
            EndpointAddress(ip=ip, hostname=e.get("hostname") or "") for e in ready for ip in e.get("addresses") or ()
        ],
        ports=[
            EndpointPort(port=p["port"], name=p.get("name") or "", protocol=p.get("protocol") or "TCP")
            for p in one.ports
            if p.get("port")
        ],
    )


def _ips(service: Service) -> tuple[str, ...]:
    spec = service.spec
    ips = spec.cluster_ips or [spec.cluster_ip]
    return tuple(ip for ip in ips if ip and ip != HEADLESS and ":" not in ip)


def _labels(host: str) -> list[str] | None:
    """The labels before `.svc.cluster.local`, which may be left out in part; None for other names."""
    host = host.lower().rstrip(".")
    if host.endswith(_SUFFIX):
        return host[: -len(_SUFFIX)].split(".")
    if host.endswith(".svc"):
        return host.removesuffix(".svc").split(".")
    if host.endswith(f".{CLUSTER_DOMAIN}") or host == CLUSTER_DOMAIN or is_address(host):
        return None
    labels = host.split(".")
    return labels if len(labels) in {2, 3} else None


def _host_name(address: EndpointAddress) -> str:
    return address.hostname or address.ip.replace(".", "-")


def _target_port(wanted: ServicePort | None, ports: list[EndpointPort], port: int, *, headless: bool) -> int | None:
    if wanted is None:
        return port if headless else None
    for candidate in ports:
        if candidate.name == wanted.name:
            return int(candidate.port)
    return int(ports[0].port) if len(ports) == 1 and not wanted.name else None
