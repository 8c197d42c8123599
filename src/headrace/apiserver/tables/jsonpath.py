r"""The part of JSONPath that printer columns of CRDs use, as k8s.io/client-go/util/jsonpath reads it.

`.spec.x`, `.metadata.labels.a\.b/c`, `['key']`, `[0]`, `[-1]`, `[*]`, `..name`, `[?(@.type=="Ready")]`.
A path that does not parse is an error of whoever wrote the CRD; a value that is absent is not an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_FIELD = re.compile(r"\.((?:\\.|[^.\[\\])+)")
_INDEX = re.compile(r"\[\s*(-?\d+)\s*\]")
_QUOTED = re.compile(r"\[\s*(?:'([^']*)'|\"([^\"]*)\")\s*\]")
_STAR = re.compile(r"\[\s*\*\s*\]|\.\*")
_RECURSIVE = re.compile(r"\.\.((?:\\.|[^.\[\\])+)")
_FILTER = re.compile(
    r"\[\?\(\s*@((?:\.[^\s=!<>()]+|\[[^\]]*\])+)\s*(?:(==|!=|<=|>=|<|>)\s*('[^']*'|\"[^\"]*\"|[^\s()]+)\s*)?\)\]"
)


class BadPath(ValueError):
    """The path is outside of what is understood."""


@dataclass(frozen=True, slots=True)
class Path:
    """A compiled path."""

    steps: tuple[Callable[[Any], Iterator[Any]], ...]

    def find(self, value: Any) -> list[Any]:
        """Every value at the path, in order."""
        current = [value]
        for step in self.steps:
            current = [found for item in current for found in step(item)]
        return current


def _field(key: str) -> Callable[[Any], Iterator[Any]]:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and key in value:
            yield value[key]

    return step


def _index(position: int) -> Callable[[Any], Iterator[Any]]:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= position < len(value):
            yield value[position]

    return step


def _every(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        yield from value
    elif isinstance(value, dict):
        yield from value.values()


def _anywhere(key: str) -> Callable[[Any], Iterator[Any]]:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            if key in value:
                yield value[key]
            for inner in value.values():
                yield from step(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from step(inner)

    return step


def _literal(text: str) -> Any:
    if text[0] in "'\"":
        return text[1:-1]
    if text in {"true", "false"}:
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text


def _compare(left: Any, operator: str, right: Any) -> bool:
    if operator == "==":
        return bool(left == right)
    if operator == "!=":
        return bool(left != right)
    try:
        return bool({"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator])
    except TypeError:
        return False


def _filter(path: str, operator: str, literal: str) -> Callable[[Any], Iterator[Any]]:
    inner = compile_path(path)
    wanted = _literal(literal) if operator else None

    def step(value: Any) -> Iterator[Any]:
        for item in value if isinstance(value, list) else ():
            found = inner.find(item)
            if found and (not operator or _compare(found[0], operator, wanted)):
                yield item

    return step


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


@lru_cache(maxsize=1024)
def compile_path(path: str) -> Path:
    """Read a path such as `.status.conditions[?(@.type=="Ready")].status`. Raises BadPath."""
    text = path.strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1].strip()
    text = text.removeprefix("$")
    steps: list[Callable[[Any], Iterator[Any]]] = []
    position = 0
    while position < len(text):
        if match := _RECURSIVE.match(text, position):
            steps.append(_anywhere(_unescape(match[1])))
        elif match := _STAR.match(text, position):
            steps.append(_every)
        elif match := _FIELD.match(text, position):
            steps.append(_field(_unescape(match[1])))
        elif match := _INDEX.match(text, position):
            steps.append(_index(int(match[1])))
        elif match := _QUOTED.match(text, position):
            steps.append(_field(match[1] if match[1] is not None else match[2]))
        elif match := _FILTER.match(text, position):
            steps.append(_filter(match[1], match[2] or "", match[3] or ""))
        else:
            raise BadPath(f"{path!r} is not a JSONPath that is understood (at {text[position:]!r})")
        position = match.end()
    return Path(tuple(steps))
