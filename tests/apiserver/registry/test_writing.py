"""What a write may say, what comes back, and what happens when the disk refuses."""

import asyncio

import pytest

from headrace.api import _wire
from headrace.api.apps import Deployment
from headrace.api.core import ConfigMap, Node, Pod, Service
from headrace.api.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    InternalError,
    Invalid,
    MethodNotAllowed,
    NotFound,
    UnsupportedMediaType,
)
from headrace.api.identity import ADMIN, service_account
from headrace.api.meta import ObjectMeta
from headrace.api.rbac import ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject
from headrace.apiserver.authz.bootstrap import default_objects
from headrace.client.base import PatchType
from headrace.store.base import StoreError
from headrace.store.memory import MemoryStore
from headrace.store.sqlite import SqliteStore
from headrace.testing import embedded_cluster, eventually

NS = "default"
TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


@pytest.fixture
async def cluster():
    async with embedded_cluster() as made:
        yield made


@pytest.fixture
def registry(cluster):
    return cluster.registry


def read(raw):
    return _wire.decode_any(raw)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"metadata": {"name": "a", "namespace": "other"}}, "namespace of the provided object does not match"),
        ({"apiVersion": "v2", "metadata": {"name": "a"}}, r"API version in the data \(v2\) does not match"),
        ({"kind": "Secret", "metadata": {"name": "a"}}, "kind in the data"),
        ({"metadata": []}, "metadata must be an object"),
        ({"metadata": {"name": "a", "resourceVersion": "3"}}, "resourceVersion should not be set"),
    ],
)
async def test_bodies_that_contradict_the_request(registry, body, message):
    with pytest.raises(BadRequest, match=message):
        await registry.create(ADMIN, ConfigMap.INFO, body, NS)


async def test_the_name_on_the_url_counts(registry):
    await registry.create(ADMIN, ConfigMap.INFO, {"metadata": {"name": "a"}}, NS)
    with pytest.raises(BadRequest, match=r"the name of the object \(b\) does not match the name on the URL \(a\)"):
        await registry.update(ADMIN, ConfigMap.INFO, "a", {"metadata": {"name": "b"}}, NS)
    with pytest.raises(Conflict, match="UID in precondition"):
        await registry.update(ADMIN, ConfigMap.INFO, "a", {"metadata": {"uid": "another"}}, NS)


