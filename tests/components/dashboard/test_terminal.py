"""The terminal's WebSocket through the gateway: who may open one, from where, and how it ends."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re

import aiohttp
import pytest
from dashboard_world import HOME, NOBODY, STRANGER, VIEWER

from headrace.api.core import Pod
from headrace.apiserver.http.shells import PodShells
from headrace.components.dashboard.api import terminal
from headrace.components.dashboard.api.static import FOLDER
from headrace.gateway import websockets

PATH = f"/terminal?ns={HOME}&pod=step&container=main"


class Echo:
    """A program that answers what is typed, and ends at `exit`: what a node would run, without a node."""

    def __init__(self) -> None:
        self._said: asyncio.Queue[bytes] = asyncio.Queue()
        self.sizes: list[tuple[int, int]] = []
        self.closed = asyncio.Event()
        self.stuck = False

    async def read(self, _stream: int) -> bytes:
        return await self._said.get()

    async def write(self, data: bytes) -> None:
        if self.stuck:
            await asyncio.Event().wait()
        await self._said.put(b"" if data == b"exit" else b"you typed " + data)

    def end_input(self) -> None:
        """Nothing to end."""

    def resize(self, columns: int, rows: int) -> None:
        self.sizes.append((columns, rows))

    async def wait(self) -> int:
        return 7

    async def close(self) -> None:
        self.closed.set()


class Streams:
    """The node's side."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, str, tuple[str, ...], bool]] = []
        self.sessions: list[Echo] = []

    async def check(self, pod, container, *, stdin):
        """Everything runs."""

    async def exec(self, pod, container, command, *, stdin, tty):
        self.opened.append((pod.metadata.name, container, command, tty))
        self.sessions.append(Echo())
        return self.sessions[-1]


@pytest.fixture
async def node(world):
    """A pod that runs, and what runs in it."""
    running = [{"name": "main", "image": "", "ready": True, "state": {"running": {}}}]
    await world.pod(phase="Running", containerStatuses=running)
    await world.client.patch(Pod, "step", {"spec": {"nodeName": "headrace"}}, HOME)
    streams = Streams()
    world.site.shells = PodShells(world.cluster.registry, streams)
    return streams


def own(world) -> dict[str, str]:
    return {"origin": world.url}


async def refused(session, path=PATH, **options) -> int:
    with pytest.raises(aiohttp.WSServerHandshakeError) as error:
        await session.ws_connect(path, **options)
    return error.value.status


async def end_of(ws) -> str:
    """The sentence before the end."""
    words = ""
    async with asyncio.timeout(20):
        async for message in ws:
            if message.type == aiohttp.WSMsgType.TEXT:
                words = json.loads(message.data)["end"]
    return words


async def test_what_is_typed_reaches_the_shell_and_comes_back(world, node):
    session = await world.browser()
    async with session.ws_connect(PATH, headers=own(world)) as ws:
        await ws.send_str('{"columns": 120, "rows": 40}')
        for bad in (
            "{",
            "[]",
            '{"columns": "1", "rows": 2}',
            '{"columns": 0, "rows": 2}',
            '{"columns": 1e9, "rows": 2}',
        ):
            await ws.send_str(bad)
        for typed in ("안녕하세요", "你好"):
            await ws.send_bytes(typed.encode())
            assert await ws.receive_bytes(timeout=20) == b"you typed " + typed.encode()
        await ws.send_bytes(b"exit")
        assert await end_of(ws) == "The shell has ended (exit code 7)."
    ((pod, container, command, tty),) = node.opened
    assert (pod, container, tty) == ("step", "main", True)
    assert command[0] == "/bin/sh"
    assert node.sessions[0].sizes == [(120, 40)]
    assert node.sessions[0].closed.is_set()


async def test_the_shell_ends_with_the_tab(world, node):
    session = await world.browser()
    ws = await session.ws_connect(PATH, headers=own(world))
    await ws.send_bytes(b"x")
    await ws.receive_bytes(timeout=20)
    await ws.close()
    async with asyncio.timeout(20):
        await node.sessions[0].closed.wait()


