"""A task as a Pod: the step's image, the launcher as its command, and the task document that the launcher reads.

Pure: everything that a pod depends on is in the run's spec and in the task's own row.
Sources: backend/src/v2/driver/driver.go (initPodSpecPatch, provisionOutputs), compiler/argocompiler/container.go.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.api import _wire, quantity
from headrace.api.core import (
    ConfigMap,
    ConfigMapVolumeSource,
    Container,
    EmptyDirVolumeSource,
    EnvVar,
    EnvVarSource,
    KeySelector,
    ObjectFieldSelector,
    PersistentVolumeClaimVolumeSource,
    Pod,
    PodSpec,
    ProjectedVolumeSource,
    ResourceRequirements,
    ServiceAccountTokenProjection,
    Volume,
    VolumeMount,
    VolumeProjection,
)
from headrace.api.meta import ObjectMeta
from headrace.components.pipelines.policy import lightweight, workspace
from headrace.components.pipelines.policy.podstatus import MAIN
from headrace.components.pipelines.policy.resolve import substitute
from headrace.components.pipelines.policy.values import ResolveError, canonical, to_text
from headrace.components.pipelines.render import task_config
from headrace.components.pipelines.render.platform import apply_config
from headrace.components.pipelines.render.task_config import Passthrough

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.components.pipelines.policy.plan import RunView
    from headrace.components.pipelines.store.models import Artifact, TaskRow
    from headrace.components.pipelines.types.ir import ArtifactType, ComponentSpec, ContainerSpec, Resources

API_SERVICE, API_NAMESPACE = "ml-pipeline", "kubeflow"
API_URL = f"http://{API_SERVICE}.{API_NAMESPACE}:8888"
S3_URL = "http://minio-service.kubeflow:9000"
CREDENTIALS = "mlpipeline-minio-artifact"
LAUNCHER = "/opt/headrace/kfp_launcher"
REQUIREMENTS = "headrace.dev/requirements"
TOKEN_FOLDER, TOKEN_FILE = "/var/run/secrets/kubeflow/pipelines", "token"
TOKEN_AUDIENCE = "pipelines.kubeflow.org"  # noqa: S105 - an audience
TOKEN_SECONDS = 7200
DEFAULT_SERVICE_ACCOUNT = "default-editor"
RUN_LABEL = "pipeline/runid"
TASK_LABEL = "pipelines.kubeflow.org/task-id"
ATTEMPT_LABEL = "pipelines.kubeflow.org/attempt"
COMPONENT_LABEL = "pipelines.kubeflow.org/v2_component"
PATH_ANNOTATION = "pipelines.kubeflow.org/task-path"
NAME_ANNOTATION = "pipelines.kubeflow.org/task-name"
RUN_ANNOTATION = "pipelines.kubeflow.org/run-name"
LARGEST_VARIABLE = 96 * 1024
"""Bytes; Linux takes 128 KiB in one variable."""
DOCUMENT_KEY, DOCUMENT_FOLDER = "task.json", "/etc/headrace-task"
LEAST = {"cpu": "50m", "memory": "64Mi"}
"""What a step requests that names neither request nor limit: a loop over a thousand items waits for its turn."""
_MOUNTS = {"minio": "/minio", "s3": "/s3", "gs": "/gcs"}
_STORES = ("minio", "s3")
_UNREACHABLE = {"gs": "in Google Cloud Storage", "oci": "a container image (a modelcar)"}
"""Where artifacts may be that a cluster could bring into a step."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A step's pod, and the document when it is too large for a variable: then the pod waits for this object, which it
    owns.
    """

    pod: Pod
    document: ConfigMap | None = None


def step_pod(
    view: RunView, row: TaskRow, component: ComponentSpec, container: ContainerSpec, api_address: str = ""
) -> Rendered:
    """The pod of the row's current attempt. `api_address` spares it to ask for that of the API's service. Raises
    ResolveError when image or resources cannot be filled in.
    """
    known = lightweight.recognise(container.command, container.args)
    given = _defaults(component) | row.inputs.parameters
    executor_input = _executor_input(view, row, component)
    config: Mapping[str, Any] = row.detail.get("kubernetes", {})
    passthrough = Passthrough(component)
    own_env = [EnvVar(name=e.name, value=e.value) for e in container.env]
    asked = ResourceRequirements()
    if container.resources is not None:
        _put_resources(asked, container.resources, given)
    shared = _workspace(row.run_id) if workspace.is_used(view, row) else None
    for name in passthrough.inputs:
        value = passthrough.value(config, own_env, asked, shared)
        executor_input["inputs"]["parameterValues"] = {**executor_input["inputs"]["parameterValues"], name: value}
    document = _escape(
        _wire.encode(_document(row, component, container, executor_input, known, api_address=api_address)).decode()
    )
    uses_store = bool(row.inputs.artifacts or component.output_definitions.artifacts)
    volumes, mounts = _volumes(executor_input)
    variables = own_env if passthrough.on_pod(task_config.ENV) else []
    large = len(document.encode()) > LARGEST_VARIABLE
    if large:
        volumes.append(Volume(name="task", config_map=ConfigMapVolumeSource(name=row.pod_name)))
        mounts.append(VolumeMount(name="task", mount_path=DOCUMENT_FOLDER, read_only=True))
    else:
        variables.append(EnvVar(name="HEADRACE_TASK", value=document))
    if known is not None:
        variables.append(EnvVar(name="_KFP_RUNTIME", value="true"))  # an interpreter that has kfp imported may be used
    variables += _own_variables(uses_store=uses_store)
    main = Container(
        name=MAIN,
        image=to_text(substitute(container.image, given)),
        command=["python3", LAUNCHER],
        args=[f"{DOCUMENT_FOLDER}/{DOCUMENT_KEY}"] if large else [],
        env=variables,
        resources=_at_least(asked if passthrough.on_pod(task_config.RESOURCES) else ResourceRequirements()),
        volume_mounts=mounts,
    )
    pod = Pod(
        metadata=_metadata(view, row, known),
        spec=PodSpec(
            containers=[main],
            volumes=volumes,
            restart_policy="Never",
            service_account_name=view.run.service_account or DEFAULT_SERVICE_ACCOUNT,
        ),
    )
    apply_config(pod, passthrough.pod_config(config))
    if shared is not None and passthrough.on_pod(task_config.VOLUMES):
        _share(pod, *shared)
    if not large:
        return Rendered(pod)
    return Rendered(
        pod,
        ConfigMap(
            metadata=ObjectMeta(
                name=row.pod_name, namespace=view.run.namespace, labels={RUN_LABEL: view.run.id, TASK_LABEL: row.id}
            ),
            data={DOCUMENT_KEY: document},
        ),
    )


def _workspace(run_id: str) -> tuple[Volume, VolumeMount]:
    claim = PersistentVolumeClaimVolumeSource(claim_name=workspace.claim_name(run_id))
    return (
        Volume(name=workspace.VOLUME, persistent_volume_claim=claim),
        VolumeMount(name=workspace.VOLUME, mount_path=workspace.MOUNT),
    )


def _share(pod: Pod, volume: Volume, mount: VolumeMount) -> None:
    main = pod.spec.containers[0]
    conflict = workspace.mounts_conflict({m.mount_path for m in main.volume_mounts}, {v.name for v in pod.spec.volumes})
    if conflict:
        raise ResolveError(conflict)
    pod.spec.volumes.append(volume)
    main.volume_mounts.append(mount)


def requested(row: TaskRow, component: ComponentSpec, container: ContainerSpec) -> tuple[float, float]:
    """The CPUs and the bytes of memory that a step's pod will request. Raises ResolveError."""
    asked = ResourceRequirements()
    if container.resources is not None and Passthrough(component).on_pod(task_config.RESOURCES):
        _put_resources(asked, container.resources, _defaults(component) | row.inputs.parameters)
    amounts = _at_least(asked)
    given = {**amounts.limits, **amounts.requests}
    try:
        cpu, memory = (float(quantity.parse(given.get(name, "0"))) for name in ("cpu", "memory"))
    except ValueError as error:
        raise ResolveError(f"The task's resources cannot be read: {error}.") from error
    return cpu, memory


