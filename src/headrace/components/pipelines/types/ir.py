"""The pipeline's intermediate representation (IR), the document that `kfp compile` writes, as typed values.

Shapes follow kubeflow/pipelines api/v2alpha1/pipeline_spec.proto in its JSON form (camelCase). Only what the engine
reads is declared; unknown fields are ignored, as they were written by a newer SDK. `parse_pipeline_spec` is the only
door: a PipelineSpec that exists has passed `validation.check`, so that code behind it need not ask again whether a
component exists or a DAG has a cycle.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

ParameterType = Literal[
    "NUMBER_DOUBLE",
    "NUMBER_INTEGER",
    "STRING",
    "BOOLEAN",
    "LIST",
    "STRUCT",
    "TASK_FINAL_STATUS",
    "TASK_CONFIG",
    "PARAMETER_TYPE_ENUM_UNSPECIFIED",
]

_DEPRECATED_TYPES: dict[str, ParameterType] = {"INT": "NUMBER_INTEGER", "DOUBLE": "NUMBER_DOUBLE", "STRING": "STRING"}

KUBERNETES = "kubernetes"
"""The platform of a platform spec that the engine knows."""


class SpecError(ValueError):
    """The document is not a pipeline that can run; the message says where and why, in one sentence."""


class Node(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel", frozen=True):
    """Base of every part of the IR: immutable, camelCase, unknown fields ignored."""


class ArtifactType(Node, frozen=True):
    """What an artifact is, such as `system.Model`."""

    schema_title: str = ""
    schema_version: str = ""
    instance_schema: str = ""


class InputArtifact(Node, frozen=True):
    """An artifact that a component takes."""

    artifact_type: ArtifactType = ArtifactType()
    is_artifact_list: bool = False
    is_optional: bool = False
    description: str = ""


class InputParameter(Node, frozen=True):
    """A parameter that a component takes. `default_value` UNSET and null are different things."""

    parameter_type: ParameterType = "PARAMETER_TYPE_ENUM_UNSPECIFIED"
    type: str = ""
    default_value: Any = UNSET
    is_optional: bool = False
    description: str = ""
    literals: list[Any] = []

    @property
    def kind(self) -> ParameterType:
        """The type, also of documents that use the deprecated field."""
        if self.parameter_type != "PARAMETER_TYPE_ENUM_UNSPECIFIED":
            return self.parameter_type
        return _DEPRECATED_TYPES.get(self.type, "PARAMETER_TYPE_ENUM_UNSPECIFIED")

    @property
    def has_default(self) -> bool:
        """Whether the component gives a value of its own."""
        return self.default_value is not UNSET

    @property
    def required(self) -> bool:
        """Whether a caller must give a value."""
        return not self.is_optional and not self.has_default


class InputDefinitions(Node, frozen=True):
    """What a component takes."""

    artifacts: dict[str, InputArtifact] = {}
    parameters: dict[str, InputParameter] = {}


class OutputArtifact(Node, frozen=True):
    """An artifact that a component makes; `metadata` is what it begins with."""

    artifact_type: ArtifactType = ArtifactType()
    metadata: dict[str, Any] = {}
    is_artifact_list: bool = False
    description: str = ""


class OutputParameter(Node, frozen=True):
    """A parameter that a component makes."""

    parameter_type: ParameterType = "PARAMETER_TYPE_ENUM_UNSPECIFIED"
    type: str = ""
    description: str = ""

    @property
    def kind(self) -> ParameterType:
        """The type, also of documents that use the deprecated field."""
        if self.parameter_type != "PARAMETER_TYPE_ENUM_UNSPECIFIED":
            return self.parameter_type
        return _DEPRECATED_TYPES.get(self.type, "PARAMETER_TYPE_ENUM_UNSPECIFIED")


class OutputDefinitions(Node, frozen=True):
    """What a component makes."""

    artifacts: dict[str, OutputArtifact] = {}
    parameters: dict[str, OutputParameter] = {}


class TaskOutputParameter(Node, frozen=True):
    """An output parameter of another task of the same DAG."""

    producer_task: str
    output_parameter_key: str


class TaskOutputArtifact(Node, frozen=True):
    """An output artifact of another task of the same DAG."""

    producer_task: str
    output_artifact_key: str


class TaskFinalStatus(Node, frozen=True):
    """How another task of the same DAG ended."""

    producer_task: str


class RuntimeValue(Node, frozen=True):
    """A constant, or the name of a runtime parameter (deprecated: a constant inside `constantValue`)."""

    constant: Any = UNSET
    runtime_parameter: str = ""
    constant_value: dict[str, Any] | UnsetType = UNSET

    @property
    def value(self) -> Any:
        """The constant; UNSET when there is none."""
        old = self.constant_value
        if self.constant is not UNSET or not isinstance(old, dict):
            return self.constant
        if "intValue" in old:
            return int(old["intValue"])
        return old.get("doubleValue", old.get("stringValue", UNSET))


class ParameterSource(Node, frozen=True):
    """Where a task's input parameter comes from; exactly one is set."""

    task_output_parameter: TaskOutputParameter | None = None
    runtime_value: RuntimeValue | None = None
    component_input_parameter: str | None = None
    task_final_status: TaskFinalStatus | None = None
    parameter_expression_selector: str = ""


