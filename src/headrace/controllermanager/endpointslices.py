"""EndpointSlices of services: from the pods that they select, or from Endpoints that somebody writes (upstream:
pkg/controller/endpointslice, pkg/controller/endpointslicemirroring).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api import _wire, core
from headrace.api.discovery import MANAGER_LABEL, OWN_MANAGERS, EndpointSlice
from headrace.api.errors import AlreadyExists, Forbidden, NotFound
from headrace.controllermanager import endpoints_policy
from headrace.controllermanager import endpointslices_policy as policy
from headrace.machinery.controller import DONE, Controller, Result, Watch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.api.meta import Object
    from headrace.client.base import Client


class EndpointSliceController(Controller[core.Service]):
    """See module. Slices of others, by their label managed-by, are left alone."""

    name = "endpointslice"
    kind = core.Service

    def __init__(self, client: Client) -> None:
        self._client = client
        self.watches = (
            Watch(core.Pod, self._services),
            Watch(core.Endpoints, lambda endpoints: (endpoints.key,)),
            Watch(EndpointSlice, lambda one: (one.service,) if one.service else ()),
        )

    def _services(self, pod: core.Pod) -> Iterable[str]:
        for service in self.cache(core.Service).all(pod.metadata.namespace):
            if endpoints_policy.selects(service, pod):
                yield service.key

    def _current(self, *owners: Object | None) -> list[EndpointSlice]:
        """The slices that these own and this controller made."""
        found = [one for owner in owners if owner for one in self.cache(EndpointSlice).owned_by(owner.metadata.uid)]
        return [one for one in found if one.metadata.labels.get(MANAGER_LABEL) in OWN_MANAGERS]

    async def reconcile(self, obj: core.Service) -> Result:
        """Write the slices that differ, remove those that are too many."""
        if obj.metadata.deletion_timestamp is not None:
            return DONE
        wanted = self._wanted(obj)
        endpoints = self.cache(core.Endpoints).get(obj.key)
        current = {one.metadata.name: one for one in self._current(obj, endpoints)}
        for made in wanted:
            found = current.get(made.metadata.name)
            if found is None:
                await self._create(made)
            elif not policy.same(made, found):
                await self._write(made, found)
        names = {made.metadata.name for made in wanted}
        for name, one in current.items():
            if name not in names:
                await self._delete(one)
        return DONE

    def _wanted(self, obj: core.Service) -> list[EndpointSlice]:
        if endpoints_policy.managed(obj):
            found = self.cache(core.Pod).all(obj.metadata.namespace)
            return policy.from_pods(obj, [pod for pod in found if endpoints_policy.selects(obj, pod)])
        endpoints = self.cache(core.Endpoints).get(obj.key)
        if endpoints is None or obj.spec.selector or not policy.is_mirrored(endpoints):
            return []
        return policy.mirrored(endpoints, obj)

    async def _create(self, made: EndpointSlice) -> None:
        try:
            await self._client.create(made)
        except AlreadyExists:
            await self._write(made, await self._client.get(EndpointSlice, made.metadata.name, made.metadata.namespace))
        except Forbidden as error:
            if not any(cause.reason == "NamespaceTerminating" for cause in error.causes):
                raise

    async def _write(self, made: EndpointSlice, before: EndpointSlice) -> None:
        meta, old = made.metadata, before.metadata
        labels = {**dict.fromkeys(old.labels.keys() - meta.labels.keys()), **meta.labels}
        notes = {**dict.fromkeys(old.annotations.keys() - meta.annotations.keys()), **meta.annotations}
        patch = {
            "metadata": {
                "labels": labels,
                "annotations": notes,
                "ownerReferences": _wire.to_builtins(meta.owner_references),
            },
            "endpoints": made.endpoints,
            "ports": made.ports,
        }
        await self._client.patch(EndpointSlice, meta.name, patch, meta.namespace)

    async def _delete(self, one: EndpointSlice) -> None:
        meta = one.metadata
        try:
            await self._client.delete(EndpointSlice, meta.name, meta.namespace, uid=meta.uid)
        except NotFound:
            return

    async def gone(self, key: str) -> None:
        """Slices go with their service; the garbage collector leaves those whose owner is the Endpoints."""
        for one in self._current(self.cache(core.Endpoints).get(key)):
            await self._delete(one)
