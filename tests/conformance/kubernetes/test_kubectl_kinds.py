"""Unmodified kubectl on a cluster with its controllers: what its commands make, show, explain, roll out and back."""

import json
import shutil
import time

import pytest

from headrace.api.core import Node, Pod
from headrace.api.meta import ObjectMeta
from headrace.controllermanager import controllers

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]


def rows(output):
    """A printed table as a list of lists."""
    return [line.split() for line in output.splitlines()]


def eventually(predicate, seconds=60):
    """What the predicate returns once it is true."""
    end = time.monotonic() + seconds
    while True:
        found = predicate()
        if found:
            return found
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


@pytest.fixture(scope="module", autouse=True)
def running(background):
    """All controllers, beside the server."""

    async def start():
        cluster = background.http.cluster
        for one in controllers(cluster.settings, cluster.client, cluster.clock, "", cluster.registry.kinds):
            cluster.manager.add(one, cluster.client)
        await cluster.manager.start()

    background.run(start())


def ready(background, namespace, *names):
    """What the node agent would report of pods that run."""
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    client = background.http.cluster.client
    for name in names:
        background.run(client.patch(Pod, name, {"status": status}, namespace, subresource="status"))


def pods(kubectl, namespace):
    return kubectl("-n", namespace, "get", "pods", "-o", "name").split()


