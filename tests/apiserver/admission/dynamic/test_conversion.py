"""Conversion webhooks: objects stored in one version, read, watched and written in another; what goes wrong is told."""

import json

import pytest

from headrace.api import _wire
from headrace.api.admissionregistration import ValidatingWebhookConfiguration
from headrace.api.apiextensions import CustomResourceDefinition
from headrace.api.errors import InternalError, Invalid
from headrace.api.identity import ADMIN
from headrace.client.base import EventType
from headrace.testing import embedded_cluster
from headrace.testing.webhook import http, webhook_server

CRD = CustomResourceDefinition.INFO
NS = "default"


@pytest.fixture
async def registry():
    async with embedded_cluster() as cluster:
        yield cluster.registry


@pytest.fixture
async def hook(tmp_path):
    async with webhook_server(tmp_path) as server:
        server.answer = converted
        yield server


def up(obj):
    """v1 has `size`, v2 has `width` and `height`."""
    spec = dict(obj["spec"])
    if obj["apiVersion"] == "t.dev/v1":
        width, height = spec.pop("size").split("x")
        return {**obj, "apiVersion": "t.dev/v2", "spec": {**spec, "width": int(width), "height": int(height)}}
    return {**obj, "apiVersion": "t.dev/v1", "spec": {"size": f"{spec.pop('width')}x{spec.pop('height')}", **spec}}


