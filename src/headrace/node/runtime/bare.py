"""Pods as plain processes, for machines that refuse namespaces: a locked-down Linux, a container without privileges.

A pod's containers run as this user and see the machine as it is. What the `sandbox` mode does with mounts is done with
names here: each container has a folder of its own that holds a link for every mount, and the paths of mounts, and
/tmp, are rewritten in its command line and its variables (see `rewriting`). Pods still have addresses of their own
(see `sandboxd.redirect`), so that services and names work as they do elsewhere. What cannot be given, another user, a
read-only root, a size for a volume in memory, is refused when the container starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import hashlib
import json
import logging
import os
import re
import shutil
import signal
import socket
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.node.runtime import rewriting, usage, visible
from headrace.node.runtime.base import ContainerSpec, Isolation, RuntimeUnavailable, StartFailed
from headrace.node.runtime.helpers import process_handle
from headrace.node.runtime.layer import layered, tell
from headrace.node.runtime.links import readable
from headrace.node.runtime.request import start_request
from headrace.node.runtime.sandbox import PROBE, SandboxRuntime, internal
from headrace.node.runtime.sandboxd import limits, redirect, wire
from headrace.node.runtime.sandboxd.supervisor import STATE

if TYPE_CHECKING:
    from headrace.machinery.settings import Settings
    from headrace.node.runtime.base import ContainerState, ExecResult, Mount, PodSandbox, Usage
    from headrace.node.runtime.session import ProcessSession

log = logging.getLogger(__name__)

MARK = "HEADRACE_CONTAINER"
"""Tells a container's processes from all others."""
NUMBER = "network-number"
_CLAIM_PORT = 40000
_PROBE_SECONDS = 30.0
_PYTHON = os.path.realpath(sys.executable)
_Socket = socket.socket
_BACKLOG = 512
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the machine's own serves every pod
_DEFAULT_HOMES = frozenset({"", "/root", "/home/user"})
NOTES: tuple[str, ...] = (
    "pods are plain processes of this user: they see the machine's files and processes, and the platform's own",
    "volumes that are mounted read-only can be written to",
    "programs that are not in Python find volumes only by paths in their command line and variables",
)


