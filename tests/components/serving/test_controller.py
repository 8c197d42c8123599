"""The controller on an embedded cluster; the test plays the Deployment controller and the node."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from headrace.api import conditions
from headrace.api.apps import Deployment
from headrace.api.core import Container, Event, Pod, PodTemplateSpec, Secret, Service, ServiceAccount
from headrace.api.errors import NotFound
from headrace.api.meta import ObjectMeta
from headrace.components.serving.component import COMPONENT
from headrace.components.serving.controller import InferenceServiceController
from headrace.components.serving.types import InferenceService
from headrace.testing import EmbeddedCluster, embedded_cluster, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

NS = "kubeflow-user-example-com"
NAME = "digits-predictor"
ERROR = "Model file model.joblib does not load: ValueError: bad"


@pytest.fixture
async def cluster() -> AsyncIterator[EmbeddedCluster]:
    async with embedded_cluster(COMPONENT.kinds) as running:
        running.manager.add(InferenceServiceController(running.client, running.clock), running.client)
        await running.manager.start()
        yield running


@pytest.fixture
def make(make_isvc: Callable[..., InferenceService]) -> Callable[..., InferenceService]:
    return lambda *a, **m: make_isvc(*a, **{"namespace": NS, **m})


class Node:
    """Sets what the Deployment controller and the node agent would set."""

    def __init__(self, cluster: EmbeddedCluster) -> None:
        self.client = cluster.client

    async def deployment(self, **status: Any) -> None:
        found = await eventually(lambda: self.client.get(Deployment, NAME, NS))
        base = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}
        body = {"observedGeneration": found.metadata.generation, **base, **status}
        await self.client.patch(Deployment, NAME, {"status": body}, NS, subresource="status")

    async def pod(self, name: str, template: str, *, ready: bool, state: dict[str, Any] | None = None) -> None:
        deployment = await eventually(lambda: self.client.get(Deployment, NAME, NS))
        given: PodTemplateSpec = deployment.spec.template
        try:
            await self.client.get(Pod, name, NS)
        except NotFound:
            labels = {**given.metadata.labels, "pod-template-hash": template}
            await self.client.create(Pod(metadata=ObjectMeta(name=name, namespace=NS, labels=labels), spec=given.spec))
        status = {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [
                {"name": "kserve-container", "image": "i", "ready": ready, "state": state or {"running": {}}}
            ],
        }
        await self.client.patch(Pod, name, {"status": status}, NS, subresource="status")

    async def service(self, ready: str, reason: str = "") -> InferenceService:
        async def look() -> InferenceService | None:
            found = await self.client.get(InferenceService, "digits", NS)
            condition = conditions.get(found.status.conditions, "Ready")
            current = found.status.observed_generation == found.metadata.generation
            return found if current and condition and (condition.status, condition.reason) == (ready, reason) else None

        return await eventually(look)

    async def events(self) -> set[str]:
        listed = await self.client.list(Event, NS)
        return {e.reason for e in listed.items if e.involved_object.kind == "InferenceService"}


async def test_a_model_comes_up(cluster: EmbeddedCluster, make: Callable[..., InferenceService]) -> None:
    node = Node(cluster)
    created = await cluster.client.create(make())
    await node.service("Unknown", "Progressing")
    deployment = await cluster.client.get(Deployment, NAME, NS)
    service = await cluster.client.get(Service, NAME, NS)
    for child in (deployment, service):
        assert [(r.uid, r.controller) for r in child.metadata.owner_references] == [(created.metadata.uid, True)]
    await node.pod("p1", "a", ready=False)
    await node.pod("p1", "a", ready=True)
    await node.deployment()
    ready = await node.service("True")
    assert ready.status.url == f"http://digits-{NS}.example.com"
    assert ready.status.model_status.transition_status == "UpToDate"
    assert await node.events() == {"DeploymentCreated", "InferenceServiceReady"}


async def test_a_quiet_service_is_left_alone(cluster: EmbeddedCluster, make: Callable[..., InferenceService]) -> None:
    node = Node(cluster)
    await cluster.client.create(make())
    await node.pod("p1", "a", ready=True)
    await node.deployment()
    before = await node.service("True")
    versions = [(await cluster.client.get(k, NAME, NS)).metadata.resource_version for k in (Deployment, Service)]
    await node.pod("p1", "a", ready=True, state={"running": {"startedAt": "2026-01-01T00:00:00Z"}})
    await eventually(lambda: cluster.manager.idle)
    after = await cluster.client.get(InferenceService, "digits", NS)
    assert after.metadata.resource_version == before.metadata.resource_version
    assert versions == [
        (await cluster.client.get(k, NAME, NS)).metadata.resource_version for k in (Deployment, Service)
    ]


async def test_a_model_that_does_not_load(cluster: EmbeddedCluster, make: Callable[..., InferenceService]) -> None:
    node = Node(cluster)
    await cluster.client.create(make())
    await node.pod("p1", "a", ready=False, state={"terminated": {"exitCode": 1, "message": ERROR, "reason": "Error"}})
    failed = await node.service("False", "ModelLoadFailed")
    info = failed.status.model_status.last_failure_info
    assert info
    assert (info.message, info.location) == (ERROR, "p1")
    assert failed.status.model_status.transition_status == "BlockedByFailedLoad"
    assert "ModelLoadFailed" in await node.events()


async def test_a_new_model_rolls_out(cluster: EmbeddedCluster, make: Callable[..., InferenceService]) -> None:
    node = Node(cluster)
    await cluster.client.create(make())
    await node.pod("p1", "a", ready=True)
    await node.deployment()
    await node.service("True")
    uri = "s3://mlpipeline/models/second"
    patch = {"spec": {"predictor": {"sklearn": {"storageUri": uri}}}}
    await cluster.client.patch(InferenceService, "digits", patch, NS)
    await node.service("Unknown", "RolloutInProgress")
    deployment = await cluster.client.get(Deployment, NAME, NS)
    assert deployment.spec.template.spec.init_containers[0].args[0] == uri
    assert deployment.spec.strategy.rolling_update
    assert deployment.spec.strategy.rolling_update.max_unavailable == 0
    await node.pod("p2", "b", ready=True)
    await cluster.client.delete(Pod, "p1", NS, grace_period_seconds=0)
    await node.deployment()
    ready = await node.service("True")
    assert ready.status.model_status.transition_status == "UpToDate"


async def test_a_refused_spec_says_why_and_recovers(
    cluster: EmbeddedCluster, make: Callable[..., InferenceService]
) -> None:
    node = Node(cluster)
    await cluster.client.create(make({"sklearn": {"storageUri": "gs://bucket/model"}}))
    refused = await node.service("False", "UnsupportedStorageUri")
    assert refused.status.model_status.transition_status == "InvalidSpec"
    assert "UnsupportedStorageUri" in await node.events()
    with pytest.raises(NotFound):
        await cluster.client.get(Deployment, NAME, NS)
    patch = {"spec": {"predictor": {"sklearn": {"storageUri": "s3://mlpipeline/m"}}}}
    await cluster.client.patch(InferenceService, "digits", patch, NS)
    fixed = await node.service("Unknown", "Progressing")
    assert fixed.status.model_status.transition_status == "InProgress"
    assert fixed.status.model_status.last_failure_info is None


async def test_stop_takes_the_workload_away_and_start_brings_it_back(
    cluster: EmbeddedCluster, make: Callable[..., InferenceService]
) -> None:
    node = Node(cluster)
    await cluster.client.create(make())
    await node.service("Unknown", "Progressing")
    for stop, reason in (("true", "Stopped"), (None, "Progressing")):
        patch = {"metadata": {"annotations": {"serving.kserve.io/stop": stop}}}
        await cluster.client.patch(InferenceService, "digits", patch, NS)
        await node.service("False" if stop else "Unknown", reason)

        async def present() -> bool:
            listed = await cluster.client.list(Deployment, NS)
            return bool(listed.items)

        async def absent() -> bool:
            return not await present()

        await eventually(absent if stop else present)


async def test_somebody_elses_deployment_is_not_taken_over(
    cluster: EmbeddedCluster, make: Callable[..., InferenceService]
) -> None:
    node = Node(cluster)
    foreign = Deployment(metadata=ObjectMeta(name=NAME, namespace=NS, labels={"whose": "mine"}))
    foreign.spec.selector.match_labels = {"a": "b"}
    foreign.spec.template.metadata.labels = {"a": "b"}
    foreign.spec.template.spec.containers = [Container(name="c", image="python:3.11")]
    await cluster.client.create(foreign)
    await cluster.client.create(make())
    refused = await node.service("False", "NameConflict")
    assert NAME in refused.status.conditions[0].message
    kept = await cluster.client.get(Deployment, NAME, NS)
    assert kept.metadata.labels == {"whose": "mine"}
    assert kept.metadata.owner_references == []


async def test_a_deployment_that_the_server_refuses_is_told_and_not_tried_again(
    cluster: EmbeddedCluster, make: Callable[..., InferenceService]
) -> None:
    """The CRD's schema knows nothing of quantities; the Deployment's rules do."""
    node = Node(cluster)
    await cluster.client.create(
        make({"sklearn": {"storageUri": "s3://mlpipeline/m", "resources": {"limits": {"cpu": "much"}}}})
    )
    refused = await node.service("False", "DeploymentRefused")
    assert 'limits.cpu: Invalid value: "much"' in refused.status.conditions[0].message
    assert refused.status.model_status.transition_status == "InvalidSpec"
    await eventually(lambda: cluster.manager.idle)
    right = {"spec": {"predictor": {"sklearn": {"resources": {"limits": {"cpu": "1"}}}}}}
    await cluster.client.patch(InferenceService, refused.metadata.name, right, NS)
    await eventually(lambda: cluster.client.get(Deployment, NAME, NS))


async def test_keys_of_the_service_account(cluster: EmbeddedCluster, make: Callable[..., InferenceService]) -> None:
    data = {k: base64.b64encode(b"x").decode() for k in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    annotations = {"serving.kserve.io/s3-endpoint": "http://store:9"}
    meta = ObjectMeta(name="mine", namespace=NS, annotations=annotations)
    await cluster.client.create(Secret(metadata=meta, data=data))
    account = ServiceAccount(metadata=ObjectMeta(name="reader", namespace=NS))
    await cluster.client.create(account)
    await cluster.client.patch(ServiceAccount, "reader", {"secrets": [{"name": "mine"}]}, NS)
    predictor = {"sklearn": {"storageUri": "s3://b/m"}, "serviceAccountName": "reader"}
    await cluster.client.create(make(predictor))
    deployment = await eventually(lambda: cluster.client.get(Deployment, NAME, NS))
    environment = {e.name: e for e in deployment.spec.template.spec.init_containers[0].env}
    assert environment["AWS_ENDPOINT_URL"].value == "http://store:9"
    source = environment["AWS_ACCESS_KEY_ID"].value_from
    assert source
    assert source.secret_key_ref
    assert source.secret_key_ref.name == "mine"


async def test_a_bound_that_nothing_scales_to_is_mentioned(
    cluster: EmbeddedCluster, make: Callable[..., InferenceService]
) -> None:
    node = Node(cluster)
    await cluster.client.create(make({"sklearn": {"storageUri": "s3://b/m"}, "maxReplicas": 4}))
    await node.service("Unknown", "Progressing")
    assert "AutoscalingNotSupported" in await node.events()
