"""Profiles as a component: namespaces with owners, who else may be in them, and defaults for their pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.components.profiles.types import PodDefault, Profile
from headrace.machinery.component import Component, LazyApp, Mount, Mutator, Parts
from headrace.machinery.settings import DEFAULT_NAMESPACE, DEFAULT_USER, SYSTEM_NAMESPACE

if TYPE_CHECKING:
    from headrace.machinery.component import ASGIApp, Context
    from headrace.machinery.settings import Settings

FIRST_PROFILE_MADE = "headrace.dev/first-profile"
"""On namespace `kubeflow`: the default profile was made once, and who deletes it is not overruled."""


def build(context: Context) -> Parts:
    """The controllers, KFAM, and the admission of PodDefaults."""
    from headrace.api.core import Namespace  # noqa: PLC0415 - imported when enabled
    from headrace.api.errors import AlreadyExists  # noqa: PLC0415
    from headrace.components.profiles import policy, render  # noqa: PLC0415
    from headrace.components.profiles.controller import KeysController, ProfileController  # noqa: PLC0415
    from headrace.components.profiles.ui import pages_of  # noqa: PLC0415

    client = context.client
    profiles = ProfileController(client)
    made: dict[str, ASGIApp] = {}

    def app(path: str) -> ASGIApp:
        if not made:
            from headrace.components.profiles.api import build_apps  # noqa: PLC0415 - with the first request

            made.update(build_apps(client))
        return made[path]

    def later(path: str) -> LazyApp:
        return LazyApp(lambda: app(path))

    def default_pods(pod: dict[str, Any], found: list[PodDefault]) -> None:
        chosen = policy.matching(pod, found)
        if chosen:
            policy.apply(pod, chosen)

    async def start() -> None:
        system = await client.get(Namespace, SYSTEM_NAMESPACE)
        if FIRST_PROFILE_MADE in system.metadata.annotations:
            return
        profile = render.default_profile(DEFAULT_NAMESPACE, DEFAULT_USER)
        try:
            profile = await client.create(profile)
        except AlreadyExists:
            profile = await client.get(Profile, DEFAULT_NAMESPACE)
        await profiles.ensure(profile)  # there when the platform says that it is ready
        mark = {"metadata": {"annotations": {FIRST_PROFILE_MADE: DEFAULT_NAMESPACE}}}
        await client.patch(Namespace, SYSTEM_NAMESPACE, mark)

    pages, panels, finder = pages_of(context)
    return Parts(
        controllers=(profiles, KeysController(client)),
        mounts=tuple(Mount(path, later(path)) for path in ("/kfam", "/api/workgroup")),
        mutators=(Mutator("pods", PodDefault, default_pods),),
        start=start,
        pages=pages,
        panels=panels,
        finders=(finder,),
    )


def objects(_settings: Settings) -> list[dict[str, Any]]:
    """The roles that every profile's people have, and this component's own."""
    from headrace.components.profiles import render  # noqa: PLC0415 - imported when enabled

    return [*render.roles(), *render.own_roles()]


COMPONENT = Component(name="profiles", title="Profiles", build=build, kinds=(Profile, PodDefault), objects=objects)
