"""The IR: what parses, and which sentence says what is wrong with what does not."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from msgspec import UNSET

from headrace.components.pipelines.types.ir import SpecError, parse_pipeline_spec
from headrace.components.pipelines.types.validation import find_cycle

GOOD: dict[str, Any] = {
    "pipelineInfo": {"name": "good"},
    "schemaVersion": "2.1.0",
    "newFieldOfTomorrow": {"ignored": True},
    "components": {
        "comp-make": {
            "executorLabel": "exec-make",
            "inputDefinitions": {
                "parameters": {
                    "text": {"parameterType": "STRING"},
                    "count": {"parameterType": "NUMBER_INTEGER", "defaultValue": 1, "isOptional": True},
                }
            },
            "outputDefinitions": {
                "parameters": {"Output": {"parameterType": "NUMBER_INTEGER"}},
                "artifacts": {"data": {"artifactType": {"schemaTitle": "system.Dataset"}}},
            },
        },
        "comp-use": {
            "executorLabel": "exec-use",
            "inputDefinitions": {
                "parameters": {"flag": {"parameterType": "BOOLEAN", "isOptional": True}},
                "artifacts": {"data": {"artifactType": {"schemaTitle": "system.Dataset"}}},
            },
        },
    },
    "deploymentSpec": {
        "executors": {
            "exec-make": {"container": {"image": "python:3.11", "command": ["true"]}},
            "exec-use": {"container": {"image": "python:3.11", "command": ["true"]}},
        }
    },
    "root": {
        "inputDefinitions": {"parameters": {"who": {"parameterType": "STRING"}}},
        "dag": {
            "tasks": {
                "make": {
                    "componentRef": {"name": "comp-make"},
                    "inputs": {"parameters": {"text": {"componentInputParameter": "who"}}},
                },
                "use": {
                    "componentRef": {"name": "comp-use"},
                    "dependentTasks": ["make"],
                    "inputs": {
                        "artifacts": {
                            "data": {"taskOutputArtifact": {"producerTask": "make", "outputArtifactKey": "data"}}
                        }
                    },
                },
            }
        },
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """GOOD with one place changed; the value `...` deletes it."""
    document = copy.deepcopy(GOOD)
    *folders, last = path.split("/")
    place = document
    for folder in folders:
        place = place.setdefault(folder, {})
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return document


def test_a_good_document():
    spec = parse_pipeline_spec(GOOD)

    make, use = spec.root.dag.tasks["make"], spec.root.dag.tasks["use"]
    assert use.upstream() == {"make"}
    assert spec.executor_of(spec.component_of(make)).container.image == "python:3.11"
    text, count = (spec.component_of(make).input_definitions.parameters[name] for name in ("text", "count"))
    assert (text.required, text.default_value, count.required, count.default_value) == (True, UNSET, False, 1)


def test_with_a_platform_spec():
    platform = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"exec-make": {"secretAsEnv": []}}}}}}
    spec = parse_pipeline_spec({"pipeline_spec": GOOD, "platform_spec": platform})

    assert spec.kubernetes_of(spec.components["comp-make"]) == {"secretAsEnv": []}
    assert spec.kubernetes_of(spec.components["comp-use"]) == {}


def test_old_documents_with_deprecated_types_and_constants():
    old = changed("components/comp-make/inputDefinitions/parameters", {"text": {"type": "INT"}})
    source = {"text": {"runtimeValue": {"constantValue": {"intValue": "7"}}}}
    old["root"]["dag"]["tasks"]["make"]["inputs"]["parameters"] = source
    spec = parse_pipeline_spec(old)

    assert spec.components["comp-make"].input_definitions.parameters["text"].kind == "NUMBER_INTEGER"
    assert spec.root.dag.tasks["make"].inputs.parameters["text"].runtime_value.value == 7


TASKS = "root/dag/tasks"
BAD = [
    ([], "must be a mapping"),
    (
        {"apiVersion": "argoproj.io/v1alpha1", "kind": "CronWorkflow"},
        "This is a CronWorkflow of argoproj.io/v1alpha1, not",
    ),
    (changed("pipelineInfo/name", ""), "no pipelineInfo.name"),
    (changed("pipelineInfo/name", "Not OK"), "pipelineInfo.name 'Not OK' must be lower-case"),
    (changed("root/dag", ...), "no root.dag"),
    (changed(TASKS, {}), "The root DAG has no tasks"),
    (changed(f"{TASKS}/make/componentRef", {}), "task 'make' has no componentRef.name"),
    (
        changed(f"{TASKS}/make/componentRef/name", "comp-x"),
        "runs component 'comp-x', which the pipeline does not define",
    ),
    (changed("components/comp-make/executorLabel", "exec-x"), "names executor 'exec-x', which deploymentSpec"),
    (
        changed("components/comp-make/executorLabel", ...),
        "Component 'comp-make' has neither a dag nor an executorLabel",
    ),
    (changed("deploymentSpec/executors/exec-make", {}), "is neither a container nor an importer"),
    (changed("deploymentSpec/executors/exec-make/container/image", ""), "has no image"),
    (changed(f"{TASKS}/make/dependentTasks", ["use"]), "The root DAG has a cycle: make -> use -> make"),
    (changed(f"{TASKS}/make/dependentTasks", ["gone"]), "depends on task 'gone'"),
    (changed(f"{TASKS}/make/inputs", {}), "gives no value for 'text', a required parameter of 'comp-make'"),
    (changed(f"{TASKS}/use/inputs", {}), "gives no artifact for 'data', a required input of 'comp-use'"),
    (
        changed(f"{TASKS}/make/inputs/parameters/text", {"componentInputParameter": "whom"}),
        "takes 'whom', which is no input of its DAG",
    ),
    (
        changed(f"{TASKS}/make/inputs/parameters/text", {"runtimeValue": {"constant": "{{$.pipeline_nothing}}"}}),
        "uses the placeholder {{$.pipeline_nothing}}, which is not one of KFP's",
    ),
    (changed(f"{TASKS}/make/inputs/parameters/text", {}), "has no source"),
    (
        changed(
            f"{TASKS}/use/inputs/parameters",
            {"flag": {"taskOutputParameter": {"producerTask": "make", "outputParameterKey": "Output"}}},
        ),
        "input parameter 'flag' is BOOLEAN, but its source gives NUMBER_INTEGER",
    ),
    (
        changed(
            f"{TASKS}/use/inputs/parameters",
            {"flag": {"taskOutputParameter": {"producerTask": "make", "outputParameterKey": "none"}}},
        ),
        "takes output parameter 'none' of task 'make', which has no such output",
    ),
    (
        changed(
            f"{TASKS}/use/inputs/artifacts/data/taskOutputArtifact",
            {"producerTask": "make", "outputArtifactKey": "none"},
        ),
        "takes output artifact 'none' of task 'make', which has no such output",
    ),
    (
        changed(f"{TASKS}/make/parameterIterator", {"itemInput": "text", "items": {"raw": "[1]"}}),
        "loops over a component that is not a DAG",
    ),
    (changed(f"{TASKS}/make/artifactIterator", {"items": {}}), "loops over artifacts"),
    (changed("root/outputDefinitions/parameters", {"x": {"parameterType": "STRING"}}), "promises output parameter 'x'"),
    (
        changed(
            "root/dag/outputs/parameters/x/valueFromParameter", {"producerSubtask": "m", "outputParameterKey": "k"}
        ),
        "output parameter 'x' is taken from 'k' of task 'm', which does not exist",
    ),
    (
        changed("components/comp-make/inputDefinitions/parameters/text/parameterType", "TEXT"),
        "Invalid enum value 'TEXT'",
    ),
    (changed(f"{TASKS}/make/dependentTasks", "use"), "root.dag.tasks[...].dependentTasks: Expected `array`"),
]


@pytest.mark.parametrize(("document", "sentence"), BAD, ids=[sentence for _, sentence in BAD])
def test_what_is_wrong_is_said(document, sentence):
    with pytest.raises(SpecError, match=re.escape(sentence)) as found:
        parse_pipeline_spec(document)

    assert str(found.value).endswith(".")


def test_a_component_that_contains_itself():
    task = {"componentRef": {"name": "comp-loop"}}
    document = changed("components/comp-loop", {"dag": {"tasks": {"again": task}}})
    document["root"]["dag"]["tasks"]["loop"] = task

    with pytest.raises(SpecError, match=r"Component 'comp-loop' contains itself: comp-loop -> comp-loop\."):
        parse_pipeline_spec(document)


@pytest.mark.parametrize(
    ("edges", "cycle"),
    [
        ({}, []),
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"a"}}, ["a", "a"]),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, ["b", "c", "b"]),
        ({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}, []),
    ],
)
def test_cycles(edges, cycle):
    assert find_cycle(edges) == cycle


def test_everything_may_become_text():
    document = changed("components/comp-use/inputDefinitions/parameters/flag/parameterType", "STRING")
    document["root"]["dag"]["tasks"]["use"]["inputs"]["parameters"] = {
        "flag": {"taskOutputParameter": {"producerTask": "make", "outputParameterKey": "Output"}}
    }

    parse_pipeline_spec(document)
