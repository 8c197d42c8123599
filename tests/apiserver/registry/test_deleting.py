"""Deletion: grace, propagation, namespaces, collections, dry runs."""

import pytest

from headrace.api import _wire
from headrace.api.core import ConfigMap, Namespace, Pod
from headrace.api.errors import Conflict, Forbidden, NotFound
from headrace.api.identity import ADMIN
from headrace.api.meta import ObjectMeta
from headrace.client.base import EventType
from headrace.testing import FakeClock, embedded_cluster

NS = "default"


@pytest.fixture
async def cluster():
    async with embedded_cluster(clock=FakeClock()) as made:
        yield made


@pytest.fixture
def registry(cluster):
    return cluster.registry


@pytest.fixture
def pod(registry):
    async def make(name="p", node="n1", phase="Running", grace=30):
        spec = {
            "containers": [{"name": "c", "image": "i"}],
            "nodeName": node,
            "terminationGracePeriodSeconds": grace,
        }
        await registry.create(ADMIN, Pod.INFO, {"metadata": {"name": name}, "spec": spec}, NS)
        await registry.patch(ADMIN, Pod.INFO, name, {"status": {"phase": phase}}, NS, subresource="status")

    return make


async def delete(registry, name="p", **options):
    return _wire.decode_any(await registry.delete(ADMIN, Pod.INFO, name, NS, **options))["metadata"]


class TestGrace:
    async def test_a_running_pod_gets_its_time(self, registry, cluster, pod):
        await pod(grace=10)
        meta = await delete(registry)
        assert meta["deletionGracePeriodSeconds"] == 10
        assert meta["deletionTimestamp"] == "2026-01-01T00:00:10Z"
        cluster.clock.step(3)
        again = await delete(registry)
        assert again["deletionTimestamp"] == meta["deletionTimestamp"], "a second request does not start anew"
        shorter = await delete(registry, grace_period_seconds=2)
        assert shorter["deletionTimestamp"] == "2026-01-01T00:00:05Z"
        longer = await delete(registry, grace_period_seconds=60)
        assert longer["deletionTimestamp"] == shorter["deletionTimestamp"]
        await delete(registry, grace_period_seconds=0)
        with pytest.raises(NotFound):
            await delete(registry)

    @pytest.mark.parametrize(("node", "phase"), [("", "Pending"), ("n1", "Succeeded"), ("n1", "Failed")])
    async def test_one_that_does_not_run_goes_at_once(self, registry, pod, node, phase):
        await pod(node=node, phase=phase)
        await delete(registry)
        with pytest.raises(NotFound):
            await registry.get(ADMIN, Pod.INFO, "p", NS)

    async def test_a_finalizer_outlasts_the_grace(self, registry, pod):
        await pod()
        await registry.patch(ADMIN, Pod.INFO, "p", {"metadata": {"finalizers": ["a.b/c"]}}, NS)
        await delete(registry, grace_period_seconds=0)
        assert _wire.decode_any(await registry.get(ADMIN, Pod.INFO, "p", NS))["metadata"]["finalizers"] == ["a.b/c"]
        await registry.patch(ADMIN, Pod.INFO, "p", {"metadata": {"finalizers": []}}, NS)
        with pytest.raises(NotFound):
            await registry.get(ADMIN, Pod.INFO, "p", NS)

    async def test_a_graceful_pod_stays_when_its_last_finalizer_goes(self, registry, pod):
        await pod()
        await registry.patch(ADMIN, Pod.INFO, "p", {"metadata": {"finalizers": ["a.b/c"]}}, NS)
        await delete(registry)
        await registry.patch(ADMIN, Pod.INFO, "p", {"metadata": {"finalizers": None}}, NS)
        await registry.get(ADMIN, Pod.INFO, "p", NS)
        await delete(registry, grace_period_seconds=0)
        with pytest.raises(NotFound):
            await registry.get(ADMIN, Pod.INFO, "p", NS)


async def make(cluster, name="a", **meta):
    return await cluster.client.create(ConfigMap(metadata=ObjectMeta(name=name, namespace=NS, **meta)))


