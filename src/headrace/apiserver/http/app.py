"""The ASGI application: who asks, what the URL names, who answers, and one place where errors become a `Status`.

Raw ASGI, because this is the hottest path of the platform: a GET is a handful of function calls from the socket to
the registry's bytes. Whatever goes wrong in a request, the server answers it and goes on.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.core import Pod, Service
from headrace.api.errors import BadRequest, InternalError, NotAcceptable, NotFound, StatusError, Unauthorized
from headrace.api.identity import ANONYMOUS, UNAUTHENTICATED
from headrace.apiserver.aggregation.documents import merged
from headrace.apiserver.aggregation.servers import ExtensionServers
from headrace.apiserver.authn.requests import Requests
from headrace.apiserver.authz.rbac import Attributes
from headrace.apiserver.discovery import Discovery
from headrace.apiserver.http import atonce, metrics, reviews, sessions, targets, wsstreams
from headrace.apiserver.http.heads import Heads
from headrace.apiserver.http.health import HEALTH_PATHS, KUBERNETES, Health, Metrics, version
from headrace.apiserver.http.messages import JSON, Request, Response, cacheable, failure, json
from headrace.apiserver.http.negotiation import clauses, wants_discovery
from headrace.apiserver.http.proxy import Proxy
from headrace.apiserver.http.repeats import Repeats
from headrace.apiserver.http.representation import Representations
from headrace.apiserver.http.resources import Resources, not_allowed
from headrace.apiserver.http.sessions import Sessions
from headrace.apiserver.http.subresources import Subresources
from headrace.apiserver.http.websocket import SocketClosed, WebSocket
from headrace.apiserver.openapi import V2_PROTOBUF, V2_PROTOBUF_SENT, OpenAPI
from headrace.apiserver.registry.core import forbidden

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from headrace.api.identity import User
    from headrace.apiserver.authn.tokens import TokenIssuer
    from headrace.apiserver.http.messages import Sendable
    from headrace.apiserver.registry import Registry
    from headrace.machinery.clock import Clock
    from headrace.machinery.component import Dialer, PodLogs, PodStreams, Usages

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]

log = logging.getLogger(__name__)

UNKNOWN_PATH = "the server could not find the requested resource"


class ApiApp:
    """Everything that the API server answers."""

    def __init__(
        self,
        registry: Registry,
        tokens: TokenIssuer,
        clock: Clock,
        *,
        address: str,
        logs: PodLogs | None = None,
        dialer: Dialer | None = None,
        streams: PodStreams | None = None,
        usages: Usages | None = None,
        ready: dict[str, Callable[[], bool]] | None = None,
        front_proxy: tuple[Path, Path] | None = None,
    ) -> None:
        self.stopping = asyncio.Event()
        self.address = address
        self._registry, self._tokens = registry, tokens
        self.who = Requests(tokens, registry)
        self._shapes = Representations(registry.kinds, clock)
        self._metrics = Metrics()
        self.repeats = Repeats(registry, self.who, self._metrics)
        self.heads = Heads()
        self._resources = Resources(registry, self._shapes, self.stopping, self.repeats)
        self._proxy = Proxy(dialer, self.stopping) if dialer else None
        registry.gate.dialer = dialer
        self._sessions = Sessions(registry, self.stopping, streams=streams, dialer=dialer)
        self._parts = Subresources(
            registry, tokens, clock, self.stopping, logs=logs, proxy=self._proxy, opened=self._sessions
        )
        self._reviews = reviews.Reviews(registry, tokens, self.who)
        self._usage = metrics.ResourceMetrics(registry, self._shapes, clock, usages)
        self._discovery = Discovery(registry.kinds, registry.services, reviews.KINDS, metrics.KINDS, address)
        self.extensions = ExtensionServers(registry, self._discovery, dialer, self.stopping, front_proxy)
        self._documents: OpenAPI | None = None
        self._health = Health({}, {"store": lambda: registry.store.revision >= 0, **(ready or {})})
        self._streams = 0

    async def close(self) -> None:
        """End watches and logs, drop kept connections."""
        self.stopping.set()
        if self._proxy is not None:
            await self._proxy.close()
        await self.extensions.close()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        answer = await self._answer(request)
        self._metrics.count(request.method, answer.status)
        if type(answer) is Response:
            if not atonce.sent(request, answer, send):
                await answer.send(send)
            return
        self._streams += 1
        try:
            await answer.send(send)
        finally:
            self._streams -= 1

    async def _answer(self, request: Request) -> Sendable:
        try:
            return await self._route(request, await self._user(request))
        except StatusError as error:
            return failure(error)
        except RecursionError:  # walks of objects go as deep as they do; the decoder's limit is a little beyond
            return failure(BadRequest("the object is nested too deeply"))
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            return failure(InternalError("an error of the server; its log says more"))

    async def _user(self, request: Request, token: str = "") -> User:
        head = request.head
        credential = head.authorization or (f"Bearer {token}" if token else "")
        user = await self.who.identify(credential, request.connection.user)
        if head.impersonates:
            if user == ANONYMOUS:
                raise Unauthorized("Unauthorized")
            user = await self.who.impersonate(user, head.raw)
        return user

    async def _route(self, request: Request, user: User) -> Sendable:
        path = request.path
        target = targets.parse(path)
        if target is not None and self._registry.services.remote:
            remote = self._registry.services.remote.get((target.group, target.version))
            if remote is not None:
                if UNAUTHENTICATED in user.groups:
                    raise Unauthorized("Unauthorized")
                return await self.extensions.handle(request, user, remote, target)
        if target is None or not target.plural:
            return await self._document(request, user, target)
        if UNAUTHENTICATED in user.groups:
            raise Unauthorized("Unauthorized")
        info = self._registry.kinds.lookup(target.group, target.version, target.plural)
        if info is None:
            measured = metrics.BY_PATH.get((target.group, target.version, target.plural))
            if measured is not None:
                return await self._usage.handle(request, user, measured, target)
            question = reviews.BY_PATH.get((target.group, target.version, target.plural))
            if question is None or question.namespaced != bool(target.namespace):
                raise NotFound(UNKNOWN_PATH)
            return await self._reviews.handle(request, user, question, target)
        if target.namespace and not info.namespaced:
            raise NotFound(UNKNOWN_PATH)
        if info.namespaced and not target.namespace and (target.name or request.method == "POST"):
            raise NotFound(UNKNOWN_PATH) if target.name else not_allowed()
        if target.subresource:
            answer = await self._parts.handle(request, user, info, target)
            if answer is not None:
                return answer
            if target.subresource not in info.subresources or target.rest:
                raise NotFound(UNKNOWN_PATH)
        return await self._resources.handle(request, user, info, target)

    async def _document(self, request: Request, user: User, target: targets.Target | None) -> Sendable:
        """Everything that is no resource: health, version, discovery, OpenAPI, keys, metrics."""
        if request.method not in {"GET", "HEAD"}:
            if UNAUTHENTICATED in user.groups:
                raise Unauthorized("Unauthorized")
            raise not_allowed()
        path = request.path.rstrip("/")
        first = path.split("/", 2)[1] if path else ""
        if first in HEALTH_PATHS:
            answer = self._health.answer(request)
            if answer is None:
                raise NotFound(UNKNOWN_PATH)
            return answer
        if path == "/version":
            return json(version())
        if UNAUTHENTICATED in user.groups:
            raise Unauthorized("Unauthorized")
        if first in {"api", "apis"}:
            return self._discover(request, path, target)
        if first == "openapi":
            return await self._describe(request, path)
        match path:
            case "":
                return json({"paths": self._paths()})
            case "/metrics":
                asked = Attributes("get", path=path)
                if not self._registry.authorizer.allows(user, asked):
                    raise forbidden(user, asked)
                return self._metrics.answer(
                    {"apiserver_open_streams": self._streams, "headrace_store_revision": self._registry.store.revision}
                )
            case "/.well-known/openid-configuration":
                return json(self._tokens.discovery(self.address))
            case "/openid/v1/jwks":
                return Response(json(self._tokens.jwks()).body, 200, b"application/jwk-set+json")
            case _:
                raise NotFound(UNKNOWN_PATH)

    def _paths(self) -> list[str]:
        return sorted(
            [
                "/api",
                "/apis",
                *(f"/{p}" for p in self._discovery.paths()),
                *(f"/{p}" for p in HEALTH_PATHS),
                "/metrics",
                "/openapi/v2",
                "/openapi/v3",
                "/openid/v1/jwks",
                "/version",
                "/.well-known/openid-configuration",
            ]
        )

    def _discover(self, request: Request, path: str, target: targets.Target | None) -> Response:
        if path in {"/api", "/apis"}:
            aggregated = wants_discovery(request.header(b"accept"))
            if aggregated:
                body = self._discovery.aggregated(aggregated, core=path == "/api")
                media = f"application/json;g=apidiscovery.k8s.io;v={aggregated};as=APIGroupDiscoveryList"
                return cacheable(request, body, media.encode())
            return cacheable(
                request, self._discovery.api_versions() if path == "/api" else self._discovery.group_list()
            )
        found = (
            self._discovery.resource_list(target.group, target.version)
            if target is not None
            else self._discovery.group(path.removeprefix("/apis/"))
        )
        if found is None:
            raise NotFound(UNKNOWN_PATH)
        return cacheable(request, found)

    @property
    def _openapi(self) -> OpenAPI:
        if self._documents is None:
            self._documents = OpenAPI(self._registry.kinds, self._registry.schemas, self._registry.services, KUBERNETES)
        return self._documents

    async def _describe(self, request: Request, path: str) -> Response:
        accept = request.header(b"accept")
        takes_json = not accept or any(c.media in {"application/json", "application/*", "*/*"} for c in clauses(accept))
        if not takes_json and path == "/openapi/v2" and any(c.media == V2_PROTOBUF for c in clauses(accept)):
            return cacheable(request, self._openapi.v2_protobuf(), V2_PROTOBUF_SENT.encode())
        if not takes_json:
            raise NotAcceptable("only the following media types are accepted: application/json")
        if path == "/openapi/v3":
            return cacheable(request, self._openapi.index())
        if path == "/openapi/v2":
            return cacheable(request, await self._openapi_v2())
        found = await self._openapi_v3(path.removeprefix("/openapi/v3/")) if path.startswith("/openapi/v3/") else None
        if found is None:
            raise NotFound(UNKNOWN_PATH)
        return cacheable(request, found, JSON)

    async def _openapi_v2(self) -> bytes:
        whole = self._openapi.v2()
        if not self._registry.services.remote:
            return whole
        document = _wire.decode_any(whole)
        for part in await self.extensions.openapi_v2():
            document = merged(document, part)
        return _wire.encode(document)

    async def _openapi_v3(self, path: str) -> bytes | None:
        group, _, version = path.removeprefix("apis/").partition("/")
        if (group, version) in self._registry.services.remote:
            return await self.extensions.openapi_v3((group, version))
        return self._openapi.v3(path)

    async def _websocket(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Sessions in pods, ways through to pods, services and extension servers, watches and logs."""
        await receive()
        request, socket = Request({**scope, "method": "GET"}, receive), WebSocket(scope, receive, send)
        self._streams += 1
        try:
            await self._socket(request, socket)
        except StatusError as error:
            await socket.refuse(failure(error))
        except SocketClosed:
            log.debug("%s: the client has gone", request.path)
        finally:
            self._streams -= 1

    async def _socket(self, request: Request, socket: WebSocket) -> None:
        user, target = await self._user(request, wsstreams.bearer(socket)), targets.parse(request.path)
        if UNAUTHENTICATED in user.groups:
            raise Unauthorized("Unauthorized")
        services = self._registry.services.remote
        remote = services.get((target.group, target.version)) if target is not None and services else None
        if target is not None and remote is not None:
            self._metrics.count("CONNECT", 101)
            await self.extensions.tunnel(request, user, remote, target, socket)
            return
        named = target is not None and target.namespace and not target.group and target.version == "v1"
        if target is not None and named and target.plural == "pods" and target.subresource in sessions.PARTS:
            self._metrics.count("CONNECT", 101)
            await self._sessions.run(request, user, target, socket)
            return
        if target is not None and named and target.subresource == "proxy" and target.plural in {"pods", "services"}:
            self._metrics.count("CONNECT", 101)
            info = Pod.INFO if target.plural == "pods" else Service.INFO
            await self._parts.tunnel(request, user, info, target, socket)
            return
        answer = await self._route(request, user)
        if not await wsstreams.stream(socket, answer):
            raise BadRequest("what is asked for is no WebSocket: sessions, proxies, watches and logs are")
