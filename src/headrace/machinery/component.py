"""A component as a value: what it is called, what it needs, what it brings.

`platform` lists components by name, sorts them by `requires` and imports only those that are enabled; nothing
is registered by import. A component's `build` receives everything that it may use.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Awaitable, Callable

    from headrace.api.identity import User
    from headrace.api.meta import Object
    from headrace.client.base import Client
    from headrace.machinery.clock import Clock
    from headrace.machinery.controller import AnyController
    from headrace.machinery.settings import Settings


class ConfigurationError(Exception):
    """The platform cannot start as it is configured, or not on this machine; the message says what to do."""


ASGIApp = Any
"""An ASGI application; Starlette's type is not needed here."""


class Dialer(Protocol):
    """Opens connections into the pod network (and to service names) from outside of it."""

    async def dial(self, host: str, port: int) -> socket.socket:
        """A connected, non-blocking socket to a pod IP, a service IP or a service name. Raises OSError."""
        ...


class PodLogs(Protocol):
    """Reads the logs that the node agent keeps, also after the pod has ended."""

    def stream(
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
    ) -> AsyncIterator[bytes]:
        """Chunks of whole lines. Raises NotFound or BadRequest in the API server's words."""
        ...


class Authenticator(Protocol):
    """Says who sends a bearer token at the platform's own edges."""

    async def authenticate(self, token: str, audiences: tuple[str, ...] = ()) -> User | None:
        """The token's owner, or None."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """What a component may use. `client` acts under the component's own service account."""

    name: str
    settings: Settings
    client: Client
    clock: Clock
    dialer: Dialer
    logs: PodLogs


@dataclass(frozen=True, slots=True)
class HostService:
    """A TCP service that the platform's own process offers; pods reach it as `name.namespace:port`."""

    name: str
    namespace: str
    port: int
    target_port: int
    """The port on the host's loopback."""
    port_name: str = "http"


@dataclass(frozen=True, slots=True)
class Mount:
    """An ASGI app below a path of the gateway. The gateway authenticates; the app authorizes.

    The scope carries `state["user"]` (api.identity.User).
    """

    path: str
    app: ASGIApp


@dataclass(frozen=True, slots=True)
class Listener:
    """A server of its own on a loopback port (the object store). It authenticates by itself."""

    port: int
    app: ASGIApp


@dataclass(frozen=True, slots=True)
class Parts:
    """What `build` brings."""

    controllers: tuple[AnyController, ...] = ()
    mounts: tuple[Mount, ...] = ()
    listeners: tuple[Listener, ...] = ()
    services: tuple[HostService, ...] = ()
    start: Callable[[], Awaitable[None]] | None = None
    """Run before anything of this component serves: migrations, recovery."""
    stop: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Component:
    """One room of the house. `build` imports what it needs when called, not before."""

    name: str
    title: str
    build: Callable[[Context], Parts]
    requires: frozenset[str] = frozenset()
    kinds: tuple[type[Object], ...] = ()
    """Custom resources that this component owns; their CRDs are generated from these types."""
    objects: Callable[[Settings], list[dict[str, Any]]] = field(default=lambda _settings: [])
    """Objects that must exist (roles, config maps …): applied at start-up, before `start`."""
