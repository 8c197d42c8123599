"""The native model: tasks, artifacts and the links between them, and who made what from what."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from pipelines_harness import HOME

from headrace.components.pipelines.store.models import NewArtifact, Report, RuntimeState, TaskRow, TaskType, Values


@pytest.fixture
async def made(api):
    """Two runs: the second's task reads what the first's made."""
    first, second = [(await api.start_run(display_name=name))["run_id"] for name in ("first", "second")]
    for run_id in (first, second):
        await api.runs.create_tasks(
            run_id, [TaskRow(id=f"{run_id}-root", run_id=run_id, path="root", name="root", type=TaskType.ROOT)]
        )
    make = TaskRow(
        id="make", run_id=first, path="root/make", name="make", type=TaskType.RUNTIME, parent_id=f"{first}-root"
    )
    make.cache_key = "key"
    await api.runs.create_tasks(first, [make])
    report = Report(0, RuntimeState.SUCCEEDED, {}, [NewArtifact("model", "model", "system.Model", "s3://mlpipeline/m")])
    await api.runs.record_outputs("make", report)
    ident = (await api.runs.get_task("make")).outputs.artifacts["model"][0]
    use = TaskRow(
        id="use",
        run_id=second,
        path="root/use",
        name="use",
        type=TaskType.RUNTIME,
        inputs=Values({}, {"given": [ident]}),
    )
    await api.runs.create_tasks(second, [use])
    report = Report(
        0, RuntimeState.SUCCEEDED, {}, [NewArtifact("score", "score", "system.Metrics", "s3://mlpipeline/s")]
    )
    await api.runs.record_outputs("use", report)
    score = (await api.runs.get_task("use")).outputs.artifacts["score"][0]
    return {"first": first, "second": second, "model": ident, "score": score}


async def test_the_lineage_of_an_artifact(api, made):
    found = await api.ok("GET", f"/artifacts/{made['model']}/lineage")
    assert found["artifact"]["artifact_id"] == made["model"]
    assert found["producer"] == {
        "run_id": made["first"],
        "run_name": "first",
        "task_id": "make",
        "task_name": "make",
        "key": "model",
    }
    assert [(c["run_name"], c["task_name"], c["key"]) for c in found["consumers"]] == [("second", "use", "given")]
    assert {"made_from", "reused_by"}.isdisjoint(found)
    score = await api.ok("GET", f"/artifacts/{made['score']}/lineage")
    assert [a["artifact_id"] for a in score["made_from"]] == [made["model"]]


async def test_links_are_listed_and_filtered(api, made):
    links = (await api.ok("GET", "/artifact_tasks"))["artifact_tasks"]
    assert len(links) == 3
    (given,) = (await api.ok("GET", "/artifact_tasks?type=INPUT"))["artifact_tasks"]
    assert given == {
        "id": f"{made['model']}:use:INPUT:given",
        "artifact_id": made["model"],
        "run_id": made["second"],
        "task_id": "use",
        "type": "INPUT",
        "producer_task_name": "make",
        "producer_key": "model",
        "artifact_key": "given",
    }
    for query in (f"artifact_ids={made['score']}", "task_ids=make", f"run_ids={made['first']},nothing"):
        assert len((await api.ok("GET", f"/artifact_tasks?{query}"))["artifact_tasks"]) == 1
    assert await api.ok("GET", "/artifact_tasks?task_ids=none") == {}


async def test_links_come_in_pages(api, made):
    seen, token = [], ""
    while True:
        page = await api.ok("GET", f"/artifact_tasks?page_size=1&page_token={quote(token)}")
        seen += [link["id"] for link in page["artifact_tasks"]]
        token = page.get("next_page_token", "")
        if not token:
            break
    assert seen == [link["id"] for link in (await api.ok("GET", "/artifact_tasks"))["artifact_tasks"]]
    for wrong in ("page_token=x", "page_token=WzFd", "page_size=x", "page_size=0", "type=BOTH", "sort_by=id"):
        assert (await api.refused("GET", f"/artifact_tasks?{wrong}"))[:2] == (400, 3)


async def test_tasks(api, made):
    tasks = await api.ok("GET", f"/tasks?run_id={made['first']}")
    assert [t["name"] for t in tasks["tasks"]] == ["root", "make"]
    assert [t["task_id"] for t in (await api.ok("GET", f"/tasks?parent_id={made['first']}-root"))["tasks"]] == ["make"]
    one = await api.ok("GET", "/tasks/make")
    assert (one["run_id"], one["state"]) == (made["first"], "SUCCEEDED")
    assert one["outputs"]["artifacts"][0]["artifacts"][0]["artifact_id"] == made["model"]
    assert (await api.refused("GET", "/tasks"))[:2] == (400, 3)
    for path in ("/tasks/none", "/tasks?run_id=none", "/tasks?parent_id=none"):
        assert (await api.refused("GET", path))[:2] == (404, 5)


async def test_what_a_step_would_get_from_the_cache(api, made):
    found = await api.ok("GET", "/tasks:findCached?pipeline_name=greet&cache_fingerprint=key")
    assert found["task"]["task_id"] == "make"
    for wrong in ("greet&cache_fingerprint=other", "other&cache_fingerprint=key"):
        assert (await api.refused("GET", f"/tasks:findCached?pipeline_name={wrong}"))[:2] == (404, 5)
    assert (await api.refused("GET", "/tasks:findCached"))[:2] == (400, 3)


async def test_who_may(api, made):
    paths = [
        f"/artifacts/{made['model']}/lineage",
        f"/artifact_tasks?namespace={HOME}",
        f"/tasks?run_id={made['first']}",
        f"/tasks?parent_id={made['first']}-root",
        "/tasks/make",
        f"/tasks:findCached?namespace={HOME}&pipeline_name=greet&cache_fingerprint=key",
    ]
    for path in paths:
        assert (await api.call("GET", path, user=""))[0] == 401, path
        assert (await api.refused("GET", path, user="other"))[:2] == (403, 7), path
        await api.ok("GET", path, user="viewer")
    assert await api.ok("GET", "/artifact_tasks", user="other") == {}
