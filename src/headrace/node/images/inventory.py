"""What environments there are, what they cost, and which of them nobody needs.

Seen from outside: files only, so that it works beside a running platform and without one. Who uses an environment is
told by those who ask: pods by their containers' image ids, images by their records.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.node.images import trees
from headrace.node.images.environments import META

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Found:
    """An environment on disk."""

    key: str
    path: Path
    python: str
    requirements: tuple[str, ...]
    size: int
    last_use: dt.datetime
    building: bool = False
    """It is being made at this moment; `size` is what is there already."""
    used_by: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "id": self.key,
            "path": str(self.path),
            "python": self.python,
            "requirements": list(self.requirements),
            "sizeBytes": self.size,
            "lastUse": self.last_use.isoformat(),
            "building": self.building,
            "usedBy": self.used_by,
        }


def environments(cache: Path) -> list[Found]:
    """All of a cache folder, those that are being built first, then the last used first."""
    folder = cache / "environments"
    if not folder.is_dir():
        return []
    found = []
    for path in folder.iterdir():
        made = _building(cache, path) if path.name.startswith(".") else _built(path)
        if made is not None:
            found.append(made)
    return sorted(found, key=lambda f: (not f.building, -f.last_use.timestamp()))


def _built(path: Path) -> Found | None:
    try:
        meta = _wire.decode_any((path / META).read_bytes())
        lines = (path / "requirements.txt").read_text(encoding="utf-8").splitlines()
        used = (path / META).stat().st_mtime
    except (OSError, _wire.DecodeError):
        return None
    return Found(
        path.name, path, str(meta["python"]), tuple(line for line in lines if line), int(meta["size"]), _moment(used)
    )


def _building(cache: Path, path: Path) -> Found | None:
    """What is half made; None when nobody is at it any more."""
    key = path.name.removeprefix(".").removesuffix(".new")
    if not path.name.endswith(".new") or not _held(cache / "flight" / key):
        return None
    try:
        lines = (path / "requirements.txt").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return Found(key, path, "", tuple(lines), trees.size(path), _moment(path.stat().st_mtime), building=True)


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def _held(file: Path) -> bool:
    """Whether somebody builds under this lock."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def of_image(found: Iterable[Found], requirements: Iterable[str]) -> list[Found]:
    """The environments that hold exactly what an image needs."""
    wanted = sorted(line for line in requirements if line)
    return [one for one in found if sorted(one.requirements) == wanted]


def remove(cache: Path, found: Found) -> bool:
    """Delete it unless it is being built; whether it is gone."""
    lock = cache / "flight" / found.key
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not (found.path / META).is_file():
            return False
        gone = found.path.with_name(f".{found.key}.gone")
        shutil.rmtree(gone, ignore_errors=True)
        found.path.rename(gone)  # at once: nobody sees half an environment
        shutil.rmtree(gone, ignore_errors=True)
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(descriptor)
    return True
