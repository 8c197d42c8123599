"""The default runtime on Linux: pods as processes in namespaces of their own, with or without root.

This is the control plane's side; what forks and what must outlive it is in `sandboxd`. Exits are seen through
pidfds of the supervisors, which also works for those that an earlier control plane started. The sandbox keeps
accidents in; it is for one trusted team, not for hostile tenants.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.node.runtime import diagnosis, podfiles, visible
from headrace.node.runtime.base import (
    ContainerPhase,
    ContainerState,
    ExecResult,
    Isolation,
    PodSandbox,
    RuntimeUnavailable,
    StartFailed,
)
from headrace.node.runtime.links import HelperGone, HolderLink, SpawnerLink, readable
from headrace.node.runtime.records import Records
from headrace.node.runtime.sandboxd import linux, network, spawner
from headrace.node.runtime.sandboxd.limits import WATCHDOG
from headrace.node.runtime.sandboxd.supervisor import remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.machinery.settings import Settings
    from headrace.node.runtime.base import ContainerSpec

log = logging.getLogger(__name__)

MAX_EXEC_OUTPUT = 1 << 20
_LAUNCH_SECONDS = 20.0
_KILL_SECONDS = 20.0
_PROBE = "headrace-probe"
_ATTEMPTS = 3
_Socket = socket.socket


class SandboxRuntime:
    """Implements `Runtime` with namespaces."""

    def __init__(self, settings: Settings, *, fork_server_idle_seconds: float = 120.0) -> None:
        self._settings = settings
        self._idle_seconds = fork_server_idle_seconds
        self._records = Records(settings.run)
        self._spawner = SpawnerLink(settings.run / spawner.SOCKET)
        self._holder = HolderLink(settings.run / network.SOCKET)
        self._isolation: Isolation | None = None
        self._handlers: list[Callable[[ContainerState], None]] = []
        self._states: dict[tuple[str, str], ContainerState] = {}
        self._reported: set[tuple[str, str]] = set()
        self._watched: dict[tuple[str, str], _Watch] = {}
        self._pods: dict[str, PodSandbox] = {}
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._launching = asyncio.Lock()
        self._tidying: set[asyncio.Task[None]] = set()
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
        for folder in (self._settings.run, self._records.pods):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
        for folder in (self._settings.logs, self._settings.cache):
            folder.mkdir(parents=True, exist_ok=True)
        self._hidden, self._exposed = visible.hidden(self._settings), visible.exposed(self._settings)
        try:
            hello = await self._ask("hello")
            await self._ask("network")
            await self._probe()
        except (StartFailed, OSError) as error:
            raise RuntimeUnavailable(diagnosis.explain(str(error), facts)) from error
        limits = hello["limits"]
        notes: tuple[str, ...] = ("isolates from accidents of one trusted team, not from hostile tenants",)
        if limits == WATCHDOG:
            notes += ("no cgroup can be had: memory limits are checked once a second",)
        self._isolation = Isolation("sandbox", rootless=not facts.root, network=True, limits=limits, notes=notes)
        for uid in self._records.all_pods():
            pod = self._records.read_pod(uid)
            if pod is not None:
                self._pods[uid] = pod
        self._rescan()

    async def stop(self, *, pods: bool) -> None:
        """See Runtime."""
        if pods:
            await asyncio.gather(*(self.remove_pod(uid) for uid in self._records.all_pods()))
            await self._end_helpers()
        for watch in self._watched.values():
            asyncio.get_running_loop().remove_reader(watch.fd)
            os.close(watch.fd)
        self._watched.clear()
        self._states.clear()
        self._pods.clear()
        await asyncio.gather(*self._tidying, return_exceptions=True)
        await self._spawner.close()
        self._holder.close()

    async def _end_helpers(self) -> None:
        """Ask the helper processes to end, and wait until they have."""
        watched = [fd for record in self._records.helpers() if (fd := _handle(record["pid"], record["start"])) >= 0]
        try:
            with contextlib.suppress(HelperGone):
                await self._spawner.call("shutdown", network=True)
            async with asyncio.timeout(_KILL_SECONDS):
                await asyncio.gather(*(readable(fd) for fd in watched))
        except TimeoutError:
            log.warning("the node's helper processes do not end")
        finally:
            for fd in watched:
                os.close(fd)

    async def _ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """A request to the spawner, which is started (again) when it is not there. Raises StartFailed."""
        for attempt in range(_ATTEMPTS):
            try:
                await self._connect()
                reply = await self._spawner.call(op, **fields)
            except HelperGone:
                if attempt == _ATTEMPTS - 1:
                    raise
                log.warning("the node's spawner went away; starting it again")
                continue
            if "error" in reply:
                raise StartFailed(reply["error"])
            return reply
        raise AssertionError

    async def _connect(self) -> None:
        async with self._launching:
            if self._spawner.connected:
                return
            version = _version()
            for _ in range(_ATTEMPTS):
                with contextlib.suppress(OSError):
                    await self._spawner.connect()
                    hello = await self._spawner.call("hello")
                    if hello["version"] == version:
                        return
                    log.info("replacing a spawner of another version")
                    with contextlib.suppress(HelperGone):
                        await self._spawner.call("shutdown", network=False)
                    await self._spawner.close()
                await asyncio.to_thread(self._launch, version)
            raise HelperGone("the spawner does not answer")

    def _launch(self, version: str) -> None:
        """Start the spawner; it answers when this returns."""
        config = {
            "version": version,
            "cgroup": "headrace-" + hashlib.sha256(str(self._settings.home).encode()).hexdigest()[:12],
            "idle_seconds": self._idle_seconds,
            "network": {
                "node_ip": self._settings.node_ip,
                "pod_cidr": self._settings.pod_cidr,
                "service_cidr": self._settings.service_cidr,
            },
        }
        program = str(Path(spawner.__file__).parent)
        command = [sys.executable, "-I", "-S", "-X", "utf8", program, str(self._settings.run), json.dumps(config)]
        path = self._settings.logs / "spawner.log"
        with path.open("ab") as output:
            before = output.tell()
            try:
                code = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd="/",
                    env={"PATH": os.environ.get("PATH", os.defpath)},
                    timeout=_LAUNCH_SECONDS,
                    check=False,
                ).returncode
            except (OSError, subprocess.TimeoutExpired) as error:
                raise HelperGone(f"the spawner could not be started: {error}") from error
        if code not in {0, spawner.ALREADY_RUNNING}:
            with path.open("rb") as written:
                written.seek(before)
                text = written.read().decode(errors="replace").strip()
            raise HelperGone(f"the spawner ended with code {code}: {text or 'it said nothing'}")

    async def _probe(self) -> None:
        """Make a whole pod that runs nothing."""
        pod = PodSandbox(_PROBE, "", "", "probe", _last_address(self._settings.pod_cidr))
        await self._remove(_PROBE)
        await self.create_pod(pod)
        try:
            await self._ask("start", spec=self._request(_probe_spec(self._settings), pod))
        finally:
            await self._remove(_PROBE)

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
                "hosts": podfiles.hosts(pod, _read("/etc/hosts")),
                "resolv.conf": podfiles.resolv_conf(pod, self._settings.node_ip, _read("/etc/resolv.conf")),
                "hostname": pod.hostname + "\n",
            }
            if self._pods.get(pod.uid) != pod:
                self._records.write_pod(pod, files)
                self._pods[pod.uid] = pod
            if not pod.host_network:
                await self._hold("pod", uid=pod.uid, ip=pod.ip)

    async def _hold(self, op: str, **fields: Any) -> tuple[dict[str, Any], list[int]]:
        """A request to the network holder, which the spawner starts again when it is not there."""
        for _ in range(_ATTEMPTS):
            try:
                return await self._holder.call(op, **fields)
            except HelperGone:
                await self._ask("network")
        return await self._holder.call(op, **fields)

    async def remove_pod(self, uid: str) -> None:
        """See Runtime."""
        async with self._lock(uid):
            await self._remove(uid)

    async def _remove(self, uid: str) -> None:
        self._rescan(uid)
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
        if pod is not None and not pod.host_network:
            await self._hold("drop", uid=uid)
        for key in mine:
            self._states.pop(key, None)
            self._reported.discard(key)
        await asyncio.to_thread(remove_tree, str(self._records.pod_folder(uid)))

    # -- containers ---------------------------------------------------------------------------------------------

    def on_exit(self, handler: Callable[[ContainerState], None]) -> None:
        """See Runtime."""
        self._handlers.append(handler)
        for state in self._states.values():
            if state.phase is ContainerPhase.EXITED:
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
            reply = await self._ask("start", spec=self._request(spec, pod))
            return self._learn(key, reply["state"])

    def _request(self, spec: ContainerSpec, pod: PodSandbox) -> dict[str, Any]:
        """The spawner's form of a specification."""
        folder = self._records.pod_folder(pod.uid)
        taken = {mount.target.rstrip("/") for mount in spec.mounts}
        mounts = [
            {
                "target": mount.target,
                "source": str(mount.source) if mount.source is not None else "",
                "kind": mount.kind,
                "read_only": mount.read_only,
                "size": mount.size_bytes,
            }
            for mount in spec.mounts
        ]
        mounts += [
            {"target": f"/etc/{name}", "source": str(folder / name), "kind": "bind", "read_only": False, "size": None}
            for name in ("hosts", "resolv.conf", "hostname")
            if f"/etc/{name}" not in taken
        ]
        env = dict(spec.env)
        if spec.cpus is not None:
            env.setdefault("OMP_NUM_THREADS", str(max(1, -int(-spec.cpus // 1))))
        return {
            "pod": pod.uid,
            "container": spec.id,
            "dir": str(self._records.container_folder(pod.uid, spec.id)),
            "cgroup": f"{pod.uid}-{spec.id}",
            "hostname": pod.hostname,
            "host_network": pod.host_network,
            "argv": list(spec.argv),
            "env": env,
            "cwd": spec.cwd or "/",
            "log": str(spec.log_path),
            "mounts": mounts,
            "uid": spec.uid,
            "gid": spec.gid,
            "read_only_root": spec.read_only_root,
            "writable": list(spec.writable),
            "memory": spec.memory_bytes,
            "cpus": spec.cpus,
            "warm": None if spec.warm is None else dataclasses.asdict(spec.warm),
            "hide": self._hidden,
            "expose": [*self._exposed, *(p for p in visible.interpreters(spec) if p not in self._exposed)],
        }

    def _rescan(self, pod_uid: str | None = None) -> None:
        """Learn of containers on disk that are not known yet."""
        for uid in self._records.all_pods() if pod_uid is None else [pod_uid]:
            for name, started in self._records.started(uid):
                if (uid, name) not in self._states:
                    self._learn((uid, name), started)

    def _learn(self, key: tuple[str, str], started: dict[str, Any]) -> ContainerState:
        """Know a container, and watch it while it runs."""
        state = self._states[key] = self._records.state(*key, started)
        if state.phase is ContainerPhase.EXITED:
            self._report(state)
            return state
        fd = _handle(started["supervisor"], started["supervisor_start"])
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
        left = [str(path) for path in self._records.leftovers(*key)]
        if left:
            task = asyncio.create_task(asyncio.to_thread(_remove_trees, left))
            self._tidying.add(task)
            task.add_done_callback(self._tidying.discard)
        if state.pod_uid == _PROBE or key in self._reported:
            return
        self._reported.add(key)
        for handler in self._handlers:
            asyncio.get_running_loop().call_soon(handler, state)

    async def kill(self, pod_uid: str, container_id: str, signal: int) -> None:  # the protocol's name
        """See Runtime."""
        self._signal((pod_uid, container_id), signal)

    def _signal(self, key: tuple[str, str], number: int) -> None:
        watch = self._watched.get(key)
        if watch is None:
            return
        handle = _handle(watch.started["pid"], watch.started["pid_start"])
        if handle >= 0:
            try:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, number)
            finally:
                os.close(handle)

    async def containers(self) -> list[ContainerState]:
        """See Runtime."""
        self._rescan()
        return list(self._states.values())

    async def exec(
        self, pod_uid: str, container_id: str, argv: tuple[str, ...], *, timeout: float | None = None
    ) -> ExecResult:
        """See Runtime. A program that cannot be executed gives 126 or 127 and says why in the output."""
        await self._connect()
        output = bytearray()
        folder = str(self._records.container_folder(pod_uid, container_id))
        stream = self._spawner.stream("exec", dir=folder, argv=list(argv), timeout=timeout)
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

    # -- network ------------------------------------------------------------------------------------------------

    def socket(self, kind: int = socket.SOCK_STREAM) -> _Socket:
        """An unconnected non-blocking IPv4 socket inside the pod network, for socket factories."""
        _, fds = self._holder.call_now("socket", kind=int(kind))
        return _socket_of(fds)

    async def dial(self, ip: str, port: int) -> _Socket:
        """See Runtime."""
        _, fds = await self._hold("socket", kind=int(socket.SOCK_STREAM))
        sock = _socket_of(fds)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (ip, port))
        except BaseException:
            sock.close()
            raise
        return sock

    async def listen(self, ip: str, port: int, kind: int) -> _Socket:
        """See Runtime."""
        _, fds = await self._hold("listen", ip=ip, port=port, kind=int(kind))
        return _socket_of(fds)


def _handle(pid: int, started: int) -> int:
    """A descriptor of exactly this process; -1 when it has ended, whoever has its number now."""
    try:
        fd = linux.pidfd_open(pid)
    except ProcessLookupError:
        return -1
    if linux.start_time(pid) == started:
        return fd
    os.close(fd)
    return -1


def _remove_trees(paths: list[str]) -> None:
    for path in paths:
        remove_tree(path)


class _Watch:
    """A running container, by a descriptor of its supervisor."""

    def __init__(self, fd: int, started: dict[str, Any]) -> None:
        self.fd, self.started = fd, started
        self.ended = asyncio.Event()


def _socket_of(fds: list[int]) -> socket.socket:
    sock = socket.socket(fileno=fds[0])
    sock.setblocking(False)
    return sock


def _version() -> str:
    """Which code the helpers must run: a spawner of an older version is replaced, its containers stay."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(Path(spawner.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _last_address(cidr: str) -> str:
    import ipaddress  # noqa: PLC0415 - costs a megabyte, needed once

    return str(ipaddress.ip_network(cidr).broadcast_address - 1)


def _probe_spec(settings: Settings) -> ContainerSpec:
    from headrace.node.runtime.base import ContainerSpec  # noqa: PLC0415 - a type everywhere else

    return ContainerSpec("probe", _PROBE, argv=(), env={}, log_path=settings.logs / "probe.log")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
