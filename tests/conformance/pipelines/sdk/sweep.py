"""Calls every public method of an SDK's clients against a platform, and says which it has called.

Run by an interpreter that has some `kfp` 2: `python sweep.py URL TOKEN NAMESPACE`. A method that this script does not
know is an error: a new SDK may not bring one that nobody has tried.
"""

# ruff: noqa: E402, PTH118 (the client warns when it is imported)

import importlib.util
import inspect
import json
import os
import sys
import tempfile
import time
import warnings

warnings.simplefilter("ignore")

import kfp
from kfp import compiler, dsl
from kfp.client import Client

CALLED = set()


def watch(kind):
    """Note each public method of a class as it is called."""

    def noting(name, method):
        def call(*args, **more):
            CALLED.add(name)
            return method(*args, **more)

        return call

    public = {n: m for n, m in inspect.getmembers(kind, inspect.isfunction) if not n.startswith("_")}
    for name, method in public.items():
        setattr(kind, name, noting(name, method))
    return set(public)


@dsl.component(base_image="python:3.11-slim")
def add(a: float, b: float) -> float:
    return a + b


@dsl.pipeline(name="sdk-sums", description="adds")
def sums(x: float, y: float = 2.0):
    first = add(a=x, b=y)
    add(a=first.output, b=1.0)


@dsl.container_component
def wait():
    return dsl.ContainerSpec(image="python:3.11-slim", command=["sleep", "600"])


@dsl.pipeline(name="sdk-waits")
def waits():
    wait()


def predicate(operation, key, value):
    return json.dumps({"predicates": [{"operation": operation, "key": key, "stringValue": value}]})


def sweep_client(url, token, namespace, package):
    public = watch(Client)
    client = Client(host=url, existing_token=token)
    assert client.get_kfp_healthz(sleep_duration=0).multi_user
    client.set_user_namespace(namespace)
    assert client.get_user_namespace() == namespace

    experiment = client.create_experiment("sdk", description="sweep")
    ident = experiment.experiment_id
    assert client.create_experiment("sdk").experiment_id == ident
    assert client.get_experiment(experiment_name="sdk").experiment_id == ident
    assert client.get_experiment(experiment_id=ident).description == "sweep"
    named = client.list_experiments(sort_by="created_at desc", filter=predicate(1, "display_name", "sdk"))
    assert [e.experiment_id for e in named.experiments] == [ident]
    client.archive_experiment(ident)
    assert client.get_experiment(experiment_id=ident).storage_state == "ARCHIVED"
    client.unarchive_experiment(ident)

    pipeline = client.upload_pipeline(package, pipeline_name="sdk-sums", description="d")
    name = getattr(pipeline, "name", None) or pipeline.display_name
    assert name == "sdk-sums", pipeline
    assert client.get_pipeline_id("sdk-sums") == pipeline.pipeline_id
    assert client.get_pipeline(pipeline.pipeline_id).description == "d"
    found = client.list_pipelines(sort_by="created_at desc", filter=predicate(1, "display_name", "sdk-sums"))
    assert [p.pipeline_id for p in found.pipelines] == [pipeline.pipeline_id]
    version = client.upload_pipeline_version(package, "v2", pipeline_id=pipeline.pipeline_id, description="second")
    client.upload_pipeline_version(package, "v3", pipeline_name="sdk-sums")
    if "upload_pipeline_from_pipeline_func" in public:
        other = client.upload_pipeline_from_pipeline_func(sums, pipeline_name="sdk-other")
        client.upload_pipeline_version_from_pipeline_func(sums, "v9", pipeline_id=other.pipeline_id)
        for each in client.list_pipeline_versions(other.pipeline_id).pipeline_versions:
            client.delete_pipeline_version(other.pipeline_id, each.pipeline_version_id)
        client.delete_pipeline(other.pipeline_id)
        assert client.get_pipeline_id("sdk-other") is None
    versions = client.list_pipeline_versions(pipeline.pipeline_id, sort_by="created_at desc").pipeline_versions
    assert [v.display_name for v in versions] == ["v3", "v2", "sdk-sums"]
    got = client.get_pipeline_version(pipeline.pipeline_id, version.pipeline_version_id)
    assert got.pipeline_spec["pipelineInfo"]["name"] == "sdk-sums"

    runs = [
        client.create_run_from_pipeline_package(package, {"x": 1}, experiment_name="sdk").run_id,
        client.create_run_from_pipeline_func(
            sums, arguments={"x": 2}, experiment_id=ident, enable_caching=False
        ).run_id,
        client.run_pipeline(
            ident,
            "of-version",
            params={"x": 3},
            pipeline_id=pipeline.pipeline_id,
            version_id=version.pipeline_version_id,
        ).run_id,
        client.run_pipeline(ident, "of-package", pipeline_package_path=package, params={"x": 4}).run_id,
    ]
    for run in runs:
        ended = client.wait_for_run_completion(run, timeout=300, sleep_duration=1)
        assert ended.state == "SUCCEEDED", ended
        assert {t.display_name for t in ended.run_details.task_details} >= {"add", "add-2"}
    listed = client.list_runs(experiment_id=ident, sort_by="created_at desc", page_size=3)
    more = client.list_runs(
        experiment_id=ident, sort_by="created_at desc", page_size=3, page_token=listed.next_page_token
    )
    assert [r.run_id for r in [*listed.runs, *more.runs]] == runs[::-1]
    assert client.get_run(runs[0]).state == "SUCCEEDED"
    client.archive_run(runs[0])
    assert client.get_run(runs[0]).storage_state == "ARCHIVED"
    client.unarchive_run(runs[0])
    client.delete_run(runs[0])
    try:
        client.terminate_run(runs[1])
        raise AssertionError("a run that has ended was terminated")
    except kfp.client.client.kfp_server_api.ApiException as error:
        assert error.status == 400, error
    ended = client.create_run_from_pipeline_func(waits, experiment_name="sdk").run_id
    client.terminate_run(ended)
    while client.get_run(ended).state != "CANCELED":  # the caller has a limit of its own
        time.sleep(0.2)

    nightly = client.create_recurring_run(
        ident, "nightly", cron_expression="0 0 0 * * *", params={"x": 1}, pipeline_package_path=package, enabled=False
    ).recurring_run_id
    often = client.create_recurring_run(
        ident,
        "often",
        interval_second=3600,
        params={"x": 1},
        pipeline_id=pipeline.pipeline_id,
        version_id=version.pipeline_version_id,
    ).recurring_run_id
    assert client.get_recurring_run(nightly).status == "DISABLED"
    client.enable_recurring_run(nightly)
    client.disable_recurring_run(often)
    listed = client.list_recurring_runs(experiment_id=ident, sort_by="created_at").recurring_runs
    assert [(r.recurring_run_id, r.status) for r in listed] == [(nightly, "ENABLED"), (often, "DISABLED")]
    client.disable_job(nightly)
    client.enable_job(often)
    client.delete_job(often)
    client.delete_recurring_run(nightly)
    assert not client.list_recurring_runs(experiment_id=ident).recurring_runs

    for each in versions:
        client.delete_pipeline_version(pipeline.pipeline_id, each.pipeline_version_id)
    client.delete_pipeline(pipeline.pipeline_id)
    for run in [*runs[1:], ended]:
        client.delete_run(run)
    client.delete_experiment(ident)
    return public


