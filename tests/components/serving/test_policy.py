"""Decisions by tables: what is served, what is refused with which words, what deployments and pods mean."""

from __future__ import annotations

import base64
import datetime as dt
from typing import Any

import pytest

from headrace.api import _wire, conditions
from headrace.api.apps import Deployment
from headrace.api.core import Pod, Secret
from headrace.components.serving.policy import credentials
from headrace.components.serving.policy import status as words
from headrace.components.serving.policy.pods import Observation, observe
from headrace.components.serving.policy.spec import Plan, Refusal, decide, stopped
from headrace.components.serving.types import InferenceService

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def isvc(predictor: dict[str, Any] | None = None, **more: Any) -> InferenceService:
    metadata = {"name": "digits", "namespace": "ml", "uid": "u1", "generation": 1, **more.pop("metadata", {})}
    given = predictor if predictor is not None else {"sklearn": {"storageUri": "s3://mlpipeline/models/digits"}}
    return _wire.convert(
        InferenceService,
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": metadata,
            "spec": {"predictor": given, **more},
        },
    )


def pod(
    name: str = "p1",
    *,
    ready: bool = False,
    template: str = "a",
    created: int = 0,
    model: dict[str, Any] | None = None,
    initializer: dict[str, Any] | None = None,
    conditions: list[dict[str, Any]] | None = None,
) -> Pod:
    def status(container: str, state: dict[str, Any]) -> dict[str, Any]:
        return {"name": container, "image": "i", **state}

    return _wire.convert(
        Pod,
        {
            "metadata": {
                "name": name,
                "namespace": "ml",
                "uid": name,
                "creationTimestamp": (NOW + dt.timedelta(seconds=created)).isoformat(),
                "labels": {
                    "serving.kserve.io/inferenceservice": "digits",
                    "app": "isvc.digits-predictor",
                    "pod-template-hash": template,
                },
            },
            "status": {
                "phase": "Running",
                "conditions": [*(conditions or []), {"type": "Ready", "status": str(ready)}],
                "initContainerStatuses": [status("storage-initializer", initializer)] if initializer else [],
                "containerStatuses": [status("kserve-container", model)] if model else [],
            },
        },
    )


def ended(code: int, message: str) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "message": message, "reason": "Error"}}


URI = "s3://mlpipeline/models/digits"


@pytest.mark.parametrize(
    ("predictor", "uri", "replicas"),
    [
        ({"sklearn": {"storageUri": URI}}, URI, 1),
        ({"sklearn": {"storageUri": "pvc://claim/models/a"}, "minReplicas": 2}, "pvc://claim/models/a", 2),
        ({"model": {"modelFormat": {"name": "sklearn"}, "storageUri": URI}}, URI, 1),
        (
            {"model": {"modelFormat": {"name": "sklearn", "version": "1"}, "storageUri": URI, "protocolVersion": "v2"}},
            URI,
            1,
        ),
        ({"model": {"modelFormat": {"name": "sklearn"}, "storageUri": URI, "runtime": "kserve-sklearnserver"}}, URI, 1),
        ({"sklearn": {"storageUri": URI}, "maxReplicas": 3, "timeout": 10}, URI, 1),
        ({"containers": [{"name": "kserve-container", "image": "python:3.11"}]}, "", 1),
        ({"containers": [{"name": "c", "image": "i", "env": [{"name": "STORAGE_URI", "value": URI}]}]}, URI, 1),
    ],
)
def test_what_is_served(predictor: dict[str, Any], uri: str, replicas: int) -> None:
    plan = decide(isvc(predictor))
    assert isinstance(plan, Plan), plan
    assert (plan.storage_uri, plan.replicas) == (uri, replicas)
    assert (plan.server is None) == ("containers" in predictor)


def sk(**more: Any) -> dict[str, Any]:
    return {"sklearn": {"storageUri": URI}, **more}


