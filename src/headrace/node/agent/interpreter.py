"""The platform's own interpreter inside an image as it is, for the platform's own programs.

A step's launcher, say, must run in images that have no Python, or another one. The interpreter that runs this process
is shown there with the libraries that it has loaded, and is started by its own loader, so that nothing of the image is
used and nothing is left to the programs that it starts.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from pathlib import Path

from headrace.node.agent.host import programs
from headrace.node.images.catalogue import PROGRAMS
from headrace.node.runtime.base import Mount

FOLDER = "/opt/headrace-python"
_PYTHONS = frozenset({"python", "python3"})
_LIBRARY = re.compile(r"(?:ld-linux|ld-musl|ld64|libc\.so|libc-)[^/]*$")


def needed(words: tuple[str, ...]) -> tuple[Mount, ...]:
    """What a container must be shown to run this; nothing when it runs no program of the platform's."""
    if len(words) < 2 or words[0] not in _PYTHONS or not words[1].startswith(f"{PROGRAMS}/"):
        return ()
    shown = (Mount(FOLDER + folder, Path(folder), read_only=True) for folder in outermost(_folders()))
    return (programs(), *shown)


def inside(words: tuple[str, ...]) -> tuple[str, ...]:
    """The same command with the interpreter as it is seen there."""
    python = [f"{FOLDER}{os.path.realpath(sys.executable)}", "-I", "-S", "-B", *words[1:]]
    loader = next((library for library in _libraries() if Path(library).name.startswith("ld")), None)
    if loader is None:
        return tuple(python)
    # Its own folder first: a distribution's libpython of the same name may lie beside the C library.
    folders = (f"{os.path.realpath(sys.base_prefix)}/lib", *(str(Path(library).parent) for library in _libraries()))
    path = ":".join(dict.fromkeys(f"{FOLDER}{folder}" for folder in folders))
    return (f"{FOLDER}{loader}", "--library-path", path, *python)


def outermost(folders: tuple[str, ...]) -> list[str]:
    """Those that lie in none of the others."""
    found: list[str] = []
    for folder in sorted(dict.fromkeys(folders)):
        if not any(folder.startswith(f"{outer}/") for outer in found):
            found.append(folder)
    return found


def _folders() -> tuple[str, ...]:
    return (os.path.realpath(sys.base_prefix), *(str(Path(library).parent) for library in _libraries()))


@functools.cache
def _libraries() -> tuple[str, ...]:
    """The loader and the C library of this process, by their real paths."""
    with Path("/proc/self/maps").open() as maps:
        mapped = dict.fromkeys(line.split(maxsplit=5)[5].strip() for line in maps if line.count("/"))
    return tuple(os.path.realpath(path) for path in mapped if _LIBRARY.search(path))
