"""The runtime protocol: the one interface between the agent and whatever runs processes.

Invariants that the runtime's contract tests check:
- a started container outlives the control plane; its log and exit status are on disk when it ends, whoever
  is watching;
- `containers()` after a restart names everything that was started and not yet removed, running or exited;
- an exit is reported exactly once for each subscriber's lifetime, also when it happened while nobody watched;
- all processes of a pod are gone when `remove_pod` returns.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import datetime as dt
    import socket
    from collections.abc import Callable
    from pathlib import Path


CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
    "SYS_PTRACE",
)
"""What a container may be given: power over its own files and processes, none over the machine."""


class RuntimeUnavailable(Exception):
    """This machine cannot run this mode; the message says why and what to do."""


class StartFailed(Exception):
    """A container could not be started (no such program, a mount that fails …); the message says why."""


@dataclass(frozen=True, slots=True)
class Mount:
    """Something at a path of the container."""

    target: str
    source: Path | None = None
    """A file or directory of the host; None for tmpfs."""
    kind: Literal["bind", "tmpfs"] = "bind"
    read_only: bool = False
    size_bytes: int | None = None
    everywhere: bool = False
    """Whether nearly all containers have it, so that it may be mounted before one is asked for."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A folder of the image, writable for the container and thrown away with it."""

    target: str
    sources: tuple[Path, ...]
    """Folders of the host whose files are seen there, the first hiding those of the others."""


@dataclass(frozen=True, slots=True)
class PodSandbox:
    """What the containers of a pod share: network, hostname, /etc/hosts."""

    uid: str
    namespace: str
    name: str
    hostname: str
    ip: str
    """The address that the agent chose from the pod CIDR; ignored with host_network."""
    host_network: bool = False
    host_aliases: tuple[tuple[str, tuple[str, ...]], ...] = ()
    fqdn: str = ""
    """Its name in DNS, if it has one."""
    dns_search: tuple[str, ...] = ()
    nameservers: tuple[str, ...] = ()
    """Empty: the node's own, or the host's with host_network."""
    dns_options: tuple[str, ...] = ("ndots:5",)
    share_processes: bool = False
    """Whether its containers see each other's processes."""


@dataclass(frozen=True, slots=True)
class WarmStart:
    """The container's command is `python SCRIPT ARGS` with this interpreter, so it may be forked from a process
    that has imported `preload` already. The result must be the same as that of a fresh start.
    """

    interpreter: str
    preload: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One start of one container."""

    id: str
    """Unique for this start: `<container name>-<attempt>`; unique within the pod."""
    pod_uid: str
    argv: tuple[str, ...]
    env: dict[str, str]
    log_path: Path
    """CRI format: `<RFC3339Nano> stdout|stderr F|P <line>`."""
    image: str = ""
    """A real image that a container engine has; empty: the machine's own files."""
    cwd: str = "/"
    mounts: tuple[Mount, ...] = ()
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] = ()
    """Its process's other groups. Where pods run as an ordinary user they have that user's rights whatever they say."""
    capabilities: tuple[str, ...] = ()
    """What its process may do when it is uid 0, such as CHOWN; see CAPABILITIES."""
    filtered: bool = False
    """Whether system calls that manage the machine are refused, as by a container engine's default profile."""
    joins: str = ""
    """The running container of the same pod whose processes it sees, and with whose first process it ends."""
    read_only_root: bool = False
    writable: tuple[str, ...] = ()
    """Directories of the image that get a throw-away writable layer (overlay)."""
    layers: tuple[Layer, ...] = ()
    """Folders of the image that the host does not have, or not as the image has them."""
    memory_bytes: int | None = None
    cpus: float | None = None
    warm: WarmStart | None = None
    stdin: bool = False
    """Whether it has an input that somebody may write to later; else it reads nothing."""
    tty: bool = False
    """Whether its input and output are a terminal; its errors are output then."""


class ContainerPhase(enum.StrEnum):
    """Where a container is."""

    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class ContainerState:
    """What the runtime knows of one started container."""

    pod_uid: str
    id: str
    phase: ContainerPhase
    pid: int
    started_at: dt.datetime
    finished_at: dt.datetime | None = None
    exit_code: int = 0
    signal: int = 0
    oom_killed: bool = False
    cpu_seconds: float = 0.0
    """What its processes used from beginning to end; 0 as long as it runs."""
    peak_bytes: int = 0
    """The most memory that one of its processes held."""


