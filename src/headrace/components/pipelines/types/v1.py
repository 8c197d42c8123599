"""The REST dialect of v1beta1, which clients of kfp 1 speak: bodies, resource references, words for states.

Source: backend/api/v1beta1 of kubeflow/pipelines. What belongs to what is said by `resource_references` instead of
fields; parameters are text; a pipeline is an Argo Workflow as JSON text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.components.pipelines.types.rest import Body, TriggerBody, UrlBody, invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

EXPERIMENT, JOB, PIPELINE, PIPELINE_VERSION, NAMESPACE = (
    "EXPERIMENT",
    "JOB",
    "PIPELINE",
    "PIPELINE_VERSION",
    "NAMESPACE",
)
TYPES = {"UNKNOWN_RESOURCE_TYPE": "", "0": "", "1": EXPERIMENT, "2": JOB, "3": PIPELINE, "4": PIPELINE_VERSION}
TYPES |= {"5": NAMESPACE} | {name: name for name in (EXPERIMENT, JOB, PIPELINE, PIPELINE_VERSION, NAMESPACE)}
OWNER, CREATOR = "OWNER", "CREATOR"
STATES = {
    "PENDING": "Pending",
    "PAUSED": "Pending",
    "RUNNING": "Running",
    "SUCCEEDED": "Succeeded",
    "SKIPPED": "Skipped",
    "FAILED": "Failed",
    "CANCELED": "Failed",
    "CANCELING": "Terminating",
}
"""States in the words of v1beta1 (upstream: model.RuntimeState.ToV1)."""


class KeyBody(Body):
    """A thing by type and id."""

    type: str | int | None = None
    id: str | None = None


class ReferenceBody(Body):
    """How another thing is related."""

    key: KeyBody | None = None
    name: str | None = None
    relationship: str | int | None = None


class ParameterBody(Body):
    """A parameter's value as text."""

    name: str | None = None
    value: str | None = None


class RuntimeConfigV1Body(Body):
    """Parameters of a pipeline of the IR."""

    parameters: dict[str, Any] | None = None
    pipeline_root: str | None = None


class PipelineSpecBody(Body):
    """What runs: a pipeline by id, or a document as text."""

    pipeline_id: str | None = None
    pipeline_name: str | None = None
    workflow_manifest: str | None = None
    pipeline_manifest: str | None = None
    parameters: list[ParameterBody] | None = None
    runtime_config: RuntimeConfigV1Body | None = None


class ExperimentV1Body(Body):
    """v1beta1 Experiment."""

    name: str | None = None
    description: str | None = None
    resource_references: list[ReferenceBody] | None = None
    id: Any = None
    created_at: Any = None
    storage_state: Any = None


class PipelineV1Body(Body):
    """v1beta1 Pipeline."""

    name: str | None = None
    description: str | None = None
    url: UrlBody | None = None
    resource_references: list[ReferenceBody] | None = None
    id: Any = None
    created_at: Any = None
    parameters: Any = None
    error: Any = None
    default_version: Any = None


class VersionV1Body(Body):
    """v1beta1 PipelineVersion."""

    name: str | None = None
    description: str | None = None
    code_source_url: str | None = None
    package_url: UrlBody | None = None
    resource_references: list[ReferenceBody] | None = None
    id: Any = None
    created_at: Any = None
    parameters: Any = None


class RunV1Body(Body):
    """v1beta1 Run."""

    name: str | None = None
    description: str | None = None
    pipeline_spec: PipelineSpecBody | None = None
    resource_references: list[ReferenceBody] | None = None
    service_account: str | None = None
    id: Any = None
    storage_state: Any = None
    created_at: Any = None
    scheduled_at: Any = None
    finished_at: Any = None
    status: Any = None
    error: Any = None
    metrics: Any = None


class JobBody(Body):
    """v1beta1 Job: a recurring run."""

    name: str | None = None
    description: str | None = None
    pipeline_spec: PipelineSpecBody | None = None
    resource_references: list[ReferenceBody] | None = None
    service_account: str | None = None
    max_concurrency: int | str | None = None
    trigger: TriggerBody | None = None
    mode: str | int | None = None
    enabled: bool | None = None
    no_catchup: bool | None = None
    id: Any = None
    created_at: Any = None
    updated_at: Any = None
    status: Any = None
    error: Any = None


class MetricBody(Body):
    """One metric of a node."""

    name: str | None = None
    node_id: str | None = None
    number_value: float | None = None
    format: str | int | None = None


class MetricsBody(Body):
    """What `:reportMetrics` gets."""

    run_id: str | None = None
    metrics: list[MetricBody] | None = None


def referenced(references: Sequence[ReferenceBody] | None, kind: str) -> str:
    """The id of the first reference of a type; empty when there is none. Raises RpcError."""
    for reference in references or []:
        key = reference.key
        if key is not None and resource_type(key.type) == kind:
            return key.id or ""
    return ""


def resource_type(given: str | int | None) -> str:
    """A resource type by name or number. Raises RpcError."""
    found = TYPES.get(str(given)) if given is not None else ""
    if found is None:
        raise invalid(f"{given!r} is not a type of resource; use one of EXPERIMENT, JOB, PIPELINE, NAMESPACE.")
    return found
