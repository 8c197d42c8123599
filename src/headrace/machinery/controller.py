"""Controllers: one job each, level-based, driven by keys.

A controller is constructed with all that it uses and says which kind it reconciles and which others concern
it. The runner (manager) reads the object from the informer's cache, hands the controller a private copy, and
afterwards sends one status patch with what changed. `reconcile` may raise: the key comes back with backoff;
`Terminal` is recorded and not retried.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from headrace.client.base import T

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headrace.api.meta import Object
    from headrace.machinery.informer import Informer


@dataclass(frozen=True, slots=True)
class Result:
    """What comes next; `after` seconds from now the key is looked at again even if nothing changed."""

    after: float | None = None


DONE = Result()


class Terminal(Exception):
    """This object cannot be reconciled until somebody changes it: record, do not retry."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Objects of another kind that concern this controller, and which keys they concern."""

    kind: type[Object]
    keys: Callable[[Any], Iterable[str]]


def by_controller_owner(kind: type[Object]) -> Callable[[Object], Iterable[str]]:
    """Maps a child to the key of the controlling owner of that kind."""

    def keys(obj: Object) -> Iterable[str]:
        for ref in obj.metadata.owner_references:
            if ref.controller and ref.kind == kind.INFO.kind and ref.api_version == kind.INFO.api_version:
                namespace = obj.metadata.namespace
                yield f"{namespace}/{ref.name}" if kind.INFO.namespaced else ref.name

    return keys


class Controller(Generic[T]):
    """Base of every controller. Subclasses set `name` and `kind` and write `reconcile`.

    `caches` is filled by the manager before the first reconcile: an Informer for `kind`, every kind in `owns`,
    in `watches` and in `reads`.
    """

    name: ClassVar[str]
    kind: type[T]
    owns: tuple[type[Object], ...] = ()
    """Children: a change of one wakes the key of its controlling owner."""
    watches: tuple[Watch, ...] = ()
    reads: tuple[type[Object], ...] = ()
    """Kinds that are only looked up in the cache."""
    workers: int = 4
    """How many keys are worked on at a time; with none there are no keys, and everything is done by `run`."""

    caches: dict[type[Object], Informer[Any]]

    def cache(self, kind: type[Object]) -> Informer[Any]:
        """The shared informer of a kind that this controller declared."""
        return self.caches[kind]

    async def reconcile(self, obj: T) -> Result:
        """Bring the world closer to `obj.spec`; change `obj.status` in place. Never sleep, never PUT `obj`."""
        raise NotImplementedError

    async def gone(self, key: str) -> None:
        """The object no longer exists. Rarely needed: owner references clean up children."""

    async def run(self) -> None:
        """Runs beside the workers from start to stop. Rarely needed: for what no key drives (the garbage collector)."""


AnyController = Controller[Any]
