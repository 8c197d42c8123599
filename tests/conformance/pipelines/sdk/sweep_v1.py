"""Calls every public method of kfp 1.8's client against a platform: `python sweep_v1.py URL TOKEN NAMESPACE`."""

# ruff: noqa: E402, PTH118 (the client warns when it is imported)

import inspect
import json
import os
import sys
import tempfile
import time
import warnings

warnings.simplefilter("ignore")

import kfp
import kfp_server_api
from kfp import Client, compiler, dsl
from kfp.components import create_component_from_func

CALLED = set()
time_sleep = time.sleep


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


def add(a: float, b: float) -> float:
    return a + b


add_op = create_component_from_func(add, base_image="python:3.11-slim")


@dsl.pipeline(name="sdk1-sums", description="adds")
def sums(x: float, y: float = 2.0):
    add_op(add_op(x, y).output, 1.0)


def refused(status, call, *args, **more):
    try:
        call(*args, **more)
    except kfp_server_api.ApiException as error:
        assert error.status == status, error
    else:
        raise AssertionError(f"{call} was not refused")


def sweep(url, token, namespace, package):
    public = watch(Client)
    client = Client(host=url, existing_token=token)
    assert client.get_kfp_healthz().multi_user
    client.set_user_namespace(namespace)
    assert client.get_user_namespace() == namespace

    experiment = client.create_experiment("sdk1", description="sweep")
    assert client.create_experiment("sdk1").id == experiment.id
    assert client.get_experiment(experiment_name="sdk1", namespace=namespace).id == experiment.id
    assert client.get_experiment(experiment_id=experiment.id).description == "sweep"
    listed = client.list_experiments(sort_by="created_at desc", namespace=namespace)
    assert experiment.id in {e.id for e in listed.experiments}

    pipeline = client.upload_pipeline(package, pipeline_name="sdk1-sums", description="d")
    assert {p.name: p.value for p in pipeline.parameters} == {"x": None, "y": "2.0"}
    assert client.get_pipeline_id("sdk1-sums") == pipeline.id
    assert client.get_pipeline(pipeline.id).default_version.name == "sdk1-sums"
    assert pipeline.id in {p.id for p in client.list_pipelines(sort_by="created_at desc").pipelines}
    version = client.upload_pipeline_version(package, "v2", pipeline_id=pipeline.id, description="second")
    versions = client.list_pipeline_versions(pipeline.id, sort_by="created_at desc").versions
    assert [v.name for v in versions] == ["v2", "sdk1-sums"]
    template = client.pipelines.get_pipeline_version_template(version.id).template
    assert json.loads(template)["kind"] == "Workflow"

    one = client.create_run_from_pipeline_package(package, {"x": "1"}, experiment_name="sdk1", namespace=namespace)
    two = client.create_run_from_pipeline_func(
        sums, {"x": "2"}, experiment_name="sdk1", namespace=namespace, enable_caching=False
    )
    three = client.run_pipeline(experiment.id, "of-version", params={"x": 3}, version_id=version.id)
    four = client.run_pipeline(experiment.id, "of-package", pipeline_package_path=package, params={"x": 4})
    runs = [one.run_id, two.run_id, three.id, four.id]
    time.sleep = lambda seconds: time_sleep(min(seconds, 0.5))
    for run in runs:
        ended = client.wait_for_run_completion(run, timeout=300)
        assert ended.run.status == "Succeeded", ended
        nodes = json.loads(ended.pipeline_runtime.workflow_manifest)["status"]["nodes"].values()
        assert {n["displayName"] for n in nodes} >= {"Add", "Add 2"} or {n["displayName"] for n in nodes} >= {"add"}
    assert client.get_run(runs[0]).run.pipeline_spec.parameters[0].value == "1"
    listed = client.list_runs(experiment_id=experiment.id, sort_by="created_at desc", page_size=3)
    more = client.list_runs(
        experiment_id=experiment.id, sort_by="created_at desc", page_size=3, page_token=listed.next_page_token
    )
    assert [r.id for r in [*listed.runs, *more.runs]] == runs[::-1]
    assert {r.id for r in client.list_runs(namespace=namespace, page_size=100).runs} >= set(runs)
    client.runs.report_run_metrics(
        runs[0],
        {"metrics": [{"name": "accuracy", "node_id": "n", "number_value": 0.5, "format": "RAW"}]},
    )
    assert client.get_run(runs[0]).run.metrics[0].number_value == 0.5
    client.runs.archive_run(runs[0])
    assert client.get_run(runs[0]).run.storage_state == "STORAGESTATE_ARCHIVED"
    client.runs.unarchive_run(runs[0])
    refused(400, client.runs.terminate_run, runs[0])
    refused(400, client.runs.retry_run, runs[0])

    nightly = client.create_recurring_run(
        experiment.id, "nightly", cron_expression="0 0 0 * * *", params={"x": 1}, pipeline_package_path=package
    )
    often = client.create_recurring_run(
        experiment.id, "often", interval_second=3600, params={"x": 1}, version_id=version.id, enabled=False
    )
    assert client.get_recurring_run(nightly.id).enabled
    assert not client.get_recurring_run(often.id).enabled
    client.disable_job(nightly.id)
    client.jobs.enable_job(often.id)
    listed = client.list_recurring_runs(experiment_id=experiment.id, sort_by="created_at").jobs
    assert [(j.id, j.mode) for j in listed] == [(nightly.id, "DISABLED"), (often.id, "ENABLED")]
    for each in (nightly, often):
        client.delete_job(each.id)

    client.delete_pipeline_version(version.id)
    client.delete_pipeline(pipeline.id)
    for run in runs:
        client.runs.delete_run(run)
    client.archive_experiment(experiment.id)
    assert client.get_experiment(experiment_id=experiment.id).storage_state == "STORAGESTATE_ARCHIVED"
    client.delete_experiment(experiment.id)
    return public


def main(url, token, namespace):
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOME"] = folder  # the client keeps settings in the home directory
        package = os.path.join(folder, "pipeline.yaml")
        compiler.Compiler().compile(sums, package)
        missing = sweep(url, token, namespace, package) - CALLED
    assert not missing, f"public methods that nothing has tried: {sorted(missing)}"
    print(f"kfp {kfp.__version__}: every public method was called")


if __name__ == "__main__":
    main(*sys.argv[1:])
