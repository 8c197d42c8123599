"""Which kinds the server has: built-in ones, and those that custom resource definitions bring.

One `Served` per group, version and plural. All versions of a custom kind share the same stored objects; the
stored JSON carries the storage version and is relabelled on the way out, or converted by a webhook (converting.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headrace.api.errors import NotFound
from headrace.apiserver.registry.scale import ScalePaths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headrace.api.meta import KindInfo


@dataclass(frozen=True, slots=True)
class Conversion:
    """How a built-in kind in another version (or group) is the same objects as the one that is stored."""

    hub: KindInfo
    """What is stored, checked and filled with defaults."""
    up: Callable[[dict[str, Any]], dict[str, Any]]
    """From this version to the hub's; may keep parts of what it gets."""
    down: Callable[[dict[str, Any]], dict[str, Any]]
    """From the hub's version to this one."""


@dataclass(frozen=True, slots=True)
class Served:
    """A kind in one version, and what the registry must know to store it."""

    info: KindInfo
    storage_version: str
    """The version whose apiVersion stored objects carry."""
    custom: bool = False
    columns: tuple[dict[str, Any], ...] = ()
    """additionalPrinterColumns of a custom kind, as they stand in its definition."""
    schema: dict[str, Any] | None = field(default=None, hash=False, compare=False)
    """The openAPIV3Schema of a custom kind's version."""
    converter: dict[str, Any] | None = field(default=None, hash=False, compare=False)
    """The clientConfig of the webhook that converts a custom kind between its versions; None relabels."""
    defaults: bool = False
    """The schema of a custom kind may have defaults: objects that are stored without them are shown with them."""
    selectable: tuple[str, ...] = ()
    """Field paths that field selectors may name, such as `spec.color`."""
    scale: ScalePaths | None = None
    """Where replicas are, when the kind can be scaled."""
    terminating: bool = False
    """The kind's definition is being deleted: nothing new is taken."""
    conversion: Conversion | None = field(default=None, hash=False, compare=False)
    """Set for a built-in kind that is stored as another one."""
    prefix: str = field(init=False, compare=False)
    """The store's prefix of all objects of the kind, in all versions."""

    def __post_init__(self) -> None:
        stored = self.info if self.conversion is None else self.conversion.hub
        object.__setattr__(self, "prefix", f"/registry/{stored.group or 'core'}/{stored.plural}/")

    def key(self, namespace: str, name: str) -> str:
        """The store's key of one object."""
        return f"{self.prefix}{namespace if self.info.namespaced else '-'}/{name}"

    @property
    def has_status(self) -> bool:
        """Whether status is a subresource: then only writes to it may change it."""
        return "status" in self.info.subresources


class KindCatalog:
    """The kinds by name. Listeners hear of every change, after it."""

    def __init__(self) -> None:
        self._by_plural: dict[tuple[str, str, str], Served] = {}
        self._by_kind: dict[tuple[str, str, str], Served] = {}
        self._listeners: list[Callable[[], None]] = []

    def add(self, served: Iterable[Served]) -> None:
        """Serve these, replacing those of the same name."""
        for one in served:
            info = one.info
            self._by_plural[info.group, info.version, info.plural] = one
            self._by_kind[info.group, info.version, info.kind] = one
        self._changed()

    def replace(self, group: str, plural: str, served: Iterable[Served]) -> None:
        """Serve exactly these versions of a kind."""
        self._forget(group, plural)
        self.add(served)

    def remove(self, group: str, plural: str) -> None:
        """Serve no version of this kind any more."""
        self._forget(group, plural)
        self._changed()

    def _forget(self, group: str, plural: str) -> None:
        for key in [k for k in self._by_plural if k[0] == group and k[2] == plural]:
            info = self._by_plural.pop(key).info
            self._by_kind.pop((group, info.version, info.kind), None)

    def lookup(self, group: str, version: str, plural: str) -> KindInfo | None:
        """The kind behind a REST path."""
        found = self._by_plural.get((group, version, plural))
        return found.info if found else None

    def by_kind(self, group: str, version: str, kind: str) -> KindInfo | None:
        """The kind that an object's apiVersion and kind name."""
        found = self._by_kind.get((group, version, kind))
        return found.info if found else None

    def all(self) -> list[KindInfo]:
        """Every served kind in every version, built-in ones first."""
        return [s.info for s in self._by_plural.values()]

    def versions(self, group: str, plural: str) -> list[Served]:
        """All served versions of a kind."""
        return [s for s in self._by_plural.values() if s.info.group == group and s.info.plural == plural]

    def served(self, info: KindInfo) -> Served:
        """What the registry knows of a kind. Raises NotFound when it is not served (any more)."""
        found = self._by_plural.get((info.group, info.version, info.plural))
        if found is None:
            raise NotFound("the server could not find the requested resource", kind=info.plural, group=info.group)
        return found

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change."""
        self._listeners.append(listener)

    def _changed(self) -> None:
        for listener in self._listeners:
            listener()


def builtin(infos: Iterable[KindInfo]) -> list[Served]:
    """Built-in kinds, stored in the one version that they have."""
    return [Served(info, info.version, scale=ScalePaths() if "scale" in info.subresources else None) for info in infos]


def converted(info: KindInfo, conversion: Conversion) -> Served:
    """A built-in kind that is stored as another one."""
    return Served(info, conversion.hub.version, conversion=conversion)
