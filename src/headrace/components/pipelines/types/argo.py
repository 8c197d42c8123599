"""Argo Workflows as kfp 1.8 compiles them, read as types: what is not declared here is refused by its name.

Field names are Argo's (https://github.com/argoproj/argo-workflows, pkg/apis/workflow/v1alpha1) and Kubernetes'. A field
that changes what a run does and cannot be translated is not declared, so that its presence is an error that names the
template and the field; a field that only concerns the workflow object, which does not exist here, is declared and
unused.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from headrace.components.pipelines.types.ir import SpecError

KFP = "pipelines.kubeflow.org/"
_MESSAGE = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<where>.*)`)?")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>.*)`")


class Part(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True, frozen=True):
    """Base of every part."""


class ValueFrom(Part, frozen=True):
    """Where an output parameter comes from."""

    path: str = ""
    json_path: str = ""


class Parameter(Part, frozen=True):
    """A parameter: of a template, of a task's arguments, of the workflow."""

    name: str
    value: Any = None
    default: Any = None
    value_from: ValueFrom | None = None
    description: str = ""


class Raw(Part, frozen=True):
    """Data that stands in the document."""

    data: str = ""


class ArgoArtifact(Part, frozen=True):
    """A file: of a template, or handed to a task."""

    name: str
    path: str = ""
    from_: str = msgspec.field(name="from", default="")
    raw: Raw | None = None
    optional: bool = False
    archive: Any = None


class InputsOutputs(Part, frozen=True):
    """What a template takes or makes, or what a task is given."""

    parameters: list[Parameter] = []
    artifacts: list[ArgoArtifact] = []


class KeyRef(Part, frozen=True):
    """A key of a Secret or a ConfigMap."""

    name: str
    key: str
    optional: bool = False


class FieldRef(Part, frozen=True):
    """A field of the pod."""

    field_path: str
    api_version: str = ""


class EnvFrom(Part, frozen=True):
    """Where an environment variable comes from."""

    secret_key_ref: KeyRef | None = None
    config_map_key_ref: KeyRef | None = None
    field_ref: FieldRef | None = None


class Env(Part, frozen=True):
    """An environment variable."""

    name: str
    value: str = ""
    value_from: EnvFrom | None = None


class Mount(Part, frozen=True):
    """Where a volume appears."""

    name: str
    mount_path: str
    sub_path: str = ""
    read_only: bool = False


class Quantities(Part, frozen=True):
    """Requests and limits."""

    limits: dict[str, str | int | float] = {}
    requests: dict[str, str | int | float] = {}


class Security(Part, frozen=True):
    """As far as kfp-kubernetes has it as well."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None


class ArgoContainer(Part, frozen=True):
    """The program of a template."""

    image: str
    name: str = ""
    command: list[str] = []
    args: list[str | int | float] = []
    env: list[Env] = []
    resources: Quantities = Quantities()
    volume_mounts: list[Mount] = []
    image_pull_policy: str = ""
    security_context: Security | None = None
    ports: Any = None
    termination_message_path: Any = None
    termination_message_policy: Any = None


class Backoff(Part, frozen=True):
    """How retries are spaced."""

    duration: str | int = ""
    factor: float | str | None = None
    max_duration: str | int = ""
    cap: str = ""


class RetryStrategy(Part, frozen=True):
    """How often a template runs again."""

    limit: int | str | None = None
    retry_policy: str = ""
    backoff: Backoff | None = None


class Claim(Part, frozen=True):
    """A PersistentVolumeClaim by name."""

    claim_name: str
    read_only: bool = False


class SecretSource(Part, frozen=True):
    """A Secret as files."""

    secret_name: str
    optional: bool = False
    default_mode: int | None = None


class ConfigMapSource(Part, frozen=True):
    """A ConfigMap as files."""

    name: str
    optional: bool = False
    default_mode: int | None = None


class EmptyDir(Part, frozen=True):
    """A folder that lives as long as the pod."""

    medium: str = ""
    size_limit: str = ""


class ArgoVolume(Part, frozen=True):
    """A volume."""

    name: str
    persistent_volume_claim: Claim | None = None
    secret: SecretSource | None = None
    config_map: ConfigMapSource | None = None
    empty_dir: EmptyDir | None = None


class Resource(Part, frozen=True):
    """A Kubernetes object that a template makes (dsl.ResourceOp, dsl.VolumeOp)."""

    action: str
    manifest: str
    set_owner_reference: bool = False
    success_condition: str = ""
    failure_condition: str = ""


class Metadata(Part, frozen=True):
    """Labels and annotations of a template's pods."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class ArgoTask(Part, frozen=True):
    """A task of a DAG."""

    name: str
    template: str
    arguments: InputsOutputs = InputsOutputs()
    dependencies: list[str] = []
    when: str = ""
    with_items: list[Any] | None = None
    with_param: str = ""


