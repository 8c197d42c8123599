"""Requests a second of a served model, beside KServe's own server with the same file."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from _platform import NAMESPACE, free_port

TRAIN = """
import joblib
from sklearn.datasets import load_iris
from sklearn.svm import SVC
x, y = load_iris(return_X_y=True)
joblib.dump(SVC(gamma="scale").fit(x, y), "/mnt/out/model.joblib")
"""
PEER = """
import sys, joblib, kserve
class Iris(kserve.Model):
    def load(self):
        self.model = joblib.load(sys.argv.pop(1)); self.ready = True
    def predict(self, payload, headers=None):
        return {"predictions": self.model.predict(payload["instances"]).tolist()}
model = Iris("iris"); model.load()
kserve.ModelServer(workers=1, enable_grpc=False).start([model])
"""
BODY = json.dumps({"instances": [[6.8, 2.8, 4.8, 1.4]]}).encode()
CONNECTIONS, SECONDS = 16, 5.0


def request(path: str, host: str, token: str = "") -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json", f"Content-Length: {len(BODY)}"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + BODY


def train(platform) -> Path:
    """Fit the model in a pod, into a claim; returns the file on this machine."""
    import kubernetes

    kubernetes.config.load_kube_config()
    core = kubernetes.client.CoreV1Api()
    claim = {
        "metadata": {"name": "models"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    core.create_namespaced_persistent_volume_claim(NAMESPACE, claim)
    pod = {
        "metadata": {"name": "train", "annotations": {"headrace.dev/requirements": '["scikit-learn==1.7.2"]'}},
        "spec": {
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": "main",
                    "image": "python:3.11",
                    "command": ["python3", "-c", TRAIN],
                    "volumeMounts": [{"name": "out", "mountPath": "/mnt/out"}],
                }
            ],
            "volumes": [{"name": "out", "persistentVolumeClaim": {"claimName": "models"}}],
        },
    }
    core.create_namespaced_pod(NAMESPACE, pod)
    while (phase := core.read_namespaced_pod("train", NAMESPACE).status.phase) not in {"Succeeded", "Failed"}:
        time.sleep(0.2)
    if phase == "Failed":
        raise SystemExit(core.read_namespaced_pod_log("train", NAMESPACE))
    return next((platform.home / "volumes").rglob("model.joblib"))


def deploy() -> None:
    """Serve the claim's model and wait until it is ready."""
    import kubernetes

    api = kubernetes.client.CustomObjectsApi()
    kind = ("serving.kserve.io", "v1beta1", NAMESPACE, "inferenceservices")
    service = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "iris"},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "pvc://models"}}},
    }
    api.create_namespaced_custom_object(*kind, service)
    deadline = time.monotonic() + 120
    while True:
        status = api.get_namespaced_custom_object(*kind, "iris").get("status", {})
        if any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", [])):
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"the model is not ready: {status}")
        time.sleep(0.1)


def peer(model: Path, load) -> dict[str, float] | None:
    """KServe's own Python server on the same model; None when it cannot be installed."""
    import uv

    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "venv/bin/python"
        steps = (
            [uv.find_uv_bin(), "venv", "-q", "-p", sys.executable, str(python.parents[1])],
            [
                uv.find_uv_bin(),
                "pip",
                "install",
                "-q",
                "--python",
                str(python),
                "kserve",
                "scikit-learn==1.7.2",
                "setuptools",
            ],
        )
        for step in steps:
            if subprocess.run(step, check=False).returncode:
                return None
        port = free_port()
        server = subprocess.Popen(
            [str(python), "-c", PEER, str(model), "--http_port", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and server.poll() is None:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=1)
                    break
                except OSError:
                    time.sleep(0.2)
            return measure(load, port, request("/v1/models/iris:predict", f"127.0.0.1:{port}"))
        finally:
            server.kill()
            server.wait()


def measure(load, port: int, data: bytes) -> dict[str, float]:
    asyncio.run(load.run("127.0.0.1", port, data, connections=CONNECTIONS, seconds=1.0))
    return asyncio.run(load.run("127.0.0.1", port, data, connections=CONNECTIONS, seconds=SECONDS))


def bench_serve(platform, row, load) -> None:
    """Print one row a path."""
    platform.status()
    model = train(platform)
    deploy()
    path = f"/serving/{NAMESPACE}/iris/v1/models/iris:predict"
    ours = measure(load, platform.ports["gateway"], request(path, "127.0.0.1", platform.token()))
    theirs = peer(model, load)
    other = (
        f"KServe direct {theirs['rps']:.0f}/s ({ours['rps'] / theirs['rps']:.1f} x)" if theirs else "not installable"
    )
    row(
        "serve: through the gateway",
        f"{ours['rps']:.0f}/s",
        other,
        f"p50 {ours['p50_ms']:.1f} ms, p99 {ours['p99_ms']:.1f} ms; {CONNECTIONS} connections, one row",
    )