@dataclass(frozen=True, slots=True)
class ExecResult:
    """How a command in a container ended."""

    exit_code: int
    output: bytes = b""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a running container has used so far, and holds now."""

    pod_uid: str
    id: str
    cpu_seconds: float
    """Since its start, of processes that still live and of those that they have waited for."""
    memory_bytes: int


class Keyboard(Protocol):
    """The input of a container that was started with `stdin`."""

    async def write(self, data: bytes) -> None:
        """To its input; dropped when it no longer reads."""
        ...

    def resize(self, columns: int, rows: int) -> None:
        """The terminal's size, if it has one."""
        ...

    def close(self) -> None:
        """Let go of it; if this was to be the only one, the container's input ends (a terminal's does not)."""
        ...


class Session(Protocol):
    """A command that runs in a container, and its input and output. Nothing is buffered but by the kernel."""

    async def read(self, stream: int) -> bytes:
        """What it writes next to 1 (stdout; a terminal's everything) or 2 (stderr); b"" at the end."""
        ...

    async def write(self, data: bytes) -> None:
        """To its input; dropped when it no longer reads."""
        ...

    def end_input(self) -> None:
        """No more input. Of a terminal: nothing, a person ends it by Ctrl-D."""
        ...

    def resize(self, columns: int, rows: int) -> None:
        """The terminal's size."""
        ...

    async def wait(self) -> int:
        """The exit code; 137 when the container has ended."""
        ...

    async def close(self) -> None:
        """Kill it with all that it has started, if it still runs, and let go of it."""
        ...


@dataclass(frozen=True, slots=True)
class Isolation:
    """What the mode gives, for `headrace doctor` and the Node's conditions."""

    mode: str
    rootless: bool
    network: bool
    limits: str
    """How memory limits are enforced: cgroup2, cgroup1, watchdog."""
    notes: tuple[str, ...] = field(default=())
    images: str = ""
    """What is to be said about a container engine, for images as they are; empty where none could be used."""


class Runtime(Protocol):
    """Runs pods. All methods are safe to call again after a crash of the caller."""

    @property
    def isolation(self) -> Isolation:
        """What this runtime gives on this machine; valid after `start`."""
        ...

    async def start(self) -> None:
        """Connect to the helper processes of this home, or start them. Raises RuntimeUnavailable."""
        ...

    async def stop(self, *, pods: bool) -> None:
        """Disconnect; with `pods`, kill every container and end the helper processes too."""
        ...

    def on_exit(self, handler: Callable[[ContainerState], None]) -> None:
        """Call this on the event loop when a container has exited."""
        ...

    async def create_pod(self, pod: PodSandbox) -> None:
        """Make the pod's network and shared files; does nothing when they are there."""
        ...

    async def pods(self) -> list[str]:
        """The uids of all pods that were created and not wholly removed, also those that have no container."""
        ...

    async def remove_pod(self, uid: str) -> None:
        """Kill what still runs in the pod and forget it. Logs stay."""
        ...

    def sweep(self, *folders: Path) -> None:
        """Have what is in these folders removed: soon, and by a process that nobody waits for."""
        ...

    async def start_container(self, spec: ContainerSpec) -> ContainerState:
        """Start. Raises StartFailed. Starting an id that was started before returns its state."""
        ...

    async def kill(self, pod_uid: str, container_id: str, signal: int) -> None:
        """Signal the container's first process; nothing when it has exited."""
        ...

    async def containers(self) -> list[ContainerState]:
        """Everything started and not removed."""
        ...

    async def exec(
        self, pod_uid: str, container_id: str, argv: tuple[str, ...], *, timeout: float | None = None
    ) -> ExecResult:
        """Run a command in a running container's namespaces; output is stdout and stderr together, bounded.
        A timeout ends the command with exit code 124.
        """
        ...

    async def open_session(
        self, pod_uid: str, container_id: str, argv: tuple[str, ...], *, stdin: bool, tty: bool
    ) -> Session:
        """Start a command in a running container, with its environment. Raises StartFailed."""
        ...

    async def open_input(self, pod_uid: str, container_id: str, *, once: bool) -> Keyboard:
        """The input of a running container; `once`: nobody will follow. Raises StartFailed."""
        ...

    async def usage(self) -> list[Usage]:
        """Of all running containers, looked up now: some 10 us a process of this machine."""
        ...

    async def dial(self, ip: str, port: int) -> socket.socket:
        """A connected non-blocking TCP socket into the pod network. Raises OSError."""
        ...

    async def listen(self, ip: str, port: int, kind: int) -> socket.socket:
        """A bound (and for SOCK_STREAM listening) non-blocking socket inside the pod network."""
        ...
