"""Compiled modules of the control plane, where the installation has none and Python may not keep any beside it.

Installers that compile nothing and `PYTHONDONTWRITEBYTECODE`, which many machines set, would otherwise let every
start compile some hundred thousand lines again: most of the time that it takes. The folder is the platform's state,
because pods, which must not reach the code that the platform runs, see nothing of that.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import headrace

if TYPE_CHECKING:
    from headrace.machinery.settings import Settings

PREFIX = "PYTHONPYCACHEPREFIX"
NOT_WRITTEN = "PYTHONDONTWRITEBYTECODE"
_NOT_WRITTEN_BEFORE = "HEADRACE_NOT_WRITTEN_BEFORE"


def is_kept() -> bool:
    """Whether this package, imported by now, has its bytecode on the disk."""
    cached = headrace.__spec__.cached
    return cached is not None and Path(cached).exists()


def folder(settings: Settings) -> Path:
    """Where the control plane keeps it otherwise; nobody else may write there."""
    settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    return settings.state / "bytecode"


def environment(settings: Settings) -> dict[str, str]:
    """The environment of a control plane that is to be started: from its first import on it keeps what it compiles."""
    found = dict(os.environ)
    if not is_kept():
        found[_NOT_WRITTEN_BEFORE] = found.pop(NOT_WRITTEN, "")
        found[PREFIX] = str(folder(settings))
    return found


def keep(settings: Settings) -> None:
    """Keep what this process compiles; the programs that it starts later hear nothing of it."""
    if _NOT_WRITTEN_BEFORE in os.environ:
        del os.environ[PREFIX]
        before = os.environ.pop(_NOT_WRITTEN_BEFORE)
        if before:
            os.environ[NOT_WRITTEN] = before
    elif not is_kept():
        sys.pycache_prefix = str(folder(settings))
        sys.dont_write_bytecode = False
