"""Which warm interpreters exist, and whether one may stand in for a fresh start.

A fork server is started when the second start of a program can profit: the first one begins cold at once,
while the server imports in the background. It may serve a container only when everything that an interpreter
and native libraries read from the environment at start-up is the same; what the imported modules read in
Python, the server itself has noted and compares (see warm.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import time

from . import linux, wire
from .program import DEFAULT_PATH, CannotExecute, find_program, restore_signals
from .spare import Spare, likeness

TYPE_CHECKING = False  # importing typing costs a helper half a megabyte
if TYPE_CHECKING:
    from .wire import Message

MAX_SERVERS = 3
_WARM_UP_SECONDS = 120.0
_UNFIT_SECONDS = 600.0
_END_MS = 5000
_DIED_SECONDS = 10.0
"""Until one that served and was killed is started again."""

_INERT = ("PYTHON_VERSION", "PYTHON_SHA256", "PYTHON_PIP_VERSION", "PYTHON_SETUPTOOLS_VERSION", "PYTHON_GET_PIP_")
"""What the Docker images of Python set and no interpreter reads."""
_COLD = (
    "LD_",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    "PYTHONFAULTHANDLER",
    "PYTHONTRACEMALLOC",
    "PYTHONPROFILE",
    "PYTHONDEVMODE",
    "PYTHONINSPECT",
    "PYTHONHASHSEED",
    "PYTHONPLATLIBDIR",
    "PYTHONEXECUTABLE",
    "PYTHONBREAKPOINT",
    "GCONV_PATH",
)
"""What names files that may differ inside the container, or must be unique to a process."""
_SAME = (
    "PYTHON",
    "LANG",
    "LC_",
    "TZ",
    "OMP_",
    "GOMP_",
    "KMP_",
    "MKL_",
    "OPENBLAS_",
    "GOTO_",
    "BLIS_",
    "NUMEXPR_",
    "CUDA_",
    "NVIDIA_",
    "NCCL_",
    "GLOO_",
    "TF_",
    "XLA_",
    "JAX_",
    "TORCH_",
    "PYTORCH_",
    "MALLOC_",
    "GLIBC_TUNABLES",
    "_KFP_",
)
"""What is read at start-up or by native code, so that a server has it from its own start."""
_SHOWN = ("HOME", "PATH", "USER", "LOGNAME", "TMPDIR", "TERM", "SHELL")
"""What a server is shown besides; nothing else of a pod's environment, which may hold secrets."""


def startup_environment(env: dict[str, str]) -> dict[str, str] | None:
    """The part of an environment that a warm interpreter must have been started with; None: start cold."""
    same = {}
    for name, value in env.items():
        if name.startswith(_INERT):
            continue
        if name.startswith(_COLD):
            return None
        if name.startswith(_SAME):
            same[name] = value
    return same


def warm_program(spec: Message) -> str | None:
    """The interpreter's path when this is `python /SCRIPT ARGS` with the announced interpreter, else None."""
    argv, interpreter = spec["argv"], spec["warm"]["interpreter"]
    if len(argv) < 2 or not argv[1].startswith("/"):
        return None
    try:
        found = find_program(argv[0], spec["env"].get("PATH", DEFAULT_PATH))
        same = os.path.dirname(found) == os.path.dirname(interpreter) and os.path.samefile(found, interpreter)
    except (CannotExecute, OSError):
        return None
    covered = any(found.startswith(mount["target"].rstrip("/") + "/") for mount in spec["mounts"])
    return found if same and not covered else None


class _Server:
    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid, self.control = pid, control
        self.started = self.used = time.monotonic()
        self.ready = False
        self.read: dict[str, str | None] = {}
        """What its imports have read from the environment, which must be a container's too."""

    def suits(self, env: dict[str, str]) -> bool:
        """Whether its imports would have been the same with this environment."""
        return all(env.get(name) == value for name, value in self.read.items())


