"""Whether a run's parameters fit its pipeline (upstream: template/v2_template.go, validatePipelineJobInputs)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from headrace.components.pipelines.types.rest import invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.components.pipelines.types.ir import InputParameter

_KINDS: dict[str, tuple[type, ...]] = {
    "NUMBER_DOUBLE": (int, float),
    "NUMBER_INTEGER": (int, float),
    "STRING": (str,),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}
_WORDS = {
    "NUMBER_DOUBLE": "a number",
    "NUMBER_INTEGER": "a whole number",
    "STRING": "a string",
    "BOOLEAN": "true or false",
    "LIST": "a list",
    "STRUCT": "an object",
}


def check(definitions: Mapping[str, InputParameter], values: Mapping[str, Any]) -> None:
    """Raises RpcError (INVALID_ARGUMENT) that names every unknown or missing parameter, or the first wrong value."""
    unknown = sorted(values.keys() - definitions.keys())
    if unknown:
        known = ", ".join(sorted(definitions)) or "none"
        raise invalid(f"The pipeline has no parameter named {', '.join(unknown)}; its parameters are: {known}.")
    missing = sorted(name for name, wanted in definitions.items() if wanted.required and name not in values)
    if missing:
        raise invalid(f"The pipeline needs a value for {', '.join(missing)}: it has no default and is not optional.")
    for name, value in values.items():
        _check_value(name, definitions[name], value)


def _check_value(name: str, wanted: InputParameter, value: Any) -> None:
    if value is None and wanted.is_optional:
        return
    kinds = _KINDS.get(wanted.kind)
    if kinds is None:
        raise invalid(f"Parameter {name!r} is of type {wanted.kind}, which a run cannot be given.")
    fits = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
    if fits and isinstance(value, float):
        fits = math.isfinite(value) and (wanted.kind != "NUMBER_INTEGER" or value.is_integer())
    if not fits:
        raise invalid(f"Parameter {name!r} must be {_WORDS[wanted.kind]}, got {_shown(value)}.")
    if wanted.literals and value not in wanted.literals:
        allowed = ", ".join(repr(literal) for literal in wanted.literals)
        raise invalid(f"Parameter {name!r} must be one of {allowed}, got {_shown(value)}.")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
