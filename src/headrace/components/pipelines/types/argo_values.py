"""Where the values of a Workflow's tasks come from: what a name means at the root and inside a DAG, and what an
argument becomes in the IR.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from headrace.api import _yaml
from headrace.components.pipelines.types.argo_steps import (
    CONSTANTS,
    REFERENCE,
    STATUS,
    WORKFLOW_PARAMETER,
    as_text,
    references,
)
from headrace.components.pipelines.types.ir import SpecError

if TYPE_CHECKING:
    from headrace.components.pipelines.types.argo import Template

Source = dict[str, Any]
ITEM = "item"
_OUTPUT = re.compile(r"tasks\.(?P<task>[^.]+)\.outputs\.(?P<kind>parameters|artifacts)\.(?P<name>.+)")
_STATUS_WORD = '(parseJson(string_value)["state"] == "COMPLETE") ? "Succeeded" : "Failed"'


class Scope(ABC):
    """Where names mean something: the root, or the inside of a DAG."""

    where = "The workflow"

    def __init__(self, names: set[str], needs: set[str] | None = None) -> None:
        self.names, self.needs = names, needs or set()
        self.tasks: dict[str, Template] = {}

    def parameter(self, where: str, name: str) -> Source:
        """An input parameter of the template."""
        if name not in self.names:
            raise SpecError(f"{where} takes {name!r}, which is no input parameter of its template.")
        return {"componentInputParameter": name}

    @abstractmethod
    def variable(self, where: str, name: str) -> Source:
        """A variable of the workflow."""


class DagScope(Scope):
    """Inside a DAG, the workflow's variables are inputs under their own names."""

    def variable(self, where: str, name: str) -> Source:  # noqa: ARG002 - the root has something to say
        """An input."""
        return {"componentInputParameter": name}


class RootScope(Scope):
    """At the root they are the pipeline's parameters and the run's constants."""

    main = ""

    def arguments(self, template: Template) -> dict[str, Source]:
        """What the entrypoint and the onExit get: the workflow's parameters of the same names."""
        return {p.name: self.parameter("", p.name) for p in template.inputs.parameters if p.name in self.names}

    def variable(self, where: str, name: str) -> Source:
        """A parameter of the pipeline, a constant of the run, or how the main task ended."""
        if name in CONSTANTS:
            return {"runtimeValue": {"constant": CONSTANTS[name]}}
        if name == STATUS:
            if not self.main:
                raise SpecError(f"{where} uses {{{{{STATUS}}}}}, which only the workflow's onExit can know.")
            return {
                "taskFinalStatus": {"producerTask": self.main},
                "parameterExpressionSelector": _STATUS_WORD,
            }
        return self.parameter(where, name.removeprefix(WORKFLOW_PARAMETER))


def value_of(where: str, argument: str, value: Any, scope: Scope, *, looped: bool) -> Source:
    """The source of an argument."""
    text = "" if value is None else as_text(value)
    used = references(text)
    if not used:
        return {"runtimeValue": {"constant": text}}
    whole = REFERENCE.fullmatch(text.strip())
    if whole is None:
        raise SpecError(
            f"{where} gives {argument!r} the value {text!r}; a value is a constant or one variable, not a mixture."
        )
    name = whole["name"].strip()
    if name == ITEM or name.startswith(f"{ITEM}."):
        if not looped:
            raise SpecError(f"{where} gives {argument!r} an item, but does not loop.")
        return {ITEM: name.removeprefix(ITEM).removeprefix(".")}
    if name.startswith("inputs.parameters."):
        return scope.parameter(where, name.removeprefix("inputs.parameters."))
    if name.startswith(WORKFLOW_PARAMETER) or name in CONSTANTS or name == STATUS:
        return scope.variable(where, name)
    found = _OUTPUT.fullmatch(name)
    if found is None or found["kind"] != "parameters":
        raise SpecError(f"{where} gives {argument!r} the value {text!r}, which has no value here.")
    return _output(where, found["task"], found["name"], scope)


def _output(where: str, task: str, name: str, scope: Scope) -> Source:
    producer = scope.tasks.get(task)
    if producer is None:
        raise SpecError(f"{where} takes an output of the task {task!r}, which its template does not have.")
    if producer.resource is not None:
        claim = claim_of(producer)
        if name.endswith("-size"):
            return claim["size"]
        if not name.endswith("-name"):
            raise SpecError(f"{where} takes {name!r} of the task {task!r}; of a claim only name and size are known.")
        name = "name"
    return {"taskOutputParameter": {"producerTask": task, "outputParameterKey": name}}


def artifact_of(where: str, argument: str, text: str, scope: Scope) -> Source:
    """The source of an artifact."""
    whole = REFERENCE.fullmatch(text.strip())
    name = whole["name"].strip() if whole else ""
    if name.startswith("inputs.artifacts."):
        return {"componentInputArtifact": name.removeprefix("inputs.artifacts.")}
    found = _OUTPUT.fullmatch(name)
    if found is None or found["kind"] != "artifacts":
        raise SpecError(f"{where} gives the artifact {argument!r} from {text!r}, which cannot be translated.")
    if found["task"] not in scope.tasks:
        raise SpecError(f"{where} takes an output of the task {found['task']!r}, which its template does not have.")
    return {"taskOutputArtifact": {"producerTask": found["task"], "outputArtifactKey": found["name"]}}


def claim_of(template: Template) -> dict[str, Source]:
    """The inputs of the operation that makes a claim. Raises SpecError for any other object."""
    where, resource = f"Template {template.name!r} of the workflow", template.resource
    if resource is None or resource.action != "create":
        action = resource.action if resource else ""
        raise SpecError(f"{where} has resource.action {action!r}; only create of a PersistentVolumeClaim can run here.")
    try:
        documents = _yaml.documents(resource.manifest.encode())
        manifest = next(iter(documents), None)
    except (_yaml.YAMLError, ValueError) as error:
        raise SpecError(f"{where} has a resource.manifest that is not YAML.") from error
    kind = manifest.get("kind") if isinstance(manifest, dict) else None
    if not isinstance(manifest, dict) or kind != "PersistentVolumeClaim":
        raise SpecError(
            f"{where} has a resource.manifest of the kind {kind}; only a PersistentVolumeClaim can run here."
        )
    try:
        name = str(manifest["metadata"]["name"])
        spec = manifest["spec"]
        given: dict[str, Any] = {"access_modes": spec["accessModes"], "size": spec["resources"]["requests"]["storage"]}
        more = set(spec) - {"accessModes", "resources", "storageClassName"}
    except (KeyError, TypeError) as error:
        raise SpecError(f"{where} has a resource.manifest without {error}.") from error
    if more:
        raise SpecError(f"{where} has a resource.manifest with the field spec.{min(more)}, which cannot be translated.")
    if spec.get("storageClassName"):
        given["storage_class_name"] = spec["storageClassName"]
    unique = re.fullmatch(r"\{\{workflow\.name\}\}(?P<suffix>-?[-a-z0-9.]*)", name)
    if unique:
        given["pvc_name_suffix"] = unique["suffix"] or "-claim"
    else:
        given["pvc_name"] = name
    if (references(name) and not unique) or any(references(str(value)) for value in given.values()):
        raise SpecError(f"{where} has a variable of Argo in its resource.manifest, which cannot be translated.")
    return {key: {"runtimeValue": {"constant": value}} for key, value in given.items()}
