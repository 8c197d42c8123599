"""Environments: content-addressed folders of packages, built once with uv and shared by every pod.

Two keys. What is asked for (requirements, sources, options, interpreter) leads to a lock, which is kept for
LOCK_SECONDS; a lock and an interpreter lead to an environment, which is kept for ever. An environment appears
under its name complete, by one rename. Of several that want the same one, in this process or another, one
builds and the others wait. Below the cache folder:

    environments/<key>/   a relocatable virtual environment and `headrace.json`
    locks/<key>.json      a lock and when it was made
    flight/<key>          held by whoever builds
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import fcntl
import hashlib
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from headrace.api import _wire
from headrace.node.images import bytecode
from headrace.node.images.progress import Progress, listed
from headrace.node.images.requirements import canonical
from headrace.node.images.uv import UvFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from headrace.machinery.clock import Clock
    from headrace.node.images.interpreters import Interpreter
    from headrace.node.images.requirements import Requirements
    from headrace.node.images.uv import Uv

log = logging.getLogger(__name__)

R = TypeVar("R")

LOCK_SECONDS = 24 * 3600.0
FORMAT = "1"
"""Part of every environment's key: raise it when environments are built in another way."""
META = "headrace.json"


@dataclass(frozen=True, slots=True)
class Built:
    """An environment on disk."""

    key: str
    path: Path
    interpreter: Interpreter
    packages: tuple[str, ...]
    """Normalised names of the distributions in it."""
    size: int
    """Bytes of its files; shared ones count in full."""

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.path / "bin" / "python3"


@dataclass(frozen=True, slots=True)
class Flight:
    """Something that is being made."""

    progress: Progress
    begun: dt.datetime


