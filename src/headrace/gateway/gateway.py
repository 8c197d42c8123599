"""The ASGI application on 8080, and the order in which a request is looked at.

Health and login are open, and so is the root page where there is no dashboard; everything else needs a bearer token,
or a session to read (`session`). Then: a host or path of a model, else the component whose mount path is the longest
prefix (the dashboard's is the shortest). Invariants: `kubeflow-userid` and `kubeflow-groups` are what the
gateway found out, never what a client sent; a model is reached only by who may `get` (to ask about it) or `create`
(to predict) its InferenceService; the gateway listens on loopback only.
"""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.api.core import Endpoints
from headrace.api.errors import NotFound, StatusError
from headrace.gateway import models, pages, session
from headrace.gateway.access import Access
from headrace.gateway.proxy import IDENTITY, Exchange, forward, request_target
from headrace.gateway.upstream import Pool, TimedOut, Unreachable, UpstreamError
from headrace.machinery.clock import SystemClock
from headrace.machinery.component import ConfigurationError
from headrace.machinery.serve import Server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.api.identity import User
    from headrace.client.base import Client
    from headrace.gateway.models import Model
    from headrace.machinery.clock import Clock
    from headrace.machinery.component import Dialer, Mount
    from headrace.machinery.manager import Manager
    from headrace.machinery.settings import Settings

log = logging.getLogger(__name__)

NO_PODS_SECONDS = 10.0
"""A model whose pods are being started or replaced gets this long before a 503; one that has failed gets none."""
RETRY_AFTER = (b"retry-after", b"1")


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
    ) -> None:
        _require_loopback(settings.host)
        self._settings, self._client, self._manager = settings, client, manager
        self._mounts = sorted(((m.path.rstrip("/"), m.app) for m in mounts), key=lambda m: len(m[0]), reverse=True)
        clock = clock or SystemClock()
        self._access = Access(client, clock)
        self._dashboard = any(not prefix for prefix, _ in self._mounts)
        self._sessions = session.Sessions(self._access, clock, settings)
        self._pool = Pool(dialer)
        self._models = models.Models(self._pool, settings.node_ip)
        self._server = Server(self, settings.host, settings.ports.gateway, date_header=False)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self._server.address

    async def start(self) -> None:
        """Follow the models and listen. Raises ConfigurationError when the address is taken."""
        try:
            await self._client.list(models.INFERENCE_SERVICE)
        except NotFound:
            log.info("no InferenceService kind: this platform runs without serving")
        else:
            informer = self._manager.informer
            self._models.follow(informer(models.INFERENCE_SERVICE), informer(Endpoints))
        await self._server.start()
        self._sessions.listen_on(self.address[1])

    async def stop(self) -> None:
        """Stop listening, then close connections to pods."""
        await self._server.stop()
        self._pool.close()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """ASGI 3."""
        if scope["type"] == "websocket":
            await _refuse_websocket(scope, receive, send)
            return
        path: str = scope["path"]
        host = authorization = b""
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"authorization":
                authorization = value
        if path == "/healthz":
            await pages.answer(send, 200, b"ok", b"text/plain")
            return
        name = _host_name(host)
        model = self._models.by_host(name)
        own = model is None and not models.looks_like_model(name)
        if path == "/" and own and not self._dashboard:
            accept = next((v for n, v in scope["headers"] if n == b"accept"), b"")
            await pages.root(send, accept, self._settings.gateway_url, (m[0] for m in self._mounts))
            return
        try:
            if own and path in {session.LOGIN, session.LOGOUT}:
                answer = self._sessions.logout(send) if path == session.LOGOUT else self._sessions.login(scope, send)
                await answer
                return
            if not authorization and own and not path.startswith(models.PATH):
                authorization = await self._session(scope, send)
                if not authorization:
                    return
            user = await self._user(authorization, send)
            if user is not None:
                await self._route(_Call(scope, receive, send, user), name, model)
        except StatusError as error:
            log.warning("%s %s cannot be authorized: %s", scope["method"], path, error)
            await pages.error(send, 503, f"The request cannot be authorized at the moment: {error}", [RETRY_AFTER])

    async def _user(self, authorization: bytes, send: Any) -> User | None:
        """Who asks; None when that was answered with 401."""
        kind, _, token = authorization.partition(b" ")
        token = token.strip()
        if kind.lower() != b"bearer" or not token:
            await pages.unauthorized(send, "This address needs a bearer token.")
            return None
        user = await self._known(token)
        if user is None:
            await pages.unauthorized(send, "The bearer token is not valid: it may have expired.")
        return user

    async def _session(self, scope: dict[str, Any], send: Any) -> bytes:
        """What a browser's cookie stands for, as a header; empty when the request was answered."""
        token = self._sessions.token(scope["headers"])
        reads = scope["method"] in session.READS
        if token and reads and await self._known(token):
            return b"Bearer " + token
        if token and not reads:
            words = "A session can only look: changes need a bearer token."
            await pages.unauthorized(send, words)
        elif reads and session.wants_page(scope["headers"]):
            await self._sessions.page(send, 401, "Your session has ended" if token else "Log in")
        elif token:
            await pages.unauthorized(send, "The session has ended.")
        else:
            await pages.unauthorized(send, "This address needs a bearer token.")
        return b""

    async def _known(self, token: bytes) -> User | None:
        return self._access.known(token) or await self._access.review(token)

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
        for prefix, app in self._mounts:
            if path == prefix or path.startswith(f"{prefix}/"):
                await app(_scope_for(call.scope, call.user, prefix), call.receive, call.send)
                return
        await pages.error(call.send, 404, f"Nothing is served at {path!r}: GET / says what is here.")

    async def _predict(self, call: _Call, namespace: str, name: str, prefix: str) -> None:
        verb = "get" if call.scope["method"] in {"GET", "HEAD", "OPTIONS"} else "create"
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
        exchange = Exchange(self._pool, call.scope, call.receive, call.send)
        try:
            await forward(exchange, addresses, request_target(call.scope, prefix), call.user, model.timeout)
        except UpstreamError as error:
            if exchange.started:
                log.warning("%s: the answer broke off: %s", model.key, error)
                return
            status = 504 if isinstance(error, TimedOut) else 503 if isinstance(error, Unreachable) else 502
            await pages.error(call.send, status, f"InferenceService {name!r}: {error}")


