"""Serving: TLS with optional client certificates, uvicorn's HTTP protocol, an orderly end.

uvicorn's protocol is used without its `Server`: that one owns signals and wakes ten times a second, and the platform
has several listeners in one process. The protocol subclass adds what the scope lacks, the peer's certificate.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from uvicorn.server import ServerState

from headrace.apiserver.authn.requests import certificate_user
from headrace.apiserver.http.app import ApiApp
from headrace.apiserver.http.messages import Connection
from headrace.apiserver.http.proxy import nobody
from headrace.apiserver.pki.authority import ensure
from headrace.machinery.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.apiserver.authn.tokens import TokenIssuer
    from headrace.apiserver.http.proxy import IdentityHeaders
    from headrace.apiserver.pki.authority import Pki
    from headrace.apiserver.registry import Registry
    from headrace.machinery.clock import Clock
    from headrace.machinery.component import Dialer, PodLogs
    from headrace.machinery.settings import Settings

log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 90
"""As long as Go's clients keep an idle connection, so that they close first and never send into a closing one."""
DRAIN_SECONDS = 2.0
BACKLOG = 1024


class PeerProtocol(HttpToolsProtocol):
    """Puts the user that the client certificate names into the connection's state."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Once a connection: requests on it find the user ready."""
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert() if tls is not None else None
        self.app_state = {**self.app_state, "connection": Connection(certificate_user(certificate))}

    def _unsupported_upgrade_warning(self) -> None:
        """The application answers requests for SPDY; that is nothing to log."""


class ApiServer:
    """The API server as a listener. `port` is the one that is bound, also when settings say 0."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        tokens: TokenIssuer,
        logs: PodLogs | None = None,
        dialer: Dialer | None = None,
        *,
        clock: Clock | None = None,
        pki: Pki | None = None,
        identity_headers: IdentityHeaders = nobody,
        ready: dict[str, Callable[[], bool]] | None = None,
    ) -> None:
        self._settings, self._pki = settings, pki
        self.port = settings.ports.api
        self.app = ApiApp(
            registry,
            tokens,
            clock or SystemClock(),
            address=f"https://{settings.host}:{settings.ports.api}",
            logs=logs,
            dialer=dialer,
            identity_headers=identity_headers,
            ready=ready,
        )
        self._state = ServerState()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"https://{self._settings.host}:{self.port}"

    async def start(self) -> None:
        """Bind and serve. Raises OSError when the port is taken."""
        context = tls_context(self._pki or ensure(self._settings))
        config = uvicorn.Config(
            self.app,
            http=PeerProtocol,
            ws=WSProtocol,
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        config.load()
        loop = asyncio.get_running_loop()

        def protocol() -> PeerProtocol:
            return PeerProtocol(config, self._state, {}, loop)

        bound = bind(self._settings.host, self._settings.ports.api)
        self._server = await loop.create_server(protocol, sock=bound, ssl=context, backlog=BACKLOG)
        self.port = bound.getsockname()[1]
        self.app.address = self.url

    async def stop(self) -> None:
        """Stop accepting, end watches, let requests that run finish for a moment."""
        if self._server is None:
            return
        self._server.close()
        await self.app.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        tasks = set(self._state.tasks)
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=DRAIN_SECONDS)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        for connection in list(self._state.connections):
            transport: Any = connection.transport
            transport.abort()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._server.wait_closed(), DRAIN_SECONDS)
        self._server = None


def bind(host: str, port: int) -> socket.socket:
    """A bound socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def tls_context(pki: Pki) -> ssl.SSLContext:
    """TLS 1.2 or newer; client certificates of our authority are asked for, not demanded."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(pki.server, pki.server_key)
    context.load_verify_locations(cafile=pki.ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context
