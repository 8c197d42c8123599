"""Rows as v1beta1 shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.components.pipelines.store.models import RuntimeState, Status, StorageState, TaskType
from headrace.components.pipelines.store.rows import rfc3339
from headrace.components.pipelines.types import v1

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable

    from headrace.components.pipelines.store.models import (
        Experiment,
        Metric,
        Pipeline,
        PipelineVersion,
        RecurringRun,
        Run,
        RunRow,
        Spec,
        TaskRow,
    )

_SCOPES = {TaskType.RUNTIME: "Pod", TaskType.IMPORTER: "Pod"}
_NEVER = "1970-01-01T00:00:00Z"


def experiment(row: Experiment) -> dict[str, Any]:
    """v1beta1 Experiment."""
    return _present(
        id=row.id,
        name=row.display_name,
        description=row.description,
        created_at=_moment(row.created_at),
        resource_references=[_reference(v1.NAMESPACE, row.namespace, v1.OWNER)],
        storage_state=_storage(row.storage_state),
    )


def pipeline(row: Pipeline, version: PipelineVersion | None) -> dict[str, Any]:
    """v1beta1 Pipeline with its newest version."""
    shown = pipeline_version(version) if version else None
    return _present(
        id=row.id,
        created_at=_moment(row.created_at),
        name=row.display_name or row.name,
        description=row.description,
        parameters=(shown or {}).get("parameters"),
        default_version=shown,
        resource_references=[_reference(v1.NAMESPACE, row.namespace, v1.OWNER)] if row.namespace else None,
    )


def pipeline_version(row: PipelineVersion) -> dict[str, Any]:
    """v1beta1 PipelineVersion."""
    return _present(
        id=row.id,
        name=row.display_name or row.name,
        created_at=_moment(row.created_at),
        description=row.description,
        parameters=parameters_of(row.spec) if row.spec else None,
        code_source_url=row.code_source_url,
        package_url={"pipeline_url": row.package_url} if row.package_url else None,
        resource_references=[_reference(v1.PIPELINE, row.pipeline_id, v1.OWNER)],
    )


def parameters_of(spec: Spec) -> list[dict[str, str]]:
    """What a pipeline takes, with its defaults as text."""
    document = spec.pipeline_spec
    arguments = (document.get("spec") or {}).get("arguments") if document.get("kind") == "Workflow" else None
    if isinstance(arguments, dict):
        return [_parameter(str(p.get("name", "")), p.get("value")) for p in arguments.get("parameters") or []]
    root = document.get("root") or {}
    given = (root.get("inputDefinitions") or {}).get("parameters") or {}
    return [_parameter(name, definition.get("defaultValue")) for name, definition in given.items()]


def run(row: Run, spec: Spec | None, metrics: Iterable[Metric] = ()) -> dict[str, Any]:
    """v1beta1 Run."""
    references = [
        _reference(v1.EXPERIMENT, row.experiment_id, v1.OWNER),
        _reference(v1.NAMESPACE, row.namespace, v1.OWNER),
    ]
    if row.recurring_run_id:
        references.append(_reference(v1.JOB, row.recurring_run_id, v1.CREATOR))
    if row.pipeline_version_id:
        references.append(_reference(v1.PIPELINE_VERSION, row.pipeline_version_id, v1.CREATOR))
    return _present(
        id=row.id,
        name=row.display_name,
        description=row.description,
        storage_state=_storage(row.storage_state),
        service_account=row.service_account,
        status=v1.STATES[row.state.value],
        error=row.error_message,
        created_at=_moment(row.created_at),
        scheduled_at=_moment(row.scheduled_at),
        finished_at=_moment(row.finished_at) or _NEVER,
        pipeline_spec=_pipeline_spec(row, spec),
        resource_references=references,
        metrics=[metric(m) for m in metrics],
    )


def metric(row: Metric) -> dict[str, Any]:
    """v1beta1 RunMetric."""
    return {
        "name": row.name,
        "node_id": row.node_id,
        "number_value": row.number_value,
        "format": row.format or "UNSPECIFIED",
    }


def job(row: RecurringRun, spec: Spec | None) -> dict[str, Any]:
    """v1beta1 Job."""
    enabled = row.status is Status.ENABLED
    references = [
        _reference(v1.EXPERIMENT, row.experiment_id, v1.OWNER),
        _reference(v1.NAMESPACE, row.namespace, v1.OWNER),
    ]
    if row.pipeline_version_id:
        references.append(_reference(v1.PIPELINE_VERSION, row.pipeline_version_id, v1.CREATOR))
    return _present(
        id=row.id,
        name=row.display_name,
        description=row.description,
        pipeline_spec=_pipeline_spec(row, spec),
        resource_references=references,
        service_account=row.service_account,
        max_concurrency=str(row.max_concurrency),
        trigger=row.trigger,
        mode="ENABLED" if enabled else "DISABLED",
        enabled=enabled or None,
        no_catchup=bool(row.no_catchup) or None,
        status=row.status.value.title(),
        error=row.error_message,
        created_at=_moment(row.created_at),
        updated_at=_moment(row.updated_at),
    )


def run_detail(row: RunRow, metrics: Iterable[Metric]) -> dict[str, Any]:
    """v1beta1 RunDetail; `workflow_manifest` is the workflow that Argo would have, with the state of its nodes."""
    return {
        "run": run(row.run, row.spec, metrics),
        "pipeline_runtime": {"workflow_manifest": _wire.encode(workflow(row)).decode()},
    }


def workflow(row: RunRow) -> dict[str, Any]:
    """The run as a Workflow of Argo."""
    document = row.spec.pipeline_spec if row.spec.pipeline_spec.get("kind") == "Workflow" else {}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": _present(
            name=row.run.display_name,
            namespace=row.run.namespace,
            uid=row.run.id,
            creationTimestamp=_moment(row.run.created_at),
            labels={"pipeline/runid": row.run.id},
            annotations=(document.get("metadata") or {}).get("annotations"),
        ),
        "spec": document.get("spec") or {},
        "status": _present(
            phase=v1.STATES[row.run.state.value] if row.run.state is not RuntimeState.CANCELING else "Running",
            message=row.run.error_message,
            startedAt=_moment(row.run.created_at),
            finishedAt=_moment(row.run.finished_at),
            nodes={task.id: _node(row, task) for task in row.tasks},
        ),
    }


def _node(row: RunRow, task: TaskRow) -> dict[str, Any]:
    children = [other.id for other in row.tasks if other.parent_id == task.id]
    return _present(
        id=task.id,
        name=task.path,
        displayName=task.display_name or task.name,
        type=_SCOPES.get(task.type, "DAG"),
        templateName=task.name,
        phase=v1.STATES[task.state.value],
        message=task.error_message,
        startedAt=_moment(task.started_at),
        finishedAt=_moment(task.finished_at),
        inputs=_files(row, task.inputs.parameters, task.inputs.artifacts),
        outputs=_files(row, task.outputs.parameters, task.outputs.artifacts),
        children=children,
        boundaryID=task.parent_id,
        podName=task.pod_name,
    )


def _files(row: RunRow, parameters: dict[str, Any], artifacts: dict[str, list[str]]) -> dict[str, Any]:
    found = []
    for name, ids in artifacts.items():
        for ident in ids:
            if ident not in row.artifacts:
                continue
            bucket, _, key = row.artifacts[ident].uri.partition("://")[2].partition("/")
            found.append({"name": name, "s3": {"bucket": bucket, "key": key}})
    return _present(parameters=[_parameter(n, v) for n, v in parameters.items()], artifacts=found)


def _pipeline_spec(row: Run | RecurringRun, spec: Spec | None) -> dict[str, Any]:
    document = spec.document if spec else {}
    name = "workflow_manifest" if document.get("kind") == "Workflow" else "pipeline_manifest"
    return _present(
        pipeline_id=row.pipeline_id,
        pipeline_name=getattr(row, "pipeline_name", ""),
        parameters=[_parameter(n, v) for n, v in row.parameters.items()],
        **({name: _wire.encode(document).decode()} if document else {}),
    )


def _parameter(name: str, value: Any) -> dict[str, str]:
    if value is None:
        return {"name": name}
    return {"name": name, "value": value if isinstance(value, str) else _wire.encode(value).decode()}


def _reference(kind: str, ident: str, relationship: str) -> dict[str, Any]:
    return {"key": {"type": kind, "id": ident}, "relationship": relationship}


def _storage(state: StorageState) -> str:
    return f"STORAGESTATE_{state.value}"


def _moment(value: dt.datetime | None) -> str | None:
    return rfc3339(value) if value else None


def _present(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value not in (None, "", {}, [])}
