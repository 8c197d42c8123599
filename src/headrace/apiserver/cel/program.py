"""A checked tree as nested closures, and their run under a limit of cost.

What a run costs follows the real server's model: one for each step, more for what grows with its input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.apiserver.cel import syntax as s
from headrace.apiserver.cel.checker import check, dotted_name, type_value
from headrace.apiserver.cel.functions import Function, table
from headrace.apiserver.cel.parser import parse
from headrace.apiserver.cel.values import NOTHING, CostExceeded, EvalError, Optional, kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headrace.apiserver.cel.types import Type

    Code = Callable[["Run"], Any]

CALL_LIMIT = 1_000_000
"""What one expression may cost: as upstream."""
_LIST_COST, _MAP_COST = 10, 30


class Run:
    """One evaluation: its variables and what it has cost."""

    __slots__ = ("cost", "limit", "variables")

    def __init__(self, variables: dict[str, Any], limit: int) -> None:
        self.variables, self.limit, self.cost = variables, limit, 0

    def spend(self, amount: int) -> None:
        """Raises CostExceeded."""
        self.cost += amount
        if self.cost > self.limit:
            raise CostExceeded("operation cancelled: actual cost limit exceeded")


@dataclass(frozen=True, slots=True)
class Program:
    """An expression that can be run."""

    source: str
    type: Type
    uses: frozenset[str]
    code: Code

    def run(self, variables: Mapping[str, Any], limit: int = CALL_LIMIT) -> tuple[Any, int]:
        """The value and what it cost. Raises EvalError, CostExceeded."""
        run = Run(dict(variables), limit)
        try:
            return self.code(run), run.cost
        except RecursionError as error:
            raise EvalError("the value is nested too deeply") from error


def compile_text(source: str, variables: Mapping[str, Type]) -> Program:
    """Raises CompileError."""
    tree = parse(source)
    found, used = check(source, tree, variables)
    return Program(source, found, frozenset(used), _code(tree, frozenset(variables)))


def _code(node: s.Node, names: frozenset[str]) -> Code:
    match node:
        case s.Literal(value=value):
            return lambda _: value
        case s.Ident():
            return _ident(node, names)
        case s.Select():
            return _select(node, names)
        case s.Call():
            return _call(node, names)
        case s.Logic():
            return _logic([_code(a, names) for a in node.args], stops=not node.is_and)
        case s.Sequence():
            return _sequence(node, names)
        case s.Mapping():
            return _mapping(node, names)
        case s.Fold():
            return _fold(node, names)
    raise AssertionError(node)


def _ident(node: s.Ident, names: frozenset[str]) -> Code:
    name = node.name
    if name not in names and (value := type_value(node)) is not None:
        return lambda _: value

    def read(run: Run) -> Any:
        run.spend(1)
        value = run.variables[name]
        # A variable may be given as the way to find it, when finding it costs something.
        return value() if callable(value) else value

    return read


def _select(node: s.Select, names: frozenset[str]) -> Code:
    value = type_value(node)
    if value is not None:
        return lambda _: value
    if "." in (dotted := dotted_name(node)) and dotted in names:
        return _ident(s.Ident(node.at, 1, dotted), names)
    operand, name, test, optional = _code(node.operand, names), node.name, node.test, node.optional

    def select(run: Run) -> Any:
        run.spend(1)
        owner = operand(run)
        through = optional
        if isinstance(owner, Optional):
            if not owner.there:
                return False if test else NOTHING
            owner, through = owner.value, True
        if not isinstance(owner, dict):
            raise EvalError("no such overload" if not test else "unsupported field selection")
        if test:
            return name in owner
        if through:
            return Optional(owner[name]) if name in owner else NOTHING
        if name not in owner:
            raise EvalError(f"no such key: {name}")
        return owner[name]

    return select


def _call(node: s.Call, names: frozenset[str]) -> Code:
    args = [_code(a, names) for a in ([node.target] if node.target is not None else []) + node.args]
    if node.name == "_?_:_":
        condition, yes, no = args

        def choose(run: Run) -> Any:
            found = condition(run)
            if not isinstance(found, bool):
                raise EvalError("no such overload")
            return yes(run) if found else no(run)

        return choose
    function: Function = table()[node.name, node.target is not None]
    call = function.call
    if node.name in {"orValue", "or"}:

        def fallback(run: Run) -> Any:
            first = args[0](run)
            return call([first, args[1](run) if not getattr(first, "there", False) else first], run.spend)

        # The other value is not looked at when there is a first: it may have none.
        return fallback if node.name == "or" else _or_value(args[0], args[1])
    if len(args) == 2:
        left, right = args
        return lambda run: call([left(run), right(run)], run.spend)
    return lambda run: call([a(run) for a in args], run.spend)


def _or_value(first: Code, other: Code) -> Code:
    def value(run: Run) -> Any:
        found = first(run)
        if not isinstance(found, Optional):
            raise EvalError("no such overload")
        return found.value if found.there else other(run)

    return value


def _logic(args: list[Code], *, stops: bool) -> Code:
    def logic(run: Run) -> bool:
        failed: EvalError | None = None
        for arg in args:
            try:
                found = arg(run)
            except EvalError as error:
                failed = failed or error
                continue
            if not isinstance(found, bool):
                failed = failed or EvalError("no such overload")
            elif found is stops:
                return stops
        if failed is not None:
            raise failed
        return not stops

    return logic


def _sequence(node: s.Sequence, names: frozenset[str]) -> Code:
    items, optional = [_code(i, names) for i in node.items], node.optional

    def build(run: Run) -> list[Any]:
        run.spend(_LIST_COST)
        out = []
        for i, item in enumerate(items):
            value = item(run)
            if i in optional:
                if not isinstance(value, Optional):
                    raise EvalError("no such overload")
                if not value.there:
                    continue
                value = value.value
            out.append(value)
        return out

    return build


def _mapping(node: s.Mapping, names: frozenset[str]) -> Code:
    entries = [(_code(k, names), _code(x, names), optional) for k, x, optional in node.entries]

    def build(run: Run) -> dict[Any, Any]:
        run.spend(_MAP_COST)
        out: dict[Any, Any] = {}
        for key, value, optional in entries:
            name, found = key(run), value(run)
            if kind(name) not in {"string", "int", "uint", "bool"}:
                raise EvalError("unsupported key type")
            if name in out:
                raise EvalError(f"Failed with repeated key: {name}")
            if optional:
                if not isinstance(found, Optional):
                    raise EvalError("no such overload")
                if not found.there:
                    continue
                found = found.value
            out[name] = found
        return out

    return build


def _fold(node: s.Fold, names: frozenset[str]) -> Code:
    over, variable = _code(node.over, names), node.variable
    inside = names | {variable}
    condition = _code(node.condition, inside) if node.condition is not None else None
    result = _code(node.result, inside) if node.result is not None else None
    step = _FOLDS[node.kind]

    def fold(run: Run) -> Any:
        items = over(run)
        before, had = run.variables.get(variable), variable in run.variables
        try:
            return step(run, items, variable, condition, result)
        finally:
            if had:
                run.variables[variable] = before
            else:
                run.variables.pop(variable, None)

    return fold


def _items(items: Any) -> list[Any]:
    if not isinstance(items, list | dict):
        raise EvalError("no such overload")
    return items if isinstance(items, list) else list(items)


def _test(run: Run, condition: Code) -> bool:
    found = condition(run)
    if not isinstance(found, bool):
        raise EvalError("no such overload")
    return found


def _quantifier(*, stops: bool) -> Callable[..., bool]:
    def step(run: Run, items: Any, variable: str, condition: Code, _: Code | None) -> bool:
        failed: EvalError | None = None
        for item in _items(items):
            run.spend(2)
            run.variables[variable] = item
            try:
                if _test(run, condition) is stops:
                    return stops
            except EvalError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return not stops

    return step


def _exists_one(run: Run, items: Any, variable: str, condition: Code, _: Code | None) -> bool:
    count = 0
    for item in _items(items):
        run.spend(2)
        run.variables[variable] = item
        count += _test(run, condition)
    return count == 1


def _map(run: Run, items: Any, variable: str, condition: Code | None, result: Code) -> list[Any]:
    out = []
    for item in _items(items):
        run.spend(2)
        run.variables[variable] = item
        if condition is None or _test(run, condition):
            out.append(result(run))
    return out


def _filter(run: Run, items: Any, variable: str, condition: Code, _: Code | None) -> list[Any]:
    out = []
    for item in _items(items):
        run.spend(2)
        run.variables[variable] = item
        if _test(run, condition):
            out.append(item)
    return out


def _opt_map(run: Run, value: Any, variable: str, _: Code | None, result: Code) -> Any:
    if not isinstance(value, Optional):
        raise EvalError("no such overload")
    if not value.there:
        return NOTHING
    run.variables[variable] = value.value
    return Optional(result(run))


def _opt_flat_map(run: Run, value: Any, variable: str, _: Code | None, result: Code) -> Any:
    found = _opt_map(run, value, variable, None, result)
    return found.value if found.there else NOTHING


_FOLDS: dict[str, Callable[..., Any]] = {
    "all": _quantifier(stops=False),
    "exists": _quantifier(stops=True),
    "exists_one": _exists_one,
    "map": _map,
    "filter": _filter,
    "optMap": _opt_map,
    "optFlatMap": _opt_flat_map,
}
