"""SQL state of a component, behind asyncio: one worker thread runs short transactions in the order of the requests.

Operations that wait together share one transaction (each in a savepoint), hence one fsync: a busy run costs few
of them. A result is handed out after the commit only: no crash of this process loses it. Whether it waits for the disk
as well, so that a power cut does not lose it either, is said with each request (`Durable`); what a power cut loses are
the last moments, in order.

`Migrations` is the history of a database's schema: a package with Alembic's `env.py` and `versions/`. Being current
costs one query; Alembic is imported only when there is something to do.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import queue
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

T = TypeVar("T")


class Durable(enum.IntEnum):
    """When a transaction is on disk."""

    EVENTUALLY = 0
    """With the next one that asks for more: for what can be done again with the same result."""
    SOON = 1
    """Milliseconds after its result is known: for what somebody waits for."""
    NOW = 2
    """Before its result is known."""


_Job = tuple["Callable[[Connection], Any]", "asyncio.Future[Any]", Durable]
MAX_BATCH = 64

log = logging.getLogger(__name__)


class NewerDatabase(RuntimeError):
    """The database was written by a later release."""


@dataclass(frozen=True, slots=True)
class Migrations:
    """The migrations of one component's database; `package` is their folder's module file, `head` the newest."""

    component: str
    package: str
    head: str

    def upgrade(self, connection: Connection) -> None:
        """Bring the schema to `head` within the caller's transaction. Raises NewerDatabase."""
        current = _current(connection)
        if current == self.head:
            return
        if current is not None and current > self.head:
            raise NewerDatabase(
                f"the {self.component} database has schema {current}, this release knows {self.head}:"
                " start the release that wrote it, or restore a backup"
            )
        from alembic import command  # noqa: PLC0415 - heavy, and a warm start does not need it
        from alembic.config import Config  # noqa: PLC0415

        config = Config()
        config.set_main_option("script_location", str(Path(self.package).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _current(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    current: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return current


class Database:
    """`run(fn)` executes `fn(connection)` in a transaction. `url` is SQLAlchemy's."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._file = Path(sa.make_url(url).database or "")
        self._name = self._file.stem
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._undone: list[Callable[[], None]] = []

    async def open(self, prepare: Callable[[Connection], None]) -> None:
        """Start the worker and run `prepare` (migrations) as its first transaction. Raises what that raises."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name=f"{self._name}-db", daemon=True)
        self._thread.start()
        try:
            await self.run(prepare)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Finish what was asked for, then end the worker."""
        if self._thread is not None:
            thread, self._thread = self._thread, None
            self._jobs.put(None)
            await asyncio.to_thread(thread.join)

    async def run(self, fn: Callable[[Connection], T], durable: Durable = Durable.NOW) -> T:
        """The result of `fn` once its transaction is committed; what `fn` raises undoes only its own changes."""
        if self._thread is None:
            raise RuntimeError(f"the {self._name} database is not open")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._jobs.put((fn, future, durable))
        # A caller that goes away does not undo what the transaction does: nobody looks at its future before the end.
        # Not shielded: that takes a turn of the loop more, and where it is busy a turn is long.
        result: T = await future
        return result

    def on_undone(self, callback: Callable[[], None]) -> None:
        """Call `callback` in the worker's thread when a whole transaction came to nothing: what was read in it may
        never have been.
        """
        self._undone.append(callback)

    def _work(self) -> None:
        session = _Session(_engine(self.url))
        try:
            while (job := self._jobs.get()) is not None:
                batch = [job]
                ended = False
                while len(batch) < MAX_BATCH:
                    try:
                        more = self._jobs.get_nowait()
                    except queue.Empty:
                        break
                    if more is None:
                        ended = True
                        break
                    batch.append(more)
                self._transact(session, batch)
                if ended:
                    return
        finally:
            session.dispose()

    def _transact(self, session: _Session, batch: list[_Job]) -> None:
        outcomes: list[tuple[asyncio.Future[Any], Any, BaseException | None]] = []
        wanted = max(durable for _, _, durable in batch)
        try:
            connection = session.connection(durable=wanted is Durable.NOW)
            with connection.begin():
                for fn, future, _ in batch:
                    outcomes.append((future, *_outcome(connection, fn, alone=len(batch) == 1)))
        except _Undone as undone:
            outcomes = [(future, None, undone.cause) for _, future, _ in batch]
        except Exception as error:
            session.leave()
            log.exception("a transaction of the %s database failed", self._name)
            for callback in self._undone:
                callback()
            outcomes = [(future, None, error) for _, future, _ in batch]
        self._loop.call_soon_threadsafe(_deliver, outcomes)
        if wanted is Durable.SOON and session.sqlite:
            try:
                session.flush()
            except OSError:
                log.exception("the last transactions of the %s database may not be on disk", self._name)


class _Session:
    """The worker's one connection, kept from one transaction to the next: to take it from a pool and to give it back
    costs as much as a statement.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self.sqlite = engine.dialect.name == "sqlite"
        self._connection: Connection | None = None
        self._durable: bool | None = None
        self._log_file = -1
        """SQLite's write-ahead log, which stays the same file as long as there is a connection."""

    def connection(self, *, durable: bool) -> Connection:
        """To begin a transaction with. With SQLite, `durable` says whether its commit waits for the disk; other
        databases do what their server is told to.
        """
        if self._connection is None:
            self._connection = self._engine.connect()
        if self.sqlite and durable is not self._durable:
            raw: Any = self._connection.connection.driver_connection
            raw.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        return self._connection

    def flush(self) -> None:
        """Bring to disk what has been committed. Raises OSError."""
        if self._log_file < 0:
            try:
                self._log_file = os.open(f"{self._engine.url.database}-wal", os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return  # it is in the database already
        os.fdatasync(self._log_file)

    def _close_log(self) -> None:
        if self._log_file >= 0:
            os.close(self._log_file)
            self._log_file = -1

    def leave(self) -> None:
        """Something is wrong: the next transaction begins with another connection."""
        self._close_log()
        connection, self._connection, self._durable = self._connection, None, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def dispose(self) -> None:
        """Disconnect."""
        self._close_log()
        if self._connection is not None:
            self._connection.close()
        self._engine.dispose()


class _Undone(Exception):
    """The only operation of a transaction failed."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause


def _outcome(
    connection: Connection, fn: Callable[[Connection], Any], *, alone: bool
) -> tuple[Any, BaseException | None]:
    """What `fn` gives or raises, which belongs to whoever asked; raises _Undone when it was alone."""
    try:
        if alone:
            return fn(connection), None
        with connection.begin_nested():
            return fn(connection), None
    except Exception as error:
        if alone:
            raise _Undone(error) from error
        return None, error


def _deliver(outcomes: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
    for future, result, error in outcomes:
        if future.done():
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
            future.exception()  # seen: the caller may have gone away


def _engine(url: str) -> sa.Engine:
    engine = sa.create_engine(url, pool_size=1, max_overflow=0)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _tune_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _tune_sqlite(connection: Any, _record: object) -> None:
    # The driver's own transaction control is off: it would not begin before a SELECT or a SAVEPOINT.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000", "cache_size=-2000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # The right to write from the beginning: a transaction that reads first could not wait for it (BUSY_SNAPSHOT),
    # should another process (a backup, a test) have written in between.
    raw: Any = connection.connection.driver_connection
    raw.execute("BEGIN IMMEDIATE")
