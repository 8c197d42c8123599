"""Which Python interpreters this machine has, and the one that comes nearest to what an image asks for.

Interpreters are found, never downloaded: the platform's own, `python3.X` on PATH, pyenv's and uv's. A found
file is asked once for its version (a shim or a broken link answers nothing) and remembered.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from headrace.machinery.processes import running

_FILE = re.compile(r"python3\.(\d+)")
_QUESTION = "import sys; print(*sys.version_info[:3]); print(sys.base_prefix)"
_ANSWER_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that works. `prefix` is the folder of its standard library's installation."""

    path: Path
    version: tuple[int, int, int]
    prefix: Path

    @property
    def minor(self) -> tuple[int, int]:
        """Such as (3, 11)."""
        return self.version[:2]

    @property
    def identity(self) -> str:
        """What an environment built for it depends on."""
        return f"{self.path} {self.version} {platform.system()}-{platform.machine()}-{platform.libc_ver()[0]}"


def own() -> Interpreter:
    """The interpreter that the platform itself runs on, below any virtual environment."""
    prefix = Path(sys.base_prefix)
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    path = prefix / "bin" / name
    if not path.exists():
        path = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    return Interpreter(path, sys.version_info[:3], prefix)


class Interpreters:
    """Finds interpreters, lazily: other versions than the platform's own are looked for when asked for."""

    def __init__(self, own_interpreter: Interpreter | None = None) -> None:
        self._own = own_interpreter or own()
        self._others: dict[tuple[int, int], Interpreter] | None = None
        self._search = asyncio.Lock()

    async def choose(self, wanted: tuple[int, int] | None) -> Interpreter:
        """The interpreter of that version, or the nearest; the platform's own when any will do."""
        if wanted is None or wanted == self._own.minor:
            return self._own
        async with self._search:
            if self._others is None:
                self._others = await _find()
        return nearest(wanted, [self._own, *self._others.values()])


def nearest(wanted: tuple[int, int], found: list[Interpreter]) -> Interpreter:
    """The smallest distance in minor versions; of two equally far the newer, which reads older code."""
    return min(found, key=lambda i: (abs(i.minor[1] - wanted[1]), -i.minor[1]))


def candidates(path: str, home: Path) -> list[Path]:
    """Files that look like Python 3.8 or newer, the best of each folder's kind first."""
    folders = [Path(p) for p in path.split(os.pathsep) if p and "shims" not in Path(p).parts]
    folders += sorted((Path(os.environ.get("PYENV_ROOT") or home / ".pyenv") / "versions").glob("3.*/bin"))
    folders += sorted((home / ".local" / "share" / "uv" / "python").glob("cpython-3.*/bin"))
    folders += [Path("/usr/local/bin"), Path("/usr/bin")]
    files: dict[str, Path] = {}
    for folder in folders:
        try:
            names = sorted(file.name for file in folder.iterdir())
        except OSError:
            continue
        for name in names:
            match = _FILE.fullmatch(name)
            if match and int(match[1]) >= 8:
                real = os.path.realpath(folder / name)
                files.setdefault(real, folder / name)
    return list(files.values())


async def _find() -> dict[tuple[int, int], Interpreter]:
    found: dict[tuple[int, int], Interpreter] = {}
    files = candidates(os.environ.get("PATH", ""), Path.home())
    for interpreter in await asyncio.gather(*(_ask(file) for file in files)):
        if interpreter is not None:
            found.setdefault(interpreter.minor, interpreter)
    return found


async def _ask(file: Path) -> Interpreter | None:
    try:
        async with (
            running(str(file), "-I", "-c", _QUESTION, stderr=asyncio.subprocess.DEVNULL) as process,
            asyncio.timeout(_ANSWER_SECONDS),
        ):
            output, _ = await process.communicate()
    except OSError:  # of which a timeout is one
        return None
    lines = output.decode(errors="replace").splitlines()
    if process.returncode or len(lines) < 2:
        return None
    major, minor, micro = (int(part) for part in lines[0].split())
    return Interpreter(file, (major, minor, micro), Path(lines[1]))
