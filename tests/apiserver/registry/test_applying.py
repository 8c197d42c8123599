"""Server-side apply and managedFields through the registry: what clients send, what is stored."""

import datetime as dt

import pytest

from headrace.api import _wire
from headrace.api.apiextensions import CustomResourceDefinition
from headrace.api.apps import Deployment
from headrace.api.core import ConfigMap, Namespace, Pod, Service
from headrace.api.errors import BadRequest, Conflict, Forbidden, Invalid, NotFound
from headrace.api.identity import ADMIN, component, service_account
from headrace.api.meta import KindInfo, ObjectMeta
from headrace.api.rbac import PolicyRule, Role, RoleBinding, RoleRef, Subject
from headrace.client.base import PatchType
from headrace.testing import embedded_cluster
from headrace.testing.clock import FakeClock

NS = "default"
WIDGET = KindInfo("example.com", "v1", "Widget", "widgets", subresources=frozenset({"status", "scale"}))

AUTOSCALER_V1 = ("autoscaling", "v1", "HorizontalPodAutoscaler")


@pytest.fixture
async def cluster():
    async with embedded_cluster(clock=FakeClock()) as made:
        yield made


class Api:
    def __init__(self, cluster):
        self.registry, self.clock = cluster.registry, cluster.clock

    async def apply(self, info, config, manager="app", *, user=ADMIN, **options):
        meta = config["metadata"]
        raw, _ = await self.registry.apply(user, info, meta["name"], config, NS, field_manager=manager, **options)
        return _wire.decode_any(raw)

    async def create(self, info, body, manager="maker"):
        return _wire.decode_any(await self.registry.create(ADMIN, info, body, NS, field_manager=manager))

    async def patch(self, info, name, patch, manager="patcher", **options):
        raw = await self.registry.patch(ADMIN, info, name, patch, NS, field_manager=manager, **options)
        return _wire.decode_any(raw)

    async def get(self, info, name):
        return _wire.decode_any(await self.registry.get(ADMIN, info, name, NS))


@pytest.fixture
def api(cluster):
    return Api(cluster)


def config_map(name="c", **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def owned(obj):
    """Field sets by manager, operation and subresource."""
    return {
        "/".join(filter(None, (e["manager"], e["operation"], e.get("subresource")))): e["fieldsV1"]
        for e in obj["metadata"].get("managedFields", [])
    }


def fields(*names):
    return {f"f:{name}": {} for name in names}


def widgets(spec, *versions):
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": {"type": "object"}}}}
    schema["openAPIV3Schema"]["properties"]["status"]["x-kubernetes-preserve-unknown-fields"] = True
    scale = {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}
    return {
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "names": {"plural": "widgets", "kind": "Widget"},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": version == "v1",
                    "schema": schema,
                    "subresources": {"status": {}, "scale": scale},
                }
                for version in versions or ("v1",)
            ],
        },
    }


SIZED = {"type": "object", "properties": {"size": {"type": "integer"}, "color": {"type": "string", "default": "red"}}}


def widget(api_version="example.com/v1", **spec):
    return {"apiVersion": api_version, "kind": "Widget", "metadata": {"name": "w"}, "spec": spec}


async def test_creating_tracks_what_was_sent_and_what_was_filled_in(api):
    body = {
        "metadata": {"name": "s", "labels": {"a": "b"}, "finalizers": ["x.y/z"]},
        "spec": {"ports": [{"port": 80}], "selector": {"app": "x"}},
        "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}},
    }
    made = await api.create(Service.INFO, body)
    (entry,) = made["metadata"]["managedFields"]
    assert {k: v for k, v in entry.items() if k != "fieldsV1"} == {
        "manager": "maker",
        "operation": "Update",
        "apiVersion": "v1",
        "time": made["metadata"]["creationTimestamp"],
        "fieldsType": "FieldsV1",
    }
    fields_v1 = entry["fieldsV1"]
    assert fields_v1["f:metadata"] == {
        "f:labels": {".": {}, "f:a": {}},
        "f:finalizers": {".": {}, 'v:"x.y/z"': {}},
    }
    port = fields_v1["f:spec"]["f:ports"]['k:{"port":80,"protocol":"TCP"}']
    assert port == {".": {}, **fields("port", "protocol", "targetPort")}
    assert fields_v1["f:spec"]["f:selector"] == {}  # atomic
    assert "f:clusterIP" not in fields_v1["f:spec"]  # what the server allots belongs to nobody
    assert set(fields_v1) == {"f:metadata", "f:spec"}


