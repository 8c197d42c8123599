"""What kfp 1's compiler makes (Argo Workflows), as a pipeline of the IR; what cannot be one is refused by its name."""

from __future__ import annotations

import copy
import subprocess

import pytest

from headrace.components.pipelines.types import argo_steps, argo_translate
from headrace.components.pipelines.types.ir import SpecError, parse_pipeline_spec


def workflow(*templates, entrypoint="main", **spec):
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": "my-pipeline-"},
        "spec": {"entrypoint": entrypoint, "templates": list(templates), **spec},
    }


def program(name="step", **more):
    container = {"image": "python:3.11", "command": ["echo"], **more.pop("container", {})}
    return {"name": name, "container": container, **more}


def dag(*tasks, name="main", **more):
    return {"name": name, "dag": {"tasks": list(tasks)}, **more}


def task(name="step", **more):
    return {"name": name, "template": name, **more}


def tasks_of(document):
    return argo_translate.translate(document)["pipeline_spec"]["root"]["dag"]["tasks"]


def test_the_entrypoints_tasks_are_the_roots():
    spec = parse_pipeline_spec(workflow(dag(task()), program()))
    assert (spec.name, list(spec.root.dag.tasks)) == ("my-pipeline", ["step"])
    assert spec.executor_of(spec.component_of(spec.root.dag.tasks["step"])).container.command == ["echo"]


def test_a_workflow_of_one_program_has_it_as_its_task():
    assert list(tasks_of(workflow(program(), entrypoint="step"))) == ["step"]


def test_variables_of_the_workflow_are_handed_down_from_the_root():
    inner = program("inner", container={"args": ["{{workflow.parameters.x}}", "{{workflow.uid}}", "{{mine}}"]})
    document = workflow(
        dag(task("middle")),
        dag(task("inner"), name="middle"),
        inner,
        arguments={"parameters": [{"name": "x", "value": 1}]},
    )
    translated = argo_translate.translate(document)["pipeline_spec"]
    assert translated["root"]["dag"]["tasks"]["middle"]["inputs"]["parameters"] == {
        "workflow.parameters.x": {"componentInputParameter": "x"},
        "workflow.uid": {"runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}},
    }
    line = translated["deploymentSpec"]["executors"]["exec-inner"]["container"]["command"]
    name = "{{$.inputs.parameters['%s']}}"
    assert line == ["echo", name % "workflow.parameters.x", name % "workflow.uid", "{{mine}}"]
    parse_pipeline_spec(document)


@pytest.mark.parametrize(
    ("when", "condition"),
    [
        ('"{{tasks.first.outputs.parameters.o}}" == "yes"', "inputs.parameter_values['when-1'] == \"yes\""),
        ("{{tasks.first.outputs.parameters.o}} >= 5", "double(inputs.parameter_values['when-1']) >= double('5')"),
        ("'a' != '{{tasks.first.outputs.parameters.o}}'", "\"a\" != inputs.parameter_values['when-2']"),
        ("{{tasks.first.outputs.parameters.o}} == true", "inputs.parameter_values['when-1'] == \"true\""),
    ],
)
def test_conditions(when, condition):
    first = program("first", outputs={"parameters": [{"name": "o", "valueFrom": {"path": "/tmp/o"}}]})
    document = workflow(dag(task("first"), task(when=when)), first, program())
    assert tasks_of(document)["step"]["triggerPolicy"]["condition"] == condition
    parse_pipeline_spec(document)


def test_a_condition_is_evaluated_as_argo_would():
    from headrace.components.pipelines.policy import expressions

    numbers = "double(inputs.parameter_values['when-1']) >= double('5')"
    assert expressions.condition(numbers, {"when-1": "10"})
    assert not expressions.condition(numbers, {"when-1": "4"})
    assert expressions.condition("inputs.parameter_values['when-1'] > \"5\"", {"when-1": "a"})


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"limit": "3"}, {"maxRetryCount": 3}),
        (
            {"limit": 2, "backoff": {"duration": "1m30s", "factor": "2", "maxDuration": "1h"}},
            {"maxRetryCount": 2, "backoffDuration": "90s", "backoffFactor": 2.0, "backoffMaxDuration": "3600s"},
        ),
    ],
)
def test_retries(policy, expected):
    document = workflow(dag(task()), program(retryStrategy=policy))
    assert tasks_of(document)["step"]["retryPolicy"] == expected
    parse_pipeline_spec(document)


