"""Memory limits: a cgroup where one can be had, else a watchdog that sums what the processes hold.

The choice is made once, by trying: a writable cgroup v2 subtree with the memory controller, then cgroup v1
as root, then the watchdog. `watchdog` always works, but sees a burst only after it has happened.
"""

from __future__ import annotations

import os

from . import linux

TYPE_CHECKING = False  # importing typing costs a helper half a megabyte
if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = os.sysconf("SC_PAGE_SIZE")
WATCHDOG, CGROUP1, CGROUP2 = "watchdog", "cgroup1", "cgroup2"


def discover(name: str) -> tuple[str, str]:
    """How limits are enforced here, and the folder below which containers get their cgroups."""
    for kind, base in _candidates(name):
        try:
            _prepare(kind, base)
        except OSError:
            continue
        return kind, base
    return WATCHDOG, ""


def of_process(pid: int) -> Cgroup | None:
    """The cgroup that limits the memory of a process, whoever made it."""
    lines, unified, memory = _hierarchies(str(pid))
    found = None
    for _, controllers, path in lines:
        folder, name = os.path.split(path)
        if "memory" in controllers.split(",") and memory is not None:
            return Cgroup(CGROUP1, memory + folder.rstrip("/"), name)
        if not controllers and unified is not None:
            found = Cgroup(CGROUP2, unified + folder.rstrip("/"), name)
    return found


def _hierarchies(process: str) -> tuple[list[list[str]], str | None, str | None]:
    """The cgroups of a process, and where those of version 2 and those for memory of version 1 are mounted."""
    with open(f"/proc/{process}/cgroup", "rb") as file:
        lines = [os.fsdecode(line).rstrip("\n").split(":", 2) for line in file]
    with open("/proc/self/mounts", "rb") as file:
        mounts = [os.fsdecode(line).split(" ") for line in file]
    unified = next((m[1] for m in mounts if m[2] == "cgroup2"), None)
    memory = next((m[1] for m in mounts if m[2] == "cgroup" and "memory" in m[3].split(",")), None)
    return lines, unified, memory


def _candidates(name: str) -> Iterator[tuple[str, str]]:
    lines, unified, memory = _hierarchies("self")
    for _, controllers, path in lines:
        if not controllers and unified is not None:
            # A cgroup with processes cannot give controllers to children, so look upwards for one that can.
            above = path
            while True:
                yield CGROUP2, f"{unified}{above.rstrip('/')}/{name}"
                if above == "/":
                    break
                above = os.path.dirname(above)
        elif "memory" in controllers.split(",") and memory is not None and os.getuid() == 0:
            yield CGROUP1, f"{memory}{path.rstrip('/')}/{name}"


def _prepare(kind: str, base: str) -> None:
    if kind == CGROUP2:
        parent = os.path.dirname(base)
        if b"memory" not in linux.read_control(parent + "/cgroup.subtree_control").split():
            linux.write_control(parent + "/cgroup.subtree_control", "+memory")
    made = not os.path.isdir(base)
    os.makedirs(base, exist_ok=True)
    try:
        if kind == CGROUP2:
            linux.write_control(base + "/cgroup.subtree_control", "+memory")
        _attempt(Cgroup(kind, base, "probe"))
    except OSError:
        if made:
            os.rmdir(base)
        raise


def _attempt(cgroup: Cgroup) -> None:
    """Raise unless a process can be moved into the cgroup."""
    try:
        cgroup.create(64 << 20)
        pid = os.fork()
        if pid == 0:
            try:
                cgroup.add(0)
            except OSError:
                os._exit(1)
            os._exit(0)
        if os.waitpid(pid, 0)[1] != 0:
            raise PermissionError
    finally:
        cgroup.remove()


class Cgroup:
    """One container's memory cgroup."""

    def __init__(self, kind: str, base: str, name: str) -> None:
        self.kind, self.path = kind, f"{base}/{name}"

    def create(self, limit: int) -> None:
        """Make it, with a limit in bytes for memory and swap together."""
        os.makedirs(self.path, exist_ok=True)
        if self.kind == CGROUP2:
            linux.write_control(self.path + "/memory.max", str(limit))
            if os.path.exists(self.path + "/memory.swap.max"):
                linux.write_control(self.path + "/memory.swap.max", "0")
            if os.path.exists(self.path + "/memory.oom.group"):
                linux.write_control(self.path + "/memory.oom.group", "1")
        else:
            linux.write_control(self.path + "/memory.limit_in_bytes", str(limit))
            if os.path.exists(self.path + "/memory.memsw.limit_in_bytes"):
                linux.write_control(self.path + "/memory.memsw.limit_in_bytes", str(limit))

    def add(self, pid: int) -> None:
        """Move a process in (0: the caller); its children follow."""
        linux.write_control(self.path + "/cgroup.procs", str(pid))

    def oom_killed(self) -> bool:
        """Whether the kernel has killed a process for the limit."""
        name = "memory.events" if self.kind == CGROUP2 else "memory.oom_control"
        try:
            lines = linux.read_control(f"{self.path}/{name}").splitlines()
        except OSError:
            return False
        return any(line.startswith(b"oom_kill ") and int(line.split()[1]) > 0 for line in lines)

    def cpu_seconds(self) -> float:
        """What its processes have used so far; 0 where the memory's hierarchy does not count that (version 1)."""
        try:
            lines = linux.read_control(f"{self.path}/cpu.stat").splitlines()
        except OSError:
            return 0.0
        return next((int(line.split()[1]) / 1e6 for line in lines if line.startswith(b"usage_usec ")), 0.0)

    def remove(self) -> None:
        """Remove the cgroup; its processes must be gone."""
        try:
            os.rmdir(self.path)
        except OSError:
            return  # a zombie lingers: the empty folder costs nothing


def forget(base: str) -> None:
    """Remove the folder that `discover` made, unless a container is still in it."""
    try:
        os.rmdir(base)
    except OSError:
        return


def descendants(pid: int) -> list[int]:
    """A process and all that it has started, transitively."""
    found, todo = [], [pid]
    while todo:
        current = todo.pop()
        found.append(current)
        try:
            for task in os.listdir(f"/proc/{current}/task"):
                todo += [int(child) for child in linux.read_control(f"/proc/{current}/task/{task}/children").split()]
        except OSError:
            continue
    return found


def resident(pids: list[int]) -> int:
    """Bytes in memory, pages that processes share counted for each."""
    total = 0
    for pid in pids:
        try:
            total += int(linux.read_control(f"/proc/{pid}/statm").split()[1]) * PAGE
        except (OSError, IndexError):
            continue
    return total


def proportional(pids: list[int]) -> int:
    """Bytes in memory, shared pages divided: right, but some milliseconds a process."""
    total = 0
    for pid in pids:
        try:
            lines = linux.read_control(f"/proc/{pid}/smaps_rollup").splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith(b"Pss:")) << 10
        except (OSError, StopIteration):
            continue
    return total


def exceeds(pid: int, limit: int) -> bool:
    """The watchdog's question."""
    pids = descendants(pid)
    return resident(pids) > limit and proportional(pids) > limit
