"""ReplicaSets on an embedded cluster, and the order of deletion as a table."""

import asyncio
import datetime as dt

import pytest

from headrace.api.core import ConfigMap, ContainerStatus, Event, Pod, PodCondition, PodSpec, PodStatus
from headrace.api.errors import Invalid
from headrace.api.meta import LabelSelector, ObjectMeta, dynamic_kind
from headrace.controllermanager import pods
from headrace.controllermanager.replicaset import surplus
from headrace.controllermanager.types import (
    PodManifest,
    ReplicaSet,
    ReplicaSetSpec,
    ReplicationController,
    ReplicationControllerSpec,
)

from .conftest import NS, TEMPLATE


def replica_set(name="web", replicas=2, **spec):
    return ReplicaSet(
        metadata=ObjectMeta(name=name, namespace=NS),
        spec=ReplicaSetSpec(
            selector=LabelSelector(match_labels={"app": "web"}), template=TEMPLATE, replicas=replicas, **spec
        ),
    )


async def scale(world, replicas, name="web"):
    await world.client.patch(ReplicaSet, name, {"spec": {"replicas": replicas}}, NS)


async def have(world, number):
    async def check():
        found = await world.pods(app="web")
        return found if len(found) == number else None

    return await world.until(check) if number else await world.until(lambda: check_none(world))


async def check_none(world):
    return not await world.pods(app="web")


async def status(world, name="web", **wanted):
    async def check():
        found = (await world.client.get(ReplicaSet, name, NS)).status
        return all(getattr(found, k) == v for k, v in wanted.items())

    await world.until(check)


async def test_pods_are_made_counted_and_deleted(world):
    made = await world.client.create(replica_set())
    found = await have(world, 2)
    assert all(pods.controller_of(p).uid == made.metadata.uid for p in found)
    assert all(p.metadata.name.startswith("web-") for p in found)
    await status(world, replicas=2, ready_replicas=0, observed_generation=1, fully_labeled_replicas=2)
    await world.set_phase(found[0], "Running")
    await status(world, ready_replicas=1, available_replicas=1)
    await scale(world, 1)
    assert [p.metadata.name for p in await have(world, 1)] == [found[0].metadata.name]
    await scale(world, 0)
    await have(world, 0)
    await status(world, replicas=0)
    reasons = {e.reason for e in (await world.client.list(Event, NS)).items}
    assert {"SuccessfulCreate", "SuccessfulDelete"} <= reasons


async def test_nothing_of_the_template_is_lost(world):
    made = replica_set(replicas=1)
    made.spec.template = {
        "metadata": {"labels": {"app": "web"}, "annotations": {"a": "b"}},
        "spec": {
            "containers": [{"name": "main", "image": "i", "lifecycle": {"preStop": {"exec": {"command": ["x"]}}}}],
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
        },
    }
    await world.client.create(made)
    (pod,) = await have(world, 1)
    raw = await world.client.get(PodManifest, pod.metadata.name, NS)
    assert raw.spec["topologySpreadConstraints"][0]["topologyKey"] == "zone"
    assert raw.spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] == ["x"]
    assert raw.metadata.annotations["a"] == "b"


async def test_ended_pods_are_replaced(world):
    await world.client.create(replica_set())
    found = await have(world, 2)
    await world.set_phase(found[0], "Failed", exit_code=1)
    assert len(await have(world, 3)) == 3
    await status(world, replicas=2)


async def test_orphans_are_adopted_and_the_pods_of_others_are_not(world):
    other = await world.client.create(ConfigMap(metadata=ObjectMeta(name="other", namespace=NS)))
    for name, owners in (("orphan", []), ("owned", [other.owner_reference()])):
        meta = ObjectMeta(name=name, namespace=NS, labels={"app": "web"}, owner_references=owners)
        await world.client.create(PodManifest(metadata=meta, spec=TEMPLATE["spec"]))
    made = await world.client.create(replica_set(replicas=2))
    found = {p.metadata.name: pods.controller_of(p).uid for p in await have(world, 3)}
    await world.quiet()
    assert found.pop("owned") == other.metadata.uid
    assert set(found.values()) == {made.metadata.uid}
    assert "orphan" in found


