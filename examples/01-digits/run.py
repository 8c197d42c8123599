"""Run the digits recognizer and ask the model that it serves.

Only public clients are used (kfp, kubernetes, boto3), so the same program works against any Kubeflow:

    KUBECONFIG        whom to talk to and as whom
    NAMESPACE         the profile's namespace              (kubeflow-user-example-com)
    KFP_HOST          Kubeflow Pipelines' address          (http://127.0.0.1:8080/pipeline)
    INGRESS           where served models are reached      (http://127.0.0.1:8080)
    S3_ENDPOINT       the object store                     (http://127.0.0.1:9000)
"""

import base64
import contextlib
import io
import json
import os
import sys
import time
import urllib.error
import urllib.request
import warnings

import boto3
import kubernetes
from botocore.config import Config

warnings.filterwarnings("ignore", category=FutureWarning)
import kfp  # noqa: E402
from pipeline import digits_recognizer  # noqa: E402

NAMESPACE = os.environ.get("NAMESPACE", "kubeflow-user-example-com")
KFP_HOST = os.environ.get("KFP_HOST", "http://127.0.0.1:8080/pipeline")
INGRESS = os.environ.get("INGRESS", "http://127.0.0.1:8080")
S3_ENDPOINT = os.environ.get("S3_ENDPOINT", "http://127.0.0.1:9000")
SERVICE = "digits"
FINISHED = {"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"}
SHADES = " .:-=+*#%@"


def bearer_token() -> str:
    """A token of the profile's `default-editor`, as `kubectl create token` gives it."""
    request = kubernetes.client.AuthenticationV1TokenRequest(
        spec=kubernetes.client.V1TokenRequestSpec(audiences=[], expiration_seconds=3600)
    )
    answer = kubernetes.client.CoreV1Api().create_namespaced_service_account_token("default-editor", NAMESPACE, request)
    return answer.status.token


def follow(client: kfp.Client, run_id: str):
    """Print each step as it begins and ends; returns the finished run."""
    started, seen = time.monotonic(), {}
    while True:
        run = client.get_run(run_id)
        for task in sorted(run.run_details.task_details if run.run_details else [], key=task_order):
            if seen.get(task.task_id) == task.state or not is_step(task):
                continue
            seen[task.task_id] = task.state
            if task.state in FINISHED:
                seconds = (task.end_time - task.start_time).total_seconds() if task.end_time and task.start_time else 0
                sign = "ok  " if task.state == "SUCCEEDED" else task.state.lower()
                print(f"  {time.monotonic() - started:6.2f}s  {sign}  {task.display_name}  ({seconds:.2f} s)")
            if task.state == "FAILED" and task.error:
                print(f"           {task.error.message}")
        if run.state in FINISHED:
            return run
        time.sleep(0.1)


def task_order(task) -> float:
    """When the task began, in seconds; those that have not begun come last."""
    return task.start_time.timestamp() if task.start_time else float("inf")


def is_step(task) -> bool:
    """Whether a task did work of its own (and is not the run or a group of tasks)."""
    return bool(task.pod_name) or task.state == "SKIPPED"


def artifact_bytes(uri: str) -> bytes:
    """An artifact's content, with the profile's own object-store keys."""
    secret = kubernetes.client.CoreV1Api().read_namespaced_secret("mlpipeline-minio-artifact", NAMESPACE)
    keys = {name: base64.b64decode(value).decode() for name, value in secret.data.items()}
    store = boto3.client(
        "s3",
        endpoint_url=S3_ENDPOINT,
        aws_access_key_id=keys["accesskey"],
        aws_secret_access_key=keys["secretkey"],
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )
    bucket, _, key = uri.partition("://")[2].partition("/")
    return store.get_object(Bucket=bucket, Key=key)["Body"].read()


def wait_until_served() -> dict:
    """The InferenceService once it is Ready; says why when it is not."""
    api = kubernetes.client.CustomObjectsApi()
    deadline = time.monotonic() + 180
    while True:
        service = api.get_namespaced_custom_object(
            "serving.kserve.io", "v1beta1", NAMESPACE, "inferenceservices", SERVICE
        )
        status = service.get("status", {})
        ready = next((c for c in status.get("conditions", []) if c["type"] == "Ready"), {})
        current = status.get("observedGeneration", 0) >= service["metadata"]["generation"]
        if ready.get("status") == "True" and current:
            return service
        if time.monotonic() > deadline:
            sys.exit(f"the InferenceService is not ready after 3 minutes: {ready.get('message') or status}")
        time.sleep(0.1)


def predict(service: dict, token: str, images) -> list[int]:
    """The served model's answers (KServe V1 protocol)."""
    request = urllib.request.Request(
        f"{INGRESS}/v1/models/{SERVICE}:predict",
        data=json.dumps({"instances": images.tolist()}).encode(),
        headers={
            "Host": service["status"]["url"].partition("://")[2],
            "Content-Type": "application/json",
            "Authorization": f"Bearer {token}",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["predictions"]
    except urllib.error.HTTPError as error:
        sys.exit(f"the model answered {error.code}: {error.read().decode(errors='replace')}")


def draw(images, labels, answers) -> None:
    """Three digits side by side, with what they are and what the model says."""
    for row in range(8):
        cells = ("".join(SHADES[min(9, int(p * 9 / 16))] * 2 for p in image[row * 8 : row * 8 + 8]) for image in images)
        print("     " + "      ".join(cells))
    print("     " + "      ".join(f"it is {y}, model: {a}".ljust(16) for y, a in zip(labels, answers, strict=True)))


def main() -> None:
    kubernetes.config.load_kube_config()
    token = bearer_token()
    client = kfp.Client(host=KFP_HOST, existing_token=token, namespace=NAMESPACE)

    print("Training: a pipeline run")
    with contextlib.redirect_stdout(io.StringIO()):  # the SDK prints links for notebooks
        submitted = client.create_run_from_pipeline_func(
            digits_recognizer,
            arguments={"service_name": SERVICE},
            run_name=f"digits-{time.strftime('%Y%m%d-%H%M%S')}",
            experiment_name="digits",
            namespace=NAMESPACE,
            enable_caching=False,
        )
    run = follow(client, submitted.run_id)
    if run.state != "SUCCEEDED":
        sys.exit(f"the run ended as {run.state}: {run.error.message if run.error else 'see the steps above'}")

    print("\nServing: an InferenceService")
    service = wait_until_served()
    print(f"  ready  {service['status']['url']}")

    import numpy as np

    with np.load(io.BytesIO(artifact_bytes(service["metadata"]["annotations"]["digits.example.com/held-out"]))) as data:
        images, labels = data["images"], data["labels"]
    begin = time.monotonic()
    answers = np.array(predict(service, token, images))
    seconds = time.monotonic() - begin
    right = int((answers == labels).sum())
    print(f"\nPredicting: {len(labels)} held-out digits in {seconds * 1000:.0f} ms")
    print(f"  accuracy {right / len(labels):.4f}  ({len(labels) - right} wrong)\n")
    # One that is hard, if there is one, and two others.
    wrong = np.flatnonzero(answers != labels)[:1].tolist()
    shown = (wrong + [i for i in range(len(labels)) if i not in wrong])[:3]
    draw(images[shown], labels[shown], answers[shown])
    if right / len(labels) < 0.95:
        sys.exit("the served model is worse than the one that was evaluated")


if __name__ == "__main__":
    main()
