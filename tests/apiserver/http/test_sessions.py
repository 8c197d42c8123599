"""exec, attach and port-forward at the API server: who may, what is refused, and what goes over the WebSocket."""

import asyncio
import contextlib
import json
import struct
import zlib

import aiohttp
import pytest

from headrace import bootstrap
from headrace.api.errors import NotFound
from headrace.api.identity import ADMIN
from headrace.apiserver.authz.bootstrap import default_objects
from headrace.apiserver.http import channels, portforward, spdy, websocket
from headrace.machinery.component import SessionRefused
from headrace.testing.eventually import eventually
from headrace.testing.http import http_cluster

PODS = "/api/v1/namespaces/default/pods"
V5, V4, SPDY = "v5.channel.k8s.io", "v4.channel.k8s.io", "SPDY/3.1+portforward.k8s.io"
EVERYTHING = "stdin=true&stdout=true&stderr=true"


class Echo:
    """A session that gives back its input, and errors after it."""

    def __init__(self, streams):
        self.streams = streams
        self.queues = {1: asyncio.Queue(), 2: asyncio.Queue()}
        self.sizes, self.closed, self.done = [], False, asyncio.Event()

    async def read(self, stream):
        return await self.queues[stream].get()

    async def write(self, data):
        self.queues[1].put_nowait(data)

    def end_input(self):
        self.queues[1].put_nowait(b"")
        self.queues[2].put_nowait(b"the end")
        self.queues[2].put_nowait(b"")
        self.done.set()

    def resize(self, columns, rows):
        self.sizes.append((columns, rows))

    async def wait(self):
        await self.done.wait()
        return self.streams.code

    async def close(self):
        self.closed = True


class Streams:
    """PodStreams whose sessions are echoes; `ended` is a container that does not run."""

    def __init__(self):
        self.opened, self.code = [], 0

    async def check(self, pod, container, *, stdin):
        if container == "ended":
            raise NotFound('container not found ("ended")')

    async def exec(self, pod, container, command, *, stdin, tty):
        if command == ("nope",):
            raise SessionRefused('exec: "nope": executable file not found in $PATH')
        self.opened.append((pod.metadata.name, container, command, stdin, tty, Echo(self)))
        return self.opened[-1][-1]

    async def attach(self, pod, container, *, stdin, tty):
        return await self.exec(pod, container, (), stdin=stdin, tty=tty)

    @property
    def last(self):
        return self.opened[-1][-1]


@pytest.fixture
def streams():
    return Streams()


@pytest.fixture
async def http(tmp_path, pki, dialer, streams):
    async with http_cluster(tmp_path, pki=pki, dialer=dialer, streams=streams) as made:
        yield made


@pytest.fixture
async def pod(http, api):
    """A pod that runs on the node, with the containers main, side and ended."""
    named = [{"name": n, "image": "i"} for n in ("main", "side", "ended")]
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    made = await api("POST", PODS, {**body, "spec": {"containers": named, "nodeName": "headrace"}})
    assert made.status == 201, made.json
    status = {"status": {"phase": "Running", "podIP": "10.199.0.9"}}
    patched = await api("PATCH", f"{PODS}/p/status", status, Content_Type="application/merge-patch+json")
    assert patched.status == 200, patched.json
    return made


@pytest.fixture
def connect(api):
    """A WebSocket to a part of the pod p."""

    @contextlib.asynccontextmanager
    async def connecting(path, protocol, **headers):
        sent = {k.replace("_", "-"): v for k, v in headers.items()}
        url = f"{api.url}{PODS}/p/{path}"
        async with api._session.ws_connect(url, protocols=[protocol], headers=sent) as ws:
            assert ws.protocol == protocol
            yield ws

    return connecting


async def refused(connect, path, protocol=V5, **headers):
    with pytest.raises(aiohttp.WSServerHandshakeError) as error:
        async with connect(path, protocol, **headers):
            pass
    return error.value.status


async def everything(ws):
    """What comes until the end, by channel."""
    found = {}
    async for message in ws:
        if message.type is aiohttp.WSMsgType.BINARY:
            found[message.data[0]] = found.get(message.data[0], b"") + message.data[1:]
    assert ws.close_code == 1000
    return found


