"""A gateway over an embedded cluster, a model server on loopback, and people with tokens."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from headrace.api import _wire, core, rbac
from headrace.api.apiextensions import CustomResourceDefinition
from headrace.api.core import Endpoints, Namespace, Service, ServiceAccount
from headrace.api.errors import NotFound
from headrace.api.meta import ObjectMeta
from headrace.apiserver.authn.tokens import TokenIssuer
from headrace.apiserver.schema.crd import crd_for
from headrace.client.embedded import EmbeddedClient
from headrace.components.istio.types import AuthorizationPolicy, VirtualService
from headrace.components.profiles.component import COMPONENT as PROFILES
from headrace.components.profiles.render import profile_objects
from headrace.components.serving.component import COMPONENT as SERVING
from headrace.components.serving.types import InferenceService
from headrace.gateway import Gateway
from headrace.machinery.component import Mount
from headrace.machinery.serve import Server
from headrace.machinery.settings import Ports, Settings
from headrace.testing import EmbeddedCluster, embedded_cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NS = "kubeflow-user-example-com"
KINDS = {kind.INFO.kind: kind for kind in (*core.KINDS, *rbac.KINDS)}


class LoopbackDialer:
    """Pods of these tests listen on loopback."""

    def __init__(self) -> None:
        self.dialed = 0

    async def dial(self, host: str, port: int) -> socket.socket:
        self.dialed += 1
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (host, port))
        except BaseException:
            sock.close()
            raise
        return sock


@dataclass
class Backend:
    """A model server that says what it was sent."""

    seen: list[dict[str, Any]] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    hold: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        headers = {n.decode(): v.decode() for n, v in scope["headers"]}
        if path == "/slow":
            message = await receive()
            while not self.hold.is_set():
                waiting = [asyncio.ensure_future(receive()), asyncio.ensure_future(self.hold.wait())]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in waiting:
                    task.cancel()
                if waiting[0].done() and waiting[0].result()["type"] == "http.disconnect":
                    self.gone.set()
                    return
        body = b""
        while path != "/slow":
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        said = {
            "method": scope["method"],
            "path": scope["raw_path"].decode(),
            "query": scope["query_string"].decode(),
            "headers": headers,
            "length": len(body),
        }
        self.seen.append(said)
        if path == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
            for part in (b"one ", b"two ", b"three"):
                await send({"type": "http.response.body", "body": part, "more_body": True})
                await asyncio.sleep(0.01)
            await send({"type": "http.response.body"})
            return
        if path == "/break":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            return
        answer = json.dumps(said).encode() if path != "/echo" else body
        status = 418 if path == "/teapot" else 200
        fields = [(b"content-type", b"application/json"), (b"x-model", b"yes"), (b"connection", b"x-hop")]
        fields += [(b"x-hop", b"1"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer})


async def mounted(scope: Any, _receive: Any, send: Any) -> None:
    """An app behind a mount: says who asks and for what."""
    user = scope["state"]["user"]
    said = {
        "user": user.name,
        "root": scope["root_path"],
        "path": scope["path"],
        "headers": [(n.decode(), v.decode()) for n, v in scope["headers"]],
    }
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(said).encode()})


@dataclass
class World:
    """Everything that a test talks to."""

    cluster: EmbeddedCluster
    client: EmbeddedClient
    gateway: Gateway
    session: aiohttp.ClientSession
    backend: Backend
    port: int
    dialer: LoopbackDialer

    async def token(self, account: str = "default-editor", namespace: str = NS, **more: Any) -> str:
        return await self.client.request_token(namespace, account, **more)

    async def auth(self, account: str = "default-editor", namespace: str = NS, **more: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {await self.token(account, namespace, **more)}"}

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.gateway.address)

    async def model(self, name: str = "digits", namespace: str = NS, **predictor: Any) -> None:
        """An InferenceService with a status but without pods."""
        spec = {"predictor": {"sklearn": {"storageUri": "s3://b/m"}, **predictor}}
        body = {"metadata": {"name": name, "namespace": namespace}, "spec": spec}
        await self.client.create(_wire.convert(InferenceService, body))

    async def condition(self, status: str, message: str = "", name: str = "digits") -> None:
        found = [{"type": "Ready", "status": status, "message": message}]
        transition = {"True": "UpToDate", "Unknown": "InProgress", "False": "BlockedByFailedLoad"}[status]
        patch = {"status": {"conditions": found, "modelStatus": {"transitionStatus": transition}}}
        await self.client.patch(InferenceService, name, patch, NS, subresource="status")

    async def pods(self, *ports: int, name: str = "digits", namespace: str = NS) -> None:
        """Where its ready pods are."""
        subsets = [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": port}]} for port in ports]
        name = f"{name}-predictor"
        try:
            await self.client.patch(Endpoints, name, {"subsets": subsets}, namespace)
        except NotFound:
            body = {"metadata": {"name": name, "namespace": namespace}, "subsets": subsets}
            await self.client.create(_wire.convert(Endpoints, body))

    async def make(self, kind: type[Any], name: str, namespace: str = NS, **fields: Any) -> None:
        """An object."""
        body = {"metadata": {"name": name, "namespace": namespace}, **fields}
        await self.client.create(_wire.convert(kind, body))

    @staticmethod
    def route(**more: Any) -> dict[str, Any]:
        """The spec of a VirtualService to Service `nb`."""
        to = [{"destination": {"host": "nb", "port": {"number": 80}}}]
        http = {"match": [{"uri": {"prefix": f"/notebook/{NS}/nb/"}}], "route": to}
        return {"hosts": ["*"], "gateways": ["kubeflow/kubeflow-gateway"], "http": [http | more]}


@pytest.fixture
async def world(tmp_path: Path, signing_key: Path) -> AsyncIterator[World]:
    settings = Settings(home=tmp_path, ports=Ports(api=0, gateway=0, objectstore=0))
    async with embedded_cluster((InferenceService,), settings=settings) as cluster:
        client = EmbeddedClient(
            cluster.registry, cluster.client.user, TokenIssuer(signing_key, cluster.registry, cluster.clock)
        )
        home = profile_objects(NS, rbac.Subject(kind="User", name="user@example.com"))
        for body in (*PROFILES.objects(settings), *SERVING.objects(settings), *home):
            await client.apply(_wire.convert(KINDS[body["kind"]], body))
        await client.create(Namespace(metadata=ObjectMeta(name="other")))
        await client.create(ServiceAccount(metadata=ObjectMeta(name="default-editor", namespace="other")))
        backend = Backend()
        server = Server(backend, "127.0.0.1", 0)
        await server.start()
        dialer = LoopbackDialer()
        mounts = (Mount("/apis/v2beta1", mounted), Mount("/apis/v2beta1/runs", mounted), Mount("/pipeline", mounted))
        gateway = Gateway(settings, client, dialer, mounts, manager=cluster.manager, clock=cluster.clock)
        await gateway.start()
        await cluster.manager.start()
        try:
            async with aiohttp.ClientSession() as session:
                yield World(cluster, client, gateway, session, backend, server.address[1], dialer)
        finally:
            await gateway.stop()
            await server.stop()


@pytest.fixture
async def meshed(world: World) -> AsyncIterator[World]:
    """The world's gateway again, over a cluster that has Istio's kinds, with a Service `nb`."""
    for kind in (VirtualService, AuthorizationPolicy):
        await world.client.create(_wire.convert(CustomResourceDefinition, crd_for(kind)))
    await world.gateway.stop()
    settings = world.cluster.settings
    gateway = Gateway(
        settings, world.client, world.dialer, (), manager=world.cluster.manager, clock=world.cluster.clock
    )
    await gateway.start()
    world.gateway = gateway
    ports = [{"name": "http", "port": 80, "targetPort": 8888}]
    await world.make(Service, "nb", spec={"selector": {"app": "nb"}, "ports": ports})
    subsets = [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"name": "http", "port": world.port}]}]
    await world.make(Endpoints, "nb", subsets=subsets)
    yield world
    await gateway.stop()
