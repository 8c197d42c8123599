"""Decoding by schema: what Go's decoder does to a JSON object when it fills the types of a built-in kind.

Nulls vanish, unknown fields vanish and are named, wrong types are named in the decoder's words. An object that
jsonschema-rs finds flawless (microseconds) is taken as it is; only others are walked in Python.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]

_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_INDICES = re.compile(r"\[[^\]]*\]")
_GO_SCALARS = {
    "string": "string",
    "bytes": "[]uint8",
    "boolean": "bool",
    "number": "float64",
    "quantity": "resource.Quantity",
    "int-or-string": "intstr.IntOrString",
    "time": "v1.Time",
}
_SPECIAL = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "int-or-string",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": "time",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": "time",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": "any",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON": "any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray": "any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool": "any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray": "any",
}


@dataclass(frozen=True, slots=True)
class Strategy:
    """How a strategic merge patch treats a field."""

    names: tuple[str, ...]
    """merge, replace, retainKeys."""
    key: str = ""
    """What identifies an entry of a list that is merged."""


@dataclass(slots=True)
class Node:
    """What a place in an object holds: one Go type."""

    type: str
    """object, map, array, string, integer, number, boolean, bytes, quantity, int-or-string, time or any."""
    go: str
    fields: dict[str, Node] = field(default_factory=dict)
    item: Node | None = None
    required: tuple[str, ...] = ()
    strategies: dict[str, Strategy] = field(default_factory=dict)


@dataclass(slots=True)
class Report:
    """What was found while decoding."""

    unknown: list[str] = field(default_factory=list)
    """Paths of fields that the kind does not have."""
    wrong: list[tuple[str, str]] = field(default_factory=list)
    """Path and the decoder's sentence."""


class Nodes:
    """Compiles definitions into nodes, each once, when first met."""

    def __init__(self, definition: Callable[[str], Json]) -> None:
        self._definition = definition
        self._compiled: dict[str, Node] = {}

    def named(self, name: str) -> Node:
        """The node of a definition."""
        found = self._compiled.get(name)
        if found is None:
            short = name.rpartition(".")[2]
            package = name.rpartition(".")[0].rpartition(".")[2]
            if name in _SPECIAL:
                found = self._compiled[name] = Node(_SPECIAL[name], _GO_SCALARS.get(_SPECIAL[name], short))
                return found
            found = self._compiled[name] = Node("any", f"{package}.{short}")
            self._fill(found, self._definition(name))
        return found

    def _fill(self, node: Node, schema: Json) -> None:
        properties = schema.get("properties")
        if properties is None:
            made = self._inline(schema)
            node.type, node.item = made.type, made.item
            return
        node.type = "object"
        node.required = tuple(schema.get("required", ()))
        node.fields = {name: self._inline(value) for name, value in properties.items()}
        for name, value in properties.items():
            strategy = value.get("x-kubernetes-patch-strategy")
            if strategy:
                key = value.get("x-kubernetes-patch-merge-key", "")
                node.strategies[name] = Strategy(tuple(strategy.split(",")), key)

    def _inline(self, schema: Json) -> Node:
        if "$ref" in schema:
            return self.named(schema["$ref"].rpartition("/")[2])
        match schema.get("type"):
            case "array":
                item = self._inline(schema["items"])
                return Node("array", f"[]{item.go}", item=item)
            case "object" if "additionalProperties" in schema:
                item = self._inline(schema["additionalProperties"])
                return Node("map", f"map[string]{item.go}", item=item)
            case "integer":
                return Node("integer", schema.get("format", "int64"))
            case "string":
                kind = "bytes" if schema.get("format") == "byte" else "string"
                return Node(kind, _GO_SCALARS[kind])
            case "boolean" | "number" as kind:
                return Node(kind, _GO_SCALARS[kind])
            case _:
                return Node("any", "interface {}")


