"""The stream of one open page (server-sent events): a new fragment when what it shows has changed, and its log.

Changes are gathered for a moment, so that a burst costs one rendering; a fragment that is the same is not sent. The
stream ends after a while and the browser asks again: that is how an ended session ends the stream too.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.errors import StatusError
from headrace.machinery.words import _, told

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from headrace.machinery.component import Context
    from headrace.machinery.pages import Fragment, LogSource

log = logging.getLogger(__name__)

GATHER_SECONDS = 0.06
QUIET_SECONDS = 15.0
"""After this long without news a comment is sent, so that a browser that is gone is noticed."""
LIFE_SECONDS = 300.0
TAIL_LINES = 2000
LOG_RETRY_SECONDS = 0.5


def version(fragment: Fragment) -> str:
    """A fragment's hash."""
    return hashlib.sha256(f"{fragment.title}\0{fragment.body}".encode()).hexdigest()[:16]


class Stream:
    """One browser's view of one page. `have` is the version of what the browser shows already."""

    def __init__(self, context: Context, render: Callable[[], Awaitable[tuple[int, Fragment]]], have: str) -> None:
        self._context, self._render, self._have = context, render, have
        self._wake = asyncio.Event()
        self._log: tuple[LogSource | None, asyncio.Task[None] | None] = (None, None)
        self._send: Any = None

    async def run(
        self,
        follow: Callable[[Callable[[], None]], Callable[[], None]],
        receive: Any,
        send: Any,
        headers: Iterable[tuple[bytes, bytes]],
    ) -> None:
        """Until the browser leaves or the stream has lived long enough."""
        self._send = send
        fields = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"), *headers]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await self._write(b"retry: 1000\n\n")
        gone = asyncio.create_task(_gone(receive))
        work = asyncio.create_task(self._work())
        end = follow(self._wake.set)
        try:
            await asyncio.wait({gone, work}, timeout=LIFE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            end()
            tasks = [task for task in (gone, work, self._log[1]) if task is not None]
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, Exception):
                    log.error("the stream of a page failed", exc_info=result)
        with contextlib.suppress(OSError):
            await send({"type": "http.response.body", "body": b""})

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            _, fragment = await self._render()
            found = version(fragment)
            if found != self._have:
                self._have = found
                await self._event(b"page", {"title": fragment.title, "html": "".join(fragment.body), "version": found})
            self._follow_log(fragment.log)
            await self._wait(fragment.again)

    async def _wait(self, again: float | None) -> None:
        left = again
        while True:
            patience = QUIET_SECONDS if left is None else min(left, QUIET_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._wake.wait()
                    break
            if left is not None:
                left -= patience
                if left <= 0:
                    return
            await self._write(b": still here\n\n")
        await asyncio.sleep(GATHER_SECONDS)

    def _follow_log(self, source: LogSource | None) -> None:
        current, task = self._log
        if source == current:
            return
        if task is not None:
            task.cancel()
        self._log = (source, asyncio.create_task(self._read(source)) if source is not None else None)

    async def _read(self, source: LogSource) -> None:
        """Send the end of the log, then what is written. A container that has not started has none yet."""
        waited = False
        while True:
            try:
                stream = self._context.logs.stream(
                    source.namespace,
                    source.pod,
                    source.container,
                    uid=source.uid,
                    follow=True,
                    tail=TAIL_LINES,
                    timestamps=True,
                )
                first = True
                async for chunk in stream:
                    text = chunk.decode("utf-8", "replace")
                    await self._event(b"log", {"text": text, "reset": first})
                    first = False
                await self._event(b"log", {"text": "", "reset": first, "end": True})
                return
            except (StatusError, OSError) as error:
                words = told(error.message) if isinstance(error, StatusError) else _("The log is not there yet.")
                if not waited:
                    await self._event(b"log", {"text": "", "reset": True, "note": words})
                waited = True
                await self._context.clock.sleep(LOG_RETRY_SECONDS)

    async def _event(self, name: bytes, data: dict[str, Any]) -> None:
        await self._write(b"event: %b\ndata: %b\n\n" % (name, _wire.encode(data)))

    async def _write(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})


async def _gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
