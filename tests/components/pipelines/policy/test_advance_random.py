"""Any pipeline, any order in which its steps end: the run ends, and nothing begins early or twice."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

_NAME = "pipelines_simulation"
if _NAME not in sys.modules:
    _spec = importlib.util.spec_from_file_location(_NAME, Path(__file__).with_name("simulation.py"))
    sys.modules[_NAME] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_NAME])

from pipelines_simulation import Failed, Simulation, component, constant, document, parameter, task  # noqa: E402

KINDS = ("works", "works", "works", "fails", "never", "after", "dag", "loop")


@st.composite
def dags(draw, depth: int = 2):
    """Tasks by name: (kind, upstream names, body of a nested DAG)."""
    count = draw(st.integers(1, 5))
    tasks = {}
    for index in range(count):
        kind = draw(st.sampled_from(KINDS))
        upstream = draw(st.sets(st.sampled_from(sorted(tasks)), max_size=2)) if tasks else set()
        nested = kind in {"dag", "loop"} and depth > 0
        body = draw(dags(depth=depth - 1)) if nested else None
        tasks[f"t{index}"] = ("works" if kind in {"dag", "loop"} and not nested else kind, sorted(upstream), body)
    return tasks


def build(tasks, components, prefix=""):
    built = {}
    for name, (kind, upstream, body) in tasks.items():
        own = f"{prefix}{name}"
        if body is not None:
            components[f"comp-{own}"] = {
                "dag": {"tasks": build(body, components, f"{own}-")},
                "inputDefinitions": {"parameters": {"item": parameter("NUMBER_INTEGER", isOptional=True)}},
            }
        more = {}
        if kind == "never":
            more["triggerPolicy"] = {"condition": "inputs.parameter_values['x'] == 'no'"}
        if kind == "after":
            more["triggerPolicy"] = {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
        if kind == "loop":
            more["parameterIterator"] = {"itemInput": "item", "items": {"raw": json.dumps([1, 2, 3])}}
            more["iteratorPolicy"] = {"parallelismLimit": 2}
        inputs = None if body is not None else {"x": constant("yes")}
        built[name] = task(f"comp-{own}" if body is not None else "comp-step", *upstream, inputs=inputs, **more)
    return built


def kinds(tasks, prefix="root"):
    for name, (kind, _, body) in tasks.items():
        yield f"{prefix}/{name}", kind
        if body is not None and kind == "dag":
            yield from kinds(body, f"{prefix}/{name}")
        elif body is not None:
            for index in range(3):
                yield from kinds(body, f"{prefix}/{name}/{index}")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(dags(), st.randoms(use_true_random=False))
def test_every_run_ends_well(tasks, random):
    components = {"comp-step": component("step", {"x": parameter("STRING")})}
    sim = Simulation(document(build(tasks, components), components))
    kind_of = dict(kinds(tasks))
    waiting: list[str] = []
    started: list[str] = []
    for _ in range(2000):
        plan = sim.turn()
        waiting += plan.start
        started += plan.start
        if plan.finish is not None:
            break
        assert waiting, "the run waits for nothing"
        path = waiting.pop(random.randrange(len(waiting)))
        sim.steps[sim.view.tasks[path].name] = _fails if kind_of[path] == "fails" else (lambda **_: {})
        sim.step(path)

    assert sim.finish is not None
    assert not waiting
    assert len(started) == len(set(started))
    states = {path: row.state.value for path, row in sim.view.tasks.items()}
    assert all(row.state.final for row in sim.view.tasks.values())
    for path in started:
        assert kind_of[path] != "never", path
    assert (sim.finish.state == "FAILED") == any(states[p] == "FAILED" for p in started)
    for path, state in states.items():
        parent = path.rpartition("/")[0]
        if state == "FAILED" and parent:
            assert states[parent] == "FAILED", f"{path} failed, {parent} did not"


def _fails(**_):
    raise Failed("it broke")
