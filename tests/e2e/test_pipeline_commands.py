"""`headrace run` and `headrace runs` on a platform of its own: steps shown, logs of failures, exit codes, retries."""

# No postponed annotations here: kfp reads those of components as types.

import base64
import json
import re
import time
import urllib.request
import warnings

import pytest

pytestmark = [pytest.mark.node, pytest.mark.clients, pytest.mark.timeout(300)]

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    kfp = pytest.importorskip("kfp")
    from kfp import compiler, dsl
    from kfp.dsl import Dataset, Output


@dsl.component(base_image="python:3.11-slim")
def greet(text: str, data: Output[Dataset]) -> str:
    with open(data.path, "w") as file:  # noqa: PTH123
        file.write(text)
    return text


@dsl.component(base_image="python:3.11-slim")
def check(text: str, fail: bool):
    if fail:
        raise RuntimeError(f"{text}: on purpose")


@dsl.pipeline(name="greeting")
def greeting(text: str, fail: bool = False):
    check(text=greet(text=text).outputs["Output"], fail=fail)


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("packages") / "greeting.yaml"
    compiler.Compiler().compile(greeting, str(path))
    return str(path)


def call(platform, method: str, path: str, body: object = None) -> dict:
    token = platform.headrace("token").stdout.strip()
    url = f"http://127.0.0.1:{platform.ports['gateway']}/apis/v2beta1{path}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"authorization": f"Bearer {token}"}, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_a_run_is_followed_to_its_success_and_its_artifact_read(platform, package):
    done = platform.headrace("run", package, "-p", "text=hi = you", "--name", "first", "--experiment", "e", "--follow")
    assert re.search(r"SUCCEEDED +greet  \d", done.stdout), done.stdout
    assert "run 'first' SUCCEEDED" in done.stdout
    run_id = re.search(r"run (\S{36})", done.stdout)[1]
    read = call(platform, "GET", f"/runs/{run_id}/nodes/greet/artifacts/data:read")
    assert base64.b64decode(read["data"]) == b"hi = you"
    shown = platform.headrace("runs", run_id[:8]).stdout
    assert "SUCCEEDED  check" in shown
    assert json.loads(platform.headrace("runs", "first", "--json").stdout)["run_id"] == run_id


def test_a_failure_shows_its_log_and_the_exit_code_says_so_also_when_retried(platform, package):
    done = platform.headrace("run", package, "-p", "text=x", "-p", "fail=true", "-f", "--no-cache", check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "RuntimeError: x: on purpose" in done.stdout
    run_id = re.search(r"run (\S{36})", done.stdout)[1]
    again = platform.headrace("runs", run_id, "--retry", "--follow", check=False)
    assert again.returncode == 1, again.stdout + again.stderr
    assert run_id[:8] in platform.headrace("runs").stdout
    refused = platform.headrace("runs", run_id, "--terminate", check=False)
    assert refused.returncode == 1
    assert "FAILED already" in refused.stderr


def test_without_follow_it_returns_at_once_and_a_second_command_follows(platform, package):
    done = platform.headrace("run", package, "-p", "text=later")
    run_id = re.search(r"run (\S{36})", done.stdout)[1]
    assert platform.headrace("runs", run_id[:12], "--follow").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["-p", "text"], 2, "parameters are: fail, text"),
        (["-p", "other=1"], 2, "parameters are: fail, text"),
        (["-p", "text=x", "-p", "fail=perhaps"], 2, "is not JSON"),
        ([], 1, "needs a value for text"),
    ],
)
def test_wrong_parameters_are_refused(platform, package, arguments, code, words):
    done = platform.headrace("run", package, *arguments, check=False)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr


def test_a_recurring_run_starts_runs(platform, package):
    import yaml

    with open(package) as file:  # noqa: PTH123
        spec = yaml.safe_load(file)
    body = {
        "display_name": "often",
        "pipeline_spec": spec,
        "runtime_config": {"parameters": {"text": "again"}},
        "max_concurrency": "1",
        "mode": "ENABLE",
        "trigger": {"periodic_schedule": {"interval_second": "1"}},
    }
    made = call(platform, "POST", "/recurringruns", body)
    deadline = time.monotonic() + 60
    while platform.headrace("runs").stdout.count("often") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    call(platform, "POST", f"/recurringruns/{made['recurring_run_id']}:disable")
    call(platform, "DELETE", f"/recurringruns/{made['recurring_run_id']}")
