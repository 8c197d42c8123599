"""Limits of a namespace, `v1` (k8s.io/api/core/v1): ResourceQuota and LimitRange."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from headrace.api.meta import KindInfo, Object, Quantity, Struct


class ResourceQuotaSpec(Struct):
    """What all objects of a namespace may take together; scopes stay plain JSON."""

    hard: dict[str, Quantity] = {}
    scopes: list[str] = []
    scope_selector: dict[str, Any] | None = None


class ResourceQuotaStatus(Struct):
    """What they take now."""

    hard: dict[str, Quantity] = {}
    used: dict[str, Quantity] = {}


class ResourceQuota(Object):
    """Limits the objects of a namespace together."""

    INFO: ClassVar[KindInfo] = KindInfo("", "v1", "ResourceQuota", "resourcequotas", short_names=("quota",))
    spec: ResourceQuotaSpec = msgspec.field(default_factory=ResourceQuotaSpec)
    status: ResourceQuotaStatus = msgspec.field(default_factory=ResourceQuotaStatus)


class LimitRangeSpec(Struct):
    """Limits by type; stay plain JSON."""

    limits: list[dict[str, Any]] = []


class LimitRange(Object):
    """Limits and defaults of each object of a namespace."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "", "v1", "LimitRange", "limitranges", short_names=("limits",), subresources=frozenset()
    )
    spec: LimitRangeSpec = msgspec.field(default_factory=LimitRangeSpec)


KINDS: tuple[type[Object], ...] = (ResourceQuota, LimitRange)
