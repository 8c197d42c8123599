"""CEL rules of custom kinds (x-kubernetes-validations): checked when a definition comes, run when an object does.

A rule on a value that has not changed since it was stored does not stop an update (ratcheting), unless it looks at
the old value. Old and new values are matched by property, by key of a map, by keys of a list of type map.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headrace.api.errors import Cause
from headrace.apiserver.cel import types as t
from headrace.apiserver.cel.program import CALL_LIMIT, Program, compile_text
from headrace.apiserver.cel.syntax import CompileError
from headrace.apiserver.cel.values import NOTHING, CostExceeded, EvalError, Optional
from headrace.apiserver.schema.declared import Converter, declare

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]

RULES = "x-kubernetes-validations"
OBJECT_LIMIT = 2_000_000
"""What all rules on one object may cost: about a second. Upstream allows five times as much."""
_MESSAGE_LIMIT = 2048
_SHOWN_LIMIT = 5 * 1024
_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_ABSENT: Any = object()
_STEP = re.compile(r"\.([^.\[\]]+)|\['((?:[^'\\]|\\.)*)'\]")
_OUT_OF_BUDGET = "validation failed due to running out of cost budget, no further validation rules will be run"


@dataclass(slots=True)
class _Rule:
    text: Json
    program: Program
    message: Program | None
    path: str

    @property
    def uses_old(self) -> bool:
        return "oldSelf" in self.program.uses

    @property
    def shown(self) -> str:
        return str(self.text.get("message") or self.text["rule"]).strip()


@dataclass(slots=True)
class _Node:
    schema: Json
    rules: list[_Rule]
    properties: dict[str, _Node] = field(default_factory=dict)
    items: _Node | None = None
    extra: _Node | None = None


class Validations:
    """The rules of one version of a kind."""

    def __init__(self, schema: Json) -> None:
        self._root = _node(schema, root=True)
        self._converter = Converter()

    def causes(self, obj: Json, old: Json | None) -> list[Cause]:
        """What the rules say of an object that is otherwise well-formed."""
        if self._root is None:
            return []
        run = _Check(self._converter)
        run.visit(self._root, obj, _ABSENT if old is None else old, "")
        return run.causes


def _node(schema: Json, *, root: bool = False) -> _Node | None:
    rules = []
    for raw in rules_at(schema):
        kind = declare(schema, root=root) or t.DYN
        variables = _variables(kind, optional=bool(raw.get("optionalOldSelf")))
        program = compile_text(raw["rule"], variables)
        message = compile_text(raw["messageExpression"], variables) if raw.get("messageExpression") else None
        rules.append(_Rule(raw, program, message, _normalised(raw.get("fieldPath") or "")))
    node = _Node(schema, rules)
    for name, inner in (schema.get("properties") or {}).items():
        if (below := _node(inner)) is not None:
            node.properties[name] = below
    if isinstance(schema.get("items"), dict):
        node.items = _node(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        node.extra = _node(schema["additionalProperties"])
    return node if node.rules or node.properties or node.items or node.extra else None


def rules_at(schema: Json) -> list[Json]:
    """The rules at one place, those of its allOf with them: they must hold just as well."""
    more = [r for part in schema.get("allOf") or () if isinstance(part, dict) for r in part.get(RULES) or ()]
    return [*(schema.get(RULES) or ()), *more]


def _variables(kind: t.Type, *, optional: bool) -> dict[str, t.Type]:
    return {"self": kind, "oldSelf": t.optional_of(kind) if optional else kind}


def _normalised(path: str) -> str:
    """`.spec['a.b']` as paths in messages are written."""
    steps = [re.sub(r"\\(.)", r"\1", m.group(2)) if m.group(1) is None else m.group(1) for m in _STEP.finditer(path)]
    return ".".join(steps)


class _Check:
    def __init__(self, converter: Converter) -> None:
        self.causes: list[Cause] = []
        self._left = OBJECT_LIMIT
        self._converter = converter

    def visit(self, node: _Node, value: Any, old: Any, path: str) -> None:
        if value is None or self._left < 0:
            return
        if node.rules:
            self._rules(node, value, None if old is _ABSENT else old, path)
        if isinstance(value, dict):
            before = old if isinstance(old, dict) else {}
            for name, inner in value.items():
                below = node.properties.get(name)
                if below is not None:
                    self.visit(below, inner, before.get(name, _ABSENT), f"{path}.{name}" if path else name)
                elif node.extra is not None and name not in (node.schema.get("properties") or {}):
                    self.visit(node.extra, inner, before.get(name, _ABSENT), f"{path}[{name}]")
        elif isinstance(value, list) and node.items is not None:
            match = matcher(node.schema, old)
            for i, inner in enumerate(value):
                self.visit(node.items, inner, match(inner), f"{path}[{i}]")

    def _rules(self, node: _Node, value: Any, old: Any, path: str) -> None:
        try:
            new_value = self._converter.convert(value, node.schema)
            old_value = self._converter.convert(old, node.schema)
        except EvalError as error:
            self._invalid(path, node, f"{error} evaluating rule: {node.rules[0].shown}")
            return
        unchanged = old is not None and old == value
        for rule in node.rules:
            optional = bool(rule.text.get("optionalOldSelf"))
            if rule.uses_old and old is None and not optional:
                continue
            before = (Optional(old_value) if old is not None else NOTHING) if optional else old_value
            variables = {"self": new_value, "oldSelf": before}
            if self._left <= 0:
                self._stop(path, node, _OUT_OF_BUDGET)
                return
            limit = min(CALL_LIMIT, self._left)
            try:
                result, cost = rule.program.run(variables, limit)
            except CostExceeded as error:
                why = f"'{error}': no further validation rules will be run due to call cost exceeds limit for rule: "
                self._stop(path, node, _OUT_OF_BUDGET if limit < CALL_LIMIT else f"{why}{rule.shown}")
                return
            except EvalError as error:
                self._invalid(path, node, _failed(error, rule))
                continue
            self._left -= cost
            if result is True or (unchanged and not rule.uses_old):
                continue
            where = f"{path}.{rule.path}" if path and rule.path else path or rule.path
            self._refused(where, node, rule, variables)

    def _refused(self, path: str, node: _Node, rule: _Rule, variables: Json) -> None:
        detail = str(rule.text.get("message") or "").strip() or f"failed rule: {rule.shown}"
        if rule.message is not None:
            try:
                text, cost = rule.message.run(variables, max(min(CALL_LIMIT, self._left), 1))
            except CostExceeded:
                quoted = f'"{rule.text["messageExpression"]}"'
                self._stop(
                    path,
                    node,
                    f"no further validation rules will be run due to call cost exceeds limit for messageExpression: "
                    f"{quoted}",
                )
                return
            except EvalError:
                text, cost = "", 0
            self._left -= cost
            if isinstance(text, str) and (told := text.strip()) and "\n" not in told and len(told) <= _SHOWN_LIMIT:
                detail = told
        kind = str(node.schema.get("type", ""))
        match rule.text.get("reason"):
            case "FieldValueForbidden":
                self.causes.append(Cause(path or "<nil>", f"Forbidden: {detail}", "FieldValueForbidden"))
            case "FieldValueRequired":
                self.causes.append(Cause(path or "<nil>", f"Required value: {detail}", "FieldValueRequired"))
            case "FieldValueDuplicate":
                self.causes.append(Cause(path or "<nil>", f'Duplicate value: "{kind}"', "FieldValueDuplicate"))
            case _:
                self._invalid(path, node, detail)

    def _invalid(self, path: str, node: _Node, why: str) -> None:
        kind = node.schema.get("type", "")
        self.causes.append(Cause(path or "<nil>", f'Invalid value: "{kind}": {why}', "FieldValueInvalid"))

    def _stop(self, path: str, node: _Node, why: str) -> None:
        self._invalid(path, node, why)
        self._left = -1


def _failed(error: EvalError, rule: _Rule) -> str:
    if str(error).startswith("no such overload"):
        what = "call arguments did not match a supported operator, function or macro signature for rule"
        return f"'{error}': {what}: {rule.shown}"
    return f"{error} evaluating rule: {rule.shown}"


def matcher(schema: Json, old: Any) -> Any:
    """Finds the old element that a new one of a list replaces; nothing unless the list is of type map."""
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    if schema.get("x-kubernetes-list-type") != "map" or not isinstance(old, list):
        return lambda _: _ABSENT
    known = {_identity(x, keys): x for x in old}
    return lambda item: known.get(_identity(item, keys), _ABSENT)


def _identity(item: Any, keys: Any) -> tuple[str, ...]:
    return tuple(repr(item.get(k)) for k in keys) if isinstance(item, dict) else (repr(item),)


def is_absent(value: Any) -> bool:
    """Whether a matcher found nothing."""
    return value is _ABSENT


# What a definition's rules may say.


def check_rules(schema: Json, path: str, *, root: bool, uncorrelated: str) -> Iterator[Cause]:
    """What is wrong with the rules at one place of a schema. `uncorrelated` names the list above that has no keys."""
    kind = declare(schema, root=root)
    if kind is None:
        yield _bad(f"{path}.{RULES}", "", "rules need a schema with a type that expressions can use")
        return
    for i, rule in enumerate(rules_at(schema)):
        yield from _check_rule(rule, kind, schema, f"{path}.{RULES}[{i}]", uncorrelated)


def _check_rule(rule: Json, kind: t.Type, schema: Json, path: str, uncorrelated: str) -> Iterator[Cause]:
    text, message = str(rule.get("rule") or ""), str(rule.get("message") or "")
    if not text.strip():
        yield Cause(f"{path}.rule", "Required value: rule is not specified", "FieldValueRequired")
        return
    if "message" in rule and message and not message.strip():
        yield _bad(f"{path}.message", message, "message must be non-empty if specified")
    elif "\n" in message.strip():
        yield _bad(f"{path}.message", message, "message must not contain line breaks")
    elif "\n" in text.strip() and not message:
        why = "Required value: message must be specified if rule contains line breaks"
        yield Cause(f"{path}.message", why, "FieldValueRequired")
    if len(message) > _MESSAGE_LIMIT:
        yield Cause(f"{path}.message", f"Too long: may not be more than {_MESSAGE_LIMIT} bytes", "FieldValueTooLong")
    if rule.get("reason") and rule["reason"] not in _REASONS:
        listed = ", ".join(f'"{r}"' for r in _REASONS)
        yield Cause(
            f"{path}.reason",
            f'Unsupported value: "{rule["reason"]}": supported values: {listed}',
            "FieldValueNotSupported",
        )
    if rule.get("fieldPath"):
        yield from _check_path(str(rule["fieldPath"]), schema, f"{path}.fieldPath")
    optional = bool(rule.get("optionalOldSelf"))
    variables = _variables(kind, optional=optional)
    program = None
    try:
        program = compile_text(text, variables)
    except CompileError as error:
        yield _bad(f"{path}.rule", text, f"compilation failed: {error}")
    if program is not None:
        if program.type.name not in {"bool", "dyn"}:
            yield _bad(f"{path}.rule", text, "cel expression must evaluate to a bool")
        uses_old = "oldSelf" in program.uses
        if uses_old and uncorrelated:
            why = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {uncorrelated}"
            yield _bad(f"{path}.rule", text, why)
        if optional and not uses_old:
            why = "Invalid value: true: may not be set if oldSelf is not used in rule"
            yield Cause(f"{path}.optionalOldSelf", why, "FieldValueInvalid")
    if "messageExpression" in rule:
        yield from _check_message(str(rule["messageExpression"]), variables, f"{path}.messageExpression")


def _check_message(text: str, variables: dict[str, t.Type], path: str) -> Iterator[Cause]:
    if not text.strip():
        yield Cause(path, "Required value: must be non-empty if specified", "FieldValueRequired")
        return
    try:
        program = compile_text(text, variables)
    except CompileError as error:
        yield _bad(path, text, f"messageExpression compilation failed: {error}")
        return
    if program.type.name not in {"string", "dyn"}:
        yield _bad(path, text, "messageExpression must evaluate to a string")


def _check_path(text: str, schema: Json, path: str) -> Iterator[Cause]:
    at, here = 0, schema
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None:
            yield _bad(path, text, f"fieldPath must be a valid path: expected [ or . but got: {text[at:]}")
            return
        name = match.group(1) if match.group(1) is not None else re.sub(r"\\(.)", r"\1", match.group(2))
        below = (here.get("properties") or {}).get(name)
        if below is None and isinstance(here.get("additionalProperties"), dict) and not here.get("properties"):
            below = here["additionalProperties"]
        if not isinstance(below, dict):
            yield _bad(path, text, "fieldPath must be a valid path: does not refer to a valid field")
            return
        at, here = match.end(), below


def _bad(path: str, value: str, why: str) -> Cause:
    import json  # noqa: PLC0415 - definitions are rare

    return Cause(path, f"Invalid value: {json.dumps(value, ensure_ascii=False)}: {why}", "FieldValueInvalid")
