"""A platform without a node: gateway, pipelines, serving and dashboard on real ports, under their own identities."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from headrace import bootstrap
from headrace.api import _wire
from headrace.api.core import Event, Namespace, Node, Pod, ServiceAccount
from headrace.api.identity import ADMIN, component
from headrace.api.meta import ObjectMeta
from headrace.api.rbac import Subject
from headrace.apiserver.authn.tokens import TokenIssuer
from headrace.client.embedded import EmbeddedClient
from headrace.components.dashboard.component import COMPONENT as DASHBOARD
from headrace.components.identity.component import COMPONENT as IDENTITY
from headrace.components.identity.component import FIRST_USER_MADE
from headrace.components.identity.policy import object_name
from headrace.components.identity.types import Password
from headrace.components.pipelines.component import COMPONENT as PIPELINES
from headrace.components.pipelines.migrations import upgrade
from headrace.components.pipelines.store.models import Run, Spec
from headrace.components.pipelines.store.repository import RunRepository
from headrace.components.profiles import render as profiles
from headrace.components.profiles.component import COMPONENT as PROFILES
from headrace.components.profiles.component import FIRST_PROFILE_MADE
from headrace.components.serving.component import COMPONENT as SERVING
from headrace.components.serving.types import InferenceService
from headrace.gateway import Gateway
from headrace.machinery import logins
from headrace.machinery.audit import AuditLog
from headrace.machinery.clock import SystemClock
from headrace.machinery.component import Context
from headrace.machinery.pages import ComponentFacts, Site
from headrace.machinery.settings import Ports, Settings
from headrace.machinery.sql import Database
from headrace.node.images.service import Images
from headrace.node.images.stock import DiskShelf
from headrace.node.logs import NodeLogs
from headrace.testing import EmbeddedCluster, embedded_cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HOME, OTHER = "kubeflow-user-example-com", "other-team"
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
SPEC: dict[str, Any] = {
    "pipelineInfo": {"name": "greet"},
    "schemaVersion": "2.1.0",
    "sdkVersion": "kfp-2.16.1",
    "root": {"dag": {"tasks": {"say": {"taskInfo": {"name": "say"}, "componentRef": {"name": "comp-say"}}}}},
    "components": {"comp-say": {"executorLabel": "exec-say"}},
    "deploymentSpec": {"executors": {"exec-say": {"container": {"image": "python:3.11", "command": ["true"]}}}},
}


OWNER, STRANGER, VIEWER, NOBODY = (
    "user@example.com",
    "other@example.com",
    "viewer@example.com",
    "nobody@example.com",
)
VIEWER_BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "RoleBinding",
    "metadata": {"name": "viewer", "namespace": HOME},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "kubeflow-view"},
    "subjects": [{"kind": "User", "name": VIEWER, "apiGroup": "rbac.authorization.k8s.io"}],
}


class MovableClock(SystemClock):
    """The system's clock, set forward."""

    ahead = 0.0

    def precise(self) -> dt.datetime:
        return super().precise() + dt.timedelta(seconds=self.ahead)

    def now(self) -> dt.datetime:
        return self.precise().replace(microsecond=0)

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


