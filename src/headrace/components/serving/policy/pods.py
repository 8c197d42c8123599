"""What a Deployment and its pods mean in the words of InferenceService."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.components.serving.policy.spec import MODEL_CONTAINER

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headrace.api.apps import Deployment
    from headrace.api.core import ContainerStatus, Pod

INITIALIZER = "storage-initializer"


@dataclass(frozen=True, slots=True)
class Failure:
    """A model that does not load, or a pod that cannot start."""

    reason: str
    message: str
    pod: str = ""
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """The workload in the words of InferenceService."""

    ready_copies: int = 0
    rolling: bool = False
    """Pods of the current spec are not yet all there, or older ones still are."""
    loading: bool = False
    failed_copies: int = 0
    failure: Failure | None = None
    waiting: str = ""
    """What a pod waits for, as a sentence; empty when nothing is known."""

    @property
    def available(self) -> bool:
        """Whether some pod answers, of the current spec or of the one before."""
        return self.ready_copies > 0


def observe(deployment: Deployment | None, pods: Sequence[Pod], replicas: int) -> Observation:
    """What a deployment and its pods mean."""
    alive = [p for p in pods if p.metadata.deletion_timestamp is None and p.status.phase not in {"Succeeded", "Failed"}]
    ready = sum(_is_ready(p) for p in alive)
    latest = _latest(alive)
    failures = [f for f in map(_failure, latest) if f]
    return Observation(
        ready_copies=ready,
        rolling=_rolling(deployment, replicas),
        loading=any(_loading(p) for p in latest),
        failed_copies=len(failures),
        failure=None if any(_is_ready(p) for p in latest) else next(iter(failures), None),
        waiting=next((w for w in map(_waiting, latest) if w), _deployment_says(deployment)),
    )


def _rolling(deployment: Deployment | None, replicas: int) -> bool:
    if deployment is None or deployment.status.observed_generation < deployment.metadata.generation:
        return True
    status = deployment.status
    old = status.replicas > status.updated_replicas
    return status.updated_replicas < replicas or old or status.available_replicas < 1


def _deployment_says(deployment: Deployment | None) -> str:
    for kind, bad in (("ReplicaFailure", "True"), ("Progressing", "False")):
        for condition in deployment.status.conditions if deployment else ():
            if condition.type == kind and condition.status == bad and condition.message:
                return condition.message
    return ""


def _latest(pods: Iterable[Pod]) -> list[Pod]:
    """The pods of the newest template."""
    ordered = sorted(pods, key=lambda p: (p.metadata.creation_timestamp is not None, p.metadata.creation_timestamp))
    if not ordered:
        return []
    newest = ordered[-1].metadata.labels.get("pod-template-hash")
    return [p for p in ordered if p.metadata.labels.get("pod-template-hash") == newest]


def _is_ready(pod: Pod) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)


def _failure(pod: Pod) -> Failure | None:
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        if status.name not in {INITIALIZER, MODEL_CONTAINER}:
            continue
        ended = status.state.terminated or status.last_state.terminated
        if ended is None or ended.exit_code == 0 or _recovered(status):
            continue
        message = " ".join(ended.message.split()) or f"{status.name} ended with exit code {ended.exit_code}"
        return Failure("ModelLoadFailed", message, pod.metadata.name, ended.exit_code)
    return None


def _recovered(status: ContainerStatus) -> bool:
    """Running again and ready: the failure is history."""
    return status.state.running is not None and status.ready


def _loading(pod: Pod) -> bool:
    return any(s.name == INITIALIZER and s.state.running for s in pod.status.init_container_statuses) or any(
        s.name == MODEL_CONTAINER and s.state.running and not s.ready for s in pod.status.container_statuses
    )


def _waiting(pod: Pod) -> str:
    for condition in pod.status.conditions:
        if condition.type == "PodScheduled" and condition.status == "False" and condition.message:
            return condition.message
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        waiting = status.state.waiting
        if waiting and waiting.message:
            return f"{waiting.reason}: {waiting.message}" if waiting.reason else waiting.message
    return pod.status.message
