"""Runs on a platform of its own: the ladder of ways to start a step, what a pipeline may ask of the platform, a control
plane that is killed again and again, and what is said of each thing that can be wrong.
"""

# No postponed annotations here: kfp reads those of components as types.

import asyncio
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.node.runtime.engines import Engines, EngineUnavailable

from ..node.runtime import realimage  # noqa: TID252

pytestmark = [pytest.mark.node, pytest.mark.clients, pytest.mark.timeout(600)]

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    kfp = pytest.importorskip("kfp")
    from kfp import compiler, dsl
    from kfp.dsl import Dataset, Input, Metrics, Output

NAMESPACE = "kubeflow-user-example-com"
ENDED = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}
LONG = os.environ.get("HEADRACE_LONG_TESTS") == "1"
"""Whether the control plane is killed for minutes instead of seconds."""


def call(platform, method: str, path: str, body: object = None) -> dict[str, Any]:
    """The pipelines API, patient while the platform is away."""
    if not hasattr(platform, "pipelines_token"):
        platform.pipelines_token = platform.headrace("token").stdout.strip()
    token = platform.pipelines_token
    url = f"http://127.0.0.1:{platform.ports['gateway']}/apis/v2beta1{path}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"authorization": f"Bearer {token}"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def start(platform, spec: dict[str, Any], **parameters: Any) -> str:
    given = {"display_name": "a run", "pipeline_spec": spec, "runtime_config": {"parameters": parameters}}
    return call(platform, "POST", "/runs", given)["run_id"]


def ended(platform, run_id: str, seconds: float = 240) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while (run := call(platform, "GET", f"/runs/{run_id}"))["state"] not in ENDED:
        assert time.monotonic() < deadline, f"{run}\n{platform.log_tail()}"
        time.sleep(0.2)
    return run


def tasks(platform, run_id: str) -> dict[str, dict[str, Any]]:
    found = call(platform, "GET", f"/runs/{run_id}/tasks")["tasks"]
    return {task["scope_path"].removeprefix("root/"): task for task in found}


def outputs(task: dict[str, Any]) -> dict[str, Any]:
    return {p["parameter_key"]: p["value"] for p in task.get("outputs", {}).get("parameters", [])}


def document(pipeline, tmp_path) -> dict[str, Any]:
    path = tmp_path / "pipeline.yaml"
    compiler.Compiler().compile(pipeline, str(path))
    parts = list(yaml.safe_load_all(path.read_text()))
    return {"pipeline_spec": parts[0], "platform_spec": parts[1] if len(parts) > 1 else {}}


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def make(number: int, items: list, text: str, data: Output[Dataset], metrics: Output[Metrics]) -> dict:
    import sys
    from pathlib import Path

    print("to stdout", number, items, text)
    print("to stderr", file=sys.stderr)
    Path(data.path).write_text(text * number)
    data.metadata["length"] = len(text) * number
    metrics.log_metric("score", 0.5)
    return {"number": number, "items": items, "nested": {"x": 1.5}}


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def take(data: Input[Dataset], made: dict) -> str:
    from pathlib import Path

    return Path(data.path).read_text() + str(data.metadata["length"]) + str(sorted(made))


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def break_down(text: str):
    raise ValueError(text)


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def which() -> str:
    from pathlib import Path

    return Path("/proc/self/cmdline").read_text().replace("\0", " ")


@dsl.pipeline(name="ladder")
def ladder():
    made = make(number=2, items=[1, "two", 0.5], text="wäter $HOME \\ \" '")
    take(data=made.outputs["data"], made=made.outputs["Output"])
    break_down(text="the wheel is stuck")
    which()


def on_rung(spec: dict[str, Any], rung: str) -> dict[str, Any]:
    """The pipeline with its steps kept from the rungs above this one."""
    changed = json.loads(json.dumps(spec))
    for task in changed["pipeline_spec"]["root"]["dag"]["tasks"].values():
        task["cachingOptions"] = {}
    executors = changed["pipeline_spec"]["deploymentSpec"]["executors"]
    # The environment that the SDK's own command line would ask for, without that the literal one installs it.
    packages = {"podMetadata": {"annotations": {"headrace.dev/requirements": f'["kfp=={kfp.__version__} --no-deps"]'}}}
    changed["platform_spec"] = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {}}}}}
    for label, executor in executors.items():
        changed["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"][label] = packages
        container = executor["container"]
        if rung == "direct":  # no interpreter that was started before has this
            container["env"] = [{"name": "PYTHONFAULTHANDLER", "value": "1"}]
        elif rung == "literal":  # not the command line that the SDK writes
            container["command"] = [f"true\n{w}" if "executor_main" in w else w for w in container["command"]]
    return changed


