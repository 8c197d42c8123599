"""Running one more command in a running container."""

from __future__ import annotations

import binascii
import os
import select
import signal
import time
from socket import socketpair

from . import engine, limits, linux, wire
from .program import CannotExecute, execute
from .supervisor import hand_over, take_over

TYPE_CHECKING = False  # importing typing costs a helper half a megabyte
if TYPE_CHECKING:
    import socket

    from .wire import Message

TIMED_OUT = 124
_CHUNK = 32 << 10
_NAMESPACES = linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS


def enter(client: socket.socket, request: Message, state: Message, cgroup: limits.Cgroup | None) -> None:
    """In a fresh fork: run the command, send `{"out": base64}` as it comes and `{"code": n}` at the end, or
    `{"error": …}`. Ends the command when the client goes away. Never returns.
    """
    try:
        client.setblocking(True)
        out, out_w = os.pipe()
        ready, ready_w = os.pipe()
        asks, asks_w = socketpair() if state.get("bare") else (None, None)
        outer = [client.fileno(), out, ready, *([] if asks is None else [asks.fileno()])]
        pid = _start(request, state, cgroup, (out_w, ready_w), outer=outer, asks=asks_w)
        os.close(out_w)
        os.close(ready_w)
        problem = b""
        while part := os.read(ready, 4096):
            problem += part
        if problem:
            os.waitpid(pid, 0)
            wire.send(client, {"error": problem.decode(errors="replace")})
        else:
            bare = None if asks is None else Surroundings(asks, state)
            wire.send(client, {"code": _follow(client, pid, out, request.get("timeout"), bare)})
    except OSError as error:
        wire.send(client, {"error": f"cannot enter the container: {error.strerror}"})
    finally:
        os._exit(0)


def join(state: Message, cgroup: limits.Cgroup | None) -> bool:
    """Move into the container (for PIDs: the next child). Whether it has a user namespace of its own."""
    target = state["pid"]
    handle = linux.pidfd_open(target)
    if linux.start_time(target) != state["pid_start"]:
        raise ProcessLookupError(3, "it is not running")
    if cgroup is not None:
        cgroup.add(0)
    if state.get("bare"):
        os.close(handle)
        return False
    if state.get("engine"):
        state.update(engine.known_inside(target, state["env"]))
    flags = _NAMESPACES
    isolated = os.getuid() != 0
    if isolated:
        flags |= linux.CLONE_NEWUSER
    if os.stat("/proc/self/ns/net").st_ino != os.stat(f"/proc/{target}/ns/net").st_ino:
        flags |= linux.CLONE_NEWNET
    linux.setns(handle, flags)
    os.close(handle)
    return isolated


class Surroundings:
    """What stands for a container's namespaces where it has none: its network, and that its end is everybody's."""

    def __init__(self, asks: socket.socket, state: Message) -> None:
        self._answers = take_over(asks, state["bare"])
        self._container = linux.pidfd_open(state["pid"])

    def watch(self, poll: select.poll) -> None:
        """Wait for these too."""
        for fd in (self._answers.fd, self._container):
            poll.register(fd, select.POLLIN)

    def ended(self, poll: select.poll, events: dict[int, int]) -> bool:
        """Answer what is asked; whether the container has just ended."""
        asked = events.get(self._answers.fd, 0)
        if asked & select.POLLIN:
            self._answers.handle()
        elif asked:
            poll.unregister(self._answers.fd)  # nobody is left who could ask
        if self._container not in events:
            return False
        poll.unregister(self._container)
        return True


def _start(
    request: Message,
    state: Message,
    cgroup: limits.Cgroup | None,
    inner: tuple[int, int],
    *,
    outer: list[int],
    asks: socket.socket | None,
) -> int:
    isolated = join(state, cgroup)
    pid = os.fork()
    if pid == 0:
        output, ready = inner
        try:
            os.setsid()
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            linux.drop_privileges(state, isolated=isolated)
            linux.die_with_parent(signal.SIGKILL)
            os.chdir(state["cwd"])
            if asks is not None:
                hand_over(asks)
            linux.close_all_but([ready])
            execute(request["argv"], state["env"])
        except CannotExecute as error:
            os.write(ready, str(error).encode())
        except OSError as error:
            os.write(ready, str(error.strerror).encode())
        finally:
            os._exit(127)
    linux.close_all_but([*outer, *inner])
    return pid


def _follow(client: socket.socket, pid: int, out: int, timeout: float | None, bare: Surroundings | None) -> int:
    deadline = None if timeout is None else time.monotonic() + timeout
    watch = linux.pidfd_open(pid)
    poll = select.poll()
    for fd in (watch, out):
        poll.register(fd, select.POLLIN)
    poll.register(client, select.POLLIN)
    if bare is not None:
        bare.watch(poll)
    open_pipe = True
    while True:
        wait = None if deadline is None else max(0, int((deadline - time.monotonic()) * 1000) + 1)
        events = dict(poll.poll(wait))
        if bare is not None and bare.ended(poll, events):
            os.killpg(pid, signal.SIGKILL)
        if client.fileno() in events and not client.recv(1024):
            os.killpg(pid, signal.SIGKILL)
            os._exit(0)
        if open_pipe and out in events:
            data = os.read(out, _CHUNK)
            if data:
                _forward(client, data)
                continue  # everything that was written comes before the end
            open_pipe = False
            poll.unregister(out)
        if watch in events:
            return exit_code(pid)
        if deadline is not None and time.monotonic() >= deadline:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return TIMED_OUT


def _forward(client: socket.socket, data: bytes) -> None:
    wire.send(client, {"out": binascii.b2a_base64(data, newline=False).decode()})


def exit_code(pid: int) -> int:
    """Reap it; a signal counts as 128 and its number."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code
