"""DaemonSets on an embedded cluster, and where they fit by tables."""

import copy

import pytest

from headrace.api.apps import ControllerRevision, DaemonSet, DaemonSetRolling, DaemonSetSpec, DaemonSetStrategy
from headrace.api.core import Node, Pod
from headrace.api.errors import Invalid
from headrace.api.meta import LabelSelector, ObjectMeta
from headrace.controllermanager import daemonset_policy as policy
from headrace.controllermanager.types import PodManifest

from .conftest import NS, TEMPLATE

GPU = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}


def daemon_set(**spec):
    template = copy.deepcopy(TEMPLATE)
    template["spec"].update(spec.pop("pod", {}))
    selector = LabelSelector(match_labels={"app": "web"})
    return DaemonSet(
        metadata=ObjectMeta(name="agent", namespace=NS),
        spec=DaemonSetSpec(selector=selector, template=template, **spec),
    )


@pytest.fixture
async def node(world):
    return await world.client.create(Node(metadata=ObjectMeta(name="here", labels={"disk": "fast", "cores": "8"})))


async def pods(world):
    await world.quiet()
    return [p for p in await world.pods() if p.metadata.deletion_timestamp is None]


async def get(world):
    await world.quiet()
    return await world.client.get(DaemonSet, "agent", NS)


async def new_image(world, image):
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}}
    await world.client.patch(DaemonSet, "agent", patch, NS)
    await world.quiet()


async def image(world, pod):
    return (await world.client.get(PodManifest, pod.metadata.name, NS)).spec["containers"][0]["image"]


async def test_a_pod_on_the_node(world, node):
    await world.client.create(daemon_set())
    (pod,) = await pods(world)
    assert policy.node_of(pod) == "here"
    await world.set_phase(pod, "Running")
    status = (await get(world)).status
    assert (status.desired_number_scheduled, status.current_number_scheduled, status.number_ready) == (1, 1, 1)
    assert (status.number_available, status.number_unavailable, status.updated_number_scheduled) == (1, 0, 1)
    assert (status.number_misscheduled, status.observed_generation) == (0, 1)
    await world.client.delete(Pod, pod.metadata.name, NS)
    (again,) = await pods(world)
    assert again.metadata.uid != pod.metadata.uid


async def test_no_node_no_pod_until_one_comes(world):
    await world.client.create(daemon_set(pod={"nodeSelector": {"disk": "fast"}}))
    assert await pods(world) == []
    await world.client.create(Node(metadata=ObjectMeta(name="here")))
    assert await pods(world) == []
    await world.client.patch(Node, "here", {"metadata": {"labels": {"disk": "fast"}}})
    assert len(await pods(world)) == 1
    await world.client.patch(Node, "here", {"metadata": {"labels": {"disk": None}}})
    assert await pods(world) == []
    assert (await get(world)).status.desired_number_scheduled == 0


async def test_rolling_update_and_back(world, node):
    await world.client.create(daemon_set())
    (first,) = await pods(world)
    await world.set_phase(first, "Running")
    await new_image(world, "python:3.12")
    (second,) = await pods(world)
    assert await image(world, second) == "python:3.12"
    assert (await get(world)).status.updated_number_scheduled == 1
    await new_image(world, "python:3.11")
    found = sorted((await world.client.list(ControllerRevision, NS)).items, key=lambda r: r.revision)
    assert [r.revision for r in found] == [2, 3]
    (third,) = await pods(world)
    assert await image(world, third) == "python:3.11"


async def test_an_update_that_adds_before_it_takes_away(world, node):
    rolling = DaemonSetRolling(max_unavailable=0, max_surge=1)
    await world.client.create(daemon_set(update_strategy=DaemonSetStrategy(rolling_update=rolling)))
    (first,) = await pods(world)
    await world.set_phase(first, "Running")
    await new_image(world, "python:3.12")
    found = await pods(world)
    assert len(found) == 2
    second = next(p for p in found if p.metadata.uid != first.metadata.uid)
    await world.set_phase(second, "Running")
    assert [p.metadata.uid for p in await pods(world)] == [second.metadata.uid]


