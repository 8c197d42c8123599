"""The claims that runs make: their workspaces, and those of kfp-kubernetes' CreatePVC and DeletePVC, steps that are not
programs (they name an image that does not exist).

All of it may be done again after a crash: a claim's name follows from the task or the run.
Source: backend/src/v2/driver/k8s.go (createPVC, deletePVC).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.core import PersistentVolumeClaim, PersistentVolumeClaimSpec, ResourceRequirements, TypedReference
from headrace.api.errors import AlreadyExists, NotFound, StatusError
from headrace.api.meta import ObjectMeta
from headrace.components.pipelines.policy.configuration import configuration
from headrace.components.pipelines.policy.plan import FAILED_PRECONDITION
from headrace.components.pipelines.policy.values import to_text
from headrace.components.pipelines.policy.workspace import claim_name
from headrace.components.pipelines.render.step import RUN_LABEL, TASK_LABEL
from headrace.components.pipelines.store.models import Report, RuntimeState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headrace.client.base import Client
    from headrace.components.pipelines.policy.plan import RunView
    from headrace.components.pipelines.store.models import TaskRow


WORKSPACE_LABEL = "pipelines.kubeflow.org/workspace"
WORKSPACE = {WORKSPACE_LABEL: "true"}


async def create_claim(client: Client, namespace: str, row: TaskRow) -> Report:
    """Create a claim; its name is the output parameter `name`."""
    given = row.inputs.parameters
    name = to_text(given.get("pvc_name"))
    suffix = to_text(given.get("pvc_name_suffix"))
    if name and suffix:
        return _failed(row, "At most one of pvc_name and pvc_name_suffix may be given.")
    try:
        source = _data_source(given.get("data_source"))
    except _wire.DecodeError as error:
        return _failed(row, f"The input data_source, which says what the claim begins with, cannot be read: {error}.")
    claim = PersistentVolumeClaim(
        metadata=ObjectMeta(
            name=name or f"{row.id}{suffix}",
            namespace=namespace,
            labels={RUN_LABEL: row.run_id, TASK_LABEL: row.id},
            annotations={k: to_text(v) for k, v in (given.get("annotations") or {}).items()},
        ),
        spec=PersistentVolumeClaimSpec(
            access_modes=[to_text(mode) for mode in given.get("access_modes") or []],
            resources=ResourceRequirements(requests={"storage": to_text(given.get("size"))}),
            volume_name=to_text(given.get("volume_name")),
            data_source=source,
        ),
    )
    if "storage_class_name" in given:
        claim.spec.storage_class_name = to_text(given["storage_class_name"])
    try:
        await client.create(claim)
    except AlreadyExists:
        found = await client.get(PersistentVolumeClaim, claim.metadata.name, namespace)
        if found.metadata.labels.get(TASK_LABEL) != row.id:
            return _failed(row, f"A claim named {claim.metadata.name!r} exists already in {namespace}.")
    except StatusError as error:
        return _failed(row, f"The claim {claim.metadata.name!r} could not be created: {error}")
    return Report(row.attempt, RuntimeState.SUCCEEDED, parameters={"name": claim.metadata.name})


def _data_source(given: Any) -> TypedReference | None:
    """As the Kubernetes API spells it."""
    return _wire.convert(TypedReference, given) if given else None


async def delete_claim(client: Client, namespace: str, row: TaskRow) -> Report:
    """Delete the claim that the input `pvc_name` names."""
    name = to_text(row.inputs.parameters.get("pvc_name"))
    if not name:
        return _failed(row, "The input pvc_name, which says what to delete, is empty.")
    try:
        await client.delete(PersistentVolumeClaim, name, namespace)
    except NotFound:
        return _failed(row, f"There is no claim named {name!r} in {namespace} to delete.")
    except StatusError as error:
        return _failed(row, f"The claim {name!r} could not be deleted: {error}")
    return Report(row.attempt, RuntimeState.SUCCEEDED)


async def ensure_workspace(client: Client, view: RunView) -> None:
    """The run's workspace is there, empty when it was not. Raises StatusError."""
    found = configuration(view.spec).workspace
    if found is None:
        return
    claim = PersistentVolumeClaim(
        metadata=ObjectMeta(
            name=claim_name(view.run.id), namespace=view.run.namespace, labels={RUN_LABEL: view.run.id, **WORKSPACE}
        ),
        spec=found.claim,
    )
    with contextlib.suppress(AlreadyExists):
        await client.create(claim)


async def drop_workspace(client: Client, namespace: str, run_id: str) -> None:
    """The run's workspace goes, if it had one."""
    with contextlib.suppress(NotFound):
        await client.delete(PersistentVolumeClaim, claim_name(run_id), namespace)


async def drop_workspace_of(client: Client, run_id: str) -> None:
    """As `drop_workspace`, of a run of which nothing is known any more."""
    found = await client.list(PersistentVolumeClaim, labels=f"{RUN_LABEL}={run_id},{WORKSPACE_LABEL}=true")
    for claim in found.items:
        await drop_workspace(client, claim.metadata.namespace, run_id)


OPERATIONS: dict[str, Callable[[Client, str, TaskRow], Awaitable[Report]]] = {
    "argostub/createpvc": create_claim,
    "argostub/deletepvc": delete_claim,
}
"""By the image that stands for them."""


def _failed(row: TaskRow, message: str) -> Report:
    values: dict[str, Any] = {"error_code": FAILED_PRECONDITION, "error_message": message}
    return Report(row.attempt, RuntimeState.FAILED, **values)
