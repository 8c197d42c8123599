"""Images for the agent: from an image name and a pod's annotation to an environment that can be run.

Holds no policy about retries: it answers or raises ImageError with a reason in the kubelet's vocabulary and
a sentence for the person who reads `kubectl describe pod`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.node.images import catalogue, reference
from headrace.node.images import requirements as reqs
from headrace.node.images.environments import LOCK_SECONDS, META, Environments
from headrace.node.images.interpreters import Interpreters
from headrace.node.images.uv import Uv, UvFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from headrace.machinery.clock import Clock
    from headrace.machinery.settings import Settings
    from headrace.node.images.environments import Built

SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


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


class Images:
    """The catalogue joined to the environments of one home."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        environ: Mapping[str, str] | None = None,
        interpreters: Interpreters | None = None,
    ) -> None:
        self._clock = clock
        self._uv = Uv(settings.cache, environ)
        self._environments = Environments(settings.cache, self._uv, clock)
        self._interpreters = interpreters or Interpreters()
        self._known: dict[tuple[str, str], tuple[float, Environment]] = {}

    async def resolve(
        self, image: str, requirements: str = "", *, on_pull: Callable[[], None] = lambda: None
    ) -> Environment:
        """The environment of an image plus the packages of a `headrace.dev/requirements` annotation.

        `on_pull` is called once when something has to be built first. Raises ImageError.
        """
        known = self._known.get((image, requirements))
        if known is not None and self._clock.monotonic() < known[0] and _still_there(known[1]):
            return known[1]
        found = await self._resolve(image, requirements, on_pull)
        self._known[image, requirements] = (self._clock.monotonic() + LOCK_SECONDS, found)
        return found

    async def close(self) -> None:
        """Stop building."""
        await self._environments.close()

    async def _resolve(self, image: str, requirements: str, on_pull: Callable[[], None]) -> Environment:
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
            wanted = reqs.parse(requirements).plus(entry.packages)
            interpreter = await self._interpreters.choose(match.python)
            told = False

            def pull_once() -> None:
                nonlocal told
                if not told:
                    told = True
                    on_pull()

            built = await self._environments.ensure(interpreter, wanted, on_build=pull_once)
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


def _still_there(environment: Environment) -> bool:
    return environment.python is None or (environment.python.parent.parent / META).exists()


async def prepare(images: Images, wanted: list[tuple[str, str]]) -> None:
    """Builds environments ahead of their first use, as `docker pull` would."""
    await asyncio.gather(*(images.resolve(image, requirements) for image, requirements in wanted))
