"""The API server's core: kinds, reads, writes and deletions over the store."""

from headrace.apiserver.registry.kinds import KindCatalog, Served
from headrace.apiserver.registry.registry import BUILTIN, Registry

__all__ = ["BUILTIN", "KindCatalog", "Registry", "Served"]
