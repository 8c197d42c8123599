"""From a run's record to what the decisions are made from."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from headrace.api import _wire
from headrace.components.pipelines.policy.plan import RunView, resource_name
from headrace.components.pipelines.policy.resolve import RunConstants
from headrace.components.pipelines.policy.workspace import MOUNT
from headrace.components.pipelines.types.ir import parse_pipeline_spec

if TYPE_CHECKING:
    import datetime as dt

    from headrace.components.pipelines.store.models import Run, RunRow
    from headrace.components.pipelines.types.ir import PipelineSpec

DEFAULT_ROOT = "minio://mlpipeline/v2/artifacts"


def build_view(record: RunRow) -> RunView:
    """The run as the decisions see it. Raises SpecError when its spec cannot run."""
    run = record.run
    spec = _parsed(
        _wire.encode({"pipeline_spec": record.spec.pipeline_spec, "platform_spec": record.spec.platform_spec})
    )
    return RunView(
        spec=spec,
        run=run,
        tasks={task.path: task for task in record.tasks},
        artifacts=dict(record.artifacts),
        constants=constants(run, spec),
    )


def constants(run: Run, spec: PipelineSpec) -> RunConstants:
    """What runtime constants stand for in this run. Artifacts lie below the namespace, whose keys reach only that."""
    return RunConstants(
        display_name=run.display_name,
        resource_name=resource_name(spec.name, run.id),
        run_id=run.id,
        created=_rfc3339(run.created_at),
        scheduled=_rfc3339(run.scheduled_at or run.created_at),
        workspace=MOUNT if spec.pipeline_config.get("workspace") is not None else "",
        pipeline_root=run.pipeline_root or spec.default_pipeline_root or f"{DEFAULT_ROOT}/{run.namespace}",
    )


@lru_cache(maxsize=16)
def _parsed(raw: bytes) -> PipelineSpec:
    return parse_pipeline_spec(_wire.decode_any(raw))


def _rfc3339(moment: dt.datetime | None) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""
