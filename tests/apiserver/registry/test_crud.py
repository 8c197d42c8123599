"""The registry's verbs through the embedded client, on a memory store."""

import asyncio

import pytest

from headrace.api.core import ConfigMap, Namespace, Pod
from headrace.api.errors import AlreadyExists, BadRequest, Conflict, Forbidden, Invalid, NotFound
from headrace.api.identity import service_account
from headrace.api.meta import ObjectMeta
from headrace.client.base import EventType
from headrace.testing import FakeClock, embedded_cluster, eventually

NS = "default"


def config(name: str, **data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace=NS), data=data)


@pytest.fixture
async def cluster():
    async with embedded_cluster(clock=FakeClock()) as made:
        yield made


async def test_create_sets_what_the_server_owns(cluster):
    made = await cluster.client.create(config("a", x="1"))
    assert made.metadata.uid
    assert int(made.metadata.resource_version) == cluster.store.revision
    assert made.metadata.creation_timestamp == cluster.clock.now()
    assert await cluster.client.get(ConfigMap, "a", NS) == made


async def test_create_twice_is_a_conflict_in_kubectls_words(cluster):
    await cluster.client.create(config("a"))
    with pytest.raises(AlreadyExists, match='configmaps "a" already exists'):
        await cluster.client.create(config("a"))


async def test_generate_name(cluster):
    names = {
        (await cluster.client.create(ConfigMap(metadata=ObjectMeta(generate_name="x-", namespace=NS)))).metadata.name
        for _ in range(20)
    }
    assert len(names) == 20
    assert all(n.startswith("x-") and len(n) == 7 for n in names)


async def test_names_are_checked(cluster):
    with pytest.raises(Invalid) as caught:
        await cluster.client.create(config("Not_A_Name"))
    assert [c.field for c in caught.value.causes] == ["metadata.name"]
    with pytest.raises(Invalid):
        await cluster.client.create(Namespace(metadata=ObjectMeta(name="dots.are.wrong")))


async def test_stale_update_conflicts_and_fresh_one_wins(cluster):
    first = await cluster.client.create(config("a", x="1"))
    second = await cluster.client.patch(ConfigMap, "a", {"data": {"x": "2"}}, NS)
    first.data["x"] = "3"
    with pytest.raises(Conflict, match="the object has been modified"):
        await cluster.client.update(first)
    second.data["x"] = "4"
    assert (await cluster.client.update(second)).data == {"x": "4"}


async def test_patch_with_a_stale_version_conflicts(cluster):
    first = await cluster.client.create(config("a", x="1"))
    await cluster.client.patch(ConfigMap, "a", {"data": {"x": "2"}}, NS)
    with pytest.raises(Conflict):
        await cluster.client.patch(
            ConfigMap, "a", {"data": {"x": "3"}}, NS, resource_version=first.metadata.resource_version
        )


async def test_concurrent_patches_all_land(cluster):
    await cluster.client.create(config("a"))
    await asyncio.gather(*(cluster.client.patch(ConfigMap, "a", {"data": {f"k{i}": "v"}}, NS) for i in range(20)))
    assert len((await cluster.client.get(ConfigMap, "a", NS)).data) == 20


async def test_a_patch_that_changes_nothing_is_not_written(cluster):
    made = await cluster.client.create(config("a", x="1"))
    again = await cluster.client.patch(ConfigMap, "a", {"data": {"x": "1"}}, NS)
    assert again.metadata.resource_version == made.metadata.resource_version


async def test_apply_creates_then_merges_then_rests(cluster):
    await cluster.client.apply(config("a", x="1"))
    merged = await cluster.client.apply(config("a", y="2"))
    assert merged.data == {"x": "1", "y": "2"}
    before = cluster.store.revision
    await cluster.client.apply(config("a", y="2"))
    assert cluster.store.revision == before


async def test_status_and_spec_are_written_apart(cluster):
    pod = Pod(metadata=ObjectMeta(name="p", namespace=NS))
    pod.spec.containers = []
    from headrace.api.core import Container

    pod.spec.containers = [Container(name="c", image="python:3.11")]
    made = await cluster.client.create(pod)
    assert made.status.phase == "Pending"
    await cluster.client.patch(Pod, "p", {"status": {"phase": "Running"}}, NS)
    assert (await cluster.client.get(Pod, "p", NS)).status.phase == "Pending"
    patch = {"status": {"phase": "Running"}, "spec": {"nodeName": "elsewhere"}}
    changed = await cluster.client.patch(Pod, "p", patch, NS, subresource="status")
    assert changed.status.phase == "Running"
    assert changed.spec.node_name == ""


