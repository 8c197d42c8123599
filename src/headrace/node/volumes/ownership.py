"""fsGroup: a pod's volumes belong to its group, which may do what their owner may.

Only root can give files away; where the platform runs as an ordinary user all of a pod's processes are that user.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_FILE, _FOLDER = 0o660, 0o770 | stat.S_ISGID
ON_MISMATCH = "OnRootMismatch"


def give(root: Path, group: int, policy: str | None) -> None:
    """Let the group own a volume and all in it; with OnRootMismatch only when its top folder is not the group's yet."""
    if os.geteuid() != 0:
        return
    top = root.lstat()
    if policy == ON_MISMATCH and top.st_gid == group and top.st_mode & _FOLDER == _FOLDER:
        return
    # The top last: what is interrupted is done again.
    for folder, _, names in os.walk(root, topdown=False):
        for name in names:
            _one(os.path.join(folder, name), group)  # noqa: PTH118  # a path object each would double the time
        _one(folder, group)


def _one(path: str, group: int) -> None:
    try:
        mode = os.lstat(path).st_mode
        os.lchown(path, -1, group)
        if not stat.S_ISLNK(mode):
            os.chmod(path, stat.S_IMODE(mode) | (_FOLDER if stat.S_ISDIR(mode) else _FILE))  # noqa: PTH101
    except FileNotFoundError:
        return  # somebody else has removed it meanwhile
