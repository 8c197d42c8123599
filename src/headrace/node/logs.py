"""Pod logs: what containers wrote, read from CRI files, also after the pod has ended.

    <logs>/pods/<namespace>_<pod>_<uid>/<container>/<attempt>.log      and .log.1 (newest) … when it was rotated

An entry is `<RFC3339Nano> stdout|stderr F|P <text>`; P has no end of line, F has one.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import shutil
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.api.core import Pod
from headrace.api.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator
    from pathlib import Path

    from headrace.api.core import ContainerStatus
    from headrace.machinery.clock import Clock
    from headrace.machinery.settings import Settings

POLL_SECONDS = (0.05, 0.25)
"""A follower looks again after the first; the pause grows to the second while nothing comes."""
EAGER_SECONDS = (0.01, 0.03)
"""The same for somebody who types and waits for the answer."""
KEEP_DAYS = 30
_CHUNK = 64 * 1024
_MAX_ROTATED = 9


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which of the entries, and in what form."""

    since: bytes
    timestamps: bool
    source: bytes = b""
    """stdout or stderr; empty for both."""
    pauses: tuple[float, float] = POLL_SECONDS

    def text(self, entries: Iterable[bytes]) -> Iterator[bytes]:
        fresh = True
        for entry in entries:
            parts = entry.split(b" ", 3)
            if len(parts) != 4 or parts[0] < self.since:
                continue
            stamp, source, tag, text = parts
            if self.source and source != self.source:
                continue
            head = stamp + b" " if self.timestamps and fresh else b""
            fresh = tag == b"F"
            yield head + text + (b"\n" if fresh else b"")


class NodeLogs:
    """See machinery.component.PodLogs. `pods` finds a Pod by namespace/name; `running` gives the attempt of a
    container (pod uid, name) that runs now.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        pods: Callable[[str], Pod | None],
        running: Callable[[str, str], int | None],
    ) -> None:
        self._folder = settings.logs / "pods"
        self._clock, self._pods, self._running = clock, pods, running

    async def stream(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        uid: str = "",
        follow: bool = False,
        previous: bool = False,
        tail: int | None = None,
        since_seconds: float | None = None,
        timestamps: bool = False,
        limit_bytes: int | None = None,
        source: str = "",
        begin: int | None = None,
        eager: bool = False,
    ) -> AsyncIterator[bytes]:
        """See PodLogs. `source` (stdout or stderr) leaves the other out, `begin` is what was `written` when the text
        is to begin; `eager` looks more often.
        """
        found = self._pods(f"{namespace}/{pod}")
        if found is not None and uid and found.metadata.uid != uid:
            found = None
        if found is None and not uid:
            raise NotFound.of(Pod.INFO, pod)
        name = container or _only(found, pod)
        folder = self._folder / f"{namespace}_{pod}_{uid or (found.metadata.uid if found is not None else '')}"
        attempt = _attempt(found, pod, name, folder / name, previous=previous)
        pauses = EAGER_SECONDS if eager else POLL_SECONDS
        wanted = _Wanted(self._since(since_seconds), timestamps, source.encode(), pauses)
        left = limit_bytes
        async for chunk in self._chunks(folder, name, attempt, wanted, tail, follow=follow, begin=begin):
            if left is None:
                yield chunk
                continue
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                return

    def kept(self, namespace: str, pod: str) -> list[str]:
        """See PodLogs."""
        prefix = f"{namespace}_{pod}_"
        found = (
            [path for path in self._folder.iterdir() if path.name.startswith(prefix)] if self._folder.exists() else []
        )
        found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        return [path.name.removeprefix(prefix) for path in found]

    def containers(self, namespace: str, pod: str, uid: str) -> list[str]:
        """See PodLogs."""
        if uid not in self.kept(namespace, pod):
            return []
        return sorted(p.name for p in (self._folder / f"{namespace}_{pod}_{uid}").iterdir() if p.is_dir())

    def written(self, pod: Pod, container: str, attempt: int) -> int:
        """How much of a container's log there is now."""
        meta = pod.metadata
        path = self._folder / f"{meta.namespace}_{meta.name}_{meta.uid}" / container / f"{attempt}.log"
        return path.stat().st_size if path.exists() else 0

    async def forget(self, namespace: str) -> None:
        """Delete the logs of a namespace that ends."""
        for folder in self._folder.glob(f"{namespace}_*_*"):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def prune(self, known: set[str]) -> None:
        """Delete logs of pods that are gone (not in `known`, by uid) and have not written for KEEP_DAYS."""
        oldest = self._clock.precise().timestamp() - KEEP_DAYS * 86400
        for folder in self._folder.glob("*_*_*"):
            if folder.name.rpartition("_")[2] in known:
                continue
            newest = max((p.stat().st_mtime for p in folder.rglob("*")), default=folder.stat().st_mtime)
            if newest < oldest:
                shutil.rmtree(folder, ignore_errors=True)

    def _since(self, seconds: float | None) -> bytes:
        if seconds is None:
            return b""
        moment = self._clock.precise() - dt.timedelta(seconds=seconds)
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%f").encode() + b"000Z"

    async def _chunks(
        self,
        folder: Path,
        name: str,
        attempt: int,
        wanted: _Wanted,
        tail: int | None,
        *,
        follow: bool,
        begin: int | None,
    ) -> AsyncIterator[bytes]:
        path = folder / name / f"{attempt}.log"
        uid = folder.name.rpartition("_")[2]
        with path.open("rb") as file:
            # What is written from here on is read by following; what was rotated away lies before it.
            end = os.fstat(file.fileno()).st_size if begin is None else begin
            for chunk in await asyncio.to_thread(_past, path, file.read(end), wanted, tail) if begin is None else ():
                yield chunk
            if follow:
                async for chunk in self._follow(file.fileno(), path, end, wanted, (uid, name, attempt)):
                    yield chunk

    async def _follow(
        self, descriptor: int, path: Path, offset: int, wanted: _Wanted, who: tuple[str, str, int]
    ) -> AsyncIterator[bytes]:
        uid, name, attempt = who
        current, pause, rest = os.dup(descriptor), wanted.pauses[0], b""
        try:
            while True:
                over = self._running(uid, name) != attempt
                data = os.pread(current, _CHUNK, offset)
                if data:
                    offset += len(data)
                    *entries, rest = (rest + data).split(b"\n")
                    text = b"".join(wanted.text(entries))
                    if text:
                        yield text
                    pause = wanted.pauses[0]
                    continue
                if _rotated(current, path):
                    os.close(current)
                    current, offset = os.open(path, os.O_RDONLY | os.O_CLOEXEC), 0
                    continue
                if over:
                    return
                await self._clock.sleep(pause)
                pause = min(pause * 1.5, wanted.pauses[1])
        finally:
            os.close(current)


