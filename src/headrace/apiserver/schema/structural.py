"""Structural schemas of custom kinds: pruning, defaulting and validation, as apiextensions-apiserver does them.

Pruning and defaulting walk the object; validation is jsonschema-rs, its errors told in the real server's words.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.errors import Cause
from headrace.apiserver.schema.document import Report, is_base64

if TYPE_CHECKING:
    from collections.abc import Iterator

    import jsonschema_rs

    from headrace.apiserver.schema.validations import Validations

Json = dict[str, Any]

PRESERVE = "x-kubernetes-preserve-unknown-fields"
EMBEDDED = "x-kubernetes-embedded-resource"
INT_OR_STRING = "x-kubernetes-int-or-string"
_BLOCKING = frozenset({"FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid"})
_NOT_CHECKED = (
    'Invalid value: "null": some validation rules were not checked because the object was invalid; correct the '
    "existing errors to complete validation"
)
_ROOT = frozenset({"apiVersion", "kind", "metadata"})
_FORMATS = frozenset({"date-time", "date", "email", "ipv4", "ipv6", "uri", "uuid", "byte", "duration", "hostname"})
_GO_DURATION = re.compile(r"[+-]?(0|((\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h))+)")
_KEPT = frozenset(
    {
        "enum",
        "pattern",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "multipleOf",
        "uniqueItems",
        "required",
    }
)


def is_go_duration(text: str) -> bool:
    """The check behind format `duration`: `1h30m`, as Go writes it."""
    return _GO_DURATION.fullmatch(text) is not None


class CustomSchema:
    """One version's structural schema, ready for use. `schema` must not be changed afterwards."""

    def __init__(self, schema: Json) -> None:
        self._schema = schema
        text = json.dumps(schema)
        self._has_defaults = '"default"' in text
        self._has_rules = '"x-kubernetes-validations"' in text
        self._validator: jsonschema_rs.Validator | None = None
        self._validations: Validations | None = None

    def prune(self, obj: Json) -> tuple[Json, Report]:
        """The object without unknown fields and unwanted nulls, and the names of what was unknown."""
        report = Report()
        out: Json = _prune(obj, self._schema, "", report, root=True)
        return out, report

    def default(self, obj: Json) -> Json:
        """The object with the schema's defaults filled in."""
        if not self._has_defaults:
            return obj
        out = _wire.clone(obj)
        _default(out, self._schema)
        return out

    def causes(self, obj: Json, old: Json | None = None) -> list[Cause]:
        """Everything that the schema and its rules forbid; of an update, only what has to do with its changes."""
        found = self._faults(obj, old)
        if not self._has_rules:
            return found
        if any(c.reason in _BLOCKING for c in found):
            return [*found, Cause("<nil>", _NOT_CHECKED, "FieldValueInvalid")]
        return found + self._rules().causes(obj, old)

    def _faults(self, obj: Json, old: Json | None) -> list[Cause]:
        validator = self._compiled()
        twice = list(_duplicates(obj, self._schema, ""))
        if twice and old is not None and any(_duplicates(old, self._schema, "")):
            twice = []
        if validator.is_valid(obj):
            return twice
        errors = [e for e in validator.iter_errors(obj) if old is None or not self._unchanged(e, obj, old)]
        return sorted((c for e in errors for c in _explain(e)), key=lambda c: c.field) + twice

    def _unchanged(self, error: Any, new: Any, old: Any) -> bool:
        """Whether what is wrong was stored like this: a schema that has become stricter stops no other change."""
        schema: Json = self._schema
        for step in error.instance_path:
            if isinstance(new, dict) and isinstance(old, dict) and step in old:
                below = (schema.get("properties") or {}).get(step, schema.get("additionalProperties"))
                new, old = new[step], old[step]
            elif isinstance(new, list):
                from headrace.apiserver.schema.validations import is_absent, matcher  # noqa: PLC0415 - faults are rare

                below, new = schema.get("items"), new[step]
                old = matcher(schema, old)(new)
                if is_absent(old):
                    return False
            else:
                return False
            if new == old:
                return True
            schema = below if isinstance(below, dict) else {}
        return False

    def _rules(self) -> Validations:
        if self._validations is None:
            from headrace.apiserver.schema.validations import Validations  # noqa: PLC0415 - few kinds have rules

            self._validations = Validations(self._schema)
        return self._validations

    def _compiled(self) -> jsonschema_rs.Validator:
        if self._validator is None:
            self._validator = compile_schema(self._schema)
        return self._validator


