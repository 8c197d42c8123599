"""Serving: TLS with optional client certificates, and the peer's certificate where the application finds it."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import ssl
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from headrace.apiserver.authn.requests import certificate_user
from headrace.apiserver.http.app import ApiApp
from headrace.apiserver.http.messages import NO_CONNECTION, Connection
from headrace.apiserver.http.repeats import is_whole
from headrace.apiserver.pki.authority import ensure, renew
from headrace.apiserver.pki.kubeconfig import write_kubeconfig
from headrace.machinery.clock import SystemClock
from headrace.machinery.serve import Server

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.apiserver.aggregation.servers import ExtensionServers
    from headrace.apiserver.authn.tokens import TokenIssuer
    from headrace.apiserver.http.heads import Whole
    from headrace.apiserver.pki.authority import Pki
    from headrace.apiserver.registry import Registry
    from headrace.machinery.clock import Clock
    from headrace.machinery.component import Dialer, PodLogs, PodStreams, Usages
    from headrace.machinery.people import People
    from headrace.machinery.settings import Settings

log = logging.getLogger(__name__)

RENEW_SECONDS = 12 * 3600


class PeerProtocol(HttpToolsProtocol):
    """Puts the user that the client certificate names into the connection's state, answers known requests, and takes
    requests with known headers without the parser.
    """

    def __init__(self, *args: Any, app: ApiApp) -> None:
        super().__init__(*args)
        self._api: Any = app  # ASGI, in simpler types than uvicorn's
        self._repeats, self._heads = app.repeats, app.heads
        self._connection = NO_CONNECTION
        self._begun = self._ended = 0
        """Messages that the parser has begun and ended."""
        self._answered = 0.0
        self._scope: dict[str, Any] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Once a connection: requests on it find the user ready."""
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert() if tls is not None else None
        self._connection = Connection(certificate_user(certificate), transport.get_extra_info("socket"))
        self.app_state = {**self.app_state, "connection": self._connection}
        self._scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": "",
        }

    def data_received(self, data: bytes) -> None:
        """Between two messages, a request that is known needs no parser."""
        connection = self._connection
        connection.sent = b""
        if self._begun != self._ended or self._busy() or self.flow.write_paused or self.transport.is_closing():
            super().data_received(data)
            return
        if is_whole(data):
            answer = self._repeats.answer(data, connection)
            if answer is not None:
                self.transport.write(answer)
                self._answered = self.loop.time()
                if self.timeout_keep_alive_task is None:
                    self._wait_for_more(self.timeout_keep_alive)
                return
            connection.sent = data
        whole = self._heads.read(data)
        if whole is not None:
            self._begin(whole)
            return
        before = self._ended
        super().data_received(data)
        if self._begun == self._ended == before + 1 and not self.transport.is_closing():
            self._heads.learn(data, self.headers)

    def _busy(self) -> bool:
        """Whether a request has not been answered yet."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _begin(self, whole: Whole) -> None:
        """What uvicorn does once the parser has read a message, without the parser."""
        path = whole.path.decode()
        scope: Any = {
            **self._scope,
            "headers": whole.head.raw,
            "state": {"connection": self._connection, "head": whole.head, "body": whole.body},
            "method": whole.method,
            "path": path,
            "raw_path": whole.path,
            "query_string": whole.query,
        }
        self.cycle = RequestResponseCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=True,
            on_response=self.on_response_complete,
        )
        self.cycle.body += whole.body
        self.cycle.more_body = False
        self.cycle.message_event.set()
        self._start_asgi_task(self.cycle, self._api)

    def on_message_begin(self) -> None:
        """What comes now belongs to a message."""
        self._begun += 1
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """The next byte begins another."""
        self._ended += 1
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The timer that still runs, because nothing has gone the usual way, looks at when this was."""
        if self.timeout_keep_alive_task is None or self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._answered = self.loop.time()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing has gone the usual way for long; perhaps something has gone the short one, or still does."""
        left = self._answered + self.timeout_keep_alive - self.loop.time()
        if self._busy():
            self._wait_for_more(self.timeout_keep_alive)
        elif left > 0:
            self._wait_for_more(left)
        else:
            super().timeout_keep_alive_handler()

    def _wait_for_more(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

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
        self._settings = settings
        self._pki = pki or ensure(settings)
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
            front_proxy=(self._pki.front_proxy_client, self._pki.front_proxy_client_key),
        )
        self._tokens, self._clock = tokens, clock or SystemClock()
        self._server: Server | None = None
        self._renewing: asyncio.Task[None] | None = None

    @property
    def extensions(self) -> ExtensionServers:
        """The way to other API servers."""
        return self.app.extensions

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"https://{self._settings.host}:{self.port}"

    @property
    def people(self) -> People | None:
        """Who knows people's ID tokens; without, there are service accounts and certificates only."""
        return self.app.who.people

    @people.setter
    def people(self, people: People | None) -> None:
        self.app.who.people = people

    async def start(self) -> None:
        """Bind and serve. Raises ConfigurationError when the port is taken."""
        context = tls_context(self._pki)
        self._server = Server(
            self.app,
            self._settings.host,
            self._settings.ports.api,
            tls=context,
            protocol=functools.partial(PeerProtocol, app=self.app),
            date_header=False,
            ws_ping_interval=None,  # clients that read rarely would be cut off; kubectl pings by itself
            ws_per_message_deflate=False,
        )
        await self._server.start()
        self.port = self._server.address[1]
        self.app.address = self.url
        self._renewing = asyncio.create_task(self._renew(self._pki, context), name="renew certificates")

    async def _renew(self, pki: Pki, context: ssl.SSLContext) -> None:
        """Twice a day: replace what would soon end. Connections that are open keep what they began with."""
        while True:
            await self._clock.sleep(RENEW_SECONDS)
            try:
                if not await asyncio.to_thread(renew, self._settings, pki, self._clock.now()):
                    continue
                context.load_cert_chain(pki.server, pki.server_key)
                self._tokens.reload()
                await self.app.extensions.close()
                ports = dataclasses.replace(self._settings.ports, api=self.port)
                write_kubeconfig(dataclasses.replace(self._settings, ports=ports), pki)
            except (OSError, ValueError, TypeError) as error:
                log.warning("certificates were not renewed, again in %d h: %s", RENEW_SECONDS // 3600, error)
            else:
                log.info("certificates or signing keys that were near their end have been renewed")

    async def stop(self) -> None:
        """End watches and logs, stop accepting, let requests that run finish for a moment."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
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
