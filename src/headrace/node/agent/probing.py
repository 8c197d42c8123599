"""Probes and hooks: asking a container over HTTP or TCP or by a command, in the kubelet's words."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from headrace.node.agent import grpc_health

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from headrace.api.core import Container, ExecAction, GRPCAction, HTTPGetAction, Probe, TCPSocketAction
    from headrace.api.meta import IntOrString
    from headrace.node.runtime.base import Runtime


@dataclass(frozen=True, slots=True)
class Target:
    """The container that is asked."""

    runtime: Runtime
    pod_uid: str
    container_id: str
    container: Container
    ip: str
    host_network: bool = False

    async def connect(self, host: str, port: int) -> socket.socket:
        """A connection to a port of the container. Raises OSError."""
        if not self.host_network:
            return await self.runtime.dial(host, port)
        sock = socket.socket()
        sock.setblocking(False)
        address = ("127.0.0.1" if host == self.ip else host, port)
        try:
            await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return sock


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether it is well, and what it said."""

    ok: bool
    message: str = ""


async def ask(probe: Probe, target: Target) -> Answer:
    """Runs a probe once, within its timeout."""
    seconds = float(max(1, probe.timeout_seconds))
    if probe.exec is not None:
        return await run_command(probe.exec, target, seconds)
    if probe.http_get is not None:
        return await _in_time(http_get(probe.http_get, target), seconds, _slow_http(probe.http_get, target))
    if probe.tcp_socket is not None:
        return await _in_time(_tcp(probe.tcp_socket, target), seconds, "i/o timeout")
    if probe.grpc is not None:
        where = f"{target.ip}:{probe.grpc.port}"
        slow = f'timeout: failed to connect service "{where}" within {int(seconds)}s: context deadline exceeded'
        return await _in_time(_grpc(probe.grpc, target), seconds, slow)
    return Answer(ok=False, message="the probe has no handler")


async def run_command(action: ExecAction, target: Target, seconds: float | None) -> Answer:
    """A command in the container: exit code 0 is well."""
    try:
        result = await target.runtime.exec(target.pod_uid, target.container_id, tuple(action.command), timeout=seconds)
    except Exception as error:  # noqa: BLE001  # whatever keeps the command from running is the probe's answer
        return Answer(ok=False, message=str(error))
    return Answer(result.exit_code == 0, result.output.decode(errors="replace").strip())


async def http_get(action: HTTPGetAction, target: Target) -> Answer:
    """A GET: 200 to 399 is well."""
    port = port_number(action.port, target.container)
    host = action.host or target.ip
    if port is None:
        return Answer(ok=False, message=f"couldn't find port: {action.port}")
    url = _url(action, host, port)
    try:
        sock = await target.connect(host, port)
    except OSError as error:
        return Answer(ok=False, message=f'Get "{url}": dial tcp {host}:{port}: {_connect_error(error)}')
    context = None
    if action.scheme.upper() == "HTTPS":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=context, server_hostname=host if context is not None else None
        )
    except OSError as error:
        sock.close()
        return Answer(ok=False, message=f'Get "{url}": {error}')
    try:
        writer.write(_request(action, host, port))
        await writer.drain()
        line = await reader.readline()
        parts = line.split(None, 2)
        if len(parts) < 2 or not parts[1].isdigit():
            return Answer(ok=False, message=f'Get "{url}": EOF')
        code = int(parts[1])
        if 200 <= code < 400:
            return Answer(ok=True)
        return Answer(ok=False, message=f"HTTP probe failed with statuscode: {code}")
    except (OSError, ValueError) as error:
        return Answer(ok=False, message=f'Get "{url}": {error}')
    finally:
        writer.close()


async def _tcp(action: TCPSocketAction, target: Target) -> Answer:
    port = port_number(action.port, target.container)
    host = action.host or target.ip
    if port is None:
        return Answer(ok=False, message=f"couldn't find port: {action.port}")
    try:
        sock = await target.connect(host, port)
    except OSError as error:
        return Answer(ok=False, message=f"dial tcp {host}:{port}: {_connect_error(error)}")
    sock.close()
    return Answer(ok=True)


async def _grpc(action: GRPCAction, target: Target) -> Answer:
    where = f"{target.ip}:{action.port}"
    try:
        sock = await target.connect(target.ip, action.port)
        await grpc_health.check(sock, where, action.service)
    except OSError as error:
        return Answer(ok=False, message=f'error: failed to connect service "{where}": {_connect_error(error)}')
    except grpc_health.Unhealthy as error:
        return Answer(ok=False, message=str(error))
    return Answer(ok=True)


async def _in_time(work: Awaitable[Answer], seconds: float, otherwise: str) -> Answer:
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        return Answer(ok=False, message=otherwise)


def port_number(port: IntOrString, container: Container) -> int | None:
    """The number of a port given by number or by the container's name for it."""
    if isinstance(port, int):
        return port
    for declared in container.ports:
        if declared.name == port:
            return declared.container_port
    return int(port) if port.isdigit() else None


def _url(action: HTTPGetAction, host: str, port: int) -> str:
    return f"{action.scheme.lower()}://{host}:{port}{_path(action)}"


def _path(action: HTTPGetAction) -> str:
    path = action.path or "/"
    return quote(path if path.startswith("/") else "/" + path, safe="/?&=%:@!$'()*+,;~-._#")


def _slow_http(action: HTTPGetAction, target: Target) -> str:
    port = port_number(action.port, target.container) or 0
    url = _url(action, action.host or target.ip, port)
    return f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'


def _request(action: HTTPGetAction, host: str, port: int) -> bytes:
    headers = {"Host": f"{host}:{port}", "User-Agent": "kube-probe/1.32", "Accept": "*/*", "Connection": "close"}
    for header in action.http_headers:
        known = next((name for name in headers if name.lower() == header.name.lower()), header.name)
        headers[known] = header.value
    lines = [f"GET {_path(action)} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _connect_error(error: OSError) -> str:
    if error.errno == errno.ECONNREFUSED:
        return "connect: connection refused"
    if error.errno == errno.EHOSTUNREACH:
        return "connect: no route to host"
    return f"connect: {os.strerror(error.errno).lower()}" if error.errno else str(error)
