"""Images for the agent: from an image name and a pod's annotation to an environment that can be run.

Holds no policy about retries: it answers or raises ImageError with a reason in the kubelet's vocabulary and
a sentence for the person who reads `kubectl describe pod`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from headrace.node.images import catalogue, reference, trees
from headrace.node.images import requirements as reqs
from headrace.node.images.environments import LOCK_SECONDS, META, Environments
from headrace.node.images.interpreters import Interpreters
from headrace.node.images.store import ImageStore, Record, UnreadableStore
from headrace.node.images.uv import Uv, UvFailed
from headrace.node.runtime.base import Layer
from headrace.node.runtime.engines import Engines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from headrace.api.core import Pod
    from headrace.machinery.clock import Clock
    from headrace.machinery.settings import Settings
    from headrace.node.images.environments import Built, Flight
    from headrace.node.images.progress import Progress
    from headrace.node.images.real import RealImages

SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_FORGET_SECONDS = 30.0
_NO_REQUIREMENTS = (
    f"the annotation {reqs.ANNOTATION} is for images that stand for a local environment: "
    "this one has its own packages only"
)


class ImageError(Exception):
    """An image cannot be used; `reason` is what the container waits with."""

    def __init__(self, reason: str, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message
        self.permanent = permanent
        """Only a change of the pod or of the catalogue helps."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What an image name stands for on this machine."""

    image: str
    id: str
    """What a container's `imageID` says; equal for equal content."""
    python: Path | None = None
    path: tuple[str, ...] = SYSTEM_PATH
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    """Normalised names of the distributions in it."""
    writable: tuple[str, ...] = ()
    """Folders that containers may change for themselves."""
    warning: str = ""
    """What differs from what the image's name asks for, as a sentence; empty when nothing does."""
    size: int = 0
    workdir: str = ""
    user: str = ""
    """`uid` or `uid:gid`; empty: nothing is said."""
    layers: tuple[Layer, ...] = ()
    files: tuple[tuple[str, Path], ...] = ()
    """Files directly below the root."""
    real: bool = False
    """Whether it is an image as it is, which only a container engine can run."""


class Images:
    """The catalogue joined to the environments of one home."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        environ: Mapping[str, str] | None = None,
        interpreters: Interpreters | None = None,
        engines: Engines | None = None,
    ) -> None:
        self.engines = engines or Engines()
        """Of this machine, for images as they are."""
        self._settings, self._clock = settings, clock
        self._uv = Uv(settings.cache, environ)
        self._environments = Environments(settings.cache, self._uv, clock)
        self._interpreters = interpreters or Interpreters()
        self._store = ImageStore(settings.state / "images")
        self._known: dict[tuple[str, str], tuple[float, Environment]] = {}

    async def resolve(
        self,
        image: str,
        requirements: str = "",
        *,
        on_pull: Callable[[Progress], None] = lambda _: None,
        real: RealImages | None = None,
        policy: str = "",
    ) -> Environment:
        """The environment of an image plus the packages of a `headrace.dev/requirements` annotation.

        `on_pull` is called when something has to be built or pulled first, for each part of that with what says how far
        it is. `real`: where images as they are come
        from, pulled by this `policy`; the catalogue's and one's own are never pulled. Raises ImageError.
        """
        try:
            own = self._store.find(image)  # it may have been built or removed a moment ago
        except UnreadableStore as error:
            raise ImageError("ErrImagePull", str(error), permanent=True) from error
        if own is None and real is not None:
            found = await self._real(image, requirements, on_pull, real, policy)
            if found is not None:
                return found
        key = (image if own is None else own.id, requirements)
        known = self._known.get(key)
        if known is not None and self._clock.monotonic() < known[0] and _still_there(known[1]):
            _used(known[1])
            return known[1]
        found = await self._resolve(image if own is None else own.base, requirements, on_pull, own)
        if own is not None:
            whole = found.id if requirements else f"{image.partition('@')[0]}@sha256:{own.id}"
            found = _of_own(image, own, found, self._store.tree(own), whole)
        self._known[key] = (self._clock.monotonic() + LOCK_SECONDS, found)
        _used(found)
        return found

    async def make_room(self, live: Sequence[Pod]) -> str:
        """Remove the environments that none of these pods and no image uses, and what is kept to build more; what that
        was, in words, empty when there was nothing.
        """
        from headrace.node.images import stock  # noqa: PLC0415  # only where the disk is nearly full

        gone = await asyncio.to_thread(stock.forget_unused, self._settings, live)
        said = [f"{len(gone)} environments that no pod and no image uses"] if gone else []
        with contextlib.suppress(UvFailed, TimeoutError):  # somebody builds
            async with asyncio.timeout(_FORGET_SECONDS):
                said += ["packages that were kept to build more"] if await self._uv.forget() else []
        return " and ".join(said)

    async def _real(
        self, image: str, requirements: str, on_pull: Callable[[Progress], None], real: RealImages, policy: str
    ) -> Environment | None:
        """The image as it is; None when the catalogue has something for it, or it is no image's name."""
        if reference.parse(image) is None:
            return None
        if catalogue.match(image) is not None:
            return await real.present(image) if real.first and not requirements else None
        found = await real.resolve(image, policy, on_pull)
        return replace(found, warning=_NO_REQUIREMENTS) if requirements else found

    def building(self) -> dict[str, Flight]:
        """What is being made at this moment; see Environments."""
        return self._environments.flights()

    async def close(self) -> None:
        """Stop building."""
        await self._environments.close()

    async def _resolve(
        self, image: str, requirements: str, on_pull: Callable[[Progress], None], own: Record | None
    ) -> Environment:
        ref = reference.parse(image)
        if ref is None:
            raise ImageError(
                "InvalidImageName",
                f'Failed to apply default image tag "{image}": invalid reference format',
                permanent=True,
            )
        match = catalogue.match(image)
        if match is None:
            raise ImageError("ErrImagePull", catalogue.unknown(image), permanent=True)
        entry = match.entry
        if entry.kind == "userland":
            return Environment(
                image, f"host/{ref.repository}", entrypoint=entry.entrypoint, command=entry.command, env=entry.env
            )
        try:
            wanted = reqs.parse(requirements)
            wanted = wanted.plus(entry.packages) if own is None else wanted.over(own.requirements, own.options)
            interpreter = await self._interpreters.choose(match.python)
            built = await self._environments.ensure(interpreter, wanted, on_build=on_pull)
        except reqs.BadRequirements as error:
            raise ImageError("ErrImagePull", str(error), permanent=True) from error
        except UvFailed as error:
            raise ImageError("ErrImagePull", str(error), permanent=error.unsatisfiable) from error
        except OSError as error:
            raise ImageError("ErrImagePull", f"the environment could not be built: {error}", permanent=False) from error
        return _environment(image, match, built, self._uv.pods_env)


