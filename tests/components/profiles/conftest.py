"""An embedded cluster in which the profiles component runs, and people who speak to its APIs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from headrace import bootstrap
from headrace.api.identity import ADMIN, AUTHENTICATED, User, component
from headrace.components.profiles.component import COMPONENT
from headrace.machinery.component import Context
from headrace.machinery.serve import Server
from headrace.testing import EmbeddedCluster, embedded_cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass
class World:
    """What a test talks to."""

    cluster: EmbeddedCluster
    parts: Any
    http: aiohttp.ClientSession

    @property
    def client(self) -> Any:
        return self.cluster.client

    @property
    def manager(self) -> Any:
        return self.cluster.manager

    @property
    def settings(self) -> Any:
        return self.cluster.settings

    async def ask(self, who: str, method: str, path: str, body: Any = None, groups: tuple[str, ...] = ()) -> Any:
        """A request as the gateway passes it on: status and JSON (or text)."""
        headers = {"x-user": who, "x-groups": ",".join((*groups, AUTHENTICATED))}
        async with self.http.request(method, path, json=body, headers=headers) as answer:
            json = answer.content_type == "application/json"
            return answer.status, await (answer.json() if json else answer.text())


def gateway(mounts: Any) -> Any:
    """Passes requests on in the name of whom two headers say."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = {n.decode(): v.decode() for n, v in scope["headers"]}
        user = User(headers["x-user"], groups=tuple(headers["x-groups"].split(",")))
        mount = next(m for m in mounts if scope["path"].startswith(m.path))
        await mount.app({**scope, "state": {"user": user}, "root_path": mount.path}, receive, send)

    return app


@pytest.fixture
async def cluster() -> AsyncIterator[World]:
    namespaces = ("default", "kube-system", "kubeflow")
    async with embedded_cluster(COMPONENT.kinds, namespaces=namespaces) as running:
        await bootstrap.ensure(running.registry, ADMIN, bootstrap.cluster_objects(running.settings, (COMPONENT,)))
        await bootstrap.ensure(running.registry, ADMIN, COMPONENT.objects(running.settings))
        own = running.client_for(component("profiles"))
        parts = COMPONENT.build(Context("profiles", running.settings, own, running.clock, None, None))
        running.registry.core.admission.mutators += parts.mutators
        await parts.start()
        for controller in parts.controllers:
            running.manager.add(controller, own)
        await running.manager.start()
        server = Server(gateway(parts.mounts), "127.0.0.1", 0)
        await server.start()
        url = "http://{}:{}".format(*server.address)
        try:
            async with aiohttp.ClientSession(url) as http:
                yield World(running, parts, http)
        finally:
            await server.stop()