async def test_finalizers_hold_a_deletion(cluster):
    held = config("a")
    held.metadata.finalizers = ["example.com/hold"]
    await cluster.client.create(held)
    await cluster.client.delete(ConfigMap, "a", NS)
    dying = await cluster.client.get(ConfigMap, "a", NS)
    assert dying.metadata.deletion_timestamp == cluster.clock.now()
    with pytest.raises(Forbidden, match="no new finalizers"):
        await cluster.client.patch(
            ConfigMap, "a", {"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}, NS
        )
    await cluster.client.patch(ConfigMap, "a", {"metadata": {"finalizers": None}}, NS)
    with pytest.raises(NotFound):
        await cluster.client.get(ConfigMap, "a", NS)


async def test_delete_checks_the_uid(cluster):
    made = await cluster.client.create(config("a"))
    with pytest.raises(Conflict, match="UID in precondition"):
        await cluster.client.delete(ConfigMap, "a", NS, uid="another")
    await cluster.client.delete(ConfigMap, "a", NS, uid=made.metadata.uid)
    with pytest.raises(NotFound, match='configmaps "a" not found'):
        await cluster.client.delete(ConfigMap, "a", NS)


async def test_selectors(cluster):
    for name, labels in {"a": {"app": "x"}, "b": {"app": "y"}, "c": {}}.items():
        made = config(name)
        made.metadata.labels = labels
        await cluster.client.create(made)

    async def names(labels: str = "", fields: str = "") -> list[str]:
        listed = await cluster.client.list(ConfigMap, NS, labels=labels, fields=fields)
        return [o.metadata.name for o in listed.items]

    assert await names() == ["a", "b", "c"]
    assert await names("app=x") == ["a"]
    assert await names("app in (x, y)") == ["a", "b"]
    assert await names("app!=x") == ["b", "c"]
    assert await names("!app") == ["c"]
    assert await names("app") == ["a", "b"]
    assert await names("app notin (x),app") == ["b"]
    assert await names(fields="metadata.name=b") == ["b"]
    assert await names(fields="metadata.name!=b") == ["a", "c"]
    with pytest.raises(BadRequest, match=r"field label not supported: data\.x"):
        await names(fields="data.x=1")
    with pytest.raises(BadRequest):
        await names("app in (x")


async def test_watch_sees_every_change_from_its_call_on(cluster):
    listed = await cluster.client.list(ConfigMap)
    watch = cluster.client.watch(ConfigMap, NS, resource_version=listed.resource_version)
    await cluster.client.create(config("a"))
    await cluster.client.patch(ConfigMap, "a", {"data": {"x": "1"}}, NS)
    await cluster.client.delete(ConfigMap, "a", NS)
    seen = [await anext(watch) for _ in range(3)]
    assert [e.type for e in seen] == [EventType.ADDED, EventType.MODIFIED, EventType.DELETED]
    assert seen[2].object.data == {"x": "1"}
    versions = [int(e.object.metadata.resource_version) for e in seen]
    assert versions == sorted(set(versions))


async def test_watch_with_a_selector_turns_changes_into_adds_and_deletes(cluster):
    listed = await cluster.client.list(ConfigMap)
    watch = cluster.client.watch(ConfigMap, NS, resource_version=listed.resource_version, labels="on=yes")
    await cluster.client.create(config("a"))
    await cluster.client.patch(ConfigMap, "a", {"metadata": {"labels": {"on": "yes"}}}, NS)
    await cluster.client.patch(ConfigMap, "a", {"metadata": {"labels": {"on": "no"}}}, NS)
    first, second = await anext(watch), await anext(watch)
    assert (first.type, second.type) == (EventType.ADDED, EventType.DELETED)
    assert second.object.metadata.labels == {"on": "yes"}


async def test_strangers_may_nothing(cluster):
    stranger = cluster.client_for(service_account(NS, "nobody"))
    with pytest.raises(
        Forbidden,
        match='configmaps "a" is forbidden: User "system:serviceaccount:default:nobody" cannot get resource '
        '"configmaps" in API group "" in the namespace "default"',
    ):
        await stranger.get(ConfigMap, "a", NS)
    with pytest.raises(Forbidden):
        stranger.watch(ConfigMap, resource_version="")
    for call in (stranger.list(ConfigMap), stranger.create(config("a")), stranger.delete(ConfigMap, "a", NS)):
        with pytest.raises(Forbidden):
            await call


async def test_informers_follow(cluster):
    informer = cluster.manager.informer(ConfigMap)
    await cluster.manager.start()
    await cluster.client.create(config("a", x="1"))
    await eventually(lambda: informer.get(f"{NS}/a"))
    await cluster.client.delete(ConfigMap, "a", NS)
    await eventually(lambda: informer.get(f"{NS}/a") is None)
