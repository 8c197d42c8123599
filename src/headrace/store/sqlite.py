"""The durable store: SQLite in WAL mode behind one writer thread.

Writes that arrive while a transaction is being synced wait together and share the next one (group commit), so a
busy store costs one fsync for many writes. A write is acknowledged, and seen by readers and watchers, only after
its transaction is on disk. Revisions are given out when a batch is formed and taken back when it fails, so the
log has no gaps. The file is locked: a second process that opens it is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from headrace.store.base import Change, DiskRefused, Record, RevisionMismatch, StoreError
from headrace.store.mirror import WATCHER_LIMIT, Mirror

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from headrace.store.mirror import Subscription

R = TypeVar("R")
log = logging.getLogger(__name__)

KEEP = 2048
"""Superseded log entries that stay, for watchers that come back and for lists that continue."""
BATCH = 256
_BUSY_SECONDS = 2.0

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE log (
            id INTEGER PRIMARY KEY AUTOINCREMENT, -- the revision
            key TEXT NOT NULL,
            previous INTEGER NOT NULL, -- the row that this one supersedes, 0 for none
            created INTEGER NOT NULL, -- the row that created the key
            deleted INTEGER NOT NULL,
            value BLOB NOT NULL
        )
        """,
        "CREATE UNIQUE INDEX log_chain ON log (key, previous)",
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
        "INSERT INTO meta VALUES ('compacted', 0)",
    ),
)
"""What brings a database of version n to n + 1 (PRAGMA user_version). Never edit one that was released."""

_ROW = "(?, ?, ?, ?, ?, ?)"
_COMPACT = """
    DELETE FROM log WHERE id IN (
        SELECT previous FROM log WHERE id > :after AND id <= :limit
        UNION ALL
        SELECT id FROM log WHERE id > :after AND id <= :limit AND deleted)
"""
"""What the entries up to `limit` supersede, and deletions among them; up to `after` that has been done already, so
that the cost follows what was written and not what there is.
"""
_LIVE = """
    SELECT key, value, id, created FROM log
    WHERE id IN (SELECT max(id) FROM log GROUP BY key) AND NOT deleted
"""
_RECENT = """
    SELECT l.key, l.value, l.id, l.created, l.deleted, p.value, p.id, p.created, p.deleted
    FROM log AS l LEFT JOIN log AS p ON p.id = l.previous
    WHERE l.id > :after ORDER BY l.id
"""


class InUse(StoreError):
    """Another process has this database open."""


@dataclass(slots=True)
class _Op:
    key: str
    encode: Callable[[int], bytes]
    expected: int
    deleted: bool
    done: asyncio.Future[Record]


