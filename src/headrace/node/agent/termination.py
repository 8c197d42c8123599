"""Termination messages: the file that a container may write, or the end of its log when it failed silently."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from headrace.node.runtime.base import Mount
from headrace.node.runtime.sandboxd import wire

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.api.core import Container

LIMIT = 4096
LOG_LIMIT = 2048
LOG_LINES = 80


class TerminationMessage:
    """The message of one start of a container."""

    def __init__(self, container: Container, file: Path) -> None:
        self._container, self._file = container, file

    def mount(self) -> Mount:
        """The file at terminationMessagePath, made writable for every user of the container."""
        path = str(self._file)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        wire.write_plain(path, b"", 0o666)
        return Mount(self._container.termination_message_path, self._file)

    def read(self, log: Path, *, failed: bool) -> str:
        """What the container left; removes the file."""
        path, text = str(self._file), ""
        with contextlib.suppress(OSError):
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                text = os.read(file, LIMIT).decode(errors="replace")
            finally:
                os.close(file)
        with contextlib.suppress(OSError):
            os.unlink(path)
        if text or not failed or self._container.termination_message_policy != "FallbackToLogsOnError":
            return text
        return tail(log)


def tail(log: Path) -> str:
    """The last lines of a log in CRI format, at most LOG_LINES and LOG_LIMIT bytes."""
    try:
        with log.open("rb") as opened:
            opened.seek(0, os.SEEK_END)
            opened.seek(max(0, opened.tell() - 8 * LOG_LIMIT))
            lines = opened.read().splitlines()[-LOG_LINES:]
    except OSError:
        return ""
    texts = []
    for line in lines:
        parts = line.split(b" ", 3)
        if len(parts) == 4:
            texts.append(parts[3] + (b"\n" if parts[2] == b"F" else b""))
    return b"".join(texts)[-LOG_LIMIT:].decode(errors="replace")
