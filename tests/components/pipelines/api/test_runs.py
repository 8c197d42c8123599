"""Runs through the REST API."""

from __future__ import annotations

import pytest
import yaml
from aiohttp import FormData
from pipelines_harness import SPEC

from headrace.components.pipelines.store.models import (
    NewArtifact,
    Report,
    RuntimeState,
    TaskRow,
    TaskType,
    TaskUpdate,
    Values,
)


async def test_a_run_is_recorded_with_its_spec_and_wakes_the_engine(api):
    run = await api.start_run()
    assert run["state"] == "PENDING"
    assert run["service_account"] == "default-editor"
    assert run["runtime_config"] == {"parameters": {"who": "world"}}
    assert [(c.kind, c.run_id) for c in api.changes] == [("created", run["run_id"])]
    again = await api.ok("GET", f"/runs/{run['run_id']}")
    assert again["pipeline_spec"] == SPEC
    loaded = await api.runs.load_run(run["run_id"])
    assert loaded.run.pipeline_name == "greet"
    assert await api.runs.unfinished_runs() == [run["run_id"]]


async def test_a_platform_spec_comes_back_beside_the_pipeline_spec(api):
    document = {"pipeline_spec": SPEC, "platform_spec": {"platforms": {"kubernetes": {}}}}
    run = await api.start_run(pipeline_spec=document)
    assert run["pipeline_spec"] == document
    loaded = await api.runs.load_run(run["run_id"])
    assert loaded.spec.platform_spec == {"platforms": {"kubernetes": {}}}


async def test_a_run_without_an_experiment_belongs_to_default_which_is_made_once(api):
    first, second = await api.start_run(), await api.start_run()
    assert first["experiment_id"] == second["experiment_id"]
    experiment = await api.ok("GET", f"/experiments/{first['experiment_id']}")
    assert experiment["display_name"] == "Default"
    assert experiment["last_run_created_at"] == second["created_at"]


async def test_camel_case_bodies_are_understood_and_unknown_fields_are_not(api):
    body = {
        "displayName": "camel",
        "pipelineSpec": SPEC,
        "runtimeConfig": {"parameters": {"who": "x"}, "pipelineRoot": "s3://bucket/root"},
    }
    run = await api.ok("POST", "/runs", body)
    assert run["runtime_config"]["pipeline_root"] == "s3://bucket/root"
    status, code, message = await api.refused("POST", "/runs", body | {"pipelien_spec": {}})
    assert (status, code) == (400, 3)
    assert "pipelien_spec" in message


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({}, "needs a value for who"),
        (None, "needs a value for who"),
        ({"who": "x", "wo": "y"}, "no parameter named wo; its parameters are: times, who"),
        ({"who": 3}, "'who' must be a string, got 3"),
        ({"who": "x", "times": "3"}, "'times' must be a whole number, got '3'"),
        ({"who": "x", "times": True}, "'times' must be a whole number, got True"),
        ({"who": "x", "times": 1.5}, "'times' must be a whole number, got 1.5"),
        ({"who": None}, "'who' must be a string, got None"),
    ],
)
async def test_parameters_that_do_not_fit_are_refused_with_a_sentence(api, parameters, words):
    config = {} if parameters is None else {"parameters": parameters}
    body = {"display_name": "r", "pipeline_spec": SPEC, "runtime_config": config}
    status, code, message = await api.refused("POST", "/runs", body)
    assert (status, code) == (400, 3)
    assert words in message
    assert await api.runs.unfinished_runs() == []


async def test_whole_numbers_may_be_written_as_floats(api):
    await api.start_run(runtime_config={"parameters": {"who": "x", "times": 2.0}})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"display_name": "r"}, "needs a pipeline_spec or a pipeline_version_reference"),
        ({"display_name": "r", "pipeline_spec": {}}, "does not parse"),
        ({"display_name": "r", "pipeline_spec": {"pipelineInfo": {"name": "x"}, "root": {}}}, "does not parse"),
        ({"display_name": "r", "pipeline_spec": []}, "pipeline_spec"),
        ({"pipeline_spec": {}}, "needs a display_name"),
        ({"display_name": "x" * 256, "pipeline_spec": {}}, ""),
        ({"display_name": "r", "pipeline_spec": {}, "pipeline_version_reference": {"pipeline_id": "p"}}, "not both"),
    ],
)
async def test_what_cannot_run_is_refused(api, body, words):
    status, code, message = await api.refused("POST", "/runs", body)
    assert (status, code) == (400, 3)
    assert words in message


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff\xfe", b'"run"'])
async def test_a_body_that_is_no_json_object_is_refused(api, raw):
    assert (await api.refused("POST", "/runs", data=raw))[:2] == (400, 3)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"plugins_input": {"mlflow": {}}},
            "Run plugins (mlflow) are not available: this platform has no MLflow server",
        ),
    ],
)
async def test_what_is_not_there_is_refused_by_name(api, more, words):
    body = {"display_name": "r", "pipeline_spec": SPEC} | more
    status, code, message = await api.refused("POST", "/runs", body)
    assert (status, code) == (501, 12)
    assert words in message


