"""The unmodified `kfp.Client` and its generated models against our API."""

# No postponed annotations here: kfp reads those of components as types.

import asyncio
import datetime as dt
import json
import tarfile
import warnings
import zipfile
from typing import Any

import pytest
from pipelines_harness import HOME, SPEC

from headrace.components.pipelines.store.models import (
    NewArtifact,
    Report,
    RuntimeState,
    TaskRow,
    TaskType,
    TaskUpdate,
)

pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("default")]

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    kfp = pytest.importorskip("kfp")
    import kfp_server_api
    from kfp import compiler, dsl
    from kfp.client import Client


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def add(a: float, b: float) -> float:
    return a + b


@dsl.pipeline(name="sums", description="adds")
def sums(x: float, y: float = 2.0, note: str = "n"):
    first = add(a=x, b=y)
    add(a=first.output, b=1.0)


async def in_thread(call, *args, **more) -> Any:
    return await asyncio.to_thread(call, *args, **more)


@pytest.fixture
async def client(api) -> Client:
    return await in_thread(Client, host=api.url, existing_token="editor")


@pytest.fixture
async def person(api) -> Client:
    return await in_thread(Client, host=f"{api.url}/pipeline", existing_token="person")


@pytest.fixture(autouse=True)
def quiet_home(monkeypatch, tmp_path):
    """The client keeps settings in the home directory."""
    monkeypatch.setenv("HOME", str(tmp_path))


async def latest_version(client: Client, pipeline: Any) -> dict[str, str]:
    """Pipeline and version as the client's methods want them."""
    listed = await in_thread(client.list_pipeline_versions, pipeline.pipeline_id, sort_by="created_at desc")
    newest = listed.pipeline_versions[0]
    return {"pipeline_id": pipeline.pipeline_id, "version_id": newest.pipeline_version_id}


async def finish(api, run_id: str, state: RuntimeState, message: str = "") -> None:
    """What the engine does with a run of two tasks."""
    await api.runs.start_run(run_id)
    tasks = [
        TaskRow(id=f"{run_id}-root", run_id=run_id, path="root", name="root", type=TaskType.ROOT),
        TaskRow(
            id=f"{run_id}-add",
            run_id=run_id,
            path="root/add",
            name="add",
            type=TaskType.RUNTIME,
            parent_id=f"{run_id}-root",
        ),
    ]
    await api.runs.create_tasks(run_id, tasks)
    running = {"state": RuntimeState.RUNNING, "pod_name": "sums-add"}
    await api.runs.update_tasks([TaskUpdate(task.id, running) for task in tasks])
    metrics = NewArtifact("metrics", "metrics", "system.Metrics", "s3://mlpipeline/m", {"accuracy": 0.97})
    await api.runs.record_outputs(tasks[1].id, Report(0, RuntimeState.SUCCEEDED, {"Output": 3}, [metrics]))
    await api.runs.update_tasks([TaskUpdate(tasks[0].id, {"state": state})])
    await api.runs.finish_run(run_id, state, error_code=2 if message else 0, error_message=message)


async def test_healthz(client):
    answer = await in_thread(client.get_kfp_healthz)
    assert answer.multi_user is True


async def test_experiments(client):
    made = await in_thread(client.create_experiment, "digits", description="hand-written")
    assert (made.display_name, made.namespace, made.storage_state) == ("digits", HOME, "AVAILABLE")
    assert isinstance(made.created_at, dt.datetime)
    again = await in_thread(client.create_experiment, "digits")
    assert again.experiment_id == made.experiment_id
    assert (await in_thread(client.get_experiment, experiment_name="digits")).description == "hand-written"
    with pytest.raises(ValueError, match="No experiment is found with name nothing"):
        await in_thread(client.get_experiment, experiment_name="nothing")
    await in_thread(client.archive_experiment, made.experiment_id)
    assert (await in_thread(client.get_experiment, made.experiment_id)).storage_state == "ARCHIVED"
    await in_thread(client.unarchive_experiment, made.experiment_id)
    listed = await in_thread(client.list_experiments, sort_by="display_name desc", namespace=HOME)
    assert [e.display_name for e in listed.experiments] == ["digits"]
    assert listed.total_size == 1
    await in_thread(client.delete_experiment, made.experiment_id)
    with pytest.raises(kfp_server_api.ApiException) as caught:
        await in_thread(client.get_experiment, made.experiment_id)
    assert caught.value.status == 404
    assert json.loads(caught.value.body)["code"] == 5


