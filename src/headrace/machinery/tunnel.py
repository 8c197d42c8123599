"""WebSockets that are passed on: the handshake is done with both sides, then bytes go to and fro as they are.

Why bytes and not messages: whoever passes messages on must hold each of them whole, unmask and mask it, and answer
pings for somebody else. Bytes keep what the two sides have agreed upon (compression, subprotocol, closing codes, frames
of any size). Invariants: nothing passes before the upstream has proved that it answers this very handshake; each side
is read only as fast as the other takes it; when one side has gone, the other is closed once it has had everything.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import h11
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol

if TYPE_CHECKING:
    import socket
    import ssl

    from wsproto.events import Request

Header = tuple[bytes, bytes]

TUNNEL = "headrace.tunnel"
"""A message with which an app hands its client over to an upstream (`upstream`, `headers`), in place of accepting; it
returns when the tunnel has ended. Among the scope's extensions, by this name, are those that the client offers.
"""
MAX_HEAD = 64 << 10
MAX_REFUSAL = 256 << 10
"""Of an answer that is no WebSocket, so much is passed on."""
FLUSH_SECONDS = 5.0
"""What is left for one side when the other has gone gets this long."""
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_HANDSHAKE = frozenset({b"connection", b"upgrade", b"keep-alive", b"transfer-encoding", b"content-length"})


class HandshakeFailed(Exception):
    """The upstream does not answer as a server of WebSockets does; the message says how."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The upstream's answer: 101, or a refusal with its body."""

    status: int
    headers: list[Header]
    body: bytes = b""


class ClientSide(WSProtocol):
    """uvicorn's protocol, which can also be joined with an upstream instead of an app."""

    _peer: asyncio.Transport | None = None
    _lost: asyncio.Event | None = None

    async def _join(self, upstream: Upstream, headers: list[Header]) -> None:
        """Answer the handshake as the upstream did, then pass bytes until either side has gone."""
        if self.disconnected or self.transport.is_closing():
            upstream.close()
            return
        self._lost = asyncio.Event()
        self.handshake_complete = True
        self._peer = upstream.transport
        lines = [b"HTTP/1.1 101 Switching Protocols", b"connection: Upgrade", b"upgrade: websocket"]
        lines += [b"%b: %b" % header for header in headers if header[0] not in _HANDSHAKE]
        self.transport.write(b"\r\n".join([*lines, b"", b""]))
        upstream.join(self.transport)
        gone = [asyncio.ensure_future(self._lost.wait()), asyncio.ensure_future(upstream.lost.wait())]
        try:
            await asyncio.wait(gone, return_when=asyncio.FIRST_COMPLETED)
            self._end()
            await asyncio.wait(gone, timeout=FLUSH_SECONDS)
        finally:
            for each in gone:
                each.cancel()
            for transport in (self.transport, upstream.transport):
                # asyncio's TLS transport forgets its protocol when it is closed twice, and then cannot be aborted.
                with contextlib.suppress(AttributeError):
                    transport.abort()

    def _end(self) -> None:
        for transport in (self.transport, self._peer):
            if transport is not None:
                transport.close()

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._peer is None:
            super().data_received(data)
        elif not self._peer.is_closing():
            self._peer.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        super().connection_lost(exc)
        if self._lost is not None:
            self._lost.set()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        super().pause_writing()
        _pause(self._peer)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        super().resume_writing()
        _resume(self._peer)

    # uvicorn

    def shutdown(self) -> None:
        """The server stops."""
        if self._peer is None:
            super().shutdown()
        else:
            self._end()

    def handle_connect(self, event: Request) -> None:
        """See WSProtocol; the app's task has not begun yet."""
        super().handle_connect(event)
        extensions = cast("dict[str, Any]", self.scope["extensions"])
        extensions[TUNNEL] = ", ".join(str(each) for each in event.extensions)

    async def send(self, message: Any) -> None:
        """See WSProtocol; once joined there is nothing to say but the end."""
        if message["type"] == TUNNEL:
            await self._join(message["upstream"], message["headers"])
        elif self._peer is None:
            await super().send(message)
        elif message["type"] == "websocket.close":
            self._end()