class Environments:
    """Finds or builds environments below one cache folder."""

    def __init__(self, cache: Path, uv: Uv, clock: Clock) -> None:
        self._cache, self._uv, self._clock = cache, uv, clock
        self._flights: dict[str, tuple[asyncio.Task[Any], Flight]] = {}
        self._compiler = bytecode.Compiler()

    async def ensure(
        self, interpreter: Interpreter, wanted: Requirements, *, on_build: Callable[[Progress], None] = lambda _: None
    ) -> Built:
        """The environment for these requirements. Raises UvFailed.

        `on_build` is called when it is not there yet, with what will say how far it is: once for its versions, when
        they are not known, and once for itself.
        """
        lock = await self._lock(interpreter, wanted, on_build)
        key = _digest(FORMAT, interpreter.identity, *lock)
        found = self._read(key, interpreter)
        if found is None:
            work = f"installing {listed([canonical(line) for line in lock])}" if lock else "making an empty environment"
            found = await self._once(
                f"env-{key}",
                work,
                lambda progress: self._build(key, interpreter, lock, wanted.options, progress),
                on_build,
            )
        self._compiler.want(found.path, found.python)
        return found

    def flights(self) -> dict[str, Flight]:
        """What this process makes now: environments by their key, versions that are being found by `versions-…`."""
        found = {}
        for name, (_, flight) in self._flights.items():
            kind, _, key = name.partition("-")
            found[key if kind == "env" else f"versions-{key}"] = flight
        return found

    async def close(self) -> None:
        """Stop what is being built; it will be built again when asked for."""
        tasks = [task for task, _ in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._compiler.close()

    async def _lock(
        self, interpreter: Interpreter, wanted: Requirements, on_build: Callable[[Progress], None]
    ) -> list[str]:
        if not wanted:
            return []
        key = _digest(interpreter.identity, self._uv.sources, repr(wanted))
        file = self._cache / "locks" / f"{key}.json"
        kept = _read_json(file)
        if kept is not None and self._age(kept) < LOCK_SECONDS:
            return list(kept["lines"])
        work = f"finding versions of {listed([canonical(r) for r in (*wanted.packages, *wanted.without_deps)])}"
        try:
            return await self._once(
                f"lock-{key}",
                work,
                lambda progress: self._resolve(file, interpreter, wanted, progress),
                on_build if kept is None else lambda _: None,
            )
        except UvFailed as error:
            if kept is None:
                raise
            log.warning("packages could not be resolved anew (%s): the versions of %s stay", error, kept["created"])
            return list(kept["lines"])

    def _age(self, kept: dict[str, Any]) -> float:
        return (self._clock.now() - dt.datetime.fromisoformat(kept["created"])).total_seconds()

    async def _resolve(
        self, file: Path, interpreter: Interpreter, wanted: Requirements, progress: Progress
    ) -> list[str]:
        async with _held(self._cache / "flight" / file.stem):
            kept = _read_json(file)
            if kept is not None and self._age(kept) < LOCK_SECONDS:
                return list(kept["lines"])
            file.parent.mkdir(parents=True, exist_ok=True)
            lines: dict[str, str] = {}
            # The packages without dependencies come last: as with pip, what is installed later stays.
            for packages, no_deps in ((wanted.packages, False), (wanted.without_deps, True)):
                if packages:
                    source = file.with_suffix(".in")
                    source.write_text("\n".join(packages) + "\n")
                    for line in await self._uv.compile(
                        interpreter.path, source, wanted.options, no_deps=no_deps, hear=progress.hear
                    ):
                        lines[canonical(line)] = line
                    source.unlink()
            locked = sorted(lines.values())
            _write_json(file, {"created": self._clock.now().isoformat(), "lines": locked})
            return locked

    async def _build(
        self, key: str, interpreter: Interpreter, lock: list[str], options: tuple[str, ...], progress: Progress
    ) -> Built:
        target = self._cache / "environments" / key
        async with _held(self._cache / "flight" / key):
            found = self._read(key, interpreter)
            if found is not None:
                return found
            temporary = target.with_name(f".{key}.new")
            await asyncio.to_thread(shutil.rmtree, temporary, ignore_errors=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            await self._uv.venv(temporary, interpreter.path)
            names = [canonical(line) for line in lock]
            # The official python images hold pip; the interpreter ships its wheel, so no index is needed for it.
            wheels = [] if "pip" in names else bundled_pip(interpreter)
            source = temporary / "requirements.txt"
            source.write_text("\n".join(lock) + "\n")
            if lock or wheels:
                await self._uv.install(temporary / "bin" / "python3", source, wheels, options, hear=progress.hear)
            packages = sorted({*names, *(["pip"] if wheels else [])})
            siblings = [p for p in target.parent.iterdir() if not p.name.startswith(".")]
            await asyncio.to_thread(bytecode.adopt, temporary, siblings)
            size = await asyncio.to_thread(_size, temporary)
            _write_json(temporary / META, {"packages": packages, "size": size, "python": str(interpreter.path)})
            # Bytecode may have been written after the environment that was here had been removed.
            await asyncio.to_thread(shutil.rmtree, target, ignore_errors=True)
            temporary.rename(target)
        built = self._read(key, interpreter)
        if built is None:
            raise UvFailed(f"the environment {target} vanished while it was built", unsatisfiable=False)
        return built

    def _read(self, key: str, interpreter: Interpreter) -> Built | None:
        path = self._cache / "environments" / key
        meta = _read_json(path / META)
        if meta is None:
            return None
        return Built(key, path, interpreter, tuple(meta["packages"]), int(meta["size"]))

    async def _once(
        self,
        name: str,
        about: str,
        work: Callable[[Progress], Coroutine[Any, Any, R]],
        on_build: Callable[[Progress], None],
    ) -> R:
        flight = self._flights.get(name)
        if flight is None:
            progress = Progress(about)
            task = asyncio.create_task(work(progress), name=name)
            flight = self._flights[name] = task, Flight(progress, self._clock.now())
            flight[0].add_done_callback(lambda done: self._landed(name, done))
        on_build(flight[1].progress)
        # Whoever asked may be cancelled (its pod was deleted); the others still want the result.
        result: R = await asyncio.shield(flight[0])
        return result

    def _landed(self, name: str, task: asyncio.Task[Any]) -> None:
        self._flights.pop(name, None)
        if not task.cancelled():
            task.exception()  # read it, so that asyncio does not report it when every asker has left


def bundled_pip(interpreter: Interpreter) -> list[Path]:
    """The wheel of pip that comes with the interpreter; none where a distribution took it out."""
    major, minor = interpreter.minor
    folders = [
        interpreter.prefix / "lib" / f"python{major}.{minor}" / "ensurepip" / "_bundled",
        interpreter.prefix / "share" / "python-wheels",
    ]
    for folder in folders:
        found = sorted(folder.glob("pip-*.whl"))
        if found:
            return found[-1:]
    return []


@contextlib.asynccontextmanager
async def _held(file: Path) -> AsyncIterator[None]:
    """Holds a lock that other processes respect."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            await asyncio.to_thread(fcntl.flock, descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:24]


def _read_json(file: Path) -> dict[str, Any] | None:
    try:
        value = _wire.decode_any(file.read_bytes())
    except (OSError, _wire.DecodeError):
        return None
    return value if isinstance(value, dict) else None


def _write_json(file: Path, value: dict[str, Any]) -> None:
    temporary = file.with_name(file.name + ".new")
    temporary.write_bytes(_wire.encode(value))
    temporary.replace(file)


def _size(folder: Path) -> int:
    total = 0
    for directory, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += Path(directory, name).lstat().st_size
    return total
