"""Which pods are behind a service, as pure functions (upstream: pkg/controller/endpoint)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api.core import EndpointAddress, EndpointPort, EndpointSubset, ObjectReference
from headrace.controllermanager import pods

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.api.core import Pod, Service, ServicePort

HEADLESS_LABEL = "service.kubernetes.io/headless"
Ports = tuple[tuple[str, int, str], ...]


def selects(service: Service, pod: Pod) -> bool:
    """Whether the service is for this pod."""
    selector = service.spec.selector
    return bool(selector) and selector.items() <= pod.metadata.labels.items()


def managed(service: Service) -> bool:
    """Whether pods make the service's endpoints; else somebody writes them, or there are none."""
    return bool(service.spec.selector) and service.spec.type != "ExternalName"


def belongs(service: Service, pod: Pod) -> bool:
    """Whether the pod has, or may get, an address behind the service."""
    if not pod.status.pod_ip or pods.finished(pod):
        return False
    return pod.metadata.deletion_timestamp is None or service.spec.publish_not_ready_addresses


def target_port(pod: Pod, port: ServicePort) -> int | None:
    """The number of the port in this pod; None when the pod has no port of that name."""
    wanted = port.target_port if port.target_port not in {None, 0, ""} else port.port
    if isinstance(wanted, int):
        return wanted
    for container in (*pod.spec.containers, *(c for c in pod.spec.init_containers if c.restart_policy == "Always")):
        for offered in container.ports:
            if offered.name == wanted and offered.protocol == port.protocol:
                return offered.container_port
    return None


def subsets(service: Service, found: Iterable[Pod]) -> list[EndpointSubset]:
    """Addresses grouped by the ports that they share, in a stable order."""
    groups: dict[Ports, tuple[list[EndpointAddress], list[EndpointAddress]]] = {}
    for pod in sorted(found, key=lambda p: p.metadata.name):
        if not belongs(service, pod):
            continue
        ports = tuple(
            (port.name, number, port.protocol)
            for port in service.spec.ports
            if (number := target_port(pod, port)) is not None
        )
        if not ports and (service.spec.ports or service.spec.cluster_ip != "None"):
            continue
        is_ready = pods.ready(pod) or service.spec.publish_not_ready_addresses
        groups.setdefault(ports, ([], []))[0 if is_ready else 1].append(_address(service, pod))
    return [
        EndpointSubset(
            addresses=ready,
            not_ready_addresses=waiting,
            ports=[EndpointPort(port=number, name=name, protocol=protocol) for name, number, protocol in ports],
        )
        for ports, (ready, waiting) in sorted(groups.items())
    ]


def _address(service: Service, pod: Pod) -> EndpointAddress:
    meta, spec = pod.metadata, pod.spec
    return EndpointAddress(
        ip=pod.status.pod_ip,
        hostname=spec.hostname if spec.hostname and spec.subdomain == service.metadata.name else "",
        node_name=spec.node_name or None,
        target_ref=ObjectReference(kind="Pod", namespace=meta.namespace, name=meta.name, uid=meta.uid),
    )


def labels(service: Service) -> dict[str, str]:
    """The labels of a service's endpoints."""
    own = dict(service.metadata.labels)
    if service.spec.cluster_ip == "None":
        own[HEADLESS_LABEL] = ""
    return own
