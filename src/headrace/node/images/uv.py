"""Running uv: where it is, with which variables, and what it says when it fails."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.machinery.processes import running
from headrace.node.images import pip_config

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_LEAD = re.compile(r"^\s*(?:(?:error|caused by|cause|hint)\b|[^\w\s]+)\s*:?\s*", re.IGNORECASE)
"""What a line begins with: a lead word, or the frame that some versions of uv draw."""
_ON_ITS_WAY = re.compile(
    r"\s*(?:Using|Resolved|Audited|Prepared|Installed|Uninstalled|Downloading|Downloaded|Building|Built)\b|\s*[+-] \S"
)
"""What uv says while all goes well."""
_CHUNK = 1 << 16
_OWN = {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "CONDA_PREFIX", "UV_PYTHON", "UV_PROJECT", "UV_WORKING_DIR"}


def _unheard(line: str) -> None:
    """For whoever does not care."""


class UvFailed(Exception):
    """uv ended with an error; the message is its own, on one line."""

    def __init__(self, message: str, *, unsatisfiable: bool) -> None:
        super().__init__(message)
        self.unsatisfiable = unsatisfiable
        """The requirements themselves are wrong: trying again later will not help."""


class Uv:
    """uv with this home's cache and the machine's pip configuration."""

    def __init__(self, cache: Path, environ: Mapping[str, str] | None = None, *, home: Path | None = None) -> None:
        source = dict(os.environ if environ is None else environ)
        options = pip_config.read(source, home=home)
        self.cache = cache
        self.pods_env = pip_config.for_pods(options)
        """PIP_* variables for pods."""
        self._env = {k: v for k, v in source.items() if k not in _OWN}
        self._env |= pip_config.for_uv(options, source)
        self._env.setdefault("UV_CACHE_DIR", str(cache / "uv"))
        self._env |= {
            "UV_LINK_MODE": "hardlink",
            "UV_NO_PROGRESS": "true",
            "UV_PYTHON_DOWNLOADS": "never",
            "NO_COLOR": "1",
        }
        self._args = ("--no-index",) if pip_config.truth(options.get("no-index", "")) else ()

    @property
    def sources(self) -> str:
        """Everything of the configuration that a resolution depends on; it may hold passwords: hash it."""
        names = ("INDEX", "FIND_LINKS", "CONSTRAINT", "PRERELEASE", "RESOLUTION", "EXCLUDE_NEWER", "OVERRIDE")
        held = {k: v for k, v in self._env.items() if k.startswith("UV_") and any(n in k for n in names)}
        return repr((sorted(held.items()), self._args))

    async def venv(self, target: Path, python: Path) -> None:
        """An empty environment that may be renamed."""
        await self._run("venv", "--relocatable", "--no-project", "--python", str(python), str(target))

    async def compile(
        self,
        python: Path,
        source: Path,
        options: Sequence[str],
        *,
        no_deps: bool,
        hear: Callable[[str], None] = _unheard,
    ) -> list[str]:
        """The requirements of a file as exact versions; `hear` is told each line that uv says on its way."""
        args = ["pip", "compile", "--no-header", "--no-annotate", "--python", str(python), *self._args, *options]
        if no_deps:
            args.append("--no-deps")
        output = await self._run(*args, str(source), hear=hear)
        return [line for line in output.splitlines() if line.strip() and not line.startswith("#")]

    async def install(
        self,
        python: Path,
        source: Path,
        wheels: Sequence[Path],
        options: Sequence[str],
        *,
        hear: Callable[[str], None] = _unheard,
    ) -> None:
        """Installs exactly what a file and these wheels name into the environment of an interpreter."""
        args = ["pip", "install", "--no-deps", "--python", str(python), *self._args, *options]
        await self._run(*args, "--requirements", str(source), *(str(w) for w in wheels), hear=hear)

    async def forget(self) -> bool:
        """Removes what is kept to build environments faster, if it is this home's; whether there was anything. What is
        built already keeps its own. Raises UvFailed.
        """
        kept = Path(self._env["UV_CACHE_DIR"])
        if not kept.is_relative_to(self.cache) or not _holds_packages(kept):
            return False
        await self._run("cache", "clean", "--quiet")
        return True

    async def wheel(self, project: Path, target: Path, python: Path) -> None:
        """Builds a project's wheel into a folder."""
        source = ("--no-index",) if self._args else ()
        await self._run("build", "--wheel", "--out-dir", str(target), "--python", str(python), *source, str(project))

    async def _run(self, *args: str, hear: Callable[[str], None] = _unheard) -> str:
        self.cache.mkdir(parents=True, exist_ok=True)
        async with running(_program(), *args, cwd=self.cache, env=self._env) as process:
            output, errors, _ = await asyncio.gather(
                _all_of(process.stdout), _lines_of(process.stderr, hear), process.wait()
            )
        if process.returncode:
            raise failure(errors)
        return output.decode()


def _holds_packages(cache: Path) -> bool:
    return any(cache.glob("archive-*/*"))


async def _all_of(stream: asyncio.StreamReader | None) -> bytes:
    return b"" if stream is None else await stream.read()


async def _lines_of(stream: asyncio.StreamReader | None, hear: Callable[[str], None]) -> str:
    """All that was said; each line is handed on when it is complete."""
    said: list[str] = []
    begun = b""
    while stream is not None and (chunk := await stream.read(_CHUNK)):
        *lines, begun = (begun + chunk).split(b"\n")
        for line in lines:
            said.append(line.decode(errors="replace"))
            hear(said[-1])
    return "\n".join([*said, begun.decode(errors="replace")])


def _program() -> str:
    import uv  # noqa: PLC0415  # only needed when something is built

    try:
        return uv.find_uv_bin()
    except FileNotFoundError as error:
        found = shutil.which("uv")
        if found is None:
            message = "uv is not installed beside the platform: run pip install uv in its environment"
            raise UvFailed(message, unsatisfiable=False) from error
        return found


def failure(stderr: str) -> UvFailed:
    """Its explanation as one line: without its frame, its lead words and its warnings."""
    lines = [line for line in stderr.splitlines() if line.strip() and not line.lower().startswith("warning")]
    lines = [line for line in lines if not _ON_ITS_WAY.match(line)] or lines
    joined: list[str] = []
    for line in lines:
        text = _LEAD.sub("", line).strip()
        if not text:
            continue
        starts_anew = text != line.strip() or not joined
        if starts_anew:
            joined.append(text)
        else:
            joined[-1] += " " + text
    message = ": ".join(part.rstrip(":. ") for part in joined) or "uv failed without a message"
    return UvFailed(
        _without_secrets(message)[:900], unsatisfiable="unsatisfiable" in stderr or "Failed to parse" in stderr
    )


def _without_secrets(text: str) -> str:
    return re.sub(r"(\w+://)[^/@\s]+@", r"\1***@", text)
