"""EndpointSlices on an embedded cluster: from pods, from what somebody writes, and those of others."""

from headrace.api.core import (
    EndpointAddress,
    EndpointPort,
    Endpoints,
    EndpointSubset,
    Pod,
    Service,
    ServicePort,
    ServiceSpec,
)
from headrace.api.discovery import FROM_PODS, MANAGER_LABEL, MIRRORED, SERVICE_LABEL, EndpointSlice
from headrace.api.meta import ObjectMeta
from headrace.controllermanager import endpointslices_policy as policy
from headrace.controllermanager.types import PodManifest

from .conftest import NS, TEMPLATE


def service(selector=None, **spec):
    meta = ObjectMeta(name="web", namespace=NS, labels={"team": "a"}, uid="u")
    return Service(metadata=meta, spec=ServiceSpec(ports=[ServicePort(port=80)], selector=selector or {}, **spec))


def endpoints(*ips, waiting=(), **labels):
    subset = EndpointSubset(
        addresses=[EndpointAddress(ip=ip) for ip in ips],
        not_ready_addresses=[EndpointAddress(ip=ip) for ip in waiting],
        ports=[EndpointPort(port=80, name="http")],
    )
    return Endpoints(metadata=ObjectMeta(name="web", namespace=NS, labels=labels), subsets=[subset])


async def make_pod(world, name):
    meta = ObjectMeta(name=name, namespace=NS, labels={"app": "web"})
    await world.client.create(PodManifest(metadata=meta, spec=TEMPLATE["spec"]))
    return await world.client.get(Pod, name, NS)


async def slices(world):
    return (await world.client.list(EndpointSlice, NS, labels=f"{SERVICE_LABEL}=web")).items


async def behind(world, **wanted):
    """The one slice, when it has these addresses: True for ready ones."""

    async def check():
        found = await slices(world)
        if len(found) != 1:
            return None
        seen = {e["targetRef"]["name"] if "targetRef" in e else e["addresses"][0]: e for e in found[0].endpoints}
        return {k: e["conditions"]["ready"] for k, e in seen.items()} == wanted and found[0]

    return await world.until(check)


async def test_slices_follow_pods(world):
    made = await world.client.create(service({"app": "web"}))
    empty = await behind(world)
    assert (empty.endpoints, empty.ports, empty.address_type) == ([], [], "IPv4")
    for name in ("a", "b"):
        await world.set_phase(await make_pod(world, name), "Running", ready=name == "a")
    found = await behind(world, a=True, b=False)
    assert found.ports == [{"name": "", "protocol": "TCP", "port": 80}]
    assert found.metadata.labels == {"team": "a", SERVICE_LABEL: "web", MANAGER_LABEL: FROM_PODS}
    assert found.metadata.owner_references[0].uid == made.metadata.uid
    pod = await world.client.get(Pod, "b", NS)
    await world.set_phase(pod, "Running")
    await behind(world, a=True, b=True)
    await world.client.patch(EndpointSlice, found.metadata.name, {"endpoints": []}, NS)
    await behind(world, a=True, b=True)
    await world.client.patch(Service, "web", {"metadata": {"labels": {"team": "b"}}}, NS)
    await world.until(lambda: _label(world, "b"))
    await world.client.delete(Service, "web", NS)

    async def gone():
        return not await slices(world)

    await world.until(gone)


async def _label(world, value):
    return [s.metadata.labels["team"] for s in await slices(world)] == [value]


async def test_a_pod_that_leaves_is_terminating(world):
    await world.client.create(service({"app": "web"}))
    pod = await make_pod(world, "a")
    await world.client.patch(Pod, "a", {"spec": {"nodeName": "here"}}, NS)
    await world.set_phase(pod, "Running")
    await behind(world, a=True)
    await world.client.delete(Pod, "a", NS)
    found = await behind(world, a=False)
    assert found.endpoints[0]["conditions"] == {"ready": False, "serving": True, "terminating": True}
    await world.finish_deletion(pod)
    await behind(world)


async def test_what_somebody_writes_is_mirrored(world):
    await world.client.create(service())
    await world.quiet()
    assert await slices(world) == []
    await world.client.create(endpoints("192.0.2.1", waiting=["192.0.2.2"], mine="yes"))
    found = await behind(world, **{"192.0.2.1": True, "192.0.2.2": False})
    assert found.metadata.labels == {"mine": "yes", SERVICE_LABEL: "web", MANAGER_LABEL: MIRRORED}
    assert found.ports == [{"name": "http", "protocol": "TCP", "port": 80}]
    patch = {"metadata": {"labels": {policy.SKIP_MIRROR: "true"}}}
    await world.client.patch(Endpoints, "web", patch, NS)

    async def none():
        return not await slices(world)

    await world.until(none)
    await world.client.patch(Endpoints, "web", {"metadata": {"labels": {policy.SKIP_MIRROR: None}}}, NS)
    await behind(world, **{"192.0.2.1": True, "192.0.2.2": False})
    await world.client.delete(Service, "web", NS)
    await world.until(none)


async def test_slices_of_others_are_left_alone(world):
    await world.client.create(service())
    mine = EndpointSlice(
        metadata=ObjectMeta(name="web-mine", namespace=NS, labels={SERVICE_LABEL: "web"}),
        address_type="IPv4",
        endpoints=[{"addresses": ["192.0.2.9"]}],
    )
    await world.client.create(mine)
    await world.quiet()
    assert [s.metadata.name for s in await slices(world)] == ["web-mine"]


def pod(number):
    made = Pod(metadata=ObjectMeta(name=f"p{number:04}", namespace=NS, labels={"app": "web"}, uid=str(number)))
    made.status.pod_ip = f"10.0.{number // 250}.{number % 250 + 1}"
    return made


def test_a_slice_has_at_most_a_hundred_endpoints():
    made = policy.from_pods(service({"app": "web"}), [pod(n) for n in range(250)])
    assert [len(s.endpoints) for s in made] == [100, 100, 50]
    assert len({s.metadata.name for s in made}) == 3
    again = policy.from_pods(service({"app": "web"}), [pod(n) for n in range(101)])
    assert [s.metadata.name for s in again] == [s.metadata.name for s in made[:2]]


def test_addresses_that_are_published_before_they_are_ready():
    (found,) = policy.from_pods(service({"app": "web"}, publish_not_ready_addresses=True), [pod(1)])
    assert found.endpoints[0]["conditions"] == {"ready": True, "serving": False, "terminating": False}


def test_families_have_slices_of_their_own():
    made = policy.mirrored(endpoints("192.0.2.1", "2001:db8::1"), service())
    assert [(s.address_type, s.endpoints[0]["addresses"]) for s in made] == [
        ("IPv4", ["192.0.2.1"]),
        ("IPv6", ["2001:db8::1"]),
    ]
