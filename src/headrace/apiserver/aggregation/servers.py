"""The way to extension API servers: TLS through the pod network, and on whose behalf, in a front proxy's headers.

Invariants: who asks is known and may, before anything leaves here; a caller's own credentials and X-Remote-* headers
never do. The server is told the user by X-Remote-User, -Group and -Extra-*, and believes it because this server shows
a certificate of the authority that it finds in the ConfigMap `extension-apiserver-authentication`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from headrace.api import _wire
from headrace.api.errors import BadRequest, Conflict, InternalError, NotFound, ServiceUnavailable
from headrace.api.identity import MASTERS, User, service_account
from headrace.apiserver.aggregation import documents
from headrace.apiserver.authz.rbac import Attributes
from headrace.apiserver.http.proxy import UNSENT, Proxied, hand_over, handshake, passed, query_of, request_body
from headrace.apiserver.http.resources import not_allowed
from headrace.apiserver.registry.apiservices import Offer
from headrace.apiserver.registry.core import forbidden
from headrace.apiserver.registry.selectors import selected_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import aiohttp

    from headrace.apiserver.discovery import Discovery
    from headrace.apiserver.http.messages import Request, Sendable
    from headrace.apiserver.http.targets import Target
    from headrace.apiserver.http.websocket import WebSocket
    from headrace.apiserver.registry import Registry
    from headrace.apiserver.registry.apiservices import GroupVersion, Remote
    from headrace.machinery.component import Dialer

Json = dict[str, Any]
log = logging.getLogger(__name__)

AGGREGATOR = User("system:kube-aggregator", groups=(MASTERS,))
"""Who asks what there is."""
CLEARER = service_account("kube-system", "namespace-controller")
"""Who deletes what is in a namespace that ends."""
DOCUMENTS = User("system:aggregator")
"""Who asks for OpenAPI documents."""
NO_NETWORK = "no pod network is up here, so no extension server can be reached"
DOMAIN = ".svc"
DIAL_SECONDS = 10.0
LOOK_SECONDS = 6.0
"""How long a server may take to say what it has."""
KEPT_SESSIONS = 64
HTTP_FAILED = 400
LARGEST_DOCUMENT = 32 * 1024 * 1024
_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_PATH = "/!$&'()*+,;=:@-._~"
_TOKEN = frozenset(b"!#$&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


class ServerFailed(Exception):
    """An extension server gave no usable answer; the message says why."""


class ExtensionServers:
    """Asks the servers behind API services, and passes requests on to them."""

    def __init__(
        self,
        registry: Registry,
        discovery: Discovery,
        dialer: Dialer | None,
        stopping: asyncio.Event,
        certificate: tuple[Path, Path] | None,
    ) -> None:
        self._discovery = discovery
        self._registry, self._services = registry, registry.services
        self._dialer, self._stopping, self._certificate = dialer, stopping, certificate
        self._sessions: dict[tuple[str, bool], aiohttp.ClientSession] = {}
        self._described: dict[str, tuple[str, Json]] = {}
        """The OpenAPI v2 document of each server, and its ETag."""

    async def close(self) -> None:
        """Drop kept connections; the next one shows the certificate that lies there then."""
        sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            await session.close()

    async def handle(self, request: Request, user: User, remote: Remote, target: Target) -> Sendable:
        """The server's answer. Raises Forbidden, NotFound, ServiceUnavailable."""
        self.authorize(request, user, target)
        self.require(remote)
        path = quote(request.path, safe=_PATH) + query_of(request)
        try:
            answer = await self._send(request.method, remote, path, user, passed(request), data=request_body(request))
        except ServerFailed as error:
            raise ServiceUnavailable(f"error trying to reach service: {error}") from error
        return Proxied(request, answer, "", self._stopping)

    async def tunnel(self, request: Request, user: User, remote: Remote, target: Target, socket: WebSocket) -> None:
        """The same for a WebSocket: the client is handed over."""
        from headrace.machinery.tunnel import HandshakeFailed, Upstream  # noqa: PLC0415 - with the first WebSocket

        self.authorize(request, user, target)
        self.require(remote)
        if self._dialer is None:
            raise ServiceUnavailable(NO_NETWORK)
        headers = [*passed(request), ("host", f"{remote.host}:{remote.port}"), *identity_headers(user)]
        path = quote(request.path, safe=_PATH) + query_of(request)
        try:
            tls = self._tls(remote), remote.host
            async with asyncio.timeout(DIAL_SECONDS):
                connected = await self._dialer.dial(remote.host.removesuffix(DOMAIN), remote.port)
            upstream = await Upstream.ask(connected, path.encode(), handshake(socket, headers), DIAL_SECONDS, tls)
        except (OSError, TimeoutError, HandshakeFailed, ServerFailed) as error:
            raise ServiceUnavailable(f"error trying to reach service: {remote.url}: {error}") from error
        await hand_over(socket, upstream)

    def authorize(self, request: Request, user: User, target: Target) -> None:
        """As for any resource, or as for a path. Raises Forbidden, NotFound, MethodNotAllowed."""
        if any(part in {".", ".."} for part in request.path.split("/")):
            raise NotFound("the server could not find the requested resource")
        asked = asked_of(request, target)
        if not self._registry.authorizer.allows(user, asked):
            raise forbidden(user, asked)

    def require(self, remote: Remote) -> None:
        """Raises ServiceUnavailable unless the server is there."""
        if not remote.available:
            name = f"{remote.version}.{remote.group}"
            raise ServiceUnavailable(f'service unavailable: the APIService "{name}" is not available ({remote.why})')

    def local(self) -> dict[tuple[str, str], tuple[tuple[int, int], bool]]:
        """See Discovery."""
        return self._discovery.local()

    async def check(self, group: str, version: str) -> str:
        """Ask the group version what it has, and remember it: empty when it answers as it must, else why not."""
        key = (group, version)
        remote = self._services.remote.get(key)
        if remote is None:
            return "it is answered by this server"
        known = self._services.offers.get(key) or Offer()
        try:
            resources = await self._resources(remote)
            openapi = await self._openapi_url(remote)
        except (ServerFailed, ValueError) as error:
            self._services.learn(key, Offer(known.resources, openapi=known.openapi))
            return f"failing or missing response from {remote.url}{remote.path}: {error}"
        self._services.learn(key, Offer(resources, fresh=True, openapi=openapi))
        return ""

    async def _resources(self, remote: Remote) -> list[Json]:
        status, body, _ = await self._document(remote, remote.path, AGGREGATOR)
        if not 200 <= status < 300:
            raise ServerFailed(f"bad status from {remote.url}{remote.path}: {status}")
        return documents.resources_of(_wire.decode_any(body))

    async def _openapi_url(self, remote: Remote) -> str:
        """Where its OpenAPI v3 document is; empty when it has none."""
        status, body, _ = await self._document(remote, "/openapi/v3", DOCUMENTS)
        if status != 200:
            return ""
        index = _wire.decode_any(body)
        paths = index.get("paths") if isinstance(index, dict) else None
        entry = paths.get(remote.path.lstrip("/")) if isinstance(paths, dict) else None
        url = entry.get("serverRelativeURL") if isinstance(entry, dict) else None
        return url if isinstance(url, str) and url.startswith("/openapi/v3/") else ""

    async def openapi_v3(self, key: GroupVersion) -> bytes | None:
        """A remote group version's OpenAPI v3 document; None when it has none. Raises ServiceUnavailable."""
        remote, offer = self._services.remote[key], self._services.offers.get(key)
        if offer is None or not offer.openapi:
            return None
        self.require(remote)
        try:
            status, body, _ = await self._document(remote, offer.openapi, DOCUMENTS)
        except ServerFailed as error:
            raise ServiceUnavailable(f"error trying to reach service: {error}") from error
        return body if status == 200 else None

    async def openapi_v2(self) -> list[Json]:
        """What each available remote group version adds to OpenAPI v2; nothing for those that do not say it."""
        found = await asyncio.gather(*(self._described_by(r) for r in self._services.remote.values() if r.available))
        return [part for part in found if part is not None]

    async def _described_by(self, remote: Remote) -> Json | None:
        tag, known = self._described.get(remote.url, ("", {}))
        try:
            status, body, etag = await self._document(remote, "/openapi/v2", DOCUMENTS, tag)
            if status == 200:
                known = _wire.decode_any(body)
                self._described[remote.url] = etag, known
            elif status != 304:
                return None
            return documents.part_of(known, remote.path)
        except (ServerFailed, ValueError, TypeError, AttributeError) as error:
            log.info("OpenAPI v2 of %s is left out: %s", remote.url, error)
            return None

    def versions(self, group: str) -> list[str]:
        """The versions of a group that other servers answer."""
        return [version for name, version in self._services.remote if name == group]

    async def json(self, user: User, key: GroupVersion, path: str) -> Json:
        """An object of a remote group version, asked for by a part of the platform under its own name.

        Raises NotFound when no other server answers it, Forbidden, ServiceUnavailable, InternalError.
        """
        remote = self._services.remote.get(key)
        if remote is None:
            raise NotFound("the server could not find the requested resource")
        self.require(remote)
        try:
            status, body, _ = await self._document(remote, path, user)
            found = _wire.decode_any(body)
        except (ServerFailed, ValueError) as error:
            raise ServiceUnavailable(f"error trying to reach service: {error}") from error
        if not isinstance(found, dict):
            raise InternalError(f"the answer of {remote.url} is no object")
        if status != 200:
            message = str(found.get("message") or f"{remote.url} answered {status}")
            raise NotFound(message) if status == NotFound.code else InternalError(message)
        return found

    async def clear(self, namespace: str) -> dict[str, int]:
        """Delete what extension servers keep in a namespace; how many there still are, by `plural.group`.

        Raises ServiceUnavailable when it is not known what they have.
        """
        left: dict[str, int] = {}
        seen: set[str] = set()
        for key, remote in list(self._services.remote.items()):
            offer = self._services.offers.get(key)
            if offer is None or not offer.fresh or not remote.available:
                why = f"unable to retrieve the complete list of server APIs: {key[0]}/{key[1]}: {remote.why}"
                raise ServiceUnavailable(f"Discovery failed for some groups, 1 failing: {why}")
            for resource in offer.resources:
                name, verbs = f"{resource['name']}.{remote.group}", set(resource.get("verbs") or ())
                if name in seen or "/" in name or not resource.get("namespaced") or not {"delete", "list"} <= verbs:
                    continue
                seen.add(name)
                found = await self._clear(remote, f"{remote.path}/namespaces/{namespace}/{resource['name']}", verbs)
                if found:
                    left[name] = found
        return left

    async def _clear(self, remote: Remote, path: str, verbs: set[str]) -> int:
        key = (remote.group, remote.version)
        names = _names(await self.json(CLEARER, key, path))
        if not names:
            return 0
        targets = [path] if "deletecollection" in verbs else [f"{path}/{quote(name, safe='')}" for name in names]
        for target in targets:
            try:
                status, _, _ = await self._document(remote, target, CLEARER, method="DELETE")
            except ServerFailed as error:
                raise ServiceUnavailable(f"error trying to reach service: {error}") from error
            if status >= HTTP_FAILED and status not in {NotFound.code, Conflict.code}:
                raise InternalError(f"{remote.url}{target} could not be deleted: the server answered {status}")
        return len(_names(await self.json(CLEARER, key, path)))

    async def _document(
        self, remote: Remote, path: str, user: User, tag: str = "", *, method: str = "GET"
    ) -> tuple[int, bytes, str]:
        """(status, body, ETag) of a document of limited size. Raises ServerFailed."""
        headers = [("accept", "application/json"), *([("if-none-match", tag)] if tag else [])]
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                answer = await self._send(method, remote, path, user, headers)
                async with answer:
                    body = b""
                    async for chunk in answer.content.iter_any():
                        body += chunk
                        if len(body) > LARGEST_DOCUMENT:
                            raise ServerFailed(f"{remote.url}{path} is larger than {LARGEST_DOCUMENT} bytes")
                    return answer.status, body, answer.headers.get("etag", "")
        except TimeoutError as error:
            raise ServerFailed(f"timed out waiting for {remote.url}{path}") from error
        except _network_errors() as error:
            raise ServerFailed(f'Get "{remote.url}{path}": {error}') from error

    async def _send(
        self, method: str, remote: Remote, path: str, user: User, headers: list[tuple[str, str]], *, data: Any = None
    ) -> aiohttp.ClientResponse:
        """Raises ServerFailed; ServiceUnavailable where there is no pod network, BadRequest."""
        import yarl  # noqa: PLC0415 - with aiohttp: heavy, and not needed until somebody has an extension server

        url = yarl.URL(f"{remote.url}{path}", encoded=True)
        sent = [*headers, *identity_headers(user)]
        try:
            session = await self._session(remote)
            return await session.request(
                method, url, headers=sent, data=data, allow_redirects=False, skip_auto_headers=UNSENT
            )
        except TimeoutError as error:
            raise ServerFailed(f"{remote.url} does not answer") from error
        except _network_errors() as error:
            raise ServerFailed(f'{method.capitalize()} "{remote.url}{path}": {error}') from error
        except ValueError as error:
            raise BadRequest(f"the request cannot be passed on: {error}") from error

    async def _session(self, remote: Remote) -> aiohttp.ClientSession:
        key = (remote.bundle, remote.insecure)
        found = self._sessions.get(key)
        if found is not None:
            return found
        if self._dialer is None:
            raise ServiceUnavailable(NO_NETWORK)
        import aiohttp  # noqa: PLC0415

        from headrace.apiserver.http.dialing import DialConnector  # noqa: PLC0415

        if len(self._sessions) >= KEPT_SESSIONS:
            await self.close()
        self._sessions[key] = made = aiohttp.ClientSession(
            connector=DialConnector(self._dialer, self._tls(remote)),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=DIAL_SECONDS),
        )
        return made

    def _tls(self, remote: Remote) -> ssl.SSLContext:
        try:
            bundle = base64.b64decode(remote.bundle).decode("ascii") if remote.bundle else None
            context = ssl.create_default_context(cadata=bundle)
        except (ssl.SSLError, ValueError, binascii.Error) as error:
            raise ServerFailed(f"its caBundle cannot be used: {error}") from error
        if remote.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self._certificate is not None:
            context.load_cert_chain(*self._certificate)
        return context


