"""Services at work: each is reachable at its address and name, from pods and from the platform.

For every port of a Service that has ready endpoints, a listener inside the node's network namespace accepts at
the service's address; connections go to the endpoints in turn. What is behind an address is looked up for each
connection, so changes apply at once. Connections end with the control plane; pods do not.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import itertools
import logging
import os
import socket
from typing import TYPE_CHECKING

from headrace.api.core import Endpoints, Service
from headrace.node.network.dns import DnsServer
from headrace.node.network.index import ServiceIndex, is_address
from headrace.node.network.outbound import OutboundProxy
from headrace.node.network.relay import connect, relay, reset

if TYPE_CHECKING:
    from headrace.api.meta import Object
    from headrace.machinery.manager import Manager
    from headrace.machinery.settings import Settings
    from headrace.node.network.index import Listener
    from headrace.node.runtime.base import Runtime

log = logging.getLogger(__name__)

_CONNECT_SECONDS = 5.0
_RETRY_SECONDS = 1.0
_ACCEPT_PAUSE = 0.1


class ServiceProxy:
    """Implements `Dialer`, and runs the pod network's services: proxy, DNS and the way out."""

    def __init__(self, settings: Settings, manager: Manager, runtime: Runtime) -> None:
        self._settings, self._runtime = settings, runtime
        self._pods = ipaddress.ip_network(settings.pod_cidr)
        self._service_network = ipaddress.ip_network(settings.service_cidr)
        services, endpoints = manager.informer(Service), manager.informer(Endpoints)
        self.index = ServiceIndex(services, endpoints)
        self._dirty: asyncio.Queue[str] = asyncio.Queue()
        self._open: dict[Listener, asyncio.Task[None]] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._turns: dict[tuple[str, int], itertools.count[int]] = {}
        self._dns = DnsServer(settings.node_ip, self.index.lookup, runtime.listen)
        self._outbound = OutboundProxy(settings.node_ip, self._dial_for_pods, runtime.listen)
        self._worker: asyncio.Task[None] | None = None
        services.on_change(self._changed)
        endpoints.on_change(self._changed)

    async def start(self) -> None:
        """Serve names and the way out; services follow as they are seen."""
        await self._dns.start()
        await self._outbound.start()
        self._worker = asyncio.create_task(self._work(), name="service proxy")

    async def stop(self) -> None:
        """Stop listening and end all connections."""
        tasks = [*self._open.values(), *self._connections]
        if self._worker is not None:
            tasks.append(self._worker)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._open.clear()
        await self._outbound.stop()
        await self._dns.stop()

    async def dial(self, host: str, port: int) -> socket.socket:
        """See Dialer."""
        sock = await self.dial_cluster(host, port)
        if sock is None:
            raise OSError(errno.EHOSTUNREACH, f"{host} is neither a pod nor a service")
        return sock

    async def dial_cluster(self, host: str, port: int) -> socket.socket | None:
        """A connection to a pod or a service; None when the host belongs to the outside. Raises OSError."""
        if is_address(host):
            address = ipaddress.ip_address(host)
            if host == self._settings.node_ip or address in self._pods:
                return await self._dial_endpoint(host, port)
            if address not in self._service_network:
                return None
            key = self.index.at(host)
            if key is None:
                raise ConnectionRefusedError(errno.ECONNREFUSED, f"no service has the address {host}")
            return await self._dial_service(key, port)
        key = self.index.named(host)
        if key is not None:
            return await self._dial_service(key, port)
        for ip in self.index.hosts(host):
            return await self._dial_endpoint(ip, port)
        return None

    async def _dial_for_pods(self, host: str, port: int) -> socket.socket | None:
        """The same without the node's address, behind which is all of the host's loopback."""
        if host == self._settings.node_ip:
            raise PermissionError(errno.EACCES, "pods reach the node's servers by their services' names only")
        return await self.dial_cluster(host, port)

    async def _dial_service(self, key: str, port: int) -> socket.socket:
        """Connect to one of the endpoints, beginning with whose turn it is; others when it does not answer."""
        targets = self.index.targets(key, port)
        if not targets:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"service {key} has nothing ready behind port {port}")
        turn = next(self._turns.setdefault((key, port), itertools.count()))
        last: OSError | None = None
        for i in range(len(targets)):
            try:
                return await self._dial_endpoint(*targets[(turn + i) % len(targets)])
            except OSError as error:
                last = error
        raise last or ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))

    async def _dial_endpoint(self, ip: str, port: int) -> socket.socket:
        async with asyncio.timeout(_CONNECT_SECONDS):
            if ip == self._settings.node_ip:
                return await connect(self._settings.host, port)
            return await self._runtime.dial(ip, port)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        changed = new if new is not None else old
        if changed is not None:
            self._dirty.put_nowait(changed.key)

    async def _work(self) -> None:
        while True:
            key = await self._dirty.get()
            wanted = self.index.listeners(key)
            have = {listener for listener in self._open if listener.service == key}
            for listener in have - wanted:
                task = self._open.pop(listener)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                self._turns.pop((key, listener.port), None)
            for listener in wanted - have:
                try:
                    sock = await self._runtime.listen(listener.ip, listener.port, socket.SOCK_STREAM)
                except OSError as error:
                    log.warning("service %s cannot listen on %s:%d: %s", key, listener.ip, listener.port, error)
                    asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._dirty.put_nowait, key)
                    continue
                self._open[listener] = asyncio.create_task(self._accept(listener, sock), name=f"service {key}")

    async def _accept(self, listener: Listener, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    client, _ = await loop.sock_accept(sock)
                except OSError as error:  # out of descriptors, or the client has gone already
                    log.warning("service %s cannot accept: %s", listener.service, error)
                    await asyncio.sleep(_ACCEPT_PAUSE)
                    continue
                task = asyncio.create_task(self._serve(listener, client))
                self._connections.add(task)
                task.add_done_callback(self._connections.discard)
        finally:
            sock.close()

    async def _serve(self, listener: Listener, client: socket.socket) -> None:
        try:
            server = await self._dial_service(listener.service, listener.port)
        except BaseException as error:
            reset(client)
            client.close()
            if not isinstance(error, OSError):
                raise
            log.debug("service %s: %s", listener.service, error)
            return
        await relay(client, server)
