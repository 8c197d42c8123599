"""What admission may see of the cluster: current objects by kind, decoded."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from headrace.api import _wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.api.meta import KindInfo
    from headrace.apiserver.registry.kinds import KindCatalog
    from headrace.store.base import Record, Store

Json = dict[str, Any]


class Lookup(Protocol):
    """Objects that exist now."""

    def get(self, info: KindInfo, namespace: str, name: str) -> Json | None:
        """One object, or None. It is shared: nobody changes it."""
        ...

    def all(self, info: KindInfo) -> Iterator[Json]:
        """Every object of a kind."""
        ...

    def within(self, info: KindInfo, namespace: str) -> list[Json]:
        """Every object of a kind in one namespace."""
        ...


class StoreLookup:
    """Reads the store's memory."""

    def __init__(self, store: Store, kinds: KindCatalog) -> None:
        self._store, self._kinds = store, kinds

    def get(self, info: KindInfo, namespace: str, name: str) -> Json | None:
        """See Lookup."""
        found = self._store.get(self._kinds.served(info).key(namespace, name))
        return _decoded(found.value) if found is not None else None

    def all(self, info: KindInfo) -> Iterator[Json]:
        """See Lookup."""
        return (_decode(r) for r in self._store.range(self._kinds.served(info).prefix))

    def within(self, info: KindInfo, namespace: str) -> list[Json]:
        """See Lookup."""
        return [_decode(r) for r in self._store.range(f"{self._kinds.served(info).prefix}{namespace}/")]


@lru_cache(maxsize=64)
def _decoded(value: bytes) -> Json:
    """The same few are asked for on every write: the namespace, its service account."""
    decoded: Json = _wire.decode_any(value)
    return decoded


def _decode(record: Record) -> Json:
    decoded: Json = _wire.decode_any(record.value)
    return decoded
