"""Lists in pages that stay consistent, watches with bookmarks, versions that are too old or too new."""

import asyncio

import pytest

from headrace.api import _wire
from headrace.api.core import ConfigMap, Pod
from headrace.api.errors import BadRequest, Gone, Timeout
from headrace.api.identity import ADMIN
from headrace.apiserver.registry.reads import Reads
from headrace.client.base import EventType
from headrace.store.memory import MemoryStore
from headrace.testing import embedded_cluster

NS = "default"
INFO = ConfigMap.INFO


@pytest.fixture
async def cluster():
    async with embedded_cluster(store=MemoryStore(keep=50, watcher_limit=20)) as made:
        yield made


@pytest.fixture
def registry(cluster):
    return cluster.registry


async def put(registry, name, ns=NS, **labels):
    return await registry.create(ADMIN, INFO, {"metadata": {"name": name, "labels": labels}}, ns)


def names(page):
    return [_wire.decode_any(i)["metadata"]["name"] for i in page.items]


async def drop(registry, name):
    await registry.delete(ADMIN, INFO, name, NS)


async def test_pages_show_the_list_as_it_was(registry):
    for name in "abcdef":
        await put(registry, name)
    first = await registry.list(ADMIN, INFO, NS, limit=2)
    assert (names(first), first.remaining) == (["a", "b"], 4)
    await drop(registry, "c")
    await put(registry, "bb")
    await registry.patch(ADMIN, INFO, "d", {"data": {"x": "new"}}, NS)
    second = await registry.list(ADMIN, INFO, NS, limit=2, continue_token=first.continue_token)
    assert (names(second), second.remaining) == (["c", "d"], 2)
    assert "data" not in _wire.decode_any(second.items[1])
    assert second.resource_version == first.resource_version
    last = await registry.list(ADMIN, INFO, NS, limit=2, continue_token=second.continue_token)
    assert (names(last), last.continue_token, last.remaining) == (["e", "f"], "", None)
    assert names(await registry.list(ADMIN, INFO, NS)) == ["a", "b", "bb", "d", "e", "f"]


async def test_pages_over_all_namespaces_and_with_selectors(registry):
    for ns in (NS, "kubeflow"):
        for name in "abc":
            await put(registry, name, ns, odd="yes" if name != "b" else "no")
    seen, token = [], ""
    while True:
        page = await registry.list(ADMIN, INFO, limit=1, continue_token=token, labels="odd=yes")
        seen += names(page)
        token = page.continue_token
        if not token:
            break
    assert seen == ["a", "c", "a", "c"]


async def test_a_token_that_is_too_old_is_gone(registry):
    for name in "abc":
        await put(registry, name)
    first = await registry.list(ADMIN, INFO, NS, limit=1)
    for i in range(60):
        await registry.patch(ADMIN, INFO, "a", {"data": {"x": str(i)}}, NS)
    with pytest.raises(Gone, match="too old to display a consistent list"):
        await registry.list(ADMIN, INFO, NS, limit=1, continue_token=first.continue_token)
    with pytest.raises(BadRequest, match="continue key is not valid"):
        await registry.list(ADMIN, INFO, NS, continue_token="nonsense")


async def test_lists_at_versions(registry):
    await put(registry, "a")
    then = registry.store.revision
    await put(registry, "b")
    at = await registry.list(ADMIN, INFO, NS, resource_version=str(then), match="Exact")
    assert (names(at), at.resource_version) == (["a"], then)
    for version in ("0", str(then)):
        assert names(await registry.list(ADMIN, INFO, NS, resource_version=version)) == ["a", "b"]
    with pytest.raises(Timeout, match="Too large resource version"):
        await registry.list(ADMIN, INFO, NS, resource_version="99999")
    with pytest.raises(BadRequest):
        await registry.list(ADMIN, INFO, NS, resource_version="x")
    with pytest.raises(BadRequest):
        await registry.list(ADMIN, INFO, NS, match="Exact")


