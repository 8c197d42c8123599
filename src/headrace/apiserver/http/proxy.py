"""Requests through the API server into the pod network: `…/services/NAME:PORT/proxy/PATH`.

The caller's credentials never reach what is behind. The platform's own servers, and they alone, get a token that says
on whose behalf the request is made. aiohttp is imported with the first request, not before.
"""

from __future__ import annotations

import asyncio
import logging
import posixpath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from headrace.api.errors import InternalError, ServiceUnavailable
from headrace.apiserver.http.messages import Response
from headrace.apiserver.http.streams import run_until_gone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import aiohttp

    from headrace.apiserver.http.heads import Header
    from headrace.apiserver.http.messages import Request, Sendable
    from headrace.apiserver.http.websocket import WebSocket
    from headrace.machinery.component import Dialer
    from headrace.machinery.tunnel import Upstream

log = logging.getLogger(__name__)

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
PRIVATE = frozenset({"authorization", "cookie", "kubeflow-userid", "kubeflow-groups"})
"""Credentials, and headers by which services behind a gateway know users: nobody may send those from outside."""
UNSENT = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
"""What aiohttp would add by itself: an answer must not be packed for a client that did not say it could unpack it."""
SWITCHING = 101
NO_HTTPS = "proxying to https is not supported: the pod network is private, serve plain HTTP"
CHUNK = 64 * 1024
DIAL_SECONDS = 10.0


class Proxy:
    """Forwards HTTP through a Dialer."""

    def __init__(self, dialer: Dialer, stopping: asyncio.Event) -> None:
        self._dialer, self._stopping = dialer, stopping
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close kept connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def forward(self, request: Request, host: str, port: int, *, https: bool, token: str = "") -> Sendable:
        """Send the request on, with a token of our own if any. Raises ServiceUnavailable when nothing answers."""
        if https:
            raise ServiceUnavailable(NO_HTTPS)
        import aiohttp  # noqa: PLC0415 - heavy, and not needed until somebody proxies
        import yarl  # noqa: PLC0415

        prefix, path = split_path(request)
        url = yarl.URL(f"http://{host}:{port}{path}{query_of(request)}", encoded=True)
        headers = self._headers(request, prefix, token)
        body = request_body(request)
        try:
            answer = await self._client().request(
                request.method, url, headers=headers, data=body, allow_redirects=False, skip_auto_headers=UNSENT
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ServiceUnavailable(
                f"error trying to reach service: {host}:{port} does not answer ({error!r})"
            ) from error
        return Proxied(request, answer, prefix, self._stopping)

    async def tunnel(
        self, request: Request, socket: WebSocket, host: str, port: int, *, https: bool, token: str = ""
    ) -> None:
        """Hand a WebSocket over. Raises ServiceUnavailable when nothing answers its handshake."""
        if https:
            raise ServiceUnavailable(NO_HTTPS)
        from headrace.machinery.tunnel import HandshakeFailed, Upstream  # noqa: PLC0415 - with the first WebSocket

        prefix, path = split_path(request)
        headers = [*self._headers(request, prefix, token), ("host", f"{host}:{port}")]
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                connected = await self._dialer.dial(host, port)
            target = f"{path}{query_of(request)}".encode("latin-1")
            upstream = await Upstream.ask(connected, target, handshake(socket, headers), DIAL_SECONDS)
        except (OSError, TimeoutError, HandshakeFailed) as error:
            raise ServiceUnavailable(f"error trying to reach service: {host}:{port}: {error}") from error
        await hand_over(socket, upstream)

    @staticmethod
    def _headers(request: Request, prefix: str, token: str) -> list[tuple[str, str]]:
        headers = [*passed(request), ("x-forwarded-uri", prefix)]
        return [*headers, ("authorization", f"Bearer {token}")] if token else headers

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp  # noqa: PLC0415

            from headrace.apiserver.http.dialing import DialConnector  # noqa: PLC0415

            self._session = aiohttp.ClientSession(
                connector=DialConnector(self._dialer),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=DIAL_SECONDS),
            )
        return self._session


