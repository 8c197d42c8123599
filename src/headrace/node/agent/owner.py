"""What a container needs of its pod."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

    from headrace.api.core import Pod
    from headrace.node.agent.host import Host
    from headrace.node.volumes.pod import PodVolumes

AT_ONCE, SOON, SHORT, LATER = 0.0, 0.002, 0.04, 0.5
"""How long a change of the status may wait for others, in seconds: ends, readiness and what is wrong; starts, so that
of a container that ends as it begins nothing but its end is written; warm starts, which most of all are of steps that
take no longer; and what comes before a start.
"""


class Owner(Protocol):
    """The pod that a container belongs to."""

    host: Host
    volumes: PodVolumes

    @property
    def pod(self) -> Pod:
        """The newest version known."""
        ...

    @property
    def ip(self) -> str:
        """The pod's address."""
        ...

    @property
    def touched(self) -> asyncio.Event:
        """Set when the pod's own part, or an object that it refers to, next changes."""
        ...

    def running(self, container: str) -> str:
        """The runtime's id of the newest start of a container that runs; empty when it does not."""
        ...

    def changed(self, *, within: float = LATER) -> None:
        """The status must be written, in so many seconds at the latest."""
        ...
