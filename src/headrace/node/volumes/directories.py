"""Volumes that are directories: emptyDir, hostPath, claims; and paths inside a volume."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.node.volumes import VolumeError

if TYPE_CHECKING:
    from headrace.api.core import HostPathVolumeSource

_KINDS = {
    "Directory": (stat.S_ISDIR, "directory"),
    "File": (stat.S_ISREG, "file"),
    "Socket": (stat.S_ISSOCK, "socket file"),
    "CharDevice": (stat.S_ISCHR, "character device"),
    "BlockDevice": (stat.S_ISBLK, "block device"),
}


def host_path(source: HostPathVolumeSource, keep_out: Path | None = None) -> Path:
    """The file or directory, checked and where asked for created. Nothing in `keep_out` or around it may be had; the
    path comes back without links then, so that none can be changed to lead there. Raises VolumeError.
    """
    path = Path(source.path)
    if not path.is_absolute() or ".." in path.parts:
        raise VolumeError(f"hostPath {source.path} must be absolute and without ..")
    if keep_out is not None:
        path, own = path.resolve(), keep_out.resolve()
        if path.is_relative_to(own):
            raise VolumeError(f"hostPath {source.path} is the platform's own: use a PersistentVolumeClaim for data")
        if own.is_relative_to(path):
            raise VolumeError(
                f"hostPath {source.path} holds the platform's keys and data in {own}: mount a folder beside that"
            )
    kind = source.type
    try:
        if kind == "DirectoryOrCreate":
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
            kind = "Directory"
        elif kind == "FileOrCreate":
            path.touch(mode=0o644, exist_ok=True)
            kind = "File"
        elif not kind:
            # Unchecked, as upstream; container runtimes create what is not there.
            if not path.exists():
                path.mkdir(mode=0o755, parents=True)
            return path
        mode = path.stat().st_mode
    except FileExistsError as error:
        raise VolumeError(f"hostPath type check failed: {path} is not a directory") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise VolumeError(f"hostPath type check failed: {path}: {reason.lower()}") from error
    if kind not in _KINDS:
        known = ", ".join(_KINDS)
        raise VolumeError(f"hostPath type {kind} is not known: use one of {known}, DirectoryOrCreate, FileOrCreate")
    check, word = _KINDS[kind]
    if not check(mode):
        raise VolumeError(f"hostPath type check failed: {path} is not a {word}")
    return path


def make_empty(path: Path) -> Path:
    """An empty directory that every user of the pod may write to, as the kubelet makes it."""
    folder = str(path)
    os.makedirs(folder, exist_ok=True)
    os.chmod(folder, 0o777)  # noqa: S103  # whoever the pod runs as
    return path


def inside(root: Path, sub_path: str, *, read_only: bool = False) -> Path:
    """A path below a volume's root, made if it is not there. No link may lead out. Raises VolumeError."""
    relative = Path(sub_path)
    if relative.is_absolute() or ".." in relative.parts:
        raise VolumeError(f"subPath {sub_path!r} must be relative and without ..")
    base = root.resolve()
    if base.is_file():
        raise VolumeError(f"subPath {sub_path!r} needs a volume that is a directory")
    target = (base / relative).resolve()
    if not target.is_relative_to(base):
        raise VolumeError(f"subPath {sub_path!r} leads out of its volume")
    if not target.exists():
        if read_only and not os.access(base, os.W_OK):
            raise VolumeError(f"subPath {sub_path!r} does not exist in its read-only volume")
        target.mkdir(mode=0o777, parents=True)
    return target