def output_root(view: RunView, row: TaskRow) -> str:
    """The URI below which a task's artifacts lie."""
    root, _, _query = view.constants.pipeline_root.partition("?")
    return f"{root.rstrip('/')}/{view.spec.name}/{view.run.id}/{row.name}/{row.id}"


def _metadata(view: RunView, row: TaskRow, known: lightweight.Lightweight | None) -> ObjectMeta:
    annotations = {
        PATH_ANNOTATION: row.path,
        NAME_ANNOTATION: row.display_name or row.name,
        RUN_ANNOTATION: view.run.display_name,
    }
    if known is not None and known.requirements:
        annotations[REQUIREMENTS] = _wire.encode(known.requirements).decode()
    return ObjectMeta(
        name=row.pod_name,
        namespace=view.run.namespace,
        labels={RUN_LABEL: view.run.id, TASK_LABEL: row.id, ATTEMPT_LABEL: str(row.attempt), COMPONENT_LABEL: "true"},
        annotations=annotations,
    )


def _document(
    row: TaskRow,
    component: ComponentSpec,
    container: ContainerSpec,
    executor_input: dict[str, Any],
    known: lightweight.Lightweight | None,
    *,
    api_address: str,
) -> dict[str, Any]:
    return {
        **({"api_address": api_address} if api_address else {}),
        "run_id": row.run_id,
        "task_id": row.id,
        "attempt": row.attempt,
        "api": API_URL,
        "token_file": f"{TOKEN_FOLDER}/{TOKEN_FILE}",
        "command": container.command,
        "args": container.args,
        "module": known.module if known else "",
        "executor_input": executor_input,
        "defaults": _defaults(component),
        "output_types": {name: spec.kind for name, spec in component.output_definitions.parameters.items()},
    }