async def test_a_stored_object_begins_with_its_identity(registry):
    raw = await registry.create(ADMIN, ConfigMap.INFO, {"data": {"x": "1"}, "metadata": {"name": "a"}}, NS)
    assert raw.startswith(b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{')


@pytest.mark.parametrize(
    "meta",
    [
        {"labels": {"bad key!": "x"}},
        {"labels": {"a": "bad value!"}},
        {"labels": {"a": "x" * 64}},
        {"annotations": {"/x": "y"}},
        {"annotations": {"a": "x" * 300_000}},
        {"finalizers": ["not valid!"]},
        {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": ""}]},
        {"name": ""},
        {"name": "x" * 254},
    ],
    ids=str,
)
async def test_metadata_is_validated(registry, meta):
    with pytest.raises(Invalid):
        await registry.create(ADMIN, ConfigMap.INFO, {"metadata": {"name": "a", **meta}}, NS)


async def test_two_controllers_are_one_too_many(registry):
    ref = {"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "1", "controller": True}
    with pytest.raises(Invalid, match="Only one reference can have Controller"):
        body = {"metadata": {"name": "a", "ownerReferences": [ref, {**ref, "uid": "2"}]}}
        await registry.create(ADMIN, ConfigMap.INFO, body, NS)


async def test_names_that_are_paths_for_roles_only(registry):
    rules = [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]
    await registry.create(ADMIN, ClusterRole.INFO, {"metadata": {"name": "system:a:b"}, "rules": rules})
    with pytest.raises(Invalid):
        await registry.create(ADMIN, ClusterRole.INFO, {"metadata": {"name": "a/b"}, "rules": rules})
    with pytest.raises(Invalid):
        await registry.create(ADMIN, Service.INFO, {"metadata": {"name": "1a"}, "spec": {"ports": [{"port": 1}]}}, NS)


async def test_generation_counts_what_people_want(registry):
    body = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}}
    made = read(await registry.create(ADMIN, Deployment.INFO, body, NS))
    assert made["metadata"]["generation"] == 1

    async def generation(patch, subresource=""):
        raw = await registry.patch(ADMIN, Deployment.INFO, "d", patch, NS, subresource=subresource)
        return read(raw)["metadata"]["generation"]

    assert await generation({"metadata": {"labels": {"x": "y"}}}) == 1
    assert await generation({"status": {"replicas": 1}}, "status") == 1
    assert await generation({"spec": {"replicas": 2}}) == 2
    assert await generation({"spec": {"replicas": 2}}) == 2


async def test_what_the_server_owns_stays(registry):
    made = read(await registry.create(ADMIN, ConfigMap.INFO, {"metadata": {"name": "a", "uid": "mine"}}, NS))
    assert made["metadata"]["uid"] != "mine"
    patch = {"metadata": {"creationTimestamp": "2000-01-01T00:00:00Z", "generation": 7, "deletionTimestamp": None}}
    patched = read(await registry.patch(ADMIN, ConfigMap.INFO, "a", patch, NS))
    assert patched == made


async def test_subresources(registry):
    await registry.create(ADMIN, ConfigMap.INFO, {"metadata": {"name": "a"}}, NS)
    with pytest.raises(NotFound, match="could not find the requested resource"):
        await registry.get(ADMIN, ConfigMap.INFO, "a", NS, subresource="status")
    await registry.create(ADMIN, Pod.INFO, {"metadata": {"name": "p"}, "spec": TEMPLATE["spec"]}, NS)
    with pytest.raises(MethodNotAllowed):
        await registry.patch(ADMIN, Pod.INFO, "p", {}, NS, subresource="log")
    status = await registry.get(ADMIN, Pod.INFO, "p", NS, subresource="status")
    assert read(status)["status"]["phase"] == "Pending"


async def test_a_status_put_replaces_only_status(registry):
    made = read(await registry.create(ADMIN, Pod.INFO, {"metadata": {"name": "p"}, "spec": TEMPLATE["spec"]}, NS))
    body = {**made, "status": {"phase": "Running"}, "spec": {"containers": []}}
    raw = await registry.update(ADMIN, Pod.INFO, "p", body, NS, subresource="status")
    assert (read(raw)["status"], read(raw)["spec"]) == ({"phase": "Running"}, made["spec"])


async def test_a_node_brings_its_status(registry):
    made = read(
        await registry.create(ADMIN, Node.INFO, {"metadata": {"name": "n"}, "status": {"capacity": {"cpu": 2}}})
    )
    assert made["status"] == {"capacity": {"cpu": "2"}}


async def test_patch_types(registry):
    body = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}}
    await registry.create(ADMIN, Deployment.INFO, body, NS)

    async def patch(kind, document):
        return read(await registry.patch(ADMIN, Deployment.INFO, "d", document, NS, patch_type=kind))["spec"]

    replicas = await patch(PatchType.JSON, [{"op": "replace", "path": "/spec/replicas", "value": 4}])
    assert replicas["replicas"] == 4
    added = {"spec": {"template": {"spec": {"containers": [{"name": "d", "image": "j"}]}}}}
    merged = await patch(PatchType.STRATEGIC, added)
    assert [c["name"] for c in merged["template"]["spec"]["containers"]] == ["c", "d"]
    replaced = await patch(PatchType.MERGE, added)
    assert [c["name"] for c in replaced["template"]["spec"]["containers"]] == ["d"]
    with pytest.raises(UnsupportedMediaType, match="a verb of its own"):
        await patch(PatchType.APPLY, {})
    with pytest.raises(Invalid):
        await patch(PatchType.JSON, [{"op": "test", "path": "/spec/replicas", "value": 5}])
    with pytest.raises(BadRequest, match="cannot be handled as a Deployment"):
        await patch(PatchType.MERGE, {"spec": {"replicas": "many"}})
    with pytest.raises(BadRequest, match="does not match"):
        await patch(PatchType.MERGE, {"metadata": {"name": "e"}})


async def test_field_validation(registry):
    body = {"metadata": {"name": "a"}, "dta": {"x": "1"}}
    with pytest.raises(BadRequest, match='ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding'):
        await registry.create(ADMIN, ConfigMap.INFO, body, NS, field_validation="Strict")
    warnings: list[str] = []
    made = read(await registry.create(ADMIN, ConfigMap.INFO, body, NS, field_validation="Warn", warnings=warnings))
    assert warnings == ['unknown field "dta"']
    assert "dta" not in made


