"""The component on an embedded cluster: its objects, its keyring, its start and stop."""

import base64
import dataclasses

from headrace.api.core import Secret
from headrace.api.meta import ObjectMeta
from headrace.components.objectstore import policy
from headrace.components.objectstore.component import COMPONENT
from headrace.components.objectstore.controller import Keyring, KeyringController
from headrace.components.objectstore.store.objects import ObjectStore
from headrace.machinery.component import Context
from headrace.testing.clock import FakeClock
from headrace.testing.cluster import embedded_cluster
from headrace.testing.eventually import eventually


def secret(access="key-a", namespace="default"):
    values = {"accesskey": access, "secretkey": "s"}
    return Secret(
        metadata=ObjectMeta(name=policy.SECRET_NAME, namespace=namespace, labels={policy.ACCESS_LABEL: "true"}),
        data={k: base64.b64encode(v.encode()).decode() for k, v in values.items()},
    )


async def test_keys_follow_their_secrets():
    async with embedded_cluster(clock=FakeClock()) as cluster:
        keyring = Keyring(cluster.client, cluster.clock)
        cluster.manager.add(KeyringController(keyring), cluster.client)
        await cluster.manager.start()
        assert await keyring.find("key-a") is None
        await cluster.client.create(secret())

        async def known():
            return await keyring.find("key-a")

        assert (await eventually(known)).namespace == "default"
        await cluster.client.patch(
            Secret, policy.SECRET_NAME, {"metadata": {"labels": {policy.ACCESS_LABEL: None}}}, "default"
        )

        async def unknown():
            return await keyring.find("key-a") is None

        assert await eventually(unknown)
        await cluster.client.delete(Secret, policy.SECRET_NAME, "default")
        await cluster.client.create(secret("key-b"))

        async def renewed():
            return await keyring.find("key-b")

        assert await eventually(renewed)
        await cluster.client.delete(Secret, policy.SECRET_NAME, "default")

        async def forgotten():
            return await keyring.find("key-b") is None

        assert await eventually(forgotten)


async def test_an_unknown_key_is_looked_up_but_not_at_every_request():
    async with embedded_cluster(clock=FakeClock()) as cluster:
        keyring = Keyring(cluster.client, cluster.clock)
        assert await keyring.find("key-a") is None
        await cluster.client.create(secret())
        assert await keyring.find("key-a") is None
        cluster.clock.step(2)
        assert (await keyring.find("key-a")).namespace == "default"


async def test_the_component_starts_and_stops(tmp_path):
    async with embedded_cluster() as cluster:
        settings = dataclasses.replace(cluster.settings, home=tmp_path)
        settings.state.mkdir()
        context = Context("objectstore", settings, cluster.client, cluster.clock, None, None)
        for _ in range(2):
            parts = COMPONENT.build(context)
            await parts.start()
            await parts.stop()
        assert {(s.name, s.namespace, s.port) for s in parts.services} == {
            ("minio-service", "kubeflow", 9000),
            ("minio", "kubeflow", 9000),
        }
        store = ObjectStore(settings.state / "objectstore")
        store.open()
        assert [b.name for b in store.buckets()] == ["mlpipeline"]
        await store.close()


def test_objects_hold_upstreams_default_keys():
    (secret_,) = COMPONENT.objects(None)
    data = secret_["data"]
    assert base64.b64decode(data["accesskey"]) == b"minio"
    assert base64.b64decode(data["secretkey"]) == b"minio123"