async def test_input_output_errors_and_success(connect, pod, streams):
    async with connect(f"exec?container=side&command=cat&command=-&{EVERYTHING}", V5) as ws:
        for part in (b"hello ", b"world"):
            await ws.send_bytes(b"\0" + part)
        await ws.send_bytes(b"\xff\0")
        found = await everything(ws)
    assert (found[1], found[2]) == (b"hello world", b"the end")
    assert json.loads(found[3]) == {"metadata": {}, "status": "Success"}
    assert streams.opened[0][:5] == ("p", "side", ("cat", "-"), True, False)
    await eventually(lambda: streams.last.closed)


@pytest.mark.parametrize("protocol", [V5, V4])
async def test_an_exit_code_is_told(connect, pod, streams, protocol):
    streams.code = 42
    async with connect("exec?container=main&command=x&stdout=true&stderr=true", protocol) as ws:
        await eventually(lambda: streams.opened)
        streams.last.end_input()
        result = json.loads((await everything(ws))[3])
    assert (result["status"], result["reason"]) == ("Failure", "NonZeroExitCode")
    assert result["details"]["causes"] == [{"reason": "ExitCode", "message": "42"}]


async def test_what_was_not_asked_for_does_not_come(connect, pod, streams):
    async with connect("exec?container=main&command=x&stdout=true", V5) as ws:
        await eventually(lambda: streams.opened)
        await ws.send_bytes(b"\0ignored")
        streams.last.queues[1].put_nowait(b"shown")
        streams.last.end_input()
        found = await everything(ws)
    assert found[1] == b"shown"
    assert 2 not in found


async def test_sizes_of_the_terminal(connect, pod, streams):
    async with connect("exec?container=main&command=x&stdin=true&stdout=true&tty=true", V5) as ws:
        for text in (b'{"Width":80,"Height":24}', b"nonsense", b'{"Width":"a"}', b"[]", b'{"Width":120,"Height":40}'):
            await ws.send_bytes(b"\4" + text)
        await ws.send_bytes(b"")
        await ws.send_bytes(b"\x63what")
        await eventually(lambda: streams.opened and len(streams.last.sizes) == 2)
        streams.last.end_input()
        await everything(ws)
    assert streams.last.sizes == [(80, 24), (120, 40)]
    assert streams.opened[0][4] is True


async def test_a_program_that_is_not_there(connect, pod):
    async with connect("exec?container=main&command=nope&stdout=true", V5) as ws:
        result = json.loads((await everything(ws))[3])
    assert result["reason"] == "InternalError"
    assert result["message"].startswith("Internal error occurred: error executing command in container: ")
    assert 'exec: "nope": executable file not found in $PATH' in result["message"]


async def test_a_client_that_goes_away_ends_the_session(connect, pod, streams):
    async with connect(f"exec?container=main&command=x&{EVERYTHING}", V5):
        await eventually(lambda: streams.opened)
    await eventually(lambda: streams.last.closed)


async def test_a_client_that_goes_away_while_nobody_takes_its_input(connect, pod, streams, monkeypatch):
    monkeypatch.setattr(channels, "MAX_BACKLOG", 1 << 16)
    monkeypatch.setattr(websocket, "LOOK_SECONDS", 0.05)
    never = asyncio.Event()

    async def write(_data):
        await never.wait()

    async with connect(f"exec?container=main&command=x&{EVERYTHING}", V5) as ws:
        await eventually(lambda: streams.opened)
        streams.last.write = write
        for _ in range(20):
            await ws.send_bytes(bytes(1 << 15))
        await asyncio.sleep(0.2)
        assert not streams.last.closed
        ws._response.connection.transport.abort()
        await eventually(lambda: streams.last.closed)


async def test_the_servers_end_is_the_sessions_end(http, connect, pod, streams):
    async with connect(f"attach?container=main&{EVERYTHING}", V5) as ws:
        await eventually(lambda: streams.opened)
        http.server.app.stopping.set()
        await eventually(lambda: streams.last.closed)
        assert streams.opened[0][2] == ()
        await ws.close()


@pytest.mark.usefixtures("pod")
@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("exec?container=main&command=x", 400, "you must specify at least 1 of stdin, stdout, stderr"),
        ("exec?container=main&stdout=true", 400, "you must specify at least one command for the container"),
        ("exec?container=x&command=x&stdout=true", 400, "container x is not valid for pod p"),
        (
            "exec?command=x&stdout=true",
            400,
            "a container name must be specified for pod p, choose one of: [main side ended]",
        ),
        ("exec?container=ended&command=x&stdout=true", 404, 'container not found ("ended")'),
        ("attach?container=ended&stdout=true", 404, 'container not found ("ended")'),
        ("exec?container=main&command=x&stdout=maybe", 400, None),
    ],
)
async def test_what_is_refused_is_refused_in_the_same_words(api, connect, path, code, message):
    assert await refused(connect, path) == code
    answer = await api("POST", f"{PODS}/p/{path}", Connection="Upgrade", Upgrade="SPDY/3.1")
    assert answer.status == code
    assert message is None or answer.json["message"] == message


