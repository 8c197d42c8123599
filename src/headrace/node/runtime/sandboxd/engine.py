"""A container that podman runs: what its supervisor does differently.

The supervisor's child is `podman run`, in the foreground: it passes input and output on and ends with the container's
exit code. The container's own first process is known by the file that podman writes its number to, so that signals,
commands and measurements go to it as to any other. What podman says before there is one is why it cannot start.
"""

from __future__ import annotations

import os
import select

from . import limits, linux

TYPE_CHECKING = False  # importing typing costs a helper half a megabyte
if TYPE_CHECKING:
    from .wire import Message

NETWORK = "@network@"
"""In the command line: the pod's network, as a file."""
_TICK_MS = 5
_LONGEST_PROBLEM = 16 << 10
_NAMES = ("Uid:", "Gid:", "Groups:")


def become(engine: Message, supervisor: int, network: int) -> None:
    """Become podman. `network` is the supervisor's descriptor of the pod's network."""
    argv = [word.replace(NETWORK, f"/proc/{supervisor}/fd/{network}") for word in engine["argv"]]
    os.execve(argv[0], argv, engine["env"])  # noqa: S606 - running programs is what this is for


def await_start(engine: Message, client: int, errors: int) -> tuple[int, bytes]:
    """Wait until the container runs, or has run: its first process; or why it does not start."""
    poll = select.poll()
    handle = linux.pidfd_open(client)
    poll.register(handle, select.POLLIN)
    over = False
    while True:
        first = _number(engine["pidfile"])
        if first or over:
            break
        over = bool(poll.poll(_TICK_MS))
    os.close(handle)
    if first:
        return first, b""
    os.waitpid(client, 0)
    problem = b""
    while len(problem) < _LONGEST_PROBLEM and (part := os.read(errors, 4096)):
        problem += part
    return 0, problem.strip() or b"podman ended without a word"


def _number(path: str) -> int:
    try:
        return int(linux.read_control(path) or 0)
    except (OSError, ValueError):
        return 0


class End:
    """The end of a container's first process, at which its cgroup is still there for a moment."""

    def __init__(self, first: int) -> None:
        self.out_of_memory = False
        self.cpu_seconds = 0.0
        self.fd = -1
        self._cgroup = None
        try:
            self.fd = linux.pidfd_open(first)
            self._cgroup = limits.of_process(first)
        except OSError:
            return  # it has ended already

    def seen(self) -> None:
        """It has just ended."""
        if self._cgroup is not None:
            self.out_of_memory = self._cgroup.oom_killed()
            self.cpu_seconds = self._cgroup.cpu_seconds()


def known_inside(pid: int, env: dict[str, str]) -> Message:
    """Who a container's first process is, which an image may say by name, and the variables of its commands: podman
    knows the user's home.
    """
    found = {}
    for line in linux.read_control(f"/proc/{pid}/status").decode().splitlines():
        name, *values = line.split()
        if name in _NAMES:
            found[name] = [int(value) for value in values]
    variables = dict(env)
    for entry in linux.read_control(f"/proc/{pid}/environ").split(b"\0"):
        if entry.startswith(b"HOME="):
            variables.setdefault("HOME", os.fsdecode(entry[5:]))
    return {"uid": found["Uid:"][0], "gid": found["Gid:"][0], "groups": found["Groups:"], "env": variables}
