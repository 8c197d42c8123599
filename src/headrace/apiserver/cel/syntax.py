"""The tree of an expression. `at` is the offset that an error message points to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


class CompileError(Exception):
    """The expression cannot be used; the text is what the real compiler says."""

    def __init__(self, source: str, problems: list[tuple[int, str]]) -> None:
        super().__init__("\n".join(_pointed(source, at, text) for at, text in problems))


def _pointed(source: str, at: int, text: str) -> str:
    before = source[:at]
    line, column = before.count("\n"), at - (before.rfind("\n") + 1)
    shown = source.split("\n")[line]
    return f"ERROR: <input>:{line + 1}:{column + 1}: {text}\n | {shown}\n | {'.' * column}^"


@dataclass(slots=True)
class Node:
    """Any part of an expression."""

    at: int
    depth: int


@dataclass(slots=True)
class Literal(Node):
    """A constant."""

    value: Any


@dataclass(slots=True)
class Ident(Node):
    """A variable, or the name of a type."""

    name: str


@dataclass(slots=True)
class Select(Node):
    """`operand.name`; `test` is `has(operand.name)`; `optional` is `operand.?name`."""

    operand: Node
    name: str
    test: bool = False
    optional: bool = False


@dataclass(slots=True)
class Call(Node):
    """A function, an operator (by its name, such as `_+_`) or, with a target, a method."""

    name: str
    target: Node | None
    args: list[Node]


@dataclass(slots=True)
class Sequence(Node):
    """`[a, ?b]`."""

    items: list[Node]
    optional: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Mapping(Node):
    """`{k: v, ?k: v}`."""

    entries: list[tuple[Node, Node, bool]]


@dataclass(slots=True)
class Logic(Node):
    """`a && b && …` or `a || b || …`."""

    is_and: bool
    args: list[Node]


@dataclass(slots=True)
class Fold(Node):
    """A macro over a list or a map's keys: all, exists, exists_one, filter, map, optMap, optFlatMap."""

    kind: str
    over: Node
    variable: str
    condition: Node | None
    result: Node | None
