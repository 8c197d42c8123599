"""WebSockets that are passed on to pods: as a notebook's kernels use them, and who may not."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from headrace.api.core import Endpoints, ServiceAccount
from headrace.api.meta import ObjectMeta
from headrace.api.rbac import ClusterRoleBinding, RoleRef, Subject
from headrace.apiserver.pki.authority import ensure_gateway
from headrace.components.istio.types import VirtualService
from headrace.gateway import Gateway, access, websockets
from headrace.machinery import tunnel
from headrace.testing import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NS = "kubeflow-user-example-com"
CHANNELS = f"/notebook/{NS}/nb/api/kernels/1/channels"
PROTOCOL = "v1.kernel.websocket.jupyter.org"
HUGE = 20 << 20
"""More than a server takes of one message unless it is told to."""


class Kernel:
    """A server of WebSockets as a notebook is one: it agrees on a subprotocol and on compression, and echoes."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.path = ""
        self.reads = asyncio.Event()
        self.reads.set()
        self.closed: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self.received = 0

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.headers, self.path = dict(request.headers), str(request.rel_url)
        if request.path.endswith("/forbidden"):
            return web.Response(status=403, text="No kernel for you", headers={"Set-Cookie": "a=b"})
        if request.path.endswith("/liar"):
            fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": "bm9uc2Vuc2U="}
            return web.Response(status=101, headers=fields)
        socket = web.WebSocketResponse(protocols=(PROTOCOL,), max_msg_size=0)
        await socket.prepare(request)
        await self.reads.wait()
        async for message in socket:
            self.received += len(message.data)
            if message.data == "close":
                await socket.close(code=4001, message=b"the kernel has died")
            elif message.type is aiohttp.WSMsgType.TEXT:
                await socket.send_str(message.data)
            elif not request.query.get("silent"):
                await socket.send_bytes(message.data)
        self.closed.set_result(socket.close_code)
        return socket


@pytest.fixture
async def kernel(meshed: Any) -> AsyncIterator[Kernel]:
    """Behind the Service `nb` and behind a model."""
    made = Kernel()
    app = web.Application()
    app.router.add_get("/{path:.*}", made.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    subsets = [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"name": "http", "port": port}]}]
    await meshed.client.patch(Endpoints, "nb", {"subsets": subsets}, NS)
    await meshed.make(VirtualService, "nb", spec=meshed.route())
    await meshed.model()
    await meshed.pods(port)
    headers = await meshed.auth()

    async def there() -> bool:
        refused = f"/notebook/{NS}/nb/forbidden", f"/serving/{NS}/digits/forbidden"
        return [await status(meshed, path, headers) for path in refused] == [403, 403]

    await eventually(there)
    yield made
    await runner.cleanup()


async def status(world: Any, path: str, headers: dict[str, str]) -> int:
    """Of a handshake that is refused."""
    try:
        async with world.session.ws_connect(world.url + path, headers=headers):
            return 101
    except aiohttp.WSServerHandshakeError as refused:
        return refused.status


def own(world: Any) -> dict[str, str]:
    return {"Origin": world.url}


async def test_a_kernels_channels_pass_whole(meshed: Any, kernel: Kernel) -> None:
    headers = {**await meshed.auth(), **own(meshed), "kubeflow-userid": "admin@example.com"}
    headers["Cookie"] = "oauth2_proxy_kubeflow=secret; _xsrf=2"
    connect = meshed.session.ws_connect(
        f"{meshed.url}{CHANNELS}?session_id=a%20b", headers=headers, protocols=(PROTOCOL,), compress=15, max_msg_size=0
    )
    async with connect as ws:
        assert ws.protocol == PROTOCOL
        assert ws.compress, "agreed upon with the pod, not with the gateway"
        for size in (0, 125, 65536, HUGE):
            await ws.send_bytes(b"x" * size)
            assert len(await ws.receive_bytes(timeout=60)) == size
        await ws.send_str("안녕")
        assert await ws.receive_str(timeout=60) == "안녕"
        await ws.close(code=4002)
    assert await asyncio.wait_for(kernel.closed, 60) == 4002
    assert kernel.path == f"{CHANNELS}?session_id=a%20b"
    assert kernel.headers["kubeflow-userid"] == f"system:serviceaccount:{NS}:default-editor"
    assert kernel.headers["Origin"] == meshed.url
    assert kernel.headers["Host"] == meshed.url.removeprefix("http://")
    assert kernel.headers["Cookie"] == "_xsrf=2", "the platform's session is not the pod's"
    assert "Authorization" not in kernel.headers


async def test_the_pod_says_why_it_closes(meshed: Any, kernel: Kernel) -> None:
    async with meshed.session.ws_connect(meshed.url + CHANNELS, headers=await meshed.auth()) as ws:
        await ws.send_str("close")
        said = await ws.receive(timeout=60)
        assert (said.type, said.data, said.extra) == (aiohttp.WSMsgType.CLOSE, 4001, "the kernel has died")