async def test_a_run_cannot_claim_to_be_started_by_a_recurring_run(api):
    body = {"display_name": "r", "pipeline_spec": SPEC, "recurring_run_id": "x"}
    assert (await api.refused("POST", "/runs", body))[:2] == (400, 3)


async def test_a_pipeline_configuration_is_refused_by_name_but_an_empty_one_runs(api):
    def document(config: dict) -> dict:
        return {"pipeline_spec": SPEC, "platform_spec": {"platforms": {"kubernetes": {"pipelineConfig": config}}}}

    await api.start_run(pipeline_spec=document({}))
    body = {"display_name": "r", "runtime_config": {"parameters": {"who": "x"}}}
    await api.start_run(pipeline_spec=document({"activeDeadlineSeconds": 60}))
    wrong = document({"activeDeadlineSeconds": "soon"})
    assert (await api.refused("POST", "/runs", body | {"pipeline_spec": wrong}))[:2] == (400, 3)
    await api.start_run(pipeline_spec=document({"workspace": {"size": "1Gi"}, "resourceTtlOnCompletion": 5}))
    unknown = document({"workspace": {"size": "1Gi"}, "semaphoreKey": "s", "mutexName": "m"})
    status, code, message = await api.refused("POST", "/runs", body | {"pipeline_spec": unknown})
    assert (status, code) == (501, 12)
    assert "(mutexName, semaphoreKey) is not available" in message


async def test_terminating_asks_the_engine_once_and_a_finished_run_cannot_be_terminated(api):
    run = await api.start_run()
    path = f"/runs/{run['run_id']}"
    assert await api.ok("POST", f"{path}:terminate") == {}
    assert await api.ok("POST", f"{path}:terminate") == {}
    assert [c.kind for c in api.changes] == ["created", "terminating"]
    assert (await api.ok("GET", path))["state"] == "CANCELING"
    assert await api.runs.finish_run(run["run_id"], RuntimeState.CANCELED)
    status, code, message = await api.refused("POST", f"{path}:terminate")
    assert (status, code) == (400, 9)
    assert "CANCELED already" in message
    finished = await api.ok("GET", path)
    assert [entry["state"] for entry in finished["state_history"]] == ["PENDING", "CANCELING", "CANCELED"]
    assert "finished_at" in finished


async def test_a_failed_run_is_retried_once_and_no_other(api):
    run = await api.start_run()
    path = f"/runs/{run['run_id']}"
    status, code, message = await api.refused("POST", f"{path}:retry")
    assert (status, code) == (400, 9)
    assert "is PENDING: only a run that is FAILED or CANCELED" in message
    await api.runs.finish_run(run["run_id"], RuntimeState.FAILED, error_code=13, error_message="why")
    assert (await api.refused("POST", f"{path}:retry", user="viewer"))[:2] == (403, 7)
    assert (await api.refused("POST", "/runs/none:retry"))[:2] == (404, 5)
    assert await api.ok("POST", f"{path}:retry") == {}
    assert api.changes[-1].kind == "retried"
    shown = await api.ok("GET", path)
    assert [e["state"] for e in shown["state_history"]] == ["PENDING", "FAILED", "PENDING"]
    assert not {"error", "finished_at"} & shown.keys()
    assert (await api.refused("POST", f"{path}:retry"))[:2] == (400, 9)


async def test_archive_restore_and_delete(api):
    run = await api.start_run()
    path = f"/runs/{run['run_id']}"
    await api.ok("POST", f"{path}:archive")
    assert (await api.ok("GET", path))["storage_state"] == "ARCHIVED"
    await api.ok("POST", f"{path}:unarchive")
    assert (await api.ok("GET", path))["storage_state"] == "AVAILABLE"
    await api.ok("DELETE", path)
    assert api.changes[-1].kind == "deleted"
    assert (await api.refused("GET", path))[:2] == (404, 5)
    assert (await api.refused("DELETE", path))[:2] == (404, 5)


async def test_a_run_of_an_archived_experiment_is_restored_with_the_experiment(api):
    run = await api.start_run()
    await api.ok("POST", f"/experiments/{run['experiment_id']}:archive")
    assert (await api.ok("GET", f"/runs/{run['run_id']}"))["storage_state"] == "ARCHIVED"
    assert (await api.refused("POST", f"/runs/{run['run_id']}:unarchive"))[:2] == (400, 9)
    await api.ok("POST", f"/experiments/{run['experiment_id']}:unarchive")
    await api.ok("POST", f"/runs/{run['run_id']}:unarchive")