class BareRuntime(SandboxRuntime):
    """Implements `Runtime` without namespaces."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._number = 0
        self._claim: socket.socket | None = None

    # -- life cycle ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """See Runtime."""
        if not sys.platform.startswith("linux"):
            raise RuntimeUnavailable(
                "Pods as plain processes need Linux so far: run the platform in a virtual machine."
            )
        self._make_folders()
        try:
            self._number = self._choose_number()
            hello = await self._helpers.ask("hello")
            await self._probe()
        except (StartFailed, OSError) as error:
            await self.stop(pods=False)
            raise RuntimeUnavailable(
                f"This machine cannot run pods as plain processes ({error}). The kernel must be 5.6 or newer, and a "
                "container around the platform must let it use seccomp and look into its own children's memory."
            ) from error
        notes = NOTES
        if hello["limits"] == limits.WATCHDOG:
            notes += ("no cgroup can be had: memory limits are checked once a second",)
        self._isolation = Isolation("bare", os.getuid() != 0, network=True, limits=hello["limits"], notes=notes)
        self._remember_pods()

    async def stop(self, *, pods: bool) -> None:
        """See Runtime."""
        await super().stop(pods=pods)
        if self._claim is not None:
            self._claim.close()
            self._claim = None
        if pods:
            with contextlib.suppress(OSError):
                (self._settings.run / NUMBER).unlink()

    def _choose_number(self) -> int:
        """The second number of the pods' loopback addresses: what this home had, else one that nobody has."""
        note = self._settings.run / NUMBER
        with contextlib.suppress(OSError, ValueError):
            number = int(note.read_text())
            self._claim = _claimed(number)
            return number
        digest = hashlib.sha256(str(self._settings.home).encode()).digest()
        for number in (1 + (digest[0] + step) % 254 for step in range(254)):
            try:
                self._claim = _claimed(number)
            except OSError:
                continue
            note.write_text(str(number))
            return number
        raise OSError(errno.EADDRINUSE, "every network below 127.0.0.0/8 is in use")

    async def _probe(self) -> None:
        """A program that listens on the usual port everywhere must find itself at its pod's address."""
        pod = self._probe_pod()
        question = "import socket; s = socket.socket(); s.bind(('0.0.0.0', 8080)); print(s.getsockname()[0])"
        output = self._settings.run / "probe.log"
        output.unlink(missing_ok=True)
        await self._remove(PROBE)
        await self.create_pod(pod)
        try:
            argv = (_PYTHON, "-I", "-S", "-c", question)
            spec = ContainerSpec("probe", PROBE, argv, {}, output)
            started = (await self._helpers.ask("start", spec=self._request(spec, pod)))["state"]
            handle = process_handle(started["supervisor"], started["supervisor_start"])
            if handle >= 0:
                try:
                    async with asyncio.timeout(_PROBE_SECONDS):
                        await readable(handle)
                finally:
                    os.close(handle)
            said = output.read_text(encoding="utf-8", errors="replace")
            if self._local(pod.ip) not in said:
                raise OSError(errno.EPERM, f"its processes' addresses cannot be changed: {said.strip()[-300:]}")
        except TimeoutError:
            raise OSError(errno.ETIMEDOUT, "a process whose address was to be changed hangs") from None
        finally:
            await self._remove(PROBE)
            output.unlink(missing_ok=True)

    # -- pods ---------------------------------------------------------------------------------------------------

    async def _make_network(self, pod: PodSandbox) -> None:
        unknown = [name for ip, names in pod.host_aliases if ip != pod.ip for name in names]
        if unknown:
            raise StartFailed(f"hostAliases ({', '.join(unknown)}) need a file /etc/hosts of the pod's own: {_INSTEAD}")
        if pod.nameservers and not pod.host_network:
            raise StartFailed(f"bare mode has the platform's name server only (dnsPolicy, dnsConfig): {_INSTEAD}")

    async def _drop_network(self, pod: PodSandbox) -> None:
        await asyncio.to_thread(self._clean_up, self._records.pod_folder(pod.uid))

    def _clean_up(self, folder: Path) -> None:
        self._end_processes(f"{folder}/")
        for container in (folder / "containers").iterdir():
            _remove(_temporary(container))

    def _end_processes(self, prefix: str) -> None:
        """Kill the processes whose mark begins like this: what has left its container's tree, as it may when a
        supervisor is killed itself.
        """
        marked = os.fsencode(f"{MARK}={prefix}")
        for name in os.listdir("/proc"):  # noqa: PTH208 - paths as objects would be the greater part of the cost
            if not name.isdigit():
                continue
            with contextlib.suppress(OSError):
                environ = Path("/proc", name, "environ").read_bytes()
                if environ.startswith(marked) or b"\0" + marked in environ:
                    os.kill(int(name), signal.SIGKILL)

    def _report(self, state: ContainerState) -> None:
        super()._report(state)
        folder = self._records.container_folder(state.pod_uid, state.id)
        self._tidy(asyncio.to_thread, self._end_processes, f"{folder}\0")  # all of its name: main-1 is not main-10
        self._tidy(asyncio.to_thread, _remove, _temporary(folder))

    # -- containers ---------------------------------------------------------------------------------------------

    async def _joined(self, spec: ContainerSpec, pod: PodSandbox) -> dict[str, Any] | None:
        """Every process is seen by all."""
        del spec, pod
        return None

    def _request(self, spec: ContainerSpec, pod: PodSandbox, joins: dict[str, Any] | None = None) -> dict[str, Any]:
        """Raises StartFailed for what this mode cannot give."""
        del joins
        problem = refusal(spec, os.getuid(), os.getgid())
        if problem:
            raise StartFailed(problem)
        folder = self._records.container_folder(pod.uid, spec.id)
        if (folder / STATE).exists():  # it was started, and only the answer got lost
            return {**start_request(spec, pod, folder.parent.parent, hidden=[], exposed=[]), "bare": None}
        try:
            temporary = _make_temporary(folder)
            moves = {**self._fixed(), **_furnish(spec, folder, temporary)}
        except OSError as error:
            raise StartFailed(f"the container's folder cannot be made: {error}") from error
        env = self._variables(spec, pod, folder, temporary, moves)
        cwd = rewriting.rewrite(spec.cwd, moves) if spec.cwd not in {"", "/"} else str(folder / "root")
        changed = dataclasses.replace(
            spec,
            argv=tuple(rewriting.rewrite(word, moves) for word in spec.argv),
            env=env,
            cwd=cwd,
            mounts=(),
            writable=(),
            warm=None,
            uid=None,
            gid=None if spec.gid == os.getgid() else spec.gid,
        )
        if not Path(changed.cwd).is_dir():
            made = folder / "root" / changed.cwd.lstrip("/")
            made.mkdir(parents=True, exist_ok=True)
            changed = dataclasses.replace(changed, cwd=str(made))
        layers = folder / "layers"
        volumes = {path: place for path, place in moves.items() if not place.startswith(f"{layers}/")}
        for layer in layers.glob("*"):
            tell(layer, volumes)
        request = start_request(changed, pod, folder.parent.parent, hidden=[], exposed=[])
        settings = self._settings
        request["bare"] = {
            "ip": "" if pod.host_network else pod.ip,
            "number": self._number,
            "networks": [settings.pod_cidr, settings.service_cidr],
            "node": settings.node_ip,
            "moves": moves,
        }
        return request

    def _variables(
        self, spec: ContainerSpec, pod: PodSandbox, folder: Path, temporary: Path, moves: dict[str, str]
    ) -> dict[str, str]:
        env = {name: rewriting.rewrite(value, moves) for name, value in spec.env.items()}
        if spec.env.get("HOME", "") in _DEFAULT_HOMES:
            env["HOME"] = str(folder / "root" / "home")
        for layer in spec.layers:
            if len(layer.sources) > 1 and "PATH" in env:  # its programs are beside those of the machine
                beside = f"{folder}/root{layer.target}"
                env["PATH"] = re.sub(rf"(^|:)({re.escape(layer.target)})(?=:|$)", rf"\1{beside}:\2", env["PATH"])
        env.setdefault("TMPDIR", str(temporary))
        if pod.dns_search and not pod.host_network:
            # What /etc/resolv.conf says in other modes, in the form of variables.
            env.setdefault("LOCALDOMAIN", " ".join(pod.dns_search))
            env.setdefault("RES_OPTIONS", " ".join(pod.dns_options))
        return {
            MARK: f"{folder}",
            "HEADRACE_SCRATCH": str(folder / "root"),
            "HEADRACE_MOVES": json.dumps(moves),
            **env,
        }

    def _fixed(self) -> dict[str, str]:
        """What a container is told by its real path stays there, also where /tmp is another folder for it."""
        real = [*visible.exposed(self._settings), str(self._settings.home)]
        return {path: path for path in real if path.startswith(("/tmp/", "/var/tmp/"))}  # noqa: S108 - no file is made

    async def exec(
        self, pod_uid: str, container_id: str, argv: tuple[str, ...], *, timeout: float | None = None
    ) -> ExecResult:
        """See Runtime."""
        return await super().exec(pod_uid, container_id, self._rewritten(pod_uid, container_id, argv), timeout=timeout)

    async def open_session(
        self, pod_uid: str, container_id: str, argv: tuple[str, ...], *, stdin: bool, tty: bool
    ) -> ProcessSession:
        """See Runtime."""
        words = self._rewritten(pod_uid, container_id, argv)
        return await super().open_session(pod_uid, container_id, words, stdin=stdin, tty=tty)

    def _rewritten(self, pod_uid: str, container_id: str, argv: tuple[str, ...]) -> tuple[str, ...]:
        started = wire.read_file(str(self._records.container_folder(pod_uid, container_id) / STATE)) or {}
        moves = (started.get("bare") or {}).get("moves", {})
        return tuple(rewriting.rewrite(word, moves) for word in argv)

    async def usage(self) -> list[Usage]:
        """See Runtime."""
        running = {key: watch.started["pid"] for key, watch in self._watched.items() if not internal(key)}
        return await asyncio.to_thread(usage.of_trees, running)

    # -- network ------------------------------------------------------------------------------------------------

    def _local(self, ip: str) -> str:
        return socket.inet_ntoa(redirect.local(socket.inet_aton(ip), self._number))

    def socket(self, kind: int = socket.SOCK_STREAM) -> _Socket:
        """A socket of the machine's own; connect it to what `dial` would."""
        made = socket.socket(socket.AF_INET, kind)
        made.setblocking(False)
        return made

    async def dial(self, ip: str, port: int) -> _Socket:
        """See Runtime."""
        sock = self.socket()
        try:
            await asyncio.get_running_loop().sock_connect(sock, (self._local(ip), redirect.lowered(port)))
        except BaseException:
            sock.close()
            raise
        return sock

    async def listen(self, ip: str, port: int, kind: int) -> _Socket:
        """See Runtime."""
        sock = self.socket(kind)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self._local(ip), redirect.lowered(port)))
            if kind == socket.SOCK_STREAM:
                sock.listen(_BACKLOG)
        except OSError:
            sock.close()
            raise
        return sock


