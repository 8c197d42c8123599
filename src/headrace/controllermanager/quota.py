"""ResourceQuotas: `status.used`, what the namespace's objects take (upstream: pkg/controller/resourcequota).

For people to read: admission counts by itself.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from headrace.api import core
from headrace.api.errors import MethodNotAllowed, NotFound
from headrace.api.limits import ResourceQuota
from headrace.api.meta import dynamic_kind
from headrace.machinery import quota as counting
from headrace.machinery.controller import DONE, Controller, Result, Watch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.api.meta import KindInfo, Object, Unstructured
    from headrace.client.base import Client
    from headrace.controllermanager.namespace import Kinds

LOOK_AGAIN = 10.0
"""Seconds until kinds that are not watched are counted again."""
WATCHED: tuple[type[Object], ...] = (core.Pod, core.Service, core.PersistentVolumeClaim)


@cache
def _plain(info: KindInfo) -> type[Unstructured]:
    """One type a kind, so that its decoder is made once."""
    return dynamic_kind(info)


class QuotaController(Controller[ResourceQuota]):
    """See module."""

    name = "resourcequota"
    kind = ResourceQuota

    def __init__(self, client: Client, kinds: Kinds) -> None:
        self._client, self._kinds = client, kinds
        self.watches = tuple(Watch(kind, self._of_object) for kind in WATCHED)

    def _of_object(self, obj: Object) -> Iterable[str]:
        return [quota.key for quota in self.cache(ResourceQuota).all(obj.metadata.namespace)]

    async def reconcile(self, obj: ResourceQuota) -> Result:
        """Count again."""
        hard = obj.spec.hard
        kinds = sorted({kind for name in hard if (kind := counting.kind_of(name))})
        infos = {info.resource: info for info in reversed(self._kinds.all())}
        spec: dict[str, Any] = {"hard": hard, "scopes": obj.spec.scopes, "scopeSelector": obj.spec.scope_selector}
        used: counting.Amounts = {}
        for kind in kinds:
            objects = await self._objects(infos.get(kind), obj.metadata.namespace)
            used |= counting.used({"spec": spec}, kind, objects)
        obj.status.hard = dict(hard)
        obj.status.used = {name: str(used[name]) for name in hard if name in used}
        watched = {kind.INFO.resource for kind in WATCHED}
        return DONE if watched.issuperset(kinds) else Result(after=LOOK_AGAIN)

    async def _objects(self, info: KindInfo | None, namespace: str) -> list[dict[str, Any]]:
        if info is None:
            return []
        try:
            listed = await self._client.list(_plain(info), namespace)
        except (NotFound, MethodNotAllowed):
            return []  # the kind has gone meanwhile, or its objects are not stored
        return [{"spec": o.spec, "status": o.status} for o in listed.items]
