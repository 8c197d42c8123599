"""How many replicas what pods use asks for, as pure functions (upstream: podautoscaler/replica_calculator.go).

All amounts are in thousandths (millicores, thousandths of bytes), whole numbers as upstream, so that rounding
decides the same.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.api import quantity
from headrace.controllermanager import pods

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.api.core import Pod
    from headrace.api.podspec import Container

TOLERANCE = 0.1
CPU_INITIALIZATION = dt.timedelta(minutes=5)
INITIAL_READINESS_DELAY = dt.timedelta(seconds=30)
WHOLE = 100


class Unmeasured(Exception):
    """The replicas cannot be computed; the message says why."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one container used over a window that ended at `at`."""

    container: str
    amounts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Measured:
    """What pods used, by uid."""

    at: dt.datetime
    window: dt.timedelta
    pods: dict[str, tuple[Sample, ...]]


@dataclass(frozen=True, slots=True)
class Target:
    """What is aimed at: a percentage of what pods request, or an amount a pod."""

    resource: str
    container: str = ""
    utilization: int | None = None
    average: int | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """Replicas, and what was measured."""

    replicas: int
    average: int
    """Thousandths a pod."""
    utilization: int | None = None
    """Percent of what pods request."""


@dataclass(slots=True)
class Groups:
    """Pods by what their numbers are worth."""

    ready: int = 0
    unready: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    ignored: set[str] = field(default_factory=set)


def amount_of(text: str | float) -> int:
    """A quantity in thousandths, rounded up."""
    return math.ceil(quantity.parse(text) * 1000)


def used(found: Iterable[Pod], measured: Measured, target: Target) -> dict[str, int]:
    """What each pod that was measured used of the resource. Raises Unmeasured for a container that no pod has."""
    out: dict[str, int] = {}
    for pod in found:
        samples = measured.pods.get(pod.metadata.uid)
        if not samples:
            continue
        if target.container:
            samples = tuple(s for s in samples if s.container == target.container)
            if not samples:
                raise Unmeasured(
                    f"container {target.container} not present in metrics for pod "
                    f"{pod.metadata.namespace}/{pod.metadata.name}"
                )
        out[pod.metadata.uid] = sum(s.amounts.get(target.resource, 0) for s in samples)
    return out


def group(found: Iterable[Pod], metrics: dict[str, int], measured: Measured, resource: str, now: dt.datetime) -> Groups:
    """Which pods count, which are not ready yet, which have no numbers, and which are on their way out."""
    out = Groups()
    for pod in found:
        uid = pod.metadata.uid
        if pod.metadata.deletion_timestamp is not None or pod.status.phase == "Failed":
            out.ignored.add(uid)
        elif pod.status.phase in {"", "Pending"}:
            out.unready.add(uid)
        elif uid not in metrics:
            out.missing.add(uid)
        elif resource == "cpu" and _starts(pod, measured, now):
            out.unready.add(uid)
        else:
            out.ready += 1
    return out


def _starts(pod: Pod, measured: Measured, now: dt.datetime) -> bool:
    """Whether the pod is so young, or has never been ready, that what it uses of a processor says nothing."""
    ready, began = pods.ready_condition(pod), pod.status.start_time
    if ready is None or began is None or ready.last_transition_time is None:
        return True
    if began + CPU_INITIALIZATION > now:
        return ready.status == "False" or measured.at < ready.last_transition_time + measured.window
    return ready.status == "False" and began + INITIAL_READINESS_DELAY > ready.last_transition_time


def requests(found: Iterable[Pod], target: Target) -> dict[str, int]:
    """What each pod requests of the resource. Raises Unmeasured when one does not say."""
    out: dict[str, int] = {}
    for pod in found:
        total = 0
        for container in _lasting(pod):
            if target.container and container.name != target.container:
                continue
            wanted = container.resources.requests.get(target.resource)
            if wanted is None:
                raise Unmeasured(
                    f"missing request for {target.resource} in container {container.name} of Pod {pod.metadata.name}"
                )
            total += amount_of(wanted)
        out[pod.metadata.uid] = total
    return out


def _lasting(pod: Pod) -> list[Container]:
    return [*pod.spec.containers, *(c for c in pod.spec.init_containers if c.restart_policy == "Always")]


def propose(current: int, found: list[Pod], measured: Measured, target: Target, now: dt.datetime) -> Proposal:
    """The replicas that the target asks for. Raises Unmeasured."""
    if not found:
        raise Unmeasured("no pods returned by selector while calculating replica count")
    metrics = used(found, measured, target)
    if not metrics:
        raise Unmeasured("no metrics returned from resource metrics API")
    groups = group(found, metrics, measured, target.resource, now)
    metrics = {uid: n for uid, n in metrics.items() if uid not in groups.ignored | groups.unready}
    wanted = requests(found, target) if target.utilization is not None else {}
    if not metrics:
        raise Unmeasured("did not receive metrics for any ready pods")
    ratio, average, utilization = _ratio(metrics, wanted, target)
    rebalance = bool(groups.unready) and ratio > 1.0
    if not rebalance and not groups.missing:
        replicas = current if abs(1.0 - ratio) <= TOLERANCE else math.ceil(ratio * groups.ready)
        return Proposal(replicas, average, utilization)
    replicas = _rebalanced(current, metrics, wanted, target, groups=groups, ratio=ratio)
    return Proposal(replicas, average, utilization)


def _rebalanced(
    current: int, metrics: dict[str, int], wanted: dict[str, int], target: Target, *, groups: Groups, ratio: float
) -> int:
    """Cautiously: pods without numbers count as full when shrinking, as idle when growing; never turn around."""
    metrics = dict(metrics)
    if ratio < 1.0:
        for uid in groups.missing:
            fallback = max(WHOLE, target.utilization or 0)
            full = wanted.get(uid, 0) * fallback // WHOLE if target.utilization is not None else target.average or 0
            metrics[uid] = full
    elif ratio > 1.0:
        metrics |= dict.fromkeys(groups.missing, 0)
        metrics |= dict.fromkeys(groups.unready, 0)
    again, _, _ = _ratio(metrics, wanted, target)
    if abs(1.0 - again) <= TOLERANCE or (ratio < 1.0 < again) or (ratio > 1.0 > again):
        return current
    replicas = math.ceil(again * len(metrics))
    turned = (again < 1.0 and replicas > current) or (again > 1.0 and replicas < current)
    return current if turned else replicas


def _ratio(metrics: dict[str, int], wanted: dict[str, int], target: Target) -> tuple[float, int, int | None]:
    """(used to wanted, average in thousandths, percent of requests). Raises Unmeasured."""
    if target.utilization is None:
        average = sum(metrics.values()) // len(metrics)
        return average / max(target.average or 0, 1), average, None
    known = [uid for uid in metrics if uid in wanted]
    asked = sum(wanted[uid] for uid in known)
    if not asked:
        raise Unmeasured("no metrics returned matched known pods")
    total = sum(metrics[uid] for uid in known)
    utilization = total * WHOLE // asked
    return utilization / max(target.utilization, 1), total // len(known), utilization
