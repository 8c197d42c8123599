"""HTTP/1.1 to what runs in pods: kept connections over sockets that a Dialer opened, bodies streamed both ways.

Why not a client library: this is the path of every prediction, and a general client costs more than the model. It
speaks what a proxy needs and no more. Invariants: a connection carries one exchange at a time; it is kept only when
request and response are complete and both sides agree; what is buffered in either direction is bounded.
"""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import httptools

if TYPE_CHECKING:
    from headrace.machinery.component import Dialer

Header = tuple[bytes, bytes]

HIGH_WATER = 256 << 10
MAX_HEAD = 64 << 10
MAX_IDLE = 64
"""Idle connections that are kept for each address."""
IDLE_SECONDS = 30.0
CONNECT_SECONDS = 5.0

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)


class UpstreamError(Exception):
    """The exchange failed; the message says how, without naming the address."""


class Unreachable(UpstreamError):
    """No connection could be made."""


class Stale(UpstreamError):
    """A kept connection turned out to be closed before anything of the response came."""


class TimedOut(UpstreamError):
    """The response did not begin in time."""


@dataclass(slots=True, eq=False)
class Address:
    """One address of a pod, with its idle connections."""

    ip: str
    port: int
    idle: list[Connection] = field(default_factory=list)
    active: int = 0
    gone: bool = False


class Connection(asyncio.Protocol):
    """One connection, one exchange at a time."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.reused = False
        self.idle_since = 0.0
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._closed = False
        self._writable: asyncio.Future[None] | None = None
        self._paused_writing = False
        self._waiter: asyncio.Future[None] | None = None
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: list[Header] = []
        self.head_done = False
        self.done = False
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._head_size = 0
        self._keep = False
        self._sent = False
        self._exchanging = False
        self._head_only = False
        self._error: UpstreamError | None = None
        self._paused_reading = False

    # What the proxy calls

    @property
    def usable(self) -> bool:
        """Whether another exchange can begin."""
        return not self._closed and not self._exchanging

    def start(self, data: bytes, *, complete: bool, head_only: bool) -> None:
        """Send the head of a request, with as much of its body as is there."""
        self._begin()
        self._exchanging, self._sent, self._head_only = True, complete, head_only
        self._transport.write(data)

    async def write(self, data: bytes) -> None:
        """Send more of the body; waits while the peer is slow."""
        if self._closed:
            return
        self._transport.write(data)
        if self._paused_writing:
            self._writable = asyncio.get_running_loop().create_future()
            await self._writable

    def finish_request(self) -> None:
        """The whole request was sent."""
        self._sent = True

    async def wait(self) -> None:
        """Until there is more: the head, body, the end. Raises UpstreamError."""
        if self._error is None and not self.done and not self._chunks:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._error is not None and not self._chunks:
            raise self._error

    async def wait_for_head(self) -> None:
        """Until the response's head is there. Raises UpstreamError."""
        while not self.head_done:
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def take(self) -> bytes:
        """What of the body has come."""
        chunks = self._chunks
        if not chunks:
            return b""
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        self._buffered = 0
        if self._paused_reading and not self._closed:
            self._paused_reading = False
            self._transport.resume_reading()
        return data

    def fail(self, error: UpstreamError) -> None:
        """End the exchange with this error and the connection with it."""
        if self._error is None:
            self._error = error
        self.close()
        self._wake()

    def finish(self) -> bool:
        """The exchange is over; whether the connection may carry another."""
        complete = self.done and self._sent and self._keep and not self._closed and self._error is None
        self._exchanging = False
        if not complete:
            self.close()
        return complete

    def close(self) -> None:
        """End the connection."""
        if not self._closed:
            self._closed = True
            if self._transport is not None:
                self._transport.abort()
        self._release_writer()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._closed = True
        self._release_writer()
        if not self._exchanging:
            if self in self.address.idle:
                self.address.idle.remove(self)
            return
        if not self.done and self._error is None:
            if self.reused and not self._head_size:
                self._error = Stale("The connection was closed.")
            else:
                reason = f": {exc}" if exc else ""
                self._error = UpstreamError(f"The model server closed the connection before it had answered{reason}.")
        self._wake()

    def eof_received(self) -> bool:
        """See asyncio.Protocol. A body without length ends here."""
        if self._exchanging and self.head_done and not self.done and self._until_close():
            self.done = True
        return False

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if not self._exchanging or self.done:
            self.close()  # nobody asked
            return
        if not self.head_done:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.fail(UpstreamError(f"The model server's answer is not HTTP: {error}"))
            return
        if not self.head_done and self._head_size > MAX_HEAD:
            self.fail(UpstreamError("The head of the model server's answer is too long."))
            return
        if self._buffered > HIGH_WATER and not self._paused_reading and not self._closed:
            self._paused_reading = True
            self._transport.pause_reading()
        self._wake()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._paused_writing = True

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._paused_writing = False
        self._release_writer()

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header line of the response."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self.status = self._parser.get_status_code()
        if self.status < 200:  # an interim response: the real one follows
            return
        self._keep = self._parser.should_keep_alive()
        self.head_done = True
        if self._head_only:
            # The parser cannot be told that no body follows, so this connection is not used again.
            self.done, self._keep = True, False

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._chunks.append(body)
        self._buffered += len(body)

    def on_message_complete(self) -> None:
        """The response is complete."""
        if self.status < 200:
            self.headers = []
            return
        self.done = True

    def _until_close(self) -> bool:
        return not any(name in {b"content-length", b"transfer-encoding"} for name, _ in self.headers)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _release_writer(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)


class Pool:
    """Kept connections by address."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._addresses: dict[tuple[str, int], Address] = {}

    def address(self, ip: str, port: int) -> Address:
        """The one Address value of an ip and port."""
        found = self._addresses.get((ip, port))
        if found is None:
            found = self._addresses[ip, port] = Address(ip, port)
        return found

    def forget(self, address: Address) -> None:
        """Nothing runs there any more; exchanges in progress may end."""
        address.gone = True
        self._addresses.pop((address.ip, address.port), None)
        for connection in list(address.idle):
            connection.close()
        address.idle.clear()

    def kept(self, address: Address) -> Connection | None:
        """A kept connection, if there is one."""
        oldest = time.monotonic() - IDLE_SECONDS
        while address.idle:
            connection = address.idle.pop()
            if connection.usable and connection.idle_since > oldest:
                connection.reused = True
                return connection
            connection.close()
        return None

    async def dial(self, address: Address) -> socket.socket:
        """A new connection, bare. Raises Unreachable."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                sock = await self._dialer.dial(address.ip, address.port)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except TimeoutError as error:
            raise Unreachable(f"No connection within {CONNECT_SECONDS:.0f} seconds.") from error
        except OSError as error:
            raise Unreachable(f"No connection: {error.strerror or error}.") from error
        return sock

    async def connect(self, address: Address) -> Connection:
        """A new connection. Raises Unreachable."""
        sock = await self.dial(address)
        try:
            made: tuple[Any, Connection] = await asyncio.get_running_loop().create_connection(
                lambda: Connection(address), sock=sock
            )
        except OSError as error:
            raise Unreachable(f"No connection: {error.strerror or error}.") from error
        return made[1]

    def release(self, connection: Connection) -> None:
        """Keep the connection if it may carry another exchange."""
        address = connection.address
        if connection.finish():
            if address.gone or len(address.idle) >= MAX_IDLE:
                connection.close()
            else:
                connection.idle_since = time.monotonic()
                address.idle.append(connection)

    def close(self) -> None:
        """Close every idle connection."""
        for address in list(self._addresses.values()):
            self.forget(address)
