"""Every client keeps the client contract: in process over both stores, and over HTTP."""

import itertools

import pytest
import yaml

from headrace.api.core import Namespace, ServiceAccount
from headrace.api.identity import ADMIN
from headrace.api.meta import ObjectMeta
from headrace.apiserver.pki.authority import ensure
from headrace.client.http import HttpClient
from headrace.machinery.settings import Settings
from headrace.store.sqlite import SqliteStore
from headrace.testing import embedded_cluster
from headrace.testing.contracts.client import STRANGER, ClientContract, Widget
from headrace.testing.http import http_cluster

_numbers = itertools.count()


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return ensure(Settings(tmp_path_factory.mktemp("pki")))


class WithNamespace(ClientContract):
    @pytest.fixture
    async def namespace(self, client):
        name = f"contract-{next(_numbers)}"
        await client.create(Namespace(metadata=ObjectMeta(name=name)))
        return name


class TestEmbeddedOverMemory(WithNamespace):
    @pytest.fixture
    async def cluster(self):
        async with embedded_cluster([Widget]) as made:
            yield made

    @pytest.fixture
    def client(self, cluster):
        return cluster.client

    @pytest.fixture
    def stranger(self, cluster):
        return cluster.client_for(STRANGER)


class TestEmbeddedOverSqlite(TestEmbeddedOverMemory):
    @pytest.fixture
    async def cluster(self, tmp_path):
        async with embedded_cluster([Widget], store=SqliteStore(tmp_path / "s.db")) as made:
            yield made


class TestHttp(WithNamespace):
    @pytest.fixture
    async def http(self, tmp_path, pki):
        async with http_cluster(tmp_path, pki=pki, kinds=[Widget]) as made:
            yield made

    @pytest.fixture
    async def client(self, http):
        async with HttpClient.from_kubeconfig(http.kubeconfig) as made:
            yield made

    @pytest.fixture
    async def stranger(self, http):
        await http.cluster.client.create(ServiceAccount(metadata=ObjectMeta(name="stranger", namespace="default")))
        config = yaml.safe_load(http.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": await http.tokens.issue(ADMIN, "default", "stranger")}
        path = http.kubeconfig.with_name("stranger")
        path.write_text(yaml.safe_dump(config))
        async with HttpClient.from_kubeconfig(path) as made:
            yield made
