"""Host ports: a container's port at the host's own address.

They are on the host's loopback unless hostIP says otherwise (0.0.0.0 is every address), where a cluster's node would
open them to everybody. What is connected there goes to the pod's address; pods in the host's network have theirs.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.node.network.relay import relay, reset
from headrace.node.network.udp import UdpRelay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headrace.api.core import Pod
    from headrace.node.runtime.base import Runtime

log = logging.getLogger(__name__)

ANY = "0.0.0.0"  # compared with, not bound to by default
_BACKLOG = 512
_CONNECT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class HostPort:
    """A port that a pod wants of the host."""

    ip: str
    """Empty: wherever the platform serves."""
    port: int
    protocol: str
    target: int


def wanted(pod: Pod) -> Iterator[HostPort]:
    """The host ports of a pod, those of pods in the host's network too."""
    for container in (*pod.spec.containers, *(c for c in pod.spec.init_containers if c.restart_policy == "Always")):
        for port in container.ports:
            if port.host_port:
                yield HostPort(port.host_ip, port.host_port, port.protocol or "TCP", port.container_port)


def conflict(one: HostPort, other: HostPort) -> bool:
    """Whether two pods cannot both have theirs."""
    if (one.port, one.protocol) != (other.port, other.protocol):
        return False
    return one.ip == other.ip or not {one.ip, other.ip}.isdisjoint({ANY, ""})


class HostPorts:
    """Listens on the host for pods."""

    def __init__(self, default_ip: str, runtime: Runtime) -> None:
        self._default_ip, self._runtime = default_ip, runtime
        self._open: dict[str, list[asyncio.Task[None] | UdpRelay]] = {}
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self, pod: Pod, pod_ip: str) -> None:
        """Listen for a pod; nothing when it is done already. Raises OSError with a sentence."""
        uid = pod.metadata.uid
        if pod.spec.host_network or uid in self._open:
            return
        sockets: list[tuple[HostPort, socket.socket]] = []
        try:
            sockets.extend((port, self._listen(port)) for port in wanted(pod))
        except OSError:
            for _, sock in sockets:
                sock.close()
            raise
        if not sockets:
            return
        opened = self._open[uid] = []
        for port, sock in sockets:
            if port.protocol == "UDP":
                udp = UdpRelay(sock, _always(pod_ip, port.target), self._outgoing)
                await udp.start()
                opened.append(udp)
            else:
                opened.append(
                    asyncio.create_task(self._accept(sock, pod_ip, port.target), name=f"host port {port.port}")
                )

    def _listen(self, port: HostPort) -> socket.socket:
        kinds = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}
        kind = kinds.get(port.protocol)
        if kind is None:
            raise OSError(
                errno.EPROTONOSUPPORT, f"host port {port.port}: {port.protocol} is not supported, TCP and UDP are"
            )
        ip = port.ip or self._default_ip
        sock = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, kind)
        try:
            sock.setblocking(False)
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((ip, port.port))
            if kind == socket.SOCK_STREAM:
                sock.listen(_BACKLOG)
        except OSError as error:
            sock.close()
            why = os.strerror(error.errno or errno.EIO).lower()
            raise OSError(error.errno, f"host port {port.port} of {ip} cannot be had: {why}") from error
        return sock

    async def _outgoing(self) -> socket.socket:
        return await self._runtime.listen(ANY, 0, socket.SOCK_DGRAM)

    async def _accept(self, sock: socket.socket, ip: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    client, _ = await loop.sock_accept(sock)
                except OSError as error:
                    log.warning("a host port cannot accept: %s", error)
                    await asyncio.sleep(0.1)
                    continue
                task = asyncio.create_task(self._serve(client, ip, port))
                self._connections.add(task)
                task.add_done_callback(self._connections.discard)
        finally:
            sock.close()

    async def _serve(self, client: socket.socket, ip: str, port: int) -> None:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                server = await self._runtime.dial(ip, port)
        except BaseException as error:
            reset(client)
            client.close()
            if not isinstance(error, OSError):
                raise
            return
        await relay(client, server)

    async def close(self, uid: str) -> None:
        """Listen no more for a pod."""
        opened = self._open.pop(uid, [])
        tasks = [one for one in opened if isinstance(one, asyncio.Task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in opened:
            if isinstance(one, UdpRelay):
                one.close()

    async def stop(self) -> None:
        """Close everything."""
        for uid in list(self._open):
            await self.close(uid)
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _always(ip: str, port: int) -> Callable[[str], tuple[str, int]]:
    return lambda _client: (ip, port)
