"""Parts of objects that are not objects of their own: tokens, logs, bindings, evictions, proxies.

Each is authorized by its own name (`pods/log`, `serviceaccounts/token` …) before anything of it is looked at.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.core import Pod, Service, ServiceAccount
from headrace.api.errors import BadRequest, Cause, Conflict, Invalid, NotFound, ServiceUnavailable
from headrace.apiserver.admission.dynamic.gate import admit_part
from headrace.apiserver.authn.tokens import DELEGATED_SECONDS, ISSUER, SYSTEM
from headrace.apiserver.authz.rbac import Attributes
from headrace.apiserver.http import sessions
from headrace.apiserver.http.containers import choose_container
from headrace.apiserver.http.evictions import Evictions
from headrace.apiserver.http.messages import json, success, warning_headers
from headrace.apiserver.http.resources import as_object, dry_run, not_allowed
from headrace.apiserver.http.streams import LogStream
from headrace.apiserver.registry.core import forbidden
from headrace.apiserver.tables.base import parse_time
from headrace.machinery.settings import SYSTEM_NAMESPACE

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from headrace.api.identity import User
    from headrace.api.meta import KindInfo
    from headrace.apiserver.authn.tokens import TokenIssuer
    from headrace.apiserver.http.messages import Request, Sendable
    from headrace.apiserver.http.proxy import Proxy
    from headrace.apiserver.http.sessions import Sessions
    from headrace.apiserver.http.targets import Target
    from headrace.apiserver.http.websocket import WebSocket
    from headrace.apiserver.registry import Registry
    from headrace.machinery.clock import Clock
    from headrace.machinery.component import PodLogs

    Json = dict[str, Any]

MIN_TOKEN_SECONDS = 600
MAX_TOKEN_SECONDS = 1 << 32
DEFAULT_TOKEN_SECONDS = 3600
PROXY_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
REMEMBERED_DELEGATIONS = 256
_MAX_PORT, _PORT_DIGITS = 65535, 5


class Subresources:
    """Answers requests for parts that are not stored."""

    def __init__(
        self,
        registry: Registry,
        tokens: TokenIssuer,
        clock: Clock,
        stopping: asyncio.Event,
        *,
        logs: PodLogs | None,
        proxy: Proxy | None,
        opened: Sessions,
    ) -> None:
        self._registry, self._tokens, self._clock = registry, tokens, clock
        self._stopping, self._logs, self._proxy = stopping, logs, proxy
        self._sessions = opened
        self._evictions = Evictions(registry, clock)
        self._delegations: dict[User, tuple[str, float]] = {}

    async def handle(self, request: Request, user: User, info: KindInfo, target: Target) -> Sendable | None:
        """The answer, None when the part is none of these."""
        match (info.group, info.plural, target.subresource):
            case ("", "pods", "log"):
                return await self._log(request, user, target)
            case ("", "serviceaccounts", "token"):
                return await self._token(request, user, target)
            case ("", "pods", "binding"):
                return await self._bind(request, user, target)
            case ("", "pods", "eviction"):
                return await self._evict(request, user, target)
            case ("", "pods" | "services", "proxy"):
                return await self._proxied(request, user, info, target)
            case ("", "pods", part) if part in sessions.PARTS:
                return await self._sessions.refuse(request, user, target)
            case _:
                return None

    def _authorize(self, user: User, verb: str, info: KindInfo, target: Target, subresource: str = "") -> None:
        asked = Attributes(
            verb, info.group, info.plural, subresource or target.subresource, target.namespace, target.name
        )
        if not self._registry.authorizer.allows(user, asked):
            raise forbidden(user, asked)

    async def _admitted(
        self,
        request: Request,
        user: User,
        info: KindInfo,
        target: Target,
        *,
        part: str,
        complete: Callable[[Json], Json],
    ) -> tuple[Json, list[str]]:
        """What is to be created as a part of an object, allowed and as webhooks want it; and their warnings."""
        if request.method != "POST":
            raise not_allowed()
        self._authorize(user, "create", info, target)
        meta = {"name": target.name, "namespace": target.namespace}
        sent = {**complete(as_object(await request.decoded(), info)), "metadata": meta}
        warnings: list[str] = []
        dry = dry_run(request)
        body = await admit_part(self._registry, user, info, meta, part=part, sent=sent, dry_run=dry, warnings=warnings)
        return body, warnings

    async def _token(self, request: Request, user: User, target: Target) -> Sendable:
        def complete(body: Json) -> Json:
            given = as_object(body.get("spec") or {}, ServiceAccount.INFO)
            spec = {"expirationSeconds": DEFAULT_TOKEN_SECONDS, **given}
            return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}

        body, warnings = await self._admitted(
            request, user, ServiceAccount.INFO, target, part="token", complete=complete
        )
        spec = as_object(body.get("spec") or {}, ServiceAccount.INFO)
        seconds = spec.get("expirationSeconds")
        seconds = DEFAULT_TOKEN_SECONDS if seconds is None else seconds
        if not isinstance(seconds, int) or not MIN_TOKEN_SECONDS <= seconds <= MAX_TOKEN_SECONDS:
            why = (
                "may not specify a duration less than 10 minutes"
                if isinstance(seconds, int) and seconds < MIN_TOKEN_SECONDS
                else "may not specify a duration larger than 2^32 seconds"
            )
            cause = Cause("spec.expirationSeconds", f"Invalid value: {seconds}: {why}")
            raise Invalid(
                f'TokenRequest.authentication.k8s.io "{target.name}" is invalid: {cause.field}: {cause.message}',
                causes=[cause],
                kind="TokenRequest",
                group="authentication.k8s.io",
                name=target.name,
            )
        audiences = tuple(str(a) for a in spec.get("audiences") or ()) or (ISSUER,)
        reference = spec.get("boundObjectRef") or {}
        if reference and reference.get("kind") != "Pod":
            raise BadRequest(f"cannot bind token for serviceaccount to object kind {reference.get('kind')}: use a Pod")
        token = await self._tokens.issue(
            user,
            target.namespace,
            target.name,
            audiences=audiences,
            expiration_seconds=seconds,
            pod_name=str(reference.get("name") or ""),
            pod_uid=str(reference.get("uid") or ""),
        )
        expires = dt.datetime.fromtimestamp((self._tokens.claims(token) or {})["exp"], dt.UTC)
        now = timestamp(self._clock.now())
        return json(
            {
                "kind": "TokenRequest",
                "apiVersion": "authentication.k8s.io/v1",
                "metadata": {"name": target.name, "namespace": target.namespace, "creationTimestamp": now},
                "spec": {
                    "audiences": list(audiences),
                    "expirationSeconds": seconds,
                    "boundObjectRef": reference or None,
                },
                "status": {"token": token, "expirationTimestamp": timestamp(expires)},
            },
            201,
            warning_headers(warnings),
        )

    async def _log(self, request: Request, user: User, target: Target) -> Sendable:
        if request.method != "GET":
            raise not_allowed()
        self._authorize(user, "get", Pod.INFO, target)
        if self._logs is None:
            raise ServiceUnavailable("no node agent runs here, so there are no logs", retry_after=5)
        pod = _wire.decode(Pod, await self._registry.get(SYSTEM, Pod.INFO, target.name, target.namespace))
        container = choose_container(pod, request.query.get("container", ""))
        chunks = self._logs.stream(
            target.namespace,
            target.name,
            container,
            uid=pod.metadata.uid,
            follow=request.flag("follow"),
            previous=request.flag("previous"),
            tail=_not_negative(request, "tailLines"),
            since_seconds=self._since(request),
            timestamps=request.flag("timestamps"),
            limit_bytes=_at_least_one(request, "limitBytes"),
        )
        stream = LogStream(request, chunks, self._stopping)
        await stream.begin()
        return stream

    def _since(self, request: Request) -> float | None:
        seconds, moment = request.integer("sinceSeconds"), request.query.get("sinceTime", "")
        if seconds is not None and moment:
            raise _bad_log_option(
                "sinceSeconds", "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
            )
        if seconds is not None:
            if seconds < 1:
                raise _bad_log_option("sinceSeconds", f"Invalid value: {seconds}: must be greater than 0")
            return float(seconds)
        if not moment:
            return None
        parsed = parse_time(moment)
        if parsed is None:
            raise BadRequest(f'invalid value "{moment}" of query parameter sinceTime: must be an RFC 3339 time')
        return max((self._clock.precise() - parsed).total_seconds(), 0.0)

    async def _bind(self, request: Request, user: User, target: Target) -> Sendable:
        def complete(body: Json) -> Json:
            return {**body, "apiVersion": "v1", "kind": "Binding"}

        body, warnings = await self._admitted(request, user, Pod.INFO, target, part="binding", complete=complete)
        node = as_object(body.get("target") or {}, Pod.INFO).get("name")
        if not isinstance(node, str) or not node:
            raise BadRequest("a Binding needs target.name, the node")
        pod = _wire.decode(Pod, await self._registry.get(SYSTEM, Pod.INFO, target.name, target.namespace))
        if pod.spec.node_name:
            raise Conflict(
                f'Operation cannot be fulfilled on pods/binding "{target.name}": pod {target.name} is already assigned '
                f'to node "{pod.spec.node_name}"',
                kind="pods/binding",
                name=target.name,
            )
        patch = {"metadata": {"resourceVersion": pod.metadata.resource_version}, "spec": {"nodeName": node}}
        dry = dry_run(request)
        await self._registry.patch(SYSTEM, Pod.INFO, target.name, patch, target.namespace, dry_run=dry)
        return success({}, 201, warning_headers(warnings))

    async def _evict(self, request: Request, user: User, target: Target) -> Sendable:
        if request.method != "POST":
            raise not_allowed()
        self._authorize(user, "create", Pod.INFO, target)
        return await self._evictions.evict(request, user, target)

    async def tunnel(self, request: Request, user: User, info: KindInfo, target: Target, socket: WebSocket) -> None:
        """A WebSocket through a pod's or service's proxy. Raises what an HTTP request would be refused for."""
        proxy, host, number, https, token = await self._behind(request, user, info, target)
        await proxy.tunnel(request, socket, host, number, https=https, token=token)

    async def _proxied(self, request: Request, user: User, info: KindInfo, target: Target) -> Sendable:
        proxy, host, number, https, token = await self._behind(request, user, info, target)
        return await proxy.forward(request, host, number, https=https, token=token)

    async def _behind(
        self, request: Request, user: User, info: KindInfo, target: Target
    ) -> tuple[Proxy, str, int, bool, str]:
        """The way, host, port, whether it is to be HTTPS, and a token of our own, once it is allowed."""
        verb = PROXY_VERBS.get(request.method)
        if verb is None:
            raise not_allowed()
        self._authorize(user, verb, info, target)
        if self._proxy is None:
            raise ServiceUnavailable("no pod network is up here, so nothing can be reached through the proxy")
        scheme, name, port = split_proxy_name(target.name)
        raw = await self._registry.get(SYSTEM, info, name, target.namespace)
        sent = {"apiVersion": "v1", "kind": f"{info.kind}ProxyOptions", "path": target.rest}
        await admit_part(
            self._registry, user, info, {"name": name, "namespace": target.namespace}, part="proxy", sent=sent
        )
        token = ""
        if info.plural == "services":
            service = _wire.decode(Service, raw)
            host, number = service_address(service, port)
            if is_platform_server(service):
                token = self._delegated(user)
        else:
            host, number = pod_address(_wire.decode(Pod, raw), port)
        return self._proxy, host, number, scheme == "https", token

    def _delegated(self, user: User) -> str:
        """A token for the platform's own servers; signing takes a millisecond, so it is kept for a while."""
        now = self._clock.monotonic()
        known = self._delegations.get(user)
        if known is not None and known[1] > now:
            return known[0]
        if len(self._delegations) >= REMEMBERED_DELEGATIONS:
            self._delegations.clear()
        token = self._tokens.delegate(user)
        self._delegations[user] = (token, now + DELEGATED_SECONDS / 2)
        return token


