"""Rules by tables: what is sent, which fields are named. Each begins from an object without fault."""

import copy

import pytest

from headrace.api.apps import Deployment
from headrace.api.batch import Job
from headrace.api.core import ConfigMap, PersistentVolumeClaim, Pod, Secret, Service
from headrace.api.rbac import ClusterRole, ClusterRoleBinding, Role, RoleBinding
from headrace.api.storage import StorageClass
from headrace.apiserver.admission import defaults, rules

TEMPLATE = {
    "metadata": {"labels": {"a": "b"}},
    "spec": {"containers": [{"name": "c", "image": "i:1", "ports": [{"containerPort": 80, "name": "web"}]}]},
}
RULE = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
REF = {"kind": "ClusterRole", "name": "r"}
GOOD = {
    Pod: {"spec": copy.deepcopy(TEMPLATE["spec"])},
    Deployment: {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}},
    Job: {"spec": {"template": {"spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}}},
    Service: {"spec": {"ports": [{"port": 80}]}},
    ConfigMap: {"data": {"a": "b"}},
    Secret: {"data": {"a": "Yg=="}},
    PersistentVolumeClaim: {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}},
    StorageClass: {"provisioner": "p"},
    Role: {"kind": "Role", "rules": [RULE]},
    ClusterRole: {"kind": "ClusterRole", "rules": [RULE]},
    RoleBinding: {"kind": "RoleBinding", "roleRef": REF, "subjects": [{"kind": "User", "name": "u"}]},
    ClusterRoleBinding: {"kind": "ClusterRoleBinding", "roleRef": REF},
}


def build(kind, path="", value=None):
    """The good object with one thing changed; a value of None removes it."""
    obj = copy.deepcopy({"kind": kind.__name__, "metadata": {"name": "x"}, **GOOD[kind]})
    if path:
        place = obj
        *parents, last = [int(p) if p.isdigit() else p for p in path.split("/")]
        for parent in parents:
            place = place[parent] if isinstance(place, list) else place.setdefault(parent, {})
        if value is None:
            del place[last]
        else:
            place[last] = value
    defaults.fill(kind.INFO, obj)
    return obj


@pytest.mark.parametrize("kind", GOOD, ids=lambda k: k.__name__)
def test_the_good_ones_are_good(kind):
    assert rules.check(kind.INFO, build(kind)) == []
    assert rules.check_update(kind.INFO, build(kind), build(kind)) == []


C = "spec/containers/0"
T = "spec/template/spec/containers/0"


@pytest.mark.parametrize(
    ("kind", "path", "value", "field", "message"),
    [
        (Pod, "spec/containers", [], "spec.containers", "Required value"),
        (Pod, f"{C}/name", "", "spec.containers[0].name", "Required value"),
        (Pod, f"{C}/name", "a_b", "spec.containers[0].name", 'Invalid value: "a_b"'),
        (Pod, f"{C}/image", "", "spec.containers[0].image", "Required value"),
        (Pod, f"{C}/image", " i", "spec.containers[0].image", "whitespace"),
        (Pod, f"{C}/imagePullPolicy", "Maybe", "spec.containers[0].imagePullPolicy", 'Unsupported value: "Maybe"'),
        (Pod, f"{C}/ports/0/containerPort", 0, "spec.containers[0].ports[0].containerPort", "Required value"),
        (Pod, f"{C}/ports/0/containerPort", 70000, "spec.containers[0].ports[0].containerPort", "between 1 and 65535"),
        (Pod, f"{C}/ports/0/protocol", "ICMP", "spec.containers[0].ports[0].protocol", "Unsupported value"),
        (Pod, f"{C}/env", [{"value": "x"}], "spec.containers[0].env[0].name", "Required value"),
        (Pod, f"{C}/env", [{"name": "A", "valueFrom": {}}], "spec.containers[0].env[0].valueFrom", "must specify one"),
        (
            Pod,
            f"{C}/env",
            [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "spec.containers[0].env[0].valueFrom",
            "may not be specified when `value` is not empty",
        ),
        (
            Pod,
            f"{C}/env",
            [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}],
            "spec.containers[0].env[0].valueFrom.secretKeyRef.key",
            "Required value",
        ),
        (
            Pod,
            f"{C}/volumeMounts",
            [{"name": "no", "mountPath": "/x"}],
            "spec.containers[0].volumeMounts[0].name",
            'Not found: "no"',
        ),
        (Pod, f"{C}/resources", {"limits": {"cpu": "x"}}, "spec.containers[0].resources.limits.cpu", "quantities"),
        (Pod, f"{C}/resources", {"limits": {"cpu": "-1"}}, "spec.containers[0].resources.limits.cpu", "greater than"),
        (
            Pod,
            f"{C}/resources",
            {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}},
            "spec.containers[0].resources.requests",
            "must be less than or equal to cpu limit of 1",
        ),
        (Pod, f"{C}/livenessProbe", {}, "spec.containers[0].livenessProbe", "must specify a handler type"),
        (
            Pod,
            f"{C}/livenessProbe",
            {"exec": {"command": ["x"]}, "tcpSocket": {"port": 1}},
            "spec.containers[0].livenessProbe.tcpSocket",
            "may not specify more than 1 handler type",
        ),
        (Pod, "spec/restartPolicy", "Sometimes", "spec.restartPolicy", "supported values"),
        (Pod, "spec/dnsPolicy", "Guess", "spec.dnsPolicy", "supported values"),
        (Pod, "spec/activeDeadlineSeconds", 0, "spec.activeDeadlineSeconds", "between 1 and"),
        (Pod, "spec/hostname", "A.b", "spec.hostname", "RFC 1123"),
        (Pod, "spec/volumes", [{"name": "v"}, {"name": "v"}], "spec.volumes[1].name", 'Duplicate value: "v"'),
        (
            Pod,
            "spec/volumes",
            [{"name": "v", "emptyDir": {}, "secret": {"secretName": "s"}}],
            "spec.volumes[0].secret",
            "more than 1 volume type",
        ),
        (
            Pod,
            "spec/volumes",
            [{"name": "v", "hostPath": {"path": "/a/../b"}}],
            "spec.volumes[0].hostPath.path",
            "must not contain '..'",
        ),
        (
            Pod,
            "spec/initContainers",
            [{"name": "c", "image": "i"}],
            "spec.initContainers[0].name",
            'Duplicate value: "c"',
        ),
        (Deployment, "spec/selector", None, "spec.selector", "Required value"),
        (Deployment, "spec/selector", {}, "spec.selector", "empty selector"),
        (
            Deployment,
            "spec/selector/matchLabels",
            {"a": "c"},
            "spec.template.metadata.labels",
            "`selector` does not match template `labels`",
        ),
        (
            Deployment,
            "spec/selector/matchExpressions",
            [{"key": "a", "operator": "Near"}],
            "spec.selector.matchExpressions[0].operator",
            "not a valid selector operator",
        ),
        (Deployment, "spec/replicas", -1, "spec.replicas", "greater than or equal to 0"),
        (Deployment, "spec/strategy", {"type": "Blue"}, "spec.strategy.type", "supported values"),
        (
            Deployment,
            "spec/strategy",
            {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}},
            "spec.strategy.rollingUpdate",
            "Forbidden",
        ),
        (
            Deployment,
            "spec/strategy",
            {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}},
            "spec.strategy.rollingUpdate.maxUnavailable",
            "may not be 0",
        ),
        (
            Deployment,
            "spec/template/spec/restartPolicy",
            "Never",
            "spec.template.spec.restartPolicy",
            'supported values: "Always"',
        ),
        (Deployment, f"{T}/image", "", "spec.template.spec.containers[0].image", "Required value"),
        (Job, "spec/template/spec/restartPolicy", None, "spec.template.spec.restartPolicy", '"Never", "OnFailure"'),
        (Job, "spec/backoffLimit", -1, "spec.backoffLimit", "greater than or equal to 0"),
        (Job, "spec/completionMode", "Odd", "spec.completionMode", "supported values"),
        (Service, "spec/ports", [], "spec.ports", "Required value"),
        (Service, "spec/type", "Magic", "spec.type", "supported values"),
        (Service, "spec/ports", [{"port": 80}, {"port": 81}], "spec.ports[0].name", "Required value"),
        (Service, "spec/ports", [{"port": 99999}], "spec.ports[0].port", "between 1 and 65535"),
        (
            Service,
            "spec/ports",
            [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}],
            "spec.ports[1]",
            "Duplicate value",
        ),
        (Service, "spec/type", "ExternalName", "spec.externalName", "Required value"),
        (ConfigMap, "data", {"a b": "x"}, "data[a b]", "config key"),
        (ConfigMap, "data", {"a": "x" * (1 << 20) + "x"}, "", "Too long"),
        (Secret, "type", "kubernetes.io/tls", "data[tls.crt]", "Required value"),
        (PersistentVolumeClaim, "spec/accessModes", [], "spec.accessModes", "at least 1 access mode"),
        (PersistentVolumeClaim, "spec/accessModes", ["Some"], "spec.accessModes", "supported values"),
        (PersistentVolumeClaim, "spec/resources", {}, "spec.resources[storage]", "Required value"),
        (
            PersistentVolumeClaim,
            "spec/dataSource",
            {"kind": "PersistentVolumeClaim"},
            "spec.dataSource.name",
            "Required",
        ),
        (PersistentVolumeClaim, "spec/dataSourceRef", {"name": "a"}, "spec.dataSourceRef.kind", "Required value"),
        (PersistentVolumeClaim, "spec/dataSource", {"kind": "Pod", "name": "a"}, "spec.dataSource", "default apiGroup"),
        (StorageClass, "provisioner", "", "provisioner", "Required value"),
        (StorageClass, "reclaimPolicy", "Recycle", "reclaimPolicy", "supported values"),
        (Role, "rules/0/verbs", [], "rules[0].verbs", "at least one value"),
        (Role, "rules/0/nonResourceURLs", ["/x"], "rules[0].nonResourceURLs", "namespaced rules"),
        (ClusterRole, "rules/0/resources", [], "rules[0].resources", "at least one resource"),
        (RoleBinding, "roleRef/name", "", "roleRef.name", "Required value"),
        (RoleBinding, "subjects/0", {"kind": "ServiceAccount", "name": "s"}, "subjects[0].namespace", "Required"),
        (ClusterRoleBinding, "roleRef/kind", "Role", "roleRef.kind", "supported values"),
    ],
)
def test_each_fault_is_named(kind, path, value, field, message):
    found = rules.check(kind.INFO, build(kind, path, value))
    assert field in [c.field for c in found if message in c.message], found


