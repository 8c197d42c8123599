"""Models from a volume, through kubectl and HTTP: served, replaced under load, failing with the reason, deleted."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

NAMESPACE = "kubeflow-user-example-com"

pytestmark = [pytest.mark.node, pytest.mark.clients, pytest.mark.timeout(300)]

TRAIN = """
import os, joblib
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
X, y = load_digits(return_X_y=True)
for name, labels in (("first", y), ("second", y + 100)):
    os.makedirs(f"/models/{name}", exist_ok=True)
    joblib.dump(LogisticRegression(max_iter=300).fit(X, labels), f"/models/{name}/model.joblib")
os.makedirs("/models/broken", exist_ok=True)
open("/models/broken/model.joblib", "w").write("not a model")
"""

CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "served-models", "namespace": NAMESPACE},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}
JOB = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "train-served", "namespace": NAMESPACE},
    "spec": {
        "backoffLimit": 0,
        "template": {
            "metadata": {"annotations": {"headrace.dev/requirements": '["scikit-learn==1.7.2"]'}},
            "spec": {
                "restartPolicy": "Never",
                "containers": [
                    {
                        "name": "train",
                        "image": "python:3.11",
                        "command": ["python3", "-c", TRAIN],
                        "volumeMounts": [{"name": "models", "mountPath": "/models"}],
                    }
                ],
                "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "served-models"}}],
            },
        },
    },
}


def service(name: str, path: str) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"predictor": {"sklearn": {"storageUri": f"pvc://served-models/{path}"}}},
    }


class Caller:
    """Asks the gateway."""

    def __init__(self, platform: Any) -> None:
        self.base = platform.env["INGRESS"]
        self.auth = {"Authorization": f"Bearer {platform.headrace('token').stdout.strip()}"}

    def __call__(self, name: str) -> tuple[int, Any]:
        url = f"{self.base}/serving/{NAMESPACE}/{name}/v1/models/{name}:predict"
        request = urllib.request.Request(url, json.dumps({"instances": [[0.0] * 64]}).encode(), self.auth)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


def apply(platform: Any, *objects: dict[str, Any]) -> None:
    manifest = platform.home / "manifest.json"
    manifest.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))
    platform.kubectl("apply", "-f", str(manifest))


def wait_ready(platform: Any, name: str) -> None:
    platform.kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", f"isvc/{name}", "--timeout=60s")


@pytest.fixture(scope="module")
def caller(platform: Any) -> Caller:
    apply(platform, CLAIM, JOB)
    platform.kubectl("-n", NAMESPACE, "wait", "--for=condition=Complete", "job/train-served", "--timeout=120s")
    apply(platform, service("served", "first"))
    wait_ready(platform, "served")
    return Caller(platform)


def test_a_model_is_replaced_without_one_failed_request(platform: Any, caller: Caller) -> None:
    status, said = caller("served")
    assert status == 200
    assert said["predictions"][0] < 100
    answers: list[tuple[int, Any]] = []
    stop = threading.Event()

    def keep_asking() -> None:
        while not stop.is_set():
            answers.append(caller("served"))

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        apply(platform, service("served", "second"))
        deadline = time.monotonic() + 60
        while answers[-1:] == [] or answers[-1][1].get("predictions", [0])[0] < 100:
            assert time.monotonic() < deadline, platform.kubectl("-n", NAMESPACE, "get", "isvc,pods")
            time.sleep(0.1)
        time.sleep(1)
    finally:
        stop.set()
        asking.join()
    assert {code for code, _ in answers} == {200}, [a for a in answers if a[0] != 200][:3]
    wait_ready(platform, "served")


def test_a_pod_that_is_deleted_is_replaced_without_one_failed_request(platform: Any, caller: Caller) -> None:
    platform.kubectl(
        "-n", NAMESPACE, "delete", "pod", "-l", "serving.kserve.io/inferenceservice=served", "--wait=false"
    )
    assert {caller("served")[0] for _ in range(20)} == {200}


def test_a_model_that_does_not_load_says_why_everywhere(platform: Any, caller: Caller) -> None:
    apply(platform, service("unloadable", "broken"), service("absent", "nowhere"))
    words = "Model file model.joblib does not load"
    deadline = time.monotonic() + 30
    while True:
        status, said = caller("unloadable")
        if words in said["error"]:
            break
        assert time.monotonic() < deadline, said
        time.sleep(0.2)
    assert status == 503
    shown = json.loads(platform.kubectl("-n", NAMESPACE, "get", "isvc", "unloadable", "-o", "json"))
    model = shown["status"]["modelStatus"]
    assert model["transitionStatus"] == "BlockedByFailedLoad"
    assert model["lastFailureInfo"]["message"].startswith(words)
    assert words in platform.kubectl("-n", NAMESPACE, "describe", "isvc", "unloadable")
    assert caller("served")[0] == 200


def test_deleting_takes_everything_along(platform: Any, caller: Caller) -> None:
    platform.kubectl("-n", NAMESPACE, "delete", "isvc", "served", "unloadable", "absent", "--ignore-not-found")
    assert caller("served")[0] == 404
    kinds = "deploy,rs,pods,svc,endpoints"
    deadline = time.monotonic() + 60
    while platform.kubectl(
        "-n",
        NAMESPACE,
        "get",
        kinds,
        "-l",
        "serving.kserve.io/inferenceservice in (served,unloadable,absent)",
        "-o",
        "name",
    ).strip():
        assert time.monotonic() < deadline
        time.sleep(0.3)
