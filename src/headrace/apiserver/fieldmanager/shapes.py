"""What a place in an object is, as far as the ownership of fields goes: how its lists and maps are told apart.

A `Shape` is made of an OpenAPI definition (built-in kinds) or a structural schema (custom kinds), each once, when
first met. Lists are atomic, sets or maps by keys, maps are atomic or granular; what has no schema is deduced from
the value: maps are granular, lists atomic. The rules are those of kube-openapi's `schemaconv`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headrace.apiserver.schema.structural import EMBEDDED, INT_OR_STRING, PRESERVE

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]

SCALARS = {"string": "string", "integer": "numeric", "number": "numeric", "boolean": "boolean"}
_UNTYPED = frozenset(
    {
        "io.k8s.apimachinery.pkg.api.resource.Quantity",
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
    }
)
KEY_DEFAULTS = {
    "io.k8s.api.core.v1.ContainerPort": {"protocol": "TCP"},
    "io.k8s.api.core.v1.ServicePort": {"protocol": "TCP"},
}
"""Defaults of fields that are keys of lists; the published definitions (Swagger 2.0) leave defaults out."""
NEVER_NULL = frozenset(
    {
        *("metadata", "spec", "status", "template", "jobTemplate", "strategy", "updateStrategy", "resources"),
        *("names", "scaleTargetRef", "loadBalancer", "daemonEndpoints", "nodeInfo", "roleRef"),
    }
)
"""Fields of built-in kinds whose Go type is a struct: even an empty object has them, so that nobody adds them."""
_NO_FIELDS: dict[str, tuple[str, Shape]] = {}


@dataclass(slots=True, eq=False)
class Shape:
    """One type. Several of `scalar`, `is_map` and `is_list` may hold: then the value decides."""

    scalar: str = ""
    """string, numeric, boolean, untyped, or "" when no scalar may stand here."""
    is_map: bool = False
    atomic_map: bool = False
    fields: dict[str, tuple[str, Shape]] = field(default_factory=lambda: _NO_FIELDS)
    """Named fields: their path element (`f:name`) and their type."""
    other: Shape | None = None
    """The type of whatever has another name; None when there must be nothing else."""
    is_list: bool = False
    atomic_list: bool = True
    keys: tuple[str, ...] = ()
    """What identifies an entry of a list; none for a set of scalars."""
    item: Shape | None = None
    defaults: Json = field(default_factory=dict)
    """Values of fields that are keys when the entry leaves them out."""
    never_null: frozenset[str] = frozenset()
    """Named fields that even a new, empty object has."""
    leaf: bool = True
    """Whether nothing below is ever owned by itself: scalars, and what is atomic."""

    def sealed(self) -> None:
        """Note what follows from the rest."""
        self.leaf = not ((self.is_map and not self.atomic_map) or (self.is_list and not self.atomic_list))


ANY = Shape("untyped", is_map=True, is_list=True, leaf=False)
"""What has no schema."""
ANY.other = ANY.item = ANY


class Shapes:
    """Compiles definitions; every definition once."""

    def __init__(self, definition: Callable[[str], Json]) -> None:
        self._definition = definition
        self._named: dict[str, Shape] = {}

    def named(self, name: str) -> Shape:
        """The shape of a definition. Raises KeyError."""
        found = self._named.get(name)
        if found is None:
            found = self._named[name] = Shape()
            if name in _UNTYPED:
                found.scalar = "untyped"
            else:
                self._fill(found, self._definition(name), preserve=False)
                found.defaults = KEY_DEFAULTS.get(name, {})
                if found.fields:
                    required = found.never_null
                    found.never_null = frozenset(
                        n for n in found.fields if n in NEVER_NULL or (n in required and found.fields[n][1].is_list)
                    )
        return found

    def custom(self, schema: Json | None, meta: Shape) -> Shape:
        """The shape of a custom kind's object; `meta` is that of its metadata."""
        if schema is None:
            root = Shape(is_map=True, other=ANY, leaf=False)
        else:
            root = Shape()
            self._fill(root, {**schema, "type": "object"}, preserve=False)
            root.never_null = frozenset()
        text = Shape("string")
        root.fields = {
            **root.fields,
            "apiVersion": ("f:apiVersion", text),
            "kind": ("f:kind", text),
            "metadata": ("f:metadata", meta),
        }
        return root

    def _below(self, schema: Json, *, preserve: bool) -> Shape:
        """The shape of a field's, an entry's or a value's schema."""
        reference = schema.get("$ref")
        if reference is None and len(schema.get("allOf") or ()) == 1:
            reference = schema["allOf"][0].get("$ref")
        if reference is None:
            made = Shape()
            self._fill(made, schema, preserve=preserve)
            return made
        target = self.named(reference.rpartition("/")[2])
        override = schema.get("x-kubernetes-map-type")
        if override is None:
            return target
        made = Shape(
            target.scalar,
            target.is_map,
            override == "atomic",
            target.fields,
            target.other,
            target.is_list,
            target.atomic_list,
            target.keys,
            target.item,
        )
        made.sealed()
        return made

    def _fill(self, shape: Shape, schema: Json, *, preserve: bool) -> None:
        preserve = preserve or schema.get(PRESERVE) is True
        kind = schema.get("type", "")
        if schema.get(INT_OR_STRING) or schema.get("format") == "int-or-string":
            shape.scalar = "untyped"
        elif kind in SCALARS:
            shape.scalar = SCALARS[kind]
        elif kind == "object":
            self._map(shape, schema, preserve=preserve)
        elif kind == "array":
            self._list(shape, schema, preserve=preserve)
        else:
            shape.scalar = "untyped"
            self._map(shape, schema, preserve=preserve)
            self._list(shape, schema, preserve=preserve)
        shape.sealed()

    def _map(self, shape: Shape, schema: Json, *, preserve: bool) -> None:
        shape.is_map = True
        shape.atomic_map = schema.get("x-kubernetes-map-type") == "atomic"
        properties: Json = schema.get("properties") or {}
        if properties:
            shape.fields = {k: (f"f:{k}", self._below(v, preserve=preserve)) for k, v in properties.items()}
            shape.defaults = {k: v["default"] for k, v in properties.items() if "default" in v}
            shape.never_null = frozenset(schema.get("required") or ())
        if schema.get(EMBEDDED) and properties:
            text = Shape("string")
            shape.fields.setdefault("apiVersion", ("f:apiVersion", text))
            shape.fields.setdefault("kind", ("f:kind", text))
            shape.fields.setdefault("metadata", ("f:metadata", ANY))
        extra = schema.get("additionalProperties")
        if isinstance(extra, dict):
            shape.other = self._below(extra, preserve=preserve)
        elif extra is True or (extra is None and (preserve or not properties)):
            shape.other = ANY

    def _list(self, shape: Shape, schema: Json, *, preserve: bool) -> None:
        shape.is_list = True
        items = schema.get("items")
        shape.item = self._below(items, preserve=preserve) if isinstance(items, dict) else ANY
        match schema.get("x-kubernetes-list-type"):
            case "set":
                shape.atomic_list = False
            case "map":
                shape.atomic_list = False
                shape.keys = tuple(sorted(schema.get("x-kubernetes-list-map-keys") or ()))
            case None if "merge" in (schema.get("x-kubernetes-patch-strategy") or "").split(","):
                shape.atomic_list = False
                key = schema.get("x-kubernetes-patch-merge-key")
                shape.keys = (key,) if key else ()
            case _:
                shape.atomic_list = True