class SqliteStore:
    """See `store.base.Store`."""

    def __init__(self, path: Path, *, keep: int = KEEP, watcher_limit: int = WATCHER_LIMIT) -> None:
        self._path, self._keep = path, keep
        self._mirror = Mirror(keep=keep, limit=watcher_limit)
        self._queue: list[_Op] = []
        self._writing = False
        self._idle: asyncio.Future[None] | None = None
        """Who closes the store waits here for the last batch."""
        self._forgetting: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._db: sqlite3.Connection | None = None
        self._compacted = 0
        self._closed = False

    @property
    def revision(self) -> int:
        """See Store."""
        return self._mirror.revision

    async def open(self) -> None:
        """See Store. Raises InUse, StoreError."""
        await self._in_thread(self._open)

    async def close(self) -> None:
        """See Store. Closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        if self._writing:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle
        if self._forgetting is not None:
            await asyncio.wait([self._forgetting])
        self._mirror.close()
        await self._in_thread(self._close)
        self._thread.shutdown()

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
        """See Store. Raises StoreError when the disk refuses; then nothing was written."""
        return await self._submit(key, encode, expected, deleted=False)

    async def delete(self, key: str, encode: Callable[[int], bytes], *, expected: int) -> Record:
        """See Store."""
        return await self._submit(key, encode, expected, deleted=True)

    def watch(self, prefix: str, *, after: int) -> Subscription:
        """See Store."""
        return self._mirror.subscribe(prefix, after)

    def on_change(self, listener: Callable[[Change], None]) -> None:
        """See Store."""
        self._mirror.listeners.append(listener)

    async def compact(self, keep: int) -> int:
        """See Store."""
        limit = max(self.revision - keep, self._compacted)
        await self._forget(limit)
        self._mirror.trim(keep)
        return self._mirror.oldest

    async def _submit(self, key: str, encode: Callable[[int], bytes], expected: int, *, deleted: bool) -> Record:
        if self._closed:
            raise StoreError("the store is closed")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Record] = loop.create_future()
        self._queue.append(_Op(key, encode, expected, deleted, done))
        if not self._writing:
            self._writing = True
            loop.call_soon(self._next)  # whoever else writes in this turn of the loop shares the transaction
        return await done

    def _next(self) -> None:
        """Send what is queued to the writer's thread; `_written` comes back from there. No task, no future of a future:
        most writes of a platform come alone, and pay all of it.
        """
        batch = self._form_batch()
        if batch:
            self._thread.submit(self._commit, asyncio.get_running_loop(), batch)
            return
        self._writing = False
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _written(self, batch: list[tuple[_Op, Change]], error: Exception | None) -> None:
        """The batch is on disk, or refused."""
        try:
            for op, change in batch:
                if error is None:
                    self._mirror.apply(change)
                if op.done.done():
                    continue
                if error is None:
                    op.done.set_result(change.record)
                else:
                    op.done.set_exception(_refusal(error))
        finally:
            self._next()
        if self._forgetting is None and self.revision - self._compacted > 2 * self._keep:
            self._forgetting = asyncio.create_task(self._forget_some(), name="store compaction")

    async def _forget_some(self) -> None:
        try:
            await self._forget(self.revision - self._keep)
        except sqlite3.Error as error:
            log.warning("the log could not be compacted, it grows until that works: %s", error)
        finally:
            self._forgetting = None

    async def _forget(self, limit: int) -> None:
        await self._in_thread(self._compact, limit)
        self._compacted = limit
        for key in [k for k, revision in self._mirror.tombstones.items() if revision <= limit]:
            del self._mirror.tombstones[key]

    def _form_batch(self) -> list[tuple[_Op, Change]]:
        """Give revisions to queued writes; a second write to a key waits until the first one is durable."""
        batch: list[tuple[_Op, Change]] = []
        touched: set[str] = set()
        later: list[_Op] = []
        revision = self._mirror.revision
        queue, self._queue = self._queue, later
        for i, op in enumerate(queue):
            if len(batch) >= BATCH:
                later.extend(queue[i:])
                break
            if op.done.done():
                continue
            if op.key in touched:
                later.append(op)
                continue
            current = self._mirror.get(op.key)
            if (current.revision if current else 0) != op.expected or (op.deleted and current is None):
                op.done.set_exception(RevisionMismatch(op.key, current))
                continue
            try:
                value = op.encode(revision + 1)
            except Exception as error:  # noqa: BLE001 - whatever it is belongs to the writer, not to the batch
                op.done.set_exception(error)
                continue
            revision += 1
            record = Record(op.key, value, revision, current.create_revision if current else revision)
            batch.append((op, Change(record, current, op.deleted)))
            touched.add(op.key)
        return batch

    async def _in_thread(self, function: Callable[..., R], *args: object) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    # Below: in the writer's thread only.

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise StoreError(f"{self._path} cannot be opened: {error.strerror}") from error
        db = sqlite3.connect(self._path, isolation_level=None, timeout=_BUSY_SECONDS, cached_statements=2 * BATCH)
        try:
            for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL"):
                db.execute(f"PRAGMA {pragma}").fetchall()
            _migrate(db)
        except sqlite3.OperationalError as error:
            db.close()
            if "locked" in str(error):
                raise InUse(
                    f"{self._path} is in use by another process of the platform: stop that one first"
                ) from error
            raise StoreError(f"{self._path} cannot be opened: {error}") from error
        except (StoreError, sqlite3.DatabaseError) as error:
            db.close()
            raise StoreError(f"{self._path} cannot be opened: {error}") from error
        self._db = db
        self._load(db)

    def _load(self, db: sqlite3.Connection) -> None:
        (self._compacted,) = db.execute("SELECT value FROM meta WHERE name = 'compacted'").fetchone()
        row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'log'").fetchone()
        revision = row[0] if row else 0
        self._mirror.load((Record(*found) for found in db.execute(_LIVE)), revision)
        after = max(self._compacted, revision - self._keep)
        self._mirror.remember(self._change(row) for row in db.execute(_RECENT, {"after": after}))
        self._mirror.tombstones = dict(
            db.execute("SELECT key, max(id) FROM log GROUP BY key HAVING deleted").fetchall()
        )

    def _change(self, row: tuple[str, bytes, int, int, int, bytes | None, int, int, int | None]) -> Change:
        key, value, revision, created, deleted, old_value, old_revision, old_created, old_deleted = row
        live = self._mirror.get(key)
        record = live if live is not None and live.revision == revision else Record(key, value, revision, created)
        previous = None
        if old_value is not None and not old_deleted:
            previous = Record(key, old_value, old_revision, old_created)
        return Change(record, previous, bool(deleted))

    def _commit(self, loop: asyncio.AbstractEventLoop, batch: list[tuple[_Op, Change]]) -> None:
        error: Exception | None = None
        try:
            self._write([change for _, change in batch])
        except Exception as found:  # noqa: BLE001 - whatever it is, the writers must hear of it
            error = found
        with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody is there to hear
            loop.call_soon_threadsafe(self._written, batch, error)

    def _write(self, changes: list[Change]) -> None:
        """All in one statement, which is its own transaction: this thread then asks for the interpreter once a batch
        and not once a row, each time waiting for a loop that is busy.
        """
        values: list[object] = []
        for change in changes:
            record, previous = change.record, change.previous
            superseded = previous.revision if previous else self._mirror.tombstones.get(record.key, 0)
            values += (record.revision, record.key, superseded, record.create_revision, change.deleted, record.value)
        self._connection().execute("INSERT INTO log VALUES " + ", ".join([_ROW] * len(changes)), values)  # noqa: S608 - question marks only

    def _compact(self, limit: int) -> None:
        db = self._connection()
        try:
            db.execute("BEGIN IMMEDIATE")
            db.execute(_COMPACT, {"after": self._compacted, "limit": limit})
            db.execute("UPDATE meta SET value = ? WHERE name = 'compacted'", (limit,))
            db.execute("COMMIT")
        except sqlite3.Error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise sqlite3.ProgrammingError("the store is not open")
        return self._db

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


def _refusal(error: Exception) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    match code:
        case sqlite3.SQLITE_FULL:
            return DiskRefused("the disk is full")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN:
            return DiskRefused("the disk is read-only")
        case sqlite3.SQLITE_IOERR:
            return DiskRefused(f"the disk has failed ({getattr(error, 'sqlite_errorname', error)})")
        case _:
            return StoreError(f"the write was refused: {error}")


def _migrate(db: sqlite3.Connection) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise StoreError(
            f"its schema has version {version}, written by a newer release; this one knows {len(MIGRATIONS)}"
        )
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        db.execute("BEGIN EXCLUSIVE")
        for statement in statements:
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {number}")
        db.execute("COMMIT")
    # With nothing to migrate this is the first access: it takes the lock that the process then keeps.
    db.execute("BEGIN IMMEDIATE")
    db.execute("COMMIT")
