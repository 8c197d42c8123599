"""The schemas by kind: built-in ones read from the package's data when first asked, custom ones from the catalog.

Definitions stay JSON text in memory until somebody needs one; compiled validators are kept by kind.
"""

from __future__ import annotations

import gzip
import re
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.api import _wire
from headrace.apiserver.schema.document import Node, Nodes, is_base64, strict_schema
from headrace.apiserver.schema.structural import CustomSchema

if TYPE_CHECKING:
    import jsonschema_rs

    from headrace.api.meta import KindInfo
    from headrace.apiserver.registry.kinds import KindCatalog

Json = dict[str, Any]

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_PACKAGES = {
    "": "io.k8s.api.core",
    "rbac.authorization.k8s.io": "io.k8s.api.rbac",
    "admissionregistration.k8s.io": "io.k8s.api.admissionregistration",
    "authentication.k8s.io": "io.k8s.api.authentication",
    "authorization.k8s.io": "io.k8s.api.authorization",
    "storage.k8s.io": "io.k8s.api.storage",
    "networking.k8s.io": "io.k8s.api.networking",
    "scheduling.k8s.io": "io.k8s.api.scheduling",
    "coordination.k8s.io": "io.k8s.api.coordination",
    "discovery.k8s.io": "io.k8s.api.discovery",
    "events.k8s.io": "io.k8s.api.events",
    "node.k8s.io": "io.k8s.api.node",
    "apiextensions.k8s.io": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
    "apiregistration.k8s.io": "io.k8s.kube-aggregator.pkg.apis.apiregistration",
}


def load_definitions() -> dict[str, msgspec.Raw]:
    """The built-in definitions, each still JSON text."""
    packed = resources.files(__package__).joinpath("builtin.json.gz").read_bytes()
    return _wire.decode(dict[str, msgspec.Raw], gzip.decompress(packed))


@lru_cache(maxsize=512)
def definition_name(info: KindInfo) -> str:
    """The name of a kind's definition: as upstream for built-in kinds, reversed group for custom ones."""
    group = info.group
    if group in _PACKAGES or "." not in group:
        return f"{_PACKAGES.get(group, f'io.k8s.api.{group}')}.{info.version}.{info.kind}"
    return f"{'.'.join(reversed(group.split('.')))}.{info.version}.{info.kind}"


class SchemaCatalog:
    """Built-in and custom schemas, and what is compiled from them."""

    def __init__(self, kinds: KindCatalog) -> None:
        self._kinds = kinds
        self._raw: dict[str, msgspec.Raw] | None = None
        self._nodes = Nodes(self.definition)
        self._validators: dict[str, jsonschema_rs.Draft4Validator] = {}
        self._custom: dict[KindInfo, CustomSchema] = {}
        kinds.on_change(self._custom.clear)

    def definition(self, name: str) -> Json:
        """A built-in definition, decoded anew. Raises KeyError."""
        found: Json = _wire.decode_any(bytes(self._definitions()[name]))
        return found

    def has(self, info: KindInfo) -> bool:
        """Whether this is a built-in kind with an official schema."""
        return definition_name(info) in self._definitions()

    def node(self, info: KindInfo) -> Node | None:
        """The types of a built-in kind; None when it has no official schema."""
        return self._nodes.named(definition_name(info)) if self.has(info) else None

    def named(self, name: str) -> Node:
        """The types of a definition by its full name. Raises KeyError."""
        return self._nodes.named(name)

    def flawless(self, info: KindInfo, obj: Json) -> bool:
        """Whether a built-in object has right types, nothing unknown, no nulls and every required field."""
        name = definition_name(info)
        validator = self._validators.get(name)
        if validator is None:
            import jsonschema_rs  # noqa: PLC0415 - only servers need it

            schema = strict_schema(name, self._nodes.named(name))
            # Draft 4, because there 1.0 is no integer: so the real server's decoder has it.
            validator = jsonschema_rs.Draft4Validator(schema, validate_formats=True, formats={"byte": is_base64})
            self._validators[name] = validator
        return validator.is_valid(obj)

    def custom(self, info: KindInfo) -> CustomSchema | None:
        """The structural schema of a custom kind; None when it has none."""
        found = self._custom.get(info)
        if found is None:
            schema = self._kinds.served(info).schema
            if schema is None:
                return None
            found = self._custom[info] = CustomSchema(schema)
        return found

    def filled(self, info: KindInfo, raw: bytes) -> bytes:
        """Stored JSON of a custom kind with the defaults that its schema has by now."""
        schema = self.custom(info)
        return raw if schema is None else _filled(schema, raw)

    def for_kind(self, info: KindInfo) -> Json | None:
        """The published schema of a kind; its `$ref`s name entries of `definitions`."""
        name = definition_name(info)
        if name in self._definitions():
            return self.definition(name)
        schema = self._kinds.served(info).schema
        return None if schema is None else _published(info, schema)

    def definitions(self, gv: str) -> dict[str, Json]:
        """Every definition that the kinds of a group-version (`v1`, `apps/v1`) publish, and all that these use."""
        group, _, version = gv.rpartition("/")
        out: dict[str, Json] = {}
        pending: list[str] = []
        for info in self._kinds.all():
            if (info.group, info.version) != (group, version):
                continue
            name = definition_name(info)
            if name in self._definitions():
                pending.append(name)
                if f"{name}List" in self._definitions():
                    pending.append(f"{name}List")
                continue
            schema = self._kinds.served(info).schema or {
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": True,
            }
            out[name] = _published(info, schema)
            out[f"{name}List"] = _list_of(info, name)
            pending += [f"{META}ObjectMeta", f"{META}ListMeta"]
        pending += [f"{META}Status", f"{META}DeleteOptions", f"{META}WatchEvent"]
        while pending:
            name = pending.pop()
            if name not in out and name in self._definitions():
                out[name] = self.definition(name)
                text = bytes(self._definitions()[name])
                pending += [m.decode() for m in re.findall(rb'"#/definitions/([^"]+)"', text)]
        return out

    def _definitions(self) -> dict[str, msgspec.Raw]:
        if self._raw is None:
            self._raw = load_definitions()
        return self._raw


@lru_cache(maxsize=512)
def _filled(schema: CustomSchema, raw: bytes) -> bytes:
    """The same few objects are asked for by many readers and watchers."""
    obj = _wire.decode_any(raw)
    full = schema.default(obj)
    return raw if full == obj else _wire.encode(full)


def _gvk(info: KindInfo, suffix: str = "") -> list[Json]:
    return [{"group": info.group, "version": info.version, "kind": info.kind + suffix}]


def _published(info: KindInfo, schema: Json) -> Json:
    meta = {"$ref": f"#/definitions/{META}ObjectMeta"}
    head = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": meta}
    properties = {**schema.get("properties", {}), **head}
    return {**schema, "properties": properties, "x-kubernetes-group-version-kind": _gvk(info)}


def _list_of(info: KindInfo, name: str) -> Json:
    return {
        "description": f"{info.kind}List is a list of {info.kind}",
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"$ref": f"#/definitions/{META}ListMeta"},
            "items": {"type": "array", "items": {"$ref": f"#/definitions/{name}"}},
        },
        "x-kubernetes-group-version-kind": _gvk(info, "List"),
    }
