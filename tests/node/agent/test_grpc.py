"""gRPC probes, against a server that speaks the protocol."""

from __future__ import annotations

import asyncio
import socket

import pytest
from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection

from headrace.api.core import Container, GRPCAction, Probe
from headrace.node.agent import grpc_health, probing
from headrace.node.agent.grpc_health import Unhealthy


class Server:
    """Answers every call with the same message and trailers; remembers what it was asked."""

    def __init__(self, message: bytes | None, trailers: dict[str, str], status: str = "200"):
        self.message, self.trailers, self.status = message, trailers, status
        self.asked: list[bytes] = []
        self.paths: list[str] = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        connection = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        body = b""
        while data := await reader.read(65536):
            for event in connection.receive_data(data):
                if isinstance(event, events.RequestReceived):
                    self.paths.append(dict(event.headers)[":path"])
                if isinstance(event, events.DataReceived):
                    body += event.data
                if isinstance(event, events.StreamEnded):
                    self.asked.append(body)
                    head = [(":status", self.status), ("content-type", "application/grpc")]
                    connection.send_headers(event.stream_id, head)
                    if self.message is not None:
                        framed = b"\0" + len(self.message).to_bytes(4, "big") + self.message
                        connection.send_data(event.stream_id, framed)
                    connection.send_headers(event.stream_id, list(self.trailers.items()), end_stream=True)
            writer.write(connection.data_to_send())
            await writer.drain()
        writer.close()


def target(port: int) -> tuple[Probe, probing.Target]:
    probe = Probe(grpc=GRPCAction(port=port, service="my.service"), timeout_seconds=20)
    return probe, probing.Target(None, "uid", "id", Container(name="c"), "127.0.0.1", host_network=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("message", "trailers", "expected"),
    [
        (b"\x08\x01", {"grpc-status": "0"}, ""),
        (b"\x08\x02", {"grpc-status": "0"}, 'service unhealthy (responded with "NOT_SERVING")'),
        (b"", {"grpc-status": "0"}, 'service unhealthy (responded with "UNKNOWN")'),
        (None, {"grpc-status": "5", "grpc-message": "unknown%20service"}, "error: health rpc failed: unknown service"),
        (
            None,
            {"grpc-status": "12"},
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)",
        ),
    ],
)
async def test_answers(message, trailers, expected):
    async with Server(message, trailers) as server:
        answer = await probing.ask(*target(server.port))
    assert (answer.ok, answer.message) == (not expected, expected)
    assert server.paths == ["/grpc.health.v1.Health/Check"]
    assert server.asked == [b"\0\0\0\0\x0c\x0a\x0amy.service"]


async def test_nobody_listens():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    answer = await probing.ask(*target(port))
    assert not answer.ok
    assert answer.message == f'error: failed to connect service "127.0.0.1:{port}": connect: connection refused'


async def test_another_protocol():
    async def serve(reader, writer):
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n" * 3)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        answer = await probing.ask(*target(server.sockets[0].getsockname()[1]))
    finally:
        server.close()
    assert not answer.ok
    assert answer.message.startswith("error: ")


async def test_silence_is_bounded():
    async def serve(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    probe, where = target(server.sockets[0].getsockname()[1])
    probe.timeout_seconds = 1
    try:
        answer = await probing.ask(probe, where)
    finally:
        server.close()
    assert answer.message.startswith("timeout: failed to connect service ")


def test_messages():
    assert grpc_health.request("") == b"\0\0\0\0\0"
    assert grpc_health.request("x" * 200)[:8] == b"\0\0\0\0\xcb\x0a\xc8\x01"
    grpc_health.judge({":status": "200", "grpc-status": "0"}, b"\0\0\0\0\x02\x08\x01")
    with pytest.raises(Unhealthy, match="does not implement"):
        grpc_health.judge({":status": "404"}, b"")
