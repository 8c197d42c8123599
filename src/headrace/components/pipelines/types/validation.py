"""What must hold of a pipeline before it may run: every reference resolves, types fit, no DAG has a cycle.

Upstream finds most of these when a driver pod fails in the middle of a run. They can be known from the document, so
they are said before a run begins. A rule stands here only if upstream would fail on the document as well (source:
backend/src/v2/compiler/visitor.go, driver/resolve.go, apiserver/template/v2_template.go), so that what runs there
runs here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import UNSET

from headrace.components.pipelines.types.ir import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.components.pipelines.types.ir import (
        ArtifactSource,
        ComponentSpec,
        DagSpec,
        ParameterSource,
        PipelineSpec,
        TaskSpec,
    )

RUNTIME_CONSTANTS = frozenset(
    {
        "{{$.pipeline_job_name}}",
        "{{$.pipeline_job_resource_name}}",
        "{{$.pipeline_job_uuid}}",
        "{{$.pipeline_task_name}}",
        "{{$.pipeline_task_uuid}}",
        "{{$.pipeline_job_create_time_utc}}",
        "{{$.pipeline_job_schedule_time_utc}}",
        "{{$.pipeline_root}}",
        "{{$.workspace_path}}",
    }
)
"""Constants that stand for a property of the run or the task (upstream: driver/resolve.go, resolveInputParameter)."""

_CONSTANT = re.compile(r"\{\{\$\.[a-z_]+\}\}")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,126}[a-z0-9])?")
_NUMBERS = frozenset({"NUMBER_DOUBLE", "NUMBER_INTEGER"})
_STRUCTS = frozenset({"STRUCT", "TASK_FINAL_STATUS", "TASK_CONFIG"})


def check(spec: PipelineSpec) -> None:
    """Raises SpecError with the first thing that is wrong."""
    if not spec.name:
        raise SpecError("The pipeline spec has no pipelineInfo.name.")
    if not _NAME.fullmatch(spec.name):
        raise SpecError(
            f"pipelineInfo.name {spec.name!r} must be lower-case letters, digits and '-', start and end with a letter "
            "or digit, and be at most 128 characters long."
        )
    if spec.root.dag is None:
        raise SpecError(
            "The pipeline spec has no root.dag with tasks; compile a function that is decorated with @dsl.pipeline."
        )
    _check_component(spec, "root", spec.root)
    for name, component in spec.components.items():
        _check_component(spec, name, component)
    _check_no_recursion(spec)


def _check_component(spec: PipelineSpec, name: str, component: ComponentSpec) -> None:
    where = "The root DAG" if name == "root" else f"Component {name!r}"
    if component.dag is not None:
        _check_dag(spec, where, component, component.dag)
        return
    if not component.executor_label:
        raise SpecError(f"{where} has neither a dag nor an executorLabel.")
    executor = spec.deployment_spec.executors.get(component.executor_label)
    if executor is None:
        raise SpecError(f"{where} names executor {component.executor_label!r}, which deploymentSpec.executors lacks.")
    if executor.container is None and executor.importer is None:
        raise SpecError(
            f"Executor {component.executor_label!r} is neither a container nor an importer; no other kind can run here."
        )
    if executor.container is not None and not executor.container.image:
        raise SpecError(f"The container of executor {component.executor_label!r} has no image.")


def _check_dag(spec: PipelineSpec, where: str, component: ComponentSpec, dag: DagSpec) -> None:
    if not dag.tasks:
        raise SpecError(f"{where} has no tasks.")
    for name, task in dag.tasks.items():
        ref = task.component_ref.name
        if not ref:
            raise SpecError(f"{where}: task {name!r} has no componentRef.name.")
        if ref not in spec.components:
            raise SpecError(f"{where}: task {name!r} runs component {ref!r}, which the pipeline does not define.")
    for name, task in dag.tasks.items():
        _check_task(spec, f"{where}: task {name!r}", component, dag, task)
    _check_acyclic(where, {name: task.upstream() for name, task in dag.tasks.items()})
    _check_outputs(spec, where, component, dag)


def _check_task(spec: PipelineSpec, where: str, parent: ComponentSpec, dag: DagSpec, task: TaskSpec) -> None:
    target = spec.component_of(task)
    for upstream in sorted(task.upstream()):
        if upstream not in dag.tasks:
            raise SpecError(f"{where} depends on task {upstream!r}, which its DAG does not have.")
    if task.artifact_iterator is not None:
        raise SpecError(
            f"{where} loops over artifacts (artifactIterator), which KFP does not run; loop over parameters."
        )
    _check_loop(where, task, target)
    for name, source in task.inputs.parameters.items():
        kind = _source_type(spec, f"{where}, input parameter {name!r}", parent, dag, source)
        wanted = target.input_definitions.parameters.get(name)
        if wanted is not None and kind and not source.parameter_expression_selector and not _fits(kind, wanted.kind):
            raise SpecError(f"{where}: input parameter {name!r} is {wanted.kind}, but its source gives {kind}.")
    for name, artifact in task.inputs.artifacts.items():
        _check_artifact_source(spec, f"{where}, input artifact {name!r}", parent, dag, artifact)
    item = task.parameter_iterator.item_input if task.parameter_iterator else ""
    for name, parameter in target.input_definitions.parameters.items():
        passed = parameter.kind == "TASK_CONFIG" or name in task.inputs.parameters or name == item
        if not passed and parameter.required:
            raise SpecError(
                f"{where} gives no value for {name!r}, a required parameter of {task.component_ref.name!r}."
            )
    for name, wanted_artifact in target.input_definitions.artifacts.items():
        if not wanted_artifact.is_optional and name not in task.inputs.artifacts:
            raise SpecError(f"{where} gives no artifact for {name!r}, a required input of {task.component_ref.name!r}.")


def _check_loop(where: str, task: TaskSpec, target: ComponentSpec) -> None:
    loop = task.parameter_iterator
    if loop is None:
        return
    if target.dag is None:
        raise SpecError(f"{where} loops over a component that is not a DAG; put the body of the loop into a DAG.")
    if loop.items.raw is UNSET and not loop.items.input_parameter:
        raise SpecError(f"{where}: parameterIterator.items has neither raw nor inputParameter.")
    if loop.items.input_parameter and loop.items.input_parameter not in task.inputs.parameters:
        raise SpecError(f"{where} loops over input {loop.items.input_parameter!r}, which it does not get.")


def _source_type(spec: PipelineSpec, where: str, parent: ComponentSpec, dag: DagSpec, source: ParameterSource) -> str:
    """The type that a source is known to give; empty when only the run will tell."""
    if source.component_input_parameter is not None:
        given = parent.input_definitions.parameters.get(source.component_input_parameter)
        if given is None:
            raise SpecError(f"{where} takes {source.component_input_parameter!r}, which is no input of its DAG.")
        return ""
    if source.task_output_parameter is not None:
        producer, key = source.task_output_parameter.producer_task, source.task_output_parameter.output_parameter_key
        task = dag.tasks[producer]
        component = spec.component_of(task)
        output = component.output_definitions.parameters.get(key)
        if output is None:
            raise SpecError(f"{where} takes output parameter {key!r} of task {producer!r}, which has no such output.")
        return output.kind if component.dag is None and task.parameter_iterator is None else ""
    if source.runtime_value is not None:
        value = source.runtime_value.value
        if value is UNSET:
            raise SpecError(f"{where} has a runtimeValue without a constant.")
        if isinstance(value, str) and _CONSTANT.fullmatch(value) and value not in RUNTIME_CONSTANTS:
            raise SpecError(f"{where} uses the placeholder {value}, which is not one of KFP's.")
        return ""
    if source.task_final_status is not None:
        return "TASK_FINAL_STATUS"
    raise SpecError(f"{where} has no source.")


def _check_artifact_source(
    spec: PipelineSpec, where: str, parent: ComponentSpec, dag: DagSpec, source: ArtifactSource
) -> None:
    if source.component_input_artifact is not None:
        if source.component_input_artifact not in parent.input_definitions.artifacts:
            raise SpecError(f"{where} takes {source.component_input_artifact!r}, which is no input of its DAG.")
    elif source.task_output_artifact is not None:
        producer, key = source.task_output_artifact.producer_task, source.task_output_artifact.output_artifact_key
        if key not in spec.component_of(dag.tasks[producer]).output_definitions.artifacts:
            raise SpecError(f"{where} takes output artifact {key!r} of task {producer!r}, which has no such output.")
    else:
        raise SpecError(f"{where} has no source.")


def _fits(given: str, wanted: str) -> bool:
    """Whether a value of one type may become an input of another: everything may be text (driver/resolve.go)."""
    if "PARAMETER_TYPE_ENUM_UNSPECIFIED" in {given, wanted} or wanted in {given, "STRING"}:
        return True
    return {given, wanted} <= _NUMBERS or {given, wanted} <= _STRUCTS


def _check_outputs(spec: PipelineSpec, where: str, component: ComponentSpec, dag: DagSpec) -> None:
    for name, parameter in dag.outputs.parameters.items():
        for selector in parameter.selectors:
            task = dag.tasks.get(selector.producer_subtask)
            outputs = spec.component_of(task).output_definitions.parameters if task else {}
            if selector.output_parameter_key not in outputs:
                raise SpecError(
                    f"{where}: output parameter {name!r} is taken from {selector.output_parameter_key!r} of task "
                    f"{selector.producer_subtask!r}, which does not exist."
                )
    for name, artifact in dag.outputs.artifacts.items():
        for choice in artifact.artifact_selectors:
            task = dag.tasks.get(choice.producer_subtask)
            made = spec.component_of(task).output_definitions.artifacts if task else {}
            if choice.output_artifact_key not in made:
                raise SpecError(
                    f"{where}: output artifact {name!r} is taken from {choice.output_artifact_key!r} of task "
                    f"{choice.producer_subtask!r}, which does not exist."
                )
    for name in component.output_definitions.parameters:
        if name not in dag.outputs.parameters:
            raise SpecError(f"{where} promises output parameter {name!r}, but its dag.outputs does not say whence.")
    for name in component.output_definitions.artifacts:
        if name not in dag.outputs.artifacts:
            raise SpecError(f"{where} promises output artifact {name!r}, but its dag.outputs does not say whence.")


def _check_acyclic(where: str, edges: Mapping[str, set[str]]) -> None:
    cycle = find_cycle(edges)
    if cycle:
        raise SpecError(f"{where} has a cycle: {' -> '.join(cycle)}; no task of it could ever begin.")


def _check_no_recursion(spec: PipelineSpec) -> None:
    edges = {
        name: {t.component_ref.name for t in c.dag.tasks.values()} if c.dag else set()
        for name, c in spec.components.items()
    }
    cycle = find_cycle(edges)
    if cycle:
        raise SpecError(f"Component {cycle[0]!r} contains itself: {' -> '.join(cycle)}.")


def find_cycle(edges: Mapping[str, set[str]]) -> list[str]:
    """One cycle, first node repeated at the end; empty when there is none."""
    done: set[str] = set()
    for start in edges:
        path: list[str] = []
        stack = [(start, iter(sorted(edges[start])))] if start not in done else []
        path.extend(node for node, _ in stack)
        while stack:
            node, children = stack[-1]
            child = next(children, None)
            if child is None:
                stack.pop()
                path.pop()
                done.add(node)
            elif child in path:
                return [*path[path.index(child) :], child]
            elif child not in done and child in edges:
                stack.append((child, iter(sorted(edges[child]))))
                path.append(child)
    return []