def _executor_input(view: RunView, row: TaskRow, component: ComponentSpec) -> dict[str, Any]:
    root = output_root(view, row)
    outputs = component.output_definitions
    return {
        "inputs": {
            "parameterValues": row.inputs.parameters,
            "artifacts": {
                name: {"artifacts": [_artifact(view, view.artifacts[i]) for i in ids]}
                for name, ids in row.inputs.artifacts.items()
            },
        },
        "outputs": {
            "parameters": {name: {"outputFile": f"/tmp/kfp/outputs/{name}"} for name in outputs.parameters},  # noqa: S108
            "artifacts": {
                name: {
                    "artifacts": [
                        {
                            "name": name,
                            "uri": f"{root}/{name}",
                            "type": _type(spec.artifact_type),
                            "metadata": canonical(spec.metadata),
                        }
                    ]
                }
                for name, spec in outputs.artifacts.items()
            },
            "outputFile": posixpath.join(_local(root), "output_metadata.json"),
        },
    }


def _artifact(view: RunView, artifact: Artifact) -> dict[str, Any]:
    scheme = artifact.uri.partition("://")[0]
    if scheme in _UNREACHABLE:
        raise ResolveError(
            f"The input artifact {artifact.uri} is {_UNREACHABLE[scheme]}, which steps cannot read here; "
            "put it into the object store and import it by its minio:// or s3:// URI."
        )
    metadata = canonical(artifact.metadata)
    if workspace.lies_there(view, artifact.id):
        metadata = {**metadata, workspace.FLAG: True}
    return {
        "name": artifact.id,
        "type": {"schemaTitle": artifact.type, "schemaVersion": artifact.schema_version or "0.0.1"},
        "uri": artifact.uri,
        "metadata": metadata,
    }


def _type(kind: ArtifactType) -> dict[str, str]:
    if kind.instance_schema:
        return {"instanceSchema": kind.instance_schema}
    return {"schemaTitle": kind.schema_title, "schemaVersion": kind.schema_version}


def _defaults(component: ComponentSpec) -> dict[str, Any]:
    return {
        name: canonical(parameter.default_value)
        for name, parameter in component.input_definitions.parameters.items()
        if parameter.has_default
    }


