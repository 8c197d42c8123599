"""The networking group, `networking.k8s.io/v1`: kept and checked, acted on by nobody here."""

from __future__ import annotations

from typing import Any, ClassVar

from headrace.api.meta import KindInfo, Object

GROUP = "networking.k8s.io"


class Ingress(Object):
    """Which hosts and paths lead to which services."""

    INFO: ClassVar[KindInfo] = KindInfo(GROUP, "v1", "Ingress", "ingresses", short_names=("ing",))
    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}


class IngressClass(Object):
    """Who takes care of an Ingress; annotation `ingressclass.kubernetes.io/is-default-class` marks the default."""

    INFO: ClassVar[KindInfo] = KindInfo(
        GROUP, "v1", "IngressClass", "ingressclasses", namespaced=False, subresources=frozenset()
    )
    spec: dict[str, Any] = {}


class NetworkPolicy(Object):
    """Which pods may talk to which."""

    INFO: ClassVar[KindInfo] = KindInfo(
        GROUP, "v1", "NetworkPolicy", "networkpolicies", short_names=("netpol",), subresources=frozenset()
    )
    spec: dict[str, Any] = {}


KINDS: tuple[type[Object], ...] = (Ingress, IngressClass, NetworkPolicy)
