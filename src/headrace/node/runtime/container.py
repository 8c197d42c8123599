"""Containers from real images, by podman, inside the pods of the sandbox.

A pod's network, names and addresses are those of the sandbox: each container joins the pod's network namespace, so that
containers of both kinds may share a pod. A supervisor watches `podman run` as it watches any other first process; logs,
exit codes, input and adoption are therefore the sandbox's own. A container of podman's that is left over, because its
supervisor was killed, is removed by its name or by the label of its pod.
"""

from __future__ import annotations

import asyncio
import csv
import dataclasses
import io
import re
import signal
import stat
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.node.runtime import engines
from headrace.node.runtime.base import RuntimeUnavailable, StartFailed
from headrace.node.runtime.engines import EngineUnavailable
from headrace.node.runtime.helpers import send_signal
from headrace.node.runtime.request import start_request
from headrace.node.runtime.sandbox import SandboxRuntime
from headrace.node.runtime.sandboxd.engine import NETWORK

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from headrace.machinery.settings import Settings
    from headrace.node.runtime.base import ContainerSpec, ContainerState, PodSandbox
    from headrace.node.runtime.engines import Engines

POD_LABEL, HOME_LABEL = "headrace.dev/pod", "headrace.dev/home"
_CANNOT_EXECUTE = re.compile(r'(exec: "[^"]*": .*?)(?:: unknown|: OCI [^:]*)*$', re.MULTILINE)
_OOM_SCORE = 500
_READ_BY_PODMAN = ("PATH", "HOME", "TMPDIR", "USER", "LOGNAME", "LANG", "SHELL", "TERM", "TZ", "NOTIFY_SOCKET")
_READ_PREFIXES = (
    "XDG_",
    "CONTAINER",
    "DOCKER",
    "REGISTRY",
    "STORAGE",
    "PODMAN",
    "BUILDAH",
    "NETAVARK",
    "DBUS_",
    "HTTP",
    "http",
    "NO_PROXY",
    "no_proxy",
    "SSL_",
    "LISTEN_",
    "LD_",
    "LC_",
    "GO",
    "GLIBC_",
    "MALLOC_",
    "_",
)
"""Variables that mean something to podman itself, or to what it is made of."""


class EngineRuntime(SandboxRuntime):
    """The sandbox, which also runs what names a real image."""

    def __init__(self, settings: Settings, found: Engines | None = None, **options: Any) -> None:
        super().__init__(settings, **options)
        self._engines = found or engines.Engines()
        self._by_engine: dict[tuple[str, str], dict[str, Any]] = {}
        """The containers that podman runs, with what their supervisors wrote of their start."""

    async def start(self) -> None:
        """See Runtime. The engine is not tried: that takes a second, and most homes never want one."""
        await super().start()
        said = engines.hopeless() or "podman is installed: an image that nothing here stands for runs by it, as it is"
        self._isolation = dataclasses.replace(self.isolation, images=said)

    async def start_container(self, spec: ContainerSpec) -> ContainerState:
        """See Runtime."""
        if spec.image:
            pod = self._pods.get(spec.pod_uid)
            problem = refusal(spec, pod) if pod is not None else ""
            if problem:
                raise StartFailed(problem)
            try:
                await self._engines.ready()
            except EngineUnavailable as error:
                raise StartFailed(str(error)) from error
            try:
                return await super().start_container(spec)
            except StartFailed as error:
                await self._discard(container_name(spec.pod_uid, spec.id))
                raise StartFailed(plainly(str(error))) from error
        return await super().start_container(spec)

    def _request(self, spec: ContainerSpec, pod: PodSandbox, joins: dict[str, Any] | None = None) -> dict[str, Any]:
        engine = self._engines.found
        if not spec.image or engine is None:
            return super()._request(spec, pod, joins)
        folder = self._records.container_folder(pod.uid, spec.id)
        request = start_request(spec, pod, folder.parent.parent, hidden=[], exposed=[])
        name = container_name(pod.uid, spec.id)
        pidfile = folder / "pid"
        passed, plain = split_env(request["env"])
        words = run_words(spec, pod, request["mounts"], passed=passed, plain=plain)
        home = f"--label={HOME_LABEL}={self._settings.home}"
        identity = [f"--name={name}", f"--pidfile={pidfile}", f"--label={POD_LABEL}={pod.uid}", home]
        request["cpus"], request["warm"] = None, None
        request["engine"] = {
            "argv": [engine.program, "run", "--replace", *identity, *engine.options, *words],
            "env": {**passed, **engine.env},
            "pidfile": str(pidfile),
        }
        return request

    def _learn(self, key: tuple[str, str], started: dict[str, Any]) -> ContainerState:
        if started.get("engine"):
            self._by_engine[key] = started
        return super()._learn(key, started)

    def _forget(self, key: tuple[str, str]) -> None:
        super()._forget(key)
        self._by_engine.pop(key, None)

    def _report(self, state: ContainerState) -> None:
        started = self._by_engine.get((state.pod_uid, state.id))
        if started is not None:
            # Only a supervisor that was killed leaves something that runs.
            send_signal(started["pid"], started["pid_start"], signal.SIGKILL)
            task = asyncio.create_task(self._discard(container_name(state.pod_uid, state.id)))
            self._tidying.add(task)
            task.add_done_callback(self._tidying.discard)
        super()._report(state)

    async def _discard(self, name: str) -> None:
        engine = self._engines.found or engines.untried()
        await engines.run(engine, "rm", "--force", "--ignore", "--time=0", name)

    async def _remove_known(self, uid: str) -> None:
        by_engine = [name for pod, name in self._by_engine if pod == uid]
        await super()._remove_known(uid)
        if by_engine:
            await asyncio.gather(*(self._discard(container_name(uid, name)) for name in by_engine))


