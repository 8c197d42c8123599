"""A stand-in for the node agent: runs a step's launcher as a local process and says so in the pod's status.

The launcher, its environment and its exit are real; what is missing is the sandbox: paths like /minio lie below a
scratch folder, and names like ml-pipeline.kubeflow are replaced by the test's own addresses.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.api.core import ConfigMap, Pod, Secret
from headrace.api.errors import NotFound
from headrace.client.base import EventType
from headrace.components.pipelines.render.step import API_URL

if TYPE_CHECKING:
    from headrace.client.base import Client

LAUNCHER = Path(__file__).parents[4] / "src" / "headrace" / "images" / "kfp_launcher"


class LocalNode:
    """Runs every pod that it sees, once."""

    def __init__(self, client: Client, folder: Path, *, api: str, s3: str, token: str = "editor") -> None:
        self.client, self.folder, self.api, self.s3, self.token = client, folder, api, s3, token
        self.started: list[str] = []
        """Names of pods, in the order in which they began."""
        self.logs: dict[str, str] = {}
        self.hold = asyncio.Event()
        """Clear it to keep new pods Pending."""
        self.hold.set()
        self.waiting: dict[str, tuple[str, str]] = {}
        """By image: the reason and message with which its containers wait instead of starting."""
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.running: set[str] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        listed = await self.client.list(Pod)
        for pod in listed.items:
            self._see(pod)
        self._watch = asyncio.create_task(self._follow(listed.resource_version))

    async def stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        for process in self.processes.values():
            _signal(process, signal.SIGKILL)
        for uid, task in self._tasks.items():
            if uid not in self.running:
                task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _follow(self, version: str) -> None:
        async for event in self.client.watch(Pod, resource_version=version):
            if event.type is EventType.DELETED:
                self._kill(event.object, signal.SIGKILL)
            elif event.object.metadata.deletion_timestamp is not None:
                self._kill(event.object, signal.SIGTERM)
            else:
                self._see(event.object)

    def _kill(self, pod: Pod, number: int) -> None:
        process = self.processes.get(pod.metadata.name)
        if process is not None:
            _signal(process, number)

    def _see(self, pod: Pod) -> None:
        uid = pod.metadata.uid
        if uid not in self._tasks and pod.status.phase in {"", "Pending"}:
            self._tasks[uid] = asyncio.create_task(self._run(pod))
            self._tasks[uid].add_done_callback(_show)

    async def _run(self, pod: Pod) -> None:
        name, image = pod.metadata.name, pod.spec.containers[0].image
        if image in self.waiting:
            reason, message = self.waiting[image]
            await self._status(pod, "Pending", {"waiting": {"reason": reason, "message": message}})
            return
        await self.hold.wait()
        env = await self._environment(pod)
        self.started.append(name)
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(LAUNCHER),
            *[str(self._file(pod, a)) for a in pod.spec.containers[0].args],
            env=env,
            cwd=self.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        self.processes[name] = process
        self.running.add(pod.metadata.uid)
        await self._status(pod, "Running", {"running": {"startedAt": now}})
        output, _ = await process.communicate()
        self.running.discard(pod.metadata.uid)
        self.logs[name] = output.decode(errors="replace")
        code = process.returncode or 0
        terminated: dict[str, Any] = {
            "exitCode": code if code >= 0 else 128 - code,
            "startedAt": now,
            "finishedAt": now,
        }
        await self._status(pod, "Succeeded" if code == 0 else "Failed", {"terminated": terminated})

    def _scratch(self, pod: Pod) -> Path:
        return self.folder / pod.metadata.name

    def _file(self, pod: Pod, path: str) -> Path:
        return self._scratch(pod) / path.lstrip("/")

    async def _environment(self, pod: Pod) -> dict[str, str]:
        scratch = self._scratch(pod)
        scratch.mkdir()
        token = scratch / "token"
        token.write_text(self.token)
        env = {"PATH": os.environ["PATH"], "HOME": str(scratch), "TMPDIR": str(scratch), "PYTHONWARNINGS": "ignore"}
        for variable in pod.spec.containers[0].env:
            source = variable.value_from
            if source is None:
                env[variable.name] = variable.value
            elif source.secret_key_ref is not None:
                key = source.secret_key_ref
                secret = await self.client.get(Secret, key.name, pod.metadata.namespace)
                env[variable.name] = base64.b64decode(secret.data[key.key]).decode()
            elif source.config_map_key_ref is not None:
                ref = source.config_map_key_ref
                env[variable.name] = (await self.client.get(ConfigMap, ref.name, pod.metadata.namespace)).data[ref.key]
            elif source.field_ref is not None:
                env[variable.name] = {
                    "metadata.name": pod.metadata.name,
                    "metadata.namespace": pod.metadata.namespace,
                }.get(source.field_ref.field_path, pod.metadata.uid)
        for volume in pod.spec.volumes:
            if volume.config_map is not None and volume.name == "task":
                found = await self.client.get(ConfigMap, volume.config_map.name, pod.metadata.namespace)
                mount = next(m.mount_path for m in pod.spec.containers[0].volume_mounts if m.name == volume.name)
                for key, text in found.data.items():
                    path = self._file(pod, f"{mount}/{key}")
                    path.parent.mkdir(parents=True)
                    path.write_text(self._local(text, token))
        if "HEADRACE_TASK" in env:
            env["HEADRACE_TASK"] = self._local(env["HEADRACE_TASK"], token)
        if "HEADRACE_S3_ENDPOINT" in env:
            env["HEADRACE_S3_ENDPOINT"] = self.s3
        return {**env, "HEADRACE_SCRATCH": str(scratch)}

    def _local(self, document: str, token: Path) -> str:
        task = json.loads(document)
        assert task["api"] == API_URL
        return json.dumps({**task, "api": self.api, "token_file": str(token)})

    async def _status(self, pod: Pod, phase: str, state: dict[str, Any]) -> None:
        main = {"name": "main", "image": pod.spec.containers[0].image, "state": state}
        patch = {"status": {"phase": phase, "containerStatuses": [main]}}
        with contextlib.suppress(NotFound):
            await self.client.patch(Pod, pod.metadata.name, patch, pod.metadata.namespace, subresource="status")


def _signal(process: asyncio.subprocess.Process, number: int) -> None:
    """To the launcher and all that it has started, as when a container is ended."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def _show(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        print("the local node failed:", repr(task.exception()))