class Upstream(asyncio.Protocol):
    """The connection to the server that the WebSocket is for."""

    def __init__(self, target: bytes, headers: list[Header]) -> None:
        self._protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._key = next((value for name, value in headers if name == b"sec-websocket-key"), b"")
        kept = [header for header in headers if header[0] not in _HANDSHAKE]
        fields = [*kept, (b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
        try:
            request = h11.Request(method=b"GET", target=target, headers=fields)
            self._request = (self._protocol.send(request) or b"") + (self._protocol.send(h11.EndOfMessage()) or b"")
        except h11.LocalProtocolError as error:
            raise HandshakeFailed(f"The request cannot be passed on: {error}.") from error
        self._refusal: h11.Response | None = None
        self._body = b""
        self._early = b""
        self._client: asyncio.Transport | None = None
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.lost = asyncio.Event()

    @classmethod
    async def ask(
        cls,
        sock: socket.socket,
        target: bytes,
        headers: list[Header],
        seconds: float,
        tls: tuple[ssl.SSLContext, str] | None = None,
    ) -> Upstream:
        """The connection, with the answer to this handshake; encrypted, when `tls` says how and whose name the
        certificate must carry. Raises HandshakeFailed, TimeoutError, OSError.
        """
        context, name = tls or (None, None)
        try:
            upstream = cls(target, headers)
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(seconds):
                made: tuple[Any, Upstream] = await loop.create_connection(
                    lambda: upstream, sock=sock, ssl=context, server_hostname=name
                )
        except BaseException:
            sock.close()
            raise
        try:
            async with asyncio.timeout(seconds):
                await made[1].answer
        except BaseException:
            upstream.close()
            raise
        return upstream

    def join(self, client: asyncio.Transport) -> None:
        """Pass everything on to the client from now on."""
        self._client = client
        if self._early:
            client.write(self._early)
        _resume(self.transport)

    def close(self) -> None:
        """End it now."""
        if self.transport is not None:
            self.transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._client is not None:
            if not self._client.is_closing():
                self._client.write(data)
        elif self.answer.done():
            self._early += data
        else:
            self._feed(data)

    def eof_received(self) -> bool:
        """See asyncio.Protocol. A refusal without length ends here."""
        if not self.answer.done():
            self._feed(b"")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        del exc
        self.lost.set()
        self._fail("The server closed the connection before it had answered.")

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        _pause(self._client)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        _resume(self._client)

    # the handshake

    def _feed(self, data: bytes) -> None:
        try:
            self._protocol.receive_data(data)
            while not self.answer.done():
                event = self._protocol.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                    return
                self._heard(event)
        except h11.RemoteProtocolError as error:
            self._fail(f"The server's answer is not HTTP: {error}.")

    def _heard(self, event: Any) -> None:
        if isinstance(event, h11.InformationalResponse) and event.status_code == 101:
            headers = [(bytes(name), bytes(value)) for name, value in event.headers]
            if dict(headers).get(b"sec-websocket-accept") != accept_of(self._key):
                self._fail("The server's answer is not to this handshake.")
                return
            self._early = bytes(self._protocol.trailing_data[0])
            _pause(self.transport)
            self.answer.set_result(Answer(101, headers))
        elif isinstance(event, h11.Response):
            self._refusal = event
        elif isinstance(event, h11.Data):
            self._body += bytes(event.data)
        if self._refusal is not None and (isinstance(event, h11.EndOfMessage) or len(self._body) > MAX_REFUSAL):
            headers = [(bytes(name), bytes(value)) for name, value in self._refusal.headers]
            self.answer.set_result(Answer(self._refusal.status_code, headers, self._body[:MAX_REFUSAL]))

    def _fail(self, words: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(HandshakeFailed(words))


def accept_of(key: bytes) -> bytes:
    """What a server answers to a key (RFC 6455, 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def _pause(transport: asyncio.Transport | None) -> None:
    if transport is not None and not transport.is_closing():
        transport.pause_reading()


def _resume(transport: asyncio.Transport | None) -> None:
    if transport is not None and not transport.is_closing():
        transport.resume_reading()
