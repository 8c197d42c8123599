"""A pod's status from what the agent knows of its containers: phase and conditions, by the kubelet's rules.

Pure: the same facts give the same status, and transition times move only when a condition does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import msgspec

from headrace.api import _wire
from headrace.api.core import (
    ContainerState,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    PodCondition,
    PodIP,
    PodStatus,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headrace.api.core import Container, Pod, PodSpec
    from headrace.api.meta import Time

T = TypeVar("T")

FINISHED = frozenset({"Succeeded", "Failed"})
CREATING = "ContainerCreating"
INITIALIZING = "PodInitializing"
LOST_REASON = "ContainerStatusUnknown"
LOST_MESSAGE = "The container could not be located when the pod was terminated"
DISRUPTED = "DisruptionTarget"
KILLED = 137
"""128 + SIGKILL."""
_OWN_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


@dataclass(slots=True)
class Verdict:
    """The agent ended the pod, whatever its containers said."""

    phase: str
    reason: str
    message: str


@dataclass(slots=True)
class Facts:
    """What the agent knows of one pod."""

    init: list[ContainerStatus]
    main: list[ContainerStatus]
    guests: list[ContainerStatus] = field(default_factory=list)
    """Of ephemeral containers."""
    scheduled: bool = False
    unscheduled_reason: str = ""
    unscheduled_message: str = ""
    sandboxed: bool = False
    """Network and volumes are there."""
    ip: str = ""
    host_ip: str = ""
    start_time: Time | None = None
    ended: bool = False
    """The pod is being taken down: no container starts again, whatever its restart policy."""
    verdict: Verdict | None = None
    disruption: tuple[str, str] | None = None
    """Reason and message, when the pod was ended for the sake of others."""


def is_sidecar(container: Container) -> bool:
    """An init container that keeps running beside the others."""
    return container.restart_policy == "Always"


def fresh(containers: Sequence[Container], *, waiting: str) -> list[ContainerStatus]:
    """Statuses of containers that have not been started."""
    return [
        ContainerStatus(
            name=c.name,
            image=c.image,
            started=False,
            state=ContainerState(waiting=ContainerStateWaiting(reason=waiting)),
        )
        for c in containers
    ]


def initialized(spec: PodSpec, statuses: Sequence[ContainerStatus]) -> bool:
    """Whether every init container has done its work; sidecars have once they have started."""
    by_name = {s.name: s for s in statuses}
    return all(_init_done(c, by_name.get(c.name)) for c in spec.init_containers)


def phase(pod: Pod, facts: Facts) -> str:
    """Pending, Running, Succeeded or Failed. A pod is not over while anything of it runs, sidecars included."""
    if pod.status.phase in FINISHED:
        return pod.status.phase
    found = facts.verdict.phase if facts.verdict is not None else _by_containers(pod, facts)
    if found in FINISHED and any(s.state.running for s in (*facts.init, *facts.main, *facts.guests)):
        return "Running"
    return found


def _by_containers(pod: Pod, facts: Facts) -> str:
    policy = pod.spec.restart_policy
    by_name = {s.name: s for s in facts.init}
    for container in pod.spec.init_containers:
        status = by_name.get(container.name)
        ended = status.state.terminated if status is not None else None
        if ended is not None and ended.exit_code and policy == "Never" and not is_sidecar(container):
            return "Failed"
    started = any(s.state.running or s.state.terminated or s.last_state.terminated for s in facts.main)
    if not initialized(pod.spec, facts.init) and not started:
        return "Pending"
    waiting = [s for s in facts.main if not s.state.running and not s.state.terminated]
    if any(not s.last_state.terminated for s in waiting):
        return "Pending"
    if any(s.state.running for s in facts.main):
        return "Running"
    ends = [s.state.terminated for s in facts.main if s.state.terminated]
    if len(ends) < len(facts.main) or (policy == "Always" and not facts.ended):
        return "Running"
    if all(e.exit_code == 0 for e in ends):
        return "Succeeded"
    return "Failed" if policy == "Never" or facts.ended else "Running"


def copied(value: T) -> T:
    """A deep copy of a typed value: through the encoder, at a ninth of what copy.deepcopy costs."""
    return _wire.decode(type(value), _wire.encode(value))


def pod_status(pod: Pod, facts: Facts, now: Time) -> PodStatus:
    """The whole status; conditions of others are kept as they are. It shares what it has in common with the pod's
    and with the facts: to be looked at now, or copied.
    """
    result = msgspec.structs.replace(pod.status)
    result.phase = phase(pod, facts)
    result.qos_class = result.qos_class or qos(pod.spec)
    if facts.scheduled:  # before that nobody creates a container, and kubectl shows Pending
        result.container_statuses = list(facts.main)
        result.init_container_statuses = list(facts.init)
        result.ephemeral_container_statuses = list(facts.guests)
        result.host_ip = facts.host_ip
        result.start_time = facts.start_time
    if facts.ip:
        result.pod_ip, result.pod_ips = facts.ip, [PodIP(ip=facts.ip)]
    if facts.verdict is not None and result.phase == facts.verdict.phase:
        result.reason, result.message = facts.verdict.reason, facts.verdict.message
    found = {c.type: c for c in pod.status.conditions}
    others = [c for c in pod.status.conditions if c.type not in _OWN_CONDITIONS]
    if facts.disruption is not None and DISRUPTED not in found:
        reason, message = facts.disruption
        condition = PodCondition(type=DISRUPTED, status="True", reason=reason, message=message)
        others.append(_moved(None, condition, now))
    result.conditions = [
        *others,
        *(_moved(found.get(c.type), c, now) for c in _conditions(pod, facts, result.phase)),
    ]
    return result


def lost(status: ContainerStatus, now: Time) -> None:
    """Records that a container has vanished without leaving its exit status."""
    running = status.state.running
    status.state = ContainerState(
        terminated=ContainerStateTerminated(
            exit_code=KILLED,
            reason=LOST_REASON,
            message=LOST_MESSAGE,
            started_at=running.started_at if running is not None else None,
            finished_at=now,
            container_id=status.container_id,
        )
    )
    status.ready = status.started = False


def qos(spec: PodSpec) -> str:
    """Guaranteed, Burstable or BestEffort."""
    containers = [*spec.containers, *spec.init_containers]
    names = ("cpu", "memory")
    if not any(n in c.resources.requests or n in c.resources.limits for c in containers for n in names):
        return "BestEffort"
    for container in containers:
        own = container.resources
        for name in names:
            if name not in own.limits or own.requests.get(name, own.limits[name]) != own.limits[name]:
                return "Burstable"
    return "Guaranteed"


def _init_done(container: Container, status: ContainerStatus | None) -> bool:
    if status is None:
        return False
    if is_sidecar(container):
        return bool(status.started) or status.last_state.terminated is not None
    return status.state.terminated is not None and status.state.terminated.exit_code == 0


def _conditions(pod: Pod, facts: Facts, current: str) -> list[PodCondition]:
    scheduled = PodCondition(type="PodScheduled", status=str(facts.scheduled))
    if not facts.scheduled:
        if not facts.unscheduled_reason:
            return []
        scheduled.reason, scheduled.message = facts.unscheduled_reason, facts.unscheduled_message
        return [scheduled]
    containers_ready = _containers_ready(pod, facts, current)
    return [
        PodCondition(type="PodReadyToStartContainers", status=str(facts.sandboxed and current not in FINISHED)),
        _initialized_condition(pod, facts, current),
        _ready(pod, containers_ready),
        containers_ready,
        scheduled,
    ]


def _initialized_condition(pod: Pod, facts: Facts, current: str) -> PodCondition:
    by_name = {s.name: s for s in facts.init}
    incomplete = [c.name for c in pod.spec.init_containers if not _init_done(c, by_name.get(c.name))]
    if current == "Succeeded":
        return PodCondition(type="Initialized", status="True", reason="PodCompleted")
    if incomplete:
        message = f"containers with incomplete status: {_listed(incomplete)}"
        return PodCondition(type="Initialized", status="False", reason="ContainersNotInitialized", message=message)
    return PodCondition(type="Initialized", status="True")


def _containers_ready(pod: Pod, facts: Facts, current: str) -> PodCondition:
    name = "ContainersReady"
    if current == "Succeeded":
        return PodCondition(type=name, status="False", reason="PodCompleted")
    if current == "Failed":
        return PodCondition(type=name, status="False", reason="PodFailed")
    sidecars = {c.name for c in pod.spec.init_containers if is_sidecar(c)}
    watched = [*(s for s in facts.init if s.name in sidecars), *facts.main]
    unready = [s.name for s in watched if not s.ready]
    if unready:
        message = f"containers with unready status: {_listed(unready)}"
        return PodCondition(type=name, status="False", reason="ContainersNotReady", message=message)
    return PodCondition(type=name, status="True")


def _ready(pod: Pod, containers: PodCondition) -> PodCondition:
    if containers.status != "True":
        return PodCondition(type="Ready", status="False", reason=containers.reason, message=containers.message)
    found = {c.type: c.status for c in pod.status.conditions}
    problems = []
    for gate in pod.spec.readiness_gates:
        status = found.get(gate.condition_type)
        if status is None:
            problems.append(f'corresponding condition of pod readiness gate "{gate.condition_type}" does not exist.')
        elif status != "True":
            problems.append(f'the status of pod readiness gate "{gate.condition_type}" is not "True", but {status}')
    if problems:
        return PodCondition(type="Ready", status="False", reason="ReadinessGatesNotReady", message=", ".join(problems))
    return PodCondition(type="Ready", status="True")


def _moved(old: PodCondition | None, new: PodCondition, now: Time) -> PodCondition:
    same = old is not None and old.status == new.status
    new.last_transition_time = old.last_transition_time if same and old is not None else now
    return new


def _listed(names: Iterable[str]) -> str:
    return f"[{' '.join(names)}]"
