"""The cache key is upstream's, bit for bit: the hash is that of cacheutils/cache_test.go."""

from __future__ import annotations

import pytest

from headrace.components.pipelines.policy import cache
from headrace.components.pipelines.types.ir import (
    ArtifactType,
    ComponentSpec,
    ContainerSpec,
    OutputArtifact,
    OutputDefinitions,
    OutputParameter,
)

MODEL = (
    "title: kfp.Model\ntype: object\nproperties:\n  framework:\n    type: string\n"
    "  framework_version:\n    type: string\n"
)
UPSTREAM = {
    "inputArtifactNames": {"dataset_one": {"artifactNames": ["1"]}, "dataset_two": {"artifactNames": ["2"]}},
    "inputParameterValues": {"message": "Some string value", "num_steps": 5},
    "outputArtifactsSpec": {
        "model": {"name": "model", "type": {"instanceSchema": MODEL}, "metadata": {"name": "model"}},
        "metrics": {"name": "metrics", "type": {"schemaTitle": "kfp.Metrics"}, "metadata": {"name": "metrics"}},
    },
    "outputParametersSpec": {"output_parameter_one": "STRING", "output_parameter_two": "INT"},
    "containerSpec": {"image": "python:3.11", "cmdArgs": ["sh", "ec", "test"]},
}
FINGERPRINT = "b498530c9016917298999ec0b01f364a180f8a3862bea0fa672a383ca3f22e4e"


def test_upstreams_own_example():
    assert cache.digest(UPSTREAM) == FINGERPRINT


def component(**more):
    outputs = OutputDefinitions(
        artifacts={
            "model": OutputArtifact(artifact_type=ArtifactType(instance_schema=MODEL), metadata={"name": "model"}),
            "metrics": OutputArtifact(
                artifact_type=ArtifactType(schema_title="kfp.Metrics"), metadata={"name": "metrics"}
            ),
        },
        parameters={"one": OutputParameter(parameter_type="STRING")},
    )
    return ComponentSpec(output_definitions=outputs, **more)


BASE = {
    "component": component(),
    "container": ContainerSpec(image="python:3.11", command=["sh"], args=["<&>"]),
    "parameters": {"a": 5.0},
    "artifacts": {"data": ["id-1"]},
}


def test_a_component_gives_the_same_message():
    expected = {
        "inputArtifactNames": {"data": {"artifactNames": ["id-1"]}},
        "inputParameterValues": {"a": 5},
        "outputArtifactsSpec": UPSTREAM["outputArtifactsSpec"],
        "outputParametersSpec": {"one": "STRING"},
        "containerSpec": {"image": "python:3.11", "cmdArgs": ["sh", "<&>"], "pvcNames": ["a", "b"]},
    }

    assert cache.fingerprint(**BASE, claims=["b", "a", "b"]) == cache.digest(expected)


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": {"a": 6}},
        {"artifacts": {"data": ["id-2"]}},
        {"container": ContainerSpec(image="python:3.12", command=["sh"], args=["<&>"])},
        {"container": ContainerSpec(image="python:3.11", command=["sh", "-c"], args=["<&>"])},
        {"component": ComponentSpec()},
        {"claims": ["a"]},
    ],
)
def test_what_changes_the_key(change):
    assert cache.fingerprint(**(BASE | change)) != cache.fingerprint(**BASE)


def test_what_does_not_change_the_key():
    with_env = ContainerSpec(image="python:3.11", command=["sh"], args=["<&>"], env=[])

    assert cache.fingerprint(**(BASE | {"container": with_env, "parameters": {"a": 5}})) == cache.fingerprint(**BASE)


def test_a_chosen_key_is_scoped_by_the_component():
    assert cache.custom_key("comp-a", "mine") == cache.custom_key("comp-a", "mine")
    assert cache.custom_key("comp-a", "mine") != cache.custom_key("comp-b", "mine")