class ForkServers:
    """At most MAX_SERVERS warm interpreters; idle ones end. What they make ahead is below the folder `ahead`."""

    def __init__(self, idle_seconds: float, ahead: str) -> None:
        self._idle, self._ahead = idle_seconds, ahead
        self._servers: dict[str, _Server] = {}
        self._unfit: dict[str, float] = {}

    def fork(self, spec: Message, namespaces: list[int], report: int) -> bool:
        """Have a warm interpreter fork the container's supervisor; False when it must be started cold."""
        if spec["warm"] is None:
            return False
        program, same = warm_program(spec), startup_environment(spec["env"])
        if program is None or same is None:
            return False
        shown = {name: spec["env"][name] for name in _SHOWN if name in spec["env"]}
        key = json.dumps([program, spec["warm"]["preload"], same])
        server = self._servers.get(key)
        if server is None:
            if self._unfit.get(key, 0.0) < time.monotonic():
                self._start(key, program, spec["warm"]["preload"], {**shown, **same})
            return False
        if not server.ready and not self._became_ready(key, server):
            return False
        if not server.suits(spec["env"]):
            return False
        server.used = time.monotonic()
        like = likeness(spec, len(namespaces), f"{self._ahead}/{server.pid}")
        fds = [report, *namespaces]
        try:
            spare = _take_spare(server)
            if spare is not None and spare.fits(like) and spare.give(spec, fds):
                wire.send(server.control, {"like": like, "taken": True})
            else:
                if spare is not None:
                    spare.close()
                wire.send(server.control, {"like": like, "taken": spare is not None, "spec": spec}, fds)
        except (OSError, EOFError):
            self._end(key)
            return False
        return True

    def failed(self, spec: Message) -> None:
        """A fork did not report in time: the server hangs."""
        program, same = warm_program(spec), startup_environment(spec["env"])
        key = json.dumps([program, spec["warm"]["preload"], same])
        if key in self._servers:
            self._end(key)
            self._give_up(key, "forking hangs")

    def _became_ready(self, key: str, server: _Server) -> bool:
        poll = select.poll()
        poll.register(server.control, select.POLLIN)
        if poll.poll(0):
            reason = _first_word(server)
            server.ready = not reason
        elif time.monotonic() - server.started > _WARM_UP_SECONDS:
            reason = "importing takes too long"
        else:
            return False
        if reason:
            self._end(key)
            self._give_up(key, reason)
        return server.ready

    def _give_up(self, key: str, reason: str, seconds: float = _UNFIT_SECONDS) -> None:
        os.write(2, f"warm start of {key} is not possible: {reason}\n".encode())
        self._unfit[key] = time.monotonic() + seconds

    def _start(self, key: str, program: str, preload: list[str], env: dict[str, str]) -> None:
        while len(self._servers) >= MAX_SERVERS:
            self._end(min(self._servers, key=lambda k: self._servers[k].used))
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        pid = os.fork()
        if pid == 0:
            try:
                _execute(program, preload, env, theirs.fileno())
            finally:
                os._exit(127)
        theirs.close()
        control.settimeout(2)
        self._servers[key] = _Server(pid, control)

    def _end(self, key: str) -> None:
        server = self._servers.pop(key)
        server.control.close()
        try:
            os.kill(server.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def ended(self, pid: int) -> None:
        """A child of the spawner has ended; it may have been a server."""
        for key, server in list(self._servers.items()):
            if server.pid == pid:
                reason = "its interpreter died" if server.ready else _first_word(server)
                server.control.close()
                del self._servers[key]
                self._give_up(key, reason, _DIED_SECONDS if server.ready else _UNFIT_SECONDS)

    def expire(self, now: float) -> None:
        """End the servers that nobody has needed for a while."""
        for key, server in list(self._servers.items()):
            # What still imports cannot have been needed yet: it has as long as importing may take.
            if now - server.used > (self._idle if server.ready else max(self._idle, _WARM_UP_SECONDS)):
                self._end(key)

    def left_behind(self) -> list[str]:
        """Folders of servers that have ended, whoever has started them."""
        living = {str(server.pid) for server in self._servers.values()}
        try:
            return [f"{self._ahead}/{name}" for name in os.listdir(self._ahead) if name not in living]
        except FileNotFoundError:
            return []

    def stop(self) -> None:
        """End all, and wait until they and what they have made ahead have ended."""
        waiting = []
        for key, server in list(self._servers.items()):
            waiting.append((server.pid, linux.pidfd_open(server.pid)))
            spare = None
            with contextlib.suppress(OSError, EOFError):
                spare = _take_spare(server) if server.ready else None
            if spare is not None:
                spare.end()
            self._end(key)
        poll = select.poll()
        for pid, handle in waiting:
            poll.register(handle, select.POLLIN)
            if not poll.poll(_END_MS):
                os.kill(pid, signal.SIGKILL)
            poll.unregister(handle)
            os.close(handle)
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                continue  # reaped already


def _take_spare(server: _Server) -> Spare | None:
    """What it has made ahead, if it has. Raises OSError, EOFError when it has gone."""
    poll = select.poll()
    poll.register(server.control, select.POLLIN)
    if poll.poll(0):
        return Spare.received(*wire.receive(server.control))
    return None


def _first_word(server: _Server) -> str:
    """What a server that has something to say has said: nothing when it is ready, else why it is not."""
    try:
        answer, _ = wire.receive(server.control)
    except (OSError, EOFError):
        return "its interpreter ended"
    server.read = answer.get("read", {})
    return str(answer.get("unfit", ""))


def _execute(program: str, preload: list[str], env: dict[str, str], control: int) -> None:
    """Become a fork server: output goes into a pipe of its own, which must stay empty."""
    signal.set_wakeup_fd(-1)
    restore_signals()
    os.setsid()
    linux.die_with_parent(signal.SIGKILL)
    output, output_w = os.pipe()
    null = os.open("/dev/null", os.O_RDONLY)
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, 16) for fd in (null, output_w, output_w, control, output)]
    for number, fd in enumerate(moved):
        os.dup2(fd, number)
    linux.close_all_but([3, 4])
    os.chdir("/")
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "forkserver.py")
    os.execve(program, [program, script, json.dumps(preload)], env)  # noqa: S606 - an environment's interpreter
