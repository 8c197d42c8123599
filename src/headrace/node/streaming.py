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

    from headrace.api.core import Pod
    from headrace.machinery.component import PodSession
    from headrace.node.logs import NodeLogs
    from headrace.node.runtime.base import Runtime

STDIN = (
    "container {name} takes no input, attach shows its output only: run a command in it with kubectl exec -i instead"
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
        """See PodStreams: containers take no input."""
        self._attempt(pod, container)
        if stdin:
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
        """See PodStreams. Output that ends within a line comes with the line's end."""
        await self.check(pod, container, stdin=stdin)
        del tty  # containers have no terminals, so there is none to attach to; their output is the same
        meta = pod.metadata

        def follow(source: str) -> AsyncIterator[bytes]:
            return self._logs.stream(
                meta.namespace, meta.name, container, uid=meta.uid, follow=True, tail=0, source=source
            )

        return Attached({number: follow(source) for number, source in SOURCES.items()})


class Attached:
    """A running container's output as a session; see machinery.component.PodSession."""

    def __init__(self, outputs: dict[int, AsyncIterator[bytes]]) -> None:
        self._outputs = outputs
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
        """Containers take no input: dropped."""

    def end_input(self) -> None:
        """There is no input."""

    def resize(self, columns: int, rows: int) -> None:
        """There is no terminal."""

    async def wait(self) -> int:
        """0 when the output has ended."""
        await self._ended.wait()
        return 0

    async def close(self) -> None:
        """See PodSession."""
        self._ended.set()
        for output in self._outputs.values():
            closer = getattr(output, "aclose", None)
            if closer is not None:
                with contextlib.suppress(RuntimeError):
                    await closer()
