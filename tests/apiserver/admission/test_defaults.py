"""Defaults, as a real API server shows them."""

import base64

import pytest

from headrace.api.apps import Deployment, ReplicaSet, StatefulSet
from headrace.api.batch import Job
from headrace.api.core import Endpoints, Namespace, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service
from headrace.api.rbac import RoleBinding
from headrace.api.storage import StorageClass
from headrace.apiserver.admission import defaults
from headrace.apiserver.admission.defaults.pods import qos_class

CONTAINER = {
    "name": "c",
    "image": "python:3.11",
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "imagePullPolicy": "IfNotPresent",
    "resources": {},
}
POD_SPEC = {
    "containers": [CONTAINER],
    "dnsPolicy": "ClusterFirst",
    "restartPolicy": "Always",
    "securityContext": {},
    "terminationGracePeriodSeconds": 30,
    "schedulerName": "default-scheduler",
}
SENT_SPEC = {"containers": [{"name": "c", "image": "python:3.11"}]}


def filled(kind, **obj):
    body = {"metadata": {"name": "x"}, **obj}
    defaults.fill(kind.INFO, body)
    again = {**body}
    defaults.fill(kind.INFO, again)
    assert again == body, "defaults must not change what they have filled"
    return body


def copy_of(value):
    import copy

    return copy.deepcopy(value)


def test_pod():
    assert filled(Pod, spec=copy_of(SENT_SPEC))["spec"] == {**POD_SPEC, "enableServiceLinks": True}


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("python", "Always"),
        ("python:latest", "Always"),
        ("python:3.11", "IfNotPresent"),
        ("localhost:5000/python", "Always"),
        ("localhost:5000/python:1", "IfNotPresent"),
        ("python@sha256:abc", "IfNotPresent"),
    ],
)
def test_pull_policy(image, policy):
    spec = filled(Pod, spec={"containers": [{"name": "c", "image": image}]})["spec"]
    assert spec["containers"][0]["imagePullPolicy"] == policy


def test_container_details():
    sent = {
        "name": "c",
        "image": "i:1",
        "ports": [{"containerPort": 80}],
        "env": [
            {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "B", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        ],
        "readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 2},
        "resources": {"limits": {"cpu": 1, "memory": "1024Mi"}, "requests": {"cpu": "0.1"}},
    }
    container = filled(Pod, spec={"containers": [sent]})["spec"]["containers"][0]
    assert container["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert container["env"][0]["valueFrom"]["fieldRef"] == {"fieldPath": "metadata.name", "apiVersion": "v1"}
    assert container["env"][1]["valueFrom"]["resourceFieldRef"]["divisor"] == "0"
    assert container["readinessProbe"] == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
        "periodSeconds": 2,
        "timeoutSeconds": 1,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    assert container["resources"] == {
        "limits": {"cpu": "1", "memory": "1Gi"},
        "requests": {"cpu": "100m", "memory": "1Gi"},
    }


def test_volumes():
    volumes = [
        {"name": "nothing"},
        {"name": "s", "secret": {"secretName": "x"}},
        {"name": "c", "configMap": {"name": "x", "defaultMode": 256}},
        {"name": "h", "hostPath": {"path": "/x"}},
        {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
        {"name": "e", "emptyDir": {"sizeLimit": "1024Mi"}},
    ]
    made = {v["name"]: v for v in filled(Pod, spec={**copy_of(SENT_SPEC), "volumes": volumes})["spec"]["volumes"]}
    assert made["nothing"]["emptyDir"] == {}
    assert made["s"]["secret"]["defaultMode"] == 420
    assert made["c"]["configMap"]["defaultMode"] == 256
    assert made["h"]["hostPath"]["type"] == ""
    assert made["p"]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] == 3600
    assert made["e"]["emptyDir"]["sizeLimit"] == "1Gi"


def test_deployment():
    spec = filled(Deployment, spec={"template": {"spec": copy_of(SENT_SPEC)}})["spec"]
    assert spec == {
        "template": {"spec": POD_SPEC},
        "replicas": 1,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
    }
    recreate = filled(Deployment, spec={"strategy": {"type": "Recreate"}, "replicas": 0})["spec"]
    assert recreate["strategy"] == {"type": "Recreate"}
    assert recreate["replicas"] == 0
    assert filled(ReplicaSet)["spec"] == {"replicas": 1}


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({}, {"completions": 1, "parallelism": 1}),
        ({"parallelism": 3}, {"parallelism": 3}),
        ({"completions": 5}, {"completions": 5, "parallelism": 1}),
    ],
)
def test_job(sent, expected):
    made = filled(Job, spec={**sent, "template": {"metadata": {"labels": {"a": "b"}}, "spec": copy_of(SENT_SPEC)}})
    assert {k: v for k, v in made["spec"].items() if k in ("completions", "parallelism")} == expected
    assert made["spec"]["backoffLimit"] == 6
    assert made["spec"]["completionMode"] == "NonIndexed"
    assert made["metadata"]["labels"] == {"a": "b"}


