"""What an InferenceService asks for, and what of that is refused: with upstream's reason where it has one, and a
sentence that says what to do. Nothing that is asked for is passed over in silence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.components.serving.types import InferenceService, ModelServer, PredictorSpec

RUNTIME = "kserve-sklearnserver"
"""The ClusterServingRuntime that upstream has for scikit-learn."""
MODEL_CONTAINER = "kserve-container"
STANDARD_MODES = {"", "Standard", "RawDeployment"}
STOP = "serving.kserve.io/stop"
MODE = "serving.kserve.io/deploymentMode"
FRAMEWORKS = (
    "sklearn", "xgboost", "tensorflow", "pytorch", "triton", "onnx", "huggingface", "pmml", "lightgbm", "paddle",
)  # fmt: skip
SCHEMES = ("s3://", "pvc://")

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LATER = "This platform does not have it yet"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a spec is not served: upstream's failure reason where there is one, and a sentence that says what to do."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a valid spec asks for."""

    server: ModelServer | None
    """None for a predictor of the user's own containers."""
    storage_uri: str
    replicas: int


def stopped(isvc: InferenceService) -> bool:
    """Whether the workload is to be taken away."""
    return isvc.metadata.annotations.get(STOP, "").lower() == "true"


def decide(isvc: InferenceService) -> Plan | Refusal:
    """What to run for this InferenceService, or why nothing."""
    predictor = isvc.spec.predictor
    return _refuse_service(isvc) or _refuse_scaling(predictor) or _plan(predictor)


def _refuse_service(isvc: InferenceService) -> Refusal | None:
    name = isvc.metadata.name
    if not _NAME.fullmatch(name) or len(f"{name}-predictor") > 63:
        return Refusal(
            "InvalidName",
            f"The name {name!r} cannot be part of a host name: use at most 53 lower-case letters, digits and '-', "
            "beginning with a letter.",
        )
    mode = isvc.metadata.annotations.get(MODE, "")
    if mode not in STANDARD_MODES:
        return Refusal(
            "UnsupportedDeploymentMode",
            f"Deployment mode {mode!r} is not supported: set annotation {MODE} to Standard. {_LATER}.",
        )
    for part in ("transformer", "explainer", "canary"):
        if getattr(isvc.spec, part):
            return Refusal("UnsupportedComponent", f"spec.{part} is not supported: leave it out. {_LATER}.")
    return None


def _refuse_scaling(predictor: PredictorSpec) -> Refusal | None:
    if predictor.min_replicas is not None and predictor.min_replicas < 1:
        return Refusal(
            "UnsupportedScaleToZero",
            f"minReplicas {predictor.min_replicas} is not supported: set it to 1 or more. Scaling to zero comes later.",
        )
    if predictor.max_replicas and predictor.max_replicas < (predictor.min_replicas or 1):
        return Refusal("InvalidReplicas", "maxReplicas is smaller than minReplicas: raise it or leave it out.")
    asked = {
        "scaleTarget": predictor.scale_target,
        "scaleMetric": predictor.scale_metric,
        "scaleMetricType": predictor.scale_metric_type,
        "autoScaling": predictor.auto_scaling,
        "containerConcurrency": predictor.container_concurrency,
        "canaryTrafficPercent": predictor.canary_traffic_percent,
        "logger": predictor.logger,
        "batcher": predictor.batcher,
        "workerSpec": predictor.worker_spec,
        "storageContainerName": predictor.storage_container_name,
        "storageUris": predictor.storage_uris,
        "name": predictor.name,
    }
    for field, value in asked.items():
        if value:
            return Refusal("UnsupportedField", f"predictor.{field} is not supported: leave it out. {_LATER}.")
    return None


def _plan(predictor: PredictorSpec) -> Plan | Refusal:
    replicas = predictor.min_replicas if predictor.min_replicas is not None else 1
    servers = {name: getattr(predictor, name) for name in FRAMEWORKS if getattr(predictor, name) is not None}
    if predictor.model is not None:
        servers["model"] = predictor.model
    if len(servers) > 1 or (servers and any(c.name == MODEL_CONTAINER for c in predictor.containers)):
        named = ", ".join([*servers, *(["containers"] if predictor.containers else [])])
        return Refusal("InvalidPredictorSpec", f"Exactly one predictor must be given, not {len(servers)}: {named}.")
    if not servers:
        return _own_containers(predictor, replicas)
    kind, server = next(iter(servers.items()))
    if predictor.containers:
        return Refusal(
            "UnsupportedField",
            f"predictor.containers beside predictor.{kind} is not supported: leave it out. {_LATER}.",
        )
    refusal = _refuse_runtime(predictor, kind) or _refuse_server(kind, server)
    if refusal:
        return refusal
    uri = server.storage_uri or ""
    return _refuse_storage(uri) or Plan(server, uri, replicas)


def _own_containers(predictor: PredictorSpec, replicas: int) -> Plan | Refusal:
    if not predictor.containers:
        return Refusal(
            "InvalidPredictorSpec",
            "No predictor is given: set predictor.model, predictor.sklearn or predictor.containers.",
        )
    first = predictor.containers[0]
    uri = next((e.value for e in first.env if e.name == "STORAGE_URI"), "")
    return (_refuse_storage(uri) if uri else None) or Plan(None, uri, replicas)


def _refuse_runtime(predictor: PredictorSpec, kind: str) -> Refusal | None:
    model = predictor.model
    if kind != "model" or model is None:
        if kind == "sklearn":
            return None
        return Refusal("NoSupportingRuntime", f"No runtime serves {kind} models: only sklearn is served. {_LATER}.")
    if model.runtime and model.runtime != RUNTIME:
        return Refusal(
            "RuntimeNotRecognized",
            f"There is no runtime named {model.runtime!r}: leave predictor.model.runtime out or set it to {RUNTIME}.",
        )
    format_ = model.model_format
    if format_.name != "sklearn" or (format_.version or "1").split(".")[0] != "1":
        wanted = format_.name + (f" version {format_.version}" if format_.version else "")
        return Refusal(
            "NoSupportingRuntime",
            f"No runtime serves model format {wanted or 'unnamed'}: only sklearn version 1 is served. {_LATER}.",
        )
    return None


def _refuse_server(kind: str, server: ModelServer) -> Refusal | None:
    if server.protocol_version not in {None, "", "v1", "v2"}:
        return Refusal(
            "NoSupportingRuntime",
            f"Protocol {server.protocol_version!r} is not served: set protocolVersion to v1 or v2. {_LATER}.",
        )
    for field, value in {"storage": server.storage, "confidential": server.confidential}.items():
        if value:
            return Refusal(
                "UnsupportedField", f"predictor.{kind}.{field} is not supported: give storageUri instead. {_LATER}."
            )
    if not server.storage_uri:
        return Refusal("InvalidPredictorSpec", f"predictor.{kind}.storageUri is missing: say where the model is.")
    return None


def _refuse_storage(uri: str) -> Refusal | None:
    if uri.startswith("pvc://"):
        claim, _, path = uri.removeprefix("pvc://").partition("/")
        if not claim or ".." in path.split("/"):
            return Refusal("InvalidStorageUri", f"{uri} is not a volume's path: write pvc://CLAIM/PATH.")
        return None
    if uri.startswith("s3://"):
        if not uri.removeprefix("s3://").partition("/")[0]:
            return Refusal("InvalidStorageUri", f"{uri} names no bucket: write s3://BUCKET/PATH.")
        return None
    return Refusal(
        "UnsupportedStorageUri",
        f"storageUri {uri} cannot be read: give one that begins with {' or '.join(SCHEMES)}. Other stores come later.",
    )