def split_path(request: Request) -> tuple[str, str]:
    """(the URL up to and with `/proxy`, the path behind it).

    Percent-encoding is kept; empty and dot segments go, as in Kubernetes (kfp.Client sends `proxy//apis/…`).
    """
    raw: str = (request.scope.get("raw_path") or quote(request.path).encode()).decode("latin-1")
    before, _, behind = raw.partition("/proxy/")
    if not behind and raw.endswith("/proxy"):
        return raw, "/"
    path = posixpath.normpath(f"/{behind.lstrip('/')}")
    return f"{before}/proxy", f"{path}/" if behind.endswith("/") and path != "/" else path


def query_of(request: Request) -> str:
    """The query with its question mark, as it came; empty without one."""
    query = (request.scope.get("query_string") or b"").decode("latin-1")
    return f"?{query}" if query else ""


def passed(request: Request) -> list[tuple[str, str]]:
    """The request's headers that may go on, and those that say where it came from."""
    headers = [
        (name, value)
        for name, value in ((k.decode("latin-1"), v.decode("latin-1")) for k, v in request.head.raw)
        if name not in HOP_BY_HOP
        and name not in PRIVATE
        and name not in {"host", "content-length"}
        and not name.startswith(("impersonate-", "x-remote-"))
    ]
    return [*headers, ("x-forwarded-host", request.header(b"host")), ("x-forwarded-proto", "https")]


def handshake(socket: WebSocket, headers: list[tuple[str, str]]) -> list[Header]:
    """These headers and those of the client's handshake that the server's protocol took out of its request."""
    from headrace.machinery.tunnel import TUNNEL  # noqa: PLC0415

    found = [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in headers]
    offers = (("protocol", ", ".join(socket.offered)), ("extensions", socket.scope["extensions"][TUNNEL]))
    found = [header for header in found if header[0] not in {b"sec-websocket-protocol", b"sec-websocket-extensions"}]
    return found + [(f"sec-websocket-{name}".encode(), value.encode("latin-1")) for name, value in offers if value]


async def hand_over(socket: WebSocket, upstream: Upstream) -> None:
    """The client to whoever answered its handshake, or that answer to the client."""
    answer = upstream.answer.result()
    kept = [header for header in answer.headers if header[0].decode("latin-1") not in HOP_BY_HOP]
    try:
        if answer.status == SWITCHING:
            await socket.join(upstream, kept)
            return
    finally:
        upstream.close()
    kept = [header for header in kept if header[0] not in {b"content-length", b"content-type"}]
    media = next((value for name, value in answer.headers if name == b"content-type"), b"text/plain")
    await socket.refuse(Response(answer.body, answer.status, media, tuple(kept)))


def request_body(request: Request) -> AsyncIterator[bytes] | None:
    """The body as it comes, None when there is none. Bodies of proxied requests are not limited."""
    if request.header(b"content-length") in {"", "0"} and b"transfer-encoding" not in request.headers:
        return None
    return request.chunks()


class Proxied:
    """The answer from behind the proxy, passed on as it comes."""

    def __init__(self, request: Request, answer: aiohttp.ClientResponse, prefix: str, stopping: asyncio.Event) -> None:
        self.status = answer.status
        self._request, self._answer, self._prefix, self._stopping = request, answer, prefix, stopping

    async def send(self, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        """Head and body."""
        headers: list[Header] = []
        for name, value in self._answer.raw_headers:
            lower = name.lower()
            if lower.decode("latin-1") in HOP_BY_HOP:
                continue
            if lower == b"location" and value.startswith(b"/"):
                headers.append((lower, self._prefix.encode() + value))
                continue
            headers.append((lower, value))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        try:
            await run_until_gone(self._pump(send), self._request, self._stopping)
        except Exception as error:
            log.info("a proxied answer broke: %s", error)
            raise InternalError("the answer broke on the way") from error
        finally:
            self._answer.release()
        await send({"type": "http.response.body", "body": b""})

    async def _pump(self, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        async for chunk in self._answer.content.iter_any():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
