"""Owners and dependents on an embedded cluster, custom kinds too, and the graph by itself."""

import asyncio

import pytest

from headrace.api.apiextensions import CRDNames, CRDSpec, CRDValidation, CRDVersion, CustomResourceDefinition
from headrace.api.core import ConfigMap, Event, Secret
from headrace.api.meta import KindInfo, ObjectMeta, OwnerReference, dynamic_kind
from headrace.controllermanager.gc_graph import Graph, Node, OwnerState, Verdict, judge
from headrace.machinery.events import EventRecorder

from .conftest import NS

WIDGET = dynamic_kind(KindInfo("example.com", "v1", "Widget", "widgets"))


async def make(world, name, *owners, kind=ConfigMap, controller=False, **meta):
    references = [o.owner_reference(controller=controller) for o in owners]
    return await world.client.create(
        kind(metadata=ObjectMeta(name=name, namespace=NS, owner_references=references, **meta))
    )


async def names(world, kind=ConfigMap):
    return {o.metadata.name for o in (await world.client.list(kind, NS)).items} - {"kube-root-ca.crt"}


async def left(world, *wanted, kind=ConfigMap):
    async def check():
        return await names(world, kind) == set(wanted)

    await world.until(check)


async def test_what_is_owned_goes_with_its_owner_and_so_on(world):
    a = await make(world, "a")
    b = await make(world, "b", a)
    await make(world, "c", b, kind=Secret)
    await make(world, "other")
    await world.client.delete(ConfigMap, "a", NS)
    await left(world, "other")
    await left(world, kind=Secret)


async def test_one_owner_of_two_is_enough(world):
    a, b = await make(world, "a"), await make(world, "b")
    await make(world, "child", a, b)
    await world.client.delete(ConfigMap, "a", NS)

    async def released():
        child = await world.client.get(ConfigMap, "child", NS)
        return [r.name for r in child.metadata.owner_references] == ["b"]

    await world.until(released)
    await world.client.delete(ConfigMap, "b", NS)
    await left(world)


async def test_foreground_children_go_first(world):
    a = await make(world, "a")
    await make(world, "b", a, controller=True, finalizers=["example.com/wait"])
    await world.client.delete(ConfigMap, "a", NS, propagation="Foreground")

    async def begun():
        return (await world.client.get(ConfigMap, "b", NS)).metadata.deletion_timestamp is not None

    await world.until(begun)
    await world.quiet()
    assert (await world.client.get(ConfigMap, "a", NS)).metadata.deletion_timestamp is not None
    await world.client.patch(ConfigMap, "b", {"metadata": {"finalizers": None}}, NS)
    await left(world)


async def test_foreground_through_three_generations(world):
    a = await make(world, "a")
    b = await make(world, "b", a, controller=True)
    await make(world, "c", b, controller=True, finalizers=["example.com/wait"])
    await world.client.delete(ConfigMap, "a", NS, propagation="Foreground")

    async def begun():
        return (await world.client.get(ConfigMap, "c", NS)).metadata.deletion_timestamp is not None

    await world.until(begun)
    await world.quiet()
    assert await names(world) == {"a", "b", "c"}
    await world.client.patch(ConfigMap, "c", {"metadata": {"finalizers": None}}, NS)
    await left(world)


async def test_orphans_are_kept(world):
    a = await make(world, "a")
    await make(world, "b", a)
    await world.until(lambda: True)
    await world.quiet()
    await world.client.delete(ConfigMap, "a", NS, propagation="Orphan")
    await left(world, "b")
    await world.quiet()
    assert (await world.client.get(ConfigMap, "b", NS)).metadata.owner_references == []


async def test_an_owner_that_never_was(world):
    stranger = ConfigMap(metadata=ObjectMeta(name="never", uid="00000000-0000-0000-0000-000000000000"))
    await make(world, "child", stranger)
    await left(world)


async def test_an_owner_of_the_same_name_is_another(world):
    a = await make(world, "a")
    await make(world, "child", a, finalizers=["example.com/wait"])
    await world.client.delete(ConfigMap, "a", NS)
    await make(world, "a")

    async def begun():
        return (await world.client.get(ConfigMap, "child", NS)).metadata.deletion_timestamp is not None

    await world.until(begun)
    await world.client.patch(ConfigMap, "child", {"metadata": {"finalizers": None}}, NS)
    await left(world, "a")


async def test_an_owner_of_an_unknown_kind_deletes_nothing(world):
    reference = OwnerReference(api_version="example.com/v1", kind="Nothing", name="x", uid="1-2-3")
    await world.client.create(ConfigMap(metadata=ObjectMeta(name="child", namespace=NS, owner_references=[reference])))
    for _ in range(50):
        world.clock.step(1)
        await asyncio.sleep(0.001)
    assert await names(world) == {"child"}


