"""Images as they are: what the machine's container engine has, or gets from a registry.

The last rung: the catalogue and one's own images come first, because they start faster and share what they have. Where
somebody has asked for mode `container`, an image that the engine has already comes before the catalogue's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.node.images import catalogue, reference
from headrace.node.images.progress import Progress
from headrace.node.images.service import SYSTEM_PATH, Environment, ImageError
from headrace.node.runtime.engines import EngineUnavailable, ImageMissing

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.node.runtime.engines import Engines, RealImage

ALWAYS, IF_NOT_PRESENT, NEVER = "Always", "IfNotPresent", "Never"
_LOCAL = "localhost/"
"""Begins the names of images that are nowhere else."""


@dataclass(frozen=True, slots=True)
class RealImages:
    """The engine of a runtime that can use one, and when it is asked."""

    engines: Engines
    first: bool = False
    """Whether what it has comes before the catalogue."""
    logins: Callable[[], bytes] = bytes
    """For registries: a file as podman reads it, empty for none."""

    async def present(self, image: str) -> Environment | None:
        """The image, if the engine has it; None also where there is no engine."""
        try:
            found = await self.engines.image(image)
        except EngineUnavailable:
            return None
        return None if found is None else environment(image, found)

    async def resolve(self, image: str, policy: str, on_pull: Callable[[Progress], None]) -> Environment:
        """The image that nothing here stands for. Raises ImageError."""
        policy = policy_of(image, policy)
        try:
            found = None if policy == ALWAYS else await self.engines.image(image)
            if found is None:
                if policy == NEVER:
                    message = f'Container image "{image}" is not present with pull policy of Never'
                    raise ImageError("ErrImageNeverPull", message, permanent=True)
                on_pull(Progress(f"pulling the image {image}"))
                found = await self.engines.pull(image, self.logins())
        except EngineUnavailable as error:
            raise ImageError("ErrImagePull", f"{catalogue.unknown(image)}. {error}", permanent=True) from error
        except ImageMissing as error:
            message = f"{catalogue.unknown(image)}. Podman could not pull it either: {error}"
            raise ImageError("ErrImagePull", message, permanent=False) from error
        return environment(image, found)


def policy_of(image: str, policy: str) -> str:
    """When to pull: as in Kubernetes, but an image that no registry has is never looked for in one."""
    if image.startswith(_LOCAL) and policy != NEVER:
        return IF_NOT_PRESENT
    if policy:
        return policy
    ref = reference.parse(image)
    return ALWAYS if ref is not None and ref.tag == "latest" and "@" not in image else IF_NOT_PRESENT


def environment(image: str, found: RealImage) -> Environment:
    """How the agent sees it."""
    env = dict(found.env)
    path = env.pop("PATH", "")
    return Environment(
        image,
        f"{image.partition('@')[0]}@sha256:{found.id}",
        path=tuple(path.split(":")) if path else SYSTEM_PATH,
        entrypoint=found.entrypoint,
        command=found.command,
        env=env,
        size=found.size,
        workdir=found.workdir,
        user=found.user,
        real=True,
    )