def compile_schema(schema: Json) -> jsonschema_rs.Validator:
    """A validator of whole objects. Raises ValueError when the schema cannot be compiled."""
    import jsonschema_rs  # noqa: PLC0415 - only servers need it

    root = _to_json_schema(schema)
    for name in _ROOT:
        root.get("properties", {}).pop(name, None)
    return jsonschema_rs.Draft202012Validator(
        root, validate_formats=True, formats={"byte": is_base64, "duration": is_go_duration}
    )


def _to_json_schema(schema: Json) -> Json:
    """What JSON Schema 2020-12 says of an OpenAPI 3.0 structural schema."""
    out: Json = {k: v for k, v in schema.items() if k in _KEPT}
    if schema.get(INT_OR_STRING):
        out["type"] = ["integer", "string"]
    elif "type" in schema:
        out["type"] = schema["type"]
    if schema.get("nullable") and "type" in out:
        out["type"] = [*(out["type"] if isinstance(out["type"], list) else [out["type"]]), "null"]
        if "enum" in out:
            out["enum"] = [*out["enum"], None]
    for bound in ("Minimum", "Maximum"):
        if schema.get(f"exclusive{bound}") and bound.lower() in out:
            out[f"exclusive{bound}"] = out.pop(bound.lower())
    if schema.get("format") in _FORMATS:
        out["format"] = schema["format"]
    elif schema.get("format") == "int32":
        out["minimum"] = max(schema.get("minimum", -(1 << 31)), -(1 << 31))
        out["maximum"] = min(schema.get("maximum", (1 << 31) - 1), (1 << 31) - 1)
    if schema.get(EMBEDDED):
        out["required"] = list(dict.fromkeys([*schema.get("required", ()), "apiVersion", "kind"]))
    if "properties" in schema:
        out["properties"] = {k: _to_json_schema(v) for k, v in schema["properties"].items()}
    for key in ("items", "not"):
        if isinstance(schema.get(key), dict):
            out[key] = _to_json_schema(schema[key])
    if isinstance(schema.get("additionalProperties"), dict):
        out["additionalProperties"] = _to_json_schema(schema["additionalProperties"])
    for key in ("allOf", "anyOf", "oneOf"):
        if key in schema:
            out[key] = [_to_json_schema(s) for s in schema[key]]
    return out


def _prune(value: Any, schema: Json | None, path: str, report: Report, *, root: bool = False) -> Any:
    if isinstance(value, list):
        items = schema.get("items") if schema else None
        if schema is not None and items is None and not schema.get(PRESERVE):
            return value
        return [_prune(v, items, f"{path}[{i}]", report) for i, v in enumerate(value)]
    if not isinstance(value, dict) or schema is None:
        return value
    properties: Json = schema.get("properties") or {}
    extra = schema.get("additionalProperties")
    preserve = schema.get(PRESERVE) or extra is True
    resource = root or schema.get(EMBEDDED)
    out = {}
    for key, inner in value.items():
        below = f"{path}.{key}" if path else key
        if resource and key in _ROOT and (root or key not in properties):
            out[key] = inner
        elif key in properties:
            known = properties[key]
            if inner is not None or known.get("nullable") or _is_free(known):
                out[key] = _prune(inner, known, below, report)
        elif isinstance(extra, dict):
            if inner is not None or extra.get("nullable") or _is_free(extra):
                out[key] = _prune(inner, extra, below, report)
        elif preserve:
            out[key] = inner
        else:
            report.unknown.append(below)
    return out


def _is_free(schema: Json) -> bool:
    return bool(schema.get(PRESERVE)) and "type" not in schema


def _default(value: Any, schema: Json) -> None:
    if isinstance(value, dict):
        properties: Json = schema.get("properties") or {}
        for key, known in properties.items():
            if key not in value and "default" in known:
                value[key] = _wire.clone(known["default"])
            if key in value:
                _default(value[key], known)
        extra = schema.get("additionalProperties")
        if isinstance(extra, dict):
            for key, inner in value.items():
                if key not in properties:
                    _default(inner, extra)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for inner in value:
            _default(inner, schema["items"])


