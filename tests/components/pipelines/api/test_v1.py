"""v1beta1, in the words that clients of kfp 1 use; what they get is what the store has."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest
from aiohttp import FormData
from pipelines_harness import HOME, SPEC, V1_PATHS
from yaml import safe_dump

from headrace.components.pipelines.store.models import NewArtifact, Report, RuntimeState, TaskRow, TaskType, TaskUpdate

V1 = {"prefix": V1_PATHS[0]}
WORKFLOW = {
    "apiVersion": "argoproj.io/v1alpha1",
    "kind": "Workflow",
    "metadata": {"generateName": "greet-"},
    "spec": {
        "entrypoint": "greet",
        "arguments": {"parameters": [{"name": "who"}, {"name": "times", "value": "1"}]},
        "templates": [
            {
                "name": "say",
                "inputs": {"parameters": [{"name": "who"}]},
                "container": {"image": "python:3.11-slim", "command": ["echo"], "args": ["{{inputs.parameters.who}}"]},
            },
            {
                "name": "greet",
                "inputs": {"parameters": [{"name": "who"}]},
                "dag": {
                    "tasks": [
                        {
                            "name": "say",
                            "template": "say",
                            "arguments": {"parameters": [{"name": "who", "value": "{{inputs.parameters.who}}"}]},
                        }
                    ]
                },
            },
        ],
    },
}
SCOPE = "?" + urlencode({"resource_reference_key.type": "NAMESPACE", "resource_reference_key.id": HOME})


def reference(kind: str, ident: str, relationship: str = "OWNER") -> dict:
    return {"key": {"type": kind, "id": ident}, "relationship": relationship}


async def start(api, body: dict) -> dict:
    return (await api.ok("POST", "/runs", body, **V1))["run"]


def form(document=None) -> FormData:
    data = FormData()
    data.add_field("uploadfile", safe_dump(document or WORKFLOW), filename="greet.yaml")
    return data


def new_run(**more) -> dict:
    spec = {"workflow_manifest": json.dumps(WORKFLOW), "parameters": [{"name": "who", "value": "world"}]}
    return {"name": "r", "pipeline_spec": spec, "resource_references": [reference("NAMESPACE", HOME)]} | more


async def test_a_pipeline_is_uploaded_shown_and_deleted(api):
    made = await api.ok("POST", "/pipelines/upload?name=greet&description=d", data=form(), **V1)
    assert (made["name"], made["description"]) == ("greet", "d")
    assert made["parameters"] == [{"name": "who"}, {"name": "times", "value": "1"}]
    assert made["resource_references"] == [reference("NAMESPACE", HOME)]
    second = await api.ok("POST", f"/pipelines/upload_version?name=v2&pipelineid={made['id']}", data=form(), **V1)
    assert (await api.ok("GET", f"/pipelines/{made['id']}", **V1))["default_version"]["id"] == second["id"]
    key = urlencode({"resource_key.type": "PIPELINE", "resource_key.id": made["id"], "sort_by": "created_at desc"})
    versions = (await api.ok("GET", f"/pipeline_versions?{key}", **V1))["versions"]
    assert [v["name"] for v in versions] == ["v2", "greet"]
    template = await api.ok("GET", f"/pipeline_versions/{second['id']}/templates", **V1)
    assert json.loads(template["template"]) == WORKFLOW
    assert await api.ok("GET", f"/pipelines/{made['id']}/templates", **V1) == template
    found = await api.ok("GET", f"/namespaces/{HOME}/pipelines/greet", **V1)
    assert found["id"] == made["id"]
    text = json.dumps({"predicates": [{"op": 1, "key": "name", "stringValue": "greet"}]})
    listed = await api.ok("GET", f"/pipelines?{urlencode({'filter': text})}", **V1)
    assert [p["id"] for p in listed["pipelines"]] == [made["id"]]
    await api.ok("DELETE", f"/pipeline_versions/{second['id']}", **V1)
    await api.ok("DELETE", f"/pipelines/{made['id']}", **V1)
    assert await api.ok("GET", f"/pipelines{SCOPE}", **V1) == {}


async def test_both_dialects_see_the_same_things(api):
    pipeline = await api.ok("POST", "/pipelines/upload?name=greet", data=form(), **V1)
    new = await api.ok("GET", f"/pipelines/{pipeline['id']}")
    assert new["display_name"] == "greet"
    versions = (await api.ok("GET", f"/pipelines/{pipeline['id']}/versions"))["pipeline_versions"]
    assert versions[0]["pipeline_spec"] == WORKFLOW
    run = await start(api, new_run())
    assert (await api.ok("GET", f"/runs/{run['id']}"))["runtime_config"] == {"parameters": {"who": "world"}}
    old = await api.start_run()
    assert (await api.ok("GET", f"/runs/{old['run_id']}", **V1))["run"]["pipeline_spec"]["parameters"] == [
        {"name": "who", "value": "world"}
    ]


async def test_a_run_is_started_and_shown_with_its_workflow(api):
    made = await start(api, new_run())
    experiment = made["resource_references"][0]["key"]["id"]
    assert made["resource_references"] == [reference("EXPERIMENT", experiment), reference("NAMESPACE", HOME)]
    assert made["status"] == "Pending"
    await api.runs.start_run(made["id"])
    root = TaskRow(id="t0", run_id=made["id"], path="root", name="root", type=TaskType.ROOT)
    say = TaskRow(id="t1", run_id=made["id"], path="root/say", name="say", type=TaskType.RUNTIME, parent_id="t0")
    await api.runs.create_tasks(made["id"], [root, say])
    await api.runs.update_tasks([TaskUpdate("t1", {"state": RuntimeState.RUNNING, "pod_name": "greet-say"})])
    numbers = {"accuracy": 0.5, "good": True, "note": "n", "nothing": float("nan")}
    metrics = NewArtifact("metrics", "metrics", "system.Metrics", "s3://mlpipeline/m", numbers)
    await api.runs.record_outputs("t1", Report(0, RuntimeState.SUCCEEDED, {"o": 3}, [metrics]))
    detail = await api.ok("GET", f"/runs/{made['id']}", **V1)
    assert detail["run"]["metrics"] == [
        {"name": "accuracy", "node_id": "t1", "number_value": 0.5, "format": "UNSPECIFIED"}
    ]
    workflow = json.loads(detail["pipeline_runtime"]["workflow_manifest"])
    assert workflow["spec"] == WORKFLOW["spec"]
    assert workflow["status"]["phase"] == "Running"
    node = workflow["status"]["nodes"]["t1"]
    assert (node["type"], node["phase"], node["podName"], node["boundaryID"]) == ("Pod", "Succeeded", "greet-say", "t0")
    assert node["outputs"] == {
        "parameters": [{"name": "o", "value": "3"}],
        "artifacts": [{"name": "metrics", "s3": {"bucket": "mlpipeline", "key": "m"}}],
    }
    assert workflow["status"]["nodes"]["t0"]["children"] == ["t1"]


@pytest.mark.parametrize(
    ("state", "word"),
    [(RuntimeState.FAILED, "Failed"), (RuntimeState.CANCELED, "Failed"), (RuntimeState.SKIPPED, "Skipped")],
)
async def test_states_are_in_the_older_words(api, state, word):
    made = await start(api, new_run())
    await api.runs.finish_run(made["id"], state, error_code=2, error_message="why")
    run = (await api.ok("GET", f"/runs/{made['id']}", **V1))["run"]
    assert (run["status"], run["error"]) == (word, "why")


async def test_runs_of_versions_of_pipelines_and_of_the_ir(api):
    pipeline = await api.ok("POST", "/pipelines/upload?name=greet", data=form(), **V1)
    version = pipeline["default_version"]["id"]
    given = [{"name": "who", "value": "x"}]
    of_version = [reference("PIPELINE_VERSION", version, "CREATOR"), reference("NAMESPACE", HOME)]
    one = await start(api, new_run(pipeline_spec={"parameters": given}, resource_references=of_version))
    assert reference("PIPELINE_VERSION", version, "CREATOR") in one["resource_references"]
    latest = {"pipeline_id": pipeline["id"], "parameters": given}
    two = await start(api, new_run(pipeline_spec=latest))
    assert two["pipeline_spec"]["pipeline_id"] == pipeline["id"]
    of_ir = {"pipeline_manifest": json.dumps(SPEC), "parameters": [*given, {"name": "times", "value": "3"}]}
    three = await start(api, new_run(pipeline_spec=of_ir))
    assert (await api.runs.load_run(three["id"])).run.parameters == {"who": "x", "times": 3}
    listed = await api.ok("GET", f"/runs{SCOPE}&sort_by=created_at%20desc", **V1)
    assert [r["id"] for r in listed["runs"]] == [three["id"], two["id"], one["id"]]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"name": ""}, "needs a name"),
        ({"pipeline_spec": {}}, "needs a pipeline version, a pipeline or a workflow_manifest"),
        ({"pipeline_spec": {"workflow_manifest": "{"}}, "not valid YAML"),
        ({"pipeline_spec": {"workflow_manifest": json.dumps(WORKFLOW)}}, "needs a value for who"),
        (
            {"pipeline_spec": {"pipeline_manifest": json.dumps(SPEC), "parameters": [{"name": "times", "value": "x"}]}},
            "'times' must be NUMBER_INTEGER",
        ),
        ({"resource_references": [reference("PLANET", "mars")]}, "'PLANET' is not a type of resource"),
        ({"surprise": 1}, "unknown field `surprise`"),
    ],
)
async def test_a_wrong_run_is_refused_with_a_sentence(api, changed, words):
    status, code, message = await api.refused("POST", "/runs", new_run(**changed), **V1)
    assert (status, code) == (400, 3)
    assert words in message


async def test_a_workflow_that_cannot_run_here_is_refused_when_it_is_uploaded(api):
    template = WORKFLOW["spec"]["templates"][0] | {"sidecars": [{"name": "s", "image": "i"}]}
    document = WORKFLOW | {"spec": WORKFLOW["spec"] | {"templates": [template, WORKFLOW["spec"]["templates"][1]]}}
    status, code, message = await api.refused("POST", "/pipelines/upload?name=x", data=form(document), **V1)
    assert (status, code) == (400, 3)
    assert "Template 'say' of the workflow has the field sidecars" in message


async def test_metrics_are_reported_once(api):
    run = (await start(api, new_run()))["id"]
    good = {"name": "accuracy", "node_id": "n", "number_value": 0.9, "format": "PERCENTAGE"}
    bad = {"name": "", "node_id": "n", "number_value": 1}
    results = (await api.ok("POST", f"/runs/{run}:reportMetrics", {"metrics": [good, bad]}, **V1))["results"]
    assert [r["status"] for r in results] == ["OK", "INVALID_ARGUMENT"]
    again = (await api.ok("POST", f"/runs/{run}:reportMetrics", {"metrics": [good]}, **V1))["results"]
    assert [r["status"] for r in again] == ["DUPLICATE_REPORTING"]
    assert (await api.ok("GET", f"/runs{SCOPE}", **V1))["runs"][0]["metrics"] == [good]
    await api.ok("DELETE", f"/runs/{run}", **V1)
    assert await api.ok("GET", f"/runs{SCOPE}", **V1) == {}


async def test_runs_are_sorted_by_a_metric_in_both_dialects(api):
    runs = [(await start(api, new_run()))["id"] for _ in range(3)]
    for run, value in zip(runs, (0.5, 0.9, 0.1), strict=True):
        metric = {"name": "Accuracy", "node_id": "n", "number_value": value}
        await api.ok("POST", f"/runs/{run}:reportMetrics", {"metrics": [metric]}, **V1)
    best = [runs[1], runs[0], runs[2]]
    old = await api.ok("GET", f"/runs{SCOPE}&sort_by=metric:Accuracy%20desc", **V1)
    new = await api.ok("GET", "/runs?sort_by=metric:Accuracy%20DESC")
    assert [r["id"] for r in old["runs"]] == [r["run_id"] for r in new["runs"]] == best


async def test_jobs(api):
    experiment = await api.ok(
        "POST", "/experiments", {"name": "e", "resource_references": [reference("NAMESPACE", HOME)]}, **V1
    )
    job = new_run(
        resource_references=[reference("EXPERIMENT", experiment["id"])],
        trigger={"cron_schedule": {"cron": "0 0 0 * * *"}},
        mode="ENABLED",
        max_concurrency="2",
    )
    made = await api.ok("POST", "/jobs", job, **V1)
    assert (made["enabled"], made["mode"], made["status"], made["max_concurrency"]) == (True, "ENABLED", "Enabled", "2")
    await api.ok("POST", f"/jobs/{made['id']}/disable", **V1)
    assert (await api.ok("GET", f"/jobs/{made['id']}", **V1))["mode"] == "DISABLED"
    await api.ok("POST", f"/jobs/{made['id']}/enable", **V1)
    key = urlencode({"resource_reference_key.type": "EXPERIMENT", "resource_reference_key.id": experiment["id"]})
    assert [j["id"] for j in (await api.ok("GET", f"/jobs?{key}", **V1))["jobs"]] == [made["id"]]
    assert (await api.ok("GET", f"/recurringruns/{made['id']}"))["display_name"] == "r"
    await api.ok("DELETE", f"/jobs/{made['id']}", **V1)
    assert await api.ok("GET", f"/jobs{SCOPE}", **V1) == {}


async def test_experiments(api):
    given = {"name": "e", "description": "d", "resource_references": [reference("NAMESPACE", HOME)]}
    made = await api.ok("POST", "/experiments", given, **V1)
    assert (made["name"], made["storage_state"]) == ("e", "STORAGESTATE_AVAILABLE")
    await api.ok("POST", f"/experiments/{made['id']}:archive", **V1)
    text = json.dumps(
        {"predicates": [{"op": "EQUALS", "key": "storage_state", "stringValue": "STORAGESTATE_ARCHIVED"}]}
    )
    listed = await api.ok("GET", f"/experiments{SCOPE}&{urlencode({'filter': text})}", **V1)
    assert [e["id"] for e in listed["experiments"]] == [made["id"]]
    await api.ok("POST", f"/experiments/{made['id']}:unarchive", **V1)
    await api.ok("DELETE", f"/experiments/{made['id']}", **V1)
    assert (await api.refused("GET", f"/experiments/{made['id']}", **V1))[:2] == (404, 5)


ROUTES = [
    ("GET", "/experiments" + SCOPE, None),
    ("POST", "/experiments", {"name": "n", "resource_references": [reference("NAMESPACE", HOME)]}),
    ("GET", "/experiments/{experiment}", None),
    ("POST", "/experiments/{experiment}:archive", None),
    ("POST", "/experiments/{experiment}:unarchive", None),
    ("GET", "/pipelines" + SCOPE, None),
    ("POST", "/pipelines/upload?name=n&namespace=" + HOME, form),
    ("POST", "/pipelines/upload_version?name=n&pipelineid={pipeline}", form),
    ("GET", "/pipelines/{pipeline}", None),
    ("GET", "/pipelines/{pipeline}/templates", None),
    ("GET", f"/namespaces/{HOME}/pipelines/greet", None),
    ("GET", "/pipeline_versions?resource_key.id={pipeline}", None),
    ("GET", "/pipeline_versions/{version}", None),
    ("GET", "/pipeline_versions/{version}/templates", None),
    ("GET", "/runs" + SCOPE, None),
    ("GET", "/runs?resource_reference_key.type=EXPERIMENT&resource_reference_key.id={experiment}", None),
    ("POST", "/runs", new_run()),
    ("GET", "/runs/{run}", None),
    ("POST", "/runs/{run}:archive", None),
    ("POST", "/runs/{run}:unarchive", None),
    ("POST", "/runs/{run}:reportMetrics", {"metrics": []}),
    ("POST", "/runs/{run}/terminate", None),
    ("GET", "/jobs" + SCOPE, None),
    ("POST", "/jobs", new_run(max_concurrency="1", trigger={"periodic_schedule": {"interval_second": "60"}})),
    ("GET", "/jobs/{job}", None),
    ("POST", "/jobs/{job}/enable", None),
    ("POST", "/jobs/{job}/disable", None),
    ("DELETE", "/jobs/{job}", None),
    ("DELETE", "/runs/{run}", None),
    ("DELETE", "/experiments/{experiment}", None),
    ("DELETE", "/pipeline_versions/{version}", None),
    ("DELETE", "/pipelines/{pipeline}", None),
]


async def test_each_route_asks_who_and_whether_they_may(api):
    pipeline = await api.ok("POST", "/pipelines/upload?name=greet", data=form(), **V1)
    experiment = await api.ok("POST", "/experiments", {"name": "e"}, **V1)
    owner = [reference("EXPERIMENT", experiment["id"])]
    run = await start(api, new_run(resource_references=owner))
    schedule = {"max_concurrency": "1", "trigger": {"periodic_schedule": {"interval_second": "60"}}}
    job = await api.ok("POST", "/jobs", new_run(resource_references=owner, **schedule), **V1)
    ids = {
        "pipeline": pipeline["id"],
        "version": pipeline["default_version"]["id"],
        "experiment": experiment["id"],
        "run": run["id"],
        "job": job["id"],
    }
    for method, path, body in ROUTES:
        made = {"data": body()} if callable(body) else {"body": body}
        assert (await api.call(method, path.format(**ids), user="", **made, **V1))[0] == 401, path
        made = {"data": body()} if callable(body) else {"body": body}
        assert (await api.refused(method, path.format(**ids), user="other", **made, **V1))[:2] == (403, 7), path
    for method, path, body in ROUTES:
        made = {"data": body()} if callable(body) else {"body": body}
        await api.ok(method, path.format(**ids), **made, **V1)


async def test_an_artifact_is_read_by_the_older_path_too(api):
    run = (await start(api, new_run()))["id"]
    assert (await api.refused("GET", f"/runs/{run}/nodes/none/artifacts/a:read", **V1))[:2] == (404, 5)
    assert (await api.refused("GET", f"/runs/{run}/nodes/n/artifacts/a:read", user="other", **V1))[:2] == (403, 7)


async def test_healthz(api):
    assert (await api.ok("GET", "/healthz", **V1))["multi_user"] is True


async def test_shared_pipelines_are_read_by_all_and_changed_by_few(api):
    status, code, message = await api.refused("POST", "/pipelines/upload?name=greet&namespace=", data=form())
    assert (status, code) == (403, 7)
    assert "'kubeflow'" in message
    made = await api.catalog.create_pipeline(shared("greet"))
    for user in ("editor", "viewer", "other", "nobody"):
        assert (await api.ok("GET", f"/pipelines/{made.id}", user=user))["name"] == "greet"
        assert [p["name"] for p in (await api.ok("GET", "/pipelines?namespace=", user=user))["pipelines"]] == ["greet"]
    assert (await api.ok("GET", "/pipelines/names/greet?namespace="))["pipeline_id"] == made.id
    assert (await api.ok("GET", "/namespaces/-/pipelines/greet", **V1))["id"] == made.id
    assert await api.ok("GET", "/pipelines") == {}
    for user in ("editor", "other", "nobody"):
        assert (await api.refused("DELETE", f"/pipelines/{made.id}", user=user))[:2] == (403, 7)


def shared(name: str):
    from headrace.components.pipelines.store.models import Pipeline

    return Pipeline(id="", namespace="", name=name)