_INSTEAD = "run the platform where namespaces are allowed (headrace doctor says what is missing)"


def refusal(spec: ContainerSpec, uid: int, gid: int) -> str:
    """Why this mode cannot run a container, in a sentence; empty when it can."""
    if spec.uid is not None and spec.uid != uid:
        return f"bare mode runs every container as user {uid}, not as {spec.uid} (runAsUser, runAsNonRoot): {_INSTEAD}"
    if spec.gid is not None and spec.gid != gid and uid != 0:
        return f"bare mode runs every container in group {gid}, not in {spec.gid} (runAsGroup, fsGroup): {_INSTEAD}"
    if spec.capabilities and uid != 0:
        return f"bare mode gives an ordinary user no capabilities ({', '.join(spec.capabilities)}): {_INSTEAD}"
    if spec.joins:
        return f"bare mode cannot tie a container to another one's processes (targetContainerName): {_INSTEAD}"
    if spec.read_only_root:
        return f"bare mode cannot make the root read-only (readOnlyRootFilesystem): {_INSTEAD}"
    targets: list[str] = []
    for mount in sorted(spec.mounts, key=lambda m: m.target):
        target = mount.target.rstrip("/")
        if not target:
            return f"bare mode cannot mount a volume at /: {_INSTEAD}"
        outer = next((t for t in targets if target == t or target.startswith(t + "/")), None)
        if outer is not None:
            return f"bare mode cannot mount {target} inside the volume at {outer}: mount it beside that one"
        if mount.kind == "tmpfs" and mount.size_bytes is not None:
            return f"bare mode cannot bound the volume in memory at {target} (sizeLimit): leave the limit out"
        if mount.source is not None and not mount.source.exists():
            return f"mount {target}: {mount.source} does not exist on the node"
        targets.append(target)
    return ""