async def test_aggregated_roles_show_their_rules(registry):
    for body in default_objects():
        group, _, version = body["apiVersion"].rpartition("/")
        await registry.create(ADMIN, registry.kinds.by_kind(group, version, body["kind"]), body)
    view = read(await registry.get(ADMIN, ClusterRole.INFO, "view"))
    admin = read(await registry.get(ADMIN, ClusterRole.INFO, "admin"))
    assert len(admin["rules"]) > len(view["rules"]) > 5


async def test_a_profile_owner_cannot_become_more(registry, cluster):
    for body in default_objects():
        group, _, version = body["apiVersion"].rpartition("/")
        await registry.create(ADMIN, registry.kinds.by_kind(group, version, body["kind"]), body)
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "owner"},
        "roleRef": {"kind": "ClusterRole", "name": "admin", "apiGroup": "rbac.authorization.k8s.io"},
        "subjects": [{"kind": "ServiceAccount", "name": "owner", "namespace": NS}],
    }
    info = registry.kinds.by_kind("rbac.authorization.k8s.io", "v1", "RoleBinding")
    await registry.create(ADMIN, info, binding, NS)
    owner = service_account(NS, "owner")
    await registry.create(owner, info, {**binding, "metadata": {"name": "friend"}, "subjects": []}, NS)
    more = {**binding, "metadata": {"name": "more"}, "roleRef": {**binding["roleRef"], "name": "cluster-admin"}}
    with pytest.raises(Forbidden, match="attempting to grant RBAC permissions not currently held"):
        await registry.create(owner, info, more, NS)


class RefusingStore(MemoryStore):
    refuse = False

    async def put(self, key, encode, *, expected):
        if self.refuse:
            raise StoreError("database or disk is full")
        return await super().put(key, encode, expected=expected)


async def test_a_refused_write_is_an_error_that_says_what_to_do():
    store = RefusingStore()
    async with embedded_cluster(store=store) as cluster:
        store.refuse = True
        with pytest.raises(
            InternalError, match=r"nothing was changed: database or disk is full\. The platform's log may say more"
        ):
            await cluster.client.create(ConfigMap(metadata=ObjectMeta(name="a", namespace=NS)))
        store.refuse = False
        await cluster.client.create(ConfigMap(metadata=ObjectMeta(name="a", namespace=NS)))


async def test_a_grant_holds_although_its_writer_went_away(tmp_path):
    """The request was cancelled while its write was on its way to the disk."""
    async with embedded_cluster(store=SqliteStore(tmp_path / "s.db")) as cluster:
        robot = service_account(NS, "robot")
        role = ClusterRole(metadata=ObjectMeta(name="r"))
        role.rules = [PolicyRule(verbs=["get"], api_groups=[""], resources=["nodes"])]
        await cluster.client.create(role)
        assert not await cluster.registry.authorize(robot, "get", resource="nodes")
        binding = ClusterRoleBinding(
            metadata=ObjectMeta(name="b"),
            role_ref=RoleRef(kind="ClusterRole", name="r"),
            subjects=[Subject(kind="ServiceAccount", name="robot", namespace=NS)],
        )
        before = cluster.store.revision
        task = asyncio.create_task(cluster.client.create(binding))
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        await eventually(lambda: cluster.store.revision == before + 1)
        assert await cluster.registry.authorize(robot, "get", resource="nodes")


async def test_a_pod_comes_to_its_node_with_its_status(registry):
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    made = read(await registry.create(ADMIN, Pod.INFO, pod, NS))
    sent = {"spec": {"nodeName": "n", "hostname": "other"}, "status": {"phase": "Running"}}
    found = read(await registry.patch(ADMIN, Pod.INFO, "p", sent, NS, subresource="binding"))
    assert (found["spec"]["nodeName"], found["status"]["phase"]) == ("n", "Running")
    assert "hostname" not in found["spec"], "a binding changes nothing else"
    stale = {**sent, "metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}}
    with pytest.raises(Conflict):
        await registry.patch(ADMIN, Pod.INFO, "p", stale, NS, subresource="binding")
    with pytest.raises(Forbidden, match="pods/binding"):
        await registry.patch(service_account(NS, "stranger"), Pod.INFO, "p", sent, NS, subresource="binding")
