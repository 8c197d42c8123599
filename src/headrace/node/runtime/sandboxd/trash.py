"""What pods leave behind: out of the way at once, removed soon, by a process that nobody waits for.

A folder is discarded by moving it into a trash folder of the same file system; whoever empties that needs to know
nothing of what it was. What cannot be moved is removed where it is.
"""

from __future__ import annotations

import os
import time


def discard(path: str, trash: str) -> bool:
    """Move a folder into the trash, which is made if need be; false when there is no such folder."""
    target = f"{trash}/{os.path.basename(path)}.{time.monotonic_ns():x}"
    try:
        os.rename(path, target)
    except FileNotFoundError:
        if not os.path.isdir(path):
            return False
        os.makedirs(trash, mode=0o700, exist_ok=True)
        return discard(path, trash)
    except OSError:
        remove_tree(path)
    return True


def empty(folder: str) -> None:
    """Remove all that is in a folder, as far as possible."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        path = f"{folder}/{name}"
        if os.path.isdir(path) and not os.path.islink(path):
            remove_tree(path)
        else:
            try:
                os.unlink(path)
            except OSError:
                continue


def remove_tree(path: str) -> None:
    """Remove a folder and all in it, as far as possible."""
    try:
        entries = list(os.scandir(path))
    except PermissionError:
        try:
            os.chmod(path, 0o700)  # overlays leave work folders without any permission
            entries = list(os.scandir(path))
        except OSError:
            return
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            remove_tree(entry.path)
        else:
            try:
                os.unlink(entry.path)
            except OSError:
                continue
    try:
        os.rmdir(path)
    except OSError:
        return
