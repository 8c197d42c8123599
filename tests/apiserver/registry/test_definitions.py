"""Custom kinds: served when their definition is written, gone with it; schema, versions, names."""

import asyncio
import copy

import pytest

from headrace.api import _wire
from headrace.api.apiextensions import CustomResourceDefinition
from headrace.api.errors import BadRequest, Invalid, MethodNotAllowed, NotFound, UnsupportedMediaType
from headrace.api.identity import ADMIN
from headrace.api.meta import KindInfo
from headrace.apiserver.registry import Registry
from headrace.client.base import PatchType
from headrace.machinery.clock import SystemClock
from headrace.testing import embedded_cluster, eventually

CRD = CustomResourceDefinition.INFO
NS = "default"
SPEC = {
    "type": "object",
    "required": ["size"],
    "properties": {
        "size": {"type": "integer", "minimum": 1},
        "color": {"type": "string", "default": "red"},
        "parts": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}


def definition(**changes):
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "properties": {
                    "spec": SPEC,
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
            }
        },
        "subresources": {
            "status": {},
            "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"},
        },
        "selectableFields": [{"jsonPath": ".spec.color"}],
    }
    spec = {
        "group": "test.dev",
        "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing", "shortNames": ["th"]},
        "versions": [version],
        **changes,
    }
    return {"metadata": {"name": f"{spec['names'].get('plural')}.{spec['group']}"}, "spec": copy.deepcopy(spec)}


@pytest.fixture
async def cluster():
    async with embedded_cluster() as made:
        yield made


@pytest.fixture
async def info(cluster) -> KindInfo:
    await cluster.registry.create(ADMIN, CRD, definition())
    found = cluster.registry.kinds.lookup("test.dev", "v1", "things")
    assert found is not None
    return found


def thing(name="a", **spec):
    return {"apiVersion": "test.dev/v1", "kind": "Thing", "metadata": {"name": name}, "spec": {"size": 1, **spec}}


@pytest.fixture
def create(cluster, info):
    async def call(body, **options):
        return _wire.decode_any(await cluster.registry.create(ADMIN, info, body, NS, **options))

    return call


async def test_a_definition_is_served_at_once(cluster, info):
    made = _wire.decode_any(await cluster.registry.get(ADMIN, CRD, "things.test.dev"))
    assert {c["type"]: c["status"] for c in made["status"]["conditions"]} == {
        "NamesAccepted": "True",
        "Established": "True",
    }
    assert made["status"]["storedVersions"] == ["v1"]
    assert made["spec"]["names"]["listKind"] == "ThingList"
    assert info.short_names == ("th",)
    assert info.subresources == {"status", "scale"}
    assert cluster.registry.kinds.by_kind("test.dev", "v1", "Thing") == info


async def test_objects_are_pruned_defaulted_and_validated(cluster, info, create):
    made = await create(thing(unknown=1, parts={"a": "b"}))
    assert made["spec"] == {"size": 1, "color": "red", "parts": {"a": "b"}}
    assert made["metadata"]["generation"] == 1
    with pytest.raises(Invalid) as caught:
        await create(thing("b", size=0, color=5, parts={"a": 1}))
    assert [c.field for c in caught.value.causes] == ["spec.color", "spec.parts.a", "spec.size"]
    with pytest.raises(BadRequest, match=r'strict decoding error: unknown field "spec\.unknown"'):
        await create(thing("b", unknown=1), field_validation="Strict")
    warnings: list[str] = []
    await create(thing("b", unknown=1), field_validation="Warn", warnings=warnings)
    assert warnings == ['unknown field "spec.unknown"']
    with pytest.raises(BadRequest, match="cannot unmarshal number into Go struct field ObjectMeta"):
        await create({**thing("c"), "metadata": {"name": "c", "labels": {"a": 1}}})


async def test_an_update_needs_the_version(cluster, info, create):
    made = await create(thing())
    body = copy.deepcopy(made)
    del body["metadata"]["resourceVersion"]
    with pytest.raises(Invalid, match="must be specified for an update"):
        await cluster.registry.update(ADMIN, info, "a", body, NS)
    made["spec"]["size"] = 2
    await cluster.registry.update(ADMIN, info, "a", made, NS)


