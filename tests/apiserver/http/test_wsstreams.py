"""Watches, logs and what is behind proxies, over WebSockets: what comes, in which protocol, and who may."""

import asyncio
import base64
import contextlib

import aiohttp
import pytest
from aiohttp import web

from headrace.api.core import ConfigMap
from headrace.api.identity import ADMIN
from headrace.api.meta import ObjectMeta
from headrace.testing.eventually import eventually

NS = "/api/v1/namespaces/default"
BINARY, BASE64 = "binary.k8s.io", "base64.binary.k8s.io"
POD = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": "headrace"}}


async def status_of(caller, path, protocols=(), **headers):
    """With what a handshake is refused."""
    sent = {k.replace("_", "-"): v for k, v in headers.items()}
    with pytest.raises(aiohttp.WSServerHandshakeError) as error:
        async with caller._session.ws_connect(caller.url + path, protocols=protocols, headers=sent):
            pass
    return error.value.status


async def received(ws):
    """Everything until the end."""
    return [message.data async for message in ws]


@pytest.fixture
async def pod(api):
    assert (await api("POST", f"{NS}/pods", POD)).status == 201
    status = {"status": {"phase": "Running", "podIP": "10.199.0.9"}}
    merge = "application/merge-patch+json"
    assert (await api("PATCH", f"{NS}/pods/p/status", status, Content_Type=merge)).status == 200


@pytest.fixture
async def token(api):
    """Of a service account that may watch config maps and nothing else."""
    group = "rbac.authorization.k8s.io"
    account = {"metadata": {"name": "robot"}}
    assert (await api("POST", f"{NS}/serviceaccounts", account)).status == 201
    role = {"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["watch"]}]}
    subject = {"kind": "ServiceAccount", "name": "robot", "namespace": "default"}
    binding = {"metadata": {"name": "r"}, "roleRef": {"apiGroup": group, "kind": "Role", "name": "r"}}
    path = f"/apis/{group}/v1/namespaces/default"
    assert (await api("POST", f"{path}/roles", role)).status == 201
    assert (await api("POST", f"{path}/rolebindings", {**binding, "subjects": [subject]})).status == 201
    return await api.http.tokens.issue(ADMIN, "default", "robot")


@pytest.mark.parametrize("protocols", [(), (BASE64,), ("anything",)])
async def test_a_watch_is_a_message_an_event(api, protocols):
    path = f"{NS}/configmaps?watch=true&fieldSelector=metadata.name=a"
    async with api._session.ws_connect(api.url + path, protocols=protocols) as ws:
        assert ws.protocol == (protocols[0] if protocols else None)
        await api.cluster.client.create(ConfigMap(metadata=ObjectMeta(name="a", namespace="default")))
        added = await ws.receive_json()
        await api.cluster.client.delete(ConfigMap, "a", "default")
        gone = await ws.receive_json()
    assert (added["type"], added["object"]["metadata"]["name"], gone["type"]) == ("ADDED", "a", "DELETED")
    async with api._session.ws_connect(f"{api.url}{path}&timeoutSeconds=1") as ws:
        assert await received(ws) == []
        assert ws.close_code == 1000


async def test_a_watch_ends_with_its_client(api):
    ws = await api._session.ws_connect(f"{api.url}{NS}/configmaps?watch=true")
    await ws.close()

    async def ended():
        metrics = (await api.get("/metrics")).body.decode()
        return "apiserver_open_streams 0" in metrics

    await eventually(ended)


async def test_logs_in_both_protocols(api, pod, logs):
    logs.lines = [b"first\n", "zwölf\n".encode()]
    for protocols in ((), (BINARY,)):
        async with api._session.ws_connect(f"{api.url}{NS}/pods/p/log", protocols=protocols) as ws:
            assert await received(ws) == [b"", *logs.lines]
    async with api._session.ws_connect(f"{api.url}{NS}/pods/p/log", protocols=("x", BASE64)) as ws:
        assert ws.protocol == BASE64
        assert await received(ws) == ["", *(base64.b64encode(line).decode() for line in logs.lines)]
    assert await status_of(api, f"{NS}/pods/p/log", ("x",)) == 400
    assert await status_of(api, f"{NS}/pods/none/log", (BINARY,)) == 404


async def test_who_may(api, nobody, pod, token):
    watch = f"{NS}/configmaps?watch=true"
    assert await status_of(nobody, watch) == 401
    sent = {"Authorization": f"Bearer {token}"}
    assert await status_of(nobody, f"{NS}/pods?watch=true", **sent) == 403
    assert await status_of(nobody, f"{NS}/pods/p/log", **sent) == 403
    assert await status_of(nobody, f"{NS}/pods/p:80/proxy/", **sent) == 403
    async with nobody._session.ws_connect(nobody.url + watch, headers=sent):
        pass


async def test_a_token_among_the_subprotocols(api, nobody, token):
    watch = f"{NS}/configmaps?watch=true"

    def named(text):
        return "base64url.bearer.authorization.k8s.io." + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    async with nobody._session.ws_connect(nobody.url + watch, protocols=(named(token), BASE64)) as ws:
        assert ws.protocol == BASE64
    assert await status_of(nobody, watch, (named(token),)) == 401
    assert await status_of(nobody, watch, (named("wrong"), BASE64)) == 401
    assert await status_of(nobody, watch, (named(token), named(token), BASE64)) == 401
    assert await status_of(nobody, f"{NS}/pods?watch=true", (named(token), BASE64)) == 403


@contextlib.asynccontextmanager
async def echo():
    """A server of WebSockets, its port and the requests that it got."""
    asked = []

    async def handle(request):
        asked.append(request)
        if request.path != "/sub/ws":
            return web.Response(status=418, text="a teapot")
        ws = web.WebSocketResponse(protocols=("echo.example.com",))
        await ws.prepare(request)
        async for message in ws:
            await ws.send_str(f"{message.data}!")
        return ws

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1], asked
    finally:
        await runner.cleanup()