async def test_a_run_of_a_version_names_it_and_survives_its_deletion(api):
    form = FormData()
    form.add_field("uploadfile", yaml.safe_dump(SPEC), filename="greet.yaml")
    pipeline = await api.ok("POST", "/pipelines/upload?name=greet", data=form)
    reference = {"pipeline_id": pipeline["pipeline_id"]}
    parameters = {"parameters": {"who": "x"}}
    body = {"display_name": "r", "pipeline_version_reference": reference, "runtime_config": parameters}
    run = await api.ok("POST", "/runs", body)
    version = (await api.ok("GET", f"/pipelines/{pipeline['pipeline_id']}/versions"))["pipeline_versions"][0]
    expected = reference | {"pipeline_version_id": version["pipeline_version_id"]}
    assert run["pipeline_version_reference"] == expected
    assert "pipeline_spec" not in run
    await api.ok("DELETE", f"/pipelines/{pipeline['pipeline_id']}?cascade=true")
    loaded = await api.runs.load_run(run["run_id"])
    assert loaded.spec.pipeline_spec == SPEC
    assert (await api.refused("POST", "/runs", body))[:2] == (404, 5)


async def test_task_details_show_state_pods_artifacts_and_children(api):
    run = await api.start_run()
    root, say, judge = (
        TaskRow(id="t-root", run_id=run["run_id"], path="root", name="root", type=TaskType.ROOT),
        TaskRow(
            id="t-say", run_id=run["run_id"], path="root/say", name="say", type=TaskType.RUNTIME, parent_id="t-root"
        ),
        TaskRow(id="t-judge", run_id=run["run_id"], path="root/judge", name="judge", type=TaskType.RUNTIME),
    )
    await api.runs.create_tasks(run["run_id"], [root, say, judge])
    changes = {"state": RuntimeState.RUNNING, "pod_name": "greet-say-1", "detail": {"failed_pods": ["greet-say-0"]}}
    assert await api.runs.update_tasks([TaskUpdate("t-say", changes)]) == [True]
    made = NewArtifact("model", "model", "system.Model", "s3://b/model", {"accuracy": 0.5})
    await api.runs.record_outputs("t-say", Report(0, RuntimeState.SUCCEEDED, {"Output": "hi"}, [made]))
    said = await api.runs.get_task("t-say")
    failure = {
        "state": RuntimeState.FAILED,
        "inputs": Values({}, {"model": said.outputs.artifacts["model"]}),
        "error_code": 2,
        "error_message": "exit code 2",
    }
    await api.runs.update_tasks([TaskUpdate("t-judge", failure)])

    details = (await api.ok("GET", f"/runs/{run['run_id']}"))["run_details"]["task_details"]
    by_name = {task["display_name"]: task for task in details}
    assert by_name["root"]["child_tasks"] == [{"task_id": "t-say"}]
    task = by_name["say"]
    assert task["state"] == "SUCCEEDED"
    assert task["parent_task_id"] == "t-root"
    assert task["pod_name"] == "greet-say-1"
    assert task["executor_detail"] == {"main_job": "greet-say-1", "failed_main_jobs": ["greet-say-0"]}
    assert [entry["state"] for entry in task["state_history"]] == ["PENDING", "RUNNING", "SUCCEEDED"]
    assert task["create_time"] <= task["start_time"] <= task["end_time"]
    number = task["outputs"]["model"]["artifact_ids"][0]
    assert number.isdigit()
    assert by_name["judge"]["inputs"] == {"model": {"artifact_ids": [number]}}
    assert by_name["judge"]["error"] == {"code": 2, "message": "exit code 2", "details": []}
    native = await api.ok("GET", f"/runs/{run['run_id']}/tasks")
    assert native["total_size"] == 3
    shown = {task["scope_path"]: task for task in native["tasks"]}["root/say"]
    assert (shown["type"], shown["pods"]) == ("RUNTIME", [{"name": "greet-say-0"}, {"name": "greet-say-1"}])
    assert shown["outputs"]["parameters"] == [{"parameter_key": "Output", "value": "hi"}]
    assert shown["outputs"]["artifacts"][0]["artifacts"][0]["uri"] == "s3://b/model"
    assert (await api.refused("GET", f"/runs/{run['run_id']}/tasks", user="other"))[:2] == (403, 7)
    listed = await api.ok("GET", f"/artifacts?run_id={run['run_id']}")
    assert [(a["uri"], a["number"], a["metadata"]) for a in listed["artifacts"]] == [
        ("s3://b/model", number, {"accuracy": 0.5})
    ]
    ident = listed["artifacts"][0]["artifact_id"]
    assert (await api.ok("GET", f"/artifacts/{ident}"))["type"] == "system.Model"
    assert (await api.refused("GET", f"/artifacts/{ident}", user="other"))[:2] == (403, 7)


async def test_both_prefixes_serve_the_same(api):
    run = await api.start_run()
    assert await api.ok("GET", f"/runs/{run['run_id']}", prefix="/pipeline/apis/v2beta1")
