"""Istio's objects as a component: kept for the manifests that bring them, honoured by the gateway where it can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.components.istio.types import KINDS, NETWORKING, SECURITY
from headrace.machinery.component import Component, Parts
from headrace.machinery.roles import user_role

if TYPE_CHECKING:
    from headrace.machinery.component import Context
    from headrace.machinery.settings import Settings

_READ = ["get", "list", "watch"]
_WRITE = ["create", "update", "patch", "delete", "deletecollection"]


def build(context: Context) -> Parts:
    """The controllers that report; the gateway reads the objects by itself."""
    from headrace.components.istio.controller import HonoredController  # noqa: PLC0415 - imported when enabled

    return Parts(controllers=tuple(HonoredController(kind, context.clock) for kind in KINDS))


def objects(_settings: Settings) -> list[dict[str, Any]]:
    """Roles for users (upstream: kubeflow-istio-edit and -view). Policies of access are for administrators to write."""
    return [
        user_role("kubeflow-istio-view", "view", [_rule(NETWORKING, _READ), _rule(SECURITY, _READ)]),
        user_role("kubeflow-istio-edit", "edit", [_rule(NETWORKING, _WRITE)]),
    ]


def _rule(group: str, verbs: list[str]) -> dict[str, Any]:
    resources = [kind.INFO.plural for kind in KINDS if kind.INFO.group == group]
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


COMPONENT = Component(
    name="istio",
    title="Istio objects",
    build=build,
    requires=frozenset({"profiles"}),
    kinds=KINDS,
    objects=objects,
)