async def test_structs_are_nobodys_and_pointers_are(api):
    body = {
        "metadata": {"name": "d"},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "1"}}}]},
            },
        },
    }
    spec = owned(await api.create(Deployment.INFO, body))["maker/Update"]["f:spec"]
    assert "." not in spec
    assert "." not in spec["f:template"]
    assert spec["f:strategy"] == {"f:type": {}, "f:rollingUpdate": {".": {}, **fields("maxSurge", "maxUnavailable")}}
    containers = spec["f:template"]["f:spec"]["f:containers"]
    assert set(containers) == {'k:{"name":"c"}'}
    container = containers['k:{"name":"c"}']
    assert container["."] == {}
    assert container["f:resources"] == {".": {}, "f:limits": {".": {}, "f:cpu": {}}}


async def test_every_way_to_change_an_object_transfers_ownership(api):
    made = await api.create(ConfigMap.INFO, config_map(a="1", b="1", c="1"), "maker")
    made["data"]["a"] = "2"
    await api.registry.update(ADMIN, ConfigMap.INFO, "c", made, NS, field_manager="putter")
    await api.patch(ConfigMap.INFO, "c", {"data": {"b": "2"}}, "merger")
    operations = [{"op": "remove", "path": "/data/c"}, {"op": "add", "path": "/data/d", "value": "1"}]
    found = await api.patch(ConfigMap.INFO, "c", operations, "json", patch_type=PatchType.JSON)
    assert owned(found) == {
        "maker/Update": {"f:data": {}},
        "putter/Update": {"f:data": fields("a")},
        "merger/Update": {"f:data": fields("b")},
        "json/Update": {"f:data": fields("d")},
    }


