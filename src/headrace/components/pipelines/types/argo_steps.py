"""A container template of Argo as an executor of the IR.

Argo reads and writes files at fixed paths; the IR hands out paths. Where a path stands as a word of its own on the
command line, the word becomes the IR's placeholder. Where it does not (it is part of a script, or the program knows
it), the command runs inside a few lines of `sh` that copy the files before and after.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.components.pipelines.types.argo import KFP
from headrace.components.pipelines.types.ir import SpecError

if TYPE_CHECKING:
    from headrace.components.pipelines.types.argo import ArgoVolume, Env, Mount, Template, WorkflowSpec

REFERENCE = re.compile(r"\{\{(?P<name>[^{}$]+)\}\}")
"""A variable of Argo; blanks around the name are not part of it."""
WORKFLOW_PARAMETER = "workflow.parameters."
CONSTANTS = {
    "workflow.name": "{{$.pipeline_job_resource_name}}",
    "workflow.uid": "{{$.pipeline_job_uuid}}",
    "workflow.creationTimestamp": "{{$.pipeline_job_create_time_utc}}",
}
"""Variables of Argo that are constants of the IR."""
STATUS = "workflow.status"
_PREFIXES = ("inputs.", "outputs.", "tasks.", "steps.", "workflow.", "item", "pod.", "node.", "retries", "lastRetry.")
_CPU, _MEMORY = "cpu", "memory"
_OTHER_POLICIES = {"": True, "Always": True, "OnFailure": True}
_VOLUMES = "persistentVolumeClaim, secret, configMap or emptyDir"


@dataclass(slots=True)
class Step:
    """A template as parts of the IR."""

    executor: dict[str, Any]
    kubernetes: dict[str, Any]
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    needs: set[str] = field(default_factory=set)
    """Variables of the workflow that the command uses; each is an input under its own name."""


def references(text: str) -> list[str]:
    """The names of Argo's variables in a text; other braces are the author's own."""
    names = (found["name"].strip() for found in REFERENCE.finditer(text))
    return [name for name in names if name.startswith(_PREFIXES)]


def as_text(value: Any) -> str:
    """A value of a workflow as the text that Argo passes."""
    return value if isinstance(value, str) else _wire.encode(value).decode()


def step(template: Template, workflow: WorkflowSpec) -> Step:
    """The executor of a container template. Raises SpecError."""
    where = f"Template {template.name!r} of the workflow"
    container = template.container
    if container is None or not container.image:
        raise SpecError(f"{where} has a container without an image.")
    if not container.command:
        raise SpecError(f"{where} has a container without a command; the image's own entry point is not known here.")
    words = _Words(where, template)
    command, args = words.line([*container.command, *(str(a) for a in container.args)])
    kubernetes = _configuration(where, template, workflow, words)
    parameters = {p.name: _input(p.value if p.value is not None else p.default) for p in template.inputs.parameters}
    parameters |= {name: {"parameterType": "STRING"} for name in words.needs}
    return Step(
        executor={
            "container": {
                "image": words.filled(container.image),
                "command": command,
                "args": args,
                "env": [{"name": e.name, "value": _plain(where, e)} for e in container.env if e.value_from is None],
                "resources": _resources(where, container.resources.limits, container.resources.requests),
            }
        },
        kubernetes=kubernetes,
        inputs={
            "parameters": parameters,
            "artifacts": {
                a.name: {"artifactType": ARTIFACT, "isOptional": a.optional}
                for a in template.inputs.artifacts
                if a.raw is None
            },
        },
        outputs={
            "parameters": {p.name: {"parameterType": "STRING"} for p in template.outputs.parameters},
            "artifacts": {a.name: {"artifactType": ARTIFACT} for a in template.outputs.artifacts},
        },
        needs=words.needs,
    )


ARTIFACT = {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}


def _input(value: Any) -> dict[str, Any]:
    kind: dict[str, Any] = {"parameterType": "STRING"}
    return kind if value is None else kind | {"defaultValue": as_text(value)}


class _Words:
    """The command line of a template, with its variables and paths as the IR has them."""

    def __init__(self, where: str, template: Template) -> None:
        self._where, self._template = where, template
        self.needs: set[str] = set()
        self._inputs = {p.name for p in template.inputs.parameters}

    def line(self, words: list[str]) -> tuple[list[str], list[str]]:
        """Command and arguments."""
        template, where = self._template, self._where
        before: list[tuple[str, str]] = []
        after: list[tuple[str, str]] = []
        whole: dict[str, str] = {}
        filled = [self.filled(word) for word in words]
        for artifact in template.inputs.artifacts:
            if not artifact.path.startswith("/"):
                raise SpecError(f"{where} has the input artifact {artifact.name!r} without an absolute path.")
            if artifact.raw is not None:
                before.append((f"={self.filled(artifact.raw.data)}", artifact.path))
                continue
            source = f"{{{{$.inputs.artifacts['{artifact.name}'].path}}}}"
            self._place(filled, artifact.path, source, whole, before)
        made: dict[str, list[str]] = {}
        for artifact in template.outputs.artifacts:
            made.setdefault(artifact.path, []).append(f"{{{{$.outputs.artifacts['{artifact.name}'].path}}}}")
        for parameter in template.outputs.parameters:
            path = parameter.value_from.path if parameter.value_from else ""
            if not path:
                raise SpecError(f"{where} has the output parameter {parameter.name!r}, which is not read from a path.")
            made.setdefault(path, []).append(f"{{{{$.outputs.parameters['{parameter.name}'].output_file}}}}")
        for path, (first, *more) in made.items():
            if not path.startswith("/"):
                raise SpecError(f"{where} has an output whose path {path!r} is not absolute.")
            places: list[tuple[str, str]] = []
            self._place(filled, path, first, whole, places)
            after += [(path, first)] if places else []
            after += [(first, other) for other in more]
        line = [whole.get(word, word) for word in filled]
        return _wrapped(line, before, after) if before or after else (line, [])

    @staticmethod
    def _place(
        line: list[str],
        path: str,
        placeholder: str,
        whole: dict[str, str],
        copies: list[tuple[str, str]],
    ) -> None:
        """By a word of its own where that is all there is of the path, else by copying."""
        alone = sum(word == path for word in line)
        if alone and "\n".join(line).count(path) == alone:
            whole[path] = placeholder
        else:
            copies.append((placeholder, path))

    def filled(self, text: str) -> str:
        """Argo's variables as placeholders of the IR."""

        def value(found: re.Match[str]) -> str:
            name = found["name"].strip()
            if not name.startswith(_PREFIXES):
                return found[0]
            if name.startswith("inputs.parameters.") and name.removeprefix("inputs.parameters.") in self._inputs:
                return f"{{{{$.inputs.parameters['{name.removeprefix('inputs.parameters.')}']}}}}"
            if name.startswith(WORKFLOW_PARAMETER) or name in CONSTANTS or name == STATUS:
                self.needs.add(name)
                return f"{{{{$.inputs.parameters['{name}']}}}}"
            path = self._paths().get(name)
            if path is None:
                raise SpecError(f"{self._where} uses {{{{{name}}}}}, which has no value here.")
            return path

        return REFERENCE.sub(value, text)

    def _paths(self) -> dict[str, str]:
        template = self._template
        found = {f"inputs.artifacts.{a.name}.path": a.path for a in template.inputs.artifacts}
        found |= {f"outputs.artifacts.{a.name}.path": a.path for a in template.outputs.artifacts}
        return found | {
            f"outputs.parameters.{p.name}.path": p.value_from.path for p in template.outputs.parameters if p.value_from
        }