def test_all_faults_are_named_together():
    pod = build(Pod, "spec/containers", [{"name": "A"}, {"name": "b", "image": "i", "ports": [{"containerPort": 0}]}])
    fields = [c.field for c in rules.check(Pod.INFO, pod)]
    assert fields == [
        "spec.containers[0].name",
        "spec.containers[0].image",
        "spec.containers[1].ports[0].containerPort",
    ]


PLACED = ("spec/nodeName", "n1")


@pytest.mark.parametrize(
    ("kind", "before", "after", "field"),
    [
        (Pod, None, ("spec/hostNetwork", True), "spec"),
        (Pod, None, (f"{C}/command", ["x"]), "spec"),
        (Pod, PLACED, ("spec/nodeName", "n2"), "spec"),
        (Pod, ("spec/tolerations", [{"key": "a"}]), ("spec/tolerations", []), "spec.tolerations"),
        (Pod, None, (f"{C}/image", "i:2"), None),
        (Pod, None, PLACED, None),
        (Pod, None, ("spec/activeDeadlineSeconds", 5), None),
        (Pod, None, ("spec/tolerations", [{"key": "a"}]), None),
        (Deployment, None, ("spec/selector/matchLabels", {"x": "y"}), "spec.selector"),
        (Deployment, None, ("spec/replicas", 5), None),
        (Job, None, (f"{T}/image", "i:2"), "spec.template"),
        (Job, None, ("spec/completions", 7), "spec.completions"),
        (Job, None, ("spec/suspend", True), None),
        (Service, ("spec/clusterIP", "10.0.0.1"), ("spec/clusterIP", "10.0.0.2"), "spec.clusterIPs[0]"),
        (Service, None, ("spec/ports", [{"port": 81}]), None),
        (ConfigMap, ("immutable", True), ("data", {"x": "y"}), "data"),
        (ConfigMap, None, ("data", {"x": "y"}), None),
        (Secret, None, ("type", "other"), "type"),
        (PersistentVolumeClaim, None, ("spec/accessModes", ["ReadWriteMany"]), "spec"),
        (PersistentVolumeClaim, None, ("spec/resources/requests/storage", "2Gi"), "spec"),
        (PersistentVolumeClaim, None, ("spec/volumeName", "pv-1"), None),
        (PersistentVolumeClaim, None, ("spec/dataSource", {"kind": "PersistentVolumeClaim", "name": "a"}), "spec"),
        (
            PersistentVolumeClaim,
            ("status/phase", "Bound"),
            ("spec/resources/requests/storage", "2Gi"),
            None,
        ),
        (StorageClass, None, ("provisioner", "q"), "provisioner"),
        (RoleBinding, None, ("roleRef/name", "other"), "roleRef"),
        (RoleBinding, None, ("subjects", []), None),
    ],
)
def test_what_may_change(kind, before, after, field):
    old = build(kind, *(before or ()))
    new = build(kind, *after)
    if before and before[0] == "immutable":
        new["immutable"] = True
    fields = [c.field for c in rules.check_update(kind.INFO, new, old)]
    assert fields == ([field] if field else [])