async def test_pod_field_selectors(registry):
    spec = {"containers": [{"name": "c", "image": "i"}], "nodeName": "n1"}
    await registry.create(ADMIN, Pod.INFO, {"metadata": {"name": "a"}, "spec": spec}, NS)
    await registry.create(ADMIN, Pod.INFO, {"metadata": {"name": "b"}, "spec": {**spec, "nodeName": ""}}, NS)

    async def found(fields):
        return names(await registry.list(ADMIN, Pod.INFO, fields=fields))

    assert await found("spec.nodeName=n1") == ["a"]
    assert await found("spec.nodeName=") == ["b"]
    assert await found("status.phase=Pending,metadata.namespace=default") == ["a", "b"]
    assert await found("status.phase!=Pending") == []
    assert await found("spec.hostNetwork=false") == ["a", "b"]


class TestWatch:
    async def test_from_nothing_it_starts_with_what_is_there(self, registry):
        await put(registry, "a")
        watch = registry.watch(ADMIN, INFO, NS)
        await put(registry, "b")
        seen = [await anext(watch) for _ in range(2)]
        assert [(e.type, _wire.decode_any(e.object)["metadata"]["name"]) for e in seen] == [
            (EventType.ADDED, "a"),
            (EventType.ADDED, "b"),
        ]

    async def test_initial_events_end_with_a_marked_bookmark(self, registry):
        await put(registry, "a")
        watch = registry.watch(ADMIN, INFO, NS, bookmarks=True, send_initial_events=True)
        added, bookmark = await anext(watch), await anext(watch)
        assert (added.type, bookmark.type) == (EventType.ADDED, EventType.BOOKMARK)
        meta = _wire.decode_any(bookmark.object)["metadata"]
        assert meta["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert meta["resourceVersion"] == str(registry.store.revision)

    async def test_bookmarks_follow_the_store_when_it_is_quiet_here(self, registry):
        reads = Reads(registry.core, bookmark_seconds=0.02)
        served = registry.core.served(INFO)
        watch = reads.watch(
            served,
            NS,
            resource_version=str(registry.store.revision),
            labels="",
            fields="",
            bookmarks=True,
            send_initial_events=False,
        )
        await put(registry, "elsewhere", "kubeflow")
        bookmark = await asyncio.wait_for(anext(watch), 5)
        assert (bookmark.type, bookmark.revision) == (EventType.BOOKMARK, registry.store.revision)
        await put(registry, "a")
        assert (await asyncio.wait_for(anext(watch), 5)).type is EventType.ADDED

    async def test_a_version_from_before_the_log_is_gone(self, registry):
        then = str(registry.store.revision)
        await put(registry, "a")
        for i in range(60):
            await registry.patch(ADMIN, INFO, "a", {"data": {"x": str(i)}}, NS)
        with pytest.raises(Gone, match="too old resource version"):
            registry.watch(ADMIN, INFO, NS, resource_version=then)
        with pytest.raises(Timeout):
            registry.watch(ADMIN, INFO, NS, resource_version="99999")

    async def test_a_slow_watcher_is_told(self, registry):
        await put(registry, "a")
        watch = registry.watch(ADMIN, INFO, NS, resource_version=str(registry.store.revision))
        for i in range(30):
            await registry.patch(ADMIN, INFO, "a", {"data": {"x": str(i)}}, NS)
        with pytest.raises(Gone, match="fell behind"):
            await anext(watch)

    async def test_only_its_namespace(self, registry):
        watch = registry.watch(ADMIN, INFO, NS, resource_version=str(registry.store.revision))
        await put(registry, "x", "kubeflow")
        await put(registry, "y")
        event = await anext(watch)
        assert _wire.decode_any(event.object)["metadata"]["name"] == "y"

    async def test_closing_ends_it(self, registry):
        watch = registry.watch(ADMIN, INFO, NS, resource_version=str(registry.store.revision))
        await watch.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(watch)
