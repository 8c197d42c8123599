"""Retrying a run: from the failed step, with what succeeded left alone."""

# ruff: noqa: PTH123
# No `from __future__ import annotations` here: kfp reads the annotations of components.
import functools
import warnings

import pytest

from headrace.testing.eventually import eventually

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from kfp import dsl

component = functools.partial(dsl.component, base_image="python:3.11-slim")


@component
def count(path: str, text: str) -> str:
    with open(path, "a") as file:
        file.write(text)
    return text


@component
def needs(path: str, text: str) -> str:
    if not __import__("os").path.exists(path):
        raise RuntimeError("not there yet")
    return text


def histories(ended) -> dict[str, list[str]]:
    return {t.path.removeprefix("root/"): [e["state"] for e in t.state_history] for t in ended.row.tasks}


async def test_a_failed_run_goes_on_from_the_failed_step(lab, tmp_path):
    @dsl.pipeline(name="again")
    def again(log: str, gate: str):
        first = count(path=log, text="a").set_caching_options(False)
        with dsl.ParallelFor([1, 2]) as n:
            needs(path=gate, text=f"{first.output}{n}").set_caching_options(False)

    log, gate = tmp_path / "log", tmp_path / "gate"
    run_id = await lab.start(again, log=str(log), gate=str(gate))
    failed = await lab.ended(run_id)
    assert failed.state == "FAILED"
    pods = list(lab.node.started)

    gate.touch()
    await lab.api.ok("POST", f"/runs/{run_id}:retry")
    ended = await lab.ended(run_id)

    assert ended.state == "SUCCEEDED"
    assert log.read_text() == "a"
    assert ended.output("for-loop-2/1/needs") == "a2"
    assert [e["state"] for e in ended.row.run.state_history] == [
        "PENDING",
        "RUNNING",
        "FAILED",
        "PENDING",
        "RUNNING",
        "SUCCEEDED",
    ]
    assert ended.row.run.error_message == ""
    seen = histories(ended)
    assert seen["count"].count("SUCCEEDED") == 1
    step = ended.task("for-loop-2/0/needs")
    assert (step.attempt, step.detail["failed_pods"]) == (1, [failed.task("for-loop-2/0/needs").pod_name])
    assert [s for s in seen["for-loop-2/0/needs"] if s in {"FAILED", "SUCCEEDED"}] == ["FAILED", "SUCCEEDED"]
    assert len(set(lab.node.started)) == len(lab.node.started) == len(pods) + 2
    assert (await lab.api.refused("POST", f"/runs/{run_id}:retry"))[:2] == (400, 9)


async def test_a_terminated_run_goes_on_also_after_a_restart(lab, tmp_path):
    @dsl.container_component
    def nap():
        return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", f"test -e {tmp_path}/go || sleep 600"])

    @dsl.pipeline(name="stopped")
    def stopped(log: str):
        count(path=log, text="b").after(nap())

    log = tmp_path / "log"
    run_id = await lab.start(stopped, log=str(log))
    await eventually(lambda: lab.node.started)
    await lab.api.ok("POST", f"/runs/{run_id}:terminate")
    assert (await lab.ended(run_id)).state == "CANCELED"
    await lab.engine.stop()
    (tmp_path / "go").touch()
    await lab.api.ok("POST", f"/runs/{run_id}:retry")
    await lab.restart_engine()
    ended = await lab.ended(run_id)

    assert (ended.state, log.read_text()) == ("SUCCEEDED", "b")


@pytest.mark.parametrize("count_", [5])
async def test_a_retry_right_after_the_end_is_not_lost(lab, count_):
    """The worker that has just finished the run is still there."""

    @dsl.pipeline(name="never")
    def never():
        needs(path="/does/not/exist", text="x").set_caching_options(False)

    run_id = await lab.start(never)
    retried = 0

    def on_change(change):
        nonlocal retried
        retried += change.kind == "retried"

    lab.api.runs.subscribe(on_change)
    for _ in range(count_):
        assert (await lab.ended(run_id)).state == "FAILED"
        await lab.api.ok("POST", f"/runs/{run_id}:retry")
    ended = await lab.ended(run_id)

    assert retried == count_
    assert ended.task("needs").attempt == count_


async def test_a_run_that_takes_too_long_is_ended(lab):
    @dsl.container_component
    def nap():
        return dsl.ContainerSpec(image="alpine:3", command=["sleep", "600"])

    @dsl.pipeline(name="slow")
    def slow():
        nap()

    config = {"platforms": {"kubernetes": {"pipelineConfig": {"activeDeadlineSeconds": 1}}}}
    ended = await lab.run({"pipeline_spec": lab.compiled(slow), "platform_spec": config})

    assert ended.state == "FAILED"
    assert "deadline of 1 s" in ended.row.run.error_message
    assert ended.states == {"nap": "FAILED"}
    await eventually(lambda: all(p.returncode is not None for p in lab.node.processes.values()))
