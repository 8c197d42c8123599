"""Endpoints: on an embedded cluster, and what is behind a service as tables."""

import pytest

from headrace.api.core import (
    Container,
    ContainerPort,
    EndpointAddress,
    EndpointPort,
    Endpoints,
    EndpointSubset,
    Pod,
    PodCondition,
    PodSpec,
    PodStatus,
    Service,
    ServicePort,
    ServiceSpec,
)
from headrace.api.meta import ObjectMeta
from headrace.controllermanager import endpoints_policy as policy
from headrace.controllermanager.types import PodManifest

from .conftest import NS, TEMPLATE


def service(*ports, selector=None, **spec):
    return Service(
        metadata=ObjectMeta(name="web", namespace=NS, labels={"team": "a"}),
        spec=ServiceSpec(
            ports=list(ports) or [ServicePort(port=80, target_port=8080)],
            selector={"app": "web"} if selector is None else selector,
            **spec,
        ),
    )


async def behind(world, *, ready=(), waiting=()):
    async def check():
        found = await world.client.get(Endpoints, "web", NS)
        one = {a.target_ref.name for s in found.subsets for a in s.addresses}
        two = {a.target_ref.name for s in found.subsets for a in s.not_ready_addresses}
        return (one, two) == (set(ready), set(waiting)) and found

    return await world.until(check)


async def make_pod(world, name, **labels):
    meta = ObjectMeta(name=name, namespace=NS, labels=labels or {"app": "web"})
    await world.client.create(PodManifest(metadata=meta, spec=TEMPLATE["spec"]))
    return await world.client.get(Pod, name, NS)


async def test_a_services_endpoints_follow_its_pods(world):
    await world.client.create(service())
    await behind(world)
    a, b = await make_pod(world, "a"), await make_pod(world, "b")
    other = await make_pod(world, "c", app="other")
    for pod in (a, other):
        await world.set_phase(pod, "Running")
    await world.set_phase(b, "Running", ready=False)
    found = await behind(world, ready={"a"}, waiting={"b"})
    assert found.subsets[0].ports == [EndpointPort(port=8080)]
    assert found.metadata.labels == {"team": "a"}
    await world.set_phase(b, "Running")
    await behind(world, ready={"a", "b"})
    await world.client.patch(Pod, "a", {"metadata": {"labels": {"app": "debug"}}}, NS)
    await behind(world, ready={"b"})
    await world.client.patch(Pod, "c", {"metadata": {"labels": {"app": "web"}}}, NS)
    await behind(world, ready={"b", "c"})
    await world.client.delete(Pod, "b", NS)
    await behind(world, ready={"c"})
    await world.client.patch(Service, "web", {"spec": {"selector": {"app": "debug"}}}, NS)
    await behind(world, ready={"a"})
    await world.client.delete(Service, "web", NS)
    await world.gone(Endpoints, "web")


async def test_what_somebody_changes_is_put_right(world):
    await world.client.create(service())
    pod = await make_pod(world, "a")
    await world.set_phase(pod, "Running")
    await behind(world, ready={"a"})
    await world.client.patch(Endpoints, "web", {"subsets": None, "metadata": {"labels": {"x": "y"}}}, NS)
    found = await behind(world, ready={"a"})
    await world.quiet()
    found = await world.client.get(Endpoints, "web", NS)
    assert found.metadata.labels == {"team": "a"}
    await world.client.delete(Endpoints, "web", NS)
    await behind(world, ready={"a"})


async def test_endpoints_that_somebody_writes_are_left_alone(world):
    await world.client.create(service(selector={}))
    written = Endpoints(
        metadata=ObjectMeta(name="web", namespace=NS),
        subsets=[EndpointSubset(addresses=[EndpointAddress(ip="10.0.0.1")], ports=[EndpointPort(port=1)])],
    )
    await world.client.create(written)
    await world.quiet()
    assert (await world.client.get(Endpoints, "web", NS)).subsets == written.subsets


