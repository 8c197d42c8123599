"""Rows as the API shows them: snake_case, fields at their default omitted, int64 as text, moments in RFC 3339."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headrace.api import _wire
from headrace.components.pipelines.store.models import Status
from headrace.components.pipelines.store.rows import rfc3339

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from headrace.components.pipelines.store.models import (
        Artifact,
        Experiment,
        Pipeline,
        PipelineVersion,
        RecurringRun,
        Run,
        Spec,
        TaskRow,
        Values,
    )


def experiment(row: Experiment) -> dict[str, Any]:
    """v2beta1 Experiment."""
    return _present(
        experiment_id=row.id,
        display_name=row.display_name,
        description=row.description,
        namespace=row.namespace,
        storage_state=row.storage_state.value,
        created_at=_moment(row.created_at),
        last_run_created_at=_moment(row.last_run_created_at),
    )


def pipeline(row: Pipeline) -> dict[str, Any]:
    """v2beta1 Pipeline."""
    return _present(
        pipeline_id=row.id,
        name=row.name,
        display_name=row.display_name or row.name,
        description=row.description,
        namespace=row.namespace,
        created_at=_moment(row.created_at),
        tags=row.tags,
    )


def version(row: PipelineVersion) -> dict[str, Any]:
    """v2beta1 PipelineVersion."""
    return _present(
        pipeline_id=row.pipeline_id,
        pipeline_version_id=row.id,
        name=row.name,
        display_name=row.display_name or row.name,
        description=row.description,
        created_at=_moment(row.created_at),
        package_url={"pipeline_url": row.package_url} if row.package_url else None,
        code_source_url=row.code_source_url,
        tags=row.tags,
        pipeline_spec=row.spec.document if row.spec else None,
    )


def run(row: Run, spec: Spec | None, details: dict[str, Any] | None = None) -> dict[str, Any]:
    """v2beta1 Run. A run of a pipeline version names it; another shows its spec."""
    reference = {"pipeline_id": row.pipeline_id, "pipeline_version_id": row.pipeline_version_id}
    return _present(
        run_id=row.id,
        experiment_id=row.experiment_id,
        recurring_run_id=row.recurring_run_id,
        display_name=row.display_name,
        description=row.description,
        storage_state=row.storage_state.value,
        service_account=row.service_account,
        runtime_config=_present(parameters=row.parameters, pipeline_root=row.pipeline_root),
        pipeline_version_reference=reference if row.pipeline_version_id else None,
        pipeline_spec=spec.document if spec and not row.pipeline_version_id else None,
        state=row.state.value,
        state_history=row.state_history,
        created_at=_moment(row.created_at),
        scheduled_at=_moment(row.scheduled_at),
        finished_at=_moment(row.finished_at),
        error=_error(row.error_code, row.error_message),
        run_details=details,
    )


def recurring_run(row: RecurringRun, spec: Spec | None) -> dict[str, Any]:
    """v2beta1 RecurringRun. One of a pipeline names it; another shows its spec."""
    reference = _present(pipeline_id=row.pipeline_id, pipeline_version_id=row.pipeline_version_id)
    enabled = row.status is Status.ENABLED
    return _present(
        recurring_run_id=row.id,
        display_name=row.display_name,
        description=row.description,
        pipeline_version_reference=reference,
        pipeline_spec=spec.document if spec and not reference else None,
        runtime_config=_present(parameters=row.parameters, pipeline_root=row.pipeline_root),
        service_account=row.service_account,
        max_concurrency=str(row.max_concurrency),
        trigger=row.trigger,
        mode="ENABLE" if enabled else "DISABLE",
        status=row.status.value,
        created_at=_moment(row.created_at),
        updated_at=_moment(row.updated_at),
        error=_error(row.error_code, row.error_message),
        no_catchup=bool(row.no_catchup),
        namespace=row.namespace,
        experiment_id=row.experiment_id,
    )


def task_detail(row: TaskRow, artifacts: Mapping[str, Artifact], children: Sequence[str]) -> msgspec.Raw:
    """v2beta1 PipelineTaskDetail, encoded; `children` are the ids of the tasks within its scope."""
    return msgspec.Raw(_wire.encode_to_keep(_task(row, artifacts, [{"task_id": ident} for ident in children])))


def details(tasks: Sequence[msgspec.Raw]) -> dict[str, Any]:
    """v2beta1 RunDetails."""
    return _present(task_details=tasks)


def native_task(row: TaskRow, artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
    """A task in the terms of upstream's native model: with its type, its parameters and its whole artifacts."""
    return _present(
        task_id=row.id,
        run_id=row.run_id,
        parent_task_id=row.parent_id,
        name=row.name,
        display_name=row.display_name or row.name,
        scope_path=row.path,
        type=row.type.value,
        type_attributes={"iteration_index": str(row.iteration_index)} if row.iteration_index is not None else None,
        state=row.state.value,
        state_history=row.state_history,
        error=_error(row.error_code, row.error_message),
        pods=_pods(row),
        cache_fingerprint=row.cache_key,
        cached_from_task_id=row.cached_from,
        status_metadata=_present(message=row.detail.get("cache")) or None,
        create_time=_moment(row.created_at),
        start_time=_moment(row.started_at),
        end_time=_moment(row.finished_at),
        inputs=_values(row.inputs, artifacts),
        outputs=_values(row.outputs, artifacts),
    )


def _pods(row: TaskRow) -> list[dict[str, str]]:
    names = [*row.detail.get("failed_pods", []), row.pod_name]
    return [{"name": name} for name in names if name]


def _values(values: Values, artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
    return _present(
        parameters=[{"parameter_key": key, "value": value} for key, value in values.parameters.items()],
        artifacts=[
            {"artifact_key": key, "artifacts": [artifact(artifacts[ident]) for ident in ids if ident in artifacts]}
            for key, ids in values.artifacts.items()
        ],
    )


def artifact(row: Artifact) -> dict[str, Any]:
    """An artifact, in the terms of upstream's native model."""
    return _present(
        artifact_id=row.id,
        number=str(row.number),
        name=row.name,
        type=row.type,
        schema_version=row.schema_version,
        uri=row.uri,
        namespace=row.namespace,
        metadata=row.metadata,
        run_id=row.run_id,
        task_id=row.task_id,
        created_at=_moment(row.created_at),
    )


def _task(row: TaskRow, artifacts: Mapping[str, Artifact], children: list[dict[str, str]]) -> dict[str, Any]:
    return _present(
        run_id=row.run_id,
        task_id=row.id,
        display_name=row.display_name or row.name,
        create_time=_moment(row.created_at),
        start_time=_moment(row.started_at),
        end_time=_moment(row.finished_at),
        executor_detail=_present(main_job=row.pod_name, failed_main_jobs=row.detail.get("failed_pods")),
        state=row.state.value,
        error=_error(row.error_code, row.error_message),
        inputs=_artifact_lists(row.inputs.artifacts, artifacts),
        outputs=_artifact_lists(row.outputs.artifacts, artifacts),
        parent_task_id=row.parent_id,
        state_history=row.state_history,
        pod_name=row.pod_name,
        child_tasks=children,
    )


def _artifact_lists(named: Mapping[str, list[str]], artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
    return {
        name: {"artifact_ids": [str(artifacts[ident].number) for ident in ids if ident in artifacts]}
        for name, ids in named.items()
    }


def _error(code: int, message: str) -> dict[str, Any] | None:
    return {"code": code, "message": message, "details": []} if message else None


def _moment(value: dt.datetime | None) -> str | None:
    return rfc3339(value) if value else None


def _present(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value not in (None, "", {}, [])}
