"""Events: one for each thing that happened, counted when it happens again, and never in the way."""

from __future__ import annotations

import asyncio

import pytest

from headrace.api.core import ConfigMap, Event, Namespace, ObjectReference
from headrace.api.identity import User
from headrace.api.meta import ObjectMeta
from headrace.machinery.events import MESSAGE_LIMIT, EventRecorder
from headrace.testing import FakeClock, embedded_cluster

NS = "default"


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def cluster(clock):
    async with embedded_cluster(clock=clock) as running:
        yield running


@pytest.fixture
def recorder(cluster, clock):
    return EventRecorder(cluster.client, clock, "tester")


@pytest.fixture
async def thing(cluster):
    return await cluster.client.create(ConfigMap(metadata=ObjectMeta(name="thing", namespace=NS)))


async def events(cluster, namespace=NS):
    return (await cluster.client.list(Event, namespace)).items


async def test_an_event_tells_about_whom_by_whom_what_and_when(cluster, recorder, thing, clock):
    await recorder.warning(thing, "Broken", "It does not work.")
    (event,) = await events(cluster)
    assert event.involved_object == ObjectReference(
        kind="ConfigMap",
        namespace=NS,
        name="thing",
        uid=thing.metadata.uid,
        api_version="v1",
        resource_version=thing.metadata.resource_version,
    )
    assert (event.type, event.reason, event.message, event.count) == ("Warning", "Broken", "It does not work.", 1)
    assert event.source.component == event.reporting_component == "tester"
    assert event.first_timestamp == event.last_timestamp == clock.now()
    assert event.metadata.name.startswith("thing.")


async def test_the_same_again_is_counted(cluster, recorder, thing, clock):
    begun = clock.now()
    for _ in range(3):
        await recorder.normal(thing, "Pulled", "Got it.")
        clock.step(10)
    (event,) = await events(cluster)
    assert event.type == "Normal"
    assert event.count == 3
    assert event.first_timestamp == begun
    assert (event.last_timestamp - begun).total_seconds() == 20


async def test_equal_events_at_the_same_time_are_all_counted(cluster, recorder, thing):
    await asyncio.gather(*(recorder.normal(thing, "Pulled", "Got it.") for _ in range(4)))
    (event,) = await events(cluster)
    assert event.count == 4


async def test_what_differs_in_anything_is_an_event_of_its_own(cluster, recorder, thing, clock):
    other = await cluster.client.create(ConfigMap(metadata=ObjectMeta(name="other", namespace=NS)))
    await recorder.normal(thing, "A", "a")
    await recorder.warning(thing, "A", "a")
    await recorder.normal(thing, "B", "a")
    await recorder.normal(thing, "A", "b")
    await recorder.normal(other, "A", "a")
    await EventRecorder(cluster.client, clock, "somebody else").normal(thing, "A", "a")
    assert [e.count for e in await events(cluster)] == [1] * 6


async def test_an_object_that_took_the_name_has_events_of_its_own(cluster, recorder, thing):
    await recorder.normal(thing, "A", "a")
    await cluster.client.delete(ConfigMap, "thing", NS)
    again = await cluster.client.create(ConfigMap(metadata=ObjectMeta(name="thing", namespace=NS)))
    await recorder.normal(again, "A", "a")
    assert {e.involved_object.uid for e in await events(cluster)} == {thing.metadata.uid, again.metadata.uid}


@pytest.mark.parametrize("length", [MESSAGE_LIMIT, MESSAGE_LIMIT + 1, 50_000])
async def test_a_long_message_is_cut_visibly(cluster, recorder, thing, length):
    await recorder.normal(thing, "Long", "x" * length)
    (event,) = await events(cluster)
    assert len(event.message) == MESSAGE_LIMIT
    assert event.message.endswith("...") == (length > MESSAGE_LIMIT)


async def test_messages_that_differ_only_beyond_the_cut_are_two_events(cluster, recorder, thing):
    await recorder.normal(thing, "Long", "x" * 2000 + "1")
    await recorder.normal(thing, "Long", "x" * 2000 + "2")
    assert len(await events(cluster)) == 2


async def test_events_of_cluster_scoped_objects_go_to_the_default_namespace(cluster, recorder):
    namespace = await cluster.client.get(Namespace, "kubeflow")
    await recorder.normal(namespace, "A", "a")
    (event,) = await events(cluster)
    assert event.involved_object.namespace == ""


@pytest.mark.parametrize("name", ["n" * 253, f"{'n' * 199}-tail", f"{'n' * 199}.tail"])
async def test_any_name_gives_a_valid_events_name(cluster, recorder, name):
    thing = await cluster.client.create(ConfigMap(metadata=ObjectMeta(name=name, namespace=NS)))
    await recorder.normal(thing, "A", "a")
    assert len(await events(cluster)) == 1


async def test_recording_never_raises(cluster, clock, thing, caplog):
    await EventRecorder(cluster.client_for(User("nobody")), clock, "tester").normal(thing, "Denied", "x")
    assert await events(cluster) == []
    assert "Denied" in caplog.text
    caplog.clear()
    nowhere = ConfigMap(metadata=ObjectMeta(name="x", namespace="missing"))
    await EventRecorder(cluster.client, clock, "tester").normal(nowhere, "Homeless", "x")
    assert "Homeless" in caplog.text
    caplog.clear()
    await EventRecorder(None, clock, "tester").normal(thing, "Clientless", "x")
    assert "Clientless" in caplog.text


async def test_who_may_create_but_not_read_is_not_failed_by_the_second_event(cluster, clock, thing, recorder, caplog):
    from headrace.api.rbac import PolicyRule, Role, RoleBinding, RoleRef, Subject

    meta = ObjectMeta(name="writer", namespace=NS)
    group = "rbac.authorization.k8s.io"
    rule = PolicyRule(api_groups=[""], resources=["events"], verbs=["create"])
    await cluster.client.create(Role(metadata=meta, rules=[rule]))
    await cluster.client.create(
        RoleBinding(
            metadata=meta,
            role_ref=RoleRef(api_group=group, kind="Role", name="writer"),
            subjects=[Subject(kind="User", name="writer", api_group=group)],
        )
    )
    weak = EventRecorder(cluster.client_for(User("writer")), clock, "tester")
    await weak.normal(thing, "A", "a")
    assert caplog.text == ""
    await weak.normal(thing, "A", "a")
    assert "forbidden" in caplog.text
    (event,) = await events(cluster)
    assert event.count == 1


async def test_what_ends_with_its_namespace_needs_no_warning(cluster, recorder, caplog):
    await cluster.client.create(Namespace(metadata=ObjectMeta(name="ending")))
    thing = await cluster.client.create(ConfigMap(metadata=ObjectMeta(name="thing", namespace="ending")))
    await cluster.client.delete(Namespace, "ending")
    await recorder.normal(thing, "Killing", "It goes.")
    assert caplog.text == ""
