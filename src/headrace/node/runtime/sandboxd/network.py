"""The network holder: one process inside the node's network namespace, for as long as pods may live.

It owns the bridge, makes and holds the pods' network namespaces, and hands over sockets of the node's
namespace, so that the control plane outside connects to pods and listens on service addresses itself. It
survives the spawner and the control plane.

They survive it too. The node's namespace, and with it the bridge and every cable, lives as long as anybody holds it:
the spawner, the control plane and each supervisor do. The next holder finds it by them, and the pods' namespaces by
the supervisors inside; so no connection breaks when a holder is killed. A pod in which nothing ran then gets its
network again with its next start.

A pod's network is made ahead, but for its address, and used again for another pod when nothing in it can be another
than it was: pods have no power over it. Where they are an ordinary user's they have, over its settings in /proc.

Requests (see `_Holder`): hello, node, drop, ns, pods, socket, listen, shutdown.
"""

from __future__ import annotations

import os
import select
import signal
import socket

from . import linux, wire
from .netlink import LOOPBACK, Netlink, mac_of

TYPE_CHECKING = False  # importing typing costs a helper half a megabyte
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .wire import Message

PROTOCOL = 3
SOCKET, RECORD = "network.sock", "network.json"
_BRIDGE = "headrace0"
_BACKLOG = 512
_ORPHAN_CHECK_MS = 30_000
_QUIET_MS = 10
"""How long nobody must have asked for anything before things are done ahead."""
_AHEAD, _MAX_FREE = 2, 8
"""Networks that are ready for the next pods: how many are made, and how many are kept."""


def run(folder: str, config: Message, ready: int, node_ns: int, pods: dict[str, tuple[str, int]]) -> None:
    """In a fresh fork: make the node's network, or take over that of an earlier holder with its pods; say so on
    `ready`, serve. Never returns.
    """
    try:
        holder = _Holder(config, node_ns, pods)
        listener = wire.listen(f"{folder}/{SOCKET}")
        pid = os.getpid()
        record = {"pid": pid, "start": linux.start_time(pid), "protocol": PROTOCOL, "config": config}
        wire.write_file(f"{folder}/{RECORD}", record)
    except OSError as error:
        os.write(ready, str(error.strerror).encode())
        os._exit(1)
    os.close(ready)
    try:
        _serve(listener, holder, f"{folder}/{RECORD}", record)
    finally:
        os._exit(1)


def _serve(listener: socket.socket, holder: _Holder, record_path: str, record: Message) -> None:
    clients: dict[int, socket.socket] = {}
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while True:
        busy = holder.busy()
        events = poll.poll(_QUIET_MS if busy else _ORPHAN_CHECK_MS)
        if not events and busy:
            holder.make_ahead()
        elif not events and not clients and wire.read_file(record_path) != record:
            os._exit(0)  # the home is gone
        for fd, _ in events:
            if fd == listener.fileno():
                client, _address = listener.accept()
                if wire.same_user(client):
                    clients[client.fileno()] = client
                    poll.register(client, select.POLLIN)
                else:
                    client.close()
                continue
            try:
                message, received = wire.receive(clients[fd])
                for extra in received:
                    os.close(extra)
                _answer(clients[fd], holder, message)
            except (EOFError, OSError, ValueError, wire.ProtocolError):
                poll.unregister(fd)
                clients.pop(fd).close()


def _answer(client: socket.socket, holder: _Holder, message: Message) -> None:
    close: Sequence[int] = ()
    fds: Sequence[int] = ()
    try:
        reply, fds, close = holder.handle(message)
    except OSError as error:
        reply = {"errno": error.errno or 0, "error": error.strerror or str(error)}
    except (KeyError, TypeError, ValueError) as error:
        reply = {"errno": 22, "error": f"bad request: {error!r}"}
    wire.send(client, reply, fds)
    for fd in close:
        os.close(fd)
    if message.get("op") == "shutdown":
        os._exit(0)