def _json_name(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def _scalar_problem(value: Any, node: Node) -> str | None:
    """Why the decoder refuses this value; "" when it is the wrong JSON type altogether."""
    match node.type:
        case "string":
            return None if isinstance(value, str) else ""
        case "boolean":
            return None if isinstance(value, bool) else ""
        case "integer":
            if type(value) is not int:
                return f"number {value}" if isinstance(value, float) else ""
            bits = 31 if node.go == "int32" else 63
            return None if -(1 << bits) <= value < 1 << bits else f"number {value}"
        case "number":
            return None if isinstance(value, int | float) and not isinstance(value, bool) else ""
        case "quantity":
            return None if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
        case "int-or-string":
            return None if isinstance(value, str) or type(value) is int else ""
        case "time":
            if not isinstance(value, str):
                return ""
            return None if _TIME.fullmatch(value) else "time"
        case "bytes":
            return _base64_problem(value)
        case _:
            return None


def _base64_problem(value: Any) -> str | None:
    if not isinstance(value, str):
        return ""
    try:
        base64.b64decode(value.replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        bad = re.search(r"[^A-Za-z0-9+/=\n]", value)
        return f"illegal base64 data at input byte {bad.start() if bad else len(value)}"
    return None


def is_base64(value: str) -> bool:
    """The check behind format `byte`."""
    return _base64_problem(value) is None


class Decoder:
    """Walks one object; see `decode`."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def value(self, value: Any, node: Node, path: str, struct: str) -> Any:
        """The value as the node's type holds it; `struct` is the Go type around it, for the decoder's sentence."""
        match node.type:
            case "object":
                return self._object(value, node, path, struct)
            case "map":
                if not isinstance(value, dict):
                    return self._refuse(value, node, path, struct)
                item = node.item or node
                return {k: self.value(v, item, f"{path}[{k}]", struct) for k, v in value.items() if v is not None}
            case "array":
                if not isinstance(value, list):
                    return self._refuse(value, node, path, struct)
                item = node.item or node
                return [
                    self.value({} if v is None and item.type in ("object", "map") else v, item, f"{path}[{i}]", struct)
                    for i, v in enumerate(value)
                ]
            case "any":
                return value
            case _:
                problem = _scalar_problem(value, node)
                if problem is not None:
                    self._refuse(value, node, path, struct, problem)
                return value

    def _object(self, value: Any, node: Node, path: str, struct: str) -> Any:
        if not isinstance(value, dict):
            return self._refuse(value, node, path, struct)
        name = node.go.rpartition(".")[2]
        out = {}
        for key, inner in value.items():
            below = f"{path}.{key}" if path else key
            known = node.fields.get(key)
            if known is None:
                self._report.unknown.append(below)
            elif inner is not None:
                out[key] = self.value(inner, known, below, name)
        return out

    def _refuse(self, value: Any, node: Node, path: str, struct: str, problem: str = "") -> Any:
        if problem == "time":
            sentence = f'parsing time "{value}" as "2006-01-02T15:04:05Z07:00": cannot parse "{value}" as "2006"'
        elif problem.startswith("illegal"):
            sentence = problem
        else:
            what = problem or _json_name(value)
            where = f"Go struct field {struct}.{_INDICES.sub('', path)}" if struct else "Go value"
            sentence = f"json: cannot unmarshal {what} into {where} of type {node.go}"
        self._report.wrong.append((path, sentence))
        return value


def decode(obj: Json, node: Node) -> tuple[Json, Report]:
    """The object without nulls and unknown fields, and what was wrong with it."""
    report = Report()
    out = Decoder(report).value(obj, node, "", "")
    return out, report


def missing(value: Any, node: Node, path: str = "") -> list[str]:
    """Paths of required fields that are not there; status is the server's own and not asked."""
    if node.type == "object" and isinstance(value, dict):
        out = [f"{path}.{name}" if path else name for name in node.required if name not in value]
        for key, inner in value.items():
            known = node.fields.get(key)
            if known is not None and not (key == "status" and not path):
                out += missing(inner, known, f"{path}.{key}" if path else key)
        return out
    if node.item is not None and isinstance(value, list):
        return [p for i, v in enumerate(value) for p in missing(v, node.item, f"{path}[{i}]")]
    if node.item is not None and isinstance(value, dict):
        return [p for k, v in value.items() for p in missing(v, node.item, f"{path}[{k}]")]
    return []


def strict_schema(name: str, node: Node) -> Json:
    """A JSON schema that accepts exactly the objects that need no walk."""
    definitions: Json = {}
    names: dict[int, str] = {}

    def reference(target: Node) -> Json:
        if target.type != "object":
            return inline(target)
        known = names.get(id(target))
        if known is None:
            known = names[id(target)] = f"d{len(names)}"
            definitions[known] = {
                "type": "object",
                "properties": {k: reference(v) for k, v in target.fields.items()},
                "additionalProperties": False,
                **({"required": list(target.required)} if target.required else {}),
            }
        return {"$ref": f"#/definitions/{known}"}

    def inline(target: Node) -> Json:
        item = target.item
        match target.type:
            case "array" if item is not None:
                return {"type": "array", "items": reference(item)}
            case "map" if item is not None:
                return {"type": "object", "additionalProperties": reference(item)}
            case "integer":
                bits = 31 if target.go == "int32" else 63
                return {"type": "integer", "minimum": -(1 << bits), "maximum": (1 << bits) - 1}
            case "quantity":
                return {"type": ["string", "number"]}
            case "int-or-string":
                return {"type": ["string", "integer"]}
            case "time":
                return {"type": "string", "format": "date-time"}
            case "bytes":
                return {"type": "string", "format": "byte"}
            case "any":
                return {}
            case scalar:
                return {"type": scalar}

    root = reference(node)
    return {"$id": f"urn:headrace:{name}", **root, "definitions": definitions}
