"""Collect what a step made: parameters as typed values, artifacts with their metadata.

Sources: launcher_v2.go (collectOutputParameters, uploadOutputArtifacts, mergeRuntimeArtifacts, getExecutorOutputFile)
and metadata/converter.go (TextToPbValue).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .task import StepError, Task, make_parent, read

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = Any

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def read_executor_output(path: str) -> dict[str, Json]:
    """What kfp's executor wrote; empty when there is no such file. Raises StepError."""
    if not path:
        return {}
    try:
        # NaN and the infinities are no JSON; protobuf's JSON has them as text, and so have we.
        found: Json = json.loads(read(path).decode(), parse_constant=str)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise StepError(f"The output metadata file {path} cannot be read: {error}.") from error
    if not isinstance(found, dict):
        raise StepError(f"The output metadata file {path} must hold a JSON object.")
    return found


def parameters(task: Task, executor_output: Mapping[str, Json]) -> dict[str, Json]:
    """Values of the output parameters; the metadata file wins over single files. Raises StepError."""
    values: dict[str, Json] = dict(executor_output.get("parameterValues") or {})
    declared: Mapping[str, Json] = task.executor_input.get("outputs", {}).get("parameters") or {}
    for name, parameter in declared.items():
        if name not in values:
            values[name] = _from_file(name, parameter["outputFile"], task.output_types.get(name, "STRING"))
    return values


def artifacts(task: Task, executor_output: Mapping[str, Json]) -> list[dict[str, Json]]:
    """The output artifacts, each with its `output` name, after what the step changed of them."""
    found: list[dict[str, Json]] = []
    overrides: Mapping[str, Json] = executor_output.get("artifacts") or {}
    declared: Mapping[str, Json] = task.executor_input.get("outputs", {}).get("artifacts") or {}
    for name, group in declared.items():
        changed = (overrides.get(name) or {}).get("artifacts") or []
        for index, artifact in enumerate(group.get("artifacts") or []):
            merged = {**artifact, "output": name, "metadata": dict(artifact.get("metadata") or {})}
            if index == 0 and changed:
                _merge(merged, changed[0])
            found.append(merged)
    return found


def _merge(artifact: dict[str, Json], changed: Mapping[str, Json]) -> None:
    if changed.get("uri"):
        artifact["uri"] = changed["uri"]
    artifact["metadata"].update(changed.get("metadata") or {})
    custom = changed.get("customPath") or changed.get("custom_path")
    if custom:
        artifact["customPath"] = custom


def prepare(task: Task) -> None:
    """Make the folders that outputs go to. Raises StepError."""
    outputs: Mapping[str, Json] = task.executor_input.get("outputs", {})
    paths = [parameter["outputFile"] for parameter in (outputs.get("parameters") or {}).values()]
    paths += [task.output_file] if task.output_file else []
    for name, group in (outputs.get("artifacts") or {}).items():
        for artifact in group.get("artifacts") or []:
            path = task.path_of_artifact(artifact)
            if path is None:
                raise StepError(
                    f"Output artifact {name!r} has the URI {artifact.get('uri')!r}, which has no place here."
                )
            paths.append(path)
    for path in paths:
        try:
            make_parent(path)
        except OSError as error:
            raise StepError(f"The folder of output {path} cannot be made: {error.strerror}.") from error


def _from_file(name: str, path: str, kind: str) -> Json:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise StepError(f"Output parameter {name!r} ({kind}) cannot be read from {path}: {reason}.") from error
    try:
        return typed(text, kind)
    except ValueError as error:
        raise StepError(f"Output parameter {name!r} in {path} is not {kind}: {text[:200]!r}.") from error


def typed(text: str, kind: str) -> Json:
    """Text as a value of a parameter type. Raises ValueError."""
    if kind == "STRING":
        return text
    if kind == "NUMBER_INTEGER":
        return int(text.strip())
    if kind == "NUMBER_DOUBLE":
        number = float(text.strip())
        return number if number - number == 0 else {"inf": "Infinity", "-inf": "-Infinity"}.get(str(number), "NaN")
    if kind == "BOOLEAN":
        word = text.strip()
        if word not in _TRUE | _FALSE:
            raise ValueError(word)
        return word in _TRUE
    value: Json = json.loads(text, parse_constant=str)
    if (kind == "LIST" and isinstance(value, list)) or (kind == "STRUCT" and isinstance(value, dict)):
        return value
    raise ValueError(text)
