"""Bytecode of environments: without it every start of a pod would compile its imports again.

Compiling sklearn and pandas takes eight seconds, so a fresh environment is used at once and compiled behind
the user's back, at low priority. An environment that shares files with an older one (they are hard links to
the same cached file) takes over the older one's bytecode instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

DONE = ".compiled"
PROGRAM = """
import compileall, concurrent.futures, ctypes, functools, multiprocessing, os, re, signal, sys
os.nice(10)
if sys.platform == "linux":
    # A pool's worker waits for ever when the process that it works for is killed.
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()
    def end_with_parent():
        prctl(1, signal.SIGKILL)
        if os.getppid() != parent:  # it was killed before we could say that
            os._exit(1)
    os.register_at_fork(after_in_child=end_with_parent)
compile = functools.partial(compileall.compile_file, quiet=2, rx=re.compile(r"/(tests?|testing/data)/"))
files = [os.path.join(folder, name) for folder, _, names in os.walk(sys.argv[1]) for name in names]
# Not `compile_dir`: since Python 3.12 its workers come from a server that is not told when we are killed.
with concurrent.futures.ProcessPoolExecutor(mp_context=multiprocessing.get_context("fork")) as pool:
    for _ in pool.map(compile, files, chunksize=8):
        pass
"""


class Compiler:
    """Compiles environments in the background, one after the other."""

    def __init__(self) -> None:
        self._wanted: dict[Path, Path] = {}
        self._seen: set[Path] = set()
        self._task: asyncio.Task[None] | None = None

    def want(self, environment: Path, python: Path) -> None:
        """Compile this one some time, unless that was done."""
        if environment in self._seen:
            return
        self._seen.add(environment)
        if (environment / DONE).exists():
            return
        self._wanted[environment] = python
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name="bytecode")

    async def close(self) -> None:
        """Stop; what is unfinished goes on when the environment is next wanted by a new process."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        while self._wanted:
            environment, python = self._wanted.popitem()
            try:
                await _compile(environment, python)
            except OSError as error:
                log.warning("bytecode of %s was not compiled: %s", environment, error)


async def _compile(environment: Path, python: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        str(python),
        "-I",
        "-c",
        PROGRAM,
        str(environment / "lib"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        code = await process.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        await process.wait()
        raise
    if code == 0:
        (environment / DONE).touch()


def adopt(environment: Path, siblings: Sequence[Path]) -> int:
    """Links the bytecode of source files that an already compiled sibling shares; returns how many."""
    compiled = [s for s in siblings if (s / DONE).exists()]
    if not compiled:
        return 0
    adopted = 0
    for directory, _, files in os.walk(environment / "lib"):
        sources = [name for name in files if name.endswith(".py")]
        if sources:
            folder = Path(directory)
            for sibling in compiled:
                adopted += _adopt_folder(folder, sibling / folder.relative_to(environment), sources)
    return adopted


def _adopt_folder(folder: Path, other: Path, sources: list[str]) -> int:
    cached = list((other / "__pycache__").glob("*.pyc"))
    if not cached:
        return 0
    shared = {name.removesuffix(".py") for name in sources if _same(folder / name, other / name)}
    own_cache = folder / "__pycache__"
    own_cache.mkdir(exist_ok=True)
    adopted = 0
    for file in cached:
        if file.name.partition(".")[0] in shared:
            with contextlib.suppress(OSError):
                (own_cache / file.name).hardlink_to(file)
                adopted += 1
    return adopted


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
