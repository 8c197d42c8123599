"""A node that runs real pods, over an embedded cluster."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from headrace.api.core import ConfigMap, Container, Event, Pod, PodSpec, ServiceAccount
from headrace.api.errors import NotFound
from headrace.api.identity import ADMIN
from headrace.api.meta import ObjectMeta
from headrace.apiserver.authn.tokens import TokenIssuer
from headrace.apiserver.pki.authority import ensure as ensure_pki
from headrace.client.embedded import EmbeddedClient
from headrace.machinery.clock import SystemClock
from headrace.machinery.events import EventRecorder
from headrace.machinery.manager import Manager
from headrace.machinery.settings import Settings
from headrace.node.agent import NodeAgent
from headrace.node.images.service import Images
from headrace.node.runtime.base import RuntimeUnavailable
from headrace.node.runtime.choice import make
from headrace.testing import embedded_cluster, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headrace.testing import EmbeddedCluster


class Node:
    """A node, and short ways to ask it for things."""

    def __init__(self, cluster: EmbeddedCluster, settings: Settings, images: dict[str, str]) -> None:
        self.cluster, self.settings, self.client = cluster, settings, cluster.client
        self._environ = images
        self.clock = SystemClock()
        self.root = Path("/")
        self._stack = contextlib.AsyncExitStack()

    async def up(self) -> None:
        """A control plane's node part; what ran before is adopted."""
        self.runtime = make(self.settings.mode, self.settings)
        await self.runtime.start()
        recorder = EventRecorder(self.client, self.clock, "kubelet")
        images = Images(self.settings, self.clock, environ=self._environ)
        parts = (self.settings, self.client, self.clock, self.runtime, images, recorder)
        self.agent = NodeAgent(*parts, root=self.root)
        self.manager = Manager(self.client, self.clock)
        await self.agent.start()
        for controller in self.agent.controllers():
            self.manager.add(controller, self.client)
        await self.manager.start()

    async def down(self, *, pods: bool = False) -> None:
        await self.manager.stop()
        await self.agent.stop()
        await self.runtime.stop(pods=pods)

    async def run(self, name: str, *containers: Container, **spec: Any) -> Pod:
        """Create a pod in the default namespace."""
        annotations = spec.pop("annotations", {})
        spec.setdefault("restart_policy", "Never")
        pod = Pod(
            metadata=ObjectMeta(name=name, namespace="default", annotations=annotations),
            spec=PodSpec(containers=list(containers), **spec),
        )
        return await self.client.create(pod)

    async def pod(self, name: str) -> Pod:
        return await self.client.get(Pod, name, "default")

    async def phase(self, name: str, wanted: str, *, timeout: float = 60.0) -> Pod:
        """The pod, once it is in that phase."""

        async def there() -> Pod | None:
            found = await self.pod(name)
            assert found.status.phase == wanted, found.status
            return found

        found = await eventually(there, timeout=timeout)
        assert found is not None
        return found

    async def condition(self, name: str, type_: str, status: str = "True") -> Pod:
        async def there() -> Pod | None:
            found = await self.pod(name)
            assert any(c.type == type_ and c.status == status for c in found.status.conditions), found.status
            return found

        found = await eventually(there, timeout=60)
        assert found is not None
        return found

    async def gone(self, name: str, *, timeout: float = 60.0) -> None:
        async def absent() -> bool:
            try:
                await self.pod(name)
            except NotFound:
                return True
            return False

        await eventually(absent, timeout=timeout)

    async def log(self, name: str, container: str = "main", **options: Any) -> str:
        chunks = [c async for c in self.agent.logs.stream("default", name, container, **options)]
        return b"".join(chunks).decode()

    async def events(self, name: str) -> list[str]:
        found = await self.client.list(Event, "default")
        return [f"{e.reason}: {e.message}" for e in found.items if e.involved_object.name == name]


@pytest.fixture
async def node(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Node]:
    settings = Settings(home=tmp_path / "home", mode=getattr(request, "param", "sandbox"))
    environ = {"PATH": "/usr/bin:/bin", "PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1"}
    async with embedded_cluster(settings=settings) as cluster:
        pki = ensure_pki(settings)
        tokens = TokenIssuer(pki.service_account_key, cluster.registry, cluster.clock)
        cluster.client = EmbeddedClient(cluster.registry, ADMIN, tokens)
        await cluster.client.apply(ServiceAccount(metadata=ObjectMeta(name="default", namespace="default")))
        root = ConfigMap(metadata=ObjectMeta(name="kube-root-ca.crt", namespace="default"), data={"ca.crt": "CA"})
        await cluster.client.apply(root)
        made = Node(cluster, settings, environ)
        try:
            await made.up()
        except RuntimeUnavailable as error:
            pytest.skip(str(error))
        try:
            yield made
        finally:
            await made.down(pods=True)
            for uid in made.agent._folders.all():
                made.agent._folders.remove(uid)
            made.agent._folders.close()


def shell(script: str, name: str = "main", **fields: Any) -> Container:
    """A container that runs a shell script."""
    fields.setdefault("image", "busybox")
    return Container(name=name, command=["sh", "-c", script], **fields)
