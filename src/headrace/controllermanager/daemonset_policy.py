"""Where a DaemonSet runs and which of its pods are next, as pure functions (upstream: pkg/controller/daemon)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.meta import LabelSelector
from headrace.controllermanager import job_policy, pods
from headrace.controllermanager import taints_policy as taints
from headrace.controllermanager.revisions import POD_LABEL

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping

    from headrace.api.apps import DaemonSet
    from headrace.api.core import Node, Pod
    from headrace.api.meta import IntOrString
    from headrace.controllermanager.types import PodManifest

FAILED_SECONDS = 10.0
"""A pod that ended is replaced this long after its end, so that one that cannot live does not keep the node busy."""
_TOLERATED = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)


def fits(daemon_set: DaemonSet, node: Node) -> bool:
    """Whether a pod is to run on the node: its selector and affinity accept it, and it tolerates its taints."""
    return _accepts(daemon_set, node) and not _untolerated(daemon_set, node, "NoSchedule", "NoExecute")


def stays(daemon_set: DaemonSet, node: Node) -> bool:
    """Whether a pod that is on the node may stay."""
    return _accepts(daemon_set, node) and not _untolerated(daemon_set, node, "NoExecute")


def _untolerated(daemon_set: DaemonSet, node: Node, *effects: str) -> bool:
    held = (daemon_set.spec.template.get("spec") or {}).get("tolerations") or ()
    return bool(taints.untolerated(tolerations(held), node.spec.taints, effects))


def tolerations(given: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of the template, and those that every daemon's pod has."""
    out = list(given)
    known = {(t.get("key"), t.get("effect")) for t in out}
    return out + [
        {"key": key, "operator": "Exists", "effect": effect} for key, effect in _TOLERATED if (key, effect) not in known
    ]


def _accepts(daemon_set: DaemonSet, node: Node) -> bool:
    """Whether the template's node selector and required node affinity accept the node."""
    spec = daemon_set.spec.template.get("spec") or {}
    labels = node.metadata.labels
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    rules = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = rules.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    return any(_term(term, labels, node.metadata.name) for term in required.get("nodeSelectorTerms") or ())


def _term(term: Mapping[str, Any], labels: dict[str, str], name: str) -> bool:
    expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not expressions and not fields:
        return False
    return all(_holds(e, labels) for e in expressions) and all(_holds(f, {"metadata.name": name}) for f in fields)


def _holds(requirement: Mapping[str, Any], labels: dict[str, str]) -> bool:
    operator, values = requirement["operator"], requirement.get("values") or []
    if operator in {"Gt", "Lt"}:
        try:
            have, bound = int(labels[requirement["key"]]), int(values[0])
        except (KeyError, IndexError, ValueError):
            return False
        return have > bound if operator == "Gt" else have < bound
    return _wire.convert(LabelSelector, {"matchExpressions": [dict(requirement)]}).matches(labels)


def node_of(pod: Pod) -> str:
    """The node that a pod is on or made for."""
    if pod.spec.node_name:
        return pod.spec.node_name
    rules = (pod.spec.affinity or {}).get("nodeAffinity") or {}
    required = rules.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for asked in term.get("matchFields") or ():
            if asked.get("key") == "metadata.name" and asked.get("operator") == "In" and asked.get("values"):
                return str(asked["values"][0])
    return ""


def manifest(daemon_set: DaemonSet, node: str, digest: str) -> PodManifest:
    """The pod for one node."""
    made = pods.from_template(daemon_set.spec.template, daemon_set, prefix=f"{daemon_set.metadata.name[:57]}-")
    made.metadata.labels[POD_LABEL] = digest
    spec = made.spec
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    affinity = dict(spec.get("affinity") or {})
    affinity["nodeAffinity"] = {
        **(affinity.get("nodeAffinity") or {}),
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]},
    }
    spec["affinity"] = affinity
    spec["tolerations"] = tolerations(spec.get("tolerations") or ())
    return made


@dataclass
class Plan:
    """Nodes that get a pod, pods that go, and seconds after which to look again."""

    create: list[str] = field(default_factory=list)
    delete: list[Pod] = field(default_factory=list)
    after: float | None = None


def available(daemon_set: DaemonSet, pod: Pod, now: dt.datetime) -> bool:
    """Whether a pod serves."""
    gone = pod.metadata.deletion_timestamp is not None
    return not gone and pods.available_after(pod, daemon_set.spec.min_ready_seconds, now) == 0