def _wrapped(
    line: list[str], before: list[tuple[str, str]], after: list[tuple[str, str]]
) -> tuple[list[str], list[str]]:
    """The line inside a script; placeholders are its first arguments, so that no value is ever read as shell."""
    given: list[str] = []

    def argument(word: str) -> str:
        if word.startswith("{{$"):
            given.append(word)
            return f'"${{{len(given)}}}"'
        return shlex.quote(word)

    script = []
    for source, target in before:
        script.append(f'mkdir -p "$(dirname {shlex.quote(target)})" || exit')
        if source.startswith("="):
            given.append(source[1:])
            script.append(f'printf %s "${{{len(given)}}}" > {shlex.quote(target)} || exit')
        else:
            script.append(f"cp -R {argument(source)} {shlex.quote(target)} || exit")
    body = []
    for source, target in after:
        start, end = argument(source), argument(target)
        body.append(f'if [ -e {start} ]; then mkdir -p "$(dirname {end})" && cp -R {start} {end} || exit; fi')
    script += [f'(shift {len(given)}; exec "$@") || exit', *body]
    return ["sh", "-c", "\n".join(script), "sh"], [*given, *line]


def _plain(where: str, variable: Env) -> str:
    if references(variable.value):
        raise SpecError(
            f"{where} has the environment variable {variable.name} with a variable of Argo in its value; "
            "give it to the command as an argument."
        )
    return variable.value


