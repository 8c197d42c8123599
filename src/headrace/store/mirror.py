"""What both stores share: live records, the recent log and its watchers, all in memory.

Reads and fan-out never touch a disk. A store applies a change here only once it is durable, so nothing that
could still be lost is ever seen. A watcher is a buffer that the writer fills and never waits for: one that
falls behind by more than `limit` changes is cut off and ends with `Compacted`.
"""

from __future__ import annotations

import asyncio
import weakref
from bisect import bisect_left, bisect_right, insort
from collections import deque
from typing import TYPE_CHECKING

from headrace.store.base import Compacted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from headrace.store.base import Change, Record

WATCHER_LIMIT = 8192
"""How many changes a watcher may be behind."""

_LAST = "\U0010ffff"


class Subscription:
    """An async iterator over changes. It is cut off by the mirror, closed by its owner, or just dropped."""

    def __init__(self, prefix: str, backlog: Iterable[Change], limit: int) -> None:
        self.prefix = prefix
        self._buffer: deque[Change] = deque(backlog)
        self._limit = limit + len(self._buffer)
        self._waiter: asyncio.Future[None] | None = None
        self._lost = False
        self._closed = False

    def offer(self, change: Change) -> bool:
        """Take a change; False when this watcher is too far behind and must go."""
        if len(self._buffer) >= self._limit:
            self._lost = True
            self._buffer.clear()
        else:
            self._buffer.append(change)
        self._wake()
        return not self._lost

    def close(self) -> None:
        """End the iteration."""
        self._closed = True
        self._wake()

    def ready(self) -> bool:
        """Whether the next step returns or raises without waiting."""
        return bool(self._buffer) or self._closed or self._lost

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Change:
        while not self._buffer:
            if self._lost:
                raise Compacted("the watcher was too slow")
            if self._closed:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._buffer.popleft()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Mirror:
    """Live records by key, the log since the last compaction, and watchers."""

    def __init__(self, *, keep: int, limit: int = WATCHER_LIMIT) -> None:
        self.revision = 0
        self.tombstones: dict[str, int] = {}
        """Deleted keys whose deletion is still in the log, and its revision."""
        self.listeners: list[Callable[[Change], None]] = []
        """Called with every change, before watchers."""
        self._live: dict[str, Record] = {}
        self._keys: list[str] = []
        self._log: deque[Change] = deque()
        self._keep, self._limit = keep, limit
        self._watchers: dict[str, weakref.WeakSet[Subscription]] = {}
        """By prefix: many watchers share few prefixes, so a change looks at few of them."""
        self._lengths: tuple[int, ...] = ()
        """Of those prefixes, each once: fewer still."""

    def load(self, records: Iterable[Record], revision: int) -> None:
        """Begin with these live records; the log is empty and begins after `revision`."""
        self._live = {r.key: r for r in records}
        self._keys = sorted(self._live)
        self.revision = revision

    def get(self, key: str) -> Record | None:
        """The live record of a key."""
        return self._live.get(key)

    def range(self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0) -> list[Record]:
        """Live records below a prefix in key order, or those of an earlier revision that the log still covers."""
        if revision and revision != self.revision:
            return self._range_at(prefix, after, limit, revision)
        keys, live = self._keys, self._live
        start = bisect_right(keys, after) if after > prefix else bisect_left(keys, prefix)
        end = bisect_left(keys, prefix + _LAST, lo=start)
        if limit:
            end = min(end, start + limit)
        return [live[k] for k in keys[start:end]]

    def count(self, prefix: str, *, after: str = "") -> int:
        """How many live records follow a key below a prefix."""
        keys = self._keys
        start = bisect_right(keys, after) if after > prefix else bisect_left(keys, prefix)
        return bisect_left(keys, prefix + _LAST, lo=start) - start

    def apply(self, change: Change) -> None:
        """A durable change: store it, log it, tell watchers."""
        record = change.record
        key = record.key
        if change.deleted:
            if self._live.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]
            self.tombstones[key] = record.revision
        else:
            if key not in self._live:
                insort(self._keys, key)
            self._live[key] = record
            self.tombstones.pop(key, None)
        self.revision = record.revision
        self._log.append(change)
        while len(self._log) > self._keep:
            self._log.popleft()
        for listener in self.listeners:
            listener(change)
        for length in self._lengths:
            prefix = key[:length]
            watchers = self._watchers.get(prefix)
            if watchers is None or len(prefix) < length:
                continue
            for watcher in list(watchers):
                if not watcher.offer(change):
                    watchers.discard(watcher)
            if not watchers:
                del self._watchers[prefix]
                self._measure()

    def remember(self, changes: Iterable[Change]) -> None:
        """Older log entries, read back at start-up, so that watchers may resume from before it."""
        self._log.extendleft(reversed(list(changes)))

    @property
    def oldest(self) -> int:
        """The oldest revision that a watch may start after."""
        return self._log[0].record.revision - 1 if self._log else self.revision

    def trim(self, keep: int) -> None:
        """Forget log entries but the newest `keep`."""
        while len(self._log) > keep:
            self._log.popleft()

    def subscribe(self, prefix: str, after: int) -> Subscription:
        """Changes after a revision, from now on. Raises Compacted."""
        backlog = [c for c in self._since(after) if c.record.key.startswith(prefix)]
        subscription = Subscription(prefix, backlog, self._limit)
        if prefix not in self._watchers:
            self._watchers[prefix] = weakref.WeakSet()
            self._measure()
        self._watchers[prefix].add(subscription)
        return subscription

    def close(self) -> None:
        """End every watch."""
        for watchers in self._watchers.values():
            for watcher in list(watchers):
                watcher.close()
        self._watchers.clear()
        self._measure()

    def _measure(self) -> None:
        self._lengths = tuple({len(prefix) for prefix in self._watchers})

    def _since(self, after: int) -> Iterator[Change]:
        if after >= self.revision:
            return iter(())
        if after < self.oldest:
            raise Compacted(f"revision {after} has been compacted, the oldest is {self.oldest}")
        skip = len(self._log) - (self.revision - after)
        return (self._log[i] for i in range(skip, len(self._log)))

    def _range_at(self, prefix: str, after: str, limit: int, revision: int) -> list[Record]:
        snapshot = {r.key: r for r in self.range(prefix)}
        for change in reversed(list(self._since(revision))):
            key = change.record.key
            if key.startswith(prefix):
                if change.previous is None:
                    snapshot.pop(key, None)
                else:
                    snapshot[key] = change.previous
        found = [snapshot[k] for k in sorted(snapshot) if k > after]
        return found[:limit] if limit else found
