"""Kills the control plane at random moments under a mixed load and checks what was promised.

    python tests/e2e/faults.py --kills 200 --seed 1

- No write that was acknowledged is lost: after every start, each ConfigMap is as its writer last heard, or as a write
  left it whose answer the kill cut off.
- No resourceVersion goes backwards: neither an object's, nor the store's, nor those that a watch shows.
- No pod of a Job runs twice to success: each appends its name to a ledger when it has done its work.
- Whatever had an owner that is gone goes too.
- SQLite finds every database whole after every kill.

Control planes run in the foreground of a process of their own, which is killed while it serves or while it starts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp

CORE, BATCH, APPS = (
    "/api/v1/namespaces/default",
    "/apis/batch/v1/namespaces/default",
    "/apis/apps/v1/namespaces/default",
)
MERGE = "application/merge-patch+json"
PATIENCE = 180.0
"""Seconds for whatever must happen in the end."""
GONE = None
WORK = 'sleep 0.2; echo "$POD" >> "/ledger/$JOB"'


class Broken(AssertionError):
    """A promise was not kept."""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def job(name: str, completions: int) -> dict[str, Any]:
    env = [{"name": "JOB", "value": name}, {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    container = {
        "name": "main",
        "image": "busybox",
        "command": ["sh", "-c", WORK],
        "env": env,
        "volumeMounts": [{"name": "ledger", "mountPath": "/ledger"}],
    }
    volume = {"name": "ledger", "persistentVolumeClaim": {"claimName": "ledger"}}
    spec = {"restartPolicy": "Never", "containers": [container], "volumes": [volume]}
    return {
        "metadata": {"name": name, "labels": {"storm": "job"}},
        "spec": {"completions": completions, "parallelism": 2, "backoffLimit": 20, "template": {"spec": spec}},
    }


def deployment(name: str, replicas: int) -> dict[str, Any]:
    labels = {"app": name}
    container = {"name": "main", "image": "busybox", "command": ["sleep", "100000"]}
    pod = {"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}}
    return {
        "metadata": {"name": name, "labels": {"storm": "deployment"}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod},
    }


class Storm:
    """One home, its control planes one after the other, the load on them, and what the load was promised."""

    def __init__(self, home: Path, seed: int) -> None:
        self.home, self.random = home, random.Random(seed)
        self.port, self.others = free_port(), (free_port(), free_port())
        self.process: subprocess.Popen[bytes] | None = None
        self.calm = asyncio.Event()
        self.busy = 0
        self.stopping = False
        self.promised: dict[str, list[Any]] = {}
        """By ConfigMap, what it may be: the last acknowledged state first, then those of writes without an answer."""
        self.versions: dict[str, int] = {}
        """By ConfigMap, the newest version that was acknowledged."""
        self.newest = 0
        self.jobs: dict[str, int] = {}
        self.deployments: dict[str, int] = {}
        self.counts: Counter[str] = Counter()
        self.http: aiohttp.ClientSession | None = None

    # The control plane.

    def start(self) -> None:
        ports = zip(("api", "gateway", "objectstore"), (self.port, *self.others), strict=True)
        command = [sys.executable, "-m", "headrace.cli", "up", "--home", str(self.home), "--only", "profiles"]
        (self.home / "logs").mkdir(parents=True, exist_ok=True)
        with (self.home / "logs" / "headrace.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *(f"--{name}-port={port}" for name, port in ports)], stdout=log, stderr=log
            )

    def kill(self) -> None:
        assert self.process is not None
        if self.process.poll() is not None:
            raise Broken(f"the control plane ended by itself with {self.process.returncode}:\n{self.log_tail()}")
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def log_tail(self) -> str:
        return (self.home / "logs" / "headrace.log").read_text(errors="replace")[-4000:]

    async def ready(self) -> None:
        begin = time.monotonic()
        while True:
            assert self.process is not None
            if self.process.poll() is not None:
                raise Broken(f"the control plane did not start:\n{self.log_tail()}")
            facts = self.home / "run" / "platform.json"
            if facts.exists() and json.loads(facts.read_text())["pid"] == self.process.pid:
                return
            if time.monotonic() - begin > PATIENCE:
                raise Broken(f"the control plane is not ready:\n{self.log_tail()}")
            await asyncio.sleep(0.01)

    def stop(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        subprocess.run(
            [sys.executable, "-m", "headrace.cli", "down", "--home", str(self.home)], check=False, capture_output=True
        )

    # Requests.

    async def connect(self) -> None:
        if self.http is None:
            pki = self.home / "pki"
            context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
            context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
            self.http = aiohttp.ClientSession(
                f"https://localhost:{self.port}",
                connector=aiohttp.TCPConnector(ssl=context, limit=32),
                timeout=aiohttp.ClientTimeout(total=None, sock_read=30),
            )

    async def ask(
        self, method: str, path: str, body: Any = None, media: str = "application/json"
    ) -> tuple[int, Any] | None:
        """Status and answer; None when the control plane went away before the whole answer was there."""
        assert self.http is not None
        data = json.dumps(body).encode() if body is not None else None
        try:
            async with self.http.request(method, path, data=data, headers={"Content-Type": media}) as response:
                answer = json.loads(await response.read())
        except TimeoutError as error:
            raise Broken(f"{method} {path} hangs") from error
        except (aiohttp.ClientError, ConnectionError, json.JSONDecodeError):
            self.counts["unanswered"] += 1
            await asyncio.sleep(0.02)
            return None
        if response.status >= 500:
            raise Broken(f"{method} {path}: {response.status} {answer}")
        return response.status, answer

    def acknowledged(self, obj: dict[str, Any]) -> int:
        version = int(obj["metadata"]["resourceVersion"])
        self.newest = max(self.newest, version)
        return version

    # The load.

    @contextlib.asynccontextmanager
    async def turn(self):
        """One piece of work, begun only while the storm blows."""
        await self.calm.wait()
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1
            await asyncio.sleep(0)

    async def write(self, worker: int) -> None:
        """Create, change and delete ConfigMaps that are this worker's alone."""
        rng, number = random.Random(self.random.random()), 0
        while not self.stopping:
            async with self.turn():
                name = f"storm-{worker}-{rng.randrange(25)}"
                number += 1
                states = self.promised.setdefault(name, [GONE])
                if len(states) > 1 and not await self.resolve(name):
                    continue
                states = self.promised[name]
                if states[0] is GONE and len(states) == 1:
                    body = {"metadata": {"name": name}, "data": {"n": str(number), "filler": "y" * 1200}}
                    wanted: Any = str(number)
                    states.append(wanted)
                    answer = await self.ask("POST", f"{CORE}/configmaps", body)
                elif rng.random() < 0.75:
                    wanted = str(number)
                    states.append(wanted)
                    answer = await self.ask("PATCH", f"{CORE}/configmaps/{name}", {"data": {"n": wanted}}, MERGE)
                else:
                    wanted = GONE
                    states.append(wanted)
                    answer = await self.ask("DELETE", f"{CORE}/configmaps/{name}")
                if answer is None:
                    continue
                status, obj = answer
                if status not in {200, 201}:
                    raise Broken(f"a write to {name} that nobody else writes to was refused: {status} {obj}")
                self.promised[name] = [wanted]
                self.counts["acknowledged writes"] += 1
                if wanted is GONE:
                    self.versions.pop(name, None)
                    continue
                version = self.acknowledged(obj)
                if version <= self.versions.get(name, 0):
                    raise Broken(f"{name} went from version {self.versions[name]} to {version}")
                self.versions[name] = version

    async def resolve(self, name: str) -> bool:
        """Find out what became of a write whose answer was cut off."""
        answer = await self.ask("GET", f"{CORE}/configmaps/{name}")
        if answer is None:
            return False
        status, obj = answer
        self.settled(name, obj if status == 200 else None)
        return True

    def settled(self, name: str, obj: dict[str, Any] | None) -> None:
        """This is what is there: it must be what was promised, or what an unanswered write wanted."""
        states = self.promised[name]
        state = obj["data"]["n"] if obj else GONE
        if state not in states:
            raise Broken(f"{name} is {state}, but was acknowledged to be {states[0]} (or, unheard: {states[1:]})")
        if obj is not None and state == states[0] and int(obj["metadata"]["resourceVersion"]) < self.versions[name]:
            raise Broken(f"{name} went back to version {obj['metadata']['resourceVersion']}")
        self.promised[name] = [state]
        if obj is not None:
            self.versions[name] = int(obj["metadata"]["resourceVersion"])
        else:
            self.versions.pop(name, None)

    async def work(self) -> None:
        """Start Jobs; start, scale and delete Deployments."""
        rng, number = random.Random(self.random.random()), 0
        while not self.stopping:
            async with self.turn():
                number += 1
                running = [n for n, replicas in self.deployments.items() if replicas >= 0]
                choice = rng.random()
                if choice < 0.4:
                    name, completions = f"job-{number}", rng.choice([1, 2, 3])
                    if await self.accepted("POST", f"{BATCH}/jobs", job(name, completions)):
                        self.jobs[name] = completions
                elif len(running) < 3:
                    name = f"web-{number}"
                    self.deployments[name] = replicas = rng.choice([1, 2])
                    await self.accepted("POST", f"{APPS}/deployments", deployment(name, replicas))
                elif choice < 0.7:
                    name, replicas = rng.choice(running), rng.choice([0, 1, 2])
                    patch = {"spec": {"replicas": replicas}}
                    if await self.accepted("PATCH", f"{APPS}/deployments/{name}", patch, MERGE):
                        self.deployments[name] = replicas
                else:
                    name = rng.choice(running)
                    self.deployments[name] = -1
                    policy = {"propagationPolicy": rng.choice(["Background", "Foreground"])}
                    if not await self.accepted("DELETE", f"{APPS}/deployments/{name}", policy):
                        self.deployments[name] = 0
            await asyncio.sleep(rng.uniform(0.1, 0.4))

    async def accepted(self, method: str, path: str, body: Any, media: str = "application/json") -> bool:
        answer = await self.ask(method, path, body, media)
        if answer is None:
            return False
        if answer[0] not in {200, 201, 202}:
            if answer[0] in {404, 409}:  # what an earlier write without an answer was about
                return False
            raise Broken(f"{method} {path}: {answer}")
        self.counts["acknowledged writes"] += 1
        return True

    async def watch(self) -> None:
        """Follow the ConfigMaps from where the last control plane left off."""
        last, seen = 0, 0
        while not self.stopping:
            await self.calm.wait()
            assert self.http is not None
            with contextlib.suppress(aiohttp.ClientError, ConnectionError, json.JSONDecodeError):
                path = f"{CORE}/configmaps?watch=1&resourceVersion={last}" if last else f"{CORE}/configmaps?watch=1"
                async with self.http.get(path, timeout=aiohttp.ClientTimeout(total=None)) as response:
                    async for line in response.content:
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            if event["object"]["code"] == 410:
                                last = 0
                                break
                            raise Broken(f"the watch after {last} ended with {event['object']}")
                        version = int(event["object"]["metadata"]["resourceVersion"])
                        if last and version <= last:
                            raise Broken(f"a watch after version {last} shows version {version}")
                        seen = max(seen, version)
                        self.newest = max(self.newest, version)
                        if last:
                            last = version
                        self.counts["watch events"] += 1
                    last = last or seen
            await asyncio.sleep(0.01)

    # What was promised.

    def check_databases(self) -> None:
        """On copies, as the kill left them: opening the originals would mend them."""
        for database in sorted((self.home / "state").rglob("*.db")):
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / database.name
                for suffix in ("", "-wal"):
                    with contextlib.suppress(FileNotFoundError):
                        shutil.copy(f"{database}{suffix}", f"{copy}{suffix}")
                with contextlib.closing(sqlite3.connect(copy)) as db:
                    found = db.execute("PRAGMA integrity_check").fetchall()
                    if found != [("ok",)]:
                        raise Broken(f"{database.name} is damaged: {found[:5]}")
                    if database.name == "cluster.db" and db.execute("PRAGMA user_version").fetchone()[0]:
                        (newest,) = db.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence").fetchone()
                        if newest < self.newest:
                            raise Broken(f"version {self.newest} was acknowledged, the store ends at {newest}")

    async def check_writes(self) -> None:
        answer = await self.ask("GET", f"{CORE}/configmaps")
        if answer is None or answer[0] != 200:
            raise Broken(f"the ConfigMaps cannot be listed: {answer}")
        if int(answer[1]["metadata"]["resourceVersion"]) < self.newest:
            raise Broken(f"the list is of version {answer[1]['metadata']['resourceVersion']}, {self.newest} was seen")
        found = {o["metadata"]["name"]: o for o in answer[1]["items"]}
        for name in self.promised:
            self.settled(name, found.get(name))

    async def until(self, what: str, holds: Any) -> None:
        begin = time.monotonic()
        while (why := await holds()) is not None:
            if time.monotonic() - begin > PATIENCE:
                raise Broken(f"{what}: {why}\n{self.log_tail()}")
            await asyncio.sleep(0.05)

    async def items(self, path: str) -> list[dict[str, Any]]:
        answer = await self.ask("GET", path)
        if answer is None or answer[0] != 200:
            raise Broken(f"GET {path}: {answer}")
        found: list[dict[str, Any]] = answer[1]["items"]
        return found

    def ledger(self) -> dict[str, list[str]]:
        folders = {p.parent for p in (self.home / "volumes").rglob("job-*") if p.is_file()}
        return {p.name: p.read_text().split() for f in folders for p in f.iterdir() if p.name.startswith("job-")}

    async def settle(self) -> None:
        """Wait until all work is done, then take everything away and see that nothing stays."""

        async def jobs_done() -> str | None:
            jobs = await self.items(f"{BATCH}/jobs")
            open_ = [j["metadata"]["name"] for j in jobs if not (j.get("status") or {}).get("completionTime")]
            return (
                f"{open_} have not ended: {[j.get('status') for j in jobs if j['metadata']['name'] in open_]}"
                if open_
                else None
            )

        await self.until("Jobs", jobs_done)
        pods = await self.items(f"{CORE}/pods")
        written = self.ledger()
        done = {j["metadata"]["name"]: j for j in await self.items(f"{BATCH}/jobs")}
        if missing := [n for n in self.jobs if n not in done]:
            raise Broken(f"Jobs that were acknowledged are lost: {missing}")
        for name, found in done.items():
            completions = found["spec"]["completions"]
            own = {p["metadata"]["name"]: p for p in pods if p["metadata"].get("labels", {}).get("job-name") == name}
            succeeded = sorted(n for n, p in own.items() if p["status"]["phase"] == "Succeeded")
            if sorted(written.get(name, [])) != succeeded or len(succeeded) != completions:
                phases = {n: (p["status"]["phase"], p["status"].get("reason", "")) for n, p in own.items()}
                raise Broken(
                    f"{name} wants {completions} completions; {succeeded} succeeded, {written.get(name)} did the "
                    f"work: {phases}"
                )
        self.counts["Jobs"] += len(done)
        self.counts["pods of Jobs"] += sum(len(lines) for lines in written.values())

        async def scaled() -> str | None:
            for found in await self.items(f"{APPS}/deployments"):
                name, wanted = found["metadata"]["name"], found["spec"]["replicas"]
                running = [
                    p
                    for p in await self.items(f"{CORE}/pods?labelSelector=app%3D{name}")
                    if p["status"]["phase"] == "Running" and "deletionTimestamp" not in p["metadata"]
                ]
                if found["metadata"].get("deletionTimestamp") or len(running) != wanted:
                    return f"{name} has {len(running)} of {wanted}"
            return None

        await self.until("Deployments", scaled)
        await self.orphans()
        for path in (f"{BATCH}/jobs", f"{APPS}/deployments"):
            for found in await self.items(path):
                background = {"propagationPolicy": "Background"}
                if not await self.accepted("DELETE", f"{path}/{found['metadata']['name']}", background):
                    raise Broken(f"{found['metadata']['name']} cannot be deleted")

        async def empty() -> str | None:
            left = [
                f"{path.rsplit('/', 1)[1]}/{o['metadata']['name']}"
                for path in (f"{BATCH}/jobs", f"{APPS}/deployments", f"{APPS}/replicasets", f"{CORE}/pods")
                for o in await self.items(path)
            ]
            return f"{left} are still there" if left else None

        await self.until("owned objects", empty)

        async def quiet() -> str | None:
            cgroups = [p for p in (self.home / "run").rglob("pods/*") if p.is_dir()]
            return f"{cgroups} are still there" if cgroups else None

        await self.until("folders of pods", quiet)
        self.jobs.clear()
        self.deployments.clear()
        for path in (self.home / "volumes").rglob("job-*"):
            path.unlink()

    async def orphans(self) -> None:
        """Wait until nothing names an owner that is not there."""

        async def none() -> str | None:
            pods, sets = await self.items(f"{CORE}/pods"), await self.items(f"{APPS}/replicasets")
            owners = [*sets, *await self.items(f"{APPS}/deployments"), *await self.items(f"{BATCH}/jobs")]
            uids = {o["metadata"]["uid"] for o in owners}
            left = [
                o["metadata"]["name"]
                for o in [*pods, *sets]
                if any(r["uid"] not in uids for r in o["metadata"].get("ownerReferences") or ())
            ]
            return f"{left} have outlived their owners" if left else None

        await self.until("owned objects", none)

    # All of it.

    async def run(self, kills: int, *, settle_every: int = 25) -> None:
        load: list[asyncio.Task[None]] = []
        try:
            self.start()
            await self.ready()
            await self.connect()
            claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
            await self.ask("POST", f"{CORE}/persistentvolumeclaims", {"metadata": {"name": "ledger"}, "spec": claim})
            load = [asyncio.create_task(w) for w in (*(self.write(n) for n in range(4)), self.work(), self.watch())]
            for number in range(1, kills + 1):
                if self.random.random() < 0.2 and number > 1:
                    self.stop_writing()
                    await self.hold(load, self.random.uniform(0, 0.8))
                else:
                    self.calm.set()
                    await self.hold(load, self.random.uniform(0.05, 1.2))
                    self.stop_writing()
                self.kill()
                self.counts["kills"] += 1
                await self.parked(load)
                self.check_databases()
                self.start()
                if self.random.random() < 0.2:
                    continue
                await self.ready()
                await self.check_writes()
                if number % settle_every == 0:
                    await self.settle()
                    print(f"{number} kills: {dict(self.counts)}", flush=True)
            await self.ready()
            await self.check_writes()
            await self.settle()
        finally:
            self.stopping = True
            for task in load:
                task.cancel()
            await asyncio.gather(*load, return_exceptions=True)
            if self.http is not None:
                await self.http.close()
            self.stop()

    def stop_writing(self) -> None:
        self.calm.clear()

    async def hold(self, load: list[asyncio.Task[None]], seconds: float) -> None:
        """Let time pass; a load that found something wrong ends the test."""
        done, _ = await asyncio.wait(load, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
            raise Broken("a part of the load has ended")

    async def parked(self, load: list[asyncio.Task[None]]) -> None:
        """Until every write that was on its way has heard that there is nobody."""
        begin = time.monotonic()
        while self.busy:
            await self.hold(load, 0.01)
            if time.monotonic() - begin > PATIENCE:
                raise Broken(f"{self.busy} requests still wait for a control plane that was killed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    chosen = parser.parse_args()
    print(f"{chosen.kills} kills, seed {chosen.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="headrace-faults-", ignore_cleanup_errors=True) as folder:
        begin = time.monotonic()
        storm = Storm(Path(folder), chosen.seed)
        asyncio.run(storm.run(chosen.kills))
        print(f"everything held, in {time.monotonic() - begin:.0f} s: {dict(storm.counts)}")


if __name__ == "__main__":
    main()