class ArtifactSource(Node, frozen=True):
    """Where a task's input artifact comes from; exactly one is set."""

    task_output_artifact: TaskOutputArtifact | None = None
    component_input_artifact: str | None = None


class TaskInputs(Node, frozen=True):
    """The arguments of a task."""

    parameters: dict[str, ParameterSource] = {}
    artifacts: dict[str, ArtifactSource] = {}


class TaskInfo(Node, frozen=True):
    """What the task is called on screen."""

    name: str = ""


class CachingOptions(Node, frozen=True):
    """Whether outputs of an earlier equal task may be reused."""

    enable_cache: bool = False
    cache_key: str = ""


class ComponentRef(Node, frozen=True):
    """The component that a task runs."""

    name: str = ""


class TriggerPolicy(Node, frozen=True):
    """When a task runs: `condition` is CEL over its inputs. The last strategy is that of Argo's `dependencies`, for
    pipelines of kfp 1; upstream's IR has none like it.
    """

    condition: str = ""
    strategy: Literal[
        "TRIGGER_STRATEGY_UNSPECIFIED",
        "ALL_UPSTREAM_TASKS_SUCCEEDED",
        "ALL_UPSTREAM_TASKS_COMPLETED",
        "ALL_UPSTREAM_TASKS_SUCCEEDED_OR_NOT_TAKEN",
    ] = "TRIGGER_STRATEGY_UNSPECIFIED"

    @property
    def after_completion(self) -> bool:
        """Whether the task runs however its upstream tasks ended."""
        return self.strategy == "ALL_UPSTREAM_TASKS_COMPLETED"

    @property
    def past_branches(self) -> bool:
        """Whether an upstream task that its own condition kept from running does not keep this one."""
        return self.strategy == "ALL_UPSTREAM_TASKS_SUCCEEDED_OR_NOT_TAKEN"


class ParameterItems(Node, frozen=True):
    """What a loop runs over: JSON text, or an input parameter of the task."""

    raw: str | UnsetType = UNSET
    input_parameter: str = ""


class ParameterIterator(Node, frozen=True):
    """A loop; each iteration gets its item as the input `item_input`."""

    items: ParameterItems
    item_input: str


class RetryPolicy(Node, frozen=True):
    """How often and when a failed task runs again; durations as `"60s"`."""

    max_retry_count: int = 0
    backoff_duration: str = ""
    backoff_factor: float = 0.0
    backoff_max_duration: str = ""


class IteratorPolicy(Node, frozen=True):
    """How many iterations run at a time; 0 means all."""

    parallelism_limit: int = 0


