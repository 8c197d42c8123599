"""From an ASGI request to a pod and back."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from headrace.gateway.upstream import HOP_BY_HOP, Connection, Pool, Stale, TimedOut, Unreachable, UpstreamError
from headrace.machinery.people import without_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.api.identity import User
    from headrace.gateway.upstream import Address, Header

PATIENCE_SECONDS = 0.05
"""Answers that take longer are worth watching whether the client is still there."""
ATTEMPTS = 3

IDENTITY = frozenset({b"kubeflow-userid", b"kubeflow-groups"})
"""Set by the gateway and by nothing else."""
_NOT_FORWARDED = HOP_BY_HOP | IDENTITY | {b"authorization", b"content-length", b"cookie", b"expect"}
"""The token stays here, as header and as cookie: a model server must not collect the tokens of its callers."""
_BODY_EXPECTED = {"POST", "PUT", "PATCH"}


class ClientGone(Exception):
    """The client closed its connection."""


def request_target(scope: dict[str, Any], prefix: str) -> bytes:
    """The path below `prefix`, as the client encoded it, with the query."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    encoded = prefix.encode()
    rest = raw[len(encoded) :] if raw.startswith(encoded) else quote(scope["path"][len(prefix) :]).encode()
    if not rest.startswith(b"/"):
        rest = b"/" + rest
    query: bytes = scope["query_string"]
    return rest + b"?" + query if query else rest


def request_headers(scope: dict[str, Any], user: User) -> list[Header]:
    """What of a request's headers a pod gets, and who asks."""
    headers: list[Header] = scope["headers"]
    dropped = _NOT_FORWARDED
    for name, value in headers:
        if name == b"connection" and value.lower() not in {b"keep-alive", b"close"}:
            dropped = dropped | {part.strip() for part in value.lower().split(b",")}
    kept = [header for header in headers if header[0] not in dropped]
    kept += [(name, rest) for name, value in headers if name == b"cookie" and (rest := without_session(value))]
    kept.append((b"kubeflow-userid", _value(user.name)))
    if user.groups:
        kept.append((b"kubeflow-groups", _value(",".join(user.groups))))
    return kept


def request_head(scope: dict[str, Any], target: bytes, user: User, length: int | None) -> bytes:
    """Request line and headers for the pod; `length` None means a chunked body, -1 none."""
    lines = [b"%b %b HTTP/1.1" % (scope["method"].encode(), target)]
    lines += [b"%b: %b" % header for header in request_headers(scope, user)]
    if length is None:
        lines.append(b"transfer-encoding: chunked")
    elif length >= 0:
        lines.append(b"content-length: %d" % length)
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def _value(text: str) -> bytes:
    return text.replace("\r", "").replace("\n", "").encode("utf-8")


