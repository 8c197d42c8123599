"""Serving: TLS with optional client certificates, and the peer's certificate where the application finds it."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from headrace.apiserver.authn.requests import certificate_user
from headrace.apiserver.http.app import ApiApp
from headrace.apiserver.http.messages import Connection
from headrace.apiserver.pki.authority import ensure
from headrace.machinery.clock import SystemClock
from headrace.machinery.serve import Server

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from headrace.apiserver.authn.tokens import TokenIssuer
    from headrace.apiserver.pki.authority import Pki
    from headrace.apiserver.registry import Registry
    from headrace.machinery.clock import Clock
    from headrace.machinery.component import Dialer, PodLogs, PodStreams, Usages
    from headrace.machinery.settings import Settings


class PeerProtocol(HttpToolsProtocol):
    """Puts the user that the client certificate names into the connection's state."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Once a connection: requests on it find the user ready."""
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert() if tls is not None else None
        self.app_state = {
            **self.app_state,
            "connection": Connection(certificate_user(certificate), transport.get_extra_info("socket")),
        }

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
        streams: PodStreams | None = None,
        usages: Usages | None = None,
        clock: Clock | None = None,
        pki: Pki | None = None,
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
            streams=streams,
            usages=usages,
            ready=ready,
        )
        self._server: Server | None = None

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"https://{self._settings.host}:{self.port}"

    async def start(self) -> None:
        """Bind and serve. Raises ConfigurationError when the port is taken."""
        self._server = Server(
            self.app,
            self._settings.host,
            self._settings.ports.api,
            tls=tls_context(self._pki or ensure(self._settings)),
            protocol=PeerProtocol,
            date_header=False,
            ws_ping_interval=None,  # clients that read rarely would be cut off; kubectl pings by itself
            ws_per_message_deflate=False,
        )
        await self._server.start()
        self.port = self._server.address[1]
        self.app.address = self.url

    async def stop(self) -> None:
        """End watches and logs, stop accepting, let requests that run finish for a moment."""
        await self.app.close()
        if self._server is not None:
            await self._server.stop()
            self._server = None


def tls_context(pki: Pki) -> ssl.SSLContext:
    """TLS 1.2 or newer; client certificates of our authority are asked for, not demanded."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(pki.server, pki.server_key)
    context.load_verify_locations(cafile=pki.ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context
