"""Copies of volumes: a claim whose data source is another claim begins with what that one holds.

The source may be in use, and whoever uses it is not trusted: nothing is opened by a path that leads through it, so that
no link in it, also none that appears in the meantime, can make the copy hold anything else. A copy appears under its
name complete, by one rename. Sockets, pipes and devices are left out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from threading import Event

_AT_ONCE = 1 << 26
"""Bytes; between two such pieces a copy can be stopped."""
_CANNOT = {errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}
_SOURCE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TARGET = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Stopped(Exception):
    """Nobody wants the copy any more."""


def part(target: Path) -> Path:
    """Where a copy grows."""
    return target.with_name(f".{target.name}.part")


def discard(target: Path) -> None:
    """Remove what an attempt left."""
    shutil.rmtree(part(target), ignore_errors=True)


def copy(source: Path, target: Path, stop: Event) -> None:
    """Make `target` a copy of the folder `source`, unless it is there already. Raises OSError, Stopped."""
    if target.exists():
        return
    discard(target)
    growing = part(target)
    growing.mkdir(parents=True)
    try:
        top = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            into = os.open(growing, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _Copy(stop).folder(top, into)
            finally:
                os.close(into)
        finally:
            os.close(top)
        growing.rename(target)
    except BaseException:
        discard(target)
        raise


@dataclass(slots=True)
class _Copy:
    stop: Event

    def folder(self, source: int, target: int) -> None:
        """All below an open folder, then its own owner, mode and times."""
        for name in os.listdir(source):
            if self.stop.is_set():
                raise Stopped
            with contextlib.suppress(FileNotFoundError):  # whoever uses the source may remove it meanwhile
                self._entry(name, source, target)
        _like(target, os.fstat(source))

    def _entry(self, name: str, source: int, target: int) -> None:
        found = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            _own(name, target, found)
            return
        if not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)):
            return
        opened = os.open(name, _SOURCE, dir_fd=source)
        try:
            found = os.fstat(opened)  # what is open counts: the name may mean something else by now
            if stat.S_ISDIR(found.st_mode):
                os.mkdir(name, 0o700, dir_fd=target)
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target)
                try:
                    self.folder(opened, inner)
                finally:
                    os.close(inner)
            elif stat.S_ISREG(found.st_mode):
                made = os.open(name, _TARGET, 0o600, dir_fd=target)
                try:
                    self._bytes(opened, made)
                    _like(made, found)
                finally:
                    os.close(made)
        finally:
            os.close(opened)

    def _bytes(self, source: int, target: int) -> None:
        """Shared blocks where the file system can, else the quickest way that there is."""
        some: Callable[[int, int, int], int] = os.copy_file_range
        while True:
            try:
                done = some(source, target, _AT_ONCE)
            except OSError as error:
                if some is _send or error.errno not in _CANNOT:
                    raise
                some = _send
                continue
            if not done:
                return
            if self.stop.is_set():
                raise Stopped


def _send(source: int, target: int, count: int) -> int:
    return os.sendfile(target, source, None, count)


def _own(name: str, folder: int, found: os.stat_result) -> None:
    with contextlib.suppress(PermissionError):  # as an ordinary user all files are that user's
        os.chown(name, found.st_uid, found.st_gid, dir_fd=folder, follow_symlinks=False)


def _like(made: int, found: os.stat_result) -> None:
    with contextlib.suppress(PermissionError):
        os.fchown(made, found.st_uid, found.st_gid)
    os.fchmod(made, stat.S_IMODE(found.st_mode))
    os.utime(made, ns=(found.st_atime_ns, found.st_mtime_ns))