@pytest.mark.parametrize(
    ("label", "staleness", "cached"),
    [("true", "", True), ("true", "P0D", False), ("true", "P30D", True), ("", "", False)],
)
def test_caching_is_what_the_labels_say(label, staleness, cached):
    prefix = "pipelines.kubeflow.org/"
    metadata = {
        "labels": {f"{prefix}enable_caching": label},
        "annotations": {f"{prefix}max_cache_staleness": staleness},
    }
    found = tasks_of(workflow(dag(task()), program(metadata=metadata)))["step"]["cachingOptions"]
    assert found == ({"enableCache": True} if cached else {})


OUTPUT = {"parameters": [{"name": "o", "valueFrom": {"path": "/tmp/o"}}]}
REFUSED = [
    (program(sidecars=[{"name": "s", "image": "i"}]), "Template 'step' of the workflow has the field sidecars"),
    (program(container={"workingDir": "/"}), "Template 'step' of the workflow has the field container.workingDir"),
    (program(container={"command": []}), "Template 'step' of the workflow has a container without a command"),
    (program(script={}), "Template 'step' of the workflow has the field script"),
    ({"name": "step"}, "Template 'step' of the workflow must have a container, a dag or a resource"),
    (program(container={"args": ["{{pod.name}}"]}), "Template 'step' of the workflow uses {{pod.name}}"),
    (program(container={"args": ["{{inputs.parameters.x}}"]}), "uses {{inputs.parameters.x}}"),
    (program(retryStrategy={"limit": 1, "retryPolicy": "OnError"}), "retryStrategy.retryPolicy OnError"),
    (program(retryStrategy={"limit": "many"}), "retryStrategy that cannot be read"),
    (program(container={"volumeMounts": [{"name": "v", "mountPath": "/v"}]}), "mounts the volume 'v', which"),
    (program(volumes=[{"name": "v", "hostPath": {"path": "/"}}]), "has the field volumes[0].hostPath"),
    (program(outputs={"parameters": [{"name": "o", "value": "x"}]}), "output parameter 'o', which is not read from a"),
    (program(container={"env": [{"name": "E", "value": "{{workflow.uid}}"}]}), "environment variable E"),
    (
        {"name": "step", "resource": {"action": "create", "manifest": "kind: Job"}},
        "resource.manifest of the kind Job; only a PersistentVolumeClaim",
    ),
    ({"name": "step", "resource": {"action": "delete", "manifest": ""}}, "resource.action 'delete'"),
    (program(affinity={"podAffinity": {}}), "field affinity with more than nodeAffinity"),
    (program(container={"args": ["{{workflow.status}}"]}), "{{workflow.status}}, which only the workflow's onExit"),
]


