"""Names and addresses of services, by tables."""

from __future__ import annotations

import pytest

from headrace.api.discovery import FROM_PODS, MANAGER_LABEL, SERVICE_LABEL, EndpointSlice
from headrace.api.meta import ObjectMeta
from headrace.node.network.index import Listener, Records, ServiceIndex, in_cluster

from .conftest import endpoints, service


class Cache:
    """What an informer offers, without one."""

    def __init__(self, *objects):
        self._objects = {f"{o.metadata.namespace}/{o.metadata.name}": o for o in objects}
        self._handlers = []

    def get(self, key):
        return self._objects.get(key)

    def all(self, namespace=None):
        return [o for o in self._objects.values() if namespace in {None, o.metadata.namespace}]

    def on_change(self, handler):
        self._handlers.append(handler)
        for obj in self._objects.values():
            handler(None, obj)

    def change(self, key, new):
        old = self._objects.pop(key, None)
        if new is not None:
            self._objects[key] = new
        for handler in self._handlers:
            handler(old, new)


SERVICES = Cache(
    service("web", "10.199.128.5", ports=((80, "http"), (443, "https"))),
    service("minio", "10.199.128.6", namespace="kubeflow", ports=((9000, ""),)),
    service("idle", "10.199.128.7"),
    service("db", "None", ports=((5432, ""),)),
    service("out", type="ExternalName", external_name="example.org."),
)
ENDPOINTS = Cache(
    endpoints("web", "10.199.0.2", "10.199.0.3", ports=((8080, "http"), (8443, "https")), not_ready=("10.199.0.4",)),
    endpoints("minio", "10.199.0.1", namespace="kubeflow", ports=((9000, ""),)),
    endpoints("idle", not_ready=("10.199.0.9",)),
    endpoints("db", ("10.199.0.5", "db-0"), ("10.199.0.6", "db-1"), ports=((5432, ""),)),
)


@pytest.fixture
def index() -> ServiceIndex:
    return ServiceIndex(SERVICES, ENDPOINTS, Cache())


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("web.default.svc.cluster.local", Records(("10.199.128.5",))),
        ("WEB.Default.svc.Cluster.local.", Records(("10.199.128.5",))),
        ("web.default.svc", Records(("10.199.128.5",))),
        ("minio.kubeflow", Records(("10.199.128.6",))),
        ("idle.default.svc.cluster.local", Records(("10.199.128.7",))),
        ("db.default.svc.cluster.local", Records(("10.199.0.5", "10.199.0.6"))),
        ("db-1.db.default.svc.cluster.local", Records(("10.199.0.6",))),
        ("db-2.db.default.svc.cluster.local", None),
        ("10-199-0-2.web.default.svc.cluster.local", Records(("10.199.0.2",))),
        ("10-199-0-77.default.pod.cluster.local", Records(("10.199.0.77",))),
        ("out.default.svc.cluster.local", Records(alias="example.org")),
        ("cluster.local", Records()),
        ("svc.cluster.local", Records()),
        ("default.svc.cluster.local", Records()),
        ("nowhere.svc.cluster.local", None),
        ("minio.default.svc.cluster.local", None),
        ("example.org", None),
        ("web", None),
        ("a.b.c.d.default.svc.cluster.local", None),
    ],
)
def test_lookup(index, name, found):
    assert index.lookup(name) == found


def test_targets_are_ready_and_matched_by_port_name(index):
    assert index.targets("default/web", 443) == [("10.199.0.2", 8443), ("10.199.0.3", 8443)]
    assert index.targets("default/web", 81) == []
    assert index.targets("default/idle", 80) == []
    assert index.targets("default/db", 9999) == [("10.199.0.5", 9999), ("10.199.0.6", 9999)]
    assert index.targets("default/unknown", 80) == []


def test_listeners_only_where_something_is_ready(index):
    assert index.listeners("default/web") == {
        Listener("10.199.128.5", 80, "default/web"),
        Listener("10.199.128.5", 443, "default/web"),
    }
    assert index.listeners("default/idle") == frozenset()
    assert index.listeners("default/db") == frozenset()


def test_slices_that_somebody_writes_count_too():
    slices = Cache()
    index = ServiceIndex(Cache(service("a", "10.199.128.9", ports=((80, "http"),))), Cache(), slices)
    labels = {SERVICE_LABEL: "a"}
    mine = EndpointSlice(metadata=ObjectMeta(name="mine", namespace="default", labels=labels), address_type="IPv4")
    mine.endpoints = [{"addresses": ["192.0.2.1"]}, {"addresses": ["192.0.2.2"], "conditions": {"ready": False}}]
    mine.ports = [{"name": "http", "port": 8080}]
    made = EndpointSlice(metadata=ObjectMeta(name="made", namespace="default"), address_type="IPv4")
    made.metadata.labels = {**labels, MANAGER_LABEL: FROM_PODS}
    made.endpoints, made.ports = [{"addresses": ["192.0.2.3"]}], mine.ports
    slices.change("default/made", made)
    assert index.targets("default/a", 80) == []
    slices.change("default/mine", mine)
    assert index.targets("default/a", 80) == [("192.0.2.1", 8080)]
    assert index.listeners("default/a") == {Listener("10.199.128.9", 80, "default/a")}
    slices.change("default/mine", None)
    assert index.targets("default/a", 80) == []


def test_addresses_follow_changes():
    services = Cache(service("a", "10.199.128.9"))
    index = ServiceIndex(services, Cache(), Cache())
    assert index.at("10.199.128.9") == "default/a"
    services.change("default/a", service("a", "10.199.128.10"))
    assert (index.at("10.199.128.9"), index.at("10.199.128.10")) == (None, "default/a")
    services.change("default/b", service("b", "10.199.128.9"))
    services.change("default/a", None)
    assert (index.at("10.199.128.9"), index.at("10.199.128.10")) == ("default/b", None)


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("a.svc", True),
        ("x.cluster.local", True),
        ("cluster.local.", True),
        ("cluster.local.org", False),
        ("svc", False),
    ],
)
def test_in_cluster(name, inside):
    assert in_cluster(name) == inside


def test_named(index):
    assert [
        index.named(h) for h in ("web.default", "web.default.svc", "web.default.svc.cluster.local", "x.default", "web")
    ] == [
        "default/web",
        "default/web",
        "default/web",
        None,
        None,
    ]
    assert index.hosts("db-0.db.default") == ["10.199.0.5"]
