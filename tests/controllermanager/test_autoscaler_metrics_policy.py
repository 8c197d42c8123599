"""Replicas from what pods use, by tables."""

import datetime as dt

import pytest

from headrace.api.core import Container, Pod, PodCondition, ResourceRequirements
from headrace.api.meta import ObjectMeta
from headrace.controllermanager.autoscaler_metrics_policy import Measured, Sample, Target, Unmeasured, propose

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
CPU = Target("cpu", utilization=50)
MEMORY = Target("memory", average=100)


def ago(seconds):
    return NOW - dt.timedelta(seconds=seconds)


def pod(number, *, phase="Running", began=1000, ready=True, since=900, deleted=False, request="100m"):
    made = Pod(metadata=ObjectMeta(name=f"p{number}", namespace="n", uid=str(number)))
    made.status.phase, made.status.start_time = phase, ago(began)
    if deleted:
        made.metadata.deletion_timestamp = NOW
    made.status.conditions = [PodCondition(type="Ready", status=str(ready), last_transition_time=ago(since))]
    resources = ResourceRequirements(requests={"cpu": request} if request else {})
    made.spec.containers = [Container(name="main", resources=resources)]
    return made


def proposal(pods, amounts, target=CPU, current=None):
    samples = {
        p.metadata.uid: (Sample("main", {"cpu": n, "memory": n}),)
        for p, n in zip(pods, amounts, strict=True)
        if n is not None
    }
    measured = Measured(NOW, dt.timedelta(seconds=15), samples)
    return propose(len(pods) if current is None else current, pods, measured, target, NOW)


@pytest.mark.parametrize(
    ("pods", "amounts", "target", "expected"),
    [
        ([pod(1), pod(2)], [50, 50], CPU, 2),
        ([pod(1), pod(2)], [54, 55], CPU, 2),
        ([pod(1), pod(2)], [100, 100], CPU, 4),
        ([pod(1), pod(2)], [20, 20], CPU, 1),
        ([pod(1), pod(2)], [100, 200], MEMORY, 3),
        ([pod(1), pod(2)], [10, 10], MEMORY, 1),
        # one without numbers: full on the way down, idle on the way up
        ([pod(1), pod(2), pod(3)], [20, 20, None], CPU, 3),
        ([pod(1), pod(2), pod(3)], [100, 100, None], CPU, 4),
        ([pod(1), pod(2)], [60, None], CPU, 2),
        ([pod(1), pod(2), pod(3)], [10, 10, None], MEMORY, 2),
        # one that is not ready yet counts as idle on the way up, not at all on the way down
        ([pod(1), pod(2, phase="Pending")], [200, None], CPU, 4),
        ([pod(1), pod(2, phase="Pending")], [20, None], CPU, 1),
        ([pod(1), pod(2, began=100, ready=False, since=90)], [200, 500], CPU, 4),
        ([pod(1), pod(2, began=100, since=5)], [200, 500], CPU, 4),
        ([pod(1), pod(2, began=1000, ready=False, since=990)], [200, 500], CPU, 4),
        ([pod(1), pod(2, began=1000, ready=False, since=90)], [200, 200], CPU, 8),
        # those on their way out do not count
        ([pod(1), pod(2, deleted=True), pod(3, phase="Failed")], [100, 900, 900], CPU, 2),
    ],
)
def test_replicas(pods, amounts, target, expected):
    assert proposal(pods, amounts, target).replicas == expected


def test_what_was_measured():
    found = proposal([pod(1), pod(2)], [60, 80])
    assert (found.utilization, found.average) == (70, 70)


@pytest.mark.parametrize(
    ("pods", "amounts", "target", "words"),
    [
        ([], [], CPU, "no pods returned by selector"),
        ([pod(1)], [None], CPU, "no metrics returned"),
        ([pod(1, began=10, since=5)], [5], CPU, "did not receive metrics for any ready pods"),
        ([pod(1, request="")], [5], CPU, "missing request for cpu in container main of Pod p1"),
        ([pod(1)], [5], Target("cpu", "side", 50), "container side not present in metrics for pod n/p1"),
    ],
)
def test_what_says_nothing(pods, amounts, target, words):
    with pytest.raises(Unmeasured, match=words):
        proposal(pods, amounts, target)
