"""What objects count against a ResourceQuota: pure, for admission and for the controller that writes `status.used`.

Objects are plain JSON; a kind is named as in quotas, `pods` or `deployments.apps` (upstream: pkg/quota/v1/evaluator).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from headrace.api import quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Json = dict[str, Any]

COUNTED = frozenset(
    {
        "configmaps",
        "persistentvolumeclaims",
        "pods",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "services",
    }
)
"""Kinds that a quota may count by their bare name."""
COMPUTE = frozenset({"cpu", "memory", "ephemeral-storage"})
SCOPES = ("Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "PriorityClass", "CrossNamespacePodAffinity")
_CLASS_SUFFIX = ".storageclass.storage.k8s.io/"


@dataclass(frozen=True, slots=True)
class Amount:
    """A number, and whether people write it with binary suffixes."""

    number: Decimal = Decimal(0)
    binary: bool = False

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.number + other.number, self.binary if self.number else other.binary)

    def __str__(self) -> str:
        return quantity.text(self.number, binary=self.binary)


Amounts = dict[str, Amount]
ONE = Amount(Decimal(1))


def amount(value: Any) -> Amount:
    """A quantity; nothing when it is none."""
    try:
        return Amount(quantity.parse(value), str(value).endswith("i"))
    except (ValueError, TypeError):
        return Amount()


def add(total: Amounts, more: Mapping[str, Amount]) -> None:
    """Add up, in place."""
    for name, value in more.items():
        total[name] = total.get(name, Amount()) + value


def kind_of(name: str) -> str:
    """The kind that a tracked name concerns, as `pods` or `deployments.apps`; empty when nothing is known of it."""
    if name.startswith("count/"):
        return name.removeprefix("count/")
    if name in COUNTED:
        return name
    if name.startswith("services."):
        return "services"
    if name == "requests.storage" or _CLASS_SUFFIX in name:
        return "persistentvolumeclaims"
    base = name.removeprefix("requests.").removeprefix("limits.")
    if base in COMPUTE or base.startswith("hugepages-") or (name.startswith("requests.") and "/" in base):
        return "pods"
    return ""


def usage(kind: str, obj: Json) -> Amounts:
    """What one object takes."""
    out: Amounts = {f"count/{kind}": ONE}
    spec = obj.get("spec") or {}
    match kind:
        case "pods":
            if (obj.get("status") or {}).get("phase") not in {"Succeeded", "Failed"}:
                out["pods"] = ONE
                out.update(_pod(spec))
        case "services":
            out["services"] = ONE
            out.update(_service(spec))
        case "persistentvolumeclaims":
            out["persistentvolumeclaims"] = ONE
            out.update(_claim(spec))
        case _ if kind in COUNTED:
            out[kind] = ONE
    return out


def _pod(spec: Json) -> Amounts:
    out: Amounts = {}
    for name, value in pod_total(spec, "requests").items():
        if name in COMPUTE or name.startswith("hugepages-"):
            out[name] = out[f"requests.{name}"] = value
        elif "/" in name:
            out[f"requests.{name}"] = value
    for name, value in pod_total(spec, "limits").items():
        if name in COMPUTE:
            out[f"limits.{name}"] = value
    return out


def pod_total(spec: Json, part: str) -> Amounts:
    """The requests or limits of a pod: its containers together, or its largest init container if that is more."""
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or ():
        own = _resources(container, part)
        if container.get("restartPolicy") == "Always":
            add(sidecars, own)
            alone = sidecars
        else:
            alone = dict(sidecars)
            add(alone, own)
        peak = {n: _larger(peak.get(n, Amount()), alone.get(n, Amount())) for n in {*peak, *alone}}
    total = dict(sidecars)
    for container in spec.get("containers") or ():
        add(total, _resources(container, part))
    total = {n: _larger(total.get(n, Amount()), peak.get(n, Amount())) for n in {*total, *peak}}
    for name, value in (spec.get("overhead") or {}).items():
        if part == "requests" or name in total:
            add(total, {name: amount(value)})
    return total


def _resources(container: Json, part: str) -> Amounts:
    return {n: amount(v) for n, v in ((container.get("resources") or {}).get(part) or {}).items()}


def _larger(one: Amount, other: Amount) -> Amount:
    return other if other.number > one.number else one


def _service(spec: Json) -> Amounts:
    type_, ports = spec.get("type"), Amount(Decimal(len(spec.get("ports") or ())))
    if type_ == "NodePort":
        return {"services.nodeports": ports}
    if type_ == "LoadBalancer":
        with_ports = spec.get("allocateLoadBalancerNodePorts", True)
        return {"services.loadbalancers": ONE, **({"services.nodeports": ports} if with_ports else {})}
    return {}


def _claim(spec: Json) -> Amounts:
    storage = amount(((spec.get("resources") or {}).get("requests") or {}).get("storage", "0"))
    out = {"requests.storage": storage}
    if spec.get("storageClassName"):
        prefix = f"{spec['storageClassName']}{_CLASS_SUFFIX}"
        out |= {f"{prefix}requests.storage": storage, f"{prefix}persistentvolumeclaims": ONE}
    return out


def concerns(quota: Json, kind: str, obj: Json) -> bool:
    """Whether an object is in the quota's scopes; only pods can be when there are any."""
    spec = quota.get("spec") or {}
    wanted = [{"scopeName": s, "operator": "Exists"} for s in spec.get("scopes") or ()]
    wanted += ((spec.get("scopeSelector") or {}).get("matchExpressions")) or []
    return not wanted or (kind == "pods" and all(_in_scope(term, obj) for term in wanted))