class Exchange:
    """One request of a client, forwarded."""

    def __init__(self, pool: Pool, scope: dict[str, Any], receive: Any, send: Any, *, sandboxed: bool = False) -> None:
        self._pool, self._scope, self._receive, self._send = pool, scope, receive, send
        self._sandboxed = sandboxed
        self._connection: Connection | None = None
        self._listener: asyncio.Task[None] | None = None
        self._more = False
        self.started = False
        """Whether the client has seen the beginning of an answer."""

    async def run(self, addresses: Sequence[Address], target: bytes, user: User, timeout: float) -> None:
        """Forward and answer. Raises UpstreamError while nothing was answered, ClientGone."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body: bytes = message.get("body", b"")
        self._more = message.get("more_body", False)
        length = self._length(body)
        chunked = length is None
        data = request_head(self._scope, target, user, length) + (_chunk(body) if chunked else body)
        loop = asyncio.get_running_loop()
        try:
            connection = await self._answered(addresses, data, chunked=chunked, timeout=timeout)
            if not connection.done and self._listener is None:
                self._watch_later(loop)
            await self._relay(connection)
        finally:
            self._end()

    def _length(self, body: bytes) -> int | None:
        """The request body's length; None when the client does not tell, -1 when there is no body."""
        if self._more:
            return next((int(v) for n, v in self._scope["headers"] if n == b"content-length"), None)
        return len(body) if body or self._scope["method"] in _BODY_EXPECTED else -1

    async def _answered(
        self, addresses: Sequence[Address], data: bytes, *, chunked: bool, timeout: float
    ) -> Connection:
        """The connection on which the head of a response has come."""
        remaining = list(addresses)
        failure: UpstreamError = Unreachable("No pod could be reached.")
        for _ in range(ATTEMPTS):
            if not remaining:
                break
            address = min(remaining, key=_load)
            try:
                connection = self._pool.kept(address) or await self._pool.connect(address)
            except Unreachable as error:
                failure = error
                remaining.remove(address)
                continue
            self._connection = connection
            address.active += 1
            streamed = self._more
            try:
                return await self._ask(connection, data, chunked=chunked, timeout=timeout)
            except Stale as error:
                # The server closed a kept connection as we wrote. Nothing of an answer came, so the request is sent
                # again, as long as we still have all of it.
                self._drop()
                failure = error
                if streamed:
                    break
        raise failure

    async def _ask(self, connection: Connection, data: bytes, *, chunked: bool, timeout: float) -> Connection:
        loop = asyncio.get_running_loop()
        connection.start(data, complete=not self._more, head_only=self._scope["method"] == "HEAD")
        late = f"The model server did not answer within {timeout:g} seconds."
        timer = loop.call_later(timeout, connection.fail, TimedOut(late))
        watch = None
        if self._more:
            self._listen(connection, chunked=chunked)
        else:
            watch = loop.call_later(PATIENCE_SECONDS, self._listen, connection)
        try:
            await connection.wait_for_head()
        finally:
            timer.cancel()
            if watch is not None:
                watch.cancel()
        return connection

    async def _relay(self, connection: Connection) -> None:
        headers = [header for header in connection.headers if header[0] not in HOP_BY_HOP]
        if self._sandboxed:
            headers = [header for header in headers if header[0] != b"set-cookie"]
            headers += [(b"content-security-policy", b"sandbox"), (b"x-content-type-options", b"nosniff")]
        await self._send({"type": "http.response.start", "status": connection.status, "headers": headers})
        self.started = True
        while True:
            data, done = connection.take(), connection.done
            await self._send({"type": "http.response.body", "body": data, "more_body": not done})
            if done:
                return
            await connection.wait()

    def _watch_later(self, loop: asyncio.AbstractEventLoop) -> None:
        """A long answer: notice when the client leaves."""
        if self._connection is not None:
            loop.call_soon(self._listen, self._connection)

    def _listen(self, connection: Connection, *, chunked: bool = False) -> None:
        if self._listener is None and connection is self._connection:
            self._listener = asyncio.create_task(self._upload_and_watch(connection, chunked=chunked))

    async def _upload_and_watch(self, connection: Connection, *, chunked: bool) -> None:
        """Pass the rest of the request on, then wait for the client to leave."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                if not connection.done:
                    connection.fail(_Left("The client left."))
                return
            if not self._more:
                continue
            self._more = message.get("more_body", False)
            body = message.get("body", b"")
            if body:
                await connection.write(_chunk(body) if chunked else body)
            if not self._more:
                if chunked:
                    await connection.write(b"0\r\n\r\n")
                connection.finish_request()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if self._listener is not None:
            self._listener.cancel()
            self._listener = None
        if connection is not None:
            connection.address.active -= 1
            connection.close()

    def _end(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
        if self._connection is not None:
            self._connection.address.active -= 1
            self._pool.release(self._connection)


class _Left(UpstreamError):
    """The client left while the model worked."""


async def forward(exchange: Exchange, addresses: Sequence[Address], target: bytes, user: User, timeout: float) -> None:
    """Run an exchange; a client that left is no error. Raises UpstreamError."""
    with contextlib.suppress(ClientGone, _Left):
        await exchange.run(addresses, target, user, timeout)


def _chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body) if body else b""


def _load(address: Address) -> int:
    return address.active
