"""The control plane's connections to its helper processes."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
from typing import TYPE_CHECKING, Any

from headrace.node.runtime.base import StartFailed
from headrace.node.runtime.sandboxd import wire

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from headrace.node.runtime.sandboxd.wire import Message

_HOLDER_SECONDS = 10.0


class HelperGone(ConnectionError):
    """The helper's connection has closed; what it was asked may or may not have happened."""


class SpawnerLink:
    """Requests to the spawner, any number at a time."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reader_task: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether the spawner was there when last heard of."""
        return self._reader_task is not None and not self._reader_task.done()

    async def connect(self) -> None:
        """Connect. Raises OSError when no spawner listens."""
        await self.close()
        reader, writer = await _open(self._path)
        self._writer = writer
        self._reader_task = asyncio.create_task(self._read(reader, writer), name="spawner link")

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                message = await _receive(reader)
                future = self._waiting.pop(message["id"], None)
                if future is not None and not future.done():
                    future.set_result(message)
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(HelperGone("the spawner's connection closed"))
            self._waiting.clear()
            writer.close()

    async def call(self, op: str, **fields: Any) -> Message:
        """One request; the reply may carry `error`. Raises HelperGone."""
        if not self.connected or self._writer is None:
            raise HelperGone("the spawner is not connected")
        number = next(self._numbers)
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._writer.write(wire.encode({"id": number, "op": op, **fields}))
            await self._writer.drain()
            return await future
        except HelperGone:
            raise
        except ConnectionError as error:
            await self.close()
            raise HelperGone(str(error)) from error
        finally:
            self._waiting.pop(number, None)

    async def stream(self, op: str, **fields: Any) -> AsyncGenerator[Message, None]:
        """A request with a connection of its own: messages until the helper closes."""
        reader, writer = await _open(self._path)
        try:
            writer.write(wire.encode({"id": 0, "op": op, **fields}))
            while True:
                try:
                    yield await _receive(reader)
                except (asyncio.IncompleteReadError, ConnectionError):
                    return
        finally:
            writer.close()

    async def close(self) -> None:
        """Disconnect; the spawner goes on."""
        if self._reader_task is not None:
            self._reader_task.cancel()
            await asyncio.gather(self._reader_task, return_exceptions=True)
            self._reader_task = None


class HelperSession:
    """A connection to a helper process of one's own: it gives descriptors first, then says how it ended."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    @classmethod
    async def open(cls, path: Path, op: str, **fields: Any) -> tuple[HelperSession, list[int]]:
        """Ask. Raises OSError, EOFError, StartFailed with the helper's reason."""
        sock = wire.connect(str(path))
        try:
            sock.settimeout(_HOLDER_SECONDS)
            wire.send(sock, {"id": 0, "op": op, **fields})
            async with asyncio.timeout(_HOLDER_SECONDS):
                await readable(sock.fileno())
            reply, fds = wire.receive(sock)
        except BaseException:
            sock.close()
            raise
        if "error" in reply:
            sock.close()
            raise StartFailed(reply["error"])
        return cls(sock), fds

    async def result(self) -> Message | None:
        """What the helper says at the end; None when it has gone without a word."""
        await readable(self._socket.fileno())
        try:
            return wire.receive(self._socket)[0]
        except (OSError, EOFError):
            return None

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()


async def _open(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    sock = wire.connect(path)
    sock.setblocking(False)
    return await asyncio.open_unix_connection(sock=sock, limit=1 << 20)


async def _receive(reader: asyncio.StreamReader) -> Message:
    (length,) = wire.HEADER.unpack(await reader.readexactly(wire.HEADER.size))
    body = bytearray(wire.HEADER.pack(length)) + await reader.readexactly(length)
    return next(wire.take_frames(body))


class HolderLink:
    """Requests to the network holder. It answers within milliseconds, one at a time."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._socket: socket.socket | None = None
        self._lock = asyncio.Lock()
        self._sync: socket.socket | None = None

    async def call(self, op: str, **fields: Any) -> tuple[Message, list[int]]:
        """One request: the reply and descriptors. Raises OSError with the holder's reason, HelperGone without."""
        async with self._lock:
            try:
                if self._socket is None:
                    self._socket = self._connect()
                wire.send(self._socket, {"op": op, **fields})
                async with asyncio.timeout(_HOLDER_SECONDS):
                    await readable(self._socket.fileno())
                reply, fds = wire.receive(self._socket)
            except (EOFError, ConnectionError, FileNotFoundError) as error:
                self._drop()
                raise HelperGone(f"the network holder is gone: {error}") from error
            except BaseException:
                self._drop()  # a reply that nobody took would be the next request's
                raise
        return _checked(reply, fds)

    def call_now(self, op: str, **fields: Any) -> tuple[Message, list[int]]:
        """The same without asyncio, for callbacks that cannot wait (some 0.1 ms)."""
        try:
            if self._sync is None:
                self._sync = self._connect()
            wire.send(self._sync, {"op": op, **fields})
            reply, fds = wire.receive(self._sync)
        except (EOFError, OSError) as error:
            if self._sync is not None:
                self._sync.close()
                self._sync = None
            raise HelperGone(f"the network holder is gone: {error}") from error
        return _checked(reply, fds)

    def _connect(self) -> socket.socket:
        sock = wire.connect(self._path)
        sock.settimeout(_HOLDER_SECONDS)
        return sock

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        """Disconnect; the holder goes on."""
        self._drop()
        if self._sync is not None:
            self._sync.close()
            self._sync = None


def _checked(reply: Message, fds: list[int]) -> tuple[Message, list[int]]:
    if "error" in reply:
        for fd in fds:
            os.close(fd)
        raise OSError(reply["errno"] or errno.EIO, reply["error"])
    return reply, fds


async def readable(fd: int) -> None:
    """Wait until a descriptor can be read: a socket has data, a process has ended."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, _resolve, future)
    try:
        await future
    finally:
        loop.remove_reader(fd)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
