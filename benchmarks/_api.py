"""The API server's bars: reads, durable creates, lists, watches, memory and start with many objects."""

import asyncio
import json
import os
import ssl
import statistics
import subprocess
import time
from pathlib import Path

from _machine import LOAD_CORE, SERVER_CORE, cpu_seconds, others, pin, rate, resident, wrk

NAMESPACE = "bench"
CREATORS = 64
"""So many creates on their way share each fsync, whatever it takes on this disk."""
CREATE, CHANGE = (str(Path(__file__).with_name(name)) for name in ("_create.lua", "_change.lua"))
KUBE = "contract: kube-apiserver and etcd"
"""Measured earlier on two cores of the same kind, not in this run."""


class Api:
    """The API server of a benchmark's platform: requests with a token, its process on a core of its own."""

    def __init__(self, platform) -> None:
        self.platform = platform
        self.runs = 0
        status = platform.status()
        self.pid, self.url = status["pid"], f"https://127.0.0.1:{platform.ports['api']}"
        pin(self.pid, SERVER_CORE)
        self.tls = ssl.create_default_context(cafile=str(platform.home / "pki/ca.crt"))
        if not (platform.home / "bench-token").exists():
            self._account()
        self.token = (platform.home / "bench-token").read_text()

    def _account(self) -> None:
        """A service account that may do everything, so that the usual checks of tokens and of RBAC are paid for."""
        kubectl("create", "namespace", NAMESPACE)
        kubectl("create", "serviceaccount", "bench", "-n", NAMESPACE)
        kubectl("create", "clusterrolebinding", "bench", "--clusterrole=cluster-admin", "--serviceaccount=bench:bench")
        token = kubectl("create", "token", "bench", "-n", NAMESPACE, "--duration=24h").strip()
        (self.platform.home / "bench-token").write_text(token)

    def maps(self, name: str = "") -> str:
        return f"{self.url}/api/v1/namespaces/{NAMESPACE}/configmaps{f'/{name}' if name else ''}"

    def load_creates(self, seconds: int) -> dict[str, float]:
        self.runs += 1
        os.environ["BENCH_RUN"] = f"{int(time.time())}-{self.runs}"
        return wrk(self.maps(), self.token, seconds=seconds, connections=CREATORS, script=CREATE)

    def load_changes(self, method: str, seconds: int) -> dict[str, float]:
        self.runs += 1
        os.environ |= {"BENCH_METHOD": method, "BENCH_RUN_NUMBER": str(self.runs)}
        return wrk(self.maps(), self.token, seconds=seconds, connections=CREATORS, script=CHANGE)

    def clear(self) -> None:
        """Away with everything; whoever measures next begins anew."""
        kubectl("delete", "namespace", NAMESPACE, "--wait")
        kubectl("delete", "clusterrolebinding", "bench")
        (self.platform.home / "bench-token").unlink()

    def head(self, method: str, path: str, body: bytes = b"", media: str = "application/json") -> bytes:
        lines = [f"{method} {path} HTTP/1.1", "Host: bench", f"Authorization: Bearer {self.token}"]
        if body:
            lines += [f"Content-Type: {media}", f"Content-Length: {len(body)}"]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            "127.0.0.1", self.platform.ports["api"], ssl=self.tls, server_hostname="localhost", limit=1 << 26
        )


def kubectl(*args: str) -> str:
    done = subprocess.run(["kubectl", *args], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"kubectl {' '.join(args)}: {done.stderr}")
    return done.stdout


async def answer(reader: asyncio.StreamReader) -> bytes:
    """The body of one answer that says how long it is."""
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 20"):
        raise SystemExit(f"unexpected answer: {head!r}")
    return await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))


async def fill(api: Api, count: int, prefix: str) -> None:
    """Create ConfigMaps of 1.5 KB, 16 at a time."""
    numbers = iter(range(count))

    async def client() -> None:
        reader, writer = await api.connect()
        for i in numbers:
            body = {"metadata": {"name": f"{prefix}-{i:05}"}, "data": {"x": "y" * 1240}}
            writer.write(api.head("POST", f"/api/v1/namespaces/{NAMESPACE}/configmaps", json.dumps(body).encode()))
            await answer(reader)
        writer.close()

    await asyncio.gather(*(client() for _ in range(16)))


def bench_get(platform, row) -> None:
    api = Api(platform)
    asyncio.run(fill(api, 1, "one"))
    load = others(api.pid)
    wrk(api.maps("one-00000"), api.token, seconds=1)
    rps, cost, tail = rate(api.pid, lambda: wrk(api.maps("one-00000"), api.token, seconds=4))
    row(
        "get: one object, 16 connections",
        f"{rps:.0f}/s",
        f"{KUBE} 4,400/s",
        f"HTTPS, token; {cost:.0f} us of CPU each ({1e6 / cost:.0f}/s a core), p99 {tail:.1f} ms; bar 8,000/s; "
        f"others used {load:.1f} cores",
    )


