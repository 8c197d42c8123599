"""Unmodified kubectl meets rules: CEL in definitions, webhooks that answer over HTTPS, policies, PodSecurity."""

import json
import shutil

import pytest

from headrace.testing.webhook import patched, webhook_server

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]

DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: engines.rules.dev}
spec:
  group: rules.dev
  scope: Namespaced
  names: {plural: engines, singular: engine, kind: Engine}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              cylinders: {type: integer}
              fuel: {type: string, default: petrol}
            x-kubernetes-validations:
            - rule: self.cylinders % 2 == 0
              messageExpression: "'%d cylinders are odd'.format([self.cylinders])"
              fieldPath: .cylinders
            - rule: self.fuel == oldSelf.fuel
              message: fuel is immutable
"""
ENGINE = """
apiVersion: rules.dev/v1
kind: Engine
metadata: {name: v8}
spec: {cylinders: %d}
"""
POLICY = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: small}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}
  validations:
  - expression: object.data.size() <= 1
    message: one entry is enough
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: small}
spec:
  policyName: small
  validationActions: [Deny]
  matchResources:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %s}}
"""


@pytest.fixture
def hook(background, tmp_path):
    context = webhook_server(tmp_path)
    server = background.run(context.__aenter__())
    yield server
    background.run(context.__aexit__(None, None, None))


def configuration(hook, kind, namespace, client):
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    rule = {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}
    webhook = {
        "name": "hook.rules.dev",
        "clientConfig": {**client, "caBundle": hook.bundle},
        "rules": [rule],
        "namespaceSelector": selector,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    document = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind}
    return json.dumps({**document, "metadata": {"name": f"hook-{kind.lower()}"}, "webhooks": [webhook]})


def test_rules_of_a_definition(kubectl, namespace):
    kubectl("apply", "-f", "-", stdin=DEFINITION)
    kubectl("wait", "--for", "condition=established", "crd/engines.rules.dev", "--timeout=10s")
    said = kubectl.fails("-n", namespace, "apply", "-f", "-", stdin=ENGINE % 7)
    assert 'The Engine "v8" is invalid: spec.cylinders: Invalid value: "object": 7 cylinders are odd' in said
    kubectl("-n", namespace, "apply", "-f", "-", stdin=ENGINE % 8)
    said = kubectl.fails("-n", namespace, "patch", "engine", "v8", "--type=merge", "-p", '{"spec": {"fuel": "air"}}')
    assert "fuel is immutable" in said
    kubectl("-n", namespace, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=ENGINE % 12)
    broken = DEFINITION.replace("self.cylinders % 2", "self.pistons % 2")
    said = kubectl.fails("apply", "-f", "-", stdin=broken)
    assert "compilation failed: ERROR: <input>:1:5: undefined field 'pistons'" in said
    assert "| self.pistons % 2 == 0" in said
    kubectl("delete", "crd", "engines.rules.dev")


def test_webhooks(kubectl, namespace, hook, background):
    background.http.cluster.registry.gate.dialer = hook
    service = {"service": {"name": "hook", "namespace": "default", "path": "/mutate"}}
    kubectl("apply", "-f", "-", stdin=configuration(hook, "MutatingWebhookConfiguration", namespace, service))
    validating = configuration(hook, "ValidatingWebhookConfiguration", namespace, {"url": hook.url})
    kubectl("apply", "--server-side", "-f", "-", stdin=validating)

    def answer(request):
        if hook.paths[-1] == "/mutate" and request["object"] is not None:
            return patched({"op": "add", "path": "/metadata/labels", "value": {"seen": "yes"}})
        if request["operation"] == "DELETE":
            return {"allowed": False, "status": {"message": "it stays"}}
        return {"allowed": True, "warnings": ["looked at"]}

    hook.answer = answer
    done = kubectl.run("-n", namespace, "create", "configmap", "a", "--from-literal=k=v")
    assert done.returncode == 0, done.stderr
    assert "Warning: looked at" in done.stderr
    assert kubectl("-n", namespace, "get", "cm", "a", "-o", "jsonpath={.metadata.labels.seen}") == "yes"
    said = kubectl.fails("-n", namespace, "delete", "configmap", "a")
    assert 'admission webhook "hook.rules.dev" denied the request: it stays' in said
    dry = kubectl("-n", namespace, "create", "configmap", "b", "--dry-run=server", "-o", "json")
    assert json.loads(dry)["metadata"]["labels"] == {"seen": "yes"}
    assert hook.reviews[-1]["request"]["dryRun"] is True
    shown = kubectl("get", "validatingwebhookconfigurations,mutatingwebhookconfigurations")
    assert shown.splitlines()[0].split() == ["NAME", "WEBHOOKS", "AGE"]
    kubectl("delete", "validatingwebhookconfigurations,mutatingwebhookconfigurations", "--all")
    kubectl("-n", namespace, "delete", "configmap", "a")


