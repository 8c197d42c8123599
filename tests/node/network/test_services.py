"""Pods that reach each other and the platform by addresses and names."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest

from headrace.api.core import Endpoints
from headrace.machinery.serve import Server
from headrace.testing.eventually import eventually

from ..runtime.conftest import MODES  # noqa: TID252
from .conftest import endpoints, service

PYTHON = os.path.realpath(sys.executable)
"""The base interpreter: pods see it wherever this checkout lies, also below /tmp, which is private to each pod."""

pytestmark = pytest.mark.node
every_mode = pytest.mark.parametrize("mode", MODES, indirect=True)


@pytest.fixture(autouse=True)
def visible_python(mode):
    """A container engine's own containers see no home folder, and so no interpreter in one."""
    if mode == "container" and Path(PYTHON).is_relative_to(Path.home()):
        pytest.skip(f"{PYTHON} is in a home folder")


SERVER = """
import socket, sys
s = socket.create_server(("0.0.0.0", int(sys.argv[1])))
print("ready", flush=True)
while True:
    c, a = s.accept()
    c.sendall(sys.argv[2].encode())
    c.close()
"""

CLIENT = """
import socket, sys
for target in sys.argv[1:]:
    host, port = target.rsplit(":", 1)
    try:
        c = socket.create_connection((host, int(port)), timeout=10)
        print(target, c.makefile().read())
    except OSError as e:
        print(target, type(e).__name__, e.errno)
"""


async def serve(net, pod, ip, port, text):
    await net.node.pod(pod, ip)
    uid = 1000 if net.node.isolated else None
    state = await net.node.runtime.start_container(
        net.node.spec(PYTHON, "-c", SERVER, str(port), text, pod=pod, uid=uid)
    )
    await eventually(lambda: "ready" in net.node.output(pod, state.id)[0])


async def ask(
    net,
    *targets,
    pod="client",
    ip="10.199.0.99",
    search=("default.svc.cluster.local", "svc.cluster.local", "cluster.local"),
):
    await net.node.pod(pod, ip, dns_search=search)
    ended = await net.node.run(PYTHON, "-c", CLIENT, *targets, pod=pod)
    assert ended.err == ""
    return [line.split(" ", 1)[1] for line in ended.out.splitlines()]


async def read(sock):
    loop, data = asyncio.get_running_loop(), b""
    with sock:
        while part := await loop.sock_recv(sock, 4096):
            data += part
    return data


@every_mode
async def test_two_pods_on_the_same_port(net):
    await serve(net, "a", "10.199.0.2", 80, "from a")
    await serve(net, "b", "10.199.0.3", 80, "from b")
    assert await ask(net, "10.199.0.2:80", "10.199.0.3:80") == ["from a", "from b"]
    assert await read(await net.proxy.dial("10.199.0.2", 80)) == b"from a"
    with pytest.raises(ConnectionRefusedError):
        await net.node.runtime.dial("10.199.0.2", 81)


@every_mode
async def test_services_by_name_in_turn_and_live(net):
    client = net.cluster.client
    await serve(net, "a", "10.199.0.2", 8080, "from a")
    await serve(net, "b", "10.199.0.3", 8080, "from b")
    await client.create(service("web", "10.199.128.5"))
    assert await ask(net, "10.199.128.5:80") == ["ConnectionRefusedError 111"]
    await client.create(endpoints("web", "10.199.0.2", "10.199.0.3"))
    await eventually(lambda: net.proxy.index.listeners("default/web"))
    names = ["web:80", "web.default:80", "web.default.svc:80", "web.default.svc.cluster.local:80", "10.199.128.5:80"]
    answers = await ask(net, *names)
    assert sorted(set(answers)) == ["from a", "from b"]
    assert len(answers) == 5
    assert {await read(await net.proxy.dial("web.default", 80)) for _ in range(4)} == {b"from a", b"from b"}

    await client.apply(endpoints("web", "10.199.0.3"))
    await eventually(lambda: len(net.proxy.index.targets("default/web", 80)) == 1)
    assert set(await ask(net, *names)) == {"from b"}
    await client.delete(Endpoints, "web", "default")
    await eventually(lambda: not net.proxy.index.targets("default/web", 80))
    await eventually(lambda: not net.proxy._open)
    assert await ask(net, "web:80") == ["ConnectionRefusedError 111"]
    assert await ask(net, "nope:80", "web.kubeflow:80") == ["gaierror -2", "gaierror -2"]
    with pytest.raises(ConnectionRefusedError, match="nothing ready"):
        await net.proxy.dial("web.default", 80)
    with pytest.raises(OSError, match="neither a pod nor a service"):
        await net.proxy.dial("example.org", 80)


