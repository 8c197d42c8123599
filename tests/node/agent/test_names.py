"""Names in and of pods: hostname, /etc/hosts, resolv.conf; and ports of the host."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import sys

import pytest

from headrace.api.core import (
    Container,
    ContainerPort,
    HostAlias,
    Pod,
    PodDNSConfig,
    PodDNSConfigOption,
    PodSpec,
)
from headrace.api.meta import ObjectMeta
from headrace.node.agent import hostports, names
from headrace.node.agent.hostports import HostPort
from headrace.node.agent.names import BadName, Resolver
from headrace.testing import eventually

from .conftest import shell

PYTHON = os.path.realpath(sys.executable)
HOST = "# a comment\nnameserver 1.2.3.4\nsearch corp.example other.example\noptions timeout:1 ndots:2\n"
CLUSTER = ("ns.svc.cluster.local", "svc.cluster.local", "cluster.local")
MORE = PodDNSConfig(
    nameservers=["10.199.0.77"],
    searches=["mine.example", "svc.cluster.local"],
    options=[PodDNSConfigOption(name="ndots", value="1"), PodDNSConfigOption(name="edns0")],
)


def pod(**spec) -> Pod:
    return Pod(metadata=ObjectMeta(name="web-0", namespace="ns"), spec=PodSpec(**spec))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, Resolver((), CLUSTER, ("ndots:5",))),
        ({"dns_policy": "ClusterFirstWithHostNet"}, Resolver((), CLUSTER, ("ndots:5",))),
        ({"dns_policy": "Default"}, Resolver((), ("corp.example", "other.example"), ("timeout:1", "ndots:2"))),
        (
            {"host_network": True},
            Resolver(("1.2.3.4",), ("corp.example", "other.example"), ("timeout:1", "ndots:2")),
        ),
        (
            {"dns_config": MORE},
            Resolver(("10.199.0.77",), (*CLUSTER, "mine.example"), ("ndots:1", "edns0")),
        ),
        (
            {"dns_policy": "None", "dns_config": MORE},
            Resolver(("10.199.0.77",), ("mine.example", "svc.cluster.local"), ("ndots:1", "edns0")),
        ),
        (
            {"host_network": True, "dns_config": MORE},
            Resolver(
                ("1.2.3.4", "10.199.0.77"),
                ("corp.example", "other.example", "mine.example", "svc.cluster.local"),
                ("timeout:1", "ndots:1", "edns0"),
            ),
        ),
    ],
)
def test_resolvers(spec, expected):
    assert names.resolver(pod(**spec), HOST) == expected


def test_hostnames():
    assert names.kernel_hostname(pod()) == "web-0"
    assert names.kernel_hostname(pod(hostname="a", subdomain="b")) == "a"
    assert names.full_name(pod(hostname="a", subdomain="b")) == "a.b.ns.svc.cluster.local"
    assert (
        names.kernel_hostname(pod(hostname="a", subdomain="b", set_hostname_as_fqdn=True)) == "a.b.ns.svc.cluster.local"
    )
    with pytest.raises(BadName, match=r"64 characters is the max, 7\d characters requested"):
        names.kernel_hostname(pod(subdomain="x" * 50, set_hostname_as_fqdn=True))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (("", 80, "TCP"), ("", 80, "TCP"), True),
        (("", 80, "TCP"), ("", 80, "UDP"), False),
        (("", 80, "TCP"), ("", 81, "TCP"), False),
        (("127.0.0.1", 80, "TCP"), ("127.0.0.2", 80, "TCP"), False),
        (("127.0.0.1", 80, "TCP"), ("0.0.0.0", 80, "TCP"), True),
    ],
)
def test_conflicts_of_host_ports(one, other, expected):
    assert hostports.conflict(HostPort(*one, 1), HostPort(*other, 2)) is expected


@pytest.mark.node
async def test_a_pod_knows_its_names(node):
    script = "hostname; cat /etc/hosts /etc/resolv.conf; echo $HOSTNAME"
    await node.run(
        "one",
        shell(script),
        subdomain="sub",
        set_hostname_as_fqdn=True,
        host_aliases=[HostAlias(ip="10.1.2.3", hostnames=["a.example", "b.example"])],
        dns_config=PodDNSConfig(searches=["mine.example"], options=[PodDNSConfigOption(name="ndots", value="2")]),
    )
    found = await node.phase("one", "Succeeded", timeout=30)
    lines = (await node.log("one")).splitlines()
    full = "one.sub.default.svc.cluster.local"
    assert (lines[0], lines[-1]) == (full, full)
    assert f"{found.status.pod_ip}\t{full}\tone" in lines
    assert "10.1.2.3\ta.example\tb.example" in lines
    assert "search default.svc.cluster.local svc.cluster.local cluster.local mine.example" in lines
    assert "options ndots:2" in lines


SERVE = """
import socket, threading
t = socket.create_server(("0.0.0.0", 7000))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.bind(("0.0.0.0", 7001))
def datagrams():
    while True:
        data, source = u.recvfrom(2000)
        u.sendto(data.upper(), source)
threading.Thread(target=datagrams, daemon=True).start()
while True:
    c, _ = t.accept()
    c.sendall(b"from the pod")
    c.close()
"""


def free_port(kind) -> int:
    """A port that nobody has, and that nobody gets who asks for any port."""
    while True:
        number = random.randrange(20000, 30000)
        with socket.socket(socket.AF_INET, kind) as sock:
            try:
                sock.bind(("127.0.0.1", number))
            except OSError:
                continue
            return number


@pytest.mark.node
async def test_host_ports_lead_to_the_pod(node):
    tcp, udp = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
    container = Container(
        name="main",
        image="busybox",
        command=[PYTHON, "-c", SERVE],
        ports=[
            ContainerPort(container_port=7000, host_port=tcp),
            ContainerPort(container_port=7001, host_port=udp, protocol="UDP"),
        ],
    )
    await node.run("one", container)
    await node.phase("one", "Running", timeout=30)

    async def answers() -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", tcp)
            text = await reader.read()
            writer.close()
        except OSError:
            return False
        return text == b"from the pod"

    def asked() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(1)
            sock.connect(("127.0.0.1", udp))
            sock.send(b"hello")
            try:
                return sock.recv(100)
            except OSError:
                return b""

    await eventually(answers, timeout=30)

    async def told() -> bool:
        return await asyncio.to_thread(asked) == b"HELLO"

    await eventually(told, timeout=30)
    # Another pod that wants the same port waits until this one is gone.
    await node.run("two", container)

    async def waits() -> bool:
        found = await node.pod("two")
        return any("didn't have free ports" in c.message for c in found.status.conditions)

    await eventually(waits, timeout=30)
    await node.down()
    await node.up()
    await eventually(answers, timeout=30)
    await node.client.delete(Pod, "one", "default", grace_period_seconds=0)
    await node.phase("two", "Running", timeout=30)
    await eventually(answers, timeout=30)


@pytest.mark.node
async def test_a_host_port_that_is_taken_is_told(node):
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        port = ContainerPort(container_port=80, host_port=number)
        await node.run("one", shell("sleep 1000", ports=[port]))
        wanted = f"host port {number} of 127.0.0.1 cannot be had: address already in use"

        async def told() -> bool:
            return any(wanted in text for text in await node.events("one"))

        await eventually(told, timeout=30)
    await node.phase("one", "Running", timeout=30)