@pytest.mark.parametrize(
    "path", ["exec?container=main&command=x&stdout=true", "attach?container=main&stdout=true", "portforward"]
)
async def test_only_websockets(api, connect, pod, path):
    spdy_asked = await api("POST", f"{PODS}/p/{path}", Connection="Upgrade", Upgrade="SPDY/3.1")
    assert spdy_asked.status == 400
    assert "upgrading to SPDY is not supported" in spdy_asked.json["message"]
    assert (await api.get(f"{PODS}/p/{path}")).json["message"].startswith("Upgrade request required")
    assert (await api("DELETE", f"{PODS}/p/{path}")).status == 405
    assert await refused(connect, path, "base64.channel.k8s.io") == 400


async def test_what_is_no_websocket(api, connect, pod):
    assert await refused(connect, "nothing") == 404
    for path, status in (
        ("/api/v1/namespaces/default/services/x/exec", 404),
        ("/version", 400),
        (PODS, 400),
        ("/apis/apps/v1/namespaces/default/pods/p/exec", 404),
    ):
        with pytest.raises(aiohttp.WSServerHandshakeError) as error:
            async with api._session.ws_connect(api.url + path):
                pass
        assert error.value.status == status


@pytest.fixture
async def bob(api):
    """Bind bob to a role with these verbs on these resources of the core group."""

    async def bind(verbs, resources):
        group = "rbac.authorization.k8s.io"
        role = {
            "apiVersion": f"{group}/v1",
            "kind": "Role",
            "metadata": {"name": "bobs"},
            "rules": [{"apiGroups": [""], "resources": resources, "verbs": verbs}],
        }
        binding = {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "bobs"},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "bobs"},
            "subjects": [{"kind": "User", "apiGroup": group, "name": "bob"}],
        }
        for plural, body in (("roles", role), ("rolebindings", binding)):
            made = await api("POST", f"/apis/{group}/v1/namespaces/default/{plural}", body)
            assert made.status == 201, made.json

    return bind


PATHS = {
    "exec": "exec?container=main&command=x&stdout=true",
    "attach": "attach?container=main&stdout=true",
    "portforward": "portforward?ports=80",
}


@pytest.mark.usefixtures("pod")
@pytest.mark.parametrize("part", PATHS)
async def test_who_may(api, connect, nobody, bob, part):
    assert await refused(connect, PATHS[part], V4, Impersonate_User="bob") == 403
    denied = await api("POST", f"{PODS}/p/{PATHS[part]}", Impersonate_User="bob")
    assert f'cannot create resource "pods/{part}"' in denied.json["message"]
    with pytest.raises(aiohttp.WSServerHandshakeError) as error:
        async with nobody._session.ws_connect(f"{api.url}{PODS}/p/{PATHS[part]}", protocols=[V4]):
            pass
    assert error.value.status == 401
    await bob(["get", "list", "create"], ["pods", *(f"pods/{other}" for other in PATHS if other != part)])
    assert await refused(connect, PATHS[part], V4, Impersonate_User="bob") == 403


@pytest.mark.parametrize("part", PATHS)
async def test_reading_a_part_is_what_a_websocket_needs(connect, pod, bob, part):
    await bob(["get"], [f"pods/{part}"])
    async with connect(PATHS[part], V4, Impersonate_User="bob") as ws:
        assert (await ws.receive()).type is aiohttp.WSMsgType.BINARY


@pytest.mark.parametrize(("role", "may"), [("edit", True), ("admin", True), ("view", False)])
async def test_the_default_roles(api, http, pod, role, may):
    await bootstrap.ensure(http.cluster.registry, ADMIN, default_objects())
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "r"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "bob"}],
    }
    path = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings"
    assert (await api("POST", path, binding)).status == 201
    for part, sent in PATHS.items():
        for verb, method in (("create", "POST"), ("get", "GET")):
            answer = await api(method, f"{PODS}/p/{sent}", Impersonate_User="bob")
            assert (answer.status == 403) is not may, (part, verb)


