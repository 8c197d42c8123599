"""The garbage collector: what is owned goes with its owners (upstream: pkg/controller/garbagecollector).

It watches the metadata of every kind, custom ones too, and never trusts its own view for a deletion: the object and
the owners that it believes to be gone are looked up, and their uids compared, before anything is deleted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from headrace.api import _wire
from headrace.api.apiextensions import CustomResourceDefinition
from headrace.api.core import Event
from headrace.api.errors import Conflict, Gone, MethodNotAllowed, NotFound, StatusError
from headrace.client.base import EventType
from headrace.controllermanager.gc_graph import FOREGROUND, ORPHAN, Graph, Node, OwnerState, Verdict, judge
from headrace.controllermanager.namespace import one_version_each, stub
from headrace.machinery.controller import DONE, Controller, Result
from headrace.machinery.queue import WorkQueue

if TYPE_CHECKING:
    from headrace.api.meta import KindInfo, Object, OwnerReference
    from headrace.client.base import Client, Propagation
    from headrace.controllermanager.namespace import Kinds
    from headrace.machinery.clock import Clock

log = logging.getLogger(__name__)

WORKERS = 4
RELIST_DELAY = 0.5
IGNORED = frozenset({("", Event.INFO.plural), ("events.k8s.io", "events")})


class _Unresolvable(Exception):
    """Not enough is known (yet), such as when an owner's kind is not served: nothing is deleted."""


