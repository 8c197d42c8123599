"""What the measurements of the control plane share: a core of its own for the server, one for the load, CPU time."""

import os
import re
import shutil
import statistics
import subprocess
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
SERVER_CORE, LOAD_CORE = 0, max(os.cpu_count() or 1, 2) - 1


def pin(pid: int, core: int) -> None:
    """Every thread of a process on one core, where there are two."""
    if (os.cpu_count() or 1) < 2:
        return
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has taken, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(pid: int) -> int:
    """Bytes of memory that are the process's own."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kb) * 1024 for kb in re.findall(r"^Private_\w+: +(\d+)", text, re.MULTILINE))


def others(pid: int, seconds: float = 1.0) -> float:
    """How many cores' worth of work everybody else does: what the figures must be read with."""

    def busy() -> float:
        numbers = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        return (sum(numbers) - numbers[3] - numbers[4]) / TICKS

    whole, own = busy(), cpu_seconds(pid)
    time.sleep(seconds)
    return max((busy() - whole) - (cpu_seconds(pid) - own), 0.0) / seconds


def wrk(url: str, token: str, *, seconds: int, connections: int = 16, script: str = "") -> dict[str, float]:
    """Load from one thread on the load's core. Every answer must be 2xx."""
    program = shutil.which("wrk")
    if program is None:
        raise SystemExit("this figure needs the load generator wrk: apt-get install wrk")
    command = [program, "-t1", f"-c{connections}", f"-d{seconds}s", "-H", f"Authorization: Bearer {token}", "--latency"]
    if script:
        command += ["-s", script]
    if shutil.which("taskset") and (os.cpu_count() or 1) > 1:
        command = ["taskset", "-c", str(LOAD_CORE), *command]
    done = subprocess.run([*command, url], capture_output=True, text=True, check=True)
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)", done.stdout)
    if failed:
        raise SystemExit(f"wrk {url}:\n{done.stdout}")
    requests, took = re.search(r"(\d+) requests in ([\d.]+)s", done.stdout).groups()
    p99, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", done.stdout).groups()
    return {
        "requests": int(requests),
        "rps": int(requests) / float(took),
        "p99_ms": float(p99) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit],
    }


def rate(pid: int, load, *, rounds: int = 3) -> tuple[float, float, float]:
    """Run a load some times: requests a second (median), CPU microseconds of the server a request, worst p99."""
    rates, costs, tails = [], [], []
    for _ in range(rounds):
        begin = cpu_seconds(pid)
        found = load()
        costs.append((cpu_seconds(pid) - begin) / found["requests"] * 1e6)
        rates.append(found["rps"])
        tails.append(found["p99_ms"])
    return statistics.median(rates), statistics.median(costs), max(tails)
