"""A Workflow of kfp 1.8 as a pipeline of the IR, which the engine runs like any other.

Each template becomes a component, each task of a DAG a task. Argo passes text, so every parameter is a STRING.
Variables of the workflow, which Argo lets every template read, become inputs that are handed down from the root. A loop
whose arguments take parts of an item gets a component around its body. What has no counterpart is refused with a
sentence that names template and field; a cycle, a missing component and the like are found by `validation` as for the
IR.
"""

from __future__ import annotations

import re
from typing import Any

from headrace.api import _wire
from headrace.components.pipelines.types import argo_steps
from headrace.components.pipelines.types.argo import (
    KFP,
    ArgoDag,
    ArgoTask,
    Template,
    WorkflowSpec,
    read_workflow,
)
from headrace.components.pipelines.types.argo_steps import (
    ARTIFACT,
    CLAIM,
    CONSTANTS,
    STATUS,
    WORKFLOW_PARAMETER,
    as_text,
    references,
)
from headrace.components.pipelines.types.argo_values import (
    ITEM,
    DagScope,
    RootScope,
    Scope,
    Source,
    artifact_of,
    claim_of,
    value_of,
)
from headrace.components.pipelines.types.ir import KUBERNETES, SpecError

_WHEN = re.compile(
    r"\s*(?P<left>\"[^\"]*\"|'[^']*'|\S+)\s*(?P<operator>==|!=|>=|<=|>|<)\s*(?P<right>\"[^\"]*\"|'[^']*'|\S+)\s*"
)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_STRATEGY = "ALL_UPSTREAM_TASKS_SUCCEEDED_OR_NOT_TAKEN"
"""Source: argo-workflows workflow/common/ancestry.go (expandDependency): succeeded, skipped or daemoned."""
MAX_NAME = 100
MAX_DEPTH = 50


def translate(document: dict[str, Any]) -> dict[str, Any]:
    """`{pipeline_spec, platform_spec}` of a Workflow. Raises SpecError."""
    spec, templates = read_workflow(document)
    return _Translator(document, spec, templates).document()


def pipeline_name(document: dict[str, Any]) -> str:
    """What the author called the pipeline, as a name."""
    metadata = document.get("metadata")
    given = metadata if isinstance(metadata, dict) else {}
    annotations = given.get("annotations")
    text = (annotations if isinstance(annotations, dict) else {}).get(f"{KFP}pipeline_spec")
    try:
        described = _wire.decode_any(text) if isinstance(text, str) else {}
    except _wire.DecodeError:
        described = {}
    name = described.get("name") if isinstance(described, dict) else None
    name = name or given.get("generateName") or given.get("name") or "pipeline"
    return re.sub(r"[^a-z0-9]+", "-", str(name).lower()).strip("-")[:MAX_NAME].strip("-") or "pipeline"


