"""Profiles: what one consists of, who may do what there, its keys, and how it goes."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from headrace.api.core import Namespace, Secret, ServiceAccount
from headrace.api.errors import NotFound
from headrace.api.identity import User, service_account
from headrace.api.limits import ResourceQuota
from headrace.api.meta import ObjectMeta
from headrace.api.rbac import RoleBinding, Subject
from headrace.components.profiles.types import Profile, ProfileSpec, QuotaSpec
from headrace.testing import eventually

if TYPE_CHECKING:
    from .conftest import World

NS = "kubeflow-user-example-com"
OWNER = User("user@example.com", groups=("system:authenticated",))
EDITOR = service_account(NS, "default-editor")
VIEWER = service_account(NS, "default-viewer")
STRANGER = service_account("other", "default-editor")


async def keys(cluster: World, namespace: str = NS) -> dict[str, str]:
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
async def test_who_may_do_what(cluster: World, verb: str, group: str, resource: str, who: str) -> None:
    people = {"owner": OWNER, "editor": EDITOR, "viewer": VIEWER, "stranger": STRANGER}
    resource, _, sub = resource.partition("/")
    allowed = {
        name
        for name, user in people.items()
        if await cluster.client.review_access(user, verb, group=group, resource=resource, subresource=sub, namespace=NS)
    }
    assert allowed == set(who.split())


async def test_nobody_of_the_profile_reaches_another_namespace(cluster: World) -> None:
    for user in (OWNER, EDITOR, VIEWER):
        assert not await cluster.client.review_access(user, "get", resource="pods", namespace="kubeflow")


async def test_keys_are_made_once(cluster: World) -> None:
    first = await keys(cluster)
    assert set(first) == {"accesskey", "secretkey"}
    assert len(first["secretkey"]) >= 32
    await cluster.parts.start()  # as at the next start
    await cluster.client.patch(Namespace, NS, {"metadata": {"labels": {"touched": "yes"}}})
    await eventually(lambda: cluster.manager.idle)
    assert await keys(cluster) == first


async def test_deleted_keys_come_back_different(cluster: World) -> None:
    first = await keys(cluster)
    await cluster.client.delete(Secret, "mlpipeline-minio-artifact", NS)
    assert await keys(cluster) != first


async def test_only_profile_namespaces_get_keys(cluster: World) -> None:
    await keys(cluster)
    labels = {"pipelines.kubeflow.org/enabled": "true"}
    await cluster.client.create(Namespace(metadata=ObjectMeta(name="second", labels=labels)))
    second = await keys(cluster, "second")
    assert second != await keys(cluster)
    listed = await cluster.client.list(Secret)
    assert {s.metadata.namespace for s in listed.items} == {NS, "second"}
    assert all(s.metadata.labels["headrace.dev/objectstore-access"] == "true" for s in listed.items)


# The kind


def profile(name: str, owner: str = "ada@example.com", **spec: object) -> Profile:
    owned = Subject(kind="User", name=owner)
    return Profile(metadata=ObjectMeta(name=name), spec=ProfileSpec(owner=owned, **spec))


async def settled(cluster: World, name: str, kind: str = "Successful") -> Profile:
    async def done() -> Profile | None:
        found = await cluster.client.get(Profile, name)
        return found if any(c.type == kind for c in found.status.conditions) else None

    return await eventually(done)


async def test_a_profile_becomes_a_namespace_with_people(cluster: World) -> None:
    await cluster.client.create(profile("ada", resource_quota_spec=QuotaSpec(hard={"cpu": "4"})))
    await settled(cluster, "ada")
    namespace = await cluster.client.get(Namespace, "ada")
    assert namespace.metadata.annotations["owner"] == "ada@example.com"
    assert namespace.metadata.labels["istio-injection"] == "enabled"
    assert {a.metadata.name for a in (await cluster.client.list(ServiceAccount, "ada")).items} >= {
        "default-editor",
        "default-viewer",
    }
    bindings = {b.metadata.name: b for b in (await cluster.client.list(RoleBinding, "ada")).items}
    assert set(bindings) == {"default-editor", "default-viewer", "namespaceAdmin"}
    assert bindings["namespaceAdmin"].metadata.annotations == {"role": "admin", "user": "ada@example.com"}
    quota = await cluster.client.get(ResourceQuota, "kf-resource-quota", "ada")
    assert quota.spec.hard == {"cpu": "4"}
    assert await keys(cluster, "ada")
    ada, other = (User(name, groups=("system:authenticated",)) for name in ("ada@example.com", "bob@example.com"))
    may = cluster.client.review_access
    assert await may(ada, "create", resource="pods", namespace="ada")
    assert not await may(other, "get", resource="pods", namespace="ada")


async def test_what_is_changed_by_hand_comes_back_and_a_quota_goes_when_it_is_taken_away(cluster: World) -> None:
    await cluster.client.create(profile("ada", resource_quota_spec=QuotaSpec(hard={"cpu": "4"})))
    await settled(cluster, "ada")
    await cluster.client.delete(RoleBinding, "namespaceAdmin", "ada")
    await eventually(lambda: cluster.client.get(RoleBinding, "namespaceAdmin", "ada"))
    await cluster.client.patch(Profile, "ada", {"spec": {"resourceQuotaSpec": {"hard": {"cpu": "8"}}}})

    async def quota() -> str:
        return str((await cluster.client.get(ResourceQuota, "kf-resource-quota", "ada")).spec.hard["cpu"])

    async def is_eight() -> bool:
        return await quota() == "8"

    await eventually(is_eight)
    await cluster.client.patch(Profile, "ada", {"spec": {"resourceQuotaSpec": None}})

    async def gone() -> bool:
        try:
            await quota()
        except NotFound:
            return True
        return False

    await eventually(gone)


async def test_another_owner_changes_who_may(cluster: World) -> None:
    await cluster.client.create(profile("ada"))
    await settled(cluster, "ada")
    await cluster.client.patch(Namespace, "ada", {"metadata": {"annotations": {"owner": "bob@example.com"}}})
    await cluster.client.patch(Profile, "ada", {"spec": {"owner": {"kind": "User", "name": "bob@example.com"}}})

    async def bobs() -> bool:
        found = await cluster.client.get(RoleBinding, "namespaceAdmin", "ada")
        return [s.name for s in found.subjects] == ["bob@example.com"]

    await eventually(bobs)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (profile("taken"), "namespace already exist, but not owned by profile creator ada@example.com"),
        (Profile(metadata=ObjectMeta(name="nobodys")), "needs an owner"),
        (profile("cloudy", plugins=[{"kind": "WorkloadIdentity", "spec": {}}]), "WorkloadIdentity"),
    ],
)
async def test_what_cannot_be_a_profile_says_why(cluster: World, made: Profile, words: str) -> None:
    annotations = {"owner": "somebody@else.org"}
    await cluster.client.create(Namespace(metadata=ObjectMeta(name="taken", annotations=annotations)))
    await cluster.client.create(made)
    failed = await settled(cluster, made.metadata.name, "Failed")
    assert words in failed.status.conditions[0].message
    if made.metadata.name == "taken":
        assert (await cluster.client.list(RoleBinding, "taken")).items == []


async def test_a_deleted_profile_takes_everything_along(cluster: World) -> None:
    await cluster.client.create(profile("ada"))
    await settled(cluster, "ada")
    (reference,) = (await cluster.client.get(Namespace, "ada")).metadata.owner_references
    assert (reference.kind, reference.name, reference.controller) == ("Profile", "ada", True)
    await cluster.client.delete(Profile, "ada")

    async def gone() -> bool:
        try:
            await cluster.client.get(Profile, "ada")
        except NotFound:
            return True
        return False

    await eventually(gone)


async def test_the_first_profile_is_made_once(cluster: World) -> None:
    await settled(cluster, NS)
    await cluster.client.delete(Profile, NS)

    async def gone() -> bool:
        return NS not in {p.metadata.name for p in (await cluster.client.list(Profile)).items}

    await eventually(gone)
    await cluster.parts.start()
    assert await gone()


async def test_both_versions_are_served(cluster: World) -> None:
    from headrace.api.identity import ADMIN
    from headrace.api.meta import KindInfo

    old = KindInfo("kubeflow.org", "v1beta1", "Profile", "profiles", namespaced=False)
    body = {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Profile",
        "metadata": {"name": "ada"},
        "spec": {"owner": {"kind": "User", "name": "ada@example.com"}},
    }
    await cluster.cluster.registry.create(ADMIN, old, body, "")
    await settled(cluster, "ada")