class GarbageCollector(Controller[CustomResourceDefinition]):
    """See module. Its keys are definitions, which say what to watch; the collecting runs beside."""

    name = "garbage-collector"
    kind = CustomResourceDefinition
    workers = 1

    def __init__(self, client: Client, clock: Clock, kinds: Kinds) -> None:
        self._client, self._clock, self._kinds = client, clock, kinds
        self._graph = Graph()
        self._queue = WorkQueue(clock)
        self._monitors: dict[str, asyncio.Task[None]] = {}
        self._unlisted: set[str] = set()
        """Kinds whose objects have not been seen yet: until they are, nobody is known to have no dependents."""
        self._types: dict[tuple[str, str, str], type[Object]] = {}

    async def reconcile(self, obj: CustomResourceDefinition) -> Result:
        """Watch the objects of a custom kind."""
        info = next((i for i in one_version_each(self._kinds.all()) if i.resource == obj.metadata.name), None)
        if info is not None:
            self._monitor(info)
        elif any(c.type == "Established" and c.status == "True" for c in obj.status.conditions):
            return Result(after=RELIST_DELAY)  # it is about to be served
        return DONE

    async def gone(self, key: str) -> None:
        """The definition is gone, and all objects of its kind with it."""
        task = self._monitors.pop(key, None)
        if task is None:
            return
        task.cancel()
        self._unlisted.discard(key)
        plural, _, group = key.partition(".")
        for node in self._graph.of_kind(group, plural):
            self._enqueue(self._graph.remove(node.uid))

    async def run(self) -> None:
        """Watch what there is and work until cancelled."""
        for info in one_version_each(self._kinds.all()):
            self._monitor(info)
        workers = [asyncio.create_task(self._work(), name=f"garbage collector {i}") for i in range(WORKERS)]
        try:
            await asyncio.gather(*workers)
        finally:
            self._queue.close()
            tasks = [*workers, *self._monitors.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._monitors.clear()

    # Watching

    def _monitor(self, info: KindInfo) -> None:
        if (info.group, info.plural) in IGNORED or info.resource in self._monitors:
            return
        self._unlisted.add(info.resource)
        self._monitors[info.resource] = asyncio.create_task(
            self._keep_watching(info), name=f"garbage collector's watch of {info.resource}"
        )

    async def _keep_watching(self, info: KindInfo) -> None:
        seen: dict[str, str] = {}
        while True:
            try:
                await self._list_and_watch(info, seen)
            except Gone:
                continue
            except MethodNotAllowed:
                self._unlisted.discard(info.resource)
                return  # reviews and the like: nothing is stored
            except NotFound:
                self._unlisted.discard(info.resource)
                await self._clock.sleep(RELIST_DELAY)
            except (StatusError, OSError) as error:
                log.debug("watch of %s broke (%s), listing again", info.resource, error)
                await self._clock.sleep(RELIST_DELAY)

    async def _list_and_watch(self, info: KindInfo, seen: dict[str, str]) -> None:
        kind = self._type(info)
        listed = await self._client.list(kind)
        present = {obj.metadata.uid for obj in listed.items}
        for uid in [u for u in seen if u not in present]:
            del seen[uid]
            self._enqueue(self._graph.remove(uid))
        for obj in listed.items:
            self._see(info, obj, seen)
        self._unlisted.discard(info.resource)
        async for event in self._client.watch(kind, resource_version=listed.resource_version):
            if event.type is EventType.BOOKMARK:
                continue
            if event.type is EventType.DELETED:
                seen.pop(event.object.metadata.uid, None)
                self._enqueue(self._graph.remove(event.object.metadata.uid))
            else:
                self._see(info, event.object, seen)

    def _see(self, info: KindInfo, obj: Object, seen: dict[str, str]) -> None:
        meta = obj.metadata
        if seen.get(meta.uid) == meta.resource_version:
            return
        seen[meta.uid] = meta.resource_version
        self._enqueue(self._graph.put(info, obj))

    def _enqueue(self, uids: list[str]) -> None:
        for uid in uids:
            self._queue.add(uid)

    def _type(self, info: KindInfo) -> type[Object]:
        key = (info.group, info.version, info.plural)
        found = self._types.get(key)
        if found is None or info != found.INFO:
            found = self._types[key] = stub(info)
        return found

    # Deciding and acting

    async def _work(self) -> None:
        while (uid := await self._queue.get()) is not None:
            try:
                await self._process(uid)
            except (Conflict, NotFound, _Unresolvable) as error:
                log.debug("garbage collector: %s: %s, again", uid, error)
                self._queue.retry(uid)
            except StatusError as error:
                log.warning("garbage collector: %s: %s, again", uid, error)
                self._queue.retry(uid)
            except Exception:
                log.exception("garbage collector: %s failed, again", uid)
                self._queue.retry(uid)
            else:
                self._queue.forget(uid)
            finally:
                self._queue.done(uid)

    async def _process(self, uid: str) -> None:
        node = self._graph.get(uid)
        if node is None:
            return
        if self._unlisted and (node.orphans_dependents or node.waits_for_dependents):
            raise _Unresolvable(f"{node.name}: dependents are not known yet")
        if node.orphans_dependents:
            await self._orphan(node)
        elif node.waits_for_dependents:
            await self._finish_foreground(node)
        elif not node.deleting and node.owners:
            await self._judge(node)

    async def _judge(self, node: Node) -> None:
        live = await self._live(node)
        if live is None:
            return
        references = live.metadata.owner_references
        states = {ref.uid: await self._state(node, ref) for ref in references}
        verdict = judge(node, states.values(), has_dependents=bool(self._graph.dependents(node.uid)))
        if verdict is Verdict.KEEP:
            return
        if verdict is Verdict.RELEASE:
            kept = [ref for ref in references if states[ref.uid] is OwnerState.SOLID]
            await self._write(node, live, ownerReferences=_wire.to_builtins(kept) or None)
            return
        await self._delete(node, live, "Foreground" if verdict is Verdict.DELETE_FOREGROUND else "Background")

    async def _state(self, node: Node, ref: OwnerReference) -> OwnerState:
        owner = self._graph.get(ref.uid)
        if owner is not None:
            waits = owner.waits_for_dependents and bool(ref.block_owner_deletion)
            return OwnerState.WAITING if waits else OwnerState.SOLID
        group, _, version = ref.api_version.rpartition("/")
        info = self._kinds.by_kind(group, version, ref.kind)
        if info is None or (info.namespaced and not node.namespace):
            raise _Unresolvable(f"{node.name}: its owner's kind {ref.api_version} {ref.kind} is not served")
        try:
            found = await self._client.get(self._type(info), ref.name, node.namespace if info.namespaced else None)
        except NotFound:
            return OwnerState.GONE
        return OwnerState.SOLID if found.metadata.uid == ref.uid else OwnerState.GONE

    async def _finish_foreground(self, node: Node) -> None:
        """Delete what is owned; when nothing blocks any more, let the owner go."""
        blocking = self._graph.blocking(node)
        if not blocking:
            await self._remove_finalizer(node, FOREGROUND)
            return
        for dependent in self._graph.dependents(node.uid):
            if not dependent.deleting:
                self._queue.add(dependent.uid)

    async def _orphan(self, node: Node) -> None:
        for dependent in self._graph.dependents(node.uid):
            live = await self._live(dependent)
            if live is None:
                continue
            kept = [ref for ref in live.metadata.owner_references if ref.uid != node.uid]
            if len(kept) != len(live.metadata.owner_references):
                await self._write(dependent, live, ownerReferences=_wire.to_builtins(kept) or None)
        await self._remove_finalizer(node, ORPHAN)

    async def _remove_finalizer(self, node: Node, finalizer: str) -> None:
        live = await self._live(node)
        if live is None or finalizer not in live.metadata.finalizers:
            return
        kept = [name for name in live.metadata.finalizers if name != finalizer]
        await self._write(node, live, finalizers=kept or None)

    async def _live(self, node: Node) -> Object | None:
        """The object as it is now, if it is still the same one."""
        try:
            found = await self._client.get(self._type(node.info), node.name, node.namespace or None)
        except NotFound:
            return None
        return found if found.metadata.uid == node.uid else None

    async def _write(self, node: Node, live: Object, **metadata: object) -> None:
        with contextlib.suppress(NotFound):
            await self._client.patch(
                self._type(node.info),
                node.name,
                {"metadata": metadata},
                node.namespace or None,
                resource_version=live.metadata.resource_version,
            )

    async def _delete(self, node: Node, live: Object, policy: Propagation) -> None:
        # What the object's own finalizers say of its dependents goes before.
        if ORPHAN in live.metadata.finalizers:
            policy = "Orphan"
        elif FOREGROUND in live.metadata.finalizers:
            policy = "Foreground"
        with contextlib.suppress(NotFound):
            await self._client.delete(
                self._type(node.info), node.name, node.namespace or None, uid=node.uid, propagation=policy
            )
