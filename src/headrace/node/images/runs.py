"""Commands that run while an image is built: in a pod of their own, with the machine's network, over the image's
files.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from headrace.machinery.settings import Settings
from headrace.node.images import trees
from headrace.node.runtime.base import ContainerSpec, ContainerState, Layer, Mount, PodSandbox, StartFailed
from headrace.node.runtime.sandbox import SandboxRuntime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headrace.node.images.environments import Built

_POD = "build"
_TEMPORARY = "/tmp"  # noqa: S108 - the container's


class Runner(Protocol):
    """Runs one command over the files of an image."""

    async def run(
        self,
        argv: tuple[str, ...],
        env: Mapping[str, str],
        tree: Path,
        *,
        cwd: str,
        environment: Built | None,
        say: Callable[[str], None],
    ) -> int:
        """The exit code; `say` hears every line of its output."""
        ...


class SandboxRunner:
    """In the mode `sandbox`, apart from the platform: it need not run."""

    async def run(
        self,
        argv: tuple[str, ...],
        env: Mapping[str, str],
        tree: Path,
        *,
        cwd: str,
        environment: Built | None,
        say: Callable[[str], None],
    ) -> int:
        """See Runner. Raises RuntimeUnavailable where there is no such mode."""
        with tempfile.TemporaryDirectory(prefix="headrace-build-") as home:
            settings = Settings(home=Path(home))
            runtime = SandboxRuntime(settings)
            await runtime.start()
            try:
                await runtime.create_pod(PodSandbox(_POD, "", _POD, _POD, "", host_network=True))
                spec = ContainerSpec("run", _POD, argv, dict(env), settings.logs / "build.log", cwd=cwd)
                return await _run(runtime, _over(spec, tree, environment), say)
            finally:
                await runtime.stop(pods=True)


def _over(spec: ContainerSpec, tree: Path, environment: Built | None) -> ContainerSpec:
    """What the image has can be written to, and nothing else, so that nothing is written in vain."""
    found, files = trees.places(tree)
    mounts = [Mount(place.target, place.source) for place in found if place.host is None]
    mounts += [Mount(target, source) for target, source in files]
    if all(mount.target != _TEMPORARY for mount in mounts):
        mounts.append(Mount(_TEMPORARY, None, "tmpfs"))
    if environment is not None:
        mounts.append(Mount(str(environment.path), environment.path, read_only=True))
    layers = tuple(Layer(place.target, (place.source, place.host)) for place in found if place.host is not None)
    return replace(spec, mounts=tuple(mounts), layers=layers, read_only_root=True)


async def _run(runtime: SandboxRuntime, spec: ContainerSpec, say: Callable[[str], None]) -> int:
    ended: asyncio.Future[ContainerState] = asyncio.get_running_loop().create_future()
    runtime.on_exit(lambda state: None if ended.done() else ended.set_result(state))
    try:
        await runtime.start_container(spec)
    except StartFailed as error:
        say(str(error))
        return 127
    state = await ended
    for line in spec.log_path.read_text(encoding="utf-8", errors="replace").splitlines():
        say("  " + line.split(" ", 3)[3])
    return state.exit_code
