"""Which tasks begin again when a run is retried."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest

from headrace.components.pipelines.policy.rerun import rerun
from headrace.components.pipelines.store.models import RuntimeState

_NAME = "pipelines_simulation"
if _NAME not in sys.modules:
    _spec = importlib.util.spec_from_file_location(_NAME, Path(__file__).with_name("simulation.py"))
    sys.modules[_NAME] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_NAME])

from pipelines_simulation import Failed, Simulation, component, document, parameter, task  # noqa: E402

STEPS = {f"comp-{name}": component(name) for name in "abcde"}
AFTER_ALL = {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}


def fails(**_):
    raise Failed("it broke")


def again(sim: Simulation) -> dict[str, str]:
    found = rerun(sim.spec, sim.view.tasks)
    return {path.removeprefix("root/"): how.value for path, how in found.items()}


def test_the_failed_step_and_what_was_skipped_for_it():
    tasks = {"a": task("comp-a"), "b": task("comp-b", "a"), "c": task("comp-c", "b"), "d": task("comp-d", "a")}
    sim = Simulation(document(tasks, STEPS), {"b": fails}).run()

    assert sim.states == {"a": "SUCCEEDED", "b": "FAILED", "c": "SKIPPED", "d": "SUCCEEDED"}
    assert again(sim) == {"root": "reopen", "b": "reset", "c": "reset"}


def test_an_exit_task_runs_again_because_the_outcome_changes():
    tasks = {
        "a": task("comp-a"),
        "b": task("comp-b", "a"),
        "exit": task("comp-c", "b", triggerPolicy=AFTER_ALL),
    }
    sim = Simulation(document(tasks, STEPS), {"b": fails}).run()

    assert sim.states["exit"] == "SUCCEEDED"
    assert again(sim) == {"root": "reopen", "b": "reset", "exit": "reset"}


def test_scopes_are_opened_again_only_around_what_failed():
    inner = {"dag": {"tasks": {"x": task("comp-a"), "y": task("comp-b", "x")}}}
    fine = {"dag": {"tasks": {"z": task("comp-c")}}}
    tasks = {"sub": task("comp-sub"), "fine": task("comp-fine"), "after": task("comp-d", "sub")}
    sim = Simulation(document(tasks, {**STEPS, "comp-sub": inner, "comp-fine": fine}), {"y": fails}).run()

    assert again(sim) == {"root": "reopen", "sub": "reopen", "sub/y": "reset", "after": "reset"}


def test_iterations_that_succeeded_stay():
    body = {
        "inputDefinitions": {"parameters": {"item": parameter("STRING")}},
        "dag": {"tasks": {"s": task("comp-s", inputs={"text": {"componentInputParameter": "item"}})}},
    }
    components = {"comp-s": component("s", {"text": parameter("STRING")}), "comp-body": body}
    loop = task("comp-body", parameterIterator={"items": {"raw": '["x", "bad", "y"]'}, "itemInput": "item"})

    def step(text: str) -> str:
        if text == "bad":
            raise Failed("bad")
        return text

    sim = Simulation(document({"loop": loop}, components), {"s": step}).run()

    assert again(sim) == {"root": "reopen", "loop": "reopen", "loop/1": "reopen", "loop/1/s": "reset"}


def test_a_task_that_a_condition_skipped_stays_skipped():
    tasks = {"a": task("comp-a", triggerPolicy={"condition": "1 == 2"}), "b": task("comp-b")}
    sim = Simulation(document(tasks, STEPS), {"b": fails}).run()

    assert sim.states == {"a": "SKIPPED", "b": "FAILED"}
    assert again(sim) == {"root": "reopen", "b": "reset"}


def test_a_canceled_run_goes_on_with_what_it_had_not_done():
    tasks = {"a": task("comp-a"), "b": task("comp-b", "a"), "c": task("comp-c", "b")}
    sim = Simulation(document(tasks, STEPS))
    sim.step(sim.turn().start[0])
    sim.turn()
    sim.view.run.state, sim.moved = RuntimeState.CANCELING, True
    sim.turn()

    assert sim.states == {"a": "SUCCEEDED", "b": "CANCELED", "c": "CANCELED"}
    assert again(sim) == {"root": "reopen", "b": "reset", "c": "reset"}


def test_a_run_that_recorded_nothing_begins_from_its_root():
    assert again(Simulation(document({"a": task("comp-a")}, STEPS))) == {}


def test_a_scope_that_could_not_open_begins_anew():
    sub = {
        "inputDefinitions": {"parameters": {"n": parameter("NUMBER_INTEGER")}},
        "dag": {"tasks": {"x": task("comp-a")}},
    }
    tasks = {"sub": task("comp-sub", inputs={"n": {"componentInputParameter": "m"}})}
    root = {"inputDefinitions": {"parameters": {"m": parameter("STRING")}}}
    sim = Simulation(document(tasks, {**STEPS, "comp-sub": sub}, **root), m="no number").run()

    assert sim.states == {"sub": "FAILED"}
    assert again(sim) == {"root": "reopen", "sub": "reset"}


@pytest.mark.parametrize(("first", "expected"), [(0, "FAILED"), (2, "PENDING")])
def test_attempts_before_the_retry_do_not_count_against_the_policy(first, expected):
    policy = {"maxRetryCount": 1, "backoffDuration": "10s"}
    sim = Simulation(document({"a": task("comp-a", retryPolicy=policy)}, STEPS), {"a": fails})
    sim.turn()
    row = sim.view.tasks["root/a"]
    sim.view.tasks["root/a"] = dataclasses.replace(row, attempt=2, detail={"first_attempt": first})
    sim.step("root/a")
    sim.turn()

    assert sim.states == {"a": expected}


def test_iterations_that_a_retried_loop_has_no_items_for_any_more_do_not_stay_pending():
    body = {"dag": {"tasks": {"x": task("comp-a")}}, "inputDefinitions": {"parameters": {"n": parameter("STRING")}}}
    loop = task("comp-body", parameterIterator={"items": {"raw": '["1"]'}, "itemInput": "n"})
    sim = Simulation(document({"loop": loop}, {**STEPS, "comp-body": body}))
    sim.turn()
    for path in ("root/loop/1", "root/loop/1/x"):
        one = sim.view.tasks["root/loop/0" + path.removeprefix("root/loop/1")]
        sim.view.tasks[path] = dataclasses.replace(one, id=path, path=path, state=RuntimeState.PENDING, pod_name="")
    sim.moved = True
    sim.step("root/loop/0/x")
    sim.turn()

    assert sim.finish.state == "SUCCEEDED"
    assert sim.states["loop/1"] == sim.states["loop/1/x"] == "SKIPPED"