def results(platform, run_id: str) -> dict[str, Any]:
    """All that a run came to, without what differs between any two runs."""
    found = {}
    seen = tasks(platform, run_id)
    for path, task in seen.items():
        if path in {"root", "which"}:
            continue
        artifacts = [
            (group["artifact_key"], a["type"], a.get("metadata"), a["uri"].rsplit("/", 1)[-1])
            for group in task.get("outputs", {}).get("artifacts", [])
            for a in group["artifacts"]
        ]
        assert "pods" in task, f"{path} had no pod: {json.dumps(seen, indent=1)}"
        pod = task["pods"][-1]["name"]
        log = platform.kubectl("-n", NAMESPACE, "logs", pod)
        shown = [line for line in log.splitlines() if line.startswith(("to std", "ValueError"))]
        found[path] = (task["state"], outputs(task), artifacts, sorted(shown))
    return found


def test_each_rung_of_the_ladder_gives_the_same(platform, tmp_path):
    spec = document(ladder, tmp_path)
    seen, where = {}, {}
    for rung in ("direct", "literal", "warm"):
        changed = on_rung(spec, rung)
        for _ in range(20):
            run_id = start(platform, changed)
            assert ended(platform, run_id)["state"] == "FAILED"
            where[rung] = outputs(tasks(platform, run_id)["which"])["Output"]
            if rung != "warm" or "forkserver" in where[rung]:  # the first starts warm it up
                break
        seen[rung] = results(platform, run_id)

    assert "/opt/headrace/kfp_launcher" in where["direct"]
    assert "forkserver" not in where["direct"]
    assert "kfp.dsl.executor_main" in where["literal"]
    assert "forkserver" in where["warm"]
    assert seen["direct"] == seen["literal"] == seen["warm"]
    assert seen["warm"]["make"][0] == "SUCCEEDED"
    assert seen["warm"]["make"][1]["Output"]["nested"] == {"x": 1.5}
    assert seen["warm"]["break-down"][0] == "FAILED"
    assert seen["warm"]["break-down"][3] == ["ValueError: the wheel is stuck"]


@pytest.fixture
def python_image():
    """An image as it is, with Python and kfp, that nothing in the catalogue stands for."""
    if shutil.which("busybox") is None:
        pytest.skip("busybox is not installed: there is nothing to make an image of")
    try:
        asyncio.run(Engines().ready())
    except EngineUnavailable as error:
        pytest.skip(str(error))
    name = f"localhost/headrace-test-steps-{os.getpid()}:1"
    yield realimage.python(name, Path(kfp.__path__[0]))
    realimage.remove(name)


def test_a_step_in_a_container_of_its_image_gives_the_same_as_one_in_a_local_environment(
    platform, tmp_path, python_image
):
    """The fourth rung."""
    spec = document(ladder, tmp_path)
    local = start(platform, on_rung(spec, "direct"))
    for executor in spec["pipeline_spec"]["deploymentSpec"]["executors"].values():
        executor["container"]["image"] = python_image
    contained = start(platform, spec)
    assert ended(platform, contained)["state"] == "FAILED"
    assert ended(platform, local)["state"] == "FAILED"

    assert results(platform, contained) == results(platform, local)
    which_one = tasks(platform, contained)["which"]
    assert outputs(which_one)["Output"].startswith("python3 -m kfp.dsl.executor_main ")
    pod = json.loads(platform.kubectl("-n", NAMESPACE, "get", "pod", which_one["pods"][-1]["name"], "-o", "json"))
    assert pod["status"]["containerStatuses"][0]["imageID"].startswith(f"{python_image}@sha256:")


@dsl.component(base_image="python:3.11")
def leave(path: str, text: str):
    from pathlib import Path

    assert Path("/shared/prepared").read_text() == "by the init container\n"
    with Path(path, "notes").open("a") as file:
        file.write(text)


