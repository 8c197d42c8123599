"""Printers by table: an object and the cells that kubectl users know for it."""

import datetime as dt

import pytest

from headrace.api import _wire
from headrace.api.core import Pod
from headrace.api.storage import StorageClass
from headrace.apiserver.tables import base, custom, render
from headrace.apiserver.tables.jsonpath import BadPath, compile_path

NOW = dt.datetime(2026, 1, 10, 12, 0, 0, tzinfo=dt.UTC)


def _cells(group, plural, obj):
    printer = render.PRINTERS[group, plural]
    cells = printer.cells(obj, NOW)
    assert len(cells) == len(printer.columns)
    return cells


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (200, "3m20s"),
        (600, "10m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 300, "3h5m"),
        (9 * 3600, "9h"),
        (50 * 3600, "2d2h"),
        (9 * 86400, "9d"),
        (800 * 86400, "2y70d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_ages(seconds, text):
    assert base.human_duration(seconds) == text


def _pod(status, **metadata):
    return {
        "metadata": {"name": "p", "creationTimestamp": "2026-01-10T11:59:00Z", **metadata},
        "spec": {
            "nodeName": "headrace",
            "initContainers": [{"name": "i1"}, {"name": "side", "restartPolicy": "Always"}],
            "containers": [{"name": "a"}, {"name": "b"}],
        },
        "status": status,
    }


RUNNING = {"name": "a", "ready": True, "restartCount": 0, "state": {"running": {}}}
DONE = {"name": "b", "ready": False, "restartCount": 0, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}


@pytest.mark.parametrize(
    ("status", "ready", "word", "restarts"),
    [
        ({"phase": "Pending"}, "0/3", "Pending", "0"),
        ({"phase": "Running", "containerStatuses": [RUNNING, RUNNING]}, "2/3", "Running", "0"),
        ({"phase": "Succeeded", "containerStatuses": [DONE, DONE]}, "0/3", "Completed", "0"),
        ({"phase": "Running", "containerStatuses": [RUNNING, DONE]}, "1/3", "Running", "0"),
        ({"phase": "Running", "containerStatuses": [DONE, RUNNING]}, "1/3", "NotReady", "0"),
        ({"phase": "Failed", "reason": "Evicted"}, "0/3", "Evicted", "0"),
        (
            {"phase": "Pending", "initContainerStatuses": [{"name": "i1", "state": {"running": {}}}]},
            "0/3",
            "Init:0/2",
            "0",
        ),
        (
            {
                "phase": "Pending",
                "initContainerStatuses": [
                    {"name": "i1", "restartCount": 2, "state": {"terminated": {"exitCode": 3, "reason": "Error"}}}
                ],
            },
            "0/3",
            "Init:Error",
            "2",
        ),
        (
            {
                "phase": "Running",
                "containerStatuses": [
                    {
                        "name": "a",
                        "restartCount": 4,
                        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                        "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-10T11:58:30Z"}},
                    }
                ],
            },
            "0/3",
            "CrashLoopBackOff",
            "4 (90s ago)",
        ),
        (
            {"phase": "Failed", "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 7}}}]},
            "0/3",
            "ExitCode:7",
            "0",
        ),
    ],
)
def test_pods(status, ready, word, restarts):
    if word == "Running" and status["containerStatuses"][1] is DONE:
        status = {**status, "conditions": [{"type": "Ready", "status": "True"}]}
    assert _cells("", "pods", _pod(status))[:5] == ["p", ready, word, restarts, "60s"]


def test_a_pod_being_deleted():
    pod = _pod({"phase": "Running", "podIP": "10.199.0.7"}, deletionTimestamp="2026-01-10T12:00:00Z")
    assert _cells("", "pods", pod)[2] == "Terminating"
    assert _cells("", "pods", pod)[5:] == ["10.199.0.7", "headrace", "<none>", "<none>"]


META = {"name": "x", "creationTimestamp": "2026-01-10T11:55:00Z"}
TEMPLATE = {"spec": {"containers": [{"name": "c", "image": "i:1"}]}}


@pytest.mark.parametrize(
    ("group", "plural", "obj", "cells"),
    [
        (
            "apps",
            "deployments",
            {
                "spec": {"replicas": 3, "template": TEMPLATE, "selector": {"matchLabels": {"a": "b"}}},
                "status": {"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1},
            },
            ["x", "1/3", 2, 1, "5m", "c", "i:1", "a=b"],
        ),
        (
            "batch",
            "jobs",
            {
                "spec": {"completions": 2, "template": TEMPLATE},
                "status": {
                    "succeeded": 2,
                    "startTime": "2026-01-10T11:55:00Z",
                    "completionTime": "2026-01-10T11:55:09Z",
                    "conditions": [{"type": "Complete", "status": "True"}],
                },
            },
            ["x", "Complete", "2/2", "9s", "5m", "c", "i:1", "<none>"],
        ),
        (
            "",
            "services",
            {"spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}, {"port": 90, "protocol": "UDP"}]}},
            ["x", "ClusterIP", "10.0.0.1", "<none>", "80/TCP,90/UDP", "5m", "<none>"],
        ),
        (
            "",
            "endpoints",
            {"subsets": [{"addresses": [{"ip": f"10.0.0.{i}"} for i in range(5)], "ports": [{"port": 80}]}]},
            ["x", "10.0.0.0:80,10.0.0.1:80,10.0.0.2:80 + 2 more...", "5m"],
        ),
        (
            "",
            "persistentvolumeclaims",
            {
                "spec": {"volumeName": "pv1", "storageClassName": "standard", "volumeMode": "Filesystem"},
                "status": {
                    "phase": "Bound",
                    "capacity": {"storage": "1Gi"},
                    "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
                },
            },
            ["x", "Bound", "pv1", "1Gi", "RWO,RWX", "standard", "<unset>", "5m", "Filesystem"],
        ),
        ("", "secrets", {"type": "Opaque", "data": {"a": "Yg=="}}, ["x", "Opaque", 1, "5m"]),
        (
            "rbac.authorization.k8s.io",
            "rolebindings",
            {
                "roleRef": {"kind": "ClusterRole", "name": "edit"},
                "subjects": [{"kind": "ServiceAccount", "namespace": "n", "name": "s"}, {"kind": "User", "name": "u"}],
            },
            ["x", "ClusterRole/edit", "5m", "u", "", "n/s"],
        ),
        (
            "apiregistration.k8s.io",
            "apiservices",
            {
                "spec": {"service": {"name": "s", "namespace": "n"}},
                "status": {"conditions": [{"type": "Available", "status": "False", "reason": "MissingEndpoints"}]},
            },
            ["x", "n/s", "False (MissingEndpoints)", "5m"],
        ),
        ("apiregistration.k8s.io", "apiservices", {"spec": {}}, ["x", "Local", "Unknown", "5m"]),
        (
            "autoscaling",
            "horizontalpodautoscalers",
            {
                "spec": {
                    "scaleTargetRef": {"kind": "Deployment", "name": "d"},
                    "maxReplicas": 3,
                    "metrics": [
                        {"type": "Object", "object": {"metric": {"name": "q"}, "target": {"value": "7"}}},
                        {"type": "External", "external": {"metric": {"name": "r"}, "target": {"averageValue": "9"}}},
                        {"type": "Pods", "pods": {"metric": {"name": "q"}, "target": {"averageValue": "5"}}},
                        {"type": "Pods", "pods": {"metric": {"name": "p"}, "target": {"averageValue": "5"}}},
                    ],
                },
                "status": {
                    "currentReplicas": 2,
                    "currentMetrics": [
                        {"type": "External", "external": {"metric": {"name": "r"}, "current": {"averageValue": "8"}}},
                        {"type": "Object", "object": {"metric": {"name": "q"}, "current": {"value": "6"}}},
                    ],
                },
            },
            ["x", "Deployment/d", "6/7, 8/9 (avg) + 2 more...", "<unset>", 3, 2, "5m"],
        ),
        (
            "autoscaling",
            "horizontalpodautoscalers",
            {
                "spec": {
                    "scaleTargetRef": {"kind": "Deployment", "name": "d"},
                    "minReplicas": 1,
                    "metrics": [
                        {"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 50}}},
                        {"type": "Pods", "pods": {"metric": {"name": "q"}, "target": {"averageValue": "5"}}},
                    ],
                },
                "status": {
                    "currentMetrics": [
                        {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 40}}},
                    ],
                },
            },
            ["x", "Deployment/d", "cpu: 40%/50%, <unknown>/5", "1", 0, 0, "5m"],
        ),
    ],
)
def test_cells(group, plural, obj, cells):
    assert _cells(group, plural, {"metadata": META, **obj}) == cells


@pytest.mark.parametrize("printer", render.PRINTERS.values(), ids=[f"{g}/{p}" for g, p in render.PRINTERS])
def test_every_printer_takes_a_bare_object(printer):
    assert len(printer.cells({"metadata": {"name": "x"}}, NOW)) == len(printer.columns)


def test_default_storage_class_is_marked():
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"}
    obj = {"metadata": {"name": "standard", "annotations": annotations}, "provisioner": "p"}
    assert _cells("storage.k8s.io", "storageclasses", obj)[0] == "standard (default)"
    assert render.printer_for(StorageClass.INFO) is render.PRINTERS["storage.k8s.io", "storageclasses"]


TREE = {
    "spec": {"a": {"b": [1, 2, 3]}, "x.y/z": "dotted"},
    "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.a.b[1]", [2]),
        (".spec.a.b[-1]", [3]),
        (".spec.a.b[*]", [1, 2, 3]),
        (".spec.a.b[9]", []),
        (".spec.missing.deeper", []),
        (r".spec.x\.y/z", ["dotted"]),
        (".spec['x.y/z']", ["dotted"]),
        ("{.spec.a.b[0]}", [1]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type=='Other')].status", ["False"]),
        (".status.conditions[?(@.type != 'Other')].status", ["True"]),
        ("..status", [TREE["status"], "True", "False"]),
    ],
)
def test_jsonpath(path, found):
    assert compile_path(path).find(TREE) == found


