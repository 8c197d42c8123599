"""A container's output as the log files that kubelets keep: CRI format, rotated by size.

`<RFC3339Nano> stdout|stderr F|P <text>`: F ends a line, P is continued by the next entry. Like containerd,
lines longer than 16 KiB are split, and an unterminated end of the output is a P.
"""

from __future__ import annotations

import os
import time

MAX_LINE = 16 << 10
MAX_FILE = 10 << 20
LOST = b" stderr F [%d log entries before this one are lost: the disk did not take them]\n"
KEEP = 4
"""Rotated files beside the current one: `<name>.1` is the newest."""


class LogFile:
    """An append-only file that starts anew when it is full. Failing writes are dropped: a full disk must not
    stop a container. What is there is whole entries, and the first one after a gap says that there is one.
    """

    def __init__(self, path: str, limit: int = MAX_FILE) -> None:
        self._path, self._limit = path, limit
        self._lost = 0
        try:
            self._open()
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self._open()

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._fd).st_size

    def fileno(self) -> int:
        """The current file's descriptor."""
        return self._fd

    def write(self, data: bytes) -> None:
        """Append whole entries."""
        entries = data.count(b"\n")
        if self._lost:
            data = stamp(time.time_ns()) + LOST % self._lost + data
        try:
            if self._size and self._size + len(data) > self._limit:
                self._rotate()
            written = os.write(self._fd, data)
            if written < len(data):
                written = 0 if self._lost else data.rfind(b"\n", 0, written) + 1
                os.ftruncate(self._fd, self._size + written)
        except OSError:
            self._lost += entries
            return
        self._size += written
        self._lost = data.count(b"\n", written) if written else self._lost + entries

    def _rotate(self) -> None:
        for number in range(KEEP - 1, 0, -1):
            if os.path.exists(f"{self._path}.{number}"):
                os.rename(f"{self._path}.{number}", f"{self._path}.{number + 1}")
        os.rename(self._path, self._path + ".1")
        full = self._fd
        try:
            self._open()
        except OSError:
            os.rename(self._path + ".1", self._path)
            raise
        os.close(full)


class Stream:
    """Turns what a pipe gives into entries. With `partial`, what is no line yet is not waited for."""

    def __init__(self, name: str, log: LogFile, *, partial: bool = False) -> None:
        self._name, self._log, self._partial = name.encode(), log, partial
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Write the lines that `data` completes."""
        *lines, rest = (self._rest + data).split(b"\n") if self._rest else data.split(b"\n")
        head = stamp(time.time_ns()) + b" " + self._name
        entries: list[bytes] = []
        for line in lines:
            end = self._split(entries, head, line)
            entries.append(head + b" F " + end + b"\n")
        self._rest = self._split(entries, head, rest)
        if self._partial and self._rest:
            entries.append(head + b" P " + self._rest + b"\n")
            self._rest = b""
        if entries:
            self._log.write(b"".join(entries))

    def _split(self, entries: list[bytes], head: bytes, line: bytes) -> bytes:
        while len(line) > MAX_LINE:
            entries.append(head + b" P " + line[:MAX_LINE] + b"\n")
            line = line[MAX_LINE:]
        return line

    def end(self) -> None:
        """The pipe is closed."""
        if self._rest:
            self._log.write(stamp(time.time_ns()) + b" " + self._name + b" P " + self._rest + b"\n")
            self._rest = b""


def stamp(now: int) -> bytes:
    """Nanoseconds since the epoch as RFC 3339 with nine digits, in UTC."""
    seconds, nanoseconds = divmod(now, 1_000_000_000)
    return b"%s.%09dZ" % (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode(), nanoseconds)
