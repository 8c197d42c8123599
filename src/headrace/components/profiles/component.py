"""Profiles as a component: for now the default profile, and the roles that every profile's people have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.machinery.component import Component, Parts
from headrace.machinery.settings import DEFAULT_NAMESPACE, DEFAULT_USER

if TYPE_CHECKING:
    from headrace.machinery.component import Context
    from headrace.machinery.settings import Settings


def build(context: Context) -> Parts:
    """The controller of object-store keys."""
    from headrace.components.profiles.controller import KeysController  # noqa: PLC0415 - imported when enabled

    return Parts(controllers=(KeysController(context.client),))


def objects(_settings: Settings) -> list[dict[str, Any]]:
    """The roles and the default profile."""
    from headrace.components.profiles import render  # noqa: PLC0415 - imported when enabled

    return [*render.roles(), *render.profile_objects(DEFAULT_NAMESPACE, DEFAULT_USER)]


COMPONENT = Component(name="profiles", title="Profiles", build=build, objects=objects)
