"""What extension servers say about themselves, in the form in which this server says it: pure functions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from headrace.api import _wire

if TYPE_CHECKING:
    from collections.abc import Iterable

Json = dict[str, Any]

REFERENCE = "#/definitions/"
_REFERENCE = re.compile(rb'"#/definitions/([^"]+)"')


def described(resources: Iterable[Json], group: str, version: str) -> list[Json]:
    """An APIResourceList's resources as aggregated discovery has them: parts below their resource."""
    found: dict[str, Json] = {}
    for resource in resources:
        name, _, part = str(resource.get("name") or "").partition("/")
        kind: Json = {
            "responseKind": {
                "group": resource.get("group") or group,
                "version": resource.get("version") or version,
                "kind": resource.get("kind") or "",
            },
            "verbs": list(resource.get("verbs") or ()),
        }
        scope = "Namespaced" if resource.get("namespaced") else "Cluster"
        if part:
            whole = found.setdefault(name, {"resource": name, "scope": scope, "singularResource": "", "verbs": []})
            whole.setdefault("subresources", []).append({"subresource": part, **kind})
            continue
        made = {"resource": name, "scope": scope, "singularResource": resource.get("singularName") or "", **kind}
        for key in ("shortNames", "categories"):
            if resource.get(key):
                made[key] = list(resource[key])
        found[name] = {**found.get(name, {}), **made}
    return list(found.values())


def resources_of(document: Any) -> list[Json]:
    """The resources of an APIResourceList. Raises ValueError when it is none."""
    listed = document.get("resources") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not all(isinstance(r, dict) and isinstance(r.get("name"), str) for r in listed):
        raise ValueError("the answer is no APIResourceList")
    for resource in listed:
        if not all(isinstance(v, str) for v in resource.get("verbs") or ()):
            raise ValueError("the verbs of a resource are no words")
    return listed


def part_of(document: Json, prefix: str) -> Json:
    """Of an OpenAPI v2 document, the paths at or below `prefix` and the definitions that they use."""
    every = document.get("paths") or {}
    paths = {path: item for path, item in every.items() if path == prefix or path.startswith(f"{prefix}/")}
    definitions: Json = document.get("definitions") or {}
    group, _, version = prefix.removeprefix("/apis/").partition("/")
    pending = _used(paths)
    pending += [
        name
        for name, schema in definitions.items()
        if any(
            (kind.get("group"), kind.get("version")) == (group, version)
            for kind in schema.get("x-kubernetes-group-version-kind") or ()
        )
    ]
    kept: Json = {}
    while pending:
        name = pending.pop()
        if name not in kept and name in definitions:
            kept[name] = definitions[name]
            pending += _used(definitions[name])
    return {"paths": paths, "definitions": kept}


def _used(value: Any) -> list[str]:
    return [name.decode() for name in _REFERENCE.findall(_wire.encode(value))]


def merged(document: Json, more: Json) -> Json:
    """Two OpenAPI v2 documents in one. A definition that has another meaning in the second one gets a name of its
    own (`NAME_v2` …); the first one stays as it is.
    """
    have: Json = document["definitions"]
    renamed: dict[str, str] = {}
    for name, schema in more["definitions"].items():
        if name in have and have[name] != schema:
            number = 2
            while f"{name}_v{number}" in have:
                number += 1
            renamed[name] = f"{name}_v{number}"
    added = _renamed(more, renamed) if renamed else more
    definitions = {renamed.get(name, name): schema for name, schema in added["definitions"].items()}
    return {
        **document,
        "paths": {**document["paths"], **added["paths"]},
        "definitions": {**have, **definitions},
    }


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_renamed(v, names) for v in value]
    if not isinstance(value, dict):
        return value
    out = {key: _renamed(v, names) for key, v in value.items()}
    reference = out.get("$ref")
    if isinstance(reference, str):
        name = reference.removeprefix(REFERENCE)
        out["$ref"] = REFERENCE + names.get(name, name)
    return out
