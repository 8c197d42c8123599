"""The pods' way out: an HTTP proxy on the node's address, as pods have no route to anywhere else.

CONNECT for TLS, absolute URLs for plain HTTP. Names and addresses of the cluster work too, for clients that
send everything to a proxy. The host's own proxy variables apply to the rest. The host's loopback is not
reachable: what listens only there is not for pods.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import logging
import os
import socket
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.node.network.relay import connect, relay

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

log = logging.getLogger(__name__)

PORT = 3128
_MAX_HEAD = 64 << 10
_HEAD_SECONDS = 60.0
_CONNECT_SECONDS = 30.0
_HOP_BY_HOP = frozenset({"connection", "proxy-connection", "keep-alive", "proxy-authorization"})


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a proxy request, and what has to be sent to the server that it names."""

    method: str
    host: str
    port: int
    head: bytes
    """For plain HTTP: the head with a relative target; empty for CONNECT."""
    absolute: bytes = b""
    """For plain HTTP through another proxy: the head with the absolute target."""


class BadRequest(Exception):
    """Not a request that a proxy can serve; the message says why."""


class Forbidden(Exception):
    """A target that pods must not reach."""


def parse(head: bytes) -> Request:
    """Read a request's head. Raises BadRequest."""
    lines = head.decode("latin-1").split("\r\n")
    try:
        method, target, version = lines[0].split(" ")
    except ValueError:
        raise BadRequest("the request line is malformed") from None
    if method == "CONNECT":
        host, colon, port = target.rpartition(":")
        if not colon or not port.isdigit():
            raise BadRequest("CONNECT needs HOST:PORT")
        return Request(method, host.strip("[]"), int(port), b"")
    url = urllib.parse.urlsplit(target)
    try:
        port_number = url.port or 80
    except ValueError:
        raise BadRequest("the port is malformed") from None
    if url.scheme != "http" or not url.hostname:
        raise BadRequest("this is a proxy: the target must be an absolute http:// URL")
    fields = [line for line in lines[1:] if line and line.partition(":")[0].strip().lower() not in _HOP_BY_HOP]
    # One request a connection: the next one may go to another server.
    fields.append("Connection: close")
    path = urllib.parse.urlunsplit(("", "", url.path or "/", url.query, ""))
    rest = "\r\n".join(fields) + "\r\n\r\n"
    return Request(
        method,
        url.hostname,
        port_number,
        f"{method} {path} {version}\r\n{rest}".encode("latin-1"),
        f"{method} {target} {version}\r\n{rest}".encode("latin-1"),
    )


def forbidden(addresses: list[str]) -> bool:
    """Whether a target is the host itself."""
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None) or address
        if mapped.is_loopback or mapped.is_unspecified or mapped.is_link_local:
            return True
    return False


def parent_proxy(scheme: str, host: str, environ: Mapping[str, str]) -> tuple[str, int, str] | None:
    """The host's own proxy for a target: address, port and credentials as a header's value."""
    names = {name.lower(): value for name, value in environ.items() if name.lower().endswith("_proxy") and value}
    url = names.get(f"{scheme}_proxy") or names.get("all_proxy")
    if not url or _bypassed(host, names.get("no_proxy", "")):
        return None
    parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or not parts.hostname:
        return None
    credentials = ""
    if parts.username is not None:
        pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        credentials = "Basic " + base64.b64encode(pair.encode()).decode()
    return parts.hostname, parts.port or 3128, credentials


def _bypassed(host: str, no_proxy: str) -> bool:
    """Whether the list names the host, a domain above it, or everything."""
    host = host.lower()
    for entry in no_proxy.lower().replace(" ", "").split(","):
        domain = entry.lstrip(".")
        if entry == "*" or (domain and (host == domain or host.endswith("." + domain))):
            return True
    return False


