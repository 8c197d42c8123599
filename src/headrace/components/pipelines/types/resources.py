"""`Pipeline` and `PipelineVersion` of pipelines.kubeflow.org/v2beta1: pipelines as Kubernetes objects.

After upstream's backend/src/crd/kubernetes/v2beta1. They are a second door to the same store: the record of a pipeline
has the object's uid as its id.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from headrace.api.apiextensions import PrinterColumn
from headrace.api.meta import Condition, KindInfo, Object, Struct

GROUP = "pipelines.kubeflow.org"
VERSION = "v2beta1"
READY = "Ready"


class PipelineSettings(Struct):
    """What is said of a pipeline; its name is the object's."""

    display_name: str = ""
    description: str = ""
    tags: dict[str, str] = {}


class RecordStatus(Struct):
    """Whether the store has it."""

    conditions: list[Condition] = []
    recorded: str = ""
    """The id of the record, once there is one."""


class PipelineObject(Object, kw_only=True):
    """A pipeline."""

    INFO: ClassVar[KindInfo] = KindInfo(GROUP, VERSION, "Pipeline", "pipelines")
    COLUMNS: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn(name="Display Name", type="string", json_path=".spec.displayName"),
        PrinterColumn(name="Ready", type="string", json_path=".status.conditions[?(@.type=='Ready')].status"),
        PrinterColumn(name="Age", type="date", json_path=".metadata.creationTimestamp"),
    )

    spec: PipelineSettings = msgspec.field(default_factory=PipelineSettings)
    status: RecordStatus = msgspec.field(default_factory=RecordStatus)


class PipelineVersionSettings(Struct):
    """A compiled pipeline; all but the display name and the tags stays as it was created."""

    pipeline_name: str = ""
    version_name: str = ""
    display_name: str = ""
    description: str = ""
    code_source_url: str = msgspec.field(name="codeSourceURL", default="")
    pipeline_spec: dict[str, Any] | None = None
    platform_spec: dict[str, Any] | None = None
    pipeline_spec_uri: str = msgspec.field(name="pipelineSpecURI", default="")
    tags: dict[str, str] = {}


class PipelineVersionObject(Object, kw_only=True):
    """A version of a pipeline."""

    INFO: ClassVar[KindInfo] = KindInfo(GROUP, VERSION, "PipelineVersion", "pipelineversions")
    COLUMNS: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn(name="Pipeline", type="string", json_path=".spec.pipelineName"),
        PrinterColumn(name="Ready", type="string", json_path=".status.conditions[?(@.type=='Ready')].status"),
        PrinterColumn(name="Age", type="date", json_path=".metadata.creationTimestamp"),
    )

    spec: PipelineVersionSettings = msgspec.field(default_factory=PipelineVersionSettings)
    status: RecordStatus = msgspec.field(default_factory=RecordStatus)