async def test_scale_by_the_definitions_paths(cluster, info, create):
    await create(thing(size=3))
    scale = _wire.decode_any(await cluster.registry.get(ADMIN, info, "a", NS, subresource="scale"))
    assert (scale["kind"], scale["spec"], scale["status"]) == ("Scale", {"replicas": 3}, {"replicas": 0})
    patch = {"spec": {"replicas": 5}}
    await cluster.registry.patch(ADMIN, info, "a", patch, NS, subresource="scale")
    made = _wire.decode_any(await cluster.registry.get(ADMIN, info, "a", NS))
    assert made["spec"]["size"] == 5
    with pytest.raises(Invalid):
        await cluster.registry.patch(ADMIN, info, "a", {"spec": {"replicas": -1}}, NS, subresource="scale")
    with pytest.raises(BadRequest):
        await cluster.registry.patch(ADMIN, info, "a", {"spec": {"replicas": "x"}}, NS, subresource="scale")


async def test_fields_that_the_definition_selects(cluster, info, create):
    await create(thing("a"))
    await create(thing("b", color="blue"))
    page = await cluster.registry.list(ADMIN, info, NS, fields="spec.color=blue")
    assert [_wire.decode_any(i)["metadata"]["name"] for i in page.items] == ["b"]
    with pytest.raises(BadRequest):
        await cluster.registry.list(ADMIN, info, NS, fields="spec.size=1")


async def test_custom_kinds_take_no_strategic_patch(cluster, info, create):
    await create(thing())
    with pytest.raises(UnsupportedMediaType):
        await cluster.registry.patch(ADMIN, info, "a", {}, NS, patch_type=PatchType.STRATEGIC)


async def test_versions_share_objects(cluster, info, create):
    await create(thing())
    body = definition()
    second = copy.deepcopy(body["spec"]["versions"][0]) | {"name": "v2", "storage": False}
    patch = {"spec": {"versions": [*body["spec"]["versions"], second]}}
    await cluster.registry.patch(ADMIN, CRD, "things.test.dev", patch)
    v2 = cluster.registry.kinds.lookup("test.dev", "v2", "things")
    seen = _wire.decode_any(await cluster.registry.get(ADMIN, v2, "a", NS))
    assert (seen["apiVersion"], seen["spec"]["size"]) == ("test.dev/v2", 1)
    page = await cluster.registry.list(ADMIN, v2, NS)
    assert [_wire.decode_any(i)["apiVersion"] for i in page.items] == ["test.dev/v2"]
    watch = cluster.registry.watch(ADMIN, v2, NS, resource_version="0")
    assert _wire.decode_any((await anext(watch)).object)["apiVersion"] == "test.dev/v2"
    patched = await cluster.registry.patch(ADMIN, v2, "a", {"spec": {"size": 2}}, NS)
    assert _wire.decode_any(patched)["apiVersion"] == "test.dev/v2"
    stored = cluster.store.range("/registry/test.dev/things/")
    assert [_wire.decode_any(r.value)["apiVersion"] for r in stored] == ["test.dev/v1"]
    with pytest.raises(BadRequest, match="does not match the expected API version"):
        await cluster.registry.create(ADMIN, v2, thing("b"), NS)


async def test_the_storage_version_moves(cluster, info, create):
    """What was stored before is shown, watched and changed in any version."""
    await create(thing("old"))
    body = definition()
    first = body["spec"]["versions"][0]
    second = copy.deepcopy(first) | {"name": "v2", "storage": True}
    patch = {"spec": {"versions": [first | {"storage": False}, second]}}
    changed = _wire.decode_any(await cluster.registry.patch(ADMIN, CRD, "things.test.dev", patch))
    assert changed["status"]["storedVersions"] == ["v1", "v2"]
    await create(thing("new"))
    for version in ("v1", "v2"):
        kind = cluster.registry.kinds.lookup("test.dev", version, "things")
        page = await cluster.registry.list(ADMIN, kind, NS)
        assert {_wire.decode_any(i)["apiVersion"] for i in page.items} == {f"test.dev/{version}"}
        found = _wire.decode_any(await cluster.registry.get(ADMIN, kind, "old", NS))
        assert (found["apiVersion"], found["kind"], found["spec"]["size"]) == (f"test.dev/{version}", "Thing", 1)


async def test_a_version_that_held_objects_may_not_vanish(cluster, info):
    versions = definition()["spec"]["versions"]
    versions[0]["name"] = "v2"
    with pytest.raises(Invalid, match="must remain"):
        await cluster.registry.patch(ADMIN, CRD, "things.test.dev", {"spec": {"versions": versions}})


