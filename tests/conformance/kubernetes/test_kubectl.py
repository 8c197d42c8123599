"""Unmodified kubectl against the API server: what people type, and what they see."""

import json
import shutil
import time

import pytest
import yaml

from headrace.api.apps import Deployment
from headrace.api.core import Pod

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web}
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

CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, shortNames: [wd], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    - {name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status'}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    schema:
      openAPIV3Schema:
        type: object
        description: A widget of some size.
        properties:
          spec:
            type: object
            description: What is wanted.
            required: [size]
            properties:
              size: {type: integer, minimum: 1, description: How large it is.}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"""


def rows(output):
    """A printed table as a list of lists."""
    return [line.split() for line in output.splitlines()]


def pod(name, **labels):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [{"name": "main", "image": "img"}]},
    }


def running(background, name, namespace):
    """What the node agent would report of a pod that runs."""
    status = {
        "phase": "Running",
        "podIP": "10.199.0.7",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [
            {
                "name": "main",
                "image": "img",
                "imageID": "",
                "restartCount": 0,
                "ready": True,
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
            }
        ],
    }
    client = background.http.cluster.client
    return client.patch(Pod, name, {"status": status}, namespace, subresource="status")


def test_get_in_every_form(kubectl, background, namespace):
    for name, app in (("one", "a"), ("two", "b")):
        kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(pod(name, app=app)))
    background.run(running(background, "one", namespace))
    table = rows(kubectl("-n", namespace, "get", "pods"))
    assert table[0] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert [r[:4] for r in table[1:]] == [["one", "1/1", "Running", "0"], ["two", "0/1", "Pending", "0"]]
    wide = rows(kubectl("-n", namespace, "get", "pods", "-o", "wide", "one"))
    assert wide[0][5:7] == ["IP", "NODE"]
    assert wide[1][5] == "10.199.0.7"
    everywhere = rows(kubectl("get", "pods", "-A"))
    assert everywhere[0][0] == "NAMESPACE"
    assert [namespace, "one"] in [r[:2] for r in everywhere]
    assert [r[0] for r in rows(kubectl("-n", namespace, "get", "po", "-l", "app in (b)", "--no-headers"))] == ["two"]
    by_field = kubectl("-n", namespace, "get", "pods", "--field-selector", "status.phase=Running", "-o", "name")
    assert by_field == "pod/one\n"
    assert kubectl("-n", namespace, "get", "pods", "-o", "jsonpath={.items[*].metadata.name}") == "one two"
    assert yaml.safe_load(kubectl("-n", namespace, "get", "pod", "one", "-o", "yaml"))["status"]["phase"] == "Running"
    assert json.loads(kubectl("-n", namespace, "get", "pods", "-o", "json"))["kind"] == "List"
    labels = rows(kubectl("-n", namespace, "get", "pods", "--show-labels", "-L", "app", "--sort-by=.metadata.name"))
    assert labels[1][-2:] == ["a", "app=a"]
    assert rows(kubectl("-n", namespace, "get", "pods", "-o", "custom-columns=N:.metadata.name"))[1] == ["one"]
    assert "No resources found" in kubectl.run("-n", namespace, "get", "services").stderr
    assert 'pods "three" not found' in kubectl.fails("-n", namespace, "get", "pod", "three")
    assert "doesn't have a resource type" in kubectl.fails("get", "nosuch")


def test_get_watches(kubectl, background, namespace):
    process = kubectl.popen("-n", namespace, "get", "pods", "-w", "--output-watch-events")
    try:
        time.sleep(0.5)
        kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(pod("one")))
        background.run(running(background, "one", namespace))
        kubectl("-n", namespace, "delete", "pod", "one", "--now")
        lines = [process.stdout.readline().split() for _ in range(4)]
    finally:
        process.terminate()
        process.communicate()
    assert lines[0][:2] == ["EVENT", "NAME"]
    assert [line[0] for line in lines[1:]] == ["ADDED", "MODIFIED", "DELETED"]
    assert [line[3] for line in lines[1:3]] == ["Pending", "Running"]


def test_describe(kubectl, namespace):
    kubectl("-n", namespace, "apply", "-f", "-", stdin=DEPLOYMENT)
    kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(pod("one")))
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "one.1"},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": "one", "namespace": namespace},
        "reason": "Unschedulable",
        "message": "no image matches: build one",
        "type": "Warning",
    }
    uid = kubectl("-n", namespace, "get", "pod", "one", "-o", "jsonpath={.metadata.uid}")
    event["involvedObject"]["uid"] = uid
    kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(event))
    described = kubectl("-n", namespace, "describe", "pod", "one")
    assert "no image matches: build one" in described
    assert "Replicas:" in kubectl("-n", namespace, "describe", "deployment", "web")
    assert "Unschedulable" in kubectl("-n", namespace, "get", "events")
    assert "Unschedulable" in kubectl("-n", namespace, "events", "--for", "pod/one")
    assert "Active" in kubectl("describe", "namespace", namespace)
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.199.0.9"], "conditions": {"ready": True}}],
        "ports": [{"name": "80-8080", "port": 8080}],
    }
    kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(endpoints))
    kubectl("-n", namespace, "create", "service", "clusterip", "web", "--tcp=80:8080")
    service = kubectl("-n", namespace, "describe", "service", "web")
    assert ["Endpoints:", "10.199.0.9:8080"] in [line.split() for line in service.splitlines()]


def test_apply_again_and_again(kubectl, namespace):
    apply = ("-n", namespace, "apply", "-f", "-")
    assert kubectl(*apply, stdin=DEPLOYMENT) == "deployment.apps/web created\n"
    assert kubectl(*apply, stdin=DEPLOYMENT) == "deployment.apps/web unchanged\n"
    kubectl("-n", namespace, "label", "deployment", "web", "mine=yes")
    changed = DEPLOYMENT.replace('- {name: B, value: "2"}', '- {name: C, value: "3"}').replace("img:1", "img:2")
    assert kubectl(*apply, stdin=changed) == "deployment.apps/web configured\n"
    found = json.loads(kubectl("-n", namespace, "get", "deployment", "web", "-o", "json"))
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "img:2"
    assert {e["name"] for e in container["env"]} == {"A", "C"}  # lists merge by key, and what was removed goes
    assert found["metadata"]["labels"] == {"app": "web", "mine": "yes"}
    assert found["metadata"]["generation"] == 2


def test_diff_and_dry_run(kubectl, namespace):
    kubectl("-n", namespace, "apply", "-f", "-", stdin=DEPLOYMENT)
    assert kubectl("-n", namespace, "diff", "-f", "-", stdin=DEPLOYMENT) == ""
    differs = kubectl.run("-n", namespace, "diff", "-f", "-", stdin=DEPLOYMENT.replace("img:1", "img:2"))
    assert (differs.returncode, "+        - image: img:2" in differs.stdout or "img:2" in differs.stdout) == (1, True)
    kubectl("-n", namespace, "create", "configmap", "a", "--dry-run=server", "--from-literal=x=1")
    assert "not found" in kubectl.fails("-n", namespace, "get", "configmap", "a")


def test_edit(kubectl, namespace):
    kubectl("-n", namespace, "apply", "-f", "-", stdin=DEPLOYMENT)
    done = kubectl(
        "-n", namespace, "edit", "deployment", "web", env={"EDITOR": "sed -i s/img:1/img:9/", "TERM": "dumb"}
    )
    assert "edited" in done
    image = "jsonpath={.spec.template.spec.containers[0].image}"
    assert kubectl("-n", namespace, "get", "deployment", "web", "-o", image) == "img:9"


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("strategic", {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "new"}]}}}}),
        ("merge", {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "new"}]}}}}),
        ("json", [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "new"}]),
    ],
)
def test_patch(kubectl, request, kind, patch):
    namespace = f"patch-{kind}"
    kubectl("create", "namespace", namespace)
    kubectl("-n", namespace, "apply", "-f", "-", stdin=DEPLOYMENT)
    kubectl("-n", namespace, "patch", "deployment", "web", f"--type={kind}", "-p", json.dumps(patch))
    found = json.loads(kubectl("-n", namespace, "get", "deployment", "web", "-o", "json"))
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "new"
    assert ("env" in container) == (kind != "merge")  # a merge patch replaces lists


def test_replace(kubectl, namespace):
    kubectl("-n", namespace, "create", "configmap", "a", "--from-literal=x=1")
    found = json.loads(kubectl("-n", namespace, "get", "configmap", "a", "-o", "json"))
    stale = json.dumps({**found, "data": {"x": "3"}})
    found["data"] = {"x": "2"}
    kubectl("-n", namespace, "replace", "-f", "-", stdin=json.dumps(found))
    assert kubectl("-n", namespace, "get", "configmap", "a", "-o", "jsonpath={.data.x}") == "2"
    assert "the object has been modified" in kubectl.fails("-n", namespace, "replace", "-f", "-", stdin=stale)


def test_delete_waits(kubectl, background, namespace):
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "finalizers": ["example.com/x"]}}
    kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(body))

    def release():
        from headrace.api.core import ConfigMap

        return background.http.cluster.client.patch(ConfigMap, "a", {"metadata": {"finalizers": None}}, namespace)

    begun = time.monotonic()
    done = background.later(0.7, release)
    assert 'configmap "a" deleted' in kubectl("-n", namespace, "delete", "configmap", "a")
    done.result(5)
    assert time.monotonic() - begun >= 0.7
    for name in "xyz":
        kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(pod(name, group="g")))
    kubectl("-n", namespace, "delete", "pods", "-l", "group=g")
    assert "No resources found" in kubectl.run("-n", namespace, "get", "pods").stderr


def test_wait(kubectl, background, namespace):
    kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(pod("one")))
    started = background.later(0.5, lambda: running(background, "one", namespace))
    assert "condition met" in kubectl("-n", namespace, "wait", "pod/one", "--for=condition=Ready", "--timeout=10s")
    started.result(5)
    kubectl("-n", namespace, "wait", "pod/one", "--for=jsonpath={.status.phase}=Running", "--timeout=5s")
    client = background.http.cluster.client
    gone = background.later(0.5, lambda: client.delete(Pod, "one", namespace, grace_period_seconds=0))
    kubectl("-n", namespace, "wait", "pod/one", "--for=delete", "--timeout=10s")
    gone.result(5)
    kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(pod("two")))
    failed = kubectl.fails("-n", namespace, "wait", "pod/two", "--for=condition=Ready", "--timeout=1s")
    assert "timed out" in failed


def test_create_commands(kubectl, namespace):
    create = ("-n", namespace, "create")
    kubectl(*create, "configmap", "cm", "--from-literal=x=1")
    kubectl(*create, "secret", "generic", "s", "--from-literal=password=hunter2")
    kubectl(*create, "serviceaccount", "bob")
    kubectl(*create, "deployment", "web", "--image=img", "--replicas=3", "--port=80")
    kubectl(*create, "job", "once", "--image=img", "--", "true")
    kubectl(*create, "role", "reader", "--verb=get,list", "--resource=pods")
    kubectl(*create, "rolebinding", "reader", "--role=reader", f"--serviceaccount={namespace}:bob")
    kubectl(*create, "service", "clusterip", "web", "--tcp=80:8080")
    kubectl("-n", namespace, "run", "one", "--image=img", "--restart=Never", "--", "sleep", "1")
    assert kubectl("-n", namespace, "get", "secret", "s", "-o", "jsonpath={.data.password}") == "aHVudGVyMg=="
    assert kubectl("-n", namespace, "get", "deployment", "web", "-o", "jsonpath={.spec.replicas}") == "3"
    ports = "jsonpath={.spec.ports[0].port}:{.spec.ports[0].targetPort}"
    assert kubectl("-n", namespace, "get", "service", "web", "-o", ports) == "80:8080"
    assert kubectl("-n", namespace, "get", "pod", "one", "-o", "jsonpath={.spec.containers[0].args}") == '["sleep","1"]'
    assert 'configmaps "cm" already exists' in kubectl.fails(*create, "configmap", "cm")
    kubectl("-n", namespace, "expose", "deployment", "web", "--name=web2", "--port=80")
    assert kubectl("-n", namespace, "get", "service", "web2", "-o", "jsonpath={.spec.selector.app}") == "web"
    shown = kubectl("-n", namespace, "get", "all")
    assert {"pod/one", "service/web", "deployment.apps/web", "job.batch/once"} <= {r[0] for r in rows(shown) if r}


def test_label_annotate_scale_rollout(kubectl, background, namespace):
    kubectl("-n", namespace, "apply", "-f", "-", stdin=DEPLOYMENT)
    kubectl("-n", namespace, "label", "deployment", "web", "tier=front")
    kubectl("-n", namespace, "annotate", "deployment", "web", "note=hello there")
    kubectl("-n", namespace, "label", "deployment", "web", "tier-")
    meta = json.loads(kubectl("-n", namespace, "get", "deployment", "web", "-o", "json"))["metadata"]
    assert meta["labels"] == {"app": "web"}
    assert meta["annotations"]["note"] == "hello there"
    assert "scaled" in kubectl("-n", namespace, "scale", "deployment", "web", "--replicas=5")
    assert kubectl("-n", namespace, "get", "deployment", "web", "-o", "jsonpath={.spec.replicas}") == "5"
    status = {
        "observedGeneration": 2,
        "replicas": 5,
        "updatedReplicas": 5,
        "readyReplicas": 5,
        "availableReplicas": 5,
        "conditions": [{"type": "Available", "status": "True"}, {"type": "Progressing", "status": "True"}],
    }
    client = background.http.cluster.client
    done = background.later(
        0.5, lambda: client.patch(Deployment, "web", {"status": status}, namespace, subresource="status")
    )
    output = kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=10s")
    done.result(5)
    assert "successfully rolled out" in output
    kubectl("-n", namespace, "rollout", "restart", "deployment/web")
    kubectl("-n", namespace, "set", "image", "deployment/web", "main=img:7")
    assert rows(kubectl("-n", namespace, "get", "deployment", "web"))[1][:2] == ["web", "5/5"]


def test_logs(kubectl, namespace):
    kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(pod("one", app="a")))
    assert kubectl("-n", namespace, "logs", "one") == "first\nsecond\n"
    assert kubectl("-n", namespace, "logs", "-f", "one", "-c", "main", "--tail=1") == "second\n"
    assert kubectl("-n", namespace, "logs", "-l", "app=a") == "first\nsecond\n"
    assert "container other is not valid for pod one" in kubectl.fails("-n", namespace, "logs", "one", "-c", "other")
    assert "does not have a host assigned" in kubectl.fails("-n", namespace, "exec", "one", "--", "ls")


def test_who_may(kubectl, background, namespace):
    kubectl("-n", namespace, "create", "serviceaccount", "bob")
    kubectl("-n", namespace, "create", "role", "reader", "--verb=get,list", "--resource=pods")
    kubectl("-n", namespace, "create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={namespace}:bob")
    token = kubectl("-n", namespace, "create", "token", "bob").strip()
    as_bob = ("--token", token)
    assert f"system:serviceaccount:{namespace}:bob" in kubectl(*as_bob, "auth", "whoami")
    kubectl(*as_bob, "-n", namespace, "get", "pods")
    assert kubectl(*as_bob, "-n", namespace, "auth", "can-i", "list", "pods") == "yes\n"
    assert kubectl.run(*as_bob, "-n", namespace, "auth", "can-i", "delete", "pods").stdout == "no\n"
    assert kubectl.run(*as_bob, "-n", "default", "auth", "can-i", "list", "pods").stdout == "no\n"
    listed = kubectl(*as_bob, "-n", namespace, "auth", "can-i", "--list")
    assert ["pods", "[]", "[]", "[get", "list]"] in rows(listed)
    denied = kubectl.fails(*as_bob, "-n", "default", "get", "pods")
    assert f'User "system:serviceaccount:{namespace}:bob" cannot list resource "pods"' in denied
    other = kubectl("-n", namespace, "create", "token", "bob", "--audience=pipelines.kubeflow.org").strip()
    assert "Unauthorized" in kubectl.fails("--token", other, "get", "pods")
    assert "Unauthorized" in kubectl.fails("--token", "nonsense", "get", "pods")
    forbidden = kubectl.fails("-n", namespace, "get", "secrets", f"--as=system:serviceaccount:{namespace}:bob")
    assert "Forbidden" in forbidden
    assert kubectl("auth", "can-i", "*", "*") == "yes\n"
    assert "kubernetes-admin" in kubectl("auth", "whoami")
    anonymous = kubectl.run(
        "--kubeconfig=/dev/null",
        f"--server={background.http.server.url}",
        "--insecure-skip-tls-verify",
        "--username=somebody",
        "--password=wrong",
        "get",
        "--raw=/api",
    )
    assert anonymous.returncode != 0
    assert "must be logged in" in anonymous.stderr or "Unauthorized" in anonymous.stderr


def test_discovery(kubectl, background):
    resources = kubectl("api-resources")
    for wanted in ("pods", "deployments", "customresourcedefinitions", "storageclasses", "tokenreviews"):
        assert wanted in resources
    assert {"v1", "apps/v1", "batch/v1"} <= set(kubectl("api-versions").split())
    assert background.http.server.url in kubectl("cluster-info")
    assert "v1.32." in json.loads(kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"]
    assert "podIP" in kubectl("explain", "pod.status")
    explained = kubectl("explain", "deployment.spec.replicas")
    assert "<integer>" in explained
    assert "FIELD: replicas" in explained
    assert "containers" in kubectl("explain", "pod.spec", "--recursive")


def test_bad_input(kubectl, namespace):
    create = ("-n", namespace, "create", "-f", "-")
    assert "error" in kubectl.fails(*create, stdin="a: [").lower()
    assert 'no matches for kind "Nosuch"' in kubectl.fails(
        *create, stdin="apiVersion: v1\nkind: Nosuch\nmetadata: {name: a}\n"
    )
    wrong = DEPLOYMENT.replace("replicas: 2", "replicas: two")
    assert "unmarshal string into Go struct field DeploymentSpec.spec.replicas" in kubectl.fails(*create, stdin=wrong)
    unknown = DEPLOYMENT.replace("replicas: 2", "replicaz: 2")
    assert 'unknown field "spec.replicaz"' in kubectl.fails(*create, stdin=unknown)
    no_containers = json.dumps({**pod("one"), "spec": {}})
    assert "spec.containers: Required value" in kubectl.fails(*create, stdin=no_containers)
    assert "Invalid value" in kubectl.fails(*create, stdin=json.dumps(pod("Not_A_Name")))


def test_debug(kubectl, background, namespace):
    kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(pod("one")))
    background.run(running(background, "one", namespace))
    kubectl("-n", namespace, "debug", "one", "--image=busybox", "--profile=general", "-c", "look")
    names = kubectl("-n", namespace, "get", "pod", "one", "-o", "jsonpath={.spec.ephemeralContainers[*].name}")
    assert names == "look"


def test_custom_resources(kubectl, namespace):
    assert "created" in kubectl("apply", "-f", "-", stdin=CRD)
    kubectl("wait", "crd/widgets.example.com", "--for=condition=Established", "--timeout=10s")
    widget = {
        "apiVersion": "example.com/v1",
        "kind": "Widget",
        "metadata": {"name": "w"},
        "spec": {"size": 3},
    }
    apply = ("-n", namespace, "apply", "-f", "-")
    assert kubectl(*apply, stdin=json.dumps(widget)) == "widget.example.com/w created\n"
    assert kubectl(*apply, stdin=json.dumps(widget)) == "widget.example.com/w unchanged\n"
    widget["spec"]["size"] = 4
    assert kubectl(*apply, stdin=json.dumps(widget)) == "widget.example.com/w configured\n"
    status = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    kubectl("-n", namespace, "patch", "wd", "w", "--type=merge", "--subresource=status", "-p", json.dumps(status))
    table = rows(kubectl("-n", namespace, "get", "wd"))
    assert table[0] == ["NAME", "SIZE", "READY", "AGE"]
    assert table[1][:3] == ["w", "4", "True"]
    kubectl("-n", namespace, "wait", "widget/w", "--for=condition=Ready", "--timeout=5s")
    assert "How large it is." in kubectl("explain", "widget.spec.size")
    assert "Widget" in kubectl("-n", namespace, "describe", "widget", "w")
    widget["spec"]["size"] = 0
    assert "spec.size" in kubectl.fails(*apply, stdin=json.dumps(widget))
    widget["spec"] = {"size": "big"}
    assert "spec.size" in kubectl.fails(*apply, stdin=json.dumps(widget))
    kubectl("delete", "crd", "widgets.example.com")
    # kubectl remembers for some minutes which kinds there are: it is the server that does not know this one
    assert "could not find the requested resource" in kubectl.fails("-n", namespace, "get", "widgets")