def answer(uid, objects, **result):
    response = {"uid": uid, "convertedObjects": objects, "result": {"status": "Success", **result}}
    return http(
        json.dumps({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": response}).encode()
    )


def converted(request):
    made = [up(o) for o in request["objects"]]
    assert all(o["apiVersion"] == request["desiredAPIVersion"] for o in made)
    return answer(request["uid"], made)


def version(name, storage, **properties):
    spec = {"type": "object", "properties": properties, "required": [k for k in properties if k != "color"]}
    schema = {
        "type": "object",
        "properties": {"spec": spec, "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    parts = {"status": {}}
    return {
        "name": name,
        "served": True,
        "storage": storage,
        "schema": {"openAPIV3Schema": schema},
        "subresources": parts,
    }


def definition(hook, **conversion):
    number = {"type": "integer", "minimum": 1}
    webhook = {"clientConfig": {"url": hook.url, "caBundle": hook.bundle}, "conversionReviewVersions": ["v1"]}
    spec = {
        "group": "t.dev",
        "scope": "Namespaced",
        "names": {"plural": "boxes", "kind": "Box"},
        "versions": [
            version("v1", True, size={"type": "string"}),
            version("v2", False, width=number, height=number, color={"type": "string", "default": "red"}),
        ],
        "conversion": {"strategy": "Webhook", "webhook": {**webhook, **conversion}},
    }
    return {"metadata": {"name": "boxes.t.dev"}, "spec": spec}


@pytest.fixture
async def kinds(registry, hook):
    await registry.create(ADMIN, CRD, definition(hook))
    return [registry.kinds.lookup("t.dev", v, "boxes") for v in ("v1", "v2")]


def box(name="a", **spec):
    return {"metadata": {"name": name}, "spec": spec}


async def read(registry, info, name="a"):
    return _wire.decode_any(await registry.get(ADMIN, info, name, NS))


async def test_an_object_is_the_same_in_both_versions(registry, kinds):
    old, new = kinds
    made = _wire.decode_any(await registry.create(ADMIN, new, box(width=2, height=3), NS))
    assert made["apiVersion"] == "t.dev/v2"
    assert made["spec"] == {"width": 2, "height": 3, "color": "red"}
    stored = _wire.decode_any(registry.stored(old, "a", NS))
    assert (stored["apiVersion"], stored["spec"]["size"]) == ("t.dev/v1", "2x3")
    seen = await read(registry, old)
    assert seen["spec"] == {"size": "2x3"}
    assert seen["metadata"]["uid"] == made["metadata"]["uid"]
    changed = _wire.decode_any(await registry.patch(ADMIN, new, "a", {"spec": {"height": 5}}, NS))
    assert changed["spec"]["height"] == 5
    assert (await read(registry, old))["spec"] == {"size": "2x5"}
    again = _wire.decode_any(await registry.update(ADMIN, new, "a", changed, NS))
    assert again["metadata"]["resourceVersion"] == changed["metadata"]["resourceVersion"]
    with pytest.raises(Invalid, match="should be greater than or equal to 1"):
        await registry.patch(ADMIN, new, "a", {"spec": {"height": 0}}, NS)
    status = await registry.patch(ADMIN, new, "a", {"status": {"ready": True}}, NS, subresource="status")
    assert _wire.decode_any(status)["spec"]["width"] == 2
    applied = {"apiVersion": "t.dev/v2", "kind": "Box", **box(width=7, height=7)}
    raw, created = await registry.apply(ADMIN, new, "a", applied, NS, field_manager="m", force=True)
    assert not created
    assert _wire.decode_any(raw)["spec"]["width"] == 7
    gone = _wire.decode_any(await registry.delete(ADMIN, new, "a", NS))
    assert gone["spec"]["width"] == 7


async def test_lists_and_watches_are_converted_in_one_question(registry, kinds, hook):
    old, new = kinds
    for name in ("a", "b", "c"):
        await registry.create(ADMIN, old, box(name, size="1x2"), NS)
    assert hook.reviews == []
    page = await registry.list(ADMIN, new, NS)
    assert [_wire.decode_any(i)["spec"]["height"] for i in page.items] == [2, 2, 2]
    assert len(hook.reviews) == 1
    watch = registry.watch(ADMIN, new, NS, resource_version=str(page.resource_version), bookmarks=True)
    await registry.patch(ADMIN, old, "b", {"spec": {"size": "4x4"}}, NS)
    event = await anext(watch)
    assert (event.type, _wire.decode_any(event.object)["spec"]["width"]) == (EventType.MODIFIED, 4)
    await registry.delete(ADMIN, old, "b", NS)
    event = await anext(watch)
    assert (event.type, _wire.decode_any(event.object)["spec"]["width"]) == (EventType.DELETED, 4)
    await watch.aclose()
    deleted = await registry.delete_collection(ADMIN, new, NS)
    assert {_wire.decode_any(d)["apiVersion"] for d in deleted} == {"t.dev/v2"}


async def test_admission_webhooks_see_the_version_that_they_ask_for(registry, kinds, hook, tmp_path):
    _, new = kinds
    async with webhook_server(tmp_path / "other") as admission:
        rule = {"operations": ["CREATE"], "apiGroups": ["t.dev"], "apiVersions": ["v1"], "resources": ["boxes"]}
        entry = {
            "name": "a.b.c",
            "clientConfig": {"url": admission.url, "caBundle": admission.bundle},
            "rules": [rule],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        conf = {"metadata": {"name": "c"}, "webhooks": [entry]}
        await registry.create(ADMIN, ValidatingWebhookConfiguration.INFO, conf)
        await registry.create(ADMIN, new, box(width=2, height=3), NS)
        (review,) = admission.reviews
        assert review["request"]["object"]["spec"]["size"] == "2x3"


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (lambda r: answer(r["uid"], [], status="Failure", message="too square"), "failed: too square"),
        (lambda r: answer("other", r["objects"]), "expected response.uid"),
        (lambda r: answer(r["uid"], []), "expected 1 converted objects, got 0"),
        (lambda r: answer(r["uid"], r["objects"]), "expected a converted object of t.dev/v2"),
        (lambda r: answer(r["uid"], [{**up(r["objects"][0]), "metadata": {"name": "z"}}]), "must have the same name"),
        (lambda r: http(b"no", "500 Error"), "the server answered 500"),
    ],
)
async def test_a_webhook_that_fails(registry, kinds, hook, reply, why):
    old, new = kinds
    await registry.create(ADMIN, old, box(size="1x1"), NS)
    hook.answer = reply
    with pytest.raises(InternalError) as failed:
        await registry.get(ADMIN, new, "a", NS)
    assert failed.value.message.startswith("conversion webhook for t.dev/v1, Kind=Box failed: ")
    assert why in failed.value.message
    before = registry.store.revision
    with pytest.raises(InternalError, match="conversion webhook"):
        await registry.create(ADMIN, new, box("b", width=1, height=1), NS)
    assert registry.store.revision == before
    assert (await read(registry, old))["spec"] == {"size": "1x1"}


async def test_metadata_stays_but_for_labels_and_annotations(registry, kinds, hook):
    old, new = kinds
    made = _wire.decode_any(await registry.create(ADMIN, old, box(size="1x1"), NS))

    def meddle(request):
        (obj,) = (up(o) for o in request["objects"])
        meta = {**obj["metadata"], "labels": {"a": "b"}, "finalizers": ["x/y"], "generation": 99}
        return answer(request["uid"], [{**obj, "metadata": meta}])

    hook.answer = meddle
    meta = (await read(registry, new))["metadata"]
    assert meta["labels"] == {"a": "b"}
    assert "finalizers" not in meta
    assert meta["generation"] == made["metadata"]["generation"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"clientConfig": None}, "spec.conversion.webhook.clientConfig"),
        ({"clientConfig": {"url": "http://x"}}, "spec.conversion.webhook.clientConfig.url"),
        ({"conversionReviewVersions": ["v1beta1"]}, "spec.conversion.webhook.conversionReviewVersions"),
    ],
)
async def test_faulty_definitions(registry, hook, change, field):
    with pytest.raises(Invalid) as refused:
        await registry.create(ADMIN, CRD, definition(hook, **change))
    assert field in [c.field for c in refused.value.causes]
