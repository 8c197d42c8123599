"""The digits recognizer through the real clients, on a platform of its own."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request

import pytest

NAMESPACE = "kubeflow-user-example-com"

pytestmark = [
    pytest.mark.node,
    pytest.mark.clients,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:This client only works:FutureWarning"),  # of every kfp.Client
]


def post(url: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict]:
    request = urllib.request.Request(url, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


@pytest.fixture(scope="module")
def output(platform) -> str:
    run = platform.example("01-digits")
    out, _ = run.communicate(timeout=500)
    assert run.returncode == 0, f"{out}\n{platform.log_tail()}"
    return out


def test_every_step_is_shown_and_the_model_is_good(output: str) -> None:
    for step in ("load-digits", "check-and-split", "choose-best", "evaluate", "deploy"):
        assert re.search(rf"ok\s+{step}", output), output
    assert len(re.findall(r"ok\s+train", output)) == 4, output
    accuracy = float(re.search(r"accuracy (0\.\d+|1\.0+)", output)[1])
    assert accuracy >= 0.95
    assert output.count("model: ") == 3


def test_it_looks_like_a_cluster(platform, output: str) -> None:
    pods = platform.kubectl("get", "pods", "-A")
    assert re.search(rf"{NAMESPACE}\s+digits-predictor-\S+\s+1/1\s+Running", pods), pods
    assert re.search(r"0/1\s+Completed", pods), pods
    assert "Ready" in platform.kubectl("get", "nodes")
    assert re.search(r"digits\s+http://\S+\s+True", platform.kubectl("get", "isvc", "-n", NAMESPACE))
    assert platform.kubectl("get", "--raw", "/readyz").strip() == "ok"


def test_the_model_is_reached_by_path_and_by_host_with_both_protocols(platform, output: str) -> None:
    token = platform.headrace("token").stdout.strip()
    auth = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    image = [0.0] * 64
    base = platform.env["INGRESS"]
    path = f"{base}/serving/{NAMESPACE}/digits/v1/models/digits:predict"
    status, by_path = post(path, json.dumps({"instances": [image]}).encode(), auth)
    assert status == 200, by_path
    host = {**auth, "Host": f"digits-{NAMESPACE}.example.com"}
    status, by_host = post(f"{base}/v1/models/digits:predict", json.dumps({"instances": [image]}).encode(), host)
    assert (status, by_host) == (200, by_path)
    tensor = {"inputs": [{"name": "x", "shape": [1, 64], "datatype": "FP64", "data": image}]}
    status, v2 = post(f"{base}/serving/{NAMESPACE}/digits/v2/models/digits/infer", json.dumps(tensor).encode(), auth)
    assert status == 200, v2
    assert v2["outputs"][0]["data"] == by_path["predictions"]


def test_the_model_is_refused_to_those_who_may_not(platform, output: str) -> None:
    url = f"{platform.env['INGRESS']}/serving/{NAMESPACE}/digits/v1/models/digits:predict"
    body = json.dumps({"instances": [[0.0] * 64]}).encode()
    assert post(url, body, {})[0] == 401
    assert post(url, body, {"Authorization": "Bearer not-a-token"})[0] == 401
    foreign = platform.headrace("token", "--namespace", "default", "--service-account", "default").stdout.strip()
    assert post(url, body, {"Authorization": f"Bearer {foreign}"})[0] == 403
    elsewhere = platform.kubectl(
        "create", "token", "default-editor", "-n", NAMESPACE, "--audience", "vault.example.com"
    ).strip()
    assert post(url, body, {"Authorization": f"Bearer {elsewhere}"})[0] == 401


def test_bad_requests_get_the_errors_of_their_api(platform, output: str) -> None:
    token = platform.headrace("token").stdout.strip()
    auth = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    base = f"{platform.env['INGRESS']}/serving/{NAMESPACE}/digits/v1/models/digits:predict"
    status, answer = post(base, b"{not json", auth)
    assert status == 400
    assert "error" in answer
    status, answer = post(base, b'{"instances": [[1, 2, 3]]}', auth)
    assert status == 400
    assert "features" in answer["error"]
    status, answer = post(f"{platform.env['KFP_HOST']}/apis/v2beta1/runs", b'{"pipeline_spec": {"nope": 1}}', auth)
    assert status == 400
    assert answer["code"] == 3
    assert answer["message"]
    unknown = platform.kubectl("get", "nopes", check=False)
    assert "the server doesn't have a resource type" in unknown


def test_a_model_that_does_not_load_says_why(platform, output: str) -> None:
    manifest = platform.home / "broken.yaml"
    manifest.write_text(
        "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\n"
        f"metadata: {{name: broken, namespace: {NAMESPACE}}}\n"
        "spec: {predictor: {sklearn: {storageUri: 's3://mlpipeline/no/such/model'}}}\n"
    )
    platform.kubectl("apply", "-f", str(manifest))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        status = json.loads(platform.kubectl("get", "isvc", "broken", "-n", NAMESPACE, "-o", "json")).get("status", {})
        failure = status.get("modelStatus", {}).get("lastFailureInfo", {}).get("message", "")
        if failure:
            break
        time.sleep(0.2)
    assert "no/such/model" in failure, status
    platform.kubectl("delete", "-f", str(manifest))


def test_a_crash_in_the_middle_of_the_run_loses_and_doubles_nothing(platform, output: str) -> None:
    run = platform.example("01-digits")
    for line in run.stdout:
        if re.search(r"ok\s+check-and-split", line):
            break
    platform.kill()
    run.kill()
    run.communicate()
    platform.up()

    import kfp

    token = platform.headrace("token").stdout.strip()
    client = kfp.Client(host=platform.env["KFP_HOST"], existing_token=token, namespace=NAMESPACE)
    newest = client.list_runs(sort_by="created_at desc", page_size=1, namespace=NAMESPACE).runs[0]
    deadline = time.monotonic() + 120
    while (found := client.get_run(newest.run_id)).state not in {"SUCCEEDED", "FAILED"} and time.monotonic() < deadline:
        time.sleep(0.2)
    assert found.state == "SUCCEEDED", found
    steps = [t for t in found.run_details.task_details if t.pod_name]
    assert len(steps) == 9
    for task in steps:
        states = [s.state for s in task.state_history]
        assert task.state == "SUCCEEDED", task
        assert states.count("SUCCEEDED") == 1, (task.display_name, states)
    pods = json.loads(
        platform.kubectl("get", "pods", "-n", NAMESPACE, "-l", f"pipeline/runid={newest.run_id}", "-o", "json")
    )["items"]
    assert len(pods) == len(steps), "a step ran twice"
