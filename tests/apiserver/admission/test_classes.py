"""Networking, policy, scheduling and autoscaling kinds: what is refused, what is filled, what pods get from classes."""

import pytest

from headrace.api import _wire
from headrace.api.autoscaling import HorizontalPodAutoscaler
from headrace.api.core import Pod
from headrace.api.discovery import EndpointSlice
from headrace.api.errors import Forbidden, Invalid
from headrace.api.identity import ADMIN
from headrace.api.networking import Ingress, IngressClass, NetworkPolicy
from headrace.api.policy import PodDisruptionBudget
from headrace.api.scheduling import PriorityClass, RuntimeClass
from headrace.apiserver.admission import defaults, rules
from headrace.testing import embedded_cluster

NS = "default"
BACKEND = {"service": {"name": "web", "port": {"number": 80}}}
TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}


@pytest.fixture
async def cluster():
    async with embedded_cluster() as made:
        yield made


@pytest.fixture
def create(cluster):
    async def call(kind, name="x", **top):
        namespace = NS if kind.INFO.namespaced else ""
        return _wire.decode_any(
            await cluster.registry.create(ADMIN, kind.INFO, {"metadata": {"name": name}, **top}, namespace)
        )

    return call


def path(**changes):
    return {"rules": [{"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": BACKEND, **changes}]}}]}


@pytest.mark.parametrize(
    ("kind", "top", "field"),
    [
        (Ingress, {"spec": {}}, "spec"),
        (Ingress, {"spec": path(pathType="Regex")}, "spec.rules[0].http.paths[0].pathType"),
        (Ingress, {"spec": path(path="web")}, "spec.rules[0].http.paths[0].path"),
        (Ingress, {"spec": path(backend={})}, "spec.rules[0].http.paths[0].backend"),
        (
            Ingress,
            {"spec": {"defaultBackend": {"service": {"name": "a", "port": {"name": "b", "number": 1}}}}},
            "spec.defaultBackend.service.port",
        ),
        (IngressClass, {"spec": {}}, "spec.controller"),
        (NetworkPolicy, {"spec": {"podSelector": {}, "policyTypes": ["Sideways"]}}, "spec.policyTypes[0]"),
        (
            NetworkPolicy,
            {"spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/99"}}]}]}},
            "spec.ingress[0].from[0].ipBlock.cidr",
        ),
        (PodDisruptionBudget, {"spec": {"minAvailable": 1, "maxUnavailable": 1}}, "spec"),
        (PodDisruptionBudget, {"spec": {"minAvailable": "120%"}}, "spec.minAvailable"),
        (PriorityClass, {"value": 2_000_000_000}, "value"),
        (RuntimeClass, {"handler": "Not A Label"}, "handler"),
        (HorizontalPodAutoscaler, {"spec": {"scaleTargetRef": TARGET, "maxReplicas": 0}}, "spec.maxReplicas"),
        (
            HorizontalPodAutoscaler,
            {"spec": {"scaleTargetRef": TARGET, "maxReplicas": 2, "minReplicas": 3}},
            "spec.maxReplicas",
        ),
        (
            HorizontalPodAutoscaler,
            {"spec": {"scaleTargetRef": TARGET, "maxReplicas": 2, "metrics": [{"type": "Weather"}]}},
            "spec.metrics[0].type",
        ),
    ],
)
async def test_refused(create, kind, top, field):
    with pytest.raises(Invalid) as caught:
        await create(kind, **top)
    assert [c.field for c in caught.value.causes] == [field]


@pytest.mark.parametrize(
    ("kind", "top", "patch"),
    [
        (IngressClass, {"spec": {"controller": "a.b/c"}}, {"spec": {"controller": "a.b/d"}}),
        (PriorityClass, {"value": 5}, {"value": 6}),
        (RuntimeClass, {"handler": "runc"}, {"handler": "runsc"}),
    ],
)
async def test_fixed(create, cluster, kind, top, patch):
    await create(kind, **top)
    with pytest.raises(Invalid):
        await cluster.client.patch(kind, "x", patch)


async def test_filled(create):
    policy = await create(NetworkPolicy, spec={"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]})
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert policy["spec"]["egress"][0]["ports"] == [{"port": 53, "protocol": "TCP"}]
    scaler = await create(HorizontalPodAutoscaler, spec={"scaleTargetRef": TARGET, "maxReplicas": 2})
    assert scaler["spec"]["minReplicas"] == 1
    assert scaler["spec"]["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 80}
    assert (await create(PriorityClass, value=1))["preemptionPolicy"] == "PreemptLowerPriority"


async def test_pods_get_the_number_of_their_priority(create):
    spec = {"containers": [{"name": "c", "image": "i:1"}]}
    assert (await create(Pod, "plain", spec=spec))["spec"]["priority"] == 0
    await create(PriorityClass, "high", value=1000, preemptionPolicy="Never")
    high = (await create(Pod, "high", spec={**spec, "priorityClassName": "high"}))["spec"]
    assert (high["priority"], high["preemptionPolicy"]) == (1000, "Never")
    system = await create(Pod, "system", spec={**spec, "priorityClassName": "system-node-critical"})
    assert system["spec"]["priority"] == 2_000_001_000
    await create(PriorityClass, "usual", value=7, globalDefault=True)
    usual = (await create(Pod, "usual", spec=spec))["spec"]
    assert (usual["priorityClassName"], usual["priority"]) == ("usual", 7)
    with pytest.raises(Forbidden, match='pods "x" is forbidden: no PriorityClass with name lost was found'):
        await create(Pod, spec={**spec, "priorityClassName": "lost"})
    with pytest.raises(Forbidden, match="must not be provided in pod spec"):
        await create(Pod, spec={**spec, "priority": 5})


async def test_a_runtime_class_must_be_there(create):
    spec = {"containers": [{"name": "c", "image": "i:1"}], "runtimeClassName": "nvidia"}
    with pytest.raises(Forbidden, match='RuntimeClass "nvidia" not found'):
        await create(Pod, spec=spec)
    await create(RuntimeClass, "nvidia", handler="nvidia")
    await create(Pod, spec=spec)


def test_endpoint_slices():
    def causes(**fields):
        obj = {"kind": "EndpointSlice", "metadata": {"name": "x"}, "addressType": "IPv4", **fields}
        defaults.fill(EndpointSlice.INFO, obj)
        return [c.field for c in rules.check(EndpointSlice.INFO, obj)]

    good = {"endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]}
    assert causes(**good) == []
    assert causes() == []
    assert causes(addressType="FQDN", endpoints=[{"addresses": ["a.example"]}]) == []
    assert causes(addressType="Odd") == ["addressType"]
    assert causes(endpoints=[{"addresses": []}]) == ["endpoints[0].addresses"]
    assert causes(endpoints=[{"addresses": ["::1"]}]) == ["endpoints[0].addresses[0]"]
    assert causes(endpoints=[{"addresses": ["x"]}]) == ["endpoints[0].addresses[0]"]
    assert causes(endpoints=[{"addresses": ["10.0.0.1"]}] * 1001) == ["endpoints"]
    assert causes(ports=[{"port": 80}, {"port": 81}]) == ["ports[1].name"]
    assert causes(ports=[{"port": 0}]) == ["ports[0].port"]
    old, new = {"addressType": "IPv4"}, {"addressType": "IPv6"}
    assert [c.field for c in rules.check_update(EndpointSlice.INFO, new, old)] == ["addressType"]
