"""The end of every pod at once: asked first, then by force, leaving no process and no secret behind.

Pods that should run start again with the next `up`; what their containers' files hold in volumes stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

from headrace.node.folders import PodFolders
from headrace.node.runtime.base import ContainerPhase

if TYPE_CHECKING:
    from headrace.machinery.settings import Settings
    from headrace.node.runtime.base import ContainerState, Runtime

GRACE_SECONDS = 5.0
"""What a pod has between SIGTERM and SIGKILL: a person waits for this one, whatever the pod asks for."""


async def shut_down(settings: Settings, runtime: Runtime, *, grace_seconds: float = GRACE_SECONDS) -> None:
    """Stop every container and the node's helper processes. Nobody must start pods meanwhile."""
    running = {(c.pod_uid, c.id) for c in await runtime.containers() if c.phase is ContainerPhase.RUNNING}
    ended = asyncio.Event()

    def exited(state: ContainerState) -> None:
        running.discard((state.pod_uid, state.id))
        if not running:
            ended.set()

    runtime.on_exit(exited)
    if running:
        await asyncio.gather(*(runtime.kill(pod, container, signal.SIGTERM) for pod, container in list(running)))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), grace_seconds)
    await runtime.stop(pods=True)
    folders = PodFolders(settings)
    for uid in folders.all():
        folders.remove(uid)
    folders.close()
