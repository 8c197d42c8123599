"""Serving as a component: its kind, its controller, the roles of its users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.components.serving.types import GROUP, KINDS
from headrace.machinery.component import Component, Parts
from headrace.machinery.roles import user_role

if TYPE_CHECKING:
    from headrace.machinery.component import Context
    from headrace.machinery.settings import Settings

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
    return [
        user_role(
            f"kubeflow-kserve-{into}",
            into,
            [{"apiGroups": [GROUP], "resources": ["inferenceservices"], "verbs": verbs}],
        )
        for into, verbs in (("view", _READ), ("edit", _WRITE))
    ]


COMPONENT = Component(
    name="serving",
    title="Model serving",
    build=build,
    requires=frozenset({"profiles"}),
    kinds=KINDS,
    objects=objects,
)