@every_mode
async def test_headless_services_and_hostnames(net):
    client = net.cluster.client
    await serve(net, "w0", "10.199.0.2", 29500, "worker 0")
    await serve(net, "w1", "10.199.0.3", 29500, "worker 1")
    await client.create(service("job", "None", ports=((29500, ""),)))
    await client.create(endpoints("job", ("10.199.0.2", "w-0"), ("10.199.0.3", "w-1"), ports=((29500, ""),)))
    await eventually(lambda: net.proxy.index.hosts("w-1.job.default"))
    assert await ask(net, "w-1.job:29500", "w-0.job.default.svc.cluster.local:29500") == ["worker 1", "worker 0"]
    assert await read(await net.proxy.dial("w-1.job.default", 29500)) == b"worker 1"


@every_mode
async def test_servers_of_the_platform_are_services(net):
    async def handler(_reader, writer):
        writer.write(b"the platform")
        writer.close()

    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = net.cluster.client
    await client.create(service("api", "10.199.128.6", namespace="kubeflow", ports=((8888, ""),)))
    await client.create(endpoints("api", net.node.settings.node_ip, namespace="kubeflow", ports=((port, ""),)))
    await eventually(lambda: net.proxy.index.listeners("kubeflow/api"))
    try:
        assert await ask(net, "api.kubeflow:8888") == ["the platform"]
        direct = await ask(net, f"{net.node.settings.node_ip}:{port}", f"127.0.0.1:{port}")
        assert direct == ["ConnectionRefusedError 111"] * 2, "the host's loopback is not the pods'"
    finally:
        server.close()


@every_mode
async def test_own_servers_get_the_connections_themselves(net):
    async def app(scope, receive, send):
        said = scope["client"][0].encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(said))]})
        await send({"type": "http.response.body", "body": said})

    server = Server(app, net.node.settings.host, 0)
    await server.start()
    net.proxy.own(server)
    client = net.cluster.client
    ports = ((server.address[1], ""),)
    await client.create(service("own", "10.199.128.7", namespace="kubeflow", ports=((8888, ""),)))
    await client.create(endpoints("own", net.node.settings.node_ip, namespace="kubeflow", ports=ports))
    await eventually(lambda: net.proxy.index.listeners("kubeflow/own"))
    asks = (
        "import urllib.request; print(urllib.request.urlopen('http://10.199.128.7:8888', timeout=20).read().decode())"
    )
    try:
        await net.node.pod("asks", "10.199.0.77")
        ended = await net.node.run(PYTHON, "-c", asks, pod="asks", env={"no_proxy": "*"})
        assert ended.err == ""
        if net.node.isolated:  # else the address of whichever interface it went out by
            assert ended.out.strip() == "10.199.0.77", "its own address, not the node's"
    finally:
        await server.stop()


async def test_the_outside_fails_at_once_and_the_way_out_is_the_proxy(net):
    assert (await ask(net, "192.0.2.1:80"))[0].split()[-1] in {"101", "113"}
    await net.node.pod("client", "10.199.0.99")
    script = "import urllib.request as u\ntry: u.urlopen('http://localhost:1/')\nexcept Exception as e: print(e)"
    proxy = f"http://{net.node.settings.node_ip}:3128"
    ended = await net.node.run(PYTHON, "-c", script, pod="client", env={"http_proxy": proxy})
    assert "403" in ended.out, ended.err


ECHO = """
import socket, hashlib
s = socket.create_server(("0.0.0.0", 7000))
print("ready", flush=True)
c, _ = s.accept()
h, n = hashlib.sha256(), 0
while data := c.recv(65536):
    h.update(data); n += len(data)
c.sendall(f"{n} {h.hexdigest()}".encode())
c.close()
"""


@every_mode
async def test_half_close_and_much_data(net):
    """The server answers only when the client has finished sending."""
    await net.node.pod("echo", "10.199.0.2")
    state = await net.node.runtime.start_container(net.node.spec(PYTHON, "-c", ECHO, pod="echo"))
    await eventually(lambda: "ready" in net.node.output("echo", state.id)[0])
    await net.cluster.client.create(service("echo", "10.199.128.8", ports=((7000, ""),)))
    await net.cluster.client.create(endpoints("echo", "10.199.0.2", ports=((7000, ""),)))
    await eventually(lambda: any(listener.service == "default/echo" for listener in net.proxy._open))
    script = """
import socket, hashlib
c = socket.create_connection(("10.199.128.8", 7000))
data = bytes(range(256)) * 4096
h = hashlib.sha256()
for _ in range(64):
    c.sendall(data); h.update(data)
c.shutdown(socket.SHUT_WR)
print(c.makefile().read() == f"{64 * len(data)} {h.hexdigest()}")
"""
    await net.node.pod("client", "10.199.0.99")
    ended = await net.node.run(PYTHON, "-c", script, pod="client")
    assert (ended.out, ended.err) == ("True\n", "")