def _only(pod: Pod | None, name: str) -> str:
    containers = [c.name for c in pod.spec.containers] if pod is not None else []
    if len(containers) == 1:
        return containers[0]
    listed = " ".join(containers)
    raise BadRequest(f"a container name must be specified for pod {name}, choose one of: [{listed}]")


def _attempt(pod: Pod | None, pod_name: str, name: str, folder: Path, *, previous: bool) -> int:
    """Which start of the container is meant. Raises BadRequest or NotFound."""
    held = _status(pod, pod_name, name)
    attempts = sorted(int(p.stem) for p in folder.glob("*.log") if p.stem.isdigit())
    if previous:
        ended = held.last_state.terminated if held is not None else None
        if ended is not None:
            number = ended.container_id.rpartition("-")[2]
            if number.isdigit() and int(number) in attempts:
                return int(number)
        elif held is None and len(attempts) > 1:
            return attempts[-2]
        raise BadRequest(f'previous terminated container "{name}" in pod "{pod_name}" not found')
    if attempts:
        return attempts[-1]
    if pod is None:
        raise NotFound(f'no logs of container "{name}" in pod "{pod_name}" are kept', name=pod_name)
    waiting = held.state.waiting if held is not None else None
    why = waiting.reason if waiting is not None and waiting.reason else "ContainerCreating"
    if why in {"ErrImagePull", "ImagePullBackOff"}:
        why = "trying and failing to pull image"
    raise BadRequest(f'container "{name}" in pod "{pod_name}" is waiting to start: {why}')


def _status(pod: Pod | None, pod_name: str, name: str) -> ContainerStatus | None:
    if pod is None:
        return None
    spec, status = pod.spec, pod.status
    if not any(c.name == name for c in (*spec.containers, *spec.init_containers, *spec.ephemeral_containers)):
        raise BadRequest(f"container {name} is not valid for pod {pod_name}")
    every = (*status.container_statuses, *status.init_container_statuses, *status.ephemeral_container_statuses)
    return next((s for s in every if s.name == name), None)


def _past(path: Path, newest: bytes, wanted: _Wanted, tail: int | None) -> list[bytes]:
    """The text of everything written so far, or of its last lines."""
    files = [path.with_name(f"{path.name}.{n}") for n in range(1, _MAX_ROTATED)]
    parts = [newest]
    for file in files:
        if tail is not None and sum(part.count(b"\n") for part in parts) > tail:
            break
        try:
            parts.append(file.read_bytes())
        except FileNotFoundError:
            break
    lines = wanted.text(line for part in reversed(parts) for line in part.splitlines())
    if tail is None:
        return _joined(lines)
    return _joined(_last(lines, tail))


def _last(texts: Iterable[bytes], count: int) -> list[bytes]:
    """The last whole lines, with what may follow them."""
    lines: deque[bytes] = deque(maxlen=count + 1 if count else 1)
    line = b""
    for text in texts:
        line += text
        if line.endswith(b"\n"):
            lines.append(line)
            line = b""
    if line:
        lines.append(line)
    return list(lines)[-count:] if count else []


def _joined(texts: Iterable[bytes]) -> list[bytes]:
    chunks: list[bytes] = []
    size, held = 0, []
    for text in texts:
        held.append(text)
        size += len(text)
        if size >= _CHUNK:
            chunks.append(b"".join(held))
            size, held = 0, []
    if held:
        chunks.append(b"".join(held))
    return chunks


def _rotated(descriptor: int, path: Path) -> bool:
    try:
        here = path.stat()
    except OSError:
        return False
    open_file = os.fstat(descriptor)
    return (here.st_dev, here.st_ino) != (open_file.st_dev, open_file.st_ino)
