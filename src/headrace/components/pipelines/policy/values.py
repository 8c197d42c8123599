"""Parameter values: their types, their text, their conversions.

A value is plain JSON (None, bool, int, float, str, list, dict). Upstream carries protobuf Values, which know one kind
of number: `canonical` gives numbers the form that protobuf's JSON gives them, so that a component sees the same text.
Sources: backend/src/v2/metadata/converter.go, driver/resolve.go (handleParamTypeValidationAndConversion) and
driver/util.go.
"""

from __future__ import annotations

import decimal
import math
from typing import TYPE_CHECKING, Any

from headrace.api import _wire

if TYPE_CHECKING:
    from headrace.components.pipelines.types.ir import InputParameter, ParameterType

_EXACT = 2.0**53
_KINDS: dict[str, frozenset[str]] = {
    "number": frozenset({"NUMBER_DOUBLE", "NUMBER_INTEGER"}),
    "bool": frozenset({"BOOLEAN"}),
    "list": frozenset({"LIST"}),
    "struct": frozenset({"STRUCT", "TASK_FINAL_STATUS", "TASK_CONFIG"}),
    "string": frozenset({"STRING"}),
}


class ResolveError(ValueError):
    """An input cannot be resolved; the message is a sentence for the task."""


def canonical(value: Any) -> Any:
    """The value with whole numbers as int, as protobuf's JSON writes them (5.0 is 5)."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if isinstance(value, dict):
        return {str(key): canonical(item) for key, item in value.items()}
    return value


def to_text(value: Any) -> str:
    """A value as the text that a STRING input or a command line gets."""
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            if not math.isfinite(value):
                return {math.inf: "+Inf", -math.inf: "-Inf"}.get(value, "NaN")
            return format(decimal.Decimal(repr(canonical(value))), "f")
        case _:
            return to_json(value)


def to_json(value: Any) -> str:
    """Compact JSON with sorted keys."""
    return _wire.encode_sorted(canonical(value)).decode()


def kind_of(value: Any) -> str:
    """What protobuf calls the kind of a value."""
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "list"
        case _:
            return "struct"


def convert(name: str, value: Any, wanted: ParameterType) -> Any:
    """The value as an input of this type: anything may become text, nothing else is converted."""
    value = canonical(value)
    if wanted == "STRING":
        return to_text(value)
    if wanted == "PARAMETER_TYPE_ENUM_UNSPECIFIED":
        return value
    kind = kind_of(value)
    if wanted not in _KINDS.get(kind, frozenset()):
        raise ResolveError(f"Input parameter {name!r} must be {wanted}, but its value is a {kind}.")
    return value


def check_literals(name: str, value: Any, parameter: InputParameter) -> None:
    """Raises ResolveError when the component lists the values it takes and this is none of them."""
    allowed = [canonical(literal) for literal in parameter.literals]
    if allowed and canonical(value) not in allowed:
        choices = ", ".join(to_json(literal) for literal in allowed)
        raise ResolveError(f"Input parameter {name!r} is {to_json(value)}, but must be one of {choices}.")


def items_of(value: Any) -> list[Any]:
    """What a loop runs over: a list, or JSON text of one."""
    if isinstance(value, str):
        try:
            value = _wire.decode_any(value)
        except _wire.DecodeError as error:
            raise ResolveError(f"A loop needs a list, but its items are text that is not JSON: {error}.") from error
    if not isinstance(value, list):
        raise ResolveError(f"A loop needs a list, but its items are a {kind_of(value)}.")
    return [canonical(item) for item in value]
