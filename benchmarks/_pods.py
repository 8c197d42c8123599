"""Pods: how soon one runs, many at once, and what the control plane costs when nothing happens."""

import asyncio
import json
import statistics
import time

from _api import Api, answer, kubectl
from _machine import cpu_seconds

SLEEPER = {
    "restartPolicy": "Never",
    "terminationGracePeriodSeconds": 0,
    "containers": [{"name": "main", "image": "busybox", "command": ["sleep", "1000"]}],
}
PATH = "/api/v1/namespaces/bench/pods"


async def follow(api: Api, seen: asyncio.Queue) -> None:
    """Put every event of the namespace's pods into a queue."""
    reader, writer = await api.connect()
    writer.write(api.head("GET", f"{PATH}?watch=1"))
    await reader.readuntil(b"\r\n\r\n")
    seen.put_nowait(None)
    try:
        while (size := int(await reader.readline(), 16)) > 0:
            line = await reader.readexactly(size)
            await reader.readexactly(2)
            event = json.loads(line)
            seen.put_nowait((event["type"], event["object"]["metadata"]["name"], event["object"]["status"]["phase"]))
    finally:
        writer.transport.abort()


class Pods:
    """Creates and deletes over a few connections, and waits for what is seen."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.seen: asyncio.Queue = asyncio.Queue()

    async def __aenter__(self):
        self.watch = asyncio.create_task(follow(self.api, self.seen))
        await self.seen.get()
        self.clients = [await self.api.connect() for _ in range(8)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.watch.cancel()
        await asyncio.gather(self.watch, return_exceptions=True)
        for _, writer in self.clients:
            writer.transport.abort()

    async def send(self, requests: list[bytes]) -> None:
        async def client(number: int) -> None:
            reader, writer = self.clients[number]
            for request in requests[number :: len(self.clients)]:
                writer.write(request)
                await answer(reader)

        await asyncio.gather(*(client(n) for n in range(len(self.clients))))

    def create(self, name: str) -> bytes:
        return self.api.head("POST", PATH, json.dumps({"metadata": {"name": name}, "spec": SLEEPER}).encode())

    def delete(self, name: str) -> bytes:
        return self.api.head("DELETE", f"{PATH}/{name}", b'{"gracePeriodSeconds":0}')

    async def until(self, names: set[str], wanted: tuple[str, str]) -> None:
        left = set(names)
        while left:
            kind, name, phase = await asyncio.wait_for(self.seen.get(), 60)
            if wanted in {("phase", phase), ("type", kind)}:
                left.discard(name)


async def one_by_one(api: Api, count: int) -> list[float]:
    walls = []
    async with Pods(api) as pods:
        for i in range(count):
            name = f"single-{i}"
            begin = time.perf_counter()
            await pods.send([pods.create(name)])
            await pods.until({name}, ("phase", "Running"))
            walls.append(time.perf_counter() - begin)
            await pods.send([pods.delete(name)])
            await pods.until({name}, ("type", "DELETED"))
    return walls


async def all_at_once(api: Api, count: int) -> tuple[float, float]:
    names = [f"many-{i}" for i in range(count)]
    async with Pods(api) as pods:
        begin = time.perf_counter()
        await asyncio.gather(pods.send([pods.create(n) for n in names]), pods.until(set(names), ("phase", "Running")))
        running = time.perf_counter() - begin
        await asyncio.gather(pods.send([pods.delete(n) for n in names]), pods.until(set(names), ("type", "DELETED")))
        return running, time.perf_counter() - begin


def bench_running(platform, row) -> None:
    api = Api(platform)
    asyncio.run(one_by_one(api, 5))
    walls = asyncio.run(one_by_one(api, 40))
    row(
        "pod: create to Running",
        f"{statistics.median(walls) * 1000:.1f} ms",
        "",
        f"as a watch sees it, median of 40, worst {max(walls) * 1000:.0f} ms; bar 25 ms",
    )


def bench_many(platform, row) -> None:
    api = Api(platform)
    quota = kubectl("get", "nodes", "-o", "jsonpath={.items[0].status.allocatable.pods}")
    begin = cpu_seconds(api.pid)
    running, gone = asyncio.run(all_at_once(api, 200))
    row(
        "pods: 200 started and gone",
        f"{gone:.2f} s",
        "",
        f"all Running after {running:.2f} s; {cpu_seconds(api.pid) - begin:.2f} s of the control plane's CPU; the "
        f"node takes {quota}; bar 5 s",
    )


def bench_idle(platform, row) -> None:
    pid = platform.status()["pid"]
    time.sleep(5)
    begin, wall = cpu_seconds(pid), time.perf_counter()
    time.sleep(30)
    used = (cpu_seconds(pid) - begin) / (time.perf_counter() - wall)
    row("idle: the control plane's CPU", f"{used * 100:.2f} %", "", "of one core, over 30 s; bar 1 %")