async def test_nothing_is_written_when_nothing_changes(api):
    made = await api.apply(ConfigMap.INFO, config_map(a="1"))
    api.clock.step(60)
    assert await api.apply(ConfigMap.INFO, config_map(a="1")) == made
    assert await api.patch(ConfigMap.INFO, "c", {"data": {"a": "1"}}) == made
    shared = await api.apply(ConfigMap.INFO, config_map(a="1"), "other")
    assert shared["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]
    times = {e["manager"]: e["time"] for e in shared["metadata"]["managedFields"]}
    first = dt.datetime.fromisoformat(times["app"])
    assert dt.datetime.fromisoformat(times["other"]) - first == dt.timedelta(seconds=60)


async def test_conflicts_say_who_and_what(api):
    await api.apply(ConfigMap.INFO, config_map(a="1", b="1"), "one")
    await api.patch(ConfigMap.INFO, "c", {"data": {"b": "2"}}, "two")
    with pytest.raises(Conflict) as found:
        await api.apply(ConfigMap.INFO, config_map(a="3", b="3"), "three")
    time = (await api.get(ConfigMap.INFO, "c"))["metadata"]["managedFields"][1]["time"]
    assert found.value.message == (
        'Apply failed with 2 conflicts: conflicts with "one":\n- .data.a\n'
        f'conflicts with "two" using v1 at {time}:\n- .data.b'
    )
    assert {(c.field, c.reason) for c in found.value.causes} == {
        (".data.a", "FieldManagerConflict"),
        (".data.b", "FieldManagerConflict"),
    }
    forced = await api.apply(ConfigMap.INFO, config_map(a="3", b="3"), "three", force=True)
    assert owned(forced) == {"three/Apply": {"f:data": fields("a", "b")}}


async def test_a_dry_run_leaves_no_trace(api):
    raw, new = await api.registry.apply(
        ADMIN, ConfigMap.INFO, "c", config_map(a="1"), NS, field_manager="app", dry_run=True
    )
    assert (new, _wire.decode_any(raw)["data"]) == (True, {"a": "1"})
    with pytest.raises(NotFound):
        await api.get(ConfigMap.INFO, "c")
    made = await api.apply(ConfigMap.INFO, config_map(a="1"))
    tried = await api.apply(ConfigMap.INFO, config_map(b="1"), dry_run=True)
    assert tried["data"] == {"b": "1"}
    assert await api.get(ConfigMap.INFO, "c") == made


@pytest.mark.parametrize(
    ("config", "error", "why"),
    [
        ({**config_map(), "kind": "Secret"}, BadRequest, "kind in the data"),
        ({**config_map(), "apiVersion": "v2"}, BadRequest, "API version in the data"),
        ({**config_map(), "dota": {}}, BadRequest, r"\.dota: field not declared in schema"),
        (config_map(a=1), BadRequest, r"\.data\.a: expected string"),
        ({**config_map(), "metadata": {"name": "c", "managedFields": []}}, BadRequest, "managedFields must be nil"),
        ({**config_map(), "metadata": {"name": "c", "uid": "x"}}, Conflict, "uid mismatch"),
        ({**config_map(), "metadata": {"name": "c", "resourceVersion": "5"}}, BadRequest, "resourceVersion"),
        ({**config_map(), "metadata": {"name": "c", "labels": {"a": "not good"}}}, Invalid, "a valid label"),
    ],
)
async def test_what_cannot_be_applied(api, config, error, why):
    with pytest.raises(error, match=why):
        await api.apply(ConfigMap.INFO, config)


async def test_preconditions(api):
    made = await api.apply(ConfigMap.INFO, config_map(a="1"))
    meta = {"name": "c", "resourceVersion": made["metadata"]["resourceVersion"], "uid": made["metadata"]["uid"]}
    await api.apply(ConfigMap.INFO, {**config_map(a="2"), "metadata": meta})
    with pytest.raises(Conflict, match="has been modified"):
        await api.apply(ConfigMap.INFO, {**config_map(a="3"), "metadata": meta})
    with pytest.raises(Conflict, match="UID"):
        await api.apply(ConfigMap.INFO, {**config_map(a="3"), "metadata": {"name": "c", "uid": "other"}})


async def test_creating_by_apply_needs_the_right_to_create(api, cluster):
    user = service_account(NS, "robot")
    rules = [PolicyRule(api_groups=[""], resources=["configmaps"], verbs=["get", "patch"])]
    await cluster.client.create(Role(metadata=ObjectMeta(name="r", namespace=NS), rules=rules))
    await cluster.client.create(
        RoleBinding(
            metadata=ObjectMeta(name="r", namespace=NS),
            role_ref=RoleRef(api_group="rbac.authorization.k8s.io", kind="Role", name="r"),
            subjects=[Subject(kind="ServiceAccount", name="robot", namespace=NS)],
        )
    )
    with pytest.raises(Forbidden, match="cannot create"):
        await api.apply(ConfigMap.INFO, config_map(a="1"), user=user)
    await api.apply(ConfigMap.INFO, config_map(a="1"), "admin")
    assert (await api.apply(ConfigMap.INFO, config_map(b="1"), user=user))["data"] == {"a": "1", "b": "1"}
    with pytest.raises(Forbidden, match="cannot patch"):
        await api.apply(ConfigMap.INFO, config_map("d"), user=service_account(NS, "nobody"))


async def test_resets_and_what_follows(api):
    await api.create(ConfigMap.INFO, config_map(a="1"))
    found = await api.patch(ConfigMap.INFO, "c", {"metadata": {"managedFields": [{}]}})
    assert "managedFields" not in found["metadata"]
    found = await api.patch(ConfigMap.INFO, "c", {"data": {"b": "2"}})
    assert "managedFields" not in found["metadata"]
    found = await api.apply(ConfigMap.INFO, config_map(c="3"))
    assert owned(found) == {
        "app/Apply": {"f:data": fields("c")},
        "before-first-apply/Update": {"f:data": {".": {}, **fields("a", "b")}},
    }
    with pytest.raises(Conflict, match="before-first-apply"):
        await api.apply(ConfigMap.INFO, config_map(a="3"))


async def test_managed_fields_that_clients_send(api):
    made = await api.create(ConfigMap.INFO, config_map(a="1"))
    entry = made["metadata"]["managedFields"][0]

    async def put(managed):
        changed = await api.get(ConfigMap.INFO, "c")
        changed["metadata"]["managedFields"] = managed
        raw = await api.registry.update(ADMIN, ConfigMap.INFO, "c", changed, NS)
        return owned(_wire.decode_any(raw))

    assert await put([{**entry, "manager": "renamed"}]) == {"renamed/Update": entry["fieldsV1"]}
    assert await put([{**entry, "operation": "Nonsense"}]) == {"renamed/Update": entry["fieldsV1"]}
    assert await put([{**entry, "fieldsV1": {"nonsense": {}}}]) == {"renamed/Update": entry["fieldsV1"]}
    assert await put(None) == {"renamed/Update": entry["fieldsV1"]}
    assert await put([{**entry, "fieldsV1": {"f:data": {"f:zzz": {}}}}]) == {"maker/Update": {"f:data": fields("zzz")}}
    with pytest.raises(BadRequest):
        await put("everything")
    assert await put([]) == {}


async def test_status_has_managers_of_its_own(api):
    body = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    await api.create(Pod.INFO, body)
    ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    found = await api.patch(Pod.INFO, "p", ready, "kubelet", subresource="status")
    condition = {'k:{"type":"Ready"}': {".": {}, **fields("type", "status")}}
    assert owned(found)["kubelet/Update/status"] == {
        "f:status": {"f:phase": {}, "f:conditions": {".": {}, **condition}}
    }
    sent = {
        "metadata": {"name": "p", "labels": {"ignored": "yes"}, "managedFields": [{}]},
        "status": {"phase": "Failed"},
    }
    found = await api.patch(Pod.INFO, "p", sent, "kubelet", subresource="status")
    assert "labels" not in found["metadata"]
    assert set(owned(found)) == {"maker/Update", "kubelet/Update/status"}
    config = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    applied = {**config, "spec": {"nodeName": "n"}, "status": {"message": "hello"}}
    found = await api.apply(Pod.INFO, applied, "ctl", subresource="status")
    assert owned(found)["ctl/Apply/status"] == {"f:status": fields("message")}
    assert "nodeName" not in found["spec"]
    assert found["status"]["message"] == "hello"
    with pytest.raises(Conflict, match='conflict with "kubelet" with subresource "status" using v1'):
        await api.apply(Pod.INFO, {**config, "status": {"phase": "Running"}}, "ctl", subresource="status")
    found = await api.apply(Pod.INFO, {**config, "metadata": {"name": "p", "labels": {"a": "b"}}, "status": {}}, "ctl")
    assert owned(found)["ctl/Apply"] == {"f:metadata": {"f:labels": fields("a")}}
    with pytest.raises(NotFound):
        await api.apply(Pod.INFO, {**config, "metadata": {"name": "q"}}, "ctl", subresource="status")


async def test_scale(api):
    await api.registry.create(ADMIN, CustomResourceDefinition.INFO, widgets(SIZED))
    await api.apply(WIDGET, widget(size=2))
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "w"}, "spec": {"replicas": 5}}
    with pytest.raises(Conflict, match=r'conflict with "app": \.spec\.size'):
        await api.apply(WIDGET, scale, "hpa", subresource="scale")
    applied = await api.apply(WIDGET, scale, "hpa", subresource="scale", force=True)
    assert (applied["kind"], applied["spec"]) == ("Scale", {"replicas": 5})
    (entry,) = applied["metadata"]["managedFields"]
    assert (entry["manager"], entry["apiVersion"]) == ("hpa", "autoscaling/v1")
    assert entry["fieldsV1"] == {"f:spec": {"f:replicas": {}}}
    found = await api.get(WIDGET, "w")
    assert owned(found) == {
        "hpa/Apply/scale": {"f:spec": fields("size")},
    }
    await api.patch(WIDGET, "w", {"spec": {"replicas": 7}}, "kubectl", subresource="scale")
    found = await api.get(WIDGET, "w")
    assert (found["spec"]["size"], owned(found)) == (7, {"kubectl/Update/scale": {"f:spec": fields("size")}})


