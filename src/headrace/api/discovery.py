"""The discovery group, `discovery.k8s.io/v1`: what is behind a service, in slices."""

from __future__ import annotations

from typing import Any, ClassVar

from headrace.api.meta import KindInfo, Object

SERVICE_LABEL = "kubernetes.io/service-name"
"""Names the service that a slice belongs to."""
MANAGER_LABEL = "endpointslice.kubernetes.io/managed-by"
FROM_PODS = "endpointslice-controller.k8s.io"
MIRRORED = "endpointslicemirroring-controller.k8s.io"
OWN_MANAGERS = frozenset({FROM_PODS, MIRRORED})
"""Who manages the slices that say the same as an Endpoints object."""


class EndpointSlice(Object):
    """Some of the endpoints of a service; these stay plain JSON, because `ready: false` is not the same as nothing."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", subresources=frozenset()
    )
    address_type: str = ""
    endpoints: list[dict[str, Any]] = []
    ports: list[dict[str, Any]] = []

    @property
    def service(self) -> str:
        """The key of the service that it belongs to; empty without one."""
        name = self.metadata.labels.get(SERVICE_LABEL, "")
        return f"{self.metadata.namespace}/{name}" if name else ""


KINDS: tuple[type[Object], ...] = (EndpointSlice,)
