"""The ClusterRoles that components bring for users: gathered into `kubeflow-admin`, `kubeflow-edit` and
`kubeflow-view` by their labels (upstream: kubeflow-roles).
"""

from __future__ import annotations

from typing import Any

AGGREGATE = "rbac.authorization.kubeflow.org/aggregate-to-kubeflow-"
"""Begins the label; what follows says into which of the three."""


def user_role(name: str, into: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    """A ClusterRole whose rules those have who are `into` (admin, edit or view)."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name, "labels": {f"{AGGREGATE}{into}": "true"}},
        "rules": rules,
    }
