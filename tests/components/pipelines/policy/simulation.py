"""Runs a pipeline without pods: `advance` in a loop, with a function in place of each step."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import TYPE_CHECKING, Any

from headrace.components.pipelines.policy.advance import advance, with_scopes
from headrace.components.pipelines.policy.plan import CacheHit, Plan, RunView
from headrace.components.pipelines.policy.view import constants
from headrace.components.pipelines.store.models import Artifact, Run, RuntimeState, TaskRow, Values
from headrace.components.pipelines.types.ir import parse_pipeline_spec

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class Failed(Exception):
    """What a step raises to fail; the code is google.rpc's."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class Simulation:
    """One run. `steps` maps the name of a task to a function of its input parameters that gives output parameters."""

    def __init__(self, document: dict[str, Any], steps: dict[str, Callable[..., Any]] | None = None, **given: Any):
        self.spec = parse_pipeline_spec(document)
        self.steps = steps or {}
        run = Run("11111111-2222-3333-4444-555555555555", "home", "exp", "a run", parameters=given)
        run.pipeline_name, run.created_at, run.state = self.spec.name, NOW, RuntimeState.RUNNING
        self.view = RunView(self.spec, run, {}, {}, constants(run, self.spec))
        self.now = NOW
        self.plans: list[Plan] = []
        self.order: list[str] = []
        self.hits: dict[str, CacheHit | None] = {}
        self.cache: dict[str, CacheHit] = {}
        self.touched: list[str] = []
        self.moved = False
        """Time has passed, or the run itself has changed."""

    def turn(self) -> Plan:
        """One decision, recorded as the repository would record it."""
        touched = with_scopes(self.touched) if self.plans and not self.moved else None
        self.touched, self.moved = [], False
        plan = advance(self.view, self.now, self.hits, touched)
        while plan.lookups:
            self.hits |= {path: self.cache.get(key) for path, key in plan.lookups.items()}
            plan = advance(self.view, self.now, self.hits, touched)
        everything = advance(self.view, self.now, self.hits)
        for part in ("create", "updates", "start", "stop", "imports", "finish"):
            assert getattr(everything, part) == getattr(plan, part), f"looking at less gives another {part}"
        self.view.tasks |= plan.rows
        self.plans.append(plan)
        for path, new in plan.imports:
            self._finish(path, {}, {new.output: [(new.uri, new.metadata)]})
        return plan

    def run(self) -> Simulation:
        """Until the run ends or waits for a time."""
        for _ in range(1000):
            plan = self.turn()
            for path in plan.start:
                self.step(path)
            if plan.finish is not None or not (plan.start or plan.imports):
                return self
        raise AssertionError("the run does not end")

    def step(self, path: str) -> None:
        """Let the step of a path run."""
        row = self.view.tasks[path]
        self.order.append(path.removeprefix("root/"))
        self.touched.append(path)
        action = self.steps.get(row.name, lambda **_: {})
        try:
            made = action(**row.inputs.parameters)
        except Failed as error:
            report = {"attempt": row.attempt, "state": "FAILED", "error": {"code": error.code, "message": str(error)}}
            self.view.tasks[path] = _with(row, report=report)
            return
        self._finish(path, made if isinstance(made, dict) else {"Output": made})

    def _finish(self, path: str, parameters: dict[str, Any], artifacts: dict[str, Any] | None = None) -> None:
        self.touched.append(path)
        row = self.view.tasks[path]
        outputs = Values(parameters, {})
        for name, made in (artifacts or {}).items():
            for uri, metadata in made:
                found = Artifact(str(uuid.uuid4()), "home", "system.Dataset", name, uri, metadata, task_id=row.id)
                self.view.artifacts[found.id] = found
                outputs.artifacts.setdefault(name, []).append(found.id)
        self.view.tasks[path] = _with(row, state=RuntimeState.SUCCEEDED, outputs=outputs)
        if row.cache_key:
            self.cache[row.cache_key] = CacheHit(row.id, outputs)

    @property
    def states(self) -> dict[str, str]:
        return {p.removeprefix("root/"): t.state.value for p, t in self.view.tasks.items() if p != "root"}

    @property
    def finish(self) -> Any:
        return self.plans[-1].finish

    def task(self, path: str) -> TaskRow:
        return self.view.tasks[path if path == "root" else f"root/{path}"]


def _with(row: TaskRow, **changes: Any) -> TaskRow:
    import dataclasses

    return dataclasses.replace(row, **changes)


def parameter(kind: str, **more: Any) -> dict[str, Any]:
    return {"parameterType": kind, **more}


def component(name: str, inputs: dict[str, Any] | None = None, outputs: dict[str, Any] | None = None) -> dict[str, Any]:
    """A component that runs as a container."""
    return {
        "executorLabel": f"exec-{name}",
        "inputDefinitions": {"parameters": inputs or {}},
        "outputDefinitions": {"parameters": outputs if outputs is not None else {"Output": parameter("STRING")}},
    }


def document(tasks: dict[str, Any], components: dict[str, Any], **root: Any) -> dict[str, Any]:
    """A pipeline spec; executors are made for the components that need one."""
    labels = [c["executorLabel"] for c in components.values() if "executorLabel" in c]
    executor = {"container": {"image": "python:3.11", "command": ["true"]}}
    return {
        "pipelineInfo": {"name": "simulated"},
        "components": components,
        "deploymentSpec": {"executors": dict.fromkeys(labels, executor)},
        "root": {"dag": {"tasks": tasks, "outputs": root.pop("outputs", {})}, **root},
    }


def task(component_name: str, *after: str, inputs: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A task of a DAG."""
    given: dict[str, Any] = {"componentRef": {"name": component_name}, "dependentTasks": list(after), **more}
    if inputs:
        given["inputs"] = {"parameters": inputs}
    return given


def output_of(producer: str, key: str = "Output") -> dict[str, Any]:
    return {"taskOutputParameter": {"producerTask": producer, "outputParameterKey": key}}


def constant(value: Any) -> dict[str, Any]:
    return {"runtimeValue": {"constant": value}}