def bench_create(platform, row) -> None:
    api = Api(platform)
    load = others(api.pid)
    api.load_creates(1)
    rps, cost, tail = rate(api.pid, lambda: api.load_creates(3))
    row(
        "create: 1.5 KB, durable",
        f"{rps:.0f}/s",
        f"{KUBE} 1,800/s",
        f"{CREATORS} connections; {cost:.0f} us of CPU each ({1e6 / cost:.0f}/s a core), p99 {tail:.1f} ms; "
        f"bar 3,000/s; "
        f"others used {load:.1f} cores",
    )
    api.clear()


def bench_change(platform, row) -> None:
    api = Api(platform)
    asyncio.run(fill(api, 1000, "change"))
    for method, name in (("PUT", "update"), ("PATCH", "merge patch")):
        load = others(api.pid)
        api.load_changes(method, 1)
        rps, cost, tail = rate(api.pid, lambda method=method: api.load_changes(method, 3))
        row(
            f"change: {name} of 1.5 KB, durable",
            f"{rps:.0f}/s",
            "",
            f"{CREATORS} connections, 1,000 objects in turn; {cost:.0f} us of CPU each ({1e6 / cost:.0f}/s a core), "
            f"p99 {tail:.1f} ms; others used {load:.1f} cores",
        )
    api.clear()


def bench_list(platform, row) -> None:
    api = Api(platform)
    asyncio.run(fill(api, 3000, "list"))

    async def measure() -> list[float]:
        reader, writer = await api.connect()
        walls = []
        for _ in range(15):
            begin = time.perf_counter()
            writer.write(api.head("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps"))
            await answer(reader)
            walls.append(time.perf_counter() - begin)
        writer.close()
        return walls

    begin = cpu_seconds(api.pid)
    walls = asyncio.run(measure())
    cost = (cpu_seconds(api.pid) - begin) / len(walls)
    row(
        "list: 3,000 of 1.5 KB",
        f"{statistics.median(walls) * 1000:.0f} ms",
        f"{KUBE} 36 ms",
        f"HTTPS, median of 15, worst {max(walls) * 1000:.0f} ms, {cost * 1000:.0f} ms of CPU; bar 40 ms",
    )
    api.clear()


def bench_watch(platform, row) -> None:
    """One change, seen by every one of many watchers: from the request to the last one's line."""
    api = Api(platform)
    asyncio.run(fill(api, 1, "seen"))
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps"

    async def measure(watchers: int, rounds: int) -> list[float]:
        streams = []
        for _ in range(watchers):
            reader, writer = await api.connect()
            writer.write(api.head("GET", f"{path}?watch=1&fieldSelector=metadata.name%3Dseen-00000"))
            await reader.readuntil(b"ADDED")
            await reader.readuntil(b"}\n\r\n")
            streams.append((reader, writer))
        reader, writer = await api.connect()
        walls = []
        for i in range(rounds):
            patch = json.dumps({"data": {"x": str(i)}}).encode()
            begin = time.perf_counter()
            writer.write(api.head("PATCH", f"{path}/seen-00000", patch, "application/merge-patch+json"))
            await asyncio.gather(answer(reader), *(r.readuntil(b"}\n\r\n") for r, _ in streams))
            walls.append(time.perf_counter() - begin)
        for _, each in [*streams, (reader, writer)]:
            each.transport.abort()
        return walls

    # Clients of one process share its core: their part is in the figure.
    os.sched_setaffinity(0, {LOAD_CORE})
    begin = cpu_seconds(api.pid)
    walls = asyncio.run(measure(1000, 10))
    cost = cpu_seconds(api.pid) - begin
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    row(
        "watch: 1,000 watchers see a change",
        f"{statistics.median(walls) * 1000:.0f} ms",
        "",
        f"HTTPS, median of 10, worst {max(walls) * 1000:.0f} ms; {cost:.2f} s of CPU with 1,000 connections' start; "
        "bar 250 ms for the last one",
    )


def bench_objects(platform, row) -> None:
    """Memory an object, then the start with all of them in the store."""
    api = Api(platform)
    count = 5000
    asyncio.run(fill(api, 500, "warm"))
    before = resident(api.pid)
    asyncio.run(fill(api, count, "many"))
    time.sleep(1)
    grown = (resident(api.pid) - before) / count
    row("objects: memory of one of 1.5 KB", f"{grown / 1024:.1f} KB", "", f"{count} created; bar 10 KB")
    walls, inner = [], []
    for _ in range(3):
        platform.down()
        begin = time.perf_counter()
        platform.up()
        walls.append(time.perf_counter() - begin)
        inner.append(platform.status()["start_seconds"])
    row(
        "objects: start to ready with 5,500",
        f"{statistics.median(walls):.2f} s",
        "",
        f"command to ready, median of 3; {statistics.median(inner):.2f} s inside the process; bar 2 s",
    )
    Api(platform).clear()