def _names(listed: Json) -> list[str]:
    items = listed.get("items") or []
    found = [(item.get("metadata") or {}).get("name") for item in items if isinstance(item, dict)]
    return [str(name) for name in found if name]


def _network_errors() -> tuple[type[Exception], ...]:
    import aiohttp  # noqa: PLC0415

    return (aiohttp.ClientError, OSError)


def asked_of(request: Request, target: Target) -> Attributes:
    """What a request asks for, as authorization sees it. Raises MethodNotAllowed."""
    verb = _VERBS.get(request.method)
    if verb is None:
        raise not_allowed()
    if not target.plural:
        return Attributes(request.method.lower(), path=request.path)
    name = target.name
    if verb == "get" and (target.watch or request.flag("watch")):
        verb = "watch"
    elif verb == "get" and not name:
        verb = "list"
    elif verb == "delete" and not name:
        verb = "deletecollection"
    if not name and verb in {"list", "watch", "deletecollection"}:
        name = selected_name(request.query.get("fieldSelector", ""))
    return Attributes(verb, target.group, target.plural, target.subresource, target.namespace, name)


def identity_headers(user: User) -> Iterator[tuple[str, str]]:
    """The user as a front proxy tells it; keys of `extra` are escaped where a header's name cannot have them."""
    yield "X-Remote-User", user.name
    for group in user.groups:
        yield "X-Remote-Group", group
    for key, values in user.extra.items():
        name = "".join(chr(b) if b in _TOKEN else f"%{b:02X}" for b in key.encode())
        for value in values:
            yield f"X-Remote-Extra-{name}", value
