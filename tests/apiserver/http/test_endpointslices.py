"""EndpointSlices as a view of Endpoints."""

import pytest

from headrace.api.core import EndpointAddress, EndpointPort, Endpoints, EndpointSubset
from headrace.api.meta import ObjectMeta

SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"


@pytest.fixture
async def endpoints(http):
    for name in ("web", "other"):
        subset = EndpointSubset(
            addresses=[EndpointAddress(ip="10.199.0.1")],
            not_ready_addresses=[EndpointAddress(ip="10.199.0.2")],
            ports=[EndpointPort(port=80, name="http")],
        )
        made = Endpoints(metadata=ObjectMeta(name=name, namespace="default", labels={"a": name}), subsets=[subset] * 2)
        await http.cluster.client.create(made)


async def test_listed_by_service(api, endpoints):
    found = (await api.get(f"{SLICES}?labelSelector=kubernetes.io/service-name=web")).json
    assert [s["metadata"]["name"] for s in found["items"]] == ["web", "web-1"]
    one = (await api.get(f"{SLICES}/web")).json
    assert one == found["items"][0]
    assert [(e["addresses"], e["conditions"]["ready"]) for e in one["endpoints"]] == [
        (["10.199.0.1"], True),
        (["10.199.0.2"], False),
    ]
    assert one["ports"] == [{"name": "http", "protocol": "TCP", "port": 80}]
    assert (await api.get(f"{SLICES}/nosuch")).status == 404


async def test_table(api, endpoints):
    table = (await api.get(SLICES, Accept="application/json;as=Table;v=v1;g=meta.k8s.io")).json
    assert table["rows"][0]["cells"][:4] == ["other", "IPv4", "80", "10.199.0.1,10.199.0.2"]


@pytest.mark.parametrize(
    ("method", "path"), [("POST", SLICES), ("DELETE", f"{SLICES}/web"), ("GET", f"{SLICES}?watch=1")]
)
async def test_read_only(api, endpoints, method, path):
    answer = await api(method, path)
    assert (answer.status, answer.json["reason"]) == (405, "MethodNotAllowed")


async def test_reading_needs_permission(api, nobody, endpoints):
    assert (await api.get(SLICES, Impersonate_User="somebody")).status == 403
    assert (await nobody.get(SLICES)).status == 401
