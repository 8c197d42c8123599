"""What metrics APIs are asked, what their answers say, and the replicas that follow."""

from urllib.parse import quote_plus

import pytest

from headrace.api.core import Pod, PodCondition, PodStatus
from headrace.api.meta import ObjectMeta
from headrace.controllermanager import autoscaler_custom_policy as policy
from headrace.controllermanager.autoscaler_metrics_policy import Sample, Unmeasured

SELECTOR = {
    "matchLabels": {"verb": "GET"},
    "matchExpressions": [
        {"key": "code", "operator": "In", "values": ["500", "200"]},
        {"key": "a", "operator": "Exists"},
        {"key": "b", "operator": "DoesNotExist"},
    ],
}


def pod(name, ready="True", phase="Running"):
    status = PodStatus(phase=phase, conditions=[PodCondition(type="Ready", status=ready)])
    return Pod(metadata=ObjectMeta(name=name, uid=f"uid-{name}"), status=status)


def test_what_is_asked():
    metric = {"name": "http/requests", "selector": SELECTOR}
    asked = quote_plus("!b,a,code in (200,500),verb=GET")
    base = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/ns"
    plain = {"name": "q"}
    assert policy.pods_path("v1beta2", "ns", metric, "app=web") == (
        f"{base}/pods/*/http%2Frequests?labelSelector=app%3Dweb&metricLabelSelector={asked}"
    )
    assert policy.object_path("v1beta2", "ns", plain, "ingresses.networking.k8s.io", "web") == (
        f"{base}/ingresses.networking.k8s.io/web/q"
    )
    assert policy.object_path("v1beta2", "ns", plain, "namespaces", "ignored") == f"{base}/metrics/q"
    assert policy.external_path("v1beta1", "ns", plain) == ("/apis/external.metrics.k8s.io/v1beta1/namespaces/ns/q")


def test_what_an_answer_says():
    items = [
        {"describedObject": {"name": "a"}, "value": "1500m"},
        {"describedObject": {"name": "gone"}, "value": "7"},
    ]
    assert policy.samples({"items": items}, [pod("a"), pod("b")]) == {"uid-a": (Sample("", {"": 1500}),)}
    assert policy.one({"items": items[:1]}) == 1500
    assert policy.total({"items": items}) == 8500


@pytest.mark.parametrize(
    ("read", "answer", "words"),
    [
        (lambda a: policy.samples(a, []), {"items": []}, "no metrics returned from custom metrics API"),
        (policy.one, {"items": [{"value": "1"}, {"value": "1"}]}, "returned 2 results when we asked for exactly one"),
        (policy.total, {"items": None}, "no metrics returned from external metrics API"),
        (policy.total, {"items": [{"value": "many"}]}, "no quantity"),
        (policy.total, {"items": ["x"]}, "no list"),
    ],
)
def test_what_an_answer_does_not_say(read, answer, words):
    with pytest.raises(Unmeasured, match=words):
        read(answer)


@pytest.mark.parametrize(
    ("current", "amount", "target", "pods", "replicas"),
    [
        (2, 20, 10, [pod("a"), pod("b")], 4),
        (2, 20, 10, [pod("a"), pod("b", "False")], 2),
        (2, 21, 20, [pod("a"), pod("b")], 2),
        (4, 5, 10, [pod(n) for n in "abcd"], 2),
        (0, 25, 10, [], 3),
    ],
)
def test_by_value(current, amount, target, pods, replicas):
    assert policy.by_value(current, amount, target, pods) == replicas


def test_by_value_without_pods():
    with pytest.raises(Unmeasured, match="no pods returned by selector"):
        policy.by_value(1, 20, 10, [])


@pytest.mark.parametrize(
    ("current", "amount", "target", "expected"),
    [(2, 30, 10, (3, 15)), (3, 31, 10, (3, 11)), (0, 25, 10, (3, 25)), (4, 10, 10, (1, 3))],
)
def test_by_average(current, amount, target, expected):
    assert policy.by_average(current, amount, target) == expected
