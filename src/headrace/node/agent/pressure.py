"""Whether the machine runs out of something, and which pod goes first then: the kubelet's rules. Pure.

Thresholds are written as the kubelet's --eviction-hard: `memory.available<100Mi,nodefs.available<1Gi,pid.available<5%`.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from headrace.api import quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headrace.api.core import Pod

CRITICAL = 2_000_000_000
"""Pods of at least this priority are never evicted by the node."""


@dataclass(frozen=True, slots=True)
class Signal:
    """Something that a machine can run out of."""

    name: str
    condition: str
    taint: str
    resource: str


MEMORY = Signal("memory.available", "MemoryPressure", "node.kubernetes.io/memory-pressure", "memory")
DISK = Signal("nodefs.available", "DiskPressure", "node.kubernetes.io/disk-pressure", "ephemeral-storage")
PIDS = Signal("pid.available", "PIDPressure", "node.kubernetes.io/pid-pressure", "pids")
SIGNALS = {signal.name: signal for signal in (MEMORY, DISK, PIDS)}


@dataclass(frozen=True, slots=True)
class Amount:
    """How much of something is left, of how much."""

    available: int
    total: int


@dataclass(frozen=True, slots=True)
class Crossing:
    """A threshold that has been crossed."""

    signal: Signal
    threshold: int
    available: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pod, and what it and its containers hold of the resource in question."""

    pod: Pod
    used: int
    containers: tuple[tuple[str, int], ...] = ()


class BadThreshold(ValueError):
    """The setting cannot be read; the message says why."""


def thresholds(text: str) -> dict[str, str]:
    """Signal name to quantity or percentage. Raises BadThreshold."""
    found = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, less, value = part.partition("<")
        if name not in SIGNALS or not less:
            known = ", ".join(SIGNALS)
            raise BadThreshold(f"{part!r} is no eviction threshold: write SIGNAL<QUANTITY with a signal of {known}")
        try:
            quantity.parse(value.removesuffix("%"))
        except ValueError as error:
            raise BadThreshold(f"{value!r} in {part!r} is neither a quantity nor a percentage") from error
        found[name] = value
    return found


def crossings(wanted: dict[str, str], seen: dict[str, Amount]) -> list[Crossing]:
    """The thresholds below which the machine is now."""
    found = []
    for name, value in wanted.items():
        amount = seen.get(name)
        if amount is None:
            continue
        share = value.endswith("%")
        limit = quantity.parse(value.removesuffix("%"))
        limit = limit * amount.total / 100 if share else limit
        if amount.available < limit:
            found.append(Crossing(SIGNALS[name], int(limit), amount.available))
    return found


def first_to_go(signal: Signal, candidates: Iterable[Candidate]) -> Candidate | None:
    """The pod to evict: one that holds more than it asked for, of the lowest priority, with the most beyond that.

    Critical pods stay.
    """

    def rank(one: Candidate) -> tuple[bool, int, int]:
        beyond = one.used - requested(one.pod, signal)
        return (beyond <= 0, one.pod.spec.priority or 0, -beyond)

    leaving = [one for one in candidates if (one.pod.spec.priority or 0) < CRITICAL]
    return min(leaving, key=rank, default=None)


def requested(pod: Pod, signal: Signal) -> int:
    """What the pod's containers ask for."""
    return sum(_request(c.resources.requests, signal) for c in pod.spec.containers)


def _request(requests: dict[str, str | int | float], signal: Signal) -> int:
    return int(quantity.parse(requests.get(signal.resource, "0")))


def message(crossing: Crossing, chosen: Candidate) -> str:
    """Why the pod was evicted, in the kubelet's words."""
    signal = crossing.signal
    text = (
        f"The node was low on resource: {signal.resource}. Threshold quantity: {_shown(signal, crossing.threshold)}, "
        f"available: {_shown(signal, crossing.available)}. "
    )
    requests = {c.name: c.resources.requests for c in chosen.pod.spec.containers}
    for name, used in chosen.containers:
        request = _request(requests.get(name, {}), signal)
        if used > request:
            text += (
                f"Container {name} was using {_shown(signal, used)}, request is {_shown(signal, request)}, "
                f"has larger consumption of {signal.resource}. "
            )
    return text


def _shown(signal: Signal, number: int) -> str:
    return str(number) if signal is PIDS or not number else f"{number >> 10}Ki"


def storage_problem(pod: Pod, volumes: dict[str, int], total: int) -> str:
    """What of the pod's disk limits is exceeded, in the kubelet's words; empty when nothing is. `volumes`: bytes in
    each emptyDir on disk; `total`: those, and what containers have written elsewhere, logs included.
    """
    for volume in pod.spec.volumes:
        limit = volume.empty_dir.size_limit if volume.empty_dir is not None else None
        if limit is not None and quantity.parse(limit) > 0 and volumes.get(volume.name, 0) > quantity.parse(limit):
            return f'Usage of EmptyDir volume "{volume.name}" exceeds the limit "{limit}". '
    limits = [c.resources.limits.get(DISK.resource) for c in pod.spec.containers]
    if limits and all(limit is not None for limit in limits):
        whole = sum((quantity.parse(limit) for limit in limits if limit is not None), Decimal(0))
        if total > whole:
            shown = quantity.canonical(str(limits[0])) if len(limits) == 1 else f"{int(whole) >> 10}Ki"
            return f"Pod ephemeral local storage usage exceeds the total limit of containers {shown}. "
    return ""


def has_storage_limit(pod: Pod) -> bool:
    """Whether the pod's use of the disk has to be measured."""
    volumes: Sequence[object] = [
        v for v in pod.spec.volumes if v.empty_dir is not None and v.empty_dir.size_limit is not None
    ]
    return bool(volumes) or any(DISK.resource in c.resources.limits for c in pod.spec.containers)
