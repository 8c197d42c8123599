"""A store without a disk, for tests and for clusters that may be forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.store.base import Change, Record, RevisionMismatch
from headrace.store.mirror import WATCHER_LIMIT, Mirror

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.store.mirror import Subscription

KEEP = 4096


class MemoryStore:
    """See `store.base.Store`. Every write is at once as durable as it will ever be."""

    def __init__(self, *, keep: int = KEEP, watcher_limit: int = WATCHER_LIMIT) -> None:
        self._mirror = Mirror(keep=keep, limit=watcher_limit)

    @property
    def revision(self) -> int:
        """See Store."""
        return self._mirror.revision

    async def open(self) -> None:
        """See Store."""

    async def close(self) -> None:
        """See Store."""
        self._mirror.close()

    def get(self, key: str) -> Record | None:
        """See Store."""
        return self._mirror.get(key)

    def range(self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0) -> list[Record]:
        """See Store."""
        return self._mirror.range(prefix, after=after, limit=limit, revision=revision)

    def count(self, prefix: str, *, after: str = "") -> int:
        """See Store."""
        return self._mirror.count(prefix, after=after)

    async def put(self, key: str, encode: Callable[[int], bytes], *, expected: int) -> Record:
        """See Store."""
        return self._write(key, encode, expected, deleted=False)

    async def delete(self, key: str, encode: Callable[[int], bytes], *, expected: int) -> Record:
        """See Store."""
        return self._write(key, encode, expected, deleted=True)

    def watch(self, prefix: str, *, after: int) -> Subscription:
        """See Store."""
        return self._mirror.subscribe(prefix, after)

    def on_change(self, listener: Callable[[Change], None]) -> None:
        """See Store."""
        self._mirror.listeners.append(listener)

    async def compact(self, keep: int) -> int:
        """See Store."""
        self._mirror.trim(keep)
        return self._mirror.oldest

    def _write(self, key: str, encode: Callable[[int], bytes], expected: int, *, deleted: bool) -> Record:
        current = self._mirror.get(key)
        if (current.revision if current else 0) != expected or (deleted and current is None):
            raise RevisionMismatch(key, current)
        revision = self._mirror.revision + 1
        record = Record(key, encode(revision), revision, current.create_revision if current else revision)
        self._mirror.apply(Change(record, current, deleted))
        return record
