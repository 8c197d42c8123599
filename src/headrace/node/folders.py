"""Where the agent keeps what belongs to one pod: big things on disk, small ones and secrets in memory.

Tokens, Secrets and ConfigMaps are never written to a disk where the machine has shared memory (as the kubelet
keeps them on tmpfs), which also makes a pod's start independent of how busy the disk is.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.node.runtime.sandboxd import linux
from headrace.node.runtime.sandboxd.trash import discard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.machinery.settings import Settings

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # it is shared memory that is wanted
TRASH = ".trash"
SMALL = 16 << 20
"""Free bytes below which shared memory is not used for small files."""


class PodFolders:
    """The folders of one home's pods."""

    def __init__(self, settings: Settings, memory: Path = SHARED_MEMORY) -> None:
        self._disk = settings.run / "agent" / "pods"
        self.home = settings.home
        """The platform's own, which pods must not mount."""
        self.volumes = settings.volumes
        """Where persistent volumes of the platform's own lie."""
        self._root = memory
        name = hashlib.sha256(str(settings.home.absolute()).encode()).hexdigest()[:12]
        self._memory = memory / f"headrace-{os.getuid()}-{name}"
        self._in_memory = self.free_memory() >= SMALL and _own(self._memory)

    def begin(self) -> None:
        """Before the first pod comes."""
        self._disk.mkdir(parents=True, exist_ok=True)
        linux.spread(str(self._disk))

    def disk(self, uid: str) -> Path:
        """For what may be large."""
        return self._disk / uid

    def small(self, uid: str) -> Path:
        """For what is small, or must not reach a disk."""
        return self._memory / uid if self._in_memory else self._disk / uid

    def free_memory(self) -> int:
        """Bytes that shared memory still holds; 0 where there is none to be used."""
        try:
            found = os.statvfs(self._root)
        except OSError:
            return 0
        return found.f_bavail * found.f_frsize if os.access(self._root, os.W_OK) else 0

    def all(self) -> set[str]:
        """The pods that have a folder."""
        found = {p.name for p in _entries(self._disk)}
        found |= {p.name for p in _entries(self._memory)} if self._in_memory else set()
        return found - {TRASH}

    @property
    def trash(self) -> tuple[Path, ...]:
        """Where what was discarded waits for somebody to remove it."""
        return (self._disk / TRASH, self._memory / TRASH) if self._in_memory else (self._disk / TRASH,)

    def discard(self, uid: str) -> None:
        """Everything of a pod is out of the way at once, and in the trash."""
        for trash in self.trash:
            discard(str(trash.parent / uid), str(trash))

    def remove(self, uid: str) -> None:
        """Delete everything of a pod."""
        shutil.rmtree(self._disk / uid, ignore_errors=True)
        if self._in_memory:
            shutil.rmtree(self._memory / uid, ignore_errors=True)

    def close(self) -> None:
        """Leave no trash, and nothing in shared memory when no pod does."""
        for trash in self.trash:
            shutil.rmtree(trash, ignore_errors=True)
        if self._in_memory:
            with contextlib.suppress(OSError):
                self._memory.rmdir()


def _own(folder: Path) -> bool:
    """Whether this folder is ours alone: others may write beside it."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) == 0o700


def _entries(folder: Path) -> Iterator[Path]:
    return iter(folder.iterdir()) if folder.exists() else iter(())
