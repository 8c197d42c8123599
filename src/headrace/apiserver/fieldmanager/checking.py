"""Whether an applied configuration is of its type: a field set can only be made of one that is.

Conflicts and ownership need every list entry to be told apart, so that the first fault refuses the request.
"""

from __future__ import annotations

from typing import Any

from headrace.apiserver.fieldmanager.fieldsets import shown
from headrace.apiserver.fieldmanager.shapes import ANY, Shape
from headrace.apiserver.fieldmanager.values import Unlike, element_of


def check(value: Any, shape: Shape, path: str = "") -> None:
    """That a configuration is of its type, and no list has an entry twice. Raises Unlike."""
    if value is None:
        return
    if isinstance(value, dict):
        if not shape.is_map:
            raise Unlike(path, f"expected {_expected(shape)}, got a map")
        for name, inner in value.items():
            known = shape.fields.get(name)
            if known is None and shape.other is None:
                raise Unlike(f"{path}.{name}", "field not declared in schema")
            check(inner, known[1] if known is not None else shape.other or ANY, f"{path}.{name}")
    elif isinstance(value, list):
        if not shape.is_list:
            raise Unlike(path, f"expected {_expected(shape)}, got a list")
        _check_list(value, shape, path)
    else:
        _check_scalar(value, shape, path)


def _check_list(value: list[Any], shape: Shape, path: str) -> None:
    seen = set()
    for i, entry in enumerate(value):
        here = f"{path}[{i}]"
        if not shape.atomic_list:
            try:
                element = element_of(entry, shape)
            except Unlike as error:
                raise Unlike(path, f"element {i}: {error}") from error
            if element in seen:
                raise Unlike(path, f"duplicate entries for key {shown(element)}")
            seen.add(element)
            here = path + shown(element)
        check(entry, shape.item or ANY, here)


def _check_scalar(value: Any, shape: Shape, path: str) -> None:
    match shape.scalar:
        case "numeric":
            good = isinstance(value, int | float) and not isinstance(value, bool)
        case "string":
            good = isinstance(value, str)
        case "boolean":
            good = isinstance(value, bool)
        case "":
            good = False
        case _:
            good = True
    if not good:
        raise Unlike(path, f"expected {_expected(shape)}, got {value!r}")


def _expected(shape: Shape) -> str:
    if shape.is_map:
        return "map"
    if shape.is_list:
        return "list"
    return {"numeric": "numeric (int or float)", "untyped": "any scalar"}.get(shape.scalar, shape.scalar)
