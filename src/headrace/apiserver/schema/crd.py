"""Generates a CustomResourceDefinition from a wire type, so that types and schemas cannot disagree.

A Struct that sets `PRESERVE_UNKNOWN: ClassVar[bool] = True` keeps fields that it does not name; the platform's own
views of built-in types (a pod template inside a custom kind) always do, because they name only what is used here.

Field types become structural schema; docstrings of Structs and of fields become descriptions. What a Struct says
with `msgspec.Meta` (ge, le, pattern …) becomes validation.
"""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from msgspec import inspect as mi

from headrace.api import _wire
from headrace.api.meta import LabelSelector, Object, ObjectMeta
from headrace.apiserver.schema.structural import INT_OR_STRING, PRESERVE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from headrace.api.apiextensions import PrinterColumn

Json = dict[str, Any]
_ANYTHING: Json = {PRESERVE: True}
_WITHOUT_FIELD_DOCS = ("builtins", "msgspec", "headrace.api.")
"""Modules whose source is not read: it takes a while at every start and says little of fields."""


def crd_for(kind: type[Object], *, columns: Sequence[Json | PrinterColumn] = (), served: bool = True) -> Json:
    """The definition of a kind. A type may set `COLUMNS` (additionalPrinterColumns) and `ALSO_SERVED` (other versions
    with the same schema, of which its own is the one that is stored).
    """
    info = kind.INFO
    names: Json = {
        "plural": info.plural,
        "singular": info.singular or info.kind.lower(),
        "kind": info.kind,
        "listKind": f"{info.kind}List",
    }
    if info.short_names:
        names["shortNames"] = list(info.short_names)
    if info.categories:
        names["categories"] = list(info.categories)
    version: Json = {
        "name": info.version,
        "served": served,
        "storage": True,
        "schema": {"openAPIV3Schema": schema_for(kind)},
    }
    subresources: Json = {}
    if "status" in info.subresources:
        subresources["status"] = {}
    if "scale" in info.subresources:
        subresources["scale"] = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
    if subresources:
        version["subresources"] = subresources
    shown = [_wire.to_builtins(c) for c in columns or getattr(kind, "COLUMNS", ())]
    if shown:
        version["additionalPrinterColumns"] = shown
    others: tuple[str, ...] = getattr(kind, "ALSO_SERVED", ())
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{info.plural}.{info.group}"},
        "spec": {
            "group": info.group,
            "names": names,
            "scope": "Namespaced" if info.namespaced else "Cluster",
            "versions": [version, *({**version, "name": name, "storage": False} for name in others)],
        },
    }


def schema_for(kind: type[Object]) -> Json:
    """The structural schema of an object type."""
    root = mi.type_info(kind)
    if not isinstance(root, mi.StructType):
        raise TypeError(f"{kind} is no Struct")
    schema = _struct(root, ())
    properties = schema["properties"]
    schema["properties"] = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        **{k: v for k, v in properties.items() if k not in ("apiVersion", "kind", "metadata")},
    }
    schema["required"] = [r for r in schema.get("required", ()) if r in properties]
    if not schema["required"]:
        del schema["required"]
    return schema


def _schema(t: mi.Type, path: tuple[type, ...]) -> Json:
    match t:
        case mi.Metadata(type=inner, extra_json_schema=extra):
            return _schema(inner, path) | (extra or {})
        case mi.UnionType(types=types):
            return _union(types, path)
        case mi.StructType(cls=cls):
            if cls in path:
                return {"type": "object", PRESERVE: True}
            return _struct(t, path)
        case mi.ListType(item_type=item):
            return {"type": "array", "items": _schema(item, path)}
        case mi.DictType(value_type=mi.AnyType() | mi.RawType()):
            return {"type": "object", PRESERVE: True}
        case mi.DictType(value_type=item):
            return {"type": "object", "additionalProperties": _schema(item, path)}
        case mi.LiteralType(values=values):
            return {"type": "string", "enum": list(values)}
        case mi.EnumType(cls=cls):
            return {"type": "string", "enum": [member.value for member in cls]}
        case mi.StrType(pattern=pattern, min_length=low, max_length=high):
            return {"type": "string", **_set(pattern=pattern, minLength=low, maxLength=high)}
        case mi.IntType(ge=low, le=high):
            return {"type": "integer", "format": "int64", **_set(minimum=low, maximum=high)}
        case mi.FloatType(ge=low, le=high):
            return {"type": "number", **_set(minimum=low, maximum=high)}
        case mi.BoolType():
            return {"type": "boolean"}
        case mi.DateTimeType():
            return {"type": "string", "format": "date-time"}
        case mi.AnyType() | mi.RawType():
            return dict(_ANYTHING)
        case _:
            raise TypeError(f"no structural schema for {t}")


def _union(types: tuple[mi.Type, ...], path: tuple[type, ...]) -> Json:
    real = [x for x in types if not isinstance(x, mi.NoneType)]
    if len(real) == 1:
        return _schema(real[0], path)
    names = {type(x) for x in real}
    if names == {mi.IntType, mi.StrType}:
        return {INT_OR_STRING: True}
    if names == {mi.IntType, mi.StrType, mi.FloatType}:
        return {"anyOf": [{"type": "number"}, {"type": "string"}], PRESERVE: True}
    if names == {mi.IntType, mi.FloatType}:
        return {"type": "number"}
    return dict(_ANYTHING)


def _set(**keywords: Any) -> Json:
    return {k: v for k, v in keywords.items() if v is not None}


def _struct(t: mi.StructType, path: tuple[type, ...]) -> Json:
    cls = t.cls
    if issubclass(cls, ObjectMeta):
        return {"type": "object", PRESERVE: True}
    docs = field_docs(cls)
    properties: Json = {}
    for field in t.fields:
        inner = _schema(field.type, (*path, cls))
        if docs.get(field.name):
            inner = {"description": docs[field.name], **inner}
        properties[field.encode_name] = inner
    out: Json = {"type": "object", "properties": properties}
    described = inspect.getdoc(cls)
    if described:
        out = {"description": described, **out}
    required = [f.encode_name for f in t.fields if f.required]
    if required:
        out["required"] = required
    if cls.__module__.startswith("headrace.api.") or getattr(cls, "PRESERVE_UNKNOWN", False):
        out[PRESERVE] = True
    if issubclass(cls, LabelSelector):
        out["x-kubernetes-map-type"] = "atomic"
    return out


@cache
def field_docs(cls: type) -> dict[str, str]:
    """The string that stands below each field of a class, by field name; base classes included."""
    out: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        module = sys.modules.get(base.__module__)
        if module is not None and not base.__module__.startswith(_WITHOUT_FIELD_DOCS):
            out |= _docs_of_module(module).get(base.__name__, {})
    return out


@cache
def _docs_of_module(module: ModuleType) -> dict[str, dict[str, str]]:
    """Field docs of every class at the top of a module, read from its source once."""
    try:
        source = inspect.getsource(module)
    except (OSError, TypeError):
        return {}
    return {node.name: _docs_of_class(node) for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}


def _docs_of_class(node: ast.ClassDef) -> dict[str, str]:
    out = {}
    for statement, following in pairwise(node.body):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
            and isinstance(following.value.value, str)
        ):
            out[statement.target.id] = inspect.cleandoc(following.value.value)
    return out
