"""ValidatingAdmissionPolicy on a real registry: in force where bound, with parameters, told as upstream tells it."""

import pytest

from headrace.api import _wire
from headrace.api.admissionregistration import ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding
from headrace.api.core import ConfigMap, Namespace
from headrace.api.errors import Invalid, StatusError
from headrace.api.identity import ADMIN, service_account
from headrace.testing import embedded_cluster

POLICY, BINDING = ValidatingAdmissionPolicy.INFO, ValidatingAdmissionPolicyBinding.INFO
MAP = ConfigMap.INFO
NS = "default"
MAPS = {"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}


@pytest.fixture
async def registry():
    async with embedded_cluster() as cluster:
        yield cluster.registry


def policy(*validations, **more):
    rules = {"resourceRules": [MAPS], **more.pop("match", {})}
    return {"metadata": {"name": "p"}, "spec": {"matchConstraints": rules, "validations": list(validations), **more}}


async def bind(registry, body, *, actions=("Deny",), name="b", **more):
    if body is not None:
        await registry.create(ADMIN, POLICY, body)
    spec = {"policyName": "p", "validationActions": list(actions), **more}
    await registry.create(ADMIN, BINDING, {"metadata": {"name": name}, "spec": spec})


async def make(registry, data=None, *, name="a", user=ADMIN, warnings=None, namespace=NS, **meta):
    body = {"metadata": {"name": name, **meta}, "data": data or {}}
    return _wire.decode_any(await registry.create(user, MAP, body, namespace, warnings=warnings))


SMALL = {"expression": "object.data.size() <= 1"}
TWO = {"a": "1", "b": "2"}


async def test_a_policy_is_in_force_when_it_is_bound(registry):
    await registry.create(ADMIN, POLICY, policy(SMALL))
    await make(registry, TWO, name="before")
    await bind(registry, None)
    await make(registry, {"a": "1"})
    with pytest.raises(StatusError) as refused:
        await make(registry, TWO, name="c")
    status = refused.value.to_status()
    assert status["message"] == (
        "configmaps \"c\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: "
        "failed expression: object.data.size() <= 1"
    )
    assert (status["code"], status["reason"]) == (422, "Invalid")
    with pytest.raises(StatusError, match="failed expression"):
        await registry.patch(ADMIN, MAP, "a", {"data": {"b": "2"}}, NS)
    await registry.delete(ADMIN, MAP, "before", NS)
    await registry.delete(ADMIN, BINDING, "b")
    await registry.patch(ADMIN, MAP, "a", {"data": {"b": "2"}}, NS)


@pytest.mark.parametrize(
    ("more", "message", "code"),
    [
        ({"message": " too large "}, "too large", 422),
        ({"message": "m", "messageExpression": "'has ' + string(object.data.size())"}, "has 2", 422),
        ({"message": "m", "messageExpression": "object.nope"}, "m", 422),
        ({"message": "m", "reason": "Forbidden"}, "m", 403),
        ({"message": "m", "reason": "Unauthorized"}, "m", 401),
    ],
)
async def test_what_a_refusal_says(registry, more, message, code):
    await bind(registry, policy({**SMALL, **more}))
    with pytest.raises(StatusError) as refused:
        await make(registry, TWO)
    assert refused.value.to_status()["code"] == code
    assert refused.value.to_status()["message"].endswith(f"denied request: {message}")


async def test_warn_and_audit_let_pass(registry):
    await bind(registry, policy({**SMALL, "message": "m"}), actions=("Warn", "Audit"))
    warnings: list[str] = []
    await make(registry, TWO, warnings=warnings)
    assert warnings == ["Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': m"]


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("object.metadata.name == 'a' && oldObject == null", True),
        ("request.operation == 'CREATE' && request.namespace == 'default' && !request.dryRun", True),
        ("request.userInfo.username == 'kubernetes-admin' && 'system:masters' in request.userInfo.groups", True),
        ("request.kind.kind == 'ConfigMap' && request.resource.resource == 'configmaps'", True),
        ("namespaceObject.metadata.name == 'default'", True),
        ("authorizer.group('').resource('configmaps').namespace('default').check('delete').allowed()", True),
        ("authorizer.serviceAccount('default', 'x').path('/metrics').check('get').allowed()", False),
        ("authorizer.requestResource.check('create').allowed()", True),
        ("variables.twice == 4 && variables.sum == 6", True),
        ("variables.sum == 7", False),
        ("!has(object.metadata.namespace) || object.metadata.namespace == 'default'", True),
    ],
)
async def test_what_an_expression_sees(registry, expression, holds):
    variables = [
        {"name": "two", "expression": "object.data.size()"},
        {"name": "twice", "expression": "variables.two * 2"},
        {"name": "sum", "expression": "variables.two + variables.twice"},
        {"name": "never", "expression": "1 / 0"},
    ]
    await bind(registry, policy({"expression": expression}, variables=variables))
    if holds:
        await make(registry, TWO)
    else:
        with pytest.raises(StatusError, match="denied request"):
            await make(registry, TWO)


