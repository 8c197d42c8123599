"""Informers: the cache follows the cluster through deletions, broken watches and broken handlers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref

import pytest

from headrace.api.core import ConfigMap, Namespace
from headrace.api.identity import User
from headrace.api.meta import KindInfo, Object, ObjectMeta, OwnerReference
from headrace.api.rbac import ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject
from headrace.machinery.clock import SystemClock
from headrace.machinery.informer import MAX_RELIST_DELAY, RELIST_DELAY, Informer
from headrace.store.memory import MemoryStore
from headrace.testing import FakeClock, embedded_cluster, eventually

NS = "default"


def config(name, *, owners=(), namespace=NS, **data):
    references = [OwnerReference(api_version="v1", kind="Owner", name="o", uid=uid) for uid in owners]
    return ConfigMap(metadata=ObjectMeta(name=name, namespace=namespace, owner_references=references), data=data)


@pytest.fixture
async def cluster():
    async with embedded_cluster() as running:
        yield running


@pytest.fixture
def informer(cluster):
    return Informer(cluster.client, cluster.clock, ConfigMap)


@contextlib.asynccontextmanager
async def running(informer):
    """Connected; leaving disconnects, and the cache stays as it was."""
    task = asyncio.create_task(informer.run())
    try:
        informer.synced.clear()
        await asyncio.wait_for(informer.synced.wait(), 5)
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Diary:
    """Every change as a short word: +a, ~a, -a."""

    def __init__(self, informer):
        self.lines = []
        informer.on_change(self.note)

    def note(self, old, new):
        sign = "+" if old is None else "-" if new is None else "~"
        self.lines.append(sign + (new or old).metadata.name)


async def test_it_has_what_there_was_and_follows_what_comes(cluster, informer):
    await cluster.client.create(config("before"))
    async with running(informer):
        assert informer.get(f"{NS}/before").metadata.name == "before"
        await cluster.client.create(config("a", x="1"))
        await eventually(lambda: informer.get(f"{NS}/a"))
        await cluster.client.patch(ConfigMap, "a", {"data": {"x": "2"}}, NS)
        await eventually(lambda: informer.get(f"{NS}/a").data == {"x": "2"})
        await cluster.client.delete(ConfigMap, "a", NS)
        await eventually(lambda: informer.get(f"{NS}/a") is None)
        assert informer.get(f"{NS}/nothing") is None


async def test_all_is_of_one_namespace_or_of_every(cluster, informer):
    await cluster.client.create(config("a"))
    await cluster.client.create(config("b", namespace="kube-system"))
    async with running(informer):
        assert [o.metadata.name for o in informer.all(NS)] == ["a"]
        assert {o.metadata.name for o in informer.all()} >= {"a", "b"}


async def test_cluster_scoped_objects_go_by_their_name(cluster):
    async with running(namespaces := Informer(cluster.client, cluster.clock, Namespace)):
        assert namespaces.get(NS).metadata.name == NS


async def test_only_what_the_selector_chooses_is_there_and_what_stops_matching_is_gone(cluster):
    informer = Informer(cluster.client, cluster.clock, ConfigMap, labels="color=red")
    red, blue = config("red"), config("blue")
    red.metadata.labels, blue.metadata.labels = {"color": "red"}, {"color": "blue"}
    await cluster.client.create(red)
    async with running(informer):
        diary = Diary(informer)
        await cluster.client.create(blue)
        await cluster.client.patch(ConfigMap, "red", {"metadata": {"labels": {"color": "blue"}}}, NS)
        await eventually(lambda: informer.get(f"{NS}/red") is None)
        assert informer.get(f"{NS}/blue") is None
        assert diary.lines == ["+red", "-red"]


async def test_children_are_found_by_any_owner_and_forgotten_with_the_reference(cluster, informer):
    await cluster.client.create(config("both", owners=("u1", "u2")))
    await cluster.client.create(config("one", owners=("u1",)))

    def names(uid):
        return sorted(o.metadata.name for o in informer.owned_by(uid))

    async with running(informer):
        assert names("u1") == ["both", "one"]
        assert names("u2") == ["both"]
        assert names("nobody") == []
        await cluster.client.patch(ConfigMap, "both", {"metadata": {"ownerReferences": None}}, NS)
        await eventually(lambda: names("u1") == ["one"])
        assert names("u2") == []
        await cluster.client.delete(ConfigMap, "one", NS)
        await eventually(lambda: names("u1") == [])
        assert not informer._by_owner, "the index keeps no empty entries"


async def test_a_copy_is_the_callers_own_and_equal(cluster, informer):
    await cluster.client.create(config("a", owners=("u1",), x="1"))
    async with running(informer):
        mine = informer.copy(f"{NS}/a")
        assert mine == informer.get(f"{NS}/a")
        mine.data["x"] = "changed"
        mine.metadata.labels["y"] = "z"
        mine.metadata.owner_references.clear()
        shared = informer.get(f"{NS}/a")
        assert (shared.data, shared.metadata.labels) == ({"x": "1"}, {})
        assert len(shared.metadata.owner_references) == 1
        assert informer.copy(f"{NS}/nothing") is None


async def test_handlers_hear_every_change_in_the_order_of_their_adding(cluster, informer):
    await cluster.client.create(config("a"))
    heard = []
    informer.on_change(lambda old, new: heard.append(("first", old, new)))
    async with running(informer):
        heard.clear()
        informer.on_change(lambda old, new: heard.append(("late", old, new)))
        there = informer.get(f"{NS}/a")
        assert ("late", None, there) in heard, "who comes late is told what is there"
        heard.clear()
        await cluster.client.patch(ConfigMap, "a", {"data": {"x": "1"}}, NS)
        await eventually(lambda: len(heard) == 2)
        now = informer.get(f"{NS}/a")
        assert heard == [("first", there, now), ("late", there, now)]
        heard.clear()
        await cluster.client.delete(ConfigMap, "a", NS)
        await eventually(lambda: len(heard) == 2)
        assert heard == [("first", now, None), ("late", now, None)]


async def test_a_handler_sees_the_cache_as_it_is_after_the_change(cluster, informer):
    seen = []
    informer.on_change(lambda old, new: seen.append(informer.get((new or old).key) is new))
    async with running(informer):
        await cluster.client.create(config("a"))
        await cluster.client.delete(ConfigMap, "a", NS)
        await eventually(lambda: informer.get(f"{NS}/a") is None and len(seen) >= 2)
        assert all(seen)


async def test_a_handler_that_raises_keeps_nobody_else_from_hearing(cluster, informer, caplog):
    def broken(_old, _new):
        raise RuntimeError("handler is broken")

    await cluster.client.create(config("a"))
    informer.on_change(broken)
    diary = Diary(informer)
    async with running(informer):
        await cluster.client.create(config("b"))
        await eventually(lambda: "+b" in diary.lines)
        informer.on_change(broken)  # told at once of what is there, and raises at once
        await cluster.client.create(config("c"))
        await eventually(lambda: "+c" in diary.lines)
    assert "handler is broken" in caplog.text
    assert f"ConfigMap {NS}/b" in caplog.text


async def test_what_happened_while_disconnected_is_caught_up_with(cluster, informer):
    for name in ("stays", "changes", "goes", "again"):
        await cluster.client.create(config(name))
    async with running(informer):
        diary = Diary(informer)
        before = informer.get(f"{NS}/again")
    diary.lines.clear()
    replaced = []
    informer.on_change(lambda old, new: replaced.append((old, new)))
    replaced.clear()
    await cluster.client.delete(ConfigMap, "goes", NS)
    await cluster.client.patch(ConfigMap, "changes", {"data": {"x": "1"}}, NS)
    await cluster.client.delete(ConfigMap, "again", NS)
    await cluster.client.create(config("again"))
    await cluster.client.create(config("comes"))
    async with running(informer):
        assert sorted(diary.lines) == ["+again", "+comes", "-again", "-goes", "~changes"]
        after = informer.get(f"{NS}/again")
        assert after.metadata.uid != before.metadata.uid
        at = [new is None for old, new in replaced if (new or old).metadata.name == "again"]
        assert at == [True, False], "another object of the same name is a deletion and then an addition"
        assert informer.get(f"{NS}/goes") is None


async def test_nothing_is_told_twice_when_nothing_happened_while_disconnected(cluster, informer):
    await cluster.client.create(config("a"))
    async with running(informer):
        diary = Diary(informer)
    diary.lines.clear()
    async with running(informer):
        assert diary.lines == []


async def test_a_watch_that_fell_behind_is_replaced_by_a_new_list_at_once():
    async with embedded_cluster(store=MemoryStore(watcher_limit=5), clock=FakeClock()) as cluster:
        informer = Informer(cluster.client, cluster.clock, ConfigMap)
        async with running(informer):
            await cluster.client.create(config("kept"))
            await eventually(lambda: informer.get(f"{NS}/kept"))
            diary = Diary(informer)
            diary.lines.clear()
            await cluster.client.delete(ConfigMap, "kept", NS)
            for i in range(30):  # the memory store never waits, so the informer has no turn between these
                await cluster.client.create(config(f"n{i}"))
            await eventually(lambda: len(list(informer.all(NS))) == 30)
            assert sorted(diary.lines) == sorted(["-kept", *(f"+n{i}" for i in range(30))])
            await cluster.client.create(config("later"))
            await eventually(lambda: "+later" in diary.lines)


async def test_forbidden_is_logged_and_tried_again_ever_more_slowly_until_it_is_allowed(caplog):
    reader = User("reader")
    clock = FakeClock()
    async with embedded_cluster(clock=clock) as cluster:
        await cluster.client.create(config("a"))
        informer = Informer(cluster.client_for(reader), clock, ConfigMap)
        task = asyncio.create_task(informer.run())
        delays = []
        for _ in range(9):
            await eventually(lambda: clock.sleepers)
            delays.append(due(clock))
            clock.step(delays[-1])
        assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
        assert (delays[0], delays[-1]) == (RELIST_DELAY, MAX_RELIST_DELAY)
        assert not informer.synced.is_set()
        assert "ConfigMap" in caplog.text
        assert "reader" in caplog.text
        rule = PolicyRule(api_groups=[""], resources=["configmaps"], verbs=["list", "watch"])
        await cluster.client.create(ClusterRole(metadata=ObjectMeta(name="reader"), rules=[rule]))
        await cluster.client.create(
            ClusterRoleBinding(
                metadata=ObjectMeta(name="reader"),
                role_ref=RoleRef(api_group="rbac.authorization.k8s.io", kind="ClusterRole", name="reader"),
                subjects=[Subject(kind="User", name="reader", api_group="rbac.authorization.k8s.io")],
            )
        )
        await asyncio.wait_for(informer.synced.wait(), 5)
        assert informer.get(f"{NS}/a") is not None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def due(clock):
    """How long the next sleeper still sleeps."""
    pending = [at for at, _, future in clock._sleepers if not future.done()]
    return round(min(pending) - clock.monotonic(), 6)


class Numbers(Object):
    """ConfigMaps of which somebody believes that their values are numbers."""

    INFO = KindInfo("", "v1", "ConfigMap", "configmaps")
    data: dict[str, int] = {}


async def test_an_object_that_cannot_be_read_is_named_in_the_log_and_the_informer_lives_on(caplog):
    clock = FakeClock()
    async with embedded_cluster(clock=clock) as cluster:
        await cluster.client.create(config("a", x="no number"))
        informer = Informer(cluster.client, clock, Numbers)
        task = asyncio.create_task(informer.run())
        await eventually(lambda: clock.sleepers)
        assert not task.done()
        assert "Numbers" in caplog.text
        await cluster.client.delete(ConfigMap, "a", NS)
        clock.step(RELIST_DELAY)
        await asyncio.wait_for(informer.synced.wait(), 5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_big_list_and_a_burst_of_changes_leave_the_event_loop_to_others(cluster, informer):
    for i in range(2000):
        await cluster.client.create(config(f"n{i}"))
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    async with running(informer):
        assert turns > 20
        for i in range(1000):
            await cluster.client.patch(ConfigMap, f"n{i}", {"data": {"x": "1"}}, NS)
        turns = 0
        await eventually(lambda: informer.get(f"{NS}/n999").data)
        assert turns > 10
    task.cancel()


async def test_an_informer_without_changes_sleeps():
    class Counting(SystemClock):
        asked = 0

        def monotonic(self):
            self.asked += 1
            return super().monotonic()

    clock = Counting()
    async with embedded_cluster(clock=clock) as cluster:
        informer = Informer(cluster.client, clock, ConfigMap)
        async with running(informer):
            asked = clock.asked
            await asyncio.sleep(0.1)
            assert clock.asked == asked


async def test_cancelling_ends_it_and_its_subscription(cluster, informer, caplog, monkeypatch):
    subscriptions = []
    original = cluster.store.watch

    def watch(prefix, *, after):
        found = original(prefix, after=after)
        subscriptions.append(weakref.ref(found))
        return found

    async def once():
        async with running(informer) as task:
            assert not task.done()
        assert task.cancelled()

    monkeypatch.setattr(cluster.store, "watch", watch)
    await once()
    await asyncio.sleep(0)
    gc.collect()
    (subscription,) = subscriptions
    assert subscription() is None
    assert caplog.text == ""
