"""The composition root: the only place where the parts are wired together.

Start order: store and registry, identities and bootstrap objects, API server, node, components, gateway. What
an earlier part serves is there before a later part asks for it; a part that fails stops what was started, in
reverse order.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import importlib.metadata
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from headrace import __version__, bootstrap
from headrace.api import _wire
from headrace.api.identity import AUTHENTICATED, MASTERS, User, component
from headrace.apiserver.authn.tokens import TokenIssuer
from headrace.apiserver.http.server import ApiServer
from headrace.apiserver.http.shells import PodShells
from headrace.apiserver.pki.authority import ensure as ensure_pki
from headrace.apiserver.pki.authority import ensure_gateway
from headrace.apiserver.pki.kubeconfig import write_kubeconfig
from headrace.apiserver.registry import Registry
from headrace.apiserver.schema.crd import crd_for
from headrace.client.embedded import EmbeddedClient
from headrace.controllermanager import controllers as kubernetes_controllers
from headrace.gateway.gateway import Gateway
from headrace.machinery.audit import AuditLog
from headrace.machinery.clock import SystemClock
from headrace.machinery.component import ConfigurationError, Context
from headrace.machinery.events import EventRecorder
from headrace.machinery.leaving import Leaving
from headrace.machinery.manager import Manager
from headrace.machinery.pages import ComponentFacts, Site
from headrace.machinery.serve import Server
from headrace.machinery.settings import AUTO, GATEWAY_CERTIFICATE
from headrace.node.agent import NodeAgent
from headrace.node.images.service import Images
from headrace.node.images.stock import DiskShelf
from headrace.node.network.services import ServiceProxy
from headrace.node.runtime.base import RuntimeUnavailable
from headrace.node.runtime.choice import ChosenRuntime
from headrace.node.runtime.engines import Engines
from headrace.node.shutdown import shut_down
from headrace.store.base import StoreError
from headrace.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.machinery.component import Component, Mount, Parts
    from headrace.machinery.people import People
    from headrace.machinery.settings import Settings

COMPONENTS = {
    "identity": "headrace.components.identity.component",
    "objectstore": "headrace.components.objectstore.component",
    "profiles": "headrace.components.profiles.component",
    "pipelines": "headrace.components.pipelines.component",
    "serving": "headrace.components.serving.component",
    "istio": "headrace.components.istio.component",
    "dashboard": "headrace.components.dashboard.component",
}
"""Every component of the platform by name; each module has one value, COMPONENT."""

SWITCH_SECONDS = 0.001
"""How long a thread that has come back from the disk waits for a busy loop to let it go on, a fifth of the usual."""
YOUNG_OBJECTS = 20_000
"""How many new objects there must be before cycles are looked for. Requests make hardly any, but dozens on their way
together have so many objects that at the usual 700 a fifth of the time would go into looking.
"""
ENTRY_POINTS = "headrace.components"
CONTROLLER_MANAGER = User("system:kube-controller-manager", groups=(MASTERS, AUTHENTICATED))


def load_components(only: tuple[str, ...] = ()) -> list[Component]:
    """The enabled components, each after those that it requires. Raises ConfigurationError."""
    modules = dict(COMPONENTS)
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        modules[point.name] = point.module
    unknown = [name for name in only if name not in modules]
    if unknown:
        raise ConfigurationError(f"there is no component {unknown[0]!r}; there are {', '.join(sorted(modules))}")
    ordered: dict[str, Component] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in ordered:
            return
        if name in path:
            raise ConfigurationError(f"components require each other in a circle: {' -> '.join((*path, name))}")
        if name not in modules:
            raise ConfigurationError(f"component {path[-1]!r} requires {name!r}, which is not installed")
        found: Component = importlib.import_module(modules[name]).COMPONENT
        for required in sorted(found.requires):
            visit(required, (*path, name))
        ordered[name] = found

    for name in only or tuple(modules):
        visit(name, ())
    return list(ordered.values())


class Platform:
    """One platform in this process."""

    def __init__(self, settings: Settings, *, only: tuple[str, ...] = ()) -> None:
        self.settings = settings
        self.components = load_components(only)
        self._clock = SystemClock()
        self._stack = contextlib.AsyncExitStack()
        self._engines = Engines()
        self._runtime = ChosenRuntime(settings, self._engines)
        self._keep_pods = False

    async def start(self, progress: Callable[[str, float], None] = lambda _name, _seconds: None) -> None:
        """Start everything; `progress(part, seconds)` is called as parts become ready. Raises ConfigurationError."""
        begin = time.monotonic()
        sys.setswitchinterval(SWITCH_SECONDS)
        try:
            ready = await self._start(progress)
        except BaseException:
            await self.stop(pods=False)
            raise
        gc.freeze()  # what is loaded now stays: later collections need not look at it
        gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
        facts = {
            "pid": os.getpid(),
            "version": __version__,
            "start_seconds": round(time.monotonic() - begin, 3),
            "components": ready,
            "isolation": {
                "mode": self._runtime.isolation.mode,
                "limits": self._runtime.isolation.limits,
                "why": self._why(),
                "images": self._runtime.isolation.images,
            },
        }
        target = self.settings.run / "platform.json"
        temporary = target.with_suffix(".tmp")
        temporary.write_bytes(_wire.encode(facts))
        temporary.replace(target)
        self._stack.callback(target.unlink, missing_ok=True)

    def _why(self) -> str:
        """Why pods run in this mode, as a sentence."""
        passed = " ".join(self._runtime.passed_over.values())
        return passed or ("asked for" if self.settings.mode != AUTO else "the first that this machine can do")

    async def run_until_signal(self) -> None:
        """Serve until SIGTERM or SIGINT (pods stop too) or SIGUSR1 (pods stay), then stop."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[bool] = loop.create_future()

        def finish(pods: bool) -> None:
            if not done.done():
                done.set_result(pods)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, finish, True)
        loop.add_signal_handler(signal.SIGUSR1, finish, False)
        await self.stop(pods=await done)

    async def stop(self, *, pods: bool) -> None:
        """Stop in reverse order; with `pods`, also every pod and the node's helper processes."""
        self._keep_pods = not pods
        await self._stack.aclose()

    async def _start(self, progress: Callable[[str, float], None]) -> dict[str, float]:
        settings, clock = self.settings, self._clock
        ready: dict[str, float] = {}
        moment = time.monotonic()

        def mark(name: str) -> None:
            nonlocal moment
            now = time.monotonic()
            ready[name] = round(now - moment, 4)
            progress(name, now - moment)
            moment = now

        for folder in (settings.state, settings.run, settings.pki):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (settings.logs, settings.cache, settings.volumes):
            folder.mkdir(parents=True, exist_ok=True)

        node_started = asyncio.create_task(self._start_runtime())
        self._stack.push_async_callback(_finish, node_started)

        store = SqliteStore(settings.state / "cluster.db")
        try:
            await store.open()
        except StoreError as error:
            raise ConfigurationError(str(error)) from error
        self._stack.push_async_callback(store.close)
        registry = Registry(store, clock=clock, settings=settings)
        await registry.start()
        self._stack.push_async_callback(registry.stop)
        mark("store")

        pki = ensure_pki(settings)
        tokens = TokenIssuer(pki.service_account_key, registry, clock)
        write_kubeconfig(settings, pki)

        def client_for(user: User) -> EmbeddedClient:
            return EmbeddedClient(registry, user, tokens)

        system = client_for(CONTROLLER_MANAGER)
        await bootstrap.ensure(registry, CONTROLLER_MANAGER, bootstrap.cluster_objects(settings, self.components))
        await bootstrap.ensure(registry, CONTROLLER_MANAGER, bootstrap.front_proxy_objects(pki))
        for owned in (kind for part in self.components for kind in part.kinds):
            await bootstrap.ensure(registry, CONTROLLER_MANAGER, [crd_for(owned)])
        manager = Manager(system, clock)
        proxy = ServiceProxy(settings, manager, self._runtime)
        agent_client = client_for(bootstrap.node_user(settings))
        images = Images(settings, clock, engines=self._engines)
        agent = NodeAgent(
            settings,
            agent_client,
            clock,
            self._runtime,
            images,
            EventRecorder(agent_client, clock, "kubelet"),
        )
        api = ApiServer(
            settings,
            registry,
            tokens,
            agent.logs,
            proxy,
            streams=agent.streams,
            usages=agent.usages,
            clock=clock,
            pki=pki,
        )
        await self._add("kubernetes-api", api, mark)

        for controller in kubernetes_controllers(
            settings, system, clock, pki.ca.read_text(), registry.kinds, usages=agent.usages, apis=api.extensions
        ):
            manager.add(controller, system)

        await node_started
        await self._add("node", agent, mark)
        for controller in agent.controllers():
            manager.add(controller, agent_client)
        manager.add(Leaving("logs", system, agent.logs.forget), system)
        await self._add("network", proxy, mark)

        if settings.tls_certificate == settings.pki / GATEWAY_CERTIFICATE:
            ensure_gateway(settings, [urlsplit(settings.gateway_url).hostname or "localhost"])
        mounts: list[Mount] = []
        people: People | None = None
        auditor = AuditLog(settings.logs, clock)
        self._stack.callback(auditor.close)
        site = Site(manager, registry, PodShells(registry, agent.streams))
        shelf = DiskShelf(settings, images, lambda: bool(self._runtime.isolation.images))
        for part in self.components:
            await bootstrap.ensure(registry, CONTROLLER_MANAGER, part.objects(settings))
            context = Context(
                part.name,
                settings,
                client_for(component(part.name)),
                clock,
                proxy,
                agent.logs,
                site,
                auditor,
                agent.usages,
                shelf,
            )
            parts = part.build(context)
            site.components.append(ComponentFacts(part.name, part.title, parts.health))
            site.pages += parts.pages
            site.panels += parts.panels
            site.starts += parts.starts
            site.finders += parts.finders
            await self._start_component(parts, manager, context, proxy)
            await bootstrap.ensure(registry, CONTROLLER_MANAGER, bootstrap.host_services(settings, parts.services))
            mounts += parts.mounts
            people = api.people = parts.people or people
            registry.core.admission.mutators += parts.mutators
            registry.core.admission.validators |= {(v.kind.INFO.group, v.kind.INFO.kind): v for v in parts.validators}
            mark(part.name)

        gateway = Gateway(
            settings,
            client_for(component("gateway")),
            proxy,
            tuple(mounts),
            manager=manager,
            people=people,
            auditor=auditor,
        )
        await self._add("gateway", gateway, mark)
        proxy.own(gateway.server)
        await manager.start()
        self._stack.push_async_callback(manager.stop)
        mark("controllers")
        return ready

    async def _start_runtime(self) -> None:
        try:
            await self._runtime.start()
        except RuntimeUnavailable as error:
            raise ConfigurationError(str(error)) from error

        async def stop() -> None:
            if self._keep_pods:
                await self._runtime.stop(pods=False)
            else:
                await shut_down(self.settings, self._runtime)

        self._stack.push_async_callback(stop)

    async def _add(self, name: str, part: Any, mark: Callable[[str], None]) -> None:
        await part.start()
        self._stack.push_async_callback(part.stop)
        mark(name)

    async def _start_component(self, parts: Parts, manager: Manager, context: Context, proxy: ServiceProxy) -> None:
        if parts.start is not None:
            await parts.start()
        if parts.stop is not None:
            self._stack.push_async_callback(parts.stop)
        for controller in parts.controllers:
            manager.add(controller, context.client)
        for listener in parts.listeners:
            server = Server(listener.app, self.settings.host, listener.port)
            await server.start()
            self._stack.push_async_callback(server.stop)
            proxy.own(server)


async def _finish(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def stop_node(settings: Settings) -> None:
    """End pods and helper processes that a control plane which no longer lives has left behind."""
    if not settings.run.exists():
        return
    runtime = ChosenRuntime(settings)
    with contextlib.suppress(RuntimeUnavailable):
        await runtime.start()
        await shut_down(settings, runtime)