async def test_on_delete_waits_for_a_person(world, node):
    await world.client.create(daemon_set(update_strategy=DaemonSetStrategy(type="OnDelete")))
    (first,) = await pods(world)
    await new_image(world, "python:3.12")
    assert [p.metadata.uid for p in await pods(world)] == [first.metadata.uid]
    assert (await get(world)).status.updated_number_scheduled == 0
    await world.client.delete(Pod, first.metadata.name, NS)
    (second,) = await pods(world)
    assert await image(world, second) == "python:3.12"


async def test_a_failed_pod_is_replaced_after_a_while(world, node):
    await world.client.create(daemon_set())
    (first,) = await pods(world)
    await world.set_phase(first, "Failed", exit_code=1)
    assert [p.metadata.uid for p in await pods(world)] == [first.metadata.uid]
    world.clock.step(11)
    (second,) = await pods(world)
    assert second.metadata.uid != first.metadata.uid


async def taint(world, *taints):
    await world.client.patch(Node, "here", {"spec": {"taints": list(taints)}})
    await world.quiet()


async def test_taints_keep_pods_away_and_send_them_away(world, node):
    await taint(world, GPU)
    await world.client.create(daemon_set())
    assert await pods(world) == []
    assert (await get(world)).status.desired_number_scheduled == 0
    await taint(world)
    (pod,) = await pods(world)
    await taint(world, GPU)
    assert [p.metadata.uid for p in await pods(world)] == [pod.metadata.uid]
    assert (await get(world)).status.number_misscheduled == 1
    await taint(world, {**GPU, "effect": "NoExecute"})
    assert await pods(world) == []


@pytest.mark.parametrize(
    ("tolerations", "taint", "fits", "stays"),
    [
        ([], GPU, False, True),
        ([], {**GPU, "effect": "PreferNoSchedule"}, True, True),
        ([], {**GPU, "effect": "NoExecute"}, False, False),
        ([{"key": "gpu", "operator": "Exists"}], {**GPU, "effect": "NoExecute"}, True, True),
        ([{"key": "gpu", "value": "other"}], GPU, False, True),
        ([], {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}, True, True),
        ([], {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}, True, True),
    ],
)
def test_tolerations(tolerations, taint, fits, stays):
    node = Node(metadata=ObjectMeta(name="here"))
    node.spec.taints = [taint]
    made = daemon_set(pod={"tolerations": tolerations})
    assert (policy.fits(made, node), policy.stays(made, node)) == (fits, stays)


@pytest.mark.parametrize(
    ("expressions", "fits"),
    [
        ([], False),
        ([{"key": "disk", "operator": "In", "values": ["fast"]}], True),
        ([{"key": "disk", "operator": "NotIn", "values": ["fast"]}], False),
        ([{"key": "gpu", "operator": "DoesNotExist"}], True),
        ([{"key": "cores", "operator": "Gt", "values": ["4"]}], True),
        ([{"key": "cores", "operator": "Lt", "values": ["4"]}], False),
        ([{"key": "disk", "operator": "Lt", "values": ["4"]}], False),
    ],
)
def test_affinity(expressions, fits):
    node = Node(metadata=ObjectMeta(name="here", labels={"disk": "fast", "cores": "8"}))
    required = {"nodeSelectorTerms": [{"matchExpressions": expressions}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    assert policy.fits(daemon_set(pod={"affinity": affinity}), node) is fits


@pytest.mark.parametrize(
    ("strategy", "field"),
    [
        (DaemonSetStrategy(type="Recreate"), "spec.updateStrategy.type"),
        (
            DaemonSetStrategy(rolling_update=DaemonSetRolling(max_unavailable=2, max_surge=1)),
            "spec.updateStrategy.rollingUpdate.maxSurge",
        ),
    ],
)
async def test_refused(world, strategy, field):
    with pytest.raises(Invalid) as caught:
        await world.client.create(daemon_set(update_strategy=strategy))
    assert [c.field for c in caught.value.causes] == [field]


async def test_the_selector_is_fixed(world):
    await world.client.create(daemon_set())
    with pytest.raises(Invalid, match="field is immutable"):
        await world.client.patch(DaemonSet, "agent", {"spec": {"selector": {"matchLabels": {"tier": "x"}}}}, NS)
