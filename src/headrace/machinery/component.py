"""A component as a value: what it is called, what it needs, what it brings.

`platform` lists components by name, sorts them by `requires` and imports only those that are enabled; nothing
is registered by import. A component's `build` receives everything that it may use.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol

from headrace.client.base import T
from headrace.machinery.audit import NoAudit
from headrace.machinery.pages import Site

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Awaitable, Callable

    from headrace.api.core import Pod
    from headrace.api.identity import User
    from headrace.api.meta import Object
    from headrace.client.base import Client
    from headrace.machinery.audit import Auditor
    from headrace.machinery.clock import Clock
    from headrace.machinery.controller import AnyController
    from headrace.machinery.offers import Finder, Start
    from headrace.machinery.pages import Page, Panel
    from headrace.machinery.people import People
    from headrace.machinery.settings import Settings
    from headrace.machinery.shelf import ImageShelf


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

    def kept(self, namespace: str, pod: str) -> list[str]:
        """The uids of pods of this name whose logs are kept, the newest first; the pods may be gone."""
        ...

    def containers(self, namespace: str, pod: str, uid: str) -> list[str]:
        """The containers of a pod whose logs are kept; the pod may be gone."""
        ...


class PodSession(Protocol):
    """A command in a container, or a container's own input and output. Nothing is kept but by the kernel."""

    async def read(self, stream: int) -> bytes:
        """What comes next on 1 (stdout; a terminal's everything) or 2 (stderr); b"" at the end."""
        ...

    async def write(self, data: bytes) -> None:
        """To its input; dropped when nobody reads it any more."""
        ...

    def end_input(self) -> None:
        """No more input."""
        ...

    def resize(self, columns: int, rows: int) -> None:
        """The terminal's size; nothing without a terminal."""
        ...

    async def wait(self) -> int:
        """The exit code."""
        ...

    async def close(self) -> None:
        """End it, if it still runs. Nobody may be reading or writing."""
        ...


class SessionRefused(Exception):
    """The command cannot be run (no such program …); the message says why."""


class PodStreams(Protocol):
    """Opens sessions in running containers."""

    async def check(self, pod: Pod, container: str, *, stdin: bool) -> None:
        """Raises what exec, or with `stdin` attach, would be refused for before anything is started."""
        ...

    async def exec(self, pod: Pod, container: str, command: tuple[str, ...], *, stdin: bool, tty: bool) -> PodSession:
        """Start a command. Raises NotFound when the container does not run, SessionRefused."""
        ...

    async def attach(self, pod: Pod, container: str, *, stdin: bool, tty: bool) -> PodSession:
        """What the container writes from now on. Raises NotFound, BadRequest for what cannot be had."""
        ...


class Shells(Protocol):
    """Opens terminals in containers for people, under their own rights."""

    async def open(self, user: User, namespace: str, pod: str, container: str, command: tuple[str, ...]) -> PodSession:
        """Run a command with a terminal. Raises Forbidden unless the user may create pods/exec there, what exec is
        refused for otherwise, and SessionRefused.
        """
        ...


@dataclass(frozen=True, slots=True)
class ContainerUsage:
    """What a container used over a window of time that ended just now."""

    container: str
    cpu_cores: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class NodeUsage:
    """What this node and its pods use."""

    window_seconds: float
    cpu_cores: float
    memory_bytes: int
    pods: dict[str, tuple[ContainerUsage, ...]]
    """By the pod's uid: those that run."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What something used from its beginning to its end."""

    cpu_seconds: float
    peak_bytes: int = 0
    """The most memory that one of its processes held; 0 where nobody counted."""

    def __add__(self, other: Spent) -> Spent:
        """Of two things that were one after the other."""
        return Spent(self.cpu_seconds + other.cpu_seconds, max(self.peak_bytes, other.peak_bytes))


class Usages(Protocol):
    """Measures when asked, not in between."""

    def spent(self, pod_uid: str) -> Spent | None:
        """What a pod's containers that have ended used; None when none has, or it is long ago."""
        ...

    async def usage(self) -> NodeUsage:
        """What is used now."""
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
    site: Site = field(default_factory=Site)
    """What pages may know of the rest of the platform."""
    auditor: Auditor = field(default_factory=NoAudit)
    usages: Usages | None = None
    """What the node and its pods use; None where there is no node."""
    images: ImageShelf | None = None
    """The node's images and environments."""


@dataclass(frozen=True, slots=True)
class HostService:
    """A TCP service that the platform's own process offers; pods reach it as `name.namespace:port`."""

    name: str
    namespace: str
    port: int
    target_port: int
    """The port on the host's loopback."""
    port_name: str = "http"


class LazyApp:
    """An ASGI application that is made with the first request. Its routes can be asked for: `made` makes it."""

    def __init__(self, make: Callable[[], ASGIApp]) -> None:
        self._make = make
        self._app: ASGIApp = None

    @property
    def made(self) -> ASGIApp:
        """The application itself."""
        if self._app is None:
            self._app = self._make()
        return self._app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI 3."""
        await self.made(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Mount:
    """An ASGI app below a path of the gateway. The gateway authenticates; the app authorizes.

    The scope carries `state["user"]` (api.identity.User).
    """

    path: str
    app: ASGIApp
    open: bool = False
    """Whether the app is for people who have not logged in yet: it authenticates by itself, and is told no user."""
    websockets: bool = False
    """Whether the app takes WebSockets too. They count as changes: the gateway lets in credentials that may write, and
    from a browser only this site's own pages.
    """


@dataclass(frozen=True, slots=True)
class Listener:
    """A server of its own on a loopback port (the object store). It authenticates by itself."""

    port: int
    app: ASGIApp


@dataclass(frozen=True, slots=True)
class Mutator(Generic[T]):
    """Changes objects of core kinds as they are created, before they are checked: an admission plugin.

    On a real cluster the same function stands behind a mutating webhook. It is called only where there are objects
    of the kind that it `reads` in the namespace, so that it costs nothing otherwise.
    """

    resource: str
    reads: type[T]
    mutate: Callable[[dict[str, Any], list[T]], None]
    """The object's JSON, changed in place, and the others. Raises a StatusError to refuse it."""


@dataclass(frozen=True, slots=True)
class Validator:
    """Refuses objects of a kind of the component's own before they are stored, for what a schema cannot say.

    On a real cluster the same functions stand behind a validating webhook. They are given the object's JSON, which they
    leave as it is, and raise a StatusError to refuse it.
    """

    kind: type[Object]
    created: Callable[[dict[str, Any]], None]
    changed: Callable[[dict[str, Any], dict[str, Any]], None]
    """The new object and the one before; called when its spec is another one."""


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
    mutators: tuple[Mutator[Any], ...] = ()
    validators: tuple[Validator, ...] = ()
    people: People | None = None
    """Whose sessions and tokens the gateway lets in; of one component at most."""
    pages: tuple[Page, ...] = ()
    panels: tuple[Panel, ...] = ()
    """Parts of the dashboard's first page."""
    starts: tuple[Start, ...] = ()
    finders: tuple[Finder, ...] = ()
    """What the dashboard offers to start, and where it looks when somebody searches."""
    health: Callable[[], Awaitable[str]] | None = None
    """Says "" or what is wrong with the component now, in a sentence."""


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
