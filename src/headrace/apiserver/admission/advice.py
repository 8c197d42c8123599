"""What a client should hear although nothing is wrong: what is kept as data here but has no effect.

Pure. On a cluster without the controller in question nobody would say so; a person in front of one machine wonders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.api.meta import KindInfo

NO_NODE_PORTS = (
    "spec.type {type}: nothing listens on node ports and there is no load balancer here; reach the service with "
    "kubectl port-forward, or from pods by its name"
)
WITHOUT_EFFECT = {
    ("networking.k8s.io", "NetworkPolicy"): "NetworkPolicy is kept as data and not enforced: pods reach one another",
    ("networking.k8s.io", "Ingress"): "Ingress is kept as data: no ingress controller runs here; reach services with "
    "kubectl port-forward",
}


def advice(info: KindInfo, obj: dict[str, Any]) -> list[str]:
    """Sentences for the `Warning` header; mostly none."""
    if info.kind == "Service" and not info.group:
        chosen = (obj.get("spec") or {}).get("type")
        return [NO_NODE_PORTS.format(type=chosen)] if chosen in {"NodePort", "LoadBalancer"} else []
    found = WITHOUT_EFFECT.get((info.group, info.kind))
    return [found] if found else []