class TaskSpec(Node, frozen=True):
    """One task of a DAG."""

    task_info: TaskInfo = TaskInfo()
    inputs: TaskInputs = TaskInputs()
    dependent_tasks: list[str] = []
    caching_options: CachingOptions = CachingOptions()
    component_ref: ComponentRef = ComponentRef()
    trigger_policy: TriggerPolicy = TriggerPolicy()
    artifact_iterator: dict[str, Any] | None = None
    parameter_iterator: ParameterIterator | None = None
    retry_policy: RetryPolicy | None = None
    iterator_policy: IteratorPolicy = IteratorPolicy()

    def upstream(self) -> set[str]:
        """Names of the tasks of the same DAG that must have ended before this one can begin."""
        names = set(self.dependent_tasks)
        for parameter in self.inputs.parameters.values():
            if parameter.task_output_parameter is not None:
                names.add(parameter.task_output_parameter.producer_task)
            if parameter.task_final_status is not None:
                names.add(parameter.task_final_status.producer_task)
        for artifact in self.inputs.artifacts.values():
            if artifact.task_output_artifact is not None:
                names.add(artifact.task_output_artifact.producer_task)
        return names


class ArtifactSelector(Node, frozen=True):
    """An output artifact of a task inside the DAG."""

    producer_subtask: str
    output_artifact_key: str


class DagOutputArtifact(Node, frozen=True):
    """Where a DAG's output artifact comes from; several selectors mean the first that ran (OneOf)."""

    artifact_selectors: list[ArtifactSelector] = []


class ParameterSelector(Node, frozen=True):
    """An output parameter of a task inside the DAG."""

    producer_subtask: str
    output_parameter_key: str


class ParameterSelectors(Node, frozen=True):
    """Alternatives: the first whose task ran."""

    parameter_selectors: list[ParameterSelector] = []


class DagOutputParameter(Node, frozen=True):
    """Where a DAG's output parameter comes from; exactly one is set."""

    value_from_parameter: ParameterSelector | None = None
    value_from_oneof: ParameterSelectors | None = None

    @property
    def selectors(self) -> list[ParameterSelector]:
        """The alternatives, in order."""
        if self.value_from_parameter is not None:
            return [self.value_from_parameter]
        return self.value_from_oneof.parameter_selectors if self.value_from_oneof is not None else []


class DagOutputs(Node, frozen=True):
    """What a DAG hands to its caller."""

    artifacts: dict[str, DagOutputArtifact] = {}
    parameters: dict[str, DagOutputParameter] = {}


class DagSpec(Node, frozen=True):
    """Tasks and what they hand out."""

    tasks: dict[str, TaskSpec] = {}
    outputs: DagOutputs = DagOutputs()


class TaskConfigPassthrough(Node, frozen=True):
    """A part of the task's Kubernetes configuration that the component takes as a value."""

    field: str = "NONE"
    apply_to_task: bool = False


class ComponentSpec(Node, frozen=True):
    """A component: a DAG, or an executor of the deployment spec."""

    input_definitions: InputDefinitions = InputDefinitions()
    output_definitions: OutputDefinitions = OutputDefinitions()
    dag: DagSpec | None = None
    executor_label: str = ""
    task_config_passthroughs: list[TaskConfigPassthrough] = []


class Accelerator(Node, frozen=True):
    """An accelerator and how many; the new fields may hold placeholders."""

    type: str = ""
    count: int | str = 0
    resource_type: str = ""
    resource_count: str = ""


class Resources(Node, frozen=True):
    """Resources of a container; the `resource_*` fields are Kubernetes quantities and may hold placeholders."""

    cpu_limit: float | str = 0.0
    memory_limit: float | str = 0.0
    cpu_request: float | str = 0.0
    memory_request: float | str = 0.0
    resource_cpu_limit: str = ""
    resource_memory_limit: str = ""
    resource_cpu_request: str = ""
    resource_memory_request: str = ""
    accelerator: Accelerator | None = None


class EnvVar(Node, frozen=True):
    """An environment variable of a container."""

    name: str
    value: str = ""


class ContainerSpec(Node, frozen=True):
    """A program of an image. Command and args may hold placeholders."""

    image: str = ""
    command: list[str] = []
    args: list[str] = []
    resources: Resources | None = None
    env: list[EnvVar] = []


class ImporterSpec(Node, frozen=True):
    """An artifact that exists already."""

    artifact_uri: RuntimeValue = RuntimeValue()
    type_schema: ArtifactType = ArtifactType()
    reimport: bool = False
    metadata: dict[str, Any] = {}
    download_to_workspace: bool = False


