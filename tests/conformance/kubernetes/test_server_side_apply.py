"""Server-side apply as people use it: unmodified kubectl and the Python clients, conflicts, migration."""

import json
import shutil

import pytest
import yaml
from kubernetes import client, config, dynamic
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import ConflictError

pytestmark = [
    pytest.mark.clients,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web, tier: front}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: main
        image: img:1
        env:
        - {name: A, value: "1"}
        - {name: B, value: "2"}
        ports: [{containerPort: 8080}]
"""
CONTAINER = 'k:{"name":"main"}'


@pytest.fixture
def apply(kubectl, namespace):
    def run(manifest, *options, name="kubectl"):
        arguments = ("-n", namespace, "apply", "--server-side", "--field-manager", name, "-f", "-", *options)
        return kubectl(*arguments, stdin=manifest)

    return run


@pytest.fixture
def shown(kubectl, namespace):
    def run(what="deployment/web"):
        return json.loads(kubectl("-n", namespace, "get", what, "-o", "json", "--show-managed-fields"))

    return run


def entry(obj, manager, operation="Apply", subresource=None):
    """What a manager owns."""
    (found,) = [
        e
        for e in obj["metadata"]["managedFields"]
        if (e["manager"], e["operation"], e.get("subresource")) == (manager, operation, subresource)
    ]
    assert found["fieldsType"] == "FieldsV1"
    return found["fieldsV1"]


def managers(obj):
    return [(e["manager"], e["operation"]) for e in obj["metadata"].get("managedFields", [])]


def container_of(fields):
    return fields["f:spec"]["f:template"]["f:spec"]["f:containers"][CONTAINER]


def test_apply_creates_updates_and_removes(apply, shown):
    assert apply(WEB) == "deployment.apps/web serverside-applied\n"
    made = shown()
    fields = entry(made, "kubectl")
    assert fields["f:metadata"] == {"f:labels": {"f:app": {}, "f:tier": {}}}
    assert container_of(fields) == {
        ".": {},
        "f:name": {},
        "f:image": {},
        "f:env": {
            'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}},
            'k:{"name":"B"}': {".": {}, "f:name": {}, "f:value": {}},
        },
        "f:ports": {'k:{"containerPort":8080,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}},
    }
    apply(WEB)
    assert shown() == made  # nothing changed: nothing is written
    changed = WEB.replace('- {name: B, value: "2"}', '- {name: C, value: "3"}').replace(", tier: front", "")
    apply(changed)
    found = shown()
    assert found["metadata"]["labels"] == {"app": "web"}
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "A", "value": "1"}, {"name": "C", "value": "3"}]
    assert container["ports"] == [{"containerPort": 8080, "protocol": "TCP"}]
    assert found["metadata"]["generation"] == 2


def test_conflicts_are_told_and_forced(kubectl, namespace, apply, shown):
    apply(WEB)
    kubectl("-n", namespace, "scale", "deployment/web", "--replicas", "5")
    assert entry(shown(), "kubectl", "Update", "scale") == {"f:spec": {"f:replicas": {}}}
    said = kubectl.fails("-n", namespace, "apply", "--server-side", "-f", "-", stdin=WEB)
    assert 'conflict with "kubectl" with subresource "scale" using apps/v1' in said
    assert ".spec.replicas" in said
    assert "--force-conflicts" in said  # kubectl's own advice: it understood the causes
    assert shown()["spec"]["replicas"] == 5
    apply(WEB, "--force-conflicts")
    assert shown()["spec"]["replicas"] == 2
    assert ("kubectl", "Update") not in managers(shown())
    other = WEB.replace("img:1", "img:2").replace("replicas: 2", "replicas: 3")
    said = kubectl.fails("-n", namespace, "apply", "--server-side", "--field-manager", "other", "-f", "-", stdin=other)
    assert 'conflicts with "kubectl"' in said
    assert ".spec.replicas" in said
    assert '.spec.template.spec.containers[name="main"].image' in said


def test_several_managers_share_an_object(kubectl, namespace, apply, shown):
    apply(WEB)
    mine = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"team": "x", "app": "web"}},
        "spec": {"template": {"spec": {"containers": [{"name": "side", "image": "s:1"}]}}},
    }
    apply(yaml.safe_dump(mine), name="mesh")
    found = shown()
    assert [c["name"] for c in found["spec"]["template"]["spec"]["containers"]] == ["main", "side"]
    apply(WEB.replace("{app: web, tier: front}", "{tier: front}", 1))
    assert shown()["metadata"]["labels"] == {"team": "x", "app": "web", "tier": "front"}  # mesh owns app as well
    del mine["spec"], mine["metadata"]["labels"]["app"]
    apply(yaml.safe_dump(mine), name="mesh")
    found = shown()
    assert [c["name"] for c in found["spec"]["template"]["spec"]["containers"]] == ["main"]
    assert found["metadata"]["labels"] == {"team": "x", "tier": "front"}


def test_diff_and_dry_run(kubectl, namespace, apply, shown):
    assert "serverside-applied (server dry run)" in apply(WEB, "--dry-run=server")
    assert "not found" in kubectl.fails("-n", namespace, "get", "deployment/web")
    apply(WEB)
    before = shown()
    assert kubectl("-n", namespace, "diff", "--server-side", "-f", "-", stdin=WEB) == ""
    done = kubectl.run("-n", namespace, "diff", "--server-side", "-f", "-", stdin=WEB.replace("img:1", "img:2"))
    assert done.returncode == 1, done.stderr
    assert "-        image: img:1" in done.stdout or "-      - image: img:1" in done.stdout
    assert "img:2" in done.stdout
    assert shown() == before


def test_from_client_side_to_server_side_and_back(kubectl, namespace, apply, shown):
    kubectl("-n", namespace, "apply", "-f", "-", stdin=WEB)
    assert managers(shown()) == [("kubectl-client-side-apply", "Update")]
    apply(WEB.replace("img:1", "img:2").replace(", tier: front", ""))
    found = shown()
    # kubectl has moved what client-side apply owned; it keeps its annotation under a name of its own.
    assert managers(found) == [("kubectl", "Apply"), ("kubectl-last-applied", "Apply")]
    assert "tier" not in found["metadata"]["labels"]
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "img:2"
    last = json.loads(found["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"])
    assert last["spec"]["template"]["spec"]["containers"][0]["image"] == "img:2"
    kubectl("-n", namespace, "apply", "-f", "-", stdin=WEB.replace("img:1", "img:3"))
    (container,) = shown()["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "img:3"


def test_every_command_names_its_manager(kubectl, namespace, shown):
    kubectl("-n", namespace, "create", "configmap", "c", "--from-literal=a=1")
    assert entry(shown("configmap/c"), "kubectl-create", "Update") == {"f:data": {".": {}, "f:a": {}}}
    kubectl("-n", namespace, "label", "configmap/c", "x=y")
    assert entry(shown("configmap/c"), "kubectl-label", "Update") == {"f:metadata": {"f:labels": {".": {}, "f:x": {}}}}
    kubectl("-n", namespace, "patch", "configmap/c", "-p", '{"data":{"a":"2"}}', "--field-manager", "me")
    found = shown("configmap/c")
    assert entry(found, "me", "Update") == {"f:data": {"f:a": {}}}
    assert entry(found, "kubectl-create", "Update") == {"f:data": {}}
    kubectl("-n", namespace, "annotate", "configmap/c", "n=1", "--field-manager", "me")
    assert set(entry(shown("configmap/c"), "me", "Update")) == {"f:data", "f:metadata"}
    assert "managedFields" not in kubectl("-n", namespace, "get", "configmap/c", "-o", "yaml")
    reset = '[{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}]'
    kubectl("-n", namespace, "patch", "configmap/c", "--type=json", "-p", reset)
    assert "managedFields" not in shown("configmap/c")["metadata"]
    edited = {"EDITOR": "sed -i s/first/second/", "TERM": "dumb"}
    kubectl("-n", namespace, "label", "configmap/c", "x=first", "--overwrite")
    assert "edited" in kubectl("-n", namespace, "edit", "configmap/c", "--field-manager", "ed", env=edited)
    assert shown("configmap/c")["metadata"]["labels"] == {"x": "second"}
    assert "managedFields" not in shown("configmap/c")["metadata"]  # untracked until it is applied to
    applied = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {b: '1'}\n"
    kubectl("-n", namespace, "apply", "--server-side", "-f", "-", stdin=applied)
    assert managers(shown("configmap/c")) == [("kubectl", "Apply"), ("before-first-apply", "Update")]


def test_status_is_applied_by_itself(kubectl, namespace, apply, shown):
    apply(WEB)
    status = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "status": {"replicas": 2}}
    apply(yaml.safe_dump(status), "--subresource=status", name="ctl")
    assert entry(shown(), "ctl", "Apply", "status") == {"f:status": {"f:replicas": {}}}
    assert shown()["status"]["replicas"] == 2


def test_custom_kinds(kubectl, namespace, apply, shown):
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "gizmos.ssa.example.com"},
        "spec": {
            "group": "ssa.example.com",
            "scope": "Namespaced",
            "names": {"plural": "gizmos", "kind": "Gizmo"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {
                                "spec": {
                                    "type": "object",
                                    "properties": {
                                        "parts": {
                                            "type": "array",
                                            "x-kubernetes-list-type": "map",
                                            "x-kubernetes-list-map-keys": ["id"],
                                            "items": {
                                                "type": "object",
                                                "required": ["id"],
                                                "properties": {"id": {"type": "string"}, "n": {"type": "integer"}},
                                            },
                                        },
                                        "tags": {
                                            "type": "array",
                                            "x-kubernetes-list-type": "set",
                                            "items": {"type": "string"},
                                        },
                                        "plain": {"type": "array", "items": {"type": "string"}},
                                    },
                                }
                            },
                        }
                    },
                }
            ],
        },
    }
    kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(crd))
    kubectl("wait", "--for=condition=Established", "crd/gizmos.ssa.example.com")

    def gizmo(**spec):
        return json.dumps(
            {"apiVersion": "ssa.example.com/v1", "kind": "Gizmo", "metadata": {"name": "g"}, "spec": spec}
        )

    apply(gizmo(parts=[{"id": "a", "n": 1}], tags=["x"], plain=["1"]), name="one")
    apply(gizmo(parts=[{"id": "b", "n": 2}], tags=["y", "x"]), name="two")
    found = shown("gizmo/g")
    assert found["spec"]["parts"] == [{"id": "a", "n": 1}, {"id": "b", "n": 2}]
    assert sorted(found["spec"]["tags"]) == ["x", "y"]
    assert entry(found, "two")["f:spec"]["f:tags"] == {'v:"x"': {}, 'v:"y"': {}}
    apply(gizmo(), name="one")
    found = shown("gizmo/g")
    assert found["spec"] == {"parts": [{"id": "b", "n": 2}], "tags": found["spec"]["tags"]}
    assert sorted(found["spec"]["tags"]) == ["x", "y"]  # two owns x as well
    said = kubectl.fails("-n", namespace, "apply", "--server-side", "-f", "-", stdin=gizmo(parts=[{"n": 1}]))
    assert "omits all key fields" in said
    said = kubectl.fails(
        "-n", namespace, "apply", "--server-side", "--validate=false", "-f", "-", stdin=gizmo(colour="red")
    )
    assert ".spec.colour: field not declared in schema" in said
    kubectl("delete", "crd/gizmos.ssa.example.com")


@pytest.fixture
def applying(background):
    """The typed client, sending its patches as apply patches: every version of it can be told so this way."""
    made = config.new_client_from_config(str(background.http.kubeconfig))
    made.set_default_header("Content-Type", "application/apply-patch+yaml")
    yield client.CoreV1Api(made)
    made.rest_client.pool_manager.clear()
    made.close()


def test_the_python_client(api_client, applying, namespace):
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1", "b": "2"}}
    made = applying.patch_namespaced_config_map("c", namespace, body, field_manager="py")
    assert made.metadata.managed_fields[0].manager == "py"
    assert made.metadata.managed_fields[0].fields_v1 == {"f:data": {"f:a": {}, "f:b": {}}}
    changed = {**body, "data": {"a": "3"}}
    with pytest.raises(ApiException) as refused:
        applying.patch_namespaced_config_map("c", namespace, changed, field_manager="other")
    status = json.loads(refused.value.body)
    assert (status["code"], status["reason"]) == (409, "Conflict")
    assert status["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "py"', "field": ".data.a"}
    ]
    forced = applying.patch_namespaced_config_map("c", namespace, changed, field_manager="other", force=True)
    assert forced.data == {"a": "3", "b": "2"}
    with pytest.raises(ApiException) as nameless:
        applying.patch_namespaced_config_map("c", namespace, body)
    assert nameless.value.status == 422
    body = {"metadata": {"name": "d"}, "data": {"x": "y"}}
    made = client.CoreV1Api(api_client).create_namespaced_config_map(namespace, body)
    assert made.metadata.managed_fields[0].manager == "OpenAPI-Generator"  # the first word of its user agent


def test_the_dynamic_client(api_client, namespace):
    found = dynamic.DynamicClient(api_client).resources.get(api_version="v1", kind="Service")
    body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s"},
        "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]},
    }
    made = found.server_side_apply(body, namespace=namespace, field_manager="dyn")
    assert made.spec.ports[0].protocol == "TCP"
    assert made.metadata.managedFields[0].manager == "dyn"
    again = found.server_side_apply(body, namespace=namespace, field_manager="dyn")
    assert again.metadata.resourceVersion == made.metadata.resourceVersion
    body["spec"]["ports"][0]["name"] = "http"
    named = found.server_side_apply(body, namespace=namespace, field_manager="dyn")
    assert [p.name for p in named.spec.ports] == ["http"]
    body["spec"]["selector"] = {"a": "c"}
    with pytest.raises(ConflictError):
        found.server_side_apply(body, namespace=namespace, field_manager="else")
    taken = found.server_side_apply(body, namespace=namespace, field_manager="else", force_conflicts=True)
    assert taken.spec.selector.a == "c"
