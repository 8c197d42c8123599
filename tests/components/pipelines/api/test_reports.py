"""What steps report: recorded once, from the run's own pods only."""

from __future__ import annotations

import pytest

from headrace.components.pipelines.store.models import RuntimeState, TaskRow, TaskType, TaskUpdate

OUTPUTS = {
    "parameters": {"Output": "hi"},
    "artifacts": [
        {"output": "metrics", "name": "metrics", "type": "system.Metrics", "uri": "s3://b/m", "metadata": {"a": 0.9}}
    ],
}
SUCCESS = {"attempt": 0, "state": "SUCCEEDED", "exit_code": 0, "outputs": OUTPUTS}


async def running_task(api) -> tuple[str, str]:
    run = await api.start_run()
    task = TaskRow(id="t1", run_id=run["run_id"], path="root/say", name="say", type=TaskType.RUNTIME)
    await api.runs.create_tasks(run["run_id"], [task])
    await api.runs.update_tasks([TaskUpdate("t1", {"state": RuntimeState.RUNNING, "pod_name": "p"})])
    return run["run_id"], f"/runs/{run['run_id']}/tasks/t1:report"


async def test_success_is_recorded_once_and_wakes_the_engine(api):
    run_id, path = await running_task(api)
    assert await api.ok("POST", path, SUCCESS) == {"recorded": True}
    change = api.changes[-1]
    assert (change.kind, change.run_id, change.task.state) == ("reported", run_id, "SUCCEEDED")
    woken = len(api.changes)
    assert await api.ok("POST", path, SUCCESS) == {"recorded": False}
    assert await api.ok("POST", path, SUCCESS | {"state": "FAILED"}) == {"recorded": False}
    assert len(api.changes) == woken
    loaded = await api.runs.load_run(run_id)
    assert loaded.tasks[0].outputs.parameters == {"Output": "hi"}
    assert [a.metadata for a in loaded.artifacts.values()] == [{"a": 0.9}]


async def test_failure_waits_for_the_engine(api):
    run_id, path = await running_task(api)
    report = {"attempt": 0, "state": "FAILED", "exit_code": 2, "error": {"code": 13, "message": "boom"}}
    assert await api.ok("POST", path, report) == {"recorded": True}
    task = (await api.runs.load_run(run_id)).tasks[0]
    assert task.state == "RUNNING"
    assert task.report == {
        "attempt": 0,
        "state": "FAILED",
        "exit_code": 2,
        "error": {"code": 13, "message": "boom"},
    }
    assert await api.runs.update_tasks([TaskUpdate("t1", {"attempt": 1})]) == [True]
    assert await api.ok("POST", path, report) == {"recorded": False}
    assert await api.ok("POST", path, SUCCESS | {"attempt": 1}) == {"recorded": True}


async def test_an_error_may_be_a_sentence(api):
    run_id, path = await running_task(api)
    await api.ok("POST", path, {"attempt": 0, "state": "FAILED", "error": "boom"})
    assert (await api.runs.load_run(run_id)).tasks[0].report["error"] == {"code": 0, "message": "boom"}


@pytest.mark.parametrize("user", ["viewer", "person", "other", "nobody"])
async def test_only_the_service_account_of_the_run_may_report(api, user):
    run_id, path = await running_task(api)
    status, code, message = await api.refused("POST", path, SUCCESS, user=user)
    assert (status, code) == (403, 7)
    assert "only its pods" in message
    assert (await api.runs.load_run(run_id)).tasks[0].state == "RUNNING"


async def test_a_run_with_its_own_service_account_hears_that_one(api):
    run = await api.start_run(service_account="default-viewer")
    task = TaskRow(id="t2", run_id=run["run_id"], path="root/say", name="say", type=TaskType.RUNTIME)
    await api.runs.create_tasks(run["run_id"], [task])
    path = f"/runs/{run['run_id']}/tasks/t2:report"
    assert (await api.refused("POST", path, SUCCESS))[:2] == (403, 7)
    assert await api.ok("POST", path, SUCCESS, user="viewer") == {"recorded": True}


async def test_a_task_is_reached_through_its_own_run_only(api):
    _, path = await running_task(api)
    other = await api.start_run()
    assert (await api.refused("POST", f"/runs/{other['run_id']}/tasks/t1:report", SUCCESS))[:2] == (404, 5)
    assert (await api.refused("POST", "/runs/none/tasks/t1:report", SUCCESS))[:2] == (404, 5)
    assert (await api.refused("POST", path.replace("t1", "none"), SUCCESS))[:2] == (404, 5)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"attempt": 0, "state": "RUNNING"},
        {"attempt": 0, "state": "DONE"},
        {"attempt": "0", "state": "SUCCEEDED"},
        {"attempt": 0, "state": "SUCCEEDED", "outputs": {"artifacts": [{"name": "x"}]}},
        {"attempt": 0, "state": "SUCCEEDED", "outputs": {"parameters": []}},
    ],
)
async def test_a_report_that_makes_no_sense_is_refused(api, body):
    run_id, path = await running_task(api)
    assert (await api.refused("POST", path, body))[:2] == (400, 3)
    assert (await api.runs.load_run(run_id)).tasks[0].state == "RUNNING"
