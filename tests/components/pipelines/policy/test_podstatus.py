"""What a pod's status means for its step."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.api import _wire
from headrace.api.core import Pod
from headrace.components.pipelines.policy.podstatus import observe


def pod(phase: str = "", state: dict[str, Any] | None = None, **status: Any) -> Pod:
    containers = [{"name": "main", "image": "i", "state": state}] if state is not None else []
    return _wire.convert(Pod, {"status": {"phase": phase, "containerStatuses": containers, **status}})


def ended(code: int, **more: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, **more}}


UNSCHEDULABLE = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no memory"}]
WAITING = {"waiting": {"reason": "ImagePullBackOff", "message": "add it"}}
CREATING = {"waiting": {"reason": "ContainerCreating"}}
MAKING = {"waiting": {"reason": "ContainerCreating", "message": "its environment is being made"}}


@pytest.mark.parametrize(
    ("given", "phase", "message", "exit_code"),
    [
        (pod(), "pending", "", None),
        (pod("Pending", CREATING), "pending", "", None),
        (pod("Pending", MAKING), "pending", "Waiting: its environment is being made.", None),
        (pod("Pending", conditions=UNSCHEDULABLE), "pending", "Waiting (Unschedulable: no memory)", None),
        (
            pod("Pending", {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "s" not found'}}),
            "pending",
            'Waiting (CreateContainerConfigError: secret "s" not found)',
            None,
        ),
        (pod("Pending", WAITING), "hopeless", "The step's environment cannot be used (ImagePullBackOff: add it)", None),
        (pod("Running", {"running": {}}), "running", "", None),
        (pod("Succeeded", ended(0)), "succeeded", "", 0),
        (
            pod("Failed", ended(3, reason="Error")),
            "failed",
            "The step ended with exit code 3 before it could report.",
            3,
        ),
        (
            pod("Failed", ended(137, reason="OOMKilled")),
            "failed",
            "The step was killed because it used more memory than its limit (OOMKilled).",
            137,
        ),
        (
            pod("Failed", ended(137, signal=9, reason="Error")),
            "failed",
            "The step was ended by signal 9; it may have run out of memory.",
            137,
        ),
        (
            pod("Failed", ended(128, reason="StartError", message="no such file")),
            "failed",
            "The step ended with exit code 128 (StartError): no such file",
            128,
        ),
        (
            pod("Failed", ended(143), reason="DeadlineExceeded", message="longer than 10 s"),
            "failed",
            "The step's pod failed (DeadlineExceeded): longer than 10 s",
            143,
        ),
        (pod("Failed"), "failed", "The step's pod failed before its program began.", None),
        (
            pod("Failed", ended(137, reason="ContainerStatusUnknown", message="could not be located")),
            "lost",
            "The step was running when the platform or the machine went down.",
            None,
        ),
    ],
)
def test_observations(given, phase, message, exit_code):
    seen = observe(given)

    assert (seen.phase, seen.message, seen.exit_code) == (phase, message, exit_code)


@pytest.mark.parametrize(
    ("message", "unplaced"),
    [
        ("0/1 nodes are available: 1 Insufficient memory.", False),
        ("0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient nvidia.com/gpu.", False),
        ("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.", True),
        ("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.", True),
    ],
)
def test_what_the_node_cannot_take_for_another_reason_than_room(message, unplaced):
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    assert observe(pod("Pending", conditions=[condition])).unplaced is unplaced
    assert not observe(pod("Pending", CREATING)).unplaced
