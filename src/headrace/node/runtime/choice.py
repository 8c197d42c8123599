"""Which runtime this machine gets: the one that was asked for, or the first that works.

`ChosenRuntime` is the runtime for everybody else; before `start` it is none, so it can be handed around while the
machine is being tried.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from headrace.machinery.settings import AUTO, AUTOMATIC_MODES, MODES
from headrace.node.runtime.base import RuntimeUnavailable

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from headrace.machinery.settings import Settings
    from headrace.node.runtime.base import (
        ContainerSpec,
        ContainerState,
        ExecResult,
        Isolation,
        Keyboard,
        PodSandbox,
        Runtime,
        Session,
        Usage,
    )
    from headrace.node.runtime.engines import Engines

log = logging.getLogger(__name__)


def make(mode: str, settings: Settings, engines: Engines | None = None) -> Runtime:
    """A runtime of this mode, not started; `engines` are asked for what runs real images. Raises RuntimeUnavailable
    for a mode that does not exist.
    """
    if mode == "sandbox":
        from headrace.node.runtime.container import EngineRuntime  # noqa: PLC0415 - only one of them is needed

        return EngineRuntime(settings, engines)
    if mode == "container":
        from headrace.node.runtime.container import ContainerRuntime  # noqa: PLC0415 - only one of them is needed

        return ContainerRuntime(settings, engines)
    if mode == "bare":
        from headrace.node.runtime.bare import BareRuntime  # noqa: PLC0415 - only one of them is needed

        return BareRuntime(settings)
    raise RuntimeUnavailable(f"there is no mode {mode!r} for pods: use {', '.join(MODES)} or {AUTO}")


class ChosenRuntime:
    """Implements `Runtime` by another one."""

    def __init__(self, settings: Settings, engines: Engines | None = None) -> None:
        self._settings, self._engines = settings, engines
        self._runtime: Runtime | None = None
        self.passed_over: dict[str, str] = {}
        """Modes that were tried first, and why they are not used; after `start`."""

    @property
    def _chosen(self) -> Runtime:
        if self._runtime is None:
            raise RuntimeUnavailable("the runtime has not been started")
        return self._runtime

    @property
    def isolation(self) -> Isolation:
        """See Runtime."""
        return self._chosen.isolation

    async def start(self) -> None:
        """See Runtime."""
        wanted = AUTOMATIC_MODES if self._settings.mode == AUTO else (self._settings.mode,)
        self.passed_over = {}
        for mode in wanted:
            runtime = make(mode, self._settings, self._engines)
            try:
                await runtime.start()
            except RuntimeUnavailable as error:
                await runtime.stop(pods=False)
                self.passed_over[mode] = str(error)
                continue
            if self.passed_over:
                log.warning("pods run in mode %s: %s", mode, " ".join(self.passed_over.values()))
            self._runtime = runtime
            return
        raise RuntimeUnavailable(" ".join(self.passed_over.values()))

    async def stop(self, *, pods: bool) -> None:
        """See Runtime."""
        if self._runtime is not None:
            await self._runtime.stop(pods=pods)

    def on_exit(self, handler: Callable[[ContainerState], None]) -> None:
        """See Runtime."""
        self._chosen.on_exit(handler)

    async def create_pod(self, pod: PodSandbox) -> None:
        """See Runtime."""
        await self._chosen.create_pod(pod)

    async def remove_pod(self, uid: str) -> None:
        """See Runtime."""
        await self._chosen.remove_pod(uid)

    def sweep(self, *folders: Path) -> None:
        """See Runtime."""
        self._chosen.sweep(*folders)

    async def start_container(self, spec: ContainerSpec) -> ContainerState:
        """See Runtime."""
        return await self._chosen.start_container(spec)

    async def kill(self, pod_uid: str, container_id: str, signal: int) -> None:
        """See Runtime."""
        await self._chosen.kill(pod_uid, container_id, signal)

    async def pods(self) -> list[str]:
        """See Runtime."""
        return await self._chosen.pods()

    async def containers(self) -> list[ContainerState]:
        """See Runtime."""
        return await self._chosen.containers()

    async def exec(
        self, pod_uid: str, container_id: str, argv: tuple[str, ...], *, timeout: float | None = None
    ) -> ExecResult:
        """See Runtime."""
        return await self._chosen.exec(pod_uid, container_id, argv, timeout=timeout)

    async def open_session(
        self, pod_uid: str, container_id: str, argv: tuple[str, ...], *, stdin: bool, tty: bool
    ) -> Session:
        """See Runtime."""
        return await self._chosen.open_session(pod_uid, container_id, argv, stdin=stdin, tty=tty)

    async def open_input(self, pod_uid: str, container_id: str, *, once: bool) -> Keyboard:
        """See Runtime."""
        return await self._chosen.open_input(pod_uid, container_id, once=once)

    async def usage(self) -> list[Usage]:
        """See Runtime."""
        return await self._chosen.usage()

    async def dial(self, ip: str, port: int) -> socket.socket:
        """See Runtime."""
        return await self._chosen.dial(ip, port)

    async def listen(self, ip: str, port: int, kind: int) -> socket.socket:
        """See Runtime."""
        return await self._chosen.listen(ip, port, kind)
