"""Autoscalers on an embedded cluster: the bounds, what pods use, and what cannot be measured."""

import copy

import pytest

from headrace.api import conditions
from headrace.api.apps import StatefulSet, StatefulSetSpec
from headrace.api.autoscaling import HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, ScaleTarget
from headrace.api.core import Pod
from headrace.api.meta import LabelSelector, ObjectMeta

from .conftest import NS, TEMPLATE

REQUESTS = {"requests": {"cpu": "100m", "memory": "100Mi"}}


def metric(name="cpu", container="", **target):
    kind = "Utilization" if "averageUtilization" in target else "AverageValue"
    source = {"name": name, "target": {"type": kind, **target}}
    if container:
        return {"type": "ContainerResource", "containerResource": {**source, "container": container}}
    return {"type": "Resource", "resource": source}


def autoscaler(least, most, kind="StatefulSet", **more):
    target = ScaleTarget(api_version="apps/v1", kind=kind, name="web")
    spec = HorizontalPodAutoscalerSpec(scale_target_ref=target, min_replicas=least, max_replicas=most, **more)
    return HorizontalPodAutoscaler(metadata=ObjectMeta(name="web", namespace=NS), spec=spec)


def stateful_set(replicas, resources=None):
    template = copy.deepcopy(TEMPLATE)
    template["spec"]["containers"][0]["resources"] = REQUESTS if resources is None else resources
    spec = StatefulSetSpec(
        selector=LabelSelector(match_labels={"app": "web"}),
        template=template,
        replicas=replicas,
        pod_management_policy="Parallel",
    )
    return StatefulSet(metadata=ObjectMeta(name="web", namespace=NS), spec=spec)


async def running(world, number, cores=0.0, memory=0):
    """That many pods that use as much, all ready for long enough to be believed."""

    async def there():
        found = await world.pods()
        return found if len(found) == number else None

    found = await world.until(there)
    began = world.clock.now().isoformat().replace("+00:00", "Z")
    for pod in found:
        world.meter.set(pod, cores, memory)
        if pod.status.phase != "Running":
            await world.client.patch(Pod, pod.metadata.name, {"status": {"startTime": began}}, NS, subresource="status")
            await world.set_phase(pod, "Running")
    world.clock.step(400)
    await world.quiet()
    return await world.pods()


async def get(world):
    await world.quiet()
    return (await world.client.get(HorizontalPodAutoscaler, "web", NS)).status


async def replicas(world):
    return (await world.client.get(StatefulSet, "web", NS)).spec.replicas


async def look(world):
    """The next look at what pods use."""
    world.clock.step(16)
    await world.quiet()


@pytest.mark.parametrize(("size", "expected"), [(1, 2), (3, 3), (9, 4)])
async def test_the_bounds_are_kept(world, size, expected):
    await world.client.create(stateful_set(size))
    await world.client.create(autoscaler(2, 4))
    await world.quiet()
    assert await replicas(world) == expected
    await look(world)
    status = await get(world)
    assert status.current_replicas == expected
    assert conditions.is_true(status.conditions, "AbleToScale")


async def test_replicas_follow_what_pods_use(world):
    await world.client.create(stateful_set(2))
    await running(world, 2, 0.150)
    await world.client.create(autoscaler(1, 10, metrics=[metric(averageUtilization=50)]))
    await world.quiet()
    assert await replicas(world) == 4, "at most twice as many at a time"
    status = await get(world)
    assert status.current_metrics == [
        {
            "type": "Resource",
            "resource": {"name": "cpu", "current": {"averageUtilization": 150, "averageValue": "150m"}},
        }
    ]
    assert conditions.get(status.conditions, "ScalingActive").reason == "ValidMetricFound"
    limited = conditions.get(status.conditions, "ScalingLimited")
    assert (limited.status, limited.reason) == ("True", "ScaleUpLimit")
    assert status.last_scale_time is not None
    await running(world, 4, 0.050)
    assert await replicas(world) == 4
    assert (await get(world)).desired_replicas == 4
    for pod in await world.pods():
        world.meter.set(pod, 0.010)
    await look(world)
    assert await replicas(world) == 4, "not smaller before five minutes have passed"
    able = conditions.get((await get(world)).conditions, "AbleToScale")
    assert able.reason == "ScaleDownStabilized"
    world.clock.step(320)
    await world.quiet()
    assert await replicas(world) == 1


async def test_average_values_and_single_containers(world):
    await world.client.create(stateful_set(1, {}))
    await running(world, 1, memory=300 << 20)
    wanted = [metric("memory", averageValue="200Mi"), metric("memory", "main", averageValue="100Mi")]
    await world.client.create(autoscaler(1, 9, metrics=wanted))
    await world.quiet()
    assert await replicas(world) == 3
    found = (await get(world)).current_metrics
    assert found[0]["resource"]["current"] == {"averageValue": str(300 << 20)}
    assert found[1]["containerResource"]["container"] == "main"


