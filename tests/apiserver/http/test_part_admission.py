"""Webhooks and policies are asked about parts of objects that are created (bindings, evictions, tokens), about reviews,
and their warnings about deletions and parts reach the client.
"""

import pytest

from headrace.api.admissionregistration import MutatingWebhookConfiguration, ValidatingWebhookConfiguration
from headrace.api.core import Node
from headrace.api.identity import ADMIN
from headrace.api.meta import ObjectMeta
from headrace.testing.webhook import patched, webhook_server

PODS = "/api/v1/namespaces/default/pods"
TOKEN = "/api/v1/namespaces/default/serviceaccounts/robot/token"
POD = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
BINDING = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}
EVICTION = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
SUBJECT = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@pytest.fixture
async def hook(tmp_path):
    async with webhook_server(tmp_path) as server:
        yield server


@pytest.fixture
async def pod(api):
    account = {"metadata": {"name": "robot"}}
    assert (await api("POST", "/api/v1/namespaces/default/serviceaccounts", account)).status == 201
    await api.cluster.client.create(Node(metadata=ObjectMeta(name="n")))
    assert (await api("POST", PODS, POD)).status == 201


async def configure(api, hook, kind, *resources, operation="CREATE"):
    rule = {"operations": [operation], "apiGroups": ["*"], "apiVersions": ["*"], "resources": list(resources)}
    webhook = {
        "name": "hook.example.com",
        "clientConfig": {"url": hook.url, "caBundle": hook.bundle},
        "rules": [rule],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    await api.cluster.registry.create(ADMIN, kind.INFO, {"metadata": {"name": "conf"}, "webhooks": [webhook]})


@pytest.mark.parametrize(
    "asked",
    [
        (f"{PODS}/p/binding", BINDING, "pods/binding", ("", "v1", "Binding")),
        (f"{PODS}/p/eviction", EVICTION, "pods/eviction", ("policy", "v1", "Eviction")),
        (TOKEN, {}, "serviceaccounts/token", ("authentication.k8s.io", "v1", "TokenRequest")),
    ],
)
async def test_parts_that_are_created_may_be_refused(api, pod, hook, asked):
    path, body, resource, kind = asked
    await configure(api, hook, ValidatingWebhookConfiguration, resource)
    hook.answer = lambda _: {"allowed": False, "status": {"message": "not today"}}
    refused = await api("POST", path, body)
    assert (refused.status, refused.json["message"]) == (
        403,
        'admission webhook "hook.example.com" denied the request: not today',
    )
    (review,) = hook.reviews
    request = review["request"]
    assert (request["operation"], request["subResource"], request["namespace"]) == (
        "CREATE",
        resource.split("/")[1],
        "default",
    )
    assert tuple(request["kind"].values()) == kind
    assert (request["object"]["kind"], request["options"]["kind"]) == (kind[2], "CreateOptions")
    assert (await api.get(f"{PODS}/p")).json["spec"].get("nodeName") is None
    hook.answer = lambda _: {"allowed": True, "warnings": ["mind the gap"]}
    allowed = await api("POST", path, body)
    assert (allowed.status, allowed.headers["Warning"]) == (201, '299 - "mind the gap"')


async def test_what_a_webhook_makes_of_a_part_counts(api, pod, hook):
    await configure(api, hook, MutatingWebhookConfiguration, "serviceaccounts/token", "pods/binding", "pods/eviction")
    hook.answer = lambda _: patched({"op": "replace", "path": "/spec/expirationSeconds", "value": 4242})
    made = await api("POST", TOKEN, {"spec": {"expirationSeconds": 600}})
    assert made.json["spec"]["expirationSeconds"] == 4242
    hook.answer = lambda _: patched({"op": "replace", "path": "/spec/expirationSeconds", "value": 1})
    assert (await api("POST", TOKEN, {})).status == 422
    hook.answer = lambda _: patched({"op": "replace", "path": "/target/name", "value": "other"})
    assert (await api("POST", f"{PODS}/p/binding", BINDING)).status == 201
    assert (await api.get(f"{PODS}/p")).json["spec"]["nodeName"] == "other"
    hook.answer = lambda _: patched({"op": "add", "path": "/deleteOptions", "value": {"dryRun": ["All"]}})
    assert (await api("POST", f"{PODS}/p/eviction", EVICTION)).status == 201
    assert "deletionTimestamp" in (await api.get(f"{PODS}/p")).json["metadata"]  # dryRun is the request's own


async def test_an_eviction_shows_its_options(api, pod, hook):
    await configure(api, hook, ValidatingWebhookConfiguration, "pods/eviction")
    body = {**EVICTION, "deleteOptions": {"gracePeriodSeconds": 5, "dryRun": ["All"]}}
    assert (await api("POST", f"{PODS}/p/eviction", body)).status == 201
    request = hook.reviews[0]["request"]
    assert request["object"]["deleteOptions"] == body["deleteOptions"]
    assert request["dryRun"] is True


async def test_reviews_are_shown_too(api, hook):
    await configure(api, hook, ValidatingWebhookConfiguration, "selfsubjectaccessreviews")
    question = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
    assert (await api("POST", SUBJECT, question)).json["status"]["allowed"] is True
    assert hook.reviews[0]["request"]["object"]["spec"] == question["spec"]
    hook.answer = lambda _: {"allowed": False}
    assert (await api("POST", SUBJECT, question)).status == 403


async def test_warnings_about_deletions(api, pod, hook):
    await configure(api, hook, ValidatingWebhookConfiguration, "pods", operation="DELETE")
    hook.answer = lambda _: {"allowed": True, "warnings": ["it will be missed"]}
    said = '299 - "it will be missed"'
    assert (await api("DELETE", f"{PODS}/p?dryRun=All")).status == 200
    assert (await api("DELETE", f"{PODS}/p")).headers["Warning"] == said
    assert (await api("POST", PODS, POD)).status == 201
    assert (await api("DELETE", PODS)).headers["Warning"] == said
    policy = {"metadata": {"name": "maps"}, "data": {}}
    maps = "/api/v1/namespaces/default/configmaps"
    assert (await api("POST", maps, policy)).status == 201
    assert "Warning" not in (await api("DELETE", f"{maps}/maps")).headers
