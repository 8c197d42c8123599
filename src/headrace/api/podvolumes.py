"""The volumes of pods (k8s.io/api/core/v1): where the files come from that containers mount.

The fields that the platform's own code reads or writes; unknown fields survive in the store. `api.core` offers
these names too, as upstream has them in one package.
"""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.api.meta import ObjectMeta, Quantity, Struct


class ObjectFieldSelector(Struct):
    """A field of the pod, such as `metadata.name` or `status.podIP`."""

    field_path: str
    api_version: str = ""


class ResourceFieldSelector(Struct):
    """A resource of a container, such as `limits.cpu`."""

    resource: str
    container_name: str = ""
    divisor: Quantity = "0"


class KeyToPath(Struct):
    """A key of a ConfigMap or Secret at a relative path."""

    key: str
    path: str
    mode: int | None = None


class ConfigMapVolumeSource(Struct):
    """A ConfigMap's keys as files."""

    name: str = ""
    items: list[KeyToPath] = []
    default_mode: int | None = None
    optional: bool | None = None


class SecretVolumeSource(Struct):
    """A Secret's keys as files."""

    secret_name: str = ""
    items: list[KeyToPath] = []
    default_mode: int | None = None
    optional: bool | None = None


class EmptyDirVolumeSource(Struct):
    """A directory that lives as long as the pod."""

    medium: str = ""
    size_limit: Quantity | None = None


class HostPathVolumeSource(Struct):
    """A directory of the machine."""

    path: str
    type: str = ""


class PersistentVolumeClaimVolumeSource(Struct):
    """A claim of the same namespace."""

    claim_name: str
    read_only: bool = False


class ServiceAccountTokenProjection(Struct):
    """A token for an audience, renewed by the agent."""

    path: str
    audience: str = ""
    expiration_seconds: int = 3600


class DownwardAPIVolumeFile(Struct):
    """A field of the pod as a file."""

    path: str
    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None


class DownwardAPIProjection(Struct):
    """Fields of the pod as files."""

    items: list[DownwardAPIVolumeFile] = []


class SecretProjection(Struct):
    """A Secret inside a projected volume."""

    name: str = ""
    items: list[KeyToPath] = []
    optional: bool | None = None


class VolumeProjection(Struct):
    """One source of a projected volume."""

    secret: SecretProjection | None = None
    config_map: SecretProjection | None = None
    downward_api: DownwardAPIProjection | None = msgspec.field(name="downwardAPI", default=None)
    service_account_token: ServiceAccountTokenProjection | None = None


class ProjectedVolumeSource(Struct):
    """Several sources in one directory."""

    sources: list[VolumeProjection] = []
    default_mode: int | None = None


class DownwardAPIVolumeSource(Struct):
    """Fields of the pod as files."""

    items: list[DownwardAPIVolumeFile] = []
    default_mode: int | None = None


class EphemeralClaimTemplate(Struct):
    """The claim that a generic ephemeral volume creates."""

    spec: dict[str, Any]
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)


class EphemeralVolumeSource(Struct):
    """A claim that lives as long as the pod."""

    volume_claim_template: EphemeralClaimTemplate | None = None


class ImageVolumeSource(Struct):
    """The files of an image."""

    reference: str = ""
    pull_policy: str = ""


class Volume(Struct):
    """A volume of a pod; exactly one source is set."""

    name: str
    empty_dir: EmptyDirVolumeSource | None = None
    host_path: HostPathVolumeSource | None = None
    config_map: ConfigMapVolumeSource | None = None
    secret: SecretVolumeSource | None = None
    persistent_volume_claim: PersistentVolumeClaimVolumeSource | None = None
    projected: ProjectedVolumeSource | None = None
    downward_api: DownwardAPIVolumeSource | None = msgspec.field(name="downwardAPI", default=None)
    ephemeral: EphemeralVolumeSource | None = None
    image: ImageVolumeSource | None = None
