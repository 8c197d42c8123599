"""Defaults of networking, scheduling and autoscaling kinds."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
CPU_PERCENT = 80


def ingress_class(obj: Json) -> None:
    """An IngressClass."""
    parameters = (obj.get("spec") or {}).get("parameters")
    if isinstance(parameters, dict):
        parameters.setdefault("scope", "Cluster")


def network_policy(obj: Json) -> None:
    """A NetworkPolicy concerns incoming traffic, and outgoing when it has rules for that."""
    spec = obj.setdefault("spec", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    for rule in [*(spec.get("ingress") or ()), *(spec.get("egress") or ())]:
        for port in rule.get("ports") or ():
            port.setdefault("protocol", "TCP")


def priority_class(obj: Json) -> None:
    """A PriorityClass."""
    if not obj.get("preemptionPolicy"):
        obj["preemptionPolicy"] = "PreemptLowerPriority"


def autoscaler(obj: Json) -> None:
    """A HorizontalPodAutoscaler."""
    spec = obj.setdefault("spec", {})
    spec.setdefault("minReplicas", 1)
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": CPU_PERCENT}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
