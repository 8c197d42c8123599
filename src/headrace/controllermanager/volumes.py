"""Claims and volumes: binding, provisioning of directories, reclaiming (upstream: pkg/controller/volume).

A volume is a directory below the platform's `volumes` folder, named after its claim. Its size is what the claim
asked for; it is not enforced.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.api import _wire, core
from headrace.api.errors import AlreadyExists, NotFound
from headrace.api.meta import Object, ObjectMeta
from headrace.api.storage import StorageClass
from headrace.controllermanager import pods
from headrace.controllermanager import volume_policy as policy
from headrace.machinery.controller import DONE, Controller, Result, Watch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.client.base import Client
    from headrace.machinery.events import EventRecorder
    from headrace.machinery.settings import Settings

Claim = core.PersistentVolumeClaim
Volume = core.PersistentVolume
MODE = 0o777
"""Pods may run under any user, as with upstream's local provisioners; the platform's home keeps others out."""


def claims_of(pod: core.Pod) -> Iterable[str]:
    """Keys of the claims that a pod uses."""
    for volume in pod.spec.volumes:
        if volume.persistent_volume_claim is not None:
            yield f"{pod.metadata.namespace}/{volume.persistent_volume_claim.claim_name}"
        elif volume.ephemeral is not None:
            yield f"{pod.metadata.namespace}/{pod.metadata.name}-{volume.name}"


class ClaimController(Controller[Claim]):
    """Binds claims to volumes and makes volumes for them."""

    name = "claim"
    kind = Claim
    reads = (core.Pod,)
    workers = 1
    """One, so that two claims never reach for the same volume."""

    def __init__(self, settings: Settings, client: Client, events: EventRecorder) -> None:
        self._settings, self._client, self._events = settings, client, events
        self.watches = (
            Watch(Volume, self._of_volume),
            Watch(StorageClass, self._pending),
            Watch(core.Pod, claims_of),
        )

    def _of_volume(self, volume: Volume) -> Iterable[str]:
        if volume.spec.claim_ref is not None:
            yield f"{volume.spec.claim_ref.namespace}/{volume.spec.claim_ref.name}"
        else:
            yield from self._pending(volume)

    def _pending(self, _obj: Object) -> Iterable[str]:
        return [c.key for c in self.cache(Claim).all() if c.status.phase in {"", "Pending"}]

    async def reconcile(self, obj: Claim) -> Result:
        """Bind, or say why not."""
        if obj.metadata.deletion_timestamp is not None:
            await self._let_go(obj)
            return DONE
        await self._protect(obj)
        if obj.spec.volume_name:
            await self._complete(obj, obj.spec.volume_name)
            return DONE
        obj.status.phase = "Pending"
        listed = await self._client.list(Volume)
        found = policy.choose(obj, listed.items)
        if found is None:
            found = await self._provision(obj)
        if found is not None:
            await self._bind(obj, found)
        return DONE

    async def _protect(self, obj: Claim) -> None:
        meta = obj.metadata
        if policy.CLAIM_PROTECTION in meta.finalizers:
            return
        patch = {"metadata": {"finalizers": [*meta.finalizers, policy.CLAIM_PROTECTION]}}
        written = await self._client.patch(
            Claim, meta.name, patch, meta.namespace, resource_version=meta.resource_version
        )
        obj.metadata = written.metadata

    async def _let_go(self, obj: Claim) -> None:
        """A deleted claim stays as long as a pod uses it."""
        meta = obj.metadata
        if policy.CLAIM_PROTECTION not in meta.finalizers:
            return
        listed = await self._client.list(core.Pod, meta.namespace)
        if any(obj.key in claims_of(pod) and not pods.finished(pod) for pod in listed.items):
            return
        kept = [name for name in meta.finalizers if name != policy.CLAIM_PROTECTION]
        patch = {"metadata": {"finalizers": kept or None}}
        await self._client.patch(Claim, meta.name, patch, meta.namespace, resource_version=meta.resource_version)

    async def _bind(self, obj: Claim, volume: Volume) -> None:
        """First the volume names the claim, then the claim the volume: a crash between is taken up again."""
        meta = obj.metadata
        ref = volume.spec.claim_ref
        if ref is None or ref.uid != meta.uid:
            wanted = core.ObjectReference(
                kind="PersistentVolumeClaim", api_version="v1", namespace=meta.namespace, name=meta.name, uid=meta.uid
            )
            patch = {
                "metadata": {"annotations": {policy.BOUND_BY_CONTROLLER: "yes"}},
                "spec": {"claimRef": _wire.to_builtins(wanted)},
            }
            await self._client.patch(
                Volume, volume.metadata.name, patch, resource_version=volume.metadata.resource_version
            )
        if obj.spec.volume_name == volume.metadata.name and policy.BIND_COMPLETED in meta.annotations:
            self._bound(obj, volume)
            return
        annotations = {policy.BIND_COMPLETED: "yes", policy.BOUND_BY_CONTROLLER: "yes"}
        claim_patch = {"metadata": {"annotations": annotations}, "spec": {"volumeName": volume.metadata.name}}
        written = await self._client.patch(
            Claim, meta.name, claim_patch, meta.namespace, resource_version=meta.resource_version
        )
        obj.metadata, obj.spec = written.metadata, written.spec
        self._bound(obj, volume)

    def _bound(self, obj: Claim, volume: Volume) -> None:
        obj.status.phase = "Bound"
        obj.status.access_modes = list(volume.spec.access_modes)
        obj.status.capacity = dict(volume.spec.capacity)

    async def _complete(self, obj: Claim, name: str) -> None:
        """The claim names its volume: see that the volume names the claim."""
        try:
            volume = await self._client.get(Volume, name)
        except NotFound:
            if policy.BIND_COMPLETED in obj.metadata.annotations:
                obj.status.phase = "Lost"
                await self._events.warning(
                    obj, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
                )
            else:
                obj.status.phase = "Pending"
                await self._events.warning(obj, "FailedBinding", f'volume "{name}" not found')
            return
        if volume.spec.claim_ref is not None and not policy.points_to(volume.spec.claim_ref, obj):
            obj.status.phase = "Pending"
            await self._events.warning(obj, "FailedBinding", f'volume "{name}" already bound to a different claim.')
            return
        if volume.metadata.annotations.get(policy.PROVISIONED_BY) == policy.PROVISIONER and policy.requested(
            obj
        ) > policy.capacity(volume):
            patch = {"spec": {"capacity": {"storage": obj.spec.resources.requests["storage"]}}}
            volume = await self._client.patch(Volume, name, patch)
        await self._bind(obj, volume)

    async def _provision(self, obj: Claim) -> Volume | None:
        """A directory and its volume, when the class is ours; else an event that says what is missing."""
        classes = (await self._client.list(StorageClass)).items
        found, name = policy.class_of(obj, classes)
        if found is None:
            if name:
                message = f'storageclass.storage.k8s.io "{name}" not found'
                await self._events.warning(obj, "ProvisioningFailed", message)
            else:
                message = "no persistent volumes available for this claim and no storage class is set"
                await self._events.normal(obj, "FailedBinding", message)
            return None
        if found.provisioner != policy.PROVISIONER:
            message = (
                f'StorageClass "{name}" has the provisioner "{found.provisioner}", which does not run here: use the '
                f"class of {policy.PROVISIONER}, or create a PersistentVolume"
            )
            await self._events.normal(obj, "ExternalProvisioning", message)
            return None
        refusal = policy.refused(obj)
        if refusal:
            await self._events.warning(obj, "ProvisioningFailed", refusal)
            return None
        if found.volume_binding_mode == policy.WAIT and not self._used(obj):
            message = "waiting for first consumer to be created before binding"
            await self._events.normal(obj, "WaitForFirstConsumer", message)
            return None
        return await self._make(obj, found)

    def _used(self, obj: Claim) -> bool:
        return any(obj.key in claims_of(pod) for pod in self.cache(core.Pod).all(obj.metadata.namespace))

    async def _make(self, obj: Claim, found: StorageClass) -> Volume:
        meta = obj.metadata
        path = self._settings.volumes / policy.folder_name(obj)
        await asyncio.to_thread(_make_folder, path)
        wanted = Volume(
            metadata=ObjectMeta(
                name=policy.volume_name(obj),
                annotations={policy.PROVISIONED_BY: policy.PROVISIONER},
                finalizers=[policy.VOLUME_PROTECTION],
            ),
            spec=core.PersistentVolumeSpec(
                capacity={"storage": obj.spec.resources.requests.get("storage", "0")},
                access_modes=list(obj.spec.access_modes) or ["ReadWriteOnce"],
                persistent_volume_reclaim_policy=found.reclaim_policy,
                storage_class_name=found.metadata.name,
                volume_mode="Filesystem",
                host_path=core.HostPathVolumeSource(path=str(path), type="DirectoryOrCreate"),
                claim_ref=core.ObjectReference(
                    kind="PersistentVolumeClaim",
                    api_version="v1",
                    namespace=meta.namespace,
                    name=meta.name,
                    uid=meta.uid,
                ),
            ),
        )
        try:
            made = await self._client.create(wanted)
        except AlreadyExists:
            return await self._client.get(Volume, wanted.metadata.name)
        await self._events.normal(obj, "ProvisioningSucceeded", f"Successfully provisioned volume {made.metadata.name}")
        return made


class VolumeController(Controller[Volume]):
    """A volume's phase, and its end when its claim is gone."""

    name = "volume"
    kind = Volume

    def __init__(self, settings: Settings, client: Client, events: EventRecorder) -> None:
        self._settings, self._client, self._events = settings, client, events
        self.watches = (Watch(Claim, self._of_claim),)

    def _of_claim(self, claim: Claim) -> Iterable[str]:
        if claim.spec.volume_name:
            yield claim.spec.volume_name
        yield policy.volume_name(claim)

    async def reconcile(self, obj: Volume) -> Result:
        """Available, Bound or Released; a released one is deleted when it was made for its claim."""
        claim = await self._claim(obj)
        if obj.metadata.deletion_timestamp is not None:
            if claim is None:
                await self._let_go(obj)
            return DONE
        if obj.spec.claim_ref is None or not obj.spec.claim_ref.uid:
            obj.status.phase = "Available"
        elif claim is not None:
            obj.status.phase = "Bound"
        elif obj.spec.persistent_volume_reclaim_policy == "Delete":
            obj.status.phase = "Released"
            await self._delete(obj)
        else:
            obj.status.phase = "Released"
        return DONE

    async def _claim(self, obj: Volume) -> Claim | None:
        """The live claim that the volume is bound to."""
        ref = obj.spec.claim_ref
        if ref is None or not ref.uid:
            return None
        try:
            found = await self._client.get(Claim, ref.name, ref.namespace)
        except NotFound:
            return None
        return found if found.metadata.uid == ref.uid else None

    async def _delete(self, obj: Volume) -> None:
        folder = self._folder(obj)
        if folder is None:
            obj.status.phase = "Failed"
            obj.status.message = (
                f"only volumes that {policy.PROVISIONER} made are deleted with their data: delete this one by hand, "
                "or set its reclaim policy to Retain"
            )
            await self._events.warning(obj, "VolumeFailedDelete", obj.status.message)
            return
        try:
            await asyncio.to_thread(_remove_folder, folder)
        except OSError as error:
            obj.status.phase = "Failed"
            obj.status.message = f"{folder} cannot be removed: {error.strerror}"
            await self._events.warning(obj, "VolumeFailedDelete", obj.status.message)
            return
        meta = obj.metadata
        await self._client.delete(Volume, meta.name, uid=meta.uid)

    def _folder(self, obj: Volume) -> Path | None:
        """The directory of a volume that this platform made; None for any other path."""
        source = obj.spec.host_path
        if source is None or obj.metadata.annotations.get(policy.PROVISIONED_BY) != policy.PROVISIONER:
            return None
        path = Path(source.path)
        return path if path.parent == self._settings.volumes and path.name not in {"", ".", ".."} else None

    async def _let_go(self, obj: Volume) -> None:
        meta = obj.metadata
        kept = [name for name in meta.finalizers if name != policy.VOLUME_PROTECTION]
        if len(kept) == len(meta.finalizers):
            return
        patch = {"metadata": {"finalizers": kept or None}}
        await self._client.patch(Volume, meta.name, patch, resource_version=meta.resource_version)


def _make_folder(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(MODE)


def _remove_folder(path: Path) -> None:
    """Also what is left of an earlier attempt; links are removed, not followed."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
