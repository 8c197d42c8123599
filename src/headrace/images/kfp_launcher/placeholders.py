"""Fill the placeholders of a command line with what the executor input holds.

Sources: launcher_v2.go (getPlaceholders, compileCmdAndArgs) and driver/util.go (IfPresent). Concat, which upstream
passes on as it stands, and nesting of both are filled as kfp's local runner fills them. A value is put in place, never
looked at again: a value that looks like a placeholder stays a value.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from .task import StepError, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Json = Any

_STRUCTURE = re.compile(r'\s*\{\s*"(?:IfPresent|Concat)"\s*:')
_PLACEHOLDER = re.compile(
    r"\{\{\$(?:\.(?:json_escape\[(?P<escape>\d)\]\.)?"
    r"(?P<side>inputs|outputs)\.(?P<kind>parameters|artifacts)\['(?P<name>[^']+)'\]"
    r"(?:\.(?P<what>uri|path|output_file|metadata(?:\['(?P<key>[^']+)'\])?))?)?\}\}"
)


def text_of(value: Json) -> str:
    """A value as it stands in a command line; whole numbers without a fraction, lists and dicts as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, float):
        return _plain(value)
    if isinstance(value, int):
        return str(value)
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def with_defaults(task: Task) -> dict[str, Json]:
    """The executor input with the component's own defaults where no value is given, and with those placeholders
    filled that stand inside values (an author's f-string over outputs).
    """
    filled: dict[str, Json] = json.loads(json.dumps(task.executor_input))
    parameters: dict[str, Json] = filled.setdefault("inputs", {}).setdefault("parameterValues", {})
    for name, value in task.defaults.items():
        parameters.setdefault(name, value)
    standing = [(name, value) for name, value in parameters.items() if isinstance(value, str) and "{{$." in value]
    if standing:
        before = json.loads(json.dumps(filled))
        for name, value in standing:
            parameters[name] = fill(value, before, task)
    return filled


def command_line(task: Task, executor_input: Mapping[str, Json]) -> list[str]:
    """Command and arguments, ready to run."""
    line: list[str] = []
    for word in [*task.command, *task.args]:
        if _STRUCTURE.match(word):
            line += _structure(word, executor_input, task)
        else:
            line.append(fill(word, executor_input, task))
    return line


def fill(text: str, executor_input: Mapping[str, Json], task: Task) -> str:
    """One word with its placeholders filled; what has no value here stays as it stands."""

    def value(found: re.Match[str]) -> str:
        if not found["side"]:
            return json.dumps(executor_input, ensure_ascii=False)
        resolved = _lookup(found, executor_input, task)
        if resolved is _UNKNOWN:
            return found[0]
        shown = text_of(resolved)
        for _ in range(int(found["escape"] or 0)):
            shown = json.dumps(shown)[1:-1]
        return shown

    return _PLACEHOLDER.sub(value, text)


_UNKNOWN = object()


def _lookup(found: re.Match[str], executor_input: Mapping[str, Json], task: Task) -> Json:
    side: Mapping[str, Json] = executor_input.get(found["side"]) or {}
    name, what = found["name"], found["what"]
    if found["kind"] == "parameters":
        if found["side"] == "inputs":
            return (side.get("parameterValues") or {}).get(name, _UNKNOWN)
        parameter = (side.get("parameters") or {}).get(name)
        return parameter["outputFile"] if parameter and what == "output_file" else _UNKNOWN
    artifacts = ((side.get("artifacts") or {}).get(name) or {}).get("artifacts") or []
    if not artifacts:
        return _UNKNOWN
    artifact = artifacts[0]
    if what == "uri":
        return artifact.get("uri", "")
    if what == "path":
        path = task.path_of_artifact(artifact)
        return _UNKNOWN if path is None else path
    if what and what.startswith("metadata"):
        metadata = artifact.get("metadata") or {}
        return metadata.get(found["key"], _UNKNOWN) if found["key"] else metadata
    return artifact


def _structure(word: str, executor_input: Mapping[str, Json], task: Task) -> list[str]:
    try:
        document = json.loads(word)
    except ValueError as error:
        raise StepError(f"The command line has a placeholder that is not JSON ({error}): {word}") from error
    # Whether an input is present is asked of what was given, before defaults: so does upstream's driver.
    return _flatten(document, task.executor_input, lambda text: fill(text, executor_input, task))


def _flatten(document: Json, given: Mapping[str, Json], filled: Callable[[str], str]) -> list[str]:
    if document is None:
        return []
    if isinstance(document, str):
        return [filled(document)]
    if isinstance(document, list):
        return [word for part in document for word in _flatten(part, given, filled)]
    if "Concat" in document:
        return ["".join(_flatten(document["Concat"], given, filled))]
    if "IfPresent" in document:
        clause = document["IfPresent"]
        branch = "Then" if _present(clause.get("InputName", ""), given) else "Else"
        return _flatten(clause.get(branch), given, filled)
    raise StepError(f"The command line has a placeholder that is not known: {json.dumps(document)}")


def _present(name: str, given: Mapping[str, Json]) -> bool:
    """Whether an input is given; null counts as absent."""
    inputs: Mapping[str, Json] = given.get("inputs") or {}
    if (inputs.get("parameterValues") or {}).get(name) is not None:
        return True
    return bool(((inputs.get("artifacts") or {}).get(name) or {}).get("artifacts"))


def _plain(value: float) -> str:
    """A float without an exponent."""
    text = repr(value)
    if "e" not in text:
        return text
    from decimal import Decimal

    return format(Decimal(text), "f")
