"""API services, `apiregistration.k8s.io/v1`: which group versions there are, and who answers each."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from headrace.api.meta import Condition, KindInfo, Object, Struct

GROUP = "apiregistration.k8s.io"
AVAILABLE = "Available"
MANAGED_LABEL = "kube-aggregator.kubernetes.io/automanaged"
"""Marks what the API server itself registers: `onstart` for its own group versions, `true` for custom kinds."""
HTTPS = 443


class ServiceReference(Struct):
    """The service of an extension API server."""

    namespace: str = ""
    name: str = ""
    port: int = HTTPS


class APIServiceSpec(Struct):
    """A group version, its place in discovery, and its server; without a service it is this one."""

    group_priority_minimum: int = 0
    version_priority: int = 0
    group: str = ""
    version: str = ""
    service: ServiceReference | None = None
    ca_bundle: str = ""
    insecure_skip_tls_verify: bool = msgspec.field(name="insecureSkipTLSVerify", default=False)


class APIServiceStatus(Struct):
    """The condition Available."""

    conditions: list[Condition] = []


class APIService(Object):
    """One group version; its name is `version.group`."""

    INFO: ClassVar[KindInfo] = KindInfo(
        GROUP,
        "v1",
        "APIService",
        "apiservices",
        namespaced=False,
        categories=("api-extensions",),
        subresources=frozenset({"status"}),
    )
    spec: APIServiceSpec = msgspec.field(default_factory=APIServiceSpec)
    status: APIServiceStatus = msgspec.field(default_factory=APIServiceStatus)


def name_of(group: str, version: str) -> str:
    """The name of a group version's API service; the core group has an empty one."""
    return f"{version}.{group}"


KINDS: tuple[type[Object], ...] = (APIService,)
