"""Sessions in containers over a WebSocket: `v5.channel.k8s.io` and `v4.channel.k8s.io`.

The first byte of a message is its channel: 0 input, 1 output, 2 errors, 3 the result (a Status), 4 the terminal's
size. v5 adds 255, which closes the channel that its second byte names.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.apiserver.http.websocket import Backlog

if TYPE_CHECKING:
    from headrace.apiserver.http.websocket import WebSocket
    from headrace.machinery.component import PodSession

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
PROTOCOLS = (V5, V4)
STDIN, STDOUT, STDERR, RESULT, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
MAX_BACKLOG = 4 << 20
"""Bytes of input that a command has not read yet."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the client wants to be connected."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


def succeeded() -> dict[str, Any]:
    """The result of exit code 0."""
    return {"metadata": {}, "status": "Success"}


def exited(code: int) -> dict[str, Any]:
    """The result of an exit code, in the words of Kubernetes."""
    if not code:
        return succeeded()
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: command terminated with exit code {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def not_started(why: str) -> dict[str, Any]:
    """The result of a command that could not be run."""
    message = (
        "error executing command in container: failed to exec in container: OCI runtime exec failed: exec failed: "
        f"unable to start container process: {why}: unknown"
    )
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {message}",
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    }


async def finish(socket: WebSocket, result: dict[str, Any]) -> None:
    """The result, then the end."""
    await socket.send(bytes((RESULT,)) + _wire.encode(result))
    await socket.close()


async def serve(socket: WebSocket, session: PodSession, options: Options, stopping: asyncio.Event) -> None:
    """Connect client and session until either ends, or the server stops."""
    backlog = Backlog(MAX_BACKLOG)
    gone = asyncio.create_task(_listen(socket, session, backlog, options), name="session: listen")
    stop = asyncio.create_task(stopping.wait())
    feed = asyncio.create_task(_feed(session, backlog), name="session: input")
    work = asyncio.create_task(_speak(socket, session, options), name="session: output")
    tasks = (gone, stop, feed, work)
    try:
        await asyncio.wait((gone, stop, work), return_when=asyncio.FIRST_COMPLETED)
    finally:
        finished = work.done() and not work.cancelled() and work.exception() is None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if finished:
        await finish(socket, exited(work.result()))


async def _speak(socket: WebSocket, session: PodSession, options: Options) -> int:
    await socket.send(bytes((STDOUT if options.stdout else STDERR if options.stderr else RESULT,)))

    async def pump(stream: int, wanted: bool) -> None:
        head = bytes((stream,))
        while data := await session.read(stream):
            if wanted:
                await socket.send(head + data)

    async with asyncio.TaskGroup() as group:
        group.create_task(pump(STDOUT, options.stdout))
        group.create_task(pump(STDERR, options.stderr and not options.tty))
    return await session.wait()


async def _listen(socket: WebSocket, session: PodSession, backlog: Backlog, options: Options) -> None:
    """Return when the client has gone."""
    while (message := await socket.receive()) is not None:
        if not message:
            continue
        match message[0]:
            case 0 if options.stdin:
                await backlog.put(message[1:], socket.hung_up)
            case 4:
                size = _size(message[1:])
                if size is not None:
                    session.resize(*size)
            case 255 if message[1:2] == b"\0":
                backlog.end()
            case _:
                continue


async def _feed(session: PodSession, backlog: Backlog) -> None:
    while data := await backlog.get():
        await session.write(data)
    session.end_input()


def _size(text: bytes) -> tuple[int, int] | None:
    """Columns and rows out of what a client sent; None when it makes no sense."""
    try:
        sent = _wire.decode_any(text)
        columns, rows = sent["Width"], sent["Height"]
    except (_wire.DecodeError, KeyError, TypeError):
        return None
    return (columns, rows) if isinstance(columns, int) and isinstance(rows, int) else None