def _furnish(spec: ContainerSpec, folder: Path, temporary: Path) -> dict[str, str]:
    """Make the container's own folder with a link for each mount; where each path that it knows really lies."""
    root = folder / "root"
    (root / "home").mkdir(parents=True, exist_ok=True)
    moves: dict[str, str] = {}
    for mount in spec.mounts:
        if mount.target.rstrip("/") in {_SHARED_MEMORY, str(mount.source)}:
            continue  # it is there already
        place = root / mount.target.strip("/")
        _link(place, _source(mount, folder))
        moves[mount.target.rstrip("/")] = str(place)
    for name in ("tmp", "var/tmp"):
        if f"/{name}" not in moves:
            _link(root / name, temporary)
            moves[f"/{name}"] = str(temporary)
    moves[str(temporary)] = str(temporary)
    for image in spec.layers:
        place = root / image.target.strip("/")
        shutil.copytree(image.sources[0], place, symlinks=True, dirs_exist_ok=True)
        if len(image.sources) == 1:
            moves[image.target] = str(place)
        else:  # the machine has this folder too: only what is the image's own lies elsewhere
            own = (file.relative_to(place) for file in place.rglob("*") if not file.is_dir())
            moves |= {f"{image.target}/{file}": f"{place}/{file}" for file in own}
    for index, path in enumerate(spec.writable):
        layer = folder / "layers" / str(index)
        moves[path.rstrip("/")] = str(layer)
        if not layer.exists():
            layered(Path(path), layer)
    return moves


def _source(mount: Mount, folder: Path) -> Path:
    if mount.source is not None:
        return mount.source
    made = folder / "scratch" / hashlib.sha256(mount.target.encode()).hexdigest()[:12]
    made.mkdir(parents=True, exist_ok=True)
    return made


def _link(place: Path, target: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.is_symlink():
        place.symlink_to(target)


def _temporary(folder: Path) -> Path:
    """Where the container's temporary files lie: sockets are made there, whose paths must be short."""
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir(), f"headrace-{os.getuid()}", name)


def _make_temporary(folder: Path) -> Path:
    """Make it; where somebody else has its name, another one, however long its path is."""
    made = _temporary(folder)
    base = made.parent
    try:
        base.mkdir(mode=0o700, exist_ok=True)
        found = base.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o077:
            made.mkdir(mode=0o700, exist_ok=True)
            return made
    except OSError:
        log.debug("%s cannot be used for temporary files", base)
    instead = folder / "scratch" / "tmp"
    instead.mkdir(parents=True, exist_ok=True)
    return instead


def _remove(folder: Path) -> None:
    """Remove a folder for temporary files, and the one above it when it was the last."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()


def _claimed(number: int) -> socket.socket:
    """A socket that nobody else can have: whose it is, has the network."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.bind((f"127.{number}.255.254", _CLAIM_PORT))
    except OSError:
        made.close()
        raise
    return made
