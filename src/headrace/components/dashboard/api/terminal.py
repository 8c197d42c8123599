"""A terminal in a pod, over a WebSocket: `/terminal?ns=…&pod=…&container=…`.

Messages of bytes are what is typed and what is shown; messages of text are JSON: from the browser the size
(`{"columns": 80, "rows": 24}`), to it one sentence before the end (`{"end": "…"}`). The shell is opened as the person
and ends with the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from headrace.api import _wire
from headrace.api.errors import StatusError
from headrace.machinery.component import SessionRefused
from headrace.machinery.words import _

if TYPE_CHECKING:
    from headrace.machinery.component import PodSession, Shells

log = logging.getLogger(__name__)

SHELL = (
    "/bin/sh",
    "-c",
    'export TERM=xterm-256color LANG="${LANG:-C.UTF-8}"; command -v bash >/dev/null 2>&1 && exec bash; exec sh',
)
"""The better of the shells that the image has. UTF-8, so that what is typed in any language can be edited."""
MAX_TERMINALS = 20
"""Of one person at the same time."""
MAX_WAITING = 256
MAX_MESSAGE = 64 * 1024
"""What is typed and not read yet: so many messages of at most so many bytes."""
MAX_SIZE = 2000
"""Columns or rows."""
CLOSED, REFUSED = 1000, 1008


class TooMuch(Exception):
    """The browser sends more than the program reads."""


class Terminals:
    """Serves them, and counts them by person."""

    def __init__(self, shells: Shells | None) -> None:
        self._shells = shells
        self._open: dict[str, int] = {}

    async def serve(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """One connection, which the gateway has authenticated. Whoever may not open a terminal is told why."""
        user = scope["state"]["user"]
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if (await receive())["type"] != "websocket.connect":
            return
        await send({"type": "websocket.accept"})
        count = self._open.get(user.name, 0)
        if count >= MAX_TERMINALS:
            await _end(send, _("{n} terminals of yours are open: close one.", n=count), REFUSED)
            return
        self._open[user.name] = count + 1
        try:
            await self._serve(user, query, receive, send)
        finally:
            self._open[user.name] -= 1
            if not self._open[user.name]:
                del self._open[user.name]

    async def _serve(self, user: Any, query: dict[str, str], receive: Any, send: Any) -> None:
        if self._shells is None:
            await _end(send, _("No node runs here, so there are no terminals."), REFUSED)
            return
        where = query.get("ns", ""), query.get("pod", ""), query.get("container", "")
        try:
            session = await self._shells.open(user, *where, SHELL)
        except StatusError as error:
            await _end(send, error.message, REFUSED)
            return
        except SessionRefused as error:
            await _end(send, _("The container has no shell: {error}", error=error), REFUSED)
            return
        try:
            words = await _connect(session, receive, send)
        finally:
            await session.close()
        if words:
            await _end(send, words, CLOSED)


async def _connect(session: PodSession, receive: Any, send: Any) -> str:
    """Until the shell or the browser ends; what to say, nothing to a browser that has gone."""
    waiting: asyncio.Queue[bytes] = asyncio.Queue(MAX_WAITING)
    listen = asyncio.create_task(_listen(session, receive, waiting), name="terminal: listen")
    feed = asyncio.create_task(_feed(session, waiting), name="terminal: input")
    show = asyncio.create_task(_show(session, send), name="terminal: output")
    tasks = (listen, feed, show)
    try:
        await asyncio.wait((listen, show), return_when=asyncio.FIRST_COMPLETED)
        if listen.done() and isinstance(listen.exception(), TooMuch):
            return _("More was sent than the program reads, so the terminal was closed.")
        if show.done() and show.exception() is None:
            return _("The shell has ended (exit code {code}).", code=show.result())
        return ""
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception) and not isinstance(result, TooMuch | OSError | RuntimeError):
                log.error("a terminal failed", exc_info=result)


async def _show(session: PodSession, send: Any) -> int:
    while data := await session.read(1):
        await send({"type": "websocket.send", "bytes": data})
    return await session.wait()


async def _listen(session: PodSession, receive: Any, waiting: asyncio.Queue[bytes]) -> None:
    """Return when the browser has gone. Raises TooMuch."""
    while True:
        message = await receive()
        if message["type"] != "websocket.receive":
            return
        typed, text = message.get("bytes"), message.get("text")
        if typed:
            if len(typed) > MAX_MESSAGE or waiting.full():
                raise TooMuch
            waiting.put_nowait(typed)
        elif text and len(text) < MAX_SIZE:
            size = _size(text)
            if size is not None:
                session.resize(*size)


async def _feed(session: PodSession, waiting: asyncio.Queue[bytes]) -> None:
    while True:
        await session.write(await waiting.get())


def _size(text: str) -> tuple[int, int] | None:
    """Columns and rows out of what a browser sent; None when it makes no sense."""
    try:
        sent = _wire.decode_any(text.encode())
        columns, rows = sent["columns"], sent["rows"]
    except (_wire.DecodeError, KeyError, TypeError):
        return None
    if type(columns) is not int or type(rows) is not int:
        return None
    return (columns, rows) if 0 < columns <= MAX_SIZE and 0 < rows <= MAX_SIZE else None


async def _end(send: Any, words: str, code: int) -> None:
    with contextlib.suppress(OSError, RuntimeError):  # the browser may have gone
        await send({"type": "websocket.send", "text": _wire.encode({"end": words}).decode()})
        await send({"type": "websocket.close", "code": code})
