"""The default runtime on Linux: pods as processes in namespaces of their own, with or without root.

This is the control plane's side; what forks and what must outlive it is in `sandboxd`. Exits are seen through
pidfds of the supervisors, which also works for those that an earlier control plane started. The sandbox keeps
accidents in; it is for one trusted team, not for hostile tenants.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import signal
import socket
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.node.runtime import diagnosis, podfiles, usage, visible
from headrace.node.runtime.base import (
    ContainerPhase,
    ContainerState,
    ExecResult,
    Isolation,
    PodSandbox,
    RuntimeUnavailable,
    StartFailed,
)
from headrace.node.runtime.helpers import Helpers, process_handle, send_signal
from headrace.node.runtime.links import HelperGone
from headrace.node.runtime.records import Records
from headrace.node.runtime.request import pause_request, start_request
from headrace.node.runtime.sandboxd import linux
from headrace.node.runtime.sandboxd.limits import WATCHDOG
from headrace.node.runtime.sandboxd.trash import empty
from headrace.node.runtime.session import ContainerInput, ProcessSession

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from headrace.machinery.settings import Settings
    from headrace.node.runtime.base import ContainerSpec, Usage

log = logging.getLogger(__name__)

BOOT_ID = "/proc/sys/kernel/random/boot_id"
MAX_EXEC_OUTPUT = 1 << 20
_KILL_SECONDS = 20.0
_LEFTOVERS_SECONDS = 1.0
_SWEEP_SECONDS = 0.5
"""So long what is to be removed is gathered: each sweep is a process."""
_PATIENCE = 2
"""How often a machine that was too slow to show that it can have pods is asked again."""
_PAUSE = "pod.pause-"
"""Begins the id of the process that a pod's shared processes belong to; no container's name has a dot."""
PROBE = "headrace-probe"
"""The uid of the pod that only shows that pods can be made."""
_Socket = socket.socket


class SandboxRuntime:
    """Implements `Runtime` with namespaces."""

    def __init__(self, settings: Settings, *, fork_server_idle_seconds: float = 120.0) -> None:
        self._settings = settings
        self._records = Records(settings.run)
        self._helpers = Helpers(settings, fork_server_idle_seconds)
        self._isolation: Isolation | None = None
        self._handlers: list[Callable[[ContainerState], None]] = []
        self._states: dict[tuple[str, str], ContainerState] = {}
        self._reported: set[tuple[str, str]] = set()
        self._watched: dict[tuple[str, str], _Watch] = {}
        self._pods: dict[str, PodSandbox] = {}
        self._marked: set[str] = set()
        """Pods that may have left their network other than they found it."""
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._tidying: set[asyncio.Task[None]] = set()
        self._unswept: set[str] = set()
        """Folders whose content is to be removed."""
        self._sweeping: asyncio.TimerHandle | None = None
        self._hidden: list[str] = []
        self._exposed: list[str] = []

    # -- life cycle ---------------------------------------------------------------------------------------------

    @property
    def isolation(self) -> Isolation:
        """See Runtime."""
        if self._isolation is None:
            raise RuntimeUnavailable("the runtime has not been started")
        return self._isolation

    async def start(self) -> None:
        """See Runtime."""
        facts = diagnosis.read_facts()
        problem = diagnosis.impossible(facts)
        if problem is not None:
            raise RuntimeUnavailable(problem)
        self._make_folders()
        self._hidden, self._exposed = visible.hidden(self._settings), visible.exposed(self._settings)
        try:
            hello = await self._try()
        except (StartFailed, OSError) as error:
            raise RuntimeUnavailable(diagnosis.explain(str(error), facts)) from error
        limits = hello["limits"]
        notes: tuple[str, ...] = ("isolates from accidents of one trusted team, not from hostile tenants",)
        if limits == WATCHDOG:
            notes += ("no cgroup can be had: memory limits are checked once a second",)
        self._isolation = Isolation("sandbox", rootless=not facts.root, network=True, limits=limits, notes=notes)
        self._remember_pods()

    async def _try(self) -> dict[str, Any]:
        """What the helpers say of themselves, when all of it works. A machine that has much to do is asked again before
        it is believed that it cannot: its pods would come back in another mode.
        """
        for _ in range(_PATIENCE):
            with contextlib.suppress(TimeoutError):
                return await self._try_once()
        return await self._try_once()

    async def _try_once(self) -> dict[str, Any]:
        hello = await self._helpers.ask("hello")
        await self._helpers.ensure_network()
        await self._probe()
        return hello

    def _make_folders(self) -> None:
        for folder in (self._settings.run, self._records.pods):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
        linux.spread(str(self._records.pods))
        for folder in (self._settings.logs, self._settings.cache):
            folder.mkdir(parents=True, exist_ok=True)
        self._records.begin(_read(BOOT_ID).strip())

    def _remember_pods(self) -> None:
        self.sweep(self._records.trash)  # of a control plane that was killed
        for uid in self._records.all_pods():
            pod = self._records.read_pod(uid)
            if pod is not None:
                self._pods[uid] = pod
                self._marked.add(uid)  # what was mounted in them is not known any more
        self._rescan()

    async def stop(self, *, pods: bool) -> None:
        """See Runtime."""
        if pods:
            await asyncio.gather(*(self.remove_pod(uid) for uid in self._records.all_pods()))
        if self._sweeping is not None:
            self._sweeping.cancel()
        await asyncio.gather(*self._tidying, return_exceptions=True)
        if pods:
            await self._helpers.end()
        for watch in self._watched.values():
            asyncio.get_running_loop().remove_reader(watch.fd)
            os.close(watch.fd)
        self._watched.clear()
        self._states.clear()
        self._pods.clear()
        for folder in {*self._unswept, str(self._records.trash)} if pods else self._unswept:
            await asyncio.to_thread(empty, folder)
        self._unswept.clear()
        await self._helpers.close()

    async def _probe(self) -> None:
        """Make a whole pod that runs nothing."""
        pod = self._probe_pod()
        await self._remove(PROBE)
        await self.create_pod(pod)
        try:
            await self._helpers.ask("start", spec=self._request(_probe_spec(self._settings), pod))
        finally:
            await self._remove(PROBE)

    def _probe_pod(self) -> PodSandbox:
        return PodSandbox(PROBE, "", "", "probe", _last_address(self._settings.pod_cidr))

    # -- pods ---------------------------------------------------------------------------------------------------

    def _lock(self, uid: str) -> asyncio.Lock:
        lock = self._locks.get(uid)
        if lock is None:
            lock = self._locks[uid] = asyncio.Lock()
        return lock

    async def create_pod(self, pod: PodSandbox) -> None:
        """See Runtime."""
        async with self._lock(pod.uid):
            files = {
                "hosts": podfiles.hosts(pod, podfiles.of_machine("/etc/hosts")),
                "resolv.conf": podfiles.resolv_conf(
                    pod, self._settings.node_ip, podfiles.of_machine("/etc/resolv.conf")
                ),
                "hostname": pod.hostname + "\n",
            }
            if self._pods.get(pod.uid) != pod:
                self._records.write_pod(pod, files)
                self._pods[pod.uid] = pod
            await self._make_network(pod)

    async def _make_network(self, pod: PodSandbox) -> None:
        """What there must be before the first container starts; the network itself is made with that."""

    async def _drop_network(self, pod: PodSandbox) -> None:
        if not pod.host_network:
            await self._helpers.hold("drop", uid=pod.uid, reusable=pod.uid not in self._marked)
            self._marked.discard(pod.uid)

    async def pods(self) -> list[str]:
        """See Runtime."""
        return [uid for uid in self._records.all_pods() if uid != PROBE]

    async def remove_pod(self, uid: str) -> None:
        """See Runtime."""
        async with self._lock(uid):
            await self._remove(uid)

    async def _remove(self, uid: str) -> None:
        self._rescan(uid)
        await self._remove_known(uid)

    async def _remove_known(self, uid: str) -> None:
        """Remove a pod all of whose containers are known."""
        mine = [key for key in self._states if key[0] == uid]
        for key in mine:
            self._signal(key, signal.SIGKILL)
        ending = [self._watched[key].ended.wait() for key in mine if key in self._watched]
        try:
            async with asyncio.timeout(_KILL_SECONDS):
                await asyncio.gather(*ending)
        except TimeoutError:
            raise StartFailed(f"processes of pod {uid} do not end; are they waiting for a broken disk?") from None
        pod = self._pods.pop(uid, None)
        if pod is not None:
            await self._drop_network(pod)
        self._records.discard_pod(uid)
        self.sweep(self._records.trash)
        # Last, because whoever asks for containers meanwhile learns of them again from what is still on disk.
        for key in [key for key in self._states if key[0] == uid]:
            self._forget(key)

    def _forget(self, key: tuple[str, str]) -> None:
        self._states.pop(key, None)
        self._reported.discard(key)

    # -- containers ---------------------------------------------------------------------------------------------

    def on_exit(self, handler: Callable[[ContainerState], None]) -> None:
        """See Runtime."""
        self._handlers.append(handler)
        for state in self._states.values():
            if state.phase is ContainerPhase.EXITED and not state.id.startswith(_PAUSE):
                asyncio.get_running_loop().call_soon(handler, state)

    async def start_container(self, spec: ContainerSpec) -> ContainerState:
        """See Runtime."""
        if not spec.argv:
            raise StartFailed("no command specified")
        key = (spec.pod_uid, spec.id)
        async with self._lock(spec.pod_uid):
            pod = self._pods.get(spec.pod_uid)
            if pod is None:
                raise StartFailed(f"pod {spec.pod_uid} has not been created")
            known = self._states.get(key)
            if known is not None:
                return known
            if spec.image or any(_is_of_kernel(str(mount.source or "")) for mount in spec.mounts):
                self._marked.add(pod.uid)
            joins = await self._joined(spec, pod)
            try:
                reply = await self._helpers.ask("start", spec=self._request(spec, pod, joins))
            except HelperGone as error:
                self._rescan(pod.uid)  # it may have been started, and only the answer got lost
                if key not in self._states:
                    raise StartFailed(str(error)) from error
                return self._states[key]
            return self._learn(key, reply["state"])

    async def _joined(self, spec: ContainerSpec, pod: PodSandbox) -> dict[str, Any] | None:
        """The record of the container whose processes this one shares; None when it has its own."""
        if not pod.share_processes:
            if not spec.joins:
                return None
            if not self._lives((pod.uid, spec.joins)):
                raise StartFailed(
                    f"container {spec.joins.rpartition('-')[0]}, whose processes are wanted, does not run"
                )
            return self._records.started_one(pod.uid, spec.joins)
        mine = [name for uid, name in self._states if uid == pod.uid and name.startswith(_PAUSE)]
        running = [name for name in mine if self._lives((pod.uid, name))]
        if not running:
            name = f"{_PAUSE}{len(mine)}"
            log_path = self._settings.logs / "pause.log"
            asked = pause_request(pod, name, self._records.pod_folder(pod.uid), log_path, spec.uid)
            reply = await self._helpers.ask("start", spec=asked)
            self._learn((pod.uid, name), reply["state"])
            running = [name]
        return self._records.started_one(pod.uid, running[0])

    def _lives(self, key: tuple[str, str]) -> bool:
        """Whether a container's first process is there at this moment, its end reported or not."""
        watch = self._watched.get(key)
        return watch is not None and linux.start_time(watch.started["pid"]) == watch.started["pid_start"]

    def _request(self, spec: ContainerSpec, pod: PodSandbox, joins: dict[str, Any] | None = None) -> dict[str, Any]:
        folder = self._records.container_folder(pod.uid, spec.id).parent.parent
        return start_request(spec, pod, folder, hidden=self._hidden, exposed=self._exposed, joins=joins)

    def _rescan(self, pod_uid: str | None = None) -> None:
        """Learn of containers on disk that are not known yet."""
        for uid in self._records.all_pods() if pod_uid is None else [pod_uid]:
            for name in self._records.names(uid):
                if (uid, name) not in self._states and (started := self._records.started_one(uid, name)) is not None:
                    self._learn((uid, name), started)

    def _learn(self, key: tuple[str, str], started: dict[str, Any]) -> ContainerState:
        """Know a container, and watch it while it runs."""
        state = self._states[key] = self._records.state(*key, started)
        if state.phase is ContainerPhase.EXITED:
            self._report(state)
            return state
        fd = process_handle(started["supervisor"], started["supervisor_start"])
        if fd < 0:
            state = self._states[key] = self._records.state(*key, started)
            self._report(state)
            return state
        self._watched[key] = _Watch(fd, started)
        asyncio.get_running_loop().add_reader(fd, self._ended, key)
        return state

    def _ended(self, key: tuple[str, str]) -> None:
        watch = self._watched.pop(key)
        asyncio.get_running_loop().remove_reader(watch.fd)
        os.close(watch.fd)
        state = self._states[key] = self._records.state(*key, watch.started)
        watch.ended.set()
        self._report(state)

    def _report(self, state: ContainerState) -> None:
        """What is to be done when a container is known to have ended."""
        key = (state.pod_uid, state.id)
        # Mostly the pod goes with its container, and all that either has left together.
        asyncio.get_running_loop().call_later(_LEFTOVERS_SECONDS, self._discard_leftovers, key)
        if internal(key) or key in self._reported:
            return
        self._reported.add(key)
        for handler in self._handlers:
            asyncio.get_running_loop().call_soon(handler, state)

    def _discard_leftovers(self, key: tuple[str, str]) -> None:
        if key in self._states and self._records.discard_leftovers(*key):
            self.sweep(self._records.trash)

    def sweep(self, *folders: Path) -> None:
        """See Runtime."""
        if not self._unswept:
            self._sweeping = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._tidy, self._sweep)
        self._unswept.update(map(str, folders))

    async def _sweep(self) -> None:
        folders, self._unswept = sorted(self._unswept), set()
        with contextlib.suppress(StartFailed):  # what is left now goes with what comes next
            await self._helpers.ask("sweep", folders=folders)

    def _tidy(self, work: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        """Behind everybody's back; waited for when the runtime stops."""
        task = asyncio.create_task(work(*arguments))
        self._tidying.add(task)
        task.add_done_callback(self._tidying.discard)

    async def kill(self, pod_uid: str, container_id: str, signal: int) -> None:  # the protocol's name
        """See Runtime."""
        self._signal((pod_uid, container_id), signal)

    def _signal(self, key: tuple[str, str], number: int) -> None:
        watch = self._watched.get(key)
        if watch is None:
            return
        send_signal(watch.started["pid"], watch.started["pid_start"], number)

    async def containers(self) -> list[ContainerState]:
        """See Runtime."""
        self._rescan()
        return [state for key, state in self._states.items() if not key[1].startswith(_PAUSE)]

    async def exec(
        self, pod_uid: str, container_id: str, argv: tuple[str, ...], *, timeout: float | None = None
    ) -> ExecResult:
        """See Runtime. A program that cannot be executed gives 126 or 127 and says why in the output."""
        output = bytearray()
        folder = str(self._records.container_folder(pod_uid, container_id))
        stream = self._helpers.stream("exec", dir=folder, argv=list(argv), timeout=timeout)
        async with contextlib.aclosing(stream):
            async for message in stream:
                if "out" in message:
                    output += base64.b64decode(message["out"])[: MAX_EXEC_OUTPUT - len(output)]
                elif "error" in message:
                    text = message["error"]
                    return ExecResult(126 if "permission denied" in text else 127, text.encode() + b"\n")
                else:
                    return ExecResult(message["code"], bytes(output))
        return ExecResult(128 + signal.SIGKILL, bytes(output) + b"the container ended\n")

    async def open_session(
        self, pod_uid: str, container_id: str, argv: tuple[str, ...], *, stdin: bool, tty: bool
    ) -> ProcessSession:
        """See Runtime."""
        folder = str(self._records.container_folder(pod_uid, container_id))
        helper, fds = await self._helpers.take("session", dir=folder, argv=list(argv), stdin=stdin, tty=tty)
        return ProcessSession(helper, fds, tty=tty)

    async def open_input(self, pod_uid: str, container_id: str, *, once: bool) -> ContainerInput:
        """See Runtime."""
        watch = self._watched.get((pod_uid, container_id))
        if watch is None:
            raise StartFailed("the container does not run")
        folder = self._records.container_folder(pod_uid, container_id)
        supervisor = (watch.started["supervisor"], watch.started["supervisor_start"])
        try:
            return ContainerInput(folder, supervisor, once=once)
        except OSError as error:
            raise StartFailed(f"the container has no input: {error.strerror}") from error

    async def usage(self) -> list[Usage]:
        """See Runtime."""
        running = {key: watch.started["pid"] for key, watch in self._watched.items() if not internal(key)}
        return await asyncio.to_thread(usage.of_containers, running)

    # -- network ------------------------------------------------------------------------------------------------

    def socket(self, kind: int = socket.SOCK_STREAM) -> _Socket:
        """An unconnected non-blocking IPv4 socket inside the pod network, for socket factories."""
        return _socket_of(self._helpers.hold_now("socket", kind=int(kind)))

    async def dial(self, ip: str, port: int) -> _Socket:
        """See Runtime."""
        _, fds = await self._helpers.hold("socket", kind=int(socket.SOCK_STREAM))
        sock = _socket_of(fds)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (ip, port))
        except BaseException:
            sock.close()
            raise
        return sock

    async def listen(self, ip: str, port: int, kind: int) -> _Socket:
        """See Runtime."""
        _, fds = await self._helpers.hold("listen", ip=ip, port=port, kind=int(kind))
        return _socket_of(fds)


def _is_of_kernel(source: str) -> bool:
    """Whether settings of the kernel can be written below a folder of the machine."""
    return source == "/" or source.startswith(("/proc", "/sys"))


def internal(key: tuple[str, str]) -> bool:
    """Whether nobody outside of the runtime has asked for this."""
    return key[0] == PROBE or key[1].startswith(_PAUSE)


class _Watch:
    """A running container, by a descriptor of its supervisor."""

    def __init__(self, fd: int, started: dict[str, Any]) -> None:
        self.fd, self.started = fd, started
        self.ended = asyncio.Event()


def _socket_of(fds: list[int]) -> socket.socket:
    sock = socket.socket(fileno=fds[0])
    sock.setblocking(False)
    return sock


def _last_address(cidr: str) -> str:
    import ipaddress  # noqa: PLC0415 - costs a megabyte, needed once

    return str(ipaddress.ip_network(cidr).broadcast_address - 1)


def _probe_spec(settings: Settings) -> ContainerSpec:
    from headrace.node.runtime.base import ContainerSpec  # noqa: PLC0415 - a type everywhere else

    return ContainerSpec("probe", PROBE, argv=(), env={}, log_path=settings.logs / "probe.log")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
