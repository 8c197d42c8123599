"""`serving.kserve.io/v1beta1` InferenceService, after kserve's pkg/apis/serving/v1beta1.

Every field of upstream's predictor is declared, also those that this platform refuses: a field that is not
declared would be pruned by the API server, and what somebody asked for would vanish without a word.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from headrace.api.apiextensions import PrinterColumn
from headrace.api.apps import DeploymentStrategy  # noqa: TC001 (msgspec reads the annotations at run time)
from headrace.api.core import Container, PodSpec
from headrace.api.meta import Condition, KindInfo, Object, Struct, Time

GROUP = "serving.kserve.io"


class ModelServer(Container):
    """A predictor by framework: where the model is, and overrides of the server's container."""

    name: str = ""
    storage_uri: str | None = None
    runtime_version: str | None = None
    protocol_version: str | None = None
    storage: dict[str, Any] | None = None
    confidential: dict[str, Any] | None = None


class ModelFormat(Struct):
    """The framework that wrote the model, such as `sklearn`."""

    name: str
    version: str | None = None


class ModelSpec(ModelServer, kw_only=True):
    """A predictor by model format; the runtime is chosen from the format unless it is named."""

    model_format: ModelFormat
    runtime: str | None = None


class StorageUri(Struct):
    """One of several models of a predictor."""

    uri: str
    mount_path: str | None = None


class PredictorSpec(PodSpec):
    """Exactly one of the frameworks, `model` or `containers`; the rest of the pod; and how it scales."""

    restart_policy: str = ""
    name: str | None = None
    sklearn: ModelServer | None = None
    xgboost: dict[str, Any] | None = None
    tensorflow: dict[str, Any] | None = None
    pytorch: dict[str, Any] | None = None
    triton: dict[str, Any] | None = None
    onnx: dict[str, Any] | None = None
    huggingface: dict[str, Any] | None = None
    pmml: dict[str, Any] | None = None
    lightgbm: dict[str, Any] | None = None
    paddle: dict[str, Any] | None = None
    model: ModelSpec | None = None
    storage_uris: list[StorageUri] = []
    storage_container_name: str | None = None
    worker_spec: dict[str, Any] | None = None
    min_replicas: int | None = None
    """Pods that always run; 1 when unset."""
    max_replicas: int | None = None
    scale_target: int | None = None
    scale_metric: str | None = None
    scale_metric_type: str | None = None
    auto_scaling: dict[str, Any] | None = None
    container_concurrency: int | None = None
    timeout: int | None = None
    """Seconds that a request may take at the gateway; 300 when unset."""
    canary_traffic_percent: int | None = None
    logger: dict[str, Any] | None = None
    batcher: dict[str, Any] | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    deployment_strategy: DeploymentStrategy | None = None


class InferenceServiceSpec(Struct, kw_only=True):
    """The predictor, and what may stand before and beside it."""

    predictor: PredictorSpec
    transformer: dict[str, Any] | None = None
    explainer: dict[str, Any] | None = None
    canary: list[dict[str, Any]] = []


class Address(Struct):
    """Where other pods reach the service."""

    url: str = ""


class TrafficTarget(Struct):
    """A share of the traffic; empty in Standard mode, as upstream."""

    revision_name: str = ""
    latest_revision: bool | None = None
    percent: int | None = None
    tag: str = ""
    url: str = ""


class ComponentStatus(Struct):
    """What is known of one component."""

    url: str = ""
    rest_url: str = ""
    grpc_url: str = ""
    latest_ready_revision: str = ""
    latest_created_revision: str = ""
    previous_rolledout_revision: str = ""
    latest_rolledout_revision: str = ""
    traffic: list[TrafficTarget] = []


class ModelStates(Struct):
    """Pending, Standby, Loading, Loaded or FailedToLoad."""

    active_model_state: str = ""
    target_model_state: str = ""


class FailureInfo(Struct):
    """Why the target model does not serve."""

    location: str = ""
    """The pod."""
    reason: str = ""
    message: str = ""
    model_revision_name: str = ""
    time: Time | None = None
    exit_code: int = 0


class ModelCopies(Struct, omit_defaults=False):
    """Pods that hold the model."""

    failed_copies: int = 0
    total_copies: int = 0


class ModelStatus(Struct):
    """Where the model of the current spec stands: UpToDate, InProgress, BlockedByFailedLoad or InvalidSpec."""

    transition_status: str = ""
    states: ModelStates | None = None
    last_failure_info: FailureInfo | None = None
    copies: ModelCopies | None = None


class InferenceServiceStatus(Struct):
    """Conditions Ready, PredictorReady, IngressReady and Stopped; addresses; the model's state."""

    observed_generation: int = 0
    conditions: list[Condition] = []
    url: str = ""
    address: Address | None = None
    components: dict[str, ComponentStatus] = {}
    model_status: ModelStatus = msgspec.field(default_factory=ModelStatus)
    deployment_mode: str = ""
    serving_runtime_name: str = ""
    cluster_serving_runtime_name: str = ""


def _percent(tag: str) -> str:
    return f".status.components.predictor.traffic[?({tag})].percent"


def _revision(tag: str) -> str:
    return f".status.components.predictor.traffic[?({tag})].revisionName"


class InferenceService(Object, kw_only=True):
    """A model behind a stable URL."""

    INFO: ClassVar[KindInfo] = KindInfo(
        GROUP, "v1beta1", "InferenceService", "inferenceservices", short_names=("isvc",)
    )
    COLUMNS: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn(name="URL", type="string", json_path=".status.url"),
        PrinterColumn(name="Ready", type="string", json_path=".status.conditions[?(@.type=='Ready')].status"),
        PrinterColumn(name="Prev", type="integer", json_path=_percent("@.tag=='prev'")),
        PrinterColumn(name="Latest", type="integer", json_path=_percent("@.latestRevision==true")),
        PrinterColumn(name="PrevRolledoutRevision", type="string", json_path=_revision("@.tag=='prev'")),
        PrinterColumn(name="LatestReadyRevision", type="string", json_path=_revision("@.latestRevision==true")),
        PrinterColumn(name="Age", type="date", json_path=".metadata.creationTimestamp"),
    )
    """What `kubectl get isvc` shows."""
    spec: InferenceServiceSpec
    status: InferenceServiceStatus = msgspec.field(default_factory=InferenceServiceStatus)


KINDS: tuple[type[Object], ...] = (InferenceService,)
