"""The Deployment and the Service of an InferenceService; pure.

Names, labels and the storage initializer are upstream's, so that tools that look for them find them.
"""

from __future__ import annotations

import copy
import hashlib
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.apps import Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdate
from headrace.api.core import (
    Container,
    ContainerPort,
    EmptyDirVolumeSource,
    EnvVar,
    PersistentVolumeClaimVolumeSource,
    PodSpec,
    PodTemplateSpec,
    Probe,
    Service,
    ServicePort,
    ServiceSpec,
    TCPSocketAction,
    Volume,
    VolumeMount,
)
from headrace.api.meta import LabelSelector, ObjectMeta
from headrace.components.serving.policy.pods import INITIALIZER
from headrace.components.serving.policy.spec import MODEL_CONTAINER
from headrace.machinery.diff import merge_patch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.components.serving.policy.spec import Plan
    from headrace.components.serving.types import InferenceService, ModelServer

VERSION = "v0.21.0"
SERVER_IMAGE = "kserve/sklearnserver"
INITIALIZER_IMAGE = f"kserve/storage-initializer:{VERSION}"
MODEL_DIR = "/mnt/models"
PORT = 8080
SERVICE_LABEL = "serving.kserve.io/inferenceservice"
SOURCE_ANNOTATION = "internal.serving.kserve.io/storage-initializer-sourceuri"
HASH_ANNOTATION = "headrace.dev/template-hash"
"""Tells a template that lost a field from one that never had it: merging alone would keep the field."""

_NOT_COPIED = ("kubectl.kubernetes.io/", "serving.kserve.io/", "autoscaling.knative.dev/", "internal.")


def predictor_name(isvc: InferenceService) -> str:
    """What the predictor's Deployment and Service are called."""
    return f"{isvc.metadata.name}-predictor"


def labels(isvc: InferenceService) -> dict[str, str]:
    """Labels of everything that belongs to the predictor."""
    return {
        **isvc.metadata.labels,
        **isvc.spec.predictor.labels,
        "app": f"isvc.{predictor_name(isvc)}",
        "component": "predictor",
        SERVICE_LABEL: isvc.metadata.name,
    }


def deployment(isvc: InferenceService, plan: Plan, credentials: Sequence[EnvVar]) -> Deployment:
    """The predictor's Deployment."""
    predictor = isvc.spec.predictor
    annotations = {k: v for k, v in isvc.metadata.annotations.items() if not k.startswith(_NOT_COPIED)}
    annotations.update(predictor.annotations)
    if plan.storage_uri:
        annotations[SOURCE_ANNOTATION] = plan.storage_uri
    template = PodTemplateSpec(
        metadata=ObjectMeta(labels=labels(isvc), annotations=annotations), spec=_pod(isvc, plan, credentials)
    )
    spec = DeploymentSpec(
        replicas=plan.replicas,
        selector=LabelSelector(match_labels={"app": f"isvc.{predictor_name(isvc)}"}),
        template=template,
        # Never fewer pods than asked for: a new one must be ready before an old one goes.
        strategy=predictor.deployment_strategy
        or DeploymentStrategy(rolling_update=RollingUpdate(max_surge="25%", max_unavailable=0)),
    )
    digest = hashlib.sha256(_wire.encode(template)).hexdigest()[:16]
    return Deployment(
        metadata=ObjectMeta(
            name=predictor_name(isvc),
            namespace=isvc.metadata.namespace,
            labels=labels(isvc),
            annotations={HASH_ANNOTATION: digest},
            owner_references=[isvc.owner_reference()],
        ),
        spec=spec,
    )


def deployment_changes(existing: Deployment, desired: Deployment) -> dict[str, Any]:
    """The merge patch that makes an existing Deployment what is desired; empty when it is.

    Fields that the server filled in stay; a field that the last template set and this one does not is removed.
    """
    spec: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    if existing.spec.replicas != desired.spec.replicas:
        spec["replicas"] = desired.spec.replicas
    old, new = _wire.to_builtins(existing.spec), _wire.to_builtins(desired.spec)
    if not _contains(old.get("strategy", {}), new.get("strategy", {})):
        spec["strategy"] = merge_patch(old.get("strategy", {}), new.get("strategy", {}))
    digest = desired.metadata.annotations[HASH_ANNOTATION]
    same = existing.metadata.annotations.get(HASH_ANNOTATION) == digest
    if not same or not _contains(old["template"], new["template"]):
        spec["template"] = merge_patch(old["template"], new["template"])
        metadata["annotations"] = {HASH_ANNOTATION: digest}
    if not _contains(existing.metadata.labels, desired.metadata.labels):
        metadata["labels"] = desired.metadata.labels
    return {k: v for k, v in (("metadata", metadata), ("spec", spec)) if v}


