"""Fields and resources of a pod as text: the downward API, for variables and for files."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING
from typing import TYPE_CHECKING

from headrace.api import quantity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.api.core import Container, Pod, ResourceFieldSelector
    from headrace.api.meta import Quantity

_KEYED = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]")


class UnsupportedField(ValueError):
    """The field is not offered by the downward API."""


def field(pod: Pod, path: str, *, pod_ip: str, host_ip: str, node_name: str) -> str:
    """The text of a field such as `metadata.name`. Raises UnsupportedField."""
    meta, spec = pod.metadata, pod.spec
    keyed = _KEYED.fullmatch(path)
    if keyed is not None:
        found = meta.labels if keyed[1] == "labels" else meta.annotations
        return found.get(keyed[2], "")
    match path:
        case "metadata.name":
            return meta.name
        case "metadata.namespace":
            return meta.namespace
        case "metadata.uid":
            return meta.uid
        case "metadata.labels":
            return _lines(meta.labels)
        case "metadata.annotations":
            return _lines(meta.annotations)
        case "spec.nodeName":
            return node_name
        case "spec.serviceAccountName":
            return spec.service_account_name or "default"
        case "status.podIP" | "status.podIPs":
            return pod_ip
        case "status.hostIP" | "status.hostIPs":
            return host_ip
    raise UnsupportedField(f"unsupported fieldPath: {path}")


def resource(selector: ResourceFieldSelector, container: Container, allocatable: Mapping[str, Quantity]) -> str:
    """The number of a container's limit or request, in units of the divisor, rounded up.

    A limit that is not set is what the node has; a request that is not set is the limit, or nothing.
    """
    kind, _, name = selector.resource.partition(".")
    own = container.resources
    if kind == "limits":
        value: Quantity = own.limits.get(name, allocatable.get(name, "0"))
    elif kind == "requests":
        value = own.requests.get(name, own.limits.get(name, "0"))
    else:
        raise UnsupportedField(f"unsupported container resource: {selector.resource}")
    divisor = quantity.parse(selector.divisor) or quantity.parse("1")
    return str((quantity.parse(value) / divisor).to_integral_value(rounding=ROUND_CEILING))


def _lines(values: Mapping[str, str]) -> str:
    return "\n".join(f"{key}={_quoted(value)}" for key, value in sorted(values.items()))


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'
