"""Datagrams passed on: each client gets a socket of its own to whoever answers it, until it is quiet for a while."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    Address = tuple[str, int]

log = logging.getLogger(__name__)

IDLE_SECONDS = 60.0
MAX_FLOWS = 1024
_WAITING = 64
"""Datagrams of a client that are kept while its socket is made; more are dropped, as networks do."""


class UdpRelay:
    """Serves one bound socket. `choose` says where a client's datagrams go (None: nowhere), `outgoing` makes a
    non-blocking socket in the target's network.
    """

    def __init__(
        self,
        sock: socket.socket,
        choose: Callable[[str], Address | None],
        outgoing: Callable[[], Awaitable[socket.socket]],
        *,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._socket, self._choose, self._outgoing, self._idle = sock, choose, outgoing, idle_seconds
        self._flows: dict[Address, _Flow] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self) -> None:
        """Begin to serve."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: _Receiver(self._received), sock=self._socket)

    def close(self) -> None:
        """Stop; nothing comes after this."""
        if self._transport is not None:
            self._transport.close()
        for task in self._tasks:
            task.cancel()
        for client in list(self._flows):
            self._end(client)

    def _received(self, data: bytes, client: Address) -> None:
        flow = self._flows.get(client)
        if flow is None:
            target = self._choose(client[0])
            if target is None or len(self._flows) >= MAX_FLOWS:
                return
            flow = self._flows[client] = _Flow(target)
            task = asyncio.create_task(self._open(client, flow))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._touch(client, flow)
        if flow.transport is not None:
            flow.transport.sendto(data)
        elif len(flow.waiting) < _WAITING:
            flow.waiting.append(data)

    async def _open(self, client: Address, flow: _Flow) -> None:
        def answer(data: bytes, _source: Address) -> None:
            self._touch(client, flow)
            if self._transport is not None and not self._transport.is_closing():
                self._transport.sendto(data, client)

        try:
            sock = await self._outgoing()
            try:
                sock.connect(flow.target)
                transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                    lambda: _Receiver(answer), sock=sock
                )
            except BaseException:
                sock.close()
                raise
        except OSError as error:
            log.debug("datagrams to %s:%d: %s", *flow.target, error)
            self._end(client)
            return
        if self._flows.get(client) is not flow:
            transport.close()
            return
        flow.transport = transport
        for data in flow.waiting:
            transport.sendto(data)
        flow.waiting.clear()

    def _touch(self, client: Address, flow: _Flow) -> None:
        if flow.timer is not None:
            flow.timer.cancel()
        flow.timer = asyncio.get_running_loop().call_later(self._idle, self._end, client)

    def _end(self, client: Address) -> None:
        flow = self._flows.pop(client, None)
        if flow is None:
            return
        if flow.timer is not None:
            flow.timer.cancel()
        if flow.transport is not None:
            flow.transport.close()


class _Flow:
    """One client and whoever answers it."""

    def __init__(self, target: Address) -> None:
        self.target = target
        self.transport: asyncio.DatagramTransport | None = None
        self.waiting: list[bytes] = []
        self.timer: asyncio.TimerHandle | None = None


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, received: Callable[[bytes, Address], None]) -> None:
        self._received = received

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        with contextlib.suppress(OSError):
            self._received(data, addr[:2])

    def error_received(self, exc: Exception) -> None:
        log.debug("datagrams: %s", exc)