STATEFUL_SET = {
    "apiVersion": "apps/v1",
    "kind": "StatefulSet",
    "metadata": {"name": "db"},
    "spec": {
        "serviceName": "db",
        "replicas": 2,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": {"app": "db"}},
        "template": {
            "metadata": {"labels": {"app": "db"}},
            "spec": {
                "containers": [{"name": "main", "image": "img:1", "volumeMounts": [{"name": "d", "mountPath": "/d"}]}]
            },
        },
        "volumeClaimTemplates": [
            {
                "metadata": {"name": "d"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }
        ],
    },
}


def image(kubectl, namespace, name):
    return kubectl("-n", namespace, "get", "pod", name, "-o", "jsonpath={.spec.containers[0].image}")


def images(kubectl, namespace):
    return kubectl("-n", namespace, "get", "pods", "-o", "jsonpath={.items[*].spec.containers[0].image}")


def test_stateful_sets(kubectl, background, namespace):
    on = ("-n", namespace)
    kubectl(*on, "apply", "-f", "-", stdin=json.dumps(STATEFUL_SET))
    eventually(lambda: pods(kubectl, namespace) == ["pod/db-0", "pod/db-1"])
    assert sorted(kubectl(*on, "get", "pvc", "-o", "name").split()) == [
        "persistentvolumeclaim/d-db-0",
        "persistentvolumeclaim/d-db-1",
    ]
    ready(background, namespace, "db-0", "db-1")
    assert "complete" in kubectl(*on, "rollout", "status", "sts/db", "--timeout=10s")
    assert rows(kubectl(*on, "get", "sts"))[1][:2] == ["db", "2/2"]
    kubectl(*on, "apply", "-f", "-", stdin=json.dumps(STATEFUL_SET))
    assert kubectl(*on, "get", "sts", "db", "-o", "jsonpath={.metadata.generation}") == "1"
    kubectl(*on, "set", "image", "sts/db", "main=img:2")
    eventually(lambda: image(kubectl, namespace, "db-1") == "img:2")
    assert image(kubectl, namespace, "db-0") == "img:1"
    history = [r for r in rows(kubectl(*on, "rollout", "history", "sts/db")) if r and r[0].isdigit()]
    assert [r[0] for r in history] == ["1", "2"]
    assert rows(kubectl(*on, "get", "controllerrevisions"))[1][1] == "statefulset.apps/db"
    kubectl(*on, "rollout", "undo", "sts/db")
    eventually(lambda: image(kubectl, namespace, "db-1") == "img:1")
    kubectl(*on, "scale", "sts/db", "--replicas=3")
    eventually(lambda: "pod/db-2" in pods(kubectl, namespace))
    assert "Partition" in kubectl(*on, "describe", "sts", "db")
    refused = kubectl.fails(*on, "patch", "sts", "db", "-p", '{"spec":{"serviceName":"other"}}')
    assert "updates to statefulset spec for fields other than" in refused


def test_cron_jobs(kubectl, namespace):
    kubectl("-n", namespace, "create", "cronjob", "tick", "--image=img", "--schedule=*/5 * * * *", "--", "date")
    header, row = (line.split("  ") for line in kubectl("-n", namespace, "get", "cj").splitlines())
    assert [c.strip() for c in header if c][:4] == ["NAME", "SCHEDULE", "TIMEZONE", "SUSPEND"]
    assert [c.strip() for c in row if c][:4] == ["tick", "*/5 * * * *", "<none>", "False"]
    kubectl("-n", namespace, "create", "job", "now", "--from=cronjob/tick")
    assert "cronjob.kubernetes.io/instantiate" in kubectl("-n", namespace, "get", "job", "now", "-o", "yaml")
    assert "Concurrency Policy:" in kubectl("-n", namespace, "describe", "cronjob", "tick")
    refused = kubectl.fails("-n", namespace, "create", "cronjob", "bad", "--image=img", "--schedule=* * *")
    assert "spec.schedule: Invalid value" in refused
    assert "timeZone" in kubectl("explain", "cronjob.spec")


DAEMON_SET = {
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "metadata": {"name": "agent"},
    "spec": {
        "selector": {"matchLabels": {"app": "agent"}},
        "template": {
            "metadata": {"labels": {"app": "agent"}},
            "spec": {"containers": [{"name": "main", "image": "img:1"}]},
        },
    },
}


def test_daemon_sets(kubectl, background, namespace):
    on = ("-n", namespace)
    background.run(background.http.cluster.client.apply(Node(metadata=ObjectMeta(name="here"))))
    kubectl(*on, "apply", "-f", "-", stdin=json.dumps(DAEMON_SET))
    (name,) = eventually(lambda: pods(kubectl, namespace))
    ready(background, namespace, name.removeprefix("pod/"))
    assert "successfully rolled out" in kubectl(*on, "rollout", "status", "ds/agent", "--timeout=10s")
    assert rows(kubectl(*on, "get", "ds"))[1][:7] == ["agent", "1", "1", "1", "1", "1", "<none>"]
    kubectl(*on, "set", "image", "ds/agent", "main=img:2")
    eventually(lambda: images(kubectl, namespace) == "img:2")
    kubectl(*on, "rollout", "undo", "ds/agent")
    eventually(lambda: images(kubectl, namespace) == "img:1")
    assert "Desired Number of Nodes Scheduled: 1" in kubectl(*on, "describe", "ds", "agent")


LIMITS = {
    "apiVersion": "v1",
    "kind": "LimitRange",
    "metadata": {"name": "small"},
    "spec": {"limits": [{"type": "Container", "default": {"memory": "64Mi"}, "max": {"cpu": "1"}}]},
}


def test_quotas_and_limits(kubectl, namespace):
    on = ("-n", namespace)
    kubectl(*on, "create", "quota", "q", "--hard=pods=1,requests.memory=1Gi,count/deployments.apps=0")
    kubectl(*on, "create", "-f", "-", stdin=json.dumps(LIMITS))
    kubectl(*on, "run", "one", "--image=img")
    assert kubectl(*on, "get", "pod", "one", "-o", "jsonpath={.spec.containers[0].resources.limits}") == (
        '{"cpu":"1","memory":"64Mi"}'
    )
    assert "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1" in kubectl.fails(
        *on, "run", "two", "--image=img"
    )
    refused = kubectl.fails(*on, "create", "deployment", "web", "--image=img")
    assert 'deployments.apps "web" is forbidden: exceeded quota: q' in refused
    eventually(lambda: "pods: 1/1" in kubectl(*on, "get", "quota", "q"))
    described = kubectl("describe", "namespace", namespace)
    assert "requests.memory" in described
    assert "Container" in described
    assert rows(kubectl(*on, "get", "limits"))[0] == ["NAME", "CREATED", "AT"]


def test_kinds_kept_as_data(kubectl, namespace):
    on = ("-n", namespace)
    kubectl(*on, "create", "ingress", "web", "--class=nginx", "--rule=a.example.com/*=web:80")
    assert rows(kubectl(*on, "get", "ing"))[1][:3] == ["web", "nginx", "a.example.com"]
    assert "a.example.com" in kubectl(*on, "describe", "ingress", "web")
    kubectl(*on, "create", "pdb", "web", "--selector=app=web", "--min-available=1")
    assert rows(kubectl(*on, "get", "pdb"))[1][:4] == ["web", "1", "N/A", "0"]
    kubectl("create", "priorityclass", "kinds-high", "--value=1000")
    assert rows(kubectl("get", "pc", "kinds-high"))[1][:3] == ["kinds-high", "1000", "false"]
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "quiet"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}},
    }
    kubectl(*on, "apply", "-f", "-", stdin=json.dumps(policy))
    assert rows(kubectl(*on, "get", "netpol"))[1][:2] == ["quiet", "app=web"]
    runtime = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "kinds"}, "handler": "runc"}
    kubectl("apply", "-f", "-", stdin=json.dumps(runtime))
    assert rows(kubectl("get", "runtimeclasses", "kinds"))[1][:2] == ["kinds", "runc"]
    assert "maxReplicas" in kubectl("explain", "hpa.spec")