async def test_match_conditions_come_first(registry):
    condition = {"name": "small", "expression": "request.userInfo.username.startsWith('system:serviceaccount:')"}
    await bind(registry, policy(SMALL, matchConditions=[condition]))
    await make(registry, TWO)


@pytest.mark.parametrize("failing", [{"expression": "object.nope == 1"}, {"expression": "variables.bad == 1"}])
async def test_a_policy_that_fails(registry, failing):
    body = policy(failing, variables=[{"name": "bad", "expression": "object.data.nope.size()"}])
    await bind(registry, body)
    with pytest.raises(StatusError, match=r"denied request: expression '.*' resulted in error: .*no such key: nope"):
        await make(registry, TWO)
    await registry.patch(ADMIN, POLICY, "p", {"spec": {"failurePolicy": "Ignore"}})
    await make(registry, TWO)


async def test_a_hostile_policy_ends(registry):
    deep = "object.data.all(a, object.data.all(b, object.data.all(c, object.data.all(d, a + b + c + d != ''))))"
    await bind(registry, policy({"expression": deep}))
    with pytest.raises(StatusError, match="running out of cost budget"):
        await make(registry, {f"k{i}": "" for i in range(60)})


async def limits(registry, name, most, namespace=NS, **labels):
    await registry.create(
        ADMIN, MAP, {"metadata": {"name": name, "labels": labels}, "data": {"most": str(most)}}, namespace
    )


