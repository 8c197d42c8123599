"""Extension servers behind the API server: who may ask, what they are told, what is shown of them, their absence."""

import aiohttp
import pytest

from headrace.api.apiregistration import MANAGED_LABEL, APIService, APIServiceSpec
from headrace.api.core import Endpoints, Service
from headrace.api.errors import NotFound, ServiceUnavailable
from headrace.api.identity import ADMIN, service_account
from headrace.api.meta import ObjectMeta
from headrace.api.rbac import GROUP as RBAC
from headrace.apiserver.admission import rules
from headrace.controllermanager.apiservices import RegistrationController
from headrace.testing.eventually import eventually
from headrace.testing.http import http_cluster

NAME = "v1alpha1.wardle.example.com"
BASE = "/apis/wardle.example.com/v1alpha1"
FLUNDERS = f"{BASE}/namespaces/default/flunders"
FLUNDER = {"apiVersion": "wardle.example.com/v1alpha1", "kind": "Flunder", "metadata": {"name": "one"}, "spec": {}}


def allow(*verbs, resource="flunders"):
    meta = {"name": "flunders", "namespace": "default"}
    rule = {"apiGroups": ["wardle.example.com"], "resources": [resource], "verbs": list(verbs)}
    subject = {"kind": "ServiceAccount", "name": "robot", "namespace": "default"}
    role = {"apiGroup": RBAC, "kind": "Role", "name": "flunders"}
    return (
        {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": meta, "rules": [rule]},
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": role,
            "subjects": [subject],
        },
    )


async def test_what_this_server_answers_is_registered(world, admin):
    await world.condition("v1.", "True", "Local")
    found = await eventually(lambda: world.client.get(APIService, "v2.autoscaling"))
    assert (found.spec.group_priority_minimum, found.spec.version_priority) == (17500, 30)
    assert found.metadata.labels == {MANAGED_LABEL: "onstart"}
    names = {s.metadata.name for s in (await world.client.list(APIService)).items}
    groups = (await admin("GET", "/apis")).json["groups"]
    served = {v["groupVersion"] for g in groups for v in g["versions"]} - {"apiregistration.k8s.io/v1"}
    assert names == {"v1.", *(".".join(reversed(gv.split("/"))) for gv in served)}
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    table = (await admin("GET", "/apis/apiregistration.k8s.io/v1/apiservices", Accept=accept)).json
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Service", "Available", "Age"]
    assert all(row["cells"][1:3] == ["Local", "True"] for row in table["rows"])


