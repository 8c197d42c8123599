"""API services: those that the API server registers itself, and whether each is available.

What this server answers is registered once at the start (a person may delete or take over such an APIService), the
group versions of custom kinds for as long as there are definitions of them (upstream: kube-aggregator's autoregister
and available controllers, crdregistration).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from headrace.api import _wire, conditions
from headrace.api.apiextensions import CustomResourceDefinition
from headrace.api.apiregistration import AVAILABLE, GROUP, MANAGED_LABEL, APIService, APIServiceSpec, name_of
from headrace.api.core import Endpoints, Service
from headrace.api.errors import AlreadyExists, Conflict, NotFound
from headrace.api.meta import ObjectMeta
from headrace.controllermanager import apiservices_policy as policy
from headrace.machinery.controller import DONE, Controller, Result, Watch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace.api.identity import User
    from headrace.client.base import Client
    from headrace.machinery.clock import Clock

ON_START, ALWAYS = "onstart", "true"
METRICS = "metrics.k8s.io"
"""On a cluster metrics-server registers this, so a person may, too: it is created and then left alone."""
LOOK_AGAIN = 30.0
"""Seconds between looks at a server that answers."""
RETRY = 1.0, 30.0
"""Seconds between looks at one that does not: at first, and at most."""


class ExtensionApis(Protocol):
    """The API server's side: what it answers itself, and the way to those that it does not."""

    def local(self) -> Mapping[tuple[str, str], tuple[tuple[int, int], bool]]:
        """By group and version: priorities of group and version, and whether it is of custom kinds."""
        ...

    async def clear(self, namespace: str) -> dict[str, int]:
        """See namespace.Elsewhere."""
        ...

    def versions(self, group: str) -> Sequence[str]:
        """See autoscaler_custom.MetricApis."""
        ...

    async def json(self, user: User, key: tuple[str, str], path: str) -> dict[str, Any]:
        """See autoscaler_custom.MetricApis."""
        ...

    async def check(self, group: str, version: str) -> str:
        """Ask a group version's server what it has: empty when it answers as it must, else why not."""
        ...


class RegistrationController(Controller[CustomResourceDefinition]):
    """Registers what this server answers."""

    name = "apiservice-registration"
    kind = CustomResourceDefinition
    reads = (APIService,)
    workers = 1

    def __init__(self, client: Client, apis: ExtensionApis) -> None:
        self._client, self._apis = client, apis
        self.watches = (Watch(APIService, self._definitions),)

    def _definitions(self, service: APIService) -> Iterable[str]:
        """Definitions behind an APIService that somebody may have changed."""
        if service.spec.service is not None:
            return
        for found in self.cache(CustomResourceDefinition).all():
            if found.spec.group == service.spec.group:
                yield found.key
                return

    async def run(self) -> None:
        """Once: what is not of custom kinds, and an end to what was registered here and is no longer answered."""
        local = self._apis.local()
        wanted = {key: place for key, (place, custom) in local.items() if not custom and key[0] != GROUP}
        await asyncio.gather(*(self._ensure(*key, place, ON_START) for key, place in wanted.items()))
        for service in self.cache(APIService).all():
            managed = service.metadata.labels.get(MANAGED_LABEL) in {ON_START, ALWAYS}
            if managed and service.spec.service is None and (service.spec.group, service.spec.version) not in local:
                await self._remove(service)

    async def reconcile(self, obj: CustomResourceDefinition) -> Result:
        """The group of a definition."""
        await self._sync(obj.spec.group)
        return DONE

    async def gone(self, key: str) -> None:
        """A definition is gone, perhaps the last one of its group."""
        await self._sync(key.partition(".")[2])

    async def _sync(self, group: str) -> None:
        local = self._apis.local()
        for (name, version), (place, custom) in local.items():
            if name == group and custom:
                await self._ensure(group, version, place, ALWAYS)
        for service in self.cache(APIService).all():
            key = (service.spec.group, service.spec.version)
            if key[0] == group and key not in local and service.metadata.labels.get(MANAGED_LABEL) == ALWAYS:
                await self._remove(service)

    async def _remove(self, service: APIService) -> None:
        try:
            await self._client.delete(APIService, service.metadata.name, uid=service.metadata.uid)
        except (NotFound, Conflict):
            return

    async def _ensure(self, group: str, version: str, place: tuple[int, int], manage: str) -> None:
        name = name_of(group, version)
        spec = APIServiceSpec(group=group, version=version, group_priority_minimum=place[0], version_priority=place[1])
        found = self.cache(APIService).get(name)
        if found is None:
            labels = {} if group == METRICS else {MANAGED_LABEL: manage}
            try:
                await self._client.create(APIService(metadata=ObjectMeta(name=name, labels=labels), spec=spec))
            except AlreadyExists:
                return  # it was made meanwhile, by a person: then it is theirs
        elif found.metadata.labels.get(MANAGED_LABEL) == manage and found.spec != spec:
            patch = {"spec": {"groupPriorityMinimum": place[0], "versionPriority": place[1], "service": None}}
            patch["spec"] |= {"caBundle": None, "insecureSkipTLSVerify": None}
            await self._client.patch(APIService, name, patch)