@dsl.component(base_image="python:3.11", task_config_passthroughs=[dsl.TaskConfigField.RESOURCES])
def find(path: str, config: dsl.TaskConfig) -> str:
    from pathlib import Path

    return Path(path, "notes").read_text() + str(config.resources)


@dsl.pipeline(name="sharing", pipeline_config=dsl.PipelineConfig(workspace=dsl.WorkspaceConfig(size="10Mi")))
def sharing():
    left = leave(path=dsl.WORKSPACE_PATH_PLACEHOLDER, text="one ")
    find(path=dsl.WORKSPACE_PATH_PLACEHOLDER).after(left).set_cpu_limit("1")


def test_a_workspace_an_init_container_and_a_task_config(platform, tmp_path):
    spec = document(sharing, tmp_path)
    kubernetes = spec["platform_spec"]["platforms"]["kubernetes"]
    prepare = {
        "name": "prepare",
        "image": "busybox",
        "command": ["sh", "-c", "echo by the init container > /x/prepared"],
        "volumeMounts": [{"volumeName": "shared", "mountPath": "/x"}],
    }
    kubernetes.setdefault("deploymentSpec", {})["executors"] = {
        "exec-leave": {
            "initContainers": [prepare],
            "emptyDirMounts": [{"volumeName": "shared", "mountPath": "/shared"}],
        }
    }
    run_id = start(platform, spec)
    run = ended(platform, run_id)
    assert run["state"] == "SUCCEEDED", run
    assert outputs(tasks(platform, run_id)["find"])["Output"] == "one {'limits': {'cpu': '1'}}"
    assert f"kfp-workspace-{run_id}" not in platform.kubectl("-n", NAMESPACE, "get", "pvc", "-o", "name")


@dsl.component(base_image="python:3.11")
def double(number: int) -> int:
    import time

    time.sleep(0.1)
    return 2 * number


@dsl.component(base_image="python:3.11")
def add_up(numbers: list) -> int:
    return sum(numbers)


def many(items: int):
    @dsl.pipeline(name="many")
    def pipeline():
        with dsl.ParallelFor(list(range(items)), parallelism=4) as number:
            once = double(number=number).set_caching_options(False)
            twice = double(number=once.output).set_caching_options(False)
        add_up(numbers=dsl.Collected(twice.output)).set_caching_options(False)

    return pipeline


def test_a_control_plane_that_is_killed_again_and_again_runs_each_step_once(platform, tmp_path):
    items, kills, seconds = (100, 1000, 3.0) if LONG else (10, 3, 1.0)
    run_id = start(platform, document(many(items), tmp_path))
    for _ in range(kills):
        time.sleep(seconds)
        platform.kill()
        platform.up()
        if call(platform, "GET", f"/runs/{run_id}")["state"] in ENDED:
            break
    run = ended(platform, run_id)
    assert run["state"] == "SUCCEEDED", run
    found = tasks(platform, run_id)
    steps = {path: task for path, task in found.items() if task["type"] == "RUNTIME"}
    assert len(steps) == 2 * items + 1
    for path, task in found.items():
        assert [entry["state"] for entry in task["state_history"]].count("SUCCEEDED") == 1, path
    assert {path: len(task["pods"]) for path, task in steps.items()} == dict.fromkeys(steps, 1)
    assert outputs(found["add-up"])["Output"] == 4 * sum(range(items))


BACKEND = """
import time, zipfile
from pathlib import Path

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    with Path({folder!r}, "builds").open("a") as file:
        file.write("one")
    while not Path({folder!r}, "may-go-on").exists():
        time.sleep(0.05)
    name, info = "slowly-1.0-py3-none-any.whl", "slowly-1.0.dist-info"
    with zipfile.ZipFile(Path(wheel_directory, name), "w") as archive:
        archive.writestr("slowly.py", "VALUE = 20")
        archive.writestr(info + "/METADATA", "Metadata-Version: 2.1\\nName: slowly\\nVersion: 1.0\\n")
        archive.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr(info + "/RECORD", "")
    return name
"""


def slow_package(folder) -> str:
    """A package whose build takes until the file `may-go-on` appears."""
    source = folder / "slowly"
    source.mkdir()
    (source / "backend.py").write_text(BACKEND.format(folder=str(folder)))
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "slowly"\nversion = "1.0"\n'
    )
    return f"slowly @ {source.as_uri()}"


