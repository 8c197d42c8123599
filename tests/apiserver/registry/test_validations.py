"""CEL rules from the definition to the write: refused, accepted, evaluated on create, update, patch and status."""

import pytest

from headrace.api import _wire
from headrace.api.apiextensions import CustomResourceDefinition
from headrace.api.errors import Invalid
from headrace.api.identity import ADMIN
from headrace.testing import embedded_cluster

CRD = CustomResourceDefinition.INFO
NS = "default"


def definition(*rules):
    part = {"type": "object", "properties": {"size": {"type": "integer"}, "name": {"type": "string"}}}
    schema = {
        "type": "object",
        "properties": {"spec": {**part, "x-kubernetes-validations": list(rules)}, "status": part},
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }
    names = {"plural": "things", "kind": "Thing"}
    spec = {"group": "test.dev", "scope": "Namespaced", "names": names, "versions": [version]}
    return {"metadata": {"name": "things.test.dev"}, "spec": spec}


def thing(**spec):
    return {"metadata": {"name": "one"}, "spec": spec}


@pytest.fixture
async def registry():
    async with embedded_cluster() as cluster:
        yield cluster.registry


async def test_rules_act_on_every_write(registry):
    rules = [
        {"rule": "self.size > 0", "message": "a size is positive", "fieldPath": ".size"},
        {"rule": "!has(oldSelf.name) || (has(self.name) && self.name == oldSelf.name)", "message": "name is immutable"},
    ]
    await registry.create(ADMIN, CRD, definition(*rules))
    info = registry.kinds.lookup("test.dev", "v1", "things")
    with pytest.raises(Invalid) as refused:
        await registry.create(ADMIN, info, thing(size=0), NS)
    assert refused.value.message == (
        'Thing.test.dev "one" is invalid: spec.size: Invalid value: "object": a size is positive'
    )
    await registry.create(ADMIN, info, thing(size=1, name="a"), NS)
    with pytest.raises(Invalid, match="name is immutable"):
        await registry.patch(ADMIN, info, "one", {"spec": {"name": "b"}}, NS)
    with pytest.raises(Invalid, match="a size is positive"):
        await registry.patch(ADMIN, info, "one", {"spec": {"size": -1}}, NS, dry_run=True)
    changed = _wire.decode_any(await registry.patch(ADMIN, info, "one", {"spec": {"size": 2}}, NS))
    assert changed["spec"] == {"size": 2, "name": "a"}


async def test_a_stricter_rule_does_not_stop_what_has_nothing_to_do_with_it(registry):
    await registry.create(ADMIN, CRD, definition())
    info = registry.kinds.lookup("test.dev", "v1", "things")
    await registry.create(ADMIN, info, thing(size=0), NS)
    await registry.patch(ADMIN, CRD, "things.test.dev", {"spec": definition({"rule": "self.size > 0"})["spec"]})
    await registry.patch(ADMIN, info, "one", {"metadata": {"labels": {"a": "b"}}}, NS)
    await registry.patch(ADMIN, info, "one", {"status": {"size": 1}}, NS, subresource="status")
    with pytest.raises(Invalid, match="failed rule"):
        await registry.patch(ADMIN, info, "one", {"spec": {"name": "x"}}, NS)


async def test_a_definition_whose_rule_does_not_compile_is_refused(registry):
    with pytest.raises(Invalid, match=r"compilation failed: ERROR: <input>:1:5: undefined field 'nope'") as refused:
        await registry.create(ADMIN, CRD, definition({"rule": "self.nope"}))
    (cause,) = refused.value.causes
    assert cause.field == ("spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule")