class OutboundProxy:
    """Listens inside the pod network; connects from the host."""

    def __init__(
        self,
        address: str,
        dial_cluster: Callable[[str, int], Awaitable[socket.socket | None]],
        listen: Callable[[str, int, int], Awaitable[socket.socket]],
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._address, self._dial_cluster, self._listen, self._environ = address, dial_cluster, listen, environ
        self._tasks: set[asyncio.Task[None]] = set()
        self._acceptor: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen."""
        sock = await self._listen(self._address, PORT, socket.SOCK_STREAM)
        self._acceptor = asyncio.create_task(self._accept(sock), name="outbound proxy")

    async def stop(self) -> None:
        """Stop listening and end all connections."""
        tasks = [*self._tasks, *([self._acceptor] if self._acceptor is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    client, _ = await loop.sock_accept(listener)
                except OSError as error:
                    log.warning("the outbound proxy cannot accept: %s", error)
                    await asyncio.sleep(0.1)
                    continue
                task = asyncio.create_task(self._serve(client))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            listener.close()

    async def _serve(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            try:
                head, rest = await _read_head(client)
                request = parse(head)
                async with asyncio.timeout(_CONNECT_SECONDS):
                    server, first = await self._connect(request)
            except BadRequest as error:
                await _refuse(client, "400 Bad Request", str(error))
                return
            except Forbidden as error:
                await _refuse(client, "403 Forbidden", str(error))
                return
            except OSError as error:
                await _refuse(client, "502 Bad Gateway", str(error) or "the connection timed out")
                return
            try:
                if request.method == "CONNECT":
                    await loop.sock_sendall(client, b"HTTP/1.1 200 Connection established\r\n\r\n")
                await loop.sock_sendall(server, first + rest)
            except BaseException:
                server.close()
                raise
            await relay(client, server)
        except OSError as error:
            log.debug("outbound proxy: %s", error)
        finally:
            client.close()

    async def _connect(self, request: Request) -> tuple[socket.socket, bytes]:
        """A connection, and what to send on it before the client's bytes."""
        found = await self._dial_cluster(request.host, request.port)
        if found is not None:
            return found, request.head
        tunnel = request.method == "CONNECT"
        parent = parent_proxy("https" if tunnel else "http", request.host, self._environ)
        if parent is not None:
            return await _through(parent, request, tunnel=tunnel)
        loop = asyncio.get_running_loop()
        entries = await loop.getaddrinfo(request.host, request.port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in entries]
        if forbidden(addresses):
            raise Forbidden(f"{request.host} is the node itself; offer what pods need as a Service")
        last: OSError | None = None
        for address in addresses:
            try:
                return await connect(address, request.port), request.head
            except OSError as error:
                last = error
        raise last or OSError(f"{request.host} has no address")


async def _through(parent: tuple[str, int, str], request: Request, *, tunnel: bool) -> tuple[socket.socket, bytes]:
    host, port, credentials = parent
    sock = await connect(host, port)
    authorization = f"Proxy-Authorization: {credentials}\r\n" if credentials else ""
    if not tunnel:
        line, _, rest = request.absolute.partition(b"\r\n")
        return sock, line + b"\r\n" + authorization.encode() + rest
    loop = asyncio.get_running_loop()
    try:
        target = f"[{request.host}]:{request.port}" if ":" in request.host else f"{request.host}:{request.port}"
        await loop.sock_sendall(sock, f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n".encode())
        head, rest = await _read_head(sock)
        status = head.split(b"\r\n", 1)[0].split(b" ")
    except BaseException:
        sock.close()
        raise
    if len(status) < 2 or status[1] != b"200" or rest:
        sock.close()
        raise OSError(f"the host's proxy {host} answered {head.splitlines()[0].decode('latin-1')}")
    return sock, b""


async def _read_head(sock: socket.socket) -> tuple[bytes, bytes]:
    """Up to the empty line, and what came after it."""
    loop = asyncio.get_running_loop()
    data = b""
    async with asyncio.timeout(_HEAD_SECONDS):
        while b"\r\n\r\n" not in data:
            part = await loop.sock_recv(sock, 16 << 10)
            if not part or len(data) > _MAX_HEAD:
                raise BadRequest("the request's head does not end")
            data += part
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


async def _refuse(client: socket.socket, status: str, reason: str) -> None:
    body = f"headrace outbound proxy: {reason}\n".encode()
    with contextlib.suppress(OSError):
        await asyncio.get_running_loop().sock_sendall(
            client,
            f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n".encode()
            + body,
        )
