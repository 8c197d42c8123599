"""The store protocol: an append-only log whose row id is the resourceVersion.

Invariants that the contract tests check on every implementation:
- revisions grow by one a write and are never reused, also after a restart;
- (key, previous revision) is unique: of two writers that saw the same revision one gets `RevisionMismatch`;
- a write that returned is durable; a reader never sees a write that is not;
- a watch sees every write after its start in order, or ends with `Compacted`: never a gap.

Keys are `/registry/<group or core>/<plural>/<namespace or ->/<name>`; the store only knows prefixes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Record(Struct, frozen=True, gc=False):
    """A key's value at the revision that wrote it. There is one for every object: small, cheap, never in a cycle."""

    key: str
    value: bytes
    revision: int
    create_revision: int


class Change(Struct, frozen=True, gc=False):
    """One entry of the log. `previous` is None for a creation; a deletion keeps the last value in `record`."""

    record: Record
    previous: Record | None
    deleted: bool = False


class StoreError(Exception):
    """Base of the store's errors."""


class RevisionMismatch(StoreError):
    """The key is not at the expected revision; `current` is what is there (None: nothing)."""

    def __init__(self, key: str, current: Record | None) -> None:
        super().__init__(f"{key} is at revision {current.revision if current else 'none'}")
        self.key = key
        self.current = current


class DiskRefused(StoreError):
    """The disk is full or cannot be written to. Nothing was written; the same write may work later."""


class Compacted(StoreError):
    """The revision asked for is older than the log, or the watcher was too slow: list again."""


class Store(Protocol):
    """Values are opaque bytes. `encode(revision)` is called once with the revision that the write will have,
    so that the stored value can carry it.
    """

    @property
    def revision(self) -> int:
        """The newest durable revision."""
        ...

    async def open(self) -> None:
        """Open or create; replays what is needed."""
        ...

    async def close(self) -> None:
        """Finish pending writes and close."""
        ...

    def get(self, key: str) -> Record | None:
        """The key's current value, from memory."""
        ...

    def range(self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0) -> list[Record]:
        """Values below a prefix in key order, beginning after a key: the current ones, or those of an earlier
        revision. Raises Compacted when the log does not reach back to it.
        """
        ...

    def count(self, prefix: str, *, after: str = "") -> int:
        """How many current values follow a key below a prefix."""
        ...

    async def put(self, key: str, encode: Callable[[int], bytes], *, expected: int) -> Record:
        """Write; `expected` is the current revision of the key, 0 for none. Raises RevisionMismatch."""
        ...

    async def delete(self, key: str, encode: Callable[[int], bytes], *, expected: int) -> Record:
        """Delete; the log keeps `encode(revision)` as the last value for watchers. Raises RevisionMismatch."""
        ...

    def watch(self, prefix: str, *, after: int) -> AsyncIterator[Change]:
        """Changes below a prefix with revisions greater than `after`. Raises Compacted.

        The subscription begins when this is called, not at the first step of the iterator.
        """
        ...

    def on_change(self, listener: Callable[[Change], None]) -> None:
        """Call `listener` with every change once it is durable: in order, and before its writer hears of it."""
        ...

    async def compact(self, keep: int) -> int:
        """Forget superseded log entries but the newest `keep`; the oldest revision that can still be watched."""
        ...