def test_service():
    spec = filled(Service, spec={"ports": [{"port": 80}, {"port": 81, "targetPort": "web", "protocol": "UDP"}]})["spec"]
    assert spec["ports"] == [
        {"port": 80, "protocol": "TCP", "targetPort": 80},
        {"port": 81, "targetPort": "web", "protocol": "UDP"},
    ]
    assert (spec["type"], spec["sessionAffinity"], spec["ipFamilyPolicy"]) == ("ClusterIP", "None", "SingleStack")
    external = filled(Service, spec={"type": "ExternalName", "externalName": "example.com"})["spec"]
    assert "ipFamilies" not in external


def test_secret():
    made = filled(Secret, data={"a": "eA=="}, stringData={"b": "y", "a": "z"})
    assert made["type"] == "Opaque"
    assert "stringData" not in made
    assert {k: base64.b64decode(v) for k, v in made["data"].items()} == {"a": b"z", "b": b"y"}


SOURCE = {"kind": "PersistentVolumeClaim", "name": "data"}


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ({"dataSource": SOURCE}, {"dataSource": SOURCE, "dataSourceRef": SOURCE}),
        ({"dataSourceRef": SOURCE}, {"dataSource": SOURCE, "dataSourceRef": SOURCE}),
        ({"dataSourceRef": {**SOURCE, "namespace": "n"}}, {"dataSourceRef": {**SOURCE, "namespace": "n"}}),
        ({}, {}),
    ],
)
def test_the_two_names_of_a_claims_data_source(sent, stored):
    found = filled(PersistentVolumeClaim, spec=dict(sent))["spec"]
    assert {k: v for k, v in found.items() if k.startswith("dataSource")} == stored
    of_template = filled(StatefulSet, spec={"template": {}, "volumeClaimTemplates": [{"spec": dict(sent)}]})
    assert of_template["spec"]["volumeClaimTemplates"][0]["spec"] == {**sent, "volumeMode": "Filesystem"}


def test_others():
    assert filled(Namespace)["metadata"]["labels"] == {"kubernetes.io/metadata.name": "x"}
    claim = filled(PersistentVolumeClaim, spec={"resources": {"requests": {"storage": "1024Mi"}}})["spec"]
    assert claim == {"volumeMode": "Filesystem", "resources": {"requests": {"storage": "1Gi"}}}
    assert filled(PersistentVolume)["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert filled(StorageClass)["volumeBindingMode"] == "Immediate"
    assert filled(Endpoints, subsets=[{"ports": [{"port": 1}]}])["subsets"][0]["ports"][0]["protocol"] == "TCP"
    subjects = [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]
    binding = filled(RoleBinding, roleRef={"kind": "Role", "name": "r"}, subjects=subjects)
    assert binding["roleRef"]["apiGroup"] == binding["subjects"][0]["apiGroup"] == "rbac.authorization.k8s.io"
    assert "apiGroup" not in binding["subjects"][1]


@pytest.mark.parametrize(
    ("resources", "qos"),
    [
        ([{}], "BestEffort"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}], "Guaranteed"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}}], "Burstable"),
        ([{"requests": {"cpu": "1"}}], "Burstable"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}}, {}], "Burstable"),
        ([{"limits": {"nvidia.com/gpu": "1"}}], "BestEffort"),
    ],
)
def test_qos(resources, qos):
    assert qos_class({"containers": [{"resources": r} for r in resources]}) == qos
