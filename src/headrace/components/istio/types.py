"""Istio's kinds that Kubeflow's manifests carry. Specs are kept whole, as they were written: most of them mean nothing
on one machine, and what is not honoured is said in the status, never dropped.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from headrace.api.meta import Condition, KindInfo, Object, Struct

NETWORKING, SECURITY = "networking.istio.io", "security.istio.io"


class Status(Struct):
    """What is honoured."""

    PRESERVE_UNKNOWN: ClassVar[bool] = True

    conditions: list[Condition] = []


class _Kind(Object):
    """Spec as it was written, status with conditions."""

    spec: dict[str, Any] = {}
    status: Status = msgspec.field(default_factory=Status)


class VirtualService(_Kind):
    """Routes by host and path."""

    INFO = KindInfo(NETWORKING, "v1", "VirtualService", "virtualservices", short_names=("vs",))
    ALSO_SERVED: ClassVar[tuple[str, ...]] = ("v1beta1", "v1alpha3")


class Gateway(_Kind):
    """Where upstream's ingress listens."""

    INFO = KindInfo(NETWORKING, "v1", "Gateway", "gateways", short_names=("gw",))
    ALSO_SERVED: ClassVar[tuple[str, ...]] = ("v1beta1", "v1alpha3")


class DestinationRule(_Kind):
    """How connections to a Service are made."""

    INFO = KindInfo(NETWORKING, "v1", "DestinationRule", "destinationrules", short_names=("dr",))
    ALSO_SERVED: ClassVar[tuple[str, ...]] = ("v1beta1", "v1alpha3")


class ServiceEntry(_Kind):
    """Hosts outside of the mesh."""

    INFO = KindInfo(NETWORKING, "v1", "ServiceEntry", "serviceentries", short_names=("se",))
    ALSO_SERVED: ClassVar[tuple[str, ...]] = ("v1beta1", "v1alpha3")


class Sidecar(_Kind):
    """What sidecars see."""

    INFO = KindInfo(NETWORKING, "v1", "Sidecar", "sidecars")
    ALSO_SERVED: ClassVar[tuple[str, ...]] = ("v1beta1", "v1alpha3")


class EnvoyFilter(_Kind):
    """Patches of Envoy's configuration."""

    INFO = KindInfo(NETWORKING, "v1alpha3", "EnvoyFilter", "envoyfilters")


class AuthorizationPolicy(_Kind):
    """Who may reach pods."""

    INFO = KindInfo(SECURITY, "v1", "AuthorizationPolicy", "authorizationpolicies", short_names=("ap",))
    ALSO_SERVED: ClassVar[tuple[str, ...]] = ("v1beta1",)


class PeerAuthentication(_Kind):
    """Whether pods speak TLS with each other."""

    INFO = KindInfo(SECURITY, "v1", "PeerAuthentication", "peerauthentications", short_names=("pa",))
    ALSO_SERVED: ClassVar[tuple[str, ...]] = ("v1beta1",)


class RequestAuthentication(_Kind):
    """Which tokens are taken."""

    INFO = KindInfo(SECURITY, "v1", "RequestAuthentication", "requestauthentications", short_names=("ra",))
    ALSO_SERVED: ClassVar[tuple[str, ...]] = ("v1beta1",)


ACCEPTED = (Gateway, DestinationRule, Sidecar, EnvoyFilter, PeerAuthentication, RequestAuthentication)
"""Kept, and not honoured."""
KINDS = (VirtualService, AuthorizationPolicy, ServiceEntry, *ACCEPTED)