class _Holder:
    """The node's network. Every handler returns a reply, descriptors to hand over, and which of them to close."""

    def __init__(self, config: Message, node_ns: int, pods: dict[str, tuple[str, int]]) -> None:
        self._config = config
        self._prefix = int(config["pod_cidr"].split("/")[1])
        self._pods = pods
        self._count = 0
        self._cables: dict[str, _Cable] = {}
        """Of the pods whose networks this holder has made."""
        self._free: list[_Cable] = []
        self._ahead = _AHEAD
        if node_ns < 0:
            self._make()
        else:
            self._take_over(node_ns)

    def _take_over(self, node_ns: int) -> None:
        """Move into the network that an earlier holder made."""
        self._user_ns = -1
        if os.getuid():
            self._user_ns = linux.owner_of(node_ns)
            linux.setns(self._user_ns, linux.CLONE_NEWUSER)
        linux.setns(node_ns, linux.CLONE_NEWNET)
        self._node_ns = node_ns
        self._link = Netlink()
        self._bridge = socket.if_nametoindex(_BRIDGE)
        numbers = [name[3:] for _, name in socket.if_nameindex() if name.startswith("pod")]
        self._count = max((int(number) + 1 for number in numbers if number.isdigit()), default=0)

    def _make(self) -> None:
        config = self._config
        uid, gid = os.getuid(), os.getgid()
        linux.unshare(linux.CLONE_NEWNET | (linux.CLONE_NEWUSER if uid else 0))
        self._user_ns = -1
        if uid:
            for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
                linux.write_control(f"/proc/self/{name}", text)
            self._user_ns = os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        self._node_ns = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._link = Netlink()
        self._link.up(LOOPBACK)
        self._link.add_bridge(_BRIDGE, mac_of(config["node_ip"]))
        self._bridge = socket.if_nametoindex(_BRIDGE)
        self._link.add_address(self._bridge, config["node_ip"], self._prefix)
        self._link.up(self._bridge)
        network, prefix = config["service_cidr"].split("/")
        self._link.own_network(network, int(prefix))
        # With forwarding on and nowhere to forward to, connections to the outside fail at once, not after minutes.
        _sysctl("net/ipv4/ip_forward", "1")
        _sysctl("net/ipv4/ip_unprivileged_port_start", "0")

    def handle(self, message: Message) -> tuple[Message, Sequence[int], Sequence[int]]:
        """One request."""
        op = message["op"]
        if op == "hello":
            return {"protocol": PROTOCOL, "config": self._config, "pid": os.getpid()}, (), ()
        if op == "node":
            return {}, (self._node_ns,), ()
        if op == "drop":
            self._drop(message["uid"], reusable=message["reusable"])
            return {}, (), ()
        if op == "ns":
            self._add(message["uid"], message["ip"])
            held = (self._pods[message["uid"]][1], self._node_ns)
            return {}, held if self._user_ns < 0 else (*held, self._user_ns), ()
        if op == "pods":
            return {"pods": {uid: pod[0] for uid, pod in self._pods.items()}}, (), ()
        if op == "socket":
            made = socket.socket(socket.AF_INET, message["kind"]).detach()
            return {}, (made,), (made,)
        if op == "listen":
            made = _listen(message["ip"], message["port"], message["kind"])
            return {}, (made,), (made,)
        if op == "shutdown":
            return {}, (), ()
        return {"errno": 22, "error": f"no such request: {op}"}, (), ()

    def _add(self, uid: str, ip: str) -> None:
        if uid in self._pods:
            return
        cable = self._free.pop() if self._free else self._make_cable()
        try:
            cable.link.be(cable.index, ip, self._prefix, self._config["node_ip"])
        except OSError:
            cable.close()
            raise
        self._pods[uid] = (ip, cable.pod_ns)
        self._cables[uid] = cable

    def _make_cable(self) -> _Cable:
        """A pod's network, but for its address."""
        number = self._count
        self._count += 1
        linux.unshare(linux.CLONE_NEWNET)
        try:
            cable = _Cable(number)
        finally:
            linux.setns(self._node_ns, linux.CLONE_NEWNET)
        try:
            self._link.add_veth(cable.name, self._bridge, "eth0", cable.mac, cable.pod_ns)
            cable.port = socket.if_nametoindex(cable.name)
            linux.setns(cable.pod_ns, linux.CLONE_NEWNET)
            try:
                _sysctl("net/ipv4/ip_unprivileged_port_start", "0")
                cable.index = socket.if_nametoindex("eth0")
                cable.link.up(LOOPBACK)
                cable.link.up(cable.index)
            finally:
                linux.setns(self._node_ns, linux.CLONE_NEWNET)
        except OSError:
            cable.close()
            raise
        return cable

    def _drop(self, uid: str, *, reusable: bool) -> None:
        pod = self._pods.pop(uid, None)
        cable = self._cables.pop(uid, None)
        if pod is None:
            return
        if cable is None:
            os.close(pod[1])
        elif self._leave(cable, pod[0]) and reusable and self._user_ns < 0 and len(self._free) < _MAX_FREE:
            self._free.append(cable)
        else:
            # The last process has gone, so this ends the namespace, and with it the cable. The kernel takes some
            # 20 ms for that, in the background; removing the cable here would keep the next pod waiting.
            cable.close()

    def _leave(self, cable: _Cable, ip: str) -> bool:
        """Make a pod's network nobody's: at once, because its address may be another pod's in the next moment. Whether
        it is as it was before.
        """
        try:
            cable.link.be_nobody(cable.index, ip, self._prefix, cable.mac)
            self._link.forget_port(cable.port)
            return self._is_clean(cable)
        except OSError as error:
            os.write(2, f"network: one of a pod cannot be used again: {error.strerror}\n".encode())
            return False

    def busy(self) -> bool:
        """Whether there is something to do when nobody asks."""
        return self._count > 0 and len(self._free) < self._ahead

    def make_ahead(self) -> None:
        """Make the network of a pod to come."""
        try:
            self._free.append(self._make_cable())
        except OSError as error:
            os.write(2, f"network: none can be made ahead: {error.strerror}\n".encode())
            self._ahead = 0

    def _is_clean(self, cable: _Cable) -> bool:
        """Whether nobody has a socket left in a pod's network, and no port that a server may want is still taken, as it
        is for a minute after a connection that a server has ended.
        """
        linux.setns(cable.pod_ns, linux.CLONE_NEWNET)
        try:
            counted = linux.read_control("/proc/self/net/sockstat").split()
            names, values = (
                line.split() for line in linux.read_control("/proc/self/net/snmp").splitlines() if line[:4] == b"Tcp:"
            )
        finally:
            linux.setns(self._node_ns, linux.CLONE_NEWNET)
        accepted = int(values[names.index(b"PassiveOpens")])
        before, cable.accepted = cable.accepted, accepted
        sockets, waiting = (int(counted[counted.index(name) + 1]) for name in (b"used", b"tw"))
        return sockets == 1 and (not waiting or accepted == before)