def _local(uri: str) -> str:
    scheme, _, rest = uri.partition("://")
    if scheme not in _STORES:
        raise ResolveError(f"The pipeline root {uri!r} is in no store that steps can reach; use minio:// or s3://.")
    return f"{_MOUNTS[scheme]}/{rest}"


def _volumes(executor_input: Mapping[str, Any]) -> tuple[list[Volume], list[VolumeMount]]:
    """A scratch volume for each scheme whose artifacts the step touches, and the token for the pipelines API."""
    uris = [executor_input["outputs"]["outputFile"].split("/")[1]]
    for side in ("inputs", "outputs"):
        for group in executor_input[side]["artifacts"].values():
            uris += [_MOUNTS.get(a["uri"].partition("://")[0], "").lstrip("/") for a in group["artifacts"]]
    volumes, mounts = [], []
    for name in sorted({uri for uri in uris if uri}):
        volumes.append(Volume(name=f"{name}-scratch", empty_dir=EmptyDirVolumeSource()))
        mounts.append(VolumeMount(name=f"{name}-scratch", mount_path=f"/{name}"))
    token = ServiceAccountTokenProjection(path=TOKEN_FILE, audience=TOKEN_AUDIENCE, expiration_seconds=TOKEN_SECONDS)
    volumes.append(
        Volume(
            name="kfp-token",
            projected=ProjectedVolumeSource(sources=[VolumeProjection(service_account_token=token)]),
        )
    )
    mounts.append(VolumeMount(name="kfp-token", mount_path=TOKEN_FOLDER, read_only=True))
    return volumes, mounts


def _own_variables(*, uses_store: bool) -> list[EnvVar]:
    """What upstream's pods have, and the object store's key under names that the launcher keeps from the program."""
    found = [
        EnvVar(name=name, value_from=EnvVarSource(field_ref=ObjectFieldSelector(field_path=path)))
        for name, path in (
            ("KFP_POD_NAME", "metadata.name"),
            ("KFP_POD_UID", "metadata.uid"),
            ("NAMESPACE", "metadata.namespace"),
        )
    ]
    if uses_store:
        found.append(EnvVar(name="HEADRACE_S3_ENDPOINT", value=S3_URL))
        found += [
            EnvVar(name=name, value_from=EnvVarSource(secret_key_ref=KeySelector(name=CREDENTIALS, key=key)))
            for name, key in (("HEADRACE_S3_ACCESS_KEY", "accesskey"), ("HEADRACE_S3_SECRET_KEY", "secretkey"))
        ]
    return found


def _at_least(asked: ResourceRequirements) -> ResourceRequirements:
    result = ResourceRequirements(requests=dict(asked.requests), limits=dict(asked.limits))
    for name, amount in LEAST.items():
        if name not in result.limits:
            result.requests.setdefault(name, amount)
    return result


def _put_resources(result: ResourceRequirements, spec: Resources, given: Mapping[str, Any]) -> None:
    def put(into: dict[str, Any], name: str, new: str, old: float | str, unit: str) -> None:
        if new:
            text = to_text(substitute(new, given))
            if text:
                into[name] = text
        elif old and float(old):
            into[name] = f"{to_text(canonical(float(old)))}{unit}"

    put(result.limits, "cpu", spec.resource_cpu_limit, spec.cpu_limit, "")
    put(result.limits, "memory", spec.resource_memory_limit, spec.memory_limit, "G")
    put(result.requests, "cpu", spec.resource_cpu_request, spec.cpu_request, "")
    put(result.requests, "memory", spec.resource_memory_request, spec.memory_request, "G")
    accelerator = spec.accelerator
    if accelerator is not None:
        kind = to_text(substitute(accelerator.resource_type or accelerator.type, given))
        count = to_text(substitute(accelerator.resource_count or to_text(accelerator.count), given))
        if kind and count not in {"", "0"}:
            result.limits[kind] = count


def _escape(document: str) -> str:
    """JSON without a dollar sign: Kubernetes would take `$$` and `$(NAME)` in a variable's value for references."""
    return document.replace("$", "\\u0024")
