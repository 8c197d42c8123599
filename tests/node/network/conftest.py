"""A real runtime, an embedded cluster, and the pod network's services over both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from headrace.api.core import (
    EndpointAddress,
    EndpointPort,
    Endpoints,
    EndpointSubset,
    Service,
    ServicePort,
    ServiceSpec,
)
from headrace.api.meta import ObjectMeta
from headrace.node.network.services import ServiceProxy
from headrace.testing.cluster import EmbeddedCluster, embedded_cluster

from ..runtime.conftest import mode, node, settings  # noqa: F401, TID252 - fixtures

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ..runtime.conftest import Node  # noqa: TID252


def service(name: str, ip: str = "", *, namespace: str = "default", ports=((80, ""),), **spec) -> Service:
    return Service(
        metadata=ObjectMeta(name=name, namespace=namespace),
        spec=ServiceSpec(cluster_ip=ip, ports=[ServicePort(port=p, name=n) for p, n in ports], **spec),
    )


def endpoints(name: str, *addresses, namespace: str = "default", ports=((8080, ""),), not_ready=()) -> Endpoints:
    """Addresses are IPs or (IP, hostname)."""

    def address(value) -> EndpointAddress:
        return EndpointAddress(ip=value) if isinstance(value, str) else EndpointAddress(ip=value[0], hostname=value[1])

    return Endpoints(
        metadata=ObjectMeta(name=name, namespace=namespace),
        subsets=[
            EndpointSubset(
                addresses=[address(a) for a in addresses],
                not_ready_addresses=[address(a) for a in not_ready],
                ports=[EndpointPort(port=p, name=n) for p, n in ports],
            )
        ],
    )


@dataclass
class Net:
    """Everything that a test of the network needs."""

    node: Node
    cluster: EmbeddedCluster
    proxy: ServiceProxy


@pytest.fixture
async def net(node: Node) -> AsyncIterator[Net]:  # noqa: F811
    async with embedded_cluster(settings=node.settings) as cluster:
        proxy = ServiceProxy(node.settings, cluster.manager, node.runtime)
        await proxy.start()
        await cluster.manager.start()
        yield Net(node, cluster, proxy)
        await proxy.stop()