async def test_discovery_names_the_parts(api):
    listed = {r["name"]: r for r in (await api.get("/api/v1")).json["resources"]}
    for part, kind in (("exec", "PodExecOptions"), ("attach", "PodAttachOptions")):
        assert (listed[f"pods/{part}"]["kind"], listed[f"pods/{part}"]["verbs"]) == (kind, ["create", "get"])
    assert "services/exec" not in listed


# Ports.


@contextlib.asynccontextmanager
async def listener(handle):
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def shout(reader, writer):
    """Everything in capitals, when everything is there."""
    writer.write((await reader.read()).upper())
    writer.close()


async def echo(reader, writer):
    while data := await reader.read(1000):
        writer.write(data)
        await writer.drain()
    writer.close()


class Client:
    """The client's side of SPDY over a WebSocket."""

    def __init__(self, ws):
        self.ws, self.next = ws, 1
        self.deflate = zlib.compressobj(zdict=spdy.DICTIONARY)
        self.data, self.ended, self.replied, self.reset, self.pings = {}, set(), set(), set(), []
        self.buffer = b""

    async def open(self, **headers):
        stream, self.next = self.next, self.next + 2
        plain = struct.pack(">I", len(headers))
        for name, value in headers.items():
            plain += struct.pack(">I", len(name)) + name.encode() + struct.pack(">I", len(value)) + value.encode()
        block = self.deflate.compress(plain) + self.deflate.flush(zlib.Z_SYNC_FLUSH)
        await self.ws.send_bytes(struct.pack(">HHIIIH", 0x8003, 1, 10 + len(block), stream, 0, 0) + block)
        return stream

    async def pair(self, port, request):
        errors = await self.open(streamtype="error", port=str(port), requestid=request)
        return await self.open(streamtype="data", port=str(port), requestid=request), errors

    async def send(self, stream, data, *, end=False):
        await self.ws.send_bytes(struct.pack(">II", stream, end << 24 | len(data)) + data)

    async def until(self, done, timeout=60):
        async with asyncio.timeout(timeout):
            while not done():
                message = await self.ws.receive()
                assert message.type is aiohttp.WSMsgType.BINARY, message
                self.take(message.data)

    def take(self, data):
        self.buffer += data
        while len(self.buffer) >= 8:
            first, rest = struct.unpack(">II", self.buffer[:8])
            size = rest & 0xFFFFFF
            if len(self.buffer) < 8 + size:
                return
            body, self.buffer = self.buffer[8 : 8 + size], self.buffer[8 + size :]
            if first >> 31:
                kind, stream = first & 0xFFFF, struct.unpack(">I", body[:4])[0]
                {2: self.replied.add, 3: self.reset.add, 6: self.pings.append}[kind](stream)
                continue
            self.data[first] = self.data.get(first, b"") + body
            if rest >> 24 & 1:
                self.ended.add(first)


@pytest.fixture
def target(dialer):
    """Let a port of the pod be a server of the test's."""

    def point(port, actual):
        dialer.ports["10.199.0.9", port] = actual

    return point


async def test_each_direction_ends_by_itself(connect, pod, target):
    async with listener(shout) as actual, connect("portforward", SPDY) as ws:
        target(80, actual)
        client = Client(ws)
        data, errors = await client.pair(80, "0")
        await client.send(data, b"hello ")
        await client.send(data, b"world", end=True)
        await client.until(lambda: {data, errors} <= client.ended)
        assert client.data == {data: b"HELLO WORLD", errors: b""}
        assert client.replied == {data, errors}


async def test_many_connections_at_once(connect, pod, target):
    async with listener(echo) as actual, connect("portforward", SPDY) as ws:
        target(80, actual)
        client = Client(ws)
        pairs = [await client.pair(80, str(n)) for n in range(20)]
        texts = {data: bytes([n]) * 50_000 for n, (data, _) in enumerate(pairs)}
        for data, text in texts.items():
            await client.send(data, text, end=True)
        await client.until(lambda: all({d, e} <= client.ended for d, e in pairs))
        assert {data: client.data[data] for data in texts} == texts


async def test_a_port_where_nothing_listens_is_told_and_the_others_go_on(connect, pod, target):
    async with listener(echo) as actual, connect("portforward", SPDY) as ws:
        target(80, actual)
        client = Client(ws)
        good, _ = await client.pair(80, "0")
        bad, errors = await client.pair(81, "1")
        await client.until(lambda: {bad, errors} <= client.ended)
        assert client.data[errors].startswith(b"error forwarding port 81 to pod: ")
        await client.send(good, b"still here")
        await client.until(lambda: client.data.get(good) == b"still here")
        await ws.send_bytes(b"\x80\3\0\6\0\0\0\4\0\0\0\7")
        await client.until(lambda: client.pings == [7])


