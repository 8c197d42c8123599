"""A WebSocket over ASGI, and a bounded queue of bytes between those who read it and those who use what was read."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from headrace.apiserver.http.messages import NO_CONNECTION, Connection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headrace.apiserver.http.messages import Response
    from headrace.machinery.tunnel import Upstream

NORMAL, PROTOCOL_ERROR = 1000, 1002
TUNNEL = "headrace.tunnel"
"""See machinery.tunnel, which is imported with the first one."""
LOOK_SECONDS = 1.0
"""How often to look whether a client still waits whose bytes nobody takes."""


class SocketClosed(Exception):
    """Nothing can be sent any more."""


class WebSocket:
    """Messages of bytes. Sending may be done by several tasks; receiving by one."""

    def __init__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        connection = scope.get("state", {}).get("connection")
        self._connection: Connection = connection if isinstance(connection, Connection) else NO_CONNECTION
        self.offered: tuple[str, ...] = tuple(scope.get("subprotocols") or ())
        """The subprotocols that the client speaks, as it prefers them."""

    async def _say(self, message: dict[str, Any]) -> None:
        try:
            await self._send(message)
        except (OSError, RuntimeError) as error:
            raise SocketClosed from error  # the server's way to say that the client has gone

    async def accept(self, protocol: str) -> None:
        """Begin to speak one of those that were offered; none of them when it is empty."""
        await self._say({"type": "websocket.accept", "subprotocol": protocol or None})

    async def join(self, upstream: Upstream, headers: list[tuple[bytes, bytes]]) -> None:
        """Hand the client over to a server that has answered its handshake, until either side has ended."""
        await self._say({"type": TUNNEL, "upstream": upstream, "headers": headers})

    async def refuse(self, answer: Response) -> None:
        """Answer as if there had been no question of a WebSocket."""
        head = [(b"content-type", answer.media), (b"content-length", b"%d" % len(answer.body)), *answer.headers]
        await self._say({"type": "websocket.http.response.start", "status": answer.status, "headers": head})
        await self._say({"type": "websocket.http.response.body", "body": answer.body})

    async def receive(self) -> bytes | None:
        """The next message; None when the client has gone."""
        message = await self._receive()
        if message["type"] != "websocket.receive":
            return None
        data = message.get("bytes")
        return data if data is not None else (message.get("text") or "").encode()

    def hung_up(self) -> bool:
        """Whether the client has gone, also while what it sent is not read."""
        return self._connection.hung_up()

    async def send(self, data: bytes) -> None:
        """One message; waits while the client takes no more."""
        await self._say({"type": "websocket.send", "bytes": data})

    async def send_text(self, text: str) -> None:
        """The same of text."""
        await self._say({"type": "websocket.send", "text": text})

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """The last word."""
        await self._say({"type": "websocket.close", "code": code, "reason": reason})


class Backlog:
    """Bytes that wait to be used; `put` waits while there are too many of them."""

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._parts: deque[bytes] = deque()
        self._ended = self._abandoned = False
        self._changed = asyncio.Event()

    async def put(self, data: bytes, hung_up: Callable[[], bool]) -> None:
        """More; dropped after the end. Raises SocketClosed when who sent it hangs up while this waits."""
        while self._size >= self._limit and not self._abandoned:
            self._changed.clear()
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                if hung_up():
                    raise SocketClosed from None
        if data and not self._ended and not self._abandoned:
            self._parts.append(data)
            self._size += len(data)
            self._changed.set()

    def end(self) -> None:
        """Nothing follows."""
        self._ended = True
        self._changed.set()

    def abandon(self) -> None:
        """Nobody will use any of it."""
        self._abandoned = True
        self._parts.clear()
        self._size = 0
        self._changed.set()

    async def get(self) -> bytes:
        """What came next, b"" at the end."""
        while not self._parts:
            if self._ended or self._abandoned:
                return b""
            self._changed.clear()
            await self._changed.wait()
        data = self._parts.popleft()
        self._size -= len(data)
        self._changed.set()
        return data