async def test_sockets_of_the_pod_network(net):
    await serve(net, "a", "10.199.0.2", 8080, "hello")
    sock = net.node.runtime.socket(socket.SOCK_STREAM)
    await asyncio.get_running_loop().sock_connect(sock, ("10.199.0.2", 8080))
    assert await read(sock) == b"hello"
    listener = await net.node.runtime.listen("10.199.128.77", 443, socket.SOCK_STREAM)
    accepted = asyncio.create_task(asyncio.get_running_loop().sock_accept(listener))
    await net.node.pod("client", "10.199.0.99")
    state = await net.node.runtime.start_container(
        net.node.spec(PYTHON, "-c", CLIENT, "10.199.128.77:443", pod="client")
    )
    client, address = await accepted
    assert address[0] == "10.199.0.99"
    await asyncio.get_running_loop().sock_sendall(client, b"accepted outside")
    client.close()
    assert "accepted outside" in (await net.node.ended(state)).out
    with pytest.raises(OSError, match="in use"):
        await net.node.runtime.listen("10.199.128.77", 443, socket.SOCK_STREAM)
    listener.close()


async def test_host_network_shares_the_hosts_addresses(net):
    listener = socket.create_server(("127.0.0.1", 0))
    await net.node.pod("host", "", host_network=True)
    target = f"127.0.0.1:{listener.getsockname()[1]}"
    state = await net.node.runtime.start_container(net.node.spec(PYTHON, "-c", CLIENT, target, pod="host"))
    connection, _ = await asyncio.to_thread(listener.accept)
    connection.sendall(b"the host")
    connection.close()
    listener.close()
    assert "the host" in (await net.node.ended(state)).out
    resolved = await net.node.sh("cat /etc/resolv.conf", pod="host")
    assert net.node.settings.node_ip not in resolved.out


DATAGRAMS = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 5353))
print("ready", flush=True)
while True:
    data, source = s.recvfrom(2000)
    s.sendto(sys.argv[1].encode() + data, source)
"""
ASK_DATAGRAMS = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
s.connect(("10.199.128.9", 53))
for word in ("a", "b"):
    while True:
        try:
            s.send(word.encode())
            print(s.recv(100).decode())
            break
        except OSError:
            pass
"""


async def test_datagrams_of_services(net):
    for name, ip in (("u1", "10.199.0.2"), ("u2", "10.199.0.3")):
        await net.node.pod(name, ip)
        state = await net.node.runtime.start_container(net.node.spec(PYTHON, "-c", DATAGRAMS, f"{name} ", pod=name))
        await eventually(lambda name=name, state=state: "ready" in net.node.output(name, state.id)[0], timeout=30)
    both = service("dns", "10.199.128.9", ports=((53, "tcp"), (53, "udp")))
    both.spec.ports[1].protocol = "UDP"
    await net.cluster.client.create(both)
    behind = endpoints("dns", "10.199.0.2", "10.199.0.3", ports=((9999, "tcp"), (5353, "udp")))
    behind.subsets[0].ports[1].protocol = "UDP"
    await net.cluster.client.create(behind)
    await eventually(lambda: {listener.protocol for listener in net.proxy._open} == {"TCP", "UDP"}, timeout=30)
    assert net.proxy.index.targets("default/dns", 53) == [("10.199.0.2", 9999), ("10.199.0.3", 9999)]
    await net.node.pod("client", "10.199.0.99")
    answers = []
    for _ in range(2):
        ended = await net.node.run(PYTHON, "-c", ASK_DATAGRAMS, pod="client")
        answers.append([line.split() for line in ended.out.splitlines()])
    for one in answers:
        assert [words[1] for words in one] == ["a", "b"]
        assert len({words[0] for words in one}) == 1, "a client stays with whom it began"
    await net.cluster.client.delete(Endpoints, "dns", "default")
    await eventually(lambda: not net.proxy._open, timeout=30)


async def test_a_client_comes_back_to_its_endpoint(net):
    await serve(net, "a", "10.199.0.2", 8080, "from a")
    await serve(net, "b", "10.199.0.3", 8080, "from b")
    await net.cluster.client.create(service("web", "10.199.128.5", session_affinity="ClientIP"))
    await net.cluster.client.create(endpoints("web", "10.199.0.2", "10.199.0.3"))
    await eventually(lambda: net.proxy._open, timeout=30)
    first = await ask(net, *["10.199.128.5:80"] * 5)
    assert len(set(first)) == 1
    gone = {"from a": "10.199.0.2", "from b": "10.199.0.3"}[first[0]]
    left = ({"10.199.0.2", "10.199.0.3"} - {gone}).pop()
    await net.cluster.client.apply(endpoints("web", left))
    await eventually(lambda: len(net.proxy.index.targets("default/web", 80)) == 1, timeout=30)
    assert set(await ask(net, *["10.199.128.5:80"] * 2)) == {"from a", "from b"} - set(first)
