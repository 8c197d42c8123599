"""The spawner: the one process of a home that forks.

Forking the control plane would be slow and unsafe (it has threads and much memory), and what it forks would
die with it. The spawner is small and single-threaded, answers requests on a Unix socket, and keeps nothing
that its successor could not find on disk or ask the network holder.

Requests carry an `id`, which the reply repeats:
    hello                          version, how memory is limited
    network                        makes sure that the network holder runs
    start   spec                   forks a supervisor; replies with its state when the program runs
    exec    …                      takes the connection over (see enter.py)
    sweep   folders                has a child remove what is in them
    session …                      the same (see session.py)
    shutdown                       ends spawner, fork servers and, with `network`, the network holder
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import select
import signal
import sys
import time

from . import enter, limits, linux, network, session, trash, wire
from .pool import ForkServers
from .program import restore_signals
from .supervisor import EXIT, STATE, supervise

TYPE_CHECKING = False  # importing typing costs a helper half a megabyte
if TYPE_CHECKING:
    import socket

    from .wire import Message

AHEAD, TRASH = "ahead", "trash"
SOCKET, RECORD, LOCK = "spawner.sock", "spawner.json", "spawner.lock"
ALREADY_RUNNING = 3
_TICK_MS = 10_000
_WARM_TICK_MS = 500
_SWEEPER_NICE = 10
_WARM_SECONDS = 3.0
"""How long a warm interpreter may take to fork and report before a cold start takes over."""


def main(arguments: list[str]) -> None:
    """Become a daemon; the caller's process ends when the socket answers."""
    folder, config = arguments[0], json.loads(arguments[1])
    os.umask(0o022)
    os.makedirs(f"{folder}/root", exist_ok=True)
    lock = os.open(f"{folder}/{LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit(ALREADY_RUNNING)
    listener = wire.listen(f"{folder}/{SOCKET}")
    if os.fork():
        os._exit(0)
    os.setsid()
    linux.set_process_name("headrace-spawn")
    Spawner(folder, config, listener, lock).serve()


class _Connection:
    """A client that sends requests and takes replies, neither of which may block the spawner."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.incoming = bytearray()
        self.outgoing = bytearray()


class _Start:
    """A supervisor that has not reported yet."""

    def __init__(self, spec: Message, *, warm: bool) -> None:
        self.spec, self.warm = spec, warm
        self.begun = time.monotonic()
        self.report = bytearray()
        self.waiting: list[tuple[_Connection, int]] = []


class Spawner:
    """The event loop and its requests."""

    def __init__(self, folder: str, config: Message, listener: socket.socket, lock: int) -> None:
        self._folder, self._config, self._listener, self._lock = folder, config, listener, lock
        self._limits = limits.discover(config["cgroup"])
        self._connections: dict[int, _Connection] = {}
        self._starts: dict[int, _Start] = {}
        self._network: network.HolderClient | None = None
        self._node_ns = -1
        """The node's network, held so that it outlives its holder."""
        self._servers = ForkServers(config.get("idle_seconds", 120.0), f"{folder}/{AHEAD}")
        self._poll = select.poll()
        self._next_cpu = 0
        self._sweeper = 0
        """The child that removes what pods have left; 0 when there is none."""
        self._unswept: set[str] = set()
        record = {"pid": os.getpid(), "start": linux.start_time(os.getpid())}
        self._record = record
        wire.write_file(f"{folder}/{RECORD}", record)

    def serve(self) -> None:
        """Serve until told to stop, or until the home is gone."""
        wake, wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        linux.adopt_orphans()
        self._listener.setblocking(False)
        self._poll.register(self._listener, select.POLLIN)
        self._poll.register(wake, select.POLLIN)
        gc.collect()
        gc.freeze()
        gc.disable()  # nothing here makes cycles, and a collection would unshare the children's pages
        while True:
            warming = [start for start in self._starts.values() if start.warm]
            events = self._poll.poll(_WARM_TICK_MS if warming else _TICK_MS)
            for start in warming:
                if time.monotonic() - start.begun > _WARM_SECONDS:
                    self._servers.failed(start.spec)  # kills it; the report then ends without a word
            for fd, event in events:
                if fd == wake:
                    os.read(wake, 512)
                elif fd == self._listener.fileno():
                    self._accept()
                elif fd in self._starts:
                    self._read_report(fd)
                elif fd in self._connections:
                    self._talk(self._connections[fd], event)
            self._reap()
            self._servers.expire(time.monotonic())
            if not events and not self._connections and wire.read_file(f"{self._folder}/{RECORD}") != self._record:
                return

    def _reap(self) -> None:
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._servers.ended(pid)
            if pid == self._sweeper:
                self._sweeper = 0
                self._sweep([])

    def _accept(self) -> None:
        try:
            client, _address = self._listener.accept()
        except OSError:
            return
        if not wire.same_user(client):
            client.close()
            return
        client.setblocking(False)
        self._connections[client.fileno()] = _Connection(client)
        self._poll.register(client, select.POLLIN)

    def _close(self, connection: _Connection) -> None:
        self._poll.unregister(connection.socket)
        del self._connections[connection.socket.fileno()]
        connection.socket.close()
        for start in self._starts.values():
            start.waiting = [entry for entry in start.waiting if entry[0] is not connection]

    def _talk(self, connection: _Connection, event: int) -> None:
        try:
            if event & select.POLLOUT:
                self._flush(connection)
            if event & ~select.POLLOUT:
                data = connection.socket.recv(1 << 18)
                if not data:
                    self._close(connection)
                    return
                connection.incoming += data
                for message in wire.take_frames(connection.incoming):
                    if not self._handle(connection, message):
                        return
        except BlockingIOError:
            return
        except (OSError, ValueError, KeyError, TypeError, wire.ProtocolError) as error:
            os.write(2, f"spawner: dropping a connection: {error!r}\n".encode())
            self._close(connection)

    def _reply(self, connection: _Connection, request: int, message: Message) -> None:
        connection.outgoing += wire.encode({"id": request, **message})
        try:
            self._flush(connection)
        except OSError:
            return  # noticed as a closed connection by the loop

    def _flush(self, connection: _Connection) -> None:
        while connection.outgoing:
            try:
                sent = connection.socket.send(connection.outgoing)
            except BlockingIOError:
                break
            del connection.outgoing[:sent]
        self._poll.modify(connection.socket, select.POLLIN | (select.POLLOUT if connection.outgoing else 0))

    def _handle(self, connection: _Connection, message: Message) -> bool:
        """False when the connection is no longer this loop's."""
        op, request = message["op"], message["id"]
        try:
            if op == "hello":
                hello = {"version": self._config["version"], "limits": self._limits[0], "pid": os.getpid()}
                self._reply(connection, request, hello)
            elif op == "start":
                self._start(connection, request, message["spec"])
            elif op == "network":
                self._holder(message.get("held"))
                self._reply(connection, request, {})
            elif op == "sweep":
                self._sweep(message["folders"])
                self._reply(connection, request, {})
            elif op in {"exec", "session"}:
                self._exec(connection, message)
                return False
            elif op == "shutdown":
                self._shutdown(network_too=message["network"])
            else:
                self._reply(connection, request, {"error": f"no such request: {op}"})
        except OSError as error:
            self._reply(connection, request, {"error": error.strerror or str(error)})
        return True

    def _holder(self, held: list[int] | None = None) -> network.HolderClient:
        """The connection to the network holder, which is made when it is missing. `held`: the pid, start time and
        descriptor number of somebody else who holds the node's network.
        """
        if self._network is not None:
            try:
                self._network.call(op="hello")
            except OSError:
                self._network.close()
                self._network = None
        if self._network is None:
            own = [f"/proc/self/fd/{self._node_ns}"] if self._node_ns >= 0 else []
            if held is not None and linux.start_time(held[0]) == held[1]:
                own.append(f"/proc/{held[0]}/fd/{held[2]}")
            self._network = network.start(self._folder, self._config["network"], own)
            kept = self._network.call(op="node")[1][0]
            if self._node_ns >= 0:
                os.close(self._node_ns)
            self._node_ns = kept
        return self._network

    def _namespaces(self, spec: Message) -> list[int]:
        """Descriptors of the pod's network namespace, of the node's and, for ordinary users, of the user namespace
        that owns both. A pod whose network ended with its holder, because nothing ran in it, gets it again.
        """
        if spec["host_network"] or spec.get("bare"):
            return []
        for last in (False, True):
            try:
                client = self._network or self._holder()
                return client.call(op="ns", uid=spec["pod"], ip=spec["ip"])[1]
            except ConnectionError:
                if last:
                    raise
                self._holder()
        raise AssertionError

    def _start(self, connection: _Connection, request: int, spec: Message) -> None:
        for start in self._starts.values():
            if start.spec["dir"] == spec["dir"]:
                start.waiting.append((connection, request))
                return
        state = wire.read_file(f"{spec['dir']}/{STATE}")
        if state is not None:
            self._reply(connection, request, {"state": state, "exit": wire.read_file(f"{spec['dir']}/{EXIT}")})
            return
        os.makedirs(spec["dir"], mode=0o700, exist_ok=True)
        spec.update(limits=self._limits, root=f"{self._folder}/root", affinity=self._choose_cpus(spec["cpus"]))
        self._launch(spec, allow_warm=True).waiting.append((connection, request))

    def _launch(self, spec: Message, *, allow_warm: bool) -> _Start:
        namespaces = self._namespaces(spec)
        report, report_w = os.pipe()
        try:
            warm = allow_warm and self._servers.fork(spec, namespaces, report_w)
            if not warm and os.fork() == 0:
                try:
                    signal.set_wakeup_fd(-1)
                    restore_signals()
                    linux.close_all_but([report_w, *namespaces])
                    supervise(spec, report_w, namespaces)
                finally:
                    os._exit(1)
        except OSError:
            os.close(report)
            raise
        finally:
            for fd in (report_w, *namespaces):
                os.close(fd)
        self._starts[report] = start = _Start(spec, warm=warm)
        self._poll.register(report, select.POLLIN)
        return start

    def _choose_cpus(self, cpus: float | None) -> list[int]:
        """Which CPUs to run on: as many as asked for, in turn; none when there is no limit or no need for one."""
        if cpus is None:
            return []
        available = sorted(os.sched_getaffinity(0))
        count = max(1, -int(-cpus // 1))
        if count >= len(available):
            return []
        chosen = [available[(self._next_cpu + i) % len(available)] for i in range(count)]
        self._next_cpu += count
        return sorted(chosen)

    def _read_report(self, fd: int) -> None:
        start = self._starts[fd]
        data = os.read(fd, 65536)
        start.report += data
        if data:
            return
        self._poll.unregister(fd)
        os.close(fd)
        del self._starts[fd]
        report = next(wire.take_frames(start.report), None) or wire.read_file(f"{start.spec['dir']}/{STATE}")
        if report is None and start.warm:  # the warm interpreter refused, or died in the attempt
            try:
                self._launch(start.spec, allow_warm=False).waiting = start.waiting
            except OSError as error:
                report = {"error": error.strerror or str(error)}
            else:
                return
        if report is None:
            report = {"error": "the container's supervisor died while starting it"}
        reply = report if "error" in report else {"state": report, "exit": None}
        for connection, request in start.waiting:
            self._reply(connection, request, reply)

    def _sweep(self, folders: list[str]) -> None:
        """Removing what many pods have left takes longer than anybody here may wait."""
        self._unswept.update(folders)
        for left in self._servers.left_behind():
            trash.discard(left, f"{self._folder}/{TRASH}")
        if self._sweeper or not self._unswept:
            return
        self._sweeper = os.fork()
        if self._sweeper == 0:
            try:
                signal.set_wakeup_fd(-1)
                restore_signals()
                linux.close_all_but([])
                linux.set_process_name("headrace-sweep")
                os.nice(_SWEEPER_NICE)
                for folder in self._unswept:
                    trash.empty(folder)
            finally:
                os._exit(0)
        self._unswept.clear()

    def _exec(self, connection: _Connection, message: Message) -> None:
        folder = message["dir"]
        state = wire.read_file(f"{folder}/{STATE}")
        if state is None or os.path.exists(f"{folder}/{EXIT}"):
            self._reply(connection, message["id"], {"error": "cannot enter the container: it is not running"})
            self._close(connection)
            return
        cgroup = None
        if self._limits[0] != limits.WATCHDOG:
            cgroup = limits.Cgroup(*self._limits, state["cgroup"])
            cgroup = cgroup if os.path.isdir(cgroup.path) else None
        if os.fork() == 0:
            signal.set_wakeup_fd(-1)
            restore_signals()
            linux.close_all_but([connection.socket.fileno()])
            run = session.attend if message["op"] == "session" else enter.enter
            run(connection.socket, message, state, cgroup)
        self._close(connection)

    def _shutdown(self, *, network_too: bool) -> None:
        self._servers.stop()
        trash.remove_tree(f"{self._folder}/{AHEAD}")
        if self._sweeper:  # what it leaves goes with the next sweep
            os.kill(self._sweeper, signal.SIGKILL)
            os.waitpid(self._sweeper, 0)
        if network_too:
            try:
                client = network.HolderClient(self._folder)
                client.call(op="shutdown")
            except (OSError, EOFError):
                pass
        if self._limits[0] != limits.WATCHDOG:
            limits.forget(self._limits[1])
        for name in (SOCKET, RECORD):
            try:
                os.unlink(f"{self._folder}/{name}")
            except OSError:
                continue
        os._exit(0)