async def test_a_pod_that_loses_its_labels_is_released_and_replaced(world):
    await world.client.create(replica_set(replicas=1))
    (pod,) = await have(world, 1)
    await world.client.patch(Pod, pod.metadata.name, {"metadata": {"labels": {"app": "debug"}}}, NS)
    (replacement,) = await world.until(lambda: with_label(world, pod))
    assert replacement.metadata.name != pod.metadata.name
    released = await world.client.get(Pod, pod.metadata.name, NS)
    assert released.metadata.owner_references == []


async def with_label(world, before):
    found = await world.pods(app="web")
    return found if found and found[0].metadata.name != before.metadata.name else None


async def test_many_changes_at_once_never_make_a_pod_too_many(world):
    await world.client.create(replica_set(replicas=0))
    most = 0
    for replicas in (5, 1, 7, 3, 9, 0, 4, 9, 9, 2, 6):
        await scale(world, replicas)
        await asyncio.sleep(0)
        most = max(most, len(await world.pods(app="web")))
    await have(world, 6)
    await world.quiet()
    assert len(await world.pods(app="web")) == 6
    assert most <= 9


async def test_available_after_min_ready_seconds(world):
    await world.client.create(replica_set(replicas=1, min_ready_seconds=30))
    (pod,) = await have(world, 1)
    await world.set_phase(pod, "Running")
    await status(world, ready_replicas=1, available_replicas=0)
    world.clock.step(31)
    await status(world, ready_replicas=1, available_replicas=1)


async def test_pods_that_cannot_be_made_are_told(world):
    made = replica_set(replicas=1)
    made.spec.template = {**TEMPLATE, "spec": {**TEMPLATE["spec"], "serviceAccountName": "nobody"}}
    await world.client.create(made)

    async def told():
        found = (await world.client.get(ReplicaSet, "web", NS)).status.conditions
        return found and (found[0].type, found[0].reason, "nobody" in found[0].message) == (
            "ReplicaFailure",
            "FailedCreate",
            True,
        )

    await world.until(told)


NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def pod(name, *, node="n", phase="Running", ready=True, since=0, restarts=0, age=0, cost=None):
    return Pod(
        metadata=ObjectMeta(
            name=name,
            creation_timestamp=NOW - dt.timedelta(seconds=age),
            annotations={pods.DELETION_COST: str(cost)} if cost is not None else {},
        ),
        spec=PodSpec(node_name=node),
        status=PodStatus(
            phase=phase,
            conditions=[
                PodCondition(type="Ready", status=str(ready), last_transition_time=NOW - dt.timedelta(seconds=since))
            ],
            container_statuses=[ContainerStatus(name="c", image="i", restart_count=restarts)],
        ),
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pod("b", node=""), pod("a")),
        (pod("b", phase="Pending"), pod("a")),
        (pod("b", ready=False), pod("a")),
        (pod("b", cost=-5), pod("a", cost=3)),
        (pod("b", since=5), pod("a", since=50)),
        (pod("b", restarts=3), pod("a", restarts=1)),
        (pod("b", age=5), pod("a", age=50)),
        (pod("a"), pod("b")),
    ],
)
def test_which_pod_goes_first(first, second):
    assert surplus([second, first], 1) == [first]


def test_nothing_is_surplus():
    assert surplus([pod("a")], 1) == []
    assert surplus([pod("a")], 5) == []


async def test_a_replication_controller_does_the_same(world):
    spec = ReplicationControllerSpec(template=TEMPLATE, replicas=2)
    made = await world.client.create(ReplicationController(metadata=ObjectMeta(name="old", namespace=NS), spec=spec))
    assert made.spec.selector == made.metadata.labels == {"app": "web"}
    found = await have(world, 2)
    for pod in found:
        await world.set_phase(pod, "Running")

    async def counted():
        now = (await world.client.get(ReplicationController, "old", NS)).status
        return (now.replicas, now.ready_replicas, now.observed_generation) == (2, 2, 1)

    await world.until(counted)
    scale = await world.client.get(dynamic_kind(ReplicationController.INFO), "old", NS, subresource="scale")
    assert scale.status["selector"] == "app=web"
    await world.client.delete(Pod, found[0].metadata.name, NS)
    await have(world, 2)
    patch = {"spec": {"replicas": 1}}
    await world.client.patch(ReplicationController, "old", patch, NS, subresource="scale")
    await have(world, 1)
    wrong = ReplicationControllerSpec(template=TEMPLATE, selector={"app": "other"})
    with pytest.raises(Invalid, match="does not match template"):
        await world.client.create(ReplicationController(metadata=ObjectMeta(name="bad", namespace=NS), spec=wrong))
