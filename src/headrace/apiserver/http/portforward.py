"""Ports of pods over a WebSocket, in the two ways that clients of Kubernetes have.

`SPDY/3.1+portforward.k8s.io` (kubectl): SPDY frames in binary messages, however they are cut. Each connection is a
pair of streams with the same `requestid`: one for data, which each side ends by itself, one for a sentence when the
port cannot be reached.

`v4.channel.k8s.io` (the Python client): one connection for each of the parameters `ports`, made at once; the n-th has
channel 2n for data and 2n+1 for an error, and each channel begins with its port number. Nothing can be ended apart,
so the WebSocket is closed when all connections are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import struct
from typing import TYPE_CHECKING

from headrace.apiserver.http import spdy
from headrace.apiserver.http.websocket import PROTOCOL_ERROR, Backlog

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from headrace.apiserver.http.websocket import WebSocket

    Dial = Callable[[int], Awaitable[socket.socket]]
    """A connection to a port of the pod. Raises OSError."""

log = logging.getLogger(__name__)

SPDY, V4 = "SPDY/3.1+portforward.k8s.io", "v4.channel.k8s.io"
PROTOCOLS = (SPDY, V4)
MAX_CONNECTIONS = 512
"""At the same time through one tunnel; more are refused."""
MAX_BACKLOG = 1 << 20
"""Bytes that a pod has not taken yet, for each connection; then the whole tunnel waits for it."""
MAX_PORTS = 64
DIAL_SECONDS = 10.0
_CHUNK = 64 << 10


async def serve(socket: WebSocket, protocol: str, ports: list[int], dial: Dial, stopping: asyncio.Event) -> None:
    """Forward until the client goes, or the server stops."""
    tunnel = Tunnel(socket, dial) if protocol == SPDY else Channels(socket, ports, dial)
    work = asyncio.create_task(tunnel.run(), name="port-forward")
    stop = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (work, stop):
            task.cancel()
        results = await asyncio.gather(work, stop, return_exceptions=True)
    if isinstance(results[0], spdy.SpdyError):
        log.info("a port-forward broke the protocol: %s", results[0])
        await socket.close(PROTOCOL_ERROR, "protocol error")
    else:
        await socket.close()


class Connection:
    """One connection to the pod. `deliver` takes what comes from there, b"" at its end."""

    def __init__(self, port: int, dial: Dial, deliver: Callable[[bytes], Awaitable[None]]) -> None:
        self._port, self._dial, self._deliver = port, dial, deliver
        self.backlog = Backlog(MAX_BACKLOG)

    async def run(self) -> None:
        """Until both directions have ended. Raises OSError when the port cannot be reached."""
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                made = await self._dial(self._port)
            reader, writer = await asyncio.open_connection(sock=made, limit=_CHUNK)
        except BaseException:
            self.backlog.abandon()
            raise
        up = asyncio.create_task(self._up(writer))
        try:
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(_CHUNK):
                    await self._deliver(data)
            await self._deliver(b"")
            await up
        finally:
            self.backlog.abandon()
            up.cancel()
            await asyncio.gather(up, return_exceptions=True)
            writer.close()

    async def _up(self, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await self.backlog.get():
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except OSError:
            self.backlog.abandon()  # the pod takes no more


class Tunnel:
    """SPDY over a WebSocket."""

    def __init__(self, socket: WebSocket, dial: Dial) -> None:
        self._socket, self._dial = socket, dial
        self._codec = spdy.Codec()
        self._errors: dict[str, int] = {}
        """The error streams that wait for their data streams, by request."""
        self._connections: dict[int, tuple[Connection, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Until the client goes. Raises SpdyError."""
        try:
            while (message := await self._socket.receive()) is not None:
                for event in self._codec.receive(message):
                    await self._handle(event)
        finally:
            tasks = [task for _, task in self._connections.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _handle(self, event: spdy.Event) -> None:
        match event:
            case spdy.Data(stream, payload, end):
                found = self._connections.get(stream)
                if found is None:
                    return  # an error stream, or one that has ended
                await found[0].backlog.put(payload, self._socket.hung_up)
                if end:
                    found[0].backlog.end()
            case spdy.Opened():
                await self._open(event)
            case spdy.Reset(stream):
                found = self._connections.get(stream)
                if found is not None:
                    found[1].cancel()
            case spdy.Pinged(number):
                await self._socket.send(self._codec.ping(number))
            case spdy.GoneAway():
                return  # what is open goes on

    async def _open(self, event: spdy.Opened) -> None:
        kind, request = event.headers.get("streamtype", ""), event.headers.get("requestid", "")
        port = port_number(event.headers.get("port", ""))
        full = len(self._connections) >= MAX_CONNECTIONS or len(self._errors) >= MAX_CONNECTIONS
        if port is None or kind not in {"error", "data"} or full or (kind == "data" and request not in self._errors):
            await self._socket.send(self._codec.reset(event.stream, spdy.REFUSED_STREAM))
            return
        await self._socket.send(self._codec.reply(event.stream))
        if kind == "error":
            self._errors[request] = event.stream
            return
        connection = Connection(port, self._dial, lambda data: self._deliver(event.stream, data))
        if event.end:
            connection.backlog.end()
        task = asyncio.create_task(self._connect(connection, event.stream, self._errors.pop(request), port))
        self._connections[event.stream] = (connection, task)

    async def _connect(self, connection: Connection, stream: int, errors: int, port: int) -> None:
        try:
            await connection.run()
        except (OSError, TimeoutError) as error:
            sentence = f"error forwarding port {port} to pod: {why(error)}".encode()
            await self._socket.send(
                self._codec.data(errors, sentence, end=True) + self._codec.data(stream, b"", end=True)
            )
        else:
            await self._socket.send(self._codec.data(errors, b"", end=True))
        finally:
            self._connections.pop(stream, None)

    async def _deliver(self, stream: int, data: bytes) -> None:
        await self._socket.send(self._codec.data(stream, data, end=not data))


class Channels:
    """Numbered channels over a WebSocket."""

    def __init__(self, socket: WebSocket, ports: list[int], dial: Dial) -> None:
        self._socket, self._ports = socket, ports
        self._connections = [
            Connection(port, dial, lambda data, n=number: self._deliver(n, data))  # type: ignore[misc]
            for number, port in enumerate(ports)
        ]

    async def run(self) -> None:
        """Until the client goes, or every connection has ended."""
        for channel in range(2 * len(self._ports)):
            await self._socket.send(struct.pack("<BH", channel, self._ports[channel // 2]))
        listening = asyncio.create_task(self._listen())
        working = [asyncio.create_task(self._connect(number)) for number in range(len(self._ports))]
        every = asyncio.gather(*working, return_exceptions=True)
        try:
            await asyncio.wait((listening, every), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (listening, *working):
                task.cancel()
            await asyncio.gather(listening, *working, return_exceptions=True)

    async def _listen(self) -> None:
        while (message := await self._socket.receive()) is not None:
            number, odd = divmod(message[0], 2) if message else (0, 1)
            if not odd and number < len(self._connections):
                await self._connections[number].backlog.put(message[1:], self._socket.hung_up)

    async def _connect(self, number: int) -> None:
        try:
            await self._connections[number].run()
        except (OSError, TimeoutError) as error:
            sentence = f"error forwarding port {self._ports[number]} to pod: {why(error)}"
            await self._socket.send(bytes((2 * number + 1,)) + sentence.encode())

    async def _deliver(self, number: int, data: bytes) -> None:
        if data:
            await self._socket.send(bytes((2 * number,)) + data)
        else:
            self._connections[number].backlog.end()


def port_number(text: str) -> int | None:
    """The port that the text names, None if none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536 else None


def why(error: Exception) -> str:
    """Why a port could not be reached."""
    if isinstance(error, TimeoutError):
        return f"it did not answer within {DIAL_SECONDS:.0f} seconds"
    number = error.errno if isinstance(error, OSError) else None
    return (os.strerror(number) if number else str(error)).lower()
