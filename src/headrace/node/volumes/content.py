"""What is in the files of ConfigMap, Secret, projected and downward API volumes. Pure but for lookups."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from headrace.node import downward
from headrace.node.volumes import VolumeError
from headrace.node.volumes.files import File, escapes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.api.core import (
        Container,
        DownwardAPIVolumeFile,
        KeyToPath,
        Pod,
        ServiceAccountTokenProjection,
        Volume,
        VolumeProjection,
    )
    from headrace.api.meta import Quantity
    from headrace.node.lookup import Lookup

DEFAULT_MODE = 0o644
Files = dict[str, File]


class Tokens(Protocol):
    """Where a pod's service-account tokens come from."""

    async def token(self, projection: ServiceAccountTokenProjection) -> str:
        """A token that is good for a while; the holder renews it."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """Everything that files can be made from."""

    pod: Pod
    lookup: Lookup
    tokens: Tokens
    pod_ip: str
    host_ip: str
    node_name: str
    allocatable: Mapping[str, Quantity]


async def files(volume: Volume, source: Source) -> Files | None:
    """The files of a volume; None when it is not made of files. Raises VolumeError."""
    if volume.config_map is not None:
        found = volume.config_map
        mode = _mode(found.default_mode)
        return _config_map(found.name, found.items, mode, source, optional=bool(found.optional))
    if volume.secret is not None:
        held = volume.secret
        mode = _mode(held.default_mode)
        return _secret(held.secret_name, held.items, mode, source, optional=bool(held.optional))
    if volume.downward_api is not None:
        return _downward(volume.downward_api.items, _mode(volume.downward_api.default_mode), source)
    if volume.projected is not None:
        mode = _mode(volume.projected.default_mode)
        result: Files = {}
        for projection in volume.projected.sources:
            result |= await _projection(projection, mode, source)
        return result
    return None


async def _projection(projection: VolumeProjection, mode: int, source: Source) -> Files:
    if projection.config_map is not None:
        found = projection.config_map
        return _config_map(found.name, found.items, mode, source, optional=bool(found.optional))
    if projection.secret is not None:
        held = projection.secret
        return _secret(held.name, held.items, mode, source, optional=bool(held.optional))
    if projection.downward_api is not None:
        return _downward(projection.downward_api.items, mode, source)
    if projection.service_account_token is not None:
        wanted = projection.service_account_token
        return _checked({wanted.path: File((await source.tokens.token(wanted)).encode(), mode)})
    raise VolumeError(
        "a source of the projected volume is not supported: use secret, configMap, downwardAPI or serviceAccountToken"
    )


def _config_map(name: str, items: Sequence[KeyToPath], mode: int, source: Source, *, optional: bool) -> Files:
    found = source.lookup.config_map(source.pod.metadata.namespace, name)
    if found is None:
        if optional:
            return {}
        raise VolumeError(f'configmap "{name}" not found')
    data = {key: value.encode() for key, value in found.data.items()}
    data |= {key: _decoded(value, key, "ConfigMap", name) for key, value in found.binary_data.items()}
    return _chosen(data, items, mode, optional=optional)


def _secret(name: str, items: Sequence[KeyToPath], mode: int, source: Source, *, optional: bool) -> Files:
    found = source.lookup.secret(source.pod.metadata.namespace, name)
    if found is None:
        if optional:
            return {}
        raise VolumeError(f'secret "{name}" not found')
    data = {key: _decoded(value, key, "Secret", name) for key, value in found.data.items()}
    return _chosen(data, items, mode, optional=optional)


def _chosen(data: Mapping[str, bytes], items: Sequence[KeyToPath], mode: int, *, optional: bool) -> Files:
    if not items:
        return _checked({key: File(value, mode) for key, value in data.items()})
    result: Files = {}
    for item in items:
        if item.key in data:
            result[item.path] = File(data[item.key], mode if item.mode is None else item.mode)
        elif not optional:
            raise VolumeError(f"references non-existent config key: {item.key}")
    return _checked(result)


def _downward(items: Sequence[DownwardAPIVolumeFile], mode: int, source: Source) -> Files:
    result: Files = {}
    for item in items:
        try:
            if item.field_ref is not None:
                text = downward.field(
                    source.pod,
                    item.field_ref.field_path,
                    pod_ip=source.pod_ip,
                    host_ip=source.host_ip,
                    node_name=source.node_name,
                )
            elif item.resource_field_ref is not None:
                container = _container(source.pod, item.resource_field_ref.container_name)
                text = downward.resource(item.resource_field_ref, container, source.allocatable)
            else:
                raise VolumeError(f"file {item.path} of the downward API volume names no field")
        except downward.UnsupportedField as error:
            raise VolumeError(str(error)) from error
        result[item.path] = File(text.encode(), mode)
    return _checked(result)


def _container(pod: Pod, name: str) -> Container:
    for container in (*pod.spec.containers, *pod.spec.init_containers):
        if container.name == name:
            return container
    raise VolumeError(f'container "{name}" of the downward API volume is not in the pod')


def _decoded(value: str, key: str, kind: str, name: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise VolumeError(f"key {key} of {kind} {name} is not base64") from error


def _checked(result: Files) -> Files:
    for path in result:
        if escapes(path):
            raise VolumeError(f"path {path!r} must be relative and stay inside the volume")
    return result


def _mode(given: int | None) -> int:
    return DEFAULT_MODE if given is None else given
