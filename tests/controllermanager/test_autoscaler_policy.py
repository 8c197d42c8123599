"""How fast sizes follow, by tables."""

import datetime as dt

import pytest

from headrace.controllermanager.autoscaler_policy import History, bounded, decide

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def ago(seconds):
    return NOW - dt.timedelta(seconds=seconds)


def policy(type_, value, seconds=60):
    return {"type": type_, "value": value, "periodSeconds": seconds}


def up(*policies, **more):
    return {"scaleUp": {"policies": list(policies), **more}}


def down(*policies, **more):
    return {"scaleDown": {"policies": list(policies), "stabilizationWindowSeconds": 0, **more}}


@pytest.mark.parametrize(("size", "expected"), [(3, 3), (7, 5), (0, 1)])
def test_bounded(size, expected):
    found, reason = bounded(size, 1, 5)
    assert found == expected
    assert bool(reason) == (size != expected)


@pytest.mark.parametrize(
    ("current", "wanted", "behavior", "expected", "reason"),
    [
        (3, 3, None, 3, "DesiredWithinRange"),
        (1, 3, None, 3, "DesiredWithinRange"),
        (1, 9, None, 4, "ScaleUpLimit"),
        (10, 90, None, 20, "ScaleUpLimit"),
        (10, 30, None, 20, "ScaleUpLimit"),
        (60, 200, None, 100, "TooManyReplicas"),
        (1, 9, up(policy("Pods", 2)), 3, "ScaleUpLimit"),
        (10, 99, up(policy("Percent", 50)), 15, "ScaleUpLimit"),
        (10, 99, up(policy("Percent", 50), policy("Pods", 20)), 30, "ScaleUpLimit"),
        (10, 99, up(policy("Percent", 50), policy("Pods", 20), selectPolicy="Min"), 15, "ScaleUpLimit"),
        (10, 99, up(policy("Pods", 20), selectPolicy="Disabled"), 10, "ScaleUpLimit"),
        (10, 2, down(policy("Pods", 3)), 7, "ScaleDownLimit"),
        (10, 2, down(policy("Percent", 50)), 5, "ScaleDownLimit"),
        (10, 2, down(policy("Percent", 50), policy("Pods", 1), selectPolicy="Min"), 9, "ScaleDownLimit"),
        (10, 2, down(policy("Percent", 100), selectPolicy="Disabled"), 10, "ScaleDownLimit"),
        (10, 0, down(policy("Percent", 100)), 2, "TooFewReplicas"),
    ],
)
def test_the_rate(current, wanted, behavior, expected, reason):
    found = decide(current, wanted, History(), NOW, least=2 if wanted == 0 else 1, most=100, behavior=behavior)
    assert (found.replicas, found.limited[1]) == (expected, reason)


@pytest.mark.parametrize(
    ("recommended", "sizes", "behavior", "expected", "reason"),
    [
        ([(10, 8)], (8, 2), None, 8, "ScaleDownStabilized"),
        ([(200, 5), (100, 4)], (8, 2), None, 5, "ScaleDownStabilized"),
        ([(301, 8)], (8, 2), None, 2, "ReadyForNewScale"),
        ([(10, 8)], (8, 2), {"scaleDown": {"stabilizationWindowSeconds": 5, "policies": []}}, 2, "ReadyForNewScale"),
        ([(10, 5)], (5, 8), up(policy("Pods", 90), stabilizationWindowSeconds=60), 5, "ScaleUpStabilized"),
        ([(10, 6)], (5, 8), up(policy("Pods", 90), stabilizationWindowSeconds=60), 6, "ScaleUpStabilized"),
        ([(70, 5)], (5, 8), up(policy("Pods", 90), stabilizationWindowSeconds=60), 8, "ReadyForNewScale"),
    ],
)
def test_the_windows(recommended, sizes, behavior, expected, reason):
    history = History(recommended=[(ago(seconds), n) for seconds, n in recommended])
    found = decide(*sizes, history, NOW, least=1, most=100, behavior=behavior)
    assert (found.replicas, found.able[0]) == (expected, reason)


def test_what_grew_lately_counts_against_the_rate():
    behavior = up(policy("Pods", 4))
    history = History(recommended=[(ago(400), 1)])
    history.changed(ago(30), 1, 4)
    assert decide(4, 20, history, NOW, least=1, most=100, behavior=behavior).replicas == 5
    history.changed(ago(20), 4, 3)
    assert decide(3, 20, history, NOW, least=1, most=100, behavior=behavior).replicas == 5
    later = NOW + dt.timedelta(seconds=41)
    assert decide(3, 20, history, later, least=1, most=100, behavior=behavior).replicas == 7


def test_old_changes_are_forgotten():
    history = History()
    history.changed(ago(2000), 1, 2)
    history.changed(NOW, 2, 1)
    assert (history.grown, len(history.shrunk)) == ([], 1)