def test_many_steps_that_need_what_is_not_there_wait_for_one_build_and_say_so(platform, tmp_path):
    def use() -> int:
        import slowly

        return slowly.VALUE

    needs = dsl.component(base_image="python:3.11", packages_to_install=[slow_package(tmp_path)])(use)

    @dsl.pipeline(name="waiting")
    def waiting():
        with dsl.ParallelFor(list(range(20))) as _:
            needs().set_caching_options(False)

    run_id = start(platform, document(waiting, tmp_path))
    deadline = time.monotonic() + 120
    said: list[str] = []
    while sum("building slowly" in sentence for sentence in said) < 20:
        assert time.monotonic() < deadline, f"{said}\n{platform.log_tail()}"
        time.sleep(0.2)
        said = [task.get("error", {}).get("message", "") for task in tasks(platform, run_id).values()]
    assert "Waiting: its environment is being made: installing kfp, slowly: building slowly." in said, set(said)
    assert "its environment is being made" in platform.headrace("runs", run_id).stdout
    (tmp_path / "may-go-on").touch()
    run = ended(platform, run_id)
    assert run["state"] == "SUCCEEDED", run
    steps = [task for task in tasks(platform, run_id).values() if task["type"] == "RUNTIME"]
    assert [outputs(task)["Output"] for task in steps] == [20] * 20
    assert (tmp_path / "builds").read_text() == "one"
    assert not any("error" in task for task in steps)


def trivial(**container: Any) -> dict[str, Any]:
    """A pipeline of one container, and of a step that runs beside it whatever becomes of that."""
    image = {"image": "busybox", "command": ["true"]}
    return {
        "pipelineInfo": {"name": "wrong"},
        "root": {
            "dag": {
                "tasks": {
                    "bad": {"taskInfo": {"name": "bad"}, "componentRef": {"name": "comp-bad"}},
                    "fine": {"taskInfo": {"name": "fine"}, "componentRef": {"name": "comp-fine"}},
                }
            }
        },
        "components": {"comp-bad": {"executorLabel": "exec-bad"}, "comp-fine": {"executorLabel": "exec-fine"}},
        "deploymentSpec": {
            "executors": {"exec-bad": {"container": {**image, **container}}, "exec-fine": {"container": image}}
        },
    }


def refused_specs() -> dict[str, tuple[dict[str, Any], dict[str, Any], str]]:
    unknown, cycle, missing, mismatch, constant = (trivial() for _ in range(5))
    unknown["root"]["dag"]["tasks"]["bad"]["componentRef"]["name"] = "comp-gone"
    cycle["root"]["dag"]["tasks"]["bad"]["dependentTasks"] = ["fine"]
    cycle["root"]["dag"]["tasks"]["fine"]["dependentTasks"] = ["bad"]
    missing["root"]["inputDefinitions"] = {"parameters": {"size": {"parameterType": "NUMBER_INTEGER"}}}
    mismatch["root"]["inputDefinitions"] = {"parameters": {"size": {"parameterType": "NUMBER_INTEGER"}}}
    constant["components"]["comp-bad"]["inputDefinitions"] = {"parameters": {"x": {"parameterType": "STRING"}}}
    given = {"parameters": {"x": {"runtimeValue": {"constant": "{{$.pipeline_job_nmae}}"}}}}
    constant["root"]["dag"]["tasks"]["bad"]["inputs"] = given
    return {
        "does not parse": ({**trivial(), "root": {"dag": {"tasks": "none"}}}, {}, "does not parse: at root.dag.tasks"),
        "unknown component": (unknown, {}, "runs component 'comp-gone', which the pipeline does not define"),
        "cycle": (cycle, {}, "has a cycle: "),
        "missing input": (missing, {}, "size"),
        "type mismatch": (mismatch, {"size": "large"}, "size"),
        "no such placeholder": (
            constant,
            {},
            "uses the placeholder {{$.pipeline_job_nmae}}, which is not one of KFP's",
        ),
    }


