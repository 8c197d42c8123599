"""One way to serve an ASGI app on a loopback port: uvicorn inside our event loop, without its signal handling."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from headrace.machinery.component import ConfigurationError

if TYPE_CHECKING:
    import ssl

GRACE_SECONDS = 2


class Server:
    """Listens from `start` to `stop`; `port` 0 means any, `address` tells which it became."""

    def __init__(self, app: Any, host: str, port: int, *, tls: ssl.SSLContext | None = None, **options: Any) -> None:
        self._app, self._host, self._port = app, host, port
        self._tls, self._options = tls, options
        self._server: Any = None
        self._task: asyncio.Task[None] | None = None
        self.address: tuple[str, int] = (host, port)

    async def start(self) -> None:
        """Listen. Raises ConfigurationError when the address is taken."""
        import uvicorn  # noqa: PLC0415 - costs 30 ms, and only servers need it

        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self._host, self._port))
        except OSError as error:
            listener.close()
            raise ConfigurationError(f"{self._host}:{self._port} cannot be listened on: {error.strerror}") from error
        listener.setblocking(False)
        self.address = listener.getsockname()
        config = uvicorn.Config(
            self._app,
            http="httptools",
            ws="wsproto",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            **self._options,
        )
        config.load()
        if self._tls is not None:
            config.ssl = self._tls
        self._server = uvicorn.Server(config)
        self._server.lifespan = config.lifespan_class(config)
        await self._server.startup(sockets=[listener])
        self._task = asyncio.create_task(self._server.main_loop(), name=f"server {self.address[1]}")

    async def stop(self) -> None:
        """Stop listening and close connections, waiting shortly for answers in progress."""
        if self._server is None:
            return
        self._server.should_exit = True
        await self._server.shutdown()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
