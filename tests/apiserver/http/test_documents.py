"""Discovery, OpenAPI, health: what clients read before they do anything."""

import pytest

from headrace.api.meta import KindInfo
from headrace.apiserver.discovery import version_rank
from headrace.apiserver.openapi import V2_PROTOBUF, V2_PROTOBUF_SENT
from headrace.apiserver.registry import Served

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


def widgets(version="v1"):
    info = KindInfo("example.com", version, "Widget", "widgets", short_names=("wd",), categories=("all",))
    spec = {"type": "object", "description": "What is wanted.", "properties": {"size": {"type": "integer"}}}
    schema = {"type": "object", "properties": {"spec": spec}}
    columns = ({"name": "Size", "type": "integer", "jsonPath": ".spec.size"},)
    return Served(info, "v1", custom=True, columns=columns, schema=schema)


def test_versions_are_ordered_as_kubernetes_does():
    wanted = ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"]
    assert sorted(set(wanted), key=version_rank) == wanted


async def test_group_lists(api):
    assert (await api.get("/api")).json["versions"] == ["v1"]
    groups = {g["name"]: g for g in (await api.get("/apis")).json["groups"]}
    assert groups["apps"]["preferredVersion"] == {"groupVersion": "apps/v1", "version": "v1"}
    assert (await api.get("/apis/apps")).json["kind"] == "APIGroup"
    assert (await api.get("/apis/nosuch")).status == 404


async def test_resource_lists(api):
    core = {r["name"]: r for r in (await api.get("/api/v1")).json["resources"]}
    assert core["pods"]["shortNames"] == ["po"]
    assert core["pods"]["verbs"] == ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
    assert core["serviceaccounts/token"]["kind"] == "TokenRequest"
    assert not core["nodes"]["namespaced"]
    reviews = (await api.get("/apis/authorization.k8s.io/v1")).json["resources"]
    assert {tuple(r["verbs"]) for r in reviews} == {("create",)}


async def test_aggregated_discovery(api):
    answer = await api.get("/apis", Accept=AGGREGATED)
    assert answer.headers["Content-Type"] == "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    groups = {i["metadata"]["name"]: i for i in answer.json["items"]}
    (version,) = groups["apps"]["versions"]
    deployments = next(r for r in version["resources"] if r["resource"] == "deployments")
    assert deployments["scope"] == "Namespaced"
    assert {s["subresource"] for s in deployments["subresources"]} == {"status", "scale"}
    again = await api.get("/apis", Accept=AGGREGATED, If_None_Match=answer.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    assert [i["versions"][0]["version"] for i in (await api.get("/api", Accept=AGGREGATED)).json["items"]] == ["v1"]
    assert (await api.get("/apis", Accept="application/json")).json["kind"] == "APIGroupList"
    assert (await api.get("/apis", Accept="application/vnd.kubernetes.protobuf")).status == 406


async def test_custom_kinds_appear_and_vanish(api, http):
    before = await api.get("/apis", Accept=AGGREGATED)
    hashed = (await api.get("/openapi/v3")).json["paths"]
    http.cluster.registry.kinds.add([widgets("v1beta1"), widgets()])
    after = await api.get("/apis", Accept=AGGREGATED, If_None_Match=before.headers["ETag"])
    (group,) = [i for i in after.json["items"] if i["metadata"]["name"] == "example.com"]
    assert [v["version"] for v in group["versions"]] == ["v1", "v1beta1"]
    assert "apis/example.com/v1" in (await api.get("/openapi/v3")).json["paths"]
    assert "apis/example.com/v1" not in hashed
    made = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 3}}
    path = "/apis/example.com/v1/namespaces/default/widgets"
    assert (await api("POST", path, made)).status == 201
    table = (await api.get(path, Accept="application/json;as=Table;v=v1;g=meta.k8s.io")).json
    assert table["rows"][0]["cells"] == ["w", 3]
    http.cluster.registry.kinds.remove("example.com", "widgets")
    assert (await api.get("/apis/example.com")).status == 404
    assert (await api.get(path)).status == 404


async def test_openapi_v3(api, http):
    http.cluster.registry.kinds.add([widgets()])
    paths = (await api.get("/openapi/v3")).json["paths"]
    document = (await api.get(paths["apis/apps/v1"]["serverRelativeURL"])).json
    assert document["openapi"] == "3.0.0"
    schemas = document["components"]["schemas"]
    gvk = {"group": "apps", "version": "v1", "kind": "Deployment"}
    assert gvk in schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"]
    patch = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert patch["x-kubernetes-group-version-kind"] == gvk
    assert {"dryRun", "fieldValidation"} <= {p["name"] for p in patch["parameters"]}
    assert "application/strategic-merge-patch+json" in patch["requestBody"]["content"]
    custom = (await api.get("/openapi/v3/apis/example.com/v1")).json
    (patch,) = [p["patch"] for p in custom["paths"].values() if "patch" in p and p["patch"]["x-kubernetes-action"]][:1]
    assert "application/strategic-merge-patch+json" not in patch["requestBody"]["content"]
    text = (await api.get("/openapi/v3/apis/example.com/v1")).body
    assert b"What is wanted." in text
    assert b"#/definitions/" not in text
    for referred in _references(custom):
        assert referred in custom["components"]["schemas"]


def _references(node):
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value.rpartition("/")[2]
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


async def test_openapi_v2(api):
    document = (await api.get("/openapi/v2", Accept="application/json")).json
    assert "io.k8s.api.core.v1.Pod" in document["definitions"]
    for_kubectl = await api.get("/openapi/v2", Accept=V2_PROTOBUF)
    assert (for_kubectl.status, for_kubectl.headers["Content-Type"]) == (200, V2_PROTOBUF_SENT)
    assert for_kubectl.body.startswith(b"\n\x032.0\x12")
    assert (await api.get("/openapi/v3", Accept="application/vnd.kubernetes.protobuf")).status == 406
    assert (await api.get("/openapi/v3/apis/nosuch/v1")).status == 404


async def test_version_and_paths(api):
    version = (await api.get("/version")).json
    assert version["gitVersion"].startswith("v1.32.")
    assert {"/api/v1", "/apis/apps/v1", "/openapi/v3", "/version"} <= set((await api.get("/")).json["paths"])


async def test_health(api):
    assert (await api.get("/livez")).body == b"ok"
    verbose = (await api.get("/readyz?verbose")).body.decode()
    assert "[+]store ok" in verbose
    assert verbose.endswith("readyz check passed\n")
    assert (await api.get("/readyz/store")).body == b"ok"
    assert (await api.get("/readyz/nosuch")).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_documents_are_read_only(api, method):
    assert (await api(method, "/version", b"")).status == 405
