"""What the node reads of other objects, always from caches: nothing here waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from headrace.api.core import ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret


class Lookup(Protocol):
    """Objects by name; None when they are not there."""

    def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        """A ConfigMap."""
        ...

    def secret(self, namespace: str, name: str) -> Secret | None:
        """A Secret."""
        ...

    def claim(self, namespace: str, name: str) -> PersistentVolumeClaim | None:
        """A PersistentVolumeClaim."""
        ...

    def volume(self, name: str) -> PersistentVolume | None:
        """A PersistentVolume."""
        ...