async def test_behavior_slows_it_down(world):
    await world.client.create(stateful_set(1))
    await running(world, 1, 1.0)
    slow = {"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}
    await world.client.create(autoscaler(1, 9, metrics=[metric(averageUtilization=50)], behavior=slow))
    await world.quiet()
    assert await replicas(world) == 2
    await look(world)
    assert await replicas(world) == 2
    world.clock.step(61)
    await world.quiet()
    assert await replicas(world) == 3


@pytest.mark.parametrize(
    ("wanted", "resources", "reason", "words"),
    [
        (metric(averageUtilization=50), {}, "FailedGetResourceMetric", "missing request for cpu in container main"),
        (
            metric("memory", "side", averageValue="1"),
            {},
            "FailedGetContainerResourceMetric",
            "container side not present",
        ),
        (metric("nvidia.com/gpu", averageValue="1"), {}, "FailedGetResourceMetric", "only cpu and memory"),
        (
            {
                "type": "Pods",
                "pods": {"metric": {"name": "q"}, "target": {"type": "AverageValue", "averageValue": "1"}},
            },
            {},
            "FailedGetPodsMetric",
            "use Resource or ContainerResource",
        ),
    ],
)
async def test_what_cannot_be_measured_says_so(world, wanted, resources, reason, words):
    await world.client.create(stateful_set(1, resources))
    await running(world, 1, 1.0)
    await world.client.create(autoscaler(1, 9, metrics=[wanted]))
    active = conditions.get((await get(world)).conditions, "ScalingActive")
    assert (active.status, active.reason) == ("False", reason)
    assert words in active.message
    assert await replicas(world) == 1


async def test_two_autoscalers_of_the_same_pods_both_stop(world):
    await world.client.create(stateful_set(1))
    await running(world, 1, 1.0)
    for name in ("web", "other"):
        made = autoscaler(1, 9, metrics=[metric(averageUtilization=5000)])
        made.metadata.name = name
        await world.client.create(made)
        await world.quiet()
    await look(world)
    for name in ("web", "other"):
        found = (await world.client.get(HorizontalPodAutoscaler, name, NS)).status
        active = conditions.get(found.conditions, "ScalingActive")
        assert (active.status, active.reason) == ("False", "AmbiguousSelector")
        assert "[default/other default/web]" in active.message
    await world.client.delete(HorizontalPodAutoscaler, "other", NS)
    await look(world)
    assert conditions.get((await get(world)).conditions, "ScalingActive").reason == "ValidMetricFound"


async def test_nought_stays_nought(world):
    await world.client.create(stateful_set(0))
    await world.client.create(autoscaler(2, 4))
    status = await get(world)
    assert conditions.get(status.conditions, "ScalingActive").reason == "ScalingDisabled"
    assert await replicas(world) == 0


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet", "Nonsense"])
async def test_what_cannot_be_scaled_is_named(world, kind):
    await world.client.create(autoscaler(1, 2, kind))
    found = conditions.get((await get(world)).conditions, "AbleToScale")
    assert (found.status, found.reason) == ("False", "FailedGetScale")


CUSTOM = "/apis/custom.metrics.k8s.io/v1beta1/namespaces/default"
EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1/namespaces/default"
SET = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web"}


def other(type_, name="q", **more):
    target = {"type": "Value" if "value" in more else "AverageValue", **more}
    source = {"metric": {"name": name}, "target": target}
    if type_ == "Object":
        source["describedObject"] = SET
    return {"type": type_, type_.lower(): source}


@pytest.mark.parametrize(
    "case",
    [
        (other("Pods", averageValue="10"), f"{CUSTOM}/pods/*/q?labelSelector=app%3Dweb", ["30", "10"], 4, "20"),
        (other("Object", value="10"), f"{CUSTOM}/statefulsets.apps/web/q", ["15"], 3, "15"),
        (other("Object", averageValue="10"), f"{CUSTOM}/statefulsets.apps/web/q", ["25500m"], 3, "12750m"),
        (other("External", value="10"), f"{EXTERNAL}/q", ["10", "5"], 3, "15"),
        (other("External", averageValue="5"), f"{EXTERNAL}/q", ["16"], 4, "8"),
    ],
)
async def test_replicas_follow_the_metrics_of_an_adapter(world, case):
    wanted, path, values, expected, current = case
    await world.client.create(stateful_set(2))
    found = await running(world, 2)
    names = [p.metadata.name for p in found]
    items = [{"describedObject": {"kind": "Pod", "name": n}, "value": v} for n, v in zip(names, values, strict=False)]
    world.adapter.served = {"custom.metrics.k8s.io": ["v1beta1"], "external.metrics.k8s.io": ["v1beta1"]}
    world.adapter.answers[path] = {"items": items}
    await world.client.create(autoscaler(1, 9, metrics=[wanted]))
    status = await get(world)
    assert await replicas(world) == expected
    field = wanted["type"].lower()
    (said,) = status.current_metrics
    assert list(said[field]["current"].values()) == [current]
    assert world.adapter.asked[0][0] == "system:serviceaccount:kube-system:horizontal-pod-autoscaler"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (other("Pods", averageValue="1"), "unable to get metric q: unable to fetch metrics from custom metrics API"),
        (other("External", value="1"), "unable to get external metric default/q"),
        (other("Object"), "neither a value target nor an average value target was set"),
    ],
)
async def test_an_adapter_that_does_not_know_it(world, wanted, words):
    await world.client.create(stateful_set(1))
    await running(world, 1)
    world.adapter.served = {"custom.metrics.k8s.io": ["v1beta1"], "external.metrics.k8s.io": ["v1beta1"]}
    world.adapter.answers[f"{CUSTOM}/statefulsets.apps/web/q"] = {"items": [{"value": "1"}]}
    await world.client.create(autoscaler(1, 9, metrics=[wanted]))
    active = conditions.get((await get(world)).conditions, "ScalingActive")
    assert (active.status, active.reason) == ("False", f"FailedGet{wanted['type']}Metric")
    assert words in active.message
    assert await replicas(world) == 1