@dataclass
class World:
    """What a test talks to."""

    url: str
    cluster: EmbeddedCluster
    client: EmbeddedClient
    clock: MovableClock
    settings: Settings
    runs: RunRepository
    site: Site
    browsers: list[aiohttp.ClientSession] = field(default_factory=list)

    async def token(self, account: str = "default-editor", namespace: str = HOME, seconds: int = 3600) -> str:
        return await self.client.request_token(namespace, account, expiration_seconds=seconds)

    def anonymous(self) -> aiohttp.ClientSession:
        """A browser that nobody has logged in."""
        jar = aiohttp.CookieJar(unsafe=True)
        session = aiohttp.ClientSession(self.url, cookie_jar=jar, headers={"accept": "text/html,*/*;q=0.8"})
        self.browsers.append(session)
        return session

    async def browser(self, email: str = OWNER) -> aiohttp.ClientSession:
        """A browser with a session."""
        session = self.anonymous()
        code = logins.offer(self.settings, email)
        async with session.get(f"/login?code={code}", allow_redirects=False) as response:
            assert response.status == 302
        return session

    async def person(self, email: str) -> None:
        """Somebody who can log in by a link; nobody knows a password."""
        name = object_name(email)
        body = Password(metadata=ObjectMeta(name=name, namespace="auth"), email=email, user_id=email)
        await self.client.apply(body)

    async def page(self, session: aiohttp.ClientSession, path: str, status: int = 200) -> str:
        async with session.get(path) as response:
            text = await response.text()
            assert response.status == status, text
            assert response.content_type == "text/html"
            assert "script-src 'self'" in response.headers["content-security-policy"]
            return text

    async def start_run(self, name: str = "a run", namespace: str = HOME) -> str:
        """A run by the API; its step waits, because there is no node."""
        body = {"display_name": name, "pipeline_spec": SPEC}
        headers = {"authorization": f"Bearer {await self.token(namespace=namespace)}"}
        async with (
            self.anonymous() as session,
            session.post("/apis/v2beta1/runs", json=body, headers=headers) as response,
        ):
            answer = await response.json()
            assert response.status == 200, answer
            return answer["run_id"]

    async def record_run(self, **fields: Any) -> Run:
        """A run that the engine does not know: for states that a test needs without a node."""
        given = {"id": "run-1", "namespace": HOME, "experiment_id": "e", "display_name": "recorded"} | fields
        return await self.runs.create_run(Run(**given), Spec(SPEC))

    async def pod(self, name: str = "step", namespace: str = HOME, **status: Any) -> Pod:
        spec = {"containers": [{"name": "main", "image": "busybox", "command": ["sleep", "1"]}]}
        body = {"metadata": {"name": name, "namespace": namespace}, "spec": spec}
        pod = await self.client.create(_wire.convert(Pod, body))
        if status:
            await self.client.patch(Pod, name, {"status": status}, namespace, subresource="status")
        return pod

    def write_log(self, namespace: str, pod: str, uid: str, *lines: str) -> None:
        folder = self.settings.logs / "pods" / f"{namespace}_{pod}_{uid}" / "main"
        folder.mkdir(parents=True)
        entries = [f"2026-01-02T03:04:0{i}.000000000Z stdout F {line}\n" for i, line in enumerate(lines)]
        (folder / "0.log").write_text("".join(entries))


@dataclass
class Stream:
    """The events of one page, as a browser would hear them."""

    response: aiohttp.ClientResponse

    async def next(self, name: str, seconds: float = 5) -> dict[str, Any]:
        """The next event of this name."""
        async with asyncio.timeout(seconds):
            event = ""
            async for raw in self.response.content:
                line = raw.decode().rstrip("\n")
                if line.startswith("event: "):
                    event = line.removeprefix("event: ")
                elif line.startswith("data: ") and event == name:
                    return json.loads(line.removeprefix("data: "))
        raise AssertionError(f"the stream ended without {name}")


@contextlib.asynccontextmanager
async def live(session: aiohttp.ClientSession, url: str, have: str = "") -> AsyncIterator[Stream]:
    async with session.get("/live", params={"url": url, "have": have}) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        yield Stream(response)