async def test_who_is_not_let_in(meshed: Any, kernel: Kernel) -> None:
    editor, viewer = await meshed.auth(), await meshed.auth("default-viewer")
    other = await meshed.auth("default-editor", "other")
    foreign = {"Origin": "https://elsewhere.example"}
    refused = [
        (CHANNELS, own(meshed), 401),
        (CHANNELS, {**own(meshed), "Authorization": "Bearer nonsense"}, 401),
        (CHANNELS, {}, 403),
        (CHANNELS, {**editor, **foreign}, 403),
        (CHANNELS, {**editor, **own(meshed), "Sec-Fetch-Site": "cross-site"}, 403),
        (CHANNELS, other, 403),
        (CHANNELS, viewer, 403),
        (f"/serving/{NS}/digits/ws", other, 403),
        (f"/serving/{NS}/digits/ws", viewer, 403),
        (f"/serving/{NS}/digits/ws", {**editor, **foreign}, 403),
        ("/elsewhere", editor, 404),
    ]
    kernel.path = ""
    for path, headers, expected in refused:
        assert await status(meshed, path, headers) == expected, (path, headers)
    assert not kernel.path, "the pod has heard of none of them"


async def test_a_model_may_speak_over_a_websocket(meshed: Any, kernel: Kernel) -> None:
    headers = await meshed.auth()
    for url, host in (
        (f"/serving/{NS}/digits/v1/realtime", {}),
        ("/v1/realtime", {"Host": f"digits-{NS}.example.com"}),
    ):
        async with meshed.session.ws_connect(meshed.url + url, headers={**headers, **host}) as ws:
            await ws.send_str("hello")
            assert await ws.receive_str(timeout=60) == "hello"
        assert kernel.path == "/v1/realtime"
        kernel.closed = asyncio.get_running_loop().create_future()


async def test_a_pod_that_refuses_is_heard_and_one_that_lies_is_not(meshed: Any, kernel: Kernel) -> None:
    headers = {**await meshed.auth(), "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    headers["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    async with meshed.session.get(f"{meshed.url}/notebook/{NS}/nb/forbidden", headers=headers) as answer:
        assert (answer.status, await answer.text()) == (403, "No kernel for you")
    async with meshed.session.get(f"{meshed.url}/notebook/{NS}/nb/liar", headers=headers) as answer:
        assert answer.status == 502
        assert "not to this handshake" in await answer.text()
    await meshed.client.patch(Endpoints, "nb", {"subsets": []}, NS)

    async def told() -> bool:
        return await status(meshed, CHANNELS, await meshed.auth()) == 503

    await eventually(told)


async def test_a_client_is_read_as_fast_as_the_pod_reads(
    meshed: Any, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[Any] = []
    original = tunnel.ClientSide._join

    async def join(self: Any, *arguments: Any) -> None:
        joined.append(self)
        await original(self, *arguments)

    monkeypatch.setattr(tunnel.ClientSide, "_join", join)
    kernel.reads.clear()
    count, part = 64, b"x" * (1 << 20)
    async with meshed.session.ws_connect(f"{meshed.url}{CHANNELS}?silent=1", headers=await meshed.auth()) as ws:

        async def send() -> None:
            for _ in range(count):
                await ws.send_bytes(part)

        sending = asyncio.create_task(send())
        await eventually(lambda: bool(joined) and not joined[0].transport.is_reading())
        assert not sending.done(), "what is not taken waits with the client"
        kernel.reads.set()
        await asyncio.wait_for(sending, 60)
        await eventually(lambda: kernel.received == count * len(part))


async def test_a_token_that_ends_takes_its_websocket_along(
    meshed: Any, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websockets, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(access, "TOKEN_SECONDS", 0.05)
    url = f"{meshed.url}/serving/{NS}/digits/ws"
    await meshed.make(ServiceAccount, "brief")
    await meshed.client.create(_admin("brief"))
    async with meshed.session.ws_connect(url, headers=await meshed.auth("brief")) as ws:
        await ws.send_str("hello")
        assert await ws.receive_str(timeout=60) == "hello"
        await meshed.client.delete(ServiceAccount, "brief", NS)
        assert (await ws.receive(timeout=60)).type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}
    await asyncio.wait_for(kernel.closed, 60)


async def test_over_tls(meshed: Any, kernel: Kernel) -> None:
    certificate, key = ensure_gateway(meshed.cluster.settings, ["localhost"])
    settings = dataclasses.replace(meshed.cluster.settings, tls_certificate=certificate, tls_key=key)
    manager, clock = meshed.cluster.manager, meshed.cluster.clock
    gateway = Gateway(settings, meshed.client, meshed.dialer, (), manager=manager, clock=clock)
    await gateway.start()
    trusted = ssl.create_default_context()
    trusted.check_hostname, trusted.verify_mode = False, ssl.CERT_NONE
    try:
        url = "https://{}:{}".format(*gateway.address) + CHANNELS
        headers = await meshed.auth()
        async with meshed.session.ws_connect(url, headers=headers, ssl=trusted, max_msg_size=0) as ws:
            await ws.send_bytes(b"x" * HUGE)
            assert len(await ws.receive_bytes(timeout=60)) == HUGE
    finally:
        await gateway.stop()
    await asyncio.wait_for(kernel.closed, 60)


def _admin(account: str) -> Any:
    return ClusterRoleBinding(
        metadata=ObjectMeta(name=account),
        role_ref=RoleRef(api_group="rbac.authorization.k8s.io", kind="ClusterRole", name="kubeflow-edit"),
        subjects=[Subject(kind="ServiceAccount", name=account, namespace=NS)],
    )