async def test_a_reset_closes_the_connection(connect, pod, target):
    closed = asyncio.Event()

    async def wait(reader, writer):
        with contextlib.suppress(ConnectionError):
            writer.write(b"hi")
            await reader.read()
        closed.set()
        writer.close()

    async with listener(wait) as actual, connect("portforward", SPDY) as ws:
        target(80, actual)
        client = Client(ws)
        data, _ = await client.pair(80, "0")
        await client.until(lambda: client.data.get(data) == b"hi")
        await ws.send_bytes(struct.pack(">HHIII", 0x8003, 3, 8, data, 5))
        await asyncio.wait_for(closed.wait(), 60)


async def test_the_clients_end_closes_the_connections(connect, pod, target):
    closed = asyncio.Event()

    async def wait(reader, writer):
        writer.write(b"hi")
        await reader.read()
        closed.set()
        writer.close()

    async with listener(wait) as actual:
        target(80, actual)
        async with connect("portforward", SPDY) as ws:
            client = Client(ws)
            data, _ = await client.pair(80, "0")
            await client.until(lambda: client.data.get(data) == b"hi")
        await asyncio.wait_for(closed.wait(), 60)


@pytest.mark.parametrize(
    "headers",
    [
        {"streamtype": "data", "port": "80", "requestid": "without an error stream"},
        {"streamtype": "error", "port": "0", "requestid": "0"},
        {"streamtype": "error", "port": "99999", "requestid": "0"},
        {"streamtype": "other", "port": "80", "requestid": "0"},
        {},
    ],
)
async def test_streams_that_make_no_sense_are_reset(connect, pod, headers):
    async with connect("portforward", SPDY) as ws:
        client = Client(ws)
        stream = await client.open(**headers)
        await client.until(lambda: client.reset == {stream})


async def test_too_many_connections_are_reset(connect, pod, target, monkeypatch):
    monkeypatch.setattr(portforward, "MAX_CONNECTIONS", 2)
    async with listener(echo) as actual, connect("portforward", SPDY) as ws:
        target(80, actual)
        client = Client(ws)
        for number in range(3):
            await client.pair(80, str(number))
        await client.until(lambda: client.reset == {9, 11})


async def test_what_is_no_spdy_ends_the_tunnel(connect, pod):
    async with connect("portforward", SPDY) as ws:
        await ws.send_bytes(b"\x80\2\0\1\0\0\0\0")
        assert (await ws.receive()).type is aiohttp.WSMsgType.CLOSE
        assert ws.close_code == 1002


async def test_numbered_channels(connect, pod, target):
    async with contextlib.AsyncExitStack() as stack:
        target(80, await stack.enter_async_context(listener(echo)))
        ws = await stack.enter_async_context(connect("portforward?ports=80&ports=81", V4))
        heads = [(await ws.receive()).data for _ in range(4)]
        assert heads == [b"\0\x50\0", b"\1\x50\0", b"\2\x51\0", b"\3\x51\0"]
        await ws.send_bytes(b"\0hello")
        found = {}
        while len(found) < 2:
            message = (await ws.receive()).data
            found[message[0]] = message[1:]
        assert found[0] == b"hello"
        assert found[3].startswith(b"error forwarding port 81 to pod: ")


async def test_numbered_channels_end_with_the_last_connection(connect, pod, target):
    async def bye(_reader, writer):
        writer.write(b"bye")
        writer.close()

    async with listener(bye) as actual:
        target(80, actual)
        async with connect("portforward?ports=80", V4) as ws:
            assert (await everything(ws))[0] == b"\x50\0bye"


@pytest.mark.parametrize("query", ["", "?ports=", "?ports=x", "?ports=70000", "?" + "&".join(["ports=1"] * 65)])
async def test_ports_that_are_refused(connect, pod, query):
    assert await refused(connect, f"portforward{query}", V4) == 400


async def test_a_pod_without_an_address_has_no_ports(api, connect):
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    await api("POST", PODS, {**body, "spec": {"containers": [{"name": "main", "image": "i"}]}})
    assert await refused(connect, "portforward", SPDY) == 400
    assert await refused(connect, "exec?command=x&stdout=true") == 400
