"""Serving as a component: its kind, its controller, the roles of its users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.components.serving.types import GROUP, KINDS
from headrace.machinery.component import Component, Parts

if TYPE_CHECKING:
    from headrace.machinery.component import Context
    from headrace.machinery.settings import Settings

_AGGREGATE = "rbac.authorization.kubeflow.org/aggregate-to-kubeflow-"
_READ = ["get", "list", "watch"]
_WRITE = [*_READ, "create", "update", "patch", "delete", "deletecollection"]


def build(context: Context) -> Parts:
    """The controller and the pages. Requests to models go through the gateway, which finds them by their objects."""
    from headrace.components.serving.controller import InferenceServiceController  # noqa: PLC0415 - when enabled
    from headrace.components.serving.ui import pages_of  # noqa: PLC0415

    pages, panels, finder = pages_of(context)
    controller = InferenceServiceController(context.client, context.clock, component=context.name)
    return Parts(controllers=(controller,), pages=pages, panels=panels, finders=(finder,))


def objects(_settings: Settings) -> list[dict[str, Any]]:
    """Roles for users, gathered into `kubeflow-view` and `kubeflow-edit` (upstream: kserve's kubeflow overlay).

    A prediction is a `create` on the InferenceService, a question about the model a `get`. Its status is the
    controller's to write, as upstream.
    """
    return [_role("view", _READ), _role("edit", _WRITE)]


def _role(name: str, verbs: list[str]) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": f"kubeflow-kserve-{name}", "labels": {f"{_AGGREGATE}{name}": "true"}},
        "rules": [{"apiGroups": [GROUP], "resources": ["inferenceservices"], "verbs": verbs}],
    }


COMPONENT = Component(
    name="serving",
    title="Model serving",
    build=build,
    requires=frozenset({"profiles"}),
    kinds=KINDS,
    objects=objects,
)
