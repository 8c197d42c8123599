"""Schemas of custom kinds that change, or that say more than types: defaults of what is stored, embedded resources."""

import pytest

from headrace.api import _wire
from headrace.api.apiextensions import CustomResourceDefinition
from headrace.api.errors import Invalid
from headrace.api.identity import ADMIN
from headrace.testing import embedded_cluster

CRD = CustomResourceDefinition.INFO
NS = "default"
FREE = "x-kubernetes-preserve-unknown-fields"
EMBEDDED = "x-kubernetes-embedded-resource"


def version(name, properties, **more):
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}
    return {"name": name, "served": True, "storage": name == "v1", "schema": {"openAPIV3Schema": schema}, **more}


def definition(*versions, **more):
    names = {"plural": "things", "kind": "Thing"}
    spec = {"group": "test.dev", "scope": "Namespaced", "names": names, "versions": list(versions), **more}
    return {"metadata": {"name": "things.test.dev"}, "spec": spec}


@pytest.fixture
async def registry():
    async with embedded_cluster() as cluster:
        yield cluster.registry


async def serve(registry, *versions):
    await registry.create(ADMIN, CRD, definition(*versions))
    return [registry.kinds.lookup("test.dev", v["name"], "things") for v in versions]


async def test_stored_objects_are_shown_with_the_defaults_of_today(registry):
    (info,) = await serve(registry, version("v1", {"size": {"type": "integer"}}))
    await registry.create(ADMIN, info, {"metadata": {"name": "old"}, "spec": {"size": 1}}, NS)
    newer = definition(version("v1", {"size": {"type": "integer"}, "color": {"type": "string", "default": "red"}}))
    await registry.patch(ADMIN, CRD, "things.test.dev", {"spec": newer["spec"]})
    full = {"size": 1, "color": "red"}
    assert _wire.decode_any(await registry.get(ADMIN, info, "old", NS))["spec"] == full
    (listed,) = (await registry.list(ADMIN, info, NS)).items
    assert _wire.decode_any(listed)["spec"] == full
    watch = registry.watch(ADMIN, info, NS)
    assert _wire.decode_any((await anext(watch)).object)["spec"] == full
    await watch.aclose()
    changed = await registry.patch(ADMIN, info, "old", {"metadata": {"labels": {"a": "b"}}}, NS)
    assert _wire.decode_any(changed)["spec"] == full
    assert _wire.decode_any(changed)["metadata"]["generation"] == 1


async def test_each_version_has_its_own_defaults(registry):
    one, two = await serve(
        registry, version("v1", {"a": {"type": "integer"}}), version("v2", {"a": {"type": "integer", "default": 2}})
    )
    await registry.create(ADMIN, one, {"metadata": {"name": "x"}, "spec": {}}, NS)
    assert _wire.decode_any(await registry.get(ADMIN, one, "x", NS))["spec"] == {}
    assert _wire.decode_any(await registry.get(ADMIN, two, "x", NS))["spec"] == {"a": 2}


async def test_an_embedded_resource_says_what_it_is(registry):
    (info,) = await serve(registry, version("v1", {"template": {"type": "object", EMBEDDED: True, FREE: True}}))
    with pytest.raises(Invalid, match=r"spec\.template\.kind: Required value"):
        await registry.create(ADMIN, info, {"metadata": {"name": "x"}, "spec": {"template": {"apiVersion": "v1"}}}, NS)
    inner = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}}, "more": [1]}
    made = await registry.create(ADMIN, info, {"metadata": {"name": "x"}, "spec": {"template": inner}}, NS)
    assert _wire.decode_any(made)["spec"]["template"] == inner


@pytest.mark.parametrize(
    ("properties", "more", "field", "why"),
    [
        ({"a": {"type": "integer", "default": "x"}}, {}, "properties[a].default", "must be of type integer"),
        ({"a": {"type": "string", "enum": ["x"], "default": "y"}}, {}, "properties[a].default", "supported values"),
        ({"a": {"type": "object", FREE: False}}, {}, f"properties[a].{FREE}", "must be true or undefined"),
        ({"a": {"type": "string", "x-kubernetes-int-or-string": True}}, {}, "properties[a].type", "must be empty"),
        (
            {"a": {"type": "string", "anyOf": [{"x-kubernetes-validations": [{"rule": "true"}]}]}},
            {},
            "anyOf",
            "may stand",
        ),
        ({"a": {"type": "object", EMBEDDED: True}}, {}, "properties[a].properties", "must not be empty"),
        ({"a": {"type": "string"}}, {"selectableFields": [{"jsonPath": ".spec.b"}]}, "[0].jsonPath", "invalid path"),
        ({}, {"selectableFields": [{"jsonPath": ".metadata.name"}]}, "[0].jsonPath", "must not point to fields in"),
    ],
)
async def test_faulty_schemas(registry, properties, more, field, why):
    with pytest.raises(Invalid) as refused:
        await registry.create(ADMIN, CRD, definition(version("v1", properties, **more)))
    assert any(c.field.endswith(field) and why in c.message for c in refused.value.causes), refused.value.causes