async def test_a_deleted_definition_takes_its_objects_with_it(cluster, info, create):
    await create(thing("a"))
    held = thing("b")
    held["metadata"]["finalizers"] = ["test.dev/hold"]
    await create(held)
    await cluster.registry.delete(ADMIN, CRD, "things.test.dev")
    with pytest.raises(MethodNotAllowed, match="terminating"):
        await create(thing("c"))

    def only_the_held_one() -> bool:
        records = cluster.store.range("/registry/test.dev/things/")
        return len(records) == 1 and "deletionTimestamp" in _wire.decode_any(records[0].value)["metadata"]

    await eventually(only_the_held_one)
    await cluster.registry.patch(ADMIN, info, "b", {"metadata": {"finalizers": None}}, NS)
    await eventually(lambda: cluster.registry.kinds.lookup("test.dev", "v1", "things") is None)
    assert cluster.store.range("/registry/test.dev/") == []
    assert cluster.store.range("/registry/apiextensions.k8s.io/") == []
    with pytest.raises(NotFound, match="could not find the requested resource"):
        await cluster.registry.list(ADMIN, info, NS)


async def test_a_restart_serves_again_and_goes_on_deleting(cluster, info, create):
    held = thing("b")
    held["metadata"]["finalizers"] = ["test.dev/hold"]
    await create(held)
    await cluster.registry.stop()
    await cluster.registry.delete(ADMIN, CRD, "things.test.dev")
    await cluster.registry.stop()

    again = Registry(cluster.store, clock=SystemClock(), settings=cluster.settings)
    await again.start()
    assert again.kinds.lookup("test.dev", "v1", "things") == info
    await again.patch(ADMIN, info, "b", {"metadata": {"finalizers": None}}, NS)
    await eventually(lambda: again.kinds.lookup("test.dev", "v1", "things") is None)
    await again.stop()


async def test_a_name_that_is_taken_is_not_established(cluster, info):
    other = definition(names={"plural": "others", "kind": "Thing"})
    made = _wire.decode_any(await cluster.registry.create(ADMIN, CRD, other))
    assert {c["type"]: c["status"] for c in made["status"]["conditions"]} == {
        "NamesAccepted": "False",
        "Established": "False",
    }
    assert cluster.registry.kinds.lookup("test.dev", "v1", "others") is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"group": "nodots"}, "spec.group"),
        ({"scope": "Everywhere"}, "spec.scope"),
        ({"versions": []}, "spec.versions"),
        ({"names": {"plural": "things"}}, "spec.names.kind"),
        ({"conversion": {"strategy": "Webhook"}}, "spec.conversion.webhook.clientConfig"),
        ({"preserveUnknownFields": True}, "spec.preserveUnknownFields"),
        ({"versions": [{"name": "v1", "served": True, "storage": False}]}, "spec.versions"),
        ({"versions": [{"name": "v1", "served": True, "storage": True}]}, "spec.versions[0].schema.openAPIV3Schema"),
    ],
)
async def test_faulty_definitions(cluster, changes, field):
    with pytest.raises(Invalid) as caught:
        await cluster.registry.create(ADMIN, CRD, definition(**changes))
    assert field in [c.field for c in caught.value.causes]


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ({"type": "string"}, ".type"),
        ({"type": "object", "properties": {"a": {}}}, ".properties[a].type"),
        ({"type": "object", "properties": {"a": {"type": "array"}}}, ".properties[a].items"),
        ({"type": "object", "properties": {"a": {"$ref": "#/x"}}}, ".properties[a].$ref"),
        ({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}, ""),
    ],
)
async def test_faulty_schemas(cluster, schema, field):
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    with pytest.raises(Invalid) as caught:
        await cluster.registry.create(ADMIN, CRD, definition(versions=[version]))
    assert [c.field for c in caught.value.causes] == [f"spec.versions[0].schema.openAPIV3Schema{field}"]


async def test_published(cluster, info):
    published = cluster.registry.schemas.definitions("test.dev/v1")
    assert published["dev.test.v1.Thing"]["properties"]["spec"]["properties"]["size"]["minimum"] == 1
    assert "dev.test.v1.ThingList" in published


async def test_many_writers_and_a_definition_at_the_same_time(cluster, info, create):
    await asyncio.gather(*(create(thing(f"t{i}")) for i in range(20)))
    assert len((await cluster.registry.list(ADMIN, info, NS)).items) == 20
