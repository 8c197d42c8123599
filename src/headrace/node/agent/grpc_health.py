"""Asking grpc.health.v1.Health whether a container is well, as the kubelet's gRPC probe does: one call, no TLS.

The protocol buffers of this service have one field each, which is less to write than to generate.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    import socket

    from h2.events import Event

PATH = "/grpc.health.v1.Health/Check"
SERVING = 1
NAMES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_UNIMPLEMENTED = "12"
_CHUNK = 64 << 10


class Unhealthy(Exception):
    """It is not well, or did not say so; the message is the kubelet's."""


@dataclass(slots=True)
class _Answer:
    """What has come so far."""

    data: bytearray = field(default_factory=bytearray)
    headers: dict[str, str] = field(default_factory=dict)
    ended: bool = False


async def check(sock: socket.socket, authority: str, service: str) -> None:
    """Ask over a connected socket, which is closed then. Raises Unhealthy, OSError."""
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        answer = await _call(reader, writer, authority, request(service))
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    judge(answer.headers, bytes(answer.data))


async def _call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: str, body: bytes) -> _Answer:
    from h2.config import H2Configuration  # noqa: PLC0415  # few pods have such a probe
    from h2.connection import H2Connection  # noqa: PLC0415
    from h2.exceptions import ProtocolError  # noqa: PLC0415

    connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    answer = _Answer()
    try:
        connection.initiate_connection()
        stream = connection.get_next_available_stream_id()
        connection.send_headers(
            stream,
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", PATH),
                (":authority", authority),
                ("content-type", "application/grpc"),
                ("te", "trailers"),
                ("user-agent", "kube-probe/1.32"),
            ],
        )
        connection.send_data(stream, body, end_stream=True)
        while not answer.ended:
            writer.write(connection.data_to_send())
            await writer.drain()
            data = await reader.read(_CHUNK)
            if not data:
                raise Unhealthy("error: health rpc failed: the connection was closed")
            for event in connection.receive_data(data):
                _take(event, answer)
                length = getattr(event, "flow_controlled_length", 0)
                if length and not answer.ended:
                    connection.acknowledge_received_data(length, stream)
    except ProtocolError as error:
        raise Unhealthy(f"error: health rpc failed: it does not speak HTTP/2: {error}") from error
    return answer


def _take(event: Event, answer: _Answer) -> None:
    from h2 import events  # noqa: PLC0415

    if isinstance(event, events.ResponseReceived | events.TrailersReceived):
        answer.headers |= {str(name): str(value) for name, value in event.headers or ()}
    elif isinstance(event, events.DataReceived):
        answer.data += event.data or b""
    elif isinstance(event, events.StreamEnded):
        answer.ended = True
    elif isinstance(event, events.StreamReset | events.ConnectionTerminated):
        raise Unhealthy(f"error: health rpc failed: the call was reset ({event.error_code})")


def request(service: str) -> bytes:
    """A HealthCheckRequest as a message of the stream."""
    name = service.encode()
    body = b"\x0a" + _number(len(name)) + name if name else b""
    return b"\0" + len(body).to_bytes(4, "big") + body


def judge(headers: dict[str, str], data: bytes) -> None:
    """Raises Unhealthy unless the answer says SERVING."""
    status = headers.get("grpc-status", "")
    if headers.get(":status", "200") != "200" or status == _UNIMPLEMENTED:
        raise Unhealthy("error: this server does not implement the grpc health protocol (grpc.health.v1.Health)")
    if status not in {"", "0"}:
        reason = unquote(headers.get("grpc-message", "")) or f"status {status}"
        raise Unhealthy(f"error: health rpc failed: {reason}")
    found = state(data)
    if found != SERVING:
        raise Unhealthy(f'service unhealthy (responded with "{NAMES.get(found, found)}")')


def state(data: bytes) -> int:
    """The status of a HealthCheckResponse, the only field that it has; 0 when it is left out."""
    body = data[5 : 5 + int.from_bytes(data[1:5], "big")]
    return body[1] if len(body) >= 2 and body[0] == 0x08 else 0


def _number(value: int) -> bytes:
    """A varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
