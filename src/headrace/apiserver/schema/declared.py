"""A structural schema as CEL sees it: types for the checker, and documents turned into values of those types.

Fields are declared when an expression names them: a schema may hold whole pod templates of which rules use nothing.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from headrace.apiserver.cel import types as t
from headrace.apiserver.cel.parser import RESERVED
from headrace.apiserver.cel.values import EvalError, MapList, SetList, parse_duration, parse_timestamp
from headrace.apiserver.schema.structural import EMBEDDED, INT_OR_STRING

Json = dict[str, Any]

_KEYWORDS = RESERVED | {"true", "false", "null", "in"}
_NAME = re.compile(r"[a-zA-Z_.\-/][a-zA-Z0-9_.\-/]*")
_ESCAPES = re.compile(r"__|\.|-|/")
_ESCAPED = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_UNESCAPED = {v: k for k, v in _ESCAPED.items()}
_FORMATS = {
    "byte": t.BYTES,
    "date": t.TIMESTAMP,
    "date-time": t.TIMESTAMP,
    "duration": t.DURATION,
}
_SCALARS = {"boolean": t.BOOL, "integer": t.INT, "number": t.DOUBLE}
_OBJECT_META: Json = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}},
}
_TEXT: Json = {"type": "string"}


def escape(name: str) -> str | None:
    """A property's name in expressions; None when it cannot be written there."""
    if name in _KEYWORDS:
        return f"__{name}__"
    return _ESCAPES.sub(lambda m: _ESCAPED[m.group()], name) if _NAME.fullmatch(name) else None


def unescape(name: str) -> str:
    """The property behind a name in an expression."""
    if name.startswith("__") and name.endswith("__") and name[2:-2] in _KEYWORDS:
        return name[2:-2]
    return re.sub("__(underscores|dot|dash|slash)__", lambda m: _UNESCAPED[m.group()], name)


class _Fields:
    def __init__(self, properties: Json) -> None:
        self._properties = properties
        self._known: dict[str, tuple[str, t.Type] | None] = {}

    def get(self, name: str) -> tuple[str, t.Type] | None:
        if name not in self._known:
            self._known[name] = self._declare(name)
        return self._known[name]

    def _declare(self, name: str) -> tuple[str, t.Type] | None:
        real = unescape(name)
        # Words that are reserved are taken as they are too: manifests write self.namespace.
        if real not in self._properties or (escape(real) != name and name not in _KEYWORDS):
            return None
        found = declare(self._properties[real])
        return (real, found) if found is not None else None


def properties_of(schema: Json, *, root: bool = False) -> Json:
    """An object's properties; those of resources have name and generateName as their only metadata."""
    properties: Json = schema.get("properties") or {}
    if root or schema.get(EMBEDDED):
        return {**properties, "apiVersion": _TEXT, "kind": _TEXT, "metadata": _OBJECT_META}
    return properties


def declare(schema: Json, *, root: bool = False) -> t.Type | None:
    """The type of what a schema describes; None when expressions cannot use it."""
    if schema.get(INT_OR_STRING):
        return t.DYN
    match schema.get("type"):
        case "object":
            extra = schema.get("additionalProperties")
            if isinstance(extra, dict) and not schema.get("properties"):
                inner = declare(extra)
                return t.map_of(t.STRING, inner) if inner is not None else None
            # An object is told from others by its schema: two of the same schema are of the same type.
            return t.Type(f"object#{id(schema)}", fields=_Fields(properties_of(schema, root=root)))
        case "array":
            items = declare(schema.get("items") or {})
            return t.list_of(items) if items is not None else None
        case "string":
            return _FORMATS.get(schema.get("format", ""), t.STRING)
        case str() as name:
            return _SCALARS.get(name)
    return None


class Converter:
    """Documents as CEL's values. What needs no change is used as it is."""

    def __init__(self) -> None:
        self._needs: dict[int, bool] = {}

    def convert(self, value: Any, schema: Json) -> Any:
        """The value with its times, durations, bytes, doubles, sets and keyed lists. Raises EvalError."""
        if value is None or not self._need(schema):
            return value
        match value:
            case dict():
                properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
                out = {}
                for key, inner in value.items():
                    below = properties.get(key, extra)
                    out[key] = self.convert(inner, below) if isinstance(below, dict) else inner
                return out
            case list():
                return self._list(value, schema)
            case str():
                return _text(value, schema.get("format", ""))
            case bool():
                return value
            case int() if schema.get("type") == "number":
                return float(value)
            case float() if schema.get("type") == "integer" and value.is_integer():
                return int(value)
        return value

    def _list(self, value: list[Any], schema: Json) -> list[Any]:
        items = schema.get("items")
        inner = [self.convert(x, items) for x in value] if isinstance(items, dict) else value
        match schema.get("x-kubernetes-list-type"):
            case "set":
                return SetList(inner)
            case "map":
                keyed = MapList(inner)
                keyed.keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
                return keyed
        return inner

    def _need(self, schema: Json) -> bool:
        key = id(schema)
        if key not in self._needs:
            self._needs[key] = self._look(schema)
        return self._needs[key]

    def _look(self, schema: Json) -> bool:
        if schema.get("type") in {"number", "integer"} or schema.get("x-kubernetes-list-type") in {"set", "map"}:
            return not schema.get(INT_OR_STRING)
        if schema.get("type") == "string" and schema.get("format") in _FORMATS:
            return True
        below = [*(schema.get("properties") or {}).values(), schema.get("items"), schema.get("additionalProperties")]
        return any(isinstance(s, dict) and self._need(s) for s in below)


def _text(value: str, form: str) -> Any:
    match form:
        case "byte":
            try:
                return base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError) as error:
                raise EvalError(f"could not decode the base64 of {value[:32]!r}") from error
        case "date":
            return parse_timestamp(f"{value}T00:00:00Z")
        case "date-time":
            return parse_timestamp(value)
        case "duration":
            return parse_duration(value)
    return value
