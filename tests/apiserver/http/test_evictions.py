"""Evictions and budgets: what is refused in which words, and what is taken from whom."""

import pytest

from headrace.api.core import Pod
from headrace.api.meta import ObjectMeta
from headrace.api.policy import PodDisruptionBudget
from headrace.controllermanager.types import PodManifest

NS = "default"
PODS = f"/api/v1/namespaces/{NS}/pods"
EVICTION = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."


@pytest.fixture
def client(http):
    return http.cluster.client


@pytest.fixture
async def pod(client):
    async def made(*, ready=True, phase="Running"):
        meta = ObjectMeta(name="p", namespace=NS, labels={"app": "web"})
        spec = {"containers": [{"name": "main", "image": "i"}], "nodeName": "here"}
        await client.create(PodManifest(metadata=meta, spec=spec))
        status = {"phase": phase, "conditions": [{"type": "Ready", "status": str(ready)}]}
        return await client.patch(Pod, "p", {"status": status}, NS, subresource="status")

    return made


@pytest.fixture
async def budget(client):
    async def made(name="web", allowed=0, healthy=1, desired=1, observed=1, **spec):
        spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}, **spec}
        await client.create(PodDisruptionBudget(metadata=ObjectMeta(name=name, namespace=NS), spec=spec))
        status = {
            "observedGeneration": observed,
            "disruptionsAllowed": allowed,
            "currentHealthy": healthy,
            "desiredHealthy": desired,
            "expectedPods": 2,
            "conditions": [{"type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods"}],
        }
        return await client.patch(PodDisruptionBudget, name, {"status": status}, NS, subresource="status")

    return made


async def evict(api, body=None):
    return await api("POST", f"{PODS}/p/eviction", body or EVICTION)


async def leaving(client):
    return (await client.get(Pod, "p", NS)).metadata.deletion_timestamp is not None


async def test_a_budget_that_is_used_up(api, pod, budget, client):
    await pod()
    await budget()
    answer = await evict(api)
    assert (answer.status, answer.json["reason"], answer.json["message"]) == (429, "TooManyRequests", REFUSED)
    (cause,) = answer.json["details"]["causes"]
    assert cause["reason"] == "DisruptionBudget"
    assert cause["message"] == "The disruption budget web needs 1 healthy pods and has 1 currently"
    assert not await leaving(client)


async def test_a_budget_that_allows_one(api, pod, budget, client):
    await pod()
    await budget(allowed=1, healthy=2)
    trial = await evict(api, {**EVICTION, "deleteOptions": {"dryRun": ["All"]}})
    assert trial.status == 201
    assert not await leaving(client)
    assert (await evict(api)).status == 201
    found = await client.get(Pod, "p", NS)
    assert found.metadata.deletion_timestamp is not None
    target = next(c for c in found.status.conditions if c.type == "DisruptionTarget")
    assert (target.status, target.reason) == ("True", "EvictionByEvictionAPI")
    status = (await client.get(PodDisruptionBudget, "web", NS)).status
    assert status["disruptionsAllowed"] == 0
    assert list(status["disruptedPods"]) == ["p"]
    assert status["conditions"][0]["reason"] == "InsufficientPods"
    assert (await evict(api)).status == 201, "a pod that is leaving may leave"


async def test_a_budget_that_nobody_has_looked_at_yet(api, pod, budget):
    await pod()
    await budget(allowed=1, observed=0)
    answer = await evict(api)
    assert (answer.status, answer.headers["Retry-After"]) == (429, "10")
    assert "still being processed" in answer.json["details"]["causes"][0]["message"]


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"healthy": 1}, 201),
        ({"healthy": 0}, 429),
        ({"healthy": 0, "unhealthyPodEvictionPolicy": "IfHealthyBudget"}, 429),
        ({"healthy": 0, "unhealthyPodEvictionPolicy": "AlwaysAllow"}, 201),
    ],
)
async def test_a_pod_that_is_not_ready(api, pod, budget, more, status):
    await pod(ready=False)
    await budget(**more)
    assert (await evict(api)).status == status


@pytest.mark.parametrize("phase", ["Pending", "Succeeded", "Failed"])
async def test_pods_that_do_not_run_are_not_guarded(api, pod, budget, phase):
    await pod(ready=False, phase=phase)
    await budget(healthy=0)
    assert (await evict(api)).status == 201


async def test_two_budgets_are_too_many(api, pod, budget, client):
    await pod()
    await budget(allowed=1)
    await budget("other", allowed=1)
    answer = await evict(api)
    assert answer.status == 500
    assert "more than one PodDisruptionBudget" in answer.json["message"]
    assert not await leaving(client)


async def test_preconditions(api, pod, client):
    found = await pod()

    def asking(**preconditions):
        return {**EVICTION, "deleteOptions": {"preconditions": preconditions}}

    assert (await evict(api, asking(resourceVersion="1"))).status == 409
    assert (await evict(api, asking(uid="other"))).status == 409
    assert (await evict(api, {**EVICTION, "metadata": {"name": "q"}})).status == 400
    version = (await client.get(Pod, "p", NS)).metadata.resource_version
    assert (await evict(api, asking(resourceVersion=version, uid=found.metadata.uid))).status == 201
