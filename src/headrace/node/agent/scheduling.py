"""Whether the node has room for a pod, in the scheduler's words. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from headrace.api import quantity
from headrace.api.meta import LabelSelectorRequirement
from headrace.node.agent import affinity, hostports, names, security, status
from headrace.node.agent.pressure import MEMORY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace.api.core import Container, Node, Pod

Amounts = dict[str, Decimal]
"""Resource name to number: cores, bytes, pieces."""

_SELECTOR = "node(s) didn't match Pod's node affinity/selector"
NONE = Decimal(0)
_KEEPING_AWAY = frozenset({"NoSchedule", "NoExecute"})
_CORDON = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


def requests(pod: Pod) -> Amounts:
    """What the pod asks for: its containers together, or its largest init container if that is more.

    Sidecars (init containers that restart always) run beside the containers and beside later init containers.
    """
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in pod.spec.init_containers:
        if container.restart_policy == "Always":
            _add(sidecars, _of(container))
            alone = sidecars
        else:
            alone = dict(sidecars)
            _add(alone, _of(container))
        peak = {name: max(peak.get(name, NONE), alone.get(name, NONE)) for name in {*peak, *alone}}
    total = dict(sidecars)
    for container in pod.spec.containers:
        _add(total, _of(container))
    result = {name: max(total.get(name, NONE), peak.get(name, NONE)) for name in {*total, *peak}}
    return {**result, "pods": Decimal(1)}


def together(pods: Iterable[Pod]) -> Amounts:
    """What the pods ask for in all."""
    total: Amounts = {}
    for pod in pods:
        _add(total, requests(pod))
    return total


def reasons(pod: Pod, node: Node, others: Sequence[Pod], used: Amounts | None = None) -> list[str]:
    """Why the pod cannot run on this node now, beside these pods; empty when it can.

    `used` is what the others ask for together, from whoever has it at hand.
    """
    found: list[str] = []
    if node.spec.unschedulable and not _tolerated(pod, _CORDON):
        found.append("node(s) were unschedulable")
    taint = next((t for t in node.spec.taints if t["effect"] in _KEEPING_AWAY and not _tolerated(pod, t)), None)
    if taint is not None:
        found.append(f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}")
    if not _labels_match(pod, node):
        found.append(_SELECTOR)
    found += [f"node(s) did not support {feature}" for feature in unsupported(pod)]
    used = together(others) if used is None else used
    for name, amount in sorted(requests(pod).items()):
        if amount <= 0:
            continue
        have = quantity.parse(node.status.allocatable.get(name, "0"))
        if used.get(name, NONE) + amount > have:
            found.append("Too many pods" if name == "pods" else f"Insufficient {name}")
    if any(hostports.conflict(a, b) for a in hostports.wanted(pod) for o in others for b in hostports.wanted(o)):
        found.append("node(s) didn't have free ports for the requested pod ports")
    return found + affinity.reasons(pod, others)


def unsupported(pod: Pod) -> list[str]:
    """What the pod asks for that no runtime here gives; to run it without would be to lie."""
    spec = pod.spec
    containers = [*spec.containers, *spec.init_containers]
    mounts = [m for c in (*containers, *spec.ephemeral_containers) for m in c.volume_mounts]
    asked = {
        "hostPID": spec.host_pid,
        "hostIPC": spec.host_ipc,
        f"dnsPolicy {names.WITH_HOST_NETWORK}": spec.host_network and spec.dns_policy == names.WITH_HOST_NETWORK,
        "mountPropagation": any(m.mount_propagation not in {None, "None"} for m in mounts),
        "volumeDevices": any(c.volume_devices for c in containers),
    }
    return [*(name for name, wanted in asked.items() if wanted), *security.unsupported(pod)]


def sentence(found: Iterable[str]) -> str:
    """As the scheduler says it, such as `0/1 nodes are available: 1 Insufficient cpu.` in events."""
    return "0/1 nodes are available: " + ", ".join(f"1 {reason}" for reason in sorted(found)) + "."


def _add(total: Amounts, more: Mapping[str, Decimal]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, NONE) + amount


def _of(container: Container) -> Amounts:
    asked = {**container.resources.limits, **container.resources.requests}
    return {name: quantity.parse(value) for name, value in asked.items()}


def _tolerated(pod: Pod, taint: Mapping[str, Any]) -> bool:
    """Whether one of the pod's tolerations is for this taint; what asks for memory may come under memory pressure."""
    if taint["key"] == MEMORY.taint and status.qos(pod.spec) != "BestEffort":
        return True
    return any(tolerates(one, taint) for one in pod.spec.tolerations)


def tolerates(one: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """Whether a toleration is for this taint; an empty key, with Exists, is for every taint."""
    if one.get("effect") not in {None, "", taint["effect"]}:
        return False
    key, exists = one.get("key") or "", one.get("operator") == "Exists"
    if not key:
        return exists
    return bool(key == taint["key"] and (exists or (one.get("value") or "") == (taint.get("value") or "")))


def _labels_match(pod: Pod, node: Node) -> bool:
    labels = node.metadata.labels
    if any(labels.get(key) != value for key, value in pod.spec.node_selector.items()):
        return False
    rules: dict[str, Any] = (pod.spec.affinity or {}).get("nodeAffinity") or {}
    required = rules.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    terms = required.get("nodeSelectorTerms") or []
    return any(_term_matches(term, labels, node.metadata.name) for term in terms)


def _term_matches(term: Mapping[str, Any], labels: Mapping[str, str], name: str) -> bool:
    expressions = term.get("matchExpressions") or []
    fields = term.get("matchFields") or []
    if not expressions and not fields:
        return False
    return all(_holds(e, labels) for e in expressions) and all(_holds(f, {"metadata.name": name}) for f in fields)


def _holds(raw: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    requirement = LabelSelectorRequirement(
        key=raw["key"], operator=raw["operator"], values=[str(v) for v in raw.get("values") or []]
    )
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            try:
                left, right = int(value or ""), int(requirement.values[0])
            except (ValueError, IndexError):
                return False
            return left > right if requirement.operator == "Gt" else left < right
        case _:
            return False
