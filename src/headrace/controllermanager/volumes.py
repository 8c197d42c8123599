"""Claims and volumes: binding, provisioning of directories, reclaiming (upstream: pkg/controller/volume).

A volume is a directory below the platform's `volumes` folder, named after its claim. Its size is what the claim
asked for; it is not enforced. A claim that names another one as its data source begins as a copy of it.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.api import _wire, core
from headrace.api.errors import AlreadyExists, NotFound, StatusError
from headrace.api.meta import Object, ObjectMeta
from headrace.api.storage import StorageClass
from headrace.controllermanager import pods, volume_copy
from headrace.controllermanager import volume_policy as policy
from headrace.machinery.controller import DONE, Controller, Result, Watch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from headrace.client.base import Client
    from headrace.machinery.events import EventRecorder
    from headrace.machinery.settings import Settings

Claim = core.PersistentVolumeClaim
Volume = core.PersistentVolume
COPY_AGAIN_SECONDS = 30.0
"""When a claim that waits for its copy is looked at again, if nothing brings it here before."""
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
        self._copies = Copies(self._make)
        self.watches = (
            Watch(Claim, self._copies_of),
            Watch(Volume, self._of_volume),
            Watch(StorageClass, self._pending),
            Watch(core.Pod, claims_of),
        )

    def _of_volume(self, volume: Volume) -> Iterable[str]:
        if volume.spec.claim_ref is not None:
            yield f"{volume.spec.claim_ref.namespace}/{volume.spec.claim_ref.name}"
        else:
            yield from self._pending(volume)

    def _copies_of(self, claim: Claim) -> Iterable[str]:
        """Claims that wait to become a copy of this one."""
        for other in self.cache(Claim).all(claim.metadata.namespace):
            source = policy.source_of(other)
            if source is not None and source.name == claim.metadata.name and other.status.phase in {"", "Pending"}:
                yield other.key

    def _pending(self, _obj: Object) -> Iterable[str]:
        return [c.key for c in self.cache(Claim).all() if c.status.phase in {"", "Pending"}]

    async def reconcile(self, obj: Claim) -> Result:
        """Bind, or say why not."""
        if obj.metadata.deletion_timestamp is not None:
            await self._copies.forget(obj.metadata.uid)
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
        elif policy.source_of(obj) is not None:
            return Result(after=COPY_AGAIN_SECONDS)
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
        if policy.source_of(obj) is not None:
            await self._copy(obj, found)
            return None
        await asyncio.to_thread(_make_folder, self._settings.volumes / policy.folder_name(obj))
        return await self._make(obj, found)

    async def _copy(self, obj: Claim, found: StorageClass) -> None:
        """Copy the claim's source beside other work; the volume that comes of it brings the claim here again."""
        source, namespace = policy.source_of(obj), obj.metadata.namespace
        if source is None or self._copies.goes_on(obj.metadata.uid):
            return
        try:
            claim = await self._client.get(Claim, source.name, namespace)
        except NotFound:
            refusal, volume = f"the claim {source.name!r}, which is to be copied, is not found", None
        else:
            try:
                volume = await self._client.get(Volume, claim.spec.volume_name) if claim.spec.volume_name else None
            except NotFound:
                volume = None
            refusal = policy.not_to_be_copied(obj, claim, volume)
        folder = None if volume is None else provisioned_folder(self._settings, volume)
        failure = self._copies.failure(obj.metadata.uid)
        if failure:
            await self._events.warning(
                obj, "ProvisioningFailed", f"the claim {source.name!r} was not copied: {failure}"
            )
        if refusal or folder is None:
            await self._events.warning(obj, "ProvisioningFailed", refusal or "its volume is not the platform's own")
            return
        await self._events.normal(obj, "Provisioning", f'copying the claim "{source.name}"')
        self._copies.begin(obj, found, folder, self._settings.volumes / policy.folder_name(obj))

    def _used(self, obj: Claim) -> bool:
        return any(obj.key in claims_of(pod) for pod in self.cache(core.Pod).all(obj.metadata.namespace))

    async def _make(self, obj: Claim, found: StorageClass) -> Volume:
        """The volume of a folder that is there."""
        meta = obj.metadata
        path = self._settings.volumes / policy.folder_name(obj)
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
        folder = provisioned_folder(self._settings, obj)
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

    async def _let_go(self, obj: Volume) -> None:
        meta = obj.metadata
        kept = [name for name in meta.finalizers if name != policy.VOLUME_PROTECTION]
        if len(kept) == len(meta.finalizers):
            return
        patch = {"metadata": {"finalizers": kept or None}}
        await self._client.patch(Volume, meta.name, patch, resource_version=meta.resource_version)


class Copies:
    """Copies that are being made, by the uid of their claim. `finish` makes the volume of a folder that is complete."""

    def __init__(self, finish: Callable[[Claim, StorageClass], Awaitable[object]]) -> None:
        self._finish = finish
        self._going_on: dict[str, tuple[asyncio.Task[None], threading.Event]] = {}
        self._failures: dict[str, str] = {}

    def goes_on(self, uid: str) -> bool:
        """Whether a copy for this claim is being made."""
        return uid in self._going_on

    def failure(self, uid: str) -> str:
        """Why the last attempt failed, told once."""
        return self._failures.pop(uid, "")

    def begin(self, claim: Claim, found: StorageClass, source: Path, target: Path) -> None:
        """Copy beside other work."""
        uid, stop = claim.metadata.uid, threading.Event()
        task = asyncio.create_task(self._run(claim, found, source, target, stop), name=f"copy for {claim.key}")
        self._going_on[uid] = task, stop

    async def forget(self, uid: str) -> None:
        """Nobody wants it any more; returns when nothing of it is left to happen."""
        task, stop = self._going_on.get(uid, (None, None))
        if task is not None and stop is not None:
            stop.set()
            await asyncio.wait([task])
        self._failures.pop(uid, None)

    async def _run(self, claim: Claim, found: StorageClass, source: Path, target: Path, stop: threading.Event) -> None:
        uid = claim.metadata.uid
        try:
            await asyncio.to_thread(volume_copy.copy, source, target, stop)
            await self._finish(claim, found)
        except volume_copy.Stopped:
            return
        except (OSError, StatusError, RecursionError) as error:
            self._failures[uid] = str(error)
        finally:
            stop.set()  # the platform ends: its thread is not waited for
            del self._going_on[uid]


def provisioned_folder(settings: Settings, volume: Volume) -> Path | None:
    """The directory of a volume that this platform made; None for any other path."""
    source = volume.spec.host_path
    if source is None or volume.metadata.annotations.get(policy.PROVISIONED_BY) != policy.PROVISIONER:
        return None
    path = Path(source.path)
    return path if path.parent == settings.volumes and path.name not in {"", ".", ".."} else None


def _make_folder(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(MODE)


def _remove_folder(path: Path) -> None:
    """Also what is left of an earlier attempt; links are removed, not followed."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