def test_autoscalers(kubectl, namespace):
    on = ("-n", namespace)
    kubectl(*on, "create", "deployment", "web", "--image=img", "--replicas=1")
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 2,
            "maxReplicas": 4,
        },
    }
    kubectl(*on, "apply", "-f", "-", stdin=json.dumps(scaler))
    eventually(lambda: len(pods(kubectl, namespace)) == 2)
    assert rows(kubectl(*on, "get", "hpa"))[1][:6] == ["web", "Deployment/web", "cpu:", "<unknown>/80%", "2", "4"]
    kubectl(*on, "create", "deployment", "other", "--image=img", "--replicas=1")
    kubectl(*on, "autoscale", "deployment", "other", "--min=1", "--max=5", "--cpu-percent=70")
    assert rows(kubectl(*on, "get", "hpa", "other"))[1][2:6] == ["cpu:", "<unknown>/70%", "1", "5"]
    eventually(lambda: "FailedGetResourceMetric" in kubectl(*on, "describe", "hpa", "other"))
    assert rows(kubectl(*on, "get", "hpa.v1.autoscaling", "other"))[1][2:6] == ["cpu:", "<unknown>/70%", "1", "5"]


def test_budgets_hold_a_drain(kubectl, namespace, background):
    on = ("-n", namespace)
    client = background.http.cluster.client
    node = f"node-{namespace}"
    background.run(client.create(Node(metadata=ObjectMeta(name=node))))
    kubectl(*on, "create", "deployment", "web", "--image=img", "--replicas=2")
    (first, second) = eventually(lambda: len(pods(kubectl, namespace)) == 2 and pods(kubectl, namespace))
    names = [first.removeprefix("pod/"), second.removeprefix("pod/")]
    for name in names:
        background.run(client.patch(Pod, name, {"spec": {"nodeName": node}}, namespace))
    ready(background, namespace, *names)
    kubectl(*on, "create", "pdb", "web", "--selector=app=web", "--max-unavailable=1")
    eventually(lambda: rows(kubectl(*on, "get", "pdb", "web"))[1][:4] == ["web", "N/A", "1", "1"])
    drain = kubectl.popen("drain", node, "--timeout=60s")
    try:
        assert any("Cannot evict pod as it would violate the pod's disruption budget." in line for line in drain.stderr)
    finally:
        drain.kill()
        drain.communicate()
    assert "SchedulingDisabled" in kubectl("get", "node", node)
    leaving = [n for n in names if "deletionTimestamp" in kubectl(*on, "get", "pod", n, "-o", "yaml")]
    assert len(leaving) == 1
    described = kubectl(*on, "describe", "pdb", "web")
    assert "Allowed disruptions:  0" in described


def test_cluster_info(kubectl, namespace, tmp_path):
    on = ("-n", namespace)
    controller = {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": "old"},
        "spec": {
            "replicas": 2,
            "template": {
                "metadata": {"labels": {"app": "old"}},
                "spec": {"containers": [{"name": "main", "image": "img"}]},
            },
        },
    }
    kubectl(*on, "apply", "-f", "-", stdin=json.dumps(controller))
    eventually(lambda: rows(kubectl(*on, "get", "rc", "old"))[1][:3] == ["old", "2", "2"])
    kubectl(*on, "scale", "rc", "old", "--replicas=1")
    eventually(lambda: len(pods(kubectl, namespace)) == 1)
    assert "Selector:     app=old" in kubectl(*on, "describe", "rc", "old")
    kubectl("cluster-info", "dump", "--namespaces", namespace, "--output-directory", str(tmp_path))
    dumped = {p.name for p in (tmp_path / namespace).iterdir()}
    assert {"pods.json", "replication-controllers.json", "deployments.json", "events.json"} <= dumped
    assert "SuccessfulCreate" in kubectl(*on, "get", "events.events.k8s.io", "-o", "jsonpath={.items[*].reason}")


def test_informers_of_client_go(kubectl, background, namespace):
    """`rollout status` and `wait` are informers of client-go; its feature WatchList makes them ask for one stream."""
    on = ("-n", namespace)
    kubectl(*on, "create", "deployment", "web", "--image=img", "--replicas=1")
    (name,) = eventually(lambda: pods(kubectl, namespace))
    ready(background, namespace, name.removeprefix("pod/"))
    for feature, streams in (("false", False), ("true", True)):
        env = {"KUBE_FEATURE_WatchListClient": feature}
        done = kubectl.run(*on, "rollout", "status", "deployment/web", "--timeout=30s", "-v=8", env=env)
        assert "successfully rolled out" in done.stdout
        assert ("sendInitialEvents=true" in done.stderr) == streams
        kubectl(*on, "wait", "deployment/web", "--for=condition=Available", "--timeout=30s", env=env)
    gone = kubectl.popen(*on, "wait", "deployment/web", "--for=delete", "--timeout=30s")
    kubectl(*on, "delete", "deployment", "web", "--wait=false")
    gone.communicate(timeout=60)
    assert gone.returncode == 0