async def test_through_the_proxies(api, dialer, pod):
    service = {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}
    assert (await api("POST", f"{NS}/services", service)).status == 201
    async with echo() as (port, asked):
        dialer.ports = {("web.default", 80): port, ("10.199.0.9", 8080): port}
        for way in ("services/web:80", "pods/p:8080"):
            url = f"{api.url}{NS}/{way}/proxy/sub/ws?a=b"
            headers = {"Cookie": "a=b", "X-Mine": "yes"}
            async with api._session.ws_connect(url, protocols=("echo.example.com",), headers=headers) as ws:
                assert ws.protocol == "echo.example.com"
                await ws.send_str("hello")
                assert await ws.receive_str() == "hello!"
            request = asked[-1]
            assert (request.query_string, request.headers["X-Mine"]) == ("a=b", "yes")
            assert "Cookie" not in request.headers
            assert request.headers["X-Forwarded-Uri"] == f"{NS}/{way}/proxy"
        assert await status_of(api, f"{NS}/services/web:80/proxy/other") == 418
        before = len(asked)
        assert await status_of(api, f"{NS}/services/web:80/proxy/sub/ws", Impersonate_User="bob") == 403
        assert len(asked) == before
    dialer.ports = {}
    assert await status_of(api, f"{NS}/services/web:80/proxy/sub/ws") == 503
    assert await status_of(api, f"{NS}/services/none/proxy/sub/ws") == 404


async def test_a_server_that_goes_ends_the_websocket(api, dialer, pod):
    async with echo() as (port, _):
        dialer.ports = {("10.199.0.9", 8080): port}
        ws = await api._session.ws_connect(f"{api.url}{NS}/pods/p:8080/proxy/sub/ws")
    async with asyncio.timeout(30):
        message = await ws.receive()
    assert message.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING}
