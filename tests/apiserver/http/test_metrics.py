"""metrics.k8s.io: who may read it, and in what form it comes."""

import pytest

from headrace.api.core import Container, Node, Pod, PodSpec
from headrace.api.meta import ObjectMeta
from headrace.machinery.component import ContainerUsage, NodeUsage
from headrace.testing.http import http_cluster

METRICS = "/apis/metrics.k8s.io/v1beta1"


class Usages:
    """What a test says."""

    def __init__(self):
        self.pods = {}

    async def usage(self):
        return NodeUsage(2.5, 1.25, 3 << 20, self.pods)


@pytest.fixture
def usages():
    return Usages()


@pytest.fixture
async def http(tmp_path, pki, usages):
    async with http_cluster(tmp_path, pki=pki, usages=usages) as made:
        yield made


@pytest.fixture
async def pods(http, usages):
    client = http.cluster.client
    await client.create(Node(metadata=ObjectMeta(name="headrace")))
    for name, app in (("a", "x"), ("b", "y"), ("waiting", "x")):
        meta = ObjectMeta(name=name, namespace="default", labels={"app": app})
        made = await client.create(Pod(metadata=meta, spec=PodSpec(containers=[Container(name="main", image="i")])))
        if name != "waiting":
            usages.pods[made.metadata.uid] = (ContainerUsage("main", 0.5, 2048),)


async def test_pods_that_run(api, pods):
    listed = (await api.get(f"{METRICS}/namespaces/default/pods")).json
    assert (listed["kind"], listed["apiVersion"]) == ("PodMetricsList", "metrics.k8s.io/v1beta1")
    assert [i["metadata"]["name"] for i in listed["items"]] == ["a", "b"]
    one = (await api.get(f"{METRICS}/namespaces/default/pods/a")).json
    assert one["containers"] == [{"name": "main", "usage": {"cpu": "500000000n", "memory": "2Ki"}}]
    assert (one["kind"], one["window"], one["metadata"]["labels"]) == ("PodMetrics", "2.500s", {"app": "x"})
    chosen = (await api.get(f"{METRICS}/pods?labelSelector=app%3Dy")).json["items"]
    assert [i["metadata"]["name"] for i in chosen] == ["b"]
    assert (await api.get(f"{METRICS}/namespaces/other/pods")).json["items"] == []
    for missing in ("waiting", "nowhere"):
        assert (await api.get(f"{METRICS}/namespaces/default/pods/{missing}")).status == 404


async def test_the_node(api, pods):
    one = (await api.get(f"{METRICS}/nodes/headrace")).json
    assert (one["kind"], one["usage"]) == ("NodeMetrics", {"cpu": "1250000000n", "memory": "3072Ki"})
    assert len((await api.get(f"{METRICS}/nodes")).json["items"]) == 1


async def test_tables(api, pods):
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    table = (await api.get(f"{METRICS}/namespaces/default/pods", Accept=accept)).json
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "cpu", "memory", "Window"]
    assert table["rows"][0]["cells"] == ["a", "500000000n", "2Ki", "2.500s"]


async def test_it_is_discovered_and_read_only(api, pods):
    resources = (await api.get(METRICS)).json["resources"]
    assert {(r["name"], r["kind"], r["namespaced"]) for r in resources} == {
        ("nodes", "NodeMetrics", False),
        ("pods", "PodMetrics", True),
    }
    assert all(r["verbs"] == ["get", "list"] for r in resources)
    for method, path in (("DELETE", f"{METRICS}/nodes/headrace"), ("GET", f"{METRICS}/nodes?watch=true")):
        assert (await api(method, path)).status == 405
    assert (await api.get(f"{METRICS}/namespaces/default/nodes")).status == 404
    assert (await api.get(f"{METRICS}/pods/a")).status == 404


async def test_who_may(api, nobody, pods):
    for path in ("nodes", "pods", "namespaces/default/pods/a"):
        assert (await api.get(f"{METRICS}/{path}", Impersonate_User="bob")).status == 403
        assert (await nobody.get(f"{METRICS}/{path}")).status == 401
