"""The ASGI application on 8080, and the order in which a request is looked at.

Health and what components mount as open (the login) are for everybody, and so is the root page where there is no
dashboard; everything else needs a bearer token or a session (`senders`). Then: a host or path of a model, else the
component whose mount path is the longest prefix (the dashboard's is the shortest; VirtualServices
come before it). Invariants: `kubeflow-userid` and
`kubeflow-groups` are what the gateway found out, never what a client sent; a model is reached only by who may `get`
(to ask about it) or `create` (to predict) its InferenceService; what a model answers to a browser with a session can
run no script on this site; the gateway listens beyond loopback only where nobody can walk in.
"""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.api.core import Endpoints
from headrace.api.errors import NotFound, StatusError
from headrace.gateway import models, pages, websockets
from headrace.gateway.access import Access
from headrace.gateway.carry import Passage, carry
from headrace.gateway.proxy import IDENTITY, request_target
from headrace.gateway.routes import Routes
from headrace.gateway.senders import SESSION, Refusal, Senders
from headrace.gateway.tls import server_tls
from headrace.gateway.upstream import Pool
from headrace.machinery.audit import NoAudit
from headrace.machinery.clock import SystemClock
from headrace.machinery.component import ConfigurationError
from headrace.machinery.sameorigin import SAFE_METHODS
from headrace.machinery.serve import Server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.api.identity import User
    from headrace.client.base import Client
    from headrace.gateway.models import Model
    from headrace.machinery.audit import Auditor
    from headrace.machinery.clock import Clock
    from headrace.machinery.component import Dialer, Mount
    from headrace.machinery.manager import Manager
    from headrace.machinery.people import People, Sender
    from headrace.machinery.settings import Settings

log = logging.getLogger(__name__)

NO_PODS_SECONDS = 10.0
"""A model whose pods are being started or replaced gets this long before a 503; one that has failed gets none."""
RETRY_AFTER = (b"retry-after", b"1")
_ANSWERS = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept", "headrace.tunnel"})