async def test_custom_kinds_are_registered_while_there_are_any(world):
    names = {"plural": "gadgets", "kind": "Gadget", "singular": "gadget", "listKind": "GadgetList"}
    schema = {"openAPIV3Schema": {"type": "object"}}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "gadgets.tools.example.com"},
        "spec": {
            "group": "tools.example.com",
            "names": names,
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
    await world.create(crd)
    found = await eventually(lambda: world.client.get(APIService, "v1.tools.example.com"))
    assert found.metadata.labels == {MANAGED_LABEL: "true"}
    await world.client.delete(APIService, "v1.tools.example.com")

    async def again():
        made = await world.client.get(APIService, "v1.tools.example.com")
        return made.metadata.uid != found.metadata.uid

    await eventually(again)
    definition = world.registry.kinds.lookup("apiextensions.k8s.io", "v1", "customresourcedefinitions")
    await world.registry.delete(ADMIN, definition, "gadgets.tools.example.com")

    async def gone():
        return all(s.metadata.name != "v1.tools.example.com" for s in (await world.client.list(APIService)).items)

    await eventually(gone)


async def test_what_is_no_longer_answered_is_not_registered(tmp_path, pki):
    async with http_cluster(tmp_path, pki=pki) as http:
        client, manager = http.cluster.client, http.cluster.manager
        for name, labels in (("old", {MANAGED_LABEL: "onstart"}), ("lost", {MANAGED_LABEL: "true"}), ("mine", {})):
            spec = APIServiceSpec(group=name, version="v1", group_priority_minimum=1, version_priority=1)
            await client.create(APIService(metadata=ObjectMeta(name=f"v1.{name}", labels=labels), spec=spec))
        manager.add(RegistrationController(client, http.server.extensions), client)
        await manager.start()

        async def only_mine():
            groups = {s.spec.group for s in (await client.list(APIService)).items}
            return "mine" in groups and "apps" in groups and not groups & {"old", "lost"}

        await eventually(only_mine)


async def test_requests_are_passed_on_in_the_name_of_who_asks(world, user, wardle):
    await world.ready()
    refused = await user("POST", FLUNDERS, FLUNDER)
    assert refused.status == 403
    assert 'cannot create resource "flunders" in API group "wardle.example.com"' in refused.json["message"]
    assert not any(r.method == "POST" for r in wardle.asked)
    await world.create(*allow("create", "get", "watch"))
    made = await user("POST", FLUNDERS, FLUNDER, X_Remote_User="system:admin", X_Remote_Group="system:masters")
    assert made.status == 201
    groups = "system:serviceaccounts,system:serviceaccounts:default,system:authenticated"
    assert made.json["metadata"]["annotations"]["by"] == f"system:serviceaccount:default:robot:{groups}"
    (sent,) = [r.headers for r in wardle.asked if r.method == "POST"]
    assert "Authorization" not in sent
    assert sent.getall("X-Remote-User") == ["system:serviceaccount:default:robot"]
    assert (await user("GET", f"{FLUNDERS}/one")).json["metadata"]["name"] == "one"
    assert (await user("GET", FLUNDERS)).status == 403
    watched = await user("GET", f"{FLUNDERS}?watch=true")
    assert watched.json == {"type": "ADDED", "object": made.json}
    assert (await user("DELETE", f"{FLUNDERS}/one")).status == 403
    assert (await user("GET", f"{BASE}/namespaces/default/../../secrets/x")).status in {403, 404}


async def test_extra_of_the_user_and_impersonation_reach_the_server(world, admin, wardle):
    await world.ready()
    headers = {"Impersonate-User": "ann", "Impersonate-Group": "dev", "Impersonate-Extra-example.com%2Fteam": "blue"}
    assert (await admin("GET", FLUNDERS, **headers)).status == 403
    headers["Impersonate-Group"] = "system:masters"
    assert (await admin("GET", FLUNDERS, **headers)).status == 200
    sent = wardle.asked[-1].headers
    assert sent["X-Remote-User"] == "ann"
    assert sent.getall("X-Remote-Group") == ["system:masters", "system:authenticated"]
    assert sent["X-Remote-Extra-example.com%2Fteam"] == "blue"
    assert not any(name.lower().startswith("impersonate") for name in sent)


async def test_nobody_is_let_through(world, nobody, wardle):
    await world.ready()
    assert (await nobody("GET", FLUNDERS)).status == 401
    assert (await nobody("GET", BASE)).status == 401
    assert not any(r.path == FLUNDERS for r in wardle.asked)


async def test_a_websocket_to_the_server(world, user):
    await world.ready()
    path = f"{FLUNDERS}/one/connect"
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with user.session.ws_connect(path, protocols=("echo.example.com",)):
            pass
    assert refused.value.status == 403
    await world.create(*allow("get", resource="flunders/connect"))
    headers = {"X-Remote-User": "system:admin"}
    async with user.session.ws_connect(path, protocols=("echo.example.com",), headers=headers) as ws:
        assert ws.protocol == "echo.example.com"
        assert (await ws.receive_str()).startswith("system:serviceaccount:default:robot:system:serviceaccounts,")
        await ws.send_bytes(b"x" * 100_000)
        assert await ws.receive_bytes() == b"x" * 100_000


async def test_discovery_and_openapi_show_it_as_ones_own(world, admin, wardle):
    await world.ready()
    groups = (await admin("GET", "/apis")).json["groups"]
    (group,) = [g for g in groups if g["name"] == "wardle.example.com"]
    assert group["preferredVersion"] == {"groupVersion": "wardle.example.com/v1alpha1", "version": "v1alpha1"}
    assert (await admin("GET", "/apis/wardle.example.com")).json["versions"] == group["versions"]
    assert (await admin("GET", BASE)).json == wardle.documents[BASE]
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    items = (await admin("GET", "/apis", Accept=accept)).json["items"]
    (shown,) = [i for i in items if i["metadata"]["name"] == "wardle.example.com"]
    (version,) = shown["versions"]
    (resource,) = version["resources"]
    assert (version["freshness"], resource["resource"], resource["shortNames"]) == ("Current", "flunders", ["fl"])
    assert [s["subresource"] for s in resource["subresources"]] == ["status"]
    index = (await admin("GET", "/openapi/v3")).json["paths"]
    assert index["apis/wardle.example.com/v1alpha1"] == {"serverRelativeURL": f"/openapi/v3{BASE}?hash=1"}
    document = (await admin("GET", f"/openapi/v3{BASE}")).json
    assert document == wardle.documents[f"/openapi/v3{BASE}"]
    whole = (await admin("GET", "/openapi/v2")).json
    flunder = whole["definitions"]["com.example.wardle.v1alpha1.Flunder"]
    meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    assert flunder["properties"]["metadata"]["$ref"] == f"#/definitions/{meta}_v2"
    assert whole["definitions"][f"{meta}_v2"]["description"] == "another one"
    assert "creationTimestamp" in whole["definitions"][meta]["properties"]
    assert "unused" not in whole["definitions"]
    assert list(whole["paths"]) == [f"{BASE}/"]


async def test_parts_of_the_platform_ask_under_their_own_names(world, wardle):
    await world.ready()
    extensions, key, who = world.http.server.extensions, ("wardle.example.com", "v1alpha1"), service_account("a", "b")
    assert extensions.versions("wardle.example.com") == ["v1alpha1"]
    assert extensions.versions("custom.metrics.k8s.io") == []
    assert (await extensions.json(who, key, FLUNDERS))["kind"] == "FlunderList"
    assert wardle.asked[-1].headers["X-Remote-User"] == "system:serviceaccount:a:b"
    with pytest.raises(NotFound, match='"one" not found'):
        await extensions.json(who, key, f"{FLUNDERS}/one")
    with pytest.raises(NotFound):
        await extensions.json(who, ("apps", "v1"), "/apis/apps/v1/deployments")


async def test_what_is_in_a_namespace_is_deleted_with_it(world, admin, wardle):
    assert await world.http.server.extensions.clear("default") == {}
    await world.create(wardle.manifest)
    with pytest.raises(ServiceUnavailable, match=r"wardle\.example\.com/v1alpha1"):
        await world.http.server.extensions.clear("default")
    await world.create(*wardle.service())
    await world.condition(NAME, "True", "Passed")
    for name in ("one", "two"):
        assert (await admin("POST", FLUNDERS, {**FLUNDER, "metadata": {"name": name}})).status == 201
    wardle.kept = {"two"}
    assert await world.http.server.extensions.clear("default") == {"flunders.wardle.example.com": 1}
    wardle.kept = set()
    assert await world.http.server.extensions.clear("default") == {}
    assert not wardle.objects
    assert wardle.asked[-1].headers["X-Remote-User"] == "system:serviceaccount:kube-system:namespace-controller"


async def test_a_server_that_is_not_there(world, admin, wardle):
    await world.create(wardle.manifest)
    await world.condition(NAME, "False", "ServiceNotFound")
    answer = await admin("GET", FLUNDERS)
    assert (answer.status, answer.json["reason"]) == (503, "ServiceUnavailable")
    assert "ServiceNotFound" in answer.json["message"]
    service, endpoints = wardle.service()
    await world.create(service)
    await world.condition(NAME, "False", "EndpointsNotFound")
    await world.create({**endpoints, "subsets": []})
    await world.condition(NAME, "False", "MissingEndpoints")
    await world.client.patch(Endpoints, "wardle", {"subsets": endpoints["subsets"]}, "default")
    await world.condition(NAME, "True", "Passed")
    assert (await admin("GET", FLUNDERS)).status == 200
    ports = [{"port": 8443, "targetPort": wardle.port, "protocol": "TCP"}]
    await world.client.patch(Service, "wardle", {"spec": {"ports": ports}}, "default")
    found = await world.condition(NAME, "False", "ServicePortError")
    assert found.message == 'service/wardle in "default" is not listening on port 443'
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    items = (await admin("GET", "/apis", Accept=accept)).json["items"]
    (version,) = next(i["versions"] for i in items if i["metadata"]["name"] == "wardle.example.com")
    assert (version["freshness"], len(version["resources"])) == ("Stale", 1)
    await world.client.delete(APIService, NAME)
    assert (await admin("GET", FLUNDERS)).status == 404


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"caBundle": None}, "certificate"),
        ({"caBundle": "bm90IGEgY2VydGlmaWNhdGU="}, "its caBundle cannot be used"),
    ],
)
async def test_a_certificate_that_is_not_trusted(world, wardle, change, why):
    manifest = wardle.manifest
    manifest["spec"] |= change
    await world.create(*wardle.service(), manifest)
    found = await world.condition(NAME, "False", "FailedDiscoveryCheck")
    assert why in found.message
    assert not wardle.asked
    await world.client.patch(APIService, NAME, {"spec": {"caBundle": None, "insecureSkipTLSVerify": True}})
    await world.condition(NAME, "True", "Passed")


