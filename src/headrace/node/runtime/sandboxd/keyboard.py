"""A container's input, and the terminal that it may have.

    <container>/input   a FIFO: who writes to it types to the container
    <container>/size    {"rows": …, "columns": …} of the terminal, read when SIGWINCH comes

Without a terminal the container reads the FIFO itself, and the supervisor only keeps it from ending; SIGUSR1 lets it
end with the last writer. With a terminal the supervisor passes on what is typed.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import termios

from . import wire

TYPE_CHECKING = False  # importing typing costs a helper half a megabyte
if TYPE_CHECKING:
    import socket

    from .wire import Message

INPUT, SIZE = "input", "size"
_CHUNK = 4096
_TERM = "xterm"


def make_input(folder: str) -> tuple[int, int]:
    """The FIFO, open for both, and open for the container to read."""
    path = f"{folder}/{INPUT}"
    if not os.path.exists(path):
        os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC), os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def become_terminal(console: socket.socket, spec: Message, *, isolated: bool) -> None:
    """In the container's first process, which leads a session: a terminal of its own; the other end goes out."""
    master, slave = os.openpty()
    if not isolated and spec["uid"] is not None:
        os.fchown(slave, spec["uid"], -1)
    wire.send(console, {}, [master])
    for number in (0, 1, 2):
        os.dup2(slave, number)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    spec["env"].setdefault("TERM", _TERM)


class Keyboard:
    """The supervisor's part. `master` is -1 without a terminal."""

    def __init__(self, folder: str, fifo: int, master: int) -> None:
        self._folder, self._fifo, self._master = folder, fifo, master
        self._pending = b""
        self._size_asked = self._sizing = False
        if master >= 0:
            os.set_blocking(master, False)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            signal.signal(signal.SIGWINCH, lambda *_: self.resize())
            self.resize()
        else:
            signal.signal(signal.SIGUSR1, lambda *_: self.end())

    def resize(self) -> None:
        """Give the terminal the size that is wanted.

        A signal may come while an earlier one is being handled (kubectl attach sends two sizes at once): the file is
        then read again afterwards, so that an older size never has the last word.
        """
        self._size_asked = True
        while self._size_asked and not self._sizing:
            self._size_asked, self._sizing = False, True
            wanted = wire.read_file(f"{self._folder}/{SIZE}")
            if wanted is not None:
                size = struct.pack("HHHH", wanted["rows"], wanted["columns"], 0, 0)
                fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)
            self._sizing = False

    def end(self) -> None:
        """Let the input end when nobody writes any more."""
        if self._fifo >= 0:
            os.close(self._fifo)
            self._fifo = -1

    def watch(self, poll: select.poll) -> None:
        """Wait for what is typed, while the terminal takes it."""
        if self._master >= 0:
            poll.register(self._fifo, select.POLLIN)

    def closed(self, poll: select.poll, fd: int) -> None:
        """An output has ended; when it was the terminal, nobody listens to what is typed any more."""
        if fd == self._master:
            if not self._pending:
                poll.unregister(self._fifo)
            self._master = -1

    def handle(self, poll: select.poll, fd: int, event: int) -> bool:
        """Whether the event was for the keyboard alone."""
        if self._master < 0:
            return False
        if fd == self._fifo:
            self._pending = os.read(self._fifo, _CHUNK)
            self._type()
            if self._pending:  # the terminal is full: first it must take this
                poll.unregister(self._fifo)
                poll.register(self._master, select.POLLIN | select.POLLOUT)
            return True
        if fd == self._master and event & select.POLLOUT:
            self._type()
            if not self._pending:
                poll.register(self._fifo, select.POLLIN)
                poll.register(self._master, select.POLLIN)
            return not event & ~select.POLLOUT
        return False

    def _type(self) -> None:
        try:
            self._pending = self._pending[os.write(self._master, self._pending) :]
        except BlockingIOError:
            return
        except OSError:
            self._pending = b""  # the container's side is closed