@pytest.mark.parametrize(("template", "words"), REFUSED)
def test_what_a_template_cannot_be_is_said_by_name(template, words):
    with pytest.raises(SpecError) as caught:
        parse_pipeline_spec(workflow(dag(task()), template))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (task(when="{{tasks.a.outputs.parameters.o}} == 1 && 2 == 2"), "field when"),
        (task(depends="a.Failed"), "has the field dag.tasks[0].depends"),
        (task(withSequence={"count": 3}), "has the field dag.tasks[0].withSequence"),
        (task(arguments={"parameters": [{"name": "x", "value": "a-{{item}}"}]}), "one variable, not a mixture"),
        (task(arguments={"parameters": [{"name": "x", "value": "{{item}}"}]}), "an item, but does not loop"),
        (task(arguments={"parameters": [{"name": "x", "value": "{{inputs.parameters.y}}"}]}), "takes 'y', which is no"),
        (task(arguments={"parameters": [{"name": "x", "value": "{{tasks.b.outputs.parameters.o}}"}]}), "the task 'b'"),
        (task(arguments={"artifacts": [{"name": "x", "from": "{{item}}"}]}), "gives the artifact 'x' from"),
        ({"name": "step", "template": "none"}, "names the template 'none'"),
        (task("main"), "'main' of the workflow contains itself"),
    ],
)
def test_what_a_task_cannot_be_is_said_by_name(changed, words):
    with pytest.raises(SpecError) as caught:
        parse_pipeline_spec(workflow(dag(changed), program(inputs={"parameters": [{"name": "x"}]})))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "spec",
    [
        None,
        [],
        {"entrypoint": 3},
        {"entrypoint": "x", "templates": [1]},
        {"entrypoint": "x", "templates": [{"name": []}]},
    ],
)
def test_a_document_of_another_shape_is_refused_with_a_sentence(spec):
    with pytest.raises(SpecError):
        parse_pipeline_spec({"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "spec": spec})


def test_nothing_of_a_document_is_changed():
    document = workflow(dag(task()), program(outputs=OUTPUT))
    before = copy.deepcopy(document)
    parse_pipeline_spec(document)
    assert document == before


def test_files_at_fixed_paths_are_copied_around_the_command(tmp_path):
    """The lines of shell that a program gets whose paths are part of a script: run as they are."""
    fixed_in, fixed_out, raw = (tmp_path / name for name in ("in put/file", "out/file", "raw/it's"))
    template = program(
        container={
            "command": ["sh", "-c"],
            "args": [f"mkdir -p {tmp_path}/out; cat '{fixed_in}' {tmp_path}/raw/* > {fixed_out}; exit $0", "0"],
        },
        inputs={
            "artifacts": [
                {"name": "i", "path": str(fixed_in)},
                {"name": "r", "path": str(raw), "raw": {"data": "$(x)"}},
            ]
        },
        outputs={
            "artifacts": [{"name": "o", "path": str(fixed_out)}],
            "parameters": [{"name": "o", "valueFrom": {"path": str(fixed_out)}}],
        },
    )
    document = workflow(dag(task()), template)
    executor = argo_translate.translate(document)["pipeline_spec"]["deploymentSpec"]["executors"]["exec-step"][
        "container"
    ]
    given, artifact, parameter = tmp_path / "given", tmp_path / "a" / "artifact", tmp_path / "p" / "parameter"
    given.write_text("one ")
    places = {
        "{{$.inputs.artifacts['i'].path}}": str(given),
        "{{$.outputs.artifacts['o'].path}}": str(artifact),
        "{{$.outputs.parameters['o'].output_file}}": str(parameter),
    }
    line = [places.get(word, word) for word in [*executor["command"], *executor["args"]]]
    assert subprocess.run(line, check=False).returncode == 0
    assert (artifact.read_text(), parameter.read_text()) == ("one $(x)", "one $(x)")
    artifact.unlink()
    assert subprocess.run([*line[:-1], "7"], check=False).returncode == 7
    assert not artifact.exists()


@pytest.mark.parametrize(("text", "expected"), [("30", "30s"), (5, "5s"), ("2m", "120s"), ("1h0.5s", "3600.5s")])
def test_durations(text, expected):
    assert argo_steps.seconds(text) == expected


@pytest.mark.parametrize("text", ["", "soon", "3d"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="not a duration"):
        argo_steps.seconds(text)


def test_templates_within_templates_have_a_bound():
    deep = [dag(task(f"t{i + 1}"), name=f"t{i}") for i in range(2000)]
    with pytest.raises(SpecError, match="levels deep"):
        parse_pipeline_spec(workflow(*deep, program("t2000"), entrypoint="t0"))


def test_many_blanks_take_no_time():
    """The expression that finds variables is linear; a polynomial one would not come back."""
    blanks = "{{" + " " * 200_000
    document = workflow(dag(task()), program(container={"args": [blanks, "{{" * 100_000, "{{ mine }}"]}))
    parse_pipeline_spec(document)


@pytest.mark.parametrize(
    ("value", "default"), [(1, "1"), (0.5, "0.5"), (True, "true"), ([1, "a"], '[1,"a"]'), ("text", "text")]
)
def test_values_are_text(value, default):
    document = workflow(dag(task()), program(), arguments={"parameters": [{"name": "p", "value": value}]})
    parameters = argo_translate.translate(document)["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
    assert parameters == {"p": {"parameterType": "STRING", "defaultValue": default}}


def test_blanks_within_a_variable_mean_nothing():
    step = program(inputs={"parameters": [{"name": "x"}]}, container={"args": ["{{ inputs.parameters.x }}"]})
    given = {"parameters": [{"name": "x", "value": "{{ workflow.uid }}"}]}
    spec = parse_pipeline_spec(workflow(dag(task(arguments=given)), step))
    executor = spec.executor_of(spec.component_of(spec.root.dag.tasks["step"]))
    assert executor.container.command == ["echo", "{{$.inputs.parameters['x']}}"]