@dataclass(frozen=True, slots=True)
class _Call:
    """An authenticated request."""

    scope: dict[str, Any]
    receive: Any
    send: Any
    user: User


_NO_WEBSOCKET = "WebSocket connections are not passed on yet."


async def _refuse_websocket(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await receive()
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008, "reason": _NO_WEBSOCKET})
        return

    async def respond(message: dict[str, Any]) -> None:
        await send({**message, "type": message["type"].replace("http.response", "websocket.http.response")})

    await pages.error(respond, 501, _NO_WEBSOCKET)


def _scope_for(scope: dict[str, Any], user: User, prefix: str) -> dict[str, Any]:
    """The scope that a mounted app sees: who asks, and below which path it stands."""
    headers = [header for header in scope["headers"] if header[0] not in IDENTITY]
    headers.append((b"kubeflow-userid", user.name.encode()))
    if user.groups:
        headers.append((b"kubeflow-groups", ",".join(user.groups).encode()))
    state = {**(scope.get("state") or {}), "user": user}
    return {**scope, "headers": headers, "state": state, "root_path": scope.get("root_path", "") + prefix}


def _host_name(host: bytes) -> str:
    text = host.decode("latin-1").lower()
    return text if text.startswith("[") else text.partition(":")[0]


def _require_loopback(host: str) -> None:
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigurationError(
            f"the gateway listens on loopback only, not on {host!r}: there is no login with a password yet; to "
            "reach it from another machine, forward a port over SSH"
        )
