"""Endpoints of services that select pods (upstream: pkg/controller/endpoint); `endpointslices` says the same anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api import _wire, core
from headrace.api.errors import AlreadyExists, Forbidden, NotFound
from headrace.api.meta import ObjectMeta
from headrace.controllermanager import endpoints_policy as policy
from headrace.machinery.controller import DONE, Controller, Result, Watch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.client.base import Client


class EndpointsController(Controller[core.Service]):
    """See module."""

    name = "endpoints"
    kind = core.Service

    def __init__(self, client: Client) -> None:
        self._client = client
        self.watches = (Watch(core.Pod, self._services), Watch(core.Endpoints, lambda endpoints: (endpoints.key,)))

    def _services(self, pod: core.Pod) -> Iterable[str]:
        for service in self.cache(core.Service).all(pod.metadata.namespace):
            if policy.selects(service, pod):
                yield service.key

    async def reconcile(self, obj: core.Service) -> Result:
        """Write what is behind the service, when that has changed."""
        if not policy.managed(obj) or obj.metadata.deletion_timestamp is not None:
            return DONE
        meta = obj.metadata
        found = [pod for pod in self.cache(core.Pod).all(meta.namespace) if policy.selects(obj, pod)]
        subsets, labels = policy.subsets(obj, found), policy.labels(obj)
        current = self.cache(core.Endpoints).get(obj.key)
        if current is not None and current.subsets == subsets and current.metadata.labels == labels:
            return DONE
        if current is None:
            wanted = core.Endpoints(
                metadata=ObjectMeta(name=meta.name, namespace=meta.namespace, labels=labels), subsets=subsets
            )
            try:
                await self._client.create(wanted)
            except AlreadyExists:
                await self._write(obj, subsets, labels, {})
            except Forbidden as error:
                if not any(cause.reason == "NamespaceTerminating" for cause in error.causes):
                    raise
            return DONE
        await self._write(obj, subsets, labels, current.metadata.labels)
        return DONE

    async def _write(
        self, obj: core.Service, subsets: list[core.EndpointSubset], labels: dict[str, str], before: dict[str, str]
    ) -> None:
        gone = dict.fromkeys(before.keys() - labels.keys())
        patch = {"metadata": {"labels": {**labels, **gone}}, "subsets": _wire.to_builtins(subsets) or None}
        await self._client.patch(core.Endpoints, obj.metadata.name, patch, obj.metadata.namespace)

    async def gone(self, key: str) -> None:
        """Endpoints go with their service."""
        namespace, _, name = key.partition("/")
        if self.cache(core.Endpoints).get(key) is None:
            return
        try:
            await self._client.delete(core.Endpoints, name, namespace)
        except NotFound:
            return