async def test_a_server_whose_documents_make_no_sense(world, wardle):
    wardle.documents[BASE] = {"resources": [1]}
    await world.create(*wardle.service(), wardle.manifest)
    found = await world.condition(NAME, "False", "FailedDiscoveryCheck")
    assert "no APIResourceList" in found.message


@pytest.mark.parametrize(
    ("spec", "name", "field"),
    [
        ({"group": "a.example.com"}, "v1.b.example.com", "metadata.name"),
        ({"groupPriorityMinimum": 0}, "v1.a.example.com", "spec.groupPriorityMinimum"),
        ({"versionPriority": 1001}, "v1.a.example.com", "spec.versionPriority"),
        ({"caBundle": "YQ=="}, "v1.a.example.com", "spec.caBundle"),
        ({"insecureSkipTLSVerify": True}, "v1.a.example.com", "spec.insecureSkipTLSVerify"),
        ({"service": {"name": "x"}}, "v1.a.example.com", "spec.service.namespace"),
        ({"group": "", "service": {"name": "x", "namespace": "y"}}, "v1.", "spec.service"),
    ],
)
def test_what_is_no_api_service(spec, name, field):
    whole = {"group": "a.example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 10, **spec}
    body = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name}, "spec": whole}
    assert field in [c.field for c in rules.check(APIService.INFO, body)]


def test_what_is_an_api_service():
    spec = {"group": "a.example.com", "version": "v1", "groupPriorityMinimum": 20000, "versionPriority": 1000}
    named = {"metadata": {"name": "v1.a.example.com"}}
    remote = {"service": {"name": "x", "namespace": "y", "port": 443}, "caBundle": "YQ=="}
    assert rules.check(APIService.INFO, {**named, "spec": spec}) == []
    assert rules.check(APIService.INFO, {**named, "spec": {**spec, **remote}}) == []