class _Translator:
    def __init__(self, document: dict[str, Any], spec: WorkflowSpec, templates: dict[str, Template]) -> None:
        self._document, self._spec, self._templates = document, spec, templates
        self._components: dict[str, Any] = {}
        self._executors: dict[str, Any] = {}
        self._kubernetes: dict[str, Any] = {}
        self._steps: dict[str, argo_steps.Step] = {}
        self._needs: dict[str, set[str]] = {}

    def document(self) -> dict[str, Any]:
        spec = self._spec
        given = {p.name: p for p in spec.arguments.parameters}
        root: dict[str, Any] = {
            "inputDefinitions": {
                "parameters": {
                    name: {"parameterType": "STRING"} | ({} if p.value is None else {"defaultValue": as_text(p.value)})
                    for name, p in given.items()
                }
            },
            "dag": {"tasks": self._root_tasks()},
        }
        platform: dict[str, Any] = {"deploymentSpec": {"executors": self._kubernetes}}
        if spec.active_deadline_seconds:
            platform["pipelineConfig"] = {"activeDeadlineSeconds": spec.active_deadline_seconds}
        return {
            "pipeline_spec": {
                "pipelineInfo": {"name": pipeline_name(self._document)},
                "schemaVersion": "2.1.0",
                "sdkVersion": "argo",
                "components": self._components,
                "deploymentSpec": {"executors": self._executors},
                "root": root,
            },
            "platform_spec": {"platforms": {KUBERNETES: platform}},
        }

    def _root_tasks(self) -> dict[str, Any]:
        entry = self._template("The workflow's entrypoint", self._spec.entrypoint)
        scope = RootScope({p.name for p in self._spec.arguments.parameters})
        inlined = entry.dag is not None and (not self._spec.on_exit or len(entry.dag.tasks) == 1)
        tasks: dict[str, Any] = {}
        if entry.dag is not None and inlined:
            tasks = self._tasks(entry, entry.dag, scope)
        else:
            task = ArgoTask(name=entry.name, template=entry.name)
            tasks[entry.name] = self._task(entry, task, scope, (scope.arguments(entry), {}))
        if self._spec.on_exit:
            last = self._template("The workflow's onExit", self._spec.on_exit)
            main = next(iter(tasks))
            if last.name in tasks:
                raise SpecError(f"Template {last.name!r} of the workflow is its onExit and a part of it as well.")
            task = ArgoTask(name=last.name, template=last.name, dependencies=[main])
            scope.main = main
            tasks[last.name] = self._task(last, task, scope, (scope.arguments(last), {}))
            tasks[last.name]["triggerPolicy"] = {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
        return tasks

    def _template(self, where: str, name: str) -> Template:
        found = self._templates.get(name)
        if found is None:
            raise SpecError(f"{where} names the template {name!r}, which the workflow does not have.")
        return found

    # What a template needs of the workflow

    def _needs_of(self, name: str, above: tuple[str, ...] = ()) -> set[str]:
        if name in above:
            raise SpecError(f"Template {name!r} of the workflow contains itself, which cannot be translated.")
        if len(above) > MAX_DEPTH:
            raise SpecError(f"The workflow's templates are more than {MAX_DEPTH} levels deep.")
        if name not in self._needs:
            template = self._template(f"A task of template {above[-1] if above else name!r}", name)
            needs: set[str] = set()
            if template.container is not None:
                needs = self._step(template).needs
            for task in template.dag.tasks if template.dag else []:
                needs = needs | self._needs_of(task.template, (*above, name))
                texts = [task.when, task.with_param, *(str(p.value) for p in task.arguments.parameters)]
                for reference in (r for text in texts for r in references(text)):
                    if reference.startswith(WORKFLOW_PARAMETER) or reference in CONSTANTS or reference == STATUS:
                        needs = needs | {reference}
            self._needs[name] = needs
        return self._needs[name]

    def _step(self, template: Template) -> argo_steps.Step:
        if template.name not in self._steps:
            self._steps[template.name] = argo_steps.step(template, self._spec)
        return self._steps[template.name]

    # Components

    def _component(self, template: Template, sources: dict[str, Source]) -> str:
        """The component of a template; `sources` are those of the task that runs it."""
        name = f"comp-{template.name}"
        if template.dag is not None:
            if name not in self._components:
                self._components[name] = {}  # a template that contains itself ends here, and fails in validation
                needs = self._needs_of(template.name)
                scope = DagScope({p.name for p in template.inputs.parameters}, needs)
                tasks = self._tasks(template, template.dag, scope)
                self._components[name] = {
                    "inputDefinitions": self._inputs(template, needs),
                    "dag": {"tasks": tasks, "outputs": self._handed_out(template)},
                    "outputDefinitions": {
                        "parameters": {p.name: {"parameterType": "STRING"} for p in template.outputs.parameters},
                        "artifacts": {a.name: {"artifactType": ARTIFACT} for a in template.outputs.artifacts},
                    },
                }
            return name
        if template.resource is not None:
            return self._claim(template)
        step = self._step(template)
        kubernetes = step.kubernetes
        if CLAIM in str(kubernetes.get("pvcMount")):
            # The claim is another task's output: what names it belongs to the task, not to the template.
            kubernetes = {**kubernetes, "pvcMount": [_placed(e, sources, template) for e in kubernetes["pvcMount"]]}
            name = _free(name, self._components)
        label = f"exec-{name.removeprefix('comp-')}"
        self._executors[label] = step.executor
        if kubernetes:
            self._kubernetes[label] = kubernetes
        self._components[name] = {
            "executorLabel": label,
            "inputDefinitions": step.inputs,
            "outputDefinitions": step.outputs,
        }
        return name

    @staticmethod
    def _inputs(template: Template, needs: set[str]) -> dict[str, Any]:
        parameters: dict[str, Any] = {}
        for parameter in template.inputs.parameters:
            default = parameter.value if parameter.value is not None else parameter.default
            parameters[parameter.name] = {"parameterType": "STRING"}
            if default is not None:
                parameters[parameter.name]["defaultValue"] = as_text(default)
        parameters |= {name: {"parameterType": "STRING"} for name in sorted(needs)}
        artifacts = {a.name: {"artifactType": ARTIFACT, "isOptional": a.optional} for a in template.inputs.artifacts}
        return {"parameters": parameters, "artifacts": artifacts}

    def _handed_out(self, template: Template) -> dict[str, Any]:
        if template.outputs.parameters or template.outputs.artifacts:
            name = next(
                iter([p.name for p in template.outputs.parameters] + [a.name for a in template.outputs.artifacts])
            )
            raise SpecError(
                f"Template {template.name!r} of the workflow is a dag with the output {name!r}; outputs of a dag"
                " cannot be translated: take them from the task that makes them."
            )
        return {}

    def _claim(self, template: Template) -> str:
        """dsl.VolumeOp: a claim, made by the engine itself."""
        name, label = f"comp-{template.name}", f"exec-{template.name}"
        claim_of(template)
        self._executors[label] = {"container": {"image": "argostub/createpvc"}}
        kinds = {
            "pvc_name": "STRING",
            "pvc_name_suffix": "STRING",
            "access_modes": "LIST",
            "size": "STRING",
            "storage_class_name": "STRING",
        }
        self._components[name] = {
            "executorLabel": label,
            "inputDefinitions": {"parameters": {n: {"parameterType": k, "isOptional": True} for n, k in kinds.items()}},
            "outputDefinitions": {"parameters": {"name": {"parameterType": "STRING"}}},
        }
        return name

    # Tasks

    def _tasks(self, template: Template, dag: ArgoDag, scope: Scope) -> dict[str, Any]:
        scope.where = f"Template {template.name!r} of the workflow"
        scope.tasks = {
            task.name: self._template(f"{scope.where}, task {task.name!r}", task.template) for task in dag.tasks
        }
        tasks: dict[str, Any] = {}
        for task in dag.tasks:
            if task.name in tasks:
                raise SpecError(f"{scope.where} has two tasks named {task.name!r}.")
            where = f"{scope.where}, task {task.name!r}"
            looped = task.with_items is not None or bool(task.with_param)
            parameters: dict[str, Source] = {}
            for argument in task.arguments.parameters:
                parameters[argument.name] = value_of(where, argument.name, argument.value, scope, looped=looped)
            artifacts = {}
            for artifact in task.arguments.artifacts:
                artifacts[artifact.name] = artifact_of(where, artifact.name, artifact.from_, scope)
            tasks[task.name] = self._task(scope.tasks[task.name], task, scope, (parameters, artifacts))
        return tasks

    def _task(
        self,
        target: Template,
        task: ArgoTask,
        scope: Scope,
        given: tuple[dict[str, Source], dict[str, Source]],
    ) -> dict[str, Any]:
        where = f"{scope.where}, task {task.name!r}"
        parameters, artifacts = dict(given[0]), given[1]
        for need in sorted(self._needs_of(target.name)):
            parameters[need] = scope.variable(where, need)
        if target.resource is not None:
            parameters = claim_of(target)
        made: dict[str, Any] = {
            "taskInfo": {"name": target.metadata.annotations.get(f"{KFP}task_display_name") or task.name},
            "dependentTasks": list(task.dependencies),
            "cachingOptions": {"enableCache": True} if _cached(target) else {},
        }
        if task.with_items is not None or task.with_param:
            if target.container is not None and CLAIM in str(self._step(target).kubernetes):
                raise SpecError(f"{where} loops over a step that mounts a claim named by a parameter.")
            self._loop(made, target, task, (parameters, artifacts), self._items(where, task, scope))
        else:
            made["componentRef"] = {"name": self._component(target, parameters)}
            made["inputs"] = {"parameters": parameters, "artifacts": artifacts}
        policy = argo_steps.retry(f"Template {target.name!r} of the workflow", target)
        if policy is not None:
            made["retryPolicy"] = policy
        made["triggerPolicy"] = {"strategy": _STRATEGY}
        if task.when:
            self._condition(where, made, task.when, scope)
        return made

    @staticmethod
    def _items(where: str, task: ArgoTask, scope: Scope) -> tuple[dict[str, Any], dict[str, Source]]:
        """What a loop runs over, and the input that this is taken from."""
        if not task.with_param:
            return {"raw": _wire.encode(task.with_items).decode()}, {}
        source = value_of(where, "withParam", task.with_param, scope, looped=False)
        if "runtimeValue" in source:
            return {"raw": str(source["runtimeValue"]["constant"])}, {}
        return {"inputParameter": "items"}, {"items": source}

    def _loop(
        self,
        made: dict[str, Any],
        target: Template,
        task: ArgoTask,
        given: tuple[dict[str, Source], dict[str, Source]],
        over: tuple[dict[str, Any], dict[str, Source]],
    ) -> None:
        parameters, artifacts = given
        items, outer = over[0], dict(over[1])
        if target.parallelism > 0:
            made["iteratorPolicy"] = {"parallelismLimit": target.parallelism}
        whole = [name for name, source in parameters.items() if ITEM in source]
        if (
            target.dag is not None
            and len(whole) == 1
            and not parameters[whole[0]][ITEM]
            and not outer.keys() & parameters
        ):
            rest = {name: source for name, source in parameters.items() if name != whole[0]}
            made["componentRef"] = {"name": self._component(target, rest)}
            made["inputs"] = {"parameters": rest | outer, "artifacts": artifacts}
            made["parameterIterator"] = {"items": items, "itemInput": whole[0]}
            return
        inner: dict[str, Source] = {}
        for name, source in parameters.items():
            if ITEM in source:
                inner[name] = {"componentInputParameter": ITEM}
                if source[ITEM]:
                    inner[name]["parameterExpressionSelector"] = f"parseJson(string_value)[{_quoted(source[ITEM])}]"
            elif "runtimeValue" in source and "{{" not in str(source["runtimeValue"]):
                inner[name] = source
            else:
                outer[f"in-{name}"] = source
                inner[name] = {"componentInputParameter": f"in-{name}"}
        body = _free(f"comp-loop-{task.name}", self._components)
        self._components[body] = {}
        retry = argo_steps.retry(f"Template {target.name!r} of the workflow", target)
        task_inside: dict[str, Any] = {
            "taskInfo": made["taskInfo"],
            "cachingOptions": made["cachingOptions"],
            "componentRef": {"name": self._component(target, inner)},
            "inputs": {
                "parameters": inner,
                "artifacts": {name: {"componentInputArtifact": f"in-{name}"} for name in artifacts},
            },
        }
        if retry is not None:
            task_inside["retryPolicy"] = retry
        passed = {name: {"parameterType": "STRING"} for name in [ITEM, *outer]}
        self._components[body] = {
            "inputDefinitions": {
                "parameters": passed,
                "artifacts": {f"in-{name}": {"artifactType": ARTIFACT} for name in artifacts},
            },
            "dag": {"tasks": {target.name: task_inside}},
        }
        made["componentRef"] = {"name": body}
        made["inputs"] = {
            "parameters": outer,
            "artifacts": {f"in-{name}": source for name, source in artifacts.items()},
        }
        made["parameterIterator"] = {"items": items, "itemInput": ITEM}

    @staticmethod
    def _condition(where: str, made: dict[str, Any], when: str, scope: Scope) -> None:
        found = _WHEN.fullmatch(when)
        if found is None:
            raise SpecError(
                f"{where} has the field when with {when!r}; one comparison of two values can be translated."
            )
        sides, numeric = [], True
        for number, word in enumerate((found["left"], found["right"])):
            quoted = word[:1] in "\"'" and word[:1] == word[-1:]
            text = word[1:-1] if quoted else word
            if references(text):
                key = f"when-{number + 1}"
                made["inputs"]["parameters"][key] = value_of(where, "when", text, scope, looped=False)
                sides.append((True, f"inputs.parameter_values['{key}']"))
            else:
                sides.append((False, text))
            numeric = numeric and not quoted and (bool(references(text)) or bool(_NUMBER.fullmatch(text)))
        if numeric:
            words = [f"double({text})" if variable else f"double('{text}')" for variable, text in sides]
        else:
            words = [text if variable else _quoted(text) for variable, text in sides]
        made["triggerPolicy"]["condition"] = f"{words[0]} {found['operator']} {words[1]}"


def _cached(template: Template) -> bool:
    metadata = template.metadata
    wanted = metadata.labels.get(f"{KFP}enable_caching", "false").lower() == "true"
    stale = metadata.annotations.get(f"{KFP}max_cache_staleness", "")
    return wanted and not re.fullmatch(r"P(?:T?0[YMWDHS])+", stale)


def _placed(entry: dict[str, Any], sources: dict[str, Source], template: Template) -> dict[str, Any]:
    reference = entry["pvcNameParameter"].get("componentInputParameter", "")
    if not reference.startswith(CLAIM):
        return entry
    name = reference.removeprefix(CLAIM)
    if name not in sources:
        raise SpecError(
            f"Template {template.name!r} of the workflow mounts the claim of {name!r}, which it is not given."
        )
    return {**entry, "pvcNameParameter": sources[name]}


def _free(name: str, taken: dict[str, Any]) -> str:
    number = 2
    found = name
    while found in taken:
        found = f"{name}-{number}"
        number += 1
    return found


def _quoted(text: str) -> str:
    """A text of CEL."""
    return _wire.encode(text).decode()
