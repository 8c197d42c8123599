"""Any helper process may be killed at any moment: pods go on, and what was killed is replaced."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headrace.node.runtime.base import Mount
from headrace.node.runtime.sandbox import SandboxRuntime
from headrace.testing.eventually import eventually

if TYPE_CHECKING:
    from .conftest import Node

PYTHON = os.path.realpath(sys.executable)
ECHO = """
import socket, threading
def serve(c):
    while data := c.recv(4096):
        c.sendall(data.upper())
s = socket.create_server(("0.0.0.0", 7000))
print("ready", flush=True)
while True:
    c, _ = s.accept()
    threading.Thread(target=serve, args=(c,)).start()
"""
TALK = """
import os, socket, time
c = socket.create_connection(("10.199.0.2", 7000), timeout=30)
n = 0
while not os.path.exists("/flag/stop"):
    n += 1
    word = f"word{n}"
    c.sendall(word.encode())
    assert c.recv(100) == word.upper().encode()
    if n == 1:
        print("talking", flush=True)
    time.sleep(0.01)
print("said", n)
"""

pytestmark = pytest.mark.node


def helper(node: Node, name: str) -> int:
    found: int = json.loads((node.settings.run / f"{name}.json").read_text())["pid"]
    return found


async def kill(node: Node, *names: str) -> None:
    """Kill these helpers, and wait until they are gone."""
    pids = [helper(node, name) for name in names]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        await eventually(lambda pid=pid: not _runs(pid), timeout=60)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in {"Z", "X"}
    except OSError:
        return False


async def say(sock: socket.socket, text: str) -> str:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(20):
        await loop.sock_sendall(sock, text.encode())
        return (await loop.sock_recv(sock, 100)).decode()


async def serve(node: Node) -> None:
    await node.pod("server", "10.199.0.2")
    state = await node.runtime.start_container(node.spec(PYTHON, "-c", ECHO, pod="server"))
    await eventually(lambda: "ready" in node.output("server", state.id)[0], timeout=60)


@pytest.mark.parametrize("victims", [("network",), ("spawner", "network")])
async def test_connections_outlive_the_network_holder(node, tmp_path, victims):
    await serve(node)
    await node.pod("client", "10.199.0.3")
    spec = node.spec(PYTHON, "-c", TALK, pod="client", mounts=(Mount("/flag", tmp_path),))
    client = await node.runtime.start_container(spec)
    await eventually(lambda: "talking" in node.output("client", client.id)[0], timeout=60)
    ours = await node.runtime.dial("10.199.0.2", 7000)
    listener = await node.runtime.listen(node.settings.node_ip, 7001, socket.SOCK_STREAM)
    before = [helper(node, name) for name in victims]
    await kill(node, *victims)
    with ours, listener:
        assert await say(ours, "old") == "OLD"
        with await node.runtime.dial("10.199.0.2", 7000) as again:
            assert await say(again, "new") == "NEW"
        # A pod that comes later is in the same network, and what listened there before still does.
        await node.pod("late", "10.199.0.4")
        script = "import socket; socket.create_connection(('10.199.0.1', 7001), timeout=20); print('reached')"
        assert (await node.run(PYTHON, "-c", script, pod="late")).out == "reached\n"
    assert [helper(node, name) for name in victims] != before
    (tmp_path / "stop").touch()
    ended = await node.ended(client)
    assert (ended.code, ended.err) == (0, "")


async def test_a_control_plane_that_comes_back_finds_the_pods_network(node):
    await serve(node)
    await node.runtime.stop(pods=False)
    await kill(node, "spawner", "network")
    runtime = SandboxRuntime(node.settings)
    await runtime.start()
    with await runtime.dial("10.199.0.2", 7000) as sock:
        assert await say(sock, "hello") == "HELLO"
    await runtime.stop(pods=False)
    await node.runtime.start()


async def test_a_pod_in_which_nothing_ran_gets_its_network_again(node):
    await serve(node)
    await node.pod("idle", "10.199.0.9")
    await kill(node, "network")
    ended = await node.sh("cat /proc/net/fib_trie | grep -c 10.199.0.9", pod="idle")
    assert int(ended.out) > 0
    await kill(node, "network")
    await node.pod("other", "10.199.0.10")
    assert (await node.sh("true", pod="other")).code == 0


async def test_a_holder_that_dies_with_every_pod_gone_is_replaced(node):
    await node.pod()
    assert (await node.sh("true")).code == 0
    await node.runtime.remove_pod("pod")
    await kill(node, "network")
    await serve(node)
    with await node.runtime.dial("10.199.0.2", 7000) as sock:
        assert await say(sock, "a") == "A"