def _environment(image: str, match: catalogue.Match, built: Built, pip: Mapping[str, str]) -> Environment:
    interpreter = built.interpreter
    version = ".".join(str(part) for part in interpreter.version)
    warning = ""
    if match.python is not None and match.python != interpreter.minor:
        asked = ".".join(str(part) for part in match.python)
        warning = (
            f'image "{image}" asks for Python {asked}, which is not installed here: Python {version} is used; '
            f"install python{asked} to change that"
        )
    return Environment(
        image,
        f"headrace/{match.entry.repository}@sha256:{built.key}",
        python=built.python,
        path=(str(built.path / "bin"), *SYSTEM_PATH),
        entrypoint=match.entry.entrypoint,
        command=match.entry.command,
        env={"PYTHON_VERSION": version, **match.entry.env, **pip},
        packages=built.packages,
        writable=(str(built.path),),
        warning=warning,
        size=built.size,
    )


def path_of(path: str, environment: Path | None) -> tuple[str, ...]:
    """The folders of a PATH, with those of the environment where an image of Python has its programs."""
    folders = [folder for folder in path.split(":") if folder]
    if environment is None:
        return tuple(folders)
    index = next((i for i, folder in enumerate(folders) if folder in SYSTEM_PATH), len(folders))
    return (*folders[:index], str(environment / "bin"), *folders[index:])


def _of_own(image: str, own: Record, base: Environment, tree: Path, identity: str) -> Environment:
    """What an image of one's own adds to the one that it begins with."""
    places, files = trees.places(tree)
    env = {**base.env, **own.env}
    path = env.pop("PATH", "")
    environment = base.python.parent.parent if base.python is not None else None
    return replace(
        base,
        image=image,
        id=identity,
        path=path_of(path, environment) if path else base.path,
        entrypoint=tuple(own.entrypoint),
        command=tuple(own.command),
        env=env,
        workdir=own.workdir,
        user=own.user,
        size=base.size + own.size,
        layers=tuple(Layer(p.target, (p.source,) if p.host is None else (p.source, p.host)) for p in places),
        files=tuple(files),
    )


def _used(environment: Environment) -> None:
    """Note the time, for whoever makes room; a cache that cannot be written to has none to be made."""
    if environment.python is not None:
        with contextlib.suppress(OSError):
            os.utime(environment.python.parent.parent / META)


def _still_there(environment: Environment) -> bool:
    return environment.python is None or (environment.python.parent.parent / META).exists()


async def prepare(images: Images, wanted: list[tuple[str, str]]) -> None:
    """Builds environments ahead of their first use, as `docker pull` would."""
    await asyncio.gather(*(images.resolve(image, requirements) for image, requirements in wanted))
