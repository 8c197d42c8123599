"""Defaults of networking, scheduling and autoscaling kinds."""

from __future__ import annotations

import copy
from typing import Any

Json = dict[str, Any]
CPU_PERCENT = 80
BEHAVIOR: Json = {
    "scaleUp": {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [
            {"type": "Pods", "value": 4, "periodSeconds": 15},
            {"type": "Percent", "value": 100, "periodSeconds": 15},
        ],
    },
    "scaleDown": {"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]},
}
"""What an autoscaler that says something of its behavior gets for the rest (pkg/apis/autoscaling/v2/defaults.go)."""


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
    behavior = spec.get("behavior")
    if isinstance(behavior, dict):
        for key, rules in BEHAVIOR.items():
            given = behavior.setdefault(key, {})
            for name, value in rules.items():
                if given.get(name) is None:
                    given[name] = copy.deepcopy(value)