def sweep_facade(url, token, namespace, package):
    """PipelinesClient, which SDKs from 2.17 on have."""
    if importlib.util.find_spec("kfp.kubeflow_client") is None:
        return set()
    from kfp.kubeflow_client import KubernetesBackendConfig, PipelinesClient

    public = watch(PipelinesClient)
    client = PipelinesClient(KubernetesBackendConfig(base_url=url, user_token=token, namespace=namespace))
    experiment = client.create_experiment("facade", description="d")
    assert client.get_experiment("facade").experiment_id == experiment.experiment_id
    assert "facade" in {e.display_name for e in client.list_experiments(page_size=50).experiments}
    first = client.upload_pipeline(sums, name="facade-sums", description="d")
    client.upload_pipeline(package, name="facade-sums", version="v2")
    assert client.get_pipeline("facade-sums").pipeline_id == first.pipeline_id
    second = client.get_pipeline_version("facade-sums", "v2")
    assert "facade-sums" in {p.display_name for p in client.list_pipelines(page_size=50).pipelines}
    assert len(client.list_pipeline_versions("facade-sums").pipeline_versions) == 2
    ways = ("facade-sums", package, sums, client.get_pipeline("facade-sums"), second)
    runs = [client.run(way, params={"x": 1}, experiment="facade") for way in ways]
    runs.append(client.run("facade-sums", version="v2", params={"x": 1}, name="named", experiment="facade"))
    for run in runs:
        assert client.wait_for_run_status(run, timeout=300, polling_interval=1).state == "SUCCEEDED"
    assert client.get_run(runs[-1].run_id).display_name == "named"
    succeeded = client.list_runs(pipeline="facade-sums", experiment="facade", status="succeeded", page_size=50).runs
    assert {r.run_id for r in succeeded} == {runs[i].run_id for i in (0, 3, 4, 5)}
    client.delete_pipeline("facade-sums", version="v2")
    client.delete_pipeline("facade-sums", force=True)
    assert client.kfp_client.get_kfp_healthz().multi_user
    for run in runs:
        client.kfp_client.delete_run(run.run_id)
    client.delete_experiment("facade")
    return public


def main(url, token, namespace):
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOME"] = folder  # the client keeps settings in the home directory
        package = os.path.join(folder, "pipeline.yaml")
        compiler.Compiler().compile(sums, package)
        missing = sweep_client(url, token, namespace, package) - CALLED
        CALLED.clear()
        missing |= {f"PipelinesClient.{n}" for n in sweep_facade(url, token, namespace, package) - CALLED}
    assert not missing, f"public methods that nothing has tried: {sorted(missing)}"
    print(f"kfp {kfp.__version__}: every public method was called")


if __name__ == "__main__":
    main(*sys.argv[1:])
