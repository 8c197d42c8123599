"""One way to serve an ASGI app: uvicorn's HTTP protocol in our loop, and an orderly end.

uvicorn's own `Server` is not used: it owns the signals and wakes ten times a second, and the platform has
several listeners in one process.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from typing import TYPE_CHECKING, Any

from headrace.machinery.component import ConfigurationError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

log = logging.getLogger(__name__)

DRAIN_SECONDS = 2.0
NOTICE_SECONDS = 0.5
KEEP_ALIVE_SECONDS = 90
"""As long as Go's clients keep an idle connection, so that they close first and never send into a closing one."""
BACKLOG = 1024


def bind(host: str, port: int) -> socket.socket:
    """A bound, non-blocking TCP socket. Raises ConfigurationError when the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it, answers wait 40 ms for an ACK.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise _taken(host, port, error) from error
    return bound


def _taken(host: str, port: int, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"{host}:{port} cannot be listened on: {error.strerror or error}")


def _web_socket(**options: Any) -> Any:
    """The protocol of a connection that becomes a WebSocket. Importing it costs a start thirty milliseconds, and
    where nobody opens a WebSocket it is never needed.
    """
    from headrace.machinery.tunnel import ClientSide  # noqa: PLC0415

    return ClientSide(**options)


def _honest(app: Any) -> Any:
    """The app, ending the connection where it answers before it asked for a body that the client holds back.

    A client that sent `Expect: 100-continue` and is refused sends no body, but the parser would wait for one, and
    take the connection's next request for it.
    """

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not any(name == b"expect" for name, _ in scope["headers"]):
            await app(scope, receive, send)
            return
        asked = False

        async def receiving() -> Any:
            nonlocal asked
            asked = True
            return await receive()

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start" and not asked:
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        await app(scope, receiving, sending)

    return wrapped


class Server:
    """Listens from `start` to `stop`; port 0 means any, `address` tells which it became.

    `protocol` may replace uvicorn's HTTP protocol by a subclass of it; `options` go to `uvicorn.Config`.
    """

    def __init__(
        self,
        app: Any,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        protocol: Callable[..., Any] | None = None,
        **options: Any,
    ) -> None:
        self._app, self._host, self._port = app, host, port
        self._tls, self._protocol, self._options = tls, protocol, options
        self._listener: asyncio.Server | None = None
        self._state: Any = None
        self._connection: Callable[[], asyncio.Protocol] | None = None
        self.address: tuple[str, int] = (host, port)

    async def start(self) -> None:
        """Listen. Raises ConfigurationError when the address is taken."""
        import uvicorn  # noqa: PLC0415 - costs tens of milliseconds, and only servers need it
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol  # noqa: PLC0415
        from uvicorn.server import ServerState  # noqa: PLC0415

        protocol = self._protocol or HttpToolsProtocol
        config = uvicorn.Config(
            _honest(self._app),
            http=HttpToolsProtocol,  # what is made below
            ws=_web_socket,  # type: ignore[arg-type]
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            **self._options,
        )
        config.load()
        state = self._state = ServerState()
        loop = asyncio.get_running_loop()
        self._connection = lambda: protocol(config, state, {}, loop)
        bound = bind(self._host, self._port)
        try:
            self._listener = await loop.create_server(self._connection, sock=bound, ssl=self._tls, backlog=BACKLOG)
        except OSError as error:
            # Between bind and listen another process may have begun to listen on the same address.
            bound.close()
            raise _taken(self._host, self._port, error) from error
        self.address = bound.getsockname()[:2]

    async def take(self, sock: socket.socket) -> None:
        """Serve a connection that somebody else in this process has accepted. Raises OSError; the socket is ours."""
        if self._connection is None or self._listener is None:
            sock.close()
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().connect_accepted_socket(self._connection, sock, ssl=self._tls)

    async def stop(self) -> None:
        """Stop accepting, let answers in progress finish for a moment, then close every connection.

        An app that streams without end learns that its client is gone, and is cancelled only if it does not care.
        """
        if self._listener is None:
            return
        self._listener.close()
        for connection in list(self._state.connections):
            try:
                connection.shutdown()
            except Exception:
                log.debug("a connection did not end in order", exc_info=True)
                connection.transport.abort()
        if self._state.tasks:
            await asyncio.wait(set(self._state.tasks), timeout=DRAIN_SECONDS)
        for connection in list(self._state.connections):
            # asyncio's TLS transport forgets its protocol when it is closed twice, and then cannot be aborted.
            with contextlib.suppress(AttributeError):
                connection.transport.abort()
        if self._state.tasks:
            _, pending = await asyncio.wait(set(self._state.tasks), timeout=NOTICE_SECONDS)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._listener.wait_closed(), DRAIN_SECONDS)
        self._listener = None
