"""Writing secret files so that no reader ever sees half of one, and nobody but the owner reads any.

Invariants: a file is complete or absent (temporary name, fsync, rename); a key is 0600 from its first byte.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_secret(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace `path` atomically; the folder is made with 0700 when it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)  # noqa: PTH105 - the temporary name is a string already
    except BaseException:
        os.unlink(name)  # noqa: PTH108
        raise
