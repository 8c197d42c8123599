"""Terminals in pods for the dashboard: what exec is over HTTP, without the HTTP.

The same checks in the same order as `sessions`: the person's right to create pods/exec, admission, the container.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api.errors import BadRequest
from headrace.apiserver.authz.rbac import Attributes
from headrace.apiserver.http.containers import choose_container
from headrace.apiserver.http.sessions import admitted

if TYPE_CHECKING:
    from headrace.api.identity import User
    from headrace.apiserver.registry import Registry
    from headrace.machinery.component import PodSession, PodStreams


class PodShells:
    """See machinery.component.Shells."""

    def __init__(self, registry: Registry, streams: PodStreams) -> None:
        self._registry, self._streams = registry, streams

    async def open(self, user: User, namespace: str, pod: str, container: str, command: tuple[str, ...]) -> PodSession:
        """See Shells."""
        sent = {
            "apiVersion": "v1",
            "kind": "PodExecOptions",
            "stdin": True,
            "stdout": True,
            "tty": True,
            "container": container,
            "command": list(command),
        }
        asked = Attributes("create", "", "pods", "exec", namespace, pod)
        found = await admitted(self._registry, user, asked, sent)
        name = choose_container(found, container)
        if not found.spec.node_name:
            raise BadRequest(f"pod {pod} does not have a host assigned")
        await self._streams.check(found, name, stdin=False)
        return await self._streams.exec(found, name, command, stdin=True, tty=True)
