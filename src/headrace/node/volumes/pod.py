"""The volumes of one pod: set up before its containers start, kept up to date, removed after they have ended."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.api.quantity import parse
from headrace.node.folders import SHARED_MEMORY
from headrace.node.runtime.base import Mount
from headrace.node.volumes import VolumeError, content, directories, files, ownership

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from headrace.api.core import (
        Container,
        EmptyDirVolumeSource,
        Pod,
        Volume,
        VolumeMount,
    )
    from headrace.node.folders import PodFolders
    from headrace.node.lookup import Lookup
    from headrace.node.volumes.tokens import PodTokens

SUPPORTED = "emptyDir, hostPath, configMap, secret, projected, downwardAPI, persistentVolumeClaim, ephemeral"


@dataclass(frozen=True, slots=True)
class Ready:
    """A volume that containers can mount."""

    path: Path | None
    """None: each container gets a tmpfs of its own."""
    read_only: bool = False
    size_bytes: int | None = None


class MountFailed(Exception):
    """One volume of the pod could not be set up; the text is that of the FailedMount event."""


class PodVolumes:
    """What `spec.volumes` of one pod means."""

    def __init__(self, uid: str, folders: PodFolders, lookup: Lookup, tokens: PodTokens) -> None:
        self._folders, self._lookup, self.tokens = folders, lookup, tokens
        self._disk, self._memory = folders.disk(uid) / "volumes", folders.small(uid) / "volumes"
        self._ready: dict[str, Ready] = {}
        self._made_of_files: list[Volume] = []
        self._written: dict[str, content.Files] = {}

    async def set_up(self, source: content.Source) -> None:
        """Make every volume of the pod ready. Raises MountFailed for the first that is not."""
        for volume in source.pod.spec.volumes:
            if volume.name in self._ready:
                continue
            try:
                self._ready[volume.name] = await self._one(volume, source)
            except VolumeError as error:
                raise MountFailed(f'MountVolume.SetUp failed for volume "{volume.name}" : {error}') from error
            except OSError as error:
                reason = error.strerror or str(error)
                raise MountFailed(f'MountVolume.SetUp failed for volume "{volume.name}" : {reason}') from error

    async def refresh(self, source: content.Source) -> None:
        """Bring files up to date with their objects; what is gone or broken meanwhile leaves the files as they are."""
        for volume in self._made_of_files:
            try:
                found = await content.files(volume, source)
            except VolumeError:
                continue
            if found is not None and found != self._written.get(volume.name):
                files.write(self._memory / volume.name, found, _group(source.pod))
                self._written[volume.name] = found

    def mounts(self, container: Container, sub_paths: Mapping[str, str]) -> tuple[Mount, ...]:
        """The mounts of a container; `sub_paths` holds expanded subPathExpr by mount path. Raises VolumeError."""
        return tuple(self._mount(m, sub_paths.get(m.mount_path, m.sub_path)) for m in container.volume_mounts)

    def _mount(self, mount: VolumeMount, sub_path: str) -> Mount:
        ready = self._ready.get(mount.name)
        if ready is None:
            raise VolumeError(f'volume "{mount.name}" of mount {mount.mount_path} is not in the pod')
        read_only = mount.read_only or ready.read_only
        if ready.path is None:
            if sub_path:
                raise VolumeError(f'subPath is not supported on volume "{mount.name}", which is held in memory')
            return Mount(mount.mount_path, None, "tmpfs", read_only=read_only, size_bytes=ready.size_bytes)
        path = ready.path
        if sub_path:
            path = directories.inside(path, sub_path, read_only=read_only)
        return Mount(mount.mount_path, path, read_only=read_only)

    async def _one(self, volume: Volume, source: content.Source) -> Ready:
        found = await content.files(volume, source)
        if found is not None:
            folder = self._memory / volume.name
            files.write(folder, found, _group(source.pod))
            self._made_of_files.append(volume)
            self._written[volume.name] = found
            return Ready(folder, read_only=True)
        if volume.empty_dir is not None:
            return await _given(self._empty_dir(volume.name, volume.empty_dir, source.pod), source.pod)
        if volume.host_path is not None:
            return Ready(directories.host_path(volume.host_path, keep_out=self._folders.home))
        if volume.persistent_volume_claim is not None:
            claim = volume.persistent_volume_claim
            return await self._owned(self._claim(source.pod, claim.claim_name, read_only=claim.read_only), source.pod)
        if volume.ephemeral is not None:
            name = ephemeral_claim(source.pod, volume)
            return await self._owned(self._claim(source.pod, name, read_only=False), source.pod)
        if volume.image is not None:
            raise VolumeError("volumes of images are not supported: copy what is needed in an init container")
        raise VolumeError(f"its source is not supported on this node: use one of {SUPPORTED}")

    async def _owned(self, ready: Ready, pod: Pod) -> Ready:
        """A claim's directory, given to the pod's group when it is one of the platform's own."""
        path = ready.path
        if ready.read_only or path is None or not path.resolve().is_relative_to(self._folders.volumes.resolve()):
            return ready
        return await _given(ready, pod)

    def _empty_dir(self, name: str, empty: EmptyDirVolumeSource, pod: Pod) -> Ready:
        if empty.medium != "Memory":
            return Ready(directories.make_empty(self._disk / name))
        limit = int(parse(empty.size_limit)) if empty.size_limit is not None else None
        if self._memory != self._disk and self._folders.free_memory() >= (limit or 0):
            return Ready(directories.make_empty(self._memory / name))
        users = [
            c for c in (*pod.spec.containers, *pod.spec.init_containers) for m in c.volume_mounts if m.name == name
        ]
        if len(users) == 1:
            return Ready(None, size_bytes=limit)
        raise VolumeError(
            f"{SHARED_MEMORY} of this machine has less than the sizeLimit of a volume in memory that "
            "several containers share: enlarge it, or lower the limit"
        )

    def _claim(self, pod: Pod, name: str, *, read_only: bool) -> Ready:
        claim = self._lookup.claim(pod.metadata.namespace, name)
        if claim is None:
            raise VolumeError(f'persistentvolumeclaim "{name}" not found')
        volume = self._lookup.volume(claim.spec.volume_name) if claim.spec.volume_name else None
        if volume is None or claim.status.phase != "Bound":
            raise VolumeError(f'PersistentVolumeClaim "{name}" is not bound')
        if volume.spec.host_path is None:
            raise VolumeError(
                f'PersistentVolume "{volume.metadata.name}" is not a directory of this machine (hostPath)'
            )
        path = directories.host_path(volume.spec.host_path)
        return Ready(path, read_only=read_only)


