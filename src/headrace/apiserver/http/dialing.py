"""An aiohttp connector whose connections come from a Dialer: into the pod network, by service name or pod address."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.client_proto import ResponseHandler

if TYPE_CHECKING:
    import ssl

    from aiohttp.client import ClientTimeout
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.tracing import Trace

    from headrace.machinery.component import Dialer

DOMAIN = ".svc"


class DialConnector(aiohttp.BaseConnector):
    """Names are resolved by the dialer, never by this machine's resolver. With `tls` every connection is encrypted,
    whatever the URL says, and `NAME.NAMESPACE.svc` is the name that the certificate must carry.
    """

    def __init__(self, dialer: Dialer, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(keepalive_timeout=15, limit=0)
        self._dialer, self._tls = dialer, tls

    async def _create_connection(
        self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout
    ) -> ResponseHandler:
        del traces
        host, port = req.url.host or "", req.url.port or 80
        async with asyncio.timeout(timeout.sock_connect):
            connected = await self._dialer.dial(host.removesuffix(DOMAIN), port)
            loop = asyncio.get_running_loop()
            try:
                _, protocol = await loop.create_connection(
                    lambda: ResponseHandler(loop),
                    sock=connected,
                    ssl=self._tls,
                    server_hostname=host if self._tls is not None else None,
                )
            except BaseException:
                connected.close()
                raise
        return protocol
