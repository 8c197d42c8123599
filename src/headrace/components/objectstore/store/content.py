"""Content files: written once under a random name, synced, never changed; read in pieces; removed when unnamed."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from headrace.components.objectstore.types import S3Error, Segment

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
    from pathlib import Path

BLOCK = 1 << 20
"""Bytes kept in memory for each upload; and read at a time for each download."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Sink(Protocol):
    """What sees every byte that is written: hashes."""

    def update(self, data: bytes, /) -> None:
        """The next bytes."""
        ...


class ContentStore:
    """The folder of content files."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="objectstore content")
        self._pins: Counter[str] = Counter()
        self._doomed: set[str] = set()
        self._epoch = 0

    def open(self, epoch: int) -> None:
        """Make the folder. Files of this run carry `epoch` in their names."""
        self._epoch = epoch
        self._root.mkdir(parents=True, exist_ok=True)
        _sync_folder(self._root.parent)

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=True)

    def writer(self, *sinks: Sink) -> Writer:
        """A new content file; every byte also goes to the sinks, in the writing thread."""
        name = secrets.token_hex(16)
        blob = f"{name[:2]}/{self._epoch:x}-{name}"
        return Writer(self._pool, blob, self._root / blob, sinks)

    async def read(self, segments: Sequence[Segment], start: int, length: int) -> AsyncGenerator[bytes]:
        """Bytes of the concatenated segments. The caller pins them for as long as it reads."""
        loop = asyncio.get_running_loop()
        for segment in cut(segments, start, length):
            descriptor = -1
            try:
                done = 0
                while done < segment.length:
                    size = min(BLOCK, segment.length - done)
                    descriptor, data = await loop.run_in_executor(
                        self._pool, _read, descriptor, self._root / segment.blob, segment.offset + done, size
                    )
                    done += len(data)
                    yield data
            finally:
                if descriptor >= 0:
                    os.close(descriptor)

    def pin(self, segments: Iterable[Segment]) -> Callable[[], None]:
        """Keep files while they are read; call what is returned when done.

        To be called in the same step of the event loop as the index was read.
        """
        blobs = [segment.blob for segment in segments]
        self._pins.update(blobs)

        def release() -> None:
            self._pins.subtract(blobs)
            free = [blob for blob in set(blobs) if self._pins[blob] <= 0]
            for blob in free:
                del self._pins[blob]
            self.remove([blob for blob in free if blob in self._doomed])

        return release

    def remove(self, blobs: Iterable[str]) -> None:
        """Remove files that no row names, now or when their last reader is done."""
        now = []
        for blob in blobs:
            if self._pins.get(blob, 0) > 0:
                self._doomed.add(blob)
            else:
                self._doomed.discard(blob)
                now.append(self._root / blob)
        if now:
            self._pool.submit(_unlink, now)

    async def collect(self, named: Callable[[list[str]], set[str]]) -> int:
        """Remove files of earlier runs that no row names; how many those were.

        `named` says which of a list of ids are in the index; it is called on the event loop.
        """
        loop = asyncio.get_running_loop()
        removed = 0
        for folder in await loop.run_in_executor(self._pool, os.listdir, self._root):
            present = await loop.run_in_executor(self._pool, _older, self._root, folder, self._epoch)
            garbage = set(present) - named(present)
            self.remove(garbage)
            removed += len(garbage)
        return removed


class Writer:
    """One content file in the making."""

    def __init__(self, pool: ThreadPoolExecutor, blob: str, path: Path, sinks: tuple[Sink, ...]) -> None:
        self._pool, self._blob, self._path, self._sinks = pool, blob, path, sinks
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._descriptor = -1
        self.size = 0

    async def feed(self, data: bytes) -> None:
        """The next bytes; returns when there is room for more."""
        self._buffer.append(data)
        self._buffered += len(data)
        self.size += len(data)
        if self._buffered >= BLOCK:
            await self._in_thread(self._flush)

    async def finish(self, verify: Callable[[], None]) -> tuple[Segment, ...]:
        """Write what is left, let `verify` raise if the content is wrong, and put it on disk."""

        def last() -> None:
            self._flush()
            verify()
            self._sync()

        await self._in_thread(last)
        return (Segment(self._blob, 0, self.size),)

    async def discard(self) -> None:
        """Forget the file."""

        def drop() -> None:
            self._close()
            self._path.unlink(missing_ok=True)

        await asyncio.get_running_loop().run_in_executor(self._pool, drop)

    async def _in_thread(self, work: Callable[[], None]) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except OSError as error:
            raise refusal(error) or error from error

    def _flush(self) -> None:
        if self._descriptor < 0:
            self._descriptor = _create(self._path)
        data = self._buffer[0] if len(self._buffer) == 1 else b"".join(self._buffer)
        self._buffer, self._buffered = [], 0
        for sink in self._sinks:
            sink.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def _sync(self) -> None:
        os.fsync(self._descriptor)
        self._close()
        _sync_folder(self._path.parent)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def refusal(error: OSError | sqlite3.Error) -> S3Error | None:
    """What a client is told when the disk takes no writes; None when that is not what is wrong."""
    number = error.errno if isinstance(error, OSError) else None
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if number in _FULL or code == sqlite3.SQLITE_FULL:
        return S3Error("StorageFull")
    if number == errno.EROFS or code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR}:
        return S3Error("StorageUnwritable")
    return None


def cut(segments: Sequence[Segment], start: int, length: int) -> list[Segment]:
    """The segments that make up a range of their concatenation."""
    found = []
    position = 0
    for segment in segments:
        first = max(start - position, 0)
        last = min(start + length - position, segment.length)
        if first < last:
            found.append(Segment(segment.blob, segment.offset + first, last - first))
        position += segment.length
    return found


def _create(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:  # the first file of its folder
        path.parent.mkdir(exist_ok=True)
        _sync_folder(path.parent.parent)
        return os.open(path, flags, 0o600)


def _read(descriptor: int, path: Path, offset: int, size: int) -> tuple[int, bytes]:
    if descriptor < 0:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.pread(descriptor, size, offset)
    except OSError:
        os.close(descriptor)
        raise
    if not data:
        os.close(descriptor)
        raise OSError(errno.EIO, "content file is shorter than the index says", str(path))
    return descriptor, data


def _older(root: Path, folder: str, epoch: int) -> list[str]:
    found = []
    with os.scandir(root / folder) as entries:
        for entry in entries:
            made, _, _ = entry.name.partition("-")
            try:
                if int(made, 16) < epoch:
                    found.append(f"{folder}/{entry.name}")
            except ValueError:
                continue  # not ours: leave it alone
    return found


def _unlink(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