def test_a_policy(kubectl, namespace):
    kubectl("apply", "-f", "-", stdin=POLICY % namespace)
    kubectl("-n", namespace, "create", "configmap", "a", "--from-literal=k=v")
    said = kubectl.fails("-n", namespace, "create", "configmap", "b", "--from-literal=k=v", "--from-literal=l=w")
    assert "ValidatingAdmissionPolicy 'small' with binding 'small' denied request: one entry is enough" in said
    shown = kubectl("get", "validatingadmissionpolicies", "small").splitlines()
    assert shown[0].split() == ["NAME", "VALIDATIONS", "PARAMKIND", "AGE"]
    assert shown[1].split()[:3] == ["small", "1", "<unset>"]
    assert kubectl("explain", "validatingadmissionpolicy.spec.validations").startswith("GROUP:")
    kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", "--all")
    kubectl("-n", namespace, "create", "configmap", "b", "--from-literal=k=v", "--from-literal=l=w")


SESSIONS = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: sessions}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CONNECT], resources: [pods/exec, pods/portforward]}
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods/eviction]}
  validations:
  - expression: >-
      request.operation == 'CREATE' || request.subResource != 'exec' || object.command != ['rm']
    message: nothing is removed here
  - expression: request.operation != 'CREATE' || request.name != 'kept'
    message: it is kept
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: sessions}
spec: {policyName: sessions, validationActions: [Deny]}
"""


def test_a_policy_on_sessions_and_evictions(kubectl, namespace):
    for name in ("kept", "other"):
        kubectl("-n", namespace, "run", name, "--image=i")
    kubectl("apply", "-f", "-", stdin=SESSIONS)
    said = kubectl.fails("-n", namespace, "exec", "kept", "--", "rm")
    assert "denied request: nothing is removed here" in said
    assert "nothing is removed here" not in kubectl.fails("-n", namespace, "exec", "kept", "--", "ls")

    def evict(name):
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/eviction"
        return kubectl.run("create", "--raw", path, "-f", "-", stdin=json.dumps(body))

    refused = evict("kept")
    assert refused.returncode != 0
    assert "denied request: it is kept" in refused.stdout + refused.stderr
    assert evict("other").returncode == 0
    kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", "--all")


def test_pod_security(kubectl, namespace):
    level = "pod-security.kubernetes.io"
    kubectl("label", "namespace", namespace, f"{level}/enforce=baseline", f"{level}/warn=restricted")
    done = kubectl.run("-n", namespace, "create", "deployment", "d", "--image=i")
    assert done.returncode == 0, done.stderr
    assert 'Warning: would violate PodSecurity "restricted:latest": allowPrivilegeEscalation != false' in done.stderr
    said = kubectl.fails("-n", namespace, "run", "p", "--image=i", "--privileged")
    assert 'pods "p" is forbidden: violates PodSecurity "baseline:latest": privileged (container "p" must not' in said
    said = kubectl.fails("label", "namespace", namespace, f"{level}/enforce=none", "--overwrite")
    assert 'Invalid value: "none": must be one of privileged, baseline, restricted' in said