async def test_pipelines_and_versions(client, tmp_path):
    pipeline = await in_thread(client.upload_pipeline_from_pipeline_func, sums, description="d")
    assert (pipeline.display_name, pipeline.description) == ("sums", "d")
    assert await in_thread(client.get_pipeline_id, "sums") == pipeline.pipeline_id
    assert await in_thread(client.get_pipeline_id, "nothing") is None
    version = await in_thread(
        client.upload_pipeline_version_from_pipeline_func,
        sums,
        pipeline_version_name="v2",
        pipeline_id=pipeline.pipeline_id,
        description="second",
    )
    assert (version.display_name, version.description) == ("v2", "second")
    listed = await in_thread(client.list_pipeline_versions, pipeline.pipeline_id, sort_by="created_at desc")
    assert [v.display_name for v in listed.pipeline_versions] == ["v2", "sums"]
    got = await in_thread(client.get_pipeline_version, pipeline.pipeline_id, version.pipeline_version_id)
    assert got.pipeline_spec["pipelineInfo"]["name"] == "sums"
    assert [p.display_name for p in (await in_thread(client.list_pipelines)).pipelines] == ["sums"]
    by_name = await in_thread(client._pipelines_api.pipeline_service_get_pipeline_by_name, "sums")
    assert by_name.pipeline_id == pipeline.pipeline_id
    with pytest.raises(kfp_server_api.ApiException) as caught:
        await in_thread(client.delete_pipeline, pipeline.pipeline_id)
    assert caught.value.status == 400
    for each in listed.pipeline_versions:
        await in_thread(client.delete_pipeline_version, pipeline.pipeline_id, each.pipeline_version_id)
    await in_thread(client.delete_pipeline, pipeline.pipeline_id)
    assert (await in_thread(client.list_pipelines)).pipelines is None


async def test_pipelines_and_versions_are_changed_and_tagged(client):
    api = client._pipelines_api
    made = await in_thread(client.upload_pipeline_from_pipeline_func, sums)
    body = kfp_server_api.V2beta1Pipeline(display_name="Sums", tags={"team": "a"})
    changed = await in_thread(api.pipeline_service_update_pipeline, made.pipeline_id, body)
    assert (changed.display_name, changed.tags) == ("Sums", {"team": "a"})
    text = json.dumps({"predicates": [{"operation": 1, "key": "tags.team", "stringValue": "a"}]})
    assert [p.display_name for p in (await in_thread(client.list_pipelines, filter=text)).pipelines] == ["Sums"]
    ids = await latest_version(client, made)
    version = kfp_server_api.V2beta1PipelineVersion(display_name="first", tags={"k": "v"})
    tagged = await in_thread(
        api.pipeline_service_update_pipeline_version, ids["pipeline_id"], ids["version_id"], version
    )
    assert (tagged.display_name, tagged.tags) == ("first", {"k": "v"})


@pytest.mark.parametrize("suffix", ["yaml", "zip", "tar.gz"])
async def test_packages(client, tmp_path, suffix):
    plain = tmp_path / "pipeline.yaml"
    await in_thread(compiler.Compiler().compile, sums, str(plain))
    package = tmp_path / f"package.{suffix}"
    if suffix == "zip":
        with zipfile.ZipFile(package, "w") as archive:
            archive.write(plain, "pipeline.yaml")
    elif suffix == "tar.gz":
        with tarfile.open(package, "w:gz") as archive:
            archive.add(plain, "pipeline.yaml")
    else:
        package = plain
    pipeline = await in_thread(client.upload_pipeline, str(package), pipeline_name="packed")
    assert pipeline.display_name == "packed"
    experiment = await in_thread(client.create_experiment, "e")
    run = await in_thread(
        client.run_pipeline, experiment.experiment_id, "r", pipeline_package_path=str(package), params={"x": 1}
    )
    assert run.pipeline_spec["root"]["dag"]["tasks"].keys() == {"add", "add-2"}


async def test_a_run_from_a_function_until_it_succeeds(api, client):
    result = await in_thread(
        client.create_run_from_pipeline_func,
        sums,
        arguments={"x": 1.5},
        run_name="first",
        experiment_name="digits",
        enable_caching=False,
    )
    assert [c.kind for c in api.changes] == ["created"]
    assert (await api.runs.load_run(result.run_id)).run.parameters == {"x": 1.5}
    waiting = asyncio.create_task(
        in_thread(client.wait_for_run_completion, result.run_id, timeout=30, sleep_duration=0.05)
    )
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await finish(api, result.run_id, RuntimeState.SUCCEEDED)
    run = await waiting
    assert run.state == "SUCCEEDED"
    assert run.runtime_config.parameters == {"x": 1.5}
    assert [s.state for s in run.state_history] == ["PENDING", "RUNNING", "SUCCEEDED"]
    tasks = {t.display_name: t for t in run.run_details.task_details}
    assert tasks["add"].state == "SUCCEEDED"
    assert tasks["add"].parent_task_id == tasks["root"].task_id
    assert tasks["root"].child_tasks[0].task_id == tasks["add"].task_id
    assert tasks["add"].pod_name == "sums-add"
    assert tasks["add"].start_time <= tasks["add"].end_time
    assert len(tasks["add"].outputs["metrics"].artifact_ids) == 1