async def test_versions_of_a_custom_kind(api):
    await api.registry.create(ADMIN, CustomResourceDefinition.INFO, widgets(SIZED, "v1", "v2"))
    later = KindInfo("example.com", "v2", "Widget", "widgets", subresources=WIDGET.subresources)
    made = await api.apply(WIDGET, widget(size=2))
    assert made["spec"] == {"size": 2, "color": "red"}
    assert owned(made) == {"app/Apply": {"f:spec": fields("size")}}
    with pytest.raises(Conflict, match=r"\.spec\.size"):
        await api.apply(later, widget("example.com/v2", size=3), "other")
    found = await api.apply(later, widget("example.com/v2", color="blue"))
    assert found["spec"] == {"color": "blue"}  # what was applied as v1 goes, applied as v2
    (entry,) = found["metadata"]["managedFields"]
    assert (entry["apiVersion"], entry["fieldsV1"]) == ("example.com/v2", {"f:spec": fields("color")})


async def test_client_side_apply_that_becomes_server_side(api):
    body = config_map(a="1", b="1")
    body["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": _wire.encode(body).decode()}
    await api.create(ConfigMap.INFO, body, "kubectl-client-side-apply")
    await api.patch(ConfigMap.INFO, "c", {"data": {"b": "2"}}, "somebody")
    with pytest.raises(Conflict) as found:
        await api.apply(ConfigMap.INFO, config_map(a="3", b="3"), "kubectl")
    assert [c.field for c in found.value.causes] == [".data.b"]  # a is as client-side apply left it
    with pytest.raises(Conflict) as found:
        await api.apply(ConfigMap.INFO, config_map(a="3"), "not-kubectl")
    assert [c.field for c in found.value.causes] == [".data.a"]
    done = await api.apply(ConfigMap.INFO, config_map(a="3"), "kubectl")
    last = _wire.decode_any(done["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"])
    assert last["data"] == {"a": "3"}


