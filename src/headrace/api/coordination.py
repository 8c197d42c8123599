"""Leases, `coordination.k8s.io/v1`: node heartbeats and leader election."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from headrace.api.meta import KindInfo, Object, Struct, Time


class LeaseSpec(Struct):
    """Who holds it, and until when."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: Time | None = None
    renew_time: Time | None = None
    lease_transitions: int | None = None


class Lease(Object):
    """A claim that expires."""

    INFO: ClassVar[KindInfo] = KindInfo("coordination.k8s.io", "v1", "Lease", "leases", subresources=frozenset())
    spec: LeaseSpec = msgspec.field(default_factory=LeaseSpec)


KINDS: tuple[type[Object], ...] = (Lease,)