def model(**more: Any) -> dict[str, Any]:
    return {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": URI, **more}}


@pytest.mark.parametrize(
    ("predictor", "reason", "words"),
    [
        ({}, "InvalidPredictorSpec", "No predictor is given"),
        ({"sklearn": {}}, "InvalidPredictorSpec", "predictor.sklearn.storageUri is missing"),
        (
            {"sklearn": {"storageUri": URI}, "xgboost": {"storageUri": URI}},
            "InvalidPredictorSpec",
            "not 2: sklearn, xgb",
        ),
        (sk(containers=[{"name": "kserve-container"}]), "InvalidPredictorSpec", "sklearn, containers"),
        (sk(containers=[{"name": "side"}]), "UnsupportedField", "predictor.containers beside"),
        ({"xgboost": {"storageUri": URI}}, "NoSupportingRuntime", "No runtime serves xgboost models"),
        ({"triton": {"storageUri": URI}}, "NoSupportingRuntime", "No runtime serves triton models"),
        (model(modelFormat={"name": "onnx"}), "NoSupportingRuntime", "model format onnx"),
        (model(modelFormat={"name": "sklearn", "version": "2"}), "NoSupportingRuntime", "sklearn version 2"),
        (model(runtime="mine"), "RuntimeNotRecognized", "no runtime named 'mine'"),
        (model(protocolVersion="grpc-v2"), "NoSupportingRuntime", "set protocolVersion to v1 or v2"),
        (model(storage={"key": "k"}), "UnsupportedField", "predictor.model.storage"),
        ({"sklearn": {"storageUri": "gs://b/m"}}, "UnsupportedStorageUri", "begins with s3:// or pvc://"),
        ({"sklearn": {"storageUri": "/local"}}, "UnsupportedStorageUri", "cannot be read"),
        ({"sklearn": {"storageUri": "s3:///m"}}, "InvalidStorageUri", "names no bucket"),
        ({"sklearn": {"storageUri": "pvc:///m"}}, "InvalidStorageUri", "pvc://CLAIM/PATH"),
        ({"sklearn": {"storageUri": "pvc://c/../../etc"}}, "InvalidStorageUri", "pvc://CLAIM/PATH"),
        (sk(minReplicas=0), "UnsupportedScaleToZero", "set it to 1 or more"),
        (sk(minReplicas=3, maxReplicas=2), "InvalidReplicas", "maxReplicas is smaller"),
        (sk(scaleTarget=5), "UnsupportedField", "predictor.scaleTarget"),
        (sk(scaleMetric="rps"), "UnsupportedField", "predictor.scaleMetric"),
        (sk(autoScaling={"metrics": []}), "UnsupportedField", "predictor.autoScaling"),
        (sk(containerConcurrency=1), "UnsupportedField", "predictor.containerConcurrency"),
        (sk(canaryTrafficPercent=10), "UnsupportedField", "predictor.canaryTrafficPercent"),
        (sk(logger={"mode": "all"}), "UnsupportedField", "predictor.logger"),
        (sk(batcher={"maxBatchSize": 8}), "UnsupportedField", "predictor.batcher"),
        (sk(workerSpec={"pipelineParallelSize": 2}), "UnsupportedField", "predictor.workerSpec"),
        (sk(storageUris=[{"uri": URI}]), "UnsupportedField", "predictor.storageUris"),
    ],
)
def test_what_is_refused(predictor: dict[str, Any], reason: str, words: str) -> None:
    refusal = decide(isvc(predictor))
    assert isinstance(refusal, Refusal)
    assert refusal.reason == reason
    assert words in refusal.message
    assert refusal.message.endswith(".")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"transformer": {"containers": []}}, "UnsupportedComponent"),
        ({"explainer": {"art": {}}}, "UnsupportedComponent"),
        ({"canary": [{"trafficPercent": 10}]}, "UnsupportedComponent"),
        (
            {"metadata": {"annotations": {"serving.kserve.io/deploymentMode": "Serverless"}}},
            "UnsupportedDeploymentMode",
        ),
        ({"metadata": {"name": "1digits"}}, "InvalidName"),
        ({"metadata": {"name": "d" * 54}}, "InvalidName"),
        ({"metadata": {"name": "digits.v1"}}, "InvalidName"),
    ],
)
def test_what_is_refused_of_the_whole(more: dict[str, Any], reason: str) -> None:
    refusal = decide(isvc(**more))
    assert isinstance(refusal, Refusal)
    assert refusal.reason == reason


