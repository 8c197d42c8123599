"""Sessions in containers for the API server: commands (exec) and a container's own output (attach).

The container that is meant is the one that the agent runs now; one that has ended, waits or was never started is
`container not found`, in the kubelet's words.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from headrace.api.errors import BadRequest, NotFound
from headrace.machinery.component import SessionRefused
from headrace.node.runtime.base import StartFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from headrace.api.core import Container, Pod
    from headrace.machinery.component import PodSession
    from headrace.node.logs import NodeLogs
    from headrace.node.runtime.base import Keyboard, Runtime

STDIN = (
    "container {name} takes no input: its spec does not say stdin: true. Attach without -i shows its output; run a "
    "command in it with kubectl exec -i"
)
SOURCES = {1: "stdout", 2: "stderr"}


class NodeStreams:
    """See machinery.component.PodStreams. `running` gives the attempt of a container (pod uid, name) that runs."""

    def __init__(self, runtime: Runtime, logs: NodeLogs, running: Callable[[str, str], int | None]) -> None:
        self._runtime, self._logs, self._running = runtime, logs, running

    def _attempt(self, pod: Pod, container: str) -> int:
        attempt = self._running(pod.metadata.uid, container)
        if attempt is None:
            raise NotFound(f'container not found ("{container}")', kind="containers", name=container)
        return attempt

    async def check(self, pod: Pod, container: str, *, stdin: bool) -> None:
        """See PodStreams."""
        self._attempt(pod, container)
        if stdin and not _spec(pod, container).stdin:
            raise BadRequest(STDIN.format(name=container))

    async def exec(self, pod: Pod, container: str, command: tuple[str, ...], *, stdin: bool, tty: bool) -> PodSession:
        """See PodStreams."""
        attempt = self._attempt(pod, container)
        try:
            return await self._runtime.open_session(
                pod.metadata.uid, f"{container}-{attempt}", command, stdin=stdin, tty=tty
            )
        except StartFailed as error:
            raise SessionRefused(str(error)) from error

    async def attach(self, pod: Pod, container: str, *, stdin: bool, tty: bool) -> PodSession:
        """See PodStreams. Without a terminal, output that ends within a line comes with the line's end."""
        await self.check(pod, container, stdin=stdin)
        del tty  # whether there is a terminal is the container's matter
        meta, spec, attempt = pod.metadata, _spec(pod, container), self._attempt(pod, container)
        begin = self._logs.written(pod, container, attempt)  # before anybody types
        keyboard: Keyboard | None = None
        if stdin:
            try:
                keyboard = await self._runtime.open_input(meta.uid, f"{container}-{attempt}", once=spec.stdin_once)
            except StartFailed as error:
                raise BadRequest(str(error)) from error

        def follow(source: str) -> AsyncIterator[bytes]:
            return self._logs.stream(
                meta.namespace,
                meta.name,
                container,
                uid=meta.uid,
                follow=True,
                source=source,
                begin=begin,
                eager=stdin,
            )

        return Attached({number: follow(source) for number, source in SOURCES.items()}, keyboard)


def _spec(pod: Pod, container: str) -> Container:
    return next(
        c
        for c in (*pod.spec.containers, *pod.spec.init_containers, *pod.spec.ephemeral_containers)
        if c.name == container
    )


class Attached:
    """A running container's output, and perhaps its input, as a session; see machinery.component.PodSession."""

    def __init__(self, outputs: dict[int, AsyncIterator[bytes]], keyboard: Keyboard | None) -> None:
        self._outputs, self._keyboard = outputs, keyboard
        self._left = set(outputs)
        self._ended = asyncio.Event()

    async def read(self, stream: int) -> bytes:
        """See PodSession."""
        chunk = b""
        while not chunk and stream in self._left:
            try:
                chunk = await anext(self._outputs[stream])
            except StopAsyncIteration:
                self._left.discard(stream)
        if not self._left:
            self._ended.set()
        return chunk

    async def write(self, data: bytes) -> None:
        """See PodSession."""
        if self._keyboard is not None:
            await self._keyboard.write(data)

    def end_input(self) -> None:
        """See PodSession: the container's input ends if it says stdinOnce."""
        if self._keyboard is not None:
            self._keyboard.close()

    def resize(self, columns: int, rows: int) -> None:
        """See PodSession."""
        if self._keyboard is not None:
            self._keyboard.resize(columns, rows)

    async def wait(self) -> int:
        """0 when the output has ended."""
        await self._ended.wait()
        return 0

    async def close(self) -> None:
        """See PodSession."""
        self._ended.set()
        self.end_input()
        for output in self._outputs.values():
            closer = getattr(output, "aclose", None)
            if closer is not None:
                with contextlib.suppress(RuntimeError):
                    await closer()
