"""Pods as plain processes: their own addresses, their own folders, and what is refused."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest

from headrace.machinery.settings import Settings
from headrace.node.images.environments import bundled_pip
from headrace.node.images.interpreters import own
from headrace.node.runtime.bare import BareRuntime, refusal
from headrace.node.runtime.base import ContainerPhase, ContainerSpec, Mount, PodSandbox, StartFailed
from headrace.node.runtime.rewriting import rewrite
from headrace.node.runtime.sandboxd.redirect import BIND, CONNECT, SEND, Network, moved
from headrace.testing.eventually import eventually

PYTHON = os.path.realpath(sys.executable)
LISTEN = """
import socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("0.0.0.0", int(sys.argv[1])))
s.listen()
print("ready", flush=True)
while True:
    c, _ = s.accept()
    c.sendall(sys.argv[2].encode())
    c.close()
"""
ASK = """
import socket, sys
print(socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20).makefile().read())
"""
NETWORK = {"ip": "10.199.0.2", "number": 7, "networks": ["10.199.0.0/17", "10.199.128.0/17"], "node": "10.199.0.1"}

bare = pytest.mark.parametrize("mode", ["bare"], indirect=True)


@pytest.mark.parametrize(
    ("what", "address", "port", "wanted"),
    [
        (BIND, "0.0.0.0", 8080, ("127.7.0.2", 8080)),
        (BIND, "127.0.0.1", 80, ("127.7.0.2", 40080)),
        (BIND, "10.199.0.2", 9, ("127.7.0.2", 40009)),
        (BIND, "0.0.0.0", 0, ("0.0.0.0", 0)),
        (BIND, "127.0.0.1", 0, ("127.7.0.2", 0)),
        (CONNECT, "127.0.0.1", 8080, ("127.7.0.2", 8080)),
        (CONNECT, "0.0.0.0", 8080, ("127.7.0.2", 8080)),
        (CONNECT, "10.199.128.1", 443, ("127.7.128.1", 40443)),
        (CONNECT, "10.199.0.9", 8080, ("127.7.0.9", 8080)),
        (CONNECT, "127.7.0.9", 40080, ("127.7.0.9", 40080)),
        (CONNECT, "93.184.216.34", 80, ("93.184.216.34", 80)),
        (CONNECT, "192.168.1.1", 53, ("127.7.0.1", 40053)),
        (SEND, "127.0.0.53", 53, ("127.7.0.1", 40053)),
        (SEND, "8.8.8.8", 123, ("8.8.8.8", 123)),
    ],
)
def test_addresses(what, address, port, wanted):
    found, number = moved(Network(NETWORK), what, socket.inet_aton(address), port)
    assert (socket.inet_ntoa(found), number) == wanted


def test_a_pod_in_the_machines_network_reaches_services_only_where_they_are():
    network = Network({**NETWORK, "ip": ""})
    for what, address in ((BIND, "0.0.0.0"), (CONNECT, "127.0.0.1")):
        assert moved(network, what, socket.inet_aton(address), 80) == (socket.inet_aton(address), 80)
    assert moved(network, CONNECT, socket.inet_aton("10.199.128.1"), 80) == (socket.inet_aton("127.7.128.1"), 40080)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("/data", "/R"),
        ("/data/x", "/R/x"),
        ("--dir=/data,/data/b", "--dir=/R,/R/b"),
        ("cat '/data/a' >/data/b", "cat '/R/a' >/R/b"),
        ('{"path": "/data/deep/f"}', '{"path": "/S/f"}'),
        ("file:///data/x", "file:///R/x"),
        ("/database", "/database"),
        ("/data-2", "/data-2"),
        ("/data.txt", "/data.txt"),
        ("http://h/data/x", "http://h/data/x"),
        ("s3://data/x", "s3://data/x"),
        ("/my/data", "/my/data"),
        ("./data", "./data"),
        ("nothing", "nothing"),
    ],
)
def test_paths(text, wanted):
    assert rewrite(text, {"/data": "/R", "/data/deep": "/S"}) == wanted


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"uid": 1234}, "as user 5, not as 1234"),
        ({"gid": 77}, "in group 6, not in 77"),
        ({"capabilities": ("CHOWN",)}, "no capabilities (CHOWN)"),
        ({"joins": "main-0"}, "targetContainerName"),
        ({"read_only_root": True}, "readOnlyRootFilesystem"),
        ({"mounts": (Mount("/a", Path("/")), Mount("/a/b", Path("/")))}, "/a/b inside the volume at /a"),
        ({"mounts": (Mount("/a", Path("/")), Mount("/a/", Path("/")))}, "inside the volume at /a"),
        ({"mounts": (Mount("/", Path("/")),)}, "at /"),
        ({"mounts": (Mount("/m", None, "tmpfs", size_bytes=1),)}, "sizeLimit"),
        ({"mounts": (Mount("/m", Path("/no/such")),)}, "/no/such does not exist on the node"),
        ({"uid": 5, "gid": 6, "mounts": (Mount("/a", Path("/")), Mount("/ab", None, "tmpfs"))}, ""),
    ],
)
def test_what_cannot_be_given_is_refused(fields, sentence):
    text = refusal(ContainerSpec("c", "p", ("true",), {}, Path("/log"), **fields), 5, 6)
    assert sentence in text
    assert bool(text) == bool(sentence)


@bare
@pytest.mark.node
async def test_pods_listen_on_the_same_port_and_reach_each_other(node):
    for number in (2, 3):
        await node.pod(f"p{number}", f"10.199.0.{number}")
        spec = node.spec(PYTHON, "-u", "-c", LISTEN, "8080", f"pod {number}", pod=f"p{number}", id="server")
        await node.runtime.start_container(spec)
        await eventually(lambda uid=f"p{number}": "ready" in node.output(uid, "server")[0])
    ended = await node.run(PYTHON, "-c", ASK, "10.199.0.3", "8080", pod="p2")
    assert ended.out == "pod 3\n", ended.err
    ended = await node.run(PYTHON, "-c", ASK, "127.0.0.1", "8080", pod="p2")
    assert ended.out == "pod 2\n", ended.err
    inside = await node.runtime.exec("p3", "server", (PYTHON, "-c", ASK, "localhost", "8080"))
    assert inside.output == b"pod 3\n"
    sock = await node.runtime.dial("10.199.0.2", 8080)
    with sock:
        assert await asyncio.get_running_loop().sock_recv(sock, 100) == b"pod 2"
    with pytest.raises(ConnectionRefusedError):
        await node.runtime.dial("10.199.0.4", 8080)


@bare
@pytest.mark.node
async def test_ports_of_root_and_the_platforms_listeners(node):
    await node.pod()
    await node.runtime.start_container(node.spec(PYTHON, "-u", "-c", LISTEN, "80", "eighty", id="server"))
    await eventually(lambda: "ready" in node.output("pod", "server")[0])
    sock = await node.runtime.dial("10.199.0.2", 80)
    with sock:
        assert await asyncio.get_running_loop().sock_recv(sock, 100) == b"eighty"
    listener = await node.runtime.listen("10.199.128.9", 80, socket.SOCK_STREAM)
    with listener:
        state = await node.runtime.start_container(node.spec(PYTHON, "-c", ASK, "10.199.128.9", "80"))
        client, _ = await asyncio.get_running_loop().sock_accept(listener)
        with client:
            await asyncio.get_running_loop().sock_sendall(client, b"service")
        assert (await node.ended(state)).out == "service\n"


@bare
@pytest.mark.node
async def test_folders(node, tmp_path):
    data = tmp_path / "volume"
    data.mkdir()
    await node.pod()
    script = 'echo a > /mnt/data/out && echo b > /tmp/x && cat $WHERE/out /tmp/x && echo $HOME && pwd && echo "$TMPDIR"'
    ended = await node.sh(script, env={"WHERE": "/mnt/data"}, mounts=(Mount("/mnt/data", data),))
    lines = ended.out.splitlines()
    assert lines[:2] == ["a", "b"], ended.err
    assert (data / "out").read_text() == "a\n"
    container = node.settings.run / "pods" / "pod" / "containers" / ended.state.id
    assert lines[2:4] == [str(container / "root" / "home"), str(container / "root")]
    await eventually(lambda: not Path(lines[4]).exists() and not (container / "root").exists())
    assert (data / "out").exists(), "what is removed are links"
    with pytest.raises(StartFailed, match="runAsUser"):
        await node.runtime.start_container(node.spec("true", uid=os.getuid() + 1))
    with pytest.raises(StartFailed, match="hostAliases"):
        await node.runtime.create_pod(
            PodSandbox("x", "ns", "x", "x", "10.199.0.9", host_aliases=(("1.2.3.4", ("a",)),))
        )


@bare
@pytest.mark.node
async def test_what_is_installed_stays_in_the_container(node):
    """Into an environment as the platform makes them, by the pip that lies in it."""
    environment = node.settings.cache / "environments" / "abc"
    base = own()
    await _run(str(base.path), "-m", "venv", "--without-pip", str(environment))
    packages = next((environment / "lib").glob("python3*")) / "site-packages"
    (packages / "below.py").write_text("VALUE = 'shared'\n")
    wheels = bundled_pip(base)
    if not wheels:
        pytest.skip("this interpreter comes without pip")
    install = "import sys; open(sys.path[-1] if 0 else __import__('sysconfig').get_path('purelib') + '/mine.py', 'w')"
    await node.pod()
    ended = await node.run(
        str(environment / "bin" / "python3"),
        "-c",
        f"{install}.write('VALUE = 1')\nimport below, mine; print(below.VALUE, mine.VALUE)",
        writable=(str(environment),),
    )
    assert ended.out == "shared 1\n", ended.err
    assert not (packages / "mine.py").exists()
    again = await node.run(str(environment / "bin" / "python3"), "-c", "import mine", writable=(str(environment),))
    assert again.code == 1


@bare
@pytest.mark.node
async def test_what_leaves_its_tree_ends_with_the_pod(node):
    await node.pod()
    state = await node.runtime.start_container(node.spec("sh", "-c", "setsid sleep 1000 & echo $!; sleep 1000"))
    await eventually(lambda: node.output("pod", state.id)[0].endswith("\n"))
    child = int(node.output("pod", state.id)[0])
    await node.runtime.remove_pod("pod")
    await eventually(lambda: not Path(f"/proc/{child}").exists())


@bare
@pytest.mark.node
async def test_two_homes_have_networks_of_their_own(node, tmp_path):
    other = BareRuntime(Settings(home=tmp_path / "other"))
    await other.start()
    try:
        with await node.runtime.listen("10.199.0.1", 53, socket.SOCK_DGRAM):
            (await other.listen("10.199.0.1", 53, socket.SOCK_DGRAM)).close()
    finally:
        await other.stop(pods=True)


async def _run(*argv: str) -> None:
    process = await asyncio.create_subprocess_exec(*argv)
    assert await process.wait() == 0


@bare
@pytest.mark.node
async def test_the_end_of_one_container_is_not_that_of_another(node):
    """Their names begin alike, and a restarted control plane learns of both ends."""
    await node.pod()
    later = await node.runtime.start_container(node.spec("sleep", "1000", id="main-10"))
    await node.ended(await node.runtime.start_container(node.spec("true", id="main-1")))
    again = BareRuntime(node.settings)
    await node.runtime.stop(pods=False)
    await again.start()
    try:
        await asyncio.gather(*again._tidying)
        assert Path(f"/proc/{later.pid}").exists()
        phases = {state.id: state.phase for state in await again.containers()}
        assert phases == {"main-1": ContainerPhase.EXITED, "main-10": ContainerPhase.RUNNING}
    finally:
        await again.stop(pods=False)
        await node.runtime.start()