class TestPropagation:
    @pytest.mark.parametrize(("policy", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")])
    async def test_what_the_collector_must_do_is_a_finalizer(self, cluster, policy, finalizer):
        await make(cluster)
        await cluster.client.delete(ConfigMap, "a", NS, propagation=policy)
        dying = await cluster.client.get(ConfigMap, "a", NS)
        assert dying.metadata.finalizers == [finalizer]
        assert dying.metadata.deletion_timestamp is not None

    async def test_a_later_policy_replaces_the_earlier(self, cluster):
        await make(cluster)
        await cluster.client.delete(ConfigMap, "a", NS, propagation="Foreground")
        await cluster.client.delete(ConfigMap, "a", NS, propagation="Orphan")
        assert (await cluster.client.get(ConfigMap, "a", NS)).metadata.finalizers == ["orphan"]
        await cluster.client.delete(ConfigMap, "a", NS, propagation="Background")
        with pytest.raises(NotFound):
            await cluster.client.get(ConfigMap, "a", NS)

    async def test_no_policy_leaves_other_finalizers(self, registry, cluster):
        await make(cluster, finalizers=["orphan"])
        await registry.delete(ADMIN, ConfigMap.INFO, "a", NS)
        assert (await cluster.client.get(ConfigMap, "a", NS)).metadata.finalizers == ["orphan"]


async def test_preconditions(registry, cluster):
    made = await make(cluster)
    with pytest.raises(Conflict, match="ResourceVersion in precondition"):
        await registry.delete(ADMIN, ConfigMap.INFO, "a", NS, resource_version="1")
    await registry.delete(ADMIN, ConfigMap.INFO, "a", NS, resource_version=made.metadata.resource_version)


async def test_collections(registry, cluster):
    for name in "abc":
        await make(cluster, name, labels={"go": "yes" if name != "b" else "no"})
    deleted = await registry.delete_collection(ADMIN, ConfigMap.INFO, NS, labels="go=yes")
    assert len(deleted) == 2
    assert [o.metadata.name for o in (await cluster.client.list(ConfigMap, NS)).items] == ["b"]


async def test_dry_runs_change_nothing(registry, cluster):
    made = await make(cluster)
    before = cluster.store.revision
    body = {"metadata": {"name": "a"}, "data": {"x": "1"}}
    created = await registry.create(ADMIN, ConfigMap.INFO, {"metadata": {"name": "z"}}, NS, dry_run=True)
    assert _wire.decode_any(created)["metadata"]["uid"]
    updated = await registry.update(ADMIN, ConfigMap.INFO, "a", body, NS, dry_run=True)
    assert _wire.decode_any(updated)["data"] == {"x": "1"}
    patched = await registry.patch(ADMIN, ConfigMap.INFO, "a", {"data": {"y": "1"}}, NS, dry_run=True)
    assert _wire.decode_any(patched)["data"] == {"y": "1"}
    await registry.delete(ADMIN, ConfigMap.INFO, "a", NS, dry_run=True)
    assert cluster.store.revision == before
    assert await cluster.client.get(ConfigMap, "a", NS) == made


class TestNamespaces:
    async def test_it_waits_until_it_is_empty(self, cluster):
        await cluster.client.create(Namespace(metadata=ObjectMeta(name="mine")))
        await cluster.client.delete(Namespace, "mine")
        dying = await cluster.client.get(Namespace, "mine")
        assert (dying.status.phase, dying.spec.finalizers) == ("Terminating", ["kubernetes"])
        with pytest.raises(Forbidden, match="because it is being terminated") as caught:
            await cluster.client.create(ConfigMap(metadata=ObjectMeta(name="a", namespace="mine")))
        assert [c.reason for c in caught.value.causes] == ["NamespaceTerminating"]
        await cluster.client.patch(Namespace, "mine", {"spec": {"finalizers": []}})
        assert (await cluster.client.get(Namespace, "mine")).spec.finalizers == ["kubernetes"], "only by finalize"
        await cluster.client.patch(Namespace, "mine", {"spec": {"finalizers": None}}, subresource="finalize")
        with pytest.raises(NotFound):
            await cluster.client.get(Namespace, "mine")

    @pytest.mark.parametrize("name", ["default", "kube-system", "kubeflow"])
    async def test_some_must_stay(self, cluster, name):
        with pytest.raises(Forbidden, match="may not be deleted"):
            await cluster.client.delete(Namespace, name)


async def test_the_last_event_is_a_deletion_with_its_own_version(registry, cluster):
    made = await make(cluster, finalizers=["a.b/c"])
    watch = registry.watch(ADMIN, ConfigMap.INFO, NS, resource_version=made.metadata.resource_version)
    await cluster.client.delete(ConfigMap, "a", NS)
    await cluster.client.patch(ConfigMap, "a", {"metadata": {"finalizers": None}}, NS)
    begun, gone = await anext(watch), await anext(watch)
    assert (begun.type, gone.type) == (EventType.MODIFIED, EventType.DELETED)
    meta = _wire.decode_any(gone.object)["metadata"]
    assert int(meta["resourceVersion"]) == gone.revision == cluster.store.revision
    assert "deletionTimestamp" in meta
