"""A pod's network may have been another pod's before; nobody can tell."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import os
import socket
import struct
import sys
from pathlib import Path

import pytest

from headrace.node.runtime.base import Mount
from headrace.node.runtime.sandboxd.netlink import mac_of
from headrace.testing.eventually import eventually

pytestmark = pytest.mark.node

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="an ordinary user's pods could change theirs")

_SIOCGIFNAME = 0x8910
PYTHON = os.path.realpath(sys.executable)
LOOK = """
import fcntl, socket
print(fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8927, b"eth0" + bytes(36))[18:24].hex())
words = open("/proc/net/fib_trie").read().split()
print(*{word for word, kind in zip(words, words[3:]) if word.startswith("10.") and kind == "LOCAL"})
print(len(open("/proc/net/route").readlines()), len(open("/proc/net/arp").readlines()))
"""
SERVE = """
import socket
s = socket.socket()
s.bind(("0.0.0.0", 7000))
s.listen()
print("ready", flush=True)
c, _ = s.accept()
c.sendall(c.recv(100).upper())
c.close()
"""


class Pods:
    """One after the other, each with an address of its own."""

    def __init__(self, node):
        self.node = node
        self._numbers = itertools.count(2)
        self.ended = 0

    async def begin(self, ip: str = "") -> tuple[str, str]:
        number = next(self._numbers)
        ip = ip or f"10.199.1.{number}"
        await self.node.pod(f"pod-{number}", ip)
        return f"pod-{number}", ip

    async def look(self) -> None:
        """The network of a pod that is as it must be, and that has gone again."""
        uid, ip = await self.begin()
        ended = await self.node.run(PYTHON, "-c", LOOK, pod=uid)
        hardware, address, counts = ended.out.splitlines()
        assert (address, hardware) == (ip, mac_of(ip).hex())
        assert counts == "3 1", "its own network, the way to all others, nobody spoken to"
        await self.node.runtime.remove_pod(uid)
        self.ended += 1


def interfaces(node) -> list[str]:
    """What the node's network has."""
    found = []
    with node.runtime.socket() as sock:
        for index in range(1, 200):
            with contextlib.suppress(OSError):
                name = fcntl.ioctl(sock, _SIOCGIFNAME, struct.pack("16si20x", b"", index))
                found.append(name.partition(b"\0")[0].decode())
    return found


async def answer(node, uid: str, ip: str) -> None:
    """A server that wants its port for itself starts, answers, and is the one who hangs up."""
    state = await node.runtime.start_container(node.spec(PYTHON, "-c", SERVE, pod=uid))
    await eventually(lambda: "ready" in node.output(uid, state.id)[0] or (uid, state.id) in node.exits, timeout=30)
    with await node.runtime.dial(ip, 7000) as sock:
        sock.setblocking(True)
        sock.settimeout(30)
        sock.sendall(b"word")
        assert sock.recv(100) == b"WORD"
        assert sock.recv(100) == b""
    assert (await node.ended(state)).err == ""


@needs_root
async def test_networks_are_used_again(node):
    pods, made = Pods(node), 0
    async with asyncio.timeout(60):
        while made >= pods.ended:
            await pods.look()
            made = max(made, *(int(name[3:]) + 1 for name in interfaces(node) if name.startswith("pod")))


async def test_whoever_has_an_address_is_reached_at_it(node):
    pods = Pods(node)
    for _ in range(3):
        # An address comes back while the cable that had it is another pod's.
        first, ip = await pods.begin("10.199.0.9")
        await answer(node, first, ip)
        await node.runtime.remove_pod(first)
        other, elsewhere = await pods.begin()
        await answer(node, other, elsewhere)
        second, ip = await pods.begin("10.199.0.9")
        await answer(node, second, ip)
        for uid in (other, second):
            await node.runtime.remove_pod(uid)


async def test_pods_reach_each_other_and_the_node(node):
    pods = Pods(node)
    with await node.runtime.listen(node.settings.node_ip, 7001, socket.SOCK_STREAM):
        for _ in range(4):
            (server, ip), (client, _) = await pods.begin(), await pods.begin()
            state = await node.runtime.start_container(node.spec(PYTHON, "-c", SERVE, pod=server))
            await eventually(lambda s=server, i=state.id: "ready" in node.output(s, i)[0], timeout=30)
            script = (
                "import socket; socket.create_connection(('10.199.0.1', 7001), timeout=20).close(); "
                f"c = socket.create_connection(('{ip}', 7000), timeout=20); c.sendall(b'a'); print(c.recv(9))"
            )
            assert (await node.run(PYTHON, "-c", script, pod=client)).out == "b'A'\n"
            assert (await node.ended(state)).code == 0
            for uid in (server, client):
                await node.runtime.remove_pod(uid)


@needs_root
async def test_one_that_may_have_been_changed_is_not_used_again(node):
    pods = Pods(node)
    uid, _ = await pods.begin()
    mount = Mount("/machine", Path("/proc/sys/net/ipv4"))
    change = "echo 77 > /machine/ip_default_ttl; cat /proc/sys/net/ipv4/ip_default_ttl"
    assert (await node.sh(change, pod=uid, mounts=(mount,))).out == "77\n"
    await node.runtime.remove_pod(uid)
    for _ in range(6):
        uid, _ = await pods.begin()
        assert (await node.sh("cat /proc/sys/net/ipv4/ip_default_ttl", pod=uid)).out == "64\n"
        await node.runtime.remove_pod(uid)


def test_an_address_has_one_hardware_address():
    assert mac_of("10.199.0.9") == bytes((0x0A, 0x58, 10, 199, 0, 9))
