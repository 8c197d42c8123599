"""Deadlines of whole runs."""

from __future__ import annotations

import datetime as dt
import importlib.util
import sys
from pathlib import Path

import pytest

from headrace.components.pipelines.policy.deadline import deadline_seconds, run_deadline
from headrace.components.pipelines.types.ir import parse_pipeline_spec

_NAME = "pipelines_simulation"
if _NAME not in sys.modules:
    _spec = importlib.util.spec_from_file_location(_NAME, Path(__file__).with_name("simulation.py"))
    sys.modules[_NAME] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_NAME])

from pipelines_simulation import NOW, Simulation, component, document, task  # noqa: E402


def limited(seconds: object) -> dict:
    tasks = {"a": task("comp-a"), "b": task("comp-a", "a")}
    config = {"platforms": {"kubernetes": {"pipelineConfig": {"activeDeadlineSeconds": seconds}}}}
    return {"pipeline_spec": document(tasks, {"comp-a": component("a")}), "platform_spec": config}


def test_at_the_deadline_everything_ends():
    sim = Simulation(limited(60))
    plan = sim.turn()
    assert plan.wake_at == NOW + dt.timedelta(seconds=60)
    sim.now += dt.timedelta(seconds=59.9)
    sim.moved = True
    assert sim.turn().finish is None
    sim.now += dt.timedelta(seconds=0.1)
    sim.moved = True
    plan = sim.turn()

    assert (plan.finish.state, plan.finish.code) == ("FAILED", 4)
    assert plan.finish.message == "The run took longer than its deadline of 60 s."
    assert plan.stop == [sim.task("a").pod_name]
    assert sim.states == {"a": "FAILED", "b": "FAILED"}


def test_what_ended_in_time_is_not_ended_again():
    sim = Simulation(limited(60)).run()
    sim.now += dt.timedelta(hours=1)
    sim.moved = True
    assert sim.turn().finish.state == "SUCCEEDED"


def test_a_retry_has_the_whole_time_again():
    sim = Simulation(limited(60))
    later = "2026-01-01T05:00:00Z"
    sim.view.run.state_history = [
        {"update_time": "2026-01-01T00:00:00Z", "state": "PENDING"},
        {"update_time": "2026-01-01T00:01:00Z", "state": "FAILED"},
        {"update_time": later, "state": "PENDING"},
        {"update_time": "2026-01-01T05:00:10Z", "state": "RUNNING"},
    ]
    assert run_deadline(sim.view) == dt.datetime.fromisoformat(later) + dt.timedelta(seconds=60)


@pytest.mark.parametrize(("given", "expected"), [(0, 0), (-5, 0), (None, 0), (90, 90), (90.0, 90)])
def test_only_what_is_positive_is_a_deadline(given, expected):
    assert deadline_seconds(parse_pipeline_spec(limited(given))) == expected


@pytest.mark.parametrize("given", ["soon", True, 1.5, 1 << 40, [1]])
def test_what_is_no_number_of_seconds(given):
    with pytest.raises(ValueError, match="whole number of seconds"):
        deadline_seconds(parse_pipeline_spec(limited(given)))
