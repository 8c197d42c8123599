"""Types of a tree's parts, told in the real compiler's words; names are resolved on the way.

The tree is changed where a name means something else than it says: `sets.contains(a, b)` becomes a function, a
property of a schema gets the name that it has in documents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.apiserver.cel import syntax as s
from headrace.apiserver.cel import types as t
from headrace.apiserver.cel.functions import table
from headrace.apiserver.cel.values import TypeValue, kind

if TYPE_CHECKING:
    from collections.abc import Mapping

_TYPE_NAMES = {
    **{n: n for n in ("bool", "int", "uint", "double", "string", "bytes", "list", "map", "type")},
    "null_type": "null_type",
    "google.protobuf.Timestamp": "google.protobuf.Timestamp",
    "google.protobuf.Duration": "google.protobuf.Duration",
}


def check(source: str, tree: s.Node, variables: Mapping[str, t.Type]) -> tuple[t.Type, set[str]]:
    """The tree's type, and the variables that it uses. Raises CompileError."""
    checker = _Checker(source, dict(variables))
    found = checker.visit(tree)
    if checker.problems:
        raise s.CompileError(source, checker.problems)
    return found, checker.used


class _Checker:
    def __init__(self, source: str, scope: dict[str, t.Type]) -> None:
        self.problems: list[tuple[int, str]] = []
        self.used: set[str] = set()
        self._source, self._scope = source, scope
        self._local: set[str] = set()

    def visit(self, node: s.Node) -> t.Type:
        match node:
            case s.Literal():
                return t.Type(kind(node.value))
            case s.Ident():
                return self._ident(node)
            case s.Select():
                return self._select(node)
            case s.Call():
                return self._call(node)
            case s.Logic():
                return self._logic(node)
            case s.Sequence():
                return self._sequence(node)
            case s.Mapping():
                return self._mapping(node)
            case s.Fold():
                return self._fold(node)
        raise AssertionError(node)

    def _problem(self, at: int, text: str) -> t.Type:
        self.problems.append((at, text))
        return t.DYN

    def _ident(self, node: s.Ident) -> t.Type:
        found = self._scope.get(node.name)
        if found is not None:
            if node.name not in self._local:
                self.used.add(node.name)
            return found
        if node.name in _TYPE_NAMES:
            return t.Type("type")
        return self._problem(node.at, f"undeclared reference to '{node.name}' (in container '')")

    def _select(self, node: s.Select) -> t.Type:
        dotted = dotted_name(node)
        if dotted in _TYPE_NAMES and dotted.partition(".")[0] not in self._scope:
            return t.Type("type")
        if dotted in self._scope:
            # A variable whose name has a point in it: authorizer.requestResource.
            self.used.add(dotted)
            return self._scope[dotted]
        operand = self.visit(node.operand)
        through = operand.name == "optional"
        inner = operand.params[0] if through else operand
        found = self._field(node, inner)
        if node.test:
            return t.BOOL
        if (node.optional or through) and found.name != "optional":
            return t.optional_of(found)
        return found

    def _field(self, node: s.Select, operand: t.Type) -> t.Type:
        if operand.fields is not None:
            known = operand.fields.get(node.name)
            if known is None:
                return self._problem(node.at, f"undefined field '{node.name}'")
            node.name = known[0]
            return known[1]
        if operand.name == "map":
            return operand.params[1]
        if operand.name == "dyn" or t.is_variable(operand):
            return t.DYN
        return self._problem(node.at, f"type '{operand}' does not support field selection")

    def _call(self, node: s.Call) -> t.Type:
        functions = table()
        if node.target is not None:
            dotted = dotted_name(node.target)
            if dotted and dotted.partition(".")[0] not in self._scope and (f"{dotted}.{node.name}", False) in functions:
                node.target, node.name = None, f"{dotted}.{node.name}"
        method = node.target is not None
        target = [self.visit(node.target)] if node.target is not None else []
        mixed = method and node.name == "format"
        given = [*target, *(self._mixed(a) if mixed else self.visit(a) for a in node.args)]
        if node.name == "_?_:_":
            return self._choice(node, given)
        function = functions.get((node.name, method))
        if function is None:
            return self._problem(node.at, f"undeclared reference to '{node.name}' (in container '')")
        results: list[t.Type] = []
        for wanted, result in function.signatures:
            bound: t.Bound = {}
            if len(wanted) == len(given) and all(t.assignable(w, g, bound) for w, g in zip(wanted, given, strict=True)):
                results.append(t.substitute(result, bound))
        if not results:
            return self._no_overload(node, given)
        return results[0] if all(r == results[0] for r in results) else t.DYN

    def _mixed(self, node: s.Node) -> t.Type:
        """What is formatted may be of several types."""
        if not isinstance(node, s.Sequence) or node.optional:
            return self.visit(node)
        for item in node.items:
            self.visit(item)
        return t.list_of(t.DYN)

    def _choice(self, node: s.Call, given: list[t.Type]) -> t.Type:
        bound: t.Bound = {}
        condition, yes, no = given
        wanted = t.Type("A")
        if (
            t.assignable(t.BOOL, condition, bound)
            and t.assignable(wanted, yes, bound)
            and t.assignable(wanted, no, bound)
        ):
            return t.substitute(wanted, bound)
        return self._no_overload(node, given)

    def _no_overload(self, node: s.Call, given: list[t.Type]) -> t.Type:
        if node.target is not None:
            shown = f"{given[0]}.({', '.join(map(str, given[1:]))})"
        else:
            shown = f"({', '.join(map(str, given))})"
        return self._problem(node.at, f"found no matching overload for '{node.name}' applied to '{shown}'")

    def _logic(self, node: s.Logic) -> t.Type:
        name = "_&&_" if node.is_and else "_||_"
        for arg in node.args:
            found = self.visit(arg)
            if not t.assignable(t.BOOL, found, {}) or found.name == "null":
                self._problem(node.at, f"found no matching overload for '{name}' applied to '(bool, {found})'")
        return t.BOOL

    def _joined(self, at: int, common: t.Type | None, found: t.Type) -> t.Type:
        if common is None or common.name == "null":
            return found
        if found.name == "dyn":
            return found
        if not t.assignable(common, found, {}):
            self._problem(at, f"expected type '{common}' but found '{found}'")
        return common

    def _sequence(self, node: s.Sequence) -> t.Type:
        common: t.Type | None = None
        for i, item in enumerate(node.items):
            found = self.visit(item)
            if i in node.optional:
                found = found.params[0] if found.name == "optional" else found
            common = self._joined(item.at, common, found)
        return t.list_of(common or t.DYN)

    def _mapping(self, node: s.Mapping) -> t.Type:
        keys: t.Type | None = None
        values: t.Type | None = None
        for key, value, optional in node.entries:
            keys = self._joined(key.at, keys, self.visit(key))
            found = self.visit(value)
            if optional and found.name == "optional":
                found = found.params[0]
            values = self._joined(value.at, values, found)
        return t.map_of(keys or t.DYN, values or t.DYN)

    def _fold(self, node: s.Fold) -> t.Type:
        over = self.visit(node.over)
        optional = node.kind in {"optMap", "optFlatMap"}
        wanted = {"optional"} if optional else {"list", "map"}
        if over.name in wanted:
            variable = over.params[0]
        elif over.name == "dyn" or t.is_variable(over):
            variable = t.DYN
        else:
            what = f"expression of type '{over}' cannot be range of a comprehension (must be list, map, or dynamic)"
            variable = self._problem(node.over.at, what)
        before, was_local = self._scope.get(node.variable), node.variable in self._local
        self._scope[node.variable] = variable
        self._local.add(node.variable)
        if node.condition is not None:
            found = self.visit(node.condition)
            if found.name not in {"bool", "dyn"}:
                self._problem(node.condition.at, f"expected type 'bool' but found '{found}'")
        result = self.visit(node.result) if node.result is not None else None
        if not was_local:
            self._local.discard(node.variable)
        if before is None:
            del self._scope[node.variable]
        else:
            self._scope[node.variable] = before
        return self._folded(node.kind, variable, result)

    @staticmethod
    def _folded(kind: str, variable: t.Type, result: t.Type | None) -> t.Type:
        match kind:
            case "map":
                return t.list_of(result or t.DYN)
            case "filter":
                return t.list_of(variable)
            case "optMap":
                return t.optional_of(result or t.DYN)
            case "optFlatMap":
                return result or t.DYN
        return t.BOOL


def dotted_name(node: s.Node) -> str:
    """`a.b.c`, when the part is nothing but names; else nothing."""
    if isinstance(node, s.Ident):
        return node.name
    if isinstance(node, s.Select) and not node.test and not node.optional:
        prefix = dotted_name(node.operand)
        return f"{prefix}.{node.name}" if prefix else ""
    return ""


def type_value(node: s.Node) -> TypeValue | None:
    """The type that a name stands for, when no variable has the name."""
    dotted = dotted_name(node)
    return TypeValue(_TYPE_NAMES[dotted]) if dotted in _TYPE_NAMES else None
