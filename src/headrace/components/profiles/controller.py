"""A Profile becomes a namespace with what belongs to it; its object-store keys are made once and come back if lost."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from headrace.api import _wire
from headrace.api.core import Namespace, Secret, ServiceAccount
from headrace.api.errors import AlreadyExists, NotFound
from headrace.api.limits import ResourceQuota
from headrace.api.rbac import RoleBinding
from headrace.components.profiles import render
from headrace.components.profiles.types import Profile, ProfileCondition
from headrace.machinery.controller import DONE, Controller, Result, Watch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.api.meta import Object
    from headrace.client.base import Client


def _namespace_of(secret: Secret) -> Iterable[str]:
    if secret.metadata.name == render.KEYS_SECRET:
        yield secret.metadata.namespace


class KeysController(Controller[Namespace]):
    """Namespace of a profile -> Secret `mlpipeline-minio-artifact`; one that is deleted comes back with new keys."""

    name = "profile-objectstore-keys"
    kind = Namespace
    watches = (Watch(Secret, _namespace_of),)
    workers = 1

    def __init__(self, client: Client) -> None:
        self._client = client

    async def reconcile(self, obj: Namespace) -> Result:
        """See Controller."""
        name = obj.metadata.name
        wanted = obj.metadata.labels.get(render.PIPELINES_ENABLED) == "true"
        leaving = obj.metadata.deletion_timestamp is not None or obj.status.phase == "Terminating"
        if not wanted or leaving or self.cache(Secret).get(f"{name}/{render.KEYS_SECRET}") is not None:
            return DONE
        body = render.keys_secret(name, f"{name[:20]}-{secrets.token_hex(6)}", secrets.token_urlsafe(32))
        try:
            await self._client.create(_wire.convert(Secret, body))
        except AlreadyExists:
            # The cache is behind; what is there stays.
            return DONE
        return DONE


KINDS: dict[str, type[Object]] = {
    "Namespace": Namespace,
    "ServiceAccount": ServiceAccount,
    "RoleBinding": RoleBinding,
    "ResourceQuota": ResourceQuota,
}


class ProfileController(Controller[Profile]):
    """Profile -> Namespace, ServiceAccounts, RoleBindings, ResourceQuota; all owned by it, so that they go with it."""

    name = "profiles"
    kind = Profile
    owns = (Namespace, ServiceAccount, RoleBinding, ResourceQuota)
    workers = 2

    def __init__(self, client: Client) -> None:
        self._client = client

    async def reconcile(self, obj: Profile) -> Result:
        """See Controller."""
        if obj.metadata.deletion_timestamp is not None:
            await self._release(obj)
            return DONE
        if render.FINALIZER not in obj.metadata.finalizers:
            finalizers = [*obj.metadata.finalizers, render.FINALIZER]
            patch = {"metadata": {"finalizers": finalizers}}
            await self._client.patch(Profile, obj.metadata.name, patch, resource_version=obj.metadata.resource_version)
        obj.status.conditions = [await self.ensure(obj)]
        return DONE

    async def ensure(self, profile: Profile) -> ProfileCondition:
        """Bring everything of a profile about; what came of it."""
        name, owner = profile.metadata.name, profile.spec.owner
        if owner is None or not owner.name:
            return _failed(
                "spec.owner is missing: a profile needs an owner, such as {kind: User, name: ada@example.com}"
            )
        if profile.spec.plugins:
            kinds = ", ".join(sorted({plugin.kind for plugin in profile.spec.plugins}))
            return _failed(f"the plugins {kinds} are for clouds and are not supported on one machine")
        taken = await self._owner_of(name)
        if taken is not None and taken != owner.name:
            return _failed(f"namespace already exist, but not owned by profile creator {owner.name}")
        for body in render.profile_objects(name, owner, profile.spec.resource_quota_spec, profile.owner_reference()):
            await self._apply(body)
        if not profile.spec.resource_quota_spec.hard:
            await self._forget(ResourceQuota, render.QUOTA, name)
        return ProfileCondition(type="Successful", status="True", message="The profile is ready.")

    async def _owner_of(self, namespace: str) -> str | None:
        """Whose the namespace is: nobody's ("") when it has no owner, None when there is none."""
        try:
            found = await self._client.get(Namespace, namespace)
        except NotFound:
            return None
        return found.metadata.annotations.get("owner", "")

    async def _apply(self, body: render.Body) -> None:
        kind = KINDS[body["kind"]]
        wanted = _wire.convert(kind, body)
        await self._client.apply(wanted)
        if isinstance(wanted, RoleBinding):
            found = await self._client.get(RoleBinding, wanted.metadata.name, wanted.metadata.namespace)
            if found.role_ref != wanted.role_ref:  # what a binding grants cannot be changed, only replaced
                await self._client.delete(RoleBinding, wanted.metadata.name, wanted.metadata.namespace)
                await self._client.create(wanted)

    async def _forget(self, kind: type[Object], name: str, namespace: str) -> None:
        try:
            await self._client.delete(kind, name, namespace)
        except NotFound:
            return

    async def _release(self, profile: Profile) -> None:
        """Everything is owned by the profile and goes with it, so nothing else holds it."""
        kept = [f for f in profile.metadata.finalizers if f != render.FINALIZER]
        if len(kept) == len(profile.metadata.finalizers):
            return
        patch = {"metadata": {"finalizers": kept or None}}
        await self._client.patch(
            Profile, profile.metadata.name, patch, resource_version=profile.metadata.resource_version
        )


def _failed(message: str) -> ProfileCondition:
    return ProfileCondition(type="Failed", status="True", message=message)