def definition():
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = CRDVersion(name="v1", served=True, storage=True, schema=CRDValidation(open_apiv3_schema=schema))
    names_ = CRDNames(plural="widgets", kind="Widget", singular="widget", list_kind="WidgetList")
    return CustomResourceDefinition(
        metadata=ObjectMeta(name="widgets.example.com"),
        spec=CRDSpec(group="example.com", names=names_, scope="Namespaced", versions=[version]),
    )


async def test_custom_kinds_own_and_are_owned(world):
    await world.client.create(definition())
    widget = await world.until(lambda: try_make(world))
    await make(world, "child", widget)
    owner = await make(world, "owner", kind=Secret)
    await make(world, "owned", owner, kind=WIDGET)
    await world.client.delete(WIDGET, "widget", NS)
    await left(world)
    await world.client.delete(Secret, "owner", NS)
    await left(world, kind=WIDGET)


async def try_make(world):
    return await make(world, "widget", kind=WIDGET)


async def test_a_definition_takes_what_its_objects_own_with_it(world):
    await world.client.create(definition())
    widget = await world.until(lambda: try_make(world))
    await make(world, "child", widget)
    await world.client.delete(CustomResourceDefinition, "widgets.example.com")
    await world.gone(CustomResourceDefinition, "widgets.example.com", None)
    assert "widgets.example.com" not in {
        c.metadata.name for c in (await world.client.list(CustomResourceDefinition)).items
    }


async def test_events_are_kept_for_an_hour(world):
    subject = await make(world, "subject")
    recorder = EventRecorder(world.client, world.clock, "test")
    await recorder.normal(subject, "First", "m")
    await recorder.normal(subject, "Often", "m")
    world.clock.step(3000)
    await recorder.normal(subject, "Often", "m")
    await recorder.normal(subject, "Second", "m")
    world.clock.step(700)

    async def expired():
        return {e.reason for e in (await world.client.list(Event, NS)).items} == {"Often", "Second"}

    await world.until(expired)
    world.clock.step(3600)

    async def all_expired():
        return not (await world.client.list(Event, NS)).items

    await world.until(all_expired)


S, G, W = OwnerState.SOLID, OwnerState.GONE, OwnerState.WAITING


@pytest.mark.parametrize(
    ("deleting", "states", "has_dependents", "expected"),
    [
        (False, [], False, Verdict.KEEP),
        (False, [S], False, Verdict.KEEP),
        (False, [S, S], True, Verdict.KEEP),
        (False, [S, G], False, Verdict.RELEASE),
        (False, [S, W], False, Verdict.RELEASE),
        (False, [G], False, Verdict.DELETE),
        (False, [G, G], True, Verdict.DELETE),
        (False, [W], False, Verdict.DELETE),
        (False, [W], True, Verdict.DELETE_FOREGROUND),
        (False, [G, W], True, Verdict.DELETE_FOREGROUND),
        (True, [G], False, Verdict.KEEP),
    ],
)
def test_verdicts(deleting, states, has_dependents, expected):
    node = Node(ConfigMap.INFO, NS, "n", "u", deleting=deleting)
    assert judge(node, states, has_dependents=has_dependents) is expected


def seen(uid, *owners, deleting=False, finalizers=()):
    references = [OwnerReference(api_version="v1", kind="ConfigMap", name=o, uid=o) for o in owners]
    meta = ObjectMeta(name=uid, uid=uid, owner_references=references, finalizers=list(finalizers))
    meta.deletion_timestamp = "now" if deleting else None
    return ConfigMap(metadata=meta)


def test_the_graph_knows_dependents_in_any_order():
    graph = Graph()
    assert graph.put(ConfigMap.INFO, seen("child", "owner")) == ["child"]
    assert graph.put(ConfigMap.INFO, seen("owner")) == []
    assert [n.uid for n in graph.dependents("owner")] == ["child"]
    assert graph.remove("owner") == ["child"]
    assert [n.uid for n in graph.dependents("owner")] == ["child"]
    graph.put(ConfigMap.INFO, seen("child"))
    assert graph.dependents("owner") == []
    assert graph.remove("child") == []
    assert graph.remove("child") == []
    assert graph._waiting == {}


def test_an_owner_that_waits_hears_of_its_last_dependent():
    graph = Graph()
    graph.put(ConfigMap.INFO, seen("child", "owner"))
    touched = graph.put(ConfigMap.INFO, seen("owner", deleting=True, finalizers=["foregroundDeletion"]))
    assert set(touched) == {"owner", "child"}
    assert graph.remove("child") == ["owner"]
