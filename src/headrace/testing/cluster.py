"""An embedded cluster for tests: registry, store, client, clock and controller manager, without HTTP or a node."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.api.apiextensions import CustomResourceDefinition
from headrace.api.core import Namespace
from headrace.api.identity import ADMIN
from headrace.api.meta import ObjectMeta
from headrace.apiserver.registry import Registry
from headrace.apiserver.schema.crd import crd_for
from headrace.client.embedded import EmbeddedClient
from headrace.machinery.clock import SystemClock
from headrace.machinery.manager import Manager
from headrace.machinery.settings import DEFAULT_NAMESPACE, SYSTEM_NAMESPACE, Settings
from headrace.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from headrace.api.identity import User
    from headrace.api.meta import Object
    from headrace.client.base import TokenIssuer
    from headrace.machinery.clock import Clock
    from headrace.store.base import Store

NAMESPACES = ("default", "kube-system", SYSTEM_NAMESPACE, DEFAULT_NAMESPACE)


@dataclass(slots=True)
class EmbeddedCluster:
    """The parts of a running test cluster."""

    store: Store
    registry: Registry
    clock: Clock
    settings: Settings
    client: EmbeddedClient
    """Acts as the administrator."""
    manager: Manager
    """Add controllers, then `await manager.start()`; it is stopped with the cluster."""
    tokens: TokenIssuer | None = field(default=None)

    def client_for(self, user: User) -> EmbeddedClient:
        """A client under another identity."""
        return EmbeddedClient(self.registry, user, self.tokens)


@contextlib.asynccontextmanager
async def embedded_cluster(
    kinds: Sequence[type[Object]] = (),
    *,
    clock: Clock | None = None,
    store: Store | None = None,
    settings: Settings | None = None,
    namespaces: Sequence[str] = NAMESPACES,
) -> AsyncIterator[EmbeddedCluster]:
    """A cluster that serves the built-in kinds and these custom ones, with some namespaces in it."""
    clock = clock or SystemClock()
    store = store or MemoryStore()
    settings = settings or Settings(home=Path("/nonexistent/headrace-test"))
    await store.open()
    registry = Registry(store, clock=clock, settings=settings)
    await registry.start()
    for kind in kinds:
        await registry.create(ADMIN, CustomResourceDefinition.INFO, crd_for(kind))
    client = EmbeddedClient(registry, ADMIN)
    manager = Manager(client, clock)
    for name in namespaces:
        await client.apply(Namespace(metadata=ObjectMeta(name=name)))
    try:
        yield EmbeddedCluster(store, registry, clock, settings, client, manager)
    finally:
        await manager.stop()
        await registry.stop()
        await store.close()
