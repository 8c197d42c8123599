"""An aiohttp connector whose connections come from a Dialer: into the pod network, by service name or pod address."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.client_proto import ResponseHandler

if TYPE_CHECKING:
    from aiohttp.client import ClientTimeout
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.tracing import Trace

    from headrace.machinery.component import Dialer


class DialConnector(aiohttp.BaseConnector):
    """Names are resolved by the dialer, never by this machine's resolver."""

    def __init__(self, dialer: Dialer) -> None:
        super().__init__(keepalive_timeout=15, limit=0)
        self._dialer = dialer

    async def _create_connection(
        self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout
    ) -> ResponseHandler:
        del traces
        host, port = req.url.host or "", req.url.port or 80
        async with asyncio.timeout(timeout.sock_connect):
            connected = await self._dialer.dial(host, port)
        loop = asyncio.get_running_loop()
        try:
            _, protocol = await loop.create_connection(lambda: ResponseHandler(loop), sock=connected)
        except BaseException:
            connected.close()
            raise
        return protocol
