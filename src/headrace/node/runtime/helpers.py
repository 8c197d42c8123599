"""The helper processes of a home, seen from the control plane: found, started, replaced, asked, ended."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.node.runtime.base import StartFailed
from headrace.node.runtime.links import HelperGone, HelperSession, HolderLink, SpawnerLink, readable
from headrace.node.runtime.sandboxd import linux, network, spawner, wire

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from headrace.machinery.settings import Settings

log = logging.getLogger(__name__)

_LAUNCH_SECONDS = 20.0
_END_SECONDS = 20.0
_ATTEMPTS = 3


class Helpers:
    """Spawner and network holder. Whichever is missing is started when it is needed."""

    def __init__(self, settings: Settings, idle_seconds: float) -> None:
        self._settings, self._idle_seconds = settings, idle_seconds
        self._spawner = SpawnerLink(settings.run / spawner.SOCKET)
        self._holder = HolderLink(settings.run / network.SOCKET)
        self._launching = asyncio.Lock()
        self._node_ns = -1

    async def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """A request to the spawner, which is started (again) when it is not there. Raises StartFailed."""
        for attempt in range(_ATTEMPTS):
            try:
                await self.connect()
                reply = await self._spawner.call(op, **fields)
            except HelperGone:
                if attempt == _ATTEMPTS - 1:
                    raise
                log.warning("the node's spawner went away; starting it again")
                continue
            if "error" in reply:
                raise StartFailed(reply["error"])
            return reply
        raise AssertionError

    async def connect(self) -> None:
        """Connect to a spawner of this version, started if there is none. Raises HelperGone."""
        async with self._launching:
            if self._spawner.connected:
                return
            version = _version()
            for _ in range(_ATTEMPTS):
                with contextlib.suppress(OSError):
                    await self._spawner.connect()
                    hello = await self._spawner.call("hello")
                    if hello["version"] == version:
                        return
                    log.info("replacing a spawner of another version")
                    with contextlib.suppress(HelperGone):
                        await self._spawner.call("shutdown", network=False)
                    await self._spawner.close()
                await asyncio.to_thread(self._launch, version)
            raise HelperGone("the spawner does not answer")

    def _launch(self, version: str) -> None:
        """Start the spawner; it answers when this returns."""
        config = {
            "version": version,
            "cgroup": "headrace-" + hashlib.sha256(str(self._settings.home).encode()).hexdigest()[:12],
            "idle_seconds": self._idle_seconds,
            "network": {
                "node_ip": self._settings.node_ip,
                "pod_cidr": self._settings.pod_cidr,
                "service_cidr": self._settings.service_cidr,
            },
        }
        program = str(Path(spawner.__file__).parent)
        command = [sys.executable, "-I", "-S", "-X", "utf8", program, str(self._settings.run), json.dumps(config)]
        path = self._settings.logs / "spawner.log"
        with path.open("ab") as output:
            before = output.tell()
            try:
                code = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd="/",
                    env={"PATH": os.environ.get("PATH", os.defpath)},
                    timeout=_LAUNCH_SECONDS,
                    check=False,
                ).returncode
            except (OSError, subprocess.TimeoutExpired) as error:
                raise HelperGone(f"the spawner could not be started: {error}") from error
        if code not in {0, spawner.ALREADY_RUNNING}:
            with path.open("rb") as written:
                written.seek(before)
                text = written.read().decode(errors="replace").strip()
            raise HelperGone(f"the spawner ended with code {code}: {text or 'it said nothing'}")

    async def hold(self, op: str, **fields: Any) -> tuple[dict[str, Any], list[int]]:
        """A request to the network holder, which the spawner starts again when it is not there."""
        for attempt in range(_ATTEMPTS):
            try:
                if attempt:
                    await self.ensure_network()
                return await self._holder.call(op, **fields)
            except HelperGone:
                if attempt == _ATTEMPTS - 1:
                    raise
                log.warning("the node's network holder went away; starting it again")
        raise AssertionError

    async def ensure_network(self) -> None:
        """Have a network holder, and hold the node's network with it: whichever of them dies, it lives on."""
        held = None if self._node_ns < 0 else [os.getpid(), linux.start_time(os.getpid()), self._node_ns]
        await self.ask("network", held=held)
        _, fds = await self._holder.call("node")
        self._let_go()
        self._node_ns = fds[0]

    def _let_go(self) -> None:
        if self._node_ns >= 0:
            os.close(self._node_ns)
            self._node_ns = -1

    def hold_now(self, op: str, **fields: Any) -> list[int]:
        """The descriptors that a request to the network holder gives, without asyncio."""
        return self._holder.call_now(op, **fields)[1]

    async def stream(self, op: str, **fields: Any) -> AsyncGenerator[dict[str, Any], None]:
        """A request to the spawner with a connection of its own."""
        await self.connect()
        async with contextlib.aclosing(self._spawner.stream(op, **fields)) as messages:
            async for message in messages:
                yield message

    async def take(self, op: str, **fields: Any) -> tuple[HelperSession, list[int]]:
        """A request to the spawner with a connection of its own, which gives descriptors. Raises StartFailed."""
        await self.connect()
        try:
            return await HelperSession.open(self._settings.run / spawner.SOCKET, op, **fields)
        except (OSError, EOFError) as error:
            raise StartFailed(f"the spawner does not answer: {error}") from error

    async def close(self) -> None:
        """Disconnect; the helpers go on."""
        await self._spawner.close()
        self._holder.close()
        self._let_go()

    async def end(self) -> None:
        """Ask the helper processes to end, and wait until they have."""
        watched = [fd for record in self._running() if (fd := process_handle(record["pid"], record["start"])) >= 0]
        try:
            with contextlib.suppress(HelperGone):
                await self._spawner.call("shutdown", network=True)
            async with asyncio.timeout(_END_SECONDS):
                await asyncio.gather(*(readable(fd) for fd in watched))
        except TimeoutError:
            log.warning("the node's helper processes do not end")
        finally:
            for fd in watched:
                os.close(fd)

    def _running(self) -> list[dict[str, Any]]:
        found = [wire.read_file(str(self._settings.run / name)) for name in (spawner.RECORD, network.RECORD)]
        return [record for record in found if record is not None]


def process_handle(pid: int, started: int) -> int:
    """A descriptor of exactly this process; -1 when it has ended, whoever has its number now."""
    try:
        fd = linux.pidfd_open(pid)
    except ProcessLookupError:
        return -1
    if linux.start_time(pid) == started:
        return fd
    os.close(fd)
    return -1


def send_signal(pid: int, started: int, number: int) -> None:
    """Signal exactly this process; nothing when it has ended."""
    handle = process_handle(pid, started)
    if handle >= 0:
        try:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def _version() -> str:
    """Which code the helpers must run: a spawner of an older version is replaced, its containers stay."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(Path(spawner.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
