"""From client-side to server-side apply: what kubectl's annotation says about who owns what.

Only for the manager `kubectl`. A field that client-side apply set and nobody changed since is no conflict; and while
the annotation is there, it is kept up to date, so that client-side apply may be used again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.apiserver.fieldmanager import values
from headrace.apiserver.fieldmanager.fieldsets import FieldSet, difference

if TYPE_CHECKING:
    from headrace.apiserver.fieldmanager.shapes import Shape

Json = dict[str, Any]

ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
KUBECTL = "kubectl"


def annotation(obj: Json) -> str:
    """The configuration that was applied last by the client; "" when there is none."""
    value = ((obj.get("metadata") or {}).get("annotations") or {}).get(ANNOTATION)
    return value if isinstance(value, str) else ""


def untouched(live: Json, shape: Shape, api_version: str) -> FieldSet:
    """The fields that client-side apply set and that still are as it set them."""
    text = annotation(live)
    if not text:
        return {}
    try:
        last = _wire.decode_any(text)
        if not isinstance(last, dict) or last.get("apiVersion") != api_version:
            return {}
        changed, removed = values.compare(last, live, shape)
        return difference(difference(values.fields_of(last, shape), changed), removed)
    except (_wire.DecodeError, values.Unlike):
        return {}


def renewed(obj: Json, config: Json) -> Json:
    """The object with the annotation, if it has it, saying what was applied now."""
    if not annotation(obj):
        return obj
    meta = dict(config.get("metadata") or {})
    meta["annotations"] = {k: v for k, v in (meta.get("annotations") or {}).items() if k != ANNOTATION}
    if not meta["annotations"]:
        del meta["annotations"]
    text = _wire.encode_sorted({**config, "metadata": meta}).decode() + "\n"
    annotations = {**obj["metadata"]["annotations"], ANNOTATION: text}
    return {**obj, "metadata": {**obj["metadata"], "annotations": annotations}}
