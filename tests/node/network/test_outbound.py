"""The proxy that leads out of the pod network."""

from __future__ import annotations

import asyncio
import socket

import pytest

from headrace.node.network import outbound
from headrace.node.network.outbound import BadRequest, OutboundProxy, forbidden, parent_proxy, parse


def test_parse_connect():
    request = parse(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org")
    assert (request.method, request.host, request.port, request.head) == ("CONNECT", "example.org", 443, b"")
    assert parse(b"CONNECT [::1]:443 HTTP/1.1").host == "::1"


def test_parse_absolute_target():
    request = parse(
        b"GET http://example.org:81/a?b=c HTTP/1.1\r\nHost: example.org:81\r\nProxy-Connection: keep-alive\r\nA: b"
    )
    assert (request.host, request.port) == ("example.org", 81)
    assert request.head == b"GET /a?b=c HTTP/1.1\r\nHost: example.org:81\r\nA: b\r\nConnection: close\r\n\r\n"
    assert request.absolute.startswith(b"GET http://example.org:81/a?b=c HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "head",
    [b"", b"GET", b"GET / HTTP/1.1", b"GET ftp://x/ HTTP/1.1", b"CONNECT x HTTP/1.1", b"GET http://x:y/ HTTP/1.1"],
)
def test_bad_requests(head):
    with pytest.raises(BadRequest):
        parse(head)


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("0.0.0.0", True),
        ("::ffff:127.0.0.1", True),
        ("169.254.169.254", True),
        ("fe80::1%eth0", True),
        ("192.0.2.1", False),
        ("2001:db8::1", False),
    ],
)
def test_the_host_itself_is_forbidden(address, refused):
    assert forbidden([address]) == refused


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, None),
        ({"https_proxy": "http://p:1"}, ("p", 1, "")),
        ({"HTTPS_PROXY": "http://u:%40@p:1"}, ("p", 1, "Basic dTpA")),
        ({"HTTPS_PROXY": "p"}, ("p", 3128, "")),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "example.org"}, None),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": ".example.org, x"}, None),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "le.org"}, ("p", 1, "")),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ({"ALL_PROXY": "socks5://p:1"}, None),
        ({"HTTP_PROXY": "http://p:1"}, None),
    ],
)
def test_parent_proxy(environ, found):
    assert parent_proxy("https", "a.example.org", environ) == found


async def _listen(_ip, _port, kind):
    sock = socket.socket(socket.AF_INET, kind)
    sock.setblocking(False)
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    PORTS.append(sock.getsockname()[1])
    return sock


PORTS: list[int] = []


async def _serve(handler):
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def _proxy(dial, environ=None):
    proxy = OutboundProxy("127.0.0.1", dial, _listen, environ or {})
    await proxy.start()
    return proxy, PORTS[-1]


async def _ask(port: int, data: bytes, more: bytes = b"") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        if more:
            first = await reader.readuntil(b"\r\n\r\n")
            assert first.startswith(b"HTTP/1.1 200")
            writer.write(more)
        writer.write_eof()
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_cluster_names_work_through_it():
    seen = []

    async def handler(reader, writer):
        seen.append(await reader.read())
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nfrom inside")
        writer.close()

    async def dial(host, port):
        if host != "minio.kubeflow":
            return None
        assert port == 9000
        return await outbound.connect("127.0.0.1", target)

    server, target = await _serve(handler)
    proxy, port = await _proxy(dial)
    try:
        plain = await _ask(
            port, b"PUT http://minio.kubeflow:9000/x HTTP/1.1\r\nHost: minio.kubeflow\r\nContent-Length: 4\r\n\r\nbody"
        )
        assert plain.endswith(b"from inside")
        assert seen[0].startswith(b"PUT /x HTTP/1.1\r\n")
        assert seen[0].endswith(b"\r\n\r\nbody")
        tunnel = await _ask(port, b"CONNECT minio.kubeflow:9000 HTTP/1.1\r\n\r\n", b"raw bytes")
        assert (seen[1], tunnel) == (b"raw bytes", b"HTTP/1.1 200 OK\r\n\r\nfrom inside")
    finally:
        await proxy.stop()
        server.close()


async def test_refusals_have_reasons():
    async def dial(host, _port):
        if host == "down.default":
            raise ConnectionRefusedError(111, "service default/down has nothing ready behind port 80")

    proxy, port = await _proxy(dial)
    try:
        loopback = await _ask(port, b"CONNECT localhost:22 HTTP/1.1\r\n\r\n")
        assert loopback.startswith(b"HTTP/1.1 403")
        assert b"offer what pods need as a Service" in loopback
        assert (await _ask(port, b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 400")
        down = await _ask(port, b"GET http://down.default/ HTTP/1.1\r\n\r\n")
        assert down.startswith(b"HTTP/1.1 502")
        assert b"nothing ready" in down
    finally:
        await proxy.stop()


async def test_through_the_hosts_own_proxy():
    seen = []

    async def handler(reader, writer):
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        if seen[-1].startswith(b"CONNECT"):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            seen.append(await reader.read())
        writer.write(b"answer")
        writer.close()

    async def outside(_host, _port):
        return None

    server, parent = await _serve(handler)
    variables = {"HTTPS_PROXY": f"http://u:p@127.0.0.1:{parent}", "HTTP_PROXY": f"http://127.0.0.1:{parent}"}
    proxy, port = await _proxy(outside, variables)
    try:
        assert await _ask(port, b"CONNECT far.example:443 HTTP/1.1\r\n\r\n", b"hello") == b"answer"
        assert seen[0].startswith(b"CONNECT far.example:443 HTTP/1.1\r\n")
        assert b"Proxy-Authorization: Basic dTpw\r\n" in seen[0]
        assert seen[1] == b"hello"
        assert await _ask(port, b"GET http://far.example/ HTTP/1.1\r\nHost: far.example\r\n\r\n") == b"answer"
        assert seen[2].startswith(b"GET http://far.example/ HTTP/1.1\r\n")
    finally:
        await proxy.stop()
        server.close()