async def test_whoever_sends_more_than_is_read_is_ended(world, node):
    session = await world.browser()
    async with session.ws_connect(PATH, headers=own(world)) as ws:
        await ws.send_bytes(b"x")
        await ws.receive_bytes(timeout=20)
        node.sessions[0].stuck = True
        for _ in range(terminal.MAX_WAITING + 3):
            await ws.send_bytes(b"y")
        assert "More was sent" in await end_of(ws)
    async with session.ws_connect(PATH, headers=own(world)) as ws:
        await ws.send_bytes(b"y" * (terminal.MAX_MESSAGE + 1))
        assert "More was sent" in await end_of(ws)


@pytest.mark.parametrize("who", [VIEWER, STRANGER, NOBODY])
async def test_who_may_not_execute_gets_no_shell(world, node, who):
    session = await world.browser(who)
    async with session.ws_connect(PATH, headers=own(world)) as ws:
        words = await end_of(ws)
    assert who in words
    assert "pods/exec" in words
    assert node.opened == []
    page = f"/workloads?ns={HOME}&pod=step&tab=terminal"
    text = await world.page(session, page, 200 if who == VIEWER else 403)
    assert "data-terminal" not in text
    assert "data-terminal" in await world.page(await world.browser(), page)


async def test_only_this_sites_own_pages_may_ask(world, node):
    session = await world.browser()
    host = world.url.removeprefix("http://")
    for headers in (
        {"origin": "https://elsewhere.example"},
        {"origin": "null"},
        {"origin": f"http://{host}.elsewhere.example"},
        {"origin": f"http://{host.partition(':')[0]}:1"},
        {"origin": world.url, "sec-fetch-site": "cross-site"},
        {"origin": world.url, "sec-fetch-site": "same-site"},
        {"origin": "https://elsewhere.example", "sec-fetch-site": "same-origin"},
        {},
    ):
        assert await refused(session, headers=headers) == 403, headers
    assert node.opened == []
    async with session.ws_connect(PATH, headers={**own(world), "sec-fetch-site": "same-origin"}) as ws:
        await ws.send_bytes(b"exit")
        await end_of(ws)


async def test_nobody_gets_in_without_a_credential(world, node):
    async with world.anonymous() as session:
        assert await refused(session, headers=own(world)) == 401
        assert await refused(session, headers={"authorization": "Bearer nonsense"}) == 401
        token = await world.token()
        headers = {"authorization": f"Bearer {token}"}
        assert await refused(session, headers={**headers, "origin": "https://elsewhere.example"}) == 403
        async with session.ws_connect(PATH, headers=headers) as ws:
            await ws.send_bytes(b"exit")
            assert "exit code 7" in await end_of(ws)


async def test_a_session_that_ends_takes_its_terminal_along(world, node, monkeypatch):
    monkeypatch.setattr(websockets, "CHECK_SECONDS", 0.05)
    session = await world.browser()
    async with session.ws_connect(PATH, headers=own(world)) as ws:
        await ws.send_bytes(b"x")
        await ws.receive_bytes(timeout=20)
        async with session.get("/logout", allow_redirects=False):
            pass
        assert await end_of(ws) == ""
        assert ws.close_code == 1008
    async with asyncio.timeout(20):
        await node.sessions[0].closed.wait()


async def test_other_paths_take_no_websockets(world, node):
    session = await world.browser()
    for path in ("/apis/v2beta1/runs", f"/serving/{HOME}/digits/ws", "/dex/auth"):
        assert await refused(session, path, headers=own(world)) == 404, path
    assert await refused(session, "/runs", headers=own(world)) == 403


async def test_a_person_has_so_many_terminals(world, node, monkeypatch):
    monkeypatch.setattr(terminal, "MAX_TERMINALS", 1)
    session = await world.browser()
    async with session.ws_connect(PATH, headers=own(world)) as first:
        await first.send_bytes(b"x")
        await first.receive_bytes(timeout=20)
        async with session.ws_connect(PATH, headers=own(world)) as second:
            assert "close one" in await end_of(second)
    async with asyncio.timeout(20):
        await node.sessions[0].closed.wait()


async def test_without_a_node_there_are_none(world):
    session = await world.browser()
    async with session.ws_connect(PATH, headers=own(world)) as ws:
        assert "No node runs here" in await end_of(ws)


def test_third_party_files_are_what_their_note_says():
    listed = re.findall(r"\| `([\w.-]+)` \|.*`([0-9a-f]{64})`", (FOLDER / "THIRD_PARTY.md").read_text())
    assert {name for name, _sum in listed} == {p.name for p in FOLDER.glob("xterm*") if p.suffix != ".txt"}
    for name, digest in listed:
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest, name