def _in_scope(term: Json, pod: Json) -> bool:
    spec = pod.get("spec") or {}
    effort = (pod.get("status") or {}).get("qosClass") == "BestEffort"
    match term.get("scopeName"):
        case "Terminating":
            return spec.get("activeDeadlineSeconds") is not None
        case "NotTerminating":
            return spec.get("activeDeadlineSeconds") is None
        case "BestEffort":
            return effort
        case "NotBestEffort":
            return not effort
        case "CrossNamespacePodAffinity":
            return any(_crosses(term) for term in _affinity_terms(spec.get("affinity") or {}))
        case "PriorityClass":
            name, values = spec.get("priorityClassName") or "", term.get("values") or []
            match term.get("operator"):
                case "In":
                    return name in values
                case "NotIn":
                    return name not in values
                case "DoesNotExist":
                    return not name
                case _:
                    return bool(name)
    return False


def _affinity_terms(affinity: Json) -> Iterator[Json]:
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind) or {}
        yield from rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ()
        for weighted in rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ():
            yield weighted.get("podAffinityTerm") or {}


def _crosses(term: Json) -> bool:
    """Whether a term looks at pods of other namespaces."""
    return bool(term.get("namespaces")) or term.get("namespaceSelector") is not None


def used(quota: Json, kind: str, objects: Iterable[Json]) -> Amounts:
    """What objects of one kind take of what the quota limits."""
    hard = (quota.get("spec") or {}).get("hard") or {}
    total: Amounts = {name: Amount() for name in hard if kind_of(name) == kind}
    for obj in objects:
        if concerns(quota, kind, obj):
            add(total, {n: v for n, v in usage(kind, obj).items() if n in hard})
    return total


def unspecified(quota: Json, pod: Json) -> list[tuple[str, list[str]]]:
    """Limited compute resources that containers of a pod say nothing of: (resource, names of containers)."""
    spec = pod.get("spec") or {}
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    out = []
    for name in sorted((quota.get("spec") or {}).get("hard") or {}):
        part, base = (
            ("limits", name[7:]) if name.startswith("limits.") else ("requests", name.removeprefix("requests."))
        )
        if base not in {"cpu", "memory"}:
            continue
        lacking = [str(c.get("name")) for c in containers if base not in ((c.get("resources") or {}).get(part) or {})]
        if lacking:
            out.append((name, sorted(lacking)))
    return out
