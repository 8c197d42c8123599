"""One more command in a running container, with input, output and perhaps a terminal of its own.

Its end of the pipes (or of the terminal) is made here, the other end goes to the client as descriptors, so that
what is typed and printed passes through no process in between. This process stays as the command's parent: it
reports how the command ended, and ends the command when the client goes away.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import termios
from socket import socketpair

from . import limits, linux, wire
from .enter import Surroundings, exit_code, join
from .program import CannotExecute, execute
from .supervisor import hand_over

TYPE_CHECKING = False  # importing typing costs a helper half a megabyte
if TYPE_CHECKING:
    import socket

    from .wire import Message

_TERM = "xterm"
_SESSION_FIELD = 3
"""Of what follows the name in /proc/PID/stat: the session's number."""


def attend(client: socket.socket, request: Message, state: Message, cgroup: limits.Cgroup | None) -> None:
    """In a fresh fork: start the command, send `{}` with descriptors (a terminal; or input, output and errors),
    then `{"code": n}` at the end; or `{"error": …}` alone. Never returns.
    """
    try:
        client.setblocking(True)
        processes = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        isolated = join(state, cgroup)
        outer, inner = _terminal(state, isolated=isolated) if request["tty"] else _pipes(stdin=request["stdin"])
        ready, ready_w = os.pipe()
        asks, asks_w = socketpair() if state.get("bare") else (None, None)
        pid = os.fork()
        if pid == 0:
            _become(request, state, inner, ready_w, isolated=isolated, asks=asks_w)
        kept = [] if asks is None else [asks.fileno()]
        linux.close_all_but([client.fileno(), processes, ready, *outer, *kept])
        problem = b""
        while part := os.read(ready, 4096):
            problem += part
        if problem:
            os.waitpid(pid, 0)
            wire.send(client, {"error": problem.decode(errors="replace")})
        else:
            wire.send(client, {}, outer)
            for fd in outer:
                os.close(fd)
            bare = None if asks is None else Surroundings(asks, state)
            wire.send(client, {"code": _wait(client, pid, processes, bare)})
    except OSError as error:
        try:
            wire.send(client, {"error": f"cannot enter the container: {error.strerror}"})
        except OSError:
            pass  # nobody is there to hear it
    finally:
        os._exit(0)


def _pipes(*, stdin: bool) -> tuple[list[int], list[int]]:
    """The client's ends and the command's ends; without `stdin` the first is nothing to write to."""
    out, out_w = os.pipe()
    err, err_w = os.pipe()
    if stdin:
        source, sink = os.pipe()
        return [out, err, sink], [source, out_w, err_w]
    return [out, err], [os.open("/dev/null", os.O_RDONLY), out_w, err_w]


def _terminal(state: Message, *, isolated: bool) -> tuple[list[int], list[int]]:
    """A terminal of the container's own."""
    master, slave = os.openpty()  # found in this mount namespace
    if not isolated and state["uid"] is not None:
        os.fchown(slave, state["uid"], -1)
    return [master], [slave, slave, slave]


def _become(
    request: Message, state: Message, inner: list[int], ready: int, *, isolated: bool, asks: socket.socket | None
) -> None:
    try:
        os.setsid()
        for number, fd in enumerate(inner):
            os.dup2(fd, number)
        env = dict(state["env"])
        if request["tty"]:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            env.setdefault("TERM", _TERM)
        linux.drop_privileges(state, isolated=isolated)
        linux.die_with_parent(signal.SIGKILL)
        os.umask(0o022)
        os.chdir(state["cwd"])
        if asks is not None:
            hand_over(asks)
        linux.close_all_but([ready])
        execute(request["argv"], env)
    except CannotExecute as error:
        os.write(ready, str(error).encode())
    except OSError as error:
        os.write(ready, str(error.strerror).encode())
    finally:
        os._exit(127)


def _wait(client: socket.socket, pid: int, processes: int, bare: Surroundings | None) -> int:
    watch = linux.pidfd_open(pid)
    poll = select.poll()
    for fd in (watch, client.fileno()):
        poll.register(fd, select.POLLIN)
    if bare is not None:
        bare.watch(poll)
    while True:
        events = dict(poll.poll())
        if bare is not None and bare.ended(poll, events):
            _end(pid, processes)
        if watch in events:
            return exit_code(pid)
        if client.fileno() in events and not _hears(client):
            _end(pid, processes)
            os._exit(0)


def _hears(client: socket.socket) -> bool:
    try:
        return bool(client.recv(1024))
    except OSError:
        return False


def _end(leader: int, processes: int) -> None:
    """Kill the command with all that it has started, also what a shell keeps in groups of its own."""
    for name in os.listdir(processes):
        if not name.isdigit():
            continue
        try:
            fd = os.open(f"{name}/stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=processes)
            try:
                fields = os.read(fd, 4096).rsplit(b")", 1)[1].split()
            finally:
                os.close(fd)
            if int(fields[_SESSION_FIELD]) == leader:
                os.kill(int(name), signal.SIGKILL)
        except (OSError, IndexError):
            continue  # it has ended by itself