def is_new(pod: Pod, digest: str) -> bool:
    """Whether a pod is of the present template."""
    return pod.metadata.labels.get(POD_LABEL) == digest


def by_node(found: Iterable[Pod]) -> dict[str, list[Pod]]:
    """The pods of each node, oldest first."""
    out: dict[str, list[Pod]] = {}
    for pod in sorted(found, key=lambda p: (p.metadata.creation_timestamp is None, str(p.metadata.creation_timestamp))):
        out.setdefault(node_of(pod), []).append(pod)
    return out


def plan(daemon_set: DaemonSet, nodes: Iterable[Node], found: Iterable[Pod], digest: str, now: dt.datetime) -> Plan:
    """What to do now: one pod a node, two for a while where an update adds before it takes away."""
    out = Plan()
    placed = by_node(found)
    known = list(nodes)
    wanted = [node.metadata.name for node in known if fits(daemon_set, node)]
    kept = {node.metadata.name for node in known if stays(daemon_set, node)}
    for name, there in placed.items():
        if name not in kept:
            out.delete += [p for p in there if p.metadata.deletion_timestamp is None]
    surge, unavailable = bounds(daemon_set, len(wanted))
    serving = {n: any(available(daemon_set, p, now) for p in placed.get(n, ())) for n in wanted}
    missing = sum(not s for s in serving.values())
    doubled = sum(len([p for p in placed.get(n, ()) if pods.active(p)]) > 1 for n in wanted)
    for name in wanted:
        there = placed.get(name, [])
        _replace_ended(there, out, now)
        active = [p for p in there if pods.active(p)]
        new = [p for p in active if is_new(p, digest)]
        old = [p for p in active if not is_new(p, digest)]
        ending = [p for p in there if not pods.active(p)]
        out.delete += new[1:] + old[1:]
        if not new and not old:
            if not ending:
                out.create.append(name)
        elif new and old:
            if available(daemon_set, new[0], now) or not available(daemon_set, old[0], now) or surge == 0:
                out.delete.append(old[0])
        elif old and daemon_set.spec.update_strategy.type == "RollingUpdate":
            if surge:
                if doubled < surge or not serving[name]:
                    out.create.append(name)
                    doubled += 1
            elif not serving[name]:
                out.delete.append(old[0])
            elif missing < unavailable:
                out.delete.append(old[0])
                missing += 1
    return out


def _replace_ended(there: list[Pod], out: Plan, now: dt.datetime) -> None:
    for pod in there:
        if not pods.finished(pod) or pod.metadata.deletion_timestamp is not None:
            continue
        left = FAILED_SECONDS - (now - job_policy.finish_time(pod)).total_seconds()
        if left <= 0:
            out.delete.append(pod)
        else:
            out.after = left if out.after is None else min(out.after, left)


def bounds(daemon_set: DaemonSet, total: int) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) in nodes; both round up."""
    rolling = daemon_set.spec.update_strategy.rolling_update
    if rolling is None:
        return 0, 1
    surge, unavailable = _resolve(rolling.max_surge, total), _resolve(rolling.max_unavailable, total)
    return surge, max(unavailable, 0 if surge else 1)


def _resolve(value: IntOrString, total: int) -> int:
    return value if isinstance(value, int) else math.ceil(int(value.rstrip("%")) * total / 100)


def count(
    daemon_set: DaemonSet, nodes: Iterable[Node], found: Iterable[Pod], digest: str, now: dt.datetime
) -> float | None:
    """Write counts to the status; seconds until another pod becomes available by age, if one will."""
    status = daemon_set.status
    placed = by_node(p for p in found if p.metadata.deletion_timestamp is None)
    wanted = {node.metadata.name for node in nodes if fits(daemon_set, node)}
    waits: list[float] = []
    current = ready = updated = serving = 0
    for name in wanted:
        there = placed.get(name, [])
        if not there:
            continue
        current += 1
        newest = next((p for p in reversed(there) if is_new(p, digest)), there[0])
        updated += is_new(newest, digest)
        after = [pods.available_after(p, daemon_set.spec.min_ready_seconds, now) for p in there]
        ready += any(a is not None for a in after)
        serving += any(a == 0 for a in after)
        waits += [a for a in after if a]
    status.desired_number_scheduled, status.current_number_scheduled = len(wanted), current
    status.number_misscheduled = sum(name not in wanted for name in placed)
    status.number_ready, status.number_available = ready, serving
    status.number_unavailable = len(wanted) - serving
    status.updated_number_scheduled = updated
    status.observed_generation = daemon_set.metadata.generation
    return min(waits, default=None)