def _duplicates(value: Any, schema: Json, path: str) -> Iterator[Cause]:
    """List entries that a list of type set or map holds twice."""
    if isinstance(value, dict):
        properties: Json = schema.get("properties") or {}
        extra = schema.get("additionalProperties")
        for key, inner in value.items():
            known = properties.get(key, extra)
            if isinstance(known, dict) and isinstance(inner, dict | list):
                yield from _duplicates(inner, known, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        keys = schema.get("x-kubernetes-list-map-keys") or ()
        kind = schema.get("x-kubernetes-list-type")
        seen = set()
        for i, inner in enumerate(value):
            items = schema.get("items")
            if isinstance(items, dict):
                yield from _duplicates(inner, items, f"{path}[{i}]")
            if kind == "map" and isinstance(inner, dict):
                identity = json.dumps({k: inner.get(k) for k in keys}, sort_keys=True)
            elif kind == "set":
                identity = json.dumps(inner, sort_keys=True)
            else:
                continue
            if identity in seen:
                yield Cause(f"{path}[{i}]", f"Duplicate value: {identity}", "FieldValueDuplicate")
            seen.add(identity)


def show(value: Any) -> str:
    """A value as the real server quotes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, int | float):
        return str(value)
    if value is None:
        return "null"
    return '"array"' if isinstance(value, list) else '"object"'


def _path(parts: list[str | int]) -> str:
    out = ""
    for part in parts:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else part
    return out


def _explain(error: Any) -> Iterator[Cause]:
    kind, value = error.kind, error.instance
    path = _path(list(error.instance_path))
    text = show(value)
    where = path or "<nil>"
    match kind.name:
        case "required":
            yield Cause(f"{path}.{kind.property}" if path else kind.property, "Required value", "FieldValueRequired")
        case "type":
            types = [t for t in kind.types if t != "null"]
            wanted = ",".join(types)
            reason = "FieldValueTypeInvalid"
            yield Cause(
                where,
                f"Invalid value: {_type_of(value)}: {where} in body must be of type {wanted}: {_type_of(value)}",
                reason,
            )
        case "enum":
            options = ", ".join(json.dumps(o) for o in kind.options if o is not None)
            yield Cause(where, f"Unsupported value: {text}: supported values: {options}", "FieldValueNotSupported")
        case "pattern":
            yield Cause(where, f"Invalid value: {text}: {where} in body should match '{kind.pattern}'")
        case "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum":
            yield Cause(where, f"Invalid value: {text}: {where} in body should be {_BOUNDS[kind.name]} {kind.limit}")
        case "minLength":
            yield Cause(where, f"Invalid value: {text}: {where} in body should be at least {kind.limit} chars long")
        case "maxLength":
            yield Cause(where, f"Too long: may not be more than {kind.limit} bytes", "FieldValueTooLong")
        case "minItems":
            yield Cause(where, f"Invalid value: {len(value)}: {where} in body should have at least {kind.limit} items")
        case "maxItems":
            yield Cause(where, f"Too many: {len(value)}: must have at most {kind.limit} items", "FieldValueTooMany")
        case "minProperties":
            yield Cause(
                where, f"Invalid value: {len(value)}: {where} in body should have at least {kind.limit} properties"
            )
        case "maxProperties":
            yield Cause(where, f"Too many: {len(value)}: must have at most {kind.limit} items", "FieldValueTooMany")
        case "format":
            yield Cause(where, f"Invalid value: {text}: {where} in body must be of type {kind.format}: {text}")
        case _:
            yield Cause(where, f"Invalid value: {text}: {where} in body {error.message}")


_BOUNDS = {
    "minimum": "greater than or equal to",
    "exclusiveMinimum": "greater than",
    "maximum": "less than or equal to",
    "exclusiveMaximum": "less than",
}


def _type_of(value: Any) -> str:
    if value is None:
        return '"null"'
    if isinstance(value, bool):
        return '"boolean"'
    if isinstance(value, int):
        return '"integer"'
    return f'"{ {str: "string", float: "number", dict: "object", list: "array"}[type(value)] }"'
