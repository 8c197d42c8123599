"""What images and environments there are, as pages and commands show them, and who may take one away.

Behind it is the node's disk (`node/images/stock.py`); this is what the rest of the platform knows of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable

    from headrace.api.core import Pod


@dataclass(frozen=True, slots=True)
class StockEnvironment:
    """Packages that pods share."""

    id: str
    python: str
    requirements: tuple[str, ...]
    size_bytes: int
    last_use: dt.datetime
    building: bool = False
    """It is being made at this moment; the size is what is there already, the last use when it began."""
    progress: str = ""
    """While it is built: what goes on, without a full stop; empty when another process builds it."""
    pods: tuple[str, ...] = ()
    """`namespace/name` of those that run in it."""
    images: tuple[str, ...] = ()
    """Images of one's own that need it."""

    @property
    def used(self) -> bool:
        """Whether somebody needs it."""
        return bool(self.pods or self.images)


@dataclass(frozen=True, slots=True)
class StockImage:
    """An image of one's own, or one that a container engine has."""

    id: str
    names: tuple[str, ...]
    """None for one that was built again under the same name."""
    size_bytes: int
    created: dt.datetime | None
    base: str = ""
    """What it begins with; empty for a container engine's."""
    engine: str = ""
    """The container engine that has it; empty for one's own."""
    requirements: tuple[str, ...] = ()
    pods: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stock:
    """Everything at one moment."""

    images: tuple[StockImage, ...] = ()
    environments: tuple[StockEnvironment, ...] = ()


class InUse(Exception):
    """Somebody needs it; the message says who, and so do `users` and `starting` (a pod that may need it)."""

    def __init__(self, message: str, *, users: tuple[str, ...] = (), starting: str = "") -> None:
        super().__init__(message)
        self.users, self.starting = users, starting


class ImageShelf(Protocol):
    """The images and environments of this machine. `pods` are all pods there are: they say what is used."""

    async def look(self, pods: Iterable[Pod]) -> Stock:
        """What there is."""
        ...

    async def prune(self, pods: Iterable[Pod], days: float = 0.0) -> int:
        """Remove environments that nobody has used for so long, and images without a name; how many bytes that were.
        Raises InUse while a pod is on its way to an environment.
        """
        ...

    async def remove_environment(self, pods: Iterable[Pod], key: str) -> int:
        """Remove one; how many bytes that were. Raises InUse, LookupError."""
        ...

    async def remove_image(self, pods: Iterable[Pod], key: str) -> None:
        """Remove an image with all its names. Raises InUse, LookupError."""
        ...
