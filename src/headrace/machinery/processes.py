"""Helper programs (uv, podman, other interpreters): whoever leaves one leaves nothing of it behind.

asyncio ends neither a program nor its pipes when the task that waits for them is cancelled: they stay open until
garbage is collected, which complains about them in the middle of something else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path


@contextlib.asynccontextmanager
async def running(
    *argv: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stderr: int = asyncio.subprocess.PIPE,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program that reads nothing and whose output is to be read; it does not outlive the block. Raises OSError."""
    process = await asyncio.create_subprocess_exec(
        *argv, env=env, cwd=cwd, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=stderr
    )
    try:
        yield process
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    # Not its own `close`, which takes the exit code from whoever watches the process. And the pipes first: a child of
    # the program may hold their other ends for long, and some versions of asyncio wait for these.
    for descriptor in (1, 2):
        pipe = process._transport.get_pipe_transport(descriptor)  # type: ignore[attr-defined]  # noqa: SLF001
        if pipe is not None:
            pipe.close()
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    await asyncio.sleep(0)  # a pipe is closed in the loop's next turn
