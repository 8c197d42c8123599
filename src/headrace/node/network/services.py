"""Services at work: each is reachable at its address and name, from pods and from the platform.

For every port of a Service that has ready endpoints, a listener inside the node's network namespace accepts at
the service's address; connections go to the endpoints in turn. What is behind an address is looked up for each
connection, so changes apply at once. Connections end with the control plane; pods do not. What leads to one of this
process's own servers is given to it as it is: nothing is dialed and no bytes are copied.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import itertools
import logging
import os
import socket
import time
from typing import TYPE_CHECKING

from headrace.api.core import Endpoints, Service
from headrace.api.discovery import MANAGER_LABEL, OWN_MANAGERS, EndpointSlice
from headrace.node.network.affinity import Affinity
from headrace.node.network.dns import DnsServer
from headrace.node.network.index import TCP, UDP, ServiceIndex, is_address
from headrace.node.network.outbound import OutboundProxy
from headrace.node.network.relay import connect, relay, reset
from headrace.node.network.udp import UdpRelay

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.api.meta import Object
    from headrace.machinery.manager import Manager
    from headrace.machinery.serve import Server
    from headrace.machinery.settings import Settings
    from headrace.node.network.index import Listener
    from headrace.node.runtime.base import Runtime

log = logging.getLogger(__name__)

ANY = "0.0.0.0"  # of the node's own network
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
        slices = manager.informer(EndpointSlice)
        self.index = ServiceIndex(services, endpoints, slices)
        self._dirty: asyncio.Queue[str] = asyncio.Queue()
        self._open: dict[Listener, asyncio.Task[None] | UdpRelay] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._turns: dict[tuple[str, int], itertools.count[int]] = {}
        self._sticky = Affinity()
        self._servers: dict[int, Server] = {}
        self._dns = DnsServer(settings.node_ip, self.index.lookup, runtime.listen)
        self._outbound = OutboundProxy(settings.node_ip, self._dial_for_pods, runtime.listen)
        self._worker: asyncio.Task[None] | None = None
        services.on_change(self._changed)
        endpoints.on_change(self._changed)
        slices.on_change(self._slice_changed)

    def own(self, server: Server) -> None:
        """This server listens in this process, on the platform's own address, and takes connections as they are."""
        self._servers[server.address[1]] = server

    async def start(self) -> None:
        """Serve names and the way out; services follow as they are seen."""
        await self._dns.start()
        await self._outbound.start()
        self._worker = asyncio.create_task(self._work(), name="service proxy")

    async def stop(self) -> None:
        """Stop listening and end all connections."""
        tasks = [*self._connections]
        for opened in self._open.values():
            if isinstance(opened, UdpRelay):
                opened.close()
            else:
                tasks.append(opened)
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
        return await self._dial_first(key, port, self._in_turn(key, port, TCP, ""))

    async def _dial_first(self, key: str, port: int, targets: list[tuple[str, int]], client: str = "") -> socket.socket:
        """Connect to one of the endpoints, beginning with whose turn it is; others when it does not answer."""
        if not targets:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"service {key} has nothing ready behind port {port}")
        last: OSError | None = None
        for target in targets:
            try:
                found = await self._dial_endpoint(*target)
            except OSError as error:
                last = error
            else:
                self._remember(key, client, target)
                return found
        raise last or ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))

    def _in_turn(self, key: str, port: int, protocol: str, client: str) -> list[tuple[str, int]]:
        """The endpoints in the order in which they are to be tried; first the one that the client had, if it counts."""
        targets = self.index.targets(key, port, protocol)
        if not targets:
            return []
        turn = next(self._turns.setdefault((key, port), itertools.count())) % len(targets)
        targets = targets[turn:] + targets[:turn]
        had = self._sticky.get(key, client, time.monotonic()) if self.index.affinity_seconds(key) else ""
        return sorted(targets, key=lambda target: target[0] != had)

    def _own_server(self, targets: list[tuple[str, int]]) -> Server | None:
        """What listens in this process where a connection goes to first."""
        if not targets or targets[0][0] != self._settings.node_ip:
            return None
        return self._servers.get(targets[0][1])

    def _remember(self, key: str, client: str, target: tuple[str, int]) -> None:
        seconds = self.index.affinity_seconds(key)
        if seconds and client:
            self._sticky.put(key, client, target[0], time.monotonic(), seconds)

    def _choose(self, listener: Listener) -> Callable[[str], tuple[str, int] | None]:
        def chosen(client: str) -> tuple[str, int] | None:
            targets = self._in_turn(listener.service, listener.port, listener.protocol, client)
            if not targets:
                return None
            self._remember(listener.service, client, targets[0])
            return targets[0]

        return chosen

    async def _outgoing(self) -> socket.socket:
        return await self._runtime.listen(ANY, 0, socket.SOCK_DGRAM)

    async def _dial_endpoint(self, ip: str, port: int) -> socket.socket:
        async with asyncio.timeout(_CONNECT_SECONDS):
            if ip == self._settings.node_ip:
                return await connect(self._settings.host, port)
            return await self._runtime.dial(ip, port)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        changed = new if new is not None else old
        if changed is not None:
            self._dirty.put_nowait(changed.key)

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        """Slices that controllers here make follow the Endpoints, which have been looked at already."""
        for one in (old, new):
            if one is not None and one.service and one.metadata.labels.get(MANAGER_LABEL) not in OWN_MANAGERS:
                self._dirty.put_nowait(one.service)

    async def _work(self) -> None:
        while True:
            key = await self._dirty.get()
            wanted = self.index.listeners(key)
            have = {listener for listener in self._open if listener.service == key}
            for listener in have - wanted:
                opened = self._open.pop(listener)
                if isinstance(opened, UdpRelay):
                    opened.close()
                else:
                    opened.cancel()
                    await asyncio.gather(opened, return_exceptions=True)
                self._turns.pop((key, listener.port), None)
            for listener in wanted - have:
                try:
                    kind = socket.SOCK_DGRAM if listener.protocol == UDP else socket.SOCK_STREAM
                    sock = await self._runtime.listen(listener.ip, listener.port, kind)
                except OSError as error:
                    log.warning("service %s cannot listen on %s:%d: %s", key, listener.ip, listener.port, error)
                    asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._dirty.put_nowait, key)
                    continue
                if listener.protocol == UDP:
                    udp = UdpRelay(sock, self._choose(listener), self._outgoing)
                    await udp.start()
                    self._open[listener] = udp
                    continue
                self._open[listener] = asyncio.create_task(self._accept(listener, sock), name=f"service {key}")

    async def _accept(self, listener: Listener, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    client, address = await loop.sock_accept(sock)
                except OSError as error:  # out of descriptors, or the client has gone already
                    log.warning("service %s cannot accept: %s", listener.service, error)
                    await asyncio.sleep(_ACCEPT_PAUSE)
                    continue
                task = asyncio.create_task(self._serve(listener, client, address[0]))
                self._connections.add(task)
                task.add_done_callback(self._connections.discard)
        finally:
            sock.close()

    async def _serve(self, listener: Listener, client: socket.socket, address: str) -> None:
        targets = self._in_turn(listener.service, listener.port, TCP, address)
        try:
            own = self._own_server(targets)
            if own is not None:
                self._remember(listener.service, address, targets[0])
                await own.take(client)
                return
            server = await self._dial_first(listener.service, listener.port, targets, address)
        except BaseException as error:
            reset(client)
            client.close()
            if not isinstance(error, OSError):
                raise
            log.debug("service %s: %s", listener.service, error)
            return
        await relay(client, server)
