"""The default profile: who may do what there, and its keys."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from headrace.api import _wire, core, rbac
from headrace.api.core import Namespace, Secret
from headrace.api.identity import User, service_account
from headrace.api.meta import ObjectMeta
from headrace.components.profiles.component import COMPONENT
from headrace.components.profiles.controller import KeysController
from headrace.testing import EmbeddedCluster, embedded_cluster, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NS = "kubeflow-user-example-com"
KINDS = {kind.INFO.kind: kind for kind in (*core.KINDS, *rbac.KINDS)}
OWNER = User("user@example.com", groups=("system:authenticated",))
EDITOR = service_account(NS, "default-editor")
VIEWER = service_account(NS, "default-viewer")
STRANGER = service_account("other", "default-editor")


@pytest.fixture
async def cluster() -> AsyncIterator[EmbeddedCluster]:
    async with embedded_cluster() as running:
        for body in COMPONENT.objects(running.settings):
            await running.client.apply(_wire.convert(KINDS[body["kind"]], body))
        running.manager.add(KeysController(running.client), running.client)
        await running.manager.start()
        yield running


async def keys(cluster: EmbeddedCluster, namespace: str = NS) -> dict[str, str]:
    secret = await eventually(lambda: cluster.client.get(Secret, "mlpipeline-minio-artifact", namespace))
    return {k: base64.b64decode(v).decode() for k, v in secret.data.items()}


@pytest.mark.parametrize(
    ("verb", "group", "resource", "who"),
    [
        ("get", "", "pods", "owner editor viewer"),
        ("get", "", "pods/log", "owner editor viewer"),
        ("list", "apps", "deployments", "owner editor viewer"),
        ("create", "", "pods", "owner editor"),
        ("delete", "batch", "jobs", "owner editor"),
        ("get", "", "secrets", "owner editor"),
        ("create", "rbac.authorization.k8s.io", "rolebindings", "owner"),
        ("create", "", "namespaces", ""),
        ("create", "", "endpoints", ""),
        ("get", "", "nodes", ""),
    ],
)
async def test_who_may_do_what(cluster: EmbeddedCluster, verb: str, group: str, resource: str, who: str) -> None:
    people = {"owner": OWNER, "editor": EDITOR, "viewer": VIEWER, "stranger": STRANGER}
    resource, _, sub = resource.partition("/")
    allowed = {
        name
        for name, user in people.items()
        if await cluster.client.review_access(user, verb, group=group, resource=resource, subresource=sub, namespace=NS)
    }
    assert allowed == set(who.split())


async def test_nobody_of_the_profile_reaches_another_namespace(cluster: EmbeddedCluster) -> None:
    for user in (OWNER, EDITOR, VIEWER):
        assert not await cluster.client.review_access(user, "get", resource="pods", namespace="kubeflow")


async def test_keys_are_made_once(cluster: EmbeddedCluster) -> None:
    first = await keys(cluster)
    assert set(first) == {"accesskey", "secretkey"}
    assert len(first["secretkey"]) >= 32
    for body in COMPONENT.objects(cluster.settings):  # as at the next start
        await cluster.client.apply(_wire.convert(KINDS[body["kind"]], body))
    await cluster.client.patch(Namespace, NS, {"metadata": {"labels": {"touched": "yes"}}})
    await eventually(lambda: cluster.manager.idle)
    assert await keys(cluster) == first


async def test_deleted_keys_come_back_different(cluster: EmbeddedCluster) -> None:
    first = await keys(cluster)
    await cluster.client.delete(Secret, "mlpipeline-minio-artifact", NS)
    assert await keys(cluster) != first


async def test_only_profile_namespaces_get_keys(cluster: EmbeddedCluster) -> None:
    await keys(cluster)
    labels = {"pipelines.kubeflow.org/enabled": "true"}
    await cluster.client.create(Namespace(metadata=ObjectMeta(name="second", labels=labels)))
    second = await keys(cluster, "second")
    assert second != await keys(cluster)
    listed = await cluster.client.list(Secret)
    assert {s.metadata.namespace for s in listed.items} == {NS, "second"}
    assert all(s.metadata.labels["headrace.dev/objectstore-access"] == "true" for s in listed.items)