class ContainerRuntime(EngineRuntime):
    """Implements `Runtime` where somebody wants real images first: without an engine it does not start."""

    async def start(self) -> None:
        """See Runtime."""
        try:
            engine = await self._engines.ready()
        except EngineUnavailable as error:
            raise RuntimeUnavailable(str(error)) from error
        await super().start()
        told = f" ({' '.join(engine.options)})" if engine.options else ""
        said = f"images that podman has{told} run as they are, all others as local environments"
        self._isolation = dataclasses.replace(self.isolation, mode="container", images=said)


def container_name(pod_uid: str, identity: str) -> str:
    """A container as podman knows it."""
    return f"headrace-{pod_uid}-{identity}"


def refusal(spec: ContainerSpec, pod: PodSandbox) -> str:
    """Why podman cannot be asked for this, in a sentence; empty when it can."""
    instead = f'image "{spec.image}" runs by podman'
    if pod.share_processes:
        return f"{instead}, whose processes other containers cannot see: leave shareProcessNamespace out"
    if spec.joins:
        return f"{instead}, which cannot join another container's processes: leave targetContainerName out"
    devices = [mount.target for mount in spec.mounts if mount.source is not None and _is_device(mount.source)]
    if devices:
        return f"{instead}, which is not given device files ({', '.join(devices)}): use an image of the catalogue"
    if spec.layers or spec.writable or spec.warm is not None:
        return f"{instead}, which cannot be laid over the machine's files"
    return ""


def _is_device(path: Path) -> bool:
    try:
        kind = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISCHR(kind) or stat.S_ISBLK(kind)


def plainly(problem: str) -> str:
    """What podman says of a program that cannot be executed, in the words of all other modes."""
    found = _CANNOT_EXECUTE.search(problem)
    return found[1] if found is not None else engines.sentence(problem)


def split_env(env: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The variables that podman may take from its own environment, where nobody else can read them; and those that
    would mean something to podman itself, or that no environment can hold.
    """
    passed = {
        name: value
        for name, value in env.items()
        if name not in _READ_BY_PODMAN and not name.startswith(_READ_PREFIXES) and "*" not in name
    }
    return passed, {name: value for name, value in env.items() if name not in passed}


def run_words(
    spec: ContainerSpec,
    pod: PodSandbox,
    mounts: Iterable[dict[str, Any]],
    *,
    passed: dict[str, str],
    plain: dict[str, str],
) -> list[str]:
    """What follows `podman run` and says what the container is. Pure."""
    words = ["--log-driver=none", "--pull=never", "--no-hosts", "--http-proxy=false", "--pids-limit=-1"]
    words += [f"--network={'host' if pod.host_network else f'ns:{NETWORK}'}"]
    words += [] if pod.host_network else [f"--hostname={pod.hostname}"]
    words += ["--security-opt=no-new-privileges", "--cap-drop=all", *(f"--cap-add={c}" for c in spec.capabilities)]
    words += [f"--oom-score-adj={_OOM_SCORE}", "--attach=stdout", "--attach=stderr"]
    if spec.stdin:
        words += ["--attach=stdin", "--interactive"]
    if spec.tty:
        words.append("--tty")
    if spec.uid is not None or spec.gid is not None:
        words.append(f"--user={spec.uid or 0}{'' if spec.gid is None else f':{spec.gid}'}")
    words += [f"--group-add={group}" for group in spec.groups]
    if spec.cwd not in {"", "/"}:
        words.append(f"--workdir={spec.cwd}")
    if spec.read_only_root:
        words += ["--read-only", "--read-only-tmpfs=false"]
    if spec.memory_bytes is not None:
        words += [f"--memory={spec.memory_bytes}b", f"--memory-swap={spec.memory_bytes}b"]
    if spec.cpus is not None:
        words.append(f"--cpus={spec.cpus:g}")
    words += [f"--env={name}" for name in passed]
    words += [f"--env={name}={value}" for name, value in plain.items()]
    words += [f"--mount={mount_words(mount)}" for mount in mounts]
    return [*words, f"--entrypoint={_list(spec.argv[:1])}", spec.image, *spec.argv[1:]]


def mount_words(mount: dict[str, Any]) -> str:
    """One mount, as a line of comma-separated values."""
    fields = [f"type={mount['kind']}", f"target={mount['target']}"]
    if mount["kind"] == "tmpfs":
        fields += ["notmpcopyup", "tmpfs-mode=1777"]
        fields += [] if mount["size"] is None else [f"tmpfs-size={mount['size']}"]
    else:
        fields.append(f"source={mount['source']}")
    if mount["read_only"]:
        fields.append("readonly=true")
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()


def _list(words: Iterable[str]) -> str:
    return _wire.encode(list(words)).decode()
