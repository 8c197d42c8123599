"""What a step's pod says of its step, in the words that the task's record shows."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import datetime as dt

    from headrace.api.core import ContainerStateTerminated, ContainerStatus, Pod

MAIN = "main"
_HOPELESS = frozenset({"InvalidImageName", "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InspectFailed"})
"""The container waits for an image that cannot be had; it may go on trying, the step does not."""
_BEGINNING = frozenset({"ContainerCreating", "PodInitializing"})
"""Nothing is wrong: what is said is how far it is."""
_ROOM = re.compile(r"Insufficient (?:cpu|memory)\b")
_SIGKILL = 9
_LOST_REASON = "ContainerStatusUnknown"
"""The kubelet's word for a container that is gone without an exit code."""


class Phase(enum.StrEnum):
    """Where a step's pod is."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    HOPELESS = "hopeless"
    """It has not begun and will not."""
    LOST = "lost"
    """It was running when the machine or the platform went down, and nobody saw how it ended."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A pod's phase, why in one sentence (empty when there is nothing to say), and the program's exit code."""

    phase: Phase
    message: str = ""
    exit_code: int | None = None
    started_at: dt.datetime | None = None
    unplaced: bool = False
    """The node cannot take it for another reason than that it has no room for it now."""


def has_begun(pod: Pod) -> bool:
    """Whether any of its containers runs or has run."""
    status = pod.status
    return status.phase not in {"", "Pending"} or any(
        held.state.waiting is None and (held.state.running or held.state.terminated)
        for held in status.init_container_statuses
    )


def observe(pod: Pod) -> Observation:
    """What the pod says."""
    status = pod.status
    main = next((c for c in status.container_statuses if c.name == MAIN), None)
    ended = main.state.terminated if main is not None else None
    if status.phase == "Succeeded":
        return Observation(Phase.SUCCEEDED, exit_code=0, started_at=ended.started_at if ended else None)
    if status.phase == "Failed":
        return _failed(pod, ended)
    if main is not None and main.state.running is not None:
        return Observation(Phase.RUNNING, started_at=main.state.running.started_at)
    return _pending(pod, [*status.init_container_statuses, *status.container_statuses])


def _failed(pod: Pod, ended: ContainerStateTerminated | None) -> Observation:
    status = pod.status
    if status.reason:
        message = f"The step's pod failed ({status.reason}): {status.message or 'no message.'}"
        return Observation(Phase.FAILED, message, ended.exit_code if ended else None)
    if ended is None:
        return Observation(Phase.FAILED, "The step's pod failed before its program began.")
    if ended.reason == _LOST_REASON:
        message = "The step was running when the platform or the machine went down."
        return Observation(Phase.LOST, message, None, ended.started_at)
    return Observation(Phase.FAILED, _ending(ended), ended.exit_code, ended.started_at)


def _ending(ended: ContainerStateTerminated) -> str:
    if ended.reason == "OOMKilled":
        return "The step was killed because it used more memory than its limit (OOMKilled)."
    if ended.signal:
        hint = "; it may have run out of memory" if ended.signal == _SIGKILL else ""
        return f"The step was ended by signal {ended.signal}{hint}."
    if ended.reason and ended.reason not in {"Error", "Completed"}:
        return f"The step ended with exit code {ended.exit_code} ({ended.reason}): {ended.message or 'no message.'}"
    return f"The step ended with exit code {ended.exit_code} before it could report."


def _pending(pod: Pod, containers: list[ContainerStatus]) -> Observation:
    for container in containers:
        waiting = container.state.waiting
        if waiting is None or not waiting.reason:
            continue
        said = f"{waiting.reason}: {waiting.message}" if waiting.message else waiting.reason
        if waiting.reason in _HOPELESS:
            return Observation(Phase.HOPELESS, f"The step's environment cannot be used ({said})")
        if waiting.message and waiting.reason in _BEGINNING:
            return Observation(Phase.PENDING, f"Waiting: {waiting.message}.")
        if waiting.message:
            return Observation(Phase.PENDING, f"Waiting ({said})")
    for condition in pod.status.conditions:
        if condition.type == "PodScheduled" and condition.status == "False" and condition.message:
            said = f"Waiting ({condition.reason}: {condition.message})"
            return Observation(Phase.PENDING, said, unplaced=not _ROOM.search(condition.message))
    return Observation(Phase.PENDING)