async def _given(ready: Ready, pod: Pod) -> Ready:
    group, shared = _group(pod), pod.spec.security_context
    if group is not None and shared is not None and ready.path is not None:
        await asyncio.to_thread(ownership.give, ready.path, group, shared.fs_group_change_policy)
    return ready


def _group(pod: Pod) -> int | None:
    """The group that shares the pod's files; only root can give files away, and only then users differ."""
    shared = pod.spec.security_context
    return shared.fs_group if shared is not None and os.geteuid() == 0 else None


def ephemeral_claim(pod: Pod, volume: Volume) -> str:
    """The name of the claim of a generic ephemeral volume."""
    return f"{pod.metadata.name}-{volume.name}"


def claims(pod: Pod) -> list[str]:
    """The names of all claims that the pod mounts."""
    result = []
    for volume in pod.spec.volumes:
        if volume.persistent_volume_claim is not None:
            result.append(volume.persistent_volume_claim.claim_name)
        elif volume.ephemeral is not None:
            result.append(ephemeral_claim(pod, volume))
    return result


def references(pod: Pod) -> set[tuple[str, str]]:
    """(kind, name) of every ConfigMap, Secret and claim that the pod uses anywhere."""
    found: set[tuple[str, str]] = {("PersistentVolumeClaim", name) for name in claims(pod)}
    for volume in pod.spec.volumes:
        if volume.config_map is not None:
            found.add(("ConfigMap", volume.config_map.name))
        if volume.secret is not None:
            found.add(("Secret", volume.secret.secret_name))
        for source in volume.projected.sources if volume.projected is not None else ():
            if source.config_map is not None:
                found.add(("ConfigMap", source.config_map.name))
            if source.secret is not None:
                found.add(("Secret", source.secret.name))
    for container in (*pod.spec.containers, *pod.spec.init_containers, *pod.spec.ephemeral_containers):
        for env_from in container.env_from:
            if env_from.config_map_ref is not None:
                found.add(("ConfigMap", env_from.config_map_ref.name))
            if env_from.secret_ref is not None:
                found.add(("Secret", env_from.secret_ref.name))
        for variable in container.env:
            value = variable.value_from
            if value is not None and value.config_map_key_ref is not None:
                found.add(("ConfigMap", value.config_map_key_ref.name))
            if value is not None and value.secret_key_ref is not None:
                found.add(("Secret", value.secret_key_ref.name))
    return found
