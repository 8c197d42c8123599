"""Where pods have no mounts of their own, Python programs find their volumes by the paths that they know.

A `.pth` file of the container's environment imports this at start-up. `open`, the functions of `os` and TLS contexts
then take a path below a volume's mount path for the path where the volume lies. Libraries that open files in C with a
path that they put together themselves are not reached.

The file beside this one, of the same name and `.json`, holds the paths: from what the program says to what is meant.
"""

from __future__ import annotations

import builtins
import functools
import importlib.machinery
import io
import json
import os
import sys

TYPE_CHECKING = False  # importing typing would cost every program
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_ONE = (
    "access",
    "chdir",
    "chmod",
    "chown",
    "lchown",
    "listdir",
    "lstat",
    "mkdir",
    "mkfifo",
    "open",
    "readlink",
    "remove",
    "rmdir",
    "scandir",
    "stat",
    "statvfs",
    "truncate",
    "unlink",
    "utime",
)
_TWO = ("link", "rename", "replace", "symlink")
_SETS = ("supports_dir_fd", "supports_effective_ids", "supports_fd", "supports_follow_symlinks")
"""Where `os` says what a function can do; what stands for the function can do the same."""


class Paths:
    """What is meant by a path."""

    def __init__(self, moves: Mapping[str, str]) -> None:
        self._moves = sorted(moves.items(), key=lambda move: -len(move[0]))

    def meant(self, path: Any) -> Any:
        """The path itself when it is below none of the mounts, or no path."""
        if isinstance(path, int) or path is None:
            return path
        try:
            text = os.fsdecode(path)
        except TypeError:
            return path
        for said, real in self._moves:
            if text.startswith(said) and (len(text) == len(said) or text[len(said)] == "/"):
                found = real + text[len(said) :]
                return os.fsencode(found) if isinstance(path, bytes) else found
        return path

    def wrap(self, function: Callable[..., Any], count: int) -> Callable[..., Any]:
        """The function, whose first `count` arguments are paths."""

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            for name in ("path", "src", "dst", "file"):
                if name in named:
                    named[name] = self.meant(named[name])
            return function(*(self.meant(a) for a in arguments[:count]), *arguments[count:], **named)

        return call


def install(moves: Mapping[str, str]) -> None:
    """From now on, in this process."""
    paths = Paths(moves)
    for names, count in ((_ONE, 1), (_TWO, 2)):
        for name in names:
            real = getattr(os, name)
            made = paths.wrap(real, count)
            setattr(os, name, made)
            for capable in (getattr(os, entry) for entry in _SETS):
                if real in capable:
                    capable.add(made)
    builtins.open = io.open = paths.wrap(io.open, 1)
    if "ssl" in sys.modules:
        _patch_ssl(sys.modules["ssl"], paths)
    else:
        sys.meta_path.insert(0, _AfterSsl(paths))


def _patch_ssl(module: Any, paths: Paths) -> None:
    context = module.SSLContext
    for name in ("load_verify_locations", "load_cert_chain"):
        setattr(context, name, _of_context(getattr(context, name), paths))


def _of_context(function: Callable[..., Any], paths: Paths) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        for name in ("cafile", "capath", "certfile", "keyfile"):
            if name in named:
                named[name] = paths.meant(named[name])
        return function(self, *(paths.meant(a) for a in arguments[:2]), *arguments[2:], **named)

    return call


class _AfterSsl:
    """Sees to it that `ssl` is changed when it is imported: importing it here would cost every program."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "ssl":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            _patch_ssl(module, self._paths)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]  # of this one loader only
        return spec


def main() -> None:
    """What the `.pth` file calls."""
    try:
        with open(os.path.splitext(__file__)[0] + ".json", encoding="utf-8") as file:  # noqa: PTH122, PTH123 - pathlib is slow to import
            moves = json.load(file)
    except (OSError, ValueError):
        return
    install(moves)
