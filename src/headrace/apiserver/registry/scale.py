"""The scale subresource: replicas of any kind as an `autoscaling/v1` Scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.errors import BadRequest, Cause, Invalid
from headrace.api.meta import KindInfo
from headrace.apiserver.fieldmanager import fieldsets

if TYPE_CHECKING:
    from collections.abc import Iterable

Json = dict[str, Any]

SCALE = KindInfo("autoscaling", "v1", "Scale", "scales", subresources=frozenset())


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where a kind keeps its replicas; JSON paths such as `.spec.replicas`."""

    spec: str = ".spec.replicas"
    status: str = ".status.replicas"
    selector: str = ""
    """Path of a selector in text; without one a `spec.selector` with matchLabels is written out."""


def _read(obj: Json, path: str) -> Any:
    value: Any = obj
    for part in path.strip(".").split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def scale_of(obj: Json, paths: ScalePaths) -> Json:
    """The Scale of an object."""
    meta = obj["metadata"]
    shown = {k: meta[k] for k in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp") if k in meta}
    owners = _owners(meta.get("managedFields") or (), paths.spec)
    if owners:
        shown["managedFields"] = owners
    status: Json = {"replicas": _read(obj, paths.status) or 0}
    selector = _read(obj, paths.selector) if paths.selector else _selector_text(obj)
    if selector:
        status["selector"] = selector
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": shown,
        "spec": {"replicas": _read(obj, paths.spec) or 0},
        "status": status,
    }


def _owners(managed: Iterable[Json], path: str) -> list[Json]:
    """The managers of the replicas, as those of a Scale."""
    elements = tuple(f"f:{part}" for part in path.strip(".").split("."))
    return [
        {**entry, "apiVersion": SCALE.api_version, "fieldsV1": {"f:spec": {"f:replicas": {}}}}
        for entry in managed
        if fieldsets.has(entry.get("fieldsV1") or {}, *elements)
    ]


def _selector_text(obj: Json) -> str:
    selector = (obj.get("spec") or {}).get("selector") or {}
    if not isinstance(selector, dict):
        return ""
    if obj.get("kind") == "ReplicationController":
        selector = {"matchLabels": selector}
    parts = [f"{k}={v}" for k, v in sorted((selector.get("matchLabels") or {}).items())]
    for term in selector.get("matchExpressions") or ():
        key, values = term["key"], ",".join(term.get("values") or ())
        parts.append(
            {
                "In": f"{key} in ({values})",
                "NotIn": f"{key} notin ({values})",
                "Exists": key,
                "DoesNotExist": f"!{key}",
            }[term["operator"]]
        )
    return ",".join(parts)


def with_replicas(obj: Json, scale: Json, paths: ScalePaths) -> Json:
    """The object with the replicas that a Scale asks for. Raises BadRequest, Invalid."""
    spec = scale.get("spec") or {}
    replicas = spec.get("replicas", 0) if isinstance(spec, dict) else None
    if type(replicas) is not int:
        raise BadRequest(
            'Scale in version "v1" cannot be handled as a Scale: json: cannot unmarshal '
            "into Go struct field ScaleSpec.spec.replicas of type int32"
        )
    name = obj["metadata"]["name"]
    if replicas < 0:
        why = f"Invalid value: {replicas}: must be greater than or equal to 0"
        raise Invalid.of(SCALE, name, [Cause("spec.replicas", why)])
    out = _wire.clone(obj)
    *parents, leaf = paths.spec.strip(".").split(".")
    place = out
    for part in parents:
        place = place.setdefault(part, {})
    place[leaf] = replicas
    return out