async def test_headless(world):
    await world.client.create(service(cluster_ip="None"))
    pod = await make_pod(world, "a")
    await world.set_phase(pod, "Running")
    found = await behind(world, ready={"a"})
    assert found.metadata.labels == {"team": "a", policy.HEADLESS_LABEL: ""}


def pod(name="p", *ports, ip="10.0.0.1", ready=True, phase="Running", **spec):
    return Pod(
        metadata=ObjectMeta(name=name, namespace=NS),
        spec=PodSpec(containers=[Container(name="c", ports=list(ports))], **spec),
        status=PodStatus(phase=phase, pod_ip=ip, conditions=[PodCondition(type="Ready", status=str(ready))]),
    )


HTTP = ContainerPort(container_port=8080, name="http")
UDP = ContainerPort(container_port=53, name="http", protocol="UDP")


@pytest.mark.parametrize(
    ("port", "ports", "expected"),
    [
        (ServicePort(port=80), [], 80),
        (ServicePort(port=80, target_port=8080), [], 8080),
        (ServicePort(port=80, target_port="http"), [HTTP], 8080),
        (ServicePort(port=80, target_port="http"), [UDP], None),
        (ServicePort(port=80, target_port="http", protocol="UDP"), [HTTP, UDP], 53),
        (ServicePort(port=80, target_port="grpc"), [HTTP], None),
    ],
)
def test_target_ports(port, ports, expected):
    assert policy.target_port(pod("p", *ports), port) == expected


def deleting(made):
    made.metadata.deletion_timestamp = made.metadata.creation_timestamp = "now"
    return made


@pytest.mark.parametrize(
    ("svc", "found", "ready", "waiting"),
    [
        (service(), [pod()], ["10.0.0.1"], []),
        (service(), [pod(ready=False)], [], ["10.0.0.1"]),
        (service(publish_not_ready_addresses=True), [pod(ready=False)], ["10.0.0.1"], []),
        (service(), [pod(ip="")], [], []),
        (service(), [pod(phase="Succeeded")], [], []),
        (service(), [pod(phase="Failed")], [], []),
        (service(), [deleting(pod())], [], []),
        (service(publish_not_ready_addresses=True), [deleting(pod())], ["10.0.0.1"], []),
        (service(ServicePort(port=80, target_port="none")), [pod()], [], []),
    ],
)
def test_who_is_behind(svc, found, ready, waiting):
    subsets = policy.subsets(svc, found)
    assert [a.ip for s in subsets for a in s.addresses] == ready
    assert [a.ip for s in subsets for a in s.not_ready_addresses] == waiting


def test_pods_whose_named_ports_differ_are_grouped():
    svc = service(
        ServicePort(port=80, name="web", target_port="http"), ServicePort(port=90, name="m", target_port=9090)
    )
    other = ContainerPort(container_port=9000, name="http")
    subsets = policy.subsets(svc, [pod("a", HTTP), pod("b", other, ip="10.0.0.2"), pod("c", HTTP, ip="10.0.0.3")])
    assert [([a.ip for a in s.addresses], [p.port for p in s.ports]) for s in subsets] == [
        (["10.0.0.1", "10.0.0.3"], [8080, 9090]),
        (["10.0.0.2"], [9000, 9090]),
    ]


def test_host_names_of_a_subdomain():
    named = pod(hostname="first", subdomain="web")
    stranger = pod("q", hostname="first", subdomain="other")
    (subset,) = policy.subsets(service(), [named, stranger])
    assert [a.hostname for a in subset.addresses] == ["first", ""]


@pytest.mark.parametrize(
    ("svc", "expected"),
    [(service(), True), (service(selector={}), False), (service(type="ExternalName", external_name="x"), False)],
)
def test_which_services_are_ours(svc, expected):
    assert policy.managed(svc) is expected
