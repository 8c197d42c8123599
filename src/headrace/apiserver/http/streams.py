"""Responses that go on: watches and logs.

Invariants: a stream ends when the client goes away, when its time is up or when the server stops, whichever is
first, and its source is closed then; nothing raises past it once the head has been sent.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.errors import InternalError, StatusError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from headrace.apiserver.http.messages import Request

log = logging.getLogger(__name__)

LOG_FIRST_WAIT = 0.25
"""How long the head of a log response waits for the first line, so that an early refusal is still a Status."""


async def run_until_gone(
    work: Coroutine[Any, Any, None], request: Request, stopping: asyncio.Event, timeout: float | None = None
) -> None:
    """Run `work` until it ends, the client goes away, the server stops or time is up."""
    pump = asyncio.create_task(work)
    others = [asyncio.create_task(request.gone()), asyncio.create_task(stopping.wait())]
    try:
        await asyncio.wait([pump, *others], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (pump, *others):
            task.cancel()
        results = await asyncio.gather(pump, *others, return_exceptions=True)
    if isinstance(results[0], Exception):
        raise results[0]


class WatchStream:
    """JSON lines, one an event; an error on the way is an event of type ERROR."""

    status = 200

    def __init__(
        self,
        request: Request,
        events: AsyncIterator[Any],
        line: Callable[[Any, bool], bytes],
        stopping: asyncio.Event,
        timeout: float | None,
    ) -> None:
        self._request, self._events, self._line = request, events, line
        self._stopping, self._timeout = stopping, timeout

    async def send(self, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        """Head, events, end."""
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-cache, private")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if self._request.method == "HEAD":  # it has had its answer; the connection's next request waits for the end
            await close(self._events)
        else:
            await run_until_gone(self._pump(send), self._request, self._stopping, self._timeout)
        await send({"type": "http.response.body", "body": b""})

    async def _pump(self, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        first = True
        try:
            async for event in self._events:
                await send({"type": "http.response.body", "body": self._line(event, first), "more_body": True})
                first = False
        except StatusError as error:
            await send({"type": "http.response.body", "body": error_line(error), "more_body": True})
        except Exception:
            log.exception("a watch of %s failed", self._request.path)
            broken = InternalError("the watch failed: list again; the server's log says more")
            await send({"type": "http.response.body", "body": error_line(broken), "more_body": True})
        finally:
            await close(self._events)


class FailedWatch:
    """A watch that ends at once with an error event: how a version that is too old is told."""

    def __init__(self, error: StatusError) -> None:
        self._error = error

    def __aiter__(self) -> FailedWatch:
        return self

    async def __anext__(self) -> Any:
        raise self._error


def error_line(error: StatusError) -> bytes:
    """A watch event of type ERROR."""
    return b'{"type":"ERROR","object":%s}\n' % _wire.encode(error.to_status())


async def close(source: AsyncIterator[Any]) -> None:
    """Close an async iterator that can be closed."""
    closer = getattr(source, "aclose", None)
    if closer is not None:
        await closer()


class LogStream:
    """Plain text as it comes."""

    status = 200

    def __init__(self, request: Request, chunks: AsyncIterator[bytes], stopping: asyncio.Event) -> None:
        self._request, self._chunks, self._stopping = request, chunks, stopping
        self._first: asyncio.Task[bytes | None] | None = None

    async def begin(self) -> None:
        """Wait a moment for the first chunk. Raises what the source refuses with."""
        self._first = asyncio.create_task(self._next())
        done, _ = await asyncio.wait([self._first], timeout=LOG_FIRST_WAIT)
        if done:
            self._first.result()

    async def _next(self) -> bytes | None:
        return await anext(self._chunks, None)

    async def close(self) -> None:
        """It will not be sent."""
        if self._first is not None:
            self._first.cancel()
            await asyncio.gather(self._first, return_exceptions=True)
        await close(self._chunks)

    async def send(self, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        """Head, text, end."""
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await run_until_gone(self._pump(send), self._request, self._stopping)
        await send({"type": "http.response.body", "body": b""})

    async def _pump(self, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        try:
            chunk = await self._first if self._first is not None else await self._next()
            while chunk is not None:
                if chunk:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                chunk = await self._next()
        except StatusError as error:
            last = f"{error.message}\n".encode()
            await send({"type": "http.response.body", "body": last, "more_body": True})
        finally:
            await close(self._chunks)