def service_changes(existing: Service, desired: Service) -> dict[str, Any]:
    """The merge patch that makes an existing Service what is desired; empty when it is."""
    old, new = _wire.to_builtins(existing), _wire.to_builtins(desired)
    wanted = {"metadata": {"labels": new["metadata"]["labels"]}, "spec": new["spec"]}
    return {} if _contains(old, wanted) else wanted


def _contains(whole: Any, part: Any) -> bool:
    """Whether everything in `part` stands in `whole`."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(k in whole and _contains(whole[k], v) for k, v in part.items())
    if isinstance(part, list):
        same = isinstance(whole, list) and len(whole) == len(part)
        return same and all(_contains(w, p) for w, p in zip(whole, part, strict=True))
    return bool(whole == part)


def service(isvc: InferenceService) -> Service:
    """The predictor's Service: port 80 to the model server's port."""
    containers = isvc.spec.predictor.containers
    declared = containers[0].ports[0] if containers and containers[0].ports else None
    name = predictor_name(isvc)
    port = ServicePort(
        name=(declared.name if declared else "") or name,
        port=80,
        target_port=declared.container_port if declared else PORT,
        protocol="TCP",
    )
    return Service(
        metadata=ObjectMeta(
            name=name,
            namespace=isvc.metadata.namespace,
            labels=labels(isvc),
            owner_references=[isvc.owner_reference()],
        ),
        spec=ServiceSpec(ports=[port], selector={"app": f"isvc.{name}"}),
    )


def _pod(isvc: InferenceService, plan: Plan, credentials: Sequence[EnvVar]) -> PodSpec:
    # The predictor is a pod with more fields: read as a PodSpec, those fields fall away.
    pod = _wire.convert(PodSpec, _wire.to_builtins(isvc.spec.predictor))
    pod.restart_policy = "Always"
    if plan.server is not None:
        pod.containers = [_server(isvc.metadata.name, plan.server)]
    model = pod.containers[0]
    _complete(model, isvc.metadata.name)
    if plan.storage_uri.startswith("pvc://"):
        _mount_claim(pod, model, plan.storage_uri)
    elif plan.storage_uri:
        _fetch(pod, model, plan.storage_uri, credentials)
    return pod


def _server(name: str, server: ModelServer) -> Container:
    container = _wire.convert(Container, {**_wire.to_builtins(server), "name": MODEL_CONTAINER})
    container.image = server.image or f"{SERVER_IMAGE}:{server.runtime_version or VERSION}"
    # What the user adds comes last, and so wins.
    container.args = [f"--model_name={name}", f"--model_dir={MODEL_DIR}", f"--http_port={PORT}", *server.args]
    container.ports = server.ports or [ContainerPort(container_port=PORT, protocol="TCP")]
    return container


def _complete(container: Container, service_name: str) -> None:
    """What every model container gets, whoever wrote it."""
    container.name = container.name or MODEL_CONTAINER
    for variable in container.env:
        if variable.name == "STORAGE_URI":
            variable.value = MODEL_DIR
    if all(v.name != "INFERENCE_SERVICE_NAME" for v in container.env):
        container.env.append(EnvVar(name="INFERENCE_SERVICE_NAME", value=service_name))
    port = container.ports[0].container_port if container.ports else PORT
    container.readiness_probe = container.readiness_probe or Probe(
        tcp_socket=TCPSocketAction(port=port), timeout_seconds=1, period_seconds=1, failure_threshold=3
    )
    # The reason why a model does not load reaches the status even from servers that write no termination message.
    container.termination_message_policy = "FallbackToLogsOnError"


def _mount_claim(pod: PodSpec, model: Container, uri: str) -> None:
    claim, _, path = uri.removeprefix("pvc://").partition("/")
    volume = "kserve-pvc-source"
    source = PersistentVolumeClaimVolumeSource(claim_name=claim)
    pod.volumes.append(Volume(name=volume, persistent_volume_claim=source))
    model.volume_mounts.append(VolumeMount(name=volume, mount_path=MODEL_DIR, sub_path=path.strip("/"), read_only=True))


def _fetch(pod: PodSpec, model: Container, uri: str, credentials: Sequence[EnvVar]) -> None:
    volume = "kserve-provision-location"
    pod.volumes.append(Volume(name=volume, empty_dir=EmptyDirVolumeSource()))
    model.volume_mounts.append(VolumeMount(name=volume, mount_path=MODEL_DIR, read_only=True))
    pod.init_containers.append(
        Container(
            name=INITIALIZER,
            image=INITIALIZER_IMAGE,
            args=[uri, MODEL_DIR],
            env=copy.deepcopy(list(credentials)),
            volume_mounts=[VolumeMount(name=volume, mount_path=MODEL_DIR)],
            termination_message_policy="FallbackToLogsOnError",
        )
    )
