"""What a task's inputs are, and what a DAG hands out, given the record of its tasks.

Sources: backend/src/v2/driver/resolve.go and driver/dag.go. Upstream looks through nested DAGs each time an output is
read; here a DAG's outputs are set down when it ends, with the same result, and are visible to clients.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from headrace.components.pipelines.policy import expressions
from headrace.components.pipelines.policy.values import (
    ResolveError,
    canonical,
    check_literals,
    convert,
    items_of,
    to_text,
)
from headrace.components.pipelines.store.models import RuntimeState, Values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.components.pipelines.store.models import TaskRow
    from headrace.components.pipelines.types.ir import (
        ArtifactSource,
        ComponentSpec,
        InputParameter,
        ParameterSource,
        PipelineSpec,
        TaskSpec,
    )

_PLACEHOLDER = re.compile(r"\{\{\$\.inputs\.parameters\['(.+?)'\]\}\}")
WORKSPACE = "{{$.workspace_path}}"
SUCCESS_WORD = "COMPLETE"
"""What a task final status says of a task that succeeded (upstream hands on the word of ML Metadata)."""


@dataclass(frozen=True, slots=True)
class RunConstants:
    """What the runtime constants of a run stand for; times are RFC 3339 in UTC."""

    display_name: str
    resource_name: str
    run_id: str
    created: str
    scheduled: str
    pipeline_root: str
    workspace: str = ""
    """The path of the run's workspace; empty when it has none."""

    def of_task(self, name: str, task_id: str) -> dict[str, str]:
        """The value of each constant within a task."""
        return {
            "{{$.pipeline_job_name}}": self.display_name,
            "{{$.pipeline_job_resource_name}}": self.resource_name,
            "{{$.pipeline_job_uuid}}": self.run_id,
            "{{$.pipeline_job_create_time_utc}}": self.created,
            "{{$.pipeline_job_schedule_time_utc}}": self.scheduled,
            "{{$.pipeline_root}}": self.pipeline_root,
            "{{$.pipeline_task_name}}": name,
            "{{$.pipeline_task_uuid}}": task_id,
            WORKSPACE: self.workspace,
        }


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a task sees: the inputs of its DAG, its sister tasks by name, and the constants."""

    inputs: Values
    sisters: Mapping[str, TaskRow]
    constants: Mapping[str, str] = field(default_factory=dict)
    resource_name: str = ""


class AbsentError(ResolveError):
    """The source has no value: fine for an optional input."""


def root_inputs(spec: PipelineSpec, parameters: Mapping[str, Any]) -> Values:
    """The inputs of the root DAG: what the run was given, then defaults, then null for what is optional."""
    values: dict[str, Any] = {}
    for name, definition in spec.root.input_definitions.parameters.items():
        if name in parameters:
            values[name] = canonical(parameters[name])
        elif definition.has_default:
            values[name] = canonical(definition.default_value)
        elif definition.is_optional:
            values[name] = None
        else:
            raise ResolveError(f"The run gives no value for the pipeline's parameter {name!r}.")
    return Values(parameters=values)


def task_inputs(component: ComponentSpec, task: TaskSpec, around: Surroundings) -> Values:
    """The inputs of a task. Raises ResolveError with a sentence."""
    definitions = component.input_definitions
    parameters: dict[str, Any] = {}
    null_allowed: set[str] = set()
    for name, source in task.inputs.parameters.items():
        wanted = definitions.parameters.get(name)
        try:
            value = parameter(name, source, around)
        except AbsentError:
            if wanted is None or wanted.required:
                raise
            continue
        if source.parameter_expression_selector:
            value = expressions.select(source.parameter_expression_selector, value)
        if wanted is not None:
            check_literals(name, value, wanted)
        parameters[name] = value
    if component.dag is not None:
        for name, definition in definitions.parameters.items():
            if name not in parameters and definition.is_optional:
                parameters[name] = canonical(definition.default_value) if definition.has_default else None
                null_allowed.add(name)
    artifacts = _artifacts(component, task, around)
    iterator = task.parameter_iterator
    # A dsl.TaskConfig is filled in when the pod is built: only then is it known.
    absent = {name for name, definition in definitions.parameters.items() if definition.kind == "TASK_CONFIG"}
    absent |= {iterator.item_input} if iterator else set()
    return Values(_typed(definitions.parameters, parameters, null_allowed, absent), artifacts)


def loop_items(task: TaskSpec, inputs: Values) -> list[Any]:
    """The items of a loop whose inputs are resolved."""
    iterator = task.parameter_iterator
    if iterator is None:
        raise ResolveError("The task is not a loop.")
    if iterator.items.raw is not UNSET:
        return items_of(iterator.items.raw)
    if iterator.items.input_parameter not in inputs.parameters:
        raise ResolveError(f"The loop's input {iterator.items.input_parameter!r} has no value.")
    return items_of(inputs.parameters[iterator.items.input_parameter])


def iteration_inputs(component: ComponentSpec, task: TaskSpec, loop: Values, item: Any) -> Values:
    """The inputs of one iteration: those of the loop, and the item."""
    iterator = task.parameter_iterator
    if iterator is None:
        raise ResolveError("The task is not a loop.")
    parameters = {**loop.parameters, iterator.item_input: item}
    nulls = {name for name, value in loop.parameters.items() if value is None}
    absent = {iterator.items.input_parameter}
    return Values(
        _typed(component.input_definitions.parameters, parameters, nulls, absent),
        {name: list(ids) for name, ids in loop.artifacts.items()},
    )


def dag_outputs(component: ComponentSpec, children: Mapping[str, TaskRow]) -> Values:
    """What a DAG hands out, as far as the tasks that it takes it from have it."""
    outputs = Values({}, {})
    if component.dag is None:
        return outputs
    for name, output in component.dag.outputs.parameters.items():
        selectors = output.selectors
        for selector in selectors:
            child = children.get(selector.producer_subtask)
            if child is None or (len(selectors) > 1 and child.state is not RuntimeState.SUCCEEDED):
                continue
            if selector.output_parameter_key in child.outputs.parameters:
                outputs.parameters[name] = child.outputs.parameters[selector.output_parameter_key]
                break
    for name, artifact in component.dag.outputs.artifacts.items():
        choices = artifact.artifact_selectors
        for choice in choices:
            child = children.get(choice.producer_subtask)
            if child is None or (len(choices) > 1 and child.state is not RuntimeState.SUCCEEDED):
                continue
            if choice.output_artifact_key in child.outputs.artifacts:
                outputs.artifacts[name] = list(child.outputs.artifacts[choice.output_artifact_key])
                break
    return outputs


def loop_outputs(spec: PipelineSpec, component: ComponentSpec, iterations: Sequence[TaskRow]) -> Values:
    """What a loop hands out: for each output of its body the values of all iterations, in their order.

    What an iteration did not make (a branch that was not taken) is left out. Lists that come from a loop inside are
    joined, not nested: upstream's CollectInputs walks down to the tasks that made the values.
    """
    outputs = Values({}, {})
    if component.dag is None:
        return outputs
    for name in component.dag.outputs.parameters:
        inner = is_collected(spec, component, name)
        collected: list[Any] = []
        for iteration in iterations:
            if name in iteration.outputs.parameters:
                value = iteration.outputs.parameters[name]
                collected += value if inner and isinstance(value, list) else [value]
        outputs.parameters[name] = collected
    for name in component.dag.outputs.artifacts:
        outputs.artifacts[name] = [i for iteration in iterations for i in iteration.outputs.artifacts.get(name, [])]
    return outputs


def is_collected(spec: PipelineSpec, component: ComponentSpec, output: str) -> bool:
    """Whether a DAG's output parameter is a list because a loop inside it collects one."""
    if component.dag is None:
        return False
    for selector in component.dag.outputs.parameters[output].selectors:
        task = component.dag.tasks[selector.producer_subtask]
        if task.parameter_iterator is not None:
            return True
        if is_collected(spec, spec.component_of(task), selector.output_parameter_key):
            return True
    return False


