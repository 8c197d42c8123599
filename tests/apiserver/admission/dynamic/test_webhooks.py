"""Webhooks on a real registry, asked over real HTTPS: what they see, what they change, what they refuse, what fails."""

import asyncio
import contextlib

import pytest

from headrace.api import _wire
from headrace.api.admissionregistration import MutatingWebhookConfiguration, ValidatingWebhookConfiguration
from headrace.api.apiextensions import CustomResourceDefinition
from headrace.api.apps import Deployment
from headrace.api.core import ConfigMap, Namespace, Pod
from headrace.api.errors import InternalError, Invalid, StatusError
from headrace.api.identity import ADMIN, service_account
from headrace.testing import embedded_cluster
from headrace.testing.webhook import http, patched, webhook_server

MUTATING, VALIDATING = MutatingWebhookConfiguration.INFO, ValidatingWebhookConfiguration.INFO
MAP = ConfigMap.INFO
NS = "default"
MAPS = {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}


@pytest.fixture
async def registry():
    async with embedded_cluster() as cluster:
        yield cluster.registry


@pytest.fixture
async def hook(tmp_path):
    async with webhook_server(tmp_path) as server:
        yield server


def webhook(hook, **more):
    return {
        "name": "hook.example.com",
        "clientConfig": {"url": hook.url, "caBundle": hook.bundle},
        "rules": [MAPS],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **more,
    }


async def configure(registry, kind, *webhooks, name="conf"):
    await registry.create(ADMIN, kind, {"metadata": {"name": name}, "webhooks": list(webhooks)})


async def make(registry, name="a", **more):
    body = {"metadata": {"name": name, **more.pop("metadata", {})}, **more}
    options = {k: body.pop(k) for k in ("warnings", "dry_run") if k in body}
    return _wire.decode_any(await registry.create(ADMIN, MAP, body, NS, **options))


async def test_what_a_webhook_is_sent(registry, hook):
    await configure(registry, VALIDATING, webhook(hook))
    made = await make(registry, data={"k": "v"})
    (review,) = hook.reviews
    assert (review["kind"], review["apiVersion"]) == ("AdmissionReview", "admission.k8s.io/v1")
    request = review["request"]
    assert request.pop("uid")
    sent = request.pop("object")
    assert (sent["apiVersion"], sent["kind"], sent["data"]) == ("v1", "ConfigMap", {"k": "v"})
    assert sent["metadata"]["uid"] == made["metadata"]["uid"]
    assert request == {
        "kind": {"group": "", "version": "v1", "kind": "ConfigMap"},
        "resource": {"group": "", "version": "v1", "resource": "configmaps"},
        "requestKind": {"group": "", "version": "v1", "kind": "ConfigMap"},
        "requestResource": {"group": "", "version": "v1", "resource": "configmaps"},
        "name": "a",
        "namespace": NS,
        "operation": "CREATE",
        "userInfo": {"username": ADMIN.name, "groups": list(ADMIN.groups)},
        "oldObject": None,
        "dryRun": False,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    }
    assert "authorization" not in hook.headers[0].lower()
    await registry.patch(ADMIN, MAP, "a", {"data": {"k": "w"}}, NS, dry_run=True)
    await registry.delete(ADMIN, MAP, "a", NS)
    update, delete = (r["request"] for r in hook.reviews[1:])
    assert (update["operation"], update["dryRun"], update["options"]["dryRun"]) == ("UPDATE", True, ["All"])
    assert (update["oldObject"]["data"], update["object"]["data"]) == ({"k": "v"}, {"k": "w"})
    assert (delete["operation"], delete["object"], delete["oldObject"]["data"]) == ("DELETE", None, {"k": "v"})