@pytest.mark.parametrize("case", list(refused_specs()))
def test_a_pipeline_that_cannot_run_is_refused_in_one_sentence_by_api_and_command(platform, tmp_path, case):
    spec, given, words = refused_specs()[case]
    with pytest.raises(urllib.error.HTTPError) as refusal:
        start(platform, spec, **given)
    answer = json.loads(refusal.value.read())
    assert (refusal.value.code, answer["code"]) == (400, 3)
    assert words in answer["message"]
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(spec))
    done = platform.headrace("run", str(path), *(f"-p{k}={json.dumps(v)}" for k, v in given.items()), check=False)
    assert done.returncode != 0
    assert words in done.stderr + done.stdout


FAILING: dict[str, tuple[dict[str, Any], str]] = {
    "exit code": ({"command": ["sh", "-c", "exit 3"]}, r"The step's program exited with code 3\."),
    "signal": ({"command": ["sh", "-c", "kill -SEGV $$"]}, r"The step's program was ended by SIGSEGV"),
    "killed": ({"command": ["sh", "-c", "kill -KILL $$"]}, r"was ended by SIGKILL \(often: out of memory\)"),
    "no such program": ({"command": ["no-such-program"]}, r"exited with code 127"),
    "unknown image": ({"image": "example.com/none:1"}, r"no local environment matches image .example.com/none:1."),
    "no such input": ({"args": ["{{$.inputs.artifacts['gone'].path}}"], "command": ["ls"]}, r"exited with code"),
    "resource that is none": ({"resources": {"resourceCpuLimit": "lots"}}, r"resources cannot be read.*'lots'"),
    "image of no such input": ({"image": "{{$.inputs.parameters['gone']}}"}, r"'gone' cannot be filled"),
}


def test_what_goes_wrong_while_a_run_goes_on_is_a_state_and_a_sentence_and_the_rest_goes_on(platform):
    spec = trivial()
    for case, (container, _) in FAILING.items():
        name = case.replace(" ", "-")
        spec["root"]["dag"]["tasks"][name] = {"taskInfo": {"name": name}, "componentRef": {"name": f"comp-{name}"}}
        spec["components"][f"comp-{name}"] = {"executorLabel": f"exec-{name}"}
        executors = spec["deploymentSpec"]["executors"]
        executors[f"exec-{name}"] = {"container": {**executors["exec-fine"]["container"], **container}}
    run_id = start(platform, spec)
    run = ended(platform, run_id)
    found = tasks(platform, run_id)
    shown = platform.headrace("runs", run_id).stdout

    assert (run["state"], found["fine"]["state"]) == ("FAILED", "SUCCEEDED")
    assert run["error"]["message"].startswith("Task '")
    for case, (_, words) in FAILING.items():
        task = found[case.replace(" ", "-")]
        assert task["state"] == "FAILED", case
        assert re.search(words, task["error"]["message"]), (case, task["error"])
        assert task["error"]["message"] in shown, case


@dsl.component(base_image="python:3.11", packages_to_install=["headrace-no-such-package-0==1"])
def needs_what_is_not_there():
    pass


@dsl.component(base_image="python:3.11")
def eat() -> int:
    return len(bytearray(1 << 30))


@dsl.component(base_image="python:3.11")
def lose(data: Output[Dataset]):
    data.uri = "minio://mlpipeline/v2/artifacts/kubeflow-user-example-com/nowhere/at/all"


@dsl.component(base_image="python:3.11")
def read(data: Input[Dataset]) -> str:
    with open(data.path) as file:  # noqa: PTH123 - as people write it
        return file.read()


@dsl.component(base_image="python:3.11")
def say_words() -> str:
    return "words"


@dsl.pipeline(name="wrong-steps")
def wrong_steps():
    needs_what_is_not_there()
    eat().set_memory_limit("200Mi").set_memory_request("100Mi")
    read(data=lose().output)
    say_words()


def test_a_package_that_does_not_exist_too_little_memory_and_an_artifact_without_its_file(platform, tmp_path):
    run_id = start(platform, document(wrong_steps, tmp_path))
    assert ended(platform, run_id)["state"] == "FAILED"
    found = tasks(platform, run_id)
    said = {path: task.get("error", {}).get("message", "") for path, task in found.items()}
    assert "headrace-no-such-package-0" in said["needs-what-is-not-there"]
    assert re.search("memory|MemoryError|SIGKILL", said["eat"]), said["eat"]
    assert re.search("FileNotFoundError|No such file", said["read"]), said["read"]
    assert (found["lose"]["state"], found["say-words"]["state"]) == ("SUCCEEDED", "SUCCEEDED")
