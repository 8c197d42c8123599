"""Which group versions there are by API services: who answers each, and where it stands in discovery.

Follows the stored APIServices as they are written. What is known of a group version that another server answers is
kept here too (`Offer`), because discovery shows it as this server's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headrace.api import _wire, conditions
from headrace.api.apiregistration import AVAILABLE, GROUP, HTTPS, APIService

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]
GroupVersion = tuple[str, str]

PREFIX = f"/registry/{GROUP}/apiservices/"
CUSTOM = (1000, 100)
"""Where custom kinds stand, as upstream."""
_PRIORITIES: dict[str, int] = {
    GROUP: 20000,
    "": 18000,
    "apps": 17800,
    "events.k8s.io": 17750,
    "authentication.k8s.io": 17700,
    "authorization.k8s.io": 17600,
    "autoscaling": 17500,
    "batch": 17400,
    "networking.k8s.io": 17200,
    "policy": 17100,
    "rbac.authorization.k8s.io": 17000,
    "storage.k8s.io": 16800,
    "apiextensions.k8s.io": 16700,
    "admissionregistration.k8s.io": 16700,
    "scheduling.k8s.io": 16600,
    "coordination.k8s.io": 16500,
    "node.k8s.io": 16300,
    "discovery.k8s.io": 16200,
}
"""The places of the groups that every server has (pkg/controlplane/apiserver/aggregator.go)."""
_VERSIONS = {("", "v1"): 1, ("autoscaling", "v2"): 30}
_USUAL_VERSION = 15
_METRICS = (100, 100)


def priority_of(group: str, version: str, *, custom: bool) -> tuple[int, int]:
    """The groupPriorityMinimum and versionPriority of what this server answers itself."""
    if custom:
        return CUSTOM
    if group not in _PRIORITIES:
        return _METRICS  # as metrics-server registers itself
    return _PRIORITIES[group], _VERSIONS.get((group, version), _USUAL_VERSION)


@dataclass(frozen=True, slots=True)
class Remote:
    """A group version that the server behind a service answers."""

    group: str
    version: str
    namespace: str
    service: str
    port: int
    bundle: str
    """Its authority, base64 of PEM; empty for the machine's own."""
    insecure: bool
    """Whether its certificate is not looked at."""
    available: bool
    why: str
    """Why it is not available."""

    @property
    def path(self) -> str:
        """Where it begins."""
        return f"/apis/{self.group}/{self.version}"

    @property
    def host(self) -> str:
        """The name that its certificate must carry."""
        return f"{self.service}.{self.namespace}.svc"

    @property
    def url(self) -> str:
        """Its server."""
        return f"https://{self.host}:{self.port}"


@dataclass(slots=True)
class Offer:
    """What a remote group version said that it has, when it was asked last."""

    resources: list[Json] = field(default_factory=list)
    """As APIResourceList has them."""
    fresh: bool = False
    """Whether it answered the last time."""
    openapi: str = ""
    """The URL of its OpenAPI v3 document on its server; empty when it has none."""


class ApiServices:
    """See module. Listeners hear of every change, after it."""

    def __init__(self) -> None:
        self.remote: dict[GroupVersion, Remote] = {}
        """What other servers answer; everything else is answered here."""
        self.offers: dict[GroupVersion, Offer] = {}
        self._priorities: dict[GroupVersion, tuple[int, int]] = {}
        self._listeners: list[Callable[[], None]] = []

    def written(self, raw: bytes, *, deleted: bool) -> None:
        """An APIService was created, changed or deleted."""
        found = _wire.decode(APIService, raw)
        spec = found.spec
        key = (spec.group, spec.version)
        before = self.remote.pop(key, None), self._priorities.pop(key, None)
        if not deleted:
            self._priorities[key] = spec.group_priority_minimum, spec.version_priority
            if spec.service is not None:
                self.remote[key] = _remote(found)
        if key not in self.remote:
            self.offers.pop(key, None)
        if before != (self.remote.get(key), self._priorities.get(key)):
            self.changed()

    def learn(self, key: GroupVersion, offer: Offer) -> None:
        """What a group version has, found out anew."""
        if key in self.remote and self.offers.get(key) != offer:
            self.offers[key] = offer
            self.changed()

    def priority(self, group: str, version: str) -> tuple[int, int] | None:
        """As the APIService says; None without one."""
        return self._priorities.get((group, version))

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change."""
        self._listeners.append(listener)

    def changed(self) -> None:
        """Tell the listeners."""
        for listener in self._listeners:
            listener()


def _remote(obj: APIService) -> Remote:
    spec, service = obj.spec, obj.spec.service
    if service is None:
        raise AssertionError
    found = conditions.get(obj.status.conditions, AVAILABLE)
    return Remote(
        spec.group,
        spec.version,
        service.namespace,
        service.name,
        service.port or HTTPS,
        spec.ca_bundle,
        spec.insecure_skip_tls_verify,
        available=found is not None and found.status == "True",
        why="it has not been looked at yet" if found is None else f"{found.reason}: {found.message}",
    )
