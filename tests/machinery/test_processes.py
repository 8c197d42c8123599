"""Real programs; what a warning about an open pipe would be is looked at before there can be one."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from headrace.machinery.processes import running

A_CHILD_HOLDS_ITS_PIPES = "import os, time; child = os.fork(); child and print(child, flush=True); time.sleep(600)"


def pipes() -> set[str]:
    found = (str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
    return {name for name in found if name.startswith(("pipe:", "socket:"))}


async def test_what_a_program_says():
    before = pipes()
    async with running("sh", "-c", "echo out; echo err >&2; exit 3") as process:
        assert await process.communicate() == (b"out\n", b"err\n")
    assert process.returncode == 3
    assert pipes() <= before


async def test_whoever_leaves_ends_it_also_when_a_child_holds_its_pipes():
    before = pipes()
    said = asyncio.get_running_loop().create_future()

    async def listen() -> None:
        async with running(sys.executable, "-c", A_CHILD_HOLDS_ITS_PIPES) as process:
            said.set_result((process, int(await process.stdout.readline())))
            await process.communicate()

    task = asyncio.create_task(listen())
    process, child = await said
    task.cancel()
    try:
        with pytest.raises(asyncio.CancelledError):
            await task
        assert process.returncode == -9
        assert pipes() <= before
    finally:
        os.kill(child, 9)


async def test_a_program_that_is_not_there():
    with pytest.raises(FileNotFoundError):
        async with running("/nonexistent/program"):
            raise AssertionError("it cannot run")
