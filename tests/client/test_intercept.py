"""Fault injection: what is asked is recorded, what should fail fails, the rest goes through."""

import pytest

from headrace.api.core import ConfigMap, Pod
from headrace.api.errors import NotFound, TooManyRequests
from headrace.api.identity import ADMIN
from headrace.api.meta import ObjectMeta
from headrace.client.intercept import Call, Intercepted
from headrace.testing import embedded_cluster

NS = "default"


@pytest.fixture
async def client():
    async with embedded_cluster() as cluster:
        yield Intercepted(cluster.client)


def config(name="a"):
    return ConfigMap(metadata=ObjectMeta(name=name, namespace=NS))


async def test_calls_go_through_and_are_recorded(client):
    made = await client.create(config())
    assert await client.get(ConfigMap, "a", NS) == made
    await client.patch(ConfigMap, "a", {"data": {"x": "1"}}, NS)
    await client.apply(config())
    await client.update(await client.get(ConfigMap, "a", NS))
    assert len((await client.list(ConfigMap, NS)).items) == 1
    watch = client.watch(ConfigMap, NS, resource_version="0")
    assert (await anext(watch)).object.data == {"x": "1"}
    await client.delete(ConfigMap, "a", NS)
    assert [c.verb for c in client.calls] == [
        "create",
        "get",
        "patch",
        "apply",
        "get",
        "update",
        "list",
        "watch",
        "delete",
    ]
    assert client.calls[2] == Call("patch", ConfigMap, NS, "a", "")
    assert await client.review_access(ADMIN, "get", resource="pods")


async def test_faults_hit_what_they_name_as_often_as_they_say(client):
    client.fail("create", ConfigMap, TooManyRequests("slow down"), times=2)
    for _ in range(2):
        with pytest.raises(TooManyRequests, match="slow down"):
            await client.create(config())
    await client.create(config())
    client.fail("*", None, TooManyRequests("any"))
    with pytest.raises(TooManyRequests):
        client.watch(Pod, resource_version="0")
    with pytest.raises(NotFound):
        await client.get(Pod, "p", NS)


async def test_something_may_happen_just_before(client):
    inner = client._client

    async def interfere(call):
        if call.verb == "patch":
            await inner.delete(call.kind, call.name, call.namespace)

    disturbed = Intercepted(inner, interfere)
    await disturbed.create(config())
    with pytest.raises(NotFound):
        await disturbed.patch(ConfigMap, "a", {"data": {"x": "1"}}, NS)