class Gateway:
    """The front door. `start` listens, `stop` ends; `address` is where it listens."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        dialer: Dialer,
        mounts: Sequence[Mount] = (),
        *,
        manager: Manager,
        clock: Clock | None = None,
        people: People | None = None,
        auditor: Auditor | None = None,
    ) -> None:
        self._settings, self._client, self._manager, self._people = settings, client, manager, people
        self._mounts = sorted(((m.path.rstrip("/"), m) for m in mounts), key=lambda m: len(m[0]), reverse=True)
        self._access = Access(client, clock or SystemClock())
        self._auditor = auditor or NoAudit()
        self._dashboard = any(not prefix for prefix, _ in self._mounts)
        self._senders = Senders(self._access, people, settings)
        self._pool = Pool(dialer)
        self._models = models.Models(self._pool, settings.node_ip)
        self._routes = Routes(self._pool, self._access, settings.node_ip)
        self.server = Server(
            self, settings.gateway_host, settings.ports.gateway, tls=server_tls(settings), date_header=False
        )

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.server.address

    async def start(self) -> None:
        """Follow the models and listen. Raises ConfigurationError when the address is taken, or must not be used."""
        await self._check_exposure()
        try:
            await self._client.list(models.INFERENCE_SERVICE)
        except NotFound:
            log.info("no InferenceService kind: this platform runs without serving")
        else:
            informer = self._manager.informer
            self._models.follow(informer(models.INFERENCE_SERVICE), informer(Endpoints))
        await self._routes.follow(self._client, self._manager)
        await self.server.start()

    async def _check_exposure(self) -> None:
        host = self._settings.gateway_host
        if is_loopback(host):
            return
        why = await self._people.exposed() if self._people is not None else "nobody can log in with a password here"
        if why:
            raise ConfigurationError(f"the gateway does not listen on {host!r}, which others can reach: {why}")

    async def stop(self) -> None:
        """Stop listening, then close connections to pods."""
        await self.server.stop()
        self._pool.close()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """ASGI 3."""
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
            return
        path: str = scope["path"]
        if path == "/healthz":
            await pages.answer(send, 200, b"ok", b"text/plain")
            return
        name = _host_name(next((value for n, value in scope["headers"] if n == b"host"), b""))
        model = self._models.by_host(name)
        own = model is None and not models.looks_like_model(name)
        if own and await self._open(scope, receive, send):
            return
        predicts = not own or path.startswith(models.PATH)
        try:
            sender = await self._senders.identify(scope, predicts=predicts)
            if isinstance(sender, Refusal):
                await sender.answer(send)
                return
            if not predicts and scope["method"] not in SAFE_METHODS:
                send = self._audited(scope, send, sender)
            await self._route(_Call(scope, receive, send, sender), name, model)
        except StatusError as error:
            log.warning("%s %s cannot be authorized: %s", scope["method"], path, error)
            await pages.error(send, 503, f"The request cannot be authorized at the moment: {error}", [RETRY_AFTER])

    async def _websocket(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """From who may make changes, as long as they may; see `websockets`."""
        name = _host_name(next((value for n, value in scope["headers"] if n == b"host"), b""))
        model = self._models.by_host(name)
        predicts = model is not None or models.looks_like_model(name) or scope["path"].startswith(models.PATH)
        answer = websockets.answering(send)
        why = websockets.foreign(scope)
        if why:
            await pages.error(answer, 403, why)
            return

        async def identify() -> Sender | Refusal:
            return await self._senders.identify({**scope, "method": "POST"}, predicts=predicts)

        try:
            sender = await identify()
            if isinstance(sender, Refusal):
                await sender.answer(answer)
                return
            if not predicts:
                answer = websockets.answering(self._audited({**scope, "method": "CONNECT"}, send, sender))
            call = _Call({**scope, "method": "GET"}, receive, answer, sender)
            await websockets.watched(self._route(call, name, model), identify, send)
        except StatusError as error:
            log.warning("WebSocket %s cannot be authorized: %s", scope["path"], error)
            await pages.error(answer, 503, f"The request cannot be authorized at the moment: {error}", [RETRY_AFTER])

    async def _open(self, scope: dict[str, Any], receive: Any, send: Any) -> bool:
        """Whether the request was for what everybody may see, and has been answered."""
        path: str = scope["path"]
        if path == "/" and not self._dashboard:
            accept = next((v for n, v in scope["headers"] if n == b"accept"), b"")
            await pages.root(send, accept, self._settings.gateway_url, (m[0] for m in self._mounts))
            return True
        for prefix, mount in self._mounts:
            if path == prefix or path.startswith(f"{prefix}/"):
                if not mount.open:
                    return False
                await mount.app(_scope_for(scope, None, prefix), receive, send)
                return True
        return False

    def _audited(self, scope: dict[str, Any], send: Any, sender: Sender) -> Any:
        """`send`, which also writes down what came of a change."""
        address = scope["client"][0] if scope.get("client") else ""

        async def sending(message: dict[str, Any]) -> None:
            if message["type"] in _ANSWERS:
                self._auditor.record(
                    sender.user.name,
                    scope["method"],
                    scope["path"],
                    address=address,
                    outcome=message.get("status", 101),
                    detail=sender.credential,
                )
            await send(message)

        return sending

    async def _route(self, call: _Call, host: str, model: Model | None) -> None:
        path = call.scope["path"]
        if not self._models.complete and (models.looks_like_model(host) or path.startswith(models.PATH)):
            await pages.error(
                call.send, 503, "The gateway is starting and does not know all models yet.", [RETRY_AFTER]
            )
            return
        if model is not None:
            await self._predict(call, model.namespace, model.name, "")
            return
        found = models.split_path(path)
        if found is not None:
            await self._predict(call, *found)
            return
        if models.looks_like_model(host):
            text = f"No InferenceService answers for host {host!r}; `kubectl get inferenceservices -A` lists them."
            await pages.error(call.send, 404, text)
            return
        for prefix, mount in self._mounts:
            if path == prefix or path.startswith(f"{prefix}/"):
                if not prefix and await self._pass_on(call, host):
                    return
                if call.websocket and (mount.open or not mount.websockets):
                    await pages.error(call.send, 404, websockets.NONE_HERE)
                    return
                await mount.app(_scope_for(call.scope, call.user, prefix), call.receive, call.send)
                return
        if await self._pass_on(call, host):
            return
        await pages.error(call.send, 404, f"Nothing is served at {path!r}: GET / says what is here.")

    async def _pass_on(self, call: _Call, host: str) -> bool:
        """Whether a VirtualService took the request; it gets what no component mounts but the dashboard."""
        route = self._routes.find(host, call.scope)
        if route is None:
            return False
        await self._routes.serve(route, call.user, call.scope, call.receive, call.send)
        return True

    async def _predict(self, call: _Call, namespace: str, name: str, prefix: str) -> None:
        verb = "get" if call.scope["method"] in SAFE_METHODS and not call.websocket else "create"
        resource = {"group": models.GROUP, "resource": models.RESOURCE}
        if not await self._access.may(call.user, verb, **resource, namespace=namespace, name=name):
            what = f"{models.RESOURCE}.{models.GROUP} {name!r} in namespace {namespace!r}"
            await pages.error(call.send, 403, f"User {call.user.name!r} may not {verb} {what}.")
            return
        model = self._models.by_key(namespace, name)
        if model is None:
            await pages.error(call.send, 404, f"There is no InferenceService {name!r} in namespace {namespace!r}.")
            return
        addresses = self._models.addresses(model)
        if not addresses and model.coming:
            addresses = await self._models.wait_for_addresses(model, NO_PODS_SECONDS)
            model = self._models.by_key(namespace, name) or model
        if not addresses:
            why = "none of its pods is ready" if model.ready else model.why.rstrip(".")
            await pages.error(call.send, 503, f"InferenceService {name!r} does not answer: {why}.", [RETRY_AFTER])
            return
        passage = Passage(
            call.scope,
            call.receive,
            call.send,
            call.user,
            request_target(call.scope, prefix),
            model.timeout,
            f"InferenceService {name!r}",
            sandboxed=call.sender.credential == SESSION,
        )
        await carry(self._pool, passage, addresses)


@dataclass(frozen=True, slots=True)
class _Call:
    """An authenticated request."""

    scope: dict[str, Any]
    receive: Any
    send: Any
    sender: Sender

    @property
    def user(self) -> User:
        """Who asks."""
        return self.sender.user

    @property
    def websocket(self) -> bool:
        """Whether it is a WebSocket's handshake, which may change things as a POST may."""
        kind: str = self.scope["type"]
        return kind == "websocket"


def _scope_for(scope: dict[str, Any], user: User | None, prefix: str) -> dict[str, Any]:
    """The scope that a mounted app sees: who asks (nobody, for an open one), and below which path it stands."""
    headers = [header for header in scope["headers"] if header[0] not in IDENTITY]
    state = dict(scope.get("state") or {})
    state.pop("user", None)
    if user is not None:
        state["user"] = user
        headers.append((b"kubeflow-userid", user.name.encode()))
        if user.groups:
            headers.append((b"kubeflow-groups", ",".join(user.groups).encode()))
    return {**scope, "headers": headers, "state": state, "root_path": scope.get("root_path", "") + prefix}


def _host_name(host: bytes) -> str:
    text = host.decode("latin-1").lower()
    return text if text.startswith("[") else text.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
