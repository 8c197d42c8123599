"""A directory whose files change together (the kubelet's AtomicWriter).

The files lie in a folder with the time in its name; the link `..data` names the folder in force, and each
visible file is a link through it. A reader sees the old set or the new one, never a mixture.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from headrace.node.runtime.sandboxd import wire

if TYPE_CHECKING:
    from collections.abc import Mapping

DATA = "..data"
_NEW = "..data_tmp"


@dataclass(frozen=True, slots=True)
class File:
    """Content and permission bits."""

    content: bytes
    mode: int = 0o644


def write(folder: Path, files: Mapping[str, File], group: int | None = None) -> bool:
    """Makes `folder` hold exactly these files (relative paths); false when it did already.

    With `group` (a pod's fsGroup) the files belong to it, and it may read what their owner may.
    """
    base = str(folder)
    try:
        os.makedirs(base)
        old, found = None, []
    except FileExistsError:
        old, found = _current(folder), os.listdir(base)
        if old is not None and _holds(old, files):
            return False
    new = f"{base}/..{time.time_ns():x}"
    os.mkdir(new)
    os.chmod(new, 0o755)  # noqa: S103  # whoever the pod runs as looks into it
    for path, file in files.items():
        target = f"{new}/{path}"
        if "/" in path:
            os.makedirs(os.path.dirname(target), exist_ok=True)
        wire.write_plain(target, file.content, file.mode if group is None else file.mode | (file.mode & 0o400) >> 3)
        if group is not None:
            os.chown(target, -1, group)
    link, temporary = f"{base}/{DATA}", f"{base}/{_NEW}"
    if found:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        os.symlink(os.path.basename(new), temporary)
        os.replace(temporary, link)
    else:
        os.symlink(os.path.basename(new), link)
    tops = {path.partition("/")[0] for path in files}
    there = {name for name in found if not name.startswith("..")}
    for name in tops - there:
        os.symlink(f"{DATA}/{name}", f"{base}/{name}")
    for name in there - tops:
        os.unlink(f"{base}/{name}")
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
    return True


def escapes(path: str) -> bool:
    """Whether a relative path leaves its folder or takes one of the names that are ours."""
    parts = PurePosixPath(path).parts
    return not parts or path.startswith("/") or ".." in parts or parts[0].startswith("..")


def _current(folder: Path) -> Path | None:
    try:
        return folder / (folder / DATA).readlink()
    except OSError:
        return None


def _holds(folder: Path, files: Mapping[str, File]) -> bool:
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    if found != set(files):
        return False
    for path, file in files.items():
        target = folder / path
        if target.stat().st_mode & file.mode != file.mode or target.read_bytes() != file.content:
            return False
    return True
