"""Unpack a tar archive of unknown origin: nothing of it lands outside the folder.

Python has `filter="data"` for this since 3.11.4; Debian 12 has 3.11.2, where the same rules are kept here. Standard
library only: programs inside pods use it as well as the node.
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path


def extract(archive: tarfile.TarFile, folder: Path) -> None:
    """Everything in the archive, below `folder`. Raises tarfile.TarError for what would leave it, and special files."""
    if hasattr(tarfile, "data_filter"):
        archive.extractall(folder, filter="data")
        return
    root = folder.resolve()
    for member in archive:
        member.name = member.name.lstrip("/")
        _check(member, root)
        member.mode = (member.mode | 0o600) & ~0o7022 if member.isfile() else 0o755
        member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
        archive.extract(member, root)


def _check(member: tarfile.TarInfo, root: Path) -> None:
    place = root / member.name
    if not place.resolve().is_relative_to(root):
        raise tarfile.ExtractError(f"{member.name!r} would be outside of the folder")
    if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
        raise tarfile.ExtractError(f"{member.name!r} is a special file")
    link = Path(member.linkname)
    if member.issym() and (link.is_absolute() or not (place.parent / link).resolve().is_relative_to(root)):
        raise tarfile.ExtractError(f"{member.name!r} is a link to {member.linkname!r}, outside of the folder")
    if member.islnk() and not (root / link).resolve().is_relative_to(root):
        raise tarfile.ExtractError(f"{member.name!r} is a link to {member.linkname!r}, outside of the folder")
