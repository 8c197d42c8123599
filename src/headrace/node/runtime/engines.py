"""The container engine of this machine: found, tried, asked about images.

What an engine can do is known only by trying: the first container that somebody wants makes it run `true` in an empty
folder, with the least options that work. Found here so far: limits on files and processes that podman raises by itself
and may not, and a runtime that does not know the machine's cgroups.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.machinery.processes import running

if TYPE_CHECKING:
    from collections.abc import Iterator

PODMAN, DOCKER = "podman", "docker"
_RUNTIMES = ("", "runc", "crun")
"""Podman's own choice first."""
_PROGRAM_FOLDERS = ("/usr", "/bin", "/lib", "/lib64")
_PROBE_SECONDS = 20.0
_AGAIN_SECONDS = 30.0
"""How long it is believed that an engine does not work."""
_MOST_PROCESSES = 32768
_LONGEST_SENTENCE = 600


class EngineUnavailable(Exception):
    """No engine can run containers here; the message says why and what to do."""


class ImageMissing(Exception):
    """The engine does not have the image, or cannot get it; the message is its own."""


@dataclass(frozen=True, slots=True)
class Engine:
    """Podman, and what it needs to be told here for each container."""

    program: str
    options: tuple[str, ...] = ()

    @property
    def env(self) -> dict[str, str]:
        """The environment of its client."""
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": os.environ.get("HOME", "/root")}


@dataclass(frozen=True, slots=True)
class RealImage:
    """What an image says of itself."""

    id: str
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = ""
    user: str = ""
    size: int = 0


def installed() -> list[str]:
    """The engines whose programs are here, whether they work or not."""
    return [name for name in (PODMAN, DOCKER) if shutil.which(name)]


def hopeless() -> str:
    """Why no engine need be tried, in a sentence; empty when one may work."""
    found = installed()
    if not found:
        return "Neither podman nor docker is installed: install podman to run images as they are."
    if PODMAN not in found:
        return (
            "Docker is installed, but it cannot put containers into the network of pods: install podman beside it to "
            "run images as they are."
        )
    if os.geteuid() != 0:
        return (
            "Podman is installed, but as an ordinary user it cannot put containers into the network of pods: run the "
            "platform as root to run images as they are."
        )
    return ""


def untried() -> Engine:
    """Podman, for what needs no container: removing them, asking for images."""
    return Engine(shutil.which(PODMAN) or PODMAN)


class Engines:
    """Finds the engine once, when it is needed."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._trying = asyncio.Lock()
        self._problem, self._until = "", 0.0

    @property
    def found(self) -> Engine | None:
        """The engine, if it has been tried and works."""
        return self._engine

    async def ready(self) -> Engine:
        """An engine that runs containers. Raises EngineUnavailable."""
        if self._engine is not None:
            return self._engine
        problem = hopeless()
        if problem:
            raise EngineUnavailable(problem)
        async with self._trying:
            if self._engine is None:
                if time.monotonic() < self._until:
                    raise EngineUnavailable(self._problem)
                self._engine = await self._try()
            return self._engine

    async def _try(self) -> Engine:
        program = untried().program
        said = ""
        with tempfile.TemporaryDirectory(prefix="headrace-engine-") as folder:
            for options in candidates():
                engine = Engine(program, options)
                code, _, problem = await run(engine, *probe(engine, folder), timeout=_PROBE_SECONDS)
                if code == 0:
                    return engine
                said = said or problem
        self._until = time.monotonic() + _AGAIN_SECONDS
        self._problem = (
            f"Podman is installed but runs no containers here ({said}). "
            "`podman run --rm busybox true` shows it; another runtime may help (install runc, or crun)."
        )
        raise EngineUnavailable(self._problem)

    async def image(self, name: str) -> RealImage | None:
        """What the engine has under this name. Raises EngineUnavailable."""
        engine = await self.ready()
        code, out, _ = await run(engine, "image", "inspect", name)
        if code != 0:
            return None
        return described(_wire.decode_any(out)[0])

    async def pull(self, name: str, logins: bytes = b"") -> RealImage:
        """The image, from its registry, with these logins (a file as podman reads it) or else with podman's own. Raises
        ImageMissing, EngineUnavailable.
        """
        engine = await self.ready()
        code, problem = 1, ""
        if logins:
            with tempfile.NamedTemporaryFile(prefix="headrace-logins-") as file:  # 0600
                file.write(logins)
                file.flush()
                code, _, problem = await run(engine, "pull", "--quiet", "--authfile", file.name, name)
        if code != 0:
            code, _, own_problem = await run(engine, "pull", "--quiet", name)
            problem = problem or own_problem
        if code != 0:
            raise ImageMissing(problem)
        found = await self.image(name)
        if found is None:
            raise ImageMissing(f"podman has pulled {name} and does not find it")
        return found


def candidates() -> Iterator[tuple[str, ...]]:
    """Options to try, the simplest first."""
    files = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 1 << 20)
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    processes = _MOST_PROCESSES if processes < 0 else min(processes, _MOST_PROCESSES)
    own = ("--ulimit", f"nofile={files}:{files}", "--ulimit", f"nproc={processes}:{processes}")
    for limits in ((), own):
        for runtime in _RUNTIMES:
            if not runtime or shutil.which(runtime):
                yield (*(("--runtime", runtime) if runtime else ()), *limits)


def probe(engine: Engine, folder: str) -> list[str]:
    """The words that run `true`, for which the machine's own programs are shown in an empty folder."""
    shown = [f"--volume={path}:{path}:ro" for path in _PROGRAM_FOLDERS if Path(path).is_dir()]
    words = ["run", "--rm", "--network", "none", "--log-driver", "none", *engine.options, *shown]
    return [*words, "--rootfs", folder, "/bin/true"]


async def run(engine: Engine, *words: str, timeout: float | None = None) -> tuple[int, bytes, str]:
    """Ask the engine: its exit code, its output, and its last words."""
    try:
        async with running(engine.program, *words, env=engine.env) as process, asyncio.timeout(timeout):
            out, err = await process.communicate()
    except TimeoutError:
        return 124, b"", f"podman {words[0]} did not end within {timeout:.0f} s"
    except OSError as error:
        return 127, b"", f"{engine.program}: {error.strerror}"
    return process.returncode or 0, out, sentence(err.decode(errors="replace"))


def sentence(text: str) -> str:
    """The last line of what an engine said, without its mark."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("Error: ").rstrip(".")[:_LONGEST_SENTENCE] if lines else "it said nothing"


def described(document: dict[str, Any]) -> RealImage:
    """What `image inspect` says."""
    config = document.get("Config") or {}
    pairs = (entry.partition("=") for entry in config.get("Env") or ())
    return RealImage(
        id=str(document["Id"]).removeprefix("sha256:"),
        entrypoint=tuple(config.get("Entrypoint") or ()),
        command=tuple(config.get("Cmd") or ()),
        env={name: value for name, _, value in pairs},
        workdir=config.get("WorkingDir") or "",
        user=config.get("User") or "",
        size=int(document.get("Size") or 0),
    )