PARAMETERS = {"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}}
BY_PARAMS = {
    "expression": "object.data.size() <= int(params.data.most)",
    "messageExpression": "'most ' + params.data.most",
}


async def test_parameters_by_name(registry):
    await limits(registry, "two", 2)
    await limits(registry, "one", 1)
    body = policy(BY_PARAMS, **PARAMETERS)
    by_name = {"name": "one", "namespace": NS, "parameterNotFoundAction": "Deny"}
    await bind(registry, body, paramRef=by_name)
    with pytest.raises(StatusError, match="most 1"):
        await make(registry, TWO)
    await registry.patch(ADMIN, BINDING, "b", {"spec": {"paramRef": {"name": "two"}}})
    await make(registry, TWO)


async def test_parameters_by_selector_are_those_of_the_objects_namespace(registry):
    await registry.create(ADMIN, Namespace.INFO, {"metadata": {"name": "strict"}})
    await limits(registry, "l", 5, limits="yes")
    await limits(registry, "l", 1, "strict", limits="yes")
    await limits(registry, "other", 0, "strict")
    selector = {"matchLabels": {"limits": "yes"}}
    reference = {"selector": selector, "parameterNotFoundAction": "Deny"}
    await bind(registry, policy(BY_PARAMS, **PARAMETERS), paramRef=reference)
    await make(registry, TWO)
    with pytest.raises(StatusError, match="most 1"):
        await make(registry, TWO, namespace="strict")


@pytest.mark.parametrize(("action", "refused"), [("Deny", True), ("Allow", False)])
async def test_parameters_that_are_not_there(registry, action, refused):
    reference = {"name": "nope", "namespace": NS, "parameterNotFoundAction": action}
    await bind(registry, policy(BY_PARAMS, **PARAMETERS), paramRef=reference)
    if refused:
        with pytest.raises(StatusError, match="no params found for policy binding with `Deny`"):
            await make(registry, TWO)
    else:
        await make(registry, TWO)


async def test_a_kind_of_parameters_that_is_not_served(registry):
    reference = {"name": "x", "parameterNotFoundAction": "Allow"}
    body = policy({"expression": "params.x == 1"}, paramKind={"apiVersion": "t.dev/v1", "kind": "Nope"})
    await bind(registry, body, paramRef=reference)
    with pytest.raises(StatusError, match="failed to find resource referenced by paramKind"):
        await make(registry, TWO)


@pytest.mark.parametrize(
    ("where", "bound", "refused"),
    [
        ({}, {}, True),
        ({"excludeResourceRules": [MAPS]}, {}, False),
        ({"objectSelector": {"matchLabels": {"x": "y"}}}, {}, False),
        ({}, {"matchResources": {"namespaceSelector": {"matchLabels": {"x": "y"}}}}, False),
        ({}, {"matchResources": {"objectSelector": {"matchLabels": {"in": "yes"}}}}, True),
        ({}, {"matchResources": {"resourceRules": [{**MAPS, "resourceNames": ["other"]}]}}, False),
        ({}, {"matchResources": {"resourceRules": [{**MAPS, "resourceNames": ["a"]}]}}, True),
    ],
)
async def test_where_a_policy_is_in_force(registry, where, bound, refused):
    await bind(registry, policy(SMALL, match=where), **bound)
    if refused:
        with pytest.raises(StatusError, match="denied request"):
            await make(registry, TWO, labels={"in": "yes"})
    else:
        await make(registry, TWO, labels={"in": "yes"})


async def test_a_policy_cannot_lock_its_own_repair_out(registry):
    everything = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}
    await bind(registry, policy({"expression": "false"}, match={"resourceRules": [everything]}))
    with pytest.raises(StatusError, match="denied request"):
        await make(registry)
    await registry.delete(ADMIN, POLICY, "p")
    await make(registry)


async def test_who_may_write_policies(registry):
    stranger = service_account(NS, "stranger")
    with pytest.raises(StatusError, match='cannot create resource "validatingadmissionpolicies"'):
        await registry.create(stranger, POLICY, policy(SMALL))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"validations": []}, "spec.validations"),
        ({"validations": [{"expression": "nope"}]}, "spec.validations[0].expression"),
        ({"validations": [{"expression": "1"}]}, "spec.validations[0].expression"),
        ({"validations": [{"expression": "params.x"}]}, "spec.validations[0].expression"),
        ({"validations": [{"expression": "true", "reason": "No"}]}, "spec.validations[0].reason"),
        ({"variables": [{"name": "a-b", "expression": "1"}]}, "spec.variables[0].name"),
        ({"variables": [{"name": "a", "expression": "1 +"}]}, "spec.variables[0].expression"),
        ({"matchConstraints": {}}, "spec.matchConstraints.resourceRules"),
        ({"matchConditions": [{"name": "a", "expression": "true"}] * 2}, "spec.matchConditions[1].name"),
        ({"auditAnnotations": [{"key": "k", "valueExpression": "1"}]}, "spec.auditAnnotations[0].valueExpression"),
    ],
)
async def test_faulty_policies(registry, change, field):
    body = policy(SMALL)
    body["spec"] |= change
    with pytest.raises(Invalid) as refused:
        await registry.create(ADMIN, POLICY, body)
    assert field in [c.field for c in refused.value.causes]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"policyName": "", "validationActions": ["Deny"]}, "spec.policyName"),
        ({"policyName": "p", "validationActions": []}, "spec.validationActions"),
        ({"policyName": "p", "validationActions": ["Deny", "Warn"]}, "spec.validationActions"),
        ({"policyName": "p", "validationActions": ["Explode"]}, "spec.validationActions[0]"),
        ({"policyName": "p", "validationActions": ["Deny"], "paramRef": {}}, "spec.paramRef"),
    ],
)
async def test_faulty_bindings(registry, spec, field):
    with pytest.raises(Invalid) as refused:
        await registry.create(ADMIN, BINDING, {"metadata": {"name": "b"}, "spec": spec})
    assert field in [c.field for c in refused.value.causes]
