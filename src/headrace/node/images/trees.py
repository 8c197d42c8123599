"""The files of an image: how they are kept, and where a container has to show them.

An image's files lie in one folder as they would below its root. Where the machine has no such folder, the image's is
shown in its place; where it has one (/etc, /usr/local/bin), the image's files are laid over it. Both are writable for
the container and thrown away with it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

OWN = frozenset({"dev", "home", "media", "mnt", "proc", "root", "run", "tmp"})
"""Top-level folders that every container has for itself, whatever the machine has there."""


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of an image as a container sees it."""

    target: str
    source: Path
    host: Path | None = None
    """The machine's folder below it, if there is one."""


def places(tree: Path, host: Path = Path("/")) -> tuple[list[Place], list[tuple[str, Path]]]:
    """The folders to show, none inside another; and the files that lie directly below the root."""
    found: list[Place] = []
    files: list[tuple[str, Path]] = []
    if tree.is_dir():
        _walk(tree, "", host, found, files)
    return found, files


def _walk(folder: Path, target: str, host: Path, found: list[Place], files: list[tuple[str, Path]]) -> None:
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        path, source = f"{target}/{entry.name}", Path(entry.path)
        if not entry.is_dir(follow_symlinks=False):
            files.append((path, source))
            continue
        there = host / path.lstrip("/")
        if path.split("/")[1] in OWN:
            there = Path("/nonexistent")
        if not there.is_dir() and path.strip("/") not in OWN:
            found.append(Place(path, source))
        elif any(not e.is_dir(follow_symlinks=False) for e in list(os.scandir(source))):
            found.append(Place(path, source, there if there.is_dir() else None))
        else:
            _walk(source, path, host, found, files)


def digest(tree: Path) -> str:
    """Equal for equal names, contents and permissions, whatever the times."""
    total = hashlib.sha256()
    if tree.is_file():
        return _of_file(tree)
    for folder, names, files in os.walk(tree):
        names.sort()
        for name in sorted([*files, *(n for n in names if os.path.islink(os.path.join(folder, n)))]):  # noqa: PTH114, PTH118 - a walk
            path = Path(folder, name)
            total.update(f"{path.relative_to(tree)}\0{stat.S_IMODE(path.lstat().st_mode):o}\0".encode())
            total.update((os.readlink(path) if path.is_symlink() else _of_file(path)).encode() + b"\0")  # noqa: PTH115 - its text
        total.update(f"{Path(folder).relative_to(tree)}/\0".encode())
    return total.hexdigest()


def _of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size(tree: Path) -> int:
    """Bytes of its files."""
    total = 0
    for folder, _, files in os.walk(tree):
        total += sum(Path(folder, name).lstat().st_size for name in files)
    return total


def copy_into(source: Path, target: Path) -> None:
    """Copy a file, or what is in a folder, over what is there; links stay links."""
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink() or target.is_file():
        target.unlink()
    shutil.copy2(source, target, follow_symlinks=False)
