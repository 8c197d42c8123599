"""What ResourceQuotas say is used."""

from headrace.api.core import ConfigMap, Container, Pod, PodSpec, ResourceRequirements
from headrace.api.limits import ResourceQuota, ResourceQuotaSpec
from headrace.api.meta import ObjectMeta

from .conftest import NS


async def used(world):
    await world.quiet()
    return (await world.client.get(ResourceQuota, "q", NS)).status.used


async def test_used_follows_the_objects(world):
    hard = {"pods": "5", "requests.memory": "4Gi", "count/configmaps": "9", "count/widgets.example.com": "1"}
    await world.client.create(
        ResourceQuota(metadata=ObjectMeta(name="q", namespace=NS), spec=ResourceQuotaSpec(hard=hard))
    )
    before = await used(world)
    assert (before["pods"], before["requests.memory"], before["count/widgets.example.com"]) == ("0", "0", "0")
    container = Container(name="c", image="i:1", resources=ResourceRequirements(requests={"memory": "512Mi"}))
    for name in ("a", "b"):
        await world.client.create(
            Pod(metadata=ObjectMeta(name=name, namespace=NS), spec=PodSpec(containers=[container]))
        )
    found = await used(world)
    assert (found["pods"], found["requests.memory"]) == ("2", "1Gi")
    await world.client.delete(Pod, "a", NS)
    assert (await used(world))["requests.memory"] == "512Mi"
    await world.client.create(ConfigMap(metadata=ObjectMeta(name="more", namespace=NS)))
    world.clock.step(11)
    assert int((await used(world))["count/configmaps"]) == int(before["count/configmaps"]) + 1
    assert (await world.client.get(ResourceQuota, "q", NS)).status.hard == hard