class ExecutorSpec(Node, frozen=True):
    """How a component runs; exactly one is set."""

    container: ContainerSpec | None = None
    importer: ImporterSpec | None = None


class DeploymentSpec(Node, frozen=True):
    """Executors by label."""

    executors: dict[str, ExecutorSpec] = {}


class PlatformDeployment(Node, frozen=True):
    """Platform configuration of executors, by label: kfp-kubernetes' KubernetesExecutorConfig in JSON."""

    executors: dict[str, dict[str, Any]] = {}


class Platform(Node, frozen=True):
    """Configuration for one platform."""

    deployment_spec: PlatformDeployment = PlatformDeployment()
    pipeline_config: dict[str, Any] = {}


class PlatformSpec(Node, frozen=True):
    """Configuration by platform."""

    platforms: dict[str, Platform] = {}


class PipelineInfo(Node, frozen=True):
    """Names."""

    name: str = ""
    display_name: str = ""
    description: str = ""


class PipelineSpec(Node, frozen=True):
    """A whole pipeline."""

    pipeline_info: PipelineInfo = PipelineInfo()
    components: dict[str, ComponentSpec] = {}
    deployment_spec: DeploymentSpec = DeploymentSpec()
    root: ComponentSpec = ComponentSpec()
    schema_version: str = ""
    sdk_version: str = ""
    default_pipeline_root: str = ""
    platform_spec: PlatformSpec = PlatformSpec()

    @property
    def name(self) -> str:
        """The pipeline's own name."""
        return self.pipeline_info.name

    def component_of(self, task: TaskSpec) -> ComponentSpec:
        """The component that a task runs."""
        return self.components[task.component_ref.name]

    def executor_of(self, component: ComponentSpec) -> ExecutorSpec:
        """How a component that is not a DAG runs."""
        return self.deployment_spec.executors[component.executor_label]

    def kubernetes_of(self, component: ComponentSpec) -> dict[str, Any]:
        """The Kubernetes configuration of a component's executor; empty when there is none."""
        platform = self.platform_spec.platforms.get(KUBERNETES)
        return platform.deployment_spec.executors.get(component.executor_label, {}) if platform else {}

    @property
    def pipeline_config(self) -> dict[str, Any]:
        """What the whole pipeline asks of the platform (dsl.PipelineConfig)."""
        platform = self.platform_spec.platforms.get(KUBERNETES)
        return platform.pipeline_config if platform else {}


def parse_pipeline_spec(doc: object) -> PipelineSpec:
    """A checked pipeline from its document, bare or as `{pipeline_spec, platform_spec}`. Raises SpecError."""
    from headrace.components.pipelines.types import validation  # noqa: PLC0415 - it needs the types of this module

    spec = decode_pipeline_spec(doc)
    validation.check(spec)
    return spec


def decode_pipeline_spec(doc: object) -> PipelineSpec:
    """The document as types, unchecked. Raises SpecError when a field has the wrong type."""
    if not isinstance(doc, dict):
        raise SpecError("The pipeline spec must be a mapping with the keys pipelineInfo, components and root.")
    platform: Any = {}
    inner = doc.get("pipeline_spec", doc.get("pipelineSpec"))
    if isinstance(inner, dict):
        platform = doc.get("platform_spec", doc.get("platformSpec")) or {}
        doc = inner
    if "apiVersion" in doc and "kind" in doc and "root" not in doc:
        from headrace.components.pipelines.types import argo, argo_translate  # noqa: PLC0415 - for documents of kfp 1

        if argo.is_workflow(doc):
            return decode_pipeline_spec(argo_translate.translate(doc))
        raise SpecError(
            f"This is a {doc['kind']} of {doc['apiVersion']}, not a pipeline spec of KFP v2; "
            "compile the pipeline with kfp."
        )
    try:
        return msgspec.convert({**doc, "platformSpec": platform}, PipelineSpec, strict=True)
    except msgspec.ValidationError as error:
        raise SpecError(f"The pipeline spec does not parse: {_sentence(str(error))}") from error


def _sentence(message: str) -> str:
    found = re.fullmatch(r"(.*) - at `\$\.?(.*)`", message)
    return f"at {found[2]}: {found[1]}." if found and found[2] else f"{message}."
