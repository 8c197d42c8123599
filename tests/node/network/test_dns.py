"""The DNS server's wire and decisions."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from headrace.node.network import dns
from headrace.node.network.index import Records

NAMES = {
    "web.default.svc.cluster.local": Records(("10.199.128.5",)),
    "many.default.svc.cluster.local": Records(tuple(f"10.199.1.{i}" for i in range(60))),
    "alias.default.svc.cluster.local": Records(alias="web.default.svc.cluster.local"),
    "cluster.local": Records(),
}


def query(name: str, kind: int = dns.A, number: int = 7) -> bytes:
    return struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + dns.encode_name(name) + struct.pack("!HH", kind, 1)


def read(answer: bytes) -> tuple[int, int, list[tuple[int, bytes]]]:
    """Response code, flags, and the records' types and data."""
    _number, flags, _questions, count, *_ = struct.unpack_from("!HHHHHH", answer)
    at = answer.index(b"\0", 12) + 5
    records = []
    for _ in range(count):
        at = at + 2 if answer[at] >= 0xC0 else answer.index(b"\0", at) + 1
        kind, _, _, length = struct.unpack_from("!HHIH", answer, at)
        records.append((kind, answer[at + 10 : at + 10 + length]))
        at += 10 + length
    return flags & 15, flags, records


class NoUpstream:
    def __init__(self, answer=None):
        self.asked, self._answer = [], answer

    async def ask(self, raw):
        self.asked.append(dns.parse(raw).name)
        return self._answer


def server(upstream=None):
    return dns.DnsServer("127.0.0.1", NAMES.get, None, upstream or NoUpstream())


@pytest.mark.parametrize(
    ("name", "kind", "code", "types"),
    [
        ("web.default.svc.cluster.local", dns.A, 0, [dns.A]),
        ("Web.Default.svc.cluster.LOCAL", dns.A, 0, [dns.A]),
        ("web.default.svc.cluster.local", dns.AAAA, 0, []),
        ("web.default.svc.cluster.local", 33, 0, []),
        ("alias.default.svc.cluster.local", dns.A, 0, [dns.CNAME, dns.A]),
        ("cluster.local", dns.A, 0, []),
        ("nope.default.svc.cluster.local", dns.A, dns.NXDOMAIN, []),
        ("nope.default.svc", dns.AAAA, dns.NXDOMAIN, []),
        ("2.0.199.10.in-addr.arpa", 12, dns.NXDOMAIN, []),
        ("0.0.0.0.in-addr.arpa", 12, dns.NXDOMAIN, []),
        ("example.org", dns.A, dns.SERVFAIL, []),
    ],
)
async def test_answers(name, kind, code, types):
    answer = await server().answer(query(name, kind))
    got, flags, records = read(answer)
    assert (got, [kind for kind, _ in records]) == (code, types)
    assert answer[:2] == b"\0\x07"
    assert flags & 0x8000


async def test_only_outside_names_are_forwarded():
    upstream = NoUpstream(answer=b"\0\x07forwarded")
    assert await server(upstream).answer(query("example.org")) == b"\0\x07forwarded"
    await server(upstream).answer(query("x.svc.cluster.local"))
    assert upstream.asked == ["example.org"]


@pytest.mark.parametrize(
    "raw", [b"", b"x", b"\0" * 12, query("a")[:-6], b"\0\7" + b"\x80" * 20, query("a")[:12] + b"\x40" * 70]
)
async def test_malformed_queries_do_no_harm(raw):
    answer = await server().answer(raw)
    assert answer is None or answer[3] & 15 == dns.FORMERR


async def test_what_udp_cannot_carry_is_asked_again_over_tcp():
    whole = await server().answer(query("many.default.svc.cluster.local"))
    assert len(read(whole)[2]) == 60
    cut = dns.truncated(whole)
    assert len(cut) <= 512
    assert read(cut)[1] & 0x0200
    assert dns.truncated(cut) == cut


async def test_over_sockets():
    async def listen(_ip, _port, kind):
        sock = socket.socket(socket.AF_INET, kind)
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        ports[kind] = sock.getsockname()[1]
        return sock

    ports: dict[int, int] = {}
    running = dns.DnsServer("127.0.0.1", NAMES.get, listen, NoUpstream())
    await running.start()
    loop = asyncio.get_running_loop()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(("127.0.0.1", ports[socket.SOCK_DGRAM]))
            await loop.sock_sendall(sock, query("many.default.svc.cluster.local"))
            assert read(await loop.sock_recv(sock, 4096))[1] & 0x0200
        reader, writer = await asyncio.open_connection("127.0.0.1", ports[socket.SOCK_STREAM])
        for number in (1, 2):
            raw = query("many.default.svc.cluster.local", number=number)
            writer.write(struct.pack("!H", len(raw)) + raw)
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            answer = await reader.readexactly(length)
            assert (answer[1], len(read(answer)[2])) == (number, 60)
        writer.close()
        await writer.wait_closed()
    finally:
        await running.stop()


async def test_name_servers_that_do_not_answer_are_left_alone_for_a_while(tmp_path, monkeypatch):
    path = tmp_path / "resolv.conf"
    path.write_text("search x\nnameserver 127.0.0.9\n# comment\nnameserver 10.199.0.1\n")
    upstream = dns.Upstream(path, exclude="10.199.0.1")
    assert upstream.servers() == ["127.0.0.9"]
    asked = []

    async def silent(server, _query):
        asked.append(server)
        raise ConnectionRefusedError

    monkeypatch.setattr(dns, "_exchange", silent)
    assert await upstream.ask(query("example.org")) is None
    assert await upstream.ask(query("example.org")) is None
    assert asked == ["127.0.0.9"]
    assert dns.Upstream(tmp_path / "missing").servers() == []
