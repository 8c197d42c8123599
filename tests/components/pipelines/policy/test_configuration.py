"""What a whole pipeline may ask for (dsl.PipelineConfig), and what is wrong with it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from headrace.components.pipelines.policy.configuration import configuration
from headrace.components.pipelines.store.models import RuntimeState
from headrace.components.pipelines.types.ir import parse_pipeline_spec

_NAME = "pipelines_simulation"
if _NAME not in sys.modules:
    _spec = importlib.util.spec_from_file_location(_NAME, Path(__file__).with_name("simulation.py"))
    sys.modules[_NAME] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_NAME])

from pipelines_simulation import Simulation, component, constant, document, parameter, task  # noqa: E402


def configured(**config: object) -> dict:
    say = component("say", {"text": parameter("STRING")})
    tasks = {"a": task("comp-say", inputs={"text": constant("in {{$.workspace_path}}/x")})}
    platform = {"platforms": {"kubernetes": {"pipelineConfig": config}}}
    return {"pipeline_spec": document(tasks, {"comp-say": say}), "platform_spec": platform}


def read(**config: object):
    return configuration(parse_pipeline_spec(configured(**config)))


@pytest.mark.parametrize(
    ("config", "succeeded", "failed"),
    [
        ({}, 0, 0),
        ({"resourceTtlOnCompletion": 60}, 60, 60),
        ({"resourceTtl": 60}, 60, 60),
        ({"resourceTtlOnCompletion": 60, "resourceTtlOnSuccess": 5}, 5, 60),
        ({"resourceTtlOnFailure": 7.0}, 0, 7),
        ({"resourceTtlOnFailure": -7}, 0, 0),
    ],
)
def test_the_time_to_live_of_a_run_depends_on_how_it_ended(config, succeeded, failed):
    found = read(**config)
    assert found.keep_seconds(RuntimeState.SUCCEEDED) == succeeded
    assert found.keep_seconds(RuntimeState.FAILED) == failed
    assert found.keep_seconds(RuntimeState.CANCELED) == failed


def test_a_workspace_is_a_claim():
    claim = read(workspace={"size": "2Gi"}).workspace.claim
    assert (claim.access_modes, claim.resources.requests) == (["ReadWriteMany"], {"storage": "2Gi"})
    assert claim.storage_class_name is None

    patch = {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "resources": {"limits": {"storage": "3Gi"}}}
    claim = read(workspace={"size": "2Gi", "kubernetes": {"pvcSpecPatch": patch}}).workspace.claim
    assert (claim.access_modes, claim.storage_class_name) == (["ReadWriteOnce"], "fast")
    assert (claim.resources.requests, claim.resources.limits) == ({"storage": "2Gi"}, {"storage": "3Gi"})


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"workspace": {}}, "workspace must have a size"),
        ({"workspace": {"size": "big"}}, "workspace.size 'big' is no quantity"),
        ({"workspace": {"size": "-1Gi"}}, "must be more than nothing"),
        ({"workspace": {"size": "1Gi", "kubernetes": {"pvcSpecPatch": {"storageClassName": ""}}}}, "not empty"),
        ({"workspace": {"size": "1Gi", "kubernetes": {"pvcSpecPatch": {"dataSource": {}}}}}, "has dataSource, which"),
        ({"workspace": {"size": "1Gi", "kubernetes": {"pvcSpecPatch": {"accessModes": 1}}}}, "does not parse"),
        ({"workspace": {"size": "1Gi", "kubernetes": 5}}, "must be a mapping"),
        ({"resourceTtlOnSuccess": "soon"}, "resourceTtlOnSuccess must be a whole number of seconds, got 'soon'"),
        ({"activeDeadlineSeconds": True}, "activeDeadlineSeconds must be a whole number"),
    ],
)
def test_what_is_wrong_is_said(config, problem):
    with pytest.raises(ValueError, match=problem):
        read(**config)


def test_settings_that_are_not_known_are_named():
    assert read(mutexName="m", semaphoreKey="s").unknown == ("mutexName", "semaphoreKey")


def test_the_placeholder_of_the_workspace_becomes_its_path():
    sim = Simulation(configured(workspace={"size": "1Gi"}))
    sim.turn()
    assert sim.task("a").inputs.parameters == {"text": "in /kfp-workspace/x"}


def test_a_task_that_uses_a_workspace_which_the_pipeline_does_not_ask_for_fails_in_words():
    sim = Simulation(configured())
    sim.turn()
    assert "the pipeline asks for none; give it pipeline_config=" in sim.finish.message