async def test_a_refusal_is_told_as_the_webhook_says_it(registry, hook):
    await configure(registry, VALIDATING, webhook(hook))
    hook.answer = lambda _: {"allowed": False, "status": {"message": "not today", "code": 409, "reason": "Conflict"}}
    with pytest.raises(StatusError) as refused:
        await make(registry)
    status = refused.value.to_status()
    assert status["message"] == 'admission webhook "hook.example.com" denied the request: not today'
    assert (status["code"], status["reason"]) == (409, "Conflict")
    hook.answer = lambda _: {"allowed": False}
    with pytest.raises(StatusError, match="denied the request without explanation") as refused:
        await make(registry)
    assert refused.value.to_status()["code"] == 403
    hook.answer = lambda _: {"allowed": True}
    await make(registry)
    hook.answer = lambda request: {"allowed": request["operation"] != "DELETE"}
    with pytest.raises(StatusError, match="denied the request"):
        await registry.delete(ADMIN, MAP, "a", NS)
    assert await registry.get(ADMIN, MAP, "a", NS)


async def test_a_patch_changes_the_object_and_is_checked(registry, hook):
    await configure(registry, MUTATING, webhook(hook))
    hook.answer = lambda _: patched(
        {"op": "add", "path": "/data", "value": {"from": "webhook"}},
        {"op": "add", "path": "/metadata/labels", "value": {"seen": "yes"}},
        {"op": "replace", "path": "/metadata/uid", "value": "forged"},
    )
    made = await make(registry)
    assert made["data"] == {"from": "webhook"}
    assert made["metadata"]["labels"] == {"seen": "yes"}
    assert made["metadata"]["uid"] != "forged"
    hook.answer = lambda _: patched({"op": "replace", "path": "/data/from", "value": "update"})
    changed = _wire.decode_any(await registry.patch(ADMIN, MAP, "a", {"data": {"more": "1"}}, NS))
    assert changed["data"] == {"from": "update", "more": "1"}
    hook.answer = lambda _: patched({"op": "add", "path": "/metadata/labels", "value": {"a": "not a label!"}})
    with pytest.raises(Invalid, match="a valid label"):
        await make(registry, "b")
    hook.answer = lambda _: patched({"op": "remove", "path": "/nope"})
    with pytest.raises(InternalError, match=r'failed calling webhook "hook\.example\.com"'):
        await make(registry, "b")


