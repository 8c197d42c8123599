"""What each namespace has, and how one ends."""

import pytest

from headrace.api.apps import Deployment as TypedDeployment
from headrace.api.core import (
    ConfigMap,
    Event,
    Namespace,
    Pod,
    Secret,
    Service,
    ServiceAccount,
    ServicePort,
    ServiceSpec,
)
from headrace.api.errors import NotFound, ServiceUnavailable
from headrace.api.meta import ObjectMeta
from headrace.controllermanager.namespace import (
    CA_CONFIG_MAP,
    HELD,
    LOOK_AGAIN,
    MAX_LOOK_AGAIN,
    REMAINING,
    UNKNOWN,
    NamespaceController,
)
from headrace.controllermanager.types import PodManifest
from headrace.machinery.events import EventRecorder

from .conftest import CA
from .test_deployment import deployment

TEAM = "team"


async def make(world):
    await world.client.create(Namespace(metadata=ObjectMeta(name=TEAM)))
    await world.until(lambda: world.client.get(ServiceAccount, "default", TEAM))
    return await world.until(lambda: world.client.get(ConfigMap, CA_CONFIG_MAP, TEAM))


async def test_each_has_an_account_and_the_certificate(world):
    found = await make(world)
    assert found.data == {"ca.crt": CA}
    await world.client.delete(ServiceAccount, "default", TEAM)
    await world.until(lambda: world.client.get(ServiceAccount, "default", TEAM))
    await world.client.delete(ConfigMap, CA_CONFIG_MAP, TEAM)
    await world.until(lambda: world.client.get(ConfigMap, CA_CONFIG_MAP, TEAM))
    await world.client.patch(ConfigMap, CA_CONFIG_MAP, {"data": {"ca.crt": "forged", "more": "x"}}, TEAM)

    async def put_right():
        return (await world.client.get(ConfigMap, CA_CONFIG_MAP, TEAM)).data == {"ca.crt": CA}

    await world.until(put_right)


async def test_everything_in_it_goes_first(world):
    await make(world)
    in_team = {"namespace": TEAM}
    web = deployment(replicas=2)
    web.metadata.namespace = TEAM
    await world.client.create(web)
    await world.client.create(Secret(metadata=ObjectMeta(name="s", finalizers=["example.com/wait"], **in_team)))
    await world.client.create(
        Service(metadata=ObjectMeta(name="svc", **in_team), spec=ServiceSpec(ports=[ServicePort(port=1)]))
    )
    spec = {"nodeName": "headrace", "containers": [{"name": "c", "image": "i"}]}
    await world.client.create(PodManifest(metadata=ObjectMeta(name="slow", **in_team), spec=spec))
    namespace = await world.client.get(Namespace, TEAM)
    await EventRecorder(world.client, world.clock, "test").normal(namespace, "Reason", "message")

    await world.client.delete(Namespace, TEAM)

    async def only_the_slow_are_left():
        secrets = await world.client.list(Secret, TEAM)
        found = await world.client.list(Pod, TEAM)
        others = [await world.client.list(k, TEAM) for k in (TypedDeployment, Service, ConfigMap, ServiceAccount)]
        return (
            [p.metadata.name for p in found.items] == ["slow"]
            and len(secrets.items) == 1
            and not any(listed.items for listed in others)
        )

    await world.until(only_the_slow_are_left)
    assert (await world.client.get(Namespace, TEAM)).status.phase == "Terminating"

    async def told():
        conditions = (await world.client.get(Namespace, TEAM)).status.conditions
        return {c.type: c.message for c in conditions} == {
            REMAINING: "Some resources are remaining: pods has 1 resource instances, secrets has 1 resource instances",
            HELD: "Some content in the namespace has finalizers remaining: example.com/wait in 1 resource instances",
        }

    await world.until(told)
    slow = await world.client.get(Pod, "slow", TEAM)
    assert slow.metadata.deletion_timestamp is not None
    await world.finish_deletion(slow)
    await world.quiet()
    await world.client.get(Namespace, TEAM)
    await world.client.patch(Secret, "s", {"metadata": {"finalizers": None}}, TEAM)
    await world.gone(Namespace, TEAM, None)
    assert (await world.client.list(Event, TEAM)).items == []


async def test_what_other_servers_keep_in_it_goes_first_too(world):
    await make(world)
    world.adapter.left = ServiceUnavailable("Discovery failed for some groups")
    await world.client.delete(Namespace, TEAM)

    async def says(**expected):
        conditions = (await world.client.get(Namespace, TEAM)).status.conditions
        assert {c.type: c.message for c in conditions} == expected
        return True

    await world.until(lambda: says(**{UNKNOWN: "Discovery failed for some groups"}))
    world.adapter.left = {"flunders.wardle.example.com": 2}
    rest = "Some resources are remaining: flunders.wardle.example.com has 2 resource instances"
    await world.until(lambda: says(**{REMAINING: rest}))
    world.adapter.left = {}
    await world.gone(Namespace, TEAM, None)


async def test_a_namespace_can_come_back(world):
    await make(world)
    await world.client.delete(Namespace, TEAM)
    await world.gone(Namespace, TEAM, None)
    await make(world)


async def test_others_stay(world):
    await make(world)
    await world.client.create(Secret(metadata=ObjectMeta(name="s", namespace="default")))
    await world.client.delete(Namespace, TEAM)
    await world.gone(Namespace, TEAM, None)
    assert (await world.client.get(Secret, "s", "default")).metadata.name == "s"
    with pytest.raises(NotFound):
        await world.client.get(ServiceAccount, "default", TEAM)


async def test_what_is_held_for_long_is_looked_at_seldom(world):
    """Somebody's finalizer may hold a namespace for days; nothing may keep the machine busy meanwhile."""
    await make(world)
    held = ConfigMap(metadata=ObjectMeta(name="held", namespace=TEAM, finalizers=["example.com/wait"]))
    await world.client.create(held)
    await world.client.delete(Namespace, TEAM)
    ending = await world.client.get(Namespace, TEAM)
    controller = NamespaceController(world.client, world.cluster.registry.kinds, world.clock)
    pauses = []
    for _ in range(4):
        pauses.append((await controller.reconcile(ending)).after)
        world.clock.step(20)
    assert pauses[0] == LOOK_AGAIN
    assert pauses == sorted(pauses)
    assert pauses[-1] == MAX_LOOK_AGAIN
