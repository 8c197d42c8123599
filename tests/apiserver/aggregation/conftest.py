"""An API server, the controllers that register API services, and an extension server with its Service."""

import contextlib
import json
import ssl

import aiohttp
import pytest

from headrace.api import _wire
from headrace.api.apiregistration import APIService
from headrace.api.identity import ADMIN, service_account
from headrace.apiserver.pki.authority import ensure
from headrace.client.embedded import EmbeddedClient
from headrace.controllermanager.apiservices import AvailabilityController, RegistrationController
from headrace.machinery.settings import Settings
from headrace.testing.eventually import eventually
from headrace.testing.extension import extension_server
from headrace.testing.http import http_cluster


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    return ensure(Settings(tmp_path_factory.mktemp("pki")))


class World:
    def __init__(self, http, wardle):
        self.http, self.wardle = http, wardle
        self.registry, self.client, self.url = http.cluster.registry, http.cluster.client, http.server.url

    async def create(self, *bodies):
        for body in bodies:
            group, _, version = body["apiVersion"].rpartition("/")
            info = self.registry.kinds.by_kind(group, version, body["kind"])
            await self.registry.create(ADMIN, info, body, body["metadata"].get("namespace", ""))

    async def condition(self, name, status, reason):
        """Wait until an APIService says this."""

        async def look():
            found = await self.client.get(APIService, name)
            assert found.status.conditions
            (one,) = found.status.conditions
            assert (one.status, one.reason) == (status, reason), one
            return one

        return await eventually(look)

    async def ready(self):
        """The extension server is registered and available."""
        await self.create(*self.wardle.service(), self.wardle.manifest)
        await self.condition("v1alpha1.wardle.example.com", "True", "Passed")


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)


@contextlib.asynccontextmanager
async def caller(world, token="", *, admin=False):
    context = ssl.create_default_context(cafile=world.http.pki.ca)
    if admin:
        context.load_cert_chain(world.http.pki.admin, world.http.pki.admin_key)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(world.url, connector=connector, headers=headers) as session:

        async def ask(method, path, body=None, **more):
            sent = {k.replace("_", "-"): v for k, v in more.items()}
            data = None if body is None else _wire.encode(body)
            if data is not None:
                sent.setdefault("Content-Type", "application/json")
            async with session.request(method, path, data=data, headers=sent) as response:
                return Answer(response.status, response.headers, await response.read())

        ask.session = session
        yield ask


@pytest.fixture
async def wardle(tmp_path, pki):
    async with extension_server(tmp_path / "wardle", pki.front_proxy_ca) as server:
        yield server


@pytest.fixture
async def world(tmp_path, pki, wardle):
    async with http_cluster(tmp_path, pki=pki, dialer=wardle) as http:
        cluster, apis = http.cluster, http.server.extensions
        manager = cluster.manager
        system = EmbeddedClient(cluster.registry, ADMIN)
        manager.add(RegistrationController(system, apis), system)
        manager.add(AvailabilityController(system, cluster.clock, apis), system)
        await manager.start()
        yield World(http, wardle)


@pytest.fixture
async def admin(world):
    async with caller(world, admin=True) as ask:
        yield ask


@pytest.fixture
async def user(world):
    """A service account that may nothing by itself, with a token."""
    body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot", "namespace": "default"}}
    await world.create(body)
    token = await world.http.tokens.issue(ADMIN, "default", "robot")
    async with caller(world, token) as ask:
        ask.user = service_account("default", "robot")
        yield ask


@pytest.fixture
async def nobody(world):
    async with caller(world) as ask:
        yield ask