def _typed(
    definitions: Mapping[str, InputParameter], given: dict[str, Any], null_allowed: set[str], absent: set[str]
) -> dict[str, Any]:
    result = dict(given)
    for name, definition in definitions.items():
        if name not in given:
            if definition.required and name not in absent:
                raise ResolveError(f"The required input parameter {name!r} has no value.")
        elif given[name] is not None or name not in null_allowed:
            result[name] = convert(name, given[name], definition.kind)
    return result


def parameter(name: str, source: ParameterSource, around: Surroundings) -> Any:
    """The value of one source. Raises AbsentError when it has none, ResolveError when it cannot be."""
    if source.component_input_parameter is not None:
        outer = source.component_input_parameter
        value = around.inputs.parameters.get(outer)
        if value is None:
            raise AbsentError(f"Input parameter {name!r} takes the DAG's input {outer!r}, which has no value.")
        return value
    if source.task_output_parameter is not None:
        producer, key = source.task_output_parameter.producer_task, source.task_output_parameter.output_parameter_key
        task = around.sisters.get(producer)
        if task is None or key not in task.outputs.parameters:
            raise AbsentError(f"Input parameter {name!r} takes output {key!r} of task {producer!r}, which has none.")
        return task.outputs.parameters[key]
    if source.task_final_status is not None:
        return _final_status(source.task_final_status.producer_task, around)
    if source.runtime_value is not None:
        return _constant(source.runtime_value.value, around)
    raise ResolveError(f"Input parameter {name!r} has no source.")