@pytest.mark.parametrize("path", ["spec", ".a[b", ".a[?(@.x==)]"])
def test_jsonpath_that_is_not_understood(path):
    with pytest.raises(BadPath):
        compile_path(path)


def test_custom_columns():
    printer = custom.printer(
        [
            {"name": "State", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
            {"name": "N", "type": "integer", "jsonPath": ".spec.a.b[0]"},
            {"name": "All", "type": "string", "jsonPath": ".spec.a.b[*]"},
            {"name": "Not", "type": "integer", "jsonPath": ".spec.x"},
            {"name": "When", "type": "date", "jsonPath": ".metadata.creationTimestamp", "priority": 1},
            {"name": "Bad", "type": "string", "jsonPath": "nonsense"},
        ]
    )
    assert printer.cells({"metadata": META, **TREE}, NOW) == ["x", "True", 1, "1,2,3", None, "5m", None]
    assert [c.priority for c in printer.columns] == [0, 0, 0, 0, 0, 1, 0]
    assert custom.printer([]).cells({"metadata": META}, NOW) == ["x", "5m"]


@pytest.mark.parametrize("include", ["Metadata", "Object", "None"])
def test_table(include):
    raw = _wire.encode({"kind": "Pod", "metadata": META, "spec": {}})
    made = _wire.decode_any(
        render.table(render.printer_for(Pod.INFO), [raw], NOW, list_meta={"resourceVersion": "7"}, include=include)
    )
    assert made["kind"] == "Table"
    assert made["metadata"] == {"resourceVersion": "7"}
    assert made["columnDefinitions"][0]["format"] == "name"
    (row,) = made["rows"]
    assert row["cells"][0] == "x"
    match include:
        case "Metadata":
            assert row["object"] == {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": META}
        case "Object":
            assert row["object"]["spec"] == {}
        case _:
            assert "object" not in row