class _Cable:
    """The network of one pod. Made inside of it."""

    def __init__(self, number: int) -> None:
        self.name = f"pod{number}"
        self.mac = b"\x0a\x59" + number.to_bytes(4, "big")
        """Its hardware address as long as it is nobody's."""
        self.port = self.index = 0
        self.accepted = 0
        """How many connections it had accepted when it was last looked at."""
        self.link = Netlink()
        self.pod_ns = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of it."""
        self.link.close()
        os.close(self.pod_ns)


def _listen(ip: str, port: int, kind: int) -> int:
    sock = socket.socket(socket.AF_INET, kind)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((ip, port))
        if kind == socket.SOCK_STREAM:
            sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock.detach()


def _sysctl(name: str, value: str) -> None:
    linux.write_control(f"/proc/sys/{name}", value)


class HolderClient:
    """The spawner's connection to the network holder."""

    def __init__(self, folder: str) -> None:
        self._socket = wire.connect(f"{folder}/{SOCKET}")
        self._socket.settimeout(10)

    def fileno(self) -> int:
        """The connection's descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def call(self, **message: object) -> tuple[Message, list[int]]:
        """One request. Raises OSError with the holder's reason, ConnectionError when it has gone."""
        wire.send(self._socket, message)
        try:
            reply, fds = wire.receive(self._socket)
        except EOFError as error:
            raise ConnectionResetError(104, "the network holder has gone") from error
        if "error" in reply:
            raise OSError(reply["errno"], reply["error"])
        return reply, fds


