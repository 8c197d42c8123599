"""The two places where a pipeline holds an expression: a condition over a task's inputs, and a selector on one value.

Both are CEL with one extra function, parseJson. Upstream: backend/src/v2/expression/expression.go.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
from functools import cache
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.components.pipelines.policy.values import ResolveError, canonical, kind_of, to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_FIELDS = {"number": "number_value", "bool": "bool_value", "list": "list_value", "struct": "struct_value"}


def condition(expression: str, parameters: Mapping[str, Any], artifacts: Mapping[str, Any] | None = None) -> bool:
    """Whether a task runs. `artifacts` maps an input to `{"artifacts": [{name, uri, metadata, …}]}`."""
    inputs = {"parameter_values": _numbers_as_doubles(dict(parameters)), "artifacts": dict(artifacts or {})}
    result = _evaluate(expression, {"inputs": _numbers_as_doubles(inputs)})
    if not isinstance(result, bool):
        raise ResolveError(f"The condition {expression!r} gives {result!r}; it must give true or false.")
    return result


def select(expression: str, value: Any) -> Any:
    """A part of a value, such as `parseJson(string_value)["a"]`."""
    variables: dict[str, Any] = {"string_value": to_text(value)}
    kind = kind_of(value)
    if kind in _FIELDS:
        variables[_FIELDS[kind]] = _numbers_as_doubles(value)
    return canonical(_evaluate(expression, variables))


def _evaluate(expression: str, variables: dict[str, Any]) -> Any:
    not_json: list[str] = []

    def parse_json(text: Any) -> Any:
        # A Python exception inside the evaluator would be logged by it; the error is raised from here instead.
        try:
            return _numbers_as_doubles(_wire.decode_any(text))
        except (_wire.DecodeError, TypeError) as error:
            not_json.append(f"parseJson got text that is not JSON ({error})")
            return None

    try:
        result = _cel()(expression, {**variables, "parseJson": parse_json})
    except KeyError as error:
        raise ResolveError(f"The expression {expression!r} uses {error}, which is not there.") from error
    except (ValueError, TypeError, RuntimeError) as error:
        reason = not_json[0] if not_json else _reason(str(error))
        raise ResolveError(f"The expression {expression!r} cannot be evaluated: {reason}.") from error
    if not_json:
        raise ResolveError(f"The expression {expression!r} cannot be evaluated: {not_json[0]}.")
    return result


def _reason(text: str) -> str:
    """What the evaluator says, without the expression over again and the list of all that might have stood there."""
    line = text.splitlines()[0] if text else "no reason is known"
    _, found, syntax = line.partition("Syntax error: ")
    return f"syntax error: {syntax}".partition(" expecting {")[0] if found else line


def _numbers_as_doubles(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, list):
        return [_numbers_as_doubles(item) for item in value]
    if isinstance(value, dict):
        return {key: _numbers_as_doubles(item) for key, item in value.items()}
    return value


@cache
def _cel() -> Callable[[str, dict[str, Any]], Any]:
    # The package's __init__ imports its command line (30 MB and half a second of prompt_toolkit and rich), so the
    # extension module, which is the library, is loaded without it.
    package = importlib.util.find_spec("cel")
    folder = next(iter(package.submodule_search_locations or []), "") if package else ""
    loaders = (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES)
    spec = importlib.machinery.FileFinder(folder, loaders).find_spec("cel")
    if spec is None or spec.loader is None:
        raise RuntimeError("the package common-expression-language is not installed as expected")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    evaluate: Callable[[str, dict[str, Any]], Any] = module.evaluate
    return evaluate