async def test_warnings_reach_the_client(registry, hook):
    await configure(registry, VALIDATING, webhook(hook))
    hook.answer = lambda _: {"allowed": True, "warnings": ["mind the gap"]}
    warnings: list[str] = []
    await make(registry, warnings=warnings)
    assert warnings == ["mind the gap"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (http(b"gone", "503 Service Unavailable"), "the server answered 503: gone"),
        (http(b"{"), "the answer is not JSON"),
        (http(b"[]"), "the answer is no AdmissionReview"),
        (
            http(b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1"}'),
            "expected webhook response of",
        ),
        (http(b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}'), "webhook response was absent"),
        ({"allowed": True, "uid": "other"}, "expected response.uid"),
        (http(b"{}", "302 Found\r\nLocation: https://localhost/"), "the server answered 302"),
    ],
)
async def test_a_webhook_that_fails(registry, hook, answer, why):
    hook.answer = lambda _: answer
    await configure(registry, VALIDATING, webhook(hook))
    with pytest.raises(InternalError) as failed:
        await make(registry)
    assert failed.value.message.startswith(
        'Internal error occurred: failed calling webhook "hook.example.com": failed to call webhook: '
    )
    assert why in failed.value.message
    await registry.patch(ADMIN, VALIDATING, "conf", {"webhooks": [webhook(hook, failurePolicy="Ignore")]})
    await make(registry)


async def test_a_webhook_without_the_right_certificate_or_that_is_not_there(registry, hook):
    other = webhook(hook)
    del other["clientConfig"]["caBundle"]
    await configure(registry, VALIDATING, other)
    with pytest.raises(InternalError, match=r"failed to call webhook: Post .*certificate verify failed"):
        await make(registry)
    await registry.patch(
        ADMIN, VALIDATING, "conf", {"webhooks": [webhook(hook, clientConfig={"url": "https://localhost:1/"})]}
    )
    with pytest.raises(InternalError, match=r"failed to call webhook: Post \"https://localhost:1/\?timeout=10s\""):
        await make(registry)
    assert hook.reviews == []


async def test_a_webhook_that_takes_too_long(registry, hook):
    hook.answer = lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
    await configure(registry, VALIDATING, webhook(hook, timeoutSeconds=1))
    with pytest.raises(InternalError, match="context deadline exceeded"):
        await make(registry)


async def test_a_service_is_reached_through_the_pod_network(registry, hook):
    service = {"name": "hook", "namespace": "default", "path": "/check"}
    client = {"service": service, "caBundle": hook.bundle}
    await configure(registry, VALIDATING, webhook(hook, clientConfig=client))
    with pytest.raises(InternalError, match="no pod network is up here"):
        await make(registry)
    registry.gate.dialer = hook
    await make(registry)
    assert hook.paths == ["/check"]
    wrong = webhook(hook, clientConfig={**client, "service": {**service, "port": 8443}})
    await registry.patch(ADMIN, VALIDATING, "conf", {"webhooks": [wrong]})
    with pytest.raises(InternalError, match="there is no service hook.default:8443".replace(".", r"\.")):
        await make(registry, "b")


@pytest.mark.parametrize(
    ("more", "asked"),
    [
        ({}, True),
        ({"rules": [{**MAPS, "operations": ["UPDATE"]}]}, False),
        ({"rules": [{**MAPS, "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}]}, True),
        ({"rules": [{**MAPS, "resources": ["configmaps/*"]}]}, True),
        ({"rules": [{**MAPS, "resources": ["configmaps/status"]}]}, False),
        ({"rules": [{**MAPS, "resources": ["secrets"]}]}, False),
        ({"rules": [{**MAPS, "scope": "Cluster"}]}, False),
        ({"objectSelector": {"matchLabels": {"watched": "yes"}}}, True),
        ({"objectSelector": {"matchExpressions": [{"key": "watched", "operator": "DoesNotExist"}]}}, False),
        ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}, True),
        ({"namespaceSelector": {"matchExpressions": [{"key": "x", "operator": "In", "values": ["y"]}]}}, False),
        ({"matchConditions": [{"name": "c", "expression": "object.metadata.name == 'a'"}]}, True),
        ({"matchConditions": [{"name": "c", "expression": "request.userInfo.username.startsWith('system:')"}]}, False),
        (
            {
                "matchConditions": [
                    {"name": "fails", "expression": "object.nope.nope"},
                    {"name": "no", "expression": "request.operation == 'DELETE'"},
                ]
            },
            False,
        ),
        (
            {"matchConditions": [{"name": "c", "expression": "authorizer.requestResource.check('create').allowed()"}]},
            True,
        ),
    ],
)
async def test_who_is_asked(registry, hook, more, asked):
    await configure(registry, VALIDATING, webhook(hook, **more))
    await make(registry, metadata={"labels": {"watched": "yes"}})
    assert len(hook.reviews) == asked


async def test_a_condition_that_fails_refuses_unless_failures_are_ignored(registry, hook):
    conditions = [{"name": "c", "expression": "object.nope == 1"}]
    await configure(registry, VALIDATING, webhook(hook, matchConditions=conditions))
    with pytest.raises(StatusError, match="resulted in error: no such key: nope"):
        await make(registry)
    ignoring = webhook(hook, matchConditions=conditions, failurePolicy="Ignore")
    await registry.patch(ADMIN, VALIDATING, "conf", {"webhooks": [ignoring]})
    await make(registry)
    assert hook.reviews == []


async def test_webhooks_may_ask_again_for_what_others_changed(registry, hook):
    def answer(request):
        data = request["object"].get("data") or {}
        name = hook.paths[-1].rpartition("/")[2]
        return patched({"op": "add", "path": "/data", "value": {**data, name: str(int(data.get(name, "0")) + 1)}})

    hook.answer = answer
    entries = [
        webhook(
            hook,
            name=f"{name}.example.com",
            clientConfig={"url": f"{hook.url}/{name}", "caBundle": hook.bundle},
            reinvocationPolicy=policy,
        )
        for name, policy in (("a", "IfNeeded"), ("b", "Never"), ("c", "IfNeeded"))
    ]
    await configure(registry, MUTATING, *entries)
    assert (await make(registry))["data"] == {"a": "2", "b": "1", "c": "1"}


async def test_admission_itself_is_not_subject_to_webhooks(registry, hook):
    everything = {**MAPS, "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}
    hook.answer = lambda _: {"allowed": False}
    await configure(registry, VALIDATING, webhook(hook, rules=[everything]))
    with pytest.raises(StatusError, match="denied the request"):
        await make(registry)
    await registry.delete(ADMIN, VALIDATING, "conf")
    await make(registry)


async def test_equivalent_versions_are_sent_in_the_version_that_is_asked_for(registry, hook):
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    versions = [
        {"name": n, "served": True, "storage": n == "v1", "schema": {"openAPIV3Schema": schema}} for n in ("v1", "v2")
    ]
    spec = {
        "group": "t.dev",
        "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing"},
        "versions": versions,
    }
    await registry.create(ADMIN, CustomResourceDefinition.INFO, {"metadata": {"name": "things.t.dev"}, "spec": spec})
    rule = {"operations": ["CREATE"], "apiGroups": ["t.dev"], "apiVersions": ["v1"], "resources": ["things"]}
    await configure(registry, VALIDATING, webhook(hook, rules=[rule]))
    info = registry.kinds.lookup("t.dev", "v2", "things")
    await registry.create(ADMIN, info, {"metadata": {"name": "x"}}, NS)
    (review,) = hook.reviews
    request = review["request"]
    assert request["kind"]["version"] == "v1"
    assert request["requestKind"]["version"] == "v2"
    assert request["object"]["apiVersion"] == "t.dev/v1"
    exact = webhook(hook, rules=[rule], matchPolicy="Exact")
    await registry.patch(ADMIN, VALIDATING, "conf", {"webhooks": [exact]})
    await registry.create(ADMIN, info, {"metadata": {"name": "y"}}, NS)
    assert len(hook.reviews) == 1


async def test_parts_of_objects_are_matched_by_their_name(registry, hook):
    container = {"name": "c", "image": "i"}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}}
    body = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    await registry.create(ADMIN, Deployment.INFO, body, NS)
    rule = {"operations": ["*"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments/*"]}
    await configure(
        registry, VALIDATING, webhook(hook, rules=[{**rule, "resources": ["deployments/status", "*/scale"]}])
    )
    await registry.patch(ADMIN, Deployment.INFO, "d", {"metadata": {"labels": {"x": "y"}}}, NS)
    assert hook.reviews == []
    await registry.patch(ADMIN, Deployment.INFO, "d", {"status": {"replicas": 1}}, NS, subresource="status")
    await registry.patch(ADMIN, Deployment.INFO, "d", {"spec": {"replicas": 2}}, NS, subresource="scale")
    status, scale = (r["request"] for r in hook.reviews)
    assert (status["subResource"], status["object"]["kind"]) == ("status", "Deployment")
    assert (scale["subResource"], scale["kind"]["kind"]) == ("scale", "Scale")
    assert scale["object"]["spec"] == {"replicas": 2}
    hook.answer = lambda _: {"allowed": False}
    with pytest.raises(StatusError, match="denied the request"):
        await registry.patch(ADMIN, Deployment.INFO, "d", {"spec": {"replicas": 3}}, NS, subresource="scale")


async def test_permission_comes_before_webhooks(registry, hook):
    await configure(registry, VALIDATING, webhook(hook))
    stranger = service_account("default", "stranger")
    with pytest.raises(StatusError, match='cannot create resource "configmaps"'):
        await registry.create(stranger, MAP, {"metadata": {"name": "a"}}, NS)
    with pytest.raises(StatusError, match='cannot create resource "validatingwebhookconfigurations"'):
        await registry.create(stranger, VALIDATING, {"metadata": {"name": "b"}})
    assert hook.reviews == []


async def test_writers_at_the_same_time_are_all_asked(registry, hook):
    await configure(registry, VALIDATING, webhook(hook))
    await make(registry, data={"n": "0"})

    async def add(key):
        await registry.patch(ADMIN, MAP, "a", {"data": {key: "1"}}, NS)

    await asyncio.gather(*(add(f"k{i}") for i in range(8)))
    data = _wire.decode_any(await registry.get(ADMIN, MAP, "a", NS))["data"]
    assert set(data) == {"n", *(f"k{i}" for i in range(8))}


async def test_a_refused_write_gives_back_what_it_had_taken(registry, hook):
    from headrace.api.limits import ResourceQuota

    await registry.create(
        ADMIN, ResourceQuota.INFO, {"metadata": {"name": "q"}, "spec": {"hard": {"configmaps": "1"}}}, NS
    )
    await configure(registry, VALIDATING, webhook(hook))
    hook.answer = lambda _: {"allowed": False}
    for _ in range(2):
        with pytest.raises(StatusError, match="denied the request"):
            await make(registry)
    hook.answer = lambda _: {"allowed": True}
    await make(registry)


async def test_a_pod_that_comes_to_its_node_with_its_status_is_asked_about_twice(registry, hook):
    body = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    made = _wire.decode_any(await registry.create(ADMIN, Pod.INFO, body, NS))
    rule = {**MAPS, "resources": ["pods", "pods/status"]}
    await configure(registry, VALIDATING, webhook(hook, rules=[rule]))
    sent = {
        "metadata": {"resourceVersion": made["metadata"]["resourceVersion"]},
        "spec": {"nodeName": "n"},
        "status": {"phase": "Running"},
    }
    found = _wire.decode_any(await registry.patch(ADMIN, Pod.INFO, "p", sent, NS, subresource="binding"))
    assert (found["spec"]["nodeName"], found["status"]["phase"]) == ("n", "Running")
    asked = [(r["request"].get("subResource"), r["request"]["object"]["status"]["phase"]) for r in hook.reviews]
    assert asked == [(None, "Pending"), ("status", "Running")]


async def test_nothing_is_asked_or_loaded_without_configurations(registry, hook):
    assert not registry.gate.active
    await configure(registry, VALIDATING, webhook(hook))
    assert registry.gate.active
    await registry.delete(ADMIN, VALIDATING, "conf")
    assert not registry.gate.active


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "short"}, "webhooks[0].name"),
        ({"clientConfig": {}}, "webhooks[0].clientConfig"),
        ({"clientConfig": {"url": "http://x/"}}, "webhooks[0].clientConfig.url"),
        ({"clientConfig": {"url": "https://u:p@x/?a=b"}}, "webhooks[0].clientConfig.url"),
        ({"clientConfig": {"service": {"name": "", "namespace": "x"}}}, "webhooks[0].clientConfig.service.name"),
        ({"sideEffects": "Some"}, "webhooks[0].sideEffects"),
        ({"admissionReviewVersions": ["v1beta1"]}, "webhooks[0].admissionReviewVersions"),
        ({"timeoutSeconds": 31}, "webhooks[0].timeoutSeconds"),
        ({"failurePolicy": "Maybe"}, "webhooks[0].failurePolicy"),
        ({"rules": [{**MAPS, "operations": ["READ"]}]}, "webhooks[0].rules[0].operations[0]"),
        ({"rules": [{**MAPS, "apiGroups": ["*", "apps"]}]}, "webhooks[0].rules[0].apiGroups"),
        ({"matchConditions": [{"name": "c", "expression": "nope"}]}, "webhooks[0].matchConditions[0].expression"),
        ({"matchConditions": [{"name": "c", "expression": "1"}]}, "webhooks[0].matchConditions[0].expression"),
    ],
)
async def test_faulty_configurations(registry, hook, change, field):
    with pytest.raises(Invalid) as refused:
        await configure(registry, VALIDATING, webhook(hook, **change))
    assert field in [c.field for c in refused.value.causes]


async def test_a_namespace_is_matched_by_its_own_labels(registry, hook):
    rule = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["namespaces"]}
    selector = {"matchLabels": {"team": "x"}}
    await configure(registry, VALIDATING, webhook(hook, rules=[rule], namespaceSelector=selector))
    await registry.create(ADMIN, Namespace.INFO, {"metadata": {"name": "plain"}})
    await registry.create(ADMIN, Namespace.INFO, {"metadata": {"name": "team", "labels": {"team": "x"}}})
    assert [r["request"]["name"] for r in hook.reviews] == ["team"]
    with contextlib.suppress(StatusError):
        await registry.delete(ADMIN, Namespace.INFO, "plain")
