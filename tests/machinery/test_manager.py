"""The reconcile loop: what a controller may rely on, and what no controller can do to the others."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging

import msgspec
import pytest

from headrace.api import conditions
from headrace.api.core import ConfigMap, Secret
from headrace.api.errors import AlreadyExists, BadRequest, Conflict, NotFound
from headrace.api.identity import User
from headrace.api.meta import Condition, KindInfo, Object, ObjectMeta, Struct
from headrace.api.rbac import ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject
from headrace.machinery.clock import SystemClock
from headrace.machinery.controller import DONE, Controller, Result, Terminal, Watch
from headrace.machinery.manager import RESTART_DELAY
from headrace.store.memory import MemoryStore
from headrace.store.sqlite import SqliteStore
from headrace.testing import FakeClock, embedded_cluster, eventually

NS = "default"
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class GadgetSpec(Struct):
    """What is wanted."""

    size: int = 0


class GadgetStatus(Struct):
    """What is."""

    phase: str = ""
    seen: int = 0
    details: dict[str, str] = {}
    conditions: list[Condition] = []
    notes: list[str] = []


class Gadget(Object):
    """A custom kind."""

    INFO = KindInfo("test.headrace.dev", "v1", "Gadget", "gadgets")
    spec: GadgetSpec = msgspec.field(default_factory=GadgetSpec)
    status: GadgetStatus = msgspec.field(default_factory=GadgetStatus)


class OldStatus(Struct):
    """What an older controller knows of the status."""

    phase: str = ""


class OldGadget(Object):
    """The same kind, as an older controller knows it."""

    INFO = Gadget.INFO
    status: OldStatus = msgspec.field(default_factory=OldStatus)


def gadget(name="g", size=0):
    return Gadget(metadata=ObjectMeta(name=name, namespace=NS), spec=GadgetSpec(size=size))


class Probe(Controller[Gadget]):
    """Does what the test says, and keeps what it was given."""

    name = "probe"
    kind = Gadget
    workers = 2

    def __init__(self, work=None, **attributes):
        self.work = work
        self.seen: list[Gadget] = []
        self.went: list[str] = []
        for key, value in attributes.items():
            setattr(self, key, value)

    async def reconcile(self, obj):
        self.seen.append(obj)
        result = self.work(obj) if self.work else None
        if asyncio.iscoroutine(result):
            result = await result
        return result or DONE

    async def gone(self, key):
        self.went.append(key)

    @property
    def times(self):
        return len(self.seen)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def cluster(clock):
    async with embedded_cluster([Gadget], clock=clock) as running:
        yield running


@pytest.fixture
def client(cluster):
    return cluster.client


async def rest(cluster):
    """Until nobody has anything to do."""
    calm = 0
    while calm < 20:
        await asyncio.sleep(0)
        calm = calm + 1 if cluster.manager.idle else 0


async def run(cluster, *controllers):
    for controller in controllers:
        cluster.manager.add(controller, cluster.client)
    await cluster.manager.start()
    await rest(cluster)


def writes(cluster, name="g"):
    """How often an object is written from now on."""
    seen = []
    cluster.store.on_change(lambda change: seen.append(change) if change.record.key.endswith(f"/{name}") else None)
    return seen


# What wakes a controller


async def test_what_there_is_and_what_comes_is_reconciled(cluster, client):
    await client.create(gadget("before"))
    probe = Probe()
    await run(cluster, probe)
    assert [g.metadata.name for g in probe.seen] == ["before"]
    await client.create(gadget("after"))
    await eventually(lambda: probe.times == 2)
    await client.patch(Gadget, "after", {"spec": {"size": 5}}, NS)
    await eventually(lambda: probe.seen[-1].spec.size == 5)


async def test_a_deleted_object_is_told_by_its_key(cluster, client):
    await client.create(gadget())
    probe = Probe()
    await run(cluster, probe)
    await client.delete(Gadget, "g", NS)
    await eventually(lambda: probe.went == [f"{NS}/g"])


async def test_a_child_wakes_its_controlling_owner_and_nobody_else(cluster, client):
    owner = await client.create(gadget("owner"))
    await client.create(gadget("other"))
    probe = Probe(owns=(ConfigMap,))
    await run(cluster, probe)
    probe.seen.clear()
    child = ConfigMap(metadata=ObjectMeta(name="c", namespace=NS, owner_references=[owner.owner_reference()]))
    await client.create(child)
    await eventually(lambda: [g.metadata.name for g in probe.seen] == ["owner"])
    await client.delete(ConfigMap, "c", NS)
    await eventually(lambda: [g.metadata.name for g in probe.seen] == ["owner", "owner"])
    reference = owner.owner_reference(controller=False)
    await client.create(ConfigMap(metadata=ObjectMeta(name="d", namespace=NS, owner_references=[reference])))
    await rest(cluster)
    assert probe.times == 2, "an owner that does not control is not woken"


async def test_a_watched_object_wakes_the_keys_that_it_is_mapped_to_before_and_after_a_change(cluster, client):
    for name in ("a", "b"):
        await client.create(gadget(name))
    watch = Watch(Secret, lambda s: [f"{NS}/{s.metadata.labels['for']}"] if "for" in s.metadata.labels else [])
    probe = Probe(watches=(watch,))
    await run(cluster, probe)
    await client.create(Secret(metadata=ObjectMeta(name="s", namespace=NS, labels={"for": "a"})))
    await rest(cluster)
    probe.seen.clear()
    await client.patch(Secret, "s", {"metadata": {"labels": {"for": "b"}}}, NS)
    await eventually(lambda: {g.metadata.name for g in probe.seen} == {"a", "b"})


async def test_a_kind_that_is_only_read_wakes_nobody(cluster, client):
    await client.create(gadget())
    probe = Probe(lambda obj: None, reads=(Secret,))
    await run(cluster, probe)
    await client.create(Secret(metadata=ObjectMeta(name="s", namespace=NS)))
    await eventually(lambda: probe.cache(Secret).get(f"{NS}/s"))
    await rest(cluster)
    assert probe.times == 1


async def test_a_change_during_a_reconcile_brings_another_one(cluster, client):
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(obj):
        begun.set()
        await go_on.wait()

    probe = Probe(slow)
    await run(cluster, probe)
    await client.create(gadget(size=1))
    await begun.wait()
    await client.patch(Gadget, "g", {"spec": {"size": 2}}, NS)
    await eventually(lambda: probe.cache(Gadget).get(f"{NS}/g").spec.size == 2)
    assert probe.times == 1, "a key is never in two workers' hands"
    go_on.set()
    await eventually(lambda: [g.spec.size for g in probe.seen] == [1, 2])


@pytest.mark.parametrize("durable", [False, True])
async def test_a_controller_finds_its_own_last_write_in_the_cache_the_next_time(tmp_path, clock, durable):
    async def make(obj):
        if probe.cache(ConfigMap).get(f"{NS}/child") is None:
            made.append(obj.spec.size)
            meta = ObjectMeta(name="child", namespace=NS, owner_references=[obj.owner_reference()])
            await cluster.client.create(ConfigMap(metadata=meta))
        return Result(after=0)

    made: list[int] = []
    store = SqliteStore(tmp_path / "cluster.db") if durable else MemoryStore()
    async with embedded_cluster([Gadget], clock=clock, store=store) as cluster:
        probe = Probe(make, owns=(ConfigMap,))
        await run(cluster)
        cluster.manager.add(probe, cluster.client)
        await cluster.client.create(gadget(size=1))
        await eventually(lambda: probe.times > 20)
        assert made == [1]


async def test_after_brings_the_key_back_when_its_time_has_come(cluster, client, clock):
    probe = Probe(lambda obj: Result(after=30))
    await client.create(gadget())
    await run(cluster, probe)
    clock.step(29)
    await rest(cluster)
    assert probe.times == 1
    clock.step(1)
    await eventually(lambda: probe.times == 2)


# The status


async def test_a_status_that_changed_is_written_once_and_one_that_did_not_is_not(cluster, client):
    def work(obj):
        obj.status.phase, obj.status.seen, obj.status.details = "Ready", 3, {"a": "b"}

    await client.create(gadget())
    written = writes(cluster)
    probe = Probe(work)
    await run(cluster, probe)
    assert len(written) == 1
    found = await client.get(Gadget, "g", NS)
    assert found.status == GadgetStatus(phase="Ready", seen=3, details={"a": "b"})
    assert probe.times == 2, "once for the object, once for what it wrote itself"


async def test_only_the_difference_is_sent(cluster, client):
    await client.create(gadget())
    started, go_on = asyncio.Event(), asyncio.Event()

    async def work(obj):
        obj.status.phase = "Ready"
        started.set()
        await go_on.wait()

    probe = Probe(work)
    await run(cluster)
    cluster.manager.add(probe, client)
    await started.wait()
    await client.patch(Gadget, "g", {"status": {"seen": 7}}, NS, subresource="status")
    go_on.set()
    await eventually(lambda: status(client, phase="Ready", seen=7))


async def status(client, **wanted):
    found = (await client.get(Gadget, "g", NS)).status
    return all(getattr(found, key) == value for key, value in wanted.items())


async def test_fields_that_the_controllers_type_does_not_know_survive(cluster, client):
    def work(obj):
        obj.status.phase = "Ready"

    await client.create(gadget(size=4))
    await client.patch(Gadget, "g", {"status": {"seen": 7, "notes": ["x"]}}, NS, subresource="status")
    await run(cluster, Probe(work, kind=OldGadget))
    found = await client.get(Gadget, "g", NS)
    assert found.status == GadgetStatus(phase="Ready", seen=7, notes=["x"])
    assert found.spec.size == 4


async def test_a_field_that_goes_back_to_nothing_is_removed(cluster, client):
    await client.create(gadget())
    await client.patch(Gadget, "g", {"status": {"phase": "Old", "details": {"a": "b"}}}, NS, subresource="status")

    def work(obj):
        obj.status.phase = ""
        obj.status.details.clear()

    await run(cluster, Probe(work))
    found = await client.get(Gadget, "g", NS)
    assert found.status == GadgetStatus()


async def racing(cluster, client, change):
    """A status change on a cache that is one write behind; the number of reconciles that it took."""
    await client.create(gadget())
    await client.patch(Gadget, "g", {"status": {"notes": ["mine"]}}, NS, subresource="status")

    async def work(obj):
        if probe.times == 1:
            await client.patch(Gadget, "g", {"status": {"notes": ["mine", "theirs"]}}, NS, subresource="status")
        change(obj)

    probe = Probe(work)
    await run(cluster, probe)
    return probe


async def test_a_list_is_replaced_only_if_nobody_else_wrote_meanwhile(cluster, client, caplog, clock):
    caplog.set_level(logging.DEBUG, "headrace.machinery.manager")

    def add(obj):
        if "new" not in obj.status.notes:
            obj.status.notes.append("new")

    await racing(cluster, client, add)
    await eventually(lambda: status(client, notes=["mine", "theirs", "new"]))
    assert "moved under us" in caplog.text
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING], "losing a race is not worth a warning"


async def test_a_list_is_removed_only_if_nobody_else_wrote_meanwhile(cluster, client):
    seen = []

    def clear(obj):
        seen.append(list(obj.status.notes))
        obj.status.notes.clear()

    await racing(cluster, client, clear)
    await eventually(lambda: status(client, notes=[]))
    assert ["mine", "theirs"] in seen, "what the other wrote was removed without having been looked at"


async def test_what_needs_no_list_is_written_whoever_else_wrote(cluster, client):
    def change(obj):
        obj.status.phase = "Ready"

    probe = await racing(cluster, client, change)
    await eventually(lambda: status(client, phase="Ready", notes=["mine", "theirs"]))
    assert not probe.went


async def test_an_object_that_took_the_name_begins_with_a_status_of_its_own(cluster, client):
    await client.create(gadget())

    async def work(obj):
        if probe.times == 1:
            await client.delete(Gadget, "g", NS)
            await client.create(gadget(size=2))
        if obj.spec.size == 0:
            obj.status.phase = "of the first"

    probe = Probe(work)
    await run(cluster, probe)
    await eventually(lambda: probe.seen[-1].spec.size == 2)
    assert (await client.get(Gadget, "g", NS)).status == GadgetStatus()


async def test_an_object_that_its_own_reconcile_deleted_is_no_error(cluster, client, caplog):
    async def work(obj):
        obj.status.phase = "Deleting"
        await client.delete(Gadget, "g", NS)

    await client.create(gadget())
    probe = Probe(work)
    await run(cluster, probe)
    await eventually(lambda: probe.went)
    assert caplog.text == ""


async def test_reconcile_has_a_copy_of_its_own(cluster, client):
    def work(obj):
        obj.spec.size = 99
        obj.metadata.labels["x"] = "y"

    await client.create(gadget(size=1))
    probe = Probe(work)
    await run(cluster, probe)
    shared = probe.cache(Gadget).get(f"{NS}/g")
    assert shared.spec.size == 1
    assert shared.metadata.labels == {}
    assert (await client.get(Gadget, "g", NS)).spec.size == 1


async def test_conditions_are_written_with_their_transition_times(cluster, client):
    def work(obj):
        conditions.upsert(obj.status.conditions, "Ready", True, reason="Yes", now=NOW)

    await client.create(gadget())
    written = writes(cluster)
    await run(cluster, Probe(work))
    found = await client.get(Gadget, "g", NS)
    assert [(c.type, c.status, c.last_transition_time) for c in found.status.conditions] == [("Ready", "True", NOW)]
    assert len(written) == 1


# What goes wrong


def failing(error, *, until=1_000_000):
    """Fails until it has been tried so often."""

    def work(obj):
        if probe.times < until:
            raise error

    probe = Probe(work)
    return probe


async def steps(cluster, clock, probe, number):
    """The delays between one attempt and the next."""
    delays = []
    for _ in range(number):
        before, waited = probe.times, 0.0
        await rest(cluster)
        while probe.times == before:
            clock.step(0.005)
            waited += 0.005
            await rest(cluster)
        delays.append(round(waited, 3))
    return delays


@pytest.mark.parametrize("error", [RuntimeError("boom"), BadRequest("boom"), Conflict("boom"), NotFound("boom")])
async def test_a_failure_comes_back_with_backoff_until_it_works(cluster, client, clock, error):
    probe = failing(error, until=5)
    await client.create(gadget())
    await run(cluster, probe)
    assert await steps(cluster, clock, probe, 4) == [0.005, 0.01, 0.02, 0.04]
    clock.step(600)
    await rest(cluster)
    assert probe.times == 5
    await client.patch(Gadget, "g", {"spec": {"size": 1}}, NS)
    probe.work = lambda obj: (_ for _ in ()).throw(RuntimeError("again"))
    await rest(cluster)
    assert (await steps(cluster, clock, probe, 1)) == [0.005], "after a success the backoff begins anew"


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (RuntimeError("boom"), logging.ERROR),
        (BadRequest("boom"), logging.WARNING),
        (Terminal("boom"), logging.WARNING),
        (Conflict("boom"), logging.DEBUG),
        (AlreadyExists("boom"), logging.DEBUG),
    ],
)
async def test_what_is_logged_of_a_failure_names_controller_and_key(cluster, client, caplog, error, level):
    caplog.set_level(logging.DEBUG, "headrace.machinery.manager")
    await client.create(gadget())
    await run(cluster, failing(error, until=2))
    assert [r.levelno for r in caplog.records] == [level]
    assert "probe" in caplog.text
    assert f"{NS}/g" in caplog.text
    assert "boom" in caplog.text


async def test_losing_races_for_ever_is_said_aloud(cluster, client, clock, caplog):
    probe = failing(NotFound('configmaps "settings" not found'))
    await client.create(gadget())
    await run(cluster, probe)
    for _ in range(10):
        clock.step(60)
        await rest(cluster)
    assert 'configmaps "settings" not found' in caplog.text


async def test_a_terminal_object_is_left_alone_until_somebody_changes_it(cluster, client, clock):
    def work(obj):
        obj.status.phase = "Broken"
        raise Terminal("spec.size must be 1")

    probe = Probe(work)
    await client.create(gadget())
    await run(cluster, probe)
    assert (await client.get(Gadget, "g", NS)).status.phase == "Broken", "the status tells why"
    times = probe.times
    clock.step(3600)
    await rest(cluster)
    assert probe.times == times
    await client.patch(Gadget, "g", {"spec": {"size": 1}}, NS)
    await eventually(lambda: probe.times > times)


async def test_what_a_terminal_object_says_is_written_even_after_a_lost_race(cluster, client, clock):
    await client.create(gadget())

    async def work(obj):
        if probe.times == 1:
            await client.patch(Gadget, "g", {"status": {"seen": 1}}, NS, subresource="status")
        obj.status.notes = ["why"]
        raise Terminal("no")

    probe = Probe(work)
    await run(cluster, probe)
    clock.step(1)
    await eventually(lambda: status(client, notes=["why"], seen=1))


async def test_a_failed_reconcile_still_writes_its_status_and_the_failure_is_what_is_logged(cluster, client, caplog):
    async def work(obj):
        obj.status.notes = ["tried"]
        if probe.times == 1:
            await client.patch(Gadget, "g", {"status": {"seen": 1}}, NS, subresource="status")
            raise RuntimeError("the real reason")

    await client.create(gadget())
    probe = Probe(work)
    await run(cluster, probe)
    await eventually(lambda: status(client, notes=["tried"]))
    assert "the real reason" in caplog.text


async def test_gone_may_fail_and_is_tried_again(cluster, client, clock):
    class Forgetful(Probe):
        async def gone(self, key):
            self.went.append(key)
            if len(self.went) == 1:
                raise RuntimeError("boom")

    probe = Forgetful()
    await client.create(gadget())
    await run(cluster, probe)
    await client.delete(Gadget, "g", NS)
    await eventually(lambda: len(probe.went) == 1)
    await rest(cluster)
    clock.step(1)
    await eventually(lambda: len(probe.went) == 2)
    clock.step(100)
    await rest(cluster)
    assert len(probe.went) == 2


@pytest.mark.parametrize("error", [RuntimeError("boom"), asyncio.CancelledError(), RecursionError()], ids=repr)
async def test_a_controller_that_always_fails_stops_no_other_and_no_worker_is_lost(cluster, client, clock, error):
    bad, good = failing(error), Probe(name="good")
    bad.name = "bad"
    for i in range(10):
        await client.create(gadget(f"g{i}"))
    await run(cluster, bad, good)
    assert good.times == 10
    assert bad.times == 10, "two workers for ten keys: none has died of one"
    clock.step(0.005)
    await rest(cluster)
    assert bad.times == 20
    await client.create(gadget("late"))
    await eventually(lambda: good.seen[-1].metadata.name == "late")
    await eventually(lambda: bad.seen[-1].metadata.name == "late")


async def test_what_a_controller_awaits_may_be_cancelled_without_it(cluster, client, clock, caplog):
    async def work(obj):
        if probe.times == 1:
            task = asyncio.create_task(asyncio.sleep(100))
            task.cancel()
            await task

    probe = Probe(work, workers=1)
    await client.create(gadget())
    await run(cluster, probe)
    assert "cancelled" in caplog.text
    clock.step(1)
    await eventually(lambda: probe.times == 2)


async def test_a_mapping_that_raises_does_not_stop_the_informer(cluster, client, caplog):
    watch = Watch(Secret, lambda s: [s.metadata.labels["missing"]])
    probe, other = Probe(watches=(watch,)), Probe(name="other", reads=(Secret,))
    await run(cluster, probe, other)
    await client.create(Secret(metadata=ObjectMeta(name="s", namespace=NS)))
    await eventually(lambda: other.cache(Secret).get(f"{NS}/s"))
    assert "missing" in caplog.text
    await client.create(gadget())
    await eventually(lambda: probe.times and other.times)


async def test_status_patches_are_sent_under_the_controllers_own_identity(cluster, client, caplog, clock):
    meta = ObjectMeta(name="weak")
    rule = PolicyRule(api_groups=["*"], resources=["*"], verbs=["get", "list", "watch"])
    await client.create(ClusterRole(metadata=meta, rules=[rule]))
    group = "rbac.authorization.k8s.io"
    await client.create(
        ClusterRoleBinding(
            metadata=meta,
            role_ref=RoleRef(api_group=group, kind="ClusterRole", name="weak"),
            subjects=[Subject(kind="User", name="weak", api_group=group)],
        )
    )

    def work(obj):
        obj.status.phase = "Ready"

    probe = Probe(work)
    await client.create(gadget())
    cluster.manager.add(probe, cluster.client_for(User("weak")))
    await cluster.manager.start()
    await eventually(lambda: "forbidden" in caplog.text)
    assert (await client.get(Gadget, "g", NS)).status.phase == ""


# Starting and stopping


async def test_nothing_is_reconciled_before_every_cache_is_filled(cluster, client):
    for i in range(200):
        await client.create(Secret(metadata=ObjectMeta(name=f"s{i}", namespace=NS)))
    await client.create(gadget())
    counts = []
    probe = Probe(lambda obj: counts.append(len(list(probe.cache(Secret).all(NS)))), reads=(Secret,))
    await run(cluster, probe)
    assert counts == [200]


@pytest.mark.parametrize("empty", [True, False])
async def test_a_controller_that_comes_late_also_waits_for_its_caches(cluster, client, empty):
    await run(cluster, *([] if empty else [Probe(name="early", kind=ConfigMap)]))
    for i in range(200):
        await client.create(Secret(metadata=ObjectMeta(name=f"s{i}", namespace=NS)))
    await client.create(gadget())
    counts = []
    probe = Probe(lambda obj: counts.append(len(list(probe.cache(Secret).all(NS)))), reads=(Secret,))
    cluster.manager.add(probe, client)
    await eventually(lambda: counts)
    assert counts == [200]
    await client.create(gadget("next"))
    await eventually(lambda: probe.times == 2)


async def test_a_controller_that_is_added_while_the_manager_starts_runs_once(cluster, client):
    await client.create(gadget())

    class Beside(Probe):
        runs = 0

        async def run(self):
            self.runs += 1

    first, second = Beside(name="first"), Beside(name="second", kind=Gadget, reads=(Secret,))
    cluster.manager.add(first, client)
    starting = asyncio.create_task(cluster.manager.start())
    await asyncio.sleep(0)
    cluster.manager.add(second, client)
    await starting
    await eventually(lambda: first.times and second.times)
    await rest(cluster)
    assert (first.runs, second.runs) == (1, 1)
    assert (first.times, second.times) == (1, 1)


async def test_informers_are_shared_and_one_that_is_asked_for_late_runs_at_once(cluster, client):
    one, two = Probe(name="one"), Probe(name="two")
    await run(cluster, one, two)
    assert one.cache(Gadget) is two.cache(Gadget) is cluster.manager.informer(Gadget)
    late = cluster.manager.informer(Secret)
    await asyncio.wait_for(late.synced.wait(), 5)
    assert cluster.manager.informer(Secret) is late


async def test_stop_cancels_what_runs_and_no_task_remains(cluster, client):
    begun = asyncio.Event()
    ended = []

    async def work(obj):
        obj.status.phase = "half"
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(obj.metadata.name)

    class Beside(Probe):
        async def run(self):
            await asyncio.Event().wait()

    before = asyncio.all_tasks()
    cluster.manager.add(Beside(work), client)
    await client.create(gadget())
    await cluster.manager.start()
    await begun.wait()
    await cluster.manager.stop()
    assert ended == ["g"]
    assert asyncio.all_tasks() <= before
    assert (await client.get(Gadget, "g", NS)).status.phase == "", "what was cut off says nothing of the world"


async def test_what_runs_beside_the_workers_is_logged_and_begun_again_when_it_fails(cluster, client, clock, caplog):
    class Beside(Probe):
        runs = 0

        async def run(self):
            self.runs += 1
            if self.runs < 3:
                raise RuntimeError("beside is broken")

    probe = Beside()
    await client.create(gadget())
    await run(cluster, probe)
    assert (probe.runs, probe.times) == (1, 1)
    assert "beside is broken" in caplog.text
    clock.step(RESTART_DELAY)
    await eventually(lambda: probe.runs == 2)
    await rest(cluster)
    clock.step(RESTART_DELAY * 2)
    await eventually(lambda: probe.runs == 3)
    clock.step(1000)
    await rest(cluster)
    assert probe.runs == 3, "what returned has done its work"


# Many objects


async def test_a_thousand_objects_leave_the_event_loop_to_others(cluster, client):
    for i in range(1000):
        await client.create(gadget(f"g{i}"))
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    probe = Probe(workers=1)
    task = asyncio.create_task(other())
    await run(cluster, probe)
    await eventually(lambda: probe.times == 1000)
    task.cancel()
    assert turns > 900


async def test_a_manager_without_work_sleeps():
    class Counting(SystemClock):
        asked = 0

        def monotonic(self):
            self.asked += 1
            return super().monotonic()

    clock = Counting()
    async with embedded_cluster([Gadget], clock=clock) as cluster:
        await run(cluster, Probe(workers=8), Probe(name="two", owns=(ConfigMap,)))
        asked = clock.asked
        await asyncio.sleep(0.1)
        assert clock.asked == asked
