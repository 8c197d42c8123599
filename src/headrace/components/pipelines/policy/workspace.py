"""The run's workspace: a volume at one path that all its steps may share.

Who gets it: a step with an input whose text has that path in it, or an input artifact that an importer put there.
Source: backend/src/v2/driver/driver.go (needsWorkspaceMount, getWorkspaceMount, validateVolumeMounts).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from headrace.components.pipelines.policy.plan import RunView
    from headrace.components.pipelines.store.models import TaskRow

MOUNT = "/kfp-workspace"
VOLUME = "kfp-workspace"
FLAG = "_kfp_workspace"
"""Metadata by which kfp knows that an artifact's file lies in the workspace."""


def claim_name(run_id: str) -> str:
    """The claim of a run's workspace."""
    return f"{VOLUME}-{run_id}"


def is_used(view: RunView, row: TaskRow) -> bool:
    """Whether a step needs the workspace, by its resolved inputs."""
    if not view.constants.workspace:
        return False
    if any(isinstance(value, str) and MOUNT in value for value in row.inputs.parameters.values()):
        return True
    return any(lies_there(view, ids[0]) for ids in row.inputs.artifacts.values() if ids)


def lies_there(view: RunView, artifact_id: str) -> bool:
    """Whether an artifact was imported into the workspace."""
    artifact = view.artifacts.get(artifact_id)
    if not view.constants.workspace or artifact is None:
        return False
    producer = next((task for task in view.tasks.values() if task.id == artifact.task_id), None)
    return producer is not None and bool(producer.detail.get("in_workspace"))


def mounts_conflict(mounts: Iterable[str], volumes: Container[str]) -> str:
    """Why the mounts (paths) and volumes of a step and the workspace cannot both be; empty when they can."""
    for path in mounts:
        if path.startswith(MOUNT):
            return f"The task mounts a volume at {path}, where the run's workspace is; mount it elsewhere."
    if VOLUME in volumes:
        return f"The task has a volume named {VOLUME}, which is the name of the run's workspace; name it otherwise."
    return ""
