"""A command in a container, held by the descriptors of its input and output."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import termios
from typing import TYPE_CHECKING, Any

from headrace.node.runtime.helpers import send_signal
from headrace.node.runtime.links import readable
from headrace.node.runtime.sandboxd import keyboard, wire

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.node.runtime.links import HelperSession

CHUNK = 32 << 10
KILLED = 128 + signal.SIGKILL
DRAIN_SECONDS = 0.5
"""How long output may still come after the end, from what the command left running."""
_MAX_SIZE = 0xFFFF


class ProcessSession:
    """Implements `Session`."""

    def __init__(self, helper: HelperSession, fds: list[int], *, tty: bool) -> None:
        self._helper, self._tty = helper, tty
        for fd in fds:
            os.set_blocking(fd, False)
        if tty:
            # Reading and writing are watched apart, which takes two descriptors.
            self._outputs, self._input = {1: fds[0]}, os.dup(fds[0])
        else:
            self._outputs, self._input = {1: fds[0], 2: fds[1]}, fds[2] if len(fds) > 2 else -1
        self._ended = asyncio.Event()
        self._code = KILLED
        self._watch = asyncio.create_task(self._follow(), name="session in a container")

    async def _follow(self) -> None:
        try:
            said = await self._helper.result()
            if said is not None and "code" in said:
                self._code = int(said["code"])
        finally:
            self._ended.set()

    async def read(self, stream: int) -> bytes:
        """See Session."""
        while (fd := self._outputs.get(stream, -1)) >= 0:
            try:
                data = os.read(fd, CHUNK)
            except BlockingIOError:
                if await self._more(fd):
                    continue
                data = b""
            except OSError:
                data = b""  # the other side of a terminal is closed
            if data:
                return data
            os.close(self._outputs.pop(stream))
        return b""

    async def _more(self, fd: int) -> bool:
        """Wait until there may be something to read; False when nothing can come any more."""
        waiting = asyncio.ensure_future(readable(fd))
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait((waiting, ended), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                await asyncio.wait((waiting,), timeout=DRAIN_SECONDS)
            return waiting.done()
        finally:
            await _cancel(waiting, ended)

    async def write(self, data: bytes) -> None:
        """See Session."""
        left = memoryview(data)
        while left and self._input >= 0 and not self._ended.is_set():
            try:
                left = left[os.write(self._input, left) :]
            except BlockingIOError:
                await self._room()
            except OSError:
                self._close_input()  # it has closed its input

    async def _room(self) -> None:
        waiting = asyncio.ensure_future(_writable(self._input))
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait((waiting, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancel(waiting, ended)

    def end_input(self) -> None:
        """See Session."""
        if not self._tty:
            self._close_input()

    def _close_input(self) -> None:
        if self._input >= 0:
            os.close(self._input)
            self._input = -1

    def resize(self, columns: int, rows: int) -> None:
        """See Session."""
        if self._tty and self._input >= 0 and 0 < columns <= _MAX_SIZE and 0 < rows <= _MAX_SIZE:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._input, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    async def wait(self) -> int:
        """See Session."""
        await self._ended.wait()
        return self._code

    async def close(self) -> None:
        """See Session. Nobody may be reading or writing."""
        await _cancel(self._watch)
        self._helper.close()
        self._close_input()
        while self._outputs:
            os.close(self._outputs.popitem()[1])


class ContainerInput:
    """Implements `Keyboard`: the FIFO of a container, and its supervisor's signals."""

    def __init__(self, folder: Path, supervisor: tuple[int, int], *, once: bool) -> None:
        self._folder, self._supervisor, self._once = folder, supervisor, once
        self._fd = os.open(folder / keyboard.INPUT, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    async def write(self, data: bytes) -> None:
        """See Keyboard."""
        left = memoryview(data)
        while left and self._fd >= 0:
            try:
                left = left[os.write(self._fd, left) :]
            except BlockingIOError:
                await _writable(self._fd)
            except OSError:
                self.close()  # it has closed its input, or has ended

    def resize(self, columns: int, rows: int) -> None:
        """See Keyboard."""
        if 0 < columns <= _MAX_SIZE and 0 < rows <= _MAX_SIZE:
            with contextlib.suppress(OSError):
                wire.write_file(str(self._folder / keyboard.SIZE), {"rows": rows, "columns": columns})
                send_signal(*self._supervisor, signal.SIGWINCH)

    def close(self) -> None:
        """See Keyboard."""
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        if self._once:
            send_signal(*self._supervisor, signal.SIGUSR1)


async def _cancel(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    loop.add_writer(fd, _resolve, future)
    try:
        await future
    finally:
        loop.remove_writer(fd)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
