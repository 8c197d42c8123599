"""Autoscalers keep the bounds and say that they measure nothing."""

import pytest

from headrace.api import conditions
from headrace.api.apps import StatefulSet, StatefulSetSpec
from headrace.api.autoscaling import HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, ScaleTarget
from headrace.api.meta import LabelSelector, ObjectMeta
from headrace.controllermanager.autoscaler import UNMEASURED, bounded

from .conftest import NS, TEMPLATE


def autoscaler(least, most, kind="StatefulSet"):
    target = ScaleTarget(api_version="apps/v1", kind=kind, name="web")
    spec = HorizontalPodAutoscalerSpec(scale_target_ref=target, min_replicas=least, max_replicas=most)
    return HorizontalPodAutoscaler(metadata=ObjectMeta(name="web", namespace=NS), spec=spec)


def stateful_set(replicas):
    spec = StatefulSetSpec(
        selector=LabelSelector(match_labels={"app": "web"}),
        template=TEMPLATE,
        replicas=replicas,
        pod_management_policy="Parallel",
    )
    return StatefulSet(metadata=ObjectMeta(name="web", namespace=NS), spec=spec)


async def get(world):
    await world.quiet()
    return (await world.client.get(HorizontalPodAutoscaler, "web", NS)).status


@pytest.mark.parametrize(("replicas", "expected"), [(1, 2), (3, 3), (9, 4)])
async def test_the_bounds_are_kept(world, replicas, expected):
    await world.client.create(stateful_set(replicas))
    await world.client.create(autoscaler(2, 4))
    await world.quiet()
    assert (await world.client.get(StatefulSet, "web", NS)).spec.replicas == expected
    world.clock.step(16)
    status = await get(world)
    assert (status.current_replicas, status.desired_replicas) == (expected, expected)
    assert conditions.is_true(status.conditions, "AbleToScale")
    active = conditions.get(status.conditions, "ScalingActive")
    assert (active.status, active.reason, active.message) == ("False", "FailedGetResourceMetric", UNMEASURED)


async def test_nought_stays_nought(world):
    await world.client.create(stateful_set(0))
    await world.client.create(autoscaler(2, 4))
    status = await get(world)
    assert conditions.get(status.conditions, "ScalingActive").reason == "ScalingDisabled"
    assert (await world.client.get(StatefulSet, "web", NS)).spec.replicas == 0


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet", "Nonsense"])
async def test_what_cannot_be_scaled_is_named(world, kind):
    await world.client.create(autoscaler(1, 2, kind))
    found = conditions.get((await get(world)).conditions, "AbleToScale")
    assert (found.status, found.reason) == ("False", "FailedGetScale")


def test_bounded():
    assert bounded(3, 1, 5) == (3, "")
    assert bounded(7, 1, 5)[0] == 5
    assert bounded(1, 2, 5)[0] == 2
