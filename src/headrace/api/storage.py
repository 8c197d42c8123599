"""The storage group, `storage.k8s.io/v1`."""

from __future__ import annotations

from typing import ClassVar

from headrace.api.meta import KindInfo, Object


class StorageClass(Object):
    """A kind of storage; annotation `storageclass.kubernetes.io/is-default-class` marks the default."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "storage.k8s.io",
        "v1",
        "StorageClass",
        "storageclasses",
        namespaced=False,
        short_names=("sc",),
        subresources=frozenset(),
    )
    provisioner: str = ""
    parameters: dict[str, str] = {}
    reclaim_policy: str = "Delete"
    volume_binding_mode: str = "Immediate"
    allow_volume_expansion: bool | None = None


KINDS: tuple[type[Object], ...] = (StorageClass,)
