"""A real API server with a memory store, and a plain HTTP client that may be anybody."""

import asyncio
import contextlib
import io
import json
import socket
import ssl

import aiohttp
import pytest

from headrace.apiserver.pki.authority import ensure
from headrace.machinery.settings import Settings
from headrace.testing.http import http_cluster


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    return ensure(Settings(tmp_path_factory.mktemp("pki")))


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)


class Caller:
    """Sends requests to the server, as the administrator or as nobody."""

    def __init__(self, http, session):
        self.http, self._session = http, session
        self.cluster, self.url = http.cluster, http.server.url

    def open(self, method, path, body=None, **headers):
        data = body if isinstance(body, bytes | type(None)) else json.dumps(body).encode()
        data = io.BytesIO(data) if data and len(data) > 1 << 20 else data
        sent = {k.replace("_", "-"): v for k, v in headers.items()}
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        return self._session.request(method, self.url + path, data=data, headers=sent)

    async def __call__(self, method, path, body=None, **headers):
        async with self.open(method, path, body, **headers) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path, **headers):
        return await self("GET", path, **headers)


class FakeLogs:
    """PodLogs over lines that a test adds; it records what was asked."""

    def __init__(self):
        self.lines: list[bytes] = []
        self.asked: dict = {}
        self.more = asyncio.Event()

    async def stream(self, namespace, pod, container, **options):
        self.asked = {"namespace": namespace, "pod": pod, "container": container, **options}
        sent = 0
        while True:
            while sent < len(self.lines):
                yield self.lines[sent]
                sent += 1
            if not options["follow"]:
                return
            self.more.clear()
            await self.more.wait()


class Loopback:
    """A Dialer for which every name is this machine's loopback; it records what was dialled."""

    def __init__(self):
        self.ports: dict[tuple[str, int], int] = {}

    async def dial(self, host, port):
        target = self.ports.get((host, port))
        if target is None:
            raise OSError(f"nothing listens on {host}:{port}")
        made = socket.socket()
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", target))
        return made


@pytest.fixture
def logs():
    return FakeLogs()


@pytest.fixture
def dialer():
    return Loopback()


@contextlib.asynccontextmanager
async def session(pki, *, admin):
    context = ssl.create_default_context(cafile=pki.ca)
    if admin:
        context.load_cert_chain(pki.admin, pki.admin_key)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), auto_decompress=False) as made:
        yield made


@pytest.fixture
async def http(tmp_path, pki, logs, dialer):
    async with http_cluster(tmp_path, pki=pki, logs=logs, dialer=dialer) as made:
        yield made


@pytest.fixture
async def api(http, pki):
    """The administrator."""
    async with session(pki, admin=True) as made:
        yield Caller(http, made)


@pytest.fixture
async def nobody(http, pki):
    """A client without a certificate."""
    async with session(pki, admin=False) as made:
        yield Caller(http, made)


class Raw:
    """A connection whose bytes the test writes itself."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def ask(self, *chunks: bytes) -> tuple[int, bytes]:
        for chunk in chunks:
            self.writer.write(chunk)
            await self.writer.drain()
            await asyncio.sleep(0)
        return await self.answer()

    async def answer(self) -> tuple[int, bytes]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        return int(head.split()[1]), await self.reader.readexactly(length)


@pytest.fixture
async def connect(http):
    context = ssl.create_default_context(cafile=str(http.pki.ca))
    opened = []

    async def connect():
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", http.server.port, ssl=context, server_hostname="localhost"
        )
        opened.append(writer)
        return Raw(reader, writer)

    yield connect
    for writer in opened:
        writer.transport.abort()
