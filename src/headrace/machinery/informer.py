"""A local, eventually consistent copy of all objects of a kind, and who wants to hear of its changes.

List, then watch from there; when the log has been compacted behind us, or the watch breaks, list again. Readers
get the shared object: treat it as read-only, or ask for a copy.

Invariants: every difference between two states of the cache is told to every handler, once; what a handler raises
is logged and reaches neither the other handlers nor the watch; `run` ends only by cancellation.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Generic

from headrace.api import _wire
from headrace.api.errors import Gone, StatusError
from headrace.client.base import EventType, T

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headrace.client.base import Client
    from headrace.machinery.clock import Clock

log = logging.getLogger(__name__)

RELIST_DELAY = 0.5
MAX_RELIST_DELAY = 30.0
FAIR_SHARE = 64
"""Changes taken over before everything else in the event loop has its turn."""


class Informer(Generic[T]):
    """The cache of one kind, or of its objects that a label selector chooses."""

    def __init__(self, client: Client, clock: Clock, kind: type[T], *, labels: str = "", fields: str = "") -> None:
        self._client, self._clock, self.kind, self._labels, self._fields = client, clock, kind, labels, fields
        self._objects: dict[str, T] = {}
        self._by_owner: dict[str, dict[str, T]] = {}
        self._handlers: list[Callable[[T | None, T | None], None]] = []
        self._events = 0
        self.synced = asyncio.Event()

    def get(self, key: str) -> T | None:
        """The cached object for `namespace/name`; shared, do not change it."""
        return self._objects.get(key)

    def copy(self, key: str) -> T | None:
        """A private copy of the cached object."""
        found = self._objects.get(key)
        # Through the encoder: the same value as copy.deepcopy gives, at a ninth of its cost.
        return _wire.decode(type(found), _wire.encode(found)) if found is not None else None

    def all(self, namespace: str | None = None) -> Iterable[T]:
        """Cached objects, of one namespace or all; shared."""
        return [o for o in self._objects.values() if namespace is None or o.metadata.namespace == namespace]

    def owned_by(self, uid: str) -> list[T]:
        """Cached objects that name this uid as an owner; shared."""
        return list(self._by_owner.get(uid, {}).values())

    def on_change(self, handler: Callable[[T | None, T | None], None]) -> None:
        """Call `handler(old, new)` on every change; old is None when added, new is None when deleted."""
        self._handlers.append(handler)
        for obj in list(self._objects.values()):
            self._call(handler, None, obj)

    async def run(self) -> None:
        """Keep the cache until cancelled."""
        failures = 0
        while True:
            events, began = self._events, self._clock.monotonic()
            quiet = False
            try:
                await self._list_and_watch()
                quiet = True
                log.debug("the watch of %s ended, listing again", self.kind.__name__)
            except Gone:
                quiet = True
                log.debug("%s: log compacted, listing again", self.kind.__name__)
            except (StatusError, OSError) as error:
                log.warning("watch of %s broke (%s), listing again", self.kind.__name__, error)
            except Exception:
                log.exception("watch of %s broke, listing again", self.kind.__name__)
            lasted = self._clock.monotonic() - began
            failures = 0 if self._events > events or lasted > MAX_RELIST_DELAY else failures + 1
            if failures > 1 or not quiet:
                doublings = min(max(failures - 1, 0), 10)
                await self._clock.sleep(min(RELIST_DELAY * 2.0**doublings, MAX_RELIST_DELAY))

    async def _list_and_watch(self) -> None:
        listed = await self._client.list(self.kind, labels=self._labels, fields=self._fields)
        present = {o.key for o in listed.items}
        for key in [k for k in self._objects if k not in present]:
            self._store(key, None)
        for number, obj in enumerate(listed.items, 1):
            old = self._objects.get(obj.key)
            if old is None or old.metadata.resource_version != obj.metadata.resource_version:
                self._store(obj.key, obj)
            if number % FAIR_SHARE == 0:
                await asyncio.sleep(0)
        self.synced.set()
        changes = self._client.watch(
            self.kind, resource_version=listed.resource_version, labels=self._labels, fields=self._fields
        )
        async for event in changes:
            self._events += 1
            if event.type is not EventType.BOOKMARK:
                self._store(event.object.key, None if event.type is EventType.DELETED else event.object)
            if self._events % FAIR_SHARE == 0:
                await asyncio.sleep(0)

    def _store(self, key: str, new: T | None) -> None:
        old = self._objects.get(key)
        if old is not None and new is not None and old.metadata.uid != new.metadata.uid:
            self._store(key, None)  # deleted and created again while nobody watched: two changes
            old = None
        if old is not None:
            del self._objects[key]
            for ref in old.metadata.owner_references:
                self._by_owner.get(ref.uid, {}).pop(key, None)
                if not self._by_owner.get(ref.uid):
                    self._by_owner.pop(ref.uid, None)
        if new is not None:
            self._objects[key] = new
            for ref in new.metadata.owner_references:
                self._by_owner.setdefault(ref.uid, {})[key] = new
        if old is None and new is None:
            return
        for handler in tuple(self._handlers):
            self._call(handler, old, new)

    def _call(self, handler: Callable[[T | None, T | None], None], old: T | None, new: T | None) -> None:
        try:
            handler(old, new)
        except Exception:
            obj = new if new is not None else old
            log.exception("a handler failed on a change of %s %s", self.kind.__name__, obj.key if obj else "")