class AvailabilityController(Controller[APIService]):
    """Keeps the condition Available."""

    name = "apiservice-availability"
    kind = APIService

    def __init__(self, client: Client, clock: Clock, apis: ExtensionApis) -> None:
        self._client, self._clock, self._apis = client, clock, apis
        self._failed: dict[str, float] = {}
        self._looked: dict[str, tuple[tuple[str, ...], float, float]] = {}
        """What each was asked about last, when, and the seconds until it is asked again."""
        self.watches = (
            Watch(Service, lambda service: self._behind(service.metadata.namespace, service.metadata.name)),
            Watch(Endpoints, lambda endpoints: self._behind(endpoints.metadata.namespace, endpoints.metadata.name)),
        )

    def _behind(self, namespace: str, name: str) -> Iterable[str]:
        for found in self.cache(APIService).all():
            service = found.spec.service
            if service is not None and (service.namespace, service.name) == (namespace, name):
                yield found.key

    async def gone(self, key: str) -> None:
        """Forget how often it failed."""
        self._failed.pop(key, None)
        self._looked.pop(key, None)

    async def reconcile(self, obj: APIService) -> Result:
        """Look whether it is there."""
        service = obj.spec.service
        if service is None:
            self._say(obj, policy.LOCAL)
            return DONE
        key = f"{service.namespace}/{service.name}"
        behind, endpoints = self.cache(Service).get(key), self.cache(Endpoints).get(key)
        verdict = policy.missing(service, behind, endpoints)
        if verdict is not None:
            self._looked.pop(obj.key, None)
            self._say(obj, verdict)
            return DONE  # a Service or Endpoints that is written wakes it
        versions = [o.metadata.resource_version for o in (behind, endpoints) if o is not None]
        about = (obj.metadata.uid, _wire.encode(obj.spec).decode(), *versions)
        wait = self._wait(obj.key, about)
        if wait > 0:
            return Result(after=wait)
        why = await self._apis.check(obj.spec.group, obj.spec.version)
        delay = self._delay(obj.key, why)
        self._looked[obj.key] = about, self._clock.monotonic(), delay
        failed = policy.Verdict(available=False, reason="FailedDiscoveryCheck", message=why)
        self._say(obj, failed if why else policy.PASSED)
        return Result(after=delay)

    def _wait(self, key: str, about: tuple[str, ...]) -> float:
        """Seconds until it is time: what has been said of it, its own status, wakes it for nothing."""
        known, last, delay = self._looked.get(key, ((), 0.0, 0.0))
        return last + delay - self._clock.monotonic() if known == about else 0.0

    def _delay(self, key: str, why: str) -> float:
        if not why:
            self._failed.pop(key, None)
            return LOOK_AGAIN
        first, most = RETRY
        self._failed[key] = delay = min(self._failed.get(key, first / 2) * 2, most)
        return delay

    def _say(self, obj: APIService, verdict: policy.Verdict) -> None:
        conditions.upsert(
            obj.status.conditions,
            AVAILABLE,
            verdict.available,
            reason=verdict.reason,
            message=verdict.message,
            now=self._clock.now(),
        )