class ArgoDag(Part, frozen=True):
    """Tasks."""

    tasks: list[ArgoTask]
    fail_fast: Any = None


class Template(Part, frozen=True):
    """One template: a program, a DAG or an object to make."""

    name: str
    inputs: InputsOutputs = InputsOutputs()
    outputs: InputsOutputs = InputsOutputs()
    container: ArgoContainer | None = None
    dag: ArgoDag | None = None
    resource: Resource | None = None
    metadata: Metadata = Metadata()
    retry_strategy: RetryStrategy | None = None
    volumes: list[ArgoVolume] = []
    node_selector: dict[str, str] = {}
    tolerations: list[dict[str, Any]] = []
    affinity: dict[str, Any] | None = None
    active_deadline_seconds: int | str | None = None
    parallelism: int = 0


class WorkflowSpec(Part, frozen=True):
    """A workflow, its templates still unread: each is read under its own name."""

    entrypoint: str
    templates: list[dict[str, Any]]
    arguments: InputsOutputs = InputsOutputs()
    on_exit: str = ""
    service_account_name: str = ""
    volumes: list[ArgoVolume] = []
    image_pull_secrets: list[dict[str, str]] = []
    active_deadline_seconds: int | None = None
    node_selector: dict[str, str] = {}
    tolerations: list[dict[str, Any]] = []
    # These concern the workflow object and its pods after their end, which the platform keeps by its own rules.
    ttl_seconds_after_finished: Any = None
    ttl_strategy: Any = None
    pod_gc: Any = msgspec.field(name="podGC", default=None)


def is_workflow(document: dict[str, Any]) -> bool:
    """Whether this is what kfp 1 compiles."""
    return document.get("kind") == "Workflow" and str(document.get("apiVersion", "")).startswith("argoproj.io/")


def read_workflow(document: dict[str, Any]) -> tuple[WorkflowSpec, dict[str, Template]]:
    """The workflow and its templates by name. Raises SpecError with a sentence that names template and field."""
    spec = _read("The workflow", document.get("spec"), WorkflowSpec)
    templates: dict[str, Template] = {}
    for index, raw in enumerate(spec.templates):
        name = raw.get("name") or f"number {index + 1}"
        template = _read(f"Template {name!r} of the workflow", raw, Template)
        if sum(part is not None for part in (template.container, template.dag, template.resource)) != 1:
            raise SpecError(f"Template {name!r} of the workflow must have a container, a dag or a resource.")
        if template.name in templates:
            raise SpecError(f"The workflow has two templates named {name!r}.")
        templates[template.name] = template
    return spec, templates


def _read(what: str, raw: Any, kind: type[msgspec.Struct]) -> Any:
    try:
        return msgspec.convert(raw, kind, strict=True)
    except msgspec.ValidationError as error:
        found = _MESSAGE.fullmatch(str(error))
        message, where = (found["what"], found["where"] or "") if found else (str(error), "")
        unknown = _UNKNOWN.fullmatch(message)
        if unknown:
            place = f"{where}.{unknown['field']}" if where else unknown["field"]
            raise SpecError(f"{what} has the field {place}, which cannot be translated to run here.") from error
        raise SpecError(f"{what} does not parse{f' at {where}' if where else ''}: {message}.") from error