async def test_a_failed_run_tells_why(api, client):
    result = await in_thread(client.create_run_from_pipeline_func, sums, arguments={"x": 1})
    await finish(api, result.run_id, RuntimeState.FAILED, "task add failed")
    run = await in_thread(client.wait_for_run_completion, result.run_id, timeout=10, sleep_duration=0.05)
    assert (run.state, run.error.code, run.error.message) == ("FAILED", 2, "task add failed")


async def test_a_run_of_a_version_and_of_the_latest(api, client):
    pipeline = await in_thread(client.upload_pipeline_from_pipeline_func, sums)
    version = await in_thread(
        client.upload_pipeline_version_from_pipeline_func,
        sums,
        pipeline_version_name="v2",
        pipeline_id=pipeline.pipeline_id,
    )
    experiment = await in_thread(client.create_experiment, "e")
    body = kfp_server_api.V2beta1Run(
        experiment_id=experiment.experiment_id,
        display_name="latest",
        pipeline_version_reference=kfp_server_api.V2beta1PipelineVersionReference(pipeline_id=pipeline.pipeline_id),
        runtime_config=kfp_server_api.V2beta1RuntimeConfig(parameters={"x": 1}),
    )
    latest = await in_thread(client._run_api.run_service_create_run, run=body)
    assert latest.pipeline_version_reference.pipeline_version_id == version.pipeline_version_id
    exact = await in_thread(
        client.run_pipeline,
        experiment.experiment_id,
        "exact",
        params={"x": 1},
        pipeline_id=pipeline.pipeline_id,
        version_id=version.pipeline_version_id,
        pipeline_root="s3://mlpipeline/mine",
        service_account="default-viewer",
    )
    assert exact.service_account == "default-viewer"
    assert exact.runtime_config.pipeline_root == "s3://mlpipeline/mine"


@pytest.mark.parametrize(
    ("params", "words"), [({}, "needs a value for x"), ({"x": "one"}, "'x' must be a number"), ({"z": 1}, "named z")]
)
async def test_wrong_parameters_raise_with_a_sentence(client, params, words):
    experiment = await in_thread(client.create_experiment, "e")
    pipeline = await in_thread(client.upload_pipeline_from_pipeline_func, sums)
    with pytest.raises(kfp_server_api.ApiException) as caught:
        await in_thread(
            client.run_pipeline, experiment.experiment_id, "r", params=params, **await latest_version(client, pipeline)
        )
    assert caught.value.status == 400
    assert words in json.loads(caught.value.body)["message"]


async def test_lists_of_runs_page_sort_and_filter(api, client):
    experiment = await in_thread(client.create_experiment, "e")
    for index in range(5):
        await api.start_run(display_name=f"run-{index}", experiment_id=experiment.experiment_id)
    first = await in_thread(client.list_runs, page_size=2, sort_by="created_at desc", namespace=HOME)
    second = await in_thread(
        client.list_runs,
        page_size=2,
        sort_by="created_at desc",
        page_token=first.next_page_token,
        experiment_id=experiment.experiment_id,
    )
    assert [r.display_name for r in first.runs + second.runs] == ["run-4", "run-3", "run-2", "run-1"]
    assert first.total_size == 5
    text = json.dumps({"predicates": [{"operation": 9, "key": "display_name", "stringValue": "RUN-3"}]})
    found = await in_thread(client.list_runs, filter=text)
    assert [r.display_name for r in found.runs] == ["run-3"]


async def test_archive_restore_terminate_delete(api, client):
    run = await api.start_run()
    ident = run["run_id"]
    await in_thread(client.archive_run, ident)
    assert (await in_thread(client.get_run, ident)).storage_state == "ARCHIVED"
    await in_thread(client.unarchive_run, ident)
    await in_thread(client.terminate_run, ident)
    assert (await in_thread(client.get_run, ident)).state == "CANCELING"
    await in_thread(client.delete_run, ident)
    with pytest.raises(kfp_server_api.ApiException) as caught:
        await in_thread(client.get_run, ident)
    assert caught.value.status == 404


