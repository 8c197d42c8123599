"""Disruption budgets on an embedded cluster: what is counted, and what evictions leave behind."""

import pytest

from headrace.api.apps import Deployment, DeploymentSpec
from headrace.api.meta import LabelSelector, ObjectMeta
from headrace.api.policy import PodDisruptionBudget
from headrace.controllermanager.disruption_policy import Expected, expected, selects
from headrace.controllermanager.types import Job, JobSpec, PodManifest

from .conftest import NS, TEMPLATE

WEB = {"matchLabels": {"app": "web"}}


def budget(name="web", **spec):
    return PodDisruptionBudget(metadata=ObjectMeta(name=name, namespace=NS), spec={"selector": WEB, **spec})


async def deployment(world, replicas):
    spec = DeploymentSpec(selector=LabelSelector(match_labels={"app": "web"}), template=TEMPLATE, replicas=replicas)
    await world.client.create(Deployment(metadata=ObjectMeta(name="web", namespace=NS), spec=spec))

    async def there():
        found = await world.pods()
        return found if len(found) == replicas else None

    return await world.until(there)


async def counts(world, allowed, healthy, desired, expected_):
    async def check():
        found = (await world.client.get(PodDisruptionBudget, "web", NS)).status
        keys = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
        return tuple(found.get(k) for k in keys) == (allowed, healthy, desired, expected_) and found

    return await world.until(check)


def condition(status):
    (found,) = status["conditions"]
    return found["status"], found["reason"]


async def test_the_status_follows_the_pods(world):
    found = await deployment(world, 3)
    await world.client.create(budget(maxUnavailable=1))
    status = await counts(world, 0, 0, 2, 3)
    assert condition(status) == ("False", "InsufficientPods")
    for pod in found:
        await world.set_phase(pod, "Running")
    status = await counts(world, 1, 3, 2, 3)
    assert condition(status) == ("True", "SufficientPods")
    assert status["observedGeneration"] == 1
    await world.set_phase(found[0], "Running", ready=False)
    await counts(world, 0, 2, 2, 3)
    await world.client.patch(PodDisruptionBudget, "web", {"spec": {"maxUnavailable": "50%"}}, NS)
    status = await counts(world, 1, 2, 1, 3)
    assert status["observedGeneration"] == 2


async def test_bare_pods_count_by_a_number(world):
    for name in ("a", "b"):
        pod = PodManifest(metadata=ObjectMeta(name=name, namespace=NS, labels={"app": "web"}), spec=TEMPLATE["spec"])
        await world.client.create(pod)
    for pod in await world.pods():
        await world.set_phase(pod, "Running")
    await world.client.create(budget(minAvailable=1))
    await counts(world, 1, 2, 1, 2)


async def test_what_cannot_be_counted_allows_nothing(world):
    template = {**TEMPLATE, "spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}
    await world.client.create(Job(metadata=ObjectMeta(name="j", namespace=NS), spec=JobSpec(template=template)))
    await world.until(world.pods)
    await world.client.create(budget(maxUnavailable=1))

    async def failed():
        status = (await world.client.get(PodDisruptionBudget, "web", NS)).status
        return status.get("conditions") and status

    status = await world.until(failed)
    assert condition(status) == ("False", "SyncFailed")
    assert "jobs.batch does not implement the scale subresource" in status["conditions"][0]["message"]
    assert status["disruptionsAllowed"] == 0


async def test_an_evicted_pod_counts_as_gone_until_it_is_or_stays(world):
    found = await deployment(world, 2)
    for pod in found:
        await world.set_phase(pod, "Running")
    await world.client.create(budget(maxUnavailable=2))
    await counts(world, 2, 2, 0, 2)
    now = world.clock.now().isoformat().replace("+00:00", "Z")
    taken = {"disruptionsAllowed": 1, "disruptedPods": {found[0].metadata.name: now, "long-gone": now}}
    await world.client.patch(PodDisruptionBudget, "web", {"status": taken}, NS, subresource="status")
    status = await counts(world, 1, 1, 0, 2)
    assert status["disruptedPods"] == {found[0].metadata.name: now}
    world.clock.step(121)
    status = await counts(world, 2, 2, 0, 2)
    assert "disruptedPods" not in status


@pytest.mark.parametrize(
    ("spec", "found", "scale", "wanted"),
    [
        ({"minAvailable": 2}, 5, 0, Expected(5, 2)),
        ({"minAvailable": "50%"}, 5, 5, Expected(5, 3)),
        ({"minAvailable": "0%"}, 5, 5, Expected(5, 0)),
        ({"maxUnavailable": 2}, 5, 4, Expected(4, 2)),
        ({"maxUnavailable": 9}, 5, 4, Expected(4, 0)),
        ({"maxUnavailable": "30%"}, 5, 10, Expected(10, 7)),
        ({}, 5, 0, Expected(5, 0)),
    ],
)
def test_expected(spec, found, scale, wanted):
    assert expected(spec, found, scale) == wanted


def test_whom_a_budget_is_for():
    assert selects({"selector": WEB}, {"app": "web"})
    assert selects({"selector": {}}, {"app": "db"})
    assert not selects({"selector": WEB}, {"app": "db"})
    assert not selects({}, {"app": "db"})