def _constant(value: Any, around: Surroundings) -> Any:
    if isinstance(value, str):
        if WORKSPACE in value:
            if not around.constants.get(WORKSPACE):
                raise ResolveError(
                    "The task uses the run's workspace, but the pipeline asks for none; give it "
                    "pipeline_config=dsl.PipelineConfig(workspace=dsl.WorkspaceConfig(size='1Gi'))."
                )
            return value.replace(WORKSPACE, around.constants[WORKSPACE])
        return around.constants.get(value, value)
    return canonical(value)


def _final_status(producer: str, around: Surroundings) -> dict[str, Any]:
    task = around.sisters.get(producer)
    if task is None:
        raise ResolveError(f"Task {producer!r}, whose final status is wanted, does not exist.")
    error = {"code": task.error_code, "message": task.error_message} if task.error_message else {}
    return {
        "state": SUCCESS_WORD if task.state is RuntimeState.SUCCEEDED else task.state.value,
        "error": error,
        "pipelineJobResourceName": around.resource_name,
        "pipelineTaskName": producer,
    }


def _artifacts(component: ComponentSpec, task: TaskSpec, around: Surroundings) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, source in task.inputs.artifacts.items():
        ids = _artifact(source, around)
        if ids is not None:
            found[name] = ids
    for name, definition in component.input_definitions.artifacts.items():
        if name not in found and not definition.is_optional:
            raise ResolveError(f"The required input artifact {name!r} was not made by the task that it is taken from.")
    return found


def _artifact(source: ArtifactSource, around: Surroundings) -> list[str] | None:
    if source.component_input_artifact is not None:
        ids = around.inputs.artifacts.get(source.component_input_artifact)
        return list(ids) if ids is not None else None
    if source.task_output_artifact is not None:
        task = around.sisters.get(source.task_output_artifact.producer_task)
        ids = task.outputs.artifacts.get(source.task_output_artifact.output_artifact_key) if task else None
        return list(ids) if ids is not None else None
    return None


def substitute(value: Any, parameters: Mapping[str, Any]) -> Any:
    """A value with every `{{$.inputs.parameters['x']}}` in its texts replaced; the whole text keeps the input's type.

    Raises ResolveError when there is no such input.
    """
    if isinstance(value, str):
        whole = _PLACEHOLDER.fullmatch(value)
        if whole:
            return _given(whole[1], parameters)
        return _PLACEHOLDER.sub(lambda found: to_text(_given(found[1], parameters)), value)
    if isinstance(value, list):
        return [substitute(item, parameters) for item in value]
    if isinstance(value, dict):
        return {substitute(key, parameters): substitute(item, parameters) for key, item in value.items()}
    return value


def _given(name: str, parameters: Mapping[str, Any]) -> Any:
    if name not in parameters:
        raise ResolveError(f"The placeholder for input parameter {name!r} cannot be filled: there is no such input.")
    return parameters[name]
