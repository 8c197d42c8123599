"""What the slices of a service say, as pure functions (upstream: pkg/controller/endpointslice and its mirroring).

Slices have names that follow from the service, what they are made from and their number, so that no reconcile makes
one twice.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.discovery import FROM_PODS, MANAGER_LABEL, MIRRORED, SERVICE_LABEL, EndpointSlice
from headrace.api.meta import ObjectMeta
from headrace.controllermanager import endpoints_policy, pods

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.api.core import EndpointAddress, Endpoints, Pod, Service
    from headrace.api.meta import Object

Json = dict[str, Any]
Ports = tuple[tuple[str, int, str, str], ...]
Groups = dict[tuple[str, Ports], list[Json]]

SLICE_SIZE = 100
SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"
LEADER = "control-plane.alpha.kubernetes.io/leader"
_OTHER_LABELS = frozenset({MANAGER_LABEL, SERVICE_LABEL})
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"


def from_pods(service: Service, found: Iterable[Pod]) -> list[EndpointSlice]:
    """The slices of a service that selects pods; one without endpoints where there are none."""
    groups: Groups = {}
    for pod in sorted(found, key=lambda p: p.metadata.name):
        if not pod.status.pod_ip or pods.finished(pod):
            continue
        ports = tuple(
            (port.name, number, port.protocol, port.app_protocol or "")
            for port in service.spec.ports
            if (number := endpoints_policy.target_port(pod, port)) is not None
        )
        groups.setdefault((_family(pod.status.pod_ip), ports), []).append(_of_pod(service, pod))
    return _sliced(service, FROM_PODS, endpoints_policy.labels(service), groups or {("IPv4", ()): []})


def mirrored(endpoints: Endpoints, service: Service) -> list[EndpointSlice]:
    """The slices of a service whose endpoints somebody writes."""
    groups: Groups = {}
    for subset in endpoints.subsets:
        ports = tuple((p.name, p.port, p.protocol, "") for p in subset.ports)
        for ready, addresses in ((True, subset.addresses), (False, subset.not_ready_addresses)):
            for address in addresses:
                groups.setdefault((_family(address.ip), ports), []).append(_of_address(address, ready=ready))
    kept = {k: v for k, v in endpoints.metadata.labels.items() if k not in _OTHER_LABELS}
    made = _sliced(endpoints, MIRRORED, kept, groups)
    notes = {k: v for k, v in endpoints.metadata.annotations.items() if k not in {_APPLIED, _TRIGGER}}
    for one in made:
        one.metadata.annotations = notes
        one.metadata.labels[SERVICE_LABEL] = service.metadata.name
    return made


def is_mirrored(endpoints: Endpoints) -> bool:
    """Whether slices are made from these endpoints."""
    meta = endpoints.metadata
    return meta.labels.get(SKIP_MIRROR) != "true" and LEADER not in meta.annotations


def _family(ip: str) -> str:
    return "IPv6" if ":" in ip else "IPv4"


def _of_pod(service: Service, pod: Pod) -> Json:
    meta, spec = pod.metadata, pod.spec
    serving, leaving = pods.ready(pod), meta.deletion_timestamp is not None
    ready = service.spec.publish_not_ready_addresses or (serving and not leaving)
    out: Json = {
        "addresses": [pod.status.pod_ip],
        "conditions": {"ready": ready, "serving": serving, "terminating": leaving},
    }
    if spec.hostname and spec.subdomain == service.metadata.name:
        out["hostname"] = spec.hostname
    if spec.node_name:
        out["nodeName"] = spec.node_name
    out["targetRef"] = {"kind": "Pod", "namespace": meta.namespace, "name": meta.name, "uid": meta.uid}
    return out


def _of_address(address: EndpointAddress, *, ready: bool) -> Json:
    out: Json = {"addresses": [address.ip], "conditions": {"ready": ready}}
    if address.hostname:
        out["hostname"] = address.hostname
    if address.node_name:
        out["nodeName"] = address.node_name
    if address.target_ref is not None:
        out["targetRef"] = _wire.to_builtins(address.target_ref)
    return out


def _sliced(owner: Object, manager: str, labels: dict[str, str], groups: Groups) -> list[EndpointSlice]:
    out: list[EndpointSlice] = []
    name = owner.metadata.name
    for (family, ports), endpoints in sorted(groups.items()):
        for number in range(0, max(len(endpoints), 1), SLICE_SIZE):
            key = _wire.encode([owner.metadata.uid, family, ports, number])
            suffix = hashlib.sha256(key).hexdigest()[:8]
            meta = ObjectMeta(
                name=f"{name[:240]}-{suffix}",
                namespace=owner.metadata.namespace,
                labels={**labels, SERVICE_LABEL: name, MANAGER_LABEL: manager},
                owner_references=[owner.owner_reference()],
            )
            made = EndpointSlice(metadata=meta, address_type=family, endpoints=endpoints[number : number + SLICE_SIZE])
            made.ports = [_port(*port) for port in ports]
            out.append(made)
    return out


def _port(name: str, number: int, protocol: str, application: str) -> Json:
    out: Json = {"name": name, "protocol": protocol, "port": number}
    if application:
        out["appProtocol"] = application
    return out


def same(one: EndpointSlice, other: EndpointSlice) -> bool:
    """Whether two slices of one name say the same."""
    return (
        one.endpoints == other.endpoints
        and one.ports == other.ports
        and one.metadata.labels == other.metadata.labels
        and one.metadata.annotations == other.metadata.annotations
    )
