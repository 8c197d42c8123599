"""Kinds in two versions: the same objects, and nothing is lost on the way there and back."""

import pytest

from headrace.api import _wire
from headrace.api.autoscaling import V1, HorizontalPodAutoscaler
from headrace.api.core import EVENTS_V1, Event
from headrace.api.errors import BadRequest, Invalid
from headrace.api.identity import ADMIN
from headrace.apiserver.registry.conversions import autoscaler_from_v1, autoscaler_to_v1
from headrace.client.base import EventType
from headrace.testing.cluster import embedded_cluster

V2 = HorizontalPodAutoscaler.INFO
REF = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}


def resource(name, **target):
    return {"type": "Resource", "resource": {"name": name, "target": target}}


CPU = resource("cpu", type="Utilization", averageUtilization=70)
METRICS = [
    CPU,
    resource("memory", type="AverageValue", averageValue="1Gi"),
    {
        "type": "ContainerResource",
        "containerResource": {
            "name": "cpu",
            "container": "main",
            "target": {"type": "Utilization", "averageUtilization": 5},
        },
    },
    {
        "type": "Pods",
        "pods": {
            "metric": {"name": "q", "selector": {"matchLabels": {"a": "b"}}},
            "target": {"type": "AverageValue", "averageValue": "3"},
        },
    },
    {
        "type": "Object",
        "object": {
            "metric": {"name": "q"},
            "describedObject": {"kind": "Service", "name": "s"},
            "target": {"type": "Value", "value": "3"},
        },
    },
    {
        "type": "External",
        "external": {
            "metric": {"name": "q", "selector": {"matchLabels": {"a": "b"}}},
            "target": {"type": "Value", "value": "3"},
        },
    },
]


def test_there_and_back():
    status = {
        "currentReplicas": 1,
        "desiredReplicas": 2,
        "currentMetrics": [
            {
                "type": "Resource",
                "resource": {"name": "cpu", "current": {"averageUtilization": 9, "averageValue": "9m"}},
            }
        ],
        "conditions": [{"type": "AbleToScale", "status": "True"}],
    }
    behavior = {"scaleUp": {"selectPolicy": "Disabled"}}
    whole = {
        "metadata": {"name": "web", "annotations": {"mine": "yes"}},
        "spec": {"scaleTargetRef": REF, "maxReplicas": 3, "metrics": METRICS, "behavior": behavior},
        "status": status,
    }
    old = autoscaler_to_v1(whole)
    assert old["spec"] == {"scaleTargetRef": REF, "maxReplicas": 3, "targetCPUUtilizationPercentage": 70}
    assert old["status"] == {"currentReplicas": 1, "desiredReplicas": 2, "currentCPUUtilizationPercentage": 9}
    metrics = _wire.decode_any(old["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"].encode())
    assert metrics[0] == {"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "1Gi"}}
    assert autoscaler_from_v1(old) == whole


def test_annotations_that_are_no_json_are_dropped():
    notes = {"autoscaling.alpha.kubernetes.io/metrics": "{", "autoscaling.alpha.kubernetes.io/behavior": "[]"}
    made = autoscaler_from_v1({"metadata": {"name": "web", "annotations": notes}, "spec": {"maxReplicas": 1}})
    assert made["spec"] == {"maxReplicas": 1}
    assert "annotations" not in made["metadata"]


def v1(**spec):
    return {"metadata": {"name": "web"}, "spec": {"scaleTargetRef": REF, "maxReplicas": 3, **spec}}


async def test_both_versions_are_the_same_objects():
    async with embedded_cluster() as cluster:
        registry = cluster.registry
        made = _wire.decode_any(
            await registry.create(
                ADMIN, V1, v1(targetCPUUtilizationPercentage=60), "default", field_validation="Strict"
            )
        )
        assert (made["apiVersion"], made["spec"]["minReplicas"]) == ("autoscaling/v1", 1)
        assert made["spec"]["targetCPUUtilizationPercentage"] == 60
        seen = _wire.decode_any(await registry.get(ADMIN, V2, "web", "default"))
        assert seen["apiVersion"] == "autoscaling/v2"
        assert seen["spec"]["metrics"] == [resource("cpu", type="Utilization", averageUtilization=60)]
        patch = {"spec": {"targetCPUUtilizationPercentage": 40}}
        patched = _wire.decode_any(await registry.patch(ADMIN, V1, "web", patch, "default"))
        assert patched["spec"]["targetCPUUtilizationPercentage"] == 40
        patched["spec"]["maxReplicas"] = 9
        updated = _wire.decode_any(await registry.update(ADMIN, V1, "web", patched, "default"))
        assert updated["spec"]["maxReplicas"] == 9
        page = await registry.list(ADMIN, V1, "default")
        assert [_wire.decode_any(raw)["apiVersion"] for raw in page.items] == ["autoscaling/v1"]
        first = await anext(registry.watch(ADMIN, V1, "default"))
        assert first.type is EventType.ADDED
        assert _wire.decode_any(first.object) == updated
        stored = _wire.decode_any(cluster.store.get("/registry/autoscaling/horizontalpodautoscalers/default/web").value)
        assert stored["apiVersion"] == "autoscaling/v2"
        await registry.delete(ADMIN, V1, "web", "default")
        assert not (await registry.list(ADMIN, V2, "default")).items


async def test_what_is_wrong_is_named():
    async with embedded_cluster() as cluster:
        with pytest.raises(BadRequest, match="unknown field"):
            await cluster.registry.create(ADMIN, V1, v1(metrics=[]), "default", field_validation="Strict")
        with pytest.raises(Invalid, match=r"spec\.maxReplicas"):
            await cluster.registry.create(ADMIN, V1, v1(maxReplicas=0), "default")


async def test_events_of_both_groups_are_the_same_objects():
    regarding = {"kind": "Pod", "namespace": "default", "name": "p"}
    event = {
        "metadata": {"name": "e"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "me",
        "reportingInstance": "me-1",
        "action": "Looking",
        "reason": "Seen",
        "regarding": regarding,
        "note": "somebody looked",
        "type": "Normal",
    }
    async with embedded_cluster() as cluster:
        registry = cluster.registry
        raw = await registry.create(ADMIN, EVENTS_V1, event, "default", field_validation="Strict")
        made = _wire.decode_any(raw)
        assert (made["apiVersion"], made["note"], made["regarding"]) == (
            "events.k8s.io/v1",
            "somebody looked",
            regarding,
        )
        seen = await cluster.client.get(Event, "e", "default")
        assert (seen.message, seen.involved_object.name, seen.reporting_component) == ("somebody looked", "p", "me")
        (listed,) = (await registry.list(ADMIN, EVENTS_V1, "default")).items
        assert _wire.decode_any(listed) == made