@pytest.mark.parametrize("mode", ["Standard", "RawDeployment"])
def test_both_names_of_the_standard_mode(mode: str) -> None:
    annotations = {"serving.kserve.io/deploymentMode": mode}
    assert isinstance(decide(isvc(metadata={"annotations": annotations})), Plan)


def test_stop() -> None:
    assert stopped(isvc(metadata={"annotations": {"serving.kserve.io/stop": "true"}}))
    assert not stopped(isvc(metadata={"annotations": {"serving.kserve.io/stop": "false"}}))
    assert not stopped(isvc())


# Pods


RUNNING = {"state": {"running": {}}, "ready": True}
STARTING = {"state": {"running": {}}, "ready": False}


def deployment(**status: Any) -> Deployment:
    given = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, **status}
    return _wire.convert(Deployment, {"metadata": {"name": "d", "generation": 1}, "status": given})


NOTHING = deployment(replicas=0, updatedReplicas=0, availableReplicas=0)
UP = deployment()
ROLLING = deployment(replicas=2)
FAILED = {"state": ended(1, "Model file model.joblib does not load: ValueError: bad"), "ready": False}
LOOPING = {
    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
    "lastState": ended(1, "Model file model.joblib does not load: ValueError: bad"),
}
OLD, NEW = {"template": "old", "created": 0}, {"template": "new", "created": 9}