def timestamp(moment: dt.datetime) -> str:
    """RFC 3339 in whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _bad_log_option(field: str, message: str) -> Invalid:
    cause = Cause(field, message)
    return Invalid(f'PodLogOptions "" is invalid: {field}: {message}', causes=[cause], kind="PodLogOptions")


def _not_negative(request: Request, name: str) -> int | None:
    value = request.integer(name)
    if value is not None and value < 0:
        raise _bad_log_option(name, f"Invalid value: {value}: must be greater than or equal to 0")
    return value


def _at_least_one(request: Request, name: str) -> int | None:
    value = request.integer(name)
    if value is not None and value < 1:
        raise _bad_log_option(name, f"Invalid value: {value}: must be greater than 0")
    return value


def split_proxy_name(text: str) -> tuple[str, str, str]:
    """(scheme, name, port) of `[scheme:]name[:port]`. Raises BadRequest."""
    parts = text.split(":")
    match parts:
        case [name]:
            return "", name, ""
        case [name, port]:
            return "", name, port
        case [("" | "http" | "https") as scheme, name, port]:
            return scheme, name, port
        case _:
            raise BadRequest(f'invalid proxy target "{text}": expected [http:|https:]name[:port]')


def is_platform_server(service: Service) -> bool:
    """Whether this process itself is behind the service: it has no pods, and its namespace is not for users."""
    return service.metadata.namespace == SYSTEM_NAMESPACE and not service.spec.selector


def service_address(service: Service, port: str) -> tuple[str, int]:
    """The name and port to dial for a service. Raises NotFound, ServiceUnavailable."""
    name, ports = service.metadata.name, service.spec.ports
    if service.spec.type == "ExternalName":
        raise BadRequest(f'service "{name}" is of type ExternalName and cannot be proxied')
    if port:
        chosen = next((p for p in ports if p.name == port or str(p.port) == port), None)
    else:
        chosen = ports[0] if len(ports) == 1 else next((p for p in ports if not p.name), None)
    if chosen is None:
        known = ", ".join(p.name or str(p.port) for p in ports) or "none"
        raise ServiceUnavailable(f'no service port "{port}" found for service "{name}": it has {known}')
    return f"{name}.{service.metadata.namespace}", chosen.port


def pod_address(pod: Pod, port: str) -> tuple[str, int]:
    """The address and port to dial for a pod. Raises BadRequest, NotFound."""
    if not pod.status.pod_ip:
        raise BadRequest(f"pod {pod.metadata.name} does not have an address allocated: wait until it runs")
    address = pod.status.pod_ip
    ipaddress.ip_address(address)
    declared = [p for c in pod.spec.containers for p in c.ports]
    if port.isdecimal():
        number = int(port) if len(port) <= _PORT_DIGITS else 0
        if not 0 < number <= _MAX_PORT:
            raise BadRequest(f'invalid port "{port}": it must be between 1 and {_MAX_PORT}, inclusive')
        return address, number
    if port:
        named = next((p for p in declared if p.name == port), None)
        if named is None:
            raise NotFound(f'pod "{pod.metadata.name}" has no port named "{port}"')
        return address, named.container_port
    return address, declared[0].container_port if declared else 80