def start(folder: str, config: Message, holders: Sequence[str] = ()) -> HolderClient:
    """Find the running network holder of this home, or fork one. Raises OSError.

    `holders` are paths in /proc where somebody may hold the network of a holder that has died.
    """
    try:
        client = HolderClient(folder)
        hello, _ = client.call(op="hello")
    except (OSError, EOFError):
        pass
    else:
        if hello["protocol"] == PROTOCOL and hello["config"] == config:
            return client
        client.call(op="shutdown")
        client.close()
    node_ns, pods = _left_behind(folder, config, holders)
    try:
        if node_ns >= 0:
            try:
                return _fork(folder, config, node_ns, pods)
            except OSError as error:
                os.write(2, f"network: what an earlier holder left cannot be taken over: {error.strerror}\n".encode())
        return _fork(folder, config, -1, {})
    finally:
        for fd in (node_ns, *(pod_ns for _, pod_ns in pods.values())):
            if fd >= 0:
                os.close(fd)


def _left_behind(folder: str, config: Message, holders: Sequence[str]) -> tuple[int, dict[str, tuple[str, int]]]:
    """The network of a holder that has died, by whoever holds it (-1 when nobody does), and its pods that live."""
    record = wire.read_file(f"{folder}/{RECORD}")
    if record is None or record.get("config") != config:
        return -1, {}
    node_ns = next((fd for path in holders if (fd := linux.network_namespace(path)) >= 0), -1)
    pods: dict[str, tuple[str, int]] = {}
    for uid in _names(f"{folder}/pods"):
        pod = wire.read_file(f"{folder}/pods/{uid}/pod.json")
        if pod is None or pod["host_network"]:
            continue
        for container in _names(f"{folder}/pods/{uid}/containers"):
            state = wire.read_file(f"{folder}/pods/{uid}/containers/{container}/state.json")
            if state is None or linux.start_time(state["supervisor"]) != state["supervisor_start"]:
                continue
            of_supervisor = f"/proc/{state['supervisor']}"
            if node_ns < 0 and state.get("node_ns", -1) >= 0:
                node_ns = linux.network_namespace(f"{of_supervisor}/fd/{state['node_ns']}")
            pod_ns = linux.network_namespace(f"{of_supervisor}/ns/net")
            if pod_ns >= 0:
                pods[uid] = (pod["ip"], pod_ns)
                break
    return node_ns, pods


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _fork(folder: str, config: Message, node_ns: int, pods: dict[str, tuple[str, int]]) -> HolderClient:
    ready, ready_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        linux.set_process_name("headrace-net")
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        linux.close_all_but([ready_w, *([node_ns] if node_ns >= 0 else []), *(pod_ns for _, pod_ns in pods.values())])
        run(folder, config, ready_w, node_ns, pods)
    os.close(ready_w)
    problem = b""
    while part := os.read(ready, 4096):
        problem += part
    os.close(ready)
    if problem:
        os.waitpid(pid, 0)
        raise OSError(1, problem.decode())
    return HolderClient(folder)
