"""The SQLite connection: one writer thread that commits many writes with one fsync, one reader for the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

R = TypeVar("R")
BATCH = 256

MIGRATIONS = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO meta VALUES ('epoch', 0);
    CREATE TABLE buckets (name TEXT PRIMARY KEY, created INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE blobs (id TEXT PRIMARY KEY, refs INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE objects (
        id INTEGER PRIMARY KEY,
        bucket TEXT NOT NULL REFERENCES buckets (name),
        key BLOB NOT NULL,
        size INTEGER NOT NULL,
        etag TEXT NOT NULL,
        modified INTEGER NOT NULL,
        algorithm TEXT NOT NULL DEFAULT '',
        checksum TEXT NOT NULL DEFAULT '',
        checksum_type TEXT NOT NULL DEFAULT '',
        headers TEXT NOT NULL DEFAULT '{}',
        tags TEXT NOT NULL DEFAULT '{}',
        part_sizes TEXT NOT NULL DEFAULT '[]',
        segments TEXT NOT NULL
    );
    CREATE UNIQUE INDEX object_keys ON objects (bucket, key);
    CREATE TABLE uploads (
        id TEXT PRIMARY KEY,
        bucket TEXT NOT NULL REFERENCES buckets (name),
        key BLOB NOT NULL,
        initiated INTEGER NOT NULL,
        headers TEXT NOT NULL,
        tags TEXT NOT NULL,
        algorithm TEXT NOT NULL,
        checksum_type TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX upload_keys ON uploads (bucket, key, id);
    CREATE TABLE parts (
        upload TEXT NOT NULL REFERENCES uploads (id),
        number INTEGER NOT NULL,
        size INTEGER NOT NULL,
        etag TEXT NOT NULL,
        modified INTEGER NOT NULL,
        checksum TEXT NOT NULL,
        segments TEXT NOT NULL,
        PRIMARY KEY (upload, number)
    ) WITHOUT ROWID;
    """,
)


class Index:
    """Writes go through `write`; reads use `reader` on the event loop, where each takes microseconds."""

    def __init__(self, path: Path, on_garbage: Callable[[list[str]], None]) -> None:
        self._path, self._on_garbage = path, on_garbage
        self._queue: queue.SimpleQueue[tuple[Any, asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.reader: sqlite3.Connection
        self.epoch = 0
        """Grows with each start: content files of earlier epochs that no row names are garbage."""

    def open(self) -> None:
        """Open or create the database and start the writer."""
        writer = self._connect()
        writer.execute("PRAGMA journal_mode = WAL")
        (version,) = writer.execute("PRAGMA user_version").fetchone()
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            writer.executescript(f"BEGIN; {script}; PRAGMA user_version = {number}; COMMIT;")
        (self.epoch,) = writer.execute(
            "UPDATE meta SET value = value + 1 WHERE name = 'epoch' RETURNING value"
        ).fetchone()
        self.reader = self._connect()
        self.reader.execute("PRAGMA query_only = ON")
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, args=(writer, loop), name="objectstore index", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Finish queued writes and close."""
        if self._thread is None:
            return
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self._thread = None
        self.reader.close()

    async def write(self, work: Callable[[sqlite3.Connection], tuple[R, list[str]]]) -> R:
        """Run `work` in a transaction and return its result once that is on disk.

        `work` returns (result, content ids that are named no more); an exception undoes only its own changes.
        It runs in the writer's thread and must not wait for anything.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.put((work, future))
        return await future

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=30)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -1024")
        return connection

    def _run(self, connection: sqlite3.Connection, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.closing(connection):
            while (first := self._queue.get()) is not None:
                batch = [first]
                last = False
                while len(batch) < BATCH and not last:
                    try:
                        item = self._queue.get_nowait()
                    except queue.Empty:
                        break
                    last = item is None
                    if item is not None:
                        batch.append(item)
                outcomes = _commit(connection, batch)
                with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
                    loop.call_soon_threadsafe(self._resolve, outcomes)
                if last:
                    return

    def _resolve(self, outcomes: list[_Outcome]) -> None:
        for future, result, garbage, error in outcomes:
            if garbage:
                self._on_garbage(garbage)
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)


_Outcome = tuple["asyncio.Future[Any]", Any, list[str], Exception | None]


def _commit(connection: sqlite3.Connection, batch: list[tuple[Any, asyncio.Future[Any]]]) -> list[_Outcome]:
    outcomes: list[_Outcome] = []
    try:
        connection.execute("BEGIN IMMEDIATE")
        for work, future in batch:
            connection.execute("SAVEPOINT work")
            try:
                result, garbage = work(connection)
                outcomes.append((future, result, garbage, None))
            except Exception as error:
                if not connection.in_transaction:  # a disk that refuses ends the transaction for everybody in it
                    raise
                connection.execute("ROLLBACK TO work")
                outcomes.append((future, None, [], error))
            connection.execute("RELEASE work")
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        return [(future, None, [], error) for _, future in batch]
    return outcomes
