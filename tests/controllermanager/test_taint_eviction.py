"""NoExecute taints on an embedded cluster, and what is tolerated for how long by a table."""

import pytest

from headrace.api.core import Node, Pod
from headrace.api.meta import ObjectMeta
from headrace.controllermanager.taints_policy import grace
from headrace.controllermanager.types import PodManifest

from .conftest import NS, TEMPLATE

GPU = {"key": "gpu", "value": "yes", "effect": "NoExecute"}


async def make_pod(world, name, *tolerations):
    spec = {**TEMPLATE["spec"], "nodeName": "here", "tolerations": list(tolerations)}
    await world.client.create(PodManifest(metadata=ObjectMeta(name=name, namespace=NS), spec=spec))
    await world.set_phase(await world.client.get(Pod, name, NS), "Running")


async def leaving(world):
    await world.quiet()
    return {p.metadata.name for p in await world.pods() if p.metadata.deletion_timestamp is not None}


async def test_pods_leave_when_their_time_is_up(world):
    await world.client.create(Node(metadata=ObjectMeta(name="here")))
    await make_pod(world, "none")
    await make_pod(world, "some", {"key": "gpu", "operator": "Exists", "tolerationSeconds": 60})
    await make_pod(world, "all", {"operator": "Exists"})
    await world.client.patch(Node, "here", {"spec": {"taints": [{**GPU, "effect": "NoSchedule"}]}})
    assert await leaving(world) == set()
    await world.client.patch(Node, "here", {"spec": {"taints": [GPU]}})
    assert await leaving(world) == {"none"}
    pod = await world.client.get(Pod, "none", NS)
    target = next(c for c in pod.status.conditions if c.type == "DisruptionTarget")
    assert (target.status, target.reason) == ("True", "DeletionByTaintManager")
    world.clock.step(50)
    assert await leaving(world) == {"none"}
    world.clock.step(11)
    assert await leaving(world) == {"none", "some"}
    await make_pod(world, "late")
    assert await leaving(world) == {"none", "some", "late"}


async def test_a_taint_that_goes_in_time_sends_nobody_away(world):
    await world.client.create(Node(metadata=ObjectMeta(name="here")))
    await make_pod(world, "some", {"key": "gpu", "operator": "Exists", "tolerationSeconds": 60})
    await world.client.patch(Node, "here", {"spec": {"taints": [GPU]}})
    await world.quiet()
    await world.client.patch(Node, "here", {"spec": {"taints": []}})
    await world.quiet()
    world.clock.step(61)
    assert await leaving(world) == set()


@pytest.mark.parametrize(
    ("tolerations", "seconds"),
    [
        ([], 0),
        ([{"key": "gpu", "value": "yes"}], None),
        ([{"key": "gpu", "value": "no"}], 0),
        ([{"key": "gpu", "value": "yes", "effect": "NoSchedule"}], 0),
        ([{"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}], 5),
        ([{"key": "gpu", "operator": "Exists", "tolerationSeconds": -5}], 0),
        ([{"operator": "Exists"}, {"key": "gpu", "operator": "Exists", "tolerationSeconds": 5}], 5),
        ([{"operator": "Exists", "tolerationSeconds": 9}, {"operator": "Exists", "tolerationSeconds": 5}], 5),
    ],
)
def test_grace(tolerations, seconds):
    assert grace(tolerations, [GPU]) == seconds