CASES: dict[str, tuple[Deployment | None, list[Pod], tuple[str, str], tuple[str, str, str]]] = {
    # deployment, pods, (PredictorReady, reason), (transition, active, target)
    "nothing yet": (None, [], ("Unknown", "Progressing"), ("InProgress", "", "Pending")),
    "no pods yet": (NOTHING, [], ("Unknown", "Progressing"), ("InProgress", "", "Pending")),
    "fetching": (
        NOTHING,
        [pod(initializer={"state": {"running": {}}})],
        ("Unknown", "Progressing"),
        ("InProgress", "", "Loading"),
    ),
    "loading": (NOTHING, [pod(model=STARTING)], ("Unknown", "Progressing"), ("InProgress", "", "Loading")),
    "up": (UP, [pod(ready=True, model=RUNNING)], ("True", ""), ("UpToDate", "Loaded", "Loaded")),
    "up again after a failure": (
        UP,
        [pod(ready=True, model={**RUNNING, "lastState": ended(1, "once")})],
        ("True", ""),
        ("UpToDate", "Loaded", "Loaded"),
    ),
    "fetch failed": (
        NOTHING,
        [pod(initializer={"state": ended(1, "Failed to fetch model.")})],
        ("False", "ModelLoadFailed"),
        ("BlockedByFailedLoad", "", "FailedToLoad"),
    ),
    "load failed": (
        NOTHING,
        [pod(model=FAILED)],
        ("False", "ModelLoadFailed"),
        ("BlockedByFailedLoad", "", "FailedToLoad"),
    ),
    "load failed, restarting": (
        NOTHING,
        [pod(model=LOOPING)],
        ("False", "ModelLoadFailed"),
        ("BlockedByFailedLoad", "", "FailedToLoad"),
    ),
    "rolling": (
        ROLLING,
        [pod("old", ready=True, model=RUNNING, **OLD), pod("new", model=STARTING, **NEW)],
        ("Unknown", "RolloutInProgress"),
        ("InProgress", "Loaded", "Loading"),
    ),
    "rolled to a model that does not load": (
        ROLLING,
        [pod("old", ready=True, model=RUNNING, **OLD), pod("new", model=FAILED, **NEW)],
        ("False", "ModelLoadFailed"),
        ("BlockedByFailedLoad", "Loaded", "FailedToLoad"),
    ),
    "the spec is newer than what the deployment controller saw": (
        _wire.convert(Deployment, {"metadata": {"generation": 2}, "status": {"observedGeneration": 1}}),
        [pod(ready=True, model=RUNNING)],
        ("Unknown", "RolloutInProgress"),
        ("InProgress", "Loaded", "Pending"),
    ),
    "was up, went down": (
        deployment(availableReplicas=0),
        [pod(model=STARTING)],
        ("Unknown", "Progressing"),
        ("InProgress", "", "Loading"),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_status_of_a_workload(case: Any) -> None:
    given, pods, (ready, reason), (transition, active, target) = case
    service = isvc()
    plan = decide(service)
    assert isinstance(plan, Plan)
    words.running(service, plan, observe(given, pods, 1), NOW)
    status = service.status
    for kind in ("PredictorReady", "Ready"):
        found = conditions.get(status.conditions, kind)
        assert found
        assert (found.status, found.reason) == (ready, reason)
        assert bool(found.message) == (ready != "True")
    assert conditions.is_true(status.conditions, "IngressReady")
    states = status.model_status.states
    assert states
    assert (status.model_status.transition_status, states.active_model_state, states.target_model_state) == (
        transition,
        active,
        target,
    )
    assert (status.model_status.last_failure_info is not None) == (target == "FailedToLoad")
    assert status.url == "http://digits-ml.example.com"
    assert status.address
    assert status.address.url == "http://digits-predictor.ml.svc.cluster.local"
    assert bool(status.components["predictor"].url) == (active == "Loaded")
    assert status.deployment_mode == "Standard"
    assert status.observed_generation == 1


def test_the_real_error_is_told() -> None:
    service = isvc()
    plan = decide(service)
    assert isinstance(plan, Plan)
    seen = observe(ROLLING, [pod("old", ready=True, **OLD), pod("new", model=LOOPING, **NEW)], 1)
    words.running(service, plan, seen, NOW)
    info = service.status.model_status.last_failure_info
    assert info
    assert info.message == "Model file model.joblib does not load: ValueError: bad"
    assert (info.reason, info.exit_code, info.location, info.time) == ("ModelLoadFailed", 1, "new", NOW)
    ready = conditions.get(service.status.conditions, "Ready")
    assert ready
    assert ready.message == (
        "Model file model.joblib does not load: ValueError: bad. The model before it still answers."
    )


def test_a_pod_that_cannot_be_placed_says_why() -> None:
    unplaced = {"type": "PodScheduled", "status": "False", "message": 'persistentvolumeclaim "c" not found'}
    assert observe(NOTHING, [pod(conditions=[unplaced])], 1).waiting == 'persistentvolumeclaim "c" not found'
    waits = {"state": {"waiting": {"reason": "ErrImagePull", "message": "no local environment"}}}
    assert observe(NOTHING, [pod(model=waits)], 1).waiting == "ErrImagePull: no local environment"


def test_ended_and_leaving_pods_do_not_count() -> None:
    gone = pod("gone", ready=True)
    gone.metadata.deletion_timestamp = NOW
    done = pod("done", ready=True)
    done.status.phase = "Failed"
    assert observe(UP, [gone, done], 1) == Observation(rolling=False)


def test_a_failure_is_forgotten_when_the_model_is_up() -> None:
    service = isvc()
    plan = decide(service)
    assert isinstance(plan, Plan)
    words.running(service, plan, observe(NOTHING, [pod(model=FAILED)], 1), NOW)
    words.running(service, plan, observe(UP, [pod(ready=True, model=RUNNING)], 1), NOW)
    assert service.status.model_status.last_failure_info is None
    assert conditions.is_true(service.status.conditions, "Ready")


def test_a_refused_spec() -> None:
    service = isvc()
    words.refused(service, Refusal("NoSupportingRuntime", "No."), NOW)
    status = service.status
    assert status.model_status.transition_status == "InvalidSpec"
    assert status.model_status.last_failure_info
    assert status.model_status.last_failure_info.reason == "NoSupportingRuntime"
    ready = conditions.get(status.conditions, "Ready")
    assert ready
    assert (ready.status, ready.reason, ready.message) == ("False", "NoSupportingRuntime", "No.")
    words.refused(service, Refusal("UnsupportedField", "Not that."), NOW)
    assert status.model_status.last_failure_info.reason == "InvalidPredictorSpec"


def test_stopped_and_started_again() -> None:
    service = isvc()
    plan = decide(service)
    assert isinstance(plan, Plan)
    words.stopped(service, NOW)
    assert conditions.is_true(service.status.conditions, "Stopped")
    assert not conditions.is_true(service.status.conditions, "Ready")
    assert service.status.url == ""
    words.running(service, plan, observe(UP, [pod(ready=True, model=RUNNING)], 1), NOW)
    assert conditions.get(service.status.conditions, "Stopped") is None
    assert conditions.is_true(service.status.conditions, "Ready")


# Credentials


def secret(data: dict[str, str], annotations: dict[str, str] | None = None) -> Secret:
    encoded = {k: base64.b64encode(v.encode()).decode() for k, v in data.items()}
    return _wire.convert(Secret, {"metadata": {"name": "keys", "annotations": annotations or {}}, "data": encoded})


KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s"}


@pytest.mark.parametrize(
    ("secrets", "endpoint", "https", "key_of"),
    [
        ([], "http://minio-service.kubeflow:9000", "0", "mlpipeline-minio-artifact/accesskey"),
        ([secret({"other": "x"})], "http://minio-service.kubeflow:9000", "0", "mlpipeline-minio-artifact/accesskey"),
        ([secret(KEYS)], "https://s3.us-east-1.amazonaws.com", "1", "keys/AWS_ACCESS_KEY_ID"),
        (
            [secret(KEYS, {"serving.kserve.io/s3-endpoint": "h:9", "serving.kserve.io/s3-usehttps": "0"})],
            "http://h:9",
            "0",
            "keys/AWS_ACCESS_KEY_ID",
        ),
        ([secret(KEYS, {"serving.kserve.io/s3-endpoint": "http://h:9"})], "http://h:9", "0", "keys/AWS_ACCESS_KEY_ID"),
        ([secret(KEYS, {"serving.kserve.io/s3-endpoint": "h:9"})], "https://h:9", None, "keys/AWS_ACCESS_KEY_ID"),
        ([secret({**KEYS, "S3_ENDPOINT": "http://h:9"})], "http://h:9", "0", "keys/AWS_ACCESS_KEY_ID"),
        (
            [secret(KEYS, {"serving.kserve.io/s3-region": "eu-west-1"})],
            "https://s3.eu-west-1.amazonaws.com",
            "1",
            "keys/AWS_ACCESS_KEY_ID",
        ),
    ],
)
def test_credentials(secrets: list[Secret], endpoint: str, https: str | None, key_of: str) -> None:
    found = {e.name: e for e in credentials.environment(secrets)}
    assert found["AWS_ENDPOINT_URL"].value == endpoint
    assert (found["S3_USE_HTTPS"].value if "S3_USE_HTTPS" in found else None) == https
    source = found["AWS_ACCESS_KEY_ID"].value_from
    assert source
    assert source.secret_key_ref
    assert f"{source.secret_key_ref.name}/{source.secret_key_ref.key}" == key_of


def test_options_of_the_secret_become_variables() -> None:
    given = secret(KEYS, {"serving.kserve.io/s3-verifyssl": "0", "serving.kserve.io/s3-cabundle": "/ca"})
    found = {e.name: e.value for e in credentials.environment([given])}
    assert found["S3_VERIFY_SSL"] == "0"
    assert found["AWS_CA_BUNDLE"] == "/ca"