async def test_a_failed_run_is_retried(api, client):
    result = await in_thread(client.create_run_from_pipeline_func, sums, arguments={"x": 1})
    await finish(api, result.run_id, RuntimeState.FAILED, "task add failed")
    await in_thread(client._run_api.run_service_retry_run, result.run_id)
    run = await in_thread(client.get_run, result.run_id)
    assert (run.state, run.error) == ("PENDING", None)
    states = {t.display_name: t.state for t in run.run_details.task_details}
    assert states["add"] == "SUCCEEDED"


async def test_recurring_runs(api, client):
    experiment = await in_thread(client.create_experiment, "e")
    pipeline = await in_thread(client.upload_pipeline_from_pipeline_func, sums)
    nightly = await in_thread(
        client.create_recurring_run,
        experiment.experiment_id,
        "nightly",
        cron_expression="0 0 0 * * *",
        start_time="2026-01-01T00:00:00Z",
        params={"x": 1},
        no_catchup=True,
        **await latest_version(client, pipeline),
    )
    assert (nightly.status, nightly.mode, nightly.max_concurrency, nightly.no_catchup) == (
        "ENABLED",
        "ENABLE",
        "1",
        True,
    )
    assert nightly.trigger.cron_schedule.start_time == dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    often = await in_thread(
        client.create_recurring_run,
        experiment.experiment_id,
        "often",
        interval_second=60,
        params={"x": 1},
        enabled=False,
        **await latest_version(client, pipeline),
    )
    assert (often.status, often.trigger.periodic_schedule.interval_second) == ("DISABLED", "60")
    listed = await in_thread(
        client.list_recurring_runs, sort_by="display_name desc", experiment_id=experiment.experiment_id
    )
    assert [r.display_name for r in listed.recurring_runs] == ["often", "nightly"]
    await in_thread(client.enable_recurring_run, often.recurring_run_id)
    await in_thread(client.disable_recurring_run, nightly.recurring_run_id)
    assert (await in_thread(client.get_recurring_run, often.recurring_run_id)).status == "ENABLED"
    assert (await in_thread(client.get_recurring_run, nightly.recurring_run_id)).status == "DISABLED"
    await in_thread(client.delete_recurring_run, nightly.recurring_run_id)
    left = await in_thread(client.list_recurring_runs, namespace=HOME)
    assert [r.display_name for r in left.recurring_runs] == ["often"]
    shown = (await api.ok("GET", "/recurringruns"))["recurringRuns"][0]
    assert set(shown) <= set(kfp_server_api.V2beta1RecurringRun.attribute_map.values())
    with pytest.raises(kfp_server_api.ApiException) as caught:
        await in_thread(
            client.create_recurring_run,
            experiment.experiment_id,
            "wrong",
            cron_expression="every day",
            params={"x": 1},
            **await latest_version(client, pipeline),
        )
    assert caught.value.status == 400
    assert "not a schedule" in json.loads(caught.value.body)["message"]


async def test_below_the_dashboards_address_and_without_a_right(person, api):
    """`/pipeline` is where the dashboard's users point the client."""
    assert (await in_thread(person.get_kfp_healthz)).multi_user is True
    await in_thread(person.create_experiment, "mine")
    stranger = await in_thread(Client, host=api.url, existing_token="nobody")
    with pytest.raises(kfp_server_api.ApiException) as caught:
        await in_thread(stranger.list_experiments, namespace=HOME)
    assert caught.value.status == 403


async def test_generated_models_know_every_field_of_our_answers(api):
    """What we call a field is what the generated models call it."""
    known = {
        "runs": kfp_server_api.V2beta1Run,
        "experiments": kfp_server_api.V2beta1Experiment,
        "pipelines": kfp_server_api.V2beta1Pipeline,
        "task_details": kfp_server_api.V2beta1PipelineTaskDetail,
    }
    run = await api.start_run(description="d", experiment_id=None)
    await finish(api, run["run_id"], RuntimeState.FAILED, "why")
    await api.ok("POST", "/pipelines", {"name": "p", "description": "d"})
    answers = {name: (await api.ok("GET", f"/{name}"))[name] for name in ("runs", "experiments", "pipelines")}
    full = await api.ok("GET", f"/runs/{run['run_id']}")
    answers["runs"].append(full)
    answers["task_details"] = full["run_details"]["task_details"]
    for name, items in answers.items():
        assert items
        for item in items:
            assert set(item) <= set(known[name].attribute_map.values()), name
    assert full["pipeline_spec"] == SPEC