@pytest.fixture
async def world(tmp_path: Path, signing_key: Path) -> AsyncIterator[World]:
    settings = Settings(home=tmp_path, ports=Ports(api=0, gateway=0, objectstore=0))
    settings.state.mkdir()
    clock = MovableClock()
    components = (IDENTITY, PROFILES, PIPELINES, SERVING, DASHBOARD)
    async with embedded_cluster(
        (InferenceService, Password, *PROFILES.kinds), settings=settings, clock=clock
    ) as cluster:
        issuer = TokenIssuer(signing_key, cluster.registry, clock)
        client = EmbeddedClient(cluster.registry, ADMIN, issuer)
        cluster.tokens = issuer
        await client.apply(Namespace(metadata=ObjectMeta(name=OTHER)))
        await bootstrap.ensure(cluster.registry, ADMIN, bootstrap.cluster_objects(settings, components))
        for part in components:
            await bootstrap.ensure(cluster.registry, ADMIN, part.objects(settings))
        for name, owner in ((HOME, OWNER), (OTHER, STRANGER)):
            owned = profiles.profile_objects(name, Subject(kind="User", name=owner))
            await bootstrap.ensure(cluster.registry, ADMIN, owned)
        first = {"metadata": {"annotations": {FIRST_PROFILE_MADE: "by the test"}}}
        await client.patch(Namespace, "kubeflow", first)
        await bootstrap.ensure(cluster.registry, ADMIN, [VIEWER_BINDING])
        mark = {"metadata": {"annotations": {FIRST_USER_MADE: "by the test"}}}
        await client.patch(Namespace, "auth", mark)
        await client.create(ServiceAccount(metadata=ObjectMeta(name="nobody", namespace=OTHER)))
        await client.create(Node(metadata=ObjectMeta(name="headrace")))
        site = Site(cluster.manager, cluster.registry)
        logs = NodeLogs(settings, clock, lambda _key: None, lambda _uid, _name: None)
        mounts: list[Any] = []
        people = None
        auditor = AuditLog(settings.logs, clock)
        shelf = DiskShelf(settings, Images(settings, clock), lambda: False)
        async with contextlib.AsyncExitStack() as stack:
            for part in components:
                own = cluster.client_for(component(part.name))
                parts = part.build(Context(part.name, settings, own, clock, None, logs, site, auditor, images=shelf))
                site.components.append(ComponentFacts(part.name, part.title, parts.health))
                for controller in parts.controllers if part is PROFILES else ():
                    cluster.manager.add(controller, own)
                site.pages += parts.pages
                site.panels += parts.panels
                site.starts += parts.starts
                site.finders += parts.finders
                mounts += parts.mounts
                people = parts.people or people
                if parts.start is not None:
                    await parts.start()
                if parts.stop is not None:
                    stack.push_async_callback(parts.stop)
            gateway = Gateway(
                settings,
                cluster.client_for(component("gateway")),
                None,
                mounts,
                manager=cluster.manager,
                clock=clock,
                people=people,
                auditor=auditor,
            )
            await gateway.start()
            stack.push_async_callback(gateway.stop)
            await cluster.manager.start()
            database = Database(f"sqlite:///{settings.state / 'pipelines.db'}")
            await database.open(upgrade)
            stack.push_async_callback(database.close)
            url = "http://{}:{}".format(*gateway.address)
            made = World(url, cluster, client, clock, settings, RunRepository(database, clock), site)
            for email in (OWNER, STRANGER, VIEWER, NOBODY):
                await made.person(email)
            try:
                yield made
            finally:
                for session in made.browsers:
                    await session.close()


async def event(world: World, pod: Pod, reason: str, message: str) -> None:
    """An event about a pod."""
    body = {
        "metadata": {"name": f"{pod.metadata.name}.{reason.lower()}", "namespace": pod.metadata.namespace},
        "involvedObject": {"kind": "Pod", "name": pod.metadata.name, "uid": pod.metadata.uid},
        "reason": reason,
        "message": message,
        "type": "Warning",
    }
    await world.client.create(_wire.convert(Event, body))


async def administer(world: World, email: str) -> None:
    """Make somebody an administrator of the cluster."""
    group = "rbac.authorization.k8s.io"
    body = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "boss"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "User", "name": email, "apiGroup": group}],
    }
    await bootstrap.ensure(world.cluster.registry, ADMIN, [body])
