"""Custom kinds: what a definition makes the server serve, and the clean-up when it is deleted.

A definition is served as soon as its write is durable, before the writer hears of it. A deleted one stays until
its last object is gone; its finalizer holds it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.apiextensions import CustomResourceDefinition
from headrace.api.errors import NotFound
from headrace.api.identity import ADMIN
from headrace.api.meta import KindInfo
from headrace.apiserver.admission.definitions import CLEANUP
from headrace.apiserver.registry.kinds import Served
from headrace.apiserver.registry.scale import ScalePaths
from headrace.apiserver.registry.writes import Asked
from headrace.store.base import Compacted

if TYPE_CHECKING:
    from headrace.apiserver.registry.core import Core
    from headrace.apiserver.registry.deletes import Deletes
    from headrace.apiserver.registry.writes import Writes

Json = dict[str, Any]
log = logging.getLogger(__name__)


def served_by(obj: Json) -> list[Served]:
    """The kinds, one a served version, that an accepted definition brings."""
    spec = obj["spec"]
    conditions = {c["type"]: c["status"] for c in (obj.get("status") or {}).get("conditions") or ()}
    if conditions.get("Established") != "True":
        return []
    storage = next(v["name"] for v in spec["versions"] if v.get("storage"))
    terminating = "deletionTimestamp" in obj["metadata"]
    return [
        _served(spec, version, storage, terminating=terminating) for version in spec["versions"] if version["served"]
    ]


def _served(spec: Json, version: Json, storage: str, *, terminating: bool) -> Served:
    names, parts = spec["names"], version.get("subresources") or {}
    info = KindInfo(
        group=spec["group"],
        version=version["name"],
        kind=names["kind"],
        plural=names["plural"],
        namespaced=spec["scope"] == "Namespaced",
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        subresources=frozenset(parts),
        singular=names.get("singular", ""),
    )
    scale = parts.get("scale")
    return Served(
        info,
        storage,
        custom=True,
        columns=tuple(version.get("additionalPrinterColumns") or ()),
        schema=(version.get("schema") or {}).get("openAPIV3Schema"),
        selectable=tuple(f["jsonPath"].lstrip(".") for f in version.get("selectableFields") or ()),
        converter=_converter(spec),
        defaults=b'"default":' in _wire.encode(version.get("schema") or {}),
        scale=None
        if scale is None
        else ScalePaths(scale["specReplicasPath"], scale["statusReplicasPath"], scale.get("labelSelectorPath", "")),
        terminating=terminating,
    )


def _converter(spec: Json) -> Json | None:
    conversion = spec.get("conversion") or {}
    if conversion.get("strategy") != "Webhook":
        return None
    found: Json | None = (conversion.get("webhook") or {}).get("clientConfig")
    return found


class Definitions:
    """Follows definitions as they are written."""

    def __init__(self, core: Core, writes: Writes, deletes: Deletes) -> None:
        self._core, self._writes, self._deletes = core, writes, deletes
        self._cleaning: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Serve what the store holds."""
        served = self._core.served(CustomResourceDefinition.INFO)
        for record in self._core.store.range(served.prefix):
            self.written(_wire.decode_any(record.value), deleted=False)

    async def stop(self) -> None:
        """Interrupt clean-ups; they go on at the next start."""
        for task in self._cleaning.values():
            task.cancel()
        await asyncio.gather(*self._cleaning.values(), return_exceptions=True)

    def written(self, obj: Json, *, deleted: bool) -> None:
        """A definition was created, changed or removed."""
        spec, name = obj["spec"], obj["metadata"]["name"]
        group, plural = spec["group"], spec["names"]["plural"]
        if deleted:
            self._core.kinds.remove(group, plural)
            return
        self._core.kinds.replace(group, plural, served_by(obj))
        waiting = CLEANUP in (obj["metadata"].get("finalizers") or ())
        if "deletionTimestamp" in obj["metadata"] and waiting and name not in self._cleaning:
            task = asyncio.create_task(self._clean_up(name, group, plural), name=f"clean up {name}")
            self._cleaning[name] = task
            task.add_done_callback(lambda done: self._cleaned(name, done))

    def _cleaned(self, name: str, task: asyncio.Task[None]) -> None:
        self._cleaning.pop(name, None)
        if not task.cancelled() and task.exception() is not None:
            log.error(
                "the objects of %s could not be deleted; the next start tries again", name, exc_info=task.exception()
            )

    async def _clean_up(self, name: str, group: str, plural: str) -> None:
        versions = self._core.kinds.versions(group, plural)
        if versions:
            await self._delete_all(versions[0])
        served = self._core.served(CustomResourceDefinition.INFO)

        def let_go(old: Json) -> Json:
            meta = {k: v for k, v in old["metadata"].items() if k != "resourceVersion"}
            meta["finalizers"] = [f for f in meta.get("finalizers") or () if f != CLEANUP]
            return {**old, "metadata": meta}

        try:
            await self._writes.modify(Asked(ADMIN), served, name, "", let_go)
        except NotFound:
            return

    async def _delete_all(self, served: Served) -> None:
        store = self._core.store
        while True:
            changes = store.watch(served.prefix, after=store.revision)
            records = store.range(served.prefix)
            if not records:
                return
            for record in records:
                meta = _wire.decode_any(record.value)["metadata"]
                if "deletionTimestamp" in meta:
                    continue
                try:
                    await self._deletes.delete(
                        served,
                        meta["name"],
                        meta.get("namespace", ""),
                        uid=meta["uid"],
                        resource_version="",
                        propagation=None,
                        grace_period_seconds=None,
                        dry_run=False,
                    )
                except NotFound:
                    continue
            if store.range(served.prefix):
                try:
                    await anext(changes)
                except (Compacted, StopAsyncIteration):
                    log.debug("clean-up of %s looks again", served.info.resource)