def _resources(where: str, limits: dict[str, Any], requests: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for word, side in (("Limit", limits), ("Request", requests)):
        for name, quantity in side.items():
            if references(str(quantity)):
                raise SpecError(f"{where} has a variable of Argo in its resources.")
            if name == _CPU:
                found[f"resourceCpu{word}"] = str(quantity)
            elif name == _MEMORY:
                found[f"resourceMemory{word}"] = str(quantity)
            elif name.endswith("/gpu") or "/" in name:
                found["accelerator"] = {"resourceType": name, "resourceCount": str(quantity)}
            else:
                raise SpecError(
                    f"{where} has the field container.resources.{word.lower()}s.{name}, which is not known."
                )
    return found


def _configuration(where: str, template: Template, workflow: WorkflowSpec, words: _Words) -> dict[str, Any]:
    """What kfp-kubernetes would have written."""
    container = template.container
    assert container is not None  # noqa: S101 - the caller has looked
    found: dict[str, Any] = {}
    labels = {k: v for k, v in template.metadata.labels.items() if not k.startswith(KFP)}
    annotations = {k: v for k, v in template.metadata.annotations.items() if not k.startswith(KFP)}
    if labels or annotations:
        found["podMetadata"] = {"labels": labels, "annotations": annotations}
    selector = {**workflow.node_selector, **template.node_selector}
    if selector:
        found["nodeSelector"] = {"labels": selector}
    tolerations = [*workflow.tolerations, *template.tolerations]
    if tolerations:
        found["tolerations"] = [{"tolerationJson": {"runtimeValue": {"constant": tolerations}}}]
    if template.affinity:
        if set(template.affinity) != {"nodeAffinity"}:
            raise SpecError(f"{where} has the field affinity with more than nodeAffinity, which cannot be translated.")
        affinity = template.affinity["nodeAffinity"]
        found["nodeAffinity"] = [{"nodeAffinityJson": {"runtimeValue": {"constant": affinity}}}]
    if template.active_deadline_seconds:
        if not str(template.active_deadline_seconds).isdigit():
            raise SpecError(f"{where} has activeDeadlineSeconds {template.active_deadline_seconds!r}, no whole number.")
        found["activeDeadlineSeconds"] = int(template.active_deadline_seconds)
    if container.image_pull_policy:
        found["imagePullPolicy"] = container.image_pull_policy
    secrets = [{"secretName": entry["name"]} for entry in workflow.image_pull_secrets if "name" in entry]
    if secrets:
        found["imagePullSecret"] = secrets
    context = container.security_context
    if context is not None:
        given = {
            "runAsUser": context.run_as_user,
            "runAsGroup": context.run_as_group,
            "runAsNonRoot": context.run_as_non_root,
        }
        found["securityContext"] = {k: v for k, v in given.items() if v is not None}
    _variables(found, container.env)
    volumes = {volume.name: volume for volume in [*workflow.volumes, *template.volumes]}
    for mount in container.volume_mounts:
        volume = volumes.get(mount.name)
        if volume is None:
            raise SpecError(f"{where} mounts the volume {mount.name!r}, which the workflow does not define.")
        _volume(found, where, volume, mount, words)
    return found


def _variables(found: dict[str, Any], variables: list[Env]) -> None:
    for variable in variables:
        source = variable.value_from
        if source is None:
            continue
        if source.secret_key_ref is not None:
            key = {"secretKey": source.secret_key_ref.key, "envVar": variable.name}
            entry: dict[str, Any] = {"secretName": source.secret_key_ref.name, "keyToEnv": [key]}
            found.setdefault("secretAsEnv", []).append(entry | {"optional": source.secret_key_ref.optional})
        elif source.config_map_key_ref is not None:
            key = {"configMapKey": source.config_map_key_ref.key, "envVar": variable.name}
            entry = {"configMapName": source.config_map_key_ref.name, "keyToEnv": [key]}
            found.setdefault("configMapAsEnv", []).append(entry | {"optional": source.config_map_key_ref.optional})
        elif source.field_ref is not None:
            entry = {"name": variable.name, "fieldPath": source.field_ref.field_path}
            found.setdefault("fieldPathAsEnv", []).append(entry)


def _volume(found: dict[str, Any], where: str, volume: ArgoVolume, mount: Mount, words: _Words) -> None:
    path, sub_path = mount.mount_path, mount.sub_path
    if sub_path and volume.persistent_volume_claim is None:
        raise SpecError(f"{where} mounts a part (subPath) of the volume {volume.name!r}, which is no claim.")
    if volume.persistent_volume_claim is not None:
        name = volume.persistent_volume_claim.claim_name
        used = references(name)
        entry: dict[str, Any] = {"mountPath": path, "subPath": sub_path}
        if not used:
            found.setdefault("pvcMount", []).append(entry | {"pvcNameParameter": {"runtimeValue": {"constant": name}}})
            return
        whole = REFERENCE.fullmatch(name)
        if whole is None or not used[0].startswith("inputs.parameters."):
            raise SpecError(f"{where} mounts the claim {name!r}; its name must be one parameter of the template.")
        words.filled(name)
        reference = {"componentInputParameter": CLAIM + used[0].removeprefix("inputs.parameters.")}
        found.setdefault("pvcMount", []).append(entry | {"pvcNameParameter": reference})
    elif volume.secret is not None:
        entry = {"secretName": volume.secret.secret_name, "mountPath": path, "optional": volume.secret.optional}
        found.setdefault("secretAsVolume", []).append(entry)
    elif volume.config_map is not None:
        entry = {"configMapName": volume.config_map.name, "mountPath": path, "optional": volume.config_map.optional}
        found.setdefault("configMapAsVolume", []).append(entry)
    elif volume.empty_dir is not None:
        entry = {"volumeName": volume.name, "mountPath": path, "medium": volume.empty_dir.medium}
        size = {"sizeLimit": volume.empty_dir.size_limit} if volume.empty_dir.size_limit else {}
        found.setdefault("emptyDirMounts", []).append(entry | size)
    else:
        raise SpecError(f"{where} mounts the volume {volume.name!r}, which is none of {_VOLUMES}.")


CLAIM = "claim:"
"""Marks a claim's name that is an input of the step itself; the task that runs the step puts its source in place."""


def retry(where: str, template: Template) -> dict[str, Any] | None:
    """The retry policy. Raises SpecError."""
    given = template.retry_strategy
    if given is None:
        return None
    if given.retry_policy not in _OTHER_POLICIES:
        raise SpecError(
            f"{where} has retryStrategy.retryPolicy {given.retry_policy}; a step is retried here after any failure."
        )
    try:
        found: dict[str, Any] = {"maxRetryCount": int(given.limit if given.limit is not None else 0)}
        if given.backoff is not None:
            found["backoffDuration"] = seconds(given.backoff.duration or 0)
            found["backoffFactor"] = float(given.backoff.factor or 1)
            if given.backoff.max_duration or given.backoff.cap:
                found["backoffMaxDuration"] = seconds(given.backoff.max_duration or given.backoff.cap)
    except ValueError as error:
        raise SpecError(f"{where} has a retryStrategy that cannot be read: {error}.") from error
    return found


_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


def seconds(text: str | int) -> str:
    """A duration of Argo (a number of seconds, or `1m30s`) as the IR has it. Raises ValueError."""
    if isinstance(text, int) or text.isdigit():
        return f"{int(text)}s"
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        raise ValueError(f"{text!r} is not a duration")
    hours, minutes, rest = (float(part or 0) for part in found.groups())
    return f"{hours * 3600 + minutes * 60 + rest:g}s"