async def test_components_write_under_their_own_names(api, cluster):
    client = cluster.client_for(component("notebooks"))
    await cluster.client.create(ConfigMap(metadata=ObjectMeta(name="c", namespace=NS), data={"a": "1"}))
    rules = [PolicyRule(api_groups=[""], resources=["configmaps"], verbs=["*"])]
    await cluster.client.create(Role(metadata=ObjectMeta(name="n", namespace=NS), rules=rules))
    await cluster.client.create(
        RoleBinding(
            metadata=ObjectMeta(name="n", namespace=NS),
            role_ref=RoleRef(api_group="rbac.authorization.k8s.io", kind="Role", name="n"),
            subjects=[Subject(kind="ServiceAccount", name="notebooks", namespace="kubeflow")],
        )
    )
    mine = await client.get(ConfigMap, "c", NS)
    mine.data["b"] = "2"
    await client.update(mine)  # knows nothing of managedFields, and does not lose them
    assert owned(await api.get(ConfigMap.INFO, "c")) == {
        "kubernetes-admin/Update": {"f:data": {".": {}, "f:a": {}}},
        "notebooks/Update": {"f:data": fields("b")},
    }


async def test_a_namespace(api):
    config = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "labels": {"a": "b"}}}
    raw, new = await api.registry.apply(ADMIN, Namespace.INFO, "n", config, field_manager="app")
    made = _wire.decode_any(raw)
    assert (new, made["status"]["phase"]) == (True, "Active")
    assert owned(made) == {"app/Apply": {"f:metadata": {"f:labels": fields("a")}}}
    raw, new = await api.registry.apply(ADMIN, Namespace.INFO, "n", config, field_manager="app")
    assert (new, _wire.decode_any(raw)) == (False, made)


async def test_a_built_in_kind_in_an_older_version(api):
    old = next(i for i in api.registry.kinds.all() if (i.group, i.version, i.kind) == AUTOSCALER_V1)
    config = {
        "apiVersion": "autoscaling/v1",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h"},
        "spec": {
            "maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
            "targetCPUUtilizationPercentage": 50,
        },
    }
    made = await api.apply(old, config)
    assert made["apiVersion"] == "autoscaling/v1"
    assert made["spec"]["targetCPUUtilizationPercentage"] == 50
    assert set(owned(made)["app/Apply"]["f:spec"]) == {"f:maxReplicas", "f:metrics", "f:scaleTargetRef"}
    assert await api.apply(old, config) == made
    config["spec"]["maxReplicas"] = 4
    with pytest.raises(Conflict, match=r"\.spec\.maxReplicas"):
        await api.apply(old, config, "other")
    assert (await api.apply(old, config))["spec"]["maxReplicas"] == 4
    with pytest.raises(BadRequest, match="field not declared"):
        await api.apply(old, {**config, "spec": {"metrics": []}})


async def test_names_that_contradict_each_other(api):
    await api.registry.create(ADMIN, CustomResourceDefinition.INFO, widgets(SIZED))
    await api.apply(WIDGET, widget(size=2))
    scale = {"metadata": {"name": "other"}, "spec": {"replicas": 5}}
    for config, part in ((scale, "scale"), (widget(size=3) | {"metadata": {"name": "other"}}, "")):
        with pytest.raises(BadRequest, match="does not match the name on the URL"):
            await api.registry.apply(ADMIN, WIDGET, "w", config, NS, field_manager="app", subresource=part)
    missing = KindInfo("example.com", "v1", "Widget", "widgets", subresources=frozenset({"status"}))
    with pytest.raises(NotFound, match='namespaces "nowhere" not found'):
        await api.registry.apply(ADMIN, missing, "w", widget(size=3), "nowhere", field_manager="app")
